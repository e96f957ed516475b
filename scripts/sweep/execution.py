"""Running what a sweep has not run yet, on this machine or on SLURM."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import submitit

from experiments import runs


def execute(command: list[str], folder: str) -> int:
    """Run one program, everything it prints into log.txt; return its exit code."""
    with open(f"{folder}/log.txt", "w") as log:
        return subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode


def finished(folder: Path, command: list[str]) -> bool:
    """Return whether a run is done; refuse a folder that holds another one."""
    note = folder / "command.json"
    if note.exists() and json.loads(note.read_text()) != command:
        raise runs.UsageError(
            f"{folder} holds a run with other flags: choose another --workdir, or delete it."
        )
    return note.exists() and summary(folder) is not None


def summary(folder: Path) -> dict[str, Any] | None:
    """Return what a run measured, or None if it did not get there."""
    try:
        return json.loads((folder / "summary.json").read_text())
    except (OSError, ValueError):
        return None


def make_executor(
    workdir: Path, cluster: str, timeout_min: int, options: dict[str, str]
) -> submitit.AutoExecutor:
    """Return submitit's executor, its files under workdir/submitit."""
    if cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise runs.UsageError("--cluster=slurm needs sbatch and srun on the PATH.")
    executor = submitit.AutoExecutor(folder=workdir / "submitit", cluster=cluster)
    try:
        executor.update_parameters(
            timeout_min=timeout_min,
            **{n: int(v) if v.isdigit() else v for n, v in options.items()},
        )
    except (NameError, TypeError, ValueError) as error:
        sentence = str(error).splitlines()[0]
        raise runs.UsageError(f"--cluster_options is refused: {sentence}") from None
    return executor


def run_all(
    workdir: Path,
    commands: dict[str, list[str]],
    executor: submitit.AutoExecutor,
    max_parallel: int,
) -> dict[str, str]:
    """Run what is not finished, at most ``max_parallel`` at once; return why runs failed."""
    done = {name for name, command in commands.items() if finished(workdir / name, command)}
    waiting = [name for name in commands if name not in done]
    active, failures = {}, {}
    advance, close = runs.progress(max(len(commands), 1), "runs")
    try:
        while waiting or active:
            while waiting and len(active) < max_parallel:
                name = waiting.pop(0)
                folder = workdir / name
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "command.json").write_text(json.dumps(commands[name]))
                active[name] = executor.submit(execute, commands[name], str(folder))
            time.sleep(0.2)
            for name in [name for name, job in active.items() if job.done()]:
                problem = active.pop(name).exception()
                if problem or summary(workdir / name) is None:
                    failures[name] = last_lines(workdir / name / "log.txt", problem)
                    print(f"failed: {name}\n{failures[name]}", file=sys.stderr)
                done.add(name)
                advance(len(done), name)
    finally:
        close()
        for job in active.values():
            job.cancel(check=False)
    return failures


def last_lines(log: Path, problem: Exception | None, count: int = 15) -> str:
    """Return the end of a run's log, or what submitit says where there is none."""
    text = log.read_text(errors="replace") if log.exists() else ""
    lines = (text.strip() or str(problem)).splitlines()
    return "\n".join(f"    {line}" for line in lines[-count:])
