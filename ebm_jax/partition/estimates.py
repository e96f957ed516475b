"""Estimates of log Z from the weights of annealed chains, with their errors."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.partition.annealed import AnnealedState
from ebm_jax.types import Array, Key


class Estimate(NamedTuple):
    """An estimate of log Z and its uncertainty.

    Attributes:
        log_z: estimate of log Z, ().
        standard_error: standard error of log Z, to first order in that of Z, (); unreliable if the
            effective sample size is small. For one chain or one group of resampled chains, it and
            the interval are NaN.
        interval: confidence interval, (2,), from a studentised bootstrap over the chains (over the
            groups of resampled chains). With fewer than about 10 groups it is wide, or infinite.
        effective_sample_size: the equivalent number of equally weighted, independent chains
            (groups of resampled chains). Below 20 the estimate is unreliable.
        upper: the ``Estimate`` from chains that ran from samples of the target to the base, if
            ``annealed_importance_sampling`` has such samples.
    """

    log_z: Array
    standard_error: Array
    interval: Array
    effective_sample_size: Array
    upper: Any = None


def log_partition(
    key: Key, state: AnnealedState, *, confidence: float = 0.95, resamples: int = 1000
) -> Estimate:
    r"""Return log Z of the chains, relative to their start, from their weights.

    .. math:: \log Z = \log \bar w, \qquad \text{standard error} = \frac{s_w}{\bar w \sqrt{n}},
        \qquad \text{ESS} = \frac{(\sum w)^2}{\sum w^2}

    with the mean :math:`\bar w` and standard deviation :math:`s_w` of the n weights of independent
    chains. After resampling, the groups of ``annealed.anneal`` are the independent units, and w is
    the mean weight of a group. The interval is :math:`\log Z - q \, s_w / (\bar w \sqrt{n})`, with
    the quantiles q of the studentised error of :math:`\log \bar w` over bootstrap samples. Source:
    P. Hall (1988), Theoretical comparison of bootstrap confidence intervals, Annals of Statistics
    16(3).

    Args:
        key: a key of ``jax.random.key``, used once, for the bootstrap.
        state: state of the annealed chains.
        confidence: confidence level of the interval, in (0, 1).
        resamples: number of bootstrap samples, >= 1.

    Returns:
        ``Estimate``. For chains that ran from the target to the base it estimates log Z(base) /
        Z(target): see ``bracket``.

    Raises:
        TypeError: if state is not an ``AnnealedState``.
        ValueError: if confidence is outside (0, 1), resamples < 1, or chains were resampled in one
            group (under ``jit`` the error and the interval are NaN).

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.partition.annealed import AnnealedState
    >>> index = jnp.arange(4)
    >>> state = AnnealedState(None, jnp.ones(()), jnp.zeros(4), index, jnp.zeros((), int))
    >>> estimate = log_partition(jax.random.key(0), state)
    >>> float(estimate.log_z), float(estimate.standard_error), float(estimate.effective_sample_size)
    (0.0, 0.0, 4.0)
    """
    _checks.one_key(key)
    _checks.state("state", state, AnnealedState)
    _checks.inside("confidence", confidence)
    resamples = _checks.count("resamples", resamples)
    num, highest = state.log_weights.shape[0], jnp.max(state.log_weights)
    known = _checks.concrete(state.groups)
    if known is not None and num > 1 and not known.any():
        raise ValueError(
            f"state must have independent chains or several groups of them, got {num} chains "
            "resampled in one group, whose error is not known: pass groups=20 to annealed.anneal, "
            "say. The estimate without an error is log_z[-1] of its AnnealedInfo."
        )
    shift = jnp.where(jnp.isfinite(highest), highest, 0.0)
    units = jax.ops.segment_sum(jnp.exp(state.log_weights - shift), state.groups, num)
    count = jnp.max(state.groups) + 1  # of units; the rest are empty
    n = count.astype(units.dtype)
    units = units * (n / num)  # the groups' means
    inside = jnp.arange(num) < count

    def summary(units: Array) -> tuple[Array, Array]:
        """Return the mean and its relative standard error."""
        mean = jnp.sum(units, where=inside) / n
        squares = jnp.sum(jnp.square(units - mean), where=inside)
        # NaN for one unit, also where rounding leaves a square that is not 0.
        return mean, jnp.sqrt(squares / jnp.where(n > 1, n - 1, jnp.nan) / n) / mean

    mean, error = summary(units)

    def once(key: Key) -> Array:
        drawn, spread = summary(units[jax.random.randint(key, (num,), 0, count)])
        excess = jnp.log(drawn / mean)
        return jnp.where(spread > 0, excess / spread, jnp.sign(excess) * jnp.inf)

    studentised = jax.lax.map(once, jax.random.split(key, resamples))
    # 0 / 0 if all units are equal. An interval may end at infinity, so quantiles must be order
    # statistics, without interpolation.
    studentised = jnp.nan_to_num(studentised, nan=0.0, posinf=jnp.inf, neginf=-jnp.inf)
    tail = (1 - confidence) / 2
    high, low = jnp.quantile(studentised, jnp.asarray([tail, 1 - tail]), method="nearest")
    log_z = jnp.log(mean) + shift
    size = jnp.sum(units) ** 2 / jnp.sum(units**2)
    return Estimate(log_z, error, log_z - error * jnp.stack([low, high]), size)


def bracket(
    key: Key, forward: AnnealedState, back: AnnealedState, *, confidence: float = 0.95
) -> tuple[Estimate, Estimate]:
    r"""Return estimates of log Z that are below and above it in expectation.

    .. math:: \mathbb{E}[\log \bar w] \le \log Z \le \mathbb{E}[-\log \bar w_\text{back}]

    Z is the ratio Z(target) / Z(base). The upper bound holds if the chains of ``back`` start at
    exact samples of the target. With samples from a long run it holds approximately. Without
    resampling, ``bridges.bennett`` combines both into one better estimate. Source: Grosse et al.
    (2015).

    Args:
        key: a key of ``jax.random.key``, used once.
        forward: state of chains annealed from the base to the target.
        back: state of chains annealed from the target to the base.
        confidence: confidence level of the intervals, in (0, 1).

    Returns:
        (lower, upper), an ``Estimate`` each, of log Z(target) / Z(base).

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
        _checks.state(name, state, AnnealedState)
    forward_key, back_key = jax.random.split(key)
    lower = log_partition(forward_key, forward, confidence=confidence)
    upper = log_partition(back_key, back, confidence=confidence)
    return lower, upper._replace(log_z=-upper.log_z, interval=-upper.interval[::-1])


def hull(lower: Estimate, upper: Estimate) -> Array:
    r"""Return the smallest interval that contains the intervals of both estimates.

    .. math:: [\min(a_1, a_2), \max(b_1, b_2)]

    for the intervals :math:`[a_1, b_1]` and :math:`[a_2, b_2]`. If :math:`a_1 > b_2`, the estimates
    of ``bracket`` contradict each other, for example where the chains in one direction missed a
    mode. The interval may then not contain log Z.

    Args:
        lower: an ``Estimate``; its interval can have leading axes, (..., 2).
        upper: another ``Estimate``, of the same shape.

    Returns:
        The interval, (..., 2).

    Raises:
        TypeError: if lower or upper is not an ``Estimate``.

    >>> import jax.numpy as jnp
    >>> lower = Estimate(1.0, 0.1, jnp.array([0.8, 1.2]), 50.0)
    >>> upper = Estimate(0.5, 0.2, jnp.array([0.1, 0.9]), 50.0)
    >>> hull(lower, upper).tolist() == jnp.array([0.1, 1.2]).tolist()
    True
    """
    for name, estimate in (("lower", lower), ("upper", upper)):
        _checks.state(name, estimate, Estimate)
    first, second = jnp.asarray(lower.interval), jnp.asarray(upper.interval)
    low = jnp.minimum(first[..., 0], second[..., 0])
    high = jnp.maximum(first[..., 1], second[..., 1])
    return jnp.stack([low, high], axis=-1)
