"""One objective on one problem: search its options, then train it from several seeds."""

import functools
import itertools
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ebm_jax import training
from experiments import objectives_by_name
from experiments.run import loop, work_directory
from scripts.leaderboard import cost
from scripts.leaderboard.problems import Trial, table, trial

GROUP = 10  # updates of a dispatch that is timed


class Budget(NamedTuple):
    """Budget of every objective: seconds on one core, seeds, and whether options are searched."""

    seconds: float
    seeds: int
    search: bool


def choices(search: dict[str, list]) -> list[dict[str, Any]]:
    """Return all combinations of the options' values, the defaults first."""
    return [
        dict(zip(search, values, strict=True)) for values in itertools.product(*search.values())
    ]


def seconds_per_update(trainer: training.Trainer, state: Any, batch: loop.Batch) -> float:
    """Return the median over five dispatches, after one that compiles."""
    batches = jax.tree.map(lambda *leaves: np.stack(leaves), *map(batch, range(GROUP)))
    taken = []
    for _ in range(6):
        began = time.perf_counter()
        jax.block_until_ready(trainer.update(state, batches, jax.random.key(0)))
        taken.append((time.perf_counter() - began) / GROUP)
    return statistics.median(taken[1:])


class Trainable:
    """An objective with its options on a problem, the cost of an update and their number."""

    def __init__(
        self,
        name: str,
        row: objectives_by_name.Row,
        options: dict[str, Any],
        of: Trial,
        folder: Path,
    ) -> None:
        """Create the objective; this compiles nothing."""
        self._name, self._row, self._of, self._folder = name, row, of, folder
        self.options, self._objective = options, row.make(of.problem, **options)

    def _start(self, trainer: training.Trainer, seed: int):
        init, start, chains, train = jax.random.split(jax.random.key(seed), 4)
        params = self._row.start(self._of.problem, self._of.init(init), start)
        return trainer.init(params, chains), train

    @functools.cached_property
    def speed(self) -> dict[str, float]:
        """Return seconds and energies an update, measured once and kept in a file."""
        path = self._folder / "speed.json"
        if not path.exists():
            trainer = self._trainer(1000)
            state, key = self._start(trainer, 0)
            batch = self._of.batch(0)
            energy = cost.multiplications(
                self._of.problem.energy,
                objectives_by_name.energy_params(state.params),
                self._of.problem.data[0],
            )
            update = cost.multiplications(trainer.step, state, batch(0), key)
            found = {
                "seconds_per_update": seconds_per_update(trainer, state, batch),
                "energies_per_update": update / energy,
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found) + "\n", encoding="utf-8")
        return json.loads(path.read_text(encoding="utf-8"))

    @functools.cache  # noqa: B019  # compiled once for all seeds
    def _trainer(self, steps: int) -> training.Trainer:
        return training.trainer(self._objective, self._of.optimizer(self._row.learning_rate, steps))

    def train(self, seed: int, steps: int) -> dict[str, Any]:
        """Train from a seed, or read the result of an earlier run."""
        folder = self._folder / f"updates_{steps}" / f"seed_{seed}"
        path = folder / "row.json"
        if path.exists():
            return json.loads(path.read_text(encoding="utf-8"))
        run, trainer = work_directory.Run(folder), self._trainer(steps)
        state, key = self._start(trainer, seed)
        began = time.perf_counter()
        try:
            group = -(-steps // 20)
            state, _ = loop.train(
                run, "", trainer, state, self._of.batch(seed), key, num_steps=steps, group=group
            )
            measured = self._of.measure(state.params)
        except training.DivergedError as error:
            measured = {"diverged": str(error)}
        finally:
            run.close()
        row = {
            "objective": self._name,
            "options": self.options,
            "seed": seed,
            "updates": steps,
            "seconds": round(time.perf_counter() - began, 2),
            **self.speed,
            **measured,
        }
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        return row


def updates(budget: Budget, speed: dict[str, float]) -> int:
    """Return how many updates the seconds pay for, one at least."""
    return max(1, int(budget.seconds / speed["seconds_per_update"]))


def compete(
    problem: str, name: str, budget: Budget, workdir: Path, data_dir: str | None
) -> list[dict[str, Any]]:
    """Return the rows of an objective's seeds, with the options that did best at seed 0.

    That seed is not among the rows: what chose the options does not measure them.
    """
    row, of = table(problem)[name], trial(problem, data_dir)
    listed = choices(row.search) if budget.search else [{}]
    tried = []
    for options in listed:
        label = ",".join(f"{k}={v}" for k, v in options.items()) or "defaults"
        tried.append(Trainable(name, row, options, of, workdir / problem / name / label))
    best = tried[0]
    if len(tried) > 1:
        first = [t.train(0, updates(budget, t.speed)).get("gap", np.inf) for t in tried]
        best = tried[int(np.argmin(first))]
    return [best.train(seed, updates(budget, best.speed)) for seed in range(1, budget.seeds + 1)]


def work(job: tuple) -> tuple[str, str, list[dict[str, Any]]]:
    """Do one job of the pool, on the one core that its process has."""
    problem, name, *rest = job
    return problem, name, compete(problem, name, *rest)


def pin(cores: Any) -> None:
    """Give this process one core of its own, where the system can: all have the same machine."""
    core = cores.get()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
