"""A graph as buckets of variables that are drawn at once, computed on the host.

No two variables of a colour are neighbours. Those of a colour with about as many neighbours are a
bucket, whose table of neighbours is padded by half at most. The variables lie in the order of the
buckets.

A few buckets are a program each. Of many, which would take long to compile, the colours are cut
into blocks of equal size instead, for which one program runs in a loop.
"""

import heapq
from typing import NamedTuple

import numpy as np

_MOST_BUCKETS = 24  # that are a program each
BLOCK = 32  # variables; an even number


class Table(NamedTuple):
    """The neighbours of some variables, (degree, variables); of fewer, padded with their own place.

    Attributes:
        places: of the neighbours.
        edges: the number of the edge to each, or the number of edges where there is none.
        turned: whether the neighbour is the first of the two that the edge lists.
    """

    places: np.ndarray
    edges: np.ndarray
    turned: np.ndarray

    def half(self, number: int) -> "Table":
        """Return that of the first or of the second half of the variables."""
        half = self.places.shape[1] // 2
        return Table(*(part[:, number * half : (number + 1) * half] for part in self))


class Bucket(NamedTuple):
    """Variables of one colour, drawn from two words of each call of the generator.

    Attributes:
        start: the place of the first of them.
        size: how many there are.
        calls: how many calls the buckets before this one make.
        variables: their numbers, with one twice where ``size`` is odd: two halves.
        around: their neighbours.
        before: those of their neighbours that lie before them, every edge once over all buckets.
    """

    start: int
    size: int
    calls: int
    variables: np.ndarray
    around: Table
    before: Table


class Layout(NamedTuple):
    """The order of the variables and their buckets.

    Attributes:
        order: the variables by place, (n,).
        places: the place of every variable, (n,).
        buckets: what is drawn at once, one after another.
        calls: how many calls of the generator a sweep makes for every chain.
        looped: whether the buckets are blocks of one size, for one program in a loop.
    """

    order: np.ndarray
    places: np.ndarray
    buckets: list[Bucket]
    calls: int
    looped: bool


def colours(num: int, edges: np.ndarray) -> np.ndarray:
    """Return a colour for every variable, none that of a neighbour: (num,) from 0.

    The next variable is one whose neighbours have the most colours, then one with the most
    neighbours. Two colours suffice where they can (bipartite graphs).
    Source: Brelaz (1979), New methods to color the vertices of a graph, Comm. ACM 22.
    """
    around: list[set[int]] = [set() for _ in range(num)]
    for i, j in edges.tolist():
        around[i].add(j)
        around[j].add(i)
    seen: list[set[int]] = [set() for _ in range(num)]
    colour = np.full(num, -1)
    heap = [(0, -len(around[v]), v) for v in range(num)]
    heapq.heapify(heap)
    while heap:
        saturation, _, v = heapq.heappop(heap)
        if colour[v] >= 0 or -saturation != len(seen[v]):
            continue  # an entry that a later one has replaced
        own = next(c for c in range(len(seen[v]) + 1) if c not in seen[v])
        colour[v] = own
        for u in around[v]:
            if colour[u] < 0 and own not in seen[u]:
                seen[u].add(own)
                heapq.heappush(heap, (-len(seen[u]), -len(around[u]), u))
    return colour


def _padded(degrees: np.ndarray) -> np.ndarray:
    """Return how long the table of a variable is: 0 to 4, 6, 8, 12, 16, 24, ..."""
    steps = np.append(np.arange(5), [2**k * f for k in range(1, 31) for f in (3, 4)])
    return steps[np.searchsorted(steps, degrees)]


def layout(num: int, edges: np.ndarray) -> Layout:
    """Colour a graph and return its buckets."""
    degrees = np.bincount(edges.ravel(), minlength=num)
    colour, length = colours(num, edges), _padded(degrees)
    order = np.lexsort((degrees, length, colour))
    places = np.argsort(order)
    # Both directions of every edge, in the order of the places of the variables.
    ends = np.concatenate([edges, edges[:, ::-1]])
    own, other = places[ends.T]
    edge = np.tile(np.arange(len(edges)), 2)
    turned = np.arange(2 * len(edges)) >= len(edges)
    by_own = np.lexsort((other, own))
    lists = [part[by_own] for part in (own, other, edge, turned)]
    colour, length = colour[order], length[order]
    starts = _starts(colour, length)
    looped = len(starts) > _MOST_BUCKETS
    if looped:
        rank = np.arange(num) - np.searchsorted(colour, colour)
        starts = _starts(colour, rank // BLOCK)
    buckets, calls = [], 0
    for start, stop in zip(starts, [*starts[1:], num], strict=True):
        size = int(stop - start)
        end = start + BLOCK if looped else stop + size % 2
        rows = np.minimum(np.arange(start, end), stop - 1)
        first, last = np.searchsorted(lists[0], [start, stop])
        mine = [part[first:last] for part in lists]
        around = _table(rows, *mine, none=len(edges))
        earlier = mine[1] < start
        before = around if earlier.all() else None
        before = before or _table(rows, *(part[earlier] for part in mine), none=len(edges))
        buckets.append(Bucket(int(start), size, calls, order[rows], around, before))
        calls += len(rows) // 2
    return Layout(order, places, buckets, calls, looped)


def _starts(*groups: np.ndarray) -> np.ndarray:
    """Return where a number changes in one of the arrays, from 0."""
    return np.flatnonzero(np.any(np.diff(np.stack(groups), prepend=-1), axis=0))


def _table(rows, own, other, edge, turned, none: int) -> Table:
    """Return the table of the variables at some places, given the sorted ends of their edges."""
    count = (
        np.bincount(own - rows[0], minlength=len(rows)) if len(own) else np.zeros(len(rows), int)
    )
    count = count[rows - rows[0]]
    slot = np.arange(count.max(initial=0))[:, None]
    first = np.searchsorted(own, rows)
    at = np.where(slot < count, first + slot, len(own))
    padding = (np.broadcast_to(rows, at.shape), none, False)
    found = [
        np.where(at < len(own), np.append(part, 0)[at], fill)
        for part, fill in zip((other, edge, turned), padding, strict=True)
    ]
    return Table(found[0].astype(np.int32), found[1].astype(np.int32), found[2].astype(bool))
