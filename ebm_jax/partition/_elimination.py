"""Sums over the configurations of a graph, one variable after another: log Z by elimination.

To sum a variable out makes a table over its neighbours, which become neighbours of each other. The
order decides how large the tables are. Variables that are not neighbours, with as many neighbours
each, are summed out at once: a chain takes a logarithm of its length in steps.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import gibbs
from ebm_jax.types import Array

_MOST_ENTRIES = 2**24  # of a table, 128 MiB in float64
_SMALL = 2**10  # tables up to this size are not worth a better order

Bag = tuple[int, ...]  # a variable, then the neighbours it is summed out into


def neighbours(num: int, edges: np.ndarray) -> list[set[int]]:
    """Return the neighbours of every variable."""
    around: list[set[int]] = [set() for _ in range(num)]
    for i, j in edges.tolist():
        around[i].add(j)
        around[j].add(i)
    return around


def _fill(around: list[set[int]], v: int) -> int:
    """Return how many pairs of neighbours of a variable are not neighbours of each other."""
    degree = len(around[v])
    linked = sum(len(around[u] & around[v]) for u in around[v])
    return (degree * (degree - 1) - linked) // 2


def _order(num: int, edges: np.ndarray, most: int, largest: int) -> list[list[Bag]] | int:
    """Return the bags in rounds, by least fill: the variables of a round are not neighbours.

    A round has all variables that add no edge, those of at most ``most`` neighbours, or else one.
    Where a bag has more than ``largest`` variables, their number is returned.
    """
    around = neighbours(num, edges)
    cost = {v: (_fill(around, v), len(around[v])) for v in range(num)}
    found = []
    while cost:
        free = [v for v, (fill, degree) in cost.items() if not fill or degree <= most]
        candidates = free or [min(cost, key=lambda v: (cost[v], v))]
        bags: list[Bag] = []
        chosen: set[int] = set()
        for v in sorted(candidates, key=lambda v: (cost[v], v)):
            if not around[v] & chosen:
                chosen.add(v)
                bags.append((v, *sorted(around[v])))
        changed: set[int] = set()
        for v, *rest in bags:
            if len(rest) >= largest:
                return len(rest) + 1
            for u in rest:
                around[u] = (around[u] | set(rest)) - {u, v}
            changed.update(rest)
            if cost.pop(v)[0]:
                changed.update(*(around[u] for u in rest))
        for v in changed & cost.keys():
            cost[v] = (_fill(around, v), len(around[v]))
        found.append(bags)
    return found


def rounds(num: int, q: int, edges: np.ndarray) -> list[list[Bag]]:
    """Return the bags in rounds, or raise an error where a table would be too large."""
    small, largest = (max(1, int(np.log2(n) / np.log2(max(q, 2)))) for n in (_SMALL, _MOST_ENTRIES))
    found = _order(num, edges, small - 1, small)
    if isinstance(found, int):
        found = _order(num, edges, 0, largest)
    if isinstance(found, int):
        raise ValueError(
            f"edges must be those of a graph of small treewidth; got ones of {num} variables whose "
            f"elimination needs a table of {q}^{found} entries or more, at most {_MOST_ENTRIES} "
            "are allowed: estimate log Z with partition.annealed_importance_sampling."
        )
    return found


def _expanded(tables: Array, axes: tuple[int, ...], q: int, width: int) -> Array:
    """Return tables (k, q^a) over more variables, (k, q, ..., q): axes has the place of each."""
    order = np.argsort(axes)
    tables = tables.reshape(-1, *[q] * len(axes)).transpose(0, *(order + 1))
    shape = (len(tables), *(q if axis in axes else 1 for axis in range(width)))
    return jnp.broadcast_to(tables.reshape(shape), (len(tables), *[q] * width))


@functools.partial(jax.jit, static_argnums=2)
def log_sum(singles: Array, pairs: Array, edges: tuple[tuple[int, int], ...]) -> Array:
    """Return log sum_x exp(sum_i singles[i, x_i] + sum_e pairs[e, x_i, x_j]), ().

    singles is (n, q), pairs (m, q, q). Sums are taken by ``gibbs.log_partition``. One program, not
    many, which serves all parameters of a graph.
    """
    num, q = singles.shape
    bags_in_rounds = rounds(num, q, np.array(edges, int).reshape(-1, 2))
    when = {bag[0]: r for r, bags in enumerate(bags_in_rounds) for bag in bags}
    # What is to be added to the table of a variable: (array, row, the variables of its axes).
    waiting: list[list] = [[(0, v, (v,))] for v in range(num)]
    for e, (i, j) in enumerate(edges):
        waiting[min(i, j, key=when.__getitem__)].append((1, e, (i, j)))
    arrays, total = [singles, pairs.reshape(-1, q * q)], jnp.zeros((), singles.dtype)
    for bags in bags_in_rounds:
        for width in sorted({len(bag) for bag in bags}):
            group = [bag for bag in bags if len(bag) == width]
            message = _summed_out(group, waiting, arrays, q)
            if width == 1:
                total = total + jnp.sum(message)
                continue
            for row, bag in enumerate(group):
                next_one = min(bag[1:], key=when.__getitem__)
                waiting[next_one].append((len(arrays), row, bag[1:]))
            arrays.append(message)
    return total


def _summed_out(group: list[Bag], waiting: list[list], arrays: list[Array], q: int) -> Array:
    """Return the tables (bags, q^(width - 1)) of bags of one width, their variables summed out."""
    width = len(group[0])
    table = jnp.zeros((len(group), *[q] * width), arrays[0].dtype)
    parts: dict[tuple, list] = {}
    for row, bag in enumerate(group):
        for array, at, variables in waiting[bag[0]]:
            parts.setdefault((array, tuple(map(bag.index, variables))), []).append((row, at))
    for (array, axes), entries in parts.items():
        rows, at = np.transpose(entries)
        table = table.at[rows].add(_expanded(arrays[array][at], axes, q, width))
    return gibbs.log_partition(-table.reshape(len(group), q, -1), axis=1)
