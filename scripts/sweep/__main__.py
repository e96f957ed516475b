r"""Run a program over a grid of its own flags and some seeds, on this machine or on SLURM.

    python -m scripts.sweep --program=experiments.digits --grid="loss=nll,hinge,log;margin=0.5,1" \
        --seeds=3 --steps=500 --max_parallel=2 --workdir=runs/sweep

--grid takes all combinations of its values, --zipped pairs its lists, --random draws --samples
settings; given together, they are combined. A value that contains a comma is quoted as in CSV:
--grid='sizes="64,64",32'. Other flags of the program, here --steps=500, are the same in every run.
Every run has a folder named by these flags, with its own log.txt.

The same command, also with more settings, starts the runs that have not finished; a killed run
resumes from its checkpoint. After Ctrl-C the runs save their state and end. With --cluster=slurm
the program queues one job array and ends; with --collect it starts no runs. It always writes
sweep.html, sweep.md, sweep.csv and sweep.png, which compare the finished runs. The last line
printed is JSON: finished, failed, unfinished, best.
"""

import functools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from absl import app, flags

from experiments.run import entry, errors, work_directory
from scripts.sweep import comparison, execution
from scripts.sweep.settings import Setting, check, label, parse, settings, split_flags

flags.DEFINE_string("program", None, "Module to run, for example experiments.digits.")
flags.DEFINE_string("grid", "", 'All combinations of values: "loss=nll,hinge;margin=0.5,1".')
flags.DEFINE_string("zipped", "", 'Lists of equal length, paired: "steps=10,20;margin=1,2".')
flags.DEFINE_string(
    "random", "", 'Random values: "margin=0.1:10:log;steps=10:99:int;loss=nll,hinge".'
)
flags.DEFINE_integer("samples", 8, "Number of settings that --random draws.", lower_bound=1)
flags.DEFINE_integer("seeds", 1, "Seeds of every setting, starting at --seed.", lower_bound=1)
flags.DEFINE_enum(
    "cluster", "local", ["local", "slurm"], "Where to run: on this machine or as SLURM jobs."
)
flags.DEFINE_bool("collect", False, "Start no runs; only compare the finished ones.")
flags.DEFINE_integer("max_parallel", 1, "Number of runs at the same time.", lower_bound=1)
flags.DEFINE_integer(
    "timeout_min", 240, "Time limit of a run in minutes; it saves its state before.", lower_bound=1
)
flags.DEFINE_string(
    "cluster_options", "", 'Options of submitit: "slurm_partition=gpu;gpus_per_node=1".'
)
flags.DEFINE_string("metric", "accuracy", "Entry of summary.json that the runs are compared by.")
flags.DEFINE_enum(
    "goal", "max", ["max", "min"], "Whether high or low values of --metric are better."
)
FLAGS = flags.FLAGS


class LocalRun(execution.Run):
    """A run on this machine that says, as soon as it has finished, whether it has --metric."""

    told = False  # once per sweep

    def ended(self) -> bool:
        """Return whether it has ended."""
        ended = super().ended()
        if ended and not LocalRun.told and (missing := metric_missing([self])):
            LocalRun.told = True
            print(
                f"warning: {missing} The runs continue; the same command with --collect and "
                "another --metric makes the tables again.",
                file=sys.stderr,
            )
        return ended


def metric_missing(finished: list[execution.Run]) -> str:
    """Return why --metric is a number of none of these runs; "" if it is, or none has finished."""
    summaries = [found for run in finished if (found := run.summary()) is not None]
    if not summaries:
        return ""
    # A number that is not finite is null in summary.json.
    known = {n: 0.0 if v is None else v for found in summaries for n, v in found.items()}
    numbers = comparison.numbers(known)
    if FLAGS.metric in numbers:
        return ""
    allowed = ", ".join(sorted(numbers)) or "none"
    return f"no finished run has the number --metric={FLAGS.metric}; their numbers are: {allowed}."


def plan(program: str, chosen: list[Setting], seeds: range, workdir: Path) -> list[tuple]:
    """Return setting, seed and run, for every run of the sweep."""
    make = LocalRun if FLAGS.cluster == "local" else execution.Run
    where = [f"--mesh={FLAGS.mesh}"] if FLAGS["mesh"].present else []
    planned = []
    for setting in chosen:
        for seed in seeds:
            path = workdir / label(setting | {"seed": str(seed)})
            given = [f"--{n}={v}" for n, v in setting.items()]
            extra = [f"--seed={seed}", f"--workdir={path}", *where]
            command = [sys.executable, "-m", program, *given, *extra]
            planned.append((setting, seed, make(command, path)))
    return planned


def take(workdir: Path, program: str) -> None:
    """Create or reuse the workdir; raise UsageError if it holds a sweep of another program."""
    work_directory.make_folder(workdir)
    note = workdir / "program.txt"
    if note.exists() and note.read_text(encoding="utf-8").strip() != program:
        there = note.read_text(encoding="utf-8").strip()
        raise errors.UsageError(f"--workdir={workdir} holds a sweep of another program, {there}.")
    note.write_text(f"{program}\n", encoding="utf-8")


def execute(waiting: list[execution.Run], workdir: Path) -> str:
    """Run or queue the waiting runs; return the name of the signal that stopped it, or ""."""
    given = parse(FLAGS.cluster_options, "cluster_options")
    if FLAGS.cluster == "local":
        if given:
            raise errors.UsageError("--cluster_options needs --cluster=slurm.")
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
    """Write the comparison of the finished runs; print the failures and the last line."""
    found, counts, rows = comparison.collected(FLAGS.program, FLAGS.metric, FLAGS.goal, planned)
    (workdir / "sweep.md").write_text(comparison.page(found), encoding="utf-8")
    comparison.write_csv(workdir / "sweep.csv", rows)
    figure = comparison.draw(workdir / "sweep.png", found)
    (workdir / "sweep.html").write_text(comparison.html_page(found, figure), encoding="utf-8")
    for name, why in found.missing.items():
        if name.startswith("failed"):
            print(f"{name}\n{why}", file=sys.stderr)
    print(f"The comparison is in {workdir / 'sweep.html'}.", file=sys.stderr)
    print(json.dumps(counts | {"best": found.best}), flush=True)
    finished = [run for _, _, run in planned if run.status()[0] == "finished"]
    if missing := metric_missing(finished):
        # The default is a guess: a program without it has a table and no best run.
        if FLAGS["metric"].present:
            raise errors.UsageError(f"{missing} The tables are written, without a best run.")
        print(f"No best run was chosen: {missing}", file=sys.stderr)


def refuse_ignored() -> None:
    """Reject flags that the sweep would ignore."""
    if FLAGS["samples"].present and not FLAGS.random:
        raise errors.UsageError(
            f"--samples={FLAGS.samples} is given without --random: the sweep draws --samples "
            "settings from --random; to fix a flag of the program of that name, write "
            f'--grid="samples={FLAGS.samples}".'
        )
    for name in ("coordinator", "num_processes", "process_id"):
        if FLAGS[name].present:
            raise errors.UsageError(
                f"--{name} is not allowed in a sweep: every run is one process. Start a run of "
                "several processes on its own."
            )


def main(fixed: Mapping[str, str] = MappingProxyType({})) -> None:
    """Check everything, run everything, compare."""
    if not FLAGS.program or not FLAGS.workdir:
        raise errors.UsageError("--program and --workdir must both be set.")
    refuse_ignored()
    chosen = settings(
        FLAGS.grid,
        FLAGS.zipped,
        FLAGS.random,
        samples=FLAGS.samples,
        seed=FLAGS.seed,
        fixed=fixed,
    )
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    where = {"workdir": "x"} | ({"mesh": str(FLAGS.mesh)} if FLAGS["mesh"].present else {})
    check(FLAGS.program, [s | {"seed": str(k)} | where for s in chosen for k in seeds])
    workdir = Path(FLAGS.workdir).resolve()
    planned = plan(FLAGS.program, chosen, seeds, workdir)
    stopped_by = ""
    try:
        take(workdir, FLAGS.program)
        execution.note_queued([run for _, _, run in planned])
        waiting = [run for _, _, run in planned if run.status()[0] != "finished"]
        if waiting and not FLAGS.collect:
            earlier = [execution.Run([], p.parent) for p in workdir.glob("*/summary.json")]
            if FLAGS["metric"].present and (missing := metric_missing(earlier)):
                raise errors.UsageError(f"{missing} Nothing was started.")
            stopped_by = execute(waiting, workdir)
        collect(workdir, planned)
    except OSError as error:
        raise errors.UsageError(f"--workdir={workdir} cannot be written: {error}.") from error
    if stopped_by:
        raise errors.StoppedError(f"stopped by {stopped_by}; run the same command again to resume.")


if __name__ == "__main__":
    app.define_help_flags()  # --help is the sweep's own
    try:
        sys.argv, given = split_flags(sys.argv, FLAGS)
    except errors.UsageError as error:
        sys.exit(f"error: {error}")
    entry.main(functools.partial(main, given))
