"""Elementary functions with derivatives that are more accurate than JAX's own.

They hold in forward and in reverse mode.
"""

import jax
import jax.numpy as jnp

from ebm_jax.types import Array


@jax.custom_jvp
def zero_or_nan(nan: Array, x: Array) -> Array:
    """Return 0 in the common shape; NaN, with a NaN derivative by x, where ``nan``.

    Added to a result it makes a NaN reach every derivative: a ``where`` on the way stops it.
    """
    return jnp.where(nan, jnp.nan, jnp.zeros_like(x))


@zero_or_nan.defjvp
def _zero_or_nan_jvp(primals, tangents):
    value = zero_or_nan(*primals)
    return value, value * tangents[1]


def with_nan_derivatives(value: Array, *inputs: Array, axis: int | tuple[int, ...] = ()) -> Array:
    """Return the value, with NaN derivatives in all inputs where it is NaN.

    (The derivative of ``relu`` at NaN would be 0.)
    """
    nan = jnp.expand_dims(jnp.isnan(value), axis)
    for x in inputs:
        value = value + jnp.sum(zero_or_nan(nan, x), axis=axis).astype(value.dtype)
    return value


@jax.custom_jvp
def sigmoid(u: Array) -> Array:
    """Return sigma(u) with the derivative sigma(u) sigma(-u).

    The form sigma(u) (1 - sigma(u)) cancels to 0 for large u.
    """
    return jax.nn.sigmoid(u)


@sigmoid.defjvp
def _sigmoid_jvp(primals, tangents):
    (u,), (tangent,) = primals, tangents
    value = sigmoid(u)
    return value, value * sigmoid(-u) * tangent


@jax.custom_jvp
def expm1(x: Array) -> Array:
    """Return exp(x) - 1 with the derivative exp(x).

    Older versions of JAX compute the derivative as the value plus 1, which cancels.
    """
    return jnp.expm1(x)


@expm1.defjvp
def _expm1_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return expm1(x), jnp.exp(x) * tangent


def bounded(x: Array) -> Array:
    """Return x, clipped to the largest finite number.

    An infinite derivative times 0 would be NaN.
    """
    most = jnp.finfo(x.dtype).max
    return jnp.clip(x, -most, most)


@jax.custom_jvp
def square(x: Array) -> Array:
    """Return x^2, with the derivative 2x as far as there are numbers."""
    return x**2


@square.defjvp
def _square_jvp(primals, tangents):
    (x,), (tangent,) = primals, tangents
    return x**2, bounded(2 * x) * tangent


def _exp_of_minus(weight: Array, x: Array) -> Array:
    # exp(-x) may overflow or vanish where its product with the weight does not.
    half = jnp.exp(-x / 2)
    # No weight, nothing: 0 inf would be NaN.
    return jnp.where((weight == 0) & ~jnp.isnan(x), 0.0, weight * half * half)


@jax.custom_jvp
def exp_of_minus(weight: Array, x: Array) -> Array:
    """Return weight exp(-x), with derivatives clipped to the largest finite number.

    The value is inf where it overflows.
    """
    return _exp_of_minus(weight, x)


@exp_of_minus.defjvp
def _exp_of_minus_jvp(primals, tangents):
    value = bounded_exp_of_minus(jnp.ones_like(primals[0]), primals[1]) * tangents[0]
    return exp_of_minus(*primals), value - bounded_exp_of_minus(*primals) * tangents[1]


@jax.custom_jvp
def bounded_exp_of_minus(weight: Array, x: Array) -> Array:
    """Return weight exp(-x), no larger than the largest number."""
    return bounded(_exp_of_minus(weight, x))


@bounded_exp_of_minus.defjvp
def _bounded_exp_of_minus_jvp(primals, tangents):
    value = bounded_exp_of_minus(jnp.ones_like(primals[0]), primals[1]) * tangents[0]
    return bounded_exp_of_minus(*primals), value - bounded_exp_of_minus(*primals) * tangents[1]
