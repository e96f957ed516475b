"""Normal numbers for many chains in one flat draw, from both threefry words."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _platform, _threefry
from ebm_jax.types import Array, Key

# The high word of the counters here. fold_in(key, t), split(key) and jax.random have a high word of
# 0, so these numbers are distinct from all keys and draws derived from the key.
_DOMAIN = np.uint32(0x6E6F6973)


def standard_normal(key: Key, leaves: list) -> list:
    """Draw N(0, I) in the shapes of the leaves, in one flat draw for all chains.

    The numbers of a chain depend on the key, its index and its size, but not on the number of
    chains or of devices. Types narrower than float32 are drawn in float32, since JAX's bfloat16
    normal has only 128 values.
    """
    chains = leaves[0].shape[0]
    sizes = [leaf.size // chains for leaf in leaves]
    dtype = jnp.promote_types(jnp.result_type(*leaves), jnp.float32)
    half = -(-sum(sizes) // 2)  # counters per chain: each gives two words of 32 bits
    if dtype == jnp.float32 and _threefry.is_threefry(key) and chains * half < 2**32:
        words = _threefry.words(key, jax.lax.iota(jnp.uint32, chains * half), _DOMAIN)
        # Without this barrier the rounds of the generator would run for each of the words.
        normal = _kept_apart([_normal(word) for word in jax.lax.optimization_barrier(words)])
        flat = jnp.concatenate([part.reshape(chains, half) for part in normal], axis=1)
    else:
        flat = _kept_apart(jax.random.normal(key, (chains * sum(sizes),), dtype))
        flat = flat.reshape(chains, sum(sizes))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = [flat[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]


def _kept_apart(drawn: Any) -> Any:
    """Keep a draw out of the fusion of the update, whose last axis may not vectorise.

    On a GPU both are fused, which avoids writing the numbers to memory.
    """
    return drawn if _platform.platform() == "gpu" else jax.lax.optimization_barrier(drawn)


def _normal(word: Array) -> Array:
    """Return the normal quantile of 23 bits of each word, as jax.random.normal does."""
    one_to_two = (word >> 9) | np.float32(1).view(np.uint32)
    unit = jax.lax.bitcast_convert_type(one_to_two, jnp.float32) - 1
    low = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(low, unit * (np.float32(1) - low) + low)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)
