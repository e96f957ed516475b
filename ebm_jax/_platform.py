"""The platform of a computation, and the number of rows to compute at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer


def platform(leaves: list | None = None) -> str:
    """Return "cpu", "gpu" or "tpu": the platform of the first committed array.

    Without one it is that of ``jax.default_device``, if set, or the default backend. During tracing
    arguments have no device, so only the defaults count.
    """
    for leaf in leaves or []:
        if isinstance(leaf, jax.Array) and not isinstance(leaf, Tracer) and leaf.committed:
            return next(iter(leaf.devices())).platform
    settings: Any = jax.config
    chosen = settings.jax_default_device
    if chosen is None:
        return jax.default_backend()
    name = chosen if isinstance(chosen, str) else chosen.platform
    return "gpu" if name in ("cuda", "rocm") else name


def rows_at_once(function: Callable, row: Any, *, on_cpu: int, elsewhere: int) -> int:
    """Return how many rows a function of one row should take at once.

    This is the number given for the platform, or fewer if all intermediate values, without fusion
    or freeing, would exceed 256 MiB on a CPU or 1 GiB elsewhere.
    """
    most, memory = (on_cpu, 2**28) if platform() == "cpu" else (elsewhere, 2**30)
    return max(1, min(most, memory // max(1, _computed(jax.make_jaxpr(function)(row).jaxpr))))


def _computed(jaxpr: Any) -> int:
    """Return the bytes of all values that a program computes."""
    total = 0
    for equation in jaxpr.eqns:
        inner = [getattr(p, "jaxpr", p) for p in equation.params.values()]
        total += sum(_computed(p) for p in inner if hasattr(p, "eqns"))
        for out in equation.outvars:
            dtype = out.aval.dtype
            key = jnp.issubdtype(dtype, jax.dtypes.prng_key)
            total += out.aval.size * (8 if key else dtype.itemsize)
    return total
