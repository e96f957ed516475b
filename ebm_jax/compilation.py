"""One front for ``jax.jit``: the same function, with the options XLA:CPU lacks by default.

From jax 0.12 the CPU backend hands small reductions, such as the sums of a closed-form energy,
to a library that is several times slower on them: one option keeps that library to single
matrix products, where it is faster. Another allows vectors of 512 bits where the processor has
them. Only a top-level jit may carry options.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

_CPU_OPTIONS: dict[str, str | int] = {
    "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT",
    "xla_cpu_prefer_vector_width": 512,
}


@functools.cache
def _options() -> dict[str, str | int]:
    """Return the options that this jaxlib knows."""
    known: dict[str, str | int] = {}
    for name, value in _CPU_OPTIONS.items():
        try:
            jax.jit(lambda: jnp.zeros(()), compiler_options={name: value})()
        except Exception:  # an older or newer jaxlib: its error type is its own
            continue
        known[name] = value
    return known


_probe = jax.jit(lambda: jnp.zeros(()))


def _at_top_level() -> bool:
    # Inside another trace even a constant is a tracer.
    return not isinstance(_probe(), Tracer)


def jit(fun: Callable, **kwargs) -> Any:
    """Compile ``fun`` as ``jax.jit`` does, at the speed the CPU backend can have.

    The options are applied on CPU, at top level, those that this jaxlib knows; everywhere else
    (GPU, TPU, under another transformation) this is ``jax.jit``. The numbers are the same
    up to the order of summation.

    Args:
        fun: the function.
        kwargs: whatever ``jax.jit`` takes; ``compiler_options`` are added to these.

    Returns:
        The compiled function, with the ``lower`` and ``trace`` of ``jax.jit``.

    >>> import jax.numpy as jnp
    >>> float(jit(lambda x: (x**2).sum())(jnp.arange(3.0)))
    5.0
    """
    plain = jax.jit(fun, **kwargs)
    own = kwargs.pop("compiler_options", None) or {}

    @functools.cache
    def tuned() -> Any:
        return jax.jit(fun, compiler_options=_options() | own, **kwargs)

    def choose(args, kw) -> Any:
        if jax.default_backend() == "cpu" and _at_top_level():
            leaves = jax.tree.leaves((args, kw))
            if not any(isinstance(leaf, Tracer) for leaf in leaves):
                return tuned()
        return plain

    @functools.wraps(fun)
    def compiled(*args, **kw):
        return choose(args, kw)(*args, **kw)

    front: Any = compiled
    front.lower = lambda *args, **kw: choose(args, kw).lower(*args, **kw)
    front.trace = lambda *args, **kw: choose(args, kw).trace(*args, **kw)
    return front
