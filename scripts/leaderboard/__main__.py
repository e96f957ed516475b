"""Rank the objectives by exact likelihood, with the same network and the same training time.

    python -m scripts.leaderboard --quick --workdir=runs/lb
    python -m scripts.leaderboard --problems=2spirals,checkerboard,nltcs --workdir=runs/full

Each objective first tries a few values of its options with one seed, then trains with the best
values and other seeds. A training runs on one core; its number of updates is --training_seconds
times the measured speed. Finished trainings are kept in the workdir: the same command resumes.
--quick trains on two problems for a few seconds each, without a search. Writes leaderboard.md and
its figure; the last line is the ranking.
"""

from absl import flags

from experiments import names
from experiments.run import command_line, entry, errors, work_directory

flags.DEFINE_list("problems", ["2spirals", "nltcs"], "Problems, or all of them (all).")
flags.DEFINE_list("objectives", None, "Objectives; if unset, all.")
command_line.define_float("training_seconds", 20.0, "Seconds of each training, on one core.", 0.01)
flags.DEFINE_integer("seeds", 3, "Seeds of each objective, with its best options.", 1)
flags.DEFINE_bool("search", True, "Choose the options of each objective by a search.")
flags.DEFINE_bool(
    "quick", False, "Train for three seconds without a search: takes minutes instead of hours."
)
command_line.define_path("data_dir", None, names.DATA_DIR)
command_line.define_path("docs", None, "Folder of the page; if unset, the workdir.")
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import json
import multiprocessing
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from scripts.leaderboard import page, problems, trials


def jobs(budget: trials.Budget, workdir: Path) -> list[tuple]:
    """Validate the names and return one job for each objective and problem."""
    chosen = list(problems.NAMES) if FLAGS.problems == ["all"] else FLAGS.problems
    if unknown := [name for name in chosen if name not in problems.NAMES]:
        raise errors.UsageError(
            f"--problems={unknown[0]}: allowed are all, {', '.join(problems.NAMES)}."
        )
    known = {name for problem in chosen for name in problems.table(problem)}
    if unknown := [name for name in FLAGS.objectives or () if name not in known]:
        raise errors.UsageError(
            f"--objectives={unknown[0]}: allowed are {', '.join(sorted(known))}."
        )
    return [
        (problem, name, budget, workdir, FLAGS.data_dir)
        for problem in chosen
        for name in problems.table(problem)
        if FLAGS.objectives is None or name in FLAGS.objectives
    ]


def main() -> None:
    """Train all, and write the page."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the trainings.")
    began, workdir = time.perf_counter(), Path(FLAGS.workdir)
    budget = trials.Budget(FLAGS.training_seconds, FLAGS.seeds, FLAGS.search)
    if FLAGS.quick:
        budget = budget._replace(seconds=3.0, search=False)
    todo = jobs(budget, workdir)
    work_directory.make_folder(workdir)
    for problem in {job[0] for job in todo}:
        problems.trial(problem, FLAGS.data_dir)  # data that are missing are missed before any work
    context = multiprocessing.get_context("spawn")
    cores = context.Queue()
    available = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
    for core in available:
        cores.put(core)
    rows: page.Rows = {job[0]: {} for job in todo}
    with ProcessPoolExecutor(len(available), context, trials.pin, (cores,)) as pool:
        waiting = [pool.submit(trials.work, job) for job in todo]
        for done, future in enumerate(as_completed(waiting), 1):
            problem, name, found = future.result()
            rows[problem][name] = found
            print(
                f"{done}/{len(todo)} {problem} {name}: gap {page.median_gap(found):.4f}",
                file=sys.stderr,
            )
    command = "python -m scripts.leaderboard " + " ".join(
        argument for argument in sys.argv[1:] if "workdir" not in argument
    )
    page.write(rows, Path(FLAGS.docs or workdir), command, **budget._asdict())
    ranking = {
        problem: {name: round(page.median_gap(found), 5) for name, found in page.ranked(objectives)}
        for problem, objectives in rows.items()
    }
    print(json.dumps(ranking | {"seconds": round(time.perf_counter() - began, 1)}), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.getcwd())
    entry.main(main)
