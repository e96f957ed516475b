r"""Objectives for discrete data: a configuration against those that differ in one variable.

They need no samples and no partition function, but an energy for every change of one variable.

What they share:

* ``energy``: (params, x) -> ().
* batches x, on the leading axis: integer and boolean leaves are the variables, floating ones are
  given.

Refused: TypeError for batches without an integer or boolean leaf, integer energies, a
non-callable argument; ValueError for batches without a common leading axis, an energy that is not a
scalar, and a variable that is none of its values. Where that is not known when
traced, the loss is NaN.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks, _discrete
from ebm_jax._derivatives import sigmoid, zero_or_nan
from ebm_jax.partition.pseudo_likelihood import pseudo_log_likelihood
from ebm_jax.types import Array, Energy, Objective, Position

_BITS = np.arange(2)


def _checked(batch: Position, values: np.ndarray) -> tuple[Position, Array]:
    """Return a batch, and which rows hold what is none of the values; refuse what is known."""
    _checks.leading_axis("batch", batch)
    batch = jax.tree.map(jnp.asarray, batch)
    _discrete.check_position(batch, values)
    wrong = [
        ~jnp.isin(leaf.reshape(len(leaf), -1), values.astype(leaf.dtype)).all(axis=1)
        for leaf in jax.tree.leaves(batch)
        if _discrete.moves(leaf)
    ]
    return batch, jnp.any(jnp.array(wrong), axis=0)


def _of_flips(energy: Energy, term: Callable[[Array], Array]) -> Objective:
    """Return the objective mean_i sum_k term(E(x_i) - E(x_i with bit k flipped))."""
    _checks.function("energy", energy)

    def loss(params, state, batch, key):
        del key
        value = _flips(lambda x: energy(params, x), batch, term)
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), loss)


def _flips(energy: Energy, batch: Position, term: Callable[[Array], Array]) -> Array:
    """Return mean_i sum_k term(E(x_i) - E(x_i with bit k flipped)) of a binary batch."""
    batch, wrong = _checked(batch, _BITS)
    bits, given, restore, _ = _discrete.variables(batch, _BITS)

    own = _checks.energies(energy, batch, "batch")

    def flipped(k: Array) -> Array:
        others = jax.vmap(restore)(bits.at[:, k].set(1 - bits[:, k]), given)
        return term(own - _checks.energies(energy, others, "batch"))

    # One bit at a time: all at once would be n d configurations of d bits.
    each = jnp.sum(jax.lax.map(flipped, np.arange(bits.shape[1])), axis=0)
    return jnp.mean(each + zero_or_nan(wrong, each))


def pseudo_likelihood(energy: Energy, *, values=(0, 1)) -> Objective:
    r"""Return the negative log pseudo-likelihood: every variable given all others.

        L(params) = -mean_i sum_k log P(x_ik | all other x_ij)

    As the likelihood it is least where the model is the distribution of the data; with pairwise
    energies of finite data it is nearly as good an estimate.
    Source: Besag (1975), Statistical analysis of non-lattice data.

    Args:
        energy: (params, x) -> ().
        values: what a variable may be, (q,).

    Returns:
        An ``Objective`` without state, of batches x; metric ``loss``, in nats.

    Raises:
        ValueError: values that are not two or more different numbers; and as the module says.

    >>> import jax, jax.numpy as jnp
    >>> objective = pseudo_likelihood(lambda params, x: 0.0 * params)
    >>> value, _ = objective.loss(1.0, (), jnp.array([[0, 1, 1]]), jax.random.key(0))
    >>> round(float(value), 4)  # 3 log 2
    2.0794
    """
    _checks.function("energy", energy)
    allowed = _discrete.check_values(values)

    def loss(params, state, batch, key):
        del key
        batch, wrong = _checked(batch, allowed)

        def one(x: Position) -> Array:
            return -pseudo_log_likelihood(lambda y: energy(params, y), x, values=allowed)

        each = jax.vmap(one)(batch)
        value = jnp.mean(each + zero_or_nan(wrong, each))
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), loss)


def ratio_matching(energy: Energy) -> Objective:
    r"""Return ratio matching: score matching's counterpart for bits.

        L(params) = mean_i sum_k sigma(E(x_i) - E(x_i^k))^2,   x^k: bit k flipped

    A term is (1 - P(x_k | all other x_j))^2, the Brier score in place of the logarithm, so bounded:
    L is at most the number of bits. It is least where the model is the distribution of the data.
    Source: Hyvarinen (2007), Some extensions of score matching.

    Args:
        energy: (params, x) -> ().

    Returns:
        An ``Objective`` without state, of binary batches x; metric ``loss``.

    Raises:
        ValueError: as the module says.

    >>> import jax, jax.numpy as jnp
    >>> objective = ratio_matching(lambda params, x: 0.0 * params)
    >>> value, _ = objective.loss(1.0, (), jnp.array([[0, 1, 1]]), jax.random.key(0))
    >>> float(value)  # 3/4
    0.75
    """
    return _of_flips(energy, lambda gap: jnp.square(sigmoid(gap)))


def minimum_probability_flow(energy: Energy) -> Objective:
    r"""Return the flow of probability out of the data, by flips of one bit.

        L(params) = mean_i sum_k exp((E(x_i) - E(x_i^k)) / 2),   x^k: bit k flipped

    Flips into other data count too, so that it is least where the model is the distribution of
    the data, for any number of them. A term grows exponentially with the energy by which an
    example lies above its neighbour: begin with an energy that is nearly flat.
    Source: Sohl-Dickstein, Battaglino and DeWeese (2011), Minimum probability flow learning.

    Args:
        energy: (params, x) -> ().

    Returns:
        An ``Objective`` without state, of binary batches x; metric ``loss``.

    Raises:
        ValueError: as the module says.

    >>> import jax, jax.numpy as jnp
    >>> objective = minimum_probability_flow(lambda params, x: 0.0 * params)
    >>> value, _ = objective.loss(1.0, (), jnp.array([[0, 1, 1]]), jax.random.key(0))
    >>> float(value)
    3.0
    """
    return _of_flips(energy, lambda gap: jnp.exp(gap / 2))
