"""Counting of round trips, and the reading of adabmDCA's log, against plain Python."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.types import Sampler
from scripts.benchmark import alignment, tempering


class Info(NamedTuple):
    swapped: jax.Array


def replayed(swaps: np.ndarray) -> Sampler:
    """Return a sampler whose step t reports the swaps (steps, replicas - 1, chains) of step t."""
    table = jnp.asarray(swaps)
    return Sampler(lambda x: x, lambda key, t: (t + 1, Info(table[t])), lambda t: t)


def counted_one_by_one(swaps: np.ndarray) -> int:
    """Follow every walker by name: hot end, then cold end, then hot end is one round trip."""
    steps, pairs, chains = swaps.shape
    trips = 0
    for chain in range(chains):
        walkers, last, went = list(range(pairs + 1)), {}, {}
        for t in range(steps):
            for pair in range(pairs):
                if swaps[t, pair, chain]:
                    walkers[pair : pair + 2] = walkers[pair + 1], walkers[pair]
            hot, cold = walkers[0], walkers[-1]
            if last.get(hot) == "cold" and went.get(hot):
                trips += 1
            last[hot], went[hot] = "hot", True
            if went.get(cold):
                last[cold] = "cold"
    return trips


@pytest.mark.parametrize("replicas", [2, 3, 5])
def test_round_trips_are_those_of_walkers_followed_by_name(replicas):
    rng, steps, chains = np.random.default_rng(replicas), 200, 3
    swaps = rng.random((steps, replicas - 1, chains)) < 0.7
    for t in range(steps):  # only pairs of one parity are tried in a step
        swaps[t, (t + 1) % 2 :: 2] = False
    _, trips = tempering.count_trips(replayed(swaps), steps)(jax.random.key(0), jnp.zeros((), int))
    assert int(trips) == counted_one_by_one(swaps)
    assert int(trips) > 5


def test_rates_and_ranges_of_round_trips():
    """Of a first call, and two calls in each of two repetitions, the second of which is timed."""
    glass, wells = "hamon, glass, fixed ladder", "hamon, wells, fixed ladder"
    trips = {name: [90, 6, 9, 11, 14] for name in ("ours, glass, one ladder", glass)}
    trips |= {"ours, glass, fixed ladder": [0, 80, 60, 70, 110], wells: [3, 0, 0, 0, 0]}
    trips |= {"ours, glass, tuning included": [0, 60, 50, 60, 70]}
    trips |= {f"ours, wells, {kind}": [0, 1, 1, 1, 1] for kind in ("fixed ladder", "one ladder")}
    trips |= {"hamon, glass, tuning included": [0, 5, 10, 15, 10]}
    times = {name: [1.0, 2.0] for name in trips}
    times["hamon, glass, tuning included"] = [4.0, 5.0]
    ratios, shown, facts = tempering.compared(trips, times, 8)
    assert facts["round trips a processor second, ours, glass, fixed ladder"] == 80 / 1.5
    # hamon: 8 x 10 trips in the 4.5 s with tuning and 7 x 1.5 s without.
    tuned = (60 / 1.5) / (80 / (4.5 + 7 * 1.5))
    assert ratios == {
        "tempering_vs_hamon_glass_fixed_ladder": pytest.approx(8),
        "tempering_vs_hamon_wells_fixed_ladder": None,  # hamon made no round trip
        "tempering_vs_hamon_glass_tuning_included": pytest.approx(tuned),
    }
    what = "round trips per processor second"
    many, both = f"hamon, glass, 8 ladders against 1, {what}", "glass, tuning included, 8 ladders"
    both = f"hamon, {both} of each (7 of hamon fixed), {what}"
    assert shown == {
        many: pytest.approx(8),
        both: pytest.approx(tuned),
        f"hamon, glass, 1 ladder of each, {what}": pytest.approx(1),
    }
    ends = [(50 / 1) / ((10 + 7 * 9) / (4 + 7 * 1)), (70 / 2) / ((10 + 7 * 14) / (5 + 7 * 2))]
    assert facts[f"range over repetitions, {both}"] == pytest.approx(sorted(ends))
    assert facts[f"range over repetitions, {many}"] == pytest.approx([60 / 9, 110 / 14])


def test_no_range_where_a_repetition_of_the_peer_made_no_round_trip():
    ours = [f"ours, glass, {kind}" for kind in ("fixed ladder", "one ladder")]
    trips = dict.fromkeys(ours, [5] * 5) | {"hamon, glass, fixed ladder": [5, 5, 0, 5, 5]}
    _, shown, facts = tempering.compared(trips, {name: [1.0, 2.0] for name in trips}, 8)
    assert list(shown.values()) == pytest.approx([5 / 3.75, 5 / 3.75])
    assert not any(name.startswith("range") for name in facts)


def test_without_the_peer_there_is_no_ratio():
    times = {"ours, glass, fixed ladder": [1.0], "ours, glass, tuning included": [1.0]}
    ratios, shown, _ = tempering.compared({name: [1, 1, 1] for name in times}, times, 8)
    assert set(ratios.values()) == {None}
    assert shown == {}


LOG = """adabmDCA training log
[STAGE OPTIMIZATION]

Step  Stage         Pearson  Elapsed_s
1     optimization  0.1      5.0
2     optimization  0.5      9.0
3     optimization  0.96     14.0
"""


def test_the_last_row_within_the_limit_is_read():
    assert alignment.last_row(LOG, 10.0) == (9.0, 2, 0.5)
    assert alignment.last_row(LOG, 100.0) == (14.0, 3, 0.96)
    assert alignment.last_row(LOG, 1.0) == (5.0, 1, 0.1)  # the first, where none is within


def test_the_ratio_is_a_bound_where_no_peer_reached_the_target():
    ours, slow, fast = (
        alignment.Reached(*row) for row in ((5, 9, 0.95), (9, 2, 0.5), (20, 3, 0.96))
    )
    ((name, bound),) = alignment.ratio(ours, [slow]).items()
    assert bound == 9 / 5
    assert "at least" in name
    assert list(alignment.ratio(ours, [slow, fast]).values()) == [4.0]
    assert list(alignment.ratio(slow, [fast]).values()) == [None]
