"""Energies in closed form, combinators of energies, and neural networks (Flax)."""

import importlib
from typing import TYPE_CHECKING, Any

from ebm_jax.energies import boltzmann, lattice, pairwise, potts
from ebm_jax.energies.closed_forms import (
    DoubleWell,
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
    Rosenbrock,
    double_well,
    funnel,
    gaussian,
    gaussian_mixture,
    ring,
    rosenbrock,
)
from ebm_jax.energies.combinators import condition, mixture, product, temper

if TYPE_CHECKING:
    from ebm_jax.energies import networks

__all__ = [
    "DoubleWell",
    "Funnel",
    "Gaussian",
    "GaussianMixture",
    "Ring",
    "Rosenbrock",
    "boltzmann",
    "condition",
    "double_well",
    "funnel",
    "gaussian",
    "gaussian_mixture",
    "lattice",
    "mixture",
    "networks",
    "pairwise",
    "potts",
    "product",
    "ring",
    "rosenbrock",
    "temper",
]


def __getattr__(name: str) -> Any:
    if name == "networks":  # the one module that needs Flax
        return importlib.import_module("ebm_jax.energies.networks")
    raise AttributeError(f"module 'ebm_jax.energies' has no attribute {name!r}.")
