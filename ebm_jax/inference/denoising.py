"""Denoising with the energy of noisy data."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import partition, value_and_gradient
from ebm_jax.types import Energy, Position


def denoise(
    energy: Energy, positions: Position, *, sigma: ArrayLike, beta: ArrayLike = 1.0
) -> Position:
    r"""Return the posterior mean of positions before Gaussian noise was added.

    .. math:: \mathbb{E}[x_0 \mid x] = x - \beta \sigma^2 \nabla E(x), \qquad
        x = x_0 + \sigma \xi, \quad x \sim \exp(-\beta E)

    It is exact if :math:`\exp(-\beta E)` is proportional to the density of the noisy data, as after
    maximum-likelihood training on noisy data. Source: Robbins (1956), who credits Tweedie; Efron
    (2011), Tweedie's formula and selection bias, JASA 106.

    Args:
        energy: function x -> () of one configuration.
        positions: noisy configurations, on the leading axis. Floating-point leaves are denoised.
        sigma: standard deviation :math:`\sigma \ge 0` of the noise, in units of x, one number.
        beta: inverse temperature :math:`\beta > 0` of the noisy data, one number.

    Returns:
        The denoised positions.

    >>> import jax.numpy as jnp
    >>> noisy = lambda x: x**2 / (2 * (1 + 0.25))  # data N(0, 1), noise 0.5
    >>> denoise(noisy, jnp.array([1.0]), sigma=0.5).tolist()  # x / (1 + 0.25)
    [0.800...]
    """
    _checks.function("energy", energy)
    _checks.leading_axis("positions", positions)
    _checks.nonnegative("sigma", sigma)
    _checks.finite("sigma", sigma)
    _checks.positive("beta", beta)
    for name, value in (("sigma", sigma), ("beta", beta)):
        _checks.scalar(name, value)
    positions = jax.tree.map(jnp.asarray, positions)
    moving, fixed, merge = partition(positions)
    _, gradient = value_and_gradient(energy, positions)
    shift = beta * jnp.square(sigma)
    terms = zip(moving, gradient, strict=True)
    return merge([(x - shift * g).astype(x.dtype) for x, g in terms], fixed)
