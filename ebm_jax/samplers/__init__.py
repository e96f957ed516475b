"""Samplers: a pair (init, step) over a batch of chains, and running them."""

from ebm_jax.samplers import adaptation, chains, langevin, tempering, underdamped

__all__ = ["adaptation", "chains", "langevin", "tempering", "underdamped"]
