"""log Z by elimination on graphs of all kinds: closed forms, enumeration and derivatives."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.energies import pairwise
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.partition import exact
from scripts.results import ising_tables as tables

RNG = np.random.default_rng(0)
PATH = [(i, i + 1) for i in range(7)]
GRAPHS = {
    "no edges": (4, []),
    "one edge": (2, [(1, 0)]),
    "isolated": (5, [(0, 1), (1, 2), (0, 2)]),
    "path": (8, PATH),
    "ring": (8, [*PATH, (7, 0)]),
    "star": (8, [(3, i) for i in range(8) if i != 3]),
    "ladder": (8, [(0, 2), (2, 4), (4, 6), (1, 3), (3, 5), (5, 7), (0, 1), (2, 3), (4, 5), (6, 7)]),
    "complete": (6, list(itertools.combinations(range(6), 2))),
    "twice": (3, [(0, 1), (1, 0), (1, 2)]),
}


def model(name, q):
    """Random numbers (q = 0), or random tables of q categories, on a graph."""
    n, edges = GRAPHS[name]
    shape = (q, q) if q else ()
    return Pairwise(RNG.normal(size=(len(edges), *shape)), RNG.normal(size=(n, *shape[:1])))


def energies(params, edges, values):
    states = np.array(list(itertools.product(values, repeat=len(params.fields))))
    return states, np.asarray(
        jax.jit(jax.vmap(lambda x: pairwise.energy(params, x, edges)))(states)
    )


@pytest.mark.parametrize("name", GRAPHS)
@pytest.mark.parametrize("values", [(0, 1), (-1, 1), (-1, 0, 2), 3, 1])
@pytest.mark.sweep(15)
def test_it_is_the_sum_over_all_states(name, values, x64):
    q = values if isinstance(values, int) else 0
    params, edges = model(name, q), GRAPHS[name][1]
    given = None if q else values
    found = exact.log_partition(params, edges=edges, values=given, beta=0.7)
    _, all_of_them = energies(params, edges, range(q) if q else values)
    np.testing.assert_allclose(found, oracles.log_partition(all_of_them, 0.7), atol=1e-11)


@pytest.mark.parametrize("name", ["ring", "star"])
@pytest.mark.sweep(1)
def test_derivatives_are_moments(name, x64):
    """Means of the variables and of the products, and the second derivative in beta."""
    params, edges = model(name, 0), GRAPHS[name][1]

    def log_z(params, beta):
        return exact.log_partition(params, edges=edges, values=(-1, 1), beta=beta)

    slope = jax.jit(jax.grad(log_z))(params, 1.0)
    curvature = jax.jit(jax.grad(jax.grad(log_z, argnums=1), argnums=1))(params, 1.0)
    states, e = energies(params, edges, (-1, 1))
    p = oracles.probabilities(e)
    np.testing.assert_allclose(slope.fields, p @ states, atol=1e-11)
    i, j = np.transpose(edges)
    np.testing.assert_allclose(slope.couplings, p @ (states[:, i] * states[:, j]), atol=1e-11)
    np.testing.assert_allclose(curvature, p @ e**2 - (p @ e) ** 2, rtol=1e-9)


def test_the_gradient_without_couplings_and_fields(x64):
    """Zero parameters have derivatives too: the means of free variables."""
    zero = Pairwise(jnp.zeros(7), jnp.zeros(8))
    slope = jax.grad(lambda p: exact.log_partition(p, edges=PATH))(zero)
    np.testing.assert_allclose(slope.fields, 0.5)
    np.testing.assert_allclose(slope.couplings, 0.25)


@pytest.mark.slow
def test_closed_forms(x64):
    """Chains, rings, Potts chains and a frustrated triangle."""
    n, k = 25, 0.8  # few enough that the power of tanh counts; an odd ring is frustrated
    chain = [(i, i + 1) for i in range(n - 1)]
    ring = [*chain, (n - 1, 0)]

    def log_z(edges, fields, coupling, **options):
        params = Pairwise(np.full(len(edges), coupling), fields)
        return exact.log_partition(params, edges=edges, **options)

    spins = {"values": (-1, 1)}
    expected = np.log(2) + (n - 1) * np.log(2 * np.cosh(k))
    np.testing.assert_allclose(log_z(chain, np.zeros(n), k, **spins), expected, rtol=1e-13)
    for coupling in (k, -k):
        expected = n * np.log(2 * np.cosh(coupling)) + np.log1p(np.tanh(coupling) ** n)
        np.testing.assert_allclose(
            log_z(ring, np.zeros(n), coupling, **spins), expected, rtol=1e-13
        )
    for q in (2, 5):
        expected = np.log(q) + (n - 1) * np.log(np.exp(k) + q - 1)
        np.testing.assert_allclose(log_z(chain, np.zeros((n, q)), k), expected, rtol=1e-13)
    triangle = [(0, 1), (1, 2), (2, 0)]
    frustrated = log_z(triangle, np.zeros(3), -1.0, beta=20.0, **spins)
    np.testing.assert_allclose(frustrated, 20 + np.log(6), rtol=1e-12)


@pytest.mark.parametrize("side", [4, pytest.param(8, marks=pytest.mark.slow)])
def test_tori(side, x64):
    """Kaufman's log Z: the table of the torus of 64 spins has 2^17 entries."""
    number = np.arange(side**2).reshape(side, side)
    edges = np.concatenate(
        [np.stack([number.ravel(), np.roll(number, -1, a).ravel()], 1) for a in (0, 1)]
    )
    params = Pairwise(jnp.full(len(edges), tables.COUPLINGS[1]), jnp.zeros(side**2))
    found = jax.jit(lambda p: exact.log_partition(p, edges=edges, values=(-1, 1)))(params)
    np.testing.assert_allclose(found, tables.LOG_Z[side][1], atol=1e-9)


def test_forbidden_categories_and_held_variables(x64):
    """Infinite fields leave a smaller model, and gradients that are finite."""
    params = model("ladder", 3)
    edges = GRAPHS["ladder"][1]
    fields = params.fields.copy()
    fields[2, 1] = fields[5, 0] = fields[5, 2] = -np.inf
    forbidding = Pairwise(params.couplings, fields)
    states, e = energies(params, edges, range(3))
    allowed = (states[:, 2] != 1) & (states[:, 5] == 1)

    def log_z(params, beta):
        return exact.log_partition(params, edges=edges, beta=beta)

    found = log_z(forbidding, 1.0)
    np.testing.assert_allclose(found, oracles.log_partition(e[allowed]), atol=1e-11)
    np.testing.assert_allclose(log_z(forbidding, 0.0), np.log(3**8), rtol=1e-12)
    slope = jax.grad(log_z)(forbidding, 1.0)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))
    p = oracles.probabilities(e[allowed])
    mean = np.array([p @ (states[allowed, 0] == k) for k in range(3)])
    np.testing.assert_allclose(slope.fields[0], mean, atol=1e-11)


def test_float32_keeps_the_digits_of_the_energies():
    n = 1000
    edges = [(i, i + 1) for i in range(n - 1)]
    params = Pairwise(jnp.full(n - 1, 0.8), jnp.zeros(n))
    found = jax.jit(lambda p: exact.log_partition(p, edges=edges, values=(-1, 1)))(params)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, np.log(2) + (n - 1) * np.log(2 * np.cosh(0.8)), rtol=1e-6)


def test_a_large_treewidth_is_rejected_with_the_size_of_the_table():
    clique = np.array(list(itertools.combinations(range(26), 2)))
    params = Pairwise(jnp.ones(len(clique)), jnp.zeros(26))
    with pytest.raises(ValueError, match=r"needs a table of 2\^26 entries.* at most 16777216"):
        exact.log_partition(params, edges=clique)
    few = list(itertools.combinations(range(6), 2))
    with pytest.raises(ValueError, match=r"needs a table of 21\^6 entries"):
        exact.log_partition(Pairwise(jnp.ones(15), jnp.zeros((6, 21))), edges=few)
