"""Replicas that change places: the rungs of a ladder lie before the axes of one replica's state."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ebm_jax._trees import select_chains
from ebm_jax.types import Array, PyTree


def sources(swapped: Array) -> Array:
    """Return which replica each one takes its chain from, (temperatures, chains)."""
    none = jnp.zeros_like(swapped[:1])
    up = jnp.concatenate([swapped, none]).astype(jnp.int32)  # takes from the next
    down = jnp.concatenate([none, swapped]).astype(jnp.int32)  # takes from the one before
    return jnp.arange(up.shape[0])[:, None] + up - down


def permute(replicas: PyTree, source: Array, axes: PyTree) -> PyTree:
    """Move what belongs to a chain among its replicas; leave the rest, step counts say, alone."""

    def move(axis: int, leaf: Array) -> Array:
        if axis < 0:
            return leaf
        # The temperatures lie before the axes of one replica's state.
        rest = [i for i in range(leaf.ndim) if i not in (0, axis + 1)]
        return jnp.take_along_axis(leaf, jnp.expand_dims(source, rest), axis=0)

    return jax.tree.map(move, axes, replicas)


def renew_moved(
    renew: Callable[[Array, Any], Any], ladder: Array, replicas: Any, source: Array, axes: PyTree
) -> Any:
    """Renew what depends on the temperature in the chains that came from another one."""
    replica = jax.tree.map(lambda leaf: leaf[-1], replicas)
    depends = _dependence(lambda b: renew(b, replica), ladder[-1])
    if not any(jax.tree.leaves(depends)):
        return replicas
    axes = jax.tree.map(lambda axis, changes: axis if changes else -1, axes, depends)
    moved = source != jnp.arange(ladder.shape[0])[:, None]
    select = jax.vmap(lambda chosen, new, old: select_chains(chosen, new, old, axes))
    return select(moved, jax.vmap(renew)(ladder, replicas), replicas)


def _dependence(function: Callable[[Array], PyTree], x: Array) -> PyTree:
    """Return for every leaf of ``function(x)`` whether x is used in computing it.

    Read from the jaxpr: nothing is computed. What a nested function returns counts as using all
    its arguments.
    """
    closed, shapes = jax.make_jaxpr(function, return_shape=True)(x)
    jaxpr = closed.jaxpr
    depends = set(map(id, jaxpr.invars))
    for equation in jaxpr.eqns:
        if not depends.isdisjoint(map(id, equation.invars)):
            depends.update(map(id, equation.outvars))
    leaves = [id(variable) in depends for variable in jaxpr.outvars]
    return jax.tree.unflatten(jax.tree.structure(shapes), leaves)
