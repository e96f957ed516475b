"""Draw docs/objectives.md, its figures and its CSV again from the rows, without training.

    python -m scripts.benchmark_objectives.page
    python -m scripts.benchmark_objectives.page --rows=runs/bo/rows --docs=runs/bo

The rows may be incomplete: the page says what is not there yet.
"""

import argparse
import csv
import io
from pathlib import Path

from scripts.benchmark_objectives import answer, rows, standings, tables
from scripts.benchmark_objectives.standings import BUDGETS, CLASSES, Results

DOCS = rows.FOLDER.parents[1]
TUTORIAL = "tutorials/6_which_objective.md"
BEGIN, END = "<!-- answer -->", "<!-- end of the answer -->"
MAP = (
    "Gap in nats of every objective on every problem as colours and numbers; dark blue is best, "
    "pale yellow is worst, white means that the objective does not apply or is not measured yet"
)
COST = (
    "Normalised gap against network passes on logarithmic axes, one panel for each class of "
    "problems, one labelled line for each objective; the tied best are coloured"
)
MEASURED = (
    "The budgets that are measured; *none* where none is, and an empty cell where the objective "
    "does not apply. The command of [the protocol](benchmark_protocol.md) continues from here."
)
HOW = """\
## How to read the numbers

The gap of a model is its cross entropy on test data minus the least that is possible, in nats:
0 is the optimum. Where the truth is known, the gap is exact up to the errors that [the
problems](#problems) state. The *normalised gap* is the gap divided by the median gap of all
objectives on the same problem at the smallest budget, so that problems can be averaged.

Intervals are 95 % bootstrap intervals over seeds. A value over several seeds or problems is an
interquartile mean: the mean of the middle half. Two objectives whose intervals overlap are *tied*:
the runs do not show that one of them is better. The *probability of improvement* is the probability
that a run of one objective has a smaller gap than a run of another (measures of [Agarwal et al.
2021](https://arxiv.org/abs/2108.13264)). A run that diverged counts as infinitely bad.

Cost is counted in network passes: evaluations of the energy network on one example. A gradient
counts as its measured number of passes. [The protocol](benchmark_protocol.md) describes budgets,
tuning and measures."""


def page(results: Results) -> str:
    """Return docs/objectives.md; it depends on the rows alone."""
    absent = standings.absent(results)
    lines = ["# Which objective?", ""]
    if absent and results.problems:
        told = "is not complete: the answer holds for what is measured so far, and"
        lines += [f"**The benchmark {told} [{absent} results](#measured-so-far) are missing.**", ""]
    lines += [" ".join(answer.sentences(results)), ""]
    if results.gaps:
        lines += [f"![{MAP}](figures/objectives_heat_map.png)", ""]
        lines += [f"![{COST}](figures/objectives_cost.png)", ""]
    lines += [HOW, "", "## Tied groups", "", tables.GROUPS, ""]
    for problem_class in CLASSES:
        for budget in reversed(BUDGETS):
            lines += tables.groups(results, problem_class, budget)
    lines += ["## Gaps by problem", "", *tables.gaps(results)]
    lines += ["## Samples", "", tables.SAMPLES, "", *tables.samples(results), ""]
    lines += ["## Tuning", "", tables.TUNING, "", *tables.tuning(results), ""]
    lines += ["## Costs", "", tables.COSTS, "", *tables.costs(results), ""]
    lines += ["## Problems", "", *tables.problems(results), ""]
    if absent and results.problems:
        lines += ["## Measured so far", "", MEASURED, "", *tables.coverage(results), ""]
    lines += ["## Files", "", tables.files(results), ""]
    return "\n".join(lines)


def standings_csv(results: Results) -> str:
    """Return the interquartile mean gap of every problem, objective and budget as CSV."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(tables.CSV)
    table.writerows(tables.csv_rows(results))
    return file.getvalue()


def with_answer(text: str, results: Results) -> str:
    """Return the text of a page with the answer between its two markers."""
    head, rest = text.split(BEGIN)
    answered = "\n".join(f"* {sentence}" for sentence in answer.sentences(results))
    return f"{head}{BEGIN}\n{answered}\n{END}{rest.split(END)[1]}"


def write(folder: Path, docs: Path) -> Results:
    """Write the page, its figures, its CSV and the tutorial's answer from a folder of rows."""
    from scripts.benchmark_objectives import figures  # matplotlib takes seconds

    results = standings.collect(rows.read(folder))
    (docs / "figures").mkdir(parents=True, exist_ok=True)
    (docs / "data").mkdir(exist_ok=True)
    (docs / "objectives.md").write_text(page(results), encoding="utf-8")
    (docs / "data" / "objectives.csv").write_text(standings_csv(results), encoding="utf-8")
    tutorial = docs / TUTORIAL
    if tutorial.exists():
        text = with_answer(tutorial.read_text(encoding="utf-8"), results)
        tutorial.write_text(text, encoding="utf-8")
    if results.gaps:
        figures.heat_map(results, docs / "figures" / "objectives_heat_map.png")
        figures.cost(results, docs / "figures" / "objectives_cost.png")
    return results


def main() -> None:
    """Write the page and print its answer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=Path, default=rows.FOLDER, help="folder of the rows")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder of the page")
    arguments = parser.parse_args()
    results = write(arguments.rows, arguments.docs)
    print("\n".join(answer.sentences(results)))


if __name__ == "__main__":
    main()
