"""An objective that a user enters in the benchmark: pseudo-likelihood with a penalty."""

import jax.numpy as jnp

from ebm_jax import objectives
from ebm_jax.types import Objective


def make(problem, *, penalty):
    """Return pseudo-likelihood for bits, or score matching by denoising for points."""
    if problem.data.dtype == bool:
        inner = objectives.pseudo_likelihood(problem.energy)
    else:
        inner = objectives.denoising_score_matching(problem.energy, 0.2)

    def loss(params, state, batch, key):
        value, rest = inner.loss(params, state, batch, key)
        energies = problem.energy(params, batch[0])
        return value + penalty * jnp.square(energies), rest

    return Objective(inner.init, loss)


make.search = {"penalty": (1e-6, 1e-3)}
