"""The work that is measured: ours, blackjax's, and the floors under both."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp

from ebm_jax import samplers
from ebm_jax._noise import standard_normal
from ebm_jax.types import Energy, Sampler

STEP_SIZE = 0.01


def eight_gaussians(x: jax.Array) -> jax.Array:
    """Return the energy of eight unit Gaussians on a circle of radius 4, as a user writes it."""
    angles = jnp.arange(8) * (2 * jnp.pi / 8)
    means = 4 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=-1)
    return -logsumexp(-jnp.sum((x - means) ** 2, axis=-1) / 2)


def quadratic(x: jax.Array) -> jax.Array:
    """Return |x|^2 / 2."""
    return jnp.sum(x**2) / 2


def ours(make: Callable[[Energy], Sampler], energy: Callable, num_steps: int) -> Callable:
    """Return (params, key, x) -> the last positions of our sampler; energy is (params, x)."""

    def run(params, key, x):
        sampler = make(lambda x: energy(params, x))
        return samplers.run(key, sampler, sampler.init(x), num_steps)[0].position

    return run


def loop(step: Callable, num_steps: int) -> Callable:
    """Return (params, key, x) -> x after repeated ``step(params, key, x)``."""

    def run(params, key, x):
        def one(x, t):
            return step(params, jax.random.fold_in(key, t), x), None

        return jax.lax.scan(one, x, jnp.arange(num_steps))[0]

    return run


def gradient_step(energy: Callable) -> Callable:
    """Return a gradient-descent step, the least work of a sampler that evaluates the energy."""

    def step(params, key, x):
        del key
        return x - STEP_SIZE * jax.vmap(jax.grad(energy, argnums=1), (None, 0))(params, x)

    return step


def noise_step(params: Any, key: jax.Array, x: jax.Array) -> jax.Array:
    """Return x + noise, with our noise, the fastest there is here: a floor hard to reach."""
    del params
    return x + standard_normal(key, [x])[0]


def matrix_step(weights: list, key: jax.Array, x: jax.Array) -> jax.Array:
    """Make the matrix products of one gradient of an MLP with these weights, and no more."""
    del key
    hidden = x
    for w in weights:
        hidden = hidden @ w
    for w in reversed(weights):
        hidden = hidden @ w.T
    return hidden


def blackjax_sgld(energy: Callable, *, whole_batch: bool) -> Callable:
    """Return a step of blackjax's SGLD: vmapped, a key per chain, or on the batch as one x."""
    import blackjax

    def gradient(params):
        return lambda x, _: -jax.grad(energy, argnums=1)(params, x)

    def step(params, key, x):
        if whole_batch:
            kernel = blackjax.sgld(lambda x, _: jax.vmap(gradient(params), (0, None))(x, None))
            return kernel.step(key, x, None, STEP_SIZE)
        kernel = blackjax.sgld(gradient(params))
        keys = jax.random.split(key, x.shape[0])
        return jax.vmap(lambda key, x: kernel.step(key, x, None, STEP_SIZE))(keys, x)

    return step


def blackjax_mala(energy: Callable, num_steps: int) -> Callable:
    """Return (params, key, x) -> the last positions of blackjax's MALA, vmapped."""
    import blackjax

    def run(params, key, x):
        kernel = blackjax.mala(lambda x: -energy(params, x), STEP_SIZE)

        def one(state, t):
            keys = jax.random.split(jax.random.fold_in(key, t), x.shape[0])
            return jax.vmap(kernel.step)(keys, state)[0], None

        return jax.lax.scan(one, jax.vmap(kernel.init)(x), jnp.arange(num_steps))[0].position

    return run
