"""The flow from noise to images, whose potential is a part of the energy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax.types import Array, Energy, Key

NOISE = 0.5  # standard deviation of the grey levels that the flow starts from, about 1/2
SCALE = 0.3  # the flow's potential is so much of the energy
STEPS = 100  # of descent, from noise to images
FRAMES = 20  # of them that a film shows


def potential(energy: Callable) -> Callable:
    """Return the potential of the flow from N(0, I) to images whose energy is (x, beside) -> ().

    V(z, beside) = SCALE F(1/2 + NOISE z, beside)
    """
    return lambda z, beside: SCALE * energy(0.5 + NOISE * z, beside)


def energy(joint: Energy) -> Energy:
    """Return the potential of the flow, of dense parameters and {"z", "y"}.

    ``joint(params, {"x", "y"}) -> ()`` is the energy of an image and its class.
    """

    def of_flow(params, configuration):
        def of_image(x, y):
            return joint(params, {"x": x, "y": y})

        return potential(of_image)(configuration["z"], configuration["y"])

    return of_flow


def batch(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return images as the flow sees them."""
    return {"z": (x - 0.5) / NOISE, "y": y}


def carry(
    key: Key,
    energy: Callable,
    known: Array,
    hidden: Array | np.ndarray,
    beside: Array | np.ndarray,
) -> tuple[Array, Array]:
    """Carry the hidden pixels from noise to images, one unit of time down the potential.

        z <- z - h grad V(z),  x = 1/2 + NOISE z

    Known pixels go straight from noise to what they are.

    Args:
        key: of the noise.
        energy: (x, its condition) -> ().
        known: images (n, pixels).
        hidden: (pixels,), true where a pixel is to be drawn.
        beside: (n, ...), the condition of each image, for example its class.

    Returns:
        images (n, pixels), and those on the way (FRAMES + 1, n, pixels), noise first.
    """
    noise, end = jax.random.normal(key, known.shape, known.dtype), (known - 0.5) / NOISE
    pull = jax.vmap(jax.grad(potential(energy)))

    def step(number, z):
        t = (number + 1) / STEPS
        straight = (1 - t) * noise + t * end
        return jnp.where(hidden, z - pull(z, beside) / STEPS, straight)

    def several(z, frame):
        each = STEPS // FRAMES
        z = jax.lax.fori_loop(frame * each, (frame + 1) * each, step, z)
        return z, 0.5 + NOISE * z

    z, frames = jax.lax.scan(several, noise, jnp.arange(FRAMES))
    return 0.5 + NOISE * z, jnp.concatenate([0.5 + NOISE * noise[None], frames])
