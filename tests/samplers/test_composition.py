"""Samplers in turn on joints whose marginals are known; fixed keys, p-values refused below 1e-6."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

import ebm_jax
from ebm_jax import samplers
from ebm_jax.energies import boltzmann, lattice
from ebm_jax.samplers.composition import alternate
from ebm_jax.types import Sampler

CHAINS = 20_000
MEANS, SCALES, LEVELS = np.array([-1.0, 0.0, 2.0]), np.array([0.5, 1.0, 0.7]), np.array([0.1, 1, 0])
WEIGHTS = np.exp(-LEVELS) * SCALES / np.sum(np.exp(-LEVELS) * SCALES)


def joint(z):
    """A Gaussian x of a mean, a scale and a level that depend on y."""
    mean, scale, level = (jnp.asarray(a, jnp.float32)[z["y"]] for a in (MEANS, SCALES, LEVELS))
    return ((z["x"] - mean) / scale) ** 2 / 2 + level


def mixed(beta=1.0):
    return alternate(
        samplers.mala(joint, step_size=0.4, beta=beta),
        samplers.systematic_scan_gibbs(joint, values=range(3), beta=beta),
    )


def run(sampler, start, num_steps, seed=0):
    def go(key, x):
        return samplers.run(key, sampler, sampler.init(x), num_steps)[0]

    return jax.tree.map(np.asarray, ebm_jax.jit(go)(jax.random.key(seed), start))


def assert_joint(position):
    counts = np.bincount(position["y"], minlength=3)
    assert stats.chisquare(counts, len(position["y"]) * WEIGHTS).pvalue > 1e-6

    def marginal(x):
        return sum(w * stats.norm.cdf(x, m, s) for w, m, s in zip(WEIGHTS, MEANS, SCALES))  # noqa: B905

    assert stats.kstest(position["x"], marginal).pvalue > 1e-6
    for k in range(3):
        own = position["x"][position["y"] == k]
        assert stats.kstest(own, stats.norm(MEANS[k], SCALES[k]).cdf).pvalue > 1e-6


def test_langevin_and_gibbs_sample_a_joint():
    """From one point, and back where it was from the joint itself."""
    start = {"x": jnp.zeros(CHAINS), "y": jnp.zeros(CHAINS, jnp.int8)}
    state = run(mixed(), start, 60)
    assert state.position["y"].dtype == np.int8
    assert_joint(state.position)
    again = run(mixed(), jax.tree.map(jnp.asarray, state.position), 3, seed=1)
    assert_joint(again.position)


@pytest.mark.slow
def test_tempering_holds_an_alternation():
    start = {"x": jnp.zeros(CHAINS), "y": jnp.zeros(CHAINS, int)}
    state = run(
        samplers.replica_exchange(joint, lambda _, beta: mixed(beta), [0.5, 1.0]), start, 30
    )
    assert_joint(state.position)


@pytest.mark.slow
def test_a_gaussian_rbm_needs_nothing_new():
    """MALA on the visible units, Gibbs sampling of the hidden ones: P(h) by enumeration."""
    rng = np.random.default_rng(0)
    weights, b, c = (rng.normal(size=s) * 0.7 for s in ((2, 3), 2, 3))
    params = boltzmann.GaussianRBM(*(jnp.asarray(p, jnp.float32) for p in (weights, b, c)))

    def energy(z):
        return boltzmann.rbm_energy(params, z["v"], z["h"])

    sampler = alternate(
        samplers.mala(energy, step_size=0.5), samplers.systematic_scan_gibbs(energy)
    )
    start = {"v": jnp.zeros((CHAINS, 2)), "h": jnp.zeros((CHAINS, 3), bool)}
    found = run(sampler, start, 60).position["h"]
    h = np.array(list(np.ndindex(2, 2, 2)))
    shift = h @ weights.T
    p = oracles.probabilities(-(h @ c) - ((2 * b + shift) * shift).sum(1) / 2)
    counts = np.bincount(found @ np.array([4, 2, 1]), minlength=8)
    assert stats.chisquare(counts, CHAINS * p).pvalue > 1e-6


class Memory(NamedTuple):
    position: dict
    seen: jax.Array


def remembering(name):
    """Adds to one leaf what it remembers of the sum of all: wrong, were it not refreshed."""

    def init(position):
        return Memory(position, position["a"] + position["b"])

    def step(key, state):
        moved = state.position | {name: state.position[name] + state.seen}
        return Memory(moved, jnp.full_like(state.seen, -1000.0)), state.seen

    return Sampler(init, step)


def test_each_is_refreshed_before_it_moves(key):
    sampler = alternate(remembering("a"), remembering("b"))
    state = sampler.init({"a": jnp.ones(2), "b": jnp.zeros(2)})
    for a, b in ((2, 2), (6, 10), (22, 42)):  # a += a + b, then b += a + b
        state, info = sampler.step(key, state)
        assert state.position["a"].tolist() == [a, a]
        assert state.position["b"].tolist() == [b, b]
    assert info.energy is None
    moved = state._replace(position={"a": jnp.zeros(2), "b": jnp.ones(2)})
    state, _ = sampler.step(key, samplers.refresh(sampler, moved))
    assert state.position["b"].tolist() == [3, 3]


def test_the_energy_is_that_of_the_new_position(key):
    start = {"x": jnp.zeros(50), "y": jnp.zeros(50, int)}
    state, info = jax.jit(mixed().step)(key, mixed().init(start))
    np.testing.assert_allclose(info.energy, jax.vmap(joint)(state.position), rtol=1e-5)
    first, second = info.infos
    assert first.accepted.shape == second.changed.shape == (50,)


def test_what_cannot_alternate_is_refused():
    with pytest.raises(ValueError, match=r"two samplers or more, got 1"):
        alternate(samplers.ula(joint, step_size=0.1))
    checkerboard = samplers.checkerboard_gibbs(lattice.Ising(0.3))
    with pytest.raises(TypeError, match="LatticeState has none"):
        alternate(checkerboard, checkerboard).init(jnp.ones((2, 4, 4), int))


MALA = samplers.mala(joint, step_size=0.1)


@pytest.mark.parametrize("others", [(), (MALA,), (MALA, jnp.sum), (MALA, None)], ids=len)
def test_alternate_takes_two_samplers_or_more(others):
    with pytest.raises((TypeError, ValueError), match=r"two samplers or more, got|Sampler"):
        samplers.alternate(*others)
