"""Discrete energies and their conditionals against sums written out in NumPy."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.energies import boltzmann, lattice
from ebm_jax.energies.boltzmann import RBM, BoltzmannMachine, GaussianRBM
from ebm_jax.energies.lattice import Ising, Potts

RNG = np.random.default_rng(0)
VISIBLE, HIDDEN = 4, 3
W = RNG.normal(size=(VISIBLE, HIDDEN))
B, C = RNG.normal(size=VISIBLE), RNG.normal(size=HIDDEN)
MACHINE = RBM(W, B, C)
GAUSSIAN = GaussianRBM(W, B, C, np.array([0.5, 1.0, 2.0, 0.7]))
FULL = BoltzmannMachine(RNG.normal(size=(5, 5)), RNG.normal(size=5))
ISING, POTTS = Ising(0.4, -0.2), Potts(0.7, np.array([0.1, -0.3, 0.5]))


def over(energy, *states):
    """Return the energy of each of the states, compiled at once."""
    return np.asarray(jax.jit(jax.vmap(energy))(*states))


def bits(n, values=(0, 1)):
    return np.array(list(itertools.product(values, repeat=n)))


def bonds(rows, columns):
    """Every site with its right and its lower neighbour on the torus."""
    for i, j in np.ndindex(rows, columns):
        yield (i, j), (i, (j + 1) % columns)
        yield (i, j), ((i + 1) % rows, j)


def ising_by_hand(s):
    return -0.4 * sum(s[a] * s[b] for a, b in bonds(*s.shape)) + 0.2 * s.sum()


def potts_by_hand(x):
    return -0.7 * sum(x[a] == x[b] for a, b in bonds(*x.shape)) - POTTS.field[x].sum()


def full_by_hand(x):
    """The diagonal does not count, and each pair counts by the mean of its two weights."""
    pairs = itertools.combinations(range(5), 2)
    weights = (FULL.weights + FULL.weights.T) / 2
    return -sum(weights[i, j] * x[i] * x[j] for i, j in pairs) - x @ FULL.bias


def rbm_by_hand(v, h):
    return -(v @ W @ h + B @ v + C @ h)


def gaussian_by_hand(v, h):
    s = GAUSSIAN.sigma
    return np.sum((v - B) ** 2 / (2 * s**2)) - (v / s**2) @ W @ h - C @ h


@pytest.mark.parametrize("shape", [(3, 4), (2, 2), (1, 3)])
def test_lattice_energies(shape, x64):
    rng = np.random.default_rng(1)
    spins, colours = rng.choice([-1, 1], size=(5, *shape)), rng.integers(3, size=(5, *shape))
    found = over(functools.partial(lattice.ising, ISING), spins)
    np.testing.assert_allclose(found, [*map(ising_by_hand, spins)], atol=1e-12)
    found = over(functools.partial(lattice.potts, POTTS), colours)
    np.testing.assert_allclose(found, [*map(potts_by_hand, colours)], atol=1e-12)


def assert_logits(logits, energy, x, low, high):
    """The logits of x_i = high are E(x_i = low) - E(x_i = high)."""
    for i in np.ndindex(x.shape):
        down, up = x.copy(), x.copy()
        down[i], up[i] = low, high
        np.testing.assert_allclose(logits[i], energy(down) - energy(up), atol=1e-10)


def test_conditionals_are_differences_of_energies(x64):
    rng = np.random.default_rng(1)
    spins, x = rng.choice([-1, 1], size=(3, 4)), rng.integers(2, size=5)
    signs, colours = 2 * x - 1, rng.integers(3, size=(3, 4))
    v, h = rng.integers(2, size=VISIBLE), rng.integers(2, size=HIDDEN)
    real = rng.normal(size=VISIBLE)

    @jax.jit
    def all_logits():
        return (
            lattice.ising_logits(ISING, spins),
            boltzmann.boltzmann_machine_logits(FULL, x),
            2 * boltzmann.boltzmann_machine_logits(FULL, signs),
            lattice.potts_logits(POTTS, colours),
            boltzmann.rbm_hidden_logits(MACHINE, v),
            boltzmann.rbm_visible_logits(MACHINE, h),
            boltzmann.rbm_hidden_logits(GAUSSIAN, real),
        )

    ising, full, full_of_signs, potts, hidden, visible, gaussian = map(np.asarray, all_logits())
    assert_logits(ising, ising_by_hand, spins, -1, 1)
    assert_logits(full, full_by_hand, x, 0, 1)
    assert_logits(full_of_signs, full_by_hand, signs, -1, 1)
    for k in (1, 2):
        assert_logits(potts[..., k] - potts[..., 0], potts_by_hand, colours, 0, k)
    assert_logits(hidden, lambda h: rbm_by_hand(v, h), h.copy(), 0, 1)
    assert_logits(visible, lambda v: rbm_by_hand(v, h), v.copy(), 0, 1)
    assert_logits(gaussian, lambda h: gaussian_by_hand(real, h), h.copy(), 0, 1)


def test_boltzmann_machine(x64):
    states = np.concatenate([bits(5), bits(5, (-1, 1))])
    found = over(functools.partial(boltzmann.boltzmann_machine, FULL), states)
    np.testing.assert_allclose(found, [*map(full_by_hand, states)], atol=1e-12)


def test_a_free_energy_sums_the_hidden_units_out(x64):
    real = np.random.default_rng(1).normal(size=(5, VISIBLE))
    for params, by_hand, visible in (
        (MACHINE, rbm_by_hand, bits(VISIBLE)),
        (GAUSSIAN, gaussian_by_hand, real),
    ):
        expected = np.array([[by_hand(v, h) for h in bits(HIDDEN)] for v in visible])
        hidden = np.tile(bits(HIDDEN), (len(visible), 1, 1))
        joint = over(
            jax.vmap(functools.partial(boltzmann.rbm_energy, params), (None, 0)), visible, hidden
        )
        np.testing.assert_allclose(joint, expected, atol=1e-12)
        free = over(functools.partial(boltzmann.rbm_free_energy, params), visible)
        np.testing.assert_allclose(free, [-oracles.log_partition(e) for e in expected], atol=1e-12)


def test_gaussian_visible_units_given_the_hidden_ones(x64):
    """E(v, h) is (v - mean)^2 / 2 s^2 up to a constant in v: checked by its gradient in v."""
    rng = np.random.default_rng(1)
    for h in bits(HIDDEN):
        mean = boltzmann.gaussian_rbm_visible_mean(GAUSSIAN, h)
        v = rng.normal(size=VISIBLE)
        slope = oracles.finite_difference(functools.partial(gaussian_by_hand, h=h), v)
        np.testing.assert_allclose((v - mean) / GAUSSIAN.sigma**2, slope, atol=1e-8)


@pytest.mark.parametrize("dtype", [bool, jnp.uint8, jnp.int8, jnp.int32, jnp.float32, jnp.bfloat16])
def test_units_of_any_type_have_the_same_energy(dtype):
    v, h = jnp.array([1, 0, 1, 1]).astype(dtype), jnp.array([0, 1, 1]).astype(dtype)
    found = boltzmann.rbm_energy(MACHINE, v, h)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(
        found, rbm_by_hand(np.array([1, 0, 1, 1]), np.array([0, 1, 1])), rtol=1e-5
    )


def test_narrow_parameters_are_summed_in_single_precision():
    narrow = jax.tree.map(lambda p: jnp.asarray(p, jnp.bfloat16), MACHINE)
    found = boltzmann.rbm_free_energy(narrow, jnp.ones(VISIBLE, bool))
    wide = boltzmann.rbm_free_energy(
        jax.tree.map(lambda p: p.astype(jnp.float32), narrow), jnp.ones(VISIBLE)
    )
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, wide, rtol=1e-6)


V_ONES, H_ONES = jnp.ones(3), jnp.ones(2)
GAUSSIAN_ONES = boltzmann.GaussianRBM(jnp.ones((3, 2)), V_ONES, H_ONES, 1.0)
CATEGORICAL_ONES = boltzmann.CategoricalRBM(jnp.ones((3, 2, 2)), jnp.ones((3, 2)), H_ONES)


@pytest.mark.parametrize(
    "params", [GAUSSIAN_ONES._replace(weights=H_ONES), GAUSSIAN_ONES._replace(sigma=0.0)]
)
def test_bad_parameters_of_a_gaussian_rbm_are_refused(params):
    with pytest.raises((TypeError, ValueError), match=r"params|weights|sigma"):
        boltzmann.rbm_energy(params, V_ONES, H_ONES)


@pytest.mark.parametrize(
    "params",
    [
        CATEGORICAL_ONES._replace(weights=GAUSSIAN_ONES.weights),
        CATEGORICAL_ONES._replace(visible_bias=V_ONES),
    ],
)
def test_bad_parameters_of_a_categorical_rbm_are_refused(params):
    with pytest.raises((TypeError, ValueError), match=r"params|weights"):
        boltzmann.rbm_visible_logits(params, H_ONES)


@pytest.mark.parametrize("v", [V_ONES, H_ONES, 1, V_ONES[None]])
def test_categories_are_one_row_of_integers(v):
    with pytest.raises((TypeError, ValueError), match="v must"):
        boltzmann.rbm_energy(CATEGORICAL_ONES, v, H_ONES)
