"""What cannot be sampled is refused, with a sentence that says what was given."""

import functools

import jax
import jax.numpy as jnp
import pytest

from ebm_jax.samplers import adaptation, chains, langevin, tempering, underdamped


def energy(x):
    return jnp.sum(x**2) / 2


def gradient(key, x):
    del key
    return x


SAMPLERS = {
    "ula": functools.partial(langevin.ula, energy),
    "mala": functools.partial(langevin.mala, energy),
    "sgld": functools.partial(langevin.sgld, gradient),
    "baoab": functools.partial(underdamped.baoab, energy, friction=1.0),
}


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, r"step_size must be finite and > 0, got 0\.0"),
        ({"step_size": -1.0}, "step_size must be finite and > 0"),
        ({"step_size": float("nan")}, "step_size must be finite and > 0, got nan"),
        ({"step_size": 0.1, "beta": -1.0}, r"beta must be > 0 .* got -1\.0"),
        ({"step_size": 0.1, "box": (1.0, 0.0)}, "box must be .* low < high"),
        ({"step_size": 0.1, "max_gradient_norm": 0.0}, "max_gradient_norm must be"),
    ],
)
def test_options(make, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
def test_positions_and_energies(make):
    sampler = make(step_size=0.1)
    for position in (jnp.zeros(()), {"a": jnp.zeros((2, 1)), "b": jnp.zeros((3, 1))}):
        with pytest.raises(ValueError, match="chains on the leading axis"):
            sampler.init(position)
    with pytest.raises(TypeError, match="floating-point leaf"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((3, 2), jnp.int32)))


@pytest.mark.parametrize("make", [langevin.ula, functools.partial(underdamped.baoab, friction=1.0)])
def test_an_energy_that_is_no_scalar(make):
    sampler = make(lambda x: x**2, step_size=0.1)
    with pytest.raises(ValueError, match=r"return a scalar \(\).*returned the shape \(2,\)"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))


@pytest.mark.parametrize("name", ["ula", "mala", "sgld"])
@pytest.mark.parametrize("step_size", [jnp.full(3, 0.1), lambda step: jnp.full((5, 2), 0.1)])
def test_a_step_size_or_schedule_of_the_wrong_length(name, step_size):
    sampler = SAMPLERS[name](step_size=step_size)
    with pytest.raises(ValueError, match=r"step_size must be a scalar or broadcast .*\(2,\)"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))


def test_underdamped():
    with pytest.raises(ValueError, match="friction must be >= 0"):
        underdamped.baoab(energy, step_size=0.1, friction=-1.0)
    with pytest.raises(ValueError, match="mass must be finite and > 0"):
        underdamped.baoab(energy, step_size=0.1, friction=1.0, mass=0.0)
    sampler = underdamped.baoab(energy, step_size=jnp.full(2, 0.1), friction=1.0)
    with pytest.raises(ValueError, match="give mass instead"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))


def test_sgld_gradients_of_another_shape():
    sampler = langevin.sgld(lambda key, x: jnp.sum(x), step_size=0.1)
    with pytest.raises(ValueError, match="shaped like one configuration"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, [0.1, 0.2], [1.0]), r"same length .*\(2,\), \(1,\)"),
        ((10, []), "same length"),
        ((10,), "same length"),
        ((0, [0.1]), "steps_each must be at least 1"),
        ((10, [0.1, -0.2]), "levels must be finite and > 0"),
        ((10, [0.1, float("nan")]), "levels must be finite and > 0"),
    ],
)
def test_levels(arguments, message):
    with pytest.raises(ValueError, match=message):
        langevin.levels(*arguments)


@pytest.mark.parametrize(
    ("betas", "message"),
    [
        ([1.0, 0.5], "betas must increase"),
        ([0.5, 0.5], "betas must increase"),
        ([0.0, 1.0], "betas must be finite and > 0"),
        ([0.1, float("inf")], "betas must be finite and > 0"),
        ([1.0], "at least 2"),
    ],
)
def test_ladders(betas, message):
    make = functools.partial(langevin.mala, step_size=0.1)
    with pytest.raises(ValueError, match=message):
        tempering.replica_exchange(energy, make, betas)
    with pytest.raises(ValueError, match=message):
        tempering.adapt_ladder(betas, [0.5])


def test_tempering_and_adaptation():
    make = functools.partial(langevin.mala, step_size=0.1)
    with pytest.raises(ValueError, match="steps_per_swap must be at least 1"):
        tempering.replica_exchange(energy, make, [0.5, 1.0], steps_per_swap=0)
    with pytest.raises(ValueError, match=r"one value a pair, \(1,\), got \(2,\)"):
        tempering.adapt_ladder([0.5, 1.0], [0.5, 0.5])
    with pytest.raises(ValueError, match=r"acceptance must be in \[0, 1\]"):
        tempering.adapt_ladder([0.5, 1.0], [1.5])
    tune = functools.partial(
        adaptation.step_size, jax.random.key(0), functools.partial(langevin.mala, energy)
    )
    x = jnp.zeros((3, 2))
    for given, message in (
        ({"num_steps": 10, "initial": 0.0}, "initial must be finite and > 0"),
        ({"num_steps": 0, "initial": 1.0}, "num_steps must be at least 1"),
        ({"num_steps": 10, "initial": 1.0, "target": 1.0}, r"target must be in \(0, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            tune(x, **given)


def test_run():
    sampler = langevin.ula(energy, step_size=0.1)
    for steps, thin in ((0, 1), (10, 3), (10, 0)):
        with pytest.raises(ValueError, match="num_steps must be a positive multiple of thin"):
            chains.run(jax.random.key(0), sampler, sampler.init(jnp.zeros(3)), steps, thin=thin)
