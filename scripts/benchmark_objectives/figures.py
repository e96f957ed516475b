"""The two figures of docs/objectives.md: gaps by objective and problem, and gaps against cost."""

import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib import ticker
from matplotlib.colors import LogNorm

from experiments import plots
from scripts.benchmark_objectives import answer, standings, statistics
from scripts.benchmark_objectives.standings import BUDGETS, CLASSES, EXACT, Results

BEST, WORST = 1e-3, 10.0  # nats: the ends of the colours
HIGHEST = 5.0  # normalised gap: the top of the figure of cost


def table(results: Results) -> tuple[list[str], list[str], np.ndarray, list[int]]:
    """Return objectives, problems, their gaps at the fullest budget of each class, and budgets.

    A gap is NaN where there is none, and infinite where most runs diverged. Objectives of points
    come first, the best on average first.
    """
    at = {c: standings.fullest(results, c) for c in CLASSES}
    budgets = {c: found[0] for c, found in at.items() if found is not None}
    problems = [p for p in results.problems if results.class_of(p) in budgets]
    named = {o for p, o, b in results.gaps if p in problems and b == budgets[results.class_of(p)]}
    values = np.full((len(named), len(problems)), np.nan)
    objectives = sorted(named)
    for j, problem in enumerate(problems):
        for i, name in enumerate(objectives):
            key = problem, name, budgets[results.class_of(problem)]
            if key in results.gaps:
                values[i, j] = statistics.interquartile_mean(results.gaps[key])
    shown = np.log(np.clip(values, BEST, WORST))
    order = sorted(
        range(len(objectives)),
        key=lambda i: (objectives[i] != EXACT, np.nanmean(shown[i]), objectives[i]),
    )
    return [objectives[i] for i in order], problems, values[order], list(budgets.values())


def cell(gap: float) -> str:
    """Return a gap for a cell, at most five characters."""
    if not np.isfinite(gap):
        return "div."
    digits = 0 if abs(gap) >= 10 else 1 if abs(gap) >= 1 else 2 if abs(gap) >= 0.1 else 3
    return f"{gap:.{digits}f}"


def heat_map(results: Results, path: Path) -> None:
    """Draw the gap in nats of every objective on every problem."""
    objectives, problems, values, _ = table(results)
    height = 1.9 + 0.27 * max(1, len(objectives))
    figure, axis = plt.subplots(figsize=(plots.WIDTH, height))
    pad = 0.15 / height
    shown = np.ma.masked_invalid(np.where(np.isinf(values), WORST, values))
    colours = plt.get_cmap("YlGnBu_r").with_extremes(bad="white")
    norm = LogNorm(BEST, WORST, clip=True)
    image = axis.imshow(np.clip(shown, BEST, WORST), cmap=colours, norm=norm, aspect="auto")
    best = {j: _tied(results, problems[j], objectives, values[:, j]) for j in range(len(problems))}
    for i, j in np.argwhere(~np.isnan(values)):
        dark = norm(min(max(values[i, j], BEST), WORST)) < 0.55
        axis.text(
            j,
            i,
            cell(values[i, j]),
            ha="center",
            va="center",
            fontsize=7.5,
            color="white" if dark else "black",
            fontweight="bold" if objectives[i] in best[j] else "normal",
        )
    wrapped = [textwrap.fill(results.problems[p]["title"], 24) for p in problems]
    axis.set_xticks(range(len(problems)), wrapped, rotation=90, fontsize=8)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(objectives)), [standings.title(o) for o in objectives], fontsize=8)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axis, orientation="horizontal", aspect=50, pad=pad, shrink=0.7)
    bar.set_label("gap in nats at the largest budget (bold: tied best of its problem)")
    ticks = [0.001, 0.01, 0.1, 1, 10]
    bar.set_ticks(ticks, labels=[f"{t:g}" for t in ticks])
    bar.minorticks_off()
    plots.save(figure, path)


def _tied(results: Results, problem: str, objectives: list[str], values: np.ndarray) -> list[str]:
    """Return the objectives that tie for the best gap of a problem."""
    at = standings.fullest(results, results.class_of(problem))
    assert at is not None
    without = standings.ranked_out(results.class_of(problem))
    shown = [n for n, value in zip(objectives, values, strict=True) if not np.isnan(value)]
    names = [name for name in shown if name not in without]
    return standings.best_on(results, problem, names, at[0]) if len(names) > 1 else []


def lines(results: Results, problem_class: str) -> dict[str, list[tuple[float, float]]]:
    """Return (network passes, normalised gap) of every objective at every budget."""
    found: dict[str, list[tuple[float, float]]] = {}
    for budget in BUDGETS:
        unranked = standings.ranked_out(problem_class)
        at = standings.standing(results, problem_class, budget, unranked)
        if at is None:
            continue
        heights = {name: interval.value for name, interval in at.intervals.items()}
        for name in unranked:  # a reference, on the same problems as the others
            if all((p, name, budget) in results.gaps for p in at.problems):
                gaps = {name: {p: results.gaps[p, name, budget] for p in at.problems}}
                scales = {p: standings.scale(results, p) for p in at.problems}
                scores = statistics.normalised(gaps, scales)[name]
                heights[name] = statistics.aggregate(scores).value
        for name, height in heights.items():
            passes = [r["passes"] for p in at.problems for r in results.runs[p, name, budget]]
            found.setdefault(name, []).append((float(np.median(passes)), height))
    return found


def spread(heights: list[float], gap: float, low: float, high: float) -> list[float]:
    """Return heights in the same order that are at least ``gap`` apart, within [low, high].

    They move as little as a pass up and a pass down can make them.
    """
    order = np.argsort(heights)
    moved = np.clip(np.array(heights, float)[order], low, high)
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    for i in reversed(range(len(moved))):
        moved[i] = min(moved[i], (high if i == len(moved) - 1 else moved[i + 1] - gap))
    found = np.empty(len(moved))
    found[order] = moved
    return found.tolist()


def _panel(axis, problem_class: str, found: dict, best: list[str]) -> None:
    """Draw the lines of a class, with a label for each at its right.

    The label stands at the last point inside the panel, and describes what happens after it.
    """
    finite = {name: [p for p in points if np.isfinite(p[1])] for name, points in found.items()}
    inside = {name: [p for p in points if p[1] <= HIGHEST] for name, points in finite.items()}
    ends = {name: points[-1] for name, points in inside.items() if points}
    shown = [name for name, (_, gap) in ends.items() if 0 < gap <= HIGHEST]
    low = min([ends[name][1] for name in shown], default=0.1) / 1.6
    axis.set(xscale="log", yscale="log", ylim=(low, HIGHEST), ylabel="normalised gap")
    right = max([points[-1][0] for points in found.values()], default=1.0)
    left = min([points[0][0] for points in found.values()], default=0.1)
    axis.set_xlim(left * 0.8, right * 1.05)
    axis.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ticker.FormatStrFormatter("%g"))
    columns = zip(*max(found.values(), key=len), strict=True) if found else ((), ())
    places, _ = columns  # the budgets
    axis.set_xticks(places, [answer.passes(place) for place in places])
    for side in (axis.xaxis, axis.yaxis):
        side.set_minor_locator(ticker.NullLocator())
    colours = plt.get_cmap("tab10")(np.linspace(0, 0.9, 10))
    coloured = dict(zip([n for n in best if n in shown], colours, strict=False))
    bottom, top = np.log(low), np.log(HIGHEST)
    heights = [np.log(ends[name][1]) for name in shown]
    places = spread(heights, 0.061 * (top - bottom), bottom + 0.02, top - 0.02)
    for name, place in zip(shown, places, strict=True):
        colour, strong = coloured.get(name, "0.55"), name in coloured
        x, y = zip(*finite[name], strict=True)
        axis.plot(x, y, "o-", color=colour, markersize=3, linewidth=1.8 if strong else 0.9)
        reference = " (reference)" if name in standings.ranked_out(problem_class) else ""
        last = found[name][-1][1]
        after = ", then diverges" if np.isinf(last) else f", then above {HIGHEST:g}"
        axis.annotate(
            standings.title(name) + reference + (after if last > HIGHEST else ""),
            (ends[name][0], ends[name][1]),
            (right * 1.35, np.exp(place)),
            color=colour if strong else "0.25",
            fontsize=7.5,
            fontweight="bold" if strong else "normal",
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": "0.8", "linewidth": 0.6, "relpos": (0, 0.5)},
        )
    hidden = [standings.title(n) for n in found if n not in shown]
    note = f"not shown, above {HIGHEST:g}: {', '.join(hidden)}" if hidden else ""
    heading = CLASSES[problem_class]
    text = [heading[0].upper() + heading[1:], *textwrap.wrap(note, 100)]
    axis.set_title("\n".join(text), loc="left", fontsize=8)


def cost(results: Results, path: Path) -> None:
    """Draw the normalised gap of every class of problems against network passes."""
    classes = [c for c in CLASSES if standings.fullest(results, c) is not None]
    figure, axes = plt.subplots(
        max(1, len(classes)),
        figsize=(plots.WIDTH, 3.1 * max(1, len(classes))),
        squeeze=False,
        layout="none",
    )
    figure.subplots_adjust(left=0.09, right=0.6, top=0.96, bottom=0.05, hspace=0.32)
    for axis, problem_class in zip(axes[:, 0], classes, strict=False):
        at = standings.fullest(results, problem_class)
        assert at is not None
        best = at[1].groups[0] if len(at[1].intervals) > 1 else []
        _panel(axis, problem_class, lines(results, problem_class), best)
    axes[-1, 0].set_xlabel("network passes of a training")
    plots.save(figure, path)
