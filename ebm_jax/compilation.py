"""One front for ``jax.jit``: the same function, without XLA:CPU's slow small reductions.

From jax 0.12 the CPU backend hands small reductions, such as the sums of a closed-form energy,
to a library that is several times slower on them. A compiler option keeps that library to
single matrix products, where it is faster, but only a top-level jit may carry it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import Tracer

from ebm_jax import _checks, _platform

_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}


@functools.cache
def _option_is_known() -> bool:
    try:
        jax.jit(lambda: jnp.zeros(()), compiler_options=_CPU_OPTIONS)()
    except Exception:  # an older or newer jaxlib: its error type is its own
        return False
    return True


_probe = jax.jit(lambda: jnp.zeros(()))


def _at_top_level() -> bool:
    # Inside another trace even a constant is a tracer.
    return not isinstance(_probe(), Tracer)


def _with_options(fun: Callable, options: dict[str, Any], kwargs: dict[str, Any]) -> Any:
    given: dict[str, Any] = {"compiler_options": options} if options else {}
    return jax.jit(fun, **(kwargs | given))


def jit(fun: Callable, **kwargs) -> Any:
    """Compile ``fun`` as ``jax.jit`` does, at the speed the CPU backend can have.

    The option is applied on CPU, at top level, where this jaxlib knows it; everywhere else
    (GPU, TPU, under another transformation) this is ``jax.jit``. The numbers are the same
    up to the order of summation. Options of yours whose names begin with ``xla_cpu_`` are left
    out there too.

    Where the processor has AVX-512, ``compiler_options={"xla_cpu_prefer_vector_width": 512}``
    can make a sampler faster still (docs/benchmarks.md measures one). It is not the default: the
    last bits of a chain would then depend on the number of devices, unless each has a multiple
    of 16 chains.

    Args:
        fun: the function.
        kwargs: whatever ``jax.jit`` takes; ``compiler_options`` are added to this one.

    Returns:
        The compiled function, with the ``lower`` and ``trace`` of ``jax.jit``.

    >>> import jax.numpy as jnp
    >>> float(jit(lambda x: (x**2).sum())(jnp.arange(3.0)))
    5.0
    """
    _checks.function("fun", fun)
    options = kwargs.pop("compiler_options", None) or {}
    elsewhere = {k: v for k, v in options.items() if not k.startswith("xla_cpu_")}
    plain = _with_options(fun, elsewhere, kwargs)
    given = _with_options(fun, options, kwargs)
    tuned = _with_options(fun, _CPU_OPTIONS | options, kwargs)

    def choose(args, kw) -> Any:
        leaves = jax.tree.leaves((args, kw))
        if _platform.platform(leaves) != "cpu" or not _at_top_level():
            return plain
        if any(isinstance(leaf, Tracer) for leaf in leaves):
            return plain
        return tuned if _option_is_known() else given

    @functools.wraps(fun)
    def compiled(*args, **kw):
        return choose(args, kw)(*args, **kw)

    front: Any = compiled
    front.lower = lambda *args, **kw: choose(args, kw).lower(*args, **kw)
    front.trace = lambda *args, **kw: choose(args, kw).trace(*args, **kw)
    return front
