"""Samples in one call: warm-up, thinning and history, compiled."""

import functools
from typing import Any, NamedTuple

import jax

from ebm_jax import _checks
from ebm_jax._trees import check_chains
from ebm_jax.compilation import jit
from ebm_jax.samplers import chains
from ebm_jax.types import Key, Position, Sampler


class Samples(NamedTuple):
    """What ``sample`` returns.

    Attributes:
        position: the samples, with leading axes (num_samples, chains) on every leaf.
        info: what the sampler reports of the step to each sample, stacked in the same way.
        state: the last state of the sampler, to continue from with ``chains.run``.
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
    which every ``thin``-th is kept. This is the composition ::

        warmup_key, run_key = jax.random.split(key)
        state, _ = chains.run(warmup_key, sampler, sampler.init(positions), warmup)
        state, (position, info) = chains.run(
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
        ``chains.run``.

    Raises:
        TypeError: a sampler whose state has no field ``position``, or that cannot be hashed.
        ValueError: positions without chains.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> sampler = langevin.mala(lambda x: jnp.sum(x**2) / 2, step_size=0.5)
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
        state, _ = chains.run(warmup_key, sampler, state, warmup)
    state, (position, info) = chains.run(
        run_key,
        sampler,
        state,
        num_samples * thin,
        collect=lambda state, info: (state.position, info),
        thin=thin,
    )
    return Samples(position, info, state)
