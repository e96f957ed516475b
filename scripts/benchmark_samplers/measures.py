"""Measures of a sampler's run: squared errors of known moments, effective samples, intervals."""

from typing import NamedTuple

import numpy as np
from arviz_stats.base import array_stats

WARM_UP = 0.2  # share of every budget that is spent before the samples that count
CONFIDENCE = 0.95
RESAMPLES = 2000


class Trace(NamedTuple):
    """What is kept of the chains: blocks of consecutive steps.

    Attributes:
        means: means of the functions over the steps of each block, (blocks, chains, m).
        last: the functions after the last step of each block, (blocks, chains, m).
        cost: cost of each chain up to the end of each block, with its warm-up, (blocks, chains).
        warm_up: cost of a warm-up that gave no samples, (chains,).
    """

    means: np.ndarray
    last: np.ndarray
    cost: np.ndarray
    warm_up: np.ndarray


def counted(trace: Trace, budget: float) -> np.ndarray:
    """Return which blocks count at a budget for each chain, (blocks, chains)."""
    first = np.maximum(trace.warm_up, WARM_UP * budget)
    return (trace.cost <= budget * (1 + 1e-6)) & (trace.cost > first)


def estimates(trace: Trace, budget: float, num_seeds: int) -> np.ndarray:
    """Return the estimated means of the functions, (seeds, m), from the chains of each seed.

    A chain without samples within the budget makes the estimate NaN.
    """
    use = counted(trace, budget).astype(float)
    with np.errstate(invalid="ignore", divide="ignore"):
        of_chains = np.einsum("bc,bcm->cm", use, np.asarray(trace.means, float))
        of_chains = of_chains / use.sum(axis=0)[:, None]
    return of_chains.reshape(num_seeds, -1, of_chains.shape[1]).mean(axis=1)


def squared_errors(estimated: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Return the mean over functions of the squared error in units of their variance, (seeds,).

    The mean over N independent samples has the expected value 1 / N.
    """
    return np.mean((estimated - mean) ** 2 / variance, axis=1)


def bias(
    estimated: np.ndarray, mean: np.ndarray, variance: np.ndarray
) -> tuple[float | None, float | None]:
    """Return the share of the squared error that is bias, and the largest |t| of a function.

    The squared bias of a function is the squared mean error over the seeds minus its variance.
    """
    errors = (estimated - mean) / np.sqrt(variance)
    if not np.isfinite(errors).all() or len(errors) < 2:
        return None, None
    spread = errors.var(axis=0, ddof=1) / len(errors)
    squared = np.mean(errors.mean(axis=0) ** 2 - spread)
    share = float(np.clip(squared / np.mean(errors**2), 0, 1))
    moves = spread > 0  # the same estimate from all seeds has no t
    t = np.abs(errors.mean(axis=0)) / np.sqrt(np.where(moves, spread, np.inf))
    return share, float(t.max())


def effective_samples(trace: Trace, budget: float, num_seeds: int) -> np.ndarray:
    """Return the effective sample size of the function with the lowest one, (seeds,).

    The series of block means has the variance of the mean of all steps: arviz-stats gives the
    effective size of that series, and the ratio of the variances of the steps and of the blocks
    converts it to samples.
    """
    use = counted(trace, budget)
    chains = use.shape[1] // num_seeds
    sizes = []
    for seed in range(num_seeds):
        mine = slice(seed * chains, (seed + 1) * chains)
        rows = use[:, mine].all(axis=1)
        blocks = np.moveaxis(np.asarray(trace.means[rows, mine], float), (0, 1, 2), (2, 1, 0))
        steps = np.moveaxis(np.asarray(trace.last[rows, mine], float), (0, 1, 2), (2, 1, 0))
        sizes.append(_lowest(blocks, steps))
    return np.array(sizes)


def _lowest(blocks: np.ndarray, steps: np.ndarray) -> float:
    """Return the lowest effective sample size of functions, (m, chains, draws) each."""
    if blocks.shape[-1] < 4 or not np.isfinite(blocks).all():
        return float("nan")
    of_blocks, of_steps = (x.var(axis=(1, 2), ddof=1) for x in (blocks, steps))
    with np.errstate(divide="ignore", invalid="ignore"):
        size = array_stats.ess(blocks, method="mean") * of_steps / of_blocks
    return float(np.min(np.where((of_blocks > 0) & (of_steps > 0), size, 0.0)))


def interval(values: np.ndarray, statistic=np.mean, seed: int = 0) -> tuple[float, float, float]:
    """Return a statistic over seeds and its bootstrap interval."""
    values = np.asarray(values, float)
    draws = np.random.default_rng(seed).integers(len(values), size=(RESAMPLES, len(values)))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(statistic(values[draws], axis=1), [tail, 1 - tail])
    return float(statistic(values, axis=0)), float(low), float(high)


def tied(intervals: dict[str, tuple[float, float, float]]) -> list[str]:
    """Return the names whose interval overlaps that of the lowest value, best first."""
    best = min(intervals, key=lambda name: intervals[name][0])
    high = intervals[best][2]
    overlapping = [name for name, (_, low, _) in intervals.items() if low <= high]
    return sorted(overlapping, key=lambda name: intervals[name][0])


def scores(errors: dict[str, np.ndarray], seed: int = 0) -> dict[str, tuple[float, float, float]]:
    """Return each method's mean of log10(mean squared error) over targets, with intervals.

    ``errors`` has an array (targets, seeds) for every method; seeds are resampled within targets.
    """
    found = {}
    for name, values in errors.items():
        rng, num = np.random.default_rng(seed), values.shape[1]
        drawn = [row[rng.integers(num, size=(RESAMPLES, num))].mean(axis=1) for row in values]
        resampled = np.mean(np.log10(drawn), axis=0)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(resampled, [tail, 1 - tail])
        found[name] = (float(np.mean(np.log10(values.mean(axis=1)))), float(low), float(high))
    return found
