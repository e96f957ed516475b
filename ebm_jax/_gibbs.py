"""Sums over Gibbs distributions, stable for infinite energies and any beta.

The candidates are on the last axis after ``arrange``; sums keep that axis.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax._derivatives import expm1, zero_or_nan

_USUAL = (2.0**-10, 2.0**10)  # values of beta at which no limit is near


def arrange(energies, beta, axis, where, log_weights):
    """Check the arguments; return (energies, log_weights, beta), candidates last.

    Energies and log-weights are at least float32; a masked candidate has weight 0.
    """
    _checks.nonnegative("beta", beta)
    if not isinstance(axis, int) or isinstance(axis, bool):
        raise TypeError(f"axis must be one integer, got {axis!r}.")
    if not (energies.ndim and -energies.ndim <= axis < energies.ndim and energies.shape[axis]):
        raise ValueError(
            f"energies must have candidates on axis {axis}, got the shape {energies.shape}."
        )
    wide = jnp.promote_types(energies.dtype, jnp.float32)

    def last(name, value):
        _checks.fits(name, value, "energies", energies.shape)
        return jnp.moveaxis(jnp.broadcast_to(value, energies.shape), axis, -1)

    mask = _checks.array("where", True if where is None else where)
    if mask.dtype != bool:
        raise TypeError(f"where must be boolean, got {mask.dtype}.")
    log_w = _checks.array("log_weights", 0.0 if log_weights is None else log_weights).astype(wide)
    log_w = jnp.where(last("where", mask), last("log_weights", log_w), -jnp.inf)
    known = _checks.concrete(beta)
    if known is None:
        beta = jnp.asarray(beta, wide)
        beta = jnp.where(beta >= 0, beta, jnp.nan)
    else:  # stays in NumPy, so that its value is known under jit, too
        beta = np.asarray(known, wide)
    energies = jnp.moveaxis(energies.astype(wide), axis, -1)
    _checks.fits("beta", beta, "energies without their axis,", energies.shape[:-1])
    return energies, log_w, beta[..., None] if beta.ndim else beta


def prepare(energies, beta, axis, where, log_weights):
    """Return (gap, lowest, log_weights, beta, dtype), with the candidates last.

    gap = E - lowest >= 0, and +inf for a candidate without probability. ``lowest`` is a constant in
    the gradient: log Z = -beta lowest + log sum_i w_i exp(-beta gap_i) holds for any constant, so
    the gradient of the sum is the full gradient.
    """
    energies = _checks.floating("energies", energies)
    dtype = energies.dtype
    energies, log_w, beta = arrange(energies, beta, axis, where, log_weights)
    allowed = log_w != -jnp.inf
    lowest = jnp.min(
        jax.lax.stop_gradient(energies), axis=-1, keepdims=True, where=allowed, initial=jnp.inf
    )
    bounded = jnp.isfinite(lowest)
    usable = allowed & bounded & (energies < jnp.inf)
    # The inner where keeps infinite energies out of the arithmetic, and so out of its gradient.
    gap = jnp.where(usable, energies, 0.0) - jnp.where(bounded, lowest, 0.0)
    gap = jnp.where(
        usable,
        jnp.minimum(gap, jnp.finfo(gap.dtype).max),  # the difference may overflow
        jnp.where(allowed & (lowest == -jnp.inf) & (energies == -jnp.inf), 0.0, jnp.inf),
    )
    # Tested separately: XLA's minimum over many rows on CPU may skip a NaN.
    nan = (allowed & jnp.isnan(energies)) | jnp.isnan(log_w)
    nan = jnp.any(nan, axis=-1, keepdims=True)
    gap = jnp.where(allowed & nan, zero_or_nan(allowed & nan, energies), gap)
    return gap, jnp.where(nan, jnp.nan, lowest), log_w, beta, dtype


def usual(beta):
    """Return whether beta is known, and neither near 0 nor so large that it may be infinite."""
    known = _checks.concrete(beta)
    return known is not None and bool(np.all((_USUAL[0] <= known) & (known <= _USUAL[1])))


def logits(gap, log_w, beta):
    """Return -beta gap + log w, also at beta = 0 and inf; -inf without probability."""
    possible = gap != jnp.inf
    gap = jnp.where(possible, gap, 0.0)
    if usual(beta):
        log_w = jnp.where(log_w != -jnp.inf, log_w, 0.0)
        return jnp.where(possible, log_w - beta * gap, -jnp.inf)
    cold = beta == jnp.inf
    warm = -jnp.where(cold, 1.0, beta) * gap
    ground = jnp.where(gap > 0, -jnp.inf, 0.0 * gap)  # 0, or NaN
    log_w = jnp.where(log_w != -jnp.inf, log_w, 0.0)
    return jnp.where(possible, jnp.where(cold, ground, warm) + log_w, -jnp.inf)


def logsumexp(logits):
    """Return (a, b), where a + b is the logsumexp over the last axis, which is kept.

    a is the largest term, a constant; b is the contribution of the other terms, in full precision.
    An empty row gives (-inf, 0) and a zero gradient.
    """
    empty = jnp.all(logits == -jnp.inf, axis=-1, keepdims=True)
    logits = jnp.where(empty, 0.0, logits)
    index = jnp.expand_dims(jnp.arange(logits.shape[-1]), range(logits.ndim - 1))
    others = index != jnp.argmax(logits, axis=-1, keepdims=True)
    top = jnp.sum(jnp.where(others, 0.0, logits), axis=-1, keepdims=True)
    level = jax.lax.stop_gradient(top)
    rest = jnp.sum(jnp.where(others, jnp.exp(logits - level), 0.0), axis=-1, keepdims=True)
    # exp(top - level) is 1 and has the gradient of the largest term.
    excess = jnp.log1p(rest + jnp.expm1(top - level))
    return jnp.where(empty, -jnp.inf, level), jnp.where(empty, 0.0, excess)


def normalise(logits):
    """Return log P: logits minus their logsumexp over the last axis, keeping -inf."""
    level, excess = logsumexp(logits)
    possible = logits != -jnp.inf
    return jnp.where(possible, jnp.where(possible, logits, 0.0) - level - excess, -jnp.inf)


def log_probs(energies, beta, axis, where, log_weights):
    """Return (log P, log w, dtype), candidates last, at least float32."""
    gap, _, log_w, beta, dtype = prepare(energies, beta, axis, where, log_weights)
    return normalise(logits(gap, log_w, beta)), log_w, dtype


def soft_gap(gap, log_w, log_total, beta, log_scale):
    """Return -1/beta log [scale sum_i w_i exp(-beta gap_i) / sum_i w_i].

    It is stable for any beta. A scale of 1 gives the mean form, the total weight the sum form.
    """
    possible = gap != jnp.inf
    share = jnp.where(possible, jnp.exp(log_w - log_total), 0.0)
    gap0 = jnp.where(possible, gap, 0.0)
    if usual(beta):
        return -_log_mean(gap, gap0, share, log_w, log_total, beta, log_scale) / beta
    cold = beta == jnp.inf
    # Cumulants for beta near 0, where the difference of logarithms cancels; the bound keeps the
    # first omitted cumulant below the rounding error.
    bound = (24 * float(jnp.finfo(gap.dtype).eps)) ** (1 / 3)
    hot = beta * jnp.max(gap0, axis=-1, keepdims=True) < bound
    series = _cumulants(gap0, share, jnp.where(hot & ~cold, beta, 0.0))
    b = jnp.where(cold | (beta == 0), 1.0, beta)
    limit = jnp.where(log_scale > 0, jnp.inf, jnp.where(log_scale < 0, -jnp.inf, log_scale))
    series = series - jnp.where(beta == 0, limit, log_scale / b)
    warm = -_log_mean(gap, gap0, share, log_w, log_total, b, log_scale) / b
    ground = _zero_temperature_gap(gap0, logits(gap, log_w, jnp.asarray(jnp.inf)))
    return jnp.where(cold, ground, jnp.where(hot, series, warm))


def _log_mean(gap, gap0, share, log_w, log_total, beta, log_scale):
    """Return log [scale sum_i w_i exp(-beta gap_i) / sum_i w_i] for a finite beta > 0.

    It is log1p(mean(expm1)) if the mean is near 1, and logsumexp if it is small.
    """
    shrink = _mean(share, expm1(-beta * gap0))
    near = shrink > -0.25
    log_mean = jnp.log1p(jnp.where(near, shrink, 0.0)) + log_scale
    log_sum = sum(logsumexp(logits(gap, log_w, beta))) + (log_scale - log_total)
    return jnp.where(near, log_mean, log_sum)


def _mean(share, values):
    return jnp.sum(share * values, axis=-1, keepdims=True)


def _cumulants(gap, share, beta):
    """Return -1/beta log <exp(-beta gap)> up to the third cumulant."""
    mean_gap = _mean(share, gap)
    d = gap - mean_gap
    small = beta * d
    return mean_gap + _mean(share, d * (small**2 / 6 - small / 2))


def _zero_temperature_gap(gap, cold_logits):
    """Return 0 = min gap, with the gradient at beta = inf: uniform over ties."""
    return _mean(jax.lax.stop_gradient(jnp.exp(normalise(cold_logits))), gap)
