"""Write the page from the rows, without sampling.

python -m scripts.benchmark_samplers.page --docs=docs
"""

from pathlib import Path

import numpy as np

from scripts.benchmark_samplers import figures, prose, results
from scripts.benchmark_samplers.results import Interval, Results
from scripts.benchmark_samplers.rows import Row, read

LOG_Z_LABELS = {
    "importance_sampling": "importance sampling",
    "ais": "AIS",
    "reverse_ais": "reverse AIS",
    "smc": "AIS with resampling",
    "bennett": "Bennett's ratio",
    "tempering_bridge": "tempering with stepping stones",
    "thermodynamic_integration": "tempering with thermodynamic integration",
}
OPTIONS = {
    "step_size": "step size",
    "num_integration_steps": "leapfrog steps",
    "hottest_beta": "smallest beta",
    "target_acceptance_rate": "target acceptance rate",
}
NEED_EXACT_SAMPLES = ("reverse_ais", "bennett")
DEMONSTRATION = 16384  # a smaller budget than this is a demonstration


def joined(names: list[str]) -> str:
    """Return names in bold as an English list."""
    bold = [f"**{name}**" for name in names]
    return bold[0] if len(bold) == 1 else f"{', '.join(bold[:-1])} and {bold[-1]}"


def answer(found: Results) -> list[str]:
    """Return the answer, at most five sentences."""
    sentences = []
    for name, targets in results.CLASSES.items():
        present = [target for target in targets if target in found.samplers]
        group, unranked = results.best_of_class(found, tuple(present))
        if not group:
            continue
        names = {m: row["label"] for target in present for m, row in found.samplers[target].items()}
        best = joined([names[method] for method in group])
        where = f"On the {name} ({', '.join(present)})"
        verb = "has the lowest" if len(group) == 1 else "are tied for the lowest"
        single = {target: results.best(found.samplers[target]) for target in present}
        sentences.append(
            f"{where}, {best} {verb} squared error at the same number of gradients, in the "
            f"geometric mean over these targets; {counts(group, names, single)}"
            f"{without_value(unranked, names)}{otherwise(group, present)}."
        )
    biased = results.mostly_biased(found)
    if biased:
        named = {m: r["label"] for t in found.samplers.values() for m, r in t.items()}
        parts = [f"{named[m]} (on {', '.join(targets)})" for m, targets in biased.items()]
        sentences.append(
            "At the largest budget, bias makes up more than half of the squared error of these "
            f"samplers without an accept/reject step: {'; '.join(parts)}."
        )
    group = results.best_log_z(found, NEED_EXACT_SAMPLES)
    if group:
        best = joined([LOG_Z_LABELS[method] for method in group])
        verb = "has the lowest" if len(group) == 1 else "are tied for the lowest"
        single = {
            target: results.best_estimators(table, NEED_EXACT_SAMPLES)[1]
            for target, table in found.log_z.items()
        }
        sentences.append(
            f"Among the estimators of log Z that need no exact samples of the target, {best} "
            f"{verb} error at the largest budget, in the geometric mean over the targets; "
            f"{counts(group, LOG_Z_LABELS, single)}{alone(single, LOG_Z_LABELS)}."
        )
    return sentences


def without_value(unranked: dict[str, list[str]], names: dict[str, str]) -> str:
    """Return which samplers are not ranked because they have no value on some targets."""
    parts = [f"{names[method]} (no value on {', '.join(on)})" for method, on in unranked.items()]
    return f"; not ranked: {', '.join(parts)}" if parts else ""


def otherwise(group: list[str], targets: list[str]) -> str:
    """Return which samplers of a group are other algorithms on a target."""
    found: dict[str, list[str]] = {}
    for (target, method), other in prose.OTHERWISE.items():
        if target in targets and method in group:
            found.setdefault(target, []).append(other)
    parts = [f"on {target}: {' and '.join(others)}" for target, others in found.items()]
    return f" ({'; '.join(parts)})" if parts else ""


def counts(group: list[str], names: dict[str, str], single: dict[str, list[str]]) -> str:
    """Return on how many single targets each method of a group is best, and which else is best."""
    times = [sum(method in tied for tied in single.values()) for method in group]
    (first, *rest), total = zip(group, times, strict=True), len(single)
    parts = [f"{names[first[0]]} is best or tied on {first[1]} of {total}"]
    parts += [f"{names[method]} on {number}" for method, number in rest]
    said = f"counted target by target, {', '.join(parts)}"
    for target, tied in single.items():
        if tied and not set(tied) & set(group):
            said += f"; on {target}, {names[tied[0]]} is best"
    return said


def alone(single: dict[str, list[str]], names: dict[str, str]) -> str:
    """Return on which targets which method is best and no other one ties with it."""
    targets: dict[str, list[str]] = {}
    for target, tied in single.items():
        if len(tied) == 1:
            targets.setdefault(names[tied[0]], []).append(target)
    parts = [f"{name} on {', '.join(on)}" for name, on in targets.items()]
    return f"; best without a tie: {'; '.join(parts)}" if parts else ""


def number(value: float) -> str:
    """Return a number with three significant digits."""
    if not np.isfinite(value):
        return "—"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def cell(interval: Interval | None) -> str:
    """Return a value with its interval."""
    if interval is None or not np.isfinite(interval[0]):
        return "—"
    value, low, high = interval
    return f"{number(value)} ({number(low)} to {number(high)})"


def options(row: Row) -> str:
    """Return the options that the pilot runs chose."""
    chosen = [f"{OPTIONS.get(k, k)} {number(float(v))}" for k, v in row["options"].items()]
    return ", ".join(chosen) or "none"


def fall(row: Row) -> str:
    """Return by which factor the error falls from the smallest to the largest budget."""
    first, last = results.error(row, 0)[0], results.error(row)[0]
    return number(first / last) if np.isfinite([first, last]).all() else "—"


def per_second(row: Row, timing: Row | None) -> str:
    """Return the independent samples per second, of all seeds together."""
    if timing is None or not np.isfinite(results.error(row)[0]):
        return "—"
    seconds = float(np.median(timing["seconds"]))
    return number(row["protocol"]["seeds"] / results.error(row)[0] / seconds)


def timing(found: Results) -> list[str]:
    """Return what the column of seconds has, if some targets have it."""
    rows = [row for table in found.seconds.values() for row in table.values()]
    if not rows:
        return []
    machines, dates = ({row[key] for row in rows} for key in ("machine", "date"))
    return [
        "* **Independent samples per second.** $1/\\text{error}$ at the largest budget, times the "
        "number of seeds, divided by the time in which all seeds run. The time is the median of "
        f"{min(len(row['seconds']) for row in rows)} runs without compilation, in which the "
        f"methods take turns, on {' and '.join(sorted(machines))} ({min(dates)}, "
        "`python -m scripts.benchmark_samplers --docs=docs --time --workdir=runs/bs`). All chains "
        "of a seed move together, so that a transition of NUTS takes as long as the longest of its "
        "trajectories. The targets are cheap: where a gradient takes longer, the order is nearer "
        "to that by gradients.",
    ]


def table(found: Results, target: str) -> list[str]:
    """Return the table of the samplers of a target, best first."""
    rows, timings = found.samplers[target], found.seconds.get(target, {})
    group = results.best(rows)
    head = [
        "sampler",
        "options",
        "independent samples per 1,000 gradients",
        "effective samples per 1,000 gradients",
        "squared error",
        "error falls by",
        "bias, %",
        *(["independent samples per second"] if timings else []),
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for method in sorted(rows, key=lambda method: results.error(rows[method])[0]):
        row = rows[method]
        share = row["bias_share"]
        label = prose.OTHERWISE.get((target, method), row["label"])
        cells = [
            f"**{label}**" if method in group else label,
            options(row),
            cell(results.independent_samples(row)),
            cell(results.effective_samples(row)),
            number(results.error(row)[0]),
            fall(row),
            "—" if share is None else f"{100 * share:.0f}",
            *([per_second(row, timings.get(method))] if timings else []),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def check(found: Results) -> str:
    """Return the sentence that compares the two implementations of MALA."""
    tables = [table for table in found.samplers.values() if "blackjax_mala" in table]
    pairs = [[results.error(table[m]) for m in ("mala", "blackjax_mala")] for table in tables]
    overlaps = sum(a[1] <= b[2] and b[1] <= a[2] for a, b in pairs)
    return (
        "MALA and blackjax MALA are two implementations of one algorithm, which checks the "
        f"benchmark: the intervals of their errors overlap on {overlaps} of {len(pairs)} targets. "
        "The pilot runs choose the step size of each separately."
    )


def log_z_table(found: Results) -> list[str]:
    """Return the root mean squared errors of log Z at the largest budget."""
    targets = list(found.log_z)
    lines = [f"| estimator | {' | '.join(targets)} |", "|---" * (len(targets) + 1) + "|"]
    best = {target: results.best_estimators(found.log_z[target]) for target in targets}
    for method, label in LOG_Z_LABELS.items():
        cells = []
        for target in targets:
            errors, group = best[target]
            text = cell(errors.get(method))
            text = f"**{text}**" if method in group else text
            cells.append(text + cost_share(found.log_z[target].get(method, [])))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def cost_share(rows: list[Row]) -> str:
    """Return the cost at the largest budget over this budget, if they differ by 5 % or more."""
    if not rows:
        return ""
    row = max(rows, key=lambda row: row["budget"])
    share = row["cost"] / (row["budget"] * row["protocol"]["chains"])
    return "" if abs(share - 1) < 0.05 else f" at {share:.2f} of the budget"


def text(found: Results) -> str:
    """Return the page."""
    rows = [row for table in found.samplers.values() for row in table.values()]
    first = rows[0]
    budgets = {row["protocol"]["budget"] for row in rows}
    short = ["This page is a demonstration with a small budget.", ""]
    lines = ["# Which sampler, and which estimator of log Z?", ""]
    lines += short if min(budgets) < DEMONSTRATION else []
    lines += [*(f"* {sentence}" for sentence in answer(found)), "", prose.INTRODUCTION, ""]
    lines += [
        "![Independent samples per 1,000 gradients of every sampler on every target]"
        "(figures/samplers_heat_map.png)",
        "",
        prose.MEASURES,
        *timing(found),
        "",
        prose.BOLD,
        "",
        "## Protocol",
        "",
        prose.protocol(first),
        "",
        "## Error against cost",
        "",
        "![Squared error of every sampler against its cost, one panel for each target]"
        "(figures/samplers_error.png)",
        "",
        "## Tables",
        "",
    ]
    lines += [check(found), ""]
    for target in found.samplers:
        lines += [f"### {target}", "", prose.DESCRIPTIONS[target], "", *table(found, target), ""]
    if found.log_z:
        lines += [prose.log_z(first), "", *log_z_table(found), ""]
        lines += [
            "![Error of log Z against cost, one panel for each target](figures/samplers_log_z.png)",
            "",
        ]
    dates = sorted({row["date"] for row in rows})
    versions = ", ".join(f"{name} {version}" for name, version in first["versions"].items())
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    lines += [
        "The command `python -m scripts.benchmark_samplers --docs=docs --resume --workdir=runs/bs` "
        f"made the rows on {when} with {versions} and seed {first['seed']}; "
        "`python -m scripts.benchmark_samplers.page --docs=docs` draws this page from them.",
        "",
    ]
    return "\n".join(lines)


def write(docs: Path) -> None:
    """Write the page and its figures from the rows under ``docs``."""
    found = results.collect(read(docs / "data" / "samplers"))
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    (docs / "samplers_benchmark.md").write_text(text(found), encoding="utf-8")
    figures.draw(found, docs / "figures", LOG_Z_LABELS)


if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(description="Write the page from the rows.")
    parser.add_argument("--docs", type=Path, default=Path("docs"))
    write(parser.parse_args().docs)
