r"""The kernelised Stein discrepancy as an objective: a distance that needs only the score."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import partition, value_and_gradient
from ebm_jax.types import Array, Energy, Objective


def _matrix(leaves: list) -> Array:
    return jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], axis=1)


def _products(a: Array) -> Array:
    return jnp.matmul(a, a.T, precision="highest")  # differences of products are taken


def _distances(x: Array) -> Array:
    squares = jnp.sum(jnp.square(x), axis=1)
    return jnp.maximum(squares[:, None] + squares - 2 * _products(x), 0)


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
            which takes a sort of n^2 numbers.

    Returns:
        An ``Objective`` without state, of batches x of two or more; the kernel is over the
        floating leaves, others are given. Metrics ``loss`` and ``length``.

    Raises:
        ValueError: a length that is not finite and > 0, batches of one, or without a common
            leading axis, an energy that is no scalar. TypeError: batches without a floating leaf,
            an integer energy, what is no function.

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
        x = _matrix(partition(batch)[0])
        slope = _matrix(value_and_gradient(lambda one: energy(params, one), batch)[1])
        x = x - jnp.mean(x, axis=0)  # of which less cancels
        itself = jnp.eye(num, dtype=bool)
        if length is None:
            median = jnp.nanmedian(jnp.where(itself, jnp.nan, jnp.sqrt(_distances(x))))
            scale = jax.lax.stop_gradient(median)
        else:
            scale = jnp.asarray(length, x.dtype)
        # In units of l: z and the score l s, of which w = l s - z, u is
        #     k / l^2 (d + w^T w' + z^T z' + w^T z + w'^T z').
        z = x / scale
        w = -slope * scale - z
        own = jnp.sum(w * z, axis=1)
        bracket = z.shape[1] + _products(w) + _products(z) + own[:, None] + own
        terms = jnp.exp(-_distances(z) / 2) * bracket
        value = jnp.sum(jnp.where(itself, 0, terms)) / (num * (num - 1)) / scale**2
        return value, (state, {"loss": value, "length": scale})

    return Objective(lambda params, key: (), loss)
