"""Centred RBMs: the same distributions, other gradients."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax.energies.boltzmann import RBM, CategoricalRBM
from ebm_jax.types import Array


class CenteredRBM(NamedTuple):
    """An RBM of v - mu and h - lambda: its parameters, and the offsets (visible,), (hidden,).

    Of a ``CategoricalRBM`` the indicators of the categories are centred, (visible, q).
    """

    weights: Array
    visible_bias: Array
    hidden_bias: Array
    visible_offset: Array
    hidden_offset: Array


def centered(params: RBM | CategoricalRBM, visible_offset, hidden_offset) -> CenteredRBM:
    r"""Return the centred form of an RBM: the same distribution, other gradients.

        E(v, h) = -(v - mu)^T W (h - lambda) - b^T (v - mu) - c^T (h - lambda)

    With offsets near the units' means, gradient ascent on the likelihood is close to the natural
    gradient. To move the offsets as the means move, ``centered(uncentered(params), mu, lambda)``.
    Source: Montavon and Mueller (2012), Deep Boltzmann machines and the centering trick; Melchior,
    Fischer and Wiskott (2016), How to center deep Boltzmann machines, JMLR 17.
    """
    mu = jnp.asarray(visible_offset)
    offset = jnp.asarray(hidden_offset)
    weights, visible, hidden = params
    mean = jnp.tensordot(mu, weights, mu.ndim)
    return CenteredRBM(weights, visible + weights @ offset, hidden + mean, mu, offset)


def uncentered(params: CenteredRBM) -> RBM | CategoricalRBM:
    r"""Return the RBM of the same distribution: its energy differs by a constant.

    Train through it: the gradient of ``rbm_free_energy(uncentered(params), v)``, positive minus
    negative, is the centred one. The offsets are constants to it.
    """
    weights, visible, hidden, *offsets = params
    visible_offset, hidden_offset = jax.lax.stop_gradient(offsets)
    mean = jnp.tensordot(visible_offset, weights, visible_offset.ndim)
    kind = RBM if visible.ndim == 1 else CategoricalRBM
    return kind(weights, visible - weights @ hidden_offset, hidden - mean)
