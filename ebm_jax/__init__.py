"""Energy-based learning in JAX, as pure functions.

An energy is a function; a loss is a function of energies; a sampler is a pair of functions;
training is their composition under ``jax.jit``.

A room is imported when it is first touched: Flax is needed by ``networks`` alone, optax by
``inference`` and ``training``.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ebm_jax.compilation import jit
from ebm_jax.types import Distribution, Energy, Objective, Sampler

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
    from ebm_jax.energies import networks
    from ebm_jax.inference import alignment, sparse_coding
    from ebm_jax.losses import gradients, margins
    from ebm_jax.samplers import sample

__version__ = "0.1.0"

_ROOMS = {
    "alignment": "inference.alignment",
    "diagnostics": "diagnostics",
    "distributions": "distributions",
    "energies": "energies",
    "gibbs": "gibbs",
    "gradients": "losses.gradients",
    "inference": "inference",
    "losses": "losses",
    "margins": "losses.margins",
    "networks": "energies.networks",
    "objectives": "objectives",
    "partition": "partition",
    "samplers": "samplers",
    "sparse_coding": "inference.sparse_coding",
    "training": "training",
}

__all__ = [
    "Distribution",
    "Energy",
    "Objective",
    "Sampler",
    "alignment",
    "diagnostics",
    "distributions",
    "energies",
    "gibbs",
    "gradients",
    "inference",
    "jit",
    "losses",
    "margins",
    "networks",
    "objectives",
    "partition",
    "sample",
    "samplers",
    "sparse_coding",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"ebm_jax.{_ROOMS[name]}")
    if name == "sample":
        return importlib.import_module("ebm_jax.samplers").sample
    raise AttributeError(f"module 'ebm_jax' has no attribute {name!r}.")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
