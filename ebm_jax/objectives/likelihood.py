r"""Objectives that need no samples: losses over finite candidates, and exact maximum likelihood."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.types import Array, Energy, Objective, Position


def discriminative(joint: Callable[..., Array], loss: Callable[[Array, Array], Array]) -> Objective:
    r"""Return the mean over a batch of a loss over the candidates y.

        L(params) = mean_i loss(F(x_i, .), y_i)

    Args:
        joint: (params, x) -> (n,), the energy of every y.
        loss: (energies (batch, n), labels (batch,)) -> (batch,): ``losses.nll``, or a pairwise
            loss on ``losses.most_offending``.

    Returns:
        An ``Objective`` without state, of batches (x, label); metrics ``loss``,
        ``energy_right`` and ``energy_gap``, the most offending wrong energy minus the right one.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import losses
    >>> objective = discriminative(lambda params, x: params * x, losses.nll)
    >>> batch = jnp.zeros((2, 4)), jnp.array([0, 3])
    >>> value, _ = objective.loss(jnp.ones(4), (), batch, jax.random.key(0))
    >>> round(float(value), 4)  # log 4
    1.3863
    """

    def batch_loss(params, state, batch, key):
        del key
        x, label = batch
        energies = jax.vmap(joint, (None, 0))(params, x)
        value = jnp.mean(loss(energies, label))
        right = jnp.take_along_axis(energies, label[:, None], axis=1)[:, 0]
        wrong = jnp.arange(energies.shape[1]) != label[:, None]
        gap = jnp.min(energies, axis=1, where=wrong, initial=jnp.inf) - right
        metrics = {"loss": value, "energy_right": right.mean(), "energy_gap": gap.mean()}
        return value, (state, metrics)

    return Objective(lambda params, key: (), batch_loss)


def maximum_likelihood(
    energy: Energy, states: Position, *, beta=1.0, log_weights=None
) -> Objective:
    r"""Return the exact negative log-likelihood over a finite set of states, divided by beta.

        L(params) = mean_i E(x_i) + 1/beta log sum_s w_s exp(-beta E(s))

    On a grid with log cell volumes as ``log_weights`` it is the likelihood of a density.

    Args:
        energy: (params, x) -> ().
        states: every state there is, on the leading axis.
        beta: inverse temperature > 0.
        log_weights: log w_s, (number of states,); None for w = 1.

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss``, ``energy_positive``,
        ``energy_negative`` (the model's expectation) and ``energy_gap``, their difference.

    Raises:
        ValueError: a beta that is not finite and > 0.

    >>> import jax, jax.numpy as jnp
    >>> objective = maximum_likelihood(lambda params, x: params * x, jnp.array([0.0, 1.0]))
    >>> value, _ = objective.loss(0.0, (), jnp.array([1.0, 1.0]), jax.random.key(0))
    >>> round(float(value), 4)  # log 2
    0.6931
    """
    _checks.positive("beta", beta)

    def batch_loss(params, state, batch, key):
        del key
        energies = jax.vmap(energy, (None, 0))
        positive = jnp.mean(energies(params, batch))
        all_states = energies(params, states)
        value = positive - gibbs.free_energy(all_states, beta=beta, log_weights=log_weights)
        negative = gibbs.expectation(all_states, all_states, beta=beta, log_weights=log_weights)
        metrics = {
            "loss": value,
            "energy_positive": positive,
            "energy_negative": negative,
            "energy_gap": negative - positive,
        }
        return value, (state, metrics)

    return Objective(lambda params, key: (), batch_loss)


def push_down(energy: Energy) -> Objective:
    r"""Return the mean energy of the batch: right answers alone, and nothing pushed up.

        L(params) = mean_i E(x_i)

    It trains an energy whose volume of low energy is limited by something else, its capacity or
    a latent variable; any other it makes flat. Source: LeCun et al. (2006), eq. 6.

    Args:
        energy: (params, x) -> ().

    Returns:
        An ``Objective`` without state, of batches x; metric ``loss``.

    >>> import jax, jax.numpy as jnp
    >>> objective = push_down(lambda params, x: params * x)
    >>> value, _ = objective.loss(2.0, (), jnp.array([1.0, 3.0]), jax.random.key(0))
    >>> float(value)
    4.0
    """

    def batch_loss(params, state, batch, key):
        del key
        value = jnp.mean(jax.vmap(energy, (None, 0))(params, batch))
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), batch_loss)
