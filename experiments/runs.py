"""What every program does around its mathematics: flags, workdir, metrics, progress, training."""

import functools
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import app, flags, logging
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from tensorboardX import SummaryWriter

from ebm_jax.training import DivergedError, Trainer, TrainingState, raise_if_diverged

flags.DEFINE_string("workdir", None, "Folder for everything the run writes; made if missing.")
flags.DEFINE_integer("seed", 0, "Seed of all randomness.", lower_bound=0)
FLAGS = flags.FLAGS


class UsageError(ValueError):
    """Something the user can put right; shown as one sentence, without a traceback."""


def main(program: Callable[[], None]) -> None:
    """Run a program under absl: bad usage and divergence end it with a sentence and code 1."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            sys.exit(f"error: unknown argument {argv[1]!r}; every option is a --flag=value.")
        logging.set_verbosity(logging.WARNING)  # jax tells of every backend it does not find
        try:
            program()
        except (UsageError, DivergedError) as error:
            sys.exit(f"error: {error}")

    app.run(guarded)


def _flag_text() -> str:
    """Return the flags of this package as a flagfile, --workdir left out."""
    modules = FLAGS.flags_by_module_dict()
    own = {f.name: f for m, fs in modules.items() if "absl" not in m for f in fs}
    lines = [own[name].serialize() for name in sorted(own) if name != "workdir"]
    return "".join(f"{line}\n" for line in lines if line)


class Run:
    """The workdir of one run: flags.txt, metrics.jsonl, TensorBoard events, summary.json."""

    def __init__(self) -> None:
        """Make or take the workdir that --workdir names, or refuse it before any work."""
        if not FLAGS.workdir:
            raise UsageError("--workdir is not set: name a folder for what the run writes.")
        self.workdir = Path(FLAGS.workdir)
        flag_file = self.workdir / "flags.txt"
        try:
            self.workdir.mkdir(parents=True, exist_ok=True)
            if flag_file.exists() and flag_file.read_text() != _flag_text():
                raise UsageError(
                    f"--workdir={self.workdir} holds a run with other flags (see {flag_file}): "
                    "choose another folder, or delete this one."
                )
            flag_file.write_text(_flag_text())
            self._metrics = (self.workdir / "metrics.jsonl").open("w")
        except OSError as error:
            raise UsageError(f"--workdir={self.workdir} cannot be written: {error}.") from error
        self._started = time.perf_counter()

    @functools.cached_property
    def _board(self) -> SummaryWriter:
        # Made when first written to: one that never was complains at exit, after the real error.
        return SummaryWriter(str(self.workdir / "tensorboard"))

    def seconds(self) -> float:
        """Return the wall-clock seconds since the run began."""
        return time.perf_counter() - self._started

    def log(self, step: int, metrics: dict[str, float]) -> None:
        """Write one line of metrics.jsonl, and the same to TensorBoard."""
        self._metrics.write(json.dumps({"step": step} | metrics) + "\n")
        self._metrics.flush()
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def write(self, name: str, text: str) -> None:
        """Write a text file into the workdir."""
        (self.workdir / name).write_text(text)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write summary.json and print it as the last line."""
        summary = summary | {"seconds": round(self.seconds(), 1)}
        self.write("summary.json", json.dumps(summary, indent=2) + "\n")
        self._metrics.close()
        self._board.close()
        print(json.dumps(summary), flush=True)


def progress(total: int, describe: str) -> tuple[Callable[[int, str], None], Callable[[], None]]:
    """Return (advance, close): a bar with ETA on a terminal, a line every tenth elsewhere."""
    console = Console(stderr=True)
    if console.is_terminal:
        columns = (
            TextColumn(describe),
            BarColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        bar = Progress(*columns, console=console)
        task = bar.add_task(describe, total=total, note="")
        bar.start()
        return lambda done, note: bar.update(task, completed=done, note=note), bar.stop
    started, printed = time.perf_counter(), [0]

    def advance(done: int, note: str) -> None:
        if done * 10 // total > printed[0] * 10 // total or done == total:
            printed[0] = done
            left = (time.perf_counter() - started) * (total - done) / done
            print(f"{describe} {done}/{total}, {left:.0f} s left, {note}", file=sys.stderr)

    return advance, lambda: None


def train(
    run: Run,
    trainer: Trainer,
    state: TrainingState,
    groups: Iterable[Any],
    key: jax.Array,
    *,
    num_steps: int,
    gap: str,
) -> tuple[TrainingState, dict[str, np.ndarray]]:
    """Train on groups of batches; log the mean of each group; stop when it diverges.

    Returns the last state and the history of every metric, one value a group. ``gap`` is the
    metric shown live.
    """
    advance, close = progress(num_steps, "training")
    history: list[dict[str, float]] = []
    try:
        for group in groups:
            state, stacked = trainer.update(state, group, key)
            stacked = jax.device_get(stacked)
            means = {name: float(np.mean(value)) for name, value in stacked.items()}
            means["step"] = done = int(stacked["step"][-1]) + 1
            history.append(means)
            run.log(done, {name: value for name, value in means.items() if name != "step"})
            raise_if_diverged(stacked)
            advance(done, f"energy gap {means[gap]:+.3f}")
    finally:
        close()
    return state, {name: np.array([row[name] for row in history]) for name in history[0]}
