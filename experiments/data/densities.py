r"""Two-dimensional densities to draw from, with their exact log-densities.

All but some 1e-5 of each lies in the square [-HALF_WIDTH, HALF_WIDTH]^2. They are the toys of
Grathwohl et al. (2019), FFJORD, except that "pinwheel" is twisted by the radius, which leaves areas
as they are, and that "cosine", a curve without width there, has normal noise of 0.2.

A curve with noise is an integral of the noise's density over the curve's parameter: a mixture of
as many components as Gauss-Legendre quadrature needs to be right to the rounding. The walls of the
checkerboard are at even numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import i0e, ndtr

from experiments.data import toy_points

HALF_WIDTH = 4.5
NODES, WEIGHTS = np.polynomial.legendre.leggauss(256)
NODES, LOG_WEIGHTS = (NODES + 1) / 2, np.log(WEIGHTS / 2)  # of an integral over [0, 1]


class Density(NamedTuple):
    """How to draw, (num, seed) -> (num, 2) float32, and (points (n, 2)) -> log density (n,)."""

    sample: Callable[[int, int], np.ndarray]
    log_density: Callable[[np.ndarray], np.ndarray]
    centres: np.ndarray = np.zeros((0, 2))  # of the modes, where these are separate


def _in_blocks(log_density: Callable[[np.ndarray], np.ndarray]):
    """Return it for many points: what they need at once stays small."""

    def blocks(points: np.ndarray) -> np.ndarray:
        points = np.asarray(points, np.float64)
        return np.concatenate(
            [log_density(x) for x in np.array_split(points, 1 + len(points) // 4096)]
        )

    return blocks


def _log_sum(exponents: np.ndarray) -> np.ndarray:
    """Return the log of the sum of the exponentials over the last axis, in half of SciPy's time."""
    highest = exponents.max(1)
    return highest + np.log(np.exp(exponents - highest[:, None]).sum(1))


def _normal(
    points: np.ndarray, centres: np.ndarray, scale: float, log_weights: np.ndarray | None = None
) -> np.ndarray:
    """Return the log-density (n,) of normal noise around weighted (k,) centres (k, 2)."""
    if log_weights is None:
        log_weights = np.full(len(centres), -np.log(len(centres)))
    square = (points**2).sum(1)[:, None] + (centres**2).sum(1) - 2 * points @ centres.T
    exponents = log_weights - square / (2 * scale**2)
    return _log_sum(exponents) - np.log(2 * np.pi * scale**2)


def _noisy_curve(curves: Callable[[np.ndarray], list[np.ndarray]], scale: float) -> Density:
    """Return the density of curves, equally likely: t (k,) in [0, 1] -> points (k, 2) of each."""
    centres = np.concatenate(curves(NODES))
    count = len(centres) // len(NODES)
    log_weights = np.tile(LOG_WEIGHTS - np.log(count), count)

    def sample(num: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        every = np.stack(curves(rng.random(num)))
        points = every[rng.integers(count, size=num), np.arange(num)]
        return (points + scale * rng.standard_normal((num, 2))).astype(np.float32)

    return Density(sample, _in_blocks(lambda x: _normal(x, centres, scale, log_weights)))


def gaussians(centres: np.ndarray, scale: float) -> Density:
    """Return the mixture of equally likely round Gaussians at centres (k, 2)."""

    def sample(num: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        which = rng.integers(len(centres), size=num)
        points = centres[which] + scale * rng.standard_normal((num, 2))
        return points.astype(np.float32)

    return Density(sample, lambda points: _normal(points, centres, scale), centres)


def _eight_gaussians() -> Density:
    """Return eight Gaussians on a circle."""
    angle = np.arange(8) * np.pi / 4
    centres = np.sqrt(8) * np.stack([np.cos(angle), np.sin(angle)], 1)
    return gaussians(centres, 0.5 / np.sqrt(2))


def _spirals(points: np.ndarray) -> np.ndarray:
    """Return the log-density of ``toy_points.two_spirals``: noise that is uniform plus normal."""
    angle = 3 * np.pi * NODES  # of density proportional to it
    start = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], 1) / 3
    width, scale, weights = 1 / 6, 0.1, np.exp(LOG_WEIGHTS) * 2 * NODES

    def between(x: np.ndarray, start: np.ndarray) -> np.ndarray:
        # Phi(high) - Phi(low), from the tail where both are small: nothing cancels. Points of a
        # grid have few coordinates.
        values, which = np.unique(x, return_inverse=True)
        high = (values[:, None] - start) / scale
        low = high - width / scale
        upper = low + high > 0
        return (ndtr(np.where(upper, -low, high)) - ndtr(np.where(upper, -high, low)))[which]

    def arm(x: np.ndarray) -> np.ndarray:
        return between(x[:, 0], start[:, 0]) * between(x[:, 1], start[:, 1]) @ weights / width**2

    with np.errstate(divide="ignore"):  # 0 where it is less than the smallest number
        return np.log((arm(points) + arm(-points)) / 2)


def _checkerboard() -> Density:
    """Return the uniform density on eight squares of side 2."""

    def sample(num: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        column, row = rng.integers(4, size=num), 2 * rng.integers(2, size=num)
        corner = np.stack([column, row + column % 2], 1) - 2
        return (2 * (corner + rng.random((num, 2)))).astype(np.float32)

    def log_density(points: np.ndarray) -> np.ndarray:
        square = np.floor(points / 2)
        inside = ((square >= -2) & (square < 2)).all(1) & (square.sum(1) % 2 == 0)
        return np.where(inside, -np.log(32), -np.inf)

    return Density(sample, log_density)


def _pinwheel() -> Density:
    """Return five blades: stretched Gaussians, turned by an angle that grows with the radius."""
    angles = np.arange(5) * 2 * np.pi / 5

    def turned(points: np.ndarray, sign: int, start: np.ndarray) -> np.ndarray:
        angle = sign * (np.exp(np.linalg.norm(points, axis=-1) / 2) / 4 + start)
        x, y = points[..., 0], points[..., 1]
        return np.stack(
            [np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y], -1
        )

    mean, scale = np.array([2.0, 0.0]), np.array([0.6, 0.2])

    def sample(num: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        blade = angles[rng.integers(5, size=num)]
        straight = mean + scale * rng.standard_normal((num, 2))
        return turned(straight, 1, blade).astype(np.float32)

    def log_density(points: np.ndarray) -> np.ndarray:
        straight = turned(points[:, None], -1, angles)
        exponents = -0.5 * (((straight - mean) / scale) ** 2).sum(-1)
        return _log_sum(exponents) - np.log(5 * 2 * np.pi * scale.prod())

    return Density(sample, log_density)


def _rings() -> Density:
    """Return four concentric circles, with normal noise."""
    radii, scale = np.array([0.75, 1.5, 2.25, 3.0]), 0.08

    def sample(num: int, seed: int) -> np.ndarray:
        rng = np.random.default_rng(seed)
        angle, radius = 2 * np.pi * rng.random(num), radii[rng.integers(4, size=num)]
        points = radius * np.stack([np.cos(angle), np.sin(angle)])
        return (points.T + scale * rng.standard_normal((num, 2))).astype(np.float32)

    def log_density(points: np.ndarray) -> np.ndarray:
        distance = np.linalg.norm(points, axis=1)[:, None]
        bessel = np.log(i0e(distance * radii / scale**2))  # e^-z I_0(z): the rest of the square
        exponents = bessel - (distance - radii) ** 2 / (2 * scale**2)
        return _log_sum(exponents) - np.log(len(radii) * 2 * np.pi * scale**2)

    return Density(sample, log_density)


def _moons(t: np.ndarray) -> list[np.ndarray]:
    x, y = np.cos(np.pi * t), np.sin(np.pi * t)
    return [2 * np.stack([x - 0.5, y - 0.1], 1), 2 * np.stack([0.5 - x, 0.4 - y], 1)]


def _swissroll(t: np.ndarray) -> list[np.ndarray]:
    angle = 1.5 * np.pi * (1 + 2 * t)
    return [angle[:, None] / 5 * np.stack([np.cos(angle), np.sin(angle)], 1)]


def _cosine(t: np.ndarray) -> list[np.ndarray]:
    x = 5 * t - 2.5
    return [np.stack([x, 2.5 * np.sin(x)], 1)]


DENSITIES = {
    "8gaussians": _eight_gaussians(),
    "2spirals": Density(toy_points.two_spirals, _in_blocks(_spirals)),
    "checkerboard": _checkerboard(),
    "pinwheel": _pinwheel(),
    "rings": _rings(),
    "moons": _noisy_curve(_moons, 0.2),
    "swissroll": _noisy_curve(_swissroll, 0.2),
    "cosine": _noisy_curve(_cosine, 0.2),
}
