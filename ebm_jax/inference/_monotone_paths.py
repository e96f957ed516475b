"""The recursion over monotone paths that alignments and word recognisers use."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.types import Array


def soft_minimum(values: Array, beta: Array, shares: Array | None = None) -> Array:
    r"""Return the soft minimum over the first axis; the minimum at beta = inf.

    .. math:: -\frac{1}{\beta} \log \sum_i w_i \exp(-\beta v_i)

    The weights are 1, or ``shares`` that sum to one; with shares the result is accurate down to
    beta = 0, where it is the mean.
    """
    chosen = jnp.argmin(values, axis=0) == jnp.arange(values.shape[0])[:, *[None] * values[0].ndim]
    lowest = jnp.sum(jnp.where(chosen, values, 0.0), axis=0)
    # The formula holds for any level, so the gradient is correct with a constant level.
    level = jax.lax.stop_gradient(lowest)
    usable = (values < jnp.inf) & jnp.isfinite(level)
    gap = jnp.where(usable, values, 0.0) - jnp.where(usable, level, 0.0)
    warm = jnp.where((beta == jnp.inf) | (beta == 0), 1.0, beta)
    if shares is None:
        total = jnp.sum(jnp.where(usable, jnp.exp(-warm * gap), 0.0), axis=0)
        soft = -jnp.log(jnp.where(jnp.isfinite(level), total, 1.0)) / warm
    else:
        shrink = jnp.sum(shares * jnp.where(usable, jnp.expm1(-warm * gap), -1.0), axis=0)
        soft = -jnp.log1p(jnp.where(jnp.isfinite(level), shrink, 0.0)) / warm
        refused = jnp.any((values == jnp.inf) & (shares > 0), axis=0)
        mean_gap = jnp.where(refused, jnp.inf, jnp.sum(shares * gap, axis=0))
        soft = jnp.where(beta == 0, mean_gap, soft)
    return jnp.where((beta == jnp.inf) | ~jnp.isfinite(level), lowest, level + soft)


def prepare(energies, beta, num_windows, axis_name: str) -> tuple[Array, Array, Array, Any]:
    """Check the common arguments and keep gradients away from infinite energies.

    Returns energies at least in float32, beta, the number of windows, and the type of the result.
    """
    energies = _checks.floating("energies", energies)
    if energies.ndim != 2 or 0 in energies.shape:
        raise ValueError(
            f"energies must be (windows, {axis_name}) of one example, got {energies.shape}: "
            "vmap a batch."
        )
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)
    # Sums over many windows and shares near 1 need more than half precision.
    dtype = energies.dtype
    energies = energies.astype(jnp.promote_types(dtype, jnp.float32))
    beta = jnp.asarray(beta, energies.dtype)
    beta = jnp.where(beta >= 0, beta, jnp.nan)
    energies = jnp.where(jnp.isinf(energies), jax.lax.stop_gradient(energies), energies)
    return energies, beta, count("num_windows", num_windows, energies.shape[0]), dtype


def count(name: str, value, most: int, least: int = 1) -> Array:
    """Validate and return a count; an invalid one at run time becomes most + 1.

    ``read`` returns NaN for that count.
    """
    value = most if value is None else value
    given = _checks.array(name, value)
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    _checks.scalar(name, given)
    known = _checks.concrete(value)
    if known is not None and not least <= known <= most:
        raise ValueError(f"{name} must be from {least} to {most}, the padded size, got {known}.")
    wide = given if given.dtype.itemsize >= 4 else given.astype(jnp.int32)
    return jnp.where((wide >= least) & (wide <= most), wide.astype(jnp.int32), most + 1)


def read(rows: Array, *counts: Array) -> Array:
    """Return rows[count - 1, ...], NaN for a count that is out of range."""
    return rows.at[tuple(count - 1 for count in counts)].get(mode="fill", fill_value=jnp.nan)


def forward(energies: Array, beta: Array) -> Array:
    """Return a(l, t), (L, T), divided by the number C(l, t) of paths to (l, t).

    This is the mean form. A share (l - t) / l = C(l-1, t) / C(l, t) of the paths arrives from t,
    and t / l from t - 1.
    """
    size = energies.shape[1]
    label = jnp.arange(size)

    def step(before: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        index, row = at
        advance = jnp.minimum(label / index, 1.0).astype(row.dtype)
        arrivals = jnp.stack([before, jnp.roll(before, 1).at[0].set(jnp.inf)])
        now = row + soft_minimum(arrivals, beta, jnp.stack([1 - advance, advance]))
        now = jnp.where(label > index, jnp.inf, now)
        return now, now

    first = jnp.where(label == 0, energies[0], jnp.inf)
    indices = jnp.arange(1, energies.shape[0])
    return jnp.concatenate([first[None], jax.lax.scan(step, first, (indices, energies[1:]))[1]])


def sum_form(mean_form: Array, index: Array, label: Array, beta: Array, most: int) -> Array:
    """Return a(l, t) without the division by C(l, t), for l < most."""
    several = (label > 0) & (index > label) & (beta < jnp.inf) & (mean_form < jnp.inf)
    of, chosen = jnp.where(several, index, 0), jnp.where(several, label, 0)
    log_factorial = np.log(np.maximum(np.arange(most), 1)).cumsum()
    # In two parts, the large one first, so that the large terms cancel without an error.
    high = log_factorial.astype(mean_form.dtype)
    large, small = jnp.maximum(chosen, of - chosen), jnp.minimum(chosen, of - chosen)
    parts = [jnp.asarray(p, mean_form.dtype) for p in (high, log_factorial - high)]
    log_paths = sum((p[of] - p[large]) - p[small] for p in parts)
    entropic = jnp.where(beta == 0, jnp.inf, log_paths / jnp.where(beta == 0, 1.0, beta))
    return mean_form - jnp.where(several, entropic, 0.0).astype(mean_form.dtype)
