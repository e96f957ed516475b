"""Pairwise models on graphs against sums written out in NumPy, and their conditionals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.energies import boltzmann, lattice, pairwise
from ebm_jax.energies.pairwise import Pairwise

RNG = np.random.default_rng(0)
# An isolated variable (4), a triangle, and an edge listed twice, the second time reversed.
EDGES = [(0, 1), (1, 2), (2, 0), (3, 2), (2, 3)]
NUMBERS = Pairwise(RNG.normal(size=5), RNG.normal(size=5))
POTTS = Pairwise(RNG.normal(size=5), RNG.normal(size=(5, 3)))
TABLES = Pairwise(RNG.normal(size=(5, 3, 3)), RNG.normal(size=(5, 3)))
MODELS = {
    "units": (NUMBERS, (0, 1)),
    "spins": (NUMBERS, (-1, 1)),
    "potts": (POTTS, (0, 1, 2)),
    "tables": (TABLES, (0, 1, 2)),
    "one category": (Pairwise(TABLES.couplings[:, :1, :1], TABLES.fields[:, :1]), (0,)),
}


def by_hand(params, x, edges=EDGES):
    couplings, fields = params
    if fields.ndim == 1:
        pairs = sum(c * x[i] * x[j] for c, (i, j) in zip(couplings, edges, strict=True))
        return -pairs - sum(f * v for f, v in zip(fields, x, strict=True))
    total = -sum(f[v] for f, v in zip(fields, x, strict=True))
    for c, (i, j) in zip(couplings, edges, strict=True):
        total -= c * (x[i] == x[j]) if couplings.ndim == 1 else c[x[i], x[j]]
    return total


def states(values, n=5):
    return np.array(list(itertools.product(values, repeat=n)))


def all_energies(params, x, edges=EDGES):
    return jax.jit(jax.vmap(lambda x: pairwise.energy(params, x, edges)))(x)


@pytest.mark.parametrize("name", MODELS)
def test_energies_are_sums_over_edges(name, x64):
    params, values = MODELS[name]
    x = states(values)
    expected = [by_hand(params, row) for row in x]
    np.testing.assert_allclose(all_energies(params, x), expected, atol=1e-12)
    np.testing.assert_allclose(all_energies(params, x.astype(np.int8)), expected, atol=1e-12)


@pytest.mark.parametrize("name", MODELS)
def test_logits_are_differences_of_energies(name, x64):
    params, values = MODELS[name]
    x = states(values)[::3]
    found = jax.jit(jax.vmap(lambda x: pairwise.logits(params, x, EDGES)))(x)
    for i in range(5):
        changed = []
        for value in values:
            other = x.copy()
            other[:, i] = value
            changed.append([-by_hand(params, row) for row in other])
        changed = np.array(changed)  # (q, states)
        if params.fields.ndim == 1:
            unit = (changed[1] - changed[0]) / (values[1] - values[0])
            np.testing.assert_allclose(found[:, i], unit, atol=1e-12)
        else:
            same = found[:, i].T - changed
            np.testing.assert_allclose(same, np.broadcast_to(same[:1], same.shape), atol=1e-12)


def test_it_is_the_boltzmann_machine_and_the_lattice(x64):
    """The same numbers as the models of other modules, which are tested by themselves."""
    edges = list(itertools.combinations(range(4), 2))
    weights = np.zeros((4, 4))
    couplings, fields = RNG.normal(size=6), RNG.normal(size=4)
    weights[tuple(np.transpose(edges))] = couplings
    machine = boltzmann.BoltzmannMachine(weights + weights.T, fields)
    x = states((0, 1), 4)
    expected = jax.vmap(lambda x: boltzmann.boltzmann_machine(machine, x))(x)
    found = all_energies(Pairwise(couplings, fields), x, edges)
    np.testing.assert_allclose(found, expected, atol=1e-12)

    number = np.arange(6).reshape(2, 3)
    bonds = [
        (i, j)
        for axis in (0, 1)
        for i, j in zip(number.flat, np.roll(number, -1, axis).flat, strict=True)
    ]
    colours = states(range(3), 6)
    params = Pairwise(np.full(12, 0.7), np.tile([0.1, -0.3, 0.5], (6, 1)))
    potts = lattice.Potts(0.7, np.array([0.1, -0.3, 0.5]))
    expected = jax.vmap(lambda x: lattice.potts(potts, x.reshape(2, 3)))(colours)
    np.testing.assert_allclose(all_energies(params, colours, bonds), expected, atol=1e-12)


def test_gradients(x64):
    """With respect to the parameters, and to relaxed units; infinite fields spoil no other one."""
    x = np.array([1, 0, 1, 0, 1])
    gradient = jax.grad(lambda p: pairwise.energy(p, x, EDGES))(NUMBERS)
    np.testing.assert_allclose(gradient.couplings, [-(x[i] * x[j]) for i, j in EDGES])
    np.testing.assert_allclose(gradient.fields, -x)
    relaxed = RNG.uniform(size=5) * [1, 0, 1, 1, 1]
    found = jax.grad(lambda x: pairwise.energy(NUMBERS, x, EDGES))(relaxed)
    expected = oracles.finite_difference(lambda x: by_hand(NUMBERS, x), relaxed)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    np.testing.assert_allclose(found, -pairwise.logits(NUMBERS, relaxed, EDGES), atol=1e-12)

    held = NUMBERS._replace(fields=np.array([np.inf, -np.inf, 0.3, 0.1, 0.2]))
    found = all_energies(held, states((0, 1)))
    for energy, row in zip(found, states((0, 1)), strict=True):
        if row[1]:
            assert energy == np.inf or row[0]
        elif row[0]:
            assert energy == -np.inf
        else:
            free = NUMBERS._replace(fields=np.array([0, 0, 0.3, 0.1, 0.2]))
            np.testing.assert_allclose(energy, by_hand(free, row), atol=1e-12)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.int32])
def test_parameters_of_any_type_are_computed_in_float32_at_least(dtype):
    params = Pairwise(jnp.array([3, 5], dtype), jnp.array([1, 2, 4], dtype))
    found = pairwise.energy(params, jnp.array([1, 1, 1], bool), [(0, 1), (1, 2)])
    assert found.dtype == jnp.float32
    assert float(found) == -15.0


def test_a_graph_without_edges():
    params = Pairwise(jnp.zeros(0), jnp.array([2.0]))
    assert float(pairwise.energy(params, jnp.ones(1, int), [])) == -2.0
    assert pairwise.logits(params, jnp.ones(1, int), np.zeros((0, 2), int)).tolist() == [2.0]
