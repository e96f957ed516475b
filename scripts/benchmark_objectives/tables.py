"""The tables of docs/objectives.md."""

import statistics as stdlib
from typing import Any

import numpy as np

from scripts.benchmark_objectives import standings, statistics
from scripts.benchmark_objectives.answer import number, passes
from scripts.benchmark_objectives.standings import BUDGETS, CLASSES, EXACT, Results, Row, title
from scripts.benchmark_objectives.statistics import Interval

CSV = (
    *("problem", "problem_class", "objective", "budget", "network_passes", "seeds", "diverged"),
    *("gap", "gap_low", "gap_high", "total_variation", "mode_weight_error", "log_z_disagreement"),
)
UNKNOWN = "best_gap is not measured yet."  # in how a problem is known
KNOWN = "best_gap is that of a long training by exact maximum likelihood."  # the column says it
DISAGREE = 0.1  # nats between two estimates of log Z above which a gap is flagged


def table(head: list[str], body: list[list[str]]) -> list[str]:
    """Return a Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    return [*lines, *(f"| {' | '.join(row)} |" for row in body)]


def with_values(head: list[str], body: list[list[str]]) -> list[str]:
    """Return a Markdown table without the columns that are empty in every row."""
    kept = [j for j in range(len(head)) if any(row[j] for row in body)]
    return table([head[j] for j in kept], [[row[j] for j in kept] for row in body])


def interval(found: Interval) -> str:
    """Return a value with its interval, which is left out where all of it has diverged."""
    if found.low == float("inf"):
        return number(found.value)
    ends = " to ".join(number(end) for end in found[1:])
    return f"{number(found.value)} ({ends})"


def median(of_key: list[Row], name: str) -> float | None:
    """Return the median of a measure over seeds, None where no seed has it."""
    values = [row[name] for row in of_key if row[name] is not None]
    return stdlib.median(values) if values else None


def optional(value: float | None) -> str:
    """Return a number, or nothing."""
    return "" if value is None else number(value)


def groups(results: Results, problem_class: str, budget: int) -> list[str]:
    """Return the table of groups of a class at a budget."""
    without = standings.ranked_out(problem_class)
    at = standings.standing(results, problem_class, budget, without)
    if at is None or len(at.intervals) < 2:
        return []
    leader, body = at.groups[0][0], []
    for place, group in enumerate(at.groups, 1):
        for name in group:
            wins = statistics.probability_of_improvement(at.scores[leader], at.scores[name])
            better = "" if name == leader else interval(wins)
            single = str(at.singles[name])
            body.append([str(place), title(name), interval(at.intervals[name]), single, better])
    head = CLASSES[problem_class]
    cost = f"{passes(at.passes)} network passes (budget {budget})"
    lines = [f"### {head[0].upper()}{head[1:]}, {cost}", ""]
    titles = [results.problems[p]["title"] for p in at.problems]
    lines += [f"Problems: {'; '.join(titles)}.", ""]
    single = f"best or tied, of {len(at.problems)} problems"
    columns = ["group", "objective", "normalised gap", single, "P(first is better)"]
    lines += table(columns, body)
    if at.unfinished:
        lines += ["", f"Not on all of these problems yet: {', '.join(map(title, at.unfinished))}."]
    return [*lines, ""]


def flagged(of_key: list[Row]) -> str:
    """Return the disagreement of the estimates of log Z, marked where it is large."""
    disagreement = median(of_key, "log_z_disagreement")
    if disagreement is None:
        return ""
    return number(disagreement) + (" **disagree**" if disagreement > DISAGREE else "")


def worsened(results: Results) -> dict[str, list[str]]:
    """Return objective -> problems where budget 2 has a larger gap than budget 1.

    The two intervals, widened by the disagreement of the estimates of log Z, do not overlap.
    """
    found: dict[str, list[str]] = {}
    for problem, name, budget in results.gaps:
        if budget != 2 or (problem, name, 1) not in results.gaps:
            continue
        before, after = (
            statistics.widened(
                statistics.aggregate([results.gaps[problem, name, at]]),
                standings.disagreement(results.runs[problem, name, at]),
            )
            for at in (1, 2)
        )
        if after.low > before.high:
            found.setdefault(name, []).append(problem)
    return found


def warning(results: Results) -> list[str]:
    """Return the text and the list of ``worsened`` objectives, or nothing if there are none."""
    found = worsened(results)
    if not found:
        return []
    lines = [
        "**Ten times as much training made these models worse.** At budget 2 the gap is larger",
        "than at budget 1, and the two intervals do not overlap. The options are those chosen at",
        "budget 1, and no training is stopped early; options chosen at budget 2 or early stopping",
        "might prevent this. On the two real data sets, which have few examples, the models",
        "can also overfit. If the total variation is near 1, nearly all of the probability of the",
        "model is where the data has almost none.",
        "",
    ]
    for name in sorted(found, key=title):
        worse = [row["title"] for p, row in results.problems.items() if p in found[name]]
        lines.append(f"* {title(name)}: {'; '.join(worse)}")
    return [*lines, ""]


def gaps(results: Results) -> list[str]:
    """Return a table for each problem: gaps at every budget, other measures at the largest."""
    lines = []
    for problem, row in results.problems.items():
        names = sorted({o for p, o, _ in results.gaps if p == problem})
        if not names:
            continue
        body = []
        for name in names:
            keys = [(problem, name, budget) for budget in BUDGETS]
            found = [
                statistics.aggregate([results.gaps[k]]) if k in results.gaps else None for k in keys
            ]
            last = results.runs[next(k for k in reversed(keys) if k in results.runs)]
            cells = [interval(i) if i else "" for i in found]
            measures = [optional(median(last, m)) for m in ("total_variation", "mode_weight_error")]
            good = sum(row["status"] == "ok" for row in last)
            converged = "" if good == len(last) else f"{good} of {len(last)}"
            value = next(i.value for i in reversed(found) if i)
            body.append((value, [title(name), *cells, *measures, flagged(last), converged]))
        head = [f"budget {budget}" for budget in BUDGETS]
        head = ["objective", *head, "total variation", "mode weights", "log Z", "converged"]
        ordered = [cells for _, cells in sorted(body, key=lambda item: item[0])]
        shown = with_values(head, ordered)
        lines += [f"<details><summary>{row['title']}</summary>", "", *shown, "", "</details>", ""]
    return [
        "The columns of budgets are gaps in nats with their intervals: interquartile means over",
        "the seeds, in which a seed that diverged counts as infinite; *diverged* stands for an",
        "infinite mean. The other columns are",
        "medians over the seeds that did not diverge, at the largest budget that is measured;",
        "*converged* is their number, or empty where it is all. *Mode weights* is half the sum of",
        "the absolute errors of the weights of the modes. *log Z* is the difference, in nats, of",
        "two estimates of log Z, by importance sampling and by annealed importance sampling. Above",
        f"{DISAGREE:g}, before rounding, they disagree. The intervals of this section are over",
        "seeds only. A gap can also be wrong by the difference of the two estimates, or more; the",
        "tied groups include the difference.",
        "",
        *warning(results),
        *lines,
    ]


def _measured(row: Row, measure: str) -> float:
    """Return a measure of samples, infinite where the run diverged."""
    value = row[measure] if row["status"] == "ok" else None
    return float("inf") if value is None else value


def samples(results: Results) -> list[str]:
    """Return the table of samples at the largest budget of each problem."""
    body = []
    for problem, row in results.problems.items():
        for name in sorted({o for p, o, _ in results.samples if p == problem}):
            budget = max(b for p, o, b in results.samples if (p, o) == (problem, name))
            of_key = results.samples[problem, name, budget]
            good = sum(r["status"] == "ok" for r in of_key)
            distance, accuracy = (
                interval(statistics.aggregate([np.array([_measured(r, m) for r in of_key])]))
                for m in ("sliced_wasserstein", "classifier_accuracy")
            )
            floor = optional(median(of_key, "sliced_wasserstein_floor"))
            cells = [str(budget), distance, floor, accuracy, f"{good} of {len(of_key)}"]
            body.append([row["title"], title(name), *cells])
    head = ["problem", "objective", "budget", "sliced Wasserstein", "two samples of the data"]
    head += ["two-sample accuracy", "seeds that converged"]
    return table(head, body) if body else ["Not measured yet."]


def _options(chosen: Row) -> str:
    shown = {k: f"{v:.3g}" if isinstance(v, float) else v for k, v in chosen["options"].items()}
    return ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in shown.items()) or "none"


def tuning(results: Results) -> list[str]:
    """Return the choice of every objective on every problem."""
    lines = []
    for problem, row in results.problems.items():
        body = []
        for (p, name), of_key in sorted(results.trials.items()):
            good = [r for r in of_key if r["validation_gap"] is not None]
            if p != problem or not good:
                continue
            best = min(good, key=lambda r: r["validation_gap"])
            middle = stdlib.median(r["validation_gap"] for r in good)
            diverged = str(len(of_key) - len(good))
            cells = [title(name), f"{best['learning_rate']:.2g}", _options(best)]
            cells += [number(best["validation_gap"]), number(middle), str(len(of_key)), diverged]
            body.append(cells)
        if body:
            head = ["objective", "learning rate", "options", "smallest gap", "median gap"]
            shown = table([*head, "trials", "diverged"], body)
            lines += [
                f"<details><summary>{row['title']}</summary>",
                "",
                *shown,
                "",
                "</details>",
                "",
            ]
    return lines or ["Not measured yet."]


def unmeasured(results: Results) -> str:
    """Return which budgets no problem has yet, in a sentence, or nothing."""
    budgets = [str(b) for b in BUDGETS if all(budget != b for _, _, budget in results.gaps)]
    if not results.gaps or not budgets:
        return ""
    if len(budgets) == 1:
        return f"Budget {budgets[0]} is not measured yet."
    return f"Budgets {' and '.join(budgets)} are not measured yet."


def exact_cost(results: Results) -> str:
    """Return what an update of exact maximum likelihood costs on binary data, as sentences."""
    problems = [p for p in results.problems_of("bits") if (p, EXACT) in results.costs]
    counts = [
        stdlib.median(row["updates"] for p in problems for row in results.runs[p, EXACT, budget])
        for budget in BUDGETS
        if problems and all((p, EXACT, budget) in results.runs for p in problems)
    ]
    if len(counts) < len(BUDGETS):
        return ""
    each = stdlib.median(results.costs[p, EXACT]["passes_per_update"] for p in problems)
    *first, last = [f"{count:,.0f}" for count in counts]
    states = 2 ** max(results.problems[p]["dimension"] for p in problems)
    return (
        f" On binary data, exact maximum likelihood\nevaluates all {states:,} states at every "
        f"update, which costs about {passes(each)} passes. It therefore\nmakes {', '.join(first)} "
        f"and {last} updates at budgets 0, 1 and 2, and its gap shows this cost, not\nwhat it "
        "reaches."
    )


def costs(results: Results) -> list[str]:
    """Return the costs of every objective, medians over the problems and seeds of a class."""
    body = []
    for problem_class, head in CLASSES.items():
        problems = results.problems_of(problem_class)
        for name in sorted({o for p, o in results.costs if p in problems}):
            of_name = [results.costs[p, name] for p in problems if (p, name) in results.costs]
            passes = stdlib.median(row["passes_per_update"] for row in of_name)
            found = [
                row
                for kind in (results.runs, results.samples)
                for problem in problems
                for row in kind.get((problem, name, BUDGETS[-1]), [])
                if row["processor_seconds"] is not None
            ]
            counts = [
                kind[p, name, 1][0]["passes"] / results.costs[p, name]["passes_per_update"]
                for kind in (results.runs, results.samples)
                for p in problems
                if (p, name) in results.costs and (p, name, 1) in kind
            ]
            updates = f"{stdlib.median(counts):,.0f}" if counts else ""
            each = [1000 * row["processor_seconds"] / row["updates"] for row in found]
            milliseconds = optional(stdlib.median(each) if each else None)
            whole = optional(median(found, "processor_seconds"))
            body.append([head, title(name), f"{passes:,.0f}", updates, milliseconds, whole])
    columns = ["problems", "objective", "passes per update", "updates at budget 1"]
    columns += ["processor ms per update", "processor s per training"]
    return with_values(columns, body) if body else ["Not measured yet."]


def problems(results: Results) -> list[str]:
    """Return the table of problems with their truth."""
    body = []
    best_gaps = any(UNKNOWN not in row["how"] for row in results.problems.values())
    absent = "not measured yet" if best_gaps else ""
    for problem, row in results.problems.items():
        exact = [results.gaps.get((problem, EXACT, budget)) for budget in reversed(BUDGETS)]
        reached = next((statistics.aggregate([gaps]) for gaps in exact if gaps is not None), None)
        best = "" if reached is None else interval(reached)
        entropy = "" if row["entropy"] is None else f"{row['entropy']:.4f}"
        least = optional(row["best_gap"]) if KNOWN in row["how"] else ""  # none of a reference
        least = absent if UNKNOWN in row["how"] else least
        cells = [row["title"], str(row["dimension"]), entropy, least, best]
        how = row["how"].replace(UNKNOWN, "").replace(KNOWN, "").strip()
        body.append([*cells, how.replace("The teacher", "The model that made the data")])
    head = ["problem", "variables", "entropy, nats", "gap after long exact training"]
    head += ["gap of exact maximum likelihood at the largest measured budget"]
    head += ["how the truth is known"]
    if not body:
        return ["Not measured yet."]
    remark = [] if best_gaps else ["", "The gaps after long exact training are not measured yet."]
    return with_values(head, body) + remark


def coverage(results: Results) -> list[str]:
    """Return which budgets are there of every objective on every problem."""
    objectives = sorted({o for c in CLASSES for o in standings.expected(results, c)}, key=title)
    body = []
    for name in objectives:
        cells = []
        for problem in results.problems:
            applies = name in standings.expected(results, results.class_of(problem))
            budgets = standings.measured(results, problem, name)
            cells.append(", ".join(map(str, budgets)) or "none" if applies else "")
        body.append([title(name), *cells])
    return table(["objective", *(row["title"] for row in results.problems.values())], body)


def hours(results: Results) -> str:
    """Return the sum of the times of all trainings in a sentence, or nothing."""
    seconds = [
        row.get("seconds") or row.get("processor_seconds") or 0.0
        for group in (results.trials, results.runs, results.samples)
        for of_key in group.values()
        for row in of_key
    ]
    if not sum(seconds):
        return ""
    return f" The times of all trials and runs add up to {sum(seconds) / 3600:.1f} hours."


def files(results: Results) -> str:
    """Return where the rows are, and when they were measured."""
    dates = sorted({r["date"] for of_key in results.runs.values() for r in of_key})
    when = ""
    if dates:
        span = f"on {dates[0]}" if len(dates) == 1 else f"from {dates[0]} to {dates[-1]}"
        when = f" The runs were made {span}."
    return (
        "[objectives.csv](data/objectives.csv) has the gaps of the tables. `python -m "
        "scripts.benchmark_objectives.rows --csv` prints every run. The rows are in "
        "`docs/data/objectives`, and `python -m scripts.benchmark_objectives.page` writes this "
        f"page, its figures and the CSV file from them, without training.{when}{hours(results)}"
    )


def csv_rows(results: Results) -> list[list[Any]]:
    """Return the rows of the CSV file."""
    found = []
    for (problem, name, budget), of_key in sorted(results.runs.items()):
        values = results.gaps[problem, name, budget]
        whole = [f"{v:.5g}" for v in statistics.aggregate([values])]
        measures = [median(of_key, m) for m in CSV[-3:]]
        shown = ["" if m is None else f"{m:.5g}" for m in measures]
        counts = [len(values), int(np.isinf(values).sum())]
        run_passes = f"{stdlib.median(r['passes'] for r in of_key):.6g}"
        head = [problem, results.class_of(problem), name, budget, run_passes]
        found.append([*head, *counts, *whole, *shown])
    return found
