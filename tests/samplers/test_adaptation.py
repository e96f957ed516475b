"""Step-size adaptation reaches its target; blackjax's dual averaging is the independent answer."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ebm_jax
from ebm_jax import samplers
from ebm_jax.samplers import langevin
from ebm_jax.types import Sampler


class Info(NamedTuple):
    acceptance_rate: jax.Array


SCALES = jnp.array([1.0, 2.0, 4.0])


def energy(x):
    return jnp.sum((x / SCALES) ** 2) / 2


@jax.jit
def mean_acceptance(key, step_size, position):
    sampler = samplers.mala(energy, step_size=step_size)
    _, accepted = samplers.run(
        key, sampler, sampler.init(position), 50, collect=lambda s, i: jnp.mean(i.acceptance_rate)
    )
    return jnp.mean(accepted)


@ebm_jax.jit
def tune(key, start, initial, target):
    return samplers.adapt_step_size(
        key, energy, samplers.mala, start, 400, initial=initial, target=target
    )


@pytest.mark.parametrize("initial", [1e-4, 10.0])
@pytest.mark.parametrize("target", [0.574, 0.8])
@pytest.mark.sweep(1)
def test_the_step_size_found_accepts_as_often_as_asked(initial, target):
    start = SCALES * jax.random.normal(jax.random.key(0), (500, 3))
    tuned = tune(jax.random.key(1), start, initial, target)
    found = mean_acceptance(jax.random.key(2), tuned.step_size, tuned.position)
    assert abs(found - target) < 0.02
    assert tuned.acceptance_rate.shape == (400,)


def test_an_array_keeps_its_ratios():
    start = SCALES * jax.random.normal(jax.random.key(0), (500, 3))
    tune = jax.jit(
        lambda key: samplers.adapt_step_size(
            key, energy, samplers.mala, start, 300, initial=1e-3 * SCALES**2
        )
    )
    tuned = tune(jax.random.key(1))
    np.testing.assert_allclose(tuned.step_size / tuned.step_size[0], SCALES**2, rtol=1e-5)
    found = mean_acceptance(jax.random.key(2), tuned.step_size, tuned.position)
    assert abs(found - 0.574) < 0.03


def test_the_recursion_is_that_of_blackjax():
    module = pytest.importorskip("blackjax.optimizers.dual_averaging")

    def acceptance(log_step):  # any decreasing function of the step size
        return jax.nn.sigmoid(-2 * log_step)

    def make_sampler(energy, step_size):
        return Sampler(
            lambda x: langevin.SGLDState(x, jnp.zeros((), jnp.int32)),
            lambda key, state: (state, Info(acceptance(jnp.log(step_size)))),
        )

    with jax.enable_x64(True):
        init, update, _ = module.dual_averaging(t0=10, gamma=0.05, kappa=0.75)
        theirs, average = init(jnp.asarray(1.0)), 0.0
        for t in range(1, 101):
            theirs = update(theirs, 0.6 - acceptance(theirs.log_x))
            # blackjax averages the step before; the source averages this one.
            average = t**-0.75 * theirs.log_x + (1 - t**-0.75) * average
        options = {"initial": 1.0, "target": 0.6}
        ours = jax.jit(
            lambda key: samplers.adapt_step_size(
                key, energy, make_sampler, jnp.zeros(1), 100, **options
            )
        )(jax.random.key(0))
    np.testing.assert_allclose(ours.step_size, np.exp(average), rtol=1e-9)


@pytest.mark.parametrize("share", [0.01, 0.5])
def test_chains_in_nan_are_left_out(share):
    """They accept nothing at any step size; the others are tuned as if they were alone."""
    start = SCALES * jax.random.normal(jax.random.key(0), (500, 3))
    start = start.at[: int(share * 500)].set(jnp.nan)
    tuned = tune(jax.random.key(1), start, 0.1, 0.574)
    found = mean_acceptance(jax.random.key(2), tuned.step_size, tuned.position[-250:])
    assert abs(found - 0.574) < 0.03


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_where_nothing_is_ever_accepted_the_step_size_is_nan(value):
    """From NaN, and from where no proposal has an energy."""
    tuned = tune(jax.random.key(1), jnp.full((500, 3), value), 0.1, 0.574)
    assert np.isnan(tuned.step_size)
    assert not (tuned.acceptance_rate > 0).any()
