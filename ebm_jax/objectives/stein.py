"""The kernelised Stein discrepancy as an objective, which needs only the score."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import difference_products, matrix, partition, value_and_gradient
from ebm_jax.types import Array, Energy, Objective


def _median_distance(x: Array, itself: Array) -> Array:
    """Return the median distance between two rows; if it is 0, of those above 0."""
    distances = jnp.where(itself, jnp.nan, jnp.sqrt(difference_products(x, x)))
    median = jnp.nanmedian(distances)
    return jax.lax.cond(
        median == 0,
        lambda: jnp.nanmedian(jnp.where(distances > 0, distances, jnp.nan)),
        lambda: median,
    )


def _stein_kernel(z: Array, score: Array) -> Array:
    r"""Return l^2 u(x, y) of all pairs, (n, n), for z = x / l and scores times l.

    .. math:: k \left( d + r^T r' + (r - r')^T (z - z') - \lVert z - z' \rVert^2 \right)

    where r is the scaled score.
    """
    distances = difference_products(z, z)
    bracket = jnp.matmul(score, score.T, precision="highest") + z.shape[1]
    bracket += difference_products(score, z) - distances
    return jnp.exp(-distances / 2) * bracket


def kernelized_stein_discrepancy(energy: Energy, length: ArrayLike | None = None) -> Objective:
    r"""Return the objective of the squared kernelised Stein discrepancy to exp(-E).

    .. math:: L &= \frac{1}{n (n - 1)} \sum_{i \ne j} u(x_i, x_j), \qquad s = -\nabla E \\
        u(x, y) &= k(x, y) \Big( s(x)^T s(y) + \frac{(s(x) - s(y))^T (x - y)}{l^2} + \frac{d}{l^2}
        - \frac{\lVert x - y \rVert^2}{l^4} \Big) \\
        k(x, y) &= \exp(-\lVert x - y \rVert^2 / (2 l^2))

    For a fixed ``length`` the estimate is unbiased, so it may be negative, and its mean is 0 for
    samples of :math:`\exp(-E)` and positive for all others: :math:`N(\mu, I)` against :math:`N(0,
    I)` gives :math:`\lVert \mu \rVert^2 (l^2 / (l^2 + 2))^{d/2}`. The median distance depends on
    the batch, which adds a bias that vanishes as the batch grows. The objective needs no second
    derivatives and no noise, but :math:`n^2` kernels. Source: Liu, Lee and Jordan (2016), A
    kernelized Stein discrepancy for goodness-of-fit tests; Chwialkowski, Strathmann and Gretton
    (2016), A kernel test of goodness of fit.

    Args:
        energy: function (params, x) -> () of one configuration.
        length: length scale l > 0 of the kernel, finite, in units of x. None for the median
            distance within the batch, a constant, which takes a sort of :math:`n^2` numbers. If
            more than half of the distances are 0, it is the median of the others; if all are 0, the
            loss is NaN.

    Returns:
        An ``Objective`` without state, of batches x of two or more; the kernel uses the
        floating-point leaves, other leaves are given. Metrics ``loss`` and ``length``.

    >>> import jax, jax.numpy as jnp
    >>> objective = kernelized_stein_discrepancy(lambda mu, x: jnp.sum((x - mu)**2) / 2, 1.0)
    >>> x = jax.random.normal(jax.random.key(0), (500, 2))
    >>> value, _ = objective.loss(1.0, (), x, jax.random.key(0))
    >>> bool(abs(value - 2 / 3) < 0.1)
    True
    """
    _checks.function("energy", energy)
    if length is not None:
        _checks.positive("length", length)
        _checks.scalar("length", length)

    def loss(params, state, batch, key):
        del key
        num = _checks.leading_axis("batch", batch)
        if num < 2:
            raise ValueError(f"batch must hold two configurations or more, got {num}.")
        batch = jax.tree.map(jnp.asarray, batch)
        x = matrix(partition(batch)[0])
        slope = matrix(value_and_gradient(lambda one: energy(params, one), batch)[1])
        x = x - jnp.mean(x, axis=0, keepdims=True)  # so that x / l keeps small differences
        itself = jnp.eye(num, dtype=bool)
        if length is None:
            scale = _median_distance(jax.lax.stop_gradient(x), itself)
        else:
            scale = jnp.asarray(length, x.dtype)
        terms = _stein_kernel(x / scale, -slope * scale)
        value = jnp.sum(jnp.where(itself, 0, terms)) / (num * (num - 1)) / scale**2
        return value, (state, {"loss": value, "length": scale})

    return Objective(lambda params, key: (), loss)
