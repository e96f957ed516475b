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


def beta(t: Array | float) -> Array:
    """Return the inverse temperature of the classes at the time t in [0, 1] of the flow.

        P(y | z_t) = softmax_y(-beta(t) F(x_t, y)),  beta(t) = min(1, SCALE t / (1 - t))

    On the way z_t = (1 - t) z_0 + t z_1 from noise z_0 to an image z_1 of class y, the velocity is
    -grad V(z_t, y) = (z_t + (1 - t) grad log p(z_t | y)) / t. The velocities of two classes
    therefore differ by (1 - t) / t of the gradient of the log-ratio of P(y | z_t) between them,
    and with V = SCALE F, the energies that the flow needs are those of P(y | z_t) at beta(t).
    """
    return SCALE * t / jnp.maximum(1 - t, SCALE * t)


def on_the_way(
    generator: np.random.Generator, x: np.ndarray, y: np.ndarray
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return images between noise and data, each with its time ``t``, and classes.

    In one of eight images, the pixels after a random one are noise alone, as at the time 0. The
    energies then also classify images of which only the upper part is known.
    """
    t = generator.uniform(size=(len(x), 1)).astype(np.float32)
    noise = 0.5 + NOISE * generator.standard_normal(x.shape, np.float32)
    known = np.arange(x.shape[1]) < x.shape[1] * generator.uniform(0, 8, (len(x), 1))
    return {"x": np.where(known, (1 - t) * noise + t * x, noise), "t": t[:, 0]}, y


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
