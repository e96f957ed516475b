"""Measure the rows of numbers with references; write docs/results.md and docs/results.json."""

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import jax

from experiments.images.measures import TARGETS, meets
from experiments.names import FEWEST_EFFECTIVE as FEWEST
from scripts.results.rows import ROWS

COMMAND = "python -m scripts.results --only="

Runs = dict[str, list[dict[str, Any]]]  # row -> its runs, one per seed


def measure(name: str, workdir: Path, data_dir: str | None, seed: int) -> dict[str, Any]:
    """Measure a row with a seed, and keep it in the workdir as NAME_seedSEED.json."""
    found = ROWS[name].measure(data_dir, seed, workdir / name / f"seed{seed}")
    row = {
        "name": name,
        "found": found,
        "seed": seed,
        "where": f"{datetime.date.today()}, jax {jax.__version__}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores",
    }
    workdir.mkdir(parents=True, exist_ok=True)
    path = workdir / f"{name}_seed{seed}.json"
    path.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    return row


def _shown(value: Any, digits: int = 6, separator: str = "; ") -> str:
    if isinstance(value, dict):
        parts = []
        for name, part in value.items():
            colon = ":" if isinstance(part, dict) else ""
            parts.append(f"{name.replace('_', ' ')}{colon} {_shown(part, separator=', ')}")
        return separator.join(parts)
    if isinstance(value, list):
        return ", ".join(map(_shown, value))
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def _unreliable(found: dict[str, Any], warnings: list[str]) -> str:
    """Return the warnings of a run, and one where an estimate rests on few effective samples."""
    if warnings:
        return f". **Unreliable**: {' '.join(warnings).removesuffix('.')}"
    sizes = found.get("effective_sample_sizes", [found.get("effective_sample_size", 2 * FEWEST)])
    if min(sizes) >= 1.5 * FEWEST:
        return ""
    limit = "below" if min(sizes) < FEWEST else "close to"
    few = f"the smallest effective sample size is {limit} {FEWEST}, the limit of this project"
    return f". **{'Unreliable' if min(sizes) < FEWEST else 'Barely reliable'}**: {few}"


def _missed(name: str, found: dict[str, Any]) -> str:
    """Return which targets of the images program a run of it missed, besides the time."""
    targets = TARGETS["mnist"] if name.startswith("mnist") else {}
    missed = [
        f"{key.replace('_', ' ')} (target {target})"
        for key, target in targets.items()
        if key in found and not meets(found[key], target)
    ]
    return f". **Missed**: {', '.join(missed)}" if missed else ""


def _verdict(value: float, target: float | None) -> str:
    """Return whether a value reaches the published one."""
    if target is None:
        return ""
    return f"reached: at least {target:g}" if value >= target else f"**missed**: below {target:g}"


def value(row: dict[str, Any]) -> str:
    """Return the numbers of a run of a row: the first, its interval, the others, warnings."""
    found = dict(row["found"])
    found.pop("seconds", None)
    interval, warnings = found.pop("interval", None), found.pop("warnings", [])
    first, *rest = found.items()
    exact = interval is not None and interval[0] == interval[1]
    within = "" if interval is None or exact else f" [{_shown(interval)}]"
    verdict = _verdict(first[1], ROWS[row["name"]].target)
    more = f" ({_shown(dict(rest))})" if rest else ""
    shown = f"{_shown(first[1], 14 if exact else 6)}{within}"
    missed = _missed(row["name"], found)
    return f"{shown}{f', {verdict}' if verdict else ''}{more}{_unreliable(found, warnings)}{missed}"


def line(name: str, runs: list[dict[str, Any]]) -> str:
    """Return a row of the page's table of numbers; several seeds stand below each other."""
    row = ROWS[name]
    if len(runs) == 1:
        measured = value(runs[0])
    else:
        measured = "<br>".join(f"seed {run['seed']}: {value(run)}" for run in runs)
    what = f"{row.what}<br>*Comparison*: {row.comparison}"
    return f"| {' | '.join([what, row.published, row.reference, measured])} |"


def command(row: dict[str, Any]) -> str:
    """Return a row of the page's table of commands."""
    seconds = row["found"].get("seconds")
    took = "" if seconds is None else f"{seconds:.1f}"
    return f"| `{COMMAND}{row['name']} --seed={row['seed']}` | {took} | {row['where']} |"


def page(rows: Runs) -> str:
    """Return docs/results.md of the runs, by row."""
    shown = [name for name in ROWS if rows.get(name)]
    missing = [name for name in ROWS if name not in shown]
    lines = [
        "# Measured numbers beside published ones",
        "",
        "The column *published* has numbers from the literature with their sources. The column",
        "*computed here as a reference* has numbers that another program of this project",
        "computed. These numbers check the code. *Measured here* has the main number, its",
        "interval in square brackets, and other numbers of the same run in parentheses.",
        "*Comparison*, in the first column, names what is the same in the two settings and what",
        "is not. If the data, the recipe or the measure differ, the two numbers do not show",
        "which method is better.",
        "",
        "A row has one run, with seed 0, unless it names its seeds. Intervals are from a",
        "bootstrap over the chains, with 95 % unless the row says another percentage. They do",
        "not contain the error from the finite number of test images, nor the variation between",
        "trainings. A log-likelihood is a mean over images, in {term}`nats`. It depends on the",
        "{term}`binarisation` of the images, which every row states: *threshold 0.5*, for",
        "example, sets grey values above 0.5 to 1. In the rows with *round trips*, log Z is",
        "estimated by {term}`parallel tempering` between independent pixels and the RBM. Eight",
        "independent chains give the standard error and the interval, from the t distribution.",
        "*Replicas* is the number of temperatures, and *round trips* counts how often a replica",
        "went from independent pixels to the RBM and back; with fewer than ten the estimate is",
        "not reliable. Targets are set by this project.",
        "",
        "In the rows of one energy of images and labels, *the flow* is training by {term}`flow",
        "matching`, and *ece* is the expected calibration error. Training does not use",
        "notMNIST. A run trains a classifier of its own, apart from the energy. *Label",
        "agreement* is the fraction of samples whose class this classifier confirms, and",
        "*completion agreement* the same fraction of completed images. *Completion error* is",
        "the mean squared error of the completed pixels. The Fréchet distance (*frechet*)",
        "compares samples with test images in the features of the classifier. Compare it only",
        "with the *frechet floor* of the same row: the distance between test images and as many",
        "training images.",
        "",
        "The glossary explains {term}`RBM`, {term}`CD`, {term}`PCD`, {term}`centring`,",
        "{term}`AIS`, {term}`effective sample size`, {term}`AUROC` and {term}`Fréchet distance`.",
        "",
        "| what | published | computed here as a reference | measured here |",
        "|---|---|---|---|",
        *(line(name, rows[name]) for name in shown),
        "",
        "The commands that measured the rows, in the same order, with `--data_dir` or EBM_JAX_DATA",
        "where they need data:",
        "",
        "| command | seconds | measured on |",
        "|---|---|---|",
        *(command(run) for name in shown for run in rows[name]),
        "",
    ]
    if missing:
        commands = ", ".join(f"`{COMMAND}{name}`" for name in missing)
        lines += [f"Rows that are not measured yet: {commands}.", ""]
    return "\n".join(lines)


def write(workdir: Path, docs: Path) -> None:
    """Write docs/results.json and docs/results.md: the runs of the workdir, over those there.

    The JSON file holds every run that was ever measured into the folder, from any workdir, so that
    the page can be written again.
    """
    kept = docs / "results.json"
    rows: Runs = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for name in ROWS:
        runs = {run["seed"]: run for run in rows.get(name, [])}
        for path in workdir.glob(f"{name}_seed*.json"):
            run = json.loads(path.read_text(encoding="utf-8"))
            runs[run["seed"]] = run
        if runs:
            rows[name] = [runs[seed] for seed in sorted(runs)]
    docs.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (docs / "results.md").write_text(page(rows), encoding="utf-8")
