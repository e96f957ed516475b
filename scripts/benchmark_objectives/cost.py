"""What an update costs, read from its program: multiplications in units of one energy."""

import math
from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr


def _inner(value: Any) -> list[Jaxpr]:
    """Return the programs that a parameter of an operation holds."""
    if isinstance(value, ClosedJaxpr):
        return [value.jaxpr]
    if isinstance(value, Jaxpr):
        return [value]
    return [program for v in value for program in _inner(v)] if isinstance(value, tuple) else []


def _products(program: Jaxpr) -> int:
    """Return the multiplications in a program's matrix products, loops multiplied out."""
    total = 0
    for operation in program.eqns:
        name, parameters = operation.primitive.name, operation.params
        if name == "dot_general":
            (contracted, _), _ = parameters["dimension_numbers"]
            lengths = [operation.invars[0].aval.shape[axis] for axis in contracted]
            total += math.prod(lengths) * math.prod(operation.outvars[0].aval.shape)
        each = [_products(inner) for value in parameters.values() for inner in _inner(value)]
        if name == "while" and any(each):
            raise ValueError("A loop of unknown length: its cost is not in the program.")
        together = max(each, default=0) if name == "cond" else sum(each)
        total += together * (parameters["length"] if name == "scan" else 1)
    return total


def multiplications(function: Callable, *arguments) -> int:
    """Return the multiplications in the matrix products of a call; nothing is computed."""
    return _products(jax.make_jaxpr(function)(*arguments).jaxpr)
