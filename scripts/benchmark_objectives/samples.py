"""Measures of samples, for objectives whose energy is not that of a Gibbs distribution."""

import numpy as np

from experiments import evaluation
from scripts.benchmark_objectives.problems import Task

NUM, DIRECTIONS = 2000, 100


def sliced_wasserstein(a: np.ndarray, b: np.ndarray) -> float:
    r"""Return the sliced Wasserstein distance W_1 of two samples of equal size.

    It is the mean over random directions of the mean distance of sorted projections. Source:
    Bonneel et al. (2015), Sliced and Radon Wasserstein barycenters of measures.
    """
    directions = np.random.default_rng(0).standard_normal((a.shape[1], DIRECTIONS))
    directions /= np.linalg.norm(directions, axis=0)
    sorted_a, sorted_b = (np.sort(np.asarray(x, np.float64) @ directions, axis=0) for x in (a, b))
    return float(np.abs(sorted_a - sorted_b).mean())


def floor(task: Task) -> float:
    """Return the distance of two samples of the data."""
    return sliced_wasserstein(task.train[-NUM:], task.test[:NUM])


def measure(task: Task, drawn: np.ndarray) -> dict[str, float]:
    """Return measures of samples of a model; ``gap`` is the distance to the test data."""
    if not np.isfinite(drawn).all():
        return dict.fromkeys(("gap", "validation_gap", "classifier_accuracy"), np.nan)
    accuracy = evaluation.one_nn_accuracy(drawn, task.test[:NUM])
    return {
        "gap": sliced_wasserstein(drawn, task.test[:NUM]),
        "validation_gap": sliced_wasserstein(drawn, task.valid[:NUM]),
        "classifier_accuracy": float(np.mean(accuracy)),
    }
