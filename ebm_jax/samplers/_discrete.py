"""What the samplers of discrete positions share: variables, clamps, beta and uniform numbers."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks, _threefry
from ebm_jax._trees import check_chains
from ebm_jax.types import Array, Key, Position, PyTree

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
    """Refuse positions of which a variable is known to be none of the values."""
    for leaf in jax.tree.leaves(position):
        known = _checks.concrete(leaf) if moves(leaf) else None
        if known is not None and not np.isin(known, values).all():
            wrong = known[~np.isin(known, values)].ravel()[0]
            raise ValueError(f"Every variable must be one of the values {values}, got {wrong}.")


def encode(leaf: Array, values: np.ndarray) -> Array:
    """Return the numbers of the values."""
    if np.array_equal(values, np.arange(len(values))):
        return leaf.astype(jnp.int32)
    table = jnp.asarray(values)
    kind = np.promote_types(leaf.dtype, table.dtype)
    same = leaf.astype(kind)[..., None] == jnp.expand_dims(table.astype(kind), range(leaf.ndim))
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


def uniforms(key: Key, chains: int, n: int) -> tuple[Array, Array]:
    """Return two arrays (chains, n) of independent uniform numbers.

    They are the odd multiples of 2^-24 in (0, 1), of the bits of ``words``.
    """
    first, second = map(uniform, words(key, chains, n))
    # One array of complex numbers: of two real ones, each would run all rounds of the generator.
    # The barrier keeps these out of the loops that use the numbers.
    both = jax.lax.optimization_barrier(jax.lax.complex(first, second))
    return jnp.real(both), jnp.imag(both)


def uniform(word: Array) -> Array:
    """Return (2 k + 1) / 2^24 of the upper 23 bits k of a word."""
    one_to_two = (word >> 9) | np.float32(1).view(np.uint32)
    return jax.lax.bitcast_convert_type(one_to_two, jnp.float32) - np.float32(1 - 2**-24)


def threshold(probability: Array) -> Array:
    """Return how many of the numbers that ``uniform`` makes are below a probability."""
    return jnp.ceil(probability * 2**23 - 0.5).astype(jnp.int32)


def below(word: Array, threshold: Array) -> Array:
    """Return whether the uniform number of a word is below the probability of a threshold."""
    return (word >> 9).astype(jnp.int32) < threshold


def bernoulli(uniform: Array, logits: Array) -> Array:
    """Return whether u < sigmoid(logit), one exponential each."""
    return uniform + uniform * jnp.exp(-logits) < 1


def units(key: Key, logits: Array, *, n: int, start: int) -> Array:
    """Return which units are on, (chains, units): true with probability sigmoid(logit) each.

    The bits are ``words`` from start on, of n: one of them for two units.
    """
    chains, size = logits.shape
    half = -(-size // 2)
    parts = logits[:, :half], jnp.pad(logits[:, half:], ((0, 0), (0, 2 * half - size)))
    bits = words(key, chains, n, start, start + half)
    first, second = (bernoulli(uniform(b), x) for b, x in zip(bits, parts, strict=True))
    # One array of both: of two, each would run all rounds of the generator.
    pair = first.astype(jnp.uint8) + 2 * second.astype(jnp.uint8)
    pair = jax.lax.optimization_barrier(pair)
    return jnp.concatenate([pair % 2 == 1, pair >= 2], axis=1)[:, :size]


def categorical(uniform: Array, logits: list) -> Array:
    """Return categories from an array of logits for each of them, one uniform number each."""
    highest = functools.reduce(jnp.maximum, logits)
    weights = [jnp.exp(logit - highest) for logit in logits]
    total, upto, category = sum(weights), jnp.zeros(()), jnp.zeros(uniform.shape, jnp.int32)
    for weight in weights[:-1]:
        upto = upto + weight
        # A category after which nothing is left is never passed.
        category = category + ((uniform * total >= upto) & (upto < total)).astype(jnp.int32)
    return category


def acceptance(log_ratio: Array) -> Array:
    """Return min(1, exp(log_ratio)), 0 for NaN."""
    return jnp.exp(jnp.minimum(jnp.where(jnp.isnan(log_ratio), -jnp.inf, log_ratio), 0.0))
