"""What every sampler needs to treat a pytree of arrays as a batch of chains."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry2x32_p

from ebm_jax.types import Array, Energy, Key, Position


def check_chains(position: Position) -> int:
    """Return the number of chains, or refuse positions without a common leading axis."""
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(position)]
    if not shapes or any(not s or s[0] != shapes[0][0] or s[0] == 0 for s in shapes):
        raise ValueError(
            "Positions must have the chains on the leading axis of every leaf, the same number "
            f"(>= 1) each; got the shapes {shapes}."
        )
    return shapes[0][0]


def partition(position: Position) -> tuple[list, list, Callable[[list, list], Position]]:
    """Return (moving, fixed, merge): floating leaves move, integer leaves are carried along."""
    leaves, treedef = jax.tree.flatten(position)
    moves = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in leaves]
    if not any(moves):
        raise TypeError(
            "Positions must have a floating-point leaf to move, got the types "
            f"{[str(jnp.result_type(leaf)) for leaf in leaves]}."
        )

    def merge(moving: list, fixed: list) -> Position:
        moving_iter, fixed_iter = iter(moving), iter(fixed)
        merged = [next(moving_iter) if m else next(fixed_iter) for m in moves]
        return jax.tree.unflatten(treedef, merged)

    moving = [leaf for leaf, m in zip(leaves, moves, strict=True) if m]
    fixed = [leaf for leaf, m in zip(leaves, moves, strict=True) if not m]
    return moving, fixed, merge


def value_and_gradient(energy: Energy, position: Position) -> tuple[Array, list]:
    """Return E (chains,) and its gradient for the moving leaves; refuse one that is no scalar."""
    chains = check_chains(position)
    moving, fixed, merge = partition(position)
    one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), position)
    shape = jax.tree.map(lambda out: out.shape, jax.eval_shape(energy, one))
    if shape != ():
        raise ValueError(
            f"The energy must take one configuration and return a scalar (); given one of "
            f"{chains} chains it returned the shape {shape}."
        )
    return jax.vmap(jax.value_and_grad(lambda m, f: energy(merge(m, f))))(moving, fixed)


def standard_normal(key: Key, leaves: list) -> list:
    """Draw N(0, I) of the shapes of the leaves, all of them and all chains in one flat draw.

    The numbers of a chain depend on the key, its index and the chain's size, not on how many
    chains there are or on how many devices share them. bfloat16's own normal has 128 values:
    narrow types are drawn in float32.
    """
    chains = leaves[0].shape[0]
    sizes = [leaf[0].size for leaf in leaves]
    dtype = jnp.promote_types(jnp.result_type(*leaves), jnp.float32)
    half = -(-sum(sizes) // 2)  # counters a chain: each gives two words of 32 bits
    if dtype == jnp.float32 and _is_threefry(key) and chains * half < 2**32:
        # The barrier keeps the draw out of the fusion of the update, whose last axis may be too
        # short to vectorise.
        words = jax.lax.optimization_barrier([_normal(w) for w in _words(key, chains * half)])
        flat = jnp.concatenate([w.reshape(chains, half) for w in words], axis=1)
    else:
        flat = jax.random.normal(key, (chains * sum(sizes),), dtype)
        flat = jax.lax.optimization_barrier(flat).reshape(chains, sum(sizes))
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    parts = [flat[:, end - size : end] for size, end in zip(sizes, ends, strict=True)]
    return [part.reshape(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)]


def _is_threefry(key: Key) -> bool:
    return str(jax.random.key_impl(key)) in ("threefry2x32", "fry")


def _words(key: Key, num: int) -> list[Array]:
    """Return both words of threefry at the counters 0 to num - 1: 2 num words for num calls.

    jax.random.bits combines the two into one word of 32 bits and so needs twice the calls.
    """
    first, second = jnp.moveaxis(jax.random.key_data(key), -1, 0)
    counter = jax.lax.iota(jnp.uint32, num)
    return threefry2x32_p.bind(first, second, jnp.zeros_like(counter), counter)


def _normal(word: Array) -> Array:
    """Return the normal quantile of 23 bits of each word, as jax.random.normal computes it."""
    one_to_two = (word >> 9) | np.float32(1).view(np.uint32)
    unit = jax.lax.bitcast_convert_type(one_to_two, jnp.float32) - 1
    low = np.nextafter(np.float32(-1), np.float32(0))
    uniform = jnp.maximum(low, unit * (np.float32(1) - low) + low)
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(uniform)


def chain_sum(leaves: list) -> Array:
    """Sum the leaves over all axes but the chains': (chains,)."""
    return sum(jnp.sum(leaf.reshape(leaf.shape[0], -1), axis=1) for leaf in leaves)  # pyright: ignore


def per_chain(value: Array, leaf: Array) -> Array:
    """Return (chains,) shaped to broadcast against a leaf."""
    return value.reshape(value.shape + (1,) * (leaf.ndim - 1))
