"""Centred RBMs: the same distributions, other gradients."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM, CategoricalRBM
from ebm_jax.types import Array, Objective


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


def with_means(objective: Objective) -> Objective:
    """Return the objective with a gradient of the offsets: offset minus mean over the batch.

    The value of the loss does not change. The other gradients do not either, because the energy of
    a centred RBM takes its offsets as constants.
    """

    def loss(params: CenteredRBM, state, batch: Array, key):
        value, rest = objective.loss(params, state, batch, key)
        rbm = uncentered(jax.lax.stop_gradient(params))
        hidden = jax.nn.sigmoid(jax.vmap(boltzmann.rbm_hidden_logits, (None, 0))(rbm, batch))
        distance = jnp.sum((params.visible_offset - jnp.mean(batch, 0, jnp.float32)) ** 2)
        distance += jnp.sum((params.hidden_offset - jnp.mean(hidden, 0)) ** 2)
        return value + (distance - jax.lax.stop_gradient(distance)) / 2, rest

    return Objective(objective.init, loss)


def moving_offsets(
    optimizer: optax.GradientTransformation, rate: float
) -> optax.GradientTransformation:
    """Return an optimiser of binary units that also moves the offsets by ``rate`` to the means.

    The gradients are those of ``with_means``. The biases change with the offsets, so that moving
    the offsets alone leaves the distribution as it is (Melchior, Fischer and Wiskott 2016).
    """

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        steps: Any
        steps, state = optimizer.update(updates, state, params)
        visible, hidden = (-rate * updates.visible_offset, -rate * updates.hidden_offset)
        moved = steps._replace(
            visible_bias=steps.visible_bias + params.weights @ hidden,
            hidden_bias=steps.hidden_bias + visible @ params.weights,
            visible_offset=visible,
            hidden_offset=hidden,
        )
        return moved, state

    return optax.GradientTransformation(optimizer.init, update)
