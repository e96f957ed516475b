"""Targets of continuous variables, with exact moments of some functions and the exact log Z."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import distributions, energies
from ebm_jax.types import Array, Energy, Key
from scripts.benchmark_samplers import network


class Target(NamedTuple):
    """A distribution exp(-energy) / Z whose moments are known.

    Attributes:
        energy: x -> ().
        functions: x -> (m,), the functions whose means are estimated.
        mean: their exact means, (m,), float64.
        variance: their exact variances, (m,), float64.
        dimension: number of variables.
        log_z: exact log Z.
        exact: (key, num) -> independent samples.
        length: smallest length scale of the target, the unit of the step sizes; discrete: 1.
        start_sigma: standard deviation of the normal distribution where chains start and which is
            the base of annealing; discrete: unused, since chains start uniformly.
        gibbs: for discrete targets, the Gibbs sampler at an inverse temperature.
        values: values of a discrete variable.
        path: for an RBM, the path and the sampler of ``partition.paths.rbm``.
    """

    energy: Energy
    functions: Callable[[Array], Array]
    mean: np.ndarray
    variance: np.ndarray
    dimension: int
    log_z: float
    exact: Callable[[Key, int], Array]
    length: float = 1.0
    start_sigma: float = 1.0
    gibbs: Callable | None = None
    values: tuple[int, ...] = ()
    path: tuple | None = None


def powers(x: Array) -> Array:
    """Return the coordinates and their squares."""
    return jnp.concatenate([x, x**2])


def rotation(dimension: int, seed: int) -> np.ndarray:
    """Return a random rotation (with either sign of the determinant), the same for a seed."""
    normal = np.random.default_rng(seed).standard_normal((dimension, dimension))
    return np.linalg.qr(normal)[0]


def normal_powers(mean: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means and variances of x and x^2 for normal x."""
    means = np.concatenate([mean, mean**2 + variance])
    return means, np.concatenate([variance, 2 * variance**2 + 4 * mean**2 * variance])


def gaussian() -> Target:
    """Return a Gaussian in 10 dimensions, with rotated axes and standard deviations 0.1 to 1."""
    d, turn = 10, rotation(10, 0)
    variances = np.geomspace(0.1, 1.0, d) ** 2
    covariance = turn @ np.diag(variances) @ turn.T
    params = energies.Gaussian(
        jnp.zeros(d), jnp.asarray(turn @ np.diag(1 / variances) @ turn.T, jnp.float32)
    )
    exact = distributions.gaussian(jnp.zeros(d), covariance=jnp.asarray(covariance, jnp.float32))
    log_z = 0.5 * (d * np.log(2 * np.pi) + np.sum(np.log(variances)))
    return Target(
        functools.partial(energies.gaussian, params),
        powers,
        *normal_powers(np.zeros(d), np.diag(covariance)),
        d,
        float(log_z),
        exact.sample,
        length=0.1,
        start_sigma=1.5,
    )


def funnel() -> Target:
    """Return Neal's funnel in 10 dimensions with sigma 3."""
    d, sigma = 10, 3.0

    def functions(x: Array) -> Array:
        return jnp.stack([x[0], x[0] ** 2, (x[0] < -sigma).astype(x.dtype)])

    def exact(key: Key, num: int) -> Array:
        z = jax.random.normal(key, (num, d))
        v = sigma * z[:, :1]
        return jnp.concatenate([v, jnp.exp(v / 2) * z[:, 1:]], axis=1)

    tail = 0.15865525393145707  # P(z < -1) of a normal z
    return Target(
        functools.partial(energies.funnel, energies.Funnel(sigma)),
        functions,
        np.array([0.0, sigma**2, tail]),
        np.array([sigma**2, 2 * sigma**4, tail * (1 - tail)]),
        d,
        float(np.log(sigma) + d / 2 * np.log(2 * np.pi)),
        exact,
        length=0.5,
        start_sigma=2.0,
    )


def banana() -> Target:
    """Return Rosenbrock's valley in the plane with a = 1 and b = 10."""
    a, b = 1.0, 10.0
    # x ~ N(a, 1/2) and y = x^2 + N(0, 1/(2 b)); moments of x up to the eighth.
    moment = [1.0, a]
    for k in range(2, 9):
        moment.append(a * moment[-1] + (k - 1) / 2 * moment[-2])
    noise = 1 / (2 * b)
    fourth = moment[8] + 6 * moment[4] * noise + 3 * noise**2
    first = np.array([moment[1], moment[2], moment[2], moment[4] + noise])
    second = np.array([moment[2], moment[4] + noise, moment[4], fourth])

    def exact(key: Key, num: int) -> Array:
        z = jax.random.normal(key, (num, 2))
        x = a + z[:, 0] * np.sqrt(0.5)
        return jnp.stack([x, x**2 + z[:, 1] * np.sqrt(noise)], axis=1)

    return Target(
        functools.partial(energies.rosenbrock, energies.Rosenbrock(a, b)),
        powers,
        first,
        second - first**2,
        2,
        float(np.log(np.pi / np.sqrt(b))),
        exact,
        length=0.15,
        start_sigma=2.0,
    )


def mixture(means: np.ndarray, weights: np.ndarray, sigma: float, start_sigma: float) -> Target:
    """Return a mixture of round Gaussians; log Z = 0."""
    d = means.shape[1]
    parts = [normal_powers(mean, np.full(d, sigma**2)) for mean in means]
    first = sum(w * m for w, (m, _) in zip(weights, parts, strict=True))
    second = sum(w * (v + m**2) for w, (m, v) in zip(weights, parts, strict=True))
    centres = jnp.asarray(means, jnp.float32)
    log_weights = jnp.asarray(np.log(weights), jnp.float32)
    params = energies.GaussianMixture(centres, log_weights, jnp.float32(sigma))

    def exact(key: Key, num: int) -> Array:
        which_key, noise_key = jax.random.split(key)
        which = jax.random.categorical(which_key, log_weights, shape=(num,))
        return centres[which] + sigma * jax.random.normal(noise_key, (num, d))

    return Target(
        functools.partial(energies.gaussian_mixture, params),
        powers,
        np.asarray(first),
        np.asarray(second - first**2),
        d,
        0.0,
        exact,
        length=sigma,
        start_sigma=start_sigma,
    )


def mixture_2d() -> Target:
    """Return eight Gaussians of unequal weights on a circle."""
    angles = np.arange(8) * np.pi / 4
    means = 3 * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return mixture(
        means,
        np.arange(1, 9) / 36,
        0.4,
        3.5,
    )


def mixture_of_four(dimension: int, distance: float, start_sigma: float) -> Target:
    """Return four Gaussians with unit variance on randomly rotated axes."""
    means = distance * rotation(dimension, 1)[:4]
    return mixture(
        means,
        np.array([0.4, 0.3, 0.2, 0.1]),
        1.0,
        start_sigma,
    )


def trained_network() -> Target:
    """Return the network of ``network.train``, with moments by quadrature on a grid."""
    params = network.train()
    energy = functools.partial(network.energy, params)
    points, log_z, probability = network.quadrature(params, 1000)
    values = np.concatenate([points, points**2], axis=1)
    mean = probability @ values
    cells = jnp.asarray(points, jnp.float32)
    cumulative = jnp.asarray(np.cumsum(probability), jnp.float32)
    side = 2 * network.HALF_WIDTH / 1000

    def exact(key: Key, num: int) -> Array:
        cell_key, place_key = jax.random.split(key)
        drawn = jax.random.uniform(cell_key, (num,))
        chosen = jnp.searchsorted(cumulative, drawn, side="right")
        offset = jax.random.uniform(place_key, (num, 2), minval=-0.5, maxval=0.5)
        return cells[jnp.minimum(chosen, len(cells) - 1)] + side * offset

    return Target(
        energy,
        powers,
        mean,
        probability @ (values - mean) ** 2,
        2,
        log_z,
        exact,
        length=0.2,
        start_sigma=2.5,
    )


CONTINUOUS: dict[str, Callable[[], Target]] = {
    "gaussian": gaussian,
    "funnel": funnel,
    "banana": banana,
    "mixture_2d": mixture_2d,
    "mixture_8d": functools.partial(mixture_of_four, 8, 4.0, 2.5),
    "mixture_32d": functools.partial(mixture_of_four, 32, 5.0, 2.0),
    "network": trained_network,
}
