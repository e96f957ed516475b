"""Exact log Z against brute force in NumPy, published numbers, and its gradient's expectation."""

import functools
import itertools
import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

import ebm_jax
from ebm_jax import samplers
from ebm_jax.energies import boltzmann, closed_forms, lattice
from ebm_jax.energies.boltzmann import RBM, CategoricalRBM, GaussianRBM
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.partition import exact
from scripts.results import ising_tables as tables

CRITICAL = np.log(1 + np.sqrt(2)) / 2


def rbm(seed, visible, hidden):
    rng = np.random.default_rng(seed)
    draw = (rng.normal(size=s) for s in ((visible, hidden), visible, hidden))
    return RBM(*map(jnp.asarray, draw))


log_partition_rbm = jax.jit(exact.log_partition)


def log_partition_ising(coupling, shape):
    return exact.log_partition(lattice.Ising(coupling), shape)


def ising_derivatives(shape):
    """k (n,) -> log Z and its first two derivatives, each (n,)."""
    log_z = functools.partial(log_partition_ising, shape=shape)

    def at(k):
        both, (_, curvature) = jax.jvp(jax.value_and_grad(log_z), (k,), (jnp.ones_like(k),))
        return *both, curvature

    return jax.jit(jax.vmap(at))


def ising_levels(shape):
    """Return the energies of all lattices, and how many lattices have each."""
    bits = np.arange(2 ** np.prod(shape))[:, None] >> np.arange(np.prod(shape))
    s = 1 - 2 * (bits & 1).reshape(-1, *shape)
    energy = -(s * (np.roll(s, 1, 1) + np.roll(s, 1, 2))).sum((1, 2))
    return np.unique(energy, return_counts=True)


@pytest.mark.parametrize("side", tables.LOG_Z)
@pytest.mark.sweep(2)
def test_ising_tables(side, x64):
    found, slope, _ = ising_derivatives((side, side))(jnp.array(tables.COUPLINGS))
    np.testing.assert_allclose(found, tables.LOG_Z[side], rtol=0, atol=1e-9)
    np.testing.assert_allclose(-slope[3] / side**2, tables.ENERGY[side], atol=1e-7)


def test_ising_in_the_bulk(x64):
    """Onsager's log Z / N at the critical point is (log 2) / 2 + 2 G / pi, G Catalan's constant."""
    found = jax.jit(log_partition_ising, static_argnums=1)(CRITICAL, (1000, 1000)) / 1e6
    np.testing.assert_allclose(found, np.log(2) / 2 + 2 * 0.915965594177219 / np.pi, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (3, 4), (5, 1)])
@pytest.mark.sweep(1)
def test_ising_by_brute_force(shape, x64):
    """log Z, energy and heat capacity from the number of lattices of each energy."""
    levels, counts = ising_levels(shape)
    couplings = np.array([0.05, 0.3, CRITICAL, 1.0])
    found = np.stack(ising_derivatives(shape)(couplings), axis=1)
    for k, row in zip(couplings, found, strict=True):
        p = oracles.probabilities(levels, k, counts)
        mean = p @ levels
        expected = oracles.log_partition(levels, k, counts), -mean, p @ (levels - mean) ** 2
        np.testing.assert_allclose(row, expected, rtol=1e-10, atol=1e-10)


def test_ising_far_from_criticality_stays_finite(x64):
    found = ising_derivatives((64, 64))(jnp.array([0.01, 2.0]))
    assert np.isfinite(found).all()
    # Two ground states and little else.
    np.testing.assert_allclose(found[0][1], 2 * 64**2 * 2.0 + np.log(2), atol=1e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 4), (5, 1), (3, 3)])
@pytest.mark.sweep(4)
def test_ising_of_any_coupling(shape, dtype, x64):
    """log Z, energy and heat capacity from 1e-30 to 1e30, through the critical point."""
    levels, counts = ising_levels(shape)
    couplings = [*10.0 ** np.arange(-30, 31, 3), 0.05, 0.199, 0.201, 0.44, CRITICAL, 0.79, 0.81]
    couplings = np.array([*couplings, 2.0, 12.0, 45.0], dtype)
    found = np.stack(ising_derivatives(shape)(couplings), axis=1)
    tolerances = {"float32": (1e-6, 3e-6, 3e-5), "float64": (1e-13, 1e-12, 1e-11)}[dtype]
    for k, row in zip(couplings.astype(np.float64), found, strict=True):
        log_p = np.log(counts) - k * levels
        log_z = np.logaddexp.reduce(log_p)
        mean = np.exp(log_p - log_z) @ levels
        expected = log_z, -mean, np.exp(log_p - log_z) @ (levels - mean) ** 2
        scales = max(1, log_z), levels.size, levels.size
        for got, right, scale, tolerance in zip(row, expected, scales, tolerances, strict=True):
            assert abs(got - right) <= tolerance * max(scale, np.prod(shape)), (k, row, expected)


def test_ising_of_a_large_coupling_in_single_precision():
    """Two ground states, 32 bonds of 45: 32 x 45 + log 2, and a slope of 32."""
    log_z = functools.partial(log_partition_ising, shape=(4, 4))
    found = jax.jit(jax.value_and_grad(log_z))(45.0)
    np.testing.assert_allclose(found, (1440 + np.log(2), 32), rtol=1e-6)
    assert log_partition_ising(jnp.bfloat16(0.4), (4, 4)).dtype == jnp.float32


def test_states_are_all_there_and_in_order():
    expected = list(itertools.product((-1, 0, 2), repeat=4))
    found = exact.states((2, 2), (-1, 0, 2))
    np.testing.assert_array_equal(found, np.reshape(expected, (81, 2, 2)))
    assert exact.states(3, jnp.array([False, True])).dtype == bool


def test_any_energy_by_enumeration(x64):
    """3^7 = 2,187 states: no multiple of a block. With forbidden states among them."""
    states = np.array(list(itertools.product(range(3), repeat=7)))
    field = np.random.default_rng(0).normal(size=7)

    def energy(x):
        return jnp.where(x[0] == x[1], jnp.inf, jnp.sum(field * x**2))

    values = np.where(states[:, 0] == states[:, 1], np.inf, (field * states**2).sum(1))
    log_z = jax.jit(lambda beta: exact.log_partition(energy, 7, values=range(3), beta=beta))
    for beta in (0.3, 1.0):
        expected = oracles.log_partition(values[np.isfinite(values)], beta)
        np.testing.assert_allclose(log_z(beta), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("shape", "values"),
    [
        (0, (0, 1)),
        (1, (3,)),
        (5, (7,)),
        (1, (-1, 0.5, 2)),
        (10, (0, 1)),  # a block
        (11, (-1, 1)),
        ((3, 3), (0, 1)),
        ((2, 3), (-1, 0, 2)),  # 729, below a block
        (5, range(5)),  # 3,125
        ((1, 4), range(7)),  # 2,401
        (2, range(32)),  # a block
        (2, range(33)),  # 65 more
        (1, range(1025)),  # one more
        (1, range(1023)),
    ],
)
@pytest.mark.sweep(5)
def test_any_number_of_states_around_a_block(shape, values, x64):
    """log Z and its gradient, of every size about 1,024 states and of odd shapes."""
    sides = (shape,) if isinstance(shape, int) else shape
    size, rng = int(np.prod(sides)), np.random.default_rng(0)
    field = rng.normal(size=sides) / max(values, key=abs)

    def energy(field, x):
        return jnp.sum(field * x) + jnp.cos(jnp.sum(x))

    states = np.array(list(itertools.product(values, repeat=size)), float)
    states = states.reshape(len(values) ** size, *sides)
    np.testing.assert_array_equal(exact.states(shape, tuple(values)), states)
    axes = tuple(range(1, states.ndim))
    energies = (field * states).sum(axes) + np.cos(states.sum(axes))
    log_z = jax.jit(
        jax.value_and_grad(
            lambda f: exact.log_partition(
                functools.partial(energy, f), shape, values=tuple(values), beta=0.7
            )
        )
    )
    found, slope = log_z(jnp.asarray(field))
    np.testing.assert_allclose(found, oracles.log_partition(energies, 0.7), rtol=1e-12)
    expected = -0.7 * np.tensordot(oracles.probabilities(energies, 0.7), states, 1)
    np.testing.assert_allclose(slope, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(("visible", "hidden"), [(3, 0), (0, 3), (0, 0)])
@pytest.mark.sweep(1)
def test_rbms_without_units_on_a_side(visible, hidden, x64):
    """Independent units: log Z = sum softplus(beta b), and so are energies and samples."""
    params, beta = rbm(0, visible, hidden), 0.7
    gaussian = GaussianRBM(*params, sigma=0.6)
    _, b, c = map(np.asarray, params)
    units = sum(np.logaddexp(0, beta * bias).sum() for bias in (b, c))
    log_z, slope = jax.value_and_grad(functools.partial(exact.log_partition, beta=beta))(params)
    np.testing.assert_allclose(log_z, units, atol=1e-12)
    np.testing.assert_allclose(slope.visible_bias, beta / (1 + np.exp(-beta * b)), atol=1e-12)
    np.testing.assert_allclose(slope.hidden_bias, beta / (1 + np.exp(-beta * c)), atol=1e-12)
    expected = np.logaddexp(0, beta * c).sum() + visible * np.log(2 * np.pi * 0.36 / beta) / 2
    found = exact.log_partition(gaussian, beta=beta)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    v, h, free = np.arange(visible) % 2, np.arange(hidden) % 2, np.logaddexp(0, c).sum()
    well = ((v - b) ** 2).sum() / 0.72
    for got, right in (
        (boltzmann.rbm_energy(params, v, h), -v @ b - h @ c),
        (boltzmann.rbm_free_energy(params, v), -v @ b - free),
        (boltzmann.rbm_energy(gaussian, v, h), well - h @ c),
        (boltzmann.rbm_free_energy(gaussian, v), well - free),
        (boltzmann.rbm_visible_logits(params, h), b),
        (boltzmann.rbm_hidden_logits(params, v), c),
        (boltzmann.gaussian_rbm_visible_mean(gaussian, h), b),
    ):
        np.testing.assert_allclose(got, right, atol=1e-12)
    sampler = samplers.rbm_gibbs(params)
    state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((2000, visible), bool)))
    p = np.broadcast_to(1 / (1 + np.exp(-b)), (2000, visible))
    np.testing.assert_allclose(info.visible_mean, p, rtol=1e-12)
    np.testing.assert_allclose(state.position.mean(0), p[0], atol=5 * 0.5 / np.sqrt(2000))


@pytest.mark.parametrize(("visible", "hidden"), [(9, 3), (3, 9)])
@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
def test_rbm_by_enumeration_of_both_sides(visible, hidden, beta, x64):
    params = rbm(0, visible, hidden)
    weights, b, c = map(np.asarray, params)
    v, h = (np.array(list(itertools.product((0, 1), repeat=n))) for n in (visible, hidden))
    energies = -(v @ weights @ h.T) - (v @ b)[:, None] - h @ c
    found = log_partition_rbm(params, beta=beta)
    np.testing.assert_allclose(found, oracles.log_partition(energies, beta), rtol=1e-12)


def test_the_likelihoods_gradient_is_positive_minus_expected_negative(x64):
    """d/dw [beta E(x) + log Z] = beta dE/dw - beta sum_x P(x) dE/dw, the sum in NumPy."""
    params, beta = rbm(1, 5, 12), 0.7
    weights, b, c = map(np.asarray, params)
    v = np.array(list(itertools.product((0, 1), repeat=5)))
    h = np.array(list(itertools.product((0, 1), repeat=12)))
    energies = -(v @ weights @ h.T) - (v @ b)[:, None] - h @ c
    joint = oracles.probabilities(energies.ravel(), beta).reshape(energies.shape)
    found = jax.jit(jax.grad(functools.partial(exact.log_partition, beta=beta)))(params)
    np.testing.assert_allclose(found.weights, beta * v.T @ joint @ h, atol=1e-12)
    np.testing.assert_allclose(found.visible_bias, beta * joint.sum(1) @ v, atol=1e-12)
    np.testing.assert_allclose(found.hidden_bias, beta * joint.sum(0) @ h, atol=1e-12)
    # The same through any energy, over the visible units alone, at beta = 1.
    free = jax.jit(
        jax.grad(lambda p: exact.log_partition(functools.partial(boltzmann.rbm_free_energy, p), 5))
    )(params)
    both = jax.jit(jax.grad(exact.log_partition))(params)
    for one, other in zip(free, both, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_many_units_beyond_one_product(x64):
    """2,100 units on the larger side: the product of their factors alone would overflow."""
    params = RBM(jnp.full((2100, 2), 0.01), jnp.linspace(-20, 20, 2100), jnp.zeros(2))
    b = np.asarray(params.visible_bias)
    terms = [np.logaddexp(0, b + 0.01 * n).sum() for n in (0, 1, 1, 2)]
    expected = np.logaddexp.reduce(terms)
    np.testing.assert_allclose(log_partition_rbm(params), expected, rtol=1e-13)
    single = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    np.testing.assert_allclose(log_partition_rbm(single), expected, rtol=1e-6)


def test_gaussian_rbm_by_quadrature(x64):
    params = GaussianRBM(*rbm(2, 2, 4), sigma=jnp.array([0.8, 1.3]))
    points, volume = oracles.grid(-12.0, 12.0, 160, 2)
    energies = jax.vmap(lambda v, h: boltzmann.rbm_energy(params, v, h), (None, 0))
    values = jax.jit(jax.vmap(energies, (0, None)))(points, exact.states(4))
    log_z = jax.jit(exact.log_partition)
    for beta in (0.6, 1.0):
        expected = oracles.log_partition(values, beta) + np.log(volume)
        found = log_z(params, beta=beta)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_single_precision_loses_nothing_to_the_number_of_states():
    found = ebm_jax.jit(lambda: exact.log_partition(lambda x: jnp.zeros(()), 20))()
    np.testing.assert_allclose(found, 20 * np.log(2), rtol=2e-7)


def test_memory_is_that_of_a_block():
    def memory(hidden):
        params = RBM(jnp.zeros((50, hidden)), jnp.zeros(50), jnp.zeros(hidden))
        found = ebm_jax.jit(jax.value_and_grad(exact.log_partition)).lower(params).compile()
        return found.memory_analysis().temp_size_in_bytes

    # The sums of 2^6 more blocks, and not 2^16 x 50 more numbers.
    assert memory(16) < memory(10) + 200_000


def test_published_weights(x64):
    """Salakhutdinov's 784 x 15 units trained on MNIST: log Z by enumeration elsewhere."""
    data = os.environ.get("EBM_JAX_DATA")
    if data is None or not (path := Path(data) / "rbm" / "mnistvh_15.mat").exists():
        pytest.skip("needs the published weights in EBM_JAX_DATA")
    io = pytest.importorskip("scipy.io")
    found = io.loadmat(path)
    names = "vishid", "visbiases", "hidbiases"
    params = RBM(*(jnp.asarray(found[n]) if n == names[0] else found[n][0] for n in names))
    log_z = ebm_jax.jit(exact.log_partition)(params)
    np.testing.assert_allclose(log_z, 215.13840552531664, rtol=0, atol=1e-8)


def test_what_cannot_be_enumerated_is_refused():
    with pytest.raises(ValueError, match=r"at most 1073741824 states, got 2 values for each of 31"):
        exact.log_partition(rbm(0, 31, 40))
    with pytest.raises(ValueError, match="coupling must be finite and > 0"):
        log_partition_ising(-0.1, (4, 4))
    with pytest.raises(ValueError, match=r"shape must be \(rows, columns\)"):
        log_partition_ising(0.1, (4, 0))
    with pytest.raises(ValueError, match="values must be one or more numbers"):
        exact.states(3, ())
    with pytest.raises(ValueError, match=r"return a scalar"):
        exact.log_partition(lambda x: x * 1.0, 3)
    with pytest.raises(ValueError, match="beta must be >= 0"):
        exact.log_partition(rbm(0, 3, 4), beta=-1.0)


def test_the_tables_are_of_our_energy(x64):
    """The energy whose log Z the closed form is, by enumeration of it over 4 x 4 spins."""
    energy = functools.partial(lattice.ising, lattice.Ising(0.4))
    found = jax.jit(lambda: exact.log_partition(energy, (4, 4), values=(-1, 1)))()
    np.testing.assert_allclose(found, tables.LOG_Z[4][2], atol=1e-9)


def test_spins_and_units_have_one_partition_function(x64):
    """s = 2 x - 1 over (0, 1) is s over (-1, 1): the same states, and the same log Z."""
    rng = np.random.default_rng(3)
    machine = boltzmann.BoltzmannMachine(rng.normal(size=(5, 5)), rng.normal(size=5))
    energy = functools.partial(boltzmann.boltzmann_machine, machine)
    spins = exact.log_partition(energy, 5, values=(-1, 1))
    units = exact.log_partition(lambda x: energy(2 * x - 1), 5)
    s = np.array(list(itertools.product((-1, 1), repeat=5)))
    pairs = np.triu((machine.weights + machine.weights.T) / 2, 1)
    expected = oracles.log_partition(-np.einsum("si,ij,sj->s", s, pairs, s) - s @ machine.bias)
    np.testing.assert_allclose((spins, units), expected, rtol=1e-12)


FAMILIES = {  # of sizes that no other test has
    "graph": (Pairwise(jnp.ones(3), jnp.zeros(5)), {"edges": [(0, 1), (1, 2), (2, 4)]}),
    "rbm": (RBM(jnp.ones((7, 5)), jnp.zeros(7), jnp.zeros(5)), {}),
    "gaussian": (GaussianRBM(jnp.ones((7, 5)), jnp.zeros(7), jnp.zeros(5), jnp.ones(())), {}),
    "categorical": (CategoricalRBM(jnp.ones((7, 3, 5)), jnp.zeros((7, 3)), jnp.zeros(5)), {}),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.sweep(1)
def test_other_parameters_compile_nothing(family, caplog):
    params, options = FAMILIES[family]
    other = jax.tree.map(lambda leaf: 0.5 * leaf, params)
    with jax.log_compiles():
        first = exact.log_partition(params, **options)
        assert "ompil" in caplog.text
        caplog.clear()
        second = exact.log_partition(other, **options)
        assert "ompil" not in caplog.text
    assert float(second) < float(first)


NOT_NUMBERS = (None, "three", [[1.0], [1.0, 2.0]], object(), 1j)
NOT_POSITIVE = (*NOT_NUMBERS, -1.0, 0.0, np.nan, np.inf)
SMALL, PAIR = rbm(0, 3, 2), Pairwise(jnp.ones(1), jnp.ones(2))
GAUSSIAN_RBM = GaussianRBM(*SMALL, 1.0)
THREE_CENTRES = closed_forms.GaussianMixture(jnp.zeros((3, 2)), jnp.ones(3), 1.0)
GAUSSIAN = closed_forms.Gaussian(jnp.ones(3), jnp.ones(3))


@pytest.mark.parametrize(
    ("params", "options", "betas"),
    [
        (SMALL, {}, (*NOT_NUMBERS, -1.0, np.nan, np.inf, jnp.ones(2))),
        (PAIR, {"edges": [[0, 1]]}, (*NOT_NUMBERS, -1.0, np.nan, np.inf, jnp.ones(2))),
        (GAUSSIAN_RBM, {}, (*NOT_POSITIVE, jnp.ones(2))),
        (lattice.Ising(1.0), {"shape": (4, 4)}, (*NOT_POSITIVE, jnp.ones(2))),
        (THREE_CENTRES, {}, (*NOT_POSITIVE, 2.0)),  # a closed form at beta = 1 only
        (closed_forms.Ring(1.0, 1.0), {}, NOT_POSITIVE),
        (closed_forms.Rosenbrock(1.0, 1.0), {}, NOT_POSITIVE),
        (GAUSSIAN, {}, NOT_POSITIVE),
        (closed_forms.Funnel(3.0), {"shape": 2}, NOT_POSITIVE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_bad_beta_is_refused(params, options, betas):
    for beta in betas:
        with pytest.raises((TypeError, ValueError), match=r"\bbeta\b.*\.$"):
            exact.log_partition(params, beta=beta, **options)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (SMALL._replace(visible_bias=jnp.zeros(2)), "weights"),
        (GAUSSIAN_RBM._replace(visible_bias=jnp.zeros(2)), "weights"),
        (GAUSSIAN_RBM._replace(sigma=0.0), "sigma"),
        (tuple(SMALL), "known log Z"),
        (closed_forms.DoubleWell(1.0, 0.0), "known log Z"),
        (closed_forms.Gaussian(1.0, 1.0), "precision"),
        (THREE_CENTRES._replace(sigma=0.0), "sigma"),
        (closed_forms.Rosenbrock(1.0, 0.0), r"\bb\b"),
        (closed_forms.Ring(1.0, 0.0), "width"),
        (closed_forms.Ring(-1.0, 0.5), "radius"),
        *((lattice.Ising(coupling), r"\bcoupling\b") for coupling in (*NOT_POSITIVE, jnp.ones(2))),
        (lattice.Ising(1.0, 0.5), "without a field"),
        *(
            (PAIR._replace(couplings=bad), "couplings|fields")
            for bad in (None, "a", 1j * jnp.ones(1), jnp.ones(5), jnp.ones((7, 5, 3)))
        ),
        *((PAIR._replace(fields=bad), "couplings|fields") for bad in (None, "a", jnp.array(1j))),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_bad_parameters_are_refused(params, message):
    options = {lattice.Ising: {"shape": (4, 4)}, Pairwise: {"edges": [[0, 1]]}}
    with pytest.raises((TypeError, ValueError), match=rf"(?s)({message}).*\.$"):
        exact.log_partition(params, **options.get(type(params), {}))


@pytest.mark.parametrize(
    ("params", "options", "message"),
    [
        *(
            (lattice.Ising(1.0), {"shape": shape}, r"\bshape\b")
            for shape in (None, "44", 4, (4,), (4, 0), (4, 1.5), (4, 4, 4))
        ),
        *(
            (closed_forms.Funnel(3.0), {"shape": shape}, r"\bshape\b")
            for shape in (None, "2", 1.5, 0, (2, 2))
        ),
        (SMALL, {"shape": 3}, "shape=3 is for an energy"),
        (SMALL, {"values": (0, 1)}, "values=.* is for an energy"),
        (PAIR, {"shape": 2}, "shape=2 is for an energy"),
        (PAIR, {"shape": 2, "edges": [[0, 1]]}, "edges.* without a shape"),
        *(
            (PAIR, {"edges": edges}, r"\bedges\b")
            for edges in (None, "x", 1, object(), [[0, 1], [1]], [[0.0, 1.0]], [0, 1], [[0, 1, 2]])
        ),
        *((PAIR, {"edges": [edge]}, r"\bedges\b") for edge in ([0, 0], [0, 9], [0, -1])),
        (PAIR, {"edges": [[True, False]]}, r"\bedges\b"),
        *(
            (PAIR, {"edges": [[0, 1]], "values": values}, r"\bvalues\b")
            for values in ("01", ("a", "b"), object(), 1, (0, 0), ((0, 1),), (0.0, np.nan), 1j)
        ),
    ],
)
def test_bad_options_are_refused(params, options, message):
    with pytest.raises((TypeError, ValueError), match=rf"(?s)({message}).*\.$"):
        exact.log_partition(params, **options)
