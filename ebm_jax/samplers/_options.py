"""The options that the samplers of continuous positions share: schedules, temperature, clips."""

from collections.abc import Callable

import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.samplers._batch import chain_sum, per_chain
from ebm_jax.types import Array

Schedule = Callable[[Array], Array]


def at(value, step: Array):
    """Return a schedule's value at a step, or the constant itself."""
    return value(step) if callable(value) else value


def clip(gradient: list, limit) -> tuple[list, Array, Array]:
    """Scale every chain's gradient to norm <= limit; return it, the norms, what was clipped."""
    norm = jnp.sqrt(chain_sum([jnp.square(g) for g in gradient]))
    if limit is None:
        return gradient, norm, jnp.zeros(norm.shape, bool)
    clipped = norm > limit
    # where, not minimum(1, limit / norm): a small gradient keeps every bit.
    factor = jnp.where(clipped, limit / jnp.where(clipped, norm, 1.0), 1.0)
    return [g * per_chain(factor, g).astype(g.dtype) for g in gradient], norm, clipped


def check(step_size, beta, noise_scale, max_gradient_norm, box) -> None:
    """Refuse options whose known values are not allowed, with a sentence that says which are."""
    if not callable(step_size):
        _checks.positive("step_size", step_size)
    if beta is not None and noise_scale is not None:
        raise ValueError(
            f"Give beta ({beta}) or noise_scale ({noise_scale}), not both: noise_scale sets the "
            "effective beta = 2 step_size / noise_scale^2."
        )
    if beta is not None and not callable(beta):
        known = _checks.concrete(beta)
        if known is not None and not (known > 0).all():
            raise ValueError(
                f"beta must be > 0 (inf is gradient descent), got {known}: "
                "at beta = 0 the noise would be infinite."
            )
    if noise_scale is not None and not callable(noise_scale):
        _checks.nonnegative("noise_scale", noise_scale)
    if max_gradient_norm is not None:
        _checks.positive("max_gradient_norm", max_gradient_norm)
    if box is not None:
        low, high = (_checks.concrete(side) for side in box)
        if low is not None and high is not None and not (low < high).all():
            raise ValueError(f"box must be (low, high) with low < high, got ({low}, {high}).")


def kernel(step_size, beta, noise_scale):
    """Return step -> (h, noise standard deviation, effective beta), as arrays."""

    def kernel_at(step: Array) -> tuple[Array, Array, Array]:
        h = jnp.asarray(at(step_size, step))
        if noise_scale is None:
            b = jnp.asarray(1.0 if beta is None else at(beta, step))
            return h, jnp.sqrt(2 * h / b), b
        noise = jnp.asarray(at(noise_scale, step))
        return h, noise, 2 * h / jnp.square(noise)

    return kernel_at


def noiseless(beta, noise_scale) -> bool:
    """Whether the noise is known to be zero before anything runs."""
    value, zero = (beta, jnp.inf) if noise_scale is None else (noise_scale, 0.0)
    if value is None or callable(value):
        return False
    known = _checks.concrete(value)
    return known is not None and bool((known == zero).all())


def project(moving: list, box) -> tuple[list, Array]:
    """Return the positions clipped to the box, and the fraction of each chain's clipped."""
    inside = [jnp.clip(x, *box) for x in moving]
    stopped = [(x != y).astype(jnp.float32) for x, y in zip(moving, inside, strict=True)]
    return inside, chain_sum(stopped) / sum(x[0].size for x in moving)


def fits(name: str, value: Array, moving: list) -> None:
    """Refuse a value that does not broadcast to one configuration of every leaf."""
    for leaf in moving:
        one = leaf.shape[1:]
        tail = one[len(one) - value.ndim :]
        if value.ndim > len(one) or any(v not in (1, o) for v, o in zip(value.shape, tail)):  # noqa: B905
            raise ValueError(
                f"{name} must be a scalar or broadcast to one configuration of shape {one}, "
                f"got the shape {value.shape}."
            )
