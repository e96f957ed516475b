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
