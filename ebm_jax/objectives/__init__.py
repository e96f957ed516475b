"""Objectives: what training minimises, where losses, energies and samplers meet."""

from ebm_jax.objectives.combine import weighted_sum
from ebm_jax.objectives.likelihood import discriminative, maximum_likelihood, push_down
from ebm_jax.objectives.penalties import gradient_penalty
from ebm_jax.objectives.sampled_likelihood import (
    PersistentState,
    contrastive_divergence,
    persistent,
    short_run,
)

__all__ = [
    "PersistentState",
    "contrastive_divergence",
    "discriminative",
    "gradient_penalty",
    "maximum_likelihood",
    "persistent",
    "push_down",
    "short_run",
    "weighted_sum",
]
