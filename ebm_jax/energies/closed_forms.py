"""Energies in closed form: functions energy(params, x) -> ().

The parameters are a NamedTuple and the first argument: ``jax.grad`` differentiates with respect to
them, and ``functools.partial(gaussian, params)`` is an energy of x alone, for samplers.
``partition.exact.log_partition`` takes the same parameters if the partition function is known.

Energies are in nats at beta = 1. Parameters of another type, and an integer x, raise TypeError.
Parameters of another shape, a batch instead of one configuration, and a known sigma or width that
is not finite and > 0 raise ValueError.
"""

from typing import NamedTuple

import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.energies import _parameters
from ebm_jax.types import Array


class Gaussian(NamedTuple):
    """Parameters of a Gaussian.

    Attributes:
        mean: (d,).
        precision: (d, d), symmetric positive definite, or its diagonal (d,).
    """

    mean: Array
    precision: Array


class GaussianMixture(NamedTuple):
    """Parameters of a mixture of k isotropic Gaussians.

    Attributes:
        means: (k, d).
        log_weights: (k,).
        sigma: standard deviation of all components, ().
    """

    means: Array
    log_weights: Array
    sigma: Array


class DoubleWell(NamedTuple):
    """Parameters of a double well in the first coordinate, with minima near -1 and 1.

    Attributes:
        barrier: height h of the barrier, ().
        tilt: slope t that favours one well, ().
    """

    barrier: Array
    tilt: Array


class Rosenbrock(NamedTuple):
    """Parameters of Rosenbrock's valley.

    Attributes:
        a: first coordinate of the minimum, ().
        b: steepness of the walls, ().
    """

    a: Array
    b: Array


class Funnel(NamedTuple):
    """Parameters of Neal's funnel.

    Attributes:
        sigma: standard deviation s of the first coordinate, the log-variance of all others, ().
    """

    sigma: Array


class Ring(NamedTuple):
    """Parameters of a ring.

    Attributes:
        radius: r, ().
        width: standard deviation w across the ring, ().
    """

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


def gaussian(params: Gaussian, x) -> Array:
    r"""Return the quadratic energy of a Gaussian.

    .. math:: E(x) = \tfrac{1}{2} (x - \mu)^T \Lambda (x - \mu)

    Args:
        params: ``Gaussian(mean, precision)``.
        x: one configuration, (d,).

    Returns:
        The energy, ().

    >>> import jax.numpy as jnp
    >>> float(gaussian(Gaussian(jnp.zeros(2), jnp.ones(2)), jnp.array([3.0, 4.0])))
    12.5
    """
    mean, precision = _parameters.gaussian(params, Gaussian)
    d = _vector("gaussian", x, mean.shape[0]) - mean
    return 0.5 * jnp.dot(d, precision @ d if precision.ndim == 2 else precision * d)


def gaussian_mixture(params: GaussianMixture, x) -> Array:
    r"""Return the energy of a mixture of isotropic Gaussians.

    .. math:: E(x) = -\log \sum_k w_k N(x; \mu_k, \sigma^2 I)

    Args:
        params: ``GaussianMixture(means, log_weights, sigma)``.
        x: one configuration, (d,).

    Returns:
        The energy, ().

    >>> import jax.numpy as jnp
    >>> params = GaussianMixture(jnp.zeros((1, 1)), jnp.zeros(1), jnp.array(1.0))
    >>> round(float(gaussian_mixture(params, jnp.zeros(1))), 4)  # log(2 pi) / 2
    0.9189
    """
    means, weights, sigma = _parameters.mixture(params, GaussianMixture)
    x = _vector("gaussian_mixture", x, means.shape[1])
    squares = jnp.sum((x - means) ** 2, axis=-1)
    normaliser = means.shape[1] * (jnp.log(sigma) + 0.5 * jnp.log(2 * jnp.pi))
    components = 0.5 * squares / sigma**2 + normaliser
    return gibbs.free_energy(components, log_weights=weights)


def double_well(params: DoubleWell, x) -> Array:
    r"""Return the energy of a double well in the first coordinate.

    .. math:: E(x) = h (x_1^2 - 1)^2 + t x_1 + \sum_{i>1} x_i^2 / 2

    Args:
        params: ``DoubleWell(barrier, tilt)``.
        x: one configuration, (d,).

    Returns:
        The energy, ().

    >>> import jax.numpy as jnp
    >>> well = DoubleWell(barrier=2.0, tilt=0.0)
    >>> float(double_well(well, jnp.array([0.0]))), float(double_well(well, jnp.array([1.0])))
    (2.0, 0.0)
    """
    _parameters.numbers(params, DoubleWell)
    x = _vector("double_well", x)
    well = params.barrier * (x[0] ** 2 - 1) ** 2 + params.tilt * x[0]
    return well + 0.5 * jnp.sum(x[1:] ** 2)


def rosenbrock(params: Rosenbrock, x) -> Array:
    """Return the energy of Rosenbrock's curved valley in the plane.

    .. math:: E(x) = (a - x_1)^2 + b (x_2 - x_1^2)^2

    Source: H. H. Rosenbrock (1960), The Computer Journal 3(3).

    Args:
        params: ``Rosenbrock(a, b)``.
        x: one configuration, (2,).

    Returns:
        The energy, ().

    >>> import jax.numpy as jnp
    >>> float(rosenbrock(Rosenbrock(1.0, 100.0), jnp.array([1.0, 1.0])))
    0.0
    """
    _parameters.numbers(params, Rosenbrock)
    x = _vector("rosenbrock", x, 2)
    return (params.a - x[0]) ** 2 + params.b * (x[1] - x[0] ** 2) ** 2


def funnel(params: Funnel, x) -> Array:
    r"""Return the energy of Neal's funnel.

    .. math:: E(x) = \frac{x_1^2}{2 s^2}
        + \frac{1}{2} \sum_{i>1} \left[ x_i^2 \exp(-x_1) + x_1 \right]

    so that :math:`x_1 \sim N(0, s^2)` and :math:`x_i \sim N(0, \exp(x_1))`.
    Source: R. M. Neal (2003), Slice sampling, Annals of Statistics 31(3), section 8 (s = 3).

    Args:
        params: ``Funnel(sigma)``.
        x: one configuration, (d,) with d >= 2.

    Returns:
        The energy, ().

    >>> import jax.numpy as jnp
    >>> float(funnel(Funnel(3.0), jnp.array([0.0, 2.0])))
    2.0
    """
    _parameters.numbers(params, Funnel, "sigma")
    x = _vector("funnel", x, least=2)
    v, rest = x[0], x[1:]
    # Scaled before squaring, so that coordinates of 0 in the neck give 0 instead of NaN.
    neck = 0.5 * (jnp.sum((rest * jnp.exp(-v / 2)) ** 2) + rest.shape[0] * v)
    return 0.5 * (v / params.sigma) ** 2 + neck


def ring(params: Ring, x) -> Array:
    r"""Return the energy of a ring around the origin of the plane.

    .. math:: E(x) = \frac{(\lVert x \rVert - r)^2}{2 w^2}

    The gradient at the origin, where the direction is undefined, is zero.

    Args:
        params: ``Ring(radius, width)``.
        x: one configuration, (2,).

    Returns:
        The energy, ().

    >>> import jax.numpy as jnp
    >>> float(ring(Ring(radius=1.0, width=0.5), jnp.array([0.0, 2.0])))
    2.0
    """
    _parameters.numbers(params, Ring, "width")
    x = _vector("ring", x, 2)
    square = jnp.sum(x**2)
    radius = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1.0)), 0.0)
    return 0.5 * ((radius - params.radius) / params.width) ** 2
