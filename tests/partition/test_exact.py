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
from ebm_jax.energies import boltzmann, lattice
from ebm_jax.energies.boltzmann import RBM, GaussianRBM
from ebm_jax.partition import exact
from scripts.results import ising_tables as tables

CRITICAL = np.log(1 + np.sqrt(2)) / 2


def rbm(seed, visible, hidden):
    rng = np.random.default_rng(seed)
    draw = (rng.normal(size=s) for s in ((visible, hidden), visible, hidden))
    return RBM(*map(jnp.asarray, draw))


log_partition_rbm = jax.jit(exact.log_partition_rbm)


def ising_derivatives(shape):
    """k (n,) -> log Z and its first two derivatives, each (n,)."""
    log_z = functools.partial(exact.log_partition_ising, shape=shape)
    slope = jax.grad(log_z)
    return jax.jit(jax.vmap(lambda k: (log_z(k), slope(k), jax.grad(slope)(k))))


@pytest.mark.parametrize("side", tables.LOG_Z)
def test_ising_tables(side, x64):
    found, slope, _ = ising_derivatives((side, side))(jnp.array(tables.COUPLINGS))
    np.testing.assert_allclose(found, tables.LOG_Z[side], rtol=0, atol=1e-9)
    np.testing.assert_allclose(-slope[3] / side**2, tables.ENERGY[side], atol=1e-7)


def test_ising_in_the_bulk(x64):
    """Onsager's log Z / N at the critical point is (log 2) / 2 + 2 G / pi, G Catalan's constant."""
    found = jax.jit(exact.log_partition_ising, static_argnums=1)(CRITICAL, (1000, 1000)) / 1e6
    np.testing.assert_allclose(found, np.log(2) / 2 + 2 * 0.915965594177219 / np.pi, atol=1e-6)


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (3, 4), (5, 1)])
def test_ising_by_brute_force(shape, x64):
    """log Z, energy and heat capacity from the number of lattices of each energy."""
    bits = np.arange(2 ** np.prod(shape))[:, None] >> np.arange(np.prod(shape))
    s = 1 - 2 * (bits & 1).reshape(-1, *shape)
    energy = -(s * (np.roll(s, 1, 1) + np.roll(s, 1, 2))).sum((1, 2))
    levels, counts = np.unique(energy, return_counts=True)
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
    found = jax.jit(jax.grad(functools.partial(exact.log_partition_rbm, beta=beta)))(params)
    np.testing.assert_allclose(found.weights, beta * v.T @ joint @ h, atol=1e-12)
    np.testing.assert_allclose(found.visible_bias, beta * joint.sum(1) @ v, atol=1e-12)
    np.testing.assert_allclose(found.hidden_bias, beta * joint.sum(0) @ h, atol=1e-12)
    # The same through any energy, over the visible units alone, at beta = 1.
    free = jax.jit(
        jax.grad(lambda p: exact.log_partition(functools.partial(boltzmann.rbm_free_energy, p), 5))
    )(params)
    both = jax.jit(jax.grad(exact.log_partition_rbm))(params)
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
    params = GaussianRBM(*rbm(2, 2, 4), scale=jnp.array([0.8, 1.3]))
    points, volume = oracles.grid(-12.0, 12.0, 160, 2)
    energies = jax.vmap(lambda v, h: boltzmann.gaussian_rbm_energy(params, v, h), (None, 0))
    values = jax.jit(jax.vmap(energies, (0, None)))(points, exact.states(4))
    log_z = jax.jit(exact.log_partition_gaussian_rbm)
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
        found = ebm_jax.jit(jax.value_and_grad(exact.log_partition_rbm)).lower(params).compile()
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
    log_z = ebm_jax.jit(exact.log_partition_rbm)(params)
    np.testing.assert_allclose(log_z, 215.13840552531664, rtol=0, atol=1e-8)


def test_what_cannot_be_enumerated_is_refused():
    with pytest.raises(ValueError, match=r"at most 1073741824 states, got 2 values for each of 31"):
        exact.log_partition_rbm(rbm(0, 31, 40))
    with pytest.raises(ValueError, match="coupling must be finite and > 0"):
        exact.log_partition_ising(-0.1, (4, 4))
    with pytest.raises(ValueError, match="shape must be at least 1"):
        exact.log_partition_ising(0.1, (4, 0))
    with pytest.raises(ValueError, match="values must be one or more numbers"):
        exact.states(3, ())
    with pytest.raises(ValueError, match=r"return a scalar"):
        exact.log_partition(lambda x: x * 1.0, 3)
    with pytest.raises(ValueError, match="beta must be >= 0"):
        exact.log_partition_rbm(rbm(0, 3, 4), beta=-1.0)


def test_the_tables_are_of_our_energy(x64):
    """The energy whose log Z the closed form is, by enumeration of it over 4 x 4 spins."""
    energy = functools.partial(lattice.ising, lattice.Ising(0.4))
    found = jax.jit(lambda: exact.log_partition(energy, (4, 4), values=(-1, 1)))()
    np.testing.assert_allclose(found, tables.LOG_Z[4][2], atol=1e-9)
