"""Objectives that need no samples: candidate losses and exact likelihood."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.types import Array, Energy, Objective, Position


def discriminative(joint: Callable[..., Array], loss: Callable[[Array, Array], Array]) -> Objective:
    r"""Return the objective of a loss over all candidate answers y.

    .. math:: L = \operatorname{mean}_i \, \text{loss}(F(x_i, \cdot), y_i)

    Args:
        joint: function (params, x) -> (n,), the energies of all y.
        loss: function of energies (batch, n) and labels (batch,) to (batch,): ``losses.nll``, or a
            pairwise loss with ``losses.over_candidates``.

    Returns:
        An ``Objective`` without state, of batches (x, label); metrics ``loss``, ``energy_right``
        and ``energy_gap``, the most offending wrong energy minus the right one.

    Raises:
        TypeError: if a batch is not a pair, or labels are not integers.
        ValueError: if shapes do not fit, or labels are out of range.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import losses
    >>> objective = discriminative(lambda params, x: params * x, losses.nll)
    >>> batch = jnp.zeros((2, 4)), jnp.array([0, 3])
    >>> value, _ = objective.loss(jnp.ones(4), (), batch, jax.random.key(0))
    >>> round(float(value), 4)  # log 4
    1.3863
    """

    _checks.function("joint", joint)
    _checks.function("loss", loss)

    def batch_loss(params, state, batch, key):
        del key
        energies, label = _joint_energies(lambda x: joint(params, x), batch)
        each = _checks.floating("What loss returns", loss(energies, label))
        if each.shape != label.shape:
            raise ValueError(
                f"loss must return one number per example, {label.shape}, it returned {each.shape}."
            )
        value = jnp.mean(each)
        right = jnp.take_along_axis(energies, label[:, None], axis=1)[:, 0]
        wrong = jnp.arange(energies.shape[1]) != label[:, None]
        gap = jnp.min(energies, axis=1, where=wrong, initial=jnp.inf) - right
        metrics = {"loss": value, "energy_right": right.mean(), "energy_gap": gap.mean()}
        return value, (state, metrics)

    return Objective(lambda params, key: (), batch_loss)


def _joint_energies(joint: Callable[[Array], Array], batch) -> tuple[Array, Array]:
    """Validate and return the energies (batch, n) and the labels of a batch."""
    x, label = _checks.pair(batch)
    energies = _checks.floating("What joint returns", jax.vmap(joint)(x))
    if energies.ndim != 2:
        raise ValueError(
            f"joint must return one energy per class, (n,), it returned {energies.shape[1:]}."
        )
    _checks.labels(label, energies)
    return energies, jnp.asarray(label)


def maximum_likelihood(
    energy: Energy, states: Position, *, beta=1.0, log_weights=None
) -> Objective:
    r"""Return the objective of the exact negative log-likelihood over finite states.

    .. math:: L = \operatorname{mean}_i E(x_i)
        + \frac{1}{\beta} \log \sum_s w_s \exp(-\beta E(s))

    It is divided by beta. On a grid with log cell volumes as ``log_weights`` it is the likelihood
    of a density.

    Args:
        energy: function (params, x) -> () of one configuration.
        states: all states, on the leading axis.
        beta: inverse temperature :math:`\beta > 0`, finite, one number.
        log_weights: :math:`\log w_s`, (number of states,); None for :math:`w_s = 1`.

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss``, ``energy_positive``,
        ``energy_negative`` (the model's expectation) and ``energy_gap`` (negative minus positive).

    >>> import jax, jax.numpy as jnp
    >>> objective = maximum_likelihood(lambda params, x: params * x, jnp.array([0.0, 1.0]))
    >>> value, _ = objective.loss(0.0, (), jnp.array([1.0, 1.0]), jax.random.key(0))
    >>> round(float(value), 4)  # log 2
    0.6931
    """
    _checks.function("energy", energy)
    num = _checks.leading_axis("states", states)
    _checks.positive("beta", beta)
    _checks.scalar("beta", beta)
    if log_weights is not None:
        given = _checks.array("log_weights", log_weights)
        _checks.fits("log_weights", given, "the states", (num,))

    def batch_loss(params, state, batch, key):
        del key

        def energies(name: str, x: Position) -> Array:
            return _checks.energies(lambda one: energy(params, one), x, name)

        positive = jnp.mean(energies("batch", batch))
        all_states = energies("states", states)
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
    r"""Return the objective that lowers the mean energy of the batch.

    .. math:: L = \operatorname{mean}_i E(x_i)

    Use it only for an energy whose volume of low energy is limited by its capacity or by a latent
    variable. Any other energy collapses: it becomes low everywhere, or decreases without bound.
    Source: LeCun et al. (2006), eq. 6.

    Args:
        energy: function (params, x) -> () of one configuration.

    Returns:
        An ``Objective`` without state, of batches x; metric ``loss``.

    >>> import jax, jax.numpy as jnp
    >>> objective = push_down(lambda params, x: params * x)
    >>> value, _ = objective.loss(2.0, (), jnp.array([1.0, 3.0]), jax.random.key(0))
    >>> float(value)
    4.0
    """

    _checks.function("energy", energy)

    def batch_loss(params, state, batch, key):
        del key
        value = jnp.mean(_checks.energies(lambda x: energy(params, x), batch, "batch"))
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), batch_loss)
