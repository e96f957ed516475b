r"""Find the step size at which a sampler accepts as often as it should, by dual averaging.

    log h_t = mu - sqrt(t) / (gamma (t + t_0)) sum_{s <= t} (target - a_s)

where a_s is the mean acceptance of all chains in step s; the answer is a weighted average of
the log h_t. Source: Hoffman and Gelman (2014), The No-U-Turn sampler, JMLR 15, section 3.2.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import check_chains, finite_chains, has_nan
from ebm_jax.samplers import running
from ebm_jax.types import Array, Energy, Key, MakeSampler, Position

_REACH, _DELAY, _DECAY = 0.05, 10.0, 0.75  # gamma, t_0, kappa of the source


class Tuned(NamedTuple):
    """What ``adapt_step_size`` found.

    Attributes:
        step_size: the step size, shaped like the initial one; NaN where no chain accepted anything.
        position: where the chains are now.
        acceptance_rate: mean acceptance of the chains without a NaN in every step, (num_steps,).
    """

    step_size: Array
    position: Position
    acceptance_rate: Array


def adapt_step_size(
    key: Key,
    energy: Energy,
    make_sampler: MakeSampler,
    position: Position,
    num_steps: int,
    *,
    initial: ArrayLike,
    target: float = 0.574,
) -> Tuned:
    r"""Return the step size at which the chains' mean acceptance is ``target``.

    The chains run while the step size changes, so these steps are warm-up: the samples to keep
    come from a sampler made with the step size found, from the positions found. All chains
    share one step size. Step t uses the key ``fold_in(key, t)``. Compile it with
    ``ebm_jax.jit``.

    A chain with a NaN in its state accepts nothing at any step size, so it is left out of the
    mean. Where no chain accepted anything in all steps there is no such step size: it is NaN.

    Args:
        key: a key of ``jax.random.key``, used once.
        energy: E(x) -> (), one configuration in.
        make_sampler: called as ``make_sampler(energy, step_size=h)``: ``samplers.mala``, or with
            other options bound; blackjax's kernels too. Its info has a field ``acceptance_rate``,
            and its state must not depend on h.
        position: where the chains start, the chains on the leading axis.
        num_steps: steps of warm-up, >= 1; some hundreds.
        initial: step size > 0 to start from. Where it is an array per dimension, their ratios
            stay: only its scale is found.
        target: mean acceptance in (0, 1). 0.574 is the best of MALA in many dimensions
            (Roberts and Rosenthal 1998); 0.651 of HMC (Beskos et al. 2013).

    Returns:
        ``Tuned``: the step size, the positions, the acceptance rates.

    Raises:
        ValueError: initial <= 0 or NaN, a target outside (0, 1), num_steps < 1, several keys.
        TypeError: a sampler that accepts everything: its info has no acceptance_rate.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> start = jax.random.normal(jax.random.key(0), (100, 10))
    >>> energy = lambda x: jnp.sum(x**2) / 2
    >>> tuned = adapt_step_size(jax.random.key(1), energy, samplers.mala, start, 200, initial=1e-3)
    >>> bool(jnp.abs(tuned.acceptance_rate[100:].mean() - 0.574) < 0.05)
    True
    """
    _checks.one_key(key)
    _checks.positive("initial", initial)
    num_steps = _checks.count("num_steps", num_steps)
    _checks.function("energy", energy)
    _checks.function("make_sampler", make_sampler)
    _checks.inside("target", target)
    initial = jnp.asarray(initial)
    centre = jnp.log(10.0)  # steps ten times the first are tried early on

    def one(carry, _):
        state, t, log_factor, error, average = carry
        sampler = make_sampler(energy, step_size=initial * jnp.exp(log_factor))
        state, info = sampler.step(jax.random.fold_in(key, t.astype(jnp.int32)), state)
        rates = _acceptance_rate(info)
        sound = finite_chains(state.position) & ~has_nan(state, axes, num)
        accepted = jnp.mean(rates, where=sound if rates.shape == sound.shape else None)
        t = t + 1
        error = error + target - jnp.where(jnp.isnan(accepted), 0.0, accepted)
        log_factor = centre - jnp.sqrt(t) / (_REACH * (t + _DELAY)) * error
        weight = t**-_DECAY
        average = weight * log_factor + (1 - weight) * average
        return (state, t, log_factor, error, average), accepted

    first = make_sampler(energy, step_size=initial)
    sampler = _checks.sampler("What make_sampler returns", first)
    num, axes = check_chains(position), running.chain_axes(sampler, position)
    state = sampler.init(position)
    zero = _zero_that_varies_as(state)
    (state, _, _, _, average), history = jax.lax.scan(
        one, (state, zero, zero, zero, zero), length=num_steps
    )
    moved = jnp.any(history > 0)
    return Tuned(initial * jnp.exp(jnp.where(moved, average, jnp.nan)), state.position, history)


def _acceptance_rate(info: Any) -> Array:
    rates = getattr(info, "acceptance_rate", None)
    if rates is None:
        raise TypeError(
            "make_sampler must return a sampler that accepts or rejects, whose info has a field "
            f"acceptance_rate; got {type(info).__name__}."
        )
    return _checks.array("acceptance_rate", rates)


def _zero_that_varies_as(state: Any) -> Array:
    """Return 0, under shard_map one a device where the chains are: each finds its own step size."""
    leaf = jnp.ravel(jax.tree.leaves(state)[0])[0]
    return jnp.where(leaf == leaf, 0.0, 0.0)
