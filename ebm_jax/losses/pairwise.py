r"""Pairwise losses, ``loss(positive, negative, *, ...)``: elementwise and broadcasting.

E+ = F(x, y) is the energy of the right answer, E- = F(x, y') that of a wrong one. [.]+ has
derivative 0 at 0 (``jax.nn.relu``; ``jnp.maximum`` would give 1/2).

Infinite energies are limits: hinge(inf, 0) = inf with derivatives (1, -1), hinge(0, inf) = 0 with
(0, 0). A loss of the difference E+ - E- takes the difference first, so that no margin is rounded
away at large energies; where both are the same infinity there is no difference, and the loss is
NaN. A loss that is NaN has NaN derivatives, so that a user's own loop cannot miss it. Derivatives
that are not bounded (2 E+, exp(-E-)) end at the largest number of their type.

What they share:

* ``positive``: E+, floating, any shape; ``negative``: E-, floating, broadcasting.
* ``margin``, ``ceiling``, ``gamma``: >= 0, broadcasting: an array is one a pair, m(y, y').
* The result has the broadcast shape of all of these; in units of energy if nothing else is said.
* Refused: TypeError for energies that are not floating point and for anything but an array of real
  numbers; ValueError for an option that is negative or NaN, and for shapes that do not broadcast.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._derivatives import exp_of_minus, sigmoid, square, with_nan_derivatives
from ebm_jax.losses._arguments import check_margin, check_pair
from ebm_jax.types import Array


def energy(positive: ArrayLike, negative: ArrayLike) -> Array:
    r"""Return the energy loss, which pushes down and never up: it collapses.

        l = E+                                             margin: none

    Source: LeCun et al. (2006), eq. 6.

    Args:
        positive: as the module says.
        negative: as the module says; only its shape matters.

    >>> float(energy(2.0, 5.0))
    2.0
    """
    positive, negative = check_pair(positive, negative)
    value, _ = jnp.broadcast_arrays(positive, negative)
    return with_nan_derivatives(value, positive, negative)


def hinge(positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0) -> Array:
    r"""Return the hinge loss: zero once the wrong answer lies a margin above the right one.

        l = [m + E+ - E-]+                                 margin: m

    Source: LeCun et al. (2006), eq. 11.

    Args:
        positive, negative: as the module says.
        margin: m, in units of energy.

    >>> float(hinge(1.0, 1.5, margin=1.0)), float(hinge(1.0, 3.0, margin=1.0))
    (0.5, 0.0)
    """
    positive, negative = check_pair(positive, negative)
    margin = check_margin("margin", margin, positive, negative)
    value = jax.nn.relu(margin + (positive - negative))
    return with_nan_derivatives(value, positive, negative)


def log(positive: ArrayLike, negative: ArrayLike) -> Array:
    r"""Return the log loss, a smooth hinge that is never exactly zero.

        l = log(1 + exp(E+ - E-))                          margin: > 0

    It pushes at every margin, with a force sigma(E+ - E-) that decays exponentially.
    Source: LeCun et al. (2006), eq. 12.

    Args:
        positive, negative: as the module says.

    >>> round(float(log(0.0, 0.0)), 4), float(log(1e4, 0.0))
    (0.6931, 10000.0)
    """
    positive, negative = check_pair(positive, negative)
    return with_nan_derivatives(jax.nn.softplus(positive - negative), positive, negative)


def lvq2(positive: ArrayLike, negative: ArrayLike, *, ceiling: ArrayLike = 1.0) -> Array:
    r"""Return the LVQ2 loss, a perceptron whose force stops for hopeless examples.

        l = min(M, [E+ - E-]+)                             margin: 0

    The derivative is 0 at both kinks. Source: Driancourt et al. (1991), as in LeCun et al.
    (2006), eq. 13.

    Args:
        positive, negative: as the module says.
        ceiling: M, in units of energy.

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

        l = sigma(E+ - E-)                                 margin: > 0

    Source: Juang et al. (1997), as in LeCun et al. (2006), eq. 14.

    Args:
        positive, negative: as the module says.
    Returns:
        In (0, 1), without a unit.

    >>> float(mce(1.0, 1.0))
    0.5
    """
    positive, negative = check_pair(positive, negative)
    return with_nan_derivatives(sigmoid(positive - negative), positive, negative)


def simple(positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0) -> Array:
    r"""Return the simple loss, a constant force towards two absolute levels.

        l = [E+]+ + [m - E-]+                              margin: m

    It pulls E+ down to 0 and E- up to m, each by itself, with a force that does not grow with
    the violation: robust to outliers. Source: the homework; LeCun et al. (2006), eq. 15, with
    first powers in place of squares.

    Args:
        positive, negative: as the module says.
        margin: m, the level of wrong answers in units of energy.

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
    r"""Return the square-square loss, a force that grows with the violation.

        l = ([E+]+)^2 + ([m - E-]+)^2      one_sided=True, the homework's form    margin: m
        l = (E+)^2 + ([m - E-]+)^2         one_sided=False, LeCun et al. (2006), eq. 15

    The two agree for energies that cannot be negative: on distances they are twice the contrastive
    loss of Hadsell, Chopra and LeCun (2006), Dimensionality reduction by learning an invariant
    mapping, CVPR.

    Args:
        positive, negative: as the module says.
        margin: m, the level of wrong answers in units of energy.
        one_sided: whether a right answer below energy 0 is left alone.
    Returns:
        In energy squared.

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
    r"""Return the square-exponential loss: wrong answers are pushed up for ever.

        l = (E+)^2 + gamma exp(-E-)                        margin: > 0

    A wrong answer at a very negative energy overflows to inf, as the formula does.
    Source: Osadchy et al. (2005), as in LeCun et al. (2006), eq. 16.

    Args:
        positive, negative: as the module says.
        gamma: weight of the wrong answer.

    >>> float(square_exponential(2.0, 0.0, gamma=3.0))
    7.0
    """
    positive, negative = check_pair(positive, negative)
    gamma = check_margin("gamma", gamma, positive, negative)
    value = square(positive) + exp_of_minus(gamma, negative)
    return with_nan_derivatives(value, positive, negative)
