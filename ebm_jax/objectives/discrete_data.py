"""Objectives for discrete data, from energies of single-variable changes.

They need no samples and no partition function. They evaluate the energy for every change of one
variable. In a batch x, with the examples on the leading axis, integer and boolean leaves are the
variables and floating-point leaves are fixed.

They raise TypeError for batches without an integer or boolean leaf, and ValueError for a variable
with an invalid value; if that is unknown during tracing, the loss is NaN.
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
    """Return a batch and which rows have an invalid value; raise if it is known."""
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

    # One bit at a time: all at once would take n d configurations of d bits.
    each = jnp.sum(jax.lax.map(flipped, np.arange(bits.shape[1])), axis=0)
    return jnp.mean(each + zero_or_nan(wrong, each))


def pseudo_likelihood(energy: Energy, *, values=(0, 1)) -> Objective:
    r"""Return the objective of the negative log pseudo-likelihood.

    .. math:: L = -\operatorname{mean}_i \sum_k \log P(x_{ik} \mid x_{ij}, j \ne k)

    As with the likelihood, the model that equals the distribution of the data minimises it. The
    estimator is consistent; its variance is larger than that of maximum likelihood, most of all
    with strong couplings. Source: Besag (1975), Statistical analysis of non-lattice data.

    Args:
        energy: function (params, x) -> () of one configuration.
        values: two or more different numbers, the values that a variable may take, (q,).

    Returns:
        An ``Objective`` without state, of batches x; metric ``loss``, in nats.

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
    r"""Return ratio matching, the counterpart of score matching for bits.

    .. math:: L = \operatorname{mean}_i \sum_k \sigma\left( E(x_i) - E(x_i^k) \right)^2

    where :math:`x^k` is x with bit k flipped. A term is :math:`(1 - P(x_k \mid x_j, j \ne k))^2`,
    the Brier score instead of the logarithm, so L is at most the number of bits. The model that
    equals the distribution of the data minimises it. Source: Hyvarinen (2007), Some extensions of
    score matching.

    Args:
        energy: function (params, x) -> () of one configuration.

    Returns:
        An ``Objective`` without state, of binary batches x; metric ``loss``.

    >>> import jax, jax.numpy as jnp
    >>> objective = ratio_matching(lambda params, x: 0.0 * params)
    >>> value, _ = objective.loss(1.0, (), jnp.array([[0, 1, 1]]), jax.random.key(0))
    >>> float(value)  # 3/4
    0.75
    """
    return _of_flips(energy, lambda gap: jnp.square(sigmoid(gap)))


def minimum_probability_flow(energy: Energy) -> Objective:
    r"""Return the objective of minimum probability flow, for binary data.

    .. math:: L = \operatorname{mean}_i \sum_k \exp\left( \frac{E(x_i) - E(x_i^k)}{2} \right)

    where :math:`x^k` is x with bit k flipped. Flips into other examples count too. If the
    distribution of the data is positive, L is lowest for the model that equals it. A term grows
    exponentially with the energy difference between an example and its neighbour: start with an
    energy that is nearly constant. Source: Sohl-Dickstein, Battaglino and DeWeese (2011), Minimum
    probability flow learning.

    Args:
        energy: function (params, x) -> () of one configuration.

    Returns:
        An ``Objective`` without state, of binary batches x; metric ``loss``.

    >>> import jax, jax.numpy as jnp
    >>> objective = minimum_probability_flow(lambda params, x: 0.0 * params)
    >>> value, _ = objective.loss(1.0, (), jnp.array([[0, 1, 1]]), jax.random.key(0))
    >>> float(value)
    3.0
    """
    return _of_flips(energy, lambda gap: jnp.exp(gap / 2))
