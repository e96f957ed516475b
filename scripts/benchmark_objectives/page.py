"""Draw docs/objectives.md, its figures and its CSV again from the rows, without training.

    python -m scripts.benchmark_objectives.page
    python -m scripts.benchmark_objectives.page --rows=runs/bo/rows --docs=runs/bo

The rows may be incomplete: the page lists the results that are missing.
"""

import argparse
import csv
import io
from pathlib import Path

from scripts.benchmark_objectives import answer, prose, rows, standings, tables
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
    "Each cell lists the budgets that are measured, or *none*. It is empty where the objective "
    "does not apply to the problem. The command of [the protocol](benchmark_protocol.md) continues "
    "from here."
)
OBJECTIVES = """\
The objectives, with links to explanations, are {term}`maximum likelihood`, contrastive divergence
({term}`CD`), {term}`improved contrastive divergence`, persistent contrastive divergence
({term}`PCD`), {term}`informed persistent contrastive divergence`, {term}`recovery likelihood`,
{term}`short-run chains`, negatives from an {term}`amortised sampler`, {term}`score matching` with
its variants ({term}`denoising <denoising score matching>`, {term}`sliced <sliced score matching>`,
{term}`Hutchinson <Hutchinson score matching>`), noise-contrastive estimation ({term}`NCE`:
{term}`binary and ranking <ranking NCE>`, {term}`conditional <conditional NCE>`), {term}`energy
discrepancy`, the kernelized {term}`Stein discrepancy`, {term}`flow matching`, {term}`energy
matching` and {term}`equilibrium matching`; on discrete data also {term}`pseudo-likelihood`,
{term}`ratio matching` and {term}`minimum probability flow`."""
HOW = """\
## How to read the numbers

The *gap* of a model is its {term}`cross entropy` on the data distribution minus the entropy of
that distribution, in {term}`nats`: 0 is a perfect model. The distributions of the two real
data sets are unknown; there a reference takes the place of the entropy, and a gap can be negative.
The section [Problems](#problems) states what is known of each. To average over problems, each gap
is divided by the median gap of all objectives on that problem at the smallest budget. This is the
*normalised gap*: compare it only within this page.

Intervals are 95 % {term}`bootstrap intervals <bootstrap interval>` over seeds. A gap of several
seeds is an {term}`interquartile mean`: the mean without the lowest and the highest quarter. That of
a class is the mean over its problems. A run that diverged counts as infinitely bad. Objectives are
*tied* with the best one if their intervals overlap with its interval. Tied means that this rule
does not separate them, not that they are equal: the {term}`probability of improvement`, the
probability that a run of one objective has a smaller gap than a run of another, is in the tables.
These measures are from [Agarwal et al. 2021](https://arxiv.org/abs/2108.13264), who order the runs
of all problems together. With as few problems as here, that would leave out whole problems. The
intervals cover the seeds only. They leave out the variation between problems, the tuning, which has
one seed, and the finite number of test examples. On the mixtures, where log Z is an estimate, the
intervals of the tied groups are widened by the difference of two estimates; the error can be larger
than this difference.

Cost is counted in {term}`network passes <network pass>`: evaluations of the energy network on one
example. A gradient costs about three passes.{exact}
The three budgets are about ten times apart. The options are chosen at budget 1 and used at all
three. In practice you can rarely choose options by the gap, as here. [The
protocol](benchmark_protocol.md) describes the budgets, the tuning, the measures and the
[limits](benchmark_protocol.md#limits)."""


def page(results: Results) -> str:
    """Return docs/objectives.md; it depends on the rows alone."""
    absent = standings.absent(results)
    lines = ["# Which objective?", ""]
    if absent and results.problems:
        most = standings.NUM_PROBLEMS
        of_these = "all" if len(results.problems) == most else f"{len(results.problems)} of the"
        told = f"{of_these} {most} problems have results, but"
        told += f" [{absent} of these results](#measured-so-far) are missing. A result is one"
        told += " objective on one problem at one budget."
        lines += [f"**The benchmark is not complete, so the answer can change: {told}**", ""]
    lines += [answer.bullets(results), "", OBJECTIVES, ""]
    if results.gaps:
        lines += [f"![{MAP}](figures/objectives_heat_map.png)", ""]
        lines += [f"![{COST}](figures/objectives_cost.png)", ""]
    how = HOW.replace("{exact}", tables.exact_cost(results))
    lines += [f"{how} {tables.unmeasured(results)}".rstrip(), ""]
    lines += ["## Tied groups", "", prose.GROUPS, ""]
    for problem_class in CLASSES:
        for budget in reversed(BUDGETS):
            lines += tables.groups(results, problem_class, budget)
    lines += ["## Gaps by problem", "", *tables.gaps(results)]
    lines += ["## Samples", "", prose.SAMPLES, "", *tables.samples(results), ""]
    lines += ["## Tuning", "", prose.TUNING, "", *tables.tuning(results), ""]
    lines += ["## Costs", "", prose.COSTS, "", *tables.costs(results), ""]
    lines += ["## Problems", "", prose.PROBLEMS, "", *tables.problems(results), ""]
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
    return f"{head}{BEGIN}\n{answer.bullets(results)}\n{END}{rest.split(END)[1]}"


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
