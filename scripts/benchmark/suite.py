"""What a suite of the benchmark finds.

Every ratio of times is the other time / ours, so that more than 1 means ours is faster; against a
floor, the operations that ours consists of, at most about 1 can be reached.
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
        baselines: for a case of a peer that is compared by its times, the case of ours.
    """

    work: str
    chain_steps: int | None
    ratios: dict[str, float | None]
    peers: dict[str, float | None]
    times: dict[str, list[float]]
    first: dict[str, float]
    facts: dict[str, Any]
    baselines: dict[str, str] = {}  # noqa: RUF012 - of a tuple, which nobody changes
