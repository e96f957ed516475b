"""log Z from the weights of annealed chains, with its error, and as a bracket."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.partition.annealed import AnnealedState, _check_state
from ebm_jax.types import Array, Key


class Estimate(NamedTuple):
    """log Z, and how far to trust it: all ().

    Attributes:
        log_z: the estimate.
        standard_error: of log Z, to first order in that of Z; worthless where the effective
            sample size is small. NaN of one chain, as the interval is.
        interval: (2,), from a bootstrap over the chains.
        effective_sample_size: of how many independent chains of equal weight the answer is.
    """

    log_z: Array
    standard_error: Array
    interval: Array
    effective_sample_size: Array


def log_partition(
    key: Key, state: AnnealedState, *, confidence: float = 0.95, resamples: int = 1000
) -> Estimate:
    r"""Return log Z of where the chains are over where they started, from their weights.

        log Z = log mean w,   standard error = std(w) / (mean w sqrt n),   ESS = (sum w)^2 / sum w^2

    After resampling the chains are no longer independent, but families of one ancestor are: w is
    then the sum over a family (Chan and Lai 2013, A general theory of particle filters, Annals of
    Statistics 41(6)). When few families are left, trust neither.

    Args:
        key: a key of ``jax.random.key``, used once, for the bootstrap.
        state: the chains.
        confidence: of the interval, in (0, 1).
        resamples: of the bootstrap.

    Returns:
        ``Estimate``. It is of log Z(start) / Z(end) for chains that went back: see ``bracket``.

    Raises:
        ValueError: confidence outside (0, 1), resamples < 1. TypeError: what are no chains.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.partition.annealed import AnnealedState
    >>> index = jnp.arange(4)
    >>> state = AnnealedState(None, jnp.ones(()), jnp.zeros(4), index, jnp.zeros((), int))
    >>> found = log_partition(jax.random.key(0), state)
    >>> float(found.log_z), float(found.standard_error), float(found.effective_sample_size)
    (0.0, 0.0, 4.0)
    """
    _checks.one_key(key)
    _check_state("state", state)
    _checks.inside("confidence", confidence)
    resamples = _checks.count("resamples", resamples)
    num, highest = state.log_weights.shape[0], jnp.max(state.log_weights)
    shift = jnp.where(jnp.isfinite(highest), highest, 0.0)
    weights = jnp.exp(state.log_weights - shift)
    families = jax.ops.segment_sum(weights, state.ancestors, num)
    mean = jnp.mean(families)
    spread = jnp.sqrt(jnp.sum((families - mean) ** 2) / (num - 1) / num)

    def once(key: Key) -> Array:
        return jnp.mean(families[jax.random.randint(key, (num,), 0, num)])

    means = jax.lax.map(once, jax.random.split(key, resamples))
    tail = (1 - confidence) / 2
    interval = jnp.quantile(means, jnp.asarray([tail, 1 - tail]))
    interval = jnp.where(num > 1, interval, jnp.nan)  # one chain says nothing of the others
    size = jnp.sum(families) ** 2 / jnp.sum(families**2)
    return Estimate(jnp.log(mean) + shift, spread / mean, jnp.log(interval) + shift, size)


def bracket(
    key: Key, forward: AnnealedState, back: AnnealedState, *, confidence: float = 0.95
) -> tuple[Estimate, Estimate]:
    r"""Return log Z from below and from above: chains that went to the target, and back from it.

        E[log mean w] <= log Z <= E[-log mean w_back]

    The way back must start at exact samples of the target (or ones as good: long tempered runs).
    ``bridges.bennett`` makes one better estimate of both. Source: Grosse et al. (2015).

    Args:
        key: a key of ``jax.random.key``, used once.
        forward: chains from the base to the target.
        back: chains from the target to the base.
        confidence: of the intervals.

    Returns:
        (lower, upper), ``Estimate`` each, of log Z(target) / Z(base).

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.partition.annealed import AnnealedState
    >>> def weighted(log_weights):
    ...     return AnnealedState(None, jnp.ones(()), log_weights, jnp.arange(2), jnp.zeros((), int))
    >>> lower, upper = bracket(jax.random.key(0), weighted(jnp.zeros(2)), weighted(-jnp.ones(2)))
    >>> float(lower.log_z), float(upper.log_z)
    (0.0, 1.0)
    """
    _checks.one_key(key)
    for name, state in (("forward", forward), ("back", back)):
        _check_state(name, state)
    forward_key, back_key = jax.random.split(key)
    lower = log_partition(forward_key, forward, confidence=confidence)
    upper = log_partition(back_key, back, confidence=confidence)
    return lower, upper._replace(log_z=-upper.log_z, interval=-upper.interval[::-1])
