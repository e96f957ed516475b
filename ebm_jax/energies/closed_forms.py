r"""Energies in closed form, energy(params, x) -> ().

Each takes its parameters first, a NamedTuple, so that ``jax.grad`` reaches them and
``functools.partial(gaussian, params)`` is the energy of x alone that samplers take. Where the
partition function Z(beta) = int exp(-beta E(x)) dx is known, ``log_partition_...`` gives it, for
finite beta > 0 (one number, or an array of them): it diverges at 0.

Parameters of another kind raise TypeError, of another shape ValueError; so does, where it is known
when traced, a sigma or a width that is not finite and > 0.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.types import Array


class Gaussian(NamedTuple):
    """Mean (d,) and precision: (d, d) symmetric positive definite, or its diagonal (d,)."""

    mean: Array
    precision: Array


class GaussianMixture(NamedTuple):
    """Means (k, d), log-weights (k,), and one standard deviation () for all components."""

    means: Array
    log_weights: Array
    sigma: Array


class DoubleWell(NamedTuple):
    """Barrier height () between the wells at -1 and 1 of the first coordinate, and a tilt ()."""

    barrier: Array
    tilt: Array


class Rosenbrock(NamedTuple):
    """Where the valley's floor is lowest, a (), and how steep its walls are, b ()."""

    a: Array
    b: Array


class Funnel(NamedTuple):
    """Standard deviation () of the first coordinate, the log-variance of all others."""

    sigma: Array


class Ring(NamedTuple):
    """Radius () and width (), the standard deviation across the ring."""

    radius: Array
    width: Array


def _vector(name: str, x, size: int | None = None, least: int = 1) -> Array:
    x = _checks.floating("x", x)
    if x.ndim != 1 or x.shape[0] < least or (size is not None and x.shape[0] != size):
        wanted = f"(d,), d >= {least}," if size is None else f"({size},)"
        raise ValueError(
            f"{name} takes one configuration of shape {wanted}, got {x.shape}: vmap a batch."
        )
    return x


def _numbers(params, kind: type, *positive: str) -> None:
    """Reject parameters that are not of their kind, or one that is not one number (> 0)."""
    _checks.kind(params, kind)
    for name, value in params._asdict().items():
        _checks.scalar(name, _checks.array(name, value))
        if name in positive:
            _checks.positive(name, value)


def _gaussian(params: Gaussian) -> tuple[Array, Array]:
    _checks.kind(params, Gaussian)
    mean = _checks.array("mean", params.mean)
    precision = _checks.array("precision", params.precision)
    if mean.ndim != 1 or precision.shape not in (mean.shape, 2 * mean.shape):
        raise ValueError(
            "A Gaussian has a mean (d,) and a precision (d, d) or (d,), got "
            f"{mean.shape} and {precision.shape}."
        )
    return mean, precision


def _mixture(params: GaussianMixture) -> tuple[Array, Array, Array]:
    _checks.kind(params, GaussianMixture)
    means, weights = (_checks.array(n, getattr(params, n)) for n in ("means", "log_weights"))
    sigma = _checks.array("sigma", params.sigma)
    _checks.positive("sigma", params.sigma)
    if means.ndim != 2 or weights.shape != means.shape[:1] or sigma.ndim:
        raise ValueError(
            "A GaussianMixture has means (k, d), log_weights (k,) and one sigma (), got "
            f"{means.shape}, {weights.shape} and {sigma.shape}."
        )
    return means, weights, sigma


def gaussian(params: Gaussian, x) -> Array:
    r"""Return the quadratic energy of a Gaussian.

        E(x) = (x - mu)^T Lambda (x - mu) / 2

    Args:
        params: ``Gaussian(mean, precision)``.
        x: (d,).

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: an integer x. ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> float(gaussian(Gaussian(jnp.zeros(2), jnp.ones(2)), jnp.array([3.0, 4.0])))
    12.5
    """
    mean, precision = _gaussian(params)
    d = _vector("gaussian", x, mean.shape[0]) - mean
    return 0.5 * jnp.dot(d, precision @ d if precision.ndim == 2 else precision * d)


def log_partition_gaussian(params: Gaussian, *, beta=1.0) -> Array:
    r"""Return log Z = d/2 log(2 pi / beta) - 1/2 log det Lambda.

    NaN where the precision is not positive definite.

    >>> import jax.numpy as jnp
    >>> round(float(log_partition_gaussian(Gaussian(jnp.zeros(2), jnp.ones(2)))), 4)  # log 2 pi
    1.8379
    """
    _checks.positive("beta", beta)
    _, precision = _gaussian(params)
    if precision.ndim == 2:
        wide = precision.astype(jnp.promote_types(precision.dtype, jnp.float32))
        # Of a matrix that is not symmetric the energy, too, sees the symmetric part.
        root = jnp.diagonal(jnp.linalg.cholesky(wide))
        log_det = 2 * jnp.log(root).sum().astype(precision.dtype)
    else:
        log_det = jnp.log(precision).sum()
    return 0.5 * (precision.shape[0] * jnp.log(2 * jnp.pi / beta) - log_det)


def gaussian_mixture(params: GaussianMixture, x) -> Array:
    r"""Return the energy of a mixture of isotropic Gaussians.

        E(x) = -log sum_k w_k N(x; mu_k, sigma^2 I)

    Args:
        params: ``GaussianMixture(means, log_weights, sigma)``.
        x: (d,).

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: an integer x. ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> params = GaussianMixture(jnp.zeros((1, 1)), jnp.zeros(1), jnp.array(1.0))
    >>> round(float(gaussian_mixture(params, jnp.zeros(1))), 4)  # log(2 pi) / 2
    0.9189
    """
    means, weights, sigma = _mixture(params)
    x = _vector("gaussian_mixture", x, means.shape[1])
    squares = jnp.sum((x - means) ** 2, axis=-1)
    normaliser = means.shape[1] * (jnp.log(sigma) + 0.5 * jnp.log(2 * jnp.pi))
    components = 0.5 * squares / sigma**2 + normaliser
    return gibbs.free_energy(components, log_weights=weights)


def log_partition_gaussian_mixture(params: GaussianMixture) -> Array:
    r"""Return log Z = log sum_k w_k, at beta = 1 alone: other temperatures have no closed form.

    >>> import jax.numpy as jnp
    >>> params = GaussianMixture(jnp.zeros((2, 1)), jnp.log(jnp.array([0.25, 0.75])), 1.0)
    >>> abs(float(log_partition_gaussian_mixture(params))) < 1e-6
    True
    """
    return jax.nn.logsumexp(_mixture(params)[1])


def double_well(params: DoubleWell, x) -> Array:
    r"""Return the double-well energy: two minima in the first coordinate, quadratic in the rest.

        E(x) = h (x_1^2 - 1)^2 + t x_1 + sum_{i>1} x_i^2 / 2

    Args:
        params: ``DoubleWell(barrier, tilt)``.
        x: (d,).

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: an integer x. ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> well = DoubleWell(barrier=2.0, tilt=0.0)
    >>> float(double_well(well, jnp.array([0.0]))), float(double_well(well, jnp.array([1.0])))
    (2.0, 0.0)
    """
    _numbers(params, DoubleWell)
    x = _vector("double_well", x)
    well = params.barrier * (x[0] ** 2 - 1) ** 2 + params.tilt * x[0]
    return well + 0.5 * jnp.sum(x[1:] ** 2)


def rosenbrock(params: Rosenbrock, x) -> Array:
    r"""Return Rosenbrock's curved valley in the plane.

        E(x) = (a - x_1)^2 + b (x_2 - x_1^2)^2

    Source: H. H. Rosenbrock (1960), The Computer Journal 3(3).

    Args:
        params: ``Rosenbrock(a, b)``.
        x: (2,).

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: an integer x. ValueError: a batch, or another dimension than 2.

    >>> import jax.numpy as jnp
    >>> float(rosenbrock(Rosenbrock(1.0, 100.0), jnp.array([1.0, 1.0])))
    0.0
    """
    _numbers(params, Rosenbrock)
    x = _vector("rosenbrock", x, 2)
    return (params.a - x[0]) ** 2 + params.b * (x[1] - x[0] ** 2) ** 2


def log_partition_rosenbrock(params: Rosenbrock, *, beta=1.0) -> Array:
    r"""Return log Z = log(pi / beta) - 1/2 log b: the inner integral does not depend on x_1.

    >>> round(float(log_partition_rosenbrock(Rosenbrock(1.0, 1.0))), 4)  # log pi
    1.1447
    """
    _numbers(params, Rosenbrock, "b")
    _checks.positive("beta", beta)
    return jnp.log(jnp.pi / beta) - 0.5 * jnp.log(params.b)


def funnel(params: Funnel, x) -> Array:
    r"""Return Neal's funnel: x_1 ~ N(0, s^2) and x_i ~ N(0, exp(x_1)).

        E(x) = x_1^2 / (2 s^2) + sum_{i>1} [x_i^2 exp(-x_1) + x_1] / 2

    Source: R. M. Neal (2003), Slice sampling, Annals of Statistics 31(3), section 8 (s = 3).

    Args:
        params: ``Funnel(sigma)``.
        x: (d,), d >= 2.

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: an integer x. ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> float(funnel(Funnel(3.0), jnp.array([0.0, 2.0])))
    2.0
    """
    _numbers(params, Funnel, "sigma")
    x = _vector("funnel", x, least=2)
    v, rest = x[0], x[1:]
    # Each scaled before it is squared: 0 exp(-v) is 0 deep in the neck, not NaN.
    neck = 0.5 * (jnp.sum((rest * jnp.exp(-v / 2)) ** 2) + rest.shape[0] * v)
    return 0.5 * (v / params.sigma) ** 2 + neck


def log_partition_funnel(params: Funnel, dimension: int, *, beta=1.0) -> Array:
    r"""Return log Z of the funnel in ``dimension`` coordinates.

        log Z = d/2 log(2 pi / beta) + log s + [(d - 1) (1 - beta) s]^2 / (8 beta)

    >>> round(float(log_partition_funnel(Funnel(3.0), 2)), 4)  # log(2 pi 3)
    2.9365
    """
    _numbers(params, Funnel, "sigma")
    _checks.positive("beta", beta)
    rest = _checks.count("dimension", dimension) - 1
    tilt = (rest * (1 - beta) * params.sigma) ** 2 / (8 * beta)
    return 0.5 * dimension * jnp.log(2 * jnp.pi / beta) + jnp.log(params.sigma) + tilt


def ring(params: Ring, x) -> Array:
    r"""Return the energy of a ring around the origin of the plane.

        E(x) = (|x| - r)^2 / (2 w^2)

    Its gradient at the origin, where the direction is undefined, is zero.

    Args:
        params: ``Ring(radius, width)``.
        x: (2,).

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: an integer x. ValueError: a batch, or another dimension than 2.

    >>> import jax.numpy as jnp
    >>> float(ring(Ring(radius=1.0, width=0.5), jnp.array([0.0, 2.0])))
    2.0
    """
    _numbers(params, Ring, "width")
    x = _vector("ring", x, 2)
    square = jnp.sum(x**2)
    radius = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return 0.5 * ((radius - params.radius) / params.width) ** 2


def log_partition_ring(params: Ring, *, beta=1.0) -> Array:
    r"""Return log Z of the ring, an integral over the radius with s = w / sqrt(beta).

        Z = 2 pi [s^2 exp(-r^2 / 2 s^2) + r s sqrt(pi / 2) (1 + erf(r / s sqrt 2))]

    >>> round(float(log_partition_ring(Ring(radius=0.0, width=1.0))), 4)  # log 2 pi
    1.8379
    """
    _numbers(params, Ring, "width")
    _checks.nonnegative("radius", params.radius)
    _checks.positive("beta", beta)
    s, r = params.width / jnp.sqrt(beta), params.radius
    bulk = r * s * jnp.sqrt(jnp.pi / 2) * (1 + jax.lax.erf(jnp.asarray(r / (s * jnp.sqrt(2.0)))))
    return jnp.log(2 * jnp.pi * (s**2 * jnp.exp(-0.5 * (r / s) ** 2) + bulk))
