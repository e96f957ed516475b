"""The runs of a sweep, on this machine or as one job array on SLURM."""

import fcntl
import json
import math
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from experiments import runs

GRACE = 60  # seconds that a run which was asked to stop has to save
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
MEMORY = ("MEM_FRACTION", "PYTHON_CLIENT_PREALLOCATE", "PYTHON_CLIENT_ALLOCATOR")  # XLA's settings


class Run:
    """One run: its command, its folder, and its process while it runs here."""

    def __init__(self, command: list[str], folder: Path):
        self.command, self.folder = command, folder
        self.process, self.deadline, self.asked = None, math.inf, False

    def summary(self) -> dict[str, Any] | None:
        """Return what the run measured, or None if it did not get there."""
        try:
            return json.loads((self.folder / "summary.json").read_text())
        except (OSError, ValueError):
            return None

    def status(self) -> tuple[str, str]:
        """Return finished, failed or unfinished, and why."""
        if self.summary() is not None:
            return "finished", ""
        try:
            code = int((self.folder / "exit.txt").read_text())
        except (OSError, ValueError):
            return "unfinished", "    It did not begin, or runs, or was lost with its machine."
        if code == runs.STOPPED or -code in SIGNALS:
            why = f"    It was stopped ({signal.Signals(-code).name if code < 0 else code})."
            return "unfinished", why
        lines = (self.folder / "log.txt").read_text(errors="replace").strip().splitlines()
        return "failed", "\n".join(f"    {line}" for line in [*lines, f"exit code {code}"][-15:])

    def start(self, environment: dict[str, str] | None = None) -> bool:
        """Start the program unless it is finished or runs already; return whether it started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # The program inherits the lock with its log, so that it holds even if we are killed.
        with (self.folder / "log.txt").open("a") as log:
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            if self.summary() is not None:
                return False
            (self.folder / "exit.txt").unlink(missing_ok=True)
            # A session of its own: Ctrl-C reaches it once, through us.
            self.process = subprocess.Popen(
                self.command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        return True

    def stop(self, *_: Any) -> None:
        """Have the run asked to save and end, from now on."""
        self.deadline = min(self.deadline, time.monotonic())

    def ended(self) -> bool:
        """Return whether it has ended; after its deadline it is asked to, and then made to."""
        assert self.process
        code = self.process.poll()
        if code is not None:
            (self.folder / "exit.txt").write_text(f"{code}\n")
            return True
        late = time.monotonic() - self.deadline
        if late > GRACE:
            self.process.kill()
        elif late > 0 and not self.asked:
            self.asked = True
            self.process.terminate()
        return False

    def __call__(self) -> None:
        """Run as a job of SLURM."""
        if not self.start():
            return
        signal.signal(signal.SIGTERM, self.stop)
        while not self.ended():
            time.sleep(0.2)
        if self.deadline < math.inf:
            # SLURM takes the node back. A job that waits for that is queued again if it was
            # preempted, and not if it was cancelled; one that ended now would count as done.
            time.sleep(10 * GRACE)

    def checkpoint(self) -> DelayedSubmission:
        """Let the run save when its time is up; submitit calls this, and queues it again."""
        self.stop()
        for _ in range(5 * GRACE):
            if not self.process or self.ended():
                break
            time.sleep(0.2)
        return DelayedSubmission(Run(self.command, self.folder))


def share_of_memory(max_parallel: int) -> dict[str, str]:
    """Return the environment of one of several runs at a time: an equal share of a GPU's memory.

    JAX reserves three quarters of a GPU's memory when it starts, so a second process would find
    too little. A setting of XLA's that is already in the environment is left alone.
    """
    chosen = any(name.startswith("XLA_") and name.endswith(MEMORY) for name in os.environ)
    share = {} if max_parallel == 1 or chosen else {"XLA_CLIENT_MEM_FRACTION": 0.9 / max_parallel}
    return dict(os.environ) | {name: f"{value:.3g}" for name, value in share.items()}


def run_here(waiting: list[Run], max_parallel: int, timeout_min: int) -> str:
    """Run on this machine; return the name of the signal that ended it before its time, or ""."""
    stopped = []
    for which in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(which) is not signal.SIG_IGN:
            signal.signal(which, lambda number, _: stopped.append(signal.Signals(number).name))
    waiting, active, done = list(waiting), [], 0
    environment = share_of_memory(max_parallel)
    advance, close = runs.progress(max(len(waiting), 1), "runs")
    try:
        while active or (waiting and not stopped):
            while waiting and len(active) < max_parallel and not stopped:
                run = waiting.pop(0)
                if run.start(environment):
                    run.deadline = time.monotonic() + 60 * timeout_min
                    active.append(run)
            time.sleep(0.05)
            for run in list(active):
                if stopped:
                    run.stop()
                if run.ended():
                    active.remove(run)
                    done += 1
                    advance(done, f"{run.folder.name} {run.status()[0]}")
    finally:
        close()
        for run in active:
            run.process.terminate()
    return stopped[0] if stopped else ""


def submit(
    waiting: list[Run], folder: Path, max_parallel: int, timeout_min: int, options: dict[str, str]
) -> str:
    """Queue the runs on SLURM as one job array; return its number."""
    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise runs.UsageError("--cluster=slurm needs sbatch and srun on the PATH.")
    # A run that the time limit stopped goes on from its checkpoint as often as it must.
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=1000)
    try:
        executor.update_parameters(
            name="sweep",
            timeout_min=timeout_min,
            slurm_array_parallelism=max_parallel,
            **{n: int(v) if v.isdigit() else v for n, v in options.items()},
        )
        jobs = executor.submit_array(waiting)
    except (NameError, TypeError, ValueError) as error:
        sentence = str(error).splitlines()[0]
        raise runs.UsageError(f"--cluster_options is refused: {sentence}") from None
    except FailedJobError as error:
        raise runs.UsageError(f"sbatch refused the job array: {str(error).strip()}") from None
    return jobs[0].job_id.split("_")[0]
