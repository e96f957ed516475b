"""The options that the samplers of continuous positions share, and their checks.

An option is a number; some may be an array that broadcasts to one configuration, and beta may have
one value per chain. Each may also be a schedule of these, step () -> value. Values are checked when
the sampler is constructed (those of a schedule at step 0), shapes at the first step. A value that
is out of range only at run time turns all chains NaN.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_sum, per_chain
from ebm_jax.types import Array, Key

Schedule = Callable[[Array], Array]


class Options(NamedTuple):
    """The options that ula, sgld, mala and baoab take."""

    step_size: Any
    beta: Any = None
    noise_sigma: Any = None
    max_gradient_norm: Any = None
    bounds: Any = None


class Now(NamedTuple):
    """The options of one step; if one is invalid, ``step_size`` is NaN."""

    step_size: Array  # (), or broadcasting to one configuration
    noise: list  # the standard deviation of the noise, for every moving leaf
    beta: Array  # the effective one
    max_gradient_norm: Array | None  # ()
    bounds: tuple[Array, Array] | None
    valid: Array  # ()


# name: (whether a value is allowed, the words for it)
_RANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "step_size": (lambda v: (v > 0) & (v < np.inf), "finite and > 0"),
    "beta": (lambda v: v > 0, "> 0 (inf is gradient descent, 0 would be infinite noise)"),
    "noise_sigma": (lambda v: (v >= 0) & (v < np.inf), ">= 0 and finite"),
    "max_gradient_norm": (lambda v: (v > 0) & (v < np.inf), "finite and > 0"),
    "mass": (lambda v: (v > 0) & (v < np.inf), "finite and > 0"),
    "friction": (lambda v: (v >= 0) & (v < np.inf), ">= 0 and finite"),
}


def _value(name: str, value, step) -> Array:
    """Return an option at a step; raise an error for anything but real numbers."""
    value = value(step) if callable(value) else value
    array = _checks.array(name, value)
    if array.dtype == bool:
        raise TypeError(f"{name} must be a real number or an array of them, got {value!r}.")
    return array if jnp.issubdtype(array.dtype, jnp.floating) else array.astype(float)


def _known(name: str, value) -> np.ndarray | None:
    """Return the value of an option (of a schedule at step 0), None if unknown."""
    # Also inside a trace, where the value may still be a constant.
    with jax.ensure_compile_time_eval():
        return _checks.concrete(_value(name, value, jnp.zeros((), jnp.int32)))


def check(name: str, value) -> None:
    """Reject an invalid value, if it is known (of a schedule: at step 0)."""
    known = _known(name, value)
    allowed, words = _RANGES[name]
    if known is not None and not np.all(allowed(known)):
        when = " at step 0" if callable(value) else ""
        raise ValueError(f"{name} must be {words}, got {known}{when}.")


def check_all(options: Options) -> None:
    """Reject invalid options whose values are known."""
    if options.beta is not None and options.noise_sigma is not None:
        raise ValueError(
            f"Give beta ({options.beta}) or noise_sigma ({options.noise_sigma}), not both: "
            "noise_sigma sets the effective beta = 2 step_size / noise_sigma^2."
        )
    for name, value in options._asdict().items():
        if value is not None and name != "bounds":
            check(name, value)
    if options.bounds is not None:
        if not isinstance(options.bounds, tuple | list) or len(options.bounds) != 2:
            raise ValueError(f"bounds must be a pair (low, high), got {options.bounds!r}.")
        low, high = (_known("bounds", side) for side in options.bounds)
        if low is not None and high is not None and not (low < high).all():
            raise ValueError(f"bounds must be (low, high) with low < high, got ({low}, {high}).")


def one_number(reason: str, options: Options) -> None:
    """Reject a step size or a noise that is an array."""
    first = jnp.zeros((), jnp.int32)
    shapes = [np.shape(_value("step_size", options.step_size, first))]
    shapes += [np.shape(_value("noise_sigma", options.noise_sigma, first))]
    if shapes != [(), ()]:
        raise ValueError(
            f"{reason}, so step_size and noise_sigma must be one number each, got the shapes "
            f"{shapes[0]} and {shapes[1]}: give beta instead."
        )


def scalar(name: str, value, step) -> Array:
    """Return an option that is one number, at a step."""
    array = _value(name, value, step)
    if array.ndim:
        raise ValueError(f"{name} must be one number, got the shape {array.shape}.")
    return array


def configuration(name: str, value, step, moving: list) -> Array:
    """Return an option that broadcasts to one configuration of every leaf."""
    array = _value(name, value, step)
    for leaf in moving:
        one = leaf.shape[1:]
        tail = one[len(one) - array.ndim :]
        if array.ndim > len(one) or any(
            v not in (1, o) for v, o in zip(array.shape, tail, strict=False)
        ):
            raise ValueError(
                f"{name} must be a scalar or broadcast to one configuration of shape {one}, "
                f"got the shape {array.shape}."
            )
    return array


def chains(name: str, value, step, moving: list) -> Array:
    """Return an option that is one number, or one number per chain."""
    array = _value(name, value, step)
    if array.shape not in ((), moving[0].shape[:1]):
        raise ValueError(
            f"{name} must be one number, or one per chain {moving[0].shape[:1]}, got the shape "
            f"{array.shape}."
        )
    return array


def valid(name: str, array: Array) -> Array:
    """Return whether all of an option's values are allowed, ()."""
    return jnp.all(_RANGES[name][0](array))


def now(options: Options, step: Array, moving: list) -> Now:
    """Return the options of a step, their shapes checked."""
    h = configuration("step_size", options.step_size, step, moving)
    fine = valid("step_size", h)
    if options.noise_sigma is None:
        beta = chains("beta", 1.0 if options.beta is None else options.beta, step, moving)
        fine &= valid("beta", beta)
        noise = [
            jnp.sqrt(2 * h / (per_chain(beta, leaf) if beta.ndim else beta)) for leaf in moving
        ]
    else:
        scale = configuration("noise_sigma", options.noise_sigma, step, moving)
        fine &= valid("noise_sigma", scale)
        noise, beta = [scale for _ in moving], 2 * h / jnp.square(scale)
    limit = None
    if options.max_gradient_norm is not None:
        limit = scalar("max_gradient_norm", options.max_gradient_norm, step)
        fine &= valid("max_gradient_norm", limit)
    bounds = options.bounds
    if bounds is not None:
        low, high = (configuration("bounds", side, step, moving) for side in bounds)
        fine &= jnp.all(low < high)
        bounds = low, high
    return Now(jnp.where(fine, h, jnp.nan).astype(h.dtype), noise, beta, limit, bounds, fine)


def noiseless(options: Options) -> bool:
    """Return whether the noise is known to be zero before the chains run."""
    value, zero = options.noise_sigma, 0.0
    if value is None:
        value, zero = options.beta, jnp.inf
    known = None if value is None or callable(value) else _known("beta", value)
    return known is not None and bool((known == zero).all())


def longer(norm: Array, limit: Array | None) -> Array:
    """Return which gradients are longer than the limit and so clipped, (chains,)."""
    return jnp.zeros(norm.shape, bool) if limit is None else norm > limit


def clip(gradient: list, norm: Array, limit: Array | None) -> tuple[list, Array]:
    """Scale each chain's gradient to norm <= limit; return it and which were longer."""
    clipped = longer(norm, limit)
    if limit is None:
        return gradient, clipped
    # where instead of minimum(1, limit / norm), so that a small gradient stays bit-identical.
    # Divided by the norm first, since the factor limit / norm may underflow.
    unit = jnp.where(clipped, norm, 1.0)
    scaled = [(limit * (g / per_chain(unit, g))).astype(g.dtype) for g in gradient]
    kept = zip(scaled, gradient, strict=True)
    return [jnp.where(per_chain(clipped, g), s, g) for s, g in kept], clipped


def project(moving: list, bounds) -> tuple[list, Array]:
    """Clip positions to the bounds; return them and the fraction clipped per chain."""
    inside = [jnp.clip(x, *bounds).astype(x.dtype) for x in moving]
    stopped = [(x != y).astype(jnp.float32) for x, y in zip(moving, inside, strict=True)]
    return inside, chain_sum(stopped) / sum(x.size // x.shape[0] for x in moving)


def shifts(key: Key, moving: list, noise: list, silent: bool) -> list:
    """Return the noise of a step, one flat draw for all chains; zeros if ``silent``."""
    if silent:
        return [jnp.zeros((), x.dtype) for x in moving]
    return [s * xi for s, xi in zip(noise, standard_normal(key, moving), strict=True)]
