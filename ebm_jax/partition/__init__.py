"""Estimates and exact values of log partition functions, log Z."""

from ebm_jax.partition import annealed, bridges, estimates, exact, paths
from ebm_jax.partition.importance_sampling import annealed_importance_sampling
from ebm_jax.partition.pseudo_likelihood import pseudo_log_likelihood
from ebm_jax.partition.tempering import parallel_tempering

__all__ = [
    "annealed",
    "annealed_importance_sampling",
    "bridges",
    "estimates",
    "exact",
    "parallel_tempering",
    "paths",
    "pseudo_log_likelihood",
]
