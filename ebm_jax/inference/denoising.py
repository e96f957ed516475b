r"""From noisy configurations to clean ones, by the energy of the noisy."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import partition, value_and_gradient
from ebm_jax.types import Energy, Position


def denoise(
    energy: Energy, positions: Position, *, sigma: ArrayLike, beta: ArrayLike = 1.0
) -> Position:
    r"""Return the posterior mean of what the positions were before Gaussian noise was added.

        E[x0 | x] = x - beta sigma^2 grad E(x),     x = x0 + sigma xi,   x ~ exp(-beta E)

    Exact where exp(-beta E) is the density of the noisy data, as maximum likelihood on noisy data
    makes it. Source: Robbins (1956), who credits Tweedie; Efron (2011), Tweedie's formula and
    selection bias, JASA 106.

    Args:
        energy: E(x) -> (), one configuration in.
        positions: noisy configurations, on the leading axis; floating leaves are denoised.
        sigma: standard deviation of the noise, >= 0, in units of x, one number.
        beta: inverse temperature > 0 of the noisy data.

    Returns:
        The clean positions.

    Raises:
        ValueError: a sigma that is negative or infinite, beta <= 0, several of either, positions
            without a common leading axis, an energy that is not a scalar. TypeError: positions
            without a floating leaf, a non-callable argument.

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
