"""Parallel tempering against closed forms; z-scores are refused beyond 5, the keys are fixed."""

import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

import ebm_jax
from ebm_jax import samplers
from ebm_jax.samplers import _exchange, tempering
from ebm_jax.types import Sampler

MALA = functools.partial(samplers.mala, step_size=0.1)


def wells(x):
    """Two unit Gaussians at -5 and 5, with weights 0.3 and 0.7."""
    return -jnp.logaddexp(jnp.log(0.3) - (x + 5) ** 2 / 2, jnp.log(0.7) - (x - 5) ** 2 / 2)


def mala_by_temperature(energy, beta):
    return samplers.mala(energy, step_size=0.5 / beta, beta=beta)


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize(
    "make",
    [mala_by_temperature, functools.partial(samplers.baoab, step_size=0.5, friction=0.3)],
    ids=["mala", "baoab"],
)
@pytest.mark.sweep(1)
def test_finds_the_weights_of_modes_that_chains_alone_cannot_reach(make):
    betas = [0.02, 0.05, 0.12, 0.35, 1.0]

    @ebm_jax.jit
    def share(key, sampler_key):
        del key
        tempered = samplers.replica_exchange(wells, make, betas, steps_per_swap=2)
        start = -5 * jnp.ones(4000)
        state, _ = samplers.run(sampler_key, tempered, tempered.init(start), 600)
        alone = make(wells, beta=1.0)
        stuck, _ = samplers.run(sampler_key, alone, alone.init(start), 600)
        return jnp.mean(state.position > 0), jnp.mean(stuck.position > 0)

    found, stuck = share(None, jax.random.key(0))
    assert abs(found - 0.7) < 5 * np.sqrt(0.7 * 0.3 / 4000)
    assert stuck < 0.01


def test_swap_rates_of_gaussians_in_the_plane():
    """E is exponential with rate b there: the mean acceptance is 2 b_i / (b_i + b_j)."""
    betas, n = np.array([0.2, 0.5, 1.0]), 40_000

    def energy(x):
        return jnp.sum(x**2) / 2

    sampler = samplers.replica_exchange(energy, MALA, betas)

    @jax.jit
    def step_from_the_target(start_key, step_key):
        exact = jax.random.normal(start_key, (3, n, 2)) / jnp.sqrt(betas)[:, None, None]
        replicas = jax.vmap(lambda b, x: MALA(energy, beta=b).init(x))(jnp.asarray(betas), exact)
        state = sampler.init(jnp.zeros((n, 2)))._replace(replicas=replicas)
        return sampler.step(step_key, state)[1]

    info = step_from_the_target(jax.random.key(0), jax.random.key(1))
    expected = 2 * betas[:-1] / (betas[:-1] + betas[1:])
    # Acceptances lie in [0, 1]: their standard deviation is at most 1/2.
    np.testing.assert_allclose(
        info.acceptance_rate.mean(axis=1), expected, atol=5 * 0.5 / np.sqrt(n)
    )


def test_swaps_are_even_then_odd_and_carry_everything():
    betas = jnp.array([0.2, 0.4, 0.6, 0.8, 1.0])

    def energy(x):
        return jnp.sum(x**2) / 2

    sampler = samplers.replica_exchange(energy, MALA, betas)
    state = jax.jit(sampler.init)(jax.random.normal(jax.random.key(0), (50, 3)))
    for step in range(4):
        state, info = jax.jit(sampler.step)(jax.random.key(step), state)
        tried = np.arange(4) % 2 == step % 2
        assert info.swapped[tried].any()
        assert not info.swapped[~tried].any()
        replicas = state.replicas
        x = np.asarray(replicas.position)
        np.testing.assert_allclose(replicas.energy, np.sum(x**2, -1) / 2, rtol=1e-5)
        np.testing.assert_allclose(replicas.gradient[0], x, rtol=1e-6)
        np.testing.assert_array_equal(replicas.step, step + 1)
        np.testing.assert_array_equal(state.position, x[-1])
        np.testing.assert_array_equal(info.energy, replicas.energy[-1])


def test_swaps_lose_no_chain():
    swapped = jax.random.bernoulli(jax.random.key(0), 0.5, (4, 100))
    for parity in (0, 1):
        tried = (jnp.arange(4) % 2 == parity)[:, None]
        source = _exchange.sources(swapped & tried)
        np.testing.assert_array_equal(np.sort(source, axis=0), np.tile(np.arange(5)[:, None], 100))


def test_the_ladder_of_a_gaussian_becomes_geometric():
    """In the plane the rejection rate (b_j - b_i) / (b_i + b_j) depends on the ratio alone."""
    ladder = jnp.linspace(0.01, 1.0, 8)
    adapt = jax.jit(samplers.adapt_ladder)
    for _ in range(30):
        ladder = adapt(ladder, 2 * ladder[:-1] / (ladder[:-1] + ladder[1:]))
    np.testing.assert_allclose(ladder, np.geomspace(0.01, 1.0, 8), rtol=0.02)


def test_a_ladder_without_rejections_stays_increasing():
    found = samplers.adapt_ladder([0.1, 0.2, 1.0], [1.0, 1.0])
    np.testing.assert_allclose(found, [0.1, 0.2, 1.0], rtol=1e-5)


def test_integer_leaves_travel_with_their_chain():
    def energy(x):
        return (x["x"] - x["label"]) ** 2 / 2

    sampler = samplers.replica_exchange(energy, MALA, [0.3, 1.0])
    start = {"x": jnp.zeros(20), "label": jnp.arange(20)}
    run = jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), 50)[0])
    state = run(jax.random.key(0), start)
    np.testing.assert_array_equal(state.position["label"], np.arange(20))


def test_what_only_has_the_size_of_the_chains_stays_where_it_is():
    """As many dimensions as chains: a leaf per dimension is not a leaf per chain."""
    n = 4

    def make_sampler(energy, beta):
        inner = MALA(energy, beta=beta)
        return Sampler(
            lambda x: Scaled(x, inner.init(x), beta * jnp.arange(float(n))),
            functools.partial(scaled_step, inner),
        )

    sampler = samplers.replica_exchange(lambda x: jnp.sum(x**2) / 2, make_sampler, [0.9, 1.0])
    state, step = jax.jit(sampler.init)(jnp.zeros((n, n))), jax.jit(sampler.step)
    swapped = 0
    for t in range(6):
        state, info = step(jax.random.key(t), state)
        swapped += int(info.swapped.sum())
    assert swapped > 0
    np.testing.assert_allclose(state.replicas.scales, np.outer([0.9, 1.0], np.arange(n)))


class Scaled(NamedTuple):
    position: Any
    inner: Any
    scales: Any  # (dimensions,), not (chains,)


def scaled_step(inner, key, state):
    moved, info = inner.step(key, state.inner)
    return Scaled(moved.position, moved, state.scales), info


@pytest.mark.parametrize("kind", ["ula", "mala", "baoab", "sgld"])
@pytest.mark.sweep(1)
def test_every_sampler_of_ours_can_be_tempered(kind):
    def energy(x):
        return jnp.sum(x**2) / 2

    makers = {
        "ula": functools.partial(samplers.ula, step_size=0.05),
        "mala": functools.partial(samplers.mala, step_size=0.5),
        "baoab": functools.partial(samplers.baoab, step_size=0.5, friction=1.0),
        "sgld": lambda _, beta: samplers.sgld(lambda key, x: x, step_size=0.05, beta=beta),
    }
    betas, n = np.array([0.25, 0.5, 1.0]), 4000
    sampler = samplers.replica_exchange(energy, makers[kind], betas)
    run = ebm_jax.jit(lambda k: samplers.run(k, sampler, sampler.init(jnp.zeros((n, 2))), 150)[0])
    x = np.asarray(run(jax.random.key(0)).replicas.position, np.float64)
    # ULA's own bias at this step is 1 / (1 - 0.025); z-scores beyond 5 are refused.
    bias = 1 / (1 - 0.025) if kind in ("ula", "sgld") else 1.0
    score = ((x**2).mean((1, 2)) * betas / bias - 1) * np.sqrt(n)
    assert np.abs(score).max() < 5 + (0.01 * np.sqrt(n) if bias > 1 else 0)


def test_swaps_are_in_detailed_balance():
    """A pair's flow there equals its flow back: pi(x, y) A(x, y) = pi(y, x) A(y, x)."""
    betas = jnp.array([0.3, 1.0])
    x, y = np.random.default_rng(0).normal(size=(2, 100)) * 3
    there, back = (
        np.exp(np.minimum(tempering._log_ratio(betas, jnp.stack([e, f])), 0)).astype(float)[0]
        for e, f in ((x, y), (y, x))
    )
    b, c = 0.3, 1.0
    np.testing.assert_allclose(
        np.exp(-b * x - c * y) * there, np.exp(-b * y - c * x) * back, rtol=1e-4
    )


@pytest.mark.slow
def test_dmala_tempered_samples_its_distribution():
    """Four spins, from one state: counts of the 16 states, a p-value below 1e-6 is refused."""
    field, n = np.array([0.3, -0.2, 0.5, 0.1]), 8000

    def energy(x):
        x = x.astype(float)
        return -(0.8 * jnp.sum(x[:-1] * x[1:]) + jnp.sum(jnp.asarray(field, x.dtype) * x))

    def make(energy, beta):
        return samplers.dmala(energy, step_size=2.0, values=(-1, 1), beta=beta)

    sampler = samplers.replica_exchange(energy, make, [0.3, 1.0])
    run = ebm_jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), 60)[0].position)
    found = np.asarray(run(jax.random.key(0), jnp.ones((n, 4), jnp.int8)), int)
    s = np.array(list(itertools.product((-1, 1), repeat=4)))
    p = oracles.probabilities(-(0.8 * (s[:, :-1] * s[:, 1:]).sum(1) + s @ field))
    counts = np.bincount((found + 1) // 2 @ np.array([8, 4, 2, 1]), minlength=16)
    assert stats.chisquare(counts, n * p).pvalue > 1e-6


@pytest.mark.slow
def test_positions_of_states_that_were_vmapped_or_collected():
    """They are those of the last temperature, also behind further leading axes."""
    sampler = samplers.replica_exchange(wells, mala_by_temperature, [0.1, 0.3, 1.0])
    start = sampler.init(jnp.arange(5.0))
    keys = jax.random.split(jax.random.key(0), 7)

    def run(key, collect=None):
        return samplers.run(key, sampler, start, 10, collect=collect)

    many = jax.jit(jax.vmap(lambda key: run(key)[0]))(keys)
    alone = [jax.jit(lambda key: run(key)[0])(key).position for key in keys]
    np.testing.assert_allclose(many.position, jnp.stack(alone), rtol=1e-5)
    collected, positions = jax.jit(
        lambda key: run(key, lambda state, info: (state, state.position))[1]
    )(keys[0])
    np.testing.assert_array_equal(collected.position, positions)
