"""Random decisions with rare outcomes: acceptance, events, categories.

``jax.random.uniform`` has 2^23 values in float32 and returns exactly 0 once in 2^23 draws, so
``uniform(key) < p`` is True at least that often for any smaller p. Each decision here takes 64
random bits: an outcome has its true probability, up to the rounding of the energies, down to 2^-64,
and an impossible one never occurs.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _threefry
from ebm_jax.types import Array, Key

_DOMAIN = np.uint32(0x72617265)  # keeps these words distinct from keys and draws of JAX


def words(key: Key, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return two arrays of 32 random bits, functions of the key and the array index."""
    size = math.prod(shape)
    if _threefry.is_threefry(key) and size < 2**32:
        return _threefry.words(key, jax.lax.iota(jnp.uint32, size).reshape(shape), _DOMAIN)
    drawn = jax.random.bits(key, (*shape, 2), jnp.uint32)
    return drawn[..., 0], drawn[..., 1]


def exponential(key: Key, shape: tuple[int, ...], dtype) -> Array:
    """Return -log u for u = (k + 1/2) / 2^64, k uniform, accurate in both tails."""
    first, second = words(key, shape)
    upper = first >= np.uint32(2**31)
    turned = jnp.where(upper, np.uint32(2**32 - 1), np.uint32(0))
    high, low = ((word ^ turned).astype(dtype) for word in (first, second))
    end = (high * 2.0**32 + low + 0.5) * 2.0**-64  # distance of u to the nearer of 0 and 1
    return -jnp.where(upper, jnp.log1p(-end), jnp.log(end))


def bernoulli(key: Key, log_probability: Array, shape: tuple[int, ...] | None = None) -> Array:
    """Return whether events happen, given the logarithms of their probabilities.

    An event with logarithm >= 0 always happens, one with -infinity or NaN never.
    """
    log_p = log_probability.astype(jnp.promote_types(log_probability.dtype, jnp.float32))
    return exponential(key, log_p.shape if shape is None else shape, log_p.dtype) > -log_p


def metropolis(key: Key, log_ratio: Array) -> tuple[Array, Array]:
    """Return which proposals are accepted, and min(1, exp(log_ratio)): 0 for NaN."""
    log_ratio = jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio)
    # Without the barrier XLA would run the generator again for each array that this selects.
    accepted = jax.lax.optimization_barrier(bernoulli(key, log_ratio))
    return accepted, jnp.exp(jnp.minimum(log_ratio, 0.0))


def categorical(key: Key, logits: Array, shape: tuple[int, ...] = ()) -> Array:
    """Return indices drawn from the logits on the last axis, by the Gumbel-max trick.

    Minus the log of an exponential number is a Gumbel number. ``shape`` is the shape of the draws
    from each row.
    """
    dtype = jnp.promote_types(logits.dtype, jnp.float32)
    gumbel = -jnp.log(exponential(key, (*shape, *logits.shape), dtype))
    return jnp.argmax(logits + gumbel, axis=-1)
