"""The pseudo-likelihood of discrete data: a likelihood without a partition function."""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks, _discrete, gibbs
from ebm_jax.types import Array, Energy, Position


def pseudo_log_likelihood(energy: Energy, x: Position, *, values=(0, 1), beta=1.0) -> Array:
    r"""Return the log pseudo-likelihood of one configuration of discrete variables.

        log PL(x) = sum_i log P(x_i | all other x_j)

    of the Gibbs distribution of the energy. It needs n q energies. Its mean over data is highest
    at the distribution of the data, as the likelihood's is; it is not a likelihood of the model.
    Source: J. Besag (1975), Statistical analysis of non-lattice data, The Statistician 24(3).

    Args:
        energy: E(x) -> (), one configuration in.
        x: integer and boolean leaves, the variables; floating ones are given.
        values: what a variable may be, (q,).
        beta: inverse temperature >= 0.

    Returns:
        (), in nats; differentiable in the energy's parameters.

    Raises:
        TypeError: no integer or boolean leaf. ValueError: a variable that is none of the values.

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

    # One variable at a time: all changes at once would be n q configurations of n variables.
    return jnp.sum(jax.lax.map(one, np.arange(own.shape[0])))
