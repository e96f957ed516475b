"""The losses of the library by name, each as a function of the energies of all answers."""

import inspect
from collections.abc import Callable

from ebm_jax import losses

PAIRWISE = (
    "energy",
    "hinge",
    "log",
    "lvq2",
    "mce",
    "simple",
    "square_square",
    "square_exponential",
)
CANDIDATES = ("perceptron", "nll", "mee")
NAMES = (*PAIRWISE, *CANDIDATES)
WITH_MARGIN = tuple(
    name for name in NAMES if "margin" in inspect.signature(getattr(losses, name)).parameters
)


def named(name: str, margin: float = 1.0) -> Callable:
    """Return (energies (..., n), label (...)) -> loss (...); a pairwise one meets the offender.

    ``margin`` is the margin, the ceiling or the weight gamma of a loss that has one.
    """
    loss = getattr(losses, name)
    if name in CANDIDATES:
        return loss
    options = {"margin", "ceiling", "gamma"} & set(inspect.signature(loss).parameters)
    return losses.over_candidates(loss, **dict.fromkeys(options, margin))
