"""Energy-based models in JAX: energies, losses, samplers and training.

All of them are pure functions. An energy is a function of parameters and one configuration. A loss
is a function of energies. A sampler is a tuple of functions. Training compiles their composition
with ``jax.jit``.

Subpackages are imported at first use: only ``energies.networks`` needs Flax, and only
``inference`` and ``training`` need optax.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ebm_jax.compilation import jit
from ebm_jax.types import Distribution, Energy, MakeSampler, Objective, Sampler

if TYPE_CHECKING:
    from ebm_jax import (
        diagnostics,
        distributions,
        energies,
        gibbs,
        inference,
        losses,
        objectives,
        partition,
        samplers,
        training,
    )
    from ebm_jax.samplers import sample

__version__ = "0.2.0"

_PACKAGES = {
    "diagnostics",
    "distributions",
    "energies",
    "gibbs",
    "inference",
    "losses",
    "objectives",
    "partition",
    "samplers",
    "training",
}

__all__ = [
    "Distribution",
    "Energy",
    "MakeSampler",
    "Objective",
    "Sampler",
    "diagnostics",
    "distributions",
    "energies",
    "gibbs",
    "inference",
    "jit",
    "losses",
    "objectives",
    "partition",
    "sample",
    "samplers",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return importlib.import_module(f"ebm_jax.{name}")
    if name == "sample":
        return importlib.import_module("ebm_jax.samplers").sample
    raise AttributeError(f"module 'ebm_jax' has no attribute {name!r}.")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
