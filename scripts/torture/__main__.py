"""Kill a program at random times, resume it, and compare its result with that of a whole run.

    python -m scripts.torture --program=experiments.digits --kills=20 --workdir=runs/t

The program runs once without interruption. Then it is started and killed (SIGKILL) after a random
part of that time, again and again, until it finishes between two kills; this is repeated until
--kills kills are made. The last line counts the kills after which the result was bit-for-bit equal,
for example ``bitwise_equal=20/20``: the final checkpoints (parameters, optimiser, averages, chains,
counters) and metrics.jsonl equal those of the uninterrupted run.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from absl import flags

from experiments.run import entry, errors, work_directory

flags.DEFINE_string("program", "experiments.digits", "Module to run.")
flags.DEFINE_integer("kills", 20, "Number of kills.", lower_bound=1)
flags.DEFINE_string("arguments", "", "Flags for the program, separated by spaces.")
FLAGS = flags.FLAGS


def command(program: str, arguments: list[str], workdir: Path) -> list[str]:
    """Return the command of one run."""
    return [sys.executable, "-m", program, *arguments, f"--workdir={workdir}"]


def to_the_end(order: list[str]) -> float:
    """Run to the end; return the seconds it took."""
    started = time.perf_counter()
    done = subprocess.run(order, capture_output=True, text=True)
    if done.returncode not in (0, errors.FALSE_CLAIM):
        raise errors.UsageError(f"{' '.join(order)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


def killed(order: list[str], after: float) -> bool:
    """Run, and kill after ``seconds``; return whether it was still running."""
    process = subprocess.Popen(order, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(after)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def final_states(workdir: Path) -> dict[str, str]:
    """Return path -> checksum and shapes of the last checkpoint of every training."""
    found = {}
    for training in sorted((workdir / "checkpoints").iterdir()):
        newest = max((p for p in training.iterdir() if p.name.isdigit()), key=lambda p: int(p.name))
        about = next(newest.glob("about/*"))
        found[f"{training.name}/{newest.name}"] = about.read_text(encoding="utf-8")
    return found


def equal(one: Path, other: Path) -> bool:
    """Whether two runs ended in the same bits: states and metrics."""
    metrics = [(folder / "metrics.jsonl").read_text(encoding="utf-8") for folder in (one, other)]
    return final_states(one) == final_states(other) and metrics[0] == metrics[1]


def main() -> None:
    """Run, kill, compare."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the runs.")
    workdir, arguments = Path(FLAGS.workdir).absolute(), FLAGS.arguments.split()
    whole, cut = workdir / "whole", workdir / "cut"
    work_directory.make_folder(workdir)
    seconds = to_the_end(command(FLAGS.program, arguments, whole))
    order = command(FLAGS.program, arguments, cut)
    dice, kills, pending, same = random.Random(FLAGS.seed), 0, 0, 0
    shutil.rmtree(cut, ignore_errors=True)
    while kills < FLAGS.kills or pending:
        if kills < FLAGS.kills and killed(order, dice.uniform(0.1, 1.0) * seconds):
            kills, pending = kills + 1, pending + 1
            print(f"kill {kills} of {FLAGS.kills}", file=sys.stderr)
            continue
        to_the_end(order)
        same += pending if equal(whole, cut) else 0
        pending = 0
        shutil.rmtree(cut)
    print(json.dumps({"seconds_untouched": round(seconds, 1), "kills": kills}))
    print(f"bitwise_equal={same}/{kills}", flush=True)
    if same < kills:
        sys.exit(1)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.getcwd())
    entry.main(main)
