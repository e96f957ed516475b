"""What the settings of a sweep measured: sweep.md, sweep.html, sweep.csv and sweep.png."""

import base64
import csv
import html
import math
import textwrap
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import matplotlib.pyplot as plt
import numpy as np
from scipy import special

from experiments import plots
from scripts.sweep.settings import Setting, label

Intervals = dict[str, tuple[float, float]]  # by setting: mean, half-width
REPORTS = ("report.html", "report.md", "log.txt")  # the first one that a run has is linked
DRAWN = 40  # settings in the figure at most
WRAPPED, LINES, CLIPPED = 44, 4, 30  # characters and lines of a name in the figure, of a value


class Sweep(NamedTuple):
    """The runs of a sweep: every list and table of the pages comes from here.

    ``groups`` has the numbers of the finished runs, ``runs`` (seed, status, folder) of all runs,
    both by the label of the setting.
    """

    program: str
    metric: str
    goal: str  # max or min
    settings: dict[str, Setting]
    groups: dict[str, list[dict[str, float]]]
    runs: dict[str, list[tuple[int, str, Path]]]
    missing: dict[str, str]  # "status: run" -> why it has no numbers
    best: dict[str, Any] | None


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half-width of its 95 % interval (Student); nan for one value."""
    n = len(values)
    if n < 2:
        return float(np.mean(values)), float("nan")
    half_width = special.stdtrit(n - 1, 0.975) * np.std(values, ddof=1) / math.sqrt(n)
    return float(np.mean(values)), float(half_width)


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


def split_common(settings: list[Setting]) -> tuple[Setting, list[Setting]]:
    """Return the flags that all settings share, and the remaining flags of each setting."""
    first, *others = settings
    shared = {n: v for n, v in first.items() if all(s.get(n) == v for s in others)}
    if not others:
        return {}, settings
    return shared, [{n: v for n, v in s.items() if n not in shared} for s in settings]


def plain(setting: Setting) -> str:
    """Return a setting for a person to read."""
    return ", ".join(f"{name}={value}" for name, value in setting.items()) or "default"


def write_csv(path: Path, rows: list[dict]) -> None:
    """Write one row per run; a column for everything that any run has."""
    with path.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, dict.fromkeys(name for row in rows for name in row))
        writer.writeheader()
        writer.writerows(rows)


def _heading(sweep: Sweep) -> str:
    return (
        "Mean and 95 % interval (Student) over the seeds; the best run has the "
        f"{'highest' if sweep.goal == 'max' else 'lowest'} {sweep.metric}."
    )


def _metrics(table: dict[str, Intervals], metric: str) -> list[str]:
    return sorted(table, key=lambda name: name != metric)


def _cell(found: tuple[float, float] | None) -> str:
    if found is None:
        return ""
    return f"{found[0]:.4g}" + (f" ± {found[1]:.2g}" if found[1] == found[1] else "")


def page(sweep: Sweep) -> str:
    """Return the comparison in Markdown, and why runs are missing from it."""
    table = compare(sweep.groups)
    metrics = _metrics(table, sweep.metric)
    lines = [
        f"# {sweep.program}",
        "",
        _heading(sweep),
        "",
        f"| setting | runs | {' | '.join(metrics)} |",
        "|---|---|" + "---|" * len(metrics),
    ]
    for setting, rows in sweep.groups.items():
        cells = [_cell(table[m].get(setting)) for m in metrics]
        lines.append(f"| {setting} | {len(rows)} | {' | '.join(cells)} |")
    if sweep.best:
        found = f"{sweep.metric} {sweep.best[sweep.metric]:.6g}"
        lines += ["", f"Best run: `{sweep.best['run']}`, {found}."]
    for name, why in sweep.missing.items():
        lines += ["", name, "", *why.splitlines()]
    return "\n".join(lines) + "\n"


STYLE = """
:root { color-scheme: light dark; --page: #fff; --ink: #1f2933; --soft: #5f6c7b; --line: #d9dee4;
  --card: #f5f7f9; }
@media (prefers-color-scheme: dark) {
  :root { --page: #191919; --ink: #e6e6e6; --soft: #a3a9b0; --line: #3a3a3a; --card: #242424; }
  img { filter: invert(0.9) hue-rotate(180deg); }
}
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 72rem; background: var(--page);
  color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
code, pre { font-size: 0.85rem; overflow-wrap: anywhere; }
pre { background: var(--card); border-radius: 0.5rem; padding: 0.7rem; overflow-x: auto; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0;
  border-bottom: 1px solid var(--line); }
th:not(.flag), td:not(.flag) { white-space: nowrap; }
td.flag { max-width: 24rem; overflow-wrap: anywhere; }
tr.best td { background: var(--card); }
small { color: var(--soft); }
img { max-width: 100%; height: auto; }
"""


def _link(seed: int, status: str, folder: Path) -> str:
    """Return the link to a run's report, relative to the page, and its status."""
    files = [name for name in REPORTS if (folder / name).exists()]
    shown = f"seed {seed}" + ("" if status == "finished" else f" ({status})")
    if not files:
        return shown
    return f'<a href="{quote(folder.name)}/{files[0]}">{shown}</a>'


def _row(cells: list[tuple[str, str]], tag: str, kind: str = "") -> str:
    """Return a row of (class, HTML) cells."""
    inside = "".join(f'<{tag} class="{c}">{text}</{tag}>' for c, text in cells)
    return f'<tr class="{kind}">{inside}</tr>'


def html_page(sweep: Sweep, figure: Path | None) -> str:
    """Return the comparison as one HTML file with its figure inside and links to the runs."""
    table, (shared, own) = compare(sweep.groups), split_common(list(sweep.settings.values()))
    metrics = _metrics(table, sweep.metric)
    names = list(dict.fromkeys(name for setting in own for name in setting))
    flags = [("flag", html.escape(name)) for name in names]
    head = [("", "#"), *flags, ("", "runs"), *(("", html.escape(m)) for m in metrics)]
    rows = [_row(head, "th")]
    for number, (setting, values) in enumerate(zip(sweep.groups, own, strict=True), 1):
        listed = [_link(*run) for run in sweep.runs[setting]]
        is_best = any(sweep.best and f.name == sweep.best["run"] for *_, f in sweep.runs[setting])
        cells = [("", str(number))]
        cells += [("flag", html.escape(values.get(name, ""))) for name in names]
        cells += [("", "<br>".join(listed))]
        cells += [("", _cell(table[m].get(setting))) for m in metrics]
        rows.append(_row(cells, "td", "best" if is_best else ""))
    title = html.escape(f"Sweep of {sweep.program}")
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>',
        f"<style>{STYLE}</style></head><body><h1>{title}</h1>",
        f"<p>{html.escape(_heading(sweep))}</p>",
    ]
    if shared:
        parts.append(f"<p>All runs have <code>{html.escape(plain(shared))}</code>.</p>")
    if sweep.best:
        found = f"{html.escape(sweep.metric)} {sweep.best[sweep.metric]:.6g}"
        parts.append(f"<p>Best run: <code>{html.escape(sweep.best['run'])}</code>, {found}.</p>")
    parts.append(f'<div class="table"><table>\n{chr(10).join(rows)}\n</table></div>')
    if figure:
        content = base64.b64encode(figure.read_bytes()).decode()
        parts.append(f'<p><img alt="{html.escape(sweep.metric)} of every setting" ')
        parts.append(f'src="data:image/png;base64,{content}"></p>')
    if sweep.missing:
        parts.append("<h2>Runs without numbers</h2>")
    for name, why in sweep.missing.items():
        parts.append(f"<p><code>{html.escape(name)}</code></p>")
        parts.append(f"<pre>{html.escape(textwrap.dedent(why))}</pre>")
    return "\n".join([*parts, "</body></html>", ""])


def _wrapped(setting: Setting, number: str = "") -> str:
    """Return a setting in a few short lines, its longest values clipped."""
    short = {n: v if len(v) <= CLIPPED else f"{v[:CLIPPED]}…" for n, v in setting.items()}
    lines = textwrap.wrap(number + plain(short), WRAPPED, max_lines=LINES, placeholder=" …")
    return "\n".join(lines)


def draw(path: Path, sweep: Sweep) -> Path | None:
    """Draw the metric of every setting that has it; return the path, or None without numbers.

    The names are the row numbers of sweep.html and the flags that differ. Of more than ``DRAWN``
    settings those with the best means are drawn.
    """
    found = compare(sweep.groups).get(sweep.metric)
    if not found:
        path.unlink(missing_ok=True)  # one of another metric
        return None
    shared, own = split_common(list(sweep.settings.values()))
    named = zip(sweep.settings, own, strict=True)
    names = {s: _wrapped(rest, f"{i}  ") for i, (s, rest) in enumerate(named, 1)}
    chosen = list(found)
    title = _wrapped(shared) if shared else ""
    if len(chosen) > DRAWN:
        sign = -1 if sweep.goal == "max" else 1
        # A mean that is not a number is last.
        best = sorted(chosen, key=lambda s: (np.isnan(found[s][0]), sign * found[s][0]))[:DRAWN]
        chosen = [s for s in chosen if s in best]
        title += f"\nthe best {DRAWN} of {len(found)} settings"
    labels = [names[s] for s in chosen]
    means, widths = np.array([found[s] for s in chosen]).T
    lines = [text.count("\n") + 1 for text in labels]
    places = np.cumsum(lines) - np.array(lines) / 2  # one unit per line of text
    longest = max(len(line) for text in labels for line in text.splitlines())
    # Inches: at 8 points a character is at most 0.115 wide and a line 0.15 high.
    height = 1.2 + 0.15 * (title.count("\n") + sum(lines)) + 0.1 * len(lines)
    figure, axis = plt.subplots(figsize=(4.5 + 0.115 * longest, height))
    axis.errorbar(means, places, xerr=np.nan_to_num(widths), fmt="o", capsize=3, markersize=4)
    # The names hold what users write: no dollar sign starts a formula.
    axis.set_yticks(places, labels, fontsize=8, parse_math=False)
    axis.set_ylim(places[-1] + 1, places[0] - 1)
    axis.grid(axis="y", linewidth=0.3)
    axis.set_title(title.strip(), fontsize=8, loc="left", parse_math=False)
    below = f"{sweep.metric}, mean and 95 % interval over the seeds"
    axis.set_xlabel(below, fontsize=8, parse_math=False)
    axis.tick_params(axis="x", labelsize=8)
    plots.save(figure, path)
    return path


def collected(
    program: str, metric: str, goal: str, planned: list[tuple]
) -> tuple[Sweep, dict[str, int], list[dict]]:
    """Return the sweep of the planned (setting, seed, run), counts by status, rows of the CSV."""
    counts = dict.fromkeys(("finished", "failed", "unfinished"), 0)
    settings, groups, runs, missing, measured, rows = {}, {}, {}, {}, {}, []
    for setting, seed, run in planned:
        status, why = run.status()
        counts[status] += 1
        found, name = numbers(run.summary()), label(setting) or "default"
        settings[name] = setting
        runs.setdefault(name, []).append((seed, status, run.folder))
        here = groups.setdefault(name, [])
        if status == "finished":
            measured[run.folder.name] = found
            here.append(found)
        else:
            missing[f"{status}: {run.folder.name}"] = why
        given = setting | {"seed": seed, "status": status}
        rows.append(given | {f"{n} measured" if n in given else n: v for n, v in found.items()})
    best = best_run(measured, metric, goal)
    return Sweep(program, metric, goal, settings, groups, runs, missing, best), counts, rows
