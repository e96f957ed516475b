r"""Run a program over a grid of its own flags and some seeds, on this machine or on SLURM.

    python -m scripts.sweep --program=experiments.digits --grid="loss=nll,hinge,log;margin=0.5,1" \
        --seeds=3 --cluster=local --max_parallel=2 --workdir=runs/sweep

--grid takes every combination, --zipped walks its lists side by side, --random draws --samples
settings; given together, they are combined. Every run is a folder named by the flags that
differ, with its own log.txt. A run that has its summary.json is skipped when the sweep is started
again; one that fails is reported and stops no other. sweep.md and sweep.png compare the settings;
the last line printed is JSON: finished, failed, best.
"""

import importlib.util
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import submitit
from absl import flags
from scipy import stats

from experiments import plots, runs

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

Setting = dict[str, str]

# Run where the program is imported, so that its flags never meet the sweep's own.
CHECK = """
import importlib, json, sys
from absl import flags
program, settings = json.load(sys.stdin)
importlib.import_module(program)
for setting in settings:
    for name in setting:
        if name not in flags.FLAGS:
            sys.exit(f"--{name} is no flag of {program}.")
    try:
        flags.FLAGS([program] + [f"--{name}={value}" for name, value in setting.items()])
    except flags.Error as error:
        sys.exit(str(error))
"""


def parse(text: str, flag: str) -> dict[str, list[str]]:
    """Return the values of every flag in "name=value,value;name=value"."""
    axes = {}
    for part in filter(None, (p.strip() for p in text.split(";"))):
        name, equals, values = part.partition("=")
        listed = [v.strip() for v in values.split(",")]
        name = name.strip().removeprefix("--")
        if not (equals and name and all(listed)):
            raise runs.UsageError(f"--{flag} has the part {part!r}; write name=value,value.")
        if name in axes or len(set(listed)) < len(listed):
            raise runs.UsageError(f"--{flag} names {name} twice, or a value of it twice.")
        if name in ("workdir", "seed"):
            raise runs.UsageError(f"--{flag} sets {name}, which the sweep sets; use --seeds.")
        axes[name] = listed
    return axes


def draw(rng: np.random.Generator, values: list[str]) -> str:
    """Draw from a list, or from a range low:high, uniformly, or with :log or :int after it."""
    low, *rest = str(rng.choice(values)).split(":")
    if not rest:
        return low
    try:
        bounds = float(low), float(rest[0])
        kind = rest[1] if len(rest) == 2 else ""
        if len(rest) > 2 or kind not in ("", "log", "int") or not bounds[0] < bounds[1]:
            raise ValueError
        if kind == "int":
            return str(rng.integers(int(bounds[0]), int(bounds[1]) + 1))
        if kind == "log":
            return f"{np.exp(rng.uniform(*np.log(bounds))):.4g}"
        return f"{rng.uniform(*bounds):.4g}"
    except ValueError:
        text = ":".join([low, *rest])
        raise runs.UsageError(
            f"--random has the range {text!r}; write low:high, low:high:log or low:high:int."
        ) from None


def settings() -> list[Setting]:
    """Return the settings that --grid, --zipped and --random ask for, without the seeds."""
    grid, zipped = parse(FLAGS.grid, "grid"), parse(FLAGS.zipped, "zipped")
    random, rng = parse(FLAGS.random, "random"), np.random.default_rng(FLAGS.seed)
    shared = [
        n for n in {**grid, **zipped, **random} if (n in grid) + (n in zipped) + (n in random) > 1
    ]
    if shared:
        raise runs.UsageError(f"{shared[0]} is in more than one of --grid, --zipped, --random.")
    if len({len(values) for values in zipped.values()}) > 1:
        lengths = ", ".join(f"{n} {len(v)}" for n, v in zipped.items())
        raise runs.UsageError(f"--zipped needs lists of one length, got {lengths}.")
    parts: list[list[Setting]] = [[{name: v} for v in values] for name, values in grid.items()]
    if zipped:
        parts.append(
            [dict(zip(zipped, v, strict=True)) for v in zip(*zipped.values(), strict=True)]
        )
    if random:
        draws = range(FLAGS.samples)
        parts.append([{name: draw(rng, v) for name, v in random.items()} for _ in draws])
    merged = [
        {k: v for part in chosen for k, v in part.items()} for chosen in itertools.product(*parts)
    ]
    return list({json.dumps(m): m for m in merged}.values())


def check(program: str, chosen: list[Setting]) -> None:
    """Refuse a program that is not there, and any flag or value it would refuse."""
    try:
        found = importlib.util.find_spec(program)
    except (ImportError, ValueError):
        found = None
    if not found:
        raise runs.UsageError(f"--program={program} is no module that can be imported.")
    answer = subprocess.run(
        [sys.executable, "-c", CHECK],
        input=json.dumps([program, chosen]),
        capture_output=True,
        text=True,
    )
    if answer.returncode:
        lines = answer.stderr.strip().splitlines() or ["it ended without a word"]
        raise runs.UsageError(f"{program} refuses the grid: {' '.join(lines[-2:])}")


def label(setting: Setting, differing: list[str]) -> str:
    """Return the name of a setting: the flags that differ, or "default"."""
    return ",".join(f"{n}={setting[n].replace('/', '_')}" for n in differing) or "default"


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


def make_executor(workdir: Path) -> submitit.AutoExecutor:
    """Return submitit's executor, its files under workdir/submitit."""
    if FLAGS.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
        raise runs.UsageError("--cluster=slurm needs sbatch and srun on the PATH.")
    options = {n: v[0] for n, v in parse(FLAGS.cluster_options, "cluster_options").items()}
    executor = submitit.AutoExecutor(folder=workdir / "submitit", cluster=FLAGS.cluster)
    try:
        executor.update_parameters(
            timeout_min=FLAGS.timeout_min,
            **{n: int(v) if v.isdigit() else v for n, v in options.items()},
        )
    except (NameError, TypeError, ValueError) as error:
        sentence = str(error).splitlines()[0]
        raise runs.UsageError(f"--cluster_options is refused: {sentence}") from None
    return executor


def run_all(workdir: Path, commands: dict[str, list[str]]) -> dict[str, str]:
    """Run what is not finished, at most --max_parallel at once; return why runs failed."""
    done = {name for name, command in commands.items() if finished(workdir / name, command)}
    waiting = [name for name in commands if name not in done]
    executor, active, failures = make_executor(workdir), {}, {}
    advance, close = runs.progress(max(len(commands), 1), "runs")
    try:
        while waiting or active:
            while waiting and len(active) < FLAGS.max_parallel:
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


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % interval (Student); nan for one value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1) * stats.sem(values))


def compare(groups: dict[str, list[dict]]) -> dict[str, dict[str, tuple[float, float]]]:
    """Return metric -> setting -> (mean, half-width), for every number the summaries have."""
    names = [n for rows in groups.values() for row in rows for n, v in row.items()]
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for metric in dict.fromkeys(names):
        for setting, rows in groups.items():
            values = [row[metric] for row in rows if isinstance(row.get(metric), int | float)]
            if values:
                table.setdefault(metric, {})[setting] = interval(values)
    return table


def report(workdir: Path, groups: dict, failures: dict[str, str], best: dict | None) -> None:
    """Write sweep.md and sweep.png."""
    table = compare(groups)
    metrics = sorted(table, key=lambda name: name != FLAGS.metric)
    lines = [
        f"# {FLAGS.program}",
        "",
        f"Mean and 95 % interval (Student) over the seeds; the best run has the "
        f"{'highest' if FLAGS.goal == 'max' else 'lowest'} {FLAGS.metric}.",
        "",
        f"| setting | runs | {' | '.join(metrics)} |",
        "|---|---|" + "---|" * len(metrics),
    ]
    for setting, rows in groups.items():
        cells = [table[m].get(setting) for m in metrics]
        shown = [
            "" if c is None else f"{c[0]:.4g}" + f" ± {c[1]:.2g}" * (c[1] == c[1]) for c in cells
        ]
        lines.append(f"| {setting} | {len(rows)} | {' | '.join(shown)} |")
    if best:
        lines += ["", f"Best run: `{best['run']}`, {FLAGS.metric} {best[FLAGS.metric]:.6g}."]
    for name, why in failures.items():
        lines += ["", f"Failed: `{name}`", "", *why.splitlines()]
    (workdir / "sweep.md").write_text("\n".join(lines) + "\n")
    found = table.get(FLAGS.metric)
    if found:
        figure, axis = plt.subplots(figsize=(6, 0.8 + 0.3 * len(found)))
        means, widths = np.array(list(found.values())).T
        axis.errorbar(means, range(len(found)), xerr=np.nan_to_num(widths), fmt="o", capsize=3)
        axis.set_yticks(range(len(found)), list(found))
        axis.invert_yaxis()
        axis.set_xlabel(f"{FLAGS.metric}, mean and 95 % interval over the seeds")
        plots.save(figure, workdir / "sweep.png")


def program() -> None:
    """Check everything, run everything, compare."""
    if not FLAGS.program or not FLAGS.workdir:
        raise runs.UsageError("--program and --workdir must both be set.")
    chosen = settings()
    seeds = range(FLAGS.seed, FLAGS.seed + FLAGS.seeds)
    check(FLAGS.program, [s | {"seed": str(k), "workdir": "x"} for s in chosen for k in seeds])
    workdir = Path(FLAGS.workdir).resolve()
    differing = [n for n in chosen[0] if len({s[n] for s in chosen}) > 1]
    commands, groups = {}, {}
    for setting in chosen:
        name = label(setting, differing)
        for seed in seeds:
            folder = f"{name},seed={seed}"
            given = [f"--{n}={v}" for n, v in setting.items()]
            extra = [f"--seed={seed}", f"--workdir={workdir / folder}"]
            commands[folder] = [sys.executable, "-m", FLAGS.program, *given, *extra]
            groups.setdefault(name, []).append(folder)
    if len(commands) < len(chosen) * len(seeds):
        raise runs.UsageError("Two settings have the same name; their values differ only by a '/'.")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        failures = run_all(workdir, commands)
    except OSError as error:
        raise runs.UsageError(f"--workdir={workdir} cannot be written: {error}.") from error
    measured = {f: s for f in commands if f not in failures and (s := summary(workdir / f))}
    rated = {f: s[FLAGS.metric] for f, s in measured.items() if FLAGS.metric in s}
    best = None
    if rated:
        run = (max if FLAGS.goal == "max" else min)(rated, key=rated.__getitem__)
        best = {"run": run, FLAGS.metric: rated[run]}
    elif measured:
        print(f"No run measured {FLAGS.metric!r}: give --metric.", file=sys.stderr)
    report(
        workdir,
        {n: [measured[f] for f in fs if f in measured] for n, fs in groups.items()},
        failures,
        best,
    )
    print(
        json.dumps({"finished": len(measured), "failed": len(failures), "best": best}), flush=True
    )


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.getcwd())
    runs.main(program)
