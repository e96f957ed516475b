r"""Running many chains, and keeping them: ``run`` and the replay buffer of persistent chains.

``run`` is not compiled: it nests in any jit, vmap or scan. Compile it, or whatever contains it,
with ``ebm_jax.jit``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.samplers._batch import check_chains, per_chain
from ebm_jax.types import Array, Key, Metrics, Position, PyTree, Sampler


def run(
    key: Key,
    sampler: Sampler,
    state: Any,
    num_steps: int,
    *,
    collect: Callable[[Any, Any], PyTree] | None = None,
    thin: int = 1,
) -> tuple[Any, PyTree]:
    r"""Advance all chains ``num_steps`` times, under one ``lax.scan``.

    Step t uses the key ``fold_in(key, t)``, so a run is the same however it is cut into pieces
    of history. Memory does not grow with the number of steps unless something is collected.
    Chains may be sharded over devices by their leading axis: every chain gets the same noise on
    any number of devices (and, as compilers round the ends of vectors their own way, the same
    bits where every device has a multiple of 16 chains).

    Args:
        key: a key of ``jax.random.key``, used once.
        sampler: any ``(init, step)`` over a batch of chains; blackjax's vmapped kernels too.
        state: where the chains are, from ``sampler.init(positions)``.
        num_steps: how many steps, >= 1; a multiple of ``thin``.
        collect: (state, info) -> pytree, kept after every ``thin`` steps, on a new leading axis:
            ``lambda state, info: state.position`` is the history. None keeps nothing.
        thin: steps between two things kept.

    Returns:
        The last state, and what was collected (None if nothing).

    Raises:
        ValueError: num_steps < 1, or not a multiple of thin.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> sampler = langevin.ula(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
    >>> start = sampler.init(jnp.zeros((4, 2)))
    >>> _, history = run(jax.random.key(0), sampler, start, 100,
    ...                  collect=lambda state, info: state.position, thin=10)
    >>> history.shape
    (10, 4, 2)
    """
    if thin < 1 or num_steps < 1 or num_steps % thin:
        raise ValueError(
            f"num_steps must be a positive multiple of thin, got {num_steps} steps, thin={thin}."
        )

    # The step number is carried, not scanned over: an arange would grow with the run.
    def one(carry, _):
        state, t = carry
        state, info = sampler.step(jax.random.fold_in(key, t), state)
        return (state, t + 1), info

    def silent(carry, _):
        return one(carry, None)[0], None

    start = (state, jnp.zeros((), jnp.int32))
    if collect is None:
        (state, _), _ = jax.lax.scan(silent, start, length=num_steps)
        return state, None

    def several(carry, _):
        if thin > 1:
            carry, _ = jax.lax.scan(silent, carry, length=thin - 1)
        carry, info = one(carry, None)
        return carry, collect(carry[0], info)

    (state, _), collected = jax.lax.scan(several, start, length=num_steps // thin)
    return state, collected


def refresh(sampler: Sampler, state: Any) -> Any:
    r"""Return the state for a sampler whose energy has changed since, or whose position has.

    What depends on the energy is computed anew; what a chain needs to go on is kept: persistent
    chains call it at every update, annealing at every temperature.

    Args:
        sampler: the sampler that goes on; blackjax's kernels too, which know no ``refresh`` and
            start again at ``init(state.position)``.
        state: where the chains are, from a sampler of the same kind.

    Returns:
        The state.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> old, new = (langevin.mala(lambda x, k=k: k * x**2 / 2, step_size=0.1) for k in (1.0, 3.0))
    >>> refresh(new, old.init(jnp.ones(2))).energy.tolist()
    [1.5, 1.5]
    """
    own = getattr(sampler, "refresh", None)
    return sampler.init(state.position) if own is None else own(state)


def mean_info(state: Any, info: Any) -> Metrics:
    r"""Return the mean over chains of every field of a sampler's info, for ``collect``.

    What fraction was accepted, clipped, stopped by the box; the energies, as ``chain_energy``.

    Args:
        state: not used.
        info: the info of one step, a NamedTuple with or without a field ``energy``.

    Returns:
        A dict by field, each ().

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> sampler = langevin.mala(lambda x: jnp.sum(x**2), step_size=1e-4)
    >>> start = sampler.init(jnp.zeros((3, 1)))
    >>> _, history = run(jax.random.key(0), sampler, start, 5, collect=mean_info)
    >>> history["accepted"].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    del state
    means = {k: jnp.mean(jnp.asarray(v, jnp.float32)) for k, v in info._asdict().items()}
    return {"chain_energy" if k == "energy" else k: v for k, v in means.items()}


def draw(key: Key, chains: Position, num: int) -> tuple[Array, Position]:
    r"""Draw ``num`` different slots of the persistent chains, every slot equally likely.

    Args:
        key: a key of ``jax.random.key``, used once.
        chains: pytree with the slots on the leading axis.
        num: how many, from 1 to the number of slots.

    Returns:
        The indices (num,), without repetition, and the chains in those slots. Give the
        indices to ``write_back``: the slots drawn are the slots written.

    Raises:
        ValueError: more chains than slots.

    >>> import jax, jax.numpy as jnp
    >>> indices, drawn = draw(jax.random.key(0), jnp.arange(5.0)[:, None], 5)
    >>> sorted(indices.tolist())
    [0, 1, 2, 3, 4]
    """
    capacity = check_chains(chains)
    if not 1 <= num <= capacity:
        raise ValueError(f"num must be from 1 to the {capacity} slots there are, got {num}.")
    # The num largest of capacity numbers: a permutation would sort them all. Two of the 2^23
    # values are seldom equal, and then the lower slot wins.
    _, indices = jax.lax.top_k(jax.random.uniform(key, (capacity,)), num)
    return indices, jax.tree.map(lambda leaf: leaf[indices], chains)


def write_back(chains: Position, indices: Array, moved: Position) -> Position:
    r"""Return the persistent chains with ``moved`` in the slots ``indices``.

    Args:
        chains: pytree with the slots on the leading axis.
        indices: (num,), from ``draw``.
        moved: pytree with ``num`` chains on the leading axis.

    Returns:
        The chains; every other slot is untouched.

    >>> import jax.numpy as jnp
    >>> write_back(jnp.zeros(4), jnp.array([2]), jnp.array([7.0])).tolist()
    [0.0, 0.0, 7.0, 0.0]
    """
    return jax.tree.map(lambda slots, new: slots.at[indices].set(new), chains, moved)


def restart(key: Key, chains: Position, fresh: Position, fraction) -> tuple[Position, Array]:
    r"""Restart each chain with probability ``fraction``, from a new position of its own.

    A chain with a NaN or infinite coordinate always restarts.

    Args:
        key: a key of ``jax.random.key``, used once.
        chains: pytree with the chains on the leading axis.
        fresh: new positions of the same structure, independent of the old ones.
        fraction: in [0, 1].

    Returns:
        The chains, and which of them restarted, (n,) booleans.

    Raises:
        ValueError: a fraction outside [0, 1].

    >>> import jax, jax.numpy as jnp
    >>> chains = jnp.array([[1.0], [jnp.nan]])
    >>> restart(jax.random.key(0), chains, jnp.zeros((2, 1)), 0.0)[0].tolist()
    [[1.0], [0.0]]
    """
    _checks.fraction("fraction", fraction)
    num = check_chains(chains)
    chosen = jax.random.bernoulli(key, fraction, (num,)) | ~finite(chains)
    return jax.tree.map(lambda a, b: jnp.where(per_chain(chosen, a), b, a), chains, fresh), chosen


def finite(chains: Position) -> Array:
    """Return which chains have finite coordinates only, (n,) booleans.

    >>> import jax.numpy as jnp
    >>> finite(jnp.array([[1.0, 2.0], [jnp.inf, 0.0]])).tolist()
    [True, False]
    """
    rows = [
        jnp.all(jnp.isfinite(leaf.reshape(leaf.shape[0], -1)), axis=1)
        for leaf in jax.tree.leaves(chains)
    ]
    return jnp.all(jnp.stack(rows), axis=0)
