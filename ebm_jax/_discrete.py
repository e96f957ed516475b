"""The layout of discrete variables: a matrix of categories, values, clamps, beta."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax._trees import check_chains
from ebm_jax.types import Array, Position, PyTree


def moves(leaf: Array) -> bool:
    """Whether a discrete sampler moves a leaf."""
    dtype = jnp.result_type(leaf)
    return jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(dtype, jnp.bool_)


class Variables(NamedTuple):
    """The integer and boolean leaves of positions, as one matrix of categories.

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
    """Return the variables of positions; raise an error for positions without any."""
    chains = check_chains(position)
    leaves = jax.tree.leaves(position)
    moving = [leaf for leaf in leaves if moves(leaf)]
    if not moving:
        raise TypeError(
            "Positions must have an integer or boolean leaf to move, got the types "
            f"{[str(jnp.result_type(leaf)) for leaf in leaves]}: images > 0.5, say."
        )
    ends = np.cumsum([leaf.size // chains for leaf in moving])

    def fill(numbers: Array, fixed: list) -> Position:
        parts, rest = iter(jnp.split(numbers, ends[:-1])), iter(fixed)

        def one(leaf: Array) -> Array:
            if not moves(leaf):
                return next(rest)
            return next(parts).reshape(leaf.shape[1:] + numbers.shape[1:])

        return jax.tree.map(one, position)

    def restore(x: Array, fixed: list) -> Position:
        new = fill(decode(x, values), fixed)
        return jax.tree.map(lambda a, b: a.astype(b.dtype) if moves(b) else a, new, position)

    x = [encode(leaf, values).reshape(chains, -1) for leaf in moving]
    fixed = [leaf for leaf in leaves if not moves(leaf)]
    return Variables(jnp.concatenate(x, axis=1), fixed, restore, fill)


def check_values(values) -> np.ndarray:
    """Validate and return the values a variable may take, (q,)."""
    return _checks.values(values, least=2)


def check_position(position: Position, values: np.ndarray) -> None:
    """Reject variables whose dtype cannot hold the values, or with an invalid value."""
    for leaf in jax.tree.leaves(position):
        if not moves(leaf):
            continue
        _check_type(jnp.result_type(leaf), values)
        known = _checks.concrete(leaf)
        if known is not None and not np.isin(known, values).all():
            wrong = known[~np.isin(known, values)].ravel()[0]
            raise ValueError(f"Every variable must be one of the values {values}, got {wrong}.")


def _check_type(dtype, values: np.ndarray) -> None:
    """Reject a dtype, integer or boolean, that changes one of the values."""
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
    """Return the indices of the values."""
    if np.array_equal(values, np.arange(len(values))):
        return leaf.astype(jnp.int32)
    # Compared in the leaf's dtype, which holds the values; JAX's dtype for them may be narrower.
    table = np.expand_dims(values.astype(leaf.dtype), tuple(range(leaf.ndim)))
    same = leaf[..., None] == table
    return jnp.argmax(same, axis=-1).astype(jnp.int32)


def look_up(table: Array, x: Array) -> Array:
    """Return table[x], (..., *rest) for a table (q, *rest), by comparison.

    A gather would need a sharding of its result over Explicit mesh axes.
    """
    x = x.reshape(*x.shape, *[1] * (table.ndim - 1))
    found = jnp.broadcast_to(table[0], jnp.broadcast_shapes(x.shape, table.shape[1:]))
    for k in range(1, len(table)):
        found = jnp.where(x == k, table[k], found)
    return found


def decode(x: Array, values: np.ndarray) -> Array:
    """Return the values with these indices."""
    if np.array_equal(values, np.arange(len(values))):
        return x
    return look_up(jnp.asarray(values), x)


def clamped(clamp: PyTree, position: Position) -> Array | None:
    """Return which variables are fixed, (chains, n), or None for none."""
    if clamp is None:
        return None
    try:
        pairs = zip(*map(jax.tree.leaves, (clamp, position)), strict=True)
        masks = [clamped_leaf(mask, leaf.shape) for mask, leaf in pairs if moves(leaf)]
    except ValueError:
        shapes = [[np.shape(leaf) for leaf in jax.tree.leaves(t)] for t in (position, clamp)]
        raise ValueError(
            "clamp must have a mask for every leaf of the positions, broadcasting to it: "
            f"{shapes[0]}, got {shapes[1]}."
        ) from None
    chains = check_chains(position)
    return jnp.concatenate([mask.reshape(chains, -1) for mask in masks], axis=1)


def clamped_leaf(clamp, shape: tuple[int, ...]) -> Array:
    """Return which entries of a leaf are fixed, in its shape."""
    mask = _checks.array("clamp", clamp)
    if mask.dtype != bool:
        raise TypeError(f"clamp must be boolean, got {mask.dtype}.")
    _checks.fits("clamp", mask, "the positions", shape)
    return jnp.broadcast_to(mask, shape)


def scaled_gaps(beta, logits: list[Array], chains_axis: int = 0) -> list[Array]:
    """Return beta times how far the logit of each category is below the highest.

    They are logits of the same distribution. At an infinite beta, and of infinite logits, they are
    0 for all of the highest, which are then drawn with equal probabilities.
    """
    highest = functools.reduce(jnp.maximum, logits)
    gaps = [jnp.where(logit == highest, 0.0, logit - highest) for logit in logits]
    return [scaled(beta, gap, chains_axis) for gap in gaps]


def scaled(beta, energies: Array, chains_axis: int = 0) -> Array:
    """Return beta times energies of chains, with 0 times infinity = 0."""
    beta = jnp.asarray(beta, energies.dtype)
    chains = energies.shape[chains_axis]
    if beta.shape not in ((), (chains,)):
        raise ValueError(
            f"beta must be one number, or one per chain ({chains},), got {beta.shape}."
        )
    if beta.ndim:
        beta = beta.reshape((-1,) + (1,) * (energies.ndim - 1 - chains_axis % energies.ndim))
    return jnp.where((energies == 0) | (beta == 0), 0.0, beta * energies)
