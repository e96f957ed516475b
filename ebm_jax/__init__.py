"""Energy-based learning in JAX, as pure functions.

An energy is a function; a loss is a function of energies; a sampler is a pair of functions;
training is their composition under ``jax.jit``.
"""

from ebm_jax import (
    alignment,
    diagnostics,
    energies,
    gibbs,
    gradients,
    inference,
    losses,
    margins,
    networks,
    objectives,
    samplers,
    sparse_coding,
    training,
)
from ebm_jax.compilation import jit
from ebm_jax.types import Energy, Objective, Sampler

__version__ = "0.1.0"

__all__ = [
    "Energy",
    "Objective",
    "Sampler",
    "alignment",
    "diagnostics",
    "energies",
    "gibbs",
    "gradients",
    "inference",
    "jit",
    "losses",
    "margins",
    "networks",
    "objectives",
    "samplers",
    "sparse_coding",
    "training",
]
