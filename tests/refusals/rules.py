"""What is refused for an argument, read from its annotation, its name and its valid value."""

import functools
import inspect
import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from ebm_jax import samplers
from ebm_jax.types import Distribution, Objective, Sampler


class Arg(NamedTuple):
    """A valid value, values that are refused, and a pattern of the name that the error uses."""

    valid: Any
    bad: tuple
    named: str | None = None
    derived: bool = False  # whether the values of the rules are refused, too


class Traced(NamedTuple):
    """A value that is known only at run time."""

    value: Any


class Example(NamedTuple):
    """A function, its arguments, what is done with the result, and more refused calls."""

    function: Callable
    several: tuple
    arguments: dict[str, Arg]
    use: Callable[[Any], Any]
    also: list[tuple[Callable[[], Any], str]]


def plus(valid, *bad, named=None) -> Arg:
    """A valid value, and values that are refused besides those of the rules."""
    return Arg(valid, bad, named, derived=True)


def only(valid, *bad, named=None) -> Arg:
    """A valid value, and the values that are refused: the rules do not apply."""
    return Arg(valid, bad, named)


def each(call: Callable, values: Sequence, pattern: str) -> list:
    """Return that each of the values is refused by a call."""
    return [(functools.partial(call, value), pattern) for value in values]


def changed(params, **bad: Sequence) -> Arg:
    """Return valid parameters, and values of their fields that are refused."""
    return plus(params, *(params._replace(**{f: b}) for f, wrong in bad.items() for b in wrong))


def without(bad: Sequence, *kinds) -> tuple:
    """Return bad values without some of them, which are compared by type and value."""
    return tuple(b for b in bad if not any(type(b) is type(k) and b == k for k in kinds))


def result(value) -> Callable:
    """Return a function that returns a value for any arguments."""
    return lambda *args, **options: value


KEY, X = jax.random.key(0), jnp.ones((4, 2))
NAN, INF = float("nan"), float("inf")
NUMBERS = (None, "three", ["a", "b"], [[1.0], [1.0, 2.0]], object(), 1j)
PER_DIMENSION = jnp.ones(2)
NONNEGATIVE = (*NUMBERS, -1.0, NAN, PER_DIMENSION, jnp.ones((7, 5)))
WEIGHT = (*NONNEGATIVE, INF)
POSITIVE = (*WEIGHT, 0.0)
FRACTION = (*NONNEGATIVE, 1.5)
INSIDE = (*FRACTION, 0.0, 1.0)
KEYS = (None, 0, "key", jnp.zeros(2), jax.random.split(KEY, 3))
FLAGS = (None, "yes", 1.0, jnp.ones(2))
COUNTS = (None, "3", 0, -1, 10.0, True, 1j, (3,), Traced(3))
COUNTS_FROM_0 = (*without(COUNTS, 0), False)
SIZES = (None, 4, "44", (0,), (1.5,), (True,), ("a",))
FUNCTIONS = (None, 3, "f", jnp.zeros(2))
ENERGIES = (*FUNCTIONS, *map(result, (None, 1, 1j, jnp.zeros(2), (0.0, 0.0), {"a": 0.0})))
FACTORIES = (*FUNCTIONS, *map(result, (None, jnp.sum, (1, 2))))
UNEVEN = {"a": jnp.zeros((2, 1)), "b": jnp.zeros((3, 1))}
BATCHES = (None, "x", object(), ["a"], 1.0, (), jnp.zeros((0, 2)), UNEVEN)
MASKS = ("yes", object(), *(jnp.ones(n, t) for n in (3, 4) for t in (float, int)))
MASKS += (jnp.ones(5, bool), jnp.ones((7, 5), bool))
EDGES = (None, "x", 1, object(), [[0, 1], [1]], [[0.0, 1.0]], [[True, False]], [0, 1], [[0, 1, 2]])
EDGES += ([[0, 0]], [[0, 9]], [[0, -1]], Traced([[0, 1]]))
VALUES = (None, "01", ("a", "b"), object(), 1, (1,), (0, 0), ((0, 1),), (0.0, NAN), 1j)
ENDS = [(low, 1.0) for low in NUMBERS] + [(0.0, result("high")), (1.0, 0.0), (0.0, NAN)]


def energy(*args):
    """An energy of any arguments: half the sum of the squares of their leaves."""
    return sum(jnp.sum(jnp.square(1.0 * leaf)) for leaf in jax.tree.leaves(args)) / 2


make_sampler = functools.partial(samplers.mala, step_size=0.1)
NONE = inspect.Parameter.empty
MALA = make_sampler(energy)
ENERGY = (energy, ENERGIES)
# A valid value of an argument without a default, and values that are refused, by its name.
BY_NAME = {
    "acceptance_rate fraction onset plateau resample_below restart_fraction": (0.5, FRACTION),
    "average_decay": (NONE, (*FRACTION, 1.0)),
    "axes": (NONE, ("x", 0.5, (0, 0), 2, -3)),
    "axis": (NONE, (None, (0, 1), "last", 1.5, True, 2, -3)),
    "base energy path": ENERGY,
    "beta": (1.0, (*NONNEGATIVE, jnp.ones((3, 1)))),
    "ceiling friction gamma margin noise_sigma radius sparsity threshold": (0.1, NONNEGATIVE),
    "betas": (jnp.array([0.5, 1.0]), (*NUMBERS, X, jnp.array([0.5, NAN]))),
    "bounds": (NONE, (1.0, "bounds", (0.0,), (0.0, 1.0, 2.0), (jnp.ones((3, 2)), 5.0), *ENDS)),
    "candidates chains data negatives noise positives states": (X, BATCHES),
    "clamp where": (NONE, MASKS),
    "confidence probability": (0.5, INSIDE),
    "coupling length mass max_gradient_norm scale": (0.1, POSITIVE),
    "edges": (NONE, EDGES),
    "dtype": (NONE, ("no", jnp.int32, bool, 3, jnp.complex64)),
    "energy_penalty entropy_weight stabilizer weight": (0.1, WEIGHT),
    "groups": (NONE, (*COUNTS, 3)),
    "key": (KEY, KEYS),
    "make_sampler": (make_sampler, FACTORIES),
    "num_labels num_windows": (NONE, ("4", 0, -1, 7, 1.5, True, jnp.ones(2, int), 1j)),
    "optimizer": (optax.sgd(0.1), ()),
    "position positions starts": (X, (*BATCHES, X.astype(int))),
    "sampler": (MALA, ()),
    "sigma spacing step_size target temperature tolerance variance": (0.1, POSITIVE),
    "state": (MALA.init(X), (None, "x", X, {"a": X}, 1.0)),
    "values": (NONE, VALUES),
}
BY_NAME = {name: kind for names, kind in BY_NAME.items() for name in names.split()}
NUMBERS_ONLY = "x v h spins colours low high lowest log_weights mean visible_offset hidden_offset"
FLOATING = "energies data_energies positive negative derivative distance dictionary logits y z"
FLOATING += " base_bias forward back"
PATTERNS = {
    "candidates": "^candidates must (have|be like)",
    "chains": "(?i)chains",
    "path": "path|energy",
}
PATTERNS |= dict.fromkeys(["position", "positions"], "(?i)positions?")


def of_tuple(valid, fields: bool) -> tuple:
    """Return what is refused for a NamedTuple: other types, fields of another type or shape."""
    wrong = ("a", jnp.array(1j), jnp.ones(5), jnp.ones((7, 5, 3)))
    changed = [valid._replace(**{f: w}) for f in valid._fields for w in wrong if fields]
    alike = (tuple(valid), valid._asdict(), [valid], *valid)
    return (None, "x", 3, 1.0, (1, 2), X, jnp.sum, *alike, *changed)


def of_label(label) -> tuple:
    label = jnp.asarray(label)
    other = (1.0 * label, label > 0, label + 99, label - 1, label[:-1], label[..., None])
    return (None, "a", ["a"] * 4, object(), 1j, *other)


def of_schedule(bad: Sequence) -> tuple:
    """Return the invalid values of an option that may be a schedule, checked at step 0."""
    known = (*(b for b in bad if b is not PER_DIMENSION), True)
    return (*known, *map(result, known))


def rule(name: str, annotation, valid, more: tuple) -> tuple:
    """Return the values that are refused for an argument besides ``more``."""
    union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    parts = list(typing.get_args(annotation)) if union else [annotation]
    parts = [part for part in parts if part is not types.NoneType]
    called = any(Callable in (part, typing.get_origin(part)) for part in parts)
    if isinstance(valid, tuple) and hasattr(valid, "_fields") and name != "state":
        return of_tuple(valid, name == "params")
    if parts == [bool]:
        return FLAGS
    if called and jax.Array in parts:
        return of_schedule((*BY_NAME[name][1], *more))
    if called and name not in BY_NAME:
        return (*FUNCTIONS, result(None), result("low"))
    if name in BY_NAME:
        return BY_NAME[name][1]
    if parts == [int]:
        return COUNTS_FROM_0 if valid == 0 else COUNTS
    if name in FLOATING.split():
        return (*NUMBERS, *(jnp.asarray(valid).astype(t) for t in (complex, int, bool)))
    if name in NUMBERS_ONLY.split():
        return NUMBERS
    if name == "label":
        return of_label(valid)
    if typing.get_origin(annotation) is Sequence:
        return SIZES
    raise LookupError(f"No rule for the argument {name}: add one in rules.py, or use only(...).")


def pattern(name: str, valid) -> str:
    """Return the pattern that an error about an argument must match."""
    if hasattr(valid, "_fields") and name == "params":
        return "|".join((name, *(rf"\b{field}\b" for field in valid._fields)))
    return PATTERNS.get(name, rf"\b{name}\b")


def steps(positions):
    """Start a sampler at positions and make a step."""
    return lambda sampler: sampler.step(KEY, sampler.init(positions))


def value(batch, params=1.0):
    """Begin, and take the loss of a batch."""
    return lambda objective: objective.loss(params, objective.init(params, KEY), batch, KEY)


def used(distribution):
    """Draw from it, and evaluate a draw."""
    return distribution.log_prob(distribution.sample(KEY, 3)[0])


def refused_by_sampler(make, at, wrong):
    """Return the refusals of every sampler: of invalid positions and of invalid keys."""
    whole = jnp.issubdtype(at.dtype, jnp.integer)
    bad = (*BATCHES, *((at + 2, 1.0 * at, 0.5 * at) if whole else (at.astype(int),)), *wrong)
    refused = each(lambda x: steps(x)(make()), bad, "Positions|Units|Sites|variable")
    return refused + each(lambda k: make().step(k, make().init(at)), KEYS, r"\bkey\b")


def refused_by_objective(make, at, wrong, integers, trained):
    """Return invalid arguments of every objective: without a leading axis, integers."""
    pair, images = isinstance(at, tuple), []
    if pair:
        x, y = at
        bad = (None, "ab", x, (x,), (x, y[:2]), (x[:2], y), (x, None), (None, y), (x, y, y))
    else:
        bad = (None, 1.0, (), at[0, 0], {"a": at, "b": at[:2]}, at[:0])
        whole = jnp.issubdtype(at.dtype, jnp.integer)
        bad += (0.5 * at, at + 2) if whole else ()
        images = [] if whole or integers else [at.astype(jnp.uint8)]
    refused = each(lambda b: value(b, trained)(make()), images, "images / 255")
    named = "batch|Positions|variable|label"
    return refused + each(lambda b: value(b, trained)(make()), (*bad, *wrong), named)


def refused_by_network(make, at):
    """Return the refusals of every network: invalid values, a batch, and another size."""
    takes = make().__class__.__name__ + r" takes one (x|image).*got.*"
    bad = (jnp.stack([at] * 5), at[: len(at) // 2])
    return [
        *each(lambda x: make().init(KEY, x), (None, "x", object()), "x must be an array of num"),
        *(
            (lambda x=x: make().apply(make().init(KEY, at), x), takes + re.escape(str(x.shape)))
            for x in bad
        ),
    ]


def refused_by_distribution(make):
    """Return the refusals of every distribution: of keys, of counts, of configurations."""
    counts = without(COUNTS_FROM_0, Traced(3))
    return [
        *each(lambda k: make().sample(k, 3), KEYS, r"\bkey\b"),
        *each(lambda n: make().sample(KEY, n), counts, r"\bnum\b"),
        *each(lambda x: make().log_prob(x), (None, "x", object(), 1j), r"\bx\b"),
        *each(lambda x: make().log_prob(x), (1.0, jnp.zeros((3, 2))), "configurations of shape"),
    ]


def call(function: Callable, several: tuple, given: dict):
    """Call a function, with the arguments that its signature has under a star."""
    parameters = inspect.signature(function).parameters.values()
    first = [given[p.name] for p in parameters if p.kind == p.POSITIONAL_OR_KEYWORD and several]
    rest = dict(list(given.items())[len(first) :]) if several else given
    return function(*first, *several, **rest)


def example(function: Callable, /, *several, use=None, also=(), **given) -> Example:
    """Return a row: a valid call of a function, its result used, and what is refused in it.

    Arguments:
        several: valid arguments of a signature with a star.
        given: the valid arguments; those left out have their defaults, or those of ``BY_NAME``.
        use: what is done with the result, for lazy refusals; derived for the types of the library.
        also: (call, pattern) pairs, for combinations of arguments that are invalid together.
        at, wrong: positions of chains for a sampler, a batch for an objective; more bad ones.
        trained, integers: the parameters of an objective, and whether its data may be integers.
    """
    arguments, signature = {}, inspect.signature(function)
    at, wrong, trained = given.pop("at", X), given.pop("wrong", ()), given.pop("trained", 1.0)
    integers = given.pop("integers", False)
    for name, p in signature.parameters.items():
        known = 2 if p.annotation is int else BY_NAME.get(name, [NONE])[0]
        arg = given.pop(name, known if p.default is NONE else p.default)
        if arg is NONE or name in ("parent", "name"):  # the last two are Flax's
            continue
        arg = arg if isinstance(arg, Arg) else plus(arg)
        bad = (*rule(name, p.annotation, arg.valid, arg.bad), *arg.bad) if arg.derived else arg.bad
        bad = tuple(b for b in bad if b is not None or p.default is not None)
        arguments[name] = Arg(arg.valid, bad, arg.named or pattern(name, arg.valid))
    for name, arg in given.items():  # of two stars
        arguments[name] = arg._replace(named=pattern(name, None))
    valid = {name: arg.valid for name, arg in arguments.items()}
    make, made = functools.partial(call, function, several, valid), signature.return_annotation
    more = []
    if inspect.isclass(function):  # a network
        use, more = lambda network: network.init(KEY, at), refused_by_network(make, at)
    elif made is Sampler:
        use, more = use or steps(at), refused_by_sampler(make, at, wrong)
    elif made is Objective and not use:
        use = value(at, trained)
        more = refused_by_objective(make, at, wrong, integers, trained)
    elif made is Distribution:
        use, more = use or used, refused_by_distribution(make)
    return Example(function, several, arguments, use or (lambda x: x), [*also, *more])


def examples(room, names: str, **given) -> list[Example]:
    """Return a row for each of these functions, with those of the arguments that it has."""
    functions = [getattr(room, name) for name in names.split()]
    options = {"at", "wrong", "use", "also", "integers"}
    having = [{*inspect.signature(f).parameters, *options} for f in functions]
    given_to = [{n: a for n, a in given.items() if n in names} for names in having]
    return [example(f, **some) for f, some in zip(functions, given_to, strict=True)]
