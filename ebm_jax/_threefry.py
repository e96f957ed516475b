"""Both words of threefry for every counter, with all twenty rounds in one loop."""

import jax
import numpy as np

from ebm_jax.types import Array, Key

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def is_threefry(key: Key) -> bool:
    """Return whether a key is a threefry key."""
    return str(jax.random.key_impl(key)) in ("threefry2x32", "fry")


def words(key: Key, counter: Array, domain: np.uint32) -> tuple[Array, Array]:
    """Return threefry2x32 of (domain, counter): two words of 32 bits per counter.

    ``jax.random.bits`` combines the two words into one, so it needs twice the calls. On CPU, JAX's
    primitive makes a pass over memory for every four rounds, and this function a single pass.
    Source: Salmon et al. (2011), Parallel random numbers: as easy as 1, 2, 3.
    """
    first, second = (jax.random.key_data(key)[..., i] for i in (0, 1))
    keys = first, second, first ^ second ^ np.uint32(0x1BD11BDA)
    x, y = jax.numpy.full_like(counter, domain) + keys[0], counter + keys[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            x = x + y
            y = x ^ ((y << np.uint32(rotation)) | (y >> np.uint32(32 - rotation)))
        x, y = x + keys[(i + 1) % 3], y + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x, y
