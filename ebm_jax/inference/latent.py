r"""Energies with a latent variable z: minimise it away, or marginalise it, energy -> energy.

F_inf(x, y)  = min_z E(x, y, z)
F_beta(x, y) = -1/beta log sum_z w_z exp(-beta E(x, y, z))
"""

from typing import TYPE_CHECKING

import jax

from ebm_jax import _checks, gibbs
from ebm_jax.inference.minimum import argmin_over, minimize
from ebm_jax.types import Array, Energy, Position

if TYPE_CHECKING:
    import optax


def minimize_over(
    energy: Energy,
    candidates: Position,
    *,
    optimizer: "optax.GradientTransformation | None" = None,
    num_steps: int = 500,
) -> Energy:
    r"""Turn E(..., z) into its zero-temperature free energy.

        F_inf(...) = min_z E(..., z),    grad F_inf = grad E(..., z) at z = z*

    The gradient is the envelope theorem's: z* is a constant to it. On a finite or grid z the
    minimum is exact. With an optimizer the candidates are starting points, each descended.
    Source: LeCun et al. (2006), eq. 4.

    Args:
        energy: E(..., z) -> (), with the latent variable as last positional argument.
        candidates: pytree with the values of z on the leading axis.
        optimizer: an optax transformation, for a continuous z; None keeps to the candidates.
        num_steps: updates of every start, where there is an optimizer.

    Returns:
        An energy of the remaining arguments.

    Raises:
        ValueError: candidates without a common leading axis, an energy that is not a scalar,
            num_steps < 1. TypeError: an integer energy, a non-callable argument, an invalid
            optimizer.

    >>> import jax, jax.numpy as jnp
    >>> F = minimize_over(lambda y, z: (y - z) ** 2, jnp.array([-1.0, 1.0]))
    >>> float(F(0.75)), float(jax.grad(F)(0.75))
    (0.0625, -0.5)
    """
    _checks.function("energy", energy)
    _checks.leading_axis("candidates", candidates)
    _checks.count("num_steps", num_steps)
    if optimizer is not None:
        _checks.optimizer(optimizer)

    def free_energy(*args) -> Array:
        def of_z(z):
            return energy(*jax.lax.stop_gradient(args), z)

        if optimizer is None:
            best, _ = argmin_over(of_z, candidates)
        else:
            best = minimize(of_z, candidates, optimizer=optimizer, num_steps=num_steps).position
        return energy(*args, jax.lax.stop_gradient(best))

    return free_energy


def marginalize_over(
    energy: Energy,
    candidates: Position,
    *,
    beta=1.0,
    log_weights=None,
    mean: bool = False,
) -> Energy:
    r"""Turn E(..., z) into its free energy at inverse temperature beta.

        F_beta(...) = -1/beta log sum_z w_z exp(-beta E(..., z))

    Exact on a finite z; on a grid, the integral that the cell volumes in ``log_weights``
    make of it. Its gradient is the posterior expectation sum_z P(z | ...) grad E(..., z).
    Source: LeCun et al. (2006), eq. 5.

    Args:
        energy: E(..., z) -> (), with the latent variable as last positional argument.
        candidates: pytree with the values of z on the leading axis.
        beta: inverse temperature >= 0, one number; inf gives the minimum.
        log_weights: log w_z, (n,); None for w = 1.
        mean: divide the sum by the total weight (see ``gibbs.free_energy``).

    Returns:
        An energy of the remaining arguments.

    Raises:
        ValueError: candidates without a common leading axis, an energy that is not a scalar, a
            negative beta, log-weights of another shape. TypeError: an integer energy, a
            non-callable argument.

    >>> import jax.numpy as jnp
    >>> F = marginalize_over(lambda y, z: y * z, jnp.array([0.0, 2.0]), beta=0.0, mean=True)
    >>> float(F(3.0))
    3.0
    """
    _checks.function("energy", energy)
    _checks.flag("mean", mean)
    size = _checks.leading_axis("candidates", candidates)
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)
    if log_weights is not None:
        given = _checks.array("log_weights", log_weights)
        _checks.fits("log_weights", given, "the candidates", (size,))

    def free_energy(*args) -> Array:
        energies = _checks.energies(lambda z: energy(*args, z), candidates, "candidates")
        return gibbs.free_energy(energies, beta=beta, log_weights=log_weights, mean=mean)

    return free_energy
