"""What a row of the table is made of: a valid call, and the values that are refused in it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

KEY = jax.random.key(0)
NAN, INF = float("nan"), float("inf")
NO_NUMBERS = (None, "three", ["a", "b"], [[1.0], [1.0, 2.0]], object(), 1j)


class Arg(NamedTuple):
    """A value that is allowed, values that are not, and what the sentence calls the argument."""

    valid: Any
    bad: tuple
    named: str | None = None


class Row(NamedTuple):
    """A function, its arguments, what is done with its result, and calls that are refused.

    ``also`` holds (call, pattern) pairs, for what is no single argument's fault; ``several`` are
    the valid arguments of a signature with a star.
    """

    function: Callable
    arguments: dict[str, Arg]
    use: Callable[[Any], Any]
    also: tuple
    several: tuple


class Traced(NamedTuple):
    """A value that is known only at run time."""

    value: Any


def row(function: Callable, /, *several, use=lambda x: x, also=(), **arguments: Arg) -> Row:
    return Row(function, arguments, use, tuple(also), several)


def allowed(valid) -> Arg:
    """Anything goes: it is passed on, or not read."""
    return Arg(valid, ())


def energies(valid, *more, named=None) -> Arg:
    """Real numbers that have a gradient."""
    valid = jnp.asarray(valid)
    others = [valid.astype(kind) for kind in (jnp.complex64, jnp.int32, bool)]
    return Arg(valid, (*NO_NUMBERS, *others, *more), named)


def numbers(valid, *more, named=None) -> Arg:
    return Arg(valid, (*NO_NUMBERS, *more), named)


def nonnegative(valid, *more, named=None) -> Arg:
    return numbers(valid, -1.0, NAN, *more, named=named)


def positive(valid, *more, named=None) -> Arg:
    return nonnegative(valid, 0.0, *more, named=named)


def fraction(valid, *more) -> Arg:
    return nonnegative(valid, 1.5, *more)


def count(valid, *more) -> Arg:
    return Arg(valid, (None, "3", 0, -1, 10.0, True, 1j, (3,), Traced(3), *more))


def flag(valid) -> Arg:
    return Arg(valid, (None, "yes", 1.0, jnp.ones(2)))


def function(valid, *more, named=None) -> Arg:
    return Arg(valid, (None, 3, "f", jnp.zeros(2), *more), named)


def energy(valid, of=lambda result: lambda *args: result, named=None) -> Arg:
    """A function that returns one floating number; ``of`` makes one that returns something else."""
    results = (None, 1, 1j, jnp.zeros(2), (0.0, 0.0), {"a": 0.0})
    return function(valid, *map(of, results), named=named or "energy")


def key() -> Arg:
    return Arg(KEY, (None, 0, "key", jnp.zeros(2), jax.random.split(KEY, 3)))


def positions(valid, *more, named="[Pp]ositions?") -> Arg:
    """Pytrees of arrays with one leading axis: chains, candidates, data."""
    uneven = {"a": jnp.zeros((2, 1)), "b": jnp.zeros((3, 1))}
    return Arg(
        valid, (None, "x", object(), ["a"], 1.0, (), jnp.zeros((0, 2)), uneven, *more), named
    )


def params(valid, *more) -> Arg:
    """A NamedTuple of parameters: no other, nor what looks like one."""
    return Arg(valid, (None, "p", 1.0, tuple(valid), valid._asdict(), *more))
