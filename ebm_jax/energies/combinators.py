"""Functions that combine energies into a new energy.

The new energy passes all its arguments on, so they work for energies of (params, x) and for
energies of x alone. They raise TypeError for an argument that is not callable. The new energy
raises ValueError if an energy does not return a scalar.
"""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks, gibbs
from ebm_jax.types import Array, Energy


def _several(name: str, energies: tuple[Energy, ...]) -> None:
    if not energies:
        raise ValueError(f"{name} needs at least one of the energies, got none.")
    for energy in energies:
        _checks.function(f"Each of the energies of {name}", energy)


def _value(name: str, energy: Energy, args: tuple) -> Array:
    """Return the energy of one configuration, which must be a scalar."""
    value = _checks.floating("energy", energy(*args))
    if value.ndim:
        raise ValueError(
            f"{name} takes an energy that returns a scalar (), it returned the shape "
            f"{value.shape}: vmap a batch."
        )
    return value


def product(*energies: Energy, weights: ArrayLike | None = None) -> Energy:
    r"""Return the energy of a product of experts.

    .. math::
        E(x) = \sum_k w_k E_k(x), \qquad P(x) \propto \prod_k P_k(x)^{w_k}

    A configuration is probable where every expert allows it. A negative weight is a negation:
    :math:`P_1 / P_2^{1/2}` for weights (1, -0.5), which must still be normalisable.
    Source: G. E. Hinton (2002), Training products of experts by minimizing contrastive
    divergence, Neural Computation 14(8).

    Args:
        energies: energies with the same arguments.
        weights: finite :math:`w_k`, (number of energies,); None for :math:`w = 1`.

    Returns:
        An energy of those arguments.

    Raises:
        ValueError: weights of another shape, or not finite.

    >>> float(product(lambda x: x**2, lambda x: 3 * x)(2.0))
    10.0
    >>> float(product(lambda x: x**2, lambda x: 3 * x, weights=(1.0, -0.5))(2.0))
    1.0
    """
    _several("product", energies)
    factors = None
    if weights is not None:
        factors = _checks.array("weights", weights)
        _checks.finite("weights", weights)
        if factors.shape != (len(energies),):
            raise ValueError(f"weights must have shape ({len(energies)},), got {factors.shape}.")

    def energy(*args) -> Array:
        values = [_value("product", e, args) for e in energies]
        if factors is not None:
            values = [w.astype(v.dtype) * v for w, v in zip(factors, values, strict=True)]
        first, *rest = values
        return sum(rest, start=first)

    return energy


def mixture(*energies: Energy, log_weights=None) -> Energy:
    r"""Return the energy of a mixture of the distributions of energies.

    .. math:: E(x) = -\log \sum_k w_k \exp(-E_k(x))

    The components are not normalised: the probability of component k is proportional to
    :math:`w_k Z_k`.

    Args:
        energies: one or more energies with the same arguments.
        log_weights: :math:`\log w_k`, (number of energies,); None for :math:`w_k = 1`.

    Returns:
        An energy of those arguments.

    >>> round(float(mixture(lambda x: x, lambda x: x)(0.0)), 4)  # -log 2
    -0.6931
    """
    _several("mixture", energies)
    if log_weights is not None:
        given = _checks.array("log_weights", log_weights)
        if given.shape != (len(energies),):
            raise ValueError(f"log_weights must have shape ({len(energies)},), got {given.shape}.")

    def energy(*args) -> Array:
        values = jnp.stack([_value("mixture", e, args) for e in energies])
        return gibbs.free_energy(values, log_weights=log_weights)

    return energy


def temper(energy: Energy, beta) -> Energy:
    r"""Return the energy multiplied by an inverse temperature.

    .. math:: \beta E(x), \qquad P(x) \propto \exp(-\beta E(x))

    An infinite energy stays infinite at every beta.

    Args:
        energy: any energy.
        beta: inverse temperature :math:`\beta \ge 0`, one finite number.

    Returns:
        An energy of the same arguments.

    >>> float(temper(lambda x: x**2, 0.5)(2.0))
    2.0
    """
    _checks.function("energy", energy)
    _checks.nonnegative("beta", beta)
    _checks.finite("beta", beta)
    _checks.scalar("beta", beta)

    def tempered(*args) -> Array:
        value = _value("temper", energy, args)
        return jnp.where(jnp.isinf(value), value, beta * value)  # 0 inf would be NaN

    return tempered


def condition(energy: Energy, x) -> Energy:
    """Return the energy with its first argument fixed: F(y) = F(x, y) at a given x.

    Args:
        energy: function F(x, y, ...).
        x: value of the first argument: an observation, or the parameters.

    Returns:
        An energy of the remaining arguments.

    >>> float(condition(lambda x, y: (y - x) ** 2, 1.0)(3.0))
    4.0
    """
    _checks.function("energy", energy)
    return lambda *rest: energy(x, *rest)
