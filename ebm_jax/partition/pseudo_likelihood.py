"""The pseudo-likelihood of discrete data, which needs no partition function."""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks, _discrete, gibbs
from ebm_jax.types import Array, Energy, Position


def pseudo_log_likelihood(energy: Energy, x: Position, *, values=(0, 1), beta=1.0) -> Array:
    r"""Return the log pseudo-likelihood of one configuration of discrete variables.

    .. math:: \log PL(x) = \sum_i \log P(x_i \mid x_j, j \ne i)

    for the Gibbs distribution of the energy. The function evaluates the energy n q times, for n
    variables with q values each. Like the mean log-likelihood, its mean over data is largest for
    the model that equals the distribution of the data, but its values are not log-likelihoods.
    Source: J. Besag (1975), Statistical analysis of non-lattice data, The Statistician 24(3).

    Args:
        energy: function x -> () of one configuration.
        x: one configuration. Integer and boolean leaves are the variables; floating-point leaves
            are fixed.
        values: values that a variable may take, (q,).
        beta: inverse temperature >= 0, one number.

    Returns:
        The log pseudo-likelihood, (), in nats; differentiable in the energy's parameters.

    Raises:
        TypeError: if x has no integer or boolean leaf.
        ValueError: if a variable has an invalid value.

    >>> import jax.numpy as jnp
    >>> round(float(pseudo_log_likelihood(lambda x: 0.0 * x.sum(), jnp.array([0, 1, 1]))), 4)
    -2.0794
    """
    _checks.function("energy", energy)
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)
    values = _discrete.check_values(values)
    _discrete.check_position(x, values)
    batch = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], x)
    numbers, fixed, restore, _ = _discrete.variables(batch, values)
    own, given = numbers[0], [leaf[0] for leaf in fixed]

    def one(i: Array) -> Array:
        def changed(k: Array) -> Array:
            return energy(restore(own.at[i].set(k), given))

        numbers = jnp.arange(len(values), dtype=own.dtype)
        energies = _checks.energies(changed, numbers, "values")
        return gibbs.log_probs(energies, beta=beta)[own[i]]

    # One variable at a time: all changes at once would take n q configurations of n variables.
    return jnp.sum(jax.lax.map(one, np.arange(own.shape[0])))
