r"""The margin condition: whether a pairwise loss makes the right answer win.

A loss :math:`Q(E^+, E^-)` satisfies the condition with margin m if at some point with :math:`E^+ +
m < E^-` it is smaller than at every point with :math:`E^+ + m \ge E^-`. Minimising the loss then
makes the right answer win by at least m. Source: LeCun et al. (2006), section 3.3, condition 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.types import Array


class MarginCondition(NamedTuple):
    """Outcome of the test of the margin condition for a loss.

    Attributes:
        satisfied: whether the condition holds for some m > 0 on the grid.
        margin: supremum of the margins m > 0 for which it holds: 0 if it holds for none, inf if it
            holds for every m up to the limit.
    """

    satisfied: bool
    margin: float


def margin_condition(
    loss: Callable[[Array, Array], Array],
    *,
    limit: float = 4.0,
    spacing: float = 0.0625,
    lowest: float | None = None,
) -> MarginCondition:
    r"""Test the margin condition on a grid of energies and find the largest margin.

    .. math:: m^\star = \sup \Big\{ m > 0 : \min_{E^- - E^+ > m} Q(E^+, E^-)
        < \min_{E^- - E^+ \le m} Q(E^+, E^-) \Big\}

    Both minima are over a square of the plane of :math:`(E^+, E^-)` that is four times as wide as
    the largest m, so that its edges do not decide and a loss that falls without bound is
    recognised.

    Args:
        loss: function :math:`(E^+, E^-)` -> loss, elementwise and broadcasting, with its options
            bound.
        limit: largest m to test, in units of energy, > 0.
        spacing: spacing of the grid in units of energy, > 0; a power of two keeps the sums exact.
        lowest: lowest feasible energy; None for -2 limit.

    Returns:
        A ``MarginCondition``, whose margin is a grid value, exact up to ``spacing``.

    Raises:
        TypeError: if loss is not callable, or an option is not a number.
        ValueError: if limit or spacing is not positive, limit < 8 spacing, lowest >= limit, or the
            loss is not elementwise or is NaN at some point.

    >>> import functools
    >>> from ebm_jax import losses
    >>> margin_condition(functools.partial(losses.hinge, margin=1.0))
    MarginCondition(satisfied=True, margin=1.0)
    >>> margin_condition(losses.energy)
    MarginCondition(satisfied=False, margin=0.0)
    """
    _checks.function("loss", loss)
    _checks.positive("limit", limit)
    _checks.positive("spacing", spacing)
    low = -2 * limit if lowest is None else lowest
    _checks.finite("lowest", low)
    for name, value in (("limit", limit), ("spacing", spacing), ("lowest", low)):
        _checks.scalar(name, value)
    if limit < 8 * spacing:
        raise ValueError(f"spacing must be at most limit / 8 = {limit / 8}, got {spacing}.")
    if not low < limit:
        raise ValueError(f"lowest must be below limit = {limit}, got {low}.")
    energies = low + spacing * np.arange(round((2 * limit - low) / spacing) + 1)
    with jax.ensure_compile_time_eval():  # inside a trace, too
        positive, negative = jnp.asarray(energies)[:, None], jnp.asarray(energies)[None, :]
        values = np.asarray(_checks.array("What loss returns", loss(positive, negative)))
    size = len(energies)
    if values.shape != (size, size) or np.isnan(values).any():
        raise ValueError(
            "loss must be elementwise and free of NaN; at E+ (n, 1) and E- (1, n), "
            f"n = {size}, it returned the shape {values.shape}, {np.isnan(values).sum()} NaN."
        )
    # Diagonals have a constant E- - E+: their minima, from the lowest difference to the highest.
    along = np.array([np.diagonal(values, k).min() for k in range(1 - size, size)])
    differences = spacing * np.arange(1 - size, size)
    losing = np.minimum.accumulate(along)
    winning = np.append(np.minimum.accumulate(along[::-1])[::-1][1:], np.inf)
    holds = differences[(winning < losing) & (differences >= 0) & (differences <= limit)]
    if not holds.size:
        return MarginCondition(False, 0.0)
    # A point at E- - E+ = d is on the losing side of m = d, on the winning side of any lesser m.
    margin = holds.max() + spacing
    return MarginCondition(True, float("inf") if margin > limit else float(margin))
