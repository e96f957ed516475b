"""Losses over candidates: functions ``loss(energies, label, *, ...)``.

A label out of range raises ValueError if its value is known, and gives NaN under jit. A loss that
is NaN has NaN derivatives. The functions share these arguments:

* ``energies``: (..., n), floating point, the energies :math:`F(x, y)` of all candidates y.
* ``label``: integers (...), the index of the right answer.
* ``beta``, ``where``, ``log_weights``: see ``ebm_jax.gibbs``, with the candidates on the last axis.
* ``distance``: (..., n), floating point, >= 0, the distance of each candidate to the right answer.
  If None, candidates are discrete, and all but the right one are wrong. ``radius``: one number
  >= 0; candidates within it do not count as wrong.

A candidate with energy +inf is not allowed. If the right answer is not allowed (by its energy, by
``where`` or by its weight), its probability is 0, the NLL is +inf and the MEE is 1. Candidates with
energy -inf share all the probability: the NLL is 1/beta times the log of their number, or +inf. In
both cases no finite energy changes the loss, and its derivatives are 0.

All functions raise TypeError for energies that are not floating point and labels that are not
integers, and ValueError for shapes that do not fit, labels out of range, a negative beta, radius or
distance, and a radius without distances.
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
    r"""Return the perceptron loss: zero if the right answer has the lowest energy.

    .. math:: \ell = F(x, y) - \min_{y'} F(x, y') \qquad \text{(margin 0)}

    If the right answer has the lowest energy, also in a tie, the loss is 0, even at an infinite
    energy. In a tie of wrong answers the first one gets the gradient. Source: LeCun et al. (2006),
    eq. 7.

    Args:
        energies: (..., n), energies of all candidates.
        label: integers (...), the index of the right answer.

    Returns:
        The loss (...), >= 0.

    >>> import jax.numpy as jnp
    >>> float(perceptron(jnp.array([3.0, 1.0, 2.0]), 0))
    2.0
    """
    energies, label = check_candidates(energies, label)
    best = winner(energies, label)
    # An infinite energy of the right answer minus itself would be NaN.
    value = jnp.where(best == label, 0.0, pick(energies, label) - pick(energies, best))
    unknown = is_unknown(energies, jnp.zeros(()), label)
    return with_nan_derivatives(jnp.where(unknown, jnp.nan, value), energies, axis=-1)


def winner(energies: ArrayLike, label: ArrayLike) -> Array:
    r"""Return the index of the candidate with the lowest energy.

    .. math:: y^\star = \operatorname{argmin}_y F(x, y)

    Among equal energies the right answer wins, then the first candidate.

    Args:
        energies: (..., n), energies of all candidates.
        label: integers (...), the index of the right answer.

    Returns:
        Integers (...); if an energy is NaN, its index.

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

    .. math:: \ell = F(x, y) + \frac{1}{\beta} \log \sum_{y'} \exp(-\beta F(x, y'))
        \qquad \text{(some margin } > 0 \text{)}

    Its gradient is :math:`\nabla F(x, y)` minus the expectation of :math:`\nabla F(x, y')`. As
    :math:`\beta \to \infty` it becomes the perceptron loss. With log cell volumes as
    ``log_weights`` the sum is an integral over a grid. Source: LeCun et al. (2006), eq. 17.

    Args:
        energies: (..., n), energies of all candidates.
        label: integers (...), the index of the right answer.
        beta, where, log_weights: see the module ``ebm_jax.gibbs``.

    Returns:
        The loss (...), in units of energy. At beta = 0 the limit: +inf if the weights sum to more
        than 1, -inf if they sum to less.

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
    """Return (log-weights, right answer not allowed, loss NaN, relative energies).

    Energies are relative to that of the right answer, so that large energies do not round the loss
    away. The level is 0 if the right answer is not allowed; if it is -inf, only candidates at -inf
    count.
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
    r"""Return the minimum empirical error loss: the probability of a wrong answer.

    .. math:: \ell = 1 - P(y \mid x) \qquad \text{(some margin } > 0 \text{)}

    where P is the Gibbs distribution. Source: Ljolje et al. (1990), as in LeCun et al. (2006), eq.
    20.

    Args:
        energies: (..., n), energies of all candidates.
        label: integers (...), the index of the right answer.
        beta, where, log_weights: see the module ``ebm_jax.gibbs``.

    Returns:
        The loss (...), in [0, 1].

    >>> import jax.numpy as jnp
    >>> round(float(mee(jnp.zeros(4), 3)), 4)
    0.75
    """
    energies, label = check_candidates(energies, label)
    log_w, impossible, unknown, differences = _relative(energies, label, where, log_weights)
    wrong = jnp.arange(energies.shape[-1]) != label[..., None]
    # The odds of a wrong answer: sigmoid(log odds) is accurate near 0, and its slope near 1.
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
    r"""Return the index of the most offending wrong answer: that of lowest energy.

    .. math:: y' = \operatorname{argmin}_{y' \ne y} F(x, y'), \quad \text{or over }
        \lvert y' - y \rvert > \text{radius} \text{ for continuous answers}

    Args:
        energies: (..., n), energies of all candidates.
        label: integers (...), the index of the right answer.
        distance: (..., n), distances of the candidates to the right answer; None for discrete ones.
        radius: candidates within this distance are not wrong, >= 0, one number.

    Returns:
        Integers (...): the first of equal candidates, or -1 if no candidate is wrong.

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
    r"""Return the energies of the right answer and of the most offending wrong one.

    .. math:: E^+ = F(x, y), \qquad E^- = \min_{y' \ne y} F(x, y'), \quad \text{or over }
        \lvert y' - y \rvert > \text{radius}

    Pass the result to any pairwise loss. Source: LeCun et al. (2006), definitions 1 (discrete) and
    2 (continuous).

    Args:
        energies: (..., n), energies of all candidates.
        label: integers (...), the index of the right answer.
        distance: (..., n), distances of the candidates to the right answer; None for discrete ones.
        radius: candidates within this distance are not wrong, >= 0, one number.

    Returns:
        :math:`E^+` and :math:`E^-`, both (...); :math:`E^-` is +inf if no candidate is wrong.

    >>> import jax.numpy as jnp
    >>> from ebm_jax.losses import hinge
    >>> float(hinge(*most_offending(jnp.array([0.0, 0.5, 2.0]), 0), margin=1.0))
    0.5
    """
    index = offender(energies, label, distance=distance, radius=radius)
    energies, label = check_candidates(energies, label)
    return pick(energies, label), jnp.where(index < 0, jnp.inf, pick(energies, index))


def over_candidates(loss: Callable[..., Array], **options) -> Callable[[Array, Array], Array]:
    r"""Turn a pairwise loss into a loss over candidates.

    .. math:: \ell(F(x, \cdot), y) = \text{loss}(F(x, y), \min_{y' \ne y} F(x, y'))

    Source: LeCun et al. (2006), definition 1.

    Args:
        loss: elementwise function :math:`(E^+, E^-)`, and options as keywords, to the loss.
        options: keyword arguments of the loss, such as ``margin=1.0``.

    Returns:
        A function of energies (..., n) and label (...) that returns the loss (...).

    Raises:
        TypeError: if loss is not callable, or is already a loss over candidates.

    >>> import jax.numpy as jnp
    >>> from ebm_jax.losses import hinge
    >>> float(over_candidates(hinge, margin=1.0)(jnp.array([0.0, 0.5, 2.0]), 0))
    0.5
    """
    _checks.function("loss", loss)
    bare = loss.func if isinstance(loss, functools.partial) else loss
    if bare in (perceptron, nll, mee):
        raise TypeError(
            f"loss must be a pairwise loss, (E+, E-) -> loss, such as hinge, got {bare.__name__}, "
            f"which is already a loss over candidates: call {bare.__name__}(energies, label)."
        )
    loss = functools.partial(loss, **options)
    return lambda energies, label: _checks.floating(
        "What loss returns", loss(*most_offending(energies, label))
    )
