"""Pytrees of arrays as a batch of chains, on the leading axis of every leaf."""

import contextlib
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding

from ebm_jax.types import Array, Energy, Metrics, Position, PyTree


def check_chains(position: Position) -> int:
    """Return the number of chains: the length of the leading axis of all leaves."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(position)]
    if not shapes or any(not s or s[0] != shapes[0][0] or s[0] == 0 for s in shapes):
        raise ValueError(
            "Positions must have the chains on the leading axis of every leaf, the same number "
            f"(>= 1) each; got the shapes {shapes}."
        )
    return shapes[0][0]


def partition(position: Position) -> tuple[list, list, Callable[[list, list], Position]]:
    """Return (moving, fixed, merge): floating-point leaves move, others are fixed."""
    leaves, treedef = jax.tree.flatten(position)
    moves = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
    if not any(moves):
        raise TypeError(
            "Positions must have a floating-point leaf to move, got the types "
            f"{[str(jnp.result_type(leaf)) for leaf in leaves]}. Scale integer data to floats "
            "where the batches are made: images / 255, say."
        )

    def merge(moving: list, fixed: list) -> Position:
        moving_iter, fixed_iter = iter(moving), iter(fixed)
        merged = [next(moving_iter) if m else next(fixed_iter) for m in moves]
        return jax.tree.unflatten(treedef, merged)

    moving = [leaf for leaf, m in zip(leaves, moves, strict=True) if m]
    fixed = [leaf for leaf, m in zip(leaves, moves, strict=True) if not m]
    return moving, fixed, merge


def check_energy(energy: Energy, position: Position) -> None:
    """Reject an energy that does not return one floating-point number."""
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), position)
    found = jax.eval_shape(energy, one)
    shape = jax.tree.map(lambda out: out.shape, found)
    if shape != ():
        raise ValueError(
            f"The energy must take one configuration and return a scalar (); given one of "
            f"{check_chains(position)} chains it returned the shape {shape}."
        )
    if not jnp.issubdtype(found.dtype, jnp.floating):
        raise TypeError(f"The energy must be floating point, it returned {found.dtype}.")


def strong(x: Array) -> Array:
    """Return an array of the same dtype that is not weakly typed, for loops."""
    return jax.lax.convert_element_type(x, x.dtype)


def value_and_gradient(energy: Energy, position: Position) -> tuple[Array, list]:
    """Return the energies (chains,) and their gradient."""
    moving, fixed, merge = partition(position)
    check_energy(energy, position)
    with explicit_mesh(moving):
        values, gradient = jax.vmap(jax.value_and_grad(lambda m, f: energy(merge(m, f))))(
            moving, fixed
        )
    return strong(values), gradient


def explicit_mesh(tree: PyTree) -> contextlib.AbstractContextManager:
    """Enter the mesh of the Explicit axes of arrays, which JAX needs outside a trace."""
    if not jax.sharding.get_abstract_mesh().empty:
        return contextlib.nullcontext()
    for leaf in jax.tree.leaves(tree):
        sharding = None if isinstance(leaf, Tracer) else getattr(leaf, "sharding", None)
        mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
        if isinstance(mesh, Mesh) and AxisType.Explicit in mesh.axis_types:
            return jax.set_mesh(mesh)
    return contextlib.nullcontext()


def explicit_axes(tree: PyTree) -> set[str]:
    """Return the Explicit mesh axes over which anything is sharded."""
    found: set[str] = set()
    for leaf in jax.tree.leaves(tree):
        sharding = getattr(jax.typeof(leaf), "sharding", None)
        if sharding is not None and AxisType.Explicit in sharding.mesh.axis_types:
            found |= {str(name) for name in sharding.spec if name is not None}
    return found


def chain_sum(leaves: list) -> Array:
    """Sum the leaves over all axes except that of the chains: (chains,)."""
    return sum(jnp.sum(leaf, axis=tuple(range(1, leaf.ndim))) for leaf in leaves)  # pyright: ignore


def chain_norm(leaves: list) -> Array:
    """Return the Euclidean norm over all axes except that of the chains, (chains,).

    The leaves are first divided by the largest entry, so that squares neither overflow nor
    underflow.
    """
    dtype = jnp.result_type(*leaves)
    # The sum of the scaled squares is up to their number, which may overflow half precision.
    leaves = [x.astype(jnp.promote_types(x.dtype, jnp.float32)) for x in leaves]
    largest = jnp.stack([jnp.max(jnp.abs(x), axis=tuple(range(1, x.ndim))) for x in leaves])
    largest = jnp.max(largest, axis=0)
    scale = jnp.where((largest > 0) & (largest < jnp.inf), largest, 1.0)
    scale = jax.lax.stop_gradient(scale)
    squares = chain_sum([jnp.square(x / per_chain(scale, x)) for x in leaves])
    # The derivative at 0 is 0, as that of an absolute value.
    norm = scale * jnp.where(squares == 0, 0.0, jnp.sqrt(jnp.where(squares == 0, 1.0, squares)))
    return norm.astype(dtype)


def matrix(leaves: list) -> Array:
    """Return the leaves concatenated to (chains, numbers), in float32 or wider."""
    dtype = jnp.result_type(jnp.float32, *leaves)
    rows = [leaf.reshape(len(leaf), math.prod(leaf.shape[1:])) for leaf in leaves]
    return jnp.concatenate([row.astype(dtype) for row in rows], axis=1)


def difference_products(a: Array, b: Array) -> Array:
    """Return sum_k (a_ik - a_jk) (b_ik - b_jk) of matrices (n, k): (n, n).

    With a = b these are squared distances. The differences are computed first: an expansion such as
    |a_i|^2 - 2 a_i a_j + |a_j|^2 cancels for small distances. It takes a few rows at a time, also
    in derivatives, and does not store an array (n, n, k).
    """

    @jax.checkpoint
    def row(pair: tuple[Array, Array]) -> Array:
        return jnp.sum((pair[0][None] - a) * (pair[1][None] - b), axis=-1)

    return jax.lax.map(row, (a, b), batch_size=8)


def per_chain(value: Array, leaf: Array, axis: int = 0) -> Array:
    """Return (chains,) reshaped to broadcast against a leaf with chains on ``axis``."""
    return value.reshape((1,) * axis + value.shape + (1,) * (leaf.ndim - axis - 1))


def chain_axes(init: Callable[[Position], Any], position: Position) -> PyTree:
    """Return the axis of the chains in every leaf of ``init(position)``, -1 for none.

    The axes follow from the shapes with one more chain, so another axis that happens to have the
    same length is not mistaken for it. Nothing is computed.
    """
    chains = check_chains(position)

    def shapes(num: int) -> PyTree:
        def shaped(leaf):
            return jax.ShapeDtypeStruct((num, *np.shape(leaf)[1:]), jnp.result_type(leaf))

        return jax.eval_shape(init, jax.tree.map(shaped, position))

    def axis(few: Array, many: Array) -> int:
        grown = [i for i, (m, n) in enumerate(zip(few.shape, many.shape, strict=True)) if m != n]
        if not grown:
            return -1
        if len(grown) > 1 or few.shape[grown[0]] != chains:
            raise ValueError(
                "A sampler's state must have the chains on one axis of each leaf; one has the "
                f"shape {few.shape} for {chains} chains and {many.shape} for one more."
            )
        return grown[0]

    return jax.tree.map(axis, shapes(chains), shapes(chains + 1))


def select_chains(chosen: Array, new: PyTree, old: PyTree, axes: PyTree) -> PyTree:
    """Return new leaves for the chosen chains, old ones for the rest.

    Leaves without chains are old.
    """

    def select(axis: int, a: Array, b: Array) -> Array:
        return b if axis < 0 else jnp.where(per_chain(chosen, b, axis), a, b)

    return jax.tree.map(select, axes, new, old)


def take_chains(tree: PyTree, indices: Array, axes: PyTree, groups: int = 1) -> PyTree:
    """Return the chains at the indices; leaves without chains are unchanged.

    With groups, the same number of indices lies in each block of neighbouring slots, in the order
    of the blocks: no index leaves its block, nor its device if devices hold whole blocks.
    """

    def take(axis: int, leaf: Array) -> Array:
        if axis < 0:
            return leaf
        where = (slice(None),) * axis
        if groups == 1:
            return leaf[(*where, indices)]
        blocks, local = _blocks(leaf, axis, indices, groups)
        taken = jax.vmap(lambda block, i: block[(*where, i)], (axis, 0), axis)(blocks, local)
        return taken.reshape(leaf.shape[:axis] + indices.shape + leaf.shape[axis + 1 :])

    return jax.tree.map(take, axes, tree)


def put_chains(tree: PyTree, indices: Array, new: PyTree, axes: PyTree, groups: int = 1) -> PyTree:
    """Return the tree with new chains at the indices, and new leaves without chains."""

    def put(axis: int, leaf: Array, moved: Array) -> Array:
        if axis < 0:
            return moved
        where = (slice(None),) * axis
        if groups == 1:  # without an axis for the blocks, XLA writes in place
            return leaf.at[(*where, indices)].set(moved)
        blocks, local = _blocks(leaf, axis, indices, groups)
        arrivals = moved.reshape((*leaf.shape[:axis], *local.shape, *leaf.shape[axis + 1 :]))

        def one(block: Array, i: Array, arriving: Array) -> Array:
            return block.at[(*where, i)].set(arriving)

        put_in = jax.vmap(one, (axis, 0, axis), axis)(blocks, local, arrivals)
        return put_in.reshape(leaf.shape)

    return jax.tree.map(put, axes, tree, new)


def _blocks(leaf: Array, axis: int, indices: Array, groups: int) -> tuple[Array, Array]:
    """Return a leaf with its slots in blocks, on two axes, and indices in the blocks."""
    size = leaf.shape[axis] // groups
    blocks = leaf.reshape((*leaf.shape[:axis], groups, size, *leaf.shape[axis + 1 :]))
    return blocks, indices.reshape(groups, -1) - size * jnp.arange(groups)[:, None]


def finite_chains(chains: Position) -> Array:
    """Return which chains have only finite coordinates, (n,) booleans."""
    check_chains(chains)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(chains)]
    rows = [jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim))) for x in leaves]
    return jnp.all(jnp.stack(rows), axis=0)


def has_nan(chains: PyTree, where: PyTree, num: int) -> Array:
    """Return which chains have a NaN anywhere in their state, (n,) booleans."""
    found = jnp.zeros(num, bool)
    for leaf, axis in zip(jax.tree.leaves(chains), jax.tree.leaves(where), strict=True):
        if axis >= 0 and jnp.issubdtype(leaf.dtype, jnp.floating):
            others = tuple(i for i in range(leaf.ndim) if i != axis)
            found |= jnp.any(jnp.isnan(leaf), axis=others)
    return found


def info_fields(info: Any) -> Metrics:
    """Return the array fields of a sampler's info, in float32.

    The field ``energy`` becomes ``chain_energy``.
    """
    if not hasattr(info, "_asdict"):
        raise TypeError(f"The info of a sampler must be a NamedTuple, got {type(info).__name__}.")
    fields = {name: value for name, value in info._asdict().items() if hasattr(value, "dtype")}
    named = {"chain_energy" if k == "energy" else k: v for k, v in fields.items()}
    return {name: value.astype(jnp.float32) for name, value in named.items()}


def mean_info(state: Any, info: Any) -> Metrics:
    """Return the mean over chains of every array field of a sampler's info.

    Pass it to ``samplers.run`` as ``collect``.
    """
    del state
    return {name: jnp.mean(value) for name, value in info_fields(info).items()}
