"""The least test loss that the network reaches: long trainings by exact maximum likelihood."""

import numpy as np

from scripts.benchmark_objectives import competitors, problems, runs
from scripts.benchmark_objectives.problems import Task

RATES = (0.01, 0.03)
BUDGETS = 2  # in units of the largest budget of a training


def train(task: Task, scale: float = 1.0) -> float:
    """Return the test gap where the validation gap is least, over learning rates and time."""
    competitor = competitors.competitor("exact", task)
    first = {name: values[-1] for name, values in competitor.search.items()}
    program = runs.program(task, competitor, first, {})
    passes = scale * BUDGETS * 100 * problems.PASSES[task.problem_class]
    stack = runs.members([0] * len(RATES), list(RATES), [{}] * len(RATES))
    found = program.train(task, stack, passes, curve=True)
    measured = [measures for result in found for measures in result.history]
    measured = [m for m in measured if np.isfinite([m["gap"], m["validation_gap"]]).all()]
    if not measured:
        raise FloatingPointError(f"The reference of {task.name} diverged.")
    return min(measured, key=lambda measures: measures["validation_gap"])["gap"]
