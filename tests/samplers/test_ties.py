"""Gibbs samplers at an infinite beta, where some values tie, and of the smallest models."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import samplers
from ebm_jax.energies import boltzmann, lattice, potts
from ebm_jax.energies.pairwise import Pairwise

CHAINS = 4000
CHECKERBOARD = np.indices((4, 4)).sum(0) % 2 == 0
LATTICE = np.random.default_rng(0).integers(3, size=(4, 4))


def fair(logits):
    """Return probabilities: equal for the highest along the last axis, 0 for the others."""
    best = logits == logits.max(-1, keepdims=True)
    return best / best.sum(-1, keepdims=True)


def around(x):
    """Return the four neighbours of the even sites of a torus, (4, 8)."""
    rolled = [np.roll(x, shift, axis) for shift in (1, -1) for axis in (0, 1)]
    return np.stack(rolled)[:, CHECKERBOARD]


def star(neighbours, q, couplings=None):
    """A variable whose neighbours are held, and a coupling of 1 between equals."""
    n = len(neighbours)
    couplings = jnp.ones(n) if couplings is None else couplings
    params = Pairwise(couplings, jnp.zeros((n + 1, q) if q else n + 1))
    edges = [(0, i + 1) for i in range(n)]
    make = functools.partial(samplers.graph_gibbs, params, edges, clamp=np.arange(n + 1) > 0)
    return make, np.array([neighbours[0], *neighbours])


def complete(neighbours, q):
    """The same on a complete graph, whose many colours are drawn in a loop."""
    n = len(neighbours) + 1
    edges = list(itertools.combinations(range(n), 2))
    params = Pairwise(jnp.ones(len(edges)), jnp.zeros((n, q)))
    make = functools.partial(samplers.graph_gibbs, params, edges, clamp=np.arange(n) > 0)
    return make, np.array([neighbours[0], *neighbours])


def categories_of(neighbours, q=3):
    return np.array([neighbours.count(k) for k in range(q)])


def ising():
    x = 2 * (LATTICE > 0) - 1
    up = around(x).sum(0)
    return (
        functools.partial(samplers.checkerboard_gibbs, lattice.Ising(1.0)),
        x,
        fair(np.stack([-up, up], axis=-1)),
        CHECKERBOARD,
    )


def of_potts(coupling, field):
    field = np.array(field)
    same = (around(LATTICE)[..., None] == np.arange(3)).sum(0)
    make = functools.partial(samplers.checkerboard_gibbs, lattice.Potts(coupling, field))
    return make, LATTICE, fair(coupling * same + field), CHECKERBOARD


def of_star(neighbours, q, graph=star, **options):
    make, x = graph(neighbours, q, **options)
    logits = categories_of(neighbours) if q else np.sum(neighbours) * np.array([-1, 1])
    return functools.partial(make, values=None if q else (-1, 1)), x, fair(logits), 0


def dense():
    couplings = np.zeros((4, 3, 4, 3))
    for i in (1, 2, 3):
        couplings[0, :, i] = couplings[i, :, 0] = np.eye(3)
    params = potts.DensePotts(jnp.asarray(couplings), jnp.zeros((4, 3)))
    make = functools.partial(samplers.dense_potts_gibbs, params, clamp=np.arange(4) > 0)
    return make, np.array([2, 0, 1, 2]), fair(categories_of([0, 1, 2])), 0


def rbm(kind):
    """One hidden unit that ties, and visible units that tie where it is on."""
    if kind == "units":
        params = boltzmann.RBM(jnp.array([[1.0], [0.0]]), jnp.array([-1.0, 0.0]), jnp.zeros(1))
        expected = np.array([[0.75, 0.25], [0.5, 0.5]])
    else:
        weights = jnp.array([[[0.0], [1.0], [0.0]], [[0.0], [0.0], [1.0]]])
        bias = jnp.array([[1.0, 0.0, 0.5], [0.0, -1.0, -2.0]])
        params = boltzmann.CategoricalRBM(weights, bias, jnp.zeros(1))
        expected = np.array([[0.75, 0.25, 0.0], [1.0, 0.0, 0.0]])
    return functools.partial(samplers.rbm_gibbs, params), np.zeros(2, int), expected, slice(None)


CASES = {
    "ising": ising,
    "potts": lambda: of_potts(1.0, [0.0, 0.0, 0.0]),
    "antiferromagnetic potts": lambda: of_potts(-1.0, [0.0, 0.0, 0.0]),
    "potts in a field": lambda: of_potts(1.0, [1.0, 0.0, -1.0]),
    "potts without a colour": lambda: of_potts(1.0, [-np.inf, 0.0, 0.0]),
    "graph of spins": lambda: of_star([1, 1, -1, -1], 0),
    "graph of spins, any couplings": lambda: of_star(
        [1, -1, 1, -1], 0, couplings=jnp.array([1.3, 1.3, 0.5, 0.5])
    ),
    "graph of categories": lambda: of_star([0, 0, 1, 1, 2], 3),
    "graph of categories, tables": lambda: of_star(
        [0, 2], 3, couplings=jnp.stack([jnp.eye(3)] * 2)
    ),
    "graph in a loop": lambda: of_star([0] * 16 + [2] * 16 + [1], 3, graph=complete),
    "dense potts": dense,
    "rbm": lambda: rbm("units"),
    "categorical rbm": lambda: rbm("categories"),
}


@pytest.mark.parametrize(
    ("name", "per_chain"),
    [(name, False) for name in CASES]
    + [(name, True) for name in ("potts", "graph of spins", "categorical rbm")],
)
def test_ties_at_an_infinite_beta_are_drawn_fairly(name, per_chain):
    """What is drawn first in a step has its exact limit: 5 standard errors of 4,000 chains."""
    make, start, expected, drawn = CASES[name]()
    sampler = make(beta=jnp.full(CHAINS, jnp.inf) if per_chain else jnp.inf)
    positions = jnp.asarray(np.tile(start, (CHAINS, *[1] * start.ndim)), jnp.int8)
    take = jax.jit(lambda k, x: sampler.step(k, sampler.init(x)))
    state, info = take(jax.random.key(0), positions)
    expected = np.atleast_2d(expected)
    x = np.asarray(state.position)[:, drawn].reshape(CHAINS, len(expected))
    values = (-1, 1) if -1 in start else range(expected.shape[1])
    found = np.stack([(x == value).mean(0) for value in values], axis=-1)
    error = np.sqrt(expected * (1 - expected) / CHAINS)
    assert (np.abs(found - expected) <= 5 * error).all(), (found, expected)
    if hasattr(info, "visible_mean"):
        last = np.asarray(info.visible_mean).reshape(CHAINS, len(expected), -1)[..., -1]
        np.testing.assert_allclose(last.mean(0), expected[:, -1], atol=5 * error.max() + 1e-6)


SMALLEST = {
    "graph": lambda q: samplers.graph_gibbs(
        Pairwise(jnp.zeros(0), jnp.zeros((1, q))), np.zeros((0, 2), int)
    ),
    "dense potts": lambda q: samplers.dense_potts_gibbs(
        potts.DensePotts(jnp.zeros((1, q, 1, q)), jnp.zeros((1, q)))
    ),
    "categorical rbm": lambda q: samplers.rbm_gibbs(
        boltzmann.CategoricalRBM(jnp.zeros((1, q, 1)), jnp.zeros((1, q)), jnp.zeros(1))
    ),
    "categorical rbm without hidden units": lambda q: samplers.rbm_gibbs(
        boltzmann.CategoricalRBM(jnp.zeros((1, q, 0)), jnp.zeros((1, q)), jnp.zeros(0))
    ),
}


@pytest.mark.parametrize("dtype", ["bool", "int8", "int32"])
@pytest.mark.parametrize("name", SMALLEST)
def test_one_variable_and_one_category(name, dtype):
    """One chain of one variable: with q = 1 it stays, with q = 2 it is each value half of the time.

    5 standard errors of 400 steps.
    """
    both = [SMALLEST[name](q) for q in (1, 2)]

    def take(key, x):
        collect = {"collect": lambda state, info: (state.position, info.energy)}
        return [samplers.run(key, sampler, sampler.init(x), 400, **collect)[1] for sampler in both]

    taken = jax.jit(take)(jax.random.key(0), np.zeros((1, 1), dtype))
    for q, (x, energies) in enumerate(taken, 1):
        assert x.dtype == dtype
        assert x.shape == (400, 1, 1)
        assert (np.asarray(energies) == 0).all()
        counts = np.bincount(np.asarray(x, int).ravel(), minlength=q)
        assert len(counts) == q
        assert np.abs(counts - 400 / q).max() <= 5 * np.sqrt(400 / 4) * (q - 1)


def test_a_lattice_of_one_colour_stays(key):
    sampler = samplers.checkerboard_gibbs(lattice.Potts(1.0, jnp.zeros(1)), beta=jnp.inf)
    state, info = sampler.step(key, sampler.init(jnp.zeros((1, 2, 2), jnp.int8)))
    assert not state.position.any()
    assert info.energy.tolist() == [-8.0]
