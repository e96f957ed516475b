"""Objectives: what training minimises, where losses, energies and samplers meet."""

from ebm_jax.objectives import contrastive_divergence, likelihood, penalties
from ebm_jax.objectives.combine import weighted_sum

__all__ = ["contrastive_divergence", "likelihood", "penalties", "weighted_sum"]
