r"""Which pairwise losses make the right answer win, and by how much: the margin condition.

A loss Q(E+, E-) satisfies the condition with margin m if there is a point with E+ + m < E- at
which Q is smaller than at every point with E+ + m >= E-. Driving the loss down then makes the
right answer win by m. Source: LeCun et al. (2006), section 3.3, condition 3.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.types import Array


class MarginCondition(NamedTuple):
    """Whether a loss satisfies the margin condition with some m > 0, and with which.

    Attributes:
        satisfied: whether it holds for some m > 0 on the grid.
        margin: the least upper bound of the m > 0 for which it holds: 0 where it holds for
            none, inf where it holds for every m up to the limit.
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
    r"""Check the margin condition on a grid of energies, and find the largest margin.

        m* = sup {m > 0 : min Q(E+, E-) over E- - E+ > m  <  min Q(E+, E-) over E- - E+ <= m}

    Both minima are over a square of the (E+, E-) plane, four times as wide as the largest m it
    looks at, so that the sides do not decide; a loss that falls for ever is seen to fall.

    Args:
        loss: (E+, E-) -> loss, elementwise and broadcasting, its margin and the like filled in.
        limit: the largest m looked at, in units of energy, > 0.
        spacing: distance of the grid points, > 0; a power of two keeps the sums exact.
        lowest: the least energy that is feasible; None for -2 limit.

    Returns:
        A ``MarginCondition``; its margin is a grid value, exact to ``spacing``.

    Raises:
        ValueError: a limit or spacing that is not positive, fewer than 8 points to the limit, a
            lowest that is not below the limit, a loss that is not elementwise or is NaN
            somewhere. TypeError: a non-callable argument or one that is not a number.

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
            "loss must be elementwise and a number everywhere; at E+ (n, 1) and E- (1, n), "
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
