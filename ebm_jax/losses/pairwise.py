r"""Pairwise losses: elementwise functions ``loss(positive, negative, *, ...)``.

:math:`E^+ = F(x, y)` is the energy of the right answer and :math:`E^- = F(x, y')` the energy of a
wrong one. :math:`[u]_+ = \max(u, 0)` has the derivative 0 at 0 (``jax.nn.relu``; ``jnp.maximum``
would give 1/2). Each docstring states the margin m of its loss in the sense of ``losses.margins``.

At infinite energies a loss is a limit: hinge(inf, 0) = inf with derivatives (1, -1), and hinge(0,
inf) = 0 with derivatives (0, 0). A loss of :math:`E^+ - E^-` computes the difference first, so that
large energies do not round the margin away; if both are the same infinity, it is NaN. A loss that
is NaN has NaN derivatives. Unbounded derivatives (:math:`2 E^+`, :math:`\exp(-E^-)`) are clipped to
the largest finite number of their dtype.

* ``positive``: :math:`E^+`, floating point, any shape; ``negative``: :math:`E^-`, broadcasting.
* ``margin``, ``ceiling``, ``gamma``: >= 0, broadcasting; an array gives each pair its own value.
* The result has the common broadcast shape, in units of energy unless stated otherwise.
* All functions raise TypeError for energies that are not floating point and for arguments that are
  not arrays of real numbers, and ValueError for an option that is negative or NaN and for shapes
  that do not broadcast.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._derivatives import exp_of_minus, sigmoid, square, with_nan_derivatives
from ebm_jax.losses._arguments import check_margin, check_pair
from ebm_jax.types import Array


def energy(positive: ArrayLike, negative: ArrayLike) -> Array:
    r"""Return the energy loss, which ignores wrong answers and can collapse.

    .. math:: \ell = E^+

    It has no margin: it pushes right answers down and no answer up.
    Source: LeCun et al. (2006), eq. 6.

    Args:
        positive: energy :math:`E^+` of the right answer.
        negative: energy :math:`E^-` of the wrong answer; only its shape is used.

    Returns:
        The loss of each pair, in units of energy.

    >>> float(energy(2.0, 5.0))
    2.0
    """
    positive, negative = check_pair(positive, negative)
    value, _ = jnp.broadcast_arrays(positive, negative)
    return with_nan_derivatives(value, positive, negative)


def hinge(positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0) -> Array:
    r"""Return the hinge loss: zero if the wrong energy exceeds the right by a margin.

    .. math:: \ell = [m + E^+ - E^-]_+ \qquad \text{(margin } m \text{)}

    Source: LeCun et al. (2006), eq. 11.

    Args:
        positive, negative: energies :math:`E^+` and :math:`E^-` of right and wrong answers.
        margin: :math:`m \ge 0`, in units of energy.

    Returns:
        The loss of each pair, in units of energy.

    >>> float(hinge(1.0, 1.5, margin=1.0)), float(hinge(1.0, 3.0, margin=1.0))
    (0.5, 0.0)
    """
    positive, negative = check_pair(positive, negative)
    margin = check_margin("margin", margin, positive, negative)
    value = jax.nn.relu(margin + (positive - negative))
    return with_nan_derivatives(value, positive, negative)


def log(positive: ArrayLike, negative: ArrayLike) -> Array:
    r"""Return the log loss, a smooth hinge that is never exactly zero.

    .. math:: \ell = \log(1 + \exp(E^+ - E^-)) \qquad \text{(some margin } > 0 \text{)}

    Its force :math:`\sigma(E^+ - E^-)` decays exponentially with the gap, without reaching zero.
    Source: LeCun et al. (2006), eq. 12.

    Args:
        positive, negative: energies :math:`E^+` and :math:`E^-` of right and wrong answers.

    Returns:
        The loss of each pair, in units of energy.

    >>> round(float(log(0.0, 0.0)), 4), float(log(1e4, 0.0))
    (0.6931, 10000.0)
    """
    positive, negative = check_pair(positive, negative)
    return with_nan_derivatives(jax.nn.softplus(positive - negative), positive, negative)


def lvq2(positive: ArrayLike, negative: ArrayLike, *, ceiling: ArrayLike = 1.0) -> Array:
    r"""Return the LVQ2 loss: a perceptron loss that is constant beyond a ceiling.

    .. math:: \ell = \min(M, [E^+ - E^-]_+) \qquad \text{(margin 0)}

    The derivative is 0 at both kinks. Source: Driancourt et al. (1991), as in LeCun et al.
    (2006), eq. 13.

    Args:
        positive, negative: energies :math:`E^+` and :math:`E^-` of right and wrong answers.
        ceiling: :math:`M \ge 0`, in units of energy: examples with a larger violation have no
            force.

    Returns:
        The loss of each pair, in units of energy.

    >>> [float(lvq2(d, 0.0)) for d in (-1.0, 0.5, 7.0)]
    [0.0, 0.5, 1.0]
    """
    positive, negative = check_pair(positive, negative)
    ceiling = check_margin("ceiling", ceiling, positive, negative)
    violation = positive - negative
    value = jnp.where(violation >= ceiling, ceiling, jax.nn.relu(violation))
    return with_nan_derivatives(value, positive, negative)


def mce(positive: ArrayLike, negative: ArrayLike) -> Array:
    r"""Return the minimum classification error loss, a smooth count of errors.

    .. math:: \ell = \sigma(E^+ - E^-) \qquad \text{(some margin } > 0 \text{)}

    Source: Juang et al. (1997), as in LeCun et al. (2006), eq. 14.

    Args:
        positive, negative: energies :math:`E^+` and :math:`E^-` of right and wrong answers.

    Returns:
        The loss of each pair, in (0, 1), without a unit.

    >>> float(mce(1.0, 1.0))
    0.5
    """
    positive, negative = check_pair(positive, negative)
    return with_nan_derivatives(sigmoid(positive - negative), positive, negative)


def simple(positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0) -> Array:
    r"""Return the simple loss: linear penalties towards two absolute energy levels.

    .. math:: \ell = [E^+]_+ + [m - E^-]_+ \qquad \text{(margin } m \text{)}

    It pushes :math:`E^+` down to at most 0 and :math:`E^-` up to at least m, independently of each
    other. The force does not grow with the violation, so the loss is robust to outliers. Source:
    the NYU energy-based-models homework; LeCun et al. (2006), eq. 15, with first powers instead of
    squares.

    Args:
        positive, negative: energies :math:`E^+` and :math:`E^-` of right and wrong answers.
        margin: :math:`m \ge 0`, the level of wrong answers, in units of energy.

    Returns:
        The loss of each pair, in units of energy.

    >>> float(simple(0.5, 0.25, margin=1.0))
    1.25
    """
    positive, negative = check_pair(positive, negative)
    margin = check_margin("margin", margin, positive, negative)
    value = jax.nn.relu(positive) + jax.nn.relu(margin - negative)
    return with_nan_derivatives(value, positive, negative)


def square_square(
    positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0, one_sided: bool = True
) -> Array:
    r"""Return the square-square loss, whose derivative grows with the violation.

    .. math:: \ell &= ([E^+]_+)^2 + ([m - E^-]_+)^2 \quad \text{if one\_sided} \\
        \ell &= (E^+)^2 + ([m - E^-]_+)^2 \quad \text{otherwise}

    In both, a wrong answer has no loss above energy m. The one-sided form is from the NYU
    energy-based-models homework, the other from LeCun et al. (2006), eq. 15. They agree for
    energies that cannot be negative. For energies that are distances they are twice the contrastive
    loss of Hadsell, Chopra and LeCun (2006), Dimensionality reduction by learning an invariant
    mapping, CVPR.

    Args:
        positive, negative: energies :math:`E^+` and :math:`E^-` of right and wrong answers.
        margin: :math:`m \ge 0`, the level of wrong answers, in units of energy.
        one_sided: True if a right answer with a negative energy has loss 0, False if its loss is
            the square of its energy.

    Returns:
        The loss of each pair, in units of energy squared.

    >>> float(square_square(-2.0, 0.5)), float(square_square(-2.0, 0.5, one_sided=False))
    (0.25, 4.25)
    """
    positive, negative = check_pair(positive, negative)
    margin = check_margin("margin", margin, positive, negative)
    _checks.flag("one_sided", one_sided)
    pull = jax.nn.relu(positive) if one_sided else positive
    value = square(pull) + square(jax.nn.relu(margin - negative))
    return with_nan_derivatives(value, positive, negative)


def square_exponential(
    positive: ArrayLike, negative: ArrayLike, *, gamma: ArrayLike = 1.0
) -> Array:
    r"""Return the square-exponential loss; it pushes wrong answers up without bound.

    .. math:: \ell = (E^+)^2 + \gamma \exp(-E^-) \qquad \text{(some margin } > 0 \text{)}

    For a wrong answer with a very negative energy the loss overflows to inf.
    Source: Osadchy et al. (2005), as in LeCun et al. (2006), eq. 16.

    Args:
        positive, negative: energies :math:`E^+` and :math:`E^-` of right and wrong answers.
        gamma: weight :math:`\gamma \ge 0` of the wrong answer.

    Returns:
        The loss of each pair.

    >>> float(square_exponential(2.0, 0.0, gamma=3.0))
    7.0
    """
    positive, negative = check_pair(positive, negative)
    gamma = check_margin("gamma", gamma, positive, negative)
    value = square(positive) + exp_of_minus(gamma, negative)
    return with_nan_derivatives(value, positive, negative)
