"""What the rows say: errors, intervals, and the groups of methods that are tied."""

from typing import NamedTuple

import numpy as np

from scripts.benchmark_samplers import measures
from scripts.benchmark_samplers.rows import Row

ONE_MODE = ("gaussian", "funnel", "banana")
SEVERAL_MODES = ("mixture_2d", "mixture_8d", "mixture_32d", "network")
DISCRETE = ("ising", "random_graph", "rbm")
CLASSES = {
    "continuous targets with one mode": ONE_MODE,
    "continuous targets with several modes": SEVERAL_MODES,
    "discrete targets": DISCRETE,
}
TARGETS = (*ONE_MODE, *SEVERAL_MODES, *DISCRETE)
Interval = tuple[float, float, float]


class Results(NamedTuple):
    """The last row of every method: samplers, seconds, and log Z with its three budgets."""

    samplers: dict[str, dict[str, Row]]  # target -> method -> row
    seconds: dict[str, dict[str, Row]]
    log_z: dict[str, dict[str, list[Row]]]


def collect(rows: list[Row]) -> Results:
    """Return the rows by target and method; a later row replaces an earlier one."""
    found = Results({}, {}, {})
    last = {}
    for row in rows:
        last[row["kind"], row["target"], row["method"], row.get("budget")] = row
    order = sorted(last.values(), key=lambda row: TARGETS.index(row["target"]))
    for row in order:
        target, method = row["target"], row["method"]
        if row["kind"] == "log_z":
            found.log_z.setdefault(target, {}).setdefault(method, []).append(row)
        else:
            table = found.samplers if row["kind"] == "sampler" else found.seconds
            table.setdefault(target, {})[method] = row
    return found


def values(numbers: list[float | None]) -> np.ndarray:
    """Return numbers as an array, infinite where a run gave none."""
    return np.array([np.inf if x is None else x for x in numbers])


def final_errors(row: Row) -> np.ndarray:
    """Return the squared errors of the seeds at the largest budget."""
    return values(row["errors"][-1])


def error(row: Row, number: int = -1) -> Interval:
    """Return the mean squared error over the seeds and its interval."""
    errors = values(row["errors"][number])
    if not np.isfinite(errors).all():
        return (np.inf, np.inf, np.inf)
    return measures.interval(errors)


def seed_cost(row: Row) -> float:
    """Return the cost of all chains of one seed, in gradient evaluations."""
    return row["protocol"]["budget"] * row["protocol"]["chains"]


def independent_samples(row: Row) -> Interval:
    """Return 1 / error, per 1,000 gradients: the independent samples that would be as precise."""
    mean, low, high = error(row)
    if mean == np.inf:
        return (np.nan, np.nan, np.nan)
    cost = seed_cost(row) / 1000
    return (1 / mean / cost, 1 / high / cost, 1 / low / cost)


def effective_samples(row: Row) -> Interval | None:
    """Return the lowest effective sample size, per 1,000 gradients."""
    if row["effective_samples"] is None:
        return None
    sizes = np.array([np.nan if x is None else x for x in row["effective_samples"]])
    if not np.isfinite(sizes).all():
        return None
    mean, low, high = measures.interval(sizes)
    cost = seed_cost(row) / 1000
    return mean / cost, low / cost, high / cost


def best(table: dict[str, Row]) -> list[str]:
    """Return the methods of a target that are tied for the lowest error, best first."""
    finite = {m: e for m, e in ((m, error(row)) for m, row in table.items()) if e[0] < np.inf}
    return measures.tied(finite) if finite else []


def best_of_class(
    results: Results, targets: tuple[str, ...]
) -> tuple[list[str], dict[str, list[str]]]:
    """Return the methods tied for the lowest mean log error over targets, best first.

    A method without finite errors on all of these targets is not ranked: the second result has the
    targets on which it has none.
    """
    tables = {name: results.samplers[name] for name in targets if name in results.samplers}
    methods = list(dict.fromkeys(method for table in tables.values() for method in table))
    errors, unranked = {}, {}
    for method in methods:
        found = {n: final_errors(table[method]) for n, table in tables.items() if method in table}
        finite = [name for name, errors_of in found.items() if np.isfinite(errors_of).all()]
        if len(finite) == len(tables):
            errors[method] = np.array(list(found.values()))
        else:
            unranked[method] = [name for name in tables if name not in finite]
    return measures.tied(measures.scores(errors)) if errors else [], unranked


def mostly_biased(results: Results) -> dict[str, list[str]]:
    """Return, for samplers without accept/reject step, where bias is over half of the error."""
    found: dict[str, list[str]] = {}
    for target, table in results.samplers.items():
        for method, row in table.items():
            if not row["unbiased"] and (row["bias_share"] or 0) > 0.5:
                found.setdefault(method, []).append(target)
    return found


def log_z_error(row: Row) -> Interval:
    """Return the root mean squared error of log Z over the seeds and its interval."""
    errors = values(row["errors"])
    if not np.isfinite(errors).all():
        return (np.inf, np.inf, np.inf)
    mean, low, high = measures.interval(errors**2)
    return (mean**0.5, low**0.5, high**0.5)


def best_estimators(
    table: dict[str, list[Row]], without: tuple[str, ...] = ()
) -> tuple[dict[str, Interval], list[str]]:
    """Return the errors of log Z at the largest budget, and the tied best, best first."""
    last = {m: max(rows, key=lambda row: row["budget"]) for m, rows in table.items()}
    errors = {m: log_z_error(row) for m, row in last.items() if m not in without}
    finite = {m: e for m, e in errors.items() if np.isfinite(e[0])}
    return finite, measures.tied(finite) if finite else []


def best_log_z(results: Results, without: tuple[str, ...]) -> list[str]:
    """Return the estimators tied for the lowest mean log error at the largest budget."""
    errors: dict[str, list[np.ndarray]] = {}
    for table in results.log_z.values():
        for method, rows in table.items():
            if method not in without:
                last = max(rows, key=lambda row: row["budget"])
                errors.setdefault(method, []).append(values(last["errors"]) ** 2)
    finite = {m: np.array(e) for m, e in errors.items() if np.isfinite(e).all()}
    return measures.tied(measures.scores(finite)) if finite else []
