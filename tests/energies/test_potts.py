"""The dense Potts model against sums written out in NumPy, and against enumeration."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.energies import lattice, potts
from ebm_jax.partition import exact

SHAPES = [(1, 1), (1, 3), (3, 1), (2, 2), (3, 4), (5, 2)]


def model(length, q, seed=0):
    """Couplings that are not symmetric, with diagonal blocks that must not count."""
    rng = np.random.default_rng(seed)
    return potts.DensePotts(rng.normal(size=(length, q, length, q)), rng.normal(size=(length, q)))


def by_hand(params, x):
    couplings, fields = params
    total = 0.0
    for i in range(len(x)):
        total -= fields[i, x[i]]
        for j in range(i):
            total -= (couplings[i, x[i], j, x[j]] + couplings[j, x[j], i, x[i]]) / 2
    return total


def all_states(length, q):
    return np.array(list(itertools.product(range(q), repeat=length)))


def energies(params, states):
    return jax.jit(jax.vmap(functools.partial(potts.dense_potts, params)))(states)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.sweep(2)
def test_energy_logits_and_log_partition(shape, x64):
    params, states = model(*shape), all_states(*shape)
    expected = np.array([by_hand(params, x) for x in states])
    np.testing.assert_allclose(energies(params, states), expected, atol=1e-12)
    of_one = functools.partial(potts.dense_potts, params)
    found = exact.log_partition(of_one, shape[0], values=range(shape[1])) if shape[1] > 1 else None
    if found is not None:
        np.testing.assert_allclose(found, oracles.log_partition(expected), atol=1e-12)
    logits = jax.jit(jax.vmap(functools.partial(potts.dense_potts_logits, params)))(states)
    for row, x in enumerate(states):
        for site, letter in np.ndindex(*shape):
            changed = x.copy()
            changed[site] = letter
            fall = expected[row] - by_hand(params, changed)
            difference = logits[row, site, letter] - logits[row, site, x[site]]
            np.testing.assert_allclose(difference, fall, atol=1e-12)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("gauge", ["zero_sum", "first", "last"])
@pytest.mark.sweep(9)
def test_a_gauge_changes_all_energies_by_one_constant(shape, gauge, x64):
    params, states = model(*shape), all_states(*shape)
    reference = {"first": 0, "last": -1, "zero_sum": None}[gauge]
    if reference is None:
        moved = potts.zero_sum_gauge(params)
        sums = [moved.couplings.sum(1), moved.couplings.sum(3), moved.fields.sum(1)]
    else:
        moved = potts.lattice_gas_gauge(params, reference)
        sums = [moved.couplings[:, reference], moved.couplings[..., reference]]
        sums.append(moved.fields[:, reference])
    before = np.array([by_hand(params, x) for x in states])
    after = np.asarray(energies(moved, states))
    np.testing.assert_allclose(
        oracles.probabilities(after, 1.0), oracles.probabilities(before, 1.0), rtol=1e-12
    )
    np.testing.assert_allclose(after - before, (after - before)[0], atol=1e-12)
    for zeros in sums:
        np.testing.assert_allclose(zeros, 0, atol=1e-13)
    couplings = np.asarray(moved.couplings)
    np.testing.assert_allclose(couplings, couplings.transpose(2, 3, 0, 1), atol=1e-13)
    assert not couplings[np.arange(shape[0]), :, np.arange(shape[0])].any()
    if reference is None:  # the smallest of all gauges: the other ones have larger couplings
        other = potts.lattice_gas_gauge(params).couplings
        assert (couplings**2).sum() <= (np.asarray(other) ** 2).sum() + 1e-12


def test_a_torus_is_a_dense_model(x64):
    """Couplings of neighbours alone, twice where a side of two has them twice."""
    shape, q = (2, 3), 3
    field, sites = np.array([0.3, -0.4, 0.1]), list(np.ndindex(shape))
    couplings = np.zeros((6, q, 6, q))
    for n, (i, j) in enumerate(sites):
        for other in (((i + 1) % 2, j), (i, (j + 1) % 3)):
            m = sites.index(other)
            couplings[n, :, m] += 0.7 * np.eye(q)
            couplings[m, :, n] += 0.7 * np.eye(q)
    params = potts.DensePotts(couplings, np.tile(field, (6, 1)))
    states = all_states(6, q)[::7]
    torus = functools.partial(lattice.potts, lattice.Potts(0.7, field))
    expected = jax.vmap(torus)(jnp.asarray(states.reshape(-1, *shape)))
    np.testing.assert_allclose(energies(params, states), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [bool, np.int8, np.uint8, np.int16, np.int32])
@pytest.mark.parametrize("kind", [jnp.bfloat16, jnp.float16, jnp.float32])
def test_types(dtype, kind):
    """Energies have at least the precision of float32, whatever the types."""
    params = potts.DensePotts(*(jnp.asarray(p, kind) for p in model(5, 2)))
    x = np.array([0, 1, 1, 0, 1]).astype(dtype)
    found = potts.dense_potts(params, x)
    exactly = potts.DensePotts(*(np.asarray(p.astype(jnp.float32), np.float64) for p in params))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, by_hand(exactly, x.astype(int)), rtol=1e-6)


def test_the_gradient_is_that_of_the_frequencies(x64):
    """The mean energy is linear: its gradient in a coupling is minus half a pair frequency."""
    params = model(4, 3)
    states = np.random.default_rng(1).integers(3, size=(20, 4))

    def mean(params):
        return jnp.mean(jax.vmap(potts.dense_potts, (None, 0))(params, states))

    gradient = jax.grad(mean)(potts.DensePotts(*map(jnp.asarray, params)))
    one_hot = np.eye(3)[states]
    pairs = np.einsum("nia,njb->iajb", one_hot, one_hot) / 20
    pairs[np.arange(4), :, np.arange(4)] = 0
    np.testing.assert_allclose(gradient.couplings, -pairs / 2, atol=1e-12)
    np.testing.assert_allclose(gradient.fields, -one_hot.mean(0), atol=1e-12)
