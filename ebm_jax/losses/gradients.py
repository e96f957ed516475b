r"""The losses' derivatives with respect to the energies, derived by hand: the reference.

Each function has the name and the arguments of its loss. A pairwise one returns the pair
(dl/dE+, dl/dE-), one over candidates returns dl/dF of shape (..., n). ``jax.grad`` of the loss
gives the same numbers, at every kink too: nothing here is needed for training.

sigma is the logistic function, 1[.] is 1 where the condition holds and 0 elsewhere, and
delta is 1 at one candidate and 0 at the others.
"""

import jax
import jax.numpy as jnp

from ebm_jax import gibbs
from ebm_jax.losses.candidates import _candidates, _pick, winner
from ebm_jax.losses.pairwise import _pair
from ebm_jax.types import Array, PyTree


def _indicator(condition: Array, like: Array) -> Array:
    return condition.astype(like.dtype)


def _broadcast(positive, negative) -> tuple[Array, Array]:
    positive, negative = jnp.broadcast_arrays(*_pair(positive, negative))
    dtype = jnp.result_type(positive, negative)
    return positive.astype(dtype), negative.astype(dtype)


def energy(positive, negative) -> tuple[Array, Array]:
    """Return (1, 0): l = E+ does not depend on E-.

    >>> [float(d) for d in energy(2.0, 5.0)]
    [1.0, 0.0]
    """
    positive, negative = _broadcast(positive, negative)
    return jnp.ones_like(positive), jnp.zeros_like(negative)


def hinge(positive, negative, *, margin=1.0) -> tuple[Array, Array]:
    """Return (a, -a), a = 1[m + E+ - E- > 0]: d[u]+/du = 1[u > 0] and u = m + E+ - E-.

    >>> [float(d) for d in hinge(0.0, 0.5)], [float(d) for d in hinge(0.0, 1.0)]
    ([1.0, -1.0], [0.0, -0.0])
    """
    positive, negative = _broadcast(positive, negative)
    active = _indicator(margin + positive - negative > 0, positive)
    return active, -active


def log(positive, negative) -> tuple[Array, Array]:
    """Return (s, -s), s = sigma(E+ - E-): d log(1 + e^u)/du = e^u / (1 + e^u) = sigma(u).

    >>> [float(d) for d in log(1.0, 1.0)]
    [0.5, -0.5]
    """
    positive, negative = _broadcast(positive, negative)
    force = jax.nn.sigmoid(positive - negative)
    return force, -force


def lvq2(positive, negative, *, ceiling=1.0) -> tuple[Array, Array]:
    """Return (a, -a), a = 1[0 < E+ - E- < M]: min(M, [u]+) is u between its kinks, else constant.

    >>> [float(lvq2(d, 0.0)[0]) for d in (0.0, 0.5, 1.0)]
    [0.0, 1.0, 0.0]
    """
    positive, negative = _broadcast(positive, negative)
    violation = positive - negative
    active = _indicator((violation > 0) & (violation < ceiling), positive)
    return active, -active


def mce(positive, negative) -> tuple[Array, Array]:
    """Return (s, -s), s = sigma(u) sigma(-u), u = E+ - E-: dsigma/du = sigma(u) (1 - sigma(u)).

    >>> [float(d) for d in mce(1.0, 1.0)]
    [0.25, -0.25]
    """
    positive, negative = _broadcast(positive, negative)
    violation = positive - negative
    force = jax.nn.sigmoid(violation) * jax.nn.sigmoid(-violation)
    return force, -force


def simple(positive, negative, *, margin=1.0) -> tuple[Array, Array]:
    """Return (1[E+ > 0], -1[E- < m]): a constant force on each side of its own level.

    >>> [float(d) for d in simple(0.0, 0.5)], [float(d) for d in simple(3.0, 1.0)]
    ([0.0, -1.0], [1.0, -0.0])
    """
    positive, negative = _broadcast(positive, negative)
    return _indicator(positive > 0, positive), -_indicator(negative < margin, negative)


def square_square(positive, negative, *, margin=1.0, one_sided: bool = True) -> tuple[Array, Array]:
    """Return (2[E+]+, -2[m - E-]+): d([u]+)^2/du = 2[u]+; (2E+, ...) when not one-sided.

    >>> [float(d) for d in square_square(2.0, 0.25)]
    [4.0, -1.5]
    """
    positive, negative = _broadcast(positive, negative)
    pull = positive * _indicator(positive > 0, positive) if one_sided else positive
    push = (margin - negative) * _indicator(negative < margin, negative)
    return 2 * pull, -2 * push


def square_exponential(positive, negative, *, gamma=1.0) -> tuple[Array, Array]:
    """Return (2E+, -gamma exp(-E-)).

    >>> [float(d) for d in square_exponential(2.0, 0.0, gamma=3.0)]
    [4.0, -3.0]
    """
    positive, negative = _broadcast(positive, negative)
    return 2 * positive, -gamma * jnp.exp(-negative)


def _one_hot(index: Array, energies: Array) -> Array:
    return jax.nn.one_hot(index, energies.shape[-1], dtype=energies.dtype)


def perceptron(energies, label) -> Array:
    """Return delta_right - delta_winner: d min_y F = delta_argmin; 0 where the right one wins.

    >>> import jax.numpy as jnp
    >>> perceptron(jnp.array([3.0, 1.0, 2.0]), 0).tolist()
    [1.0, -1.0, 0.0]
    """
    energies, label = _candidates(energies, label)
    return _one_hot(label, energies) - _one_hot(winner(energies, label), energies)


def nll(energies, label, *, beta=1.0, where=None, log_weights=None) -> Array:
    """Return delta_right - P: d/dF_k of 1/beta log sum_y exp(-beta F_y) is -exp(-beta F_k)/Z.

    >>> import jax.numpy as jnp
    >>> nll(jnp.zeros(4), 1).tolist()
    [-0.25, 0.75, -0.25, -0.25]
    """
    energies, label = _candidates(energies, label)
    p = gibbs.probs(energies, beta=beta, where=where, log_weights=log_weights)
    return _one_hot(label, energies) - p


def mee(energies, label, *, beta=1.0, where=None, log_weights=None) -> Array:
    """Return beta P_right (delta_right - P): dP_r/dF_k = -beta P_r (delta_rk - P_k).

    >>> import jax.numpy as jnp
    >>> mee(jnp.zeros(2), 0).tolist()
    [0.25, -0.25]
    """
    energies, label = _candidates(energies, label)
    p = gibbs.probs(energies, beta=beta, where=where, log_weights=log_weights)
    right = _pick(p, label)[..., None]
    beta = jnp.asarray(beta, energies.dtype)[..., None]
    # At beta = inf the probabilities are a step function: flat wherever they are differentiable.
    return jnp.where(beta == jnp.inf, 0.0, beta) * right * (_one_hot(label, energies) - p)


def chain(derivative: Array, jacobian: PyTree) -> PyTree:
    r"""Return the parameter gradient that a derivative with respect to the energies gives.

        dl/dW = sum_y dl/dF(x, y) dF(x, y)/dW

    With ``nll`` this is the homework's dF(x, y)/dW - sum_y' P(y' | x) dF(x, y')/dW.

    Args:
        derivative: (n,), dl/dF for every candidate.
        jacobian: a pytree of arrays (n, ...), dF/dW for every candidate, as
            ``jax.jacobian`` of the energies gives it.

    Returns:
        The pytree of the parameters.

    >>> import jax.numpy as jnp
    >>> chain(jnp.array([1.0, -1.0]), {"w": jnp.array([[1.0, 2.0], [0.0, 5.0]])})["w"].tolist()
    [1.0, -3.0]
    """
    return jax.tree.map(lambda j: jnp.tensordot(derivative, j, axes=1), jacobian)
