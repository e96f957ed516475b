"""Samplers: a pair (init, step) over a batch of chains, and running them."""

from ebm_jax.samplers import chains, langevin

__all__ = ["chains", "langevin"]
