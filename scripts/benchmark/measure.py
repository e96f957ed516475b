"""Interleaved repetitions: every case once, then every case again; the median of each counts."""

import random
import statistics
import time
from collections.abc import Callable

import jax

Case = Callable[[], float]  # does the work once and returns the seconds it took


def case(function: Callable, *args, calls: int = 1, clock=time.perf_counter) -> Case:
    """Return a case that calls a function and waits for its result.

    With ``clock=time.process_time`` its seconds are those of the processor, over all threads.
    """

    def run() -> float:
        start = clock()
        for _ in range(calls):
            jax.block_until_ready(function(*args))
        return clock() - start

    return run


def interleaved(cases: dict[str, Case], repetitions: int) -> tuple[dict, dict]:
    """Return the seconds of every case's first call (it compiles) and of its repetitions.

    Every repetition has a new random order and runs each case twice, timing the second run, so that
    caches and threads of the case before do not count.
    """
    first = {name: run() for name, run in cases.items()}
    times: dict[str, list[float]] = {name: [] for name in cases}
    order, shuffle = list(cases), random.Random(0).shuffle
    for _ in range(repetitions):
        shuffle(order)
        for name in order:
            cases[name]()
            times[name].append(cases[name]())
    return first, times


def median(times: dict[str, list[float]], name: str) -> float | None:
    """Return the median seconds of a case, or None where it was not measured."""
    return statistics.median(times[name]) if name in times else None


def speed(times: dict, ours: str, *others: str) -> float | None:
    """Return the sum of the medians of the others over ours: above 1 ours is faster."""
    inverse = ratio(times, ours, *others)
    return None if inverse is None else 1 / inverse


def spread(times: dict, slower: str, faster: str) -> tuple[float, float]:
    """Return the smallest and the largest ratio of two cases in one repetition."""
    ratios = [a / b for a, b in zip(times[slower], times[faster], strict=True)]
    return min(ratios), max(ratios)


SLOWED = 1.1  # our options are left out where they make a peer slower by this factor
DEFAULT = ", default flags"


def fair(times: dict, cases: list[str]) -> list[str]:
    """Return the peers' cases to compare with: those with our compiler options.

    A case that our options slow down is replaced by the same with jax's default flags.
    """
    chosen = []
    for case in cases:
        if case.endswith(DEFAULT) and case.removesuffix(DEFAULT) in cases:
            continue
        slowed = ratio(times, case, case + DEFAULT)
        chosen.append(case + DEFAULT if slowed and slowed > SLOWED else case)
    return chosen


def ratio(times: dict, slower: str, *faster: str) -> float | None:
    """Return the median of the first case over the sum of the others', None if one is missing."""
    upper, lower = median(times, slower), [median(times, name) for name in faster]
    if upper is None or any(value is None for value in lower):
        return None
    return upper / sum(value for value in lower if value is not None)
