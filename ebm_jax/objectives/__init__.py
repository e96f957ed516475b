"""Objectives: functions of parameters and a batch that training minimises.

All objectives raise TypeError for arguments that are not callable and for integer energies, and
ValueError for energies that do not return a scalar and for batches without a common leading axis.
"""

from ebm_jax.objectives.amortized import AmortizedParams, amortized
from ebm_jax.objectives.combine import weighted_sum
from ebm_jax.objectives.contrastive import by_sampling, contrastive, most_offending_among
from ebm_jax.objectives.discrete_data import (
    minimum_probability_flow,
    pseudo_likelihood,
    ratio_matching,
)
from ebm_jax.objectives.energy_discrepancy import energy_discrepancy
from ebm_jax.objectives.energy_matching import (
    energy_matching,
    equilibrium_matching,
    flow_matching,
    optimal_coupling,
)
from ebm_jax.objectives.improved_contrastive import (
    improved_contrastive_divergence,
    nearest_neighbor_entropy,
)
from ebm_jax.objectives.likelihood import discriminative, maximum_likelihood, push_down
from ebm_jax.objectives.noise_conditional import noise_conditional_score_matching
from ebm_jax.objectives.noise_contrastive import binary_nce, conditional_nce, ranking_nce
from ebm_jax.objectives.penalties import gradient_penalty
from ebm_jax.objectives.perturbations import (
    bernoulli_perturbation,
    gaussian_perturbation,
    grid_perturbation,
)
from ebm_jax.objectives.recovery_likelihood import (
    diffusion_recovery_likelihood,
    recovery_likelihood,
)
from ebm_jax.objectives.sampled_likelihood import (
    contrastive_divergence,
    persistent,
    short_run,
)
from ebm_jax.objectives.score_matching import (
    denoising_score_matching,
    hutchinson_score_matching,
    score_matching,
    sliced_score_matching,
)
from ebm_jax.objectives.stein import kernelized_stein_discrepancy
from ebm_jax.objectives.through_inference import through_inference

__all__ = [
    "AmortizedParams",
    "amortized",
    "bernoulli_perturbation",
    "binary_nce",
    "by_sampling",
    "conditional_nce",
    "contrastive",
    "contrastive_divergence",
    "denoising_score_matching",
    "diffusion_recovery_likelihood",
    "discriminative",
    "energy_discrepancy",
    "energy_matching",
    "equilibrium_matching",
    "flow_matching",
    "gaussian_perturbation",
    "gradient_penalty",
    "grid_perturbation",
    "hutchinson_score_matching",
    "improved_contrastive_divergence",
    "kernelized_stein_discrepancy",
    "maximum_likelihood",
    "minimum_probability_flow",
    "most_offending_among",
    "nearest_neighbor_entropy",
    "noise_conditional_score_matching",
    "optimal_coupling",
    "persistent",
    "pseudo_likelihood",
    "push_down",
    "ranking_nce",
    "ratio_matching",
    "recovery_likelihood",
    "score_matching",
    "short_run",
    "sliced_score_matching",
    "through_inference",
    "weighted_sum",
]
