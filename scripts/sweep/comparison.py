"""What the settings of a sweep measured, side by side: sweep.md, sweep.csv and sweep.png."""

import csv
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy import stats

from experiments import plots

Intervals = dict[str, tuple[float, float]]  # by setting: mean, half-width


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % interval (Student); nan for one value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    return float(np.mean(values)), float(stats.t.ppf(0.975, n - 1) * stats.sem(values))


def numbers(summary: dict | None) -> dict[str, float]:
    """Return the numbers of a summary."""
    return {n: v for n, v in (summary or {}).items() if isinstance(v, int | float)}


def compare(groups: dict[str, list[dict]]) -> dict[str, Intervals]:
    """Return metric -> setting -> (mean, half-width), for every number the summaries have."""
    table: dict[str, Intervals] = {}
    for metric in dict.fromkeys(n for rows in groups.values() for row in rows for n in row):
        for setting, rows in groups.items():
            values = [row[metric] for row in rows if metric in row]
            if values:
                table.setdefault(metric, {})[setting] = interval(values)
    return table


def best_run(measured: dict[str, dict], metric: str, goal: str) -> dict | None:
    """Return the run with the best metric, or None where no run has it."""
    rated = {name: found[metric] for name, found in measured.items() if metric in found}
    rated = {name: value for name, value in rated.items() if not np.isnan(value)}
    if not rated:
        return None
    run = (max if goal == "max" else min)(rated, key=rated.__getitem__)
    return {"run": run, metric: rated[run]}


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write one line a run; a column for everything that any run has."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)


def page(
    program: str, groups: dict, missing: dict[str, str], best: dict | None, metric: str, goal: str
) -> str:
    """Return the comparison in Markdown, and why runs are missing from it."""
    table = compare(groups)
    metrics = sorted(table, key=lambda name: name != metric)
    lines = [
        f"# {program}",
        "",
        f"Mean and 95 % interval (Student) over the seeds; the best run has the "
        f"{'highest' if goal == 'max' else 'lowest'} {metric}.",
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
        lines += ["", f"Best run: `{best['run']}`, {metric} {best[metric]:.6g}."]
    for name, why in missing.items():
        lines += ["", name, "", *why.splitlines()]
    return "\n".join(lines) + "\n"


def draw(path: Path, groups: dict, metric: str) -> None:
    """Draw the metric of every setting that has it, with its interval."""
    found = compare(groups).get(metric)
    if not found:
        return
    figure, axis = plt.subplots(figsize=(6, 0.8 + 0.3 * len(found)))
    means, widths = np.array(list(found.values())).T
    axis.errorbar(means, range(len(found)), xerr=np.nan_to_num(widths), fmt="o", capsize=3)
    axis.set_yticks(range(len(found)), list(found))
    axis.margins(y=0.3)
    axis.invert_yaxis()
    axis.set_xlabel(f"{metric}, mean and 95 % interval over the seeds")
    plots.save(figure, path)
