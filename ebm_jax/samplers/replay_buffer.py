"""A replay buffer: draw some persistent chains, move them, write them back.

The buffer is a pytree of positions with the chains on the leading axis of every leaf, or the state
of a sampler, whose chain axes ``samplers.chain_axes`` returns. The *index* of a chain is its number
in the buffer.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks, _draws
from ebm_jax._trees import finite_chains, has_nan, put_chains, select_chains, take_chains
from ebm_jax.types import Array, Key, PyTree


def draw(
    key: Key, chains: PyTree, num: int, *, axes: PyTree | None = None, groups: int = 1
) -> tuple[Array, PyTree]:
    """Draw ``num`` different chains from the buffer, all equally likely.

    Args:
        key: a key of ``jax.random.key``, used once.
        chains: the buffer, a pytree with the chains on the leading axis, or on the axes ``axes``.
        num: number of chains to draw, from 1 to the number in the buffer.
        axes: axis of the chains in every leaf, -1 for none, as ``samplers.chain_axes`` returns for
            a sampler's state. None for positions.
        groups: number of blocks of neighbouring chains; the same number of chains is drawn from
            each. With a multiple of the number of devices that hold the buffer, chains stay on
            their device.

    Returns:
        The indices (num,), without repetition, and the chains with those indices. Pass the same
        indices to ``write_back``.

    Raises:
        ValueError: if num exceeds the number of chains in the buffer, or groups does not divide
            both.

    >>> import jax, jax.numpy as jnp
    >>> indices, drawn = draw(jax.random.key(0), jnp.arange(5.0)[:, None], 5)
    >>> sorted(indices.tolist())
    [0, 1, 2, 3, 4]
    """
    _checks.one_key(key)
    where = _leading(chains) if axes is None else axes
    buffer_size, num = _num_chains(chains, where), _checks.count("num", num, least=0)
    if not 1 <= num <= buffer_size:
        raise ValueError(
            f"num must be from 1 to the number of chains in the buffer, {buffer_size}, got {num}."
        )
    _checks.groups(groups, num, buffer_size)
    # On one device, the num largest of buffer_size random numbers, which is faster than sorting
    # them all for a permutation. Over several devices a sort, which stays on the devices that hold
    # its rows. Equal numbers, which are rare among 2^23 values, favour the lower index.
    uniform = jax.random.uniform(key, (buffer_size,)).reshape(groups, -1)
    if groups == 1:
        _, local = jax.lax.top_k(uniform, num)
    else:
        local = jnp.argsort(-uniform, axis=1)[:, : num // groups]
    indices = (local + uniform.shape[1] * jnp.arange(groups)[:, None]).reshape(-1)
    return indices, take_chains(chains, indices, where, groups)


def write_back(
    chains: PyTree, indices: Array, moved: PyTree, *, axes: PyTree | None = None, groups: int = 1
) -> PyTree:
    """Return the buffer with the chains ``moved`` at the indices ``indices``.

    Args:
        chains: the buffer, a pytree with the chains on the leading axis, or on the axes ``axes``.
        indices: (num,), different indices from ``draw``. Indices out of range, if known only at run
            time, are not written.
        moved: pytree with ``num`` chains, otherwise shaped like ``chains``.
        axes: as in ``draw``; a leaf without chains is taken from ``moved``.
        groups: the value passed to ``draw``.

    Returns:
        The buffer; all other chains are unchanged.

    Raises:
        TypeError: if indices are not integers.
        ValueError: if known indices are out of range or repeat, or ``moved`` has another structure
            or shape.

    >>> import jax.numpy as jnp
    >>> write_back(jnp.zeros(4), jnp.array([2]), jnp.array([7.0])).tolist()
    [0.0, 0.0, 7.0, 0.0]
    """
    where = _leading(chains) if axes is None else axes
    buffer_size, given = _num_chains(chains, where), _checks.array("indices", indices)
    if not jnp.issubdtype(given.dtype, jnp.integer) and given.size:
        raise TypeError(f"indices must be integers, got {given.dtype}.")
    known = _checks.concrete(indices)
    if np.ndim(indices) != 1 or (
        known is not None and (len(set(known.tolist())) < len(known) or not known.size)
    ):
        raise ValueError(f"indices must be one or more different integers, (num,), got {indices}.")
    if known is not None and not ((known >= 0) & (known < buffer_size)).all():
        raise ValueError(f"indices must be from 0 to {buffer_size - 1}, got {known}.")
    _same_chains("moved", moved, chains, where, len(indices))
    _checks.groups(groups, len(indices), buffer_size)
    return put_chains(chains, jnp.asarray(indices), moved, where, groups)


def restart(
    key: Key, chains: PyTree, fresh: PyTree, fraction, *, axes: PyTree | None = None
) -> tuple[PyTree, Array]:
    """Restart each chain with a given probability, from its own new state.

    Chains with a NaN or an infinite coordinate always restart.

    Args:
        key: a key of ``jax.random.key``, used once.
        chains: pytree with the chains on the leading axis, or on the axes ``axes``.
        fresh: new chains with the same structure and shapes, independent of the old ones.
        fraction: probability of a restart, in [0, 1], one number.
        axes: as in ``draw``; a leaf without chains is kept.

    Returns:
        The chains, and which of them restarted, (n,) booleans.

    Raises:
        ValueError: if fraction is outside [0, 1], or fresh has another structure or shape.

    >>> import jax, jax.numpy as jnp
    >>> chains = jnp.array([[1.0], [jnp.nan]])
    >>> restart(jax.random.key(0), chains, jnp.zeros((2, 1)), 0.0)[0].tolist()
    [[1.0], [0.0]]
    """
    _checks.one_key(key)
    _checks.fraction("fraction", fraction)
    if np.ndim(fraction):
        raise ValueError(f"fraction must be one number, got the shape {np.shape(fraction)}.")
    where = _leading(chains) if axes is None else axes
    num = _num_chains(chains, where)
    _same_chains("fresh", fresh, chains, where, num)
    broken = ~finite_chains(getattr(chains, "position", chains))
    if axes is not None:
        broken |= has_nan(chains, where, num)
    chosen = _draws.bernoulli(key, jnp.log(jnp.asarray(fraction, float)), (num,)) | broken
    return select_chains(chosen, fresh, chains, where), chosen


def _leading(chains: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: 0, chains)


def _num_chains(chains: PyTree, where: PyTree) -> int:
    """Return the number of chains; raise an error for leaves that disagree."""
    integers = all(isinstance(axis, int | np.integer) for axis in jax.tree.leaves(where))
    if not integers or jax.tree.structure(where) != jax.tree.structure(chains):
        raise ValueError(f"axes must have one integer for every leaf of the chains, got {where}.")
    pairs = zip(jax.tree.leaves(chains), jax.tree.leaves(where), strict=True)
    sizes = {np.shape(leaf)[axis : axis + 1] for leaf, axis in pairs if axis >= 0}
    if len(sizes) != 1 or not all(sizes) or sizes == {(0,)}:
        raise ValueError(
            "Chains must have one common axis, the leading one if no axes are given, of at least "
            f"1; got the shapes {[np.shape(leaf) for leaf in jax.tree.leaves(chains)]}."
        )
    return sizes.pop()[0]


def _same_chains(name: str, given: PyTree, chains: PyTree, where: PyTree, num: int) -> None:
    """Reject chains of another structure or shapes, or not ``num`` of them."""

    def wanted(axis: int, leaf: Array) -> tuple[int, ...]:
        shape = np.shape(leaf)
        return shape if axis < 0 else (*shape[:axis], num, *shape[axis + 1 :])

    shapes = [wanted(*pair) for pair in zip(*map(jax.tree.leaves, (where, chains)), strict=True)]
    found = [np.shape(leaf) for leaf in jax.tree.leaves(given)]
    if jax.tree.structure(given) != jax.tree.structure(chains) or found != shapes:
        raise ValueError(
            f"{name} must be {num} chains of the same structure, of the shapes {shapes}; got "
            f"{found} in {jax.tree.structure(given)}."
        )
