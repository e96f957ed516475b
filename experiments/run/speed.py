"""The number of updates that fits into a given time, measured once for each run.

The learning rate falls to its end over the number of updates, so this number has to be known before
the first one. It is kept in the work directory: a resumed run makes the same number of updates,
however fast it is.
"""

import json
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np

from ebm_jax.training import Trainer, TrainingState
from ebm_jax.types import Key, PyTree
from experiments.run import devices, loop, work_directory

FILE = "updates.json"  # in the work directory: by name of a training, its number of updates
DISPATCHES, SECONDS = 8, 15.0  # measured at most; three dispatches in any case
LEAST = 1 / 8  # of the updates, which a slow machine makes too


def seconds_per_update(
    trainer: Trainer, state: TrainingState, batches: Iterator[PyTree], key: Key
) -> float:
    """Return the seconds of an update, the median over several dispatches of stacked batches.

    The first dispatch is compiled and does not count. The median is robust to other programs
    that use the machine for a moment. The states after the updates are discarded.
    """
    times, started, stacked = [], 0.0, next(batches)
    while len(times) <= DISPATCHES:
        begun = time.perf_counter()
        state, metrics = trainer.update(state, stacked, key)
        count = len(jax.tree.leaves(stacked)[0])
        stacked = next(batches)  # while the device is at work, as in training
        jax.block_until_ready((state, metrics))
        ended = time.perf_counter()
        started = started or ended  # after the first
        times.append((ended - begun) / count)
        if len(times) > 3 and ended - started > SECONDS:
            break
    return float(np.median(times[1:]))


def fitted(num_steps: int, seconds: float, per_update: float, *, group: int) -> int:
    """Return how many of ``num_steps`` updates take at most ``seconds``, a multiple of ``group``.

    It is at least the fraction LEAST of them, rounded up, and at most all of them.
    """
    fitting = int(seconds / per_update) // group * group
    least = -int(-num_steps * LEAST // group) * group
    return min(num_steps, max(fitting, least))


def kept(run: work_directory.Run, name: str) -> int | None:
    """Return the number of updates that an earlier start of this run chose for a training."""
    return _chosen(run).get(name or "training")


def keep(run: work_directory.Run, name: str, num_steps: int) -> None:
    """Keep the number of updates of a training for when the run resumes."""
    run.write(FILE, json.dumps(_chosen(run) | {name or "training": num_steps}) + "\n")


def _chosen(run: work_directory.Run) -> dict[str, int]:
    path = run.workdir / FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def tell(name: str, num_steps: int, chosen: int, per_update: float) -> None:
    """Print how many updates are made, and how long they will take."""
    share = f"all {num_steps:,} updates"
    if chosen < num_steps:
        share = f"{chosen:,} of {num_steps:,} updates, to keep to --train_minutes,"
    print(
        f"{name or 'training'}: {share} at {1000 * per_update:.0f} ms each, about "
        f"{chosen * per_update / 60:.1f} min",
        file=sys.stderr,
        flush=True,
    )


def choose(
    run: work_directory.Run,
    name: str,
    trainer: Trainer,
    state: TrainingState,
    batch: loop.Batch,
    key: Key,
    num_steps: int,
    minutes: float,
    *,
    group: int,
) -> int:
    """Return the number of updates of a training, as measured now or kept from an earlier start.

    The arguments are those of ``loop.train``. All updates are made by several processes, since each
    would measure another speed, and where there are hardly more than the measurement takes.
    """
    if devices.several() or num_steps <= group * DISPATCHES:
        return num_steps
    chosen = kept(run, name)
    if chosen is None:
        dispatches = loop.groups(batch, 0, group * (DISPATCHES + 2), group)
        placed = (devices.place_batches(run.mesh, stacked) for _, _, stacked in dispatches)
        per_update = seconds_per_update(trainer, state, placed, key)
        chosen = fitted(num_steps, 60 * minutes, per_update, group=group)
        keep(run, name, chosen)
        tell(name, num_steps, chosen, per_update)
    return chosen
