"""The figures of the page, drawn from the rows."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator

from experiments import plots
from scripts.benchmark_samplers import results
from scripts.benchmark_samplers.results import Results

COLOURS = [*plt.get_cmap("tab10").colors]  # type: ignore[attr-defined]


def draw(found: Results, folder: Path, log_z_labels: dict[str, str]) -> None:
    """Draw all figures."""
    heat_map(found, folder / "samplers_heat_map.png")
    errors(found, folder / "samplers_error.png")
    if found.log_z:
        log_z(found, folder / "samplers_log_z.png", log_z_labels)


def _cells(found: Results, targets: list[str]) -> tuple[list[str], np.ndarray]:
    """Return the labels of the samplers, best first, and a matrix of independent samples."""
    methods = list(found.samplers[targets[0]])
    matrix = np.full((len(methods), len(targets)), np.nan)
    for i, method in enumerate(methods):
        for j, target in enumerate(targets):
            row = found.samplers[target].get(method)
            if row is not None:
                matrix[i, j] = results.independent_samples(row)[0]
    matrix[~(matrix > 0)] = np.nan
    order = np.argsort(-np.nanmean(np.log(matrix), axis=1))
    named = [found.samplers[targets[0]][methods[i]]["label"] for i in order]
    return named, matrix[order]


def heat_map(found: Results, path: Path) -> None:
    """Draw the independent samples per 1,000 gradients, continuous and discrete targets apart."""
    every = list(found.samplers)
    kinds = [
        [t for t in every if (t in results.DISCRETE) == discrete] for discrete in (False, True)
    ]
    kinds = [targets for targets in kinds if targets]
    cells = [_cells(found, targets) for targets in kinds]
    heights = [len(named) for named, _ in cells]
    figure, axes = plt.subplots(
        len(kinds),
        1,
        figsize=(plots.WIDTH, 1.0 + 0.3 * sum(heights) + 0.4 * len(kinds)),
        height_ratios=heights,
        squeeze=False,
    )
    for axis, targets, (named, matrix) in zip(axes[:, 0], kinds, cells, strict=True):
        norm = LogNorm(np.nanmin(matrix), np.nanmax(matrix))
        axis.imshow(matrix, norm=norm, cmap="viridis", aspect="auto")
        axis.set_xticks(range(len(targets)), [t.replace("_", " ") for t in targets])
        axis.set_yticks(range(len(named)), named)
        axis.tick_params(length=0)
        for (i, j), value in np.ndenumerate(matrix):
            light = not np.isfinite(value) or norm(value) > 0.6
            shown = f"{value:.2g}" if np.isfinite(value) else "—"
            axis.text(j, i, shown, ha="center", va="center", color="black" if light else "white")
    axes[0, 0].set_title("independent samples per 1,000 gradients (more is better)")
    plots.save(figure, path)


def _panels(num: int):
    rows = -(-num // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(plots.WIDTH, 2.5 * rows), squeeze=False)
    for axis in axes.ravel()[num:]:
        axis.axis("off")
    return figure, axes.ravel()


def _lines(axis, curves: dict[str, tuple[np.ndarray, np.ndarray]], colours: dict) -> None:
    """Draw curves with labels at their ends; points that are not finite are left out."""
    drawn, names = [], []
    for name, (cost, values) in curves.items():
        fine = np.isfinite(values) & (values > 0)
        if fine[-1]:
            drawn.append(axis.plot(cost[fine], values[fine], "o-", ms=2.5, c=colours[name])[0])
            names.append(name)
    axis.set(xscale="log", yscale="log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter("{x:g}")
    low, high = axis.get_ylim()
    if high < 100 * low:  # powers of ten alone would be one or two
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.yaxis.set_major_formatter("{x:g}")
    axis.grid(color="0.93")
    axis.minorticks_off()
    plots.label_ends(axis, drawn, names, size=6.5)


def errors(found: Results, path: Path) -> None:
    """Draw the squared error against the cost, with the line of independent samples."""
    every = [row["label"] for table in found.samplers.values() for row in table.values()]
    names = list(dict.fromkeys(every))
    colours = {name: COLOURS[i % len(COLOURS)] for i, name in enumerate(names)}
    figure, axes = _panels(len(found.samplers))
    for axis, (target, table) in zip(axes, found.samplers.items(), strict=False):
        curves = {}
        for row in table.values():
            cost = results.seed_cost(row) / 1000 / np.array([16.0, 4.0, 1.0])
            curves[row["label"]] = cost, np.array([results.error(row, i)[0] for i in range(3)])
        axis.set(
            title=target.replace("_", " "),
            xlabel="thousands of gradients per seed",
            ylabel="squared error",
        )
        _lines(axis, curves, colours)
    plots.save(figure, path)


def log_z(found: Results, path: Path, labels: dict[str, str]) -> None:
    """Draw the root mean squared error of log Z against the cost."""
    colours = {name: COLOURS[i] for i, name in enumerate(labels.values())}
    short = {name: label.replace("tempering with ", "") for name, label in labels.items()}
    short["thermodynamic_integration"] = "thermodynamic integral"  # names are cut at 24 characters
    colours |= {short[name]: colours[label] for name, label in labels.items()}
    figure, axes = _panels(len(found.log_z))
    for axis, (target, table) in zip(axes, found.log_z.items(), strict=False):
        curves = {}
        for method, rows in table.items():
            ordered = sorted(rows, key=lambda row: row["budget"])
            cost = np.array([row["cost"] / 1000 for row in ordered])
            curves[short[method]] = cost, np.array([results.log_z_error(r)[0] for r in ordered])
        axis.set(
            title=target.replace("_", " "),
            xlabel="cost, thousands of gradients",
            ylabel="error, nats",
        )
        _lines(axis, curves, colours)
    plots.save(figure, path)
