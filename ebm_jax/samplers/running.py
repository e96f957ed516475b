"""Functions that run chains: ``sample``, which is compiled, and ``run``.

``run`` is not compiled, so it can be used inside ``jit``, ``vmap`` or ``scan``. Compile the
function that calls it with ``ebm_jax.jit``.
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
    """The result of ``sample``.

    Attributes:
        position: samples, with leading axes (num_samples, chains) on every leaf.
        info: the sampler's info for each sample, stacked in the same way.
        state: last state of the sampler, to continue from with ``samplers.run``.
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
    """Run a sampler from the given positions and return samples of every chain.

    All chains make ``warmup`` steps, which are discarded, and then ``num_samples * thin`` steps, of
    which every ``thin``-th is kept. For ``warmup >= 1`` the function is equivalent to the
    following; for 0 it omits the second line::

        warmup_key, run_key = jax.random.split(key)
        state, _ = run(warmup_key, sampler, sampler.init(positions), warmup)
        state, (position, info) = run(
            run_key, sampler, state, num_samples * thin, thin=thin,
            collect=lambda state, info: (state.position, info),
        )

    It is compiled once for each sampler, shape of the positions and set of counts. Construct the
    sampler once and pass the same object again, so that a second call does not compile. If the
    energy changes, as its parameters do in training, call ``sample`` inside a jitted function of
    the parameters.

    Args:
        key: a key of ``jax.random.key``, used once.
        sampler: a sampler; vmapped kernels of blackjax too.
        positions: initial positions, with the chains on the leading axis of every leaf.
        num_samples: number of samples to keep per chain, >= 1.
        warmup: number of steps to discard first, >= 0.
        thin: number of steps per sample, >= 1.

    Returns:
        ``Samples(position, info, state)``. To keep less, or to continue from ``state``, call
        ``samplers.run``.

    Raises:
        TypeError: if the state of the sampler has no field ``position``, or the sampler cannot be
            hashed.
        ValueError: if positions have no common leading axis.

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
            "sampler must have states with a field position, as the samplers of ebm_jax and "
            f"blackjax do; got a state {type(state).__name__}."
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
    """Advance all chains by ``num_steps`` steps, in one ``lax.scan``.

    Step t uses the key ``fold_in(key, t)``, so ``thin`` and ``collect`` do not change the chains.
    Memory does not grow with the number of steps unless ``collect`` keeps something. Chains may be
    sharded over devices along their leading axis: every chain gets the same noise on any number of
    devices. Results are bit-for-bit identical if every device has a multiple of 16 chains, since
    compilers treat the ends of vectors differently.

    Args:
        key: a key of ``jax.random.key``, used once.
        sampler: any ``(init, step)`` over a batch of chains; vmapped kernels of blackjax too.
        state: state of the chains, from ``sampler.init(positions)`` or an earlier run.
        num_steps: number of steps, >= 1; a multiple of ``thin``.
        collect: function (state, info) -> pytree to keep after every ``thin`` steps, stacked on a
            new leading axis: ``lambda state, info: state.position`` keeps the positions. None keeps
            nothing.
        thin: number of steps between two calls of ``collect``, >= 1.

    Returns:
        The last state, and the stacked results of ``collect`` (None without it).

    Raises:
        TypeError: if state is not a state of the sampler, key not a key, or num_steps not an
            integer that is known during tracing.
        ValueError: if num_steps < 1, or it is not a multiple of thin.

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

    # The step number is carried: scanning over an arange would take memory for every step.
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
    """Reject values, such as positions, that are not a state of the sampler."""
    try:
        jax.eval_shape(sampler.step, key, state)
    except (AttributeError, TypeError) as error:
        raise TypeError(
            "samplers.run takes a state, such as sampler.init(positions); got "
            f"{type(state).__name__} ({error})."
        ) from error


def refresh(sampler: Sampler, state: Any) -> Any:
    """Return the state of a sampler, updated for a new energy or position.

    All values that depend on the energy are computed again; velocities, replicas and step counts
    are kept.
    Persistent chains need it after every update of the parameters, annealed chains at every
    temperature.

    Args:
        sampler: sampler for the new energy. Kernels of blackjax, which have no ``refresh``, start
            again at ``init(state.position)``.
        state: state of a sampler of the same kind.

    Returns:
        The refreshed state.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> old, new = (samplers.mala(lambda x, k=k: k * x**2 / 2, step_size=0.1) for k in (1.0, 3.0))
    >>> refresh(new, old.init(jnp.ones(2))).energy.tolist()
    [1.5, 1.5]
    """
    _checks.sampler("sampler", sampler)
    if not hasattr(state, "position"):
        raise TypeError(
            "samplers.refresh takes a state with a field position, sampler.init(positions); got "
            f"{type(state).__name__}."
        )
    own = getattr(sampler, "refresh", None)
    return sampler.init(state.position) if own is None else own(state)


def chain_axes(sampler: Sampler, position: Position) -> PyTree:
    """Return the axis of the chains in every leaf of a sampler's state.

    The axes follow from the shapes of ``sampler.init`` for one more chain; nothing is computed.

    Args:
        sampler: a sampler.
        position: positions, with the chains on the leading axis.

    Returns:
        A pytree of integers like the state: -1 for a leaf without chains, such as a step count.

    >>> import jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> axes = chain_axes(samplers.ula(lambda x: jnp.sum(x**2), step_size=0.1), jnp.zeros((5, 2)))
    >>> axes.position, axes.step
    (0, -1)
    """
    return _trees.chain_axes(_checks.sampler("sampler", sampler).init, position)
