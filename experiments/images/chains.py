"""The chains of ``images``: the classes they carry, where they start, how they move."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ebm_jax import samplers
from ebm_jax.types import Energy, MakeSampler, Sampler
from experiments.run import devices

FRICTION = 3.0  # of chains with velocities, per unit of their time


def proportions(train_y: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` classes in the proportions of the data, in order.

    Were those of chains others, F(., y) would drift: no chain ever leaves its class.
    """
    quantiles = (np.arange(count) + 0.5) / count * len(train_y)
    return np.sort(train_y)[quantiles.astype(int)]


def from_noise(labels: np.ndarray, pixels: int, mesh: Mesh | None) -> Callable:
    """Return where chains of these classes start: uniform noise."""

    def initial(params, key, indices):
        del params
        x = jax.random.uniform(key, (len(indices), pixels))
        return devices.spread(mesh, {"x": x, "y": jnp.asarray(labels)[indices]})

    return initial


def from_images(labels: np.ndarray, x: np.ndarray, mesh: Mesh | None) -> Callable:
    """Return where chains of these classes start: one image per chain."""

    def initial(params, key, indices):
        del params, key
        start = {"x": jnp.asarray(x)[indices], "y": jnp.asarray(labels)[indices]}
        return devices.spread(mesh, start)

    return initial


def sampler_named(name: str, step_size: float) -> MakeSampler:
    """Return the chains of a name: "mala", exact, or "baoab", biased, which have velocities.

    Those get further in as many steps. The time of one is the root of 1.25 ``step_size``: MALA
    refuses where too long a step leads, they would diverge.
    """
    if name == "baoab":
        time = math.sqrt(1.25 * step_size)
        return functools.partial(samplers.baoab, step_size=time, friction=FRICTION)

    def mala(energy: Energy, beta: float | Callable[[jax.Array], jax.Array] = 1.0) -> Sampler:
        # While beta rises the steps do: the noise of hot chains is that of cold ones.
        step: Any = (lambda number: step_size * beta(number)) if callable(beta) else step_size
        return samplers.mala(energy, step_size=step, beta=beta)

    return mala
