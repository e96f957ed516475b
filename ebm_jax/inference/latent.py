r"""Energies with a latent variable z: minimise or marginalise over it.

.. math:: F_\infty(x, y) = \min_z E(x, y, z), \qquad
    F_\beta(x, y) = -\frac{1}{\beta} \log \sum_z w_z \exp(-\beta E(x, y, z))
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
    r"""Turn E(..., z) into its minimum over z, the zero-temperature free energy.

    .. math:: F_\infty(\ldots) = \min_z E(\ldots, z), \qquad
        \nabla F_\infty = \nabla E(\ldots, z^\star)

    The gradient treats the minimiser :math:`z^\star` as a constant (envelope theorem). Over a
    finite set or a grid of candidates the minimum is exact. With an optimiser, descent starts at
    each candidate. Source: LeCun et al. (2006), eq. 4.

    Args:
        energy: function E(..., z) -> (), with the latent variable as last positional argument.
        candidates: pytree with the values of z on the leading axis.
        optimizer: an optax transformation, for a continuous z; None minimises over the candidates.
        num_steps: number of updates from every candidate, >= 1, if there is an optimizer.

    Returns:
        An energy of the remaining arguments.

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

    .. math:: F_\beta(\ldots) = -\frac{1}{\beta} \log \sum_z w_z \exp(-\beta E(\ldots, z))

    It is exact if z takes finitely many values. On a grid, with log cell volumes as
    ``log_weights``, the sum approximates an integral. Its gradient is the posterior expectation
    :math:`\sum_z P(z \mid \ldots) \nabla E(\ldots, z)`. Source: LeCun et al. (2006), eq. 5.

    Args:
        energy: function E(..., z) -> (), with the latent variable as last positional argument.
        candidates: pytree with the values of z on the leading axis.
        beta: inverse temperature :math:`\beta \ge 0`, one number; inf gives the minimum.
        log_weights: :math:`\log w_z`, (n,); None for :math:`w_z = 1`.
        mean: whether to divide the sum by the total weight (see ``gibbs.free_energy``).

    Returns:
        An energy of the remaining arguments.

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
