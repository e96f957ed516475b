r"""From energies to answers, y* = argmin_y F(x, y): over a finite set, or by descent."""

import functools
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax._trees import chain_norm
from ebm_jax.types import Array, Energy, Position

if TYPE_CHECKING:
    import optax


class Minimum(NamedTuple):
    """The best of many descents, and how every one of them ended.

    Attributes:
        position: the configuration of lowest energy.
        energy: its energy, ().
        converged: whether its gradient norm fell below the tolerance, ().
        energies: the final energy of every restart, (n,); NaN where a descent diverged.
        gradient_norms: the final gradient norm of every restart, (n,).
        positions: where every restart ended, n on the leading axis.
    """

    position: Position
    energy: Array
    converged: Array
    energies: Array
    gradient_norms: Array
    positions: Position


def _row(batch: Position, index: Array) -> Position:
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[index], batch)


def argmin_over(energy: Energy, candidates: Position) -> tuple[Position, Array]:
    r"""Return y* = argmin_y F(y) over a finite set, and its energy.

    Args:
        energy: F(y) -> (), one configuration in.
        candidates: pytree with the candidates on the leading axis.

    Returns:
        The candidate of lowest energy (the first of ties) and its energy, ().

    Raises:
        ValueError: candidates without a common leading axis, an energy that is not a scalar.
            TypeError: an integer energy, a non-callable argument.

    >>> import jax.numpy as jnp
    >>> y, f = argmin_over(lambda y: (y - 1.2) ** 2, jnp.arange(4.0))
    >>> float(y)
    1.0
    """
    energies = _checks.energies(energy, candidates, "candidates")
    best = jnp.argmin(energies)
    return _row(candidates, best), energies[best]


def minimize(
    energy: Energy,
    starts: Position,
    *,
    optimizer: "optax.GradientTransformation",
    num_steps: int = 500,
    tolerance: float = 1e-3,
) -> Minimum:
    r"""Return y* = argmin_y F(y) over continuous y, by gradient descent from many starts.

        y <- y + optimizer(-grad F(y)),   the best of n restarts

    Source: LeCun et al. (2006), section 1.2 (gradient-based inference). A restart that turned
    non-finite is never chosen while another one is finite; if none is, the energy is NaN and
    ``converged`` is False.

    Args:
        energy: F(y) -> (), one configuration in.
        starts: pytree of floating leaves with n starting points on the leading axis.
        optimizer: an optax transformation, ``optax.adam(0.05)`` say.
        num_steps: updates of every restart, >= 1.
        tolerance: the gradient norm, in energy per unit of y, that counts as converged, > 0.

    Returns:
        A ``Minimum``.

    Raises:
        ValueError: starts without a common leading axis, an energy that is not a scalar,
            num_steps < 1, a tolerance <= 0. TypeError: an integer energy or start, a
            non-callable argument, an invalid optimizer.

    >>> import jax.numpy as jnp, optax
    >>> found = minimize(lambda y: (y - 3.0) ** 2, jnp.array([0.0, 9.0]), optimizer=optax.sgd(0.1))
    >>> round(float(found.position), 3), bool(found.converged)
    (3.0, True)
    """
    import optax  # the rest of the library's inference does without

    _checks.leading_axis("starts", starts)
    jax.tree.map(functools.partial(_checks.floating, "starts"), starts)
    _checks.optimizer(optimizer)
    _checks.count("num_steps", num_steps)
    _checks.positive("tolerance", tolerance)
    _checks.scalar("tolerance", tolerance)
    jax.eval_shape(lambda x: _checks.energies(energy, x, "starts"), starts)

    def descend(start):
        def update(carry, _):
            position, state = carry
            step, state = optimizer.update(jax.grad(energy)(position), state, position)
            return (optax.apply_updates(position, step), state), None

        carry, _ = jax.lax.scan(update, (start, optimizer.init(start)), length=num_steps)
        value, gradient = jax.value_and_grad(energy)(carry[0])
        return carry[0], value, gradient

    positions, energies, gradients = jax.vmap(descend)(starts)
    norms = chain_norm(jax.tree.leaves(gradients))
    finite = jnp.isfinite(energies) & jnp.isfinite(norms)
    energies = jnp.where(finite, energies, jnp.nan)
    best = jnp.argmin(jnp.where(finite, energies, jnp.inf))
    return Minimum(
        position=_row(positions, best),
        energy=energies[best],
        converged=finite[best] & (norms[best] < tolerance),
        energies=energies,
        gradient_norms=norms,
        positions=positions,
    )
