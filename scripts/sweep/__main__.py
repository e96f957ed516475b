r"""Run a program over a grid of its own flags and some seeds, on this machine or on SLURM.

    python -m scripts.sweep --program=experiments.digits --grid="loss=nll,hinge,log;margin=0.5,1" \
        --seeds=3 --max_parallel=2 --workdir=runs/sweep

--grid takes every combination, --zipped walks its lists side by side, --random draws --samples
settings; given together, they are combined. A value that holds a comma is quoted as in CSV:
--grid='sizes="64,64",32'. Every run is a folder named by all swept flags, with its own log.txt.

The same command again, or a wider one, runs what is not finished, a killed run from its checkpoint.
Ctrl-C lets the runs save. With --cluster=slurm one job array is queued, and the program ends; with
--collect nothing is run. Each time sweep.md, sweep.csv and sweep.png show what there is, and the
last line printed is JSON: finished, failed, unfinished, best.
"""

import json
import sys
from pathlib import Path

from absl import flags

from experiments import runs
from scripts.sweep import comparison, execution
from scripts.sweep.settings import Setting, check, label, parse, settings

flags.DEFINE_string("program", None, "Module to run, experiments.digits say.")
flags.DEFINE_string("grid", "", 'Every combination: "loss=nll,hinge;margin=0.5,1".')
flags.DEFINE_string("zipped", "", 'Lists of one length, side by side: "steps=10,20;margin=1,2".')
flags.DEFINE_string("random", "", 'Draws: "margin=0.1:10:log;steps=10:99:int;loss=nll,hinge".')
flags.DEFINE_integer("samples", 8, "How many settings --random draws.", lower_bound=1)
flags.DEFINE_integer("seeds", 1, "Seeds of every setting, from --seed on.", lower_bound=1)
flags.DEFINE_enum("cluster", "local", ["local", "slurm"], "Where the runs run.")
flags.DEFINE_bool("collect", False, "Only make the tables of what is there.")
flags.DEFINE_integer("max_parallel", 1, "How many runs at the same time.", lower_bound=1)
flags.DEFINE_integer("timeout_min", 240, "Minutes until a run must save and end.", lower_bound=1)
flags.DEFINE_string("cluster_options", "", 'For submitit: "slurm_partition=gpu;gpus_per_node=1".')
flags.DEFINE_string("metric", "accuracy", "The number of summary.json that the best run has.")
flags.DEFINE_enum("goal", "max", ["max", "min"], "Whether the best is the highest or the lowest.")
FLAGS = flags.FLAGS

STATUSES = ("finished", "failed", "unfinished")


def plan(program: str, chosen: list[Setting], seeds: range, workdir: Path) -> list[tuple]:
    """Return setting, seed and run, for every run of the sweep."""
    planned = []
    for setting in chosen:
        for seed in seeds:
            path = workdir / label(setting | {"seed": str(seed)})
            given = [f"--{n}={v}" for n, v in setting.items()]
            extra = [f"--seed={seed}", f"--workdir={path}"]
            command = [sys.executable, "-m", program, *given, *extra]
            planned.append((setting, seed, execution.Run(command, path)))
    return planned


def take(workdir: Path, program: str) -> None:
    """Make the workdir, or refuse the one of another program's sweep."""
    runs.make_folder(workdir)
    note = workdir / "program.txt"
    if note.exists() and note.read_text(encoding="utf-8").strip() != program:
        raise runs.UsageError(
            f"--workdir={workdir} holds a sweep of {note.read_text(encoding='utf-8').strip()}."
        )
    note.write_text(f"{program}\n", encoding="utf-8")


def execute(waiting: list[execution.Run], workdir: Path) -> str:
    """Run or queue what is not finished; return the name of the signal that stopped it, or ""."""
    given = parse(FLAGS.cluster_options, "cluster_options")
    if FLAGS.cluster == "local":
        if given:
            raise runs.UsageError("--cluster_options needs --cluster=slurm.")
        return execution.run_here(waiting, FLAGS.max_parallel, FLAGS.timeout_min)
    at_work = [run for run in waiting if run.job]
    if at_work:
        print(
            f"{len(at_work)} runs are queued or running already (squeue --me), and are not queued "
            "again.",
            file=sys.stderr,
        )
    waiting = [run for run in waiting if not run.job]
    if not waiting:
        return ""
    options = {name: values[0] for name, values in given.items()}
    numbers = execution.submit(
        waiting, workdir / "submitit", FLAGS.max_parallel, FLAGS.timeout_min, options
    )
    job = ",".join(numbers)
    print(
        f"{len(waiting)} runs are queued as job {job} (squeue -j {job}; scancel "
        f"{' '.join(numbers)}). The same command with --collect makes the tables.",
        file=sys.stderr,
    )
    return ""


def collect(workdir: Path, planned: list[tuple]) -> None:
    """Write the tables of what is there; print what is missing and the last line."""
    counts, missing, measured, groups, rows = dict.fromkeys(STATUSES, 0), {}, {}, {}, []
    for setting, seed, run in planned:
        status, why = run.status()
        counts[status] += 1
        found = comparison.numbers(run.summary())
        here = groups.setdefault(label(setting) or "default", [])
        if status == "finished":
            measured[run.folder.name] = found
            here.append(found)
        else:
            missing[f"{status}: {run.folder.name}"] = why
        given = setting | {"seed": seed, "status": status}
        rows.append(given | {f"{n} measured" if n in given else n: v for n, v in found.items()})
    best = comparison.best_run(measured, FLAGS.metric, FLAGS.goal)
    if measured and not best:
        print(f"No run measured {FLAGS.metric!r}: give --metric.", file=sys.stderr)
    text = comparison.page(FLAGS.program, groups, missing, best, FLAGS.metric, FLAGS.goal)
    (workdir / "sweep.md").write_text(text, encoding="utf-8")
    comparison.write_csv(workdir / "sweep.csv", rows)
    comparison.draw(workdir / "sweep.png", groups, FLAGS.metric)
    for name, why in missing.items():
        if name.startswith("failed"):
            print(f"{name}\n{why}", file=sys.stderr)
    print(json.dumps(counts | {"best": best}), flush=True)


def main() -> None:
    """Check everything, run everything, compare."""
    if not FLAGS.program or not FLAGS.workdir:
        raise runs.UsageError("--program and --workdir must both be set.")
    chosen = settings(
        FLAGS.grid, FLAGS.zipped, FLAGS.random, samples=FLAGS.samples, seed=FLAGS.seed
    )
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    check(FLAGS.program, [s | {"seed": str(k), "workdir": "x"} for s in chosen for k in seeds])
    workdir = Path(FLAGS.workdir).resolve()
    planned = plan(FLAGS.program, chosen, seeds, workdir)
    stopped_by = ""
    try:
        take(workdir, FLAGS.program)
        execution.note_queued([run for _, _, run in planned])
        waiting = [run for _, _, run in planned if run.status()[0] != "finished"]
        if waiting and not FLAGS.collect:
            stopped_by = execute(waiting, workdir)
        collect(workdir, planned)
    except OSError as error:
        raise runs.UsageError(f"--workdir={workdir} cannot be written: {error}.") from error
    if stopped_by:
        raise runs.StoppedError(f"stopped by {stopped_by}; the same command goes on.")


if __name__ == "__main__":
    runs.main(main)
