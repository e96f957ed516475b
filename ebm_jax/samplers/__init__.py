"""Samplers: functions (init, step, refresh) over a batch of chains, and running them."""

from ebm_jax.samplers import (
    adaptation,
    chains,
    composition,
    gibbs_sampling,
    informed_proposals,
    langevin,
    schedules,
    tempering,
    underdamped,
)
from ebm_jax.samplers.sampling import Samples, sample

__all__ = [
    "Samples",
    "adaptation",
    "chains",
    "composition",
    "gibbs_sampling",
    "informed_proposals",
    "langevin",
    "sample",
    "schedules",
    "tempering",
    "underdamped",
]
