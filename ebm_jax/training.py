r"""An objective and an optax optimiser, as one compiled update.

    training = trainer(objective, optax.adam(1e-3))
    state = training.init(params, key)
    state, metrics = training.update(state, batches, key)

The policy on divergence, so that no NaN is hidden and none spreads:

* a non-finite loss or gradient skips that update: parameters, optimiser and average stay as
  they are (the chains go on); ``skipped`` of that step is 1 and ``skipped_total`` counts;
* the loss and the gradient norm are reported as they were, NaN included;
* chains are the objective's affair: non-finite ones restart and are counted;
* ``raise_if_diverged`` stops a run that skipped too many updates in a row.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ebm_jax.compilation import jit
from ebm_jax.types import Array, Key, Metrics, Objective, Params, PyTree


class TrainingState(NamedTuple):
    """Everything a run needs to go on.

    Attributes:
        params: the parameters.
        average: their exponential moving average (the parameters themselves without one).
        optimizer: the state of the optimiser and of its finite-update guard.
        objective: the state of the objective: its persistent chains, say.
        step: how many updates were tried, ().
    """

    params: Params
    average: Params
    optimizer: Any
    objective: Any
    step: Array


class Trainer(NamedTuple):
    """``init(params, key) -> state`` and ``update(state, batches, key) -> (state, metrics)``."""

    init: Callable[[Params, Key], TrainingState]
    update: Callable[[TrainingState, PyTree, Key], tuple[TrainingState, Metrics]]


class DivergedError(FloatingPointError):
    """Too many updates in a row were not finite."""


def trainer(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    average_decay: float | None = None,
) -> Trainer:
    r"""Return (init, update) for an objective; the update is one jit, chains and all.

        g = grad L(params),   params <- params + optimizer(g),
        average <- d average + (1 - d) params,   d = min(decay, (1 + t) / (10 + t))

    ``update`` makes one update per batch on the leading axis of ``batches``, in one dispatch.
    Update t uses the key ``fold_in(key, t)``: pass the same key to every call, and a run is the
    same however its batches are grouped.

    Args:
        objective: what to minimise.
        optimizer: an optax transformation.
        average_decay: decay in [0, 1) of the average of the parameters; None for no average.

    Returns:
        A ``Trainer``. Metrics are stacked over the updates of the call: those of the objective,
        and ``loss_total``, ``gradient_norm``, ``skipped``, ``skipped_in_row``,
        ``skipped_total``, ``step``.

    Raises:
        ValueError: a decay outside [0, 1).

    >>> import jax, jax.numpy as jnp, optax
    >>> objective = Objective(lambda key: (), lambda p, s, batch, key: ((p - batch) ** 2, (s, {})))
    >>> training = trainer(objective, optax.sgd(0.5))
    >>> key = jax.random.key(0)
    >>> state, metrics = training.update(training.init(0.0, key), jnp.array([4.0]), key)
    >>> float(state.params)
    4.0
    """
    if average_decay is not None and not 0 <= average_decay < 1:
        raise ValueError(f"average_decay must be in [0, 1) or None, got {average_decay}.")
    guarded = optax.apply_if_finite(optimizer, max_consecutive_errors=np.iinfo(np.int32).max - 1)

    def init(params: Params, key: Key) -> TrainingState:
        params, inner = _strong(params), _strong(objective.init(key))
        return TrainingState(params, params, guarded.init(params), inner, jnp.zeros((), jnp.int32))

    def one(state: TrainingState, batch: PyTree, key: Key) -> tuple[TrainingState, Metrics]:
        step_key = jax.random.fold_in(key, state.step)
        value_and_grad = jax.value_and_grad(objective.loss, has_aux=True)
        (loss, (inner, metrics)), gradient = value_and_grad(
            state.params, state.objective, batch, step_key
        )
        finite = jnp.isfinite(loss)
        # A non-finite loss may have a finite gradient: it must not pass the guard either.
        guarded_gradient = jax.tree.map(lambda g: jnp.where(finite, g, jnp.nan), gradient)
        optimizer_state: Any
        updates, optimizer_state = guarded.update(guarded_gradient, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        average = _average(params, state, average_decay)
        applied = optimizer_state.last_finite
        average = jax.tree.map(
            lambda new, old: jnp.where(applied, new, old), average, state.average
        )
        metrics = metrics | {
            "loss_total": loss,
            "gradient_norm": optax.tree.norm(gradient),
            "skipped": ~applied,
            "skipped_in_row": optimizer_state.notfinite_count,
            "skipped_total": optimizer_state.total_notfinite,
            "step": state.step,
        }
        return TrainingState(params, average, optimizer_state, inner, state.step + 1), metrics

    @jit
    def update(state: TrainingState, batches: PyTree, key: Key) -> tuple[TrainingState, Metrics]:
        return jax.lax.scan(lambda s, batch: one(s, batch, key), state, batches)

    return Trainer(init, update)


def _strong(tree: PyTree) -> PyTree:
    """Return arrays of definite type: a weak one would compile the update a second time."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.result_type(leaf)), tree)


def _average(params: Params, state: TrainingState, decay: float | None) -> Params:
    if decay is None:
        return params
    # Early on the average forgets faster, or it would remember the initial parameters.
    d = jnp.minimum(decay, (1 + state.step) / (10 + state.step))
    return optax.incremental_update(params, state.average, 1 - d)


def raise_if_diverged(metrics: Metrics, *, limit: int = 20) -> None:
    r"""Raise when the latest updates were all skipped, ``limit`` of them or more.

    Call it between dispatches: it waits for the metrics to arrive.

    Args:
        metrics: what ``Trainer.update`` returned.
        limit: how many skipped updates in a row are too many, >= 1.

    Raises:
        DivergedError: naming the step, the last finite values and the likely causes.

    >>> import jax.numpy as jnp
    >>> raise_if_diverged({"skipped_in_row": jnp.array([0, 1, 0])}, limit=2)
    """
    in_row = np.atleast_1d(np.asarray(metrics["skipped_in_row"]))
    if in_row.max() < limit:
        return
    where = int(np.argmax(in_row >= limit))
    step = int(np.atleast_1d(np.asarray(metrics["step"]))[where])
    values = ", ".join(
        f"{name}={np.atleast_1d(np.asarray(metrics[name]))[where]:.4g}"
        for name in sorted(metrics)
        if name.split("/")[-1] in ("loss_total", "gradient_norm", "energy_gap", "chains_nonfinite")
    )
    raise DivergedError(
        f"Training diverged at step {step}: {int(in_row[where])} updates in a row had a non-finite "
        f"loss or gradient and were skipped ({values}). Likely causes: a learning rate that is "
        "too high, a sampler step size too large for the energy's curvature, no energy penalty "
        "or weight decay to bound the energies, or non-finite data."
    )
