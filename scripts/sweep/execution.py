"""The runs of a sweep, on this machine or as one job array on SLURM."""

import fcntl
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError
from submitit.helpers import DelayedSubmission

from experiments.run import errors, progress

GRACE = 60  # seconds that a run which was asked to stop has to save
SHORTEST = 5  # minutes of a job: 2 to start, 3 from submitit's signal to its limit
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGUSR2)
MEMORY = ("MEM_FRACTION", "PYTHON_CLIENT_PREALLOCATE", "PYTHON_CLIENT_ALLOCATOR")  # XLA's settings


class Run:
    """One run: its command, its folder, and its process while it runs here."""

    def __init__(self, command: list[str], folder: Path):
        self.command, self.folder = command, folder
        self.process, self.deadline, self.asked = None, math.inf, False
        self.job = ""  # of SLURM, where it is queued or running
        self.checkpoints_before: list[str] | None = None  # when it was last queued again

    def summary(self) -> dict[str, Any] | None:
        """Return the measurements of the run, or None if it did not finish."""
        try:
            return json.loads((self.folder / "summary.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None

    def status(self) -> tuple[str, str]:
        """Return finished, failed or unfinished, and why."""
        if self.summary() is not None:
            return "finished", ""
        if self.job:
            return "unfinished", f"    It is queued or running as job {self.job}."
        try:
            code = int((self.folder / "exit.txt").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            why = "    It did not begin, or runs, or was lost with its machine."
            return "unfinished", "\n".join([why, *self.said_of_job()])
        if code == errors.STOPPED or -code in SIGNALS:
            why = f"    It was stopped ({signal.Signals(-code).name if code < 0 else code})."
            return "unfinished", "\n".join([why, *self.said_of_job()])
        lines = (
            (self.folder / "log.txt")
            .read_text(errors="replace", encoding="utf-8")
            .strip()
            .splitlines()
        )
        return "failed", "\n".join(f"    {line}" for line in [*lines, f"exit code {code}"][-15:])

    def job_number(self) -> str:
        """Return the number of the job of SLURM that it was last queued as, or ""."""
        try:
            return (self.folder / "job.txt").read_text(encoding="utf-8").strip()
        except OSError:
            return ""

    def said_of_job(self) -> list[str]:
        """Return the last lines of the logs of SLURM and submitit, if the run was a job."""
        log = self.folder.parent / "submitit" / f"{self.job_number()}_0_log.err"
        try:
            lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        told = [line for line in lines if line[:1].strip() and not line.startswith("Traceback")]
        return [f"    {line}" for line in told[-6:]]

    def checkpoints(self) -> list[str]:
        """Return the names of its checkpoints."""
        whole = (p for p in self.folder.glob("checkpoints/*/*") if p.name.isdigit())
        return sorted(map(str, whole))

    def start(self, environment: dict[str, str] | None = None) -> bool:
        """Start the program unless it is finished or runs already; return whether it started."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # The program inherits the lock with its log, so that it holds even if we are killed.
        with (self.folder / "log.txt").open("a", encoding="utf-8") as log:
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
            (self.folder / "exit.txt").write_text(f"{code}\n", encoding="utf-8")
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

    def checkpoint(self) -> DelayedSubmission | None:
        """Let the run save when its time is up; submitit calls this, and queues it again.

        Not where it made no checkpoint since it was last queued again: it never would.
        """
        self.stop()
        for _ in range(5 * GRACE):
            if not self.process or self.ended():
                break
            time.sleep(0.2)
        now = self.checkpoints()
        if now == self.checkpoints_before:
            print(
                "The time limit came twice without a new checkpoint between: it is not queued "
                "again. Give it more time by --timeout_min.",
                file=sys.stderr,
            )
            return None
        again = Run(self.command, self.folder)
        again.checkpoints_before = now
        return DelayedSubmission(again)


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
    advance, close = progress.bar(max(len(waiting), 1), "runs")
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
) -> list[str]:
    """Queue the runs on SLURM as job arrays, one after another; return their numbers.

    There is one array, unless the cluster allows only shorter ones.
    """
    if not (shutil.which("sbatch") and shutil.which("srun")):
        raise errors.UsageError("--cluster=slurm needs sbatch and srun on the PATH.")
    if "slurm_time" in options or "timeout_min" in options:
        raise errors.UsageError("--cluster_options sets the time limit: use --timeout_min.")
    if timeout_min < SHORTEST:
        raise errors.UsageError(
            f"--timeout_min={timeout_min} leaves no time to train: a job needs a minute or two to "
            f"start, and is asked to save up to 150 s before its limit; give at least {SHORTEST}."
        )
    numbers: list[str] = []
    # A run stopped by the time limit resumes from its checkpoint until it has finished.
    executor = submitit.AutoExecutor(folder=folder, cluster="slurm", slurm_max_num_timeout=1000)
    try:
        executor.update_parameters(
            name="sweep",
            timeout_min=timeout_min,
            slurm_array_parallelism=max_parallel,
            **{n: int(v) if v.isdigit() else v for n, v in options.items()},
        )
        for part in _parts(waiting):
            jobs = executor.submit_array(part)
            for run, job in zip(part, jobs, strict=True):
                run.folder.mkdir(parents=True, exist_ok=True)
                run.job = job.job_id
                (run.folder / "job.txt").write_text(f"{job.job_id}\n", encoding="utf-8")
            numbers.append(jobs[0].job_id.split("_")[0])
            # So that no more than max_parallel run at a time.
            after = f"afterany:{numbers[-1]}"
            given = options.get("slurm_dependency")
            executor.update_parameters(slurm_dependency=f"{given},{after}" if given else after)
    except (NameError, TypeError, ValueError) as error:
        sentence = str(error).splitlines()[0]
        raise errors.UsageError(f"--cluster_options is invalid: {sentence}") from None
    except FailedJobError as error:
        queued = f" (queued before it: job {', '.join(numbers)})" if numbers else ""
        sentence = f"sbatch rejected the job array: {str(error).strip()}{queued}"
        raise errors.UsageError(sentence) from None
    return numbers


def _answer(*command: str) -> str:
    """Return the output of a SLURM command; empty if it is missing or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _parts(waiting: list[Run]) -> list[list[Run]]:
    """Return the runs in lists as long as the cluster allows a job array to be."""
    config = re.search(r"^MaxArraySize\s*=\s*(\d+)", _answer("scontrol", "show", "config"), re.M)
    longest = max(int(config[1]), 1) if config else len(waiting)
    return [waiting[first : first + longest] for first in range(0, len(waiting), longest)]


def note_queued(planned: list[Run]) -> None:
    """Note in the runs which jobs of SLURM are queued or running."""
    numbers = {number: run for run in planned if (number := run.job_number())}
    queue = _answer("squeue", "--me", "--array", "--noheader", "--format=%i") if numbers else ""
    for number in queue.split():
        if number in numbers:
            numbers[number].job = number
