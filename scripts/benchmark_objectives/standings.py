"""From the rows of the benchmark to its standings: which objectives are best, and which tie."""

import itertools
import statistics as stdlib
from typing import Any, NamedTuple

import numpy as np

from experiments import names
from scripts.benchmark_objectives import statistics
from scripts.benchmark_objectives.statistics import Interval

Row = dict[str, Any]

CLASSES = {
    "plane": "densities in the plane",
    "bits": "binary data with 16 variables",
    "mixture": "mixtures of Gaussians",
}
NUM_PROBLEMS = 10  # of the protocol
EXACT = "exact"
BUDGETS = (0, 1, 2)
SAMPLED = ("flow_matching", "equilibrium_matching", "short_run")  # judged by their samples
TITLES = {  # names written out; the others are their names with spaces
    "exact": "exact maximum likelihood",
    "cd": "contrastive divergence",
    "pcd": "persistent contrastive divergence",
    "pseudo_likelihood": "pseudo-likelihood",
    "informed_pcd": "informed persistent contrastive divergence",
    "improved_cd": "improved contrastive divergence",
    "binary_nce": "binary noise-contrastive estimation",
    "ranking_nce": "ranking noise-contrastive estimation",
    "conditional_nce": "conditional noise-contrastive estimation",
    "grid_energy_discrepancy": "energy discrepancy on neighbouring states",
    "stein_discrepancy": "kernelized Stein discrepancy",
    "hutchinson_score_matching": "Hutchinson score matching",
    "amortized": "amortized negatives",
    "short_run": "short-run chains",
}


def title(objective: str) -> str:
    """Return the name of an objective, written out."""
    return TITLES.get(objective, objective.replace("_", " "))


class Results(NamedTuple):
    """The rows of the benchmark, grouped by kind.

    Attributes:
        problems: problem -> its row, in the order of the classes.
        gaps: (problem, objective, budget) -> gaps of the seeds, infinite where a run diverged.
        runs: (problem, objective, budget) -> rows of the seeds.
        trials: (problem, objective) -> rows of the tuning.
        costs: (problem, objective) -> row.
        samples: (problem, objective, budget) -> rows of the seeds.
    """

    problems: dict[str, Row]
    gaps: dict[tuple[str, str, int], np.ndarray]
    runs: dict[tuple[str, str, int], list[Row]]
    trials: dict[tuple[str, str], list[Row]]
    costs: dict[tuple[str, str], Row]
    samples: dict[tuple[str, str, int], list[Row]]

    def objectives(self, problem_class: str) -> list[str]:
        """Return the objectives that have runs on problems of a class."""
        return sorted({o for p, o, _ in self.gaps if self.class_of(p) == problem_class})

    def problems_of(self, problem_class: str) -> list[str]:
        """Return the problems of a class."""
        return [p for p in self.problems if self.class_of(p) == problem_class]

    def class_of(self, problem: str) -> str:
        """Return the class of a problem."""
        return self.problems[problem]["problem_class"]


def _gap(row: Row) -> float:
    return float("inf") if row["status"] != "ok" or row["gap"] is None else row["gap"]


def collect(rows: list[Row]) -> Results:
    """Return the rows of this repository's objectives, grouped by kind, without entries."""
    order = {name: i for i, name in enumerate(CLASSES)}
    listed = [row for row in rows if row["kind"] == "problem"]
    listed.sort(key=lambda row: (order[row["problem_class"]], row["dimension"], row["problem"]))
    found = Results({row["problem"]: row for row in listed}, {}, {}, {}, {}, {})
    for row in rows:
        if row["problem"] not in found.problems or row.get("entry"):
            continue
        pair = row["problem"], row.get("objective", "")
        if row["kind"] == "run":
            found.runs.setdefault((*pair, row["budget"]), []).append(row)
        elif row["kind"] == "samples":
            found.samples.setdefault((*pair, row["budget"]), []).append(row)
        elif row["kind"] == "trial":
            found.trials.setdefault(pair, []).append(row)
        elif row["kind"] == "cost":
            found.costs[pair] = row
    for key, of_key in found.runs.items():
        found.gaps[key] = np.array([_gap(r) for r in sorted(of_key, key=lambda r: r["seed"])])
    return found


def scale(results: Results, problem: str) -> float:
    """Return the gap that counts as 1: the median of all objectives at the smallest budget."""
    budget = min((b for p, _, b in results.gaps if p == problem), default=0)
    means = [
        float(statistics.interquartile_mean(gaps))
        for (p, _, b), gaps in results.gaps.items()
        if p == problem and b == budget
    ]
    finite = [mean for mean in means if np.isfinite(mean)]
    median = stdlib.median(finite) if finite else 1.0
    return median if median > 0 else 1.0


def disagreement(of_key: list[Row]) -> float:
    """Return the median difference of two estimates of log Z, in nats; 0 where Z is exact."""
    values = [row["log_z_disagreement"] for row in of_key if row["log_z_disagreement"] is not None]
    return stdlib.median(values) if values else 0.0


class Standing(NamedTuple):
    """The objectives of a class of problems at one budget.

    Attributes:
        problems: the problems that count.
        intervals: objective -> mean over problems of its normalised gaps, with its interval over
            seeds, widened by the mean normalised ``disagreement``.
        groups: objectives that tie, the best group first.
        singles: objective -> number of single problems on which it is best or tied.
        scores: objective -> normalised gaps, one array per problem.
        passes: median number of network passes of a training.
        unfinished: objectives that have not all of the problems yet.
    """

    problems: list[str]
    intervals: dict[str, Interval]
    groups: list[list[str]]
    singles: dict[str, int]
    scores: dict[str, list[np.ndarray]]
    passes: float
    unfinished: list[str]


def best_on(results: Results, problem: str, names: list[str], budget: int) -> list[str]:
    """Return which of the objectives that have runs are best or tied on a problem, best first."""
    keys = {name: (problem, name, budget) for name in names}
    intervals = {
        name: statistics.widened(
            statistics.aggregate([results.gaps[key]]), disagreement(results.runs[key])
        )
        for name, key in keys.items()
        if key in results.gaps
    }
    return statistics.tied_groups(intervals)[0] if intervals else []


def complete(has: dict[str, set[str]]) -> tuple[list[str], list[str]]:
    """Return the problems that count and the objectives that have all of them.

    ``has`` is problem -> objectives with runs. Of all sets of problems, the one with the most
    results counts, where at least two objectives can be compared.
    """
    best: tuple[tuple[bool, int, int], list[str], list[str]] = ((False, 0, 0), [], [])
    for size in range(1, len(has) + 1):
        for chosen in itertools.combinations(sorted(has), size):
            shared = sorted(set.intersection(*(has[p] for p in chosen)))
            score = len(shared) > 1, len(shared) * size, size
            if shared and score > best[0]:
                best = score, list(chosen), shared
    return best[1], best[2]


def standing(
    results: Results, problem_class: str, budget: int, without: tuple[str, ...] = ()
) -> Standing | None:
    """Return the standing of a class at a budget, or None without runs."""
    every = [name for name in results.objectives(problem_class) if name not in without]
    has = {
        p: {n for n in every if (p, n, budget) in results.gaps}
        for p in results.problems_of(problem_class)
    }
    problems, ranked = complete(has)
    if not problems:
        return None
    scales = {p: scale(results, p) for p in problems}
    gaps = {n: {p: results.gaps[p, n, budget] for p in problems} for n in ranked}
    scores = statistics.normalised(gaps, scales)
    intervals = {
        n: statistics.widened(
            statistics.aggregate(scores[n]),
            stdlib.mean(disagreement(results.runs[p, n, budget]) / scales[p] for p in problems),
        )
        for n in ranked
    }
    groups = statistics.tied_groups(intervals)
    passes = [r["passes"] for p in problems for n in ranked for r in results.runs[p, n, budget]]
    unfinished = [n for n in every if n not in ranked]
    tied = [best_on(results, p, ranked, budget) for p in problems]
    singles = {n: sum(n in of_problem for of_problem in tied) for n in ranked}
    return Standing(problems, intervals, groups, singles, scores, stdlib.median(passes), unfinished)


def ranked_out(problem_class: str) -> tuple[str, ...]:
    """Return the objectives that a class does not rank.

    Exact maximum likelihood on the mixtures samples log Z from the true density, which only a
    benchmark has: it is a reference there.
    """
    return (EXACT,) if problem_class == "mixture" else ()


def fullest(results: Results, problem_class: str) -> tuple[int, Standing] | None:
    """Return the budget with the most results, the largest of equals, and its standing."""
    found = []
    for budget in BUDGETS:
        at = standing(results, problem_class, budget, ranked_out(problem_class))
        if at is not None:
            found.append((len(at.problems) * len(at.intervals), budget, at))
    if not found:
        return None
    _, budget, at = max(found, key=lambda item: item[:2])
    return budget, at


class Advice(NamedTuple):
    """What a class of problems recommends, and the standing that it follows from."""

    problem_class: str
    budget: int
    best: list[str]
    standing: Standing
    without_exact: list[str]  # the best group of the others, where exact likelihood is best alone


def advice(results: Results) -> list[Advice]:
    """Return the best groups of every class that has two objectives to compare."""
    found = []
    for problem_class in CLASSES:
        at = fullest(results, problem_class)
        if at is None or len(at[1].intervals) < 2:
            continue
        budget, first = at
        others: list[str] = []
        if first.groups[0] == [EXACT]:
            second = standing(results, problem_class, budget, (EXACT,))
            others = second.groups[0] if second is not None and len(second.intervals) > 1 else []
        found.append(Advice(problem_class, budget, first.groups[0], first, others))
    return found


def expected(results: Results, problem_class: str) -> list[str]:
    """Return the objectives that apply to a class of problems, and others that have runs."""
    known = names.BINARY if problem_class == "bits" else (*names.CONTINUOUS, *SAMPLED)
    return sorted({*known, *results.objectives(problem_class)})


def measured(results: Results, problem: str, objective: str) -> list[int]:
    """Return the budgets that have runs, or samples, of an objective on a problem."""
    keys = {*results.gaps, *results.samples}
    return [budget for budget in BUDGETS if (problem, objective, budget) in keys]


def absent(results: Results) -> int:
    """Return how many triples of problem, objective and budget are not measured yet."""
    return sum(
        len(BUDGETS) - len(measured(results, problem, objective))
        for problem in results.problems
        for objective in expected(results, results.class_of(problem))
    )
