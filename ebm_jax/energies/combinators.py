r"""Combinators, energy -> energy: they pass all their arguments on.

So they work on energies of (params, x) and on energies of x alone.
"""

import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.types import Energy


def _several(name: str, energies: tuple[Energy, ...]) -> None:
    if not energies:
        raise ValueError(f"{name} needs at least one energy, got none.")


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
        ValueError: no energy given.

    >>> float(product(lambda x: x**2, lambda x: 3 * x)(2.0))
    10.0
    """
    _several("product", energies)
    return lambda *args: sum((e(*args) for e in energies[1:]), start=energies[0](*args))


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
        ValueError: no energy given, or log-weights of another shape.

    >>> round(float(mixture(lambda x: x, lambda x: x)(0.0)), 4)  # -log 2
    -0.6931
    """
    _several("mixture", energies)
    if log_weights is not None and jnp.shape(log_weights) != (len(energies),):
        raise ValueError(
            f"log_weights must have shape ({len(energies)},), got {jnp.shape(log_weights)}."
        )
    return lambda *args: gibbs.free_energy(
        jnp.stack([jnp.asarray(e(*args)) for e in energies]), log_weights=log_weights
    )


def temper(energy: Energy, beta) -> Energy:
    r"""Return beta E, the energy at another temperature: P proportional to exp(-beta E).

    Args:
        energy: any energy.
        beta: inverse temperature >= 0.

    Returns:
        An energy of the same arguments.

    Raises:
        ValueError: a negative beta.

    >>> float(temper(lambda x: x**2, 0.5)(2.0))
    2.0
    """
    _checks.nonnegative("beta", beta)
    return lambda *args: beta * energy(*args)


def condition(energy: Energy, x) -> Energy:
    r"""Return F(y) = F(x, y) at a given x: the energy of the arguments after the first.

    Args:
        energy: F(x, y, ...).
        x: the value of the first argument: an observation, or the parameters.

    Returns:
        An energy of the remaining arguments.

    >>> float(condition(lambda x, y: (y - x) ** 2, 1.0)(3.0))
    4.0
    """
    return lambda *rest: energy(x, *rest)
