r"""Check and measure the library on an accelerator, in one command of at most eight minutes.

    python -m scripts.accelerator --workdir=runs/accelerator --page=docs/accelerators.md

It runs the numerical tests on the accelerator, with products of float32 numbers exact and rounded
(TF32); the benchmark's suites at sizes that fill a GPU, with the limits of the card (products,
memory, random bits) and the peers that are installed; and the digits example and MNIST at their
default flags. It works on any backend; with --tiny it checks on a CPU that everything runs.

Every part runs in its own process with a time limit, the most important parts first.
accelerator.json in the work directory is rewritten after each part, so it has all measurements made
before --budget ends. The last line printed is JSON: suites, failed, unfinished, missing.
"""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from absl import flags

from experiments.run import command_line, entry, errors, work_directory
from scripts.accelerator import execution, parts, report

flags.DEFINE_bool(
    "tiny", False, "Use tiny sizes to check that everything runs; the timings are meaningless."
)
flags.DEFINE_integer("budget", 480, "Limit for all parts together, in seconds.", lower_bound=10)
flags.DEFINE_list("parts", [], "Parts to run; all if empty.")
flags.DEFINE_bool("profile", False, "Also list the kernels that take most of the time.")
command_line.define_path(
    "page", None, "File for the page of results, for example docs/accelerators.md."
)
FLAGS = flags.FLAGS

LEAST = 5  # seconds under which no part is begun


def driver() -> dict[str, str]:
    """Return the card's name, memory, driver version and power limit."""
    names = ("name", "memory.total", "driver_version", "power.limit")
    try:
        found = subprocess.run(
            ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return {"driver": "no NVIDIA driver answers"}
    first = found.stdout.splitlines()[0].split(", ")
    return {f"driver: {name}": value for name, value in zip(names, first, strict=True)}


def chosen_parts(workdir: Path) -> list[parts.Part]:
    """Return the parts that the flags name; raise an error for an unknown name."""
    known = parts.every(workdir, tiny=FLAGS.tiny, profiled=FLAGS.profile)
    unknown = [name for name in FLAGS.parts if name not in known]
    if unknown:
        raise errors.UsageError(
            f"--parts={','.join(FLAGS.parts)} names {unknown[0]!r}, which is not a part; "
            f"allowed are {', '.join(known)}."
        )
    return [part for name, part in known.items() if not FLAGS.parts or name in FLAGS.parts]


def stop(number: int, frame: Any) -> None:
    """End the part that runs, as Ctrl-C does."""
    del number, frame
    raise KeyboardInterrupt


def keep(workdir: Path, results: dict[str, Any], name: str, result: dict[str, Any]) -> None:
    """Add the results of a part, and write all results."""
    results["machine"] |= result.pop("machine", {})
    results["parts"][name] = result
    report.complete(results)
    with work_directory.whole(workdir / "accelerator.json") as path:
        path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run the parts, one after another, until the budget is spent."""
    if not FLAGS.workdir:
        raise errors.UsageError("--workdir is not set: name a folder for the files of the check.")
    if FLAGS.page and FLAGS.tiny:
        raise errors.UsageError("--page needs measured numbers: --tiny measures nothing.")
    workdir = Path(FLAGS.workdir).resolve()
    planned = chosen_parts(workdir)
    work_directory.make_folder(workdir)
    began = time.monotonic()
    results: dict[str, Any] = {"tiny": FLAGS.tiny, "machine": driver(), "parts": {}}
    signal.signal(signal.SIGTERM, stop)
    stopped = False
    for part in planned:
        left = FLAGS.budget - (time.monotonic() - began)
        seconds = min(part.seconds, left)
        if stopped or seconds < LEAST:
            keep(workdir, results, part.name, {"status": "unfinished", "seconds": 0})
            continue

        def show(text: str, name=part.name) -> None:
            print(f"[{time.monotonic() - began:4.0f} s] {name}: {text}", flush=True)

        show(f"begins, at most {seconds:.0f} s")
        result = {"status": "unfinished"}
        try:
            execution.run(part, seconds, workdir / f"{part.name}.log", show, result)
        except KeyboardInterrupt:
            stopped = True
        keep(workdir, results, part.name, result)
        show(f"{result['status']} {result.get('why', '')}".strip())
    if FLAGS.page:
        Path(FLAGS.page).write_text(report.page(results), encoding="utf-8")
    if not FLAGS.tiny:
        report.show(results)
    print(report.last_line(results), flush=True)
    if stopped:
        raise errors.StoppedError(f"stopped by a signal; what was measured is in {workdir}.")
    if failed := report.named(results, "failed"):
        raise errors.FalseClaimError(f"these parts failed: {', '.join(failed)}; see {workdir}.")


if __name__ == "__main__":
    entry.main(main)
