"""Compare samplers and estimators of log Z on targets with known moments and exact log Z.

    python -m scripts.benchmark_samplers --quick --workdir=runs/quick
    python -m scripts.benchmark_samplers --workdir=runs/bs
    python -m scripts.benchmark_samplers --docs=docs --resume --workdir=runs/bs
    python -m scripts.benchmark_samplers.page --docs=docs

Every method gets the same number of pilot runs and the same cost in gradient evaluations. Rows are
appended to DOCS/data/samplers/TARGET.jsonl as they finish; --resume continues from them. The second
program draws the page and its figures from the rows, without sampling. --quick takes about three
minutes and is a demonstration. --time adds rows of seconds: run it alone on an idle machine, after
the other rows exist. The last line is JSON.
"""

from absl import flags

from experiments.run import command_line, entry, errors, work_directory

flags.DEFINE_list("targets", ["all"], "Targets to run, or all.")
flags.DEFINE_bool("quick", False, "Run a short demonstration, in about three minutes.")
flags.DEFINE_bool("resume", False, "Continue from the rows that exist.")
flags.DEFINE_bool("time", False, "Only measure seconds, for the rows that exist.")
command_line.define_path("docs", None, "Folder of the rows and the page; if unset, the workdir.")
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import datetime
import importlib.metadata
import json
import sys
import time
from pathlib import Path

from scripts.benchmark_samplers import discrete_targets, page, rows, run, targets
from scripts.benchmark_samplers.running import QUICK, Protocol

QUICK_TARGETS = ("banana", "mixture_2d", "ising")


def chosen_targets() -> list[str]:
    """Return the names of the targets to run."""
    every = [*targets.CONTINUOUS, *discrete_targets.DISCRETE]
    if FLAGS.targets == ["all"]:
        return list(QUICK_TARGETS) if FLAGS.quick else every
    for name in FLAGS.targets:
        if name not in every:
            raise errors.UsageError(f"--targets={name}: allowed are all, {', '.join(every)}.")
    return FLAGS.targets


def stamp() -> rows.Row:
    """Return what every row records about the run."""
    versions = {name: importlib.metadata.version(name) for name in ("jax", "blackjax")}
    return {"seed": FLAGS.seed, "date": str(datetime.date.today()), "versions": versions}


def main() -> None:
    """Run what is missing, and write the page."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the rows and the page.")
    began, names = time.perf_counter(), chosen_targets()
    work_directory.make_folder(Path(FLAGS.workdir))
    docs = Path(FLAGS.docs or FLAGS.workdir)
    folder = docs / "data" / "samplers"
    if not (FLAGS.resume or FLAGS.time) and rows.read(folder):
        raise errors.UsageError(
            f"{folder} has rows: pass --resume to continue from them, or name another folder."
        )
    protocol = QUICK if FLAGS.quick else Protocol()
    jobs = [run.Job(name, protocol, FLAGS.seed, folder, stamp()) for name in names]
    kinds = (run.seconds,) if FLAGS.time else (run.results, run.log_z_results)
    for kind in kinds:
        for job in jobs:
            for row in kind(job):
                rows.append(folder, row)
                print(job.target, row["kind"], row["method"], file=sys.stderr, flush=True)
    page.write(docs)
    every = rows.read(folder)
    summary = {
        "targets": len({row["target"] for row in every}),
        "methods": len({row["method"] for row in every if row["kind"] == "sampler"}),
        "estimators": len({row["method"] for row in every if row["kind"] == "log_z"}),
        "seeds": protocol.seeds,
        "hours": round((time.perf_counter() - began) / 3600, 4),
    }
    print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    entry.main(main)
