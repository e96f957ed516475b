"""Checks of the parameters of Boltzmann machines and of lattices."""

import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.types import Array


def check_machine(params, wanted: type) -> None:
    """Reject parameters of another kind of machine, or whose shapes do not fit together."""
    _checks.kind(params, wanted)
    shapes = {name: _checks.array(name, v).shape for name, v in params._asdict().items()}
    rows, columns = shapes["weights"][:1], shapes["weights"][1:]
    fit = len(columns) == 1 and ("hidden_bias" in shapes or rows == columns)
    for name, shape in shapes.items():
        side = columns if name.startswith("hidden") else rows
        fit &= name == "weights" or shape == side or (name == "sigma" and not shape)
    if not fit:
        raise ValueError(
            f"{wanted.__name__} takes a matrix of weights and one bias, offset or sigma a unit of "
            f"its side; got {', '.join(f'{name} {shape}' for name, shape in shapes.items())}."
        )
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
