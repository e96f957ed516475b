"""Checks of the parameters of closed forms, Boltzmann machines, lattices and graphs."""

import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

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


def pairwise(params, wanted: type, edges) -> tuple[Array, Array, np.ndarray]:
    """Validate and return couplings and fields, at least in float32, and the edges (m, 2)."""
    _checks.kind(params, wanted)
    couplings, fields = (_checks.array(name, v) for name, v in params._asdict().items())
    edges = _edges(edges)
    q = fields.shape[1:]
    fit = fields.ndim in (1, 2) and 0 not in fields.shape
    fit &= couplings.shape in ((len(edges),), (len(edges), *q, *q))
    if not fit:
        raise ValueError(
            f"{wanted.__name__} has couplings (m,) and fields (n,), or couplings (m,) or (m, q, q) "
            f"and fields (n, q), for edges (m, 2); got couplings {couplings.shape} and fields "
            f"{fields.shape} for edges {edges.shape}."
        )
    if edges.size and (edges.min() < 0 or edges.max() >= len(fields)):
        raise ValueError(
            f"edges must be pairs of variables from 0 to {len(fields) - 1}, the {len(fields)} rows "
            f"of fields; got values from {edges.min()} to {edges.max()}."
        )
    if (edges[:, 0] == edges[:, 1]).any():
        loop = edges[edges[:, 0] == edges[:, 1]][0]
        raise ValueError(f"edges must be between different variables, got {tuple(loop.tolist())}.")
    dtype = jnp.result_type(couplings, fields, jnp.float32)
    return couplings.astype(dtype), fields.astype(dtype), edges


def _edges(given) -> np.ndarray:
    """Validate and return a list of edges, (m, 2)."""
    if isinstance(given, Tracer):
        raise TypeError(
            f"edges must be known when traced, got {given}: close over them, or bind them with "
            "functools.partial, instead of passing them to a compiled function."
        )
    try:
        edges = np.asarray(given)
    except (TypeError, ValueError):
        edges = np.asarray(None)
    if edges.shape in ((0,), (0, 2)):
        return np.zeros((0, 2), np.int32)
    if edges.dtype.kind not in "iu" or edges.shape[1:] != (2,):
        kind = TypeError if edges.dtype.kind not in "iu" else ValueError
        what = f"{edges.dtype} of shape {edges.shape}" if edges.ndim else repr(given)
        raise kind(f"edges must be integers of shape (m, 2), got {what}.")
    return edges.astype(np.int32)


def values(fields: Array, given) -> np.ndarray:
    """Validate and return what a variable of a pairwise model may be, (q,)."""
    if fields.ndim == 1:
        return _checks.values((0, 1) if given is None else given)
    categories = np.arange(fields.shape[1])
    if given is not None and not np.array_equal(_checks.values(given), categories):
        raise ValueError(
            f"values must be None or 0 to {len(categories) - 1} where the fields {fields.shape} "
            f"are those of categories, got {given!r}."
        )
    return categories


def times(a: Array, b: Array) -> Array:
    """Return a * b, in which infinity times 0 is 0, as are its derivatives."""
    return jnp.where(jnp.isinf(a) & (b == 0), 0.0, a) * jnp.where(jnp.isinf(b) & (a == 0), 0.0, b)
