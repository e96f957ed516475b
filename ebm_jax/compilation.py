"""``jax.jit``, without the slow small reductions of XLA's CPU backend.

From jax 0.12 on, the CPU backend passes small reductions, such as the sums of a closed-form
energy, to a library that is several times slower on them. A compiler option restricts that library
to single matrix products, where it is faster. JAX accepts the option only on a top-level jit.
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
    """Compile ``fun`` as ``jax.jit`` does, with faster small reductions on CPU.

    The compiler option applies on CPU, at top level, if the installed jaxlib has it. In all other
    cases (GPU, TPU, inside another transformation) this is ``jax.jit``, without your compiler
    options whose names begin with ``xla_cpu_``. Results agree up to the order of summation.

    On some processors with AVX-512, ``compiler_options={"xla_cpu_prefer_vector_width": 512}`` makes
    a sampler faster still; on that of docs/benchmarks.md it hardly does. It is not the default,
    because the last bits of a chain then depend on the number of devices, unless each device has a
    multiple of 16 chains.

    Args:
        fun: the function.
        kwargs: arguments of ``jax.jit``; ``compiler_options`` are added to the option above.

    Returns:
        The compiled function, with the methods ``lower`` and ``trace`` of ``jax.jit``.

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
