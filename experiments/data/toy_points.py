"""Toy points in the plane: two spirals, and the ellipses of the homework."""

import numpy as np


def two_spirals(num: int, seed: int) -> np.ndarray:
    """Return points (num, 2) on two interleaved spirals around the origin, within about 4 of it.

    The toy density "2spirals" of Grathwohl et al. (2019), FFJORD.
    """
    rng = np.random.default_rng(seed)
    angle = np.sqrt(rng.random(num)) * 3 * np.pi
    arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], 1) + rng.random((num, 2)) / 2
    side = np.where(np.arange(num) % 2, 1, -1)[:, None]
    return (side * arm / 3 + 0.1 * rng.standard_normal((num, 2))).astype(np.float32)


def ellipse(x, angle) -> np.ndarray:
    """Return the points (..., 2) of the homework's ellipse that belongs to x, in [0, 1]."""
    a, b = 1.5, 2.0
    x, angle = np.broadcast_arrays(x, angle)
    radii = np.stack([a * x + b * (1 - x), b * x + a * (1 - x)]) * np.exp(2 * x)
    return np.moveaxis(radii * np.stack([np.cos(angle), np.sin(angle)]), 0, -1).astype(np.float32)


def ellipses(num: int, seed: int, noise: float = 1 / 20) -> tuple[np.ndarray, np.ndarray]:
    """Return x (num,), uniform in [0, 1], and y (num, 2): a random point of its ellipse, noisy."""
    rng = np.random.default_rng(seed)
    x, angle = rng.random(num).astype(np.float32), rng.uniform(0, 2 * np.pi, num)
    return x, ellipse(x, angle) + noise * rng.standard_normal((num, 2)).astype(np.float32)
