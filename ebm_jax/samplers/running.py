r"""Run many chains: ``sample`` in one compiled call, ``run`` as a part of your own function.

``run`` is not compiled, so it nests in any ``jit``, ``vmap`` or ``scan``. Compile the function that
calls it with ``ebm_jax.jit``.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks, _trees
from ebm_jax._trees import check_chains
from ebm_jax.compilation import jit
from ebm_jax.types import Key, Position, PyTree, Sampler


class Samples(NamedTuple):
    """What ``sample`` returns.

    Attributes:
        position: the samples, with leading axes (num_samples, chains) on every leaf.
        info: what the sampler reports of the step to each sample, stacked in the same way.
        state: the last state of the sampler, to continue from with ``samplers.run``.
    """

    position: Position
    info: Any
    state: Any


def sample(
    key: Key,
    sampler: Sampler,
    positions: Position,
    num_samples: int,
    *,
    warmup: int = 0,
    thin: int = 1,
) -> Samples:
    r"""Run a sampler from the positions, and return the samples of every chain.

    All chains make ``warmup`` steps, which are dropped, and then ``num_samples * thin`` steps, of
    which every ``thin``-th is kept. This is the composition

        warmup_key, run_key = jax.random.split(key)
        state, _ = run(warmup_key, sampler, sampler.init(positions), warmup)
        state, (position, info) = run(
            run_key, sampler, state, num_samples * thin, thin=thin,
            collect=lambda state, info: (state.position, info),
        )

    compiled once for each sampler, shape of positions and set of counts. Construct the sampler once
    and pass the same one again: a second call then does not compile. Where the energy changes, as
    its parameters do while training, call this inside a jitted function of the parameters.

    Args:
        key: a key of ``jax.random.key``, used once.
        sampler: the sampler; vmapped kernels of blackjax too.
        positions: where the chains start, the chains on the leading axis of every leaf.
        num_samples: how many samples to keep of every chain, >= 1.
        warmup: how many steps to make first, >= 0.
        thin: how many steps to make for each sample, >= 1.

    Returns:
        ``Samples(position, info, state)``. To keep less, or to continue from ``state``, call
        ``samplers.run``.

    Raises:
        TypeError: a sampler whose state has no field ``position``, or that cannot be hashed.
        ValueError: positions without chains.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> sampler = samplers.mala(lambda x: jnp.sum(x**2) / 2, step_size=0.5)
    >>> samples = sample(jax.random.key(0), sampler, jnp.zeros((4, 2)), 100, warmup=50, thin=2)
    >>> samples.position.shape, samples.info.accepted.shape
    ((100, 4, 2), (100, 4))
    """
    _checks.one_key(key)
    _checks.sampler("sampler", sampler)
    _checks.hashable("sampler", sampler)
    check_chains(positions)
    for leaf in jax.tree.leaves(positions):
        _checks.array("positions", leaf)
    num_samples = _checks.count("num_samples", num_samples)
    warmup = _checks.count("warmup", warmup, least=0)
    return _sample(key, positions, sampler, num_samples, warmup, _checks.count("thin", thin))


@functools.partial(jit, static_argnums=(2, 3, 4, 5))
def _sample(
    key: Key, positions: Position, sampler: Sampler, num_samples: int, warmup: int, thin: int
) -> Samples:
    warmup_key, run_key = jax.random.split(key)
    state = sampler.init(positions)
    if not hasattr(state, "position"):
        raise TypeError(
            "sampler must have states with a field position, as blackjax's and ours do; got a "
            f"state {type(state).__name__}."
        )
    if warmup:
        state, _ = run(warmup_key, sampler, state, warmup)
    state, (position, info) = run(
        run_key,
        sampler,
        state,
        num_samples * thin,
        collect=lambda state, info: (state.position, info),
        thin=thin,
    )
    return Samples(position, info, state)


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
    >>> from ebm_jax import samplers
    >>> sampler = samplers.ula(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
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
    """Reject anything that is not a state of the sampler; most likely it is positions."""
    try:
        jax.eval_shape(sampler.step, key, state)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            "samplers.run takes a state, sampler.init(positions), where chains go on from; got "
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
    >>> from ebm_jax import samplers
    >>> old, new = (samplers.mala(lambda x, k=k: k * x**2 / 2, step_size=0.1) for k in (1.0, 3.0))
    >>> refresh(new, old.init(jnp.ones(2))).energy.tolist()
    [1.5, 1.5]
    """
    _checks.sampler("sampler", sampler)
    if not hasattr(state, "position"):
        raise TypeError(
            "samplers.refresh takes a state, sampler.init(positions), with a field position; got "
            f"{type(state).__name__}."
        )
    own = getattr(sampler, "refresh", None)
    return sampler.init(state.position) if own is None else own(state)


def chain_axes(sampler: Sampler, position: Position) -> PyTree:
    r"""Return where the chains are in a sampler's state: the axis of every leaf, or -1.

    Found from the shapes of ``sampler.init`` with one chain more; nothing is computed.

    Args:
        sampler: the sampler.
        position: positions, the chains on the leading axis.

    Returns:
        A pytree like the state, of integers: -1 for a leaf without chains, such as a step count.

    >>> import jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> found = chain_axes(samplers.ula(lambda x: jnp.sum(x**2), step_size=0.1), jnp.zeros((5, 2)))
    >>> found.position, found.step
    (0, -1)
    """
    return _trees.chain_axes(_checks.sampler("sampler", sampler).init, position)
