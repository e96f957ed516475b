r"""Gibbs probabilities over a finite set of candidates, computed with logsumexp.

.. math:: P(i) = \frac{w_i \exp(-\beta E_i)}{Z}, \qquad Z = \sum_i w_i \exp(-\beta E_i)

All functions except ``grid`` take these arguments:

* ``energies``: floating-point array of any shape, with the candidates on ``axis``. bfloat16 and
  float16 are computed in float32, and the result is converted back.
* ``beta``: inverse temperature :math:`\beta \ge 0`, in 1/energy; a scalar, or an array that
  broadcasts against ``energies`` without ``axis``. ``beta = 0`` and ``beta = inf`` give the limits:
  uniform over the allowed candidates, and uniform over the candidates of lowest energy.
* ``axis``: axis of the candidates.
* ``where``: booleans that broadcast to ``energies``, True for the candidates to include.
* ``log_weights``: :math:`\log w_i`, broadcasting to ``energies``. With the log cell volumes of a
  grid, each sum is an integral. A candidate of weight zero is excluded.

Conventions:

* A candidate with energy +inf is not allowed, at any beta. Candidates with energy -inf share all
  the probability. Gradients with respect to masked and infinite entries are zero.
* If no candidate is allowed, then log Z = -inf, free energy = +inf, probabilities = 0,
  entropy = 0, expectation = 0, and ``sample`` returns -1.
* A NaN in an energy or weight that is not masked makes the result and the gradient of its row NaN.
  The same holds for a negative or NaN beta whose value is unknown during tracing.
* All functions raise TypeError for energies that are not floating point and for arguments that
  are not arrays of numbers, and ValueError for a negative or NaN beta and for shapes that do not
  broadcast.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws, _gibbs
from ebm_jax.types import Array, Key


def log_partition(
    energies: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the log partition function of the Gibbs distribution.

    .. math:: \log Z = \log \sum_i w_i \exp(-\beta E_i)

    Source: LeCun et al. (2006), A tutorial on energy-based learning, section 1.3.

    Args:
        energies, beta, axis, where, log_weights: see the module ``ebm_jax.gibbs``.

    Returns:
        The shape of ``energies`` without ``axis``. At ``beta = inf`` the limit: -inf if the lowest
        energy is positive, +inf if it is negative, and the log of its total weight if it is zero.

    >>> import jax.numpy as jnp
    >>> float(log_partition(jnp.array([1000.0, 1000.0])))  # log 2 - 1000, no overflow
    -999.306...
    """
    gap, lowest, log_w, beta, dtype = _gibbs.prepare(energies, beta, axis, where, log_weights)
    level, excess = _gibbs.logsumexp(_gibbs.logits(gap, log_w, beta))
    limit = jnp.isinf(lowest) | (lowest == 0)
    scaled = jnp.where(
        limit,
        jnp.where(lowest == 0, 0.0, -lowest),
        -beta * jnp.where(limit, 1.0, lowest),
    )
    # The lowest energy and the sum may be infinite, never with opposite signs.
    return jnp.squeeze(scaled + level + excess, -1).astype(dtype)


def free_energy(
    energies: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
    mean: bool = False,
) -> Array:
    r"""Return the free energy: a soft minimum, and the minimum at ``beta = inf``.

    .. math:: F_\beta &= -\frac{1}{\beta} \log \sum_i w_i \exp(-\beta E_i)
        \quad \text{(sum form)} \\
        F_\beta &= -\frac{1}{\beta} \log \frac{\sum_i w_i \exp(-\beta E_i)}{\sum_i w_i}
        \quad \text{(mean form)}

    Source: LeCun et al. (2006), eq. 5 (marginalisation over a latent variable).

    Args:
        energies, beta, axis, where, log_weights: see the module ``ebm_jax.gibbs``.
        mean: whether to divide by the total weight (mean form). As beta tends to 0, the mean form
            tends to the mean energy, and the sum form to -inf (to +inf if the total weight is < 1).

    Returns:
        The shape of ``energies`` without ``axis``, in units of energy. The gradient is P.

    >>> import jax.numpy as jnp
    >>> energies = jnp.array([1.0, 3.0])
    >>> float(free_energy(energies, beta=jnp.inf)), float(free_energy(energies, beta=0, mean=True))
    (1.0, 2.0)
    """
    _checks.flag("mean", mean)
    gap, lowest, log_w, beta, dtype = _gibbs.prepare(energies, beta, axis, where, log_weights)
    log_total = sum(_gibbs.logsumexp(jnp.where(gap == jnp.inf, -jnp.inf, log_w)))
    empty = log_total == -jnp.inf
    log_total = jnp.where(empty, 0.0, log_total)
    level = jnp.where(empty, jnp.inf, lowest)
    if mean:
        result = level + _gibbs.soft_gap(gap, log_w, log_total, beta, 0.0)
    else:
        soft = _gibbs.soft_gap(gap, log_w, log_total, beta, log_total)
        result = jnp.where(jnp.isinf(level), level, jnp.where(jnp.isinf(level), 0.0, level) + soft)
    return jnp.squeeze(result, -1).astype(dtype)


def log_probs(
    energies: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the log probability of every candidate.

    .. math:: \log P(i) = \log w_i - \beta E_i - \log Z

    With cell volumes as weights this is the log probability of a cell; subtract ``log_weights`` to
    get the log density. Source: LeCun et al. (2006), eq. 3.

    Args:
        energies, beta, axis, where, log_weights: see the module ``ebm_jax.gibbs``.

    Returns:
        The shape of ``energies``; -inf for a candidate that is not allowed.

    >>> import jax.numpy as jnp
    >>> [round(float(p), 4) for p in log_probs(jnp.array([0.0, 0.0]))]
    [-0.6931, -0.6931]
    """
    log_p, _, dtype = _gibbs.log_probs(energies, beta, axis, where, log_weights)
    return jnp.moveaxis(log_p, -1, axis).astype(dtype)


def probs(
    energies: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the Gibbs probability of every candidate.

    .. math:: P(i) = w_i \exp(-\beta E_i) / Z

    Source: LeCun et al. (2006), eq. 3.

    Args:
        energies, beta, axis, where, log_weights: see the module ``ebm_jax.gibbs``.

    Returns:
        The shape of ``energies``. The sum over ``axis`` is 1, or 0 if no candidate is allowed.

    >>> import jax.numpy as jnp
    >>> [round(float(p), 3) for p in probs(jnp.array([0.0, jnp.inf, 0.0]))]
    [0.5, 0.0, 0.5]
    """
    log_p, _, dtype = _gibbs.log_probs(energies, beta, axis, where, log_weights)
    return jnp.moveaxis(jnp.exp(log_p), -1, axis).astype(dtype)


def entropy(
    energies: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the entropy of the Gibbs distribution, in nats.

    .. math:: H = -\sum_i P(i) \log \frac{P(i)}{w_i}

    With the cell volumes of a grid as weights this is the differential entropy.

    Args:
        energies, beta, axis, where, log_weights: see the module ``ebm_jax.gibbs``.

    Returns:
        The shape of ``energies`` without ``axis``.

    >>> import jax.numpy as jnp
    >>> round(float(entropy(jnp.zeros(8))), 4)  # log 8
    2.0794
    """
    log_p, log_w, dtype = _gibbs.log_probs(energies, beta, axis, where, log_weights)
    possible = log_p != -jnp.inf
    log_p = jnp.where(possible, log_p, 0.0)
    log_w = jnp.where(possible, log_w, 0.0)
    terms = jnp.where(possible, jnp.exp(log_p) * (log_w - log_p), 0.0)
    return jnp.sum(terms, axis=-1).astype(dtype)


def expectation(
    values: ArrayLike,
    energies: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the expectation of ``values`` under the Gibbs distribution.

    .. math:: \mathbb{E}_P[v] = \sum_i P(i) \, v_i

    Args:
        values: real numbers :math:`v_i` that broadcast to ``energies``. Values of candidates with
            probability zero are ignored, so they may be infinite or NaN.
        energies, beta, axis, where, log_weights: see the module ``ebm_jax.gibbs``.

    Returns:
        The shape of ``energies`` without ``axis``, in the units of ``values``.

    >>> import jax.numpy as jnp
    >>> float(expectation(jnp.array([1.0, 5.0]), jnp.array([0.0, 0.0])))
    3.0
    """
    log_p, _, dtype = _gibbs.log_probs(energies, beta, axis, where, log_weights)
    p = jnp.exp(log_p)
    values, shape = _checks.array("values", values), np.shape(energies)
    _checks.fits("values", values, "energies", shape)
    last = jnp.moveaxis(jnp.broadcast_to(values, shape), axis, -1)
    terms = jnp.where(p == 0, 0.0, p * jnp.where(p == 0, 0.0, last))
    return jnp.sum(terms, axis=-1).astype(jnp.promote_types(values.dtype, dtype))


def sample(
    key: Key,
    energies: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
    shape: tuple[int, ...] = (),
) -> Array:
    r"""Draw candidates from the Gibbs distribution with the Gumbel-max trick.

    .. math:: i^\star = \operatorname{argmax}_i \left[ \log P(i) + G_i \right],
        \qquad G_i \text{ independent standard Gumbel}

    The draws resolve probabilities down to :math:`2^{-64}`, so a candidate with an energy
    :math:`40/\beta` above the others is drawn with its true, small probability.

    Args:
        key: a key of ``jax.random.key``, used once.
        energies, beta, axis, where, log_weights: see the module ``ebm_jax.gibbs``.
        shape: shape of the independent draws, prepended to the shape of the result.

    Returns:
        Integer indices, of shape ``shape`` followed by the shape of ``energies`` without ``axis``;
        -1 where no candidate is allowed or a probability is NaN.

    >>> import jax, jax.numpy as jnp
    >>> int(sample(jax.random.key(0), jnp.array([0.0, 9.0]), beta=jnp.inf))
    0
    """
    _checks.one_key(key)
    if not isinstance(shape, tuple):
        raise TypeError(f"shape must be a tuple of integers >= 0, got {shape!r}.")
    for n in shape:
        _checks.count("Each of shape", n, 0)
    log_p, _, _ = _gibbs.log_probs(energies, beta, axis, where, log_weights)
    drawn = _draws.categorical(key, log_p, shape)
    drawable = jnp.any(log_p > -jnp.inf, axis=-1) & ~jnp.any(jnp.isnan(log_p), axis=-1)
    return jnp.where(drawable, drawn, -1)


def grid(
    low: ArrayLike | Sequence[float],
    high: ArrayLike | Sequence[float],
    cells: ArrayLike | Sequence[int],
) -> tuple[Array, Array]:
    r"""Return the midpoints of a grid of cells and the logs of the cell volumes.

    .. math:: \int f(x) \, dx \approx \sum_i \exp(\text{log\_volumes}_i) f(\text{points}_i)

    With ``log_weights=log_volumes`` each sum in this module is an integral over the box, by the
    midpoint rule.

    Args:
        low: lower corner of the box, (d,).
        high: upper corner of the box, (d,), above ``low`` in every coordinate.
        cells: number of cells along each dimension: one integer >= 1, or one per dimension.

    Returns:
        ``points`` (n, d), with the last coordinate changing fastest, and ``log_volumes`` (n,).

    Raises:
        TypeError: if the corners are not floating point, or an argument is traced.
        ValueError: if the corners are not finite vectors of equal length with low < high, or cells
            are not integers >= 1.

    >>> points, log_volumes = grid([0.0], [1.0], 4)
    >>> points[:, 0].tolist()
    [0.125, 0.375, 0.625, 0.875]
    """
    dtype = _checks.floating("low", low).dtype
    _checks.floating("high", high)
    first, last, counts = (_checks.concrete(a) for a in (low, high, cells))
    if first is None or last is None or counts is None:
        raise TypeError("low, high and cells must be known when traced: they make the grid.")
    if first.ndim != 1 or first.shape != last.shape or not first.size:
        raise ValueError(f"low and high must be vectors of one length, got {first} and {last}.")
    if not (np.isfinite(first).all() and np.isfinite(last).all() and (first < last).all()):
        raise ValueError(f"low must be below high, both finite, got {first} and {last}.")
    if not np.issubdtype(counts.dtype, np.integer) or (counts < 1).any():
        raise ValueError(f"cells must be an integer >= 1, or one per dimension, got {cells!r}.")
    _checks.fits("cells", counts, "the corners", first.shape)
    counts = np.broadcast_to(counts, first.shape)
    widths = (last.astype(np.float64) - first) / counts
    axes = [a + w * (np.arange(n) + 0.5) for a, w, n in zip(first, widths, counts, strict=True)]
    points = np.stack([m.ravel() for m in np.meshgrid(*axes, indexing="ij")], axis=1)
    log_volumes = np.full(len(points), np.log(widths).sum())
    return jnp.asarray(points, dtype), jnp.asarray(log_volumes, dtype)
