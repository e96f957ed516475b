r"""From energies to probabilities, over a finite axis, always by logsumexp.

    P(i) = w_i exp(-beta E_i) / Z,      Z = sum_i w_i exp(-beta E_i)

Conventions that every function here shares:

* ``energies`` is a floating array; the candidates lie on ``axis``. bfloat16 and float16 are
  computed in float32 and returned in their own type.
* ``beta`` is a scalar, or an array that broadcasts against the result. ``beta = 0`` and
  ``beta = inf`` are the limits from above and from below: uniform over the allowed
  candidates, and uniform over the candidates of lowest energy.
* ``where`` is True for the candidates that exist. ``log_weights`` are log w_i: with the log
  cell volumes of a grid every sum is an integral. A weight of zero is a mask.
* An energy of +inf is a candidate that is not allowed, at every beta; energies of -inf take
  all the probability. Gradients with respect to masked and infinite entries are zero.
* Where no candidate is allowed: log Z = -inf, free energy = +inf, probabilities = 0,
  entropy = 0, expectation = 0, and ``sample`` returns -1.
* A NaN energy is returned as NaN, never hidden.
"""

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.types import Array, Key


def _arrange(energies, beta, axis, where, log_weights):
    """Check the arguments; return (energies, log_weights, beta), the candidates on the last axis.

    Energies and log-weights come at least as wide as float32; a masked candidate has weight 0.
    """
    _checks.nonnegative("beta", beta)
    if not (energies.ndim and -energies.ndim <= axis < energies.ndim and energies.shape[axis]):
        raise ValueError(
            f"energies must have candidates on axis {axis}, got the shape {energies.shape}."
        )
    wide = jnp.promote_types(energies.dtype, jnp.float32)

    def last(name, value):
        if _checks.broadcastable(**{"energies": energies, name: value}) != energies.shape:
            raise ValueError(f"{name} {value.shape} must broadcast to energies {energies.shape}.")
        return jnp.moveaxis(jnp.broadcast_to(value, energies.shape), axis, -1)

    mask = jnp.asarray(True if where is None else where)
    if mask.dtype != bool:
        raise TypeError(f"where must be boolean, got {mask.dtype}.")
    log_w = jnp.asarray(0.0 if log_weights is None else log_weights, wide)
    log_w = jnp.where(last("where", mask), last("log_weights", log_w), -jnp.inf)
    beta = jnp.asarray(beta, wide)
    energies = jnp.moveaxis(energies.astype(wide), axis, -1)
    if beta.ndim:
        if jnp.broadcast_shapes(beta.shape, energies.shape[:-1]) != energies.shape[:-1]:
            raise ValueError(f"beta {beta.shape} must broadcast to {energies.shape[:-1]}.")
        beta = beta[..., None]
    return energies, log_w, beta


def _prepare(energies, beta, axis, where, log_weights):
    """Return (gap, lowest, log_weights, beta, dtype), the candidates moved to the last axis.

    gap = E - lowest >= 0, and +inf where a candidate has no probability. ``lowest`` is a
    constant to the gradient: log Z = -beta lowest + log sum_i w_i exp(-beta gap_i) holds for
    any constant, so the gradient of the sum alone is the whole gradient.
    """
    energies = _checks.floating("energies", energies)
    dtype = energies.dtype
    energies, log_w, beta = _arrange(energies, beta, axis, where, log_weights)
    allowed = log_w > -jnp.inf
    lowest = jnp.min(
        jax.lax.stop_gradient(energies), axis=-1, keepdims=True, where=allowed, initial=jnp.inf
    )
    bounded = jnp.isfinite(lowest)
    usable = allowed & bounded & (energies < jnp.inf)
    # The inner where keeps infinite energies out of the arithmetic, and so out of its gradient.
    gap = jnp.where(
        usable,
        jnp.where(usable, energies, 0.0) - jnp.where(bounded, lowest, 0.0),
        jnp.where(allowed & (lowest == -jnp.inf) & (energies == -jnp.inf), 0.0, jnp.inf),
    )
    gap = jnp.where(allowed & jnp.isnan(lowest), jnp.nan, gap)
    return gap, lowest, log_w, beta, dtype


def _logits(gap, log_w, beta):
    """Return -beta gap + log w, right at beta = 0 and inf, -inf where there is no mass."""
    cold = beta == jnp.inf
    warm_beta = jnp.where(cold, 1.0, beta)
    possible = gap < jnp.inf
    warm = -warm_beta * jnp.where(possible, gap, 0.0)
    logits = jnp.where(cold, jnp.where(gap > 0, -jnp.inf, 0.0), warm)
    log_w = jnp.where(log_w > -jnp.inf, log_w, 0.0)
    logits = jnp.where(possible, logits + log_w, -jnp.inf)
    return jnp.where(jnp.isnan(gap), jnp.nan, logits)


def _logsumexp(logits):
    """Logsumexp over the last axis, keeping it; -inf with zero gradient for an empty row."""
    empty = jnp.all(logits == -jnp.inf, axis=-1, keepdims=True)
    total = jax.nn.logsumexp(jnp.where(empty, 0.0, logits), axis=-1, keepdims=True)
    return jnp.where(empty, -jnp.inf, total)


def log_partition(energies, *, beta=1.0, axis: int = -1, where=None, log_weights=None) -> Array:
    r"""Return the log partition function of the Gibbs distribution.

        log Z = log sum_i w_i exp(-beta E_i)

    Source: LeCun et al. (2006), A tutorial on energy-based learning, section 1.3.

    Args:
        energies: floating array, any shape; candidates on ``axis``.
        beta: inverse temperature >= 0, in 1/energy; scalar or broadcasting to the result.
        axis: the axis of the candidates.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log w_i, broadcasting to ``energies``; log cell volumes make an integral.

    Returns:
        The shape of ``energies`` without ``axis``. At beta = inf the limit: -inf, log of the
        weight at energy 0, or +inf, as the lowest energy is positive, zero or negative.

    Raises:
        TypeError: integer energies. ValueError: negative beta, shapes that do not broadcast.

    >>> import jax.numpy as jnp
    >>> float(log_partition(jnp.array([1000.0, 1000.0])))  # log 2 - 1000, no overflow
    -999.306...
    """
    gap, lowest, log_w, beta, dtype = _prepare(energies, beta, axis, where, log_weights)
    total = _logsumexp(_logits(gap, log_w, beta))
    level = jnp.isinf(lowest) | (lowest == 0)
    scaled = jnp.where(
        level,
        jnp.where(lowest == 0, 0.0, -lowest),
        -beta * jnp.where(level, 1.0, lowest),
    )
    # The lowest energy and the sum may be infinite, never with opposite signs.
    return jnp.squeeze(scaled + total, -1).astype(dtype)


def free_energy(
    energies, *, beta=1.0, axis: int = -1, where=None, log_weights=None, mean: bool = False
) -> Array:
    r"""Return the free energy, a soft minimum that becomes the minimum at beta = inf.

        F_beta = -1/beta log sum_i w_i exp(-beta E_i)                       (sum form)
        F_beta = -1/beta log [sum_i w_i exp(-beta E_i) / sum_i w_i]         (mean form)

    Source: LeCun et al. (2006), eq. 5 (marginalisation over a latent variable).

    Args:
        energies: floating array, any shape; candidates on ``axis``.
        beta: inverse temperature >= 0, in 1/energy; scalar or broadcasting to the result.
        axis: the axis of the candidates.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log w_i, broadcasting to ``energies``.
        mean: divide by the total weight. The mean form tends to the mean energy as
            beta -> 0, where the sum form tends to -inf (+inf when the total weight is < 1).

    Returns:
        The shape of ``energies`` without ``axis``, in units of energy. Its gradient is P.

    Raises:
        TypeError: integer energies. ValueError: negative beta, shapes that do not broadcast.

    >>> import jax.numpy as jnp
    >>> energies = jnp.array([1.0, 3.0])
    >>> float(free_energy(energies, beta=jnp.inf)), float(free_energy(energies, beta=0, mean=True))
    (1.0, 2.0)
    """
    gap, lowest, log_w, beta, dtype = _prepare(energies, beta, axis, where, log_weights)
    log_total = _logsumexp(jnp.where(gap < jnp.inf, log_w, -jnp.inf))
    empty = log_total == -jnp.inf
    log_total = jnp.where(empty, 0.0, log_total)
    result = _mean_form_gap(gap, log_w, log_total, beta) + jnp.where(empty, jnp.inf, lowest)
    if not mean:
        b = jnp.where(beta == 0, 1.0, beta)
        limit = jnp.where(log_total == 0, 0.0, log_total * jnp.inf)
        entropic = jnp.where(beta == 0, limit, log_total / b)
        result = result - jnp.where(empty | jnp.isinf(lowest), 0.0, entropic)
    return jnp.squeeze(result, -1).astype(dtype)


def _mean_form_gap(gap, log_w, log_total, beta):
    """Return -1/beta log [sum_i w_i exp(-beta gap_i) / sum_i w_i], stable for every beta."""
    possible = gap != jnp.inf
    share = jnp.where(possible, jnp.exp(log_w - log_total), 0.0)
    gap0 = jnp.where(possible, gap, 0.0)

    def average(v):
        return jnp.sum(share * v, axis=-1, keepdims=True)

    # Cumulants as beta -> 0, where the difference of logarithms loses its digits; the bound
    # keeps the first cumulant left out below the rounding error.
    bound = (24 * float(jnp.finfo(gap.dtype).eps)) ** (1 / 3)
    hot = beta * jnp.max(gap0, axis=-1, keepdims=True) < bound
    cold = beta == jnp.inf
    mean_gap = average(gap0)
    d = gap0 - mean_gap
    small = jnp.where(hot & ~cold, beta, 0.0)
    series = mean_gap - small / 2 * average(d**2) + small**2 / 6 * average(d**3)
    # Then log1p(mean(expm1)) while the mean is near 1, logsumexp when it is small.
    b = jnp.where(cold | (beta == 0), 1.0, beta)
    shrink = average(jnp.expm1(-b * gap0))
    near = shrink > -0.5
    log_mean = jnp.where(
        near,
        jnp.log1p(jnp.where(near, shrink, 0.0)),
        _logsumexp(_logits(gap, log_w, b)) - log_total,
    )
    ground = _zero_temperature_gap(gap0, _logits(gap, log_w, jnp.asarray(jnp.inf)))
    return jnp.where(cold, ground, jnp.where(hot, series, -log_mean / b))


def _zero_temperature_gap(gap, cold_logits):
    """Return 0 = min gap, with the gradient of the limit beta -> inf: uniform over ties."""
    p = jnp.exp(cold_logits - _logsumexp(cold_logits))
    p = jnp.where(cold_logits > -jnp.inf, p, 0.0)
    return jnp.sum(jax.lax.stop_gradient(p) * gap, axis=-1, keepdims=True)


def log_probs(energies, *, beta=1.0, axis: int = -1, where=None, log_weights=None) -> Array:
    r"""Return the log probability of every candidate.

        log P(i) = log w_i - beta E_i - log Z

    With cell volumes as weights this is the log mass of a cell; subtract ``log_weights`` for
    the log density. Source: LeCun et al. (2006), eq. 3.

    Args:
        energies: floating array, any shape; candidates on ``axis``.
        beta: inverse temperature >= 0, in 1/energy; scalar or broadcasting to the result.
        axis: the axis of the candidates.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log w_i, broadcasting to ``energies``.

    Returns:
        The shape of ``energies``; -inf for a candidate that is not allowed.

    Raises:
        TypeError: integer energies. ValueError: negative beta, shapes that do not broadcast.

    >>> import jax.numpy as jnp
    >>> [round(float(p), 4) for p in log_probs(jnp.array([0.0, 0.0]))]
    [-0.6931, -0.6931]
    """
    gap, _, log_w, beta, dtype = _prepare(energies, beta, axis, where, log_weights)
    return jnp.moveaxis(_normalise(_logits(gap, log_w, beta)), -1, axis).astype(dtype)


def _normalise(logits):
    total = _logsumexp(logits)
    possible = logits != -jnp.inf
    return jnp.where(possible, jnp.where(possible, logits, 0.0) - total, -jnp.inf)


def probs(energies, *, beta=1.0, axis: int = -1, where=None, log_weights=None) -> Array:
    r"""Return the Gibbs probability of every candidate.

        P(i) = w_i exp(-beta E_i) / Z

    Source: LeCun et al. (2006), eq. 3.

    Args:
        energies: floating array, any shape; candidates on ``axis``.
        beta: inverse temperature >= 0, in 1/energy; scalar or broadcasting to the result.
        axis: the axis of the candidates.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log w_i, broadcasting to ``energies``.

    Returns:
        The shape of ``energies``, summing to 1 over ``axis`` (to 0 where nothing is allowed).

    Raises:
        TypeError: integer energies. ValueError: negative beta, shapes that do not broadcast.

    >>> import jax.numpy as jnp
    >>> [round(float(p), 3) for p in probs(jnp.array([0.0, jnp.inf, 0.0]))]
    [0.5, 0.0, 0.5]
    """
    return jnp.exp(log_probs(energies, beta=beta, axis=axis, where=where, log_weights=log_weights))


def entropy(energies, *, beta=1.0, axis: int = -1, where=None, log_weights=None) -> Array:
    r"""Return the entropy of the Gibbs distribution, in nats.

        H = -sum_i P(i) log [P(i) / w_i]

    With the cell volumes of a grid as weights it is the differential entropy.

    Args:
        energies: floating array, any shape; candidates on ``axis``.
        beta: inverse temperature >= 0, in 1/energy; scalar or broadcasting to the result.
        axis: the axis of the candidates.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log w_i, broadcasting to ``energies``.

    Returns:
        The shape of ``energies`` without ``axis``.

    Raises:
        TypeError: integer energies. ValueError: negative beta, shapes that do not broadcast.

    >>> import jax.numpy as jnp
    >>> round(float(entropy(jnp.zeros(8))), 4)  # log 8
    2.0794
    """
    gap, _, log_w, beta, dtype = _prepare(energies, beta, axis, where, log_weights)
    log_p = _normalise(_logits(gap, log_w, beta))
    possible = log_p != -jnp.inf
    log_p = jnp.where(possible, log_p, 0.0)
    log_w = jnp.where(possible, log_w, 0.0)
    terms = jnp.where(possible, jnp.exp(log_p) * (log_w - log_p), 0.0)
    return jnp.sum(terms, axis=-1).astype(dtype)


def expectation(
    values, energies, *, beta=1.0, axis: int = -1, where=None, log_weights=None
) -> Array:
    r"""Return the expectation of ``values`` under the Gibbs distribution.

        E_P[v] = sum_i P(i) v_i

    Args:
        values: array of the shape of ``energies`` (or broadcasting to it); not read, so it
            may be infinite or NaN, where the probability is zero.
        energies: floating array, any shape; candidates on ``axis``.
        beta: inverse temperature >= 0, in 1/energy; scalar or broadcasting to the result.
        axis: the axis of the candidates.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log w_i, broadcasting to ``energies``.

    Returns:
        The shape of ``energies`` without ``axis``, in the units of ``values``.

    Raises:
        TypeError: integer energies. ValueError: negative beta, shapes that do not broadcast.

    >>> import jax.numpy as jnp
    >>> float(expectation(jnp.array([1.0, 5.0]), jnp.array([0.0, 0.0])))
    3.0
    """
    p = probs(energies, beta=beta, axis=axis, where=where, log_weights=log_weights)
    values = jnp.asarray(values)
    _checks.broadcastable(energies=p, values=values)
    values = jnp.broadcast_to(values, p.shape)
    return jnp.sum(jnp.where(p == 0, 0.0, p * jnp.where(p == 0, 0.0, values)), axis=axis)


def sample(
    key: Key,
    energies,
    *,
    beta=1.0,
    axis: int = -1,
    where=None,
    log_weights=None,
    shape: tuple[int, ...] = (),
) -> Array:
    r"""Draw candidates from the Gibbs distribution, by the Gumbel-max trick.

        i* = argmax_i [log P(i) + G_i],   G_i independent standard Gumbel

    Args:
        key: a key of ``jax.random.key``, used once.
        energies: floating array, any shape; candidates on ``axis``.
        beta: inverse temperature >= 0, in 1/energy; scalar or broadcasting to the result.
        axis: the axis of the candidates.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log w_i, broadcasting to ``energies``.
        shape: how many independent draws, as leading axes of the result.

    Returns:
        Integer indices of shape ``shape + energies.shape without axis``; -1 where no
        candidate is allowed.

    Raises:
        TypeError: integer energies. ValueError: negative beta, shapes that do not broadcast.

    >>> import jax, jax.numpy as jnp
    >>> int(sample(jax.random.key(0), jnp.array([0.0, 9.0]), beta=jnp.inf))
    0
    """
    gap, _, log_w, beta, _ = _prepare(energies, beta, axis, where, log_weights)
    log_p = _normalise(_logits(gap, log_w, beta))
    drawn = jax.random.categorical(key, log_p, axis=-1, shape=shape + log_p.shape[:-1])
    return jnp.where(jnp.all(log_p == -jnp.inf, axis=-1), -1, drawn)
