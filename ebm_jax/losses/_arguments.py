"""Checks of the arguments of losses, and the wrong answer of lowest energy."""

import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.types import Array


def check_pair(positive, negative) -> tuple[Array, Array]:
    """Validate and return the energies of right and wrong answers."""
    positive = _checks.floating("positive", positive)
    known = _checks.array("negative", negative)
    if jnp.issubdtype(known.dtype, jnp.integer):
        raise TypeError(
            f"negative must be the energies of wrong answers, floating point, got {known.dtype}. "
            "For the energies of all candidates and a label, use over_candidates(loss)(energies, "
            "label), or loss(*most_offending(energies, label))."
        )
    negative = _checks.floating("negative", negative)
    _checks.broadcastable(positive=positive, negative=negative)
    return positive, negative


def check_margin(name: str, value, *energies: Array) -> Array:
    """Check a margin (>= 0, broadcasting) and convert it to the energies' dtype."""
    _checks.nonnegative(name, value)
    value = _checks.array(name, value).astype(jnp.result_type(*energies))
    _checks.broadcastable(**{"positive": energies[0], "negative": energies[1], name: value})
    return value


def check_candidates(energies, label) -> tuple[Array, Array]:
    """Validate and return the energies of all candidates and the label."""
    energies = _checks.floating("energies", energies)
    return energies, _checks.labels(label, energies)


def pick(energies: Array, label: Array) -> Array:
    """Return energies[..., label]; NaN for a label that is out of range."""
    n = energies.shape[-1]
    safe = jnp.clip(label, 0, n - 1)
    chosen = jnp.take_along_axis(energies, safe[..., None], axis=-1)[..., 0]
    return jnp.where(label == safe, chosen, jnp.nan)


def is_unknown(energies: Array, log_weights: Array, label: Array) -> Array:
    """Return where the loss is NaN because of a candidate, a weight or the label."""
    nan = (jnp.isnan(energies) & (log_weights != -jnp.inf)) | jnp.isnan(log_weights)
    return jnp.any(nan, axis=-1) | (label < 0)


def lowest_wrong(energies: Array, wrong: Array) -> Array:
    """Return the index (...) of the wrong answer of lowest energy, -1 without one."""
    index = jnp.argmin(jnp.where(wrong, energies, jnp.inf), axis=-1)
    # If every wrong answer has energy +inf, the first minimum may not be a wrong answer.
    offends = jnp.take_along_axis(wrong, index[..., None], axis=-1)[..., 0]
    index = jnp.where(offends, index, jnp.argmax(wrong, axis=-1))
    return jnp.where(jnp.any(wrong, axis=-1), index, -1)
