r"""Losses over candidates, ``loss(energies, label, *, ...)``, and the most offending answer.

F(x, y) for every candidate y lies on the last axis; the label is the index of the right one. A
label that is out of range is refused where its value is known; under jit it gives NaN.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.types import Array


def _pick(energies: Array, label: Array) -> Array:
    """Return energies[..., label]; NaN for a label that is out of range."""
    n = energies.shape[-1]
    safe = jnp.clip(label, 0, n - 1)
    chosen = jnp.take_along_axis(energies, safe[..., None], axis=-1)[..., 0]
    return jnp.where(label == safe, chosen, jnp.nan)


def _candidates(energies, label) -> tuple[Array, Array]:
    energies = _checks.floating("energies", energies)
    return energies, _checks.labels(label, energies)


def perceptron(energies, label) -> Array:
    r"""Return the perceptron loss: zero as soon as the right answer is (one of) the lowest.

        l = F(x, y) - min_y' F(x, y')                      margin: 0

    At a tie the right answer counts as the winner, then the candidate that comes first.
    Source: LeCun et al. (2006), eq. 7.

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
    Returns:
        Shape (...), >= 0.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range.

    >>> import jax.numpy as jnp
    >>> float(perceptron(jnp.array([3.0, 1.0, 2.0]), 0))
    2.0
    """
    energies, label = _candidates(energies, label)
    right = _pick(energies, label)
    return right - _pick(energies, winner(energies, label))


def winner(energies: Array, label: Array) -> Array:
    """Return argmin_y F(x, y), of shape (...); a tie goes to ``label``, then to the first."""
    first = jnp.argmin(energies, axis=-1)
    return jnp.where(_pick(energies, label) <= jnp.min(energies, axis=-1), label, first)


def nll(energies, label, *, beta=1.0, where=None, log_weights=None) -> Array:
    r"""Return the negative log-likelihood of the Gibbs distribution, divided by beta.

        l = F(x, y) + 1/beta log sum_y' exp(-beta F(x, y'))          margin: > 0

    Its gradient is "the right answer minus the expected one". beta -> inf is the perceptron
    loss. With ``log_weights`` (log cell volumes) the sum is an integral over a grid.
    Source: LeCun et al. (2006), eq. 17.

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        beta: inverse temperature >= 0; scalar or broadcasting to the result.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log-weights of the candidates, broadcasting to ``energies``.
    Returns:
        Shape (...), in units of energy; +inf at beta = 0 for n > 1.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative beta.

    >>> import jax.numpy as jnp
    >>> round(float(nll(jnp.zeros(10), 3)), 4)  # log 10
    2.3026
    """
    energies, label = _candidates(energies, label)
    soft_minimum = gibbs.free_energy(energies, beta=beta, where=where, log_weights=log_weights)
    return _pick(energies, label) - soft_minimum


def mee(energies, label, *, beta=1.0, where=None, log_weights=None) -> Array:
    r"""Return the minimum empirical error loss: the probability of being wrong.

        l = 1 - P(y | x),   P from the Gibbs distribution            margin: > 0

    Source: Ljolje et al. (1990), as in LeCun et al. (2006), eq. 20.

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        beta: inverse temperature >= 0; scalar or broadcasting to the result.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log-weights of the candidates, broadcasting to ``energies``.
    Returns:
        Shape (...), in [0, 1].
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative beta.

    >>> import jax.numpy as jnp
    >>> float(mee(jnp.zeros(4), 3))
    0.75
    """
    energies, label = _candidates(energies, label)
    p = gibbs.probs(energies, beta=beta, where=where, log_weights=log_weights)
    # The sum over the wrong answers, not 1 - P: no cancellation near 0.
    wrong = jnp.arange(energies.shape[-1]) != label[..., None]
    error = jnp.sum(jnp.where(wrong, p, 0.0), axis=-1)
    return jnp.where(jnp.isnan(_pick(p, label)), jnp.nan, error)


def offender(energies, label, *, distance=None, radius: float = 0.0) -> Array:
    r"""Return the index of the most offending wrong answer.

        y' = argmin F(x, y) over y != right (discrete), over |y - right| > radius (continuous)

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        distance: (..., n), how far each candidate lies from the right answer; None for
            discrete candidates, which are all wrong but the right one.
        radius: candidates within this distance of the right answer do not count as wrong.
    Returns:
        Integers (...), the first of ties, or -1 where no candidate is wrong.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative radius, a radius without distances.

    >>> import jax.numpy as jnp
    >>> int(offender(jnp.array([0.0, 2.0, 1.0]), 0))
    2
    """
    energies, label = _candidates(energies, label)
    _checks.nonnegative("radius", radius)
    wrong = jnp.arange(energies.shape[-1]) != label[..., None]
    if distance is not None:
        distance = _checks.floating("distance", distance)
        if _checks.broadcastable(energies=energies, distance=distance) != energies.shape:
            raise ValueError(
                f"distance {distance.shape} must broadcast to energies {energies.shape}."
            )
        wrong = wrong & (distance > radius)
    elif _checks.concrete(radius) is None or radius > 0:
        raise ValueError(f"radius {radius} needs the distance of every candidate, got None.")
    index = jnp.argmin(jnp.where(wrong, energies, jnp.inf), axis=-1)
    return jnp.where(jnp.any(wrong, axis=-1), index, -1)


def most_offending(energies, label, *, distance=None, radius: float = 0.0) -> tuple[Array, Array]:
    r"""Return (E+, E-), with E- the energy of the most offending wrong answer.

        E+ = F(x, y),   E- = min F(x, y') over y' != y, or over |y' - y| > radius

    It turns any pairwise loss into one over candidates. Source: LeCun et al. (2006), definitions
    1 (discrete) and 2 (continuous).

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        distance: (..., n), how far each candidate lies from the right answer; None for
            discrete candidates.
        radius: candidates within this distance of the right answer do not count as wrong.
    Returns:
        Two arrays (...); E- is +inf where no candidate is wrong.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative radius, a radius without distances.

    >>> import jax.numpy as jnp
    >>> from ebm_jax.losses import hinge
    >>> float(hinge(*most_offending(jnp.array([0.0, 0.5, 2.0]), 0), margin=1.0))
    0.5
    """
    index = offender(energies, label, distance=distance, radius=radius)
    energies, label = _candidates(energies, label)
    return _pick(energies, label), jnp.where(index < 0, jnp.inf, _pick(energies, index))


def over_candidates(loss: Callable[..., Array], **options) -> Callable[[Array, Array], Array]:
    r"""Turn a pairwise loss into one over candidates, by the most offending wrong answer.

        l(F(x, .), y) = loss(F(x, y), min F(x, y') over y' != y)

    Source: LeCun et al. (2006), definition 1.

    Args:
        loss: (E+, E-, **options) -> loss, elementwise.
        options: the loss's own, ``margin=1.0`` say.
    Returns:
        (energies (..., n), label (...)) -> loss (...).

    >>> import jax.numpy as jnp
    >>> from ebm_jax.losses import hinge
    >>> float(over_candidates(hinge, margin=1.0)(jnp.array([0.0, 0.5, 2.0]), 0))
    0.5
    """
    loss = functools.partial(loss, **options)
    return lambda energies, label: loss(*most_offending(energies, label))
