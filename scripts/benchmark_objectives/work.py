"""The jobs of the benchmark, the most useful first; rows that exist are not made again."""

import time
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scripts.benchmark_objectives import (
    competitors,
    problems,
    reference,
    rows,
    runs,
    samples,
    tuning,
)
from scripts.benchmark_objectives.problems import Task

BUDGETS = (0, 1, 2)
TUNED_AT = 1  # the budget of the trials
TRAINED = ("updates", "seconds", "processor_seconds", "curve")  # fields of a run
TIERS = 6  # objectives that run at all budgets before the others begin


class Plan(NamedTuple):
    """What is run.

    Attributes:
        folder: where the rows are.
        seeds: number of seeds.
        budgets: the budgets.
        trials: number of trials.
        scale: factor of all numbers of passes; less than 1 for a demonstration.
        data_dir: folder of published data.
    """

    folder: Path
    seeds: int = 10
    budgets: tuple[int, ...] = BUDGETS
    trials: int = tuning.TRIALS
    scale: float = 1.0
    data_dir: str | None = None

    def passes(self, task: Task, budget: int) -> float:
        """Return the network passes of one training."""
        return self.scale * problems.PASSES[task.problem_class] * 10**budget


class Job(NamedTuple):
    """One objective on one problem at some budgets; without an objective, the reference."""

    problem: str
    objective: str | None
    budgets: tuple[int, ...] = ()


def problem_class(name: str) -> str:
    """Return the class of a problem without making it."""
    if name in problems.PLANES:
        return "plane"
    return "mixture" if name.startswith("mixture") else "bits"


def jobs(chosen: list[str], objectives: list[str] | None, budgets: tuple[int, ...]) -> list[Job]:
    """Return the jobs in an order that leaves complete comparisons after an interruption.

    The small budgets come before the largest, the important objectives before the others, and
    every objective runs on all problems before the next one begins.
    """
    listed = {name: competitors.names(problem_class(name)) for name in chosen}
    every = list(dict.fromkeys(name for names in listed.values() for name in names))
    every.sort(
        key=lambda name: min(names.index(name) for names in listed.values() if name in names)
    )
    wanted = [name for name in every if objectives is None or name in objectives]
    wanted += [name for name in objectives or () if ":" in name]
    small, large = tuple(b for b in budgets if b < 2), tuple(b for b in budgets if b == 2)
    found = []
    for tier in (wanted[:TIERS], wanted[TIERS:]):
        for part in (small, large):
            found += [
                Job(problem, name, part)
                for name in tier
                for problem in chosen
                if part and (name in listed[problem] or ":" in name)
            ]
    return found + [Job(problem, None) for problem in chosen]


class Rows:
    """The rows of a folder by identity, and the programs of the objective at work."""

    def __init__(self, folder: Path) -> None:
        """Read the folder."""
        self.folder = folder
        self._by_identity = {rows.identity(row): row for row in rows.read(folder)}
        self._objective, self._programs = "", {}

    def add(self, row: dict[str, Any]) -> None:
        """Append a row to its file."""
        rows.append(self.folder, row)
        self._by_identity[rows.identity(row)] = row

    def get(self, *identity: Any) -> dict[str, Any] | None:
        """Return a row, None where there is none."""
        return self._by_identity.get(identity)

    def programs(self, objective: str, family: str) -> dict[str, runs.Program]:
        """Return the compiled programs of an objective; those of another one are forgotten."""
        if objective != self._objective:
            self._objective, self._programs = objective, {}
        return self._programs.setdefault(family, {})


def load(plan: Plan, kept: Rows, name: str) -> Task:
    """Return a problem; the row of a problem without known entropy is made first."""
    row = kept.get("problem", name)
    if row is None:
        known = name not in problems.TABLES
        best = None
        if not known:
            best = reference.train(problems.task(name, plan.data_dir, 0.0), plan.scale)
        task = problems.task(name, plan.data_dir, best)
        kept.add(_problem_row(task, 0.0, "" if best else " best_gap is not measured yet."))
        return task
    return problems.task(name, plan.data_dir, row["entropy"] if name in problems.TABLES else None)


def _problem_row(task: Task, best_gap: float, remark: str) -> dict[str, Any]:
    return {
        "kind": "problem",
        "problem": task.name,
        "problem_class": task.problem_class,
        "title": problems.TITLES[task.name],
        "dimension": task.dimension,
        "entropy": round(task.entropy, 6),
        "best_gap": round(best_gap, 6),
        "how": task.how + remark,
        "date": date.today().isoformat(),
    }


def do(plan: Plan, kept: Rows, job: Job) -> bool:
    """Do what a job lacks; return whether anything was done."""
    if job.objective is None:
        return _best_gap(plan, kept, job.problem)
    if not _lacks(plan, kept, job):
        return False
    task = load(plan, kept, job.problem)
    competitor = competitors.competitor(job.objective, task)
    trials = [kept.get("trial", job.problem, job.objective, i) for i in range(plan.trials)]
    programs = kept.programs(job.objective, task.name if competitor.entry else task.family)
    if None in trials:
        passes = plan.passes(task, TUNED_AT)
        trials = tuning.tune(
            task, job.objective, competitor, passes, plan.trials, plan.seeds, programs
        )
        for row in trials:
            kept.add(row)
    chosen = tuning.best([row for row in trials if row is not None])
    fixed, values = tuning.split(competitor, chosen["options"])
    program = programs.get(repr(fixed)) or runs.program(task, competitor, fixed, values)
    if program.stacked:
        programs[repr(fixed)] = program
    if kept.get("cost", job.problem, job.objective) is None:
        kept.add(_cost_row(task, job.objective, program, chosen))
    for budget in job.budgets:
        if _lacks(plan, kept, job._replace(budgets=(budget,))):
            _seeds(plan, kept, task, job.objective, program, chosen, budget)
    return True


def _cost_row(task: Task, name: str, program: runs.Program, chosen: dict) -> dict[str, Any]:
    return {
        "kind": "cost",
        "problem": task.name,
        "objective": name,
        "passes_per_update": round(program.passes_per_update, 1),
        "energy_multiplications": program.energy_multiplications,
        "seconds_per_update": float(f"{chosen['seconds'] / chosen['updates']:.3g}"),
    }


def _lacks(plan: Plan, kept: Rows, job: Job) -> bool:
    assert job.objective is not None
    entry = job.objective if ":" in job.objective else None
    return any(
        kept.get("run", job.problem, job.objective, entry, seed, budget) is None
        and kept.get("samples", job.problem, job.objective, seed, budget) is None
        for budget in job.budgets
        for seed in range(1, plan.seeds + 1)
    )


def _seeds(
    plan: Plan,
    kept: Rows,
    task: Task,
    name: str,
    program: runs.Program,
    chosen: dict[str, Any],
    budget: int,
) -> None:
    """Train all seeds with the chosen options and append their rows."""
    seeds = list(range(1, plan.seeds + 1))
    values = {} if not program.stacked else tuning.split(program.competitor, chosen["options"])[1]
    stack = runs.members(seeds, [chosen["learning_rate"]] * len(seeds), [values] * len(seeds))
    results = program.train(task, stack, plan.passes(task, budget), curve=True)
    for seed, result in zip(seeds, results, strict=True):
        kept.add(_seed_row(task, name, program.competitor, chosen, budget, seed, result))


def _seed_row(
    task: Task,
    name: str,
    competitor: competitors.Competitor,
    chosen: dict[str, Any],
    budget: int,
    seed: int,
    result: runs.Result,
) -> dict[str, Any]:
    """Return the row of a training: of kind "samples" if its objective is judged by samples."""
    row = {
        "problem": task.name,
        "objective": name,
        "seed": seed,
        "budget": budget,
        "passes": result.passes,
        "status": result.status,
        "date": date.today().isoformat(),
    }
    measures = {measure: runs.number(value) for measure, value in result.measures.items()}
    if competitor.sample is not None:
        return row | {
            "kind": "samples",
            "updates": result.updates,
            "processor_seconds": result.processor_seconds,
            "sliced_wasserstein": measures["gap"],
            "sliced_wasserstein_floor": runs.number(samples.floor(task)),
            "classifier_accuracy": measures["classifier_accuracy"],
        }
    if result.status == "diverged":
        measures = dict.fromkeys(measures)
    chosen_fields = {key: chosen[key] for key in ("learning_rate", "options", "trial")}
    trained = {name: getattr(result, name) for name in TRAINED}
    return row | {"kind": "run", "entry": competitor.entry} | chosen_fields | trained | measures


def _best_gap(plan: Plan, kept: Rows, name: str) -> bool:
    """Measure how near a long training by the exact objective comes."""
    task = load(plan, kept, name)
    row = kept.get("problem", name)
    assert row is not None
    if name in problems.TABLES or "not measured" not in row["how"]:
        return False
    best = reference.train(task, plan.scale)
    remark = " best_gap is that of a long training by exact maximum likelihood."
    kept.add(_problem_row(task, max(0.0, best), remark))
    return True


def finished(plan: Plan, began: float, hours: float | None) -> bool:
    """Return whether the hours are over."""
    return hours is not None and time.perf_counter() - began > 3600 * hours


def summary(kept: list[dict[str, Any]], hours: float) -> dict[str, Any]:
    """Return what the last line says."""
    runs_of = [row for row in kept if row["kind"] in ("run", "samples")]
    return {
        "problems": len({row["problem"] for row in kept if row["kind"] == "problem"}),
        "objectives": len({row["objective"] for row in runs_of}),
        "seeds": max(
            (len({r["seed"] for r in runs_of if r["problem"] == name}) for name in problems.NAMES),
            default=0,
        ),
        "hours": round(hours, 3),
    }


def median_gap(kept: list[dict[str, Any]]) -> float:
    """Return the median gap of runs; a diverged one is infinite."""
    return float(np.median([np.inf if r["gap"] is None else r["gap"] for r in kept]))
