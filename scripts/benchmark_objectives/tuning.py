"""Choice of options: the same number of quasi-random trials for every objective."""

import math
from datetime import date
from typing import Any

import numpy as np
from scipy.stats import qmc

from scripts.benchmark_objectives import competitors, runs
from scripts.benchmark_objectives.competitors import Competitor, Search
from scripts.benchmark_objectives.problems import Task

TRIALS = 16  # a power of two, for which a Sobol sequence is balanced


def trials(search: Search, num: int = TRIALS) -> list[tuple[float, dict[str, Any]]]:
    """Return (learning rate, options) of the points of a scrambled Sobol sequence.

    The same search has the same trials.
    """
    space: Search = {"learning_rate": competitors.LEARNING_RATES} | search
    points = qmc.Sobol(len(space), seed=0).random_base2(max(0, math.ceil(math.log2(num))))[:num]
    found = []
    for point in points:
        values: dict[str, Any] = {}
        for (name, choices), u in zip(space.items(), point, strict=True):
            if isinstance(choices, list):
                values[name] = choices[int(u * len(choices))]
            else:
                low, high = np.log(choices)
                values[name] = float(f"{np.exp(low + u * (high - low)):.3g}")
        found.append((values.pop("learning_rate"), values))
    return found


def split(competitor: Competitor, options: dict[str, Any]) -> tuple[dict, dict]:
    """Return the options that change the program, and the others."""
    names = competitors.static(competitor.search)
    return (
        {name: value for name, value in options.items() if name in names},
        {name: value for name, value in options.items() if name not in names},
    )


def tune(
    task: Task,
    name: str,
    competitor: Competitor,
    passes: float,
    num: int = TRIALS,
    stack: int = TRIALS,
    programs: dict[str, runs.Program] | None = None,
) -> list[dict[str, Any]]:
    """Train all trials with seed 0 and return their rows.

    Trials of equal program are trained together, ``stack`` at a time. ``programs`` has the programs
    of the family, by the text of the options that change them, and receives others.
    """
    programs = {} if programs is None else programs
    groups: dict[str, list[int]] = {}
    listed = trials(competitor.search, num)
    for i, (_, options) in enumerate(listed):
        groups.setdefault(repr(split(competitor, options)[0]), []).append(i)
    rows = []
    for text, indices in groups.items():
        fixed, first = split(competitor, listed[indices[0]][1])
        program = programs.get(text) or runs.program(task, competitor, fixed, first)
        if program.stacked:
            results = _together(task, program, [listed[i] for i in indices], passes, stack)
            programs[text] = program
        else:
            results = [_alone(task, competitor, *listed[i], passes) for i in indices]
        rows += [
            _row(task, name, i, *listed[i], result)
            for i, result in zip(indices, results, strict=True)
        ]
    return sorted(rows, key=lambda row: row["trial"])


def _together(
    task: Task, program: runs.Program, listed: list[tuple[float, dict]], passes: float, stack: int
) -> list[runs.Result]:
    """Train trials in stacks of one size, for which the program is compiled once."""
    results = []
    for begin in range(0, len(listed), stack):
        chunk = listed[begin : begin + stack]
        full = chunk + [chunk[-1]] * (stack - len(chunk))
        options = [split(program.competitor, options)[1] for _, options in full]
        members = runs.members([0] * stack, [rate for rate, _ in full], options)
        results += program.train(task, members, passes, curve=False)[: len(chunk)]
    return results


def _alone(
    task: Task, competitor: Competitor, rate: float, options: dict[str, Any], passes: float
) -> runs.Result:
    program = runs.Program(task, competitor, options, stacked=False)
    return program.train(task, runs.members([0], [rate], [{}]), passes, curve=False)[0]


def _row(
    task: Task, name: str, trial: int, rate: float, options: dict, result: runs.Result
) -> dict[str, Any]:
    gap = runs.number(result.measures["validation_gap"])
    return {
        "kind": "trial",
        "problem": task.name,
        "objective": name,
        "trial": trial,
        "learning_rate": rate,
        "options": options,
        "updates": result.updates,
        "passes": result.passes,
        "validation_gap": gap if result.status == "ok" else None,
        "status": result.status,
        "seconds": result.seconds,
        "date": date.today().isoformat(),
    }


def best(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the trial with the lowest validation gap; a diverged one counts as infinite."""

    def gap(row: dict[str, Any]) -> float:
        return math.inf if row["validation_gap"] is None else row["validation_gap"]

    return min(rows, key=gap)
