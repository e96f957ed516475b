"""Invalid arguments of samplers are rejected, with an error that states the value."""

import functools

import jax
import jax.numpy as jnp
import pytest

from ebm_jax import samplers


def energy(x):
    return jnp.sum(x**2) / 2


def gradient(key, x):
    del key
    return x


SAMPLERS = {
    "ula": functools.partial(samplers.ula, energy),
    "mala": functools.partial(samplers.mala, energy),
    "sgld": functools.partial(samplers.sgld, gradient),
    "baoab": functools.partial(samplers.baoab, energy, friction=1.0),
}


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": 0.0}, r"step_size must be finite and > 0, got 0\.0"),
        ({"step_size": -1.0}, "step_size must be finite and > 0"),
        ({"step_size": float("nan")}, "step_size must be finite and > 0, got nan"),
        ({"step_size": 0.1, "beta": -1.0}, r"beta must be > 0 .* got -1\.0"),
        ({"step_size": 0.1, "bounds": (1.0, 0.0)}, "bounds must be .* low < high"),
        ({"step_size": 0.1, "max_gradient_norm": 0.0}, "max_gradient_norm must be"),
        ({"step_size": float("inf")}, "step_size must be finite and > 0"),
        ({"step_size": jnp.array([0.1, 0.0])}, "step_size must be finite and > 0"),
        ({"step_size": 0.1, "beta": 0.0}, "beta must be > 0"),
        ({"step_size": 0.1, "beta": float("nan")}, "beta must be > 0"),
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


@pytest.mark.parametrize("make", [samplers.ula, functools.partial(samplers.baoab, friction=1.0)])
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


@pytest.mark.parametrize("name", ["ula", "mala", "sgld"])
def test_noise_or_temperature(name):
    with pytest.raises(ValueError, match="noise_sigma must be >= 0 and finite, got -1"):
        SAMPLERS[name](step_size=0.1, noise_sigma=-1.0)
    with pytest.raises(ValueError, match="not both"):
        SAMPLERS[name](step_size=0.1, beta=1.0, noise_sigma=0.1)


def test_underdamped():
    with pytest.raises(ValueError, match="friction must be >= 0 and finite, got -1"):
        samplers.baoab(energy, step_size=0.1, friction=-1.0)
    with pytest.raises(ValueError, match="mass must be finite and > 0"):
        samplers.baoab(energy, step_size=0.1, friction=1.0, mass=0.0)
    sampler = samplers.baoab(energy, step_size=jnp.full(2, 0.1), friction=1.0)
    with pytest.raises(ValueError, match="give mass instead"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))


def test_sgld_gradients_of_another_shape():
    sampler = samplers.sgld(lambda key, x: jnp.sum(x), step_size=0.1)
    with pytest.raises(ValueError, match="shaped like one configuration"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))


@pytest.mark.parametrize("make", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"beta": jnp.ones((3, 1))},
            ValueError,
            r"beta must be one number, or one per chain \(3,\)",
        ),
        ({"beta": jnp.ones(2)}, ValueError, r"one per chain \(3,\), got the shape \(2,\)"),
        ({"beta": lambda t: jnp.ones((3, 1))}, ValueError, r"one per chain \(3,\)"),
        ({"max_gradient_norm": jnp.ones(3)}, ValueError, "max_gradient_norm must be one number"),
        ({"max_gradient_norm": lambda t: jnp.ones(3)}, ValueError, "max_gradient_norm must be one"),
        (
            {"bounds": (jnp.zeros((3, 1)), 1.0)},
            ValueError,
            "bounds must be a scalar or broadcast to one",
        ),
        (
            {"bounds": (0.0, lambda t: jnp.ones((3, 2)))},
            ValueError,
            "bounds must be a scalar or broadc",
        ),
        ({"bounds": (0.0,)}, ValueError, r"bounds must be a pair \(low, high\)"),
        ({"bounds": (0.0, 1.0, 2.0)}, ValueError, r"bounds must be a pair \(low, high\)"),
        ({"beta": "warm"}, TypeError, "beta must be an array of numbers, got 'warm'"),
        ({"step_size": 1j}, TypeError, "step_size must be an array of real numbers, got complex"),
        ({"step_size": lambda t: -1.0}, ValueError, r"step_size must be .*, got -1\.0 at step 0"),
        ({"beta": lambda t: 0.0 * t}, ValueError, "beta must be > 0 .* at step 0"),
    ],
)
def test_options_of_the_wrong_kind(make, options, error, message):
    def step():
        sampler = make(**{"step_size": 0.1} | options)
        return sampler.step(jax.random.key(0), sampler.init(jnp.zeros((3, 2))))

    with pytest.raises(error, match=message):
        step()
    with pytest.raises(error, match=message):
        jax.jit(step)()


@pytest.mark.parametrize("noise_sigma", [0.1, lambda t: jnp.full(2, 0.1)])
@pytest.mark.parametrize("step_size", [jnp.full(2, 0.1), lambda t: jnp.full(2, 0.1)])
def test_mala_has_one_beta_for_all_dimensions(step_size, noise_sigma):
    with pytest.raises(ValueError, match="one beta for all dimensions in MALA"):
        samplers.mala(energy, step_size=step_size, noise_sigma=noise_sigma)
