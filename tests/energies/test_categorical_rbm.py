"""The Potts-Bernoulli RBM, and edges of all RBMs, against sums over all states in NumPy.

Counts of one step from every state are compared with the transition matrix by chi-square; a
p-value below 1e-6 is rejected, the keys are fixed.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ebm_jax import distributions, samplers
from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM, CategoricalRBM
from ebm_jax.partition import exact, paths

SIZES = [(3, 3, 2), (1, 3, 2), (2, 4, 0), (1, 1, 1), (3, 2, 1), (1, 1, 0), (2, 2, 7)]


def machine(visible, q, hidden, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (visible, q, hidden), (visible, q), hidden
    return CategoricalRBM(*(rng.normal(size=shape) for shape in shapes))


def states(n, q):
    return np.array(list(itertools.product(range(q), repeat=n)), int).reshape(q**n, n)


def by_hand(params, v, h):
    """Sum the energy of one state term by term."""
    energy = -(params.hidden_bias @ h)
    for i, k in enumerate(v):
        energy -= params.visible_bias[i, k] + params.weights[i, k] @ h
    return energy


def table(params):
    """Return E(v, h), (states of v, states of h), and both lists of states."""
    visible, q, hidden = params.weights.shape
    every = states(visible, q), states(hidden, 2)
    return np.array([[by_hand(params, v, h) for h in every[1]] for v in every[0]]), *every


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.sweep(2)
def test_energies_are_the_sums_over_the_hidden_units(size, x64):
    params = machine(*size)
    energies, v, h = table(params)
    one = jax.vmap(boltzmann.rbm_energy, (None, None, 0))
    found = jax.jit(jax.vmap(one, (None, 0, None)))(params, v, h)
    np.testing.assert_allclose(found, energies, atol=1e-12)
    free = jax.jit(jax.vmap(boltzmann.rbm_free_energy, (None, 0)))(params, v)
    np.testing.assert_allclose(free, -np.log(np.exp(-energies).sum(1)), atol=1e-12)
    log_z = jax.jit(exact.log_partition)
    for beta in (0.0, 0.7, 1.0):
        expected = np.log(np.exp(-beta * energies).sum())
        np.testing.assert_allclose(log_z(params, beta=beta), expected, atol=1e-12)
    on = jnp.asarray(h[-1])
    logits = boltzmann.rbm_visible_logits(params, on)
    expected = params.visible_bias + (params.weights * h[-1]).sum(2)
    np.testing.assert_allclose(logits, expected, atol=1e-12)
    hidden = boltzmann.rbm_hidden_logits(params, v[-1])
    expected = params.hidden_bias + sum(params.weights[i, k] for i, k in enumerate(v[-1]))
    np.testing.assert_allclose(hidden, expected, atol=1e-12)


def test_two_categories_are_an_rbm(x64):
    params = machine(4, 2, 3)
    weights, bias = (p[:, 1] - p[:, 0] for p in params[:2])
    hidden = params.hidden_bias + params.weights[:, 0].sum(0)
    rbm, shift = RBM(weights, bias, hidden), params.visible_bias[:, 0].sum()
    found = exact.log_partition(params) - shift
    np.testing.assert_allclose(found, exact.log_partition(rbm), rtol=1e-13)
    for v in states(4, 2):
        found = boltzmann.rbm_free_energy(params, v) + shift
        np.testing.assert_allclose(found, boltzmann.rbm_free_energy(rbm, v), atol=1e-12)


def matrix(params, beta, clamp):
    """Return the transition matrix of v -> h -> v' with clamped units, and its distribution."""
    energies, v, _ = table(params)
    weight = np.exp(-beta * energies)
    back = weight / weight.sum(0)  # P(v | h)
    same = (v[:, None] == v[None])[..., clamp].all(-1)
    given = weight / weight.sum(1, keepdims=True)
    # The units that move are independent given h: condition P(v' | h) on the clamped ones.
    total = same.astype(float) @ back  # (v, h)
    full = np.einsum("vh,wh,vw,vh->vw", given, back, same, 1 / total)
    return full, weight.sum(1) / weight.sum()


def draw_steps(sampler, v, dtype, chains=3000):
    start = np.repeat(np.arange(len(v)), chains)

    @jax.jit
    def go(key, x):
        state, info = sampler.step(key, sampler.init(x))
        return state.position, info

    return start, *go(jax.random.key(0), jnp.asarray(v[start], dtype))


def pvalue(start, end, expected):
    """Return the p-value of the chi-square of all rows, without entries expected below 5."""
    counts = np.zeros_like(expected)
    np.add.at(counts, (start, end), 1)
    wanted = counts.sum(1, keepdims=True) * expected
    assert not counts[expected == 0].any()
    often = wanted >= 5
    statistic = ((counts - wanted)[often] ** 2 / wanted[often]).sum()
    # Each row sums to its chains; with entries left out there are more degrees of freedom.
    return stats.chi2.sf(statistic, max(often.sum() - len(expected), 1))


@pytest.mark.parametrize("clamped", ["none", "one", "all"])
@pytest.mark.parametrize(
    ("size", "dtype"),
    [
        ((3, 3, 2), "int32"),
        ((3, 3, 2), "int8"),
        ((3, 2, 2), "bool"),
        ((1, 5, 1), "int8"),
        ((2, 3, 0), "int32"),
        ((2, 1, 2), "bool"),
        ((2, 1, 2), "int8"),
    ],
    ids=str,
)
@pytest.mark.sweep(7)
def test_gibbs_has_the_transition_matrix_of_its_conditionals(size, dtype, clamped, x64):
    params, beta = machine(*size), 0.7
    _, v, _ = table(params)
    clamp = np.full(size[0], clamped == "all")
    clamp[0] |= clamped == "one"
    expected, pi = matrix(params, beta, clamp)
    np.testing.assert_allclose(pi @ expected, pi, atol=1e-12)
    flow = pi[:, None] * expected
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)
    sampler = samplers.rbm_gibbs(params, beta=beta, clamp=clamp)
    start, found, info = draw_steps(sampler, v, dtype)
    assert found.dtype == dtype
    np.testing.assert_allclose(info.visible_mean.sum(-1), 1, atol=1e-12)
    end = np.asarray(found, int) @ size[1] ** np.arange(size[0])[::-1]
    assert pvalue(start, end, expected) > 1e-6
    if min(size[1:]) > 1 and clamped == "none":  # another temperature is told from these counts
        assert pvalue(start, end, matrix(params, 1.5 * beta, clamp)[0]) < 1e-6


@pytest.mark.parametrize(("visible", "hidden"), [(3, 2), (1, 0), (1, 1), (2, 0)])
@pytest.mark.parametrize("dtype", ["bool", "int8", "int32"])
@pytest.mark.sweep(4)
def test_binary_units_that_are_all_clamped_stay(visible, hidden, dtype):
    shapes = (visible, hidden), visible, hidden
    params = RBM(*map(jnp.ones, shapes))
    v = states(visible, 2)
    sampler = samplers.rbm_gibbs(params, clamp=True)
    state = sampler.init(jnp.asarray(v, dtype))
    state, info = jax.jit(sampler.step)(jax.random.key(0), state)
    np.testing.assert_array_equal(state.position, v)
    assert np.isfinite(info.energy).all()


def test_the_path_goes_from_the_base_rates_to_the_machine(x64):
    """Its log Z by enumeration at both ends and between, and its sampler is that of each beta."""
    params, bias = machine(3, 3, 2), np.random.default_rng(1).normal(size=(3, 3))
    path, make_sampler = paths.rbm(params, jnp.asarray(bias))
    energies, v, _ = table(params)
    base = distributions.categorical(jnp.asarray(bias))
    prior = np.array([base.log_prob(jnp.asarray(x)) for x in v])
    for beta in (0.0, 0.4, 1.0):
        joint = (1 - beta) * (prior[:, None] - np.log(4)) - beta * energies
        found = [path(beta, jnp.asarray(x)) for x in v]
        np.testing.assert_allclose(found, -np.log(np.exp(joint).sum(1)), atol=1e-12)
    beta = 0.4
    joint = np.exp((1 - beta) * prior[:, None] - beta * energies)
    expected = joint / joint.sum(1, keepdims=True) @ (joint / joint.sum(0)).T
    sampler = make_sampler(jax.tree_util.Partial(path, beta))
    start, found, _ = draw_steps(sampler, v, "int32")
    end = np.asarray(found) @ [9, 3, 1]
    assert pvalue(start, end, expected) > 1e-6


def test_states_that_are_no_categories_are_rejected():
    params = machine(2, 3, 1)
    sampler = samplers.rbm_gibbs(params)
    with pytest.raises(ValueError, match=r"one of the values .0 1 2., got 3"):
        sampler.init(jnp.array([[0, 3]]))
    with pytest.raises(TypeError, match="type that holds all values, got bool"):
        sampler.init(jnp.ones((4, 2), bool))
    with pytest.raises(ValueError, match=r"CategoricalRBM takes weights \(visible, q, hidden\)"):
        samplers.rbm_gibbs(params._replace(weights=np.ones((2, 3))))
    with pytest.raises(TypeError, match="params must be a RBM or a CategoricalRBM"):
        samplers.rbm_gibbs(boltzmann.GaussianRBM(*params))  # pyright: ignore
