"""What the samplers of discrete positions share: variables, clamps, beta and random numbers.

A unit or a site is drawn from the upper 30 bits k of a word and a fraction f in (0, 1) that the
draws of one chain share: (k + f) / 2^30 is uniform to 2^-62, at the cost of one word more for each
chain. Conditionals so have their probabilities in both tails, up to the rounding of the logits.
Two draws of a chain are dependent only where the fraction decides both: with a probability of
2^-60.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks, _threefry
from ebm_jax._trees import check_chains
from ebm_jax.types import Array, Key, Position, PyTree

_RANGE = 2**30  # how many numbers there are; with 31 bits a certain event would overflow int32
_DOMAIN = np.uint32(0x756E6966)  # none of our words is a key or a draw derived from the key


def moves(leaf: Array) -> bool:
    """Whether a discrete sampler moves a leaf."""
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


class Variables(NamedTuple):
    """The integer and boolean leaves of a batch of positions, as one matrix of categories.

    Attributes:
        x: (chains, n), the number of each variable's value among the values.
        fixed: the floating leaves, which are carried along.
        restore: (x (n,), fixed) -> one configuration.
        fill: (numbers (n, ...), fixed) -> one configuration with these in place of the variables.
    """

    x: Array
    fixed: list
    restore: Callable[[Array, list], Position]
    fill: Callable[[Array, list], Position]


def variables(position: Position, values: np.ndarray) -> Variables:
    """Return the variables of positions, or refuse positions without any."""
    chains = check_chains(position)
    leaves, treedef = jax.tree.flatten(position)
    moving = [leaf for leaf in leaves if moves(leaf)]
    if not moving:
        raise TypeError(
            "Positions must have an integer or boolean leaf to move, got the types "
            f"{[str(jnp.result_type(leaf)) for leaf in leaves]}: images > 0.5, say."
        )
    which, ends = [moves(leaf) for leaf in leaves], np.cumsum([x.size // chains for x in moving])
    kinds = [(leaf.shape[1:], leaf.dtype) for leaf in moving]

    def merge(parts: list, fixed: list) -> Position:
        some, rest = iter(parts), iter(fixed)
        return treedef.unflatten([next(some) if m else next(rest) for m in which])

    def fill(numbers: Array, fixed: list) -> Position:
        parts = zip(jnp.split(numbers, ends[:-1]), kinds, strict=True)
        return merge([p.reshape(shape + p.shape[1:]) for p, (shape, _) in parts], fixed)

    def restore(x: Array, fixed: list) -> Position:
        parts = zip(jnp.split(decode(x, values), ends[:-1]), kinds, strict=True)
        return merge([p.reshape(shape).astype(dtype) for p, (shape, dtype) in parts], fixed)

    x = [encode(leaf, values).reshape(chains, -1) for leaf in moving]
    fixed = [leaf for leaf in leaves if not moves(leaf)]
    return Variables(jnp.concatenate(x, axis=1), fixed, restore, fill)


def check_values(values) -> np.ndarray:
    """Return the values a variable may take, (q,), or refuse them."""
    return _checks.values(values, least=2)


def check_position(position: Position, values: np.ndarray) -> None:
    """Refuse variables of a type that cannot hold the values, or known to be none of them."""
    for leaf in jax.tree.leaves(position):
        if not moves(leaf):
            continue
        _check_type(jnp.result_type(leaf), values)
        known = _checks.concrete(leaf)
        if known is not None and not np.isin(known, values).all():
            wrong = known[~np.isin(known, values)].ravel()[0]
            raise ValueError(f"Every variable must be one of the values {values}, got {wrong}.")


def _check_type(dtype, values: np.ndarray) -> None:
    """Refuse a type, integer or boolean, that turns one of the values into another number."""
    with np.errstate(invalid="ignore"):  # what a float too large for the type becomes
        held = values.astype(dtype)
    for value, own in zip(values.tolist(), held, strict=True):
        if int(own) != value:
            raise TypeError(
                f"Positions must be of a type that holds all values, got {dtype}, in which the "
                f"value {value} becomes {own}: use a wider type, signed for negative values; "
                "values must be integers."
            )


def encode(leaf: Array, values: np.ndarray) -> Array:
    """Return the numbers of the values."""
    if np.array_equal(values, np.arange(len(values))):
        return leaf.astype(jnp.int32)
    # The leaf's type holds the values; JAX's own for them may be narrower.
    table = np.expand_dims(values.astype(leaf.dtype), tuple(range(leaf.ndim)))
    same = leaf[..., None] == table
    return jnp.argmax(same, axis=-1).astype(jnp.int32)


def look_up(table: Array, x: Array) -> Array:
    """Return table[x], (..., *rest) of (q, *rest): x compared with every number.

    A gather would ask how its result lies over Explicit mesh axes.
    """
    x = x.reshape(*x.shape, *[1] * (table.ndim - 1))
    found = jnp.broadcast_to(table[0], jnp.broadcast_shapes(x.shape, table.shape[1:]))
    for k in range(1, len(table)):
        found = jnp.where(x == k, table[k], found)
    return found


def decode(x: Array, values: np.ndarray) -> Array:
    """Return the values of these numbers."""
    if np.array_equal(values, np.arange(len(values))):
        return x
    return look_up(jnp.asarray(values), x)


def clamped(clamp: PyTree, position: Position) -> Array | None:
    """Return which variables stay, (chains, n) or (1, n), or None where all move."""
    if clamp is None:
        return None
    try:
        pairs = zip(*map(jax.tree.leaves, (clamp, position)), strict=True)
        masks = [clamped_leaf(mask, leaf.shape) for mask, leaf in pairs if moves(leaf)]
    except ValueError:
        shapes = [[jnp.shape(leaf) for leaf in jax.tree.leaves(t)] for t in (position, clamp)]
        raise ValueError(
            "clamp must have a mask for every leaf of the positions, broadcasting to it: "
            f"{shapes[0]}, got {shapes[1]}."
        ) from None
    chains = check_chains(position)
    return jnp.concatenate([mask.reshape(chains, -1) for mask in masks], axis=1)


def clamped_leaf(clamp, shape: tuple[int, ...]) -> Array:
    """Return which entries of a leaf stay, in its shape."""
    mask = _checks.array("clamp", clamp)
    if mask.dtype != bool:
        raise TypeError(f"clamp must be boolean, got {mask.dtype}.")
    _checks.fits("clamp", mask, "the positions", shape)
    return jnp.broadcast_to(mask, shape)


def scaled(beta, energies: Array, chains_axis: int = 0) -> Array:
    """Return beta times what belongs to chains; 0 times anything, or infinity times 0, is 0."""
    beta = jnp.asarray(beta, energies.dtype)
    chains = energies.shape[chains_axis]
    if beta.shape not in ((), (chains,)):
        raise ValueError(f"beta must be one number, or one a chain ({chains},), got {beta.shape}.")
    if beta.ndim:
        beta = beta.reshape((-1,) + (1,) * (energies.ndim - 1 - chains_axis % energies.ndim))
    return jnp.where((energies == 0) | (beta == 0), 0.0, beta * energies)


def words(
    key: Key, chains: int, n: int, start: int = 0, stop: int | None = None, *, chains_last=False
) -> tuple[Array, Array]:
    """Return two arrays (chains, stop - start) of 32 random bits, or (stop - start, chains).

    They are numbers start to stop of n. The bits of a chain depend on the key, its index and n,
    not on how many chains there are or on how many devices share them.
    """
    stop = n if stop is None else stop
    shape = (stop - start, chains) if chains_last else (chains, stop - start)
    if _threefry.is_threefry(key) and chains * n < 2**32:
        index = [jax.lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1)]
        site, chain = index if chains_last else index[::-1]
        return _threefry.words(key, chain * np.uint32(n) + (site + np.uint32(start)), _DOMAIN)
    drawn = jax.random.bits(key, (chains, 2, n), jnp.uint32)[..., start:stop]
    first, second = (drawn[:, i].T if chains_last else drawn[:, i] for i in (0, 1))
    return first, second


def fractions(key: Key, chains: int, n: int, *, chains_last=False) -> tuple[Array, Array]:
    """Return two fractions in (0, 1) for each chain, of the last of its n pairs of ``words``."""
    last = words(key, chains, n, n - 1, n, chains_last=chains_last)
    parts = [(word.astype(jnp.float32) + 0.5) * 2.0**-32 for word in last]
    # The barrier: made once for each chain, not again for every variable in the loops over them.
    first, second = jax.lax.optimization_barrier(parts)
    return first, second


def _number(word: Array) -> Array:
    """Return the upper 30 bits: signed numbers are what processors compare and convert."""
    return (word >> 2).astype(jnp.int32)


def threshold(logits: Array, fraction: Array) -> Array:
    """Return how many numbers are below sigmoid(logit): one more at the right fractions."""
    rare = jnp.exp(-jnp.abs(logits))
    rare = jnp.ceil(rare / (1 + rare) * _RANGE - fraction).astype(jnp.int32)
    return jnp.where(logits >= 0, _RANGE - rare, rare)


def below(word: Array, threshold: Array) -> Array:
    """Return whether the number of a word is below a threshold."""
    return _number(word) < threshold


def bernoulli(word: Array, logits: Array, fraction: Array) -> Array:
    """Return true with probability sigmoid(logit), False for NaN; one exponential each."""
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    odds = jnp.exp(-jnp.abs(logits.astype(wide)))  # of the less likely of the two
    place = _number(word).astype(wide) + fraction.astype(wide)
    return (place + place * odds < odds * _RANGE) ^ (logits >= 0)


def both(first: Array, second: Array, q: int) -> tuple[Array, Array]:
    """Return two arrays of numbers below q, of the two words of the generator, as unsigned ones.

    They are made in one loop, as one array: of two, each would run all rounds of the generator.
    The barrier: drawn once, not again in every loop that uses them.
    """
    small = jnp.uint8 if q**2 <= 256 else jnp.uint32
    pair = jax.lax.optimization_barrier(first.astype(small) + small(q) * second.astype(small))
    return pair % small(q), pair // small(q)


def halves(key: Key, logits: Array, n: int, start: int) -> list[tuple[Array, Array]]:
    """Return (words, logits) of the first half of the variables, on axis 1, and of the second.

    The words are number ``start`` and the following of n. An odd last variable has a partner that
    is not used.
    """
    chains, size = logits.shape[:2]
    half = -(-size // 2)
    rest = [(0, 0), (0, 2 * half - size)] + [(0, 0)] * (logits.ndim - 2)
    parts = logits[:, :half], jnp.pad(logits[:, half:], rest)
    return list(zip(words(key, chains, n, start, start + half), parts, strict=True))


def units(key: Key, logits: Array, fraction: Array, *, n: int, start: int) -> Array:
    """Return which units are on, (chains, units): true with probability sigmoid(logit) each.

    The bits are ``words`` from start on, of n: one of them for two units.
    """
    first, second = (bernoulli(*half, fraction) for half in halves(key, logits, n, start))
    return jnp.concatenate(both(first, second, 2), axis=1)[:, : logits.shape[1]] == 1


def categorical(word: Array, logits: list, fraction: Array) -> Array:
    """Return categories from an array of logits for each of them, of one number each.

    Whole numbers of the range belong to every category but the likeliest, which has the rest: sums
    of them lose nothing, where sums of probabilities would lose the small ones.
    """
    fraction = jnp.expand_dims(fraction, tuple(range(word.ndim - fraction.ndim)))
    highest, likeliest = logits[0], jnp.zeros((), jnp.int32)
    for k, logit in enumerate(logits[1:], 1):
        likeliest = jnp.where(logit > highest, k, likeliest)
        highest = jnp.maximum(highest, logit)
    weights = [jnp.exp(logit - highest) for logit in logits]
    scale = _RANGE / sum(weights)
    left, category = _number(word), likeliest
    for k, weight in enumerate(weights):
        share = jnp.ceil(weight * scale - fraction).astype(jnp.int32)
        share = jnp.where(likeliest == k, 0, share)
        category = jnp.where((left >= 0) & (left < share), k, category)
        left = left - share
    return category
