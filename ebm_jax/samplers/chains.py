r"""Running many chains, and keeping them: ``run`` and the replay buffer of persistent chains.

``run`` is not compiled: it nests in any jit, vmap or scan. Compile it, or whatever contains it,
with ``ebm_jax.jit``.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks, _draws
from ebm_jax._trees import chain_axes, check_chains, put_chains, select_chains, take_chains
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
        TypeError: positions instead of a state, no key, a number of steps that is no integer or
            is traced. ValueError: several keys, num_steps < 1, or not a multiple of thin.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> sampler = langevin.ula(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
    >>> start = sampler.init(jnp.zeros((4, 2)))
    >>> _, history = run(jax.random.key(0), sampler, start, 100,
    ...                  collect=lambda state, info: state.position, thin=10)
    >>> history.shape
    (10, 4, 2)
    """
    _checks.one_key(key)
    num_steps, thin = _checks.count("num_steps", num_steps), _checks.count("thin", thin)
    if num_steps % thin:
        raise ValueError(f"num_steps must be a multiple of thin={thin}, got {num_steps}.")
    _checks.sampler("sampler", sampler)
    if collect is not None:
        _checks.function("collect", collect)
    if not hasattr(state, "position"):
        _check_state(sampler, key, state)

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


def _check_state(sampler: Sampler, key: Key, state: Any) -> None:
    """Refuse what is no state of the sampler: positions, most likely."""
    try:
        jax.eval_shape(sampler.step, key, state)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            "chains.run takes a state, sampler.init(positions), where chains go on from; got "
            f"{type(state).__name__} ({error})."
        ) from error


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
    _checks.sampler("sampler", sampler)
    if not hasattr(state, "position"):
        raise TypeError(
            "chains.refresh takes a state, sampler.init(positions), with a field position; got "
            f"{type(state).__name__}."
        )
    own = getattr(sampler, "refresh", None)
    return sampler.init(state.position) if own is None else own(state)


def mean_info(state: Any, info: Any) -> Metrics:
    r"""Return the mean over chains of every field of a sampler's info, for ``collect``.

    What fraction was accepted, clipped, stopped by the box; the energies, as ``chain_energy``.
    Fields that are pytrees of their own (the trajectories of blackjax's NUTS) are left out.

    Args:
        state: not used.
        info: the info of one step, a NamedTuple with or without a field ``energy``.

    Returns:
        A dict by field, each ().

    Raises:
        TypeError: an info that is no NamedTuple.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> sampler = langevin.mala(lambda x: jnp.sum(x**2), step_size=1e-4)
    >>> start = sampler.init(jnp.zeros((3, 1)))
    >>> _, history = run(jax.random.key(0), sampler, start, 5, collect=mean_info)
    >>> history["accepted"].tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
    """
    del state
    return {name: jnp.mean(value) for name, value in _info_fields(info).items()}


def _info_fields(info: Any) -> Metrics:
    """Return what ``mean_info`` averages, in float32."""
    if not hasattr(info, "_asdict"):
        raise TypeError(f"mean_info takes an info that is a NamedTuple, got {type(info).__name__}.")
    fields = {name: value for name, value in info._asdict().items() if hasattr(value, "dtype")}
    named = {"chain_energy" if k == "energy" else k: v for k, v in fields.items()}
    return {name: value.astype(jnp.float32) for name, value in named.items()}


def axes(sampler: Sampler, position: Position) -> PyTree:
    r"""Return where the chains are in a sampler's state: the axis of every leaf, or -1.

    Found from the shapes of ``sampler.init`` with one chain more; nothing is computed.

    Args:
        sampler: the sampler.
        position: positions, the chains on the leading axis.

    Returns:
        A pytree like the state, of integers: -1 for a leaf without chains, such as a step count.

    >>> import jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> found = axes(langevin.ula(lambda x: jnp.sum(x**2), step_size=0.1), jnp.zeros((5, 2)))
    >>> found.position, found.step
    (0, -1)
    """
    return chain_axes(_checks.sampler("sampler", sampler).init, position)


def _leading(chains: PyTree) -> PyTree:
    return jax.tree.map(lambda leaf: 0, chains)


def _capacity(chains: PyTree, where: PyTree) -> int:
    """Return the number of chains, or refuse leaves that disagree."""
    integers = all(isinstance(axis, int | np.integer) for axis in jax.tree.leaves(where))
    if not integers or jax.tree.structure(where) != jax.tree.structure(chains):
        raise ValueError(f"axes must have one integer for every leaf of the chains, got {where}.")
    pairs = zip(jax.tree.leaves(chains), jax.tree.leaves(where), strict=True)
    sizes = {jnp.shape(leaf)[axis : axis + 1] for leaf, axis in pairs if axis >= 0}
    if len(sizes) != 1 or not all(sizes) or sizes == {(0,)}:
        raise ValueError(
            "Chains must have one common axis, the leading one if no axes are given, of at least "
            f"1; got the shapes {[jnp.shape(leaf) for leaf in jax.tree.leaves(chains)]}."
        )
    return sizes.pop()[0]


def draw(
    key: Key, chains: PyTree, num: int, *, axes: PyTree | None = None, groups: int = 1
) -> tuple[Array, PyTree]:
    r"""Draw ``num`` different slots of the persistent chains, every slot equally likely.

    Args:
        key: a key of ``jax.random.key``, used once.
        chains: pytree with the slots on the leading axis, or where ``axes`` says.
        num: how many, from 1 to the number of slots.
        axes: the axis of the slots in every leaf, -1 for none: ``chains.axes`` of a sampler's
            state. None for positions.
        groups: draw as many from each of so many blocks of neighbouring slots. A multiple of the
            number of devices that hold the slots keeps every chain on its device.

    Returns:
        The indices (num,), without repetition, and the chains in those slots. Give the
        indices to ``write_back``: the slots drawn are the slots written.

    Raises:
        ValueError: more chains than slots, groups that divide either unequally.

    >>> import jax, jax.numpy as jnp
    >>> indices, drawn = draw(jax.random.key(0), jnp.arange(5.0)[:, None], 5)
    >>> sorted(indices.tolist())
    [0, 1, 2, 3, 4]
    """
    _checks.one_key(key)
    where = _leading(chains) if axes is None else axes
    capacity, num = _capacity(chains, where), _checks.count("num", num, least=0)
    if not 1 <= num <= capacity:
        raise ValueError(f"num must be from 1 to the {capacity} slots there are, got {num}.")
    _check_groups(groups, num, capacity)
    # The num largest of capacity numbers, on one device faster than a permutation, which sorts
    # them all; but a sort stays on the devices that hold its rows. Two of the 2^23 values are
    # seldom equal, and then the lower slot wins.
    uniform = jax.random.uniform(key, (capacity,)).reshape(groups, -1)
    if groups == 1:
        _, local = jax.lax.top_k(uniform, num)
    else:
        local = jnp.argsort(-uniform, axis=1)[:, : num // groups]
    indices = (local + uniform.shape[1] * jnp.arange(groups)[:, None]).reshape(-1)
    return indices, take_chains(chains, indices, where, groups)


def _check_groups(groups: int, num: int, capacity: int) -> None:
    """Refuse groups that do not divide the chains drawn and the slots equally."""
    if num % _checks.count("groups", groups) or capacity % groups:
        raise ValueError(
            f"groups={groups} must divide the {num} chains drawn and the {capacity} slots."
        )


def write_back(
    chains: PyTree, indices: Array, moved: PyTree, *, axes: PyTree | None = None, groups: int = 1
) -> PyTree:
    r"""Return the persistent chains with ``moved`` in the slots ``indices``.

    Args:
        chains: pytree with the slots on the leading axis, or where ``axes`` says.
        indices: (num,), from ``draw``: all different. What only running shows to be no slot is
            not written.
        moved: pytree with ``num`` chains, otherwise shaped like ``chains``.
        axes: as in ``draw``; a leaf without chains is taken from ``moved``.
        groups: as in ``draw``, from which the indices must come.

    Returns:
        The chains; every other slot is untouched.

    Raises:
        ValueError: indices that are known to be no slots or to repeat, ``moved`` of another
            structure or shape.

    >>> import jax.numpy as jnp
    >>> write_back(jnp.zeros(4), jnp.array([2]), jnp.array([7.0])).tolist()
    [0.0, 0.0, 7.0, 0.0]
    """
    where = _leading(chains) if axes is None else axes
    capacity, given = _capacity(chains, where), _checks.array("indices", indices)
    if not jnp.issubdtype(given.dtype, jnp.integer) and given.size:
        raise TypeError(f"indices must be integers, got {given.dtype}.")
    known = _checks.concrete(indices)
    if jnp.ndim(indices) != 1 or (
        known is not None and (len(set(known.tolist())) < len(known) or not known.size)
    ):
        raise ValueError(f"indices must be one or more different slots, (num,), got {indices}.")
    if known is not None and not ((known >= 0) & (known < capacity)).all():
        raise ValueError(f"indices must be slots from 0 to {capacity - 1}, got {known}.")
    _same_chains("moved", moved, chains, where, len(indices))
    _check_groups(groups, len(indices), capacity)
    return put_chains(chains, jnp.asarray(indices), moved, where, groups)


def _same_chains(name: str, given: PyTree, chains: PyTree, where: PyTree, num: int) -> None:
    """Refuse chains of another structure, or of other shapes than ``num`` of these have."""

    def wanted(axis: int, leaf: Array) -> tuple[int, ...]:
        shape = jnp.shape(leaf)
        return shape if axis < 0 else (*shape[:axis], num, *shape[axis + 1 :])

    shapes = [wanted(*pair) for pair in zip(*map(jax.tree.leaves, (where, chains)), strict=True)]
    found = [jnp.shape(leaf) for leaf in jax.tree.leaves(given)]
    if jax.tree.structure(given) != jax.tree.structure(chains) or found != shapes:
        raise ValueError(
            f"{name} must be {num} chains of the same structure, of the shapes {shapes}; got "
            f"{found} in {jax.tree.structure(given)}."
        )


def restart(
    key: Key, chains: PyTree, fresh: PyTree, fraction, *, axes: PyTree | None = None
) -> tuple[PyTree, Array]:
    r"""Restart each chain with probability ``fraction``, from a new state of its own.

    A chain with a NaN always restarts, and so does one with an infinite coordinate.

    Args:
        key: a key of ``jax.random.key``, used once.
        chains: pytree with the chains on the leading axis, or where ``axes`` says.
        fresh: new ones of the same structure, independent of the old.
        fraction: in [0, 1].
        axes: as in ``draw``; a leaf without chains is kept.

    Returns:
        The chains, and which of them restarted, (n,) booleans.

    Raises:
        ValueError: a fraction outside [0, 1], fresh chains of another structure or shape.

    >>> import jax, jax.numpy as jnp
    >>> chains = jnp.array([[1.0], [jnp.nan]])
    >>> restart(jax.random.key(0), chains, jnp.zeros((2, 1)), 0.0)[0].tolist()
    [[1.0], [0.0]]
    """
    _checks.one_key(key)
    _checks.fraction("fraction", fraction)
    if jnp.ndim(fraction):
        raise ValueError(f"fraction must be one number, got the shape {jnp.shape(fraction)}.")
    where = _leading(chains) if axes is None else axes
    num = _capacity(chains, where)
    _same_chains("fresh", fresh, chains, where, num)
    broken = ~finite(getattr(chains, "position", chains))
    if axes is not None:
        broken |= _has_nan(chains, where, num)
    chosen = _draws.bernoulli(key, jnp.log(jnp.asarray(fraction, float)), (num,)) | broken
    return select_chains(chosen, fresh, chains, where), chosen


def _has_nan(chains: PyTree, where: PyTree, num: int) -> Array:
    """Return which chains have a NaN anywhere in their state, (n,) booleans."""
    found = jnp.zeros(num, bool)
    for leaf, axis in zip(jax.tree.leaves(chains), jax.tree.leaves(where), strict=True):
        if axis >= 0 and jnp.issubdtype(leaf.dtype, jnp.floating):
            others = tuple(i for i in range(leaf.ndim) if i != axis)
            found |= jnp.any(jnp.isnan(leaf), axis=others)
    return found


def finite(chains: Position) -> Array:
    """Return which chains have finite coordinates only, (n,) booleans.

    >>> import jax.numpy as jnp
    >>> finite(jnp.array([[1.0, 2.0], [jnp.inf, 0.0]])).tolist()
    [True, False]
    """
    check_chains(chains)
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(chains)]
    rows = [jnp.all(jnp.isfinite(x), axis=tuple(range(1, x.ndim))) for x in leaves]
    return jnp.all(jnp.stack(rows), axis=0)
