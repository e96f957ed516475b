"""Refusals: each names what was given and what is allowed. Values unknown under jit pass."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ebm_jax.types import Array


def floating(name: str, value) -> Array:
    """Return ``value`` as an array, or raise TypeError where it is not floating point."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be floating point (float32, bfloat16, float64), got {array.dtype}: "
            "an integer energy has no gradient."
        )
    return array


def concrete(value) -> np.ndarray | None:
    """Return the value as a NumPy array, or None where it is known only at run time."""
    return None if isinstance(value, Tracer) else np.asarray(value)


def nonnegative(name: str, value) -> None:
    """Raise ValueError where a known value is negative or NaN."""
    known = concrete(value)
    if known is not None and not np.all(known >= 0):
        raise ValueError(f"{name} must be >= 0, got {known}.")


def positive(name: str, value) -> None:
    """Raise ValueError where a known value is not finite and > 0."""
    known = concrete(value)
    if known is not None and not (np.all(known > 0) and np.all(np.isfinite(known))):
        raise ValueError(f"{name} must be finite and > 0, got {known}.")


def fraction(name: str, value) -> None:
    """Raise ValueError where a known value lies outside [0, 1]."""
    known = concrete(value)
    if known is not None and not np.all((known >= 0) & (known <= 1)):
        raise ValueError(f"{name} must be in [0, 1], got {known}.")


def broadcastable(**arrays: Array) -> tuple[int, ...]:
    """Return the common shape, or raise ValueError naming every array and its shape."""
    try:
        return jnp.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"Shapes that do not broadcast together: {shapes}.") from None


def labels(label, energies: Array) -> Array:
    """Check labels against energies of shape (..., n): integer, one per row, in [0, n)."""
    array = jnp.asarray(label)
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"label must be an integer array, got {array.dtype}.")
    if energies.ndim == 0:
        raise ValueError("energies must have the candidates on the last axis, got a scalar.")
    if array.shape != energies.shape[:-1]:
        raise ValueError(
            f"label must have the shape of energies without its last axis, "
            f"{energies.shape[:-1]}, got {array.shape}."
        )
    known = concrete(label)
    n = energies.shape[-1]
    if known is not None and known.size and (known.min() < 0 or known.max() >= n):
        raise ValueError(
            f"label must be in [0, {n}) for {n} candidates, got values from "
            f"{known.min()} to {known.max()}."
        )
    return array
