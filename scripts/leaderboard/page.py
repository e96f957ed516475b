"""The page: the objectives of each problem ranked by their gap, as a table and as a figure."""

import datetime
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import jax
import matplotlib.pyplot as plt

from experiments import plots

Rows = dict[str, dict[str, list[dict[str, Any]]]]  # problem -> objective -> one row per seed

LEAST_GAP = 1e-4  # nats; the left end of the axis of gaps

WHAT = {
    "nltcs": "16 binary variables, the national long term care survey. The gap is the exact test "
    "NLL minus the lowest test NLL of the same network trained by exact maximum likelihood."
}
PLANE = (
    "A density in the plane. The gap is the divergence KL(density || model), exact on a grid: the "
    "expected NLL above the entropy."
)


def median_gap(rows: list[dict[str, Any]]) -> float:
    """Return the median of the seeds' gaps, infinite where most diverged."""
    return statistics.median(row.get("gap", float("inf")) for row in rows)


def ranked(objectives: dict[str, list[dict[str, Any]]]) -> list[tuple[str, list[dict[str, Any]]]]:
    """Return the objectives, the best first."""
    return sorted(objectives.items(), key=lambda item: median_gap(item[1]))


def _line(place: int, name: str, rows: list[dict[str, Any]]) -> str:
    gaps = [row["gap"] for row in rows if "gap" in row]
    first = rows[0]
    options = ", ".join(f"{k} {v}" for k, v in first["options"].items()) or "defaults"
    gap = f"{median_gap(rows):.4f}" if gaps else "diverged"
    interval = f"{min(gaps):.4f} to {max(gaps):.4f}" if gaps else ""
    if 0 < len(gaps) < len(rows):
        interval += f", {len(rows) - len(gaps)} diverged"
    energies = first["energies_per_update"] * first["updates"]
    seconds = statistics.median(row["seconds"] for row in rows)
    cells = (
        place,
        name.replace("_", " "),
        gap,
        interval,
        options,
        first["updates"],
        f"{energies / 1e6:.3g}",
        f"{seconds:.1f}",
    )
    return f"| {' | '.join(map(str, cells))} |"


def write(
    rows: Rows, docs: Path, command: str, *, seeds: int, seconds: float, search: bool
) -> None:
    """Write docs/leaderboard.md and its figure."""
    lines = [
        "# Which objective?",
        "",
        f"Every objective trains the same network for {seconds:g} seconds on one core, "
        + ("with a small search over its own options" if search else "with its default options")
        + ". The partition function is a sum, so that the measured likelihood is exact.",
        f"Each row is the median of {seeds} seeds, with the least and the largest of them"
        + ("; the options were chosen at another seed." if search else "."),
        "An energy is counted in matrix products: the unit is the cost of one energy of one",
        "point, and the column has millions over the training. Budgets are equal in seconds, not",
        "in updates or energies, as the columns show. The column s has the seconds that it took;",
        "they differ from the budget, because the number of updates was fixed before from a",
        "measurement of the speed. A short budget ranks how fast an objective makes progress, not",
        "where it ends"
        + (", and options that were not tuned may change a place." if not search else "."),
        "",
        "![Gap of every objective to the optimum, best first, with the range over the seeds; on "
        "the right of each row the energies evaluated in training](figures/leaderboard.png)",
        "",
    ]
    for problem, objectives in rows.items():
        lines += [
            f"## {problem}",
            "",
            WHAT.get(problem, PLANE),
            "",
            "| | objective | gap, nats | least to largest | options | updates | M energies | s |",
            "|---|---|---|---|---|---|---|---|",
            *(_line(i, *item) for i, item in enumerate(ranked(objectives), 1)),
            "",
        ]
    lines += [
        f"Made by `{command}` on {datetime.date.today()}, jax {jax.__version__}, Python "
        f"{platform.python_version()}, {os.cpu_count()} cores.",
        "",
    ]
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "leaderboard.md").write_text("\n".join(lines), encoding="utf-8")
    (docs / "figures").mkdir(exist_ok=True)
    draw(rows, docs / "figures" / "leaderboard.png")


def draw(rows: Rows, path: Path) -> None:
    """Draw the gap of every objective, best first, with the range over seeds and the cost."""
    longest = max(len(objectives) for objectives in rows.values())
    figure, axes = plt.subplots(
        1, len(rows), figsize=(plots.WIDTH, 1.2 + 0.22 * longest), squeeze=False
    )
    for axis, (problem, objectives) in zip(axes[0], rows.items(), strict=True):
        names, costs = [], []
        for name, seeds in ranked(objectives):
            gaps = sorted(row["gap"] for row in seeds if "gap" in row)
            if not gaps:
                continue
            place = len(names)
            names.append(name.replace("_", " "))
            costs.append(seeds[0]["energies_per_update"] * seeds[0]["updates"] / 1e6)
            # A gap measured on a test set can be negative, which a logarithmic axis cannot show.
            shown = [max(gap, LEAST_GAP) for gap in gaps]
            axis.plot([shown[0], shown[-1]], [place, place], color="0.7", linewidth=2)
            axis.plot(statistics.median(shown), place, "o", markersize=4, color="C0")
        axis.set(xscale="log", title=problem, xlabel="gap to the optimum, nats", ylim=(longest, -1))
        axis.set_yticks(range(len(names)), names)
        axis.grid(axis="y", color="0.92")
        cost = axis.secondary_yaxis("right")
        cost.set_yticks(range(len(costs)), [f"{millions:.3g}" for millions in costs])
        cost.tick_params(length=0, labelcolor="0.4")
        cost.set_ylabel("energies evaluated in training, millions", color="0.4", fontsize=8)
        cost.spines["right"].set_visible(False)
    plots.save(figure, path)
