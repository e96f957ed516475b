r"""Losses over candidates, ``loss(energies, label, *, ...)``, and the most offending answer.

F(x, y) for every candidate y lies on the last axis; the label is the index of the right one. A
label that is out of range is refused where its value is known; under jit it gives NaN. A loss
that is NaN has NaN derivatives.

Infinite energies: +inf is a candidate that is not allowed. Where the right answer is not allowed
(by its energy, by ``where`` or by its weight) P = 0, the NLL is +inf and the MEE is 1. Energies
of -inf take all the probability: the NLL is 1/beta times the log of their number, or +inf. In
both cases no finite energy changes the loss: its derivatives are 0.

What they share:

* ``energies``: (..., n), floating, the energy of every candidate.
* ``label``: integers (...), the index of the right answer.
* ``beta``, ``where``, ``log_weights``: as ``gibbs`` says, the candidates on the last axis.
* ``distance``: (..., n), floating, >= 0, how far each candidate lies from the right answer; None
  for discrete candidates, which are all wrong but the right one. ``radius``: >= 0, one number;
  candidates within it do not count as wrong.
* Refused: TypeError for energies that are not floating point and labels that are not integers;
  ValueError for other shapes, labels out of range, a negative beta, radius or distance, a radius
  without distances.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks, _gibbs, gibbs
from ebm_jax._derivatives import sigmoid, with_nan_derivatives
from ebm_jax.losses._arguments import check_candidates, is_unknown, lowest_wrong, pick
from ebm_jax.types import Array


def perceptron(energies: ArrayLike, label: ArrayLike) -> Array:
    r"""Return the perceptron loss: zero as soon as the right answer is (one of) the lowest.

        l = F(x, y) - min_y' F(x, y')                      margin: 0

    At a tie the right answer counts as the winner, then the candidate that comes first: where
    it is the lowest, were that at an infinity, the loss is 0.
    Source: LeCun et al. (2006), eq. 7.

    Args:
        energies, label: as the module says.
    Returns:
        Shape (...), >= 0.

    >>> import jax.numpy as jnp
    >>> float(perceptron(jnp.array([3.0, 1.0, 2.0]), 0))
    2.0
    """
    energies, label = check_candidates(energies, label)
    best = winner(energies, label)
    # The right answer's own energy, were it infinite, has no difference to itself.
    value = jnp.where(best == label, 0.0, pick(energies, label) - pick(energies, best))
    unknown = is_unknown(energies, jnp.zeros(()), label)
    return with_nan_derivatives(jnp.where(unknown, jnp.nan, value), energies, axis=-1)


def winner(energies: ArrayLike, label: ArrayLike) -> Array:
    r"""Return the answer that inference gives; at a tie the right one, then the first.

        y* = argmin_y F(x, y)

    Args:
        energies, label: as the module says.
    Returns:
        Integers (...); where an energy is NaN, its index.

    >>> import jax.numpy as jnp
    >>> int(winner(jnp.array([2.0, 1.0, 1.0]), 2))
    2
    """
    energies, label = check_candidates(energies, label)
    first = jnp.argmin(energies, axis=-1)
    return jnp.where(pick(energies, label) <= pick(energies, first), label, first)


def nll(
    energies: ArrayLike,
    label: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the negative log-likelihood of the Gibbs distribution, divided by beta.

        l = F(x, y) + 1/beta log sum_y' exp(-beta F(x, y'))          margin: > 0

    Its gradient is "the right answer minus the expected one". beta -> inf is the perceptron
    loss. With ``log_weights`` (log cell volumes) the sum is an integral over a grid.
    Source: LeCun et al. (2006), eq. 17.

    Args:
        energies, label, beta, where, log_weights: as the module says.
    Returns:
        Shape (...), in units of energy. At beta = 0 the limit: +inf where the weights sum to
            more than 1, -inf where they sum to less.

    >>> import jax.numpy as jnp
    >>> round(float(nll(jnp.zeros(10), 3)), 4)  # log 10
    2.3026
    """
    energies, label = check_candidates(energies, label)
    log_w, impossible, unknown, differences = _relative(energies, label, where, log_weights)
    rest = gibbs.free_energy(differences, beta=beta, log_weights=log_w)
    value = jnp.where(unknown, jnp.nan, jnp.where(impossible, jnp.inf, -rest))
    return with_nan_derivatives(value.astype(energies.dtype), energies, axis=-1)


def _relative(energies: Array, label: Array, where, log_weights):
    """Return (log-weights, right answer not allowed, loss NaN, E - E of the right answer).

    A difference to another level would lose the loss where energies are large. The level is 0
    where the right answer has none; where it is at -inf, only its equals count.
    """
    wide, log_w, _ = _gibbs.arrange(energies, 1.0, -1, where, log_weights)
    right = pick(wide, label)[..., None]
    impossible = (pick(log_w, label)[..., None] == -jnp.inf) | (right == jnp.inf)
    relative = jnp.isfinite(right) & ~impossible
    is_right = jnp.arange(wide.shape[-1]) == label[..., None]
    differences = jnp.where(is_right & relative, 0.0, wide - jnp.where(relative, right, 0.0))
    equals = jnp.where(wide == -jnp.inf, 0.0, jnp.where(jnp.isnan(wide), jnp.nan, jnp.inf))
    differences = jnp.where((right == -jnp.inf) & ~impossible, equals, differences)
    return log_w, impossible[..., 0], is_unknown(wide, log_w, label), differences


def mee(
    energies: ArrayLike,
    label: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the minimum empirical error loss: the probability of being wrong.

        l = 1 - P(y | x),   P from the Gibbs distribution            margin: > 0

    Source: Ljolje et al. (1990), as in LeCun et al. (2006), eq. 20.

    Args:
        energies, label, beta, where, log_weights: as the module says.
    Returns:
        Shape (...), in [0, 1].

    >>> import jax.numpy as jnp
    >>> round(float(mee(jnp.zeros(4), 3)), 4)
    0.75
    """
    energies, label = check_candidates(energies, label)
    log_w, impossible, unknown, differences = _relative(energies, label, where, log_weights)
    wrong = jnp.arange(energies.shape[-1]) != label[..., None]
    # The odds of being wrong: their logistic function keeps its digits near 0, its slope near 1.
    log_wrong = gibbs.log_partition(differences, beta=beta, where=wrong, log_weights=log_w)
    log_right = jnp.where(impossible, 0.0, pick(log_w, label))
    error = jnp.where(impossible, 1.0, sigmoid(log_wrong - log_right))
    error = jnp.where(unknown, jnp.nan, error)
    return with_nan_derivatives(error.astype(energies.dtype), energies, axis=-1)


def offender(
    energies: ArrayLike,
    label: ArrayLike,
    *,
    distance: ArrayLike | None = None,
    radius: ArrayLike = 0.0,
) -> Array:
    r"""Return the index of the most offending wrong answer.

        y' = argmin F(x, y) over y != right (discrete), over |y - right| > radius (continuous)

    Args:
        energies, label, distance, radius: as the module says.
    Returns:
        Integers (...), the first of ties, or -1 where no candidate is wrong.

    >>> import jax.numpy as jnp
    >>> int(offender(jnp.array([0.0, 2.0, 1.0]), 0))
    2
    """
    energies, label = check_candidates(energies, label)
    _checks.nonnegative("radius", radius)
    _checks.scalar("radius", radius)
    wrong = jnp.arange(energies.shape[-1]) != label[..., None]
    if distance is not None:
        _checks.nonnegative("distance", distance)
        distance = _checks.floating("distance", distance)
        _checks.fits("distance", distance, "energies", energies.shape)
        wrong = wrong & (distance > radius)
    elif (known := _checks.concrete(radius)) is None or known > 0:
        raise ValueError(f"radius {radius} needs the distance of every candidate, got None.")
    return lowest_wrong(energies, wrong)


def most_offending(
    energies: ArrayLike,
    label: ArrayLike,
    *,
    distance: ArrayLike | None = None,
    radius: ArrayLike = 0.0,
) -> tuple[Array, Array]:
    r"""Return (E+, E-), with E- the energy of the most offending wrong answer.

        E+ = F(x, y),   E- = min F(x, y') over y' != y, or over |y' - y| > radius

    It turns any pairwise loss into one over candidates. Source: LeCun et al. (2006), definitions
    1 (discrete) and 2 (continuous).

    Args:
        energies, label, distance, radius: as the module says.
    Returns:
        Two arrays (...); E- is +inf where no candidate is wrong.

    >>> import jax.numpy as jnp
    >>> from ebm_jax.losses import hinge
    >>> float(hinge(*most_offending(jnp.array([0.0, 0.5, 2.0]), 0), margin=1.0))
    0.5
    """
    index = offender(energies, label, distance=distance, radius=radius)
    energies, label = check_candidates(energies, label)
    return pick(energies, label), jnp.where(index < 0, jnp.inf, pick(energies, index))


def over_candidates(loss: Callable[..., Array], **options) -> Callable[[Array, Array], Array]:
    r"""Turn a pairwise loss into one over candidates, by the most offending wrong answer.

        l(F(x, .), y) = loss(F(x, y), min F(x, y') over y' != y)

    Source: LeCun et al. (2006), definition 1.

    Args:
        loss: (E+, E-, **options) -> loss, elementwise.
        options: the loss's own, ``margin=1.0`` say.
    Returns:
        (energies (..., n), label (...)) -> loss (...).
    Raises:
        TypeError: a loss that is not callable, or is over candidates already.

    >>> import jax.numpy as jnp
    >>> from ebm_jax.losses import hinge
    >>> float(over_candidates(hinge, margin=1.0)(jnp.array([0.0, 0.5, 2.0]), 0))
    0.5
    """
    _checks.function("loss", loss)
    bare = loss.func if isinstance(loss, functools.partial) else loss
    if bare in (perceptron, nll, mee):
        raise TypeError(
            f"loss must be a pairwise loss, (E+, E-) -> loss, hinge say, got {bare.__name__}, "
            f"which is one over candidates already: write {bare.__name__}(energies, label)."
        )
    loss = functools.partial(loss, **options)
    return lambda energies, label: _checks.floating(
        "What loss returns", loss(*most_offending(energies, label))
    )
