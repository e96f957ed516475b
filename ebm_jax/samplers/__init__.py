"""Samplers of Markov chains, functions to run them, schedules of their options.

A sampler is a tuple of functions (init, step, refresh) over a batch of chains. The info of a step
has the ``energy`` of every chain and, for samplers that accept or reject, the ``acceptance_rate``.
The info of ``sgld`` has no ``energy``, since a gradient does not determine it.
"""

from ebm_jax.samplers import replay_buffer, schedules
from ebm_jax.samplers.adaptation import adapt_step_size
from ebm_jax.samplers.composition import alternate
from ebm_jax.samplers.dense_potts_sampling import dense_potts_gibbs
from ebm_jax.samplers.gibbs_sampling import checkerboard_gibbs, rbm_gibbs, systematic_scan_gibbs
from ebm_jax.samplers.graphs import graph_gibbs
from ebm_jax.samplers.informed_proposals import dmala, dula, gibbs_with_gradients
from ebm_jax.samplers.langevin import mala, sgld, ula
from ebm_jax.samplers.running import Samples, chain_axes, refresh, run, sample
from ebm_jax.samplers.tempering import adapt_ladder, replica_exchange
from ebm_jax.samplers.underdamped import baoab

__all__ = [
    "Samples",
    "adapt_ladder",
    "adapt_step_size",
    "alternate",
    "baoab",
    "chain_axes",
    "checkerboard_gibbs",
    "dense_potts_gibbs",
    "dmala",
    "dula",
    "gibbs_with_gradients",
    "graph_gibbs",
    "mala",
    "rbm_gibbs",
    "refresh",
    "replay_buffer",
    "replica_exchange",
    "run",
    "sample",
    "schedules",
    "sgld",
    "systematic_scan_gibbs",
    "ula",
]
