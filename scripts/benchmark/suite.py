"""What a suite of the benchmark finds.

Speed ratios are theirs / ours in seconds, so that more than 1 means ours is faster; a ratio named
``..._over_...`` is our time / that time.
"""

from typing import Any, NamedTuple


class Suite(NamedTuple):
    """Results of a suite.

    Attributes:
        work: the work in words.
        chain_steps: chains x steps of it, or None where the cases differ.
        ratios: the ones of the last line; None where a peer is missing.
        peers: theirs / ours for every case of a peer, against the same method of ours: what the
            plot shows.
        times: seconds of every repetition by case.
        first: seconds of every case's first call, which compiles it.
        facts: anything else.
    """

    work: str
    chain_steps: int | None
    ratios: dict[str, float | None]
    peers: dict[str, float | None]
    times: dict[str, list[float]]
    first: dict[str, float]
    facts: dict[str, Any]
