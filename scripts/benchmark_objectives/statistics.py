"""Interquartile means, bootstrap intervals, probability of improvement, and groups that tie.

The measures of Agarwal et al. (2021), Deep reinforcement learning at the edge of the statistical
precipice, arXiv:2108.13264. Scores are gaps: lower is better, and a run that diverged has an
infinite gap. Scores of one objective are a list with one array of seeds per problem.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


class Interval(NamedTuple):
    """An estimate with the ends of its bootstrap interval."""

    value: float
    low: float
    high: float


def interquartile_mean(scores: np.ndarray) -> np.ndarray:
    """Return the mean of the middle half of the last axis.

    A quarter of the scores, rounded down, is left out at each end, as ``scipy.stats.trim_mean``
    does with 0.25.
    """
    ordered = np.sort(np.asarray(scores, np.float64), axis=-1)
    cut = ordered.shape[-1] // 4
    return ordered[..., cut : ordered.shape[-1] - cut].mean(axis=-1)


def _interval(value: float, resampled: np.ndarray) -> Interval:
    """Return the percentile interval; it does not interpolate, because scores may be infinite."""
    tail = (1 - CONFIDENCE) / 2
    low = np.quantile(resampled, tail, method="lower")
    high = np.quantile(resampled, 1 - tail, method="higher")
    return Interval(float(value), float(low), float(high))


def aggregate(scores: Sequence[np.ndarray], seed: int = 0) -> Interval:
    """Return the mean over problems of the interquartile mean over seeds, with its interval.

    Agarwal et al. order the runs of all problems together. With a few problems, that would leave
    out whole problems, other ones for each objective. The bootstrap draws seeds with replacement
    within each problem.
    """
    if not scores or any(len(of_problem) == 0 for of_problem in scores):
        raise ValueError("scores must have at least one problem, and one seed of each.")
    rng = np.random.default_rng(seed)
    given = [np.asarray(x, np.float64) for x in scores]
    drawn = [x[rng.integers(len(x), size=(RESAMPLES, len(x)))] for x in given]
    value = float(np.mean([interquartile_mean(x) for x in given]))
    return _interval(value, np.mean([interquartile_mean(x) for x in drawn], axis=0))


def widened(interval: Interval, by: float) -> Interval:
    """Return an interval whose ends are moved outwards by a systematic error."""
    return Interval(interval.value, interval.low - by, interval.high + by)


def _wins(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return 1 where one is lower than the other, 1/2 where they are equal, for all pairs."""
    a, b = np.asarray(one)[:, None], np.asarray(other)[None, :]
    return (a < b) + 0.5 * (a == b)


def probability_of_improvement(
    one: Sequence[np.ndarray], other: Sequence[np.ndarray], seed: int = 0
) -> Interval:
    """Return the probability that a run of one has a lower gap than a run of the other.

    It is the mean over problems of the Mann-Whitney statistic: the share of pairs of runs, ties
    counted half. The bootstrap draws the seeds of both with replacement.
    """
    if len(one) != len(other) or not one:
        raise ValueError(f"Both need scores of the same problems, got {len(one)} and {len(other)}.")
    rng = np.random.default_rng(seed)
    values, resampled = [], []
    for a, b in zip(one, other, strict=True):
        wins = _wins(a, b)
        i = rng.integers(len(a), size=(RESAMPLES, len(a)))
        j = rng.integers(len(b), size=(RESAMPLES, len(b)))
        values.append(wins.mean())
        resampled.append(wins[i[:, :, None], j[:, None, :]].mean((1, 2)))
    return _interval(float(np.mean(values)), np.mean(resampled, axis=0))


def tied_groups(intervals: dict[str, Interval]) -> list[list[str]]:
    """Return groups of names, the best first; nobody in a group is better than another.

    A group has the best name that is left, and all those whose intervals overlap with its interval.
    """
    left = sorted(intervals, key=lambda name: (intervals[name].value, name))
    groups = []
    while left:
        high = intervals[left[0]].high
        group = [name for name in left if intervals[name].low <= high]
        groups.append(group)
        left = [name for name in left if name not in group]
    return groups


def normalised(
    gaps: dict[str, dict[str, np.ndarray]], scales: dict[str, float]
) -> dict[str, list[np.ndarray]]:
    """Return the scores of every objective, one array per problem: gaps divided by its scale.

    Args:
        gaps: objective -> problem -> gaps of the seeds. Every objective has the same problems.
        scales: problem -> the gap that counts as 1.
    """
    return {
        name: [of_problem[problem] / scales[problem] for problem in sorted(of_problem)]
        for name, of_problem in gaps.items()
    }
