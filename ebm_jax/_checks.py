"""Argument checks. Each error states the argument, its value and what is allowed.

Values that are unknown during tracing pass.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ebm_jax.types import Array


def array(name: str, value) -> Array:
    """Return ``value`` as an array of real numbers, or raise TypeError."""
    try:
        given = jnp.asarray(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be an array of numbers, got {value!r}.") from None
    if not (jnp.issubdtype(given.dtype, jnp.number) or given.dtype == bool):
        raise TypeError(f"{name} must be an array of numbers, got {given.dtype}.")
    if jnp.issubdtype(given.dtype, jnp.complexfloating):
        raise TypeError(f"{name} must be an array of real numbers, got {given.dtype}.")
    return given


def floating(name: str, value) -> Array:
    """Return ``value`` as an array, or raise TypeError if it is not floating point."""
    given = array(name, value)
    if not jnp.issubdtype(given.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be floating point (float16, bfloat16, float32, float64), got "
            f"{given.dtype}."
        )
    return given


def categories(name: str, value, num: int, sampler: str) -> Array:
    """Return categories in int32; raise an error unless they are integers from 0 to num - 1.

    Booleans are the categories 0 and 1. ``sampler`` works without a gradient.
    """
    given = array(name, value)
    known = concrete(value if hasattr(value, "dtype") else given)  # before it could wrap
    if jnp.issubdtype(given.dtype, jnp.floating):
        raise TypeError(
            f"{name} must be integers (or booleans) from 0 to {num - 1}, got {given.dtype}. "
            f"Energies have no derivative in categories: samplers.{sampler} works without it."
        )
    if known is not None and known.size and (known.min() < 0 or known.max() >= num):
        raise ValueError(
            f"{name} must be integers from 0 to {num - 1}, got values from {known.min()} to "
            f"{known.max()}."
        )
    return given.astype(jnp.int32)  # a narrow type may not hold num


def concrete(value) -> np.ndarray | None:
    """Return the value as a NumPy array, or None if it is unknown during tracing."""
    return None if isinstance(value, Tracer) else np.asarray(value)


def _real(name: str, value) -> np.ndarray | None:
    """Return a known real number or array, or None if it is unknown during tracing."""
    if isinstance(value, Tracer):
        return None
    try:
        known = np.asarray(value)
        # NumPy does not treat bfloat16 as a number; float64 holds every smaller float type.
        if not jnp.issubdtype(known.dtype, jnp.complexfloating):
            return known.astype(np.float64)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{name} must be a real number, or an array of them, got {value!r}.")


def nonnegative(name: str, value) -> None:
    """Raise ValueError where a known value is negative or NaN."""
    known = _real(name, value)
    if known is not None and not np.all(known >= 0):
        raise ValueError(f"{name} must be >= 0, got {known}.")


def positive(name: str, value) -> None:
    """Raise ValueError where a known value is not finite and > 0."""
    known = _real(name, value)
    if known is not None and not (np.all(known > 0) and np.all(np.isfinite(known))):
        raise ValueError(f"{name} must be finite and > 0, got {known}.")


def finite(name: str, value) -> None:
    """Raise ValueError where a known value is infinite or NaN."""
    known = _real(name, value)
    if known is not None and not np.all(np.isfinite(known)):
        raise ValueError(f"{name} must be finite, got {known}.")


def weight(name: str, value) -> None:
    """Raise ValueError where a weight in a sum is not one number, finite and >= 0."""
    nonnegative(name, value)
    finite(name, value)
    scalar(name, value)


def fraction(name: str, value) -> None:
    """Raise ValueError where a known value lies outside [0, 1]."""
    known = _real(name, value)
    if known is not None and not np.all((known >= 0) & (known <= 1)):
        raise ValueError(f"{name} must be in [0, 1], got {known}.")


def inside(name: str, value) -> None:
    """Raise ValueError where a known value is not one number in (0, 1)."""
    known = _real(name, value)
    scalar(name, value)
    if known is not None and not 0 < known < 1:
        raise ValueError(f"{name} must be in (0, 1), got {known}.")


def values(given, least: int = 1) -> np.ndarray:
    """Validate and return the values that a variable may take, (q,)."""
    try:
        known = np.asarray(given)
        fine = known.ndim == 1 and known.size >= least and bool(np.isfinite(known).all())
        fine = fine and np.isrealobj(known) and len(np.unique(known)) == known.size
    except (TypeError, ValueError):
        fine = False
    if not fine:
        many = {1: "one or more numbers, all different", 2: "two or more different numbers"}[least]
        raise ValueError(f"values must be {many}, (q,), got {given!r}.")
    dtype = jnp.result_type(known)
    if known.dtype.kind in "iu" and not np.array_equal(known, known.astype(dtype)):
        raise ValueError(
            f"values must be integers that fit {dtype}, JAX's type for them, got {given!r}: number "
            "them from 0, or enable jax_enable_x64."
        )
    if len(np.unique(known.astype(dtype))) != known.size:
        raise ValueError(
            f"values must differ in {dtype}, JAX's type for them, got {given!r}: enable "
            "jax_enable_x64."
        )
    return known


def shape(value) -> tuple[int, ...]:
    """Validate and return the shape of a configuration, a tuple or one length."""
    sides = (value,) if isinstance(value, int | np.integer) else value
    if not isinstance(sides, tuple | list):
        raise TypeError(f"shape must be an integer or a tuple of them, got {value!r}.")
    return tuple(count("Each of shape", side, least=0) for side in sides)


def broadcastable(**arrays: Array) -> tuple[int, ...]:
    """Return the common shape, or raise ValueError naming every array and its shape."""
    try:
        return jnp.broadcast_shapes(*(a.shape for a in arrays.values()))
    except ValueError:
        shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ValueError(f"Shapes must broadcast together, got {shapes}.") from None


def fits(name: str, value, of: str, shape: tuple[int, ...]) -> None:
    """Raise ValueError where an array does not broadcast to the shape of another."""
    given = np.shape(value)
    try:
        same = jnp.broadcast_shapes(given, shape) == shape
    except ValueError:
        same = False
    if not same:
        raise ValueError(f"{name} {given} must broadcast to {of} {shape}.")


def scalar(name: str, value) -> None:
    """Raise ValueError where a number is an array of several."""
    if np.ndim(value):
        raise ValueError(f"{name} must be one number, got the shape {np.shape(value)}.")


def function(name: str, value) -> None:
    """Raise TypeError where a value cannot be called."""
    if not callable(value):
        raise TypeError(f"{name} must be a function, got {value!r}.")


def flag(name: str, value) -> None:
    """Raise TypeError where a value is neither True nor False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name} must be True or False, got {value!r}.")


def kind(params, *wanted: type) -> None:
    """Raise TypeError where parameters are none of the NamedTuples ``wanted``."""
    if not isinstance(params, wanted):
        names = " or a ".join(each.__name__ for each in wanted)
        raise TypeError(f"params must be a {names}, got {params!r}.")


def state(name: str, value, wanted: type) -> None:
    """Raise TypeError where a state is not the NamedTuple ``wanted``."""
    if not isinstance(value, wanted):
        raise TypeError(f"{name} must be an {wanted.__name__}, got {type(value).__name__}.")


def _functions(name: str, value, what: str, *parts: str):
    if not all(callable(getattr(value, part, None)) for part in parts):
        raise TypeError(f"{name} must be {what}, with {' and '.join(parts)}, got {value!r}.")
    return value


def sampler(name: str, value):
    """Return a sampler, of this library or of blackjax, or raise TypeError."""
    return _functions(name, value, "a Sampler", "init", "step")


def objective(name: str, value):
    """Return an objective, or raise TypeError."""
    return _functions(name, value, "an Objective", "init", "loss")


def distribution(name: str, value):
    """Return a distribution, or raise TypeError."""
    return _functions(name, value, "a Distribution", "sample", "log_prob")


def optimizer(value):
    """Return an optax transformation, or raise TypeError."""
    return _functions("optimizer", value, "an optax transformation", "init", "update")


def hashable(name: str, value) -> None:
    """Raise TypeError where the argument of a cached compilation has no hash."""
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"{name} must be hashable, as functions and tuples of functions are, so that its "
            f"compiled program can be reused; got {value!r}."
        ) from None


def leading_axis(name: str, batch) -> int:
    """Return the length of the leading axis, which must be the same on every leaf."""
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(batch)]
    if len({shape[:1] for shape in shapes}) != 1 or shapes[0][:1] in ((), (0,)):
        raise ValueError(
            f"{name} must have one leading axis of at least 1, the same on every leaf; got the "
            f"shapes {shapes}."
        )
    return shapes[0][0]


def alike(name: str, given, like) -> None:
    """Raise ValueError where structure, shapes or dtypes differ from ``like``."""

    def kinds(tree):
        return jax.tree.map(lambda leaf: (np.shape(leaf), str(jnp.result_type(leaf))), tree)

    try:
        same = kinds(given) == kinds(like)
    except (TypeError, ValueError):  # not an array
        same = False
    if not same:
        raise ValueError(f"{name} must be like {kinds(like)}, got {given!r}.")


def pair(batch) -> tuple:
    """Validate and return a batch (x, y) whose parts have equal length."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise TypeError(f"batches must be pairs (x, y), got {type(batch).__name__}.")
    for part in (*batch, tuple(batch)):
        leading_axis("batch", part)
    return tuple(batch)


def energies(energy, batch, name: str) -> Array:
    """Validate and return the energy of every configuration of a batch, (n,)."""
    function("energy", energy)
    leading_axis(name, batch)
    values = floating("energy", jax.vmap(energy)(batch))
    if values.ndim != 1:
        raise ValueError(
            "The energy must take one configuration and return a scalar (), it returned the "
            f"shape {values.shape[1:]}."
        )
    return values


def labels(label, energies: Array) -> Array:
    """Check labels against energies (..., n): integers, one per row, in [0, n)."""
    given = array("label", label)
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise TypeError(
            f"label must be an integer array, the index of the right candidate, got {given.dtype}: "
            "a loss over candidates takes (energies of all candidates, label). For the energies "
            "of a right and of a wrong answer use a pairwise loss, such as losses.hinge."
        )
    if energies.ndim == 0:
        raise ValueError("energies must have the candidates on the last axis, got a scalar.")
    if given.shape != energies.shape[:-1]:
        raise ValueError(
            f"label must have the shape of energies without its last axis, "
            f"{energies.shape[:-1]}, got {given.shape}."
        )
    known = concrete(label)
    n = energies.shape[-1]
    if known is not None and known.size and (known.min() < 0 or known.max() >= n):
        raise ValueError(
            f"label must be in [0, {n}) for {n} candidates, got values from "
            f"{known.min()} to {known.max()}."
        )
    wide = given if given.dtype.itemsize >= 4 else given.astype(jnp.int32)
    return jnp.where((wide >= 0) & (wide < n), wide.astype(jnp.int32), -1)


def one_key(key) -> None:
    """Reject anything but a single key."""
    typed = hasattr(key, "dtype") and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    shape = getattr(key, "shape", None)
    raw = hasattr(key, "dtype") and key.dtype == jnp.uint32 and shape in ((2,), (4,))
    if typed and shape != ():
        raise ValueError(f"key must be one key, got keys of the shape {shape}: vmap over them.")
    if not (typed or raw):
        raise TypeError(f"key must be a key of jax.random.key, got {key!r}.")


def between(key, base, energy, make_sampler) -> None:
    """Reject arguments of an estimate that goes from a base distribution to an energy."""
    one_key(key)
    distribution("base", base)
    hashable("base", base)
    function("energy", energy)
    function("make_sampler", make_sampler)
    hashable("make_sampler", make_sampler)


def count(name: str, value, least: int = 1) -> int:
    """Validate and return an integer >= ``least`` that is known during tracing."""
    if isinstance(value, Tracer):
        raise TypeError(f"{name} must be known when traced (it sets a loop's length), got {value}.")
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}.")
    return int(value)


def groups(given: int, num: int, buffer_size: int) -> None:
    """Reject groups that do not divide the chains drawn and those of the buffer equally."""
    if num % count("groups", given) or buffer_size % given:
        raise ValueError(
            f"groups={given} must divide the {num} chains drawn and the {buffer_size} chains of "
            "the buffer."
        )
