"""Checks of the parameters of closed forms, Boltzmann machines, lattices and Potts models."""

import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.types import Array

_CATEGORICAL = "CategoricalRBM"  # its visible units have a bias and weights for each category


def check_machine(params, *wanted: type) -> None:
    """Check the type of the parameters of a machine and that their shapes fit."""
    _checks.kind(params, *wanted)
    shapes = {name: _checks.array(name, v).shape for name, v in params._asdict().items()}
    rows, columns = shapes["weights"][:-1], shapes["weights"][-1:]
    categorical = type(params).__name__ == _CATEGORICAL
    fit = len(rows) == 1 + categorical and ("hidden_bias" in shapes or rows == columns)
    fit &= not categorical or 0 not in rows[1:]
    for name, shape in shapes.items():
        side = columns if name.startswith("hidden") else rows
        fit &= name == "weights" or shape == side or (name == "sigma" and not shape)
    if not fit:
        given = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
        takes = "a matrix of weights, and one bias, offset or sigma per unit"
        if categorical:
            takes = "weights (visible, q, hidden), visible_bias (visible, q) and hidden_bias"
            takes += " (hidden,), q >= 1"
        raise ValueError(f"{type(params).__name__} takes {takes}; got the shapes {given}.")
    if "sigma" in shapes:
        _checks.positive("sigma", params.sigma)


def lattice(params, wanted: type, field_ndim: int) -> tuple[Array, Array]:
    """Validate and return coupling and field, at least in float32."""
    _checks.kind(params, wanted)
    coupling, field = (_checks.array(name, v) for name, v in params._asdict().items())
    if coupling.ndim or field.ndim != field_ndim:
        raise ValueError(
            f"{wanted.__name__} has a coupling () and a field {'(q,)' if field_ndim else '()'}, "
            f"got {coupling.shape} and {field.shape}."
        )
    dtype = jnp.promote_types(jnp.result_type(*params), jnp.float32)
    return coupling.astype(dtype), field.astype(dtype)


def numbers(params, wanted: type, *positive: str) -> None:
    """Reject parameters of another type, and fields that are not one number (> 0)."""
    _checks.kind(params, wanted)
    for name, value in params._asdict().items():
        _checks.scalar(name, _checks.array(name, value))
        if name in positive:
            _checks.positive(name, value)


def gaussian(params, wanted: type) -> tuple[Array, Array]:
    """Validate and return mean and precision."""
    _checks.kind(params, wanted)
    mean = _checks.array("mean", params.mean)
    precision = _checks.array("precision", params.precision)
    if mean.ndim != 1 or precision.shape not in (mean.shape, 2 * mean.shape):
        raise ValueError(
            "A Gaussian has a mean (d,) and a precision (d, d) or (d,), got "
            f"{mean.shape} and {precision.shape}."
        )
    return mean, precision


def mixture(params, wanted: type) -> tuple[Array, Array, Array]:
    """Validate and return means, log-weights and sigma."""
    _checks.kind(params, wanted)
    means, weights = (_checks.array(n, getattr(params, n)) for n in ("means", "log_weights"))
    sigma = _checks.array("sigma", params.sigma)
    _checks.positive("sigma", params.sigma)
    if means.ndim != 2 or weights.shape != means.shape[:1] or sigma.ndim:
        raise ValueError(
            "A GaussianMixture has means (k, d), log_weights (k,) and one sigma (), got "
            f"{means.shape}, {weights.shape} and {sigma.shape}."
        )
    return means, weights, sigma


def dense_potts(params, wanted: type) -> tuple[Array, Array]:
    """Validate and return symmetric couplings with zero diagonal blocks, and fields.

    Both have at least the precision of float32.
    """
    _checks.kind(params, wanted)
    couplings, fields = (_checks.array(name, v) for name, v in params._asdict().items())
    if fields.ndim != 2 or not fields.size or couplings.shape != 2 * fields.shape:
        raise ValueError(
            f"{wanted.__name__} has couplings (L, q, L, q) and fields (L, q), L and q at least 1; "
            f"got {couplings.shape} and {fields.shape}."
        )
    dtype = jnp.promote_types(jnp.result_type(*params), jnp.float32)
    couplings = couplings.astype(dtype)
    couplings = 0.5 * (couplings + jnp.transpose(couplings, (2, 3, 0, 1)))
    sites = jnp.arange(fields.shape[0])
    other = (sites[:, None] != sites[None])[:, None, :, None]
    return jnp.where(other, couplings, 0.0), fields.astype(dtype)
