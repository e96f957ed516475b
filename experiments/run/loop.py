"""The training loop of all programs."""

import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

from ebm_jax.training import DivergedError, Trainer, TrainingState, raise_if_diverged, trainer
from ebm_jax.types import Key, Objective, Params, PyTree
from experiments.run import alarms, devices, errors, progress, work_directory
from experiments.run.checkpoints import Checkpoints, write_parameters

Batch = Callable[[int], PyTree]  # the number of an update -> its batch; a pure function
Measure = Callable[[Params], dict[str, float]]
History = dict[str, np.ndarray]


def train(
    run: work_directory.Run,
    name: str,
    trainer: Trainer,
    state: TrainingState,
    batch: Batch,
    key: Key,
    *,
    num_steps: int,
    group: int,
    shown: str = "loss_total",
    measure: Measure | None = None,
) -> tuple[TrainingState, History]:
    """Train until ``num_steps`` updates are made, from the run's newest checkpoint or the state.

    Update t uses ``batch(t)``; the device makes ``group`` updates per dispatch. After each
    dispatch the means of the metrics, and the values of ``measure(params)``, are logged under the
    name and kept; the metric ``shown`` is displayed live, and each alarm is printed once. Training
    that diverges is stopped. Checkpoints of the whole state are written periodically, at the end,
    and when a signal stops the run; the resumed run is bit-for-bit identical. At the end the
    averaged parameters are written to an .npz file in the work directory.

    Returns the last state, and the history: by name one value per dispatch; ``step`` is the
    number of updates made.
    """
    tag = re.sub(r"[^\w.-]", "_", name)
    prefix = f"{tag}/" if name else ""
    saved = Checkpoints(run.checkpoints / (tag or "training"))
    began = run.seconds()
    state, seconds = saved.restore(devices.place(run.mesh, state))
    run.earlier += seconds
    key = devices.place(run.mesh, key)
    rows, watch = run.rows(prefix, int(state.step)), alarms.Watch(name)
    advance, close = progress.bar(num_steps, name or "training", shown=run.first)
    with contextlib.ExitStack() as leaving:
        leaving.callback(close)
        leaving.callback(saved.close)
        leaving.enter_context(run.training())
        leaving.enter_context(devices.together())  # before anything is closed
        dispatches = groups(batch, int(state.step), num_steps, group)
        upcoming = next(dispatches, None)
        while upcoming:
            first, count, batches = upcoming
            batches = devices.place_batches(run.mesh, batches)
            state, stacked = trainer.update(state, batches, key)
            upcoming = next(dispatches, None)  # while the device is at work
            stacked = jax.device_get(stacked)
            row = {metric: float(np.mean(values)) for metric, values in stacked.items()}
            row |= measure(devices.own(run.mesh, state.params)) if measure else {}
            # As it is read back: JSON has no infinity.
            row = {metric: v if np.isfinite(v) else np.nan for metric, v in row.items()}
            row["step"] = first + count
            rows.append(row)
            run.log(first + count, {prefix + k: v for k, v in row.items() if k != "step"})
            watch.look(rows)
            _stop_if_diverged(stacked, num_steps)
            stopped = devices.any_process(bool(run.stopped_by))
            if stopped or first + count == num_steps or devices.any_process(saved.due()):
                saved.save(first + count, state, run.seconds() - began)
            if stopped:
                raise errors.StoppedError(
                    f"stopped by {run.stopped_by or 'another process'} after update "
                    f"{first + count} of {num_steps}; its state is saved in {run.folder}: run the "
                    "same command again to resume."
                )
            advance(first + count, f"{shown} {row[shown]:+.4g}")
    params, average = devices.own(run.mesh, (state.params, state.average))
    state = state._replace(params=params, average=average)
    write_parameters(run.workdir / f"{tag or 'parameters'}.npz", average)
    return state, {k: np.array([row[k] for row in rows]) for k in rows[0]} if rows else {}


def groups(
    batch: Batch, first: int, num_steps: int, group: int
) -> Iterator[tuple[int, int, PyTree]]:
    """Yield the first update of every dispatch, how many there are, and their batches, stacked.

    Dispatches end at multiples of the group, wherever the first one began.
    """
    while first < num_steps:
        count = min(group - first % group, num_steps - first)
        batches = map(batch, range(first, first + count))
        yield first, count, jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
        first += count


def _stop_if_diverged(metrics: dict[str, np.ndarray], num_steps: int) -> None:
    """Raise when updates were skipped too often in a row, or more than half of a short run."""
    done, half = int(metrics["step"][-1]) + 1, 1 + num_steps // 2
    try:
        raise_if_diverged(metrics)
        if done == num_steps and metrics["skipped_in_row"][-1] >= half:
            raise_if_diverged(metrics, limit=half)
    except DivergedError as error:
        if metrics["skipped_total"][-1] < done:
            raise
        raise DivergedError(f"Nothing was learnt: every update was skipped. {error}") from None


@functools.cache
def _adam(objective: Objective, learning_rate: float, decay_steps: int | None) -> Trainer:
    """Return the trainer, the same for the same objective: compiled once."""
    if decay_steps is None:
        return trainer(objective, optax.adam(learning_rate))
    return trainer(objective, optax.adam(optax.cosine_decay_schedule(learning_rate, decay_steps)))


def fit(
    run: work_directory.Run,
    name: str,
    objective: Objective,
    params: Params,
    batch: Batch,
    key: Key,
    *,
    steps: int,
    learning_rate: float = 1e-2,
    decay: bool = True,
    measure: Measure | None = None,
) -> tuple[Any, History]:
    """Train by Adam, the learning rate falling to zero or constant, and measure some 20 times.

    Returns the parameters and the history of ``train``.
    """
    training = _adam(objective, learning_rate, steps if decay else None)
    init_key, train_key = jax.random.split(key)
    state, history = train(
        run,
        name,
        training,
        training.init(*devices.place(run.mesh, (params, init_key))),
        batch,
        train_key,
        num_steps=steps,
        group=-(-steps // 20),
        measure=measure,
    )
    return state.params, history
