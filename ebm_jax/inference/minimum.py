"""Minimisation of an energy over a finite set of answers, or by gradient descent."""

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
    """The best of several descents, and the end of each.

    Attributes:
        position: configuration of lowest energy.
        energy: its energy, ().
        converged: whether its gradient norm is below the tolerance, ().
        energies: final energies of all restarts, (n,); NaN if a descent diverged.
        gradient_norms: final gradient norms of all restarts, (n,).
        positions: final positions of all restarts, n on the leading axis.
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
    r"""Return the candidate of lowest energy and its energy.

    .. math:: y^\star = \operatorname{argmin}_y F(y)

    Args:
        energy: function y -> () of one configuration.
        candidates: pytree with the candidates on the leading axis.

    Returns:
        The candidate of lowest energy (the first of equal ones) and its energy, ().

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
    r"""Minimise an energy over continuous y by gradient descent from several starts.

    .. math:: y \leftarrow y + \text{optimizer}(-\nabla F(y))

    The result is the best of n restarts. Restarts that become non-finite are ignored; if all are,
    the energy is NaN and ``converged`` is False. Source: LeCun et al. (2006), section 1.2
    (gradient-based inference).

    Args:
        energy: function y -> () of one configuration.
        starts: pytree of floating-point leaves with n starting points on the leading axis.
        optimizer: an optax transformation, such as ``optax.adam(0.05)``.
        num_steps: number of updates of every restart, >= 1.
        tolerance: gradient norm, in energy per unit of y, below which a restart has converged, > 0.

    Returns:
        A ``Minimum``.

    Raises:
        TypeError: if starts have leaves that are not floating point, or the optimizer is invalid.
        ValueError: if num_steps < 1 or tolerance <= 0.

    >>> import jax.numpy as jnp, optax
    >>> best = minimize(lambda y: (y - 3.0) ** 2, jnp.array([0.0, 9.0]), optimizer=optax.sgd(0.1))
    >>> round(float(best.position), 3), bool(best.converged)
    (3.0, True)
    """
    import optax  # imported here: most of inference does not need it

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
