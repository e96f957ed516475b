r"""Combinators, energy -> energy: they pass all their arguments on.

So they work on energies of (params, x) and on energies of x alone.
"""

import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.types import Array, Energy


def _several(name: str, energies: tuple[Energy, ...]) -> None:
    if not energies:
        raise ValueError(f"{name} needs at least one of the energies, got none.")
    for energy in energies:
        _checks.function(f"Each of the energies of {name}", energy)


def _value(name: str, energy: Energy, args: tuple) -> Array:
    """Return the energy of one configuration; raise an error for a value that is not a scalar."""
    value = _checks.floating("energy", energy(*args))
    if value.ndim:
        raise ValueError(
            f"{name} takes an energy that is a scalar (), it returned {value.shape}: vmap a batch."
        )
    return value


def product(*energies: Energy) -> Energy:
    r"""Return the energy of a product of experts: all of them must agree.

        E(x) = sum_k E_k(x),    P(x) proportional to prod_k P_k(x)

    Source: G. E. Hinton (2002), Training products of experts by minimizing contrastive
    divergence, Neural Computation 14(8).

    Args:
        energies: energies with the same arguments.

    Returns:
        An energy of those arguments.

    Raises:
        ValueError: no energy given, or one that is not a scalar. TypeError: a non-callable
            argument.

    >>> float(product(lambda x: x**2, lambda x: 3 * x)(2.0))
    10.0
    """
    _several("product", energies)

    def energy(*args) -> Array:
        first, *rest = (_value("product", e, args) for e in energies)
        return sum(rest, start=first)

    return energy


def mixture(*energies: Energy, log_weights=None) -> Energy:
    r"""Return the energy of a mixture: any of them suffices.

        E(x) = -log sum_k w_k exp(-E_k(x))

    The components are not normalised: their shares are w_k Z_k.

    Args:
        energies: energies with the same arguments.
        log_weights: log w_k, (number of energies,); None for w = 1.

    Returns:
        An energy of those arguments.

    Raises:
        ValueError: no energy given, one that is not a scalar, or log-weights of another shape.
            TypeError: a non-callable argument.

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
    r"""Return beta E, the energy at another temperature: P proportional to exp(-beta E).

    An energy of +inf or -inf is so at every beta.

    Args:
        energy: any energy.
        beta: inverse temperature >= 0, one finite number.

    Returns:
        An energy of the same arguments.

    Raises:
        ValueError: a negative or infinite beta, several. TypeError: a non-callable argument.

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
    r"""Return F(y) = F(x, y) at a given x: the energy of the arguments after the first.

    Args:
        energy: F(x, y, ...).
        x: the value of the first argument: an observation, or the parameters.

    Returns:
        An energy of the remaining arguments.

    Raises:
        TypeError: a non-callable argument.

    >>> float(condition(lambda x, y: (y - x) ** 2, 1.0)(3.0))
    4.0
    """
    _checks.function("energy", energy)
    return lambda *rest: energy(x, *rest)
