r"""The kernelised Stein discrepancy as an objective: a distance that needs only the score."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import difference_products, matrix, partition, value_and_gradient
from ebm_jax.types import Array, Energy, Objective


def _median_distance(x: Array, itself: Array) -> Array:
    """Return the median distance between two rows, of those above 0 where it would be 0."""
    distances = jnp.where(itself, jnp.nan, jnp.sqrt(difference_products(x, x)))
    median = jnp.nanmedian(distances)
    return jax.lax.cond(
        median == 0,
        lambda: jnp.nanmedian(jnp.where(distances > 0, distances, jnp.nan)),
        lambda: median,
    )


def _stein_kernel(z: Array, score: Array) -> Array:
    """Return l^2 u(x, y) of all pairs, (n, n), given z = x / l and the scores in its units, l s.

    It is k (d + r^T r' + (r - r')^T (z - z') - |z - z'|^2), with r the score.
    """
    distances = difference_products(z, z)
    bracket = jnp.matmul(score, score.T, precision="highest") + z.shape[1]
    bracket += difference_products(score, z) - distances
    return jnp.exp(-distances / 2) * bracket


def kernelized_stein_discrepancy(energy: Energy, length: ArrayLike | None = None) -> Objective:
    r"""Return the squared kernelised Stein discrepancy between the batch and exp(-E).

        L(params) = 1/(n (n - 1)) sum_{i != j} u(x_i, x_j),   s = -grad E
        u(x, y) = k(x, y) (s(x)^T s(y) + (s(x) - s(y))^T (x - y) / l^2 + d / l^2 - |x - y|^2 / l^4)
        k(x, y) = exp(-|x - y|^2 / (2 l^2))

    The estimate has no bias, so that it may be negative; its mean is 0 for samples of exp(-E) and
    positive for any others: N(mu, I) against N(0, I) gives |mu|^2 (l^2 / (l^2 + 2))^(d/2). It needs
    no second derivatives and no noise, but n^2 kernels.
    Source: Liu, Lee and Jordan (2016), A kernelized Stein discrepancy for goodness-of-fit tests;
    Chwialkowski, Strathmann and Gretton (2016), A kernel test of goodness of fit.

    Args:
        energy: (params, x) -> ().
        length: l > 0, in units of x; None for the median distance within the batch, a constant,
            which takes a sort of n^2 numbers. Where more than half of the distances are 0 it is
            the median of the others; where all configurations are equal the loss is NaN.

    Returns:
        An ``Objective`` without state, of batches x of two or more; the kernel is over the
        floating leaves, others are given. Metrics ``loss`` and ``length``.

    Raises:
        ValueError: a length that is not finite and > 0, batches of one, or without a common
            leading axis, an energy that is not a scalar. TypeError: batches without a floating
            leaf, an integer energy, a non-callable argument.

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
        x = x - jnp.mean(x, axis=0, keepdims=True)  # or x / l would round away the differences
        itself = jnp.eye(num, dtype=bool)
        if length is None:
            scale = _median_distance(jax.lax.stop_gradient(x), itself)
        else:
            scale = jnp.asarray(length, x.dtype)
        terms = _stein_kernel(x / scale, -slope * scale)
        value = jnp.sum(jnp.where(itself, 0, terms)) / (num * (num - 1)) / scale**2
        return value, (state, {"loss": value, "length": scale})

    return Objective(lambda params, key: (), loss)
