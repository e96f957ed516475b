r"""Run a program over a grid of its own flags and some seeds, on this machine or on SLURM.

    python -m scripts.sweep --program=experiments.digits --grid="loss=nll,hinge,log;margin=0.5,1" \
        --seeds=3 --cluster=local --max_parallel=2 --workdir=runs/sweep

--grid takes every combination, --zipped walks its lists side by side, --random draws --samples
settings; given together, they are combined. Every run is a folder named by the flags that
differ, with its own log.txt. A run that has its summary.json is skipped when the sweep is started
again; one that fails is reported and stops no other. sweep.md and sweep.png compare the settings;
the last line printed is JSON: finished, failed, best.
"""

import json
import os
import sys
from pathlib import Path

from absl import flags

from experiments import runs
from scripts.sweep import comparison, execution
from scripts.sweep.settings import check, label, parse, settings

flags.DEFINE_string("program", None, "Module to run, experiments.digits say.")
flags.DEFINE_string("grid", "", 'Every combination: "loss=nll,hinge;margin=0.5,1".')
flags.DEFINE_string("zipped", "", 'Lists of one length, side by side: "steps=10,20;margin=1,2".')
flags.DEFINE_string("random", "", 'Draws: "margin=0.1:10:log;steps=10:99:int;loss=nll,hinge".')
flags.DEFINE_integer("samples", 8, "How many settings --random draws.", lower_bound=1)
flags.DEFINE_integer("seeds", 1, "Seeds of every setting, from --seed on.", lower_bound=1)
flags.DEFINE_enum("cluster", "local", ["local", "slurm"], "Where the runs run.")
flags.DEFINE_integer("max_parallel", 1, "How many runs at the same time.", lower_bound=1)
flags.DEFINE_integer("timeout_min", 240, "Minutes a run may take.", lower_bound=1)
flags.DEFINE_string("cluster_options", "", 'For submitit: "slurm_partition=gpu;gpus_per_node=1".')
flags.DEFINE_string("metric", "accuracy", "The number of summary.json that the best run has.")
flags.DEFINE_enum("goal", "max", ["max", "min"], "Whether the best is the highest or the lowest.")
FLAGS = flags.FLAGS


def plan(
    program: str, chosen: list[dict[str, str]], seeds: range, workdir: Path
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the command of every run by its folder, and the folders of every setting."""
    differing = [n for n in chosen[0] if len({s[n] for s in chosen}) > 1]
    commands, groups = {}, {}
    for setting in chosen:
        name = label(setting, differing)
        for seed in seeds:
            folder = f"{name},seed={seed}"
            given = [f"--{n}={v}" for n, v in setting.items()]
            extra = [f"--seed={seed}", f"--workdir={workdir / folder}"]
            commands[folder] = [sys.executable, "-m", program, *given, *extra]
            groups.setdefault(name, []).append(folder)
    if len(commands) < len(chosen) * len(seeds):
        raise runs.UsageError("Two settings have the same name; their values differ only by a '/'.")
    return commands, groups


def main() -> None:
    """Check everything, run everything, compare."""
    program, metric, goal = FLAGS.program, FLAGS.metric, FLAGS.goal
    if not program or not FLAGS.workdir:
        raise runs.UsageError("--program and --workdir must both be set.")
    chosen = settings(
        FLAGS.grid, FLAGS.zipped, FLAGS.random, samples=FLAGS.samples, seed=FLAGS.seed
    )
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    check(program, [s | {"seed": str(k), "workdir": "x"} for s in chosen for k in seeds])
    given = parse(FLAGS.cluster_options, "cluster_options")
    options = {name: values[0] for name, values in given.items()}
    workdir = Path(FLAGS.workdir).resolve()
    commands, groups = plan(program, chosen, seeds, workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        executor = execution.make_executor(workdir, FLAGS.cluster, FLAGS.timeout_min, options)
        failures = execution.run_all(workdir, commands, executor, FLAGS.max_parallel)
    except OSError as error:
        raise runs.UsageError(f"--workdir={workdir} cannot be written: {error}.") from error
    summaries = {f: execution.summary(workdir / f) for f in commands if f not in failures}
    measured = {folder: found for folder, found in summaries.items() if found}
    best = comparison.best_run(measured, metric, goal)
    if measured and not best:
        print(f"No run measured {metric!r}: give --metric.", file=sys.stderr)
    found = {n: [measured[f] for f in fs if f in measured] for n, fs in groups.items()}
    text = comparison.page(program, found, failures, best, metric, goal)
    (workdir / "sweep.md").write_text(text)
    comparison.draw(workdir / "sweep.png", found, metric)
    last = {"finished": len(measured), "failed": len(failures), "best": best}
    print(json.dumps(last), flush=True)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.getcwd())
    runs.main(main)
