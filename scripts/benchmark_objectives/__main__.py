"""Compare training objectives on problems whose exact answer is known.

    python -m scripts.benchmark_objectives --quick --workdir=runs/bq
    python -m scripts.benchmark_objectives --workdir=runs/bo --resume
    python -m scripts.benchmark_objectives --entry=my_module:make_objective --workdir=runs/be

Every objective has 16 trials of its options, then 10 seeds at each budget; docs/benchmark_protocol
describes the protocol. Rows are appended to the folder of --rows as work ends. With --resume the
rows that exist are kept, and only the others are made. --quick is a demonstration: a few
objectives, problems and seeds at a tenth of the smallest budgets, with rows in the workdir.
--entry runs your own objective, with rows in the workdir, and prints where it would stand. The last
line printed is JSON: problems, objectives, seeds, hours.
"""

from absl import flags

from experiments import names
from experiments.run import command_line, entry, errors, work_directory

flags.DEFINE_list("problems", ["all"], "Problems to run, or all.")
flags.DEFINE_list("objectives", None, "Objectives to run; if unset, all.")
flags.DEFINE_list("budgets", ["0", "1", "2"], "Budgets to run: 0, 1 and 2.")
flags.DEFINE_integer("seeds", 10, "Seeds of each objective.", 1)
flags.DEFINE_bool("quick", False, "Run a demonstration of 10 minutes or less.")
flags.DEFINE_bool("resume", False, "Continue from the rows that exist.")
flags.DEFINE_string("entry", None, "Your own objective, as module:function.")
command_line.define_float("hours", None, "Number of hours after which no new work starts.", 0.0)
flags.DEFINE_integer("threads", None, "Threads of XLA; if unset, all cores.", 1)
flags.DEFINE_bool("measure_vmapping", False, "Only measure how much time vmapped seeds save.")
command_line.define_path("rows", None, "Folder of the rows; if unset, docs/data/objectives.")
command_line.define_path("data_dir", None, names.DATA_DIR)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

if FLAGS.is_parsed() and FLAGS.threads:
    # XLA reads them when JAX starts.
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if FLAGS.threads < len(cores):
        os.environ["XLA_FLAGS"] = (
            os.environ.get("XLA_FLAGS", "")
            + f" --xla_cpu_multi_thread_eigen={str(FLAGS.threads > 1).lower()}"
            + f" intra_op_parallelism_threads={FLAGS.threads}"
        )
        os.environ.setdefault("OMP_NUM_THREADS", str(FLAGS.threads))

from scripts.benchmark_objectives import competitors, entries, problems, rows, runs, tuning, work

QUICK_PROBLEMS = ["8gaussians", "rbm16"]
QUICK_OBJECTIVES = ["exact", "pcd", "denoising_score_matching", "pseudo_likelihood", "binary_nce"]
QUICK = {"seeds": 3, "trials": 4, "scale": 0.5, "budgets": (0, 1)}


def chosen_problems() -> list[str]:
    """Validate and return the problems."""
    if unknown := [name for name in FLAGS.problems if name not in ("all", *problems.NAMES)]:
        raise errors.UsageError(
            f"--problems={unknown[0]}: allowed are all, {', '.join(problems.NAMES)}."
        )
    if "all" in FLAGS.problems:
        return QUICK_PROBLEMS if FLAGS.quick else list(problems.NAMES)
    return FLAGS.problems


def chosen_objectives(chosen: list[str]) -> list[str] | None:
    """Validate and return the objectives, None for all."""
    if FLAGS.entry:
        competitors.entry(FLAGS.entry)
        return [FLAGS.entry]
    if FLAGS.objectives is None:
        return QUICK_OBJECTIVES if FLAGS.quick else None
    known = {name for p in chosen for name in competitors.names(work.problem_class(p))}
    if unknown := [name for name in FLAGS.objectives if name not in known]:
        raise errors.UsageError(
            f"--objectives={unknown[0]}: allowed are {', '.join(sorted(known))}."
        )
    return FLAGS.objectives


def chosen_budgets() -> tuple[int, ...]:
    """Validate and return the budgets."""
    if unknown := [budget for budget in FLAGS.budgets if budget not in ("0", "1", "2")]:
        raise errors.UsageError(f"--budgets={unknown[0]}: allowed are 0, 1 and 2.")
    return tuple(sorted(map(int, FLAGS.budgets)))


def make_plan() -> work.Plan:
    """Return what the flags ask for; refuse rows that exist unless they are to be continued."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the files of the run.")
    workdir = Path(FLAGS.workdir)
    work_directory.make_folder(workdir)
    own = FLAGS.quick or FLAGS.entry
    folder = workdir / "rows" if own else Path(FLAGS.rows or rows.FOLDER)
    if not FLAGS.resume and any(row["kind"] == "run" for row in rows.read(folder)):
        raise errors.UsageError(
            f"{folder} has rows of an earlier run: pass --resume to continue it, or another "
            f"{'--workdir' if own else '--rows'}."
        )
    plan = work.Plan(folder, FLAGS.seeds, chosen_budgets(), data_dir=FLAGS.data_dir)
    return plan._replace(**QUICK) if FLAGS.quick else plan


def measure_vmapping(plan: work.Plan) -> dict[str, Any]:
    """Return the seconds of the seeds one after another, and of one vmapped program."""
    task = problems.task("8gaussians")
    competitor = competitors.competitor("pcd", task)
    rate, options = tuning.trials(competitor.search)[0]
    fixed, values = tuning.split(competitor, options)
    program = runs.program(task, competitor, fixed, values)
    passes, seeds = plan.passes(task, 1), list(range(1, plan.seeds + 1))
    stack = runs.members(seeds, [rate] * len(seeds), [values] * len(seeds))
    together = program.train(task, stack, passes, curve=False)
    apart = [
        program.train(task, runs.members([seed], [rate], [values]), passes, curve=False)[0]
        for seed in seeds
    ]
    return {
        "seconds_vmapped": round(sum(result.seconds for result in together), 3),
        "seconds_one_after_another": round(sum(result.seconds for result in apart), 3),
    }


def main() -> None:
    """Do the jobs in order."""
    plan, began = make_plan(), time.perf_counter()
    if FLAGS.measure_vmapping:
        print(json.dumps(measure_vmapping(plan)), flush=True)
        return
    chosen = chosen_problems()
    listed = work.jobs(chosen, chosen_objectives(chosen), plan.budgets)
    if FLAGS.entry or FLAGS.quick:
        listed = [job for job in listed if job.objective is not None]
    kept = work.Rows(plan.folder)
    if FLAGS.quick:
        print("This is a demonstration: its budgets are too small to compare.", file=sys.stderr)
    for number, job in enumerate(listed, 1):
        if work.finished(plan, began, FLAGS.hours):
            print("The hours are over; --resume continues.", file=sys.stderr)
            break
        started = time.perf_counter()
        if work.do(plan, kept, job):
            seconds = time.perf_counter() - started
            name = job.objective or "reference"
            print(
                f"{number}/{len(listed)} {job.problem} {name} {list(job.budgets)}: "
                f"{seconds:.0f} seconds",
                file=sys.stderr,
                flush=True,
            )
    done = rows.read(plan.folder)
    result = work.summary(done, (time.perf_counter() - began) / 3600)
    if FLAGS.entry:
        others = rows.read(FLAGS.rows or rows.FOLDER)
        result["standing"] = entries.standing(done, others, FLAGS.entry)
        print("\n".join(entries.lines(result["standing"])))
    if FLAGS.quick:
        result["demonstration"] = True
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    entry.main(main)
