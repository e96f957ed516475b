r"""Adaptation of the step size to a target acceptance rate, by dual averaging.

.. math:: \log h_{t+1} = \mu - \frac{\sqrt{t}}{\gamma (t + t_0)} \sum_{s=1}^t (\alpha - a_s)

where :math:`h_s` is the step size of step s, :math:`a_s` the mean acceptance rate of all chains in
that step, :math:`\alpha` the target, :math:`\mu = \log(10 h_1)`, :math:`\gamma = 0.05` and
:math:`t_0 = 10`. The result is the exponential of a mean of the :math:`\log h_t` that gives late
steps more weight. Source: Hoffman and Gelman (2014), The No-U-Turn sampler, JMLR 15, section 3.2.
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
    """The result of ``adapt_step_size``.

    Attributes:
        step_size: step size, with the shape of the initial one; NaN if no chain accepted any
            proposal.
        position: final positions of the chains.
        acceptance_rate: mean acceptance rate in each step, (num_steps,), over the chains without a
            NaN.
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
    """Find the step size at which the mean acceptance rate is ``target``.

    The step size changes while the chains run, so these steps are warm-up: construct a sampler with
    the step size returned and start it from the positions returned. All chains share one step size.
    Step t uses the key ``fold_in(key, t)``. Compile the call with ``ebm_jax.jit``.

    A chain with a NaN in its state is excluded from the mean. If no chain accepts any proposal, the
    step size is NaN.

    Args:
        key: a key of ``jax.random.key``, used once.
        energy: function x -> () of one configuration.
        make_sampler: called as ``make_sampler(energy, step_size=h)``: ``samplers.mala``, also with
            other options bound, or a kernel of blackjax. Its info has a field ``acceptance_rate``,
            and its state must not depend on h.
        position: initial positions, with the chains on the leading axis.
        num_steps: number of warm-up steps, >= 1; some hundreds.
        initial: initial step size > 0. For an array with one step size per dimension, the
            adaptation keeps their ratios.
        target: mean acceptance rate in (0, 1). In many dimensions 0.574 is optimal for MALA
            (Roberts and Rosenthal 1998) and 0.651 for HMC (Beskos et al. 2013).

    Returns:
        ``Tuned``: the step size, the positions, the acceptance rates.

    Raises:
        TypeError: if the info of the sampler has no field ``acceptance_rate``.
        ValueError: if initial is not > 0, target is outside (0, 1), or num_steps < 1.

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
    centre = jnp.log(10.0)  # early on, it tries ten times the initial step size

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
    """Return 0; under shard_map one per device that holds chains.

    Each device then finds its own step size.
    """
    leaf = jnp.ravel(jax.tree.leaves(state)[0])[0]
    return jnp.where(leaf == leaf, 0.0, 0.0)
