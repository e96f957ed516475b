"""Claims of a program: a measured value, and the bound that it has to keep."""

import operator
from typing import Any, NamedTuple

COMPARISONS = {"<": operator.lt, "<=": operator.le, ">": operator.gt, "==": operator.eq}


class Claim(NamedTuple):
    """A value that is compared with a threshold; it is true where the comparison holds.

    Attributes:
        value: the measured number.
        comparison: one of ``COMPARISONS``.
        threshold: the bound.
        what: what the value is.
    """

    value: float
    comparison: str
    threshold: float
    what: str

    def __bool__(self) -> bool:
        """Whether the claim holds; NaN holds for none."""
        return bool(COMPARISONS[self.comparison](self.value, self.threshold))

    def told(self) -> dict[str, Any]:
        """Return the claim for a summary."""
        bound = f"{self.comparison} {float(self.threshold):.4g}"
        return {"what": self.what, "value": float(self.value), "bound": bound}


def told(claims: dict[str, Any]) -> dict[str, Any]:
    """Return what a summary says of claims: whether they hold, and the values of those with one."""
    valued = {name: claim.told() for name, claim in claims.items() if isinstance(claim, Claim)}
    holds = {name: bool(claim) for name, claim in claims.items()}
    return {"claims": holds} | ({"claim_values": valued} if valued else {})
