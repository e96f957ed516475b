r"""Derivatives of the losses with respect to the energies, derived by hand.

``jax.grad`` of a loss gives the same numbers, at kinks too; training does not need this module.
Unbounded derivatives are clipped to the largest finite number of their dtype, as in the losses.
:math:`1[\cdot]` is 1 if the condition holds and 0 otherwise; :math:`\delta_k` is 1 at candidate k
and 0 at the others.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks, _gibbs, gibbs
from ebm_jax._derivatives import bounded, bounded_exp_of_minus
from ebm_jax.losses import candidates, pairwise
from ebm_jax.losses._arguments import check_candidates, check_margin, check_pair, is_unknown, pick
from ebm_jax.losses.candidates import winner
from ebm_jax.types import Array, PyTree


def of(loss: Callable) -> Callable[..., Any]:
    r"""Return the derivative of a loss with respect to the energies, derived by hand.

    It takes the arguments of the loss and rejects what the loss rejects. For a pairwise loss it
    returns (dl/dE+, dl/dE-), as ``jax.grad(loss, argnums=(0, 1))`` does; for a loss over candidates
    dl/dF, (..., n).

    With :math:`u = E^+ - E^-`, the logistic function :math:`\sigma`, and P the Gibbs distribution
    of the candidates:

    ======================  ========================================================================
    ``energy``              :math:`(1, 0)`
    ``hinge``               :math:`(a, -a),\ a = 1[E^- - E^+ < m]`
    ``log``                 :math:`(s, -s),\ s = \sigma(u)`
    ``lvq2``                :math:`(a, -a),\ a = 1[0 < u < M]`
    ``mce``                 :math:`(s, -s),\ s = \sigma(u) \sigma(-u)`
    ``simple``              :math:`(1[E^+ > 0], -1[E^- < m])`
    ``square_square``       :math:`(2 [E^+]_+, -2 [m - E^-]_+)`; :math:`2 E^+` if not one-sided
    ``square_exponential``  :math:`(2 E^+, -\gamma e^{-E^-})`
    ``perceptron``          :math:`\delta_{right} - \delta_{winner}`
    ``nll``                 :math:`\delta_{right} - P`
    ``mee``                 :math:`\beta P_{right} (\delta_{right} - P)`
    ======================  ========================================================================

    Args:
        loss: one of the losses of ``ebm_jax.losses``.

    Returns:
        The derivative: a function of the arguments of the loss.

    Raises:
        TypeError: another function.

    >>> from ebm_jax import losses
    >>> [float(d) for d in of(losses.hinge)(0.0, 0.5, margin=1.0)]
    [1.0, -1.0]
    """
    if not callable(loss) or loss not in _DERIVATIVES:
        raise TypeError(
            f"loss must be one of losses.{', '.join(f.__name__ for f in _DERIVATIVES)}, got "
            f"{loss!r}: use jax.grad."
        )
    return _DERIVATIVES[loss]


def _broadcast(positive, negative) -> tuple[Array, Array]:
    """Return both in one shape and dtype, and NaN where either is NaN."""
    positive, negative = jnp.broadcast_arrays(*check_pair(positive, negative))
    nan = jnp.isnan(positive) | jnp.isnan(negative)
    dtype = jnp.result_type(positive, negative)
    positive, negative = (jnp.where(nan, jnp.nan, e).astype(dtype) for e in (positive, negative))
    return positive, negative


def _step(u: Array) -> Array:
    """Return 1[u > 0], and NaN where u is NaN."""
    return jnp.where(jnp.isnan(u), u, (u > 0).astype(u.dtype))


def _energy(positive: ArrayLike, negative: ArrayLike) -> tuple[Array, Array]:
    r"""Return the derivatives of the energy loss.

    .. math:: (1, 0), \quad \text{since } \ell = E^+ \text{ does not depend on } E^-

    >>> [float(d) for d in _energy(2.0, 5.0)]
    [1.0, 0.0]
    """
    positive, negative = jnp.broadcast_arrays(*check_pair(positive, negative))
    nothing = jnp.where(jnp.isnan(positive), jnp.nan, 0.0)
    return (1 + nothing).astype(positive.dtype), nothing.astype(negative.dtype)


def _hinge(
    positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0
) -> tuple[Array, Array]:
    r"""Return the derivatives of the hinge loss.

    .. math:: (a, -a), \quad a = 1[E^- - E^+ < m], \quad
        \text{since } d[u]_+ / du = 1[u > 0] \text{ and } u = m + E^+ - E^-

    >>> [float(d) for d in _hinge(0.0, 0.5)], [float(d) for d in _hinge(0.0, 1.0)]
    ([1.0, -1.0], [0.0, -0.0])
    """
    positive, negative = _broadcast(positive, negative)
    lead = negative - positive
    active = jnp.where(
        jnp.isnan(lead), lead, lead < check_margin("margin", margin, positive, negative)
    )
    return active.astype(lead.dtype), -active.astype(lead.dtype)


def _log(positive: ArrayLike, negative: ArrayLike) -> tuple[Array, Array]:
    r"""Return the derivatives of the log loss.

    .. math:: (s, -s), \quad s = \sigma(E^+ - E^-), \quad
        \text{since } d \log(1 + e^u) / du = e^u / (1 + e^u) = \sigma(u)

    >>> [float(d) for d in _log(1.0, 1.0)]
    [0.5, -0.5]
    """
    positive, negative = _broadcast(positive, negative)
    force = jax.nn.sigmoid(positive - negative)
    return force, -force


def _lvq2(
    positive: ArrayLike, negative: ArrayLike, *, ceiling: ArrayLike = 1.0
) -> tuple[Array, Array]:
    r"""Return the derivatives of the LVQ2 loss.

    .. math:: (a, -a), \quad a = 1[0 < E^+ - E^- < M], \quad
        \text{since } \min(M, [u]_+) = u \text{ between its kinks and is constant elsewhere}

    >>> [float(_lvq2(d, 0.0)[0]) for d in (0.0, 0.5, 1.0)]
    [0.0, 1.0, 0.0]
    """
    positive, negative = _broadcast(positive, negative)
    violation = positive - negative
    active = _step(violation) * _step(
        check_margin("ceiling", ceiling, positive, negative) - violation
    )
    return active, -active


def _mce(positive: ArrayLike, negative: ArrayLike) -> tuple[Array, Array]:
    r"""Return the derivatives of the minimum classification error loss.

    .. math:: (s, -s), \quad s = \sigma(u) \sigma(-u), \quad u = E^+ - E^-, \quad
        \text{since } d\sigma / du = \sigma(u) (1 - \sigma(u))

    >>> [float(d) for d in _mce(1.0, 1.0)]
    [0.25, -0.25]
    """
    positive, negative = _broadcast(positive, negative)
    violation = positive - negative
    force = jax.nn.sigmoid(violation) * jax.nn.sigmoid(-violation)
    return force, -force


def _simple(
    positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0
) -> tuple[Array, Array]:
    r"""Return the derivatives of the simple loss, constant on each side of its level.

    .. math:: (1[E^+ > 0], \; -1[E^- < m])

    >>> [float(d) for d in _simple(0.0, 0.5)], [float(d) for d in _simple(3.0, 1.0)]
    ([0.0, -1.0], [1.0, -0.0])
    """
    positive, negative = _broadcast(positive, negative)
    margin = check_margin("margin", margin, positive, negative)
    shape = jnp.broadcast_shapes(positive.shape, margin.shape)
    return jnp.broadcast_to(_step(positive), shape), -_step(margin - negative)


def _square_square(
    positive: ArrayLike, negative: ArrayLike, *, margin: ArrayLike = 1.0, one_sided: bool = True
) -> tuple[Array, Array]:
    r"""Return the derivatives of the square-square loss.

    .. math:: (2 [E^+]_+, \; -2 [m - E^-]_+), \quad \text{since } d([u]_+)^2 / du = 2 [u]_+

    If not ``one_sided``, the first is :math:`2 E^+`.

    >>> [float(d) for d in _square_square(2.0, 0.25)]
    [4.0, -1.5]
    """
    positive, negative = _broadcast(positive, negative)
    margin = check_margin("margin", margin, positive, negative)
    _checks.flag("one_sided", one_sided)
    shape = jnp.broadcast_shapes(positive.shape, margin.shape)
    pull = jnp.where(positive < 0, 0.0, positive) if one_sided else positive
    push = jnp.where(negative > margin, 0.0, margin - negative)
    return jnp.broadcast_to(bounded(2 * pull), shape), -bounded(2 * push)


def _square_exponential(
    positive: ArrayLike, negative: ArrayLike, *, gamma: ArrayLike = 1.0
) -> tuple[Array, Array]:
    r"""Return the derivatives of the square-exponential loss.

    .. math:: (2 E^+, \; -\gamma \exp(-E^-))

    >>> [float(d) for d in _square_exponential(2.0, 0.0, gamma=3.0)]
    [4.0, -3.0]
    """
    positive, negative = _broadcast(positive, negative)
    gamma = check_margin("gamma", gamma, positive, negative)
    shape = jnp.broadcast_shapes(positive.shape, gamma.shape)
    push = bounded_exp_of_minus(gamma, negative)
    return jnp.broadcast_to(bounded(2 * positive), shape), -push


def _one_hot(index: Array, energies: Array) -> Array:
    return jax.nn.one_hot(index, energies.shape[-1], dtype=energies.dtype)


def _nan_rows(derivative: Array, unknown: Array, dtype) -> Array:
    return jnp.where(unknown[..., None], jnp.nan, derivative).astype(dtype)


def _perceptron(energies: ArrayLike, label: ArrayLike) -> Array:
    r"""Return the derivative of the perceptron loss.

    .. math:: \delta_y - \delta_{y^\star}, \quad y^\star = \operatorname{argmin}_{y'} F(x, y'),
        \quad \text{since } \partial \min_{y'} F / \partial F = \delta_{y^\star}

    It is 0 where the right answer wins.

    >>> import jax.numpy as jnp
    >>> _perceptron(jnp.array([3.0, 1.0, 2.0]), 0).tolist()
    [1.0, -1.0, 0.0]
    """
    energies, label = check_candidates(energies, label)
    derivative = _one_hot(label, energies) - _one_hot(winner(energies, label), energies)
    return _nan_rows(derivative, is_unknown(energies, jnp.zeros(()), label), energies.dtype)


def _right_minus_expected(energies: Array, label: Array, beta, where, log_weights):
    """Return (1 at the right answer minus P, P of the right answer).

    The derivatives are 0 if the right answer is not allowed or the lowest energy is -inf.
    """
    wide, log_w, _ = _gibbs.arrange(energies, beta, -1, where, log_weights)
    allowed = log_w != -jnp.inf
    p = gibbs.probs(wide, beta=beta, log_weights=log_w)
    is_right = _one_hot(label, wide) > 0
    possible = jnp.any(is_right & allowed & (wide != jnp.inf), axis=-1, keepdims=True)
    floor = jnp.any(allowed & (wide == -jnp.inf), axis=-1, keepdims=True)
    # 1 - P(right) as a sum over the other candidates, which does not cancel for P near 1.
    others = jnp.sum(jnp.where(is_right, 0.0, p), axis=-1, keepdims=True)
    derivative = jnp.where(possible & ~floor, jnp.where(is_right, others, -p), 0.0)
    return _nan_rows(derivative, is_unknown(wide, log_w, label), wide.dtype), pick(p, label)


def _nll(
    energies: ArrayLike,
    label: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the derivative of the negative log-likelihood.

    .. math:: \delta_y - P, \quad \text{since } \frac{\partial}{\partial F_k} \frac{1}{\beta} \log
        \sum_{y'} \exp(-\beta F_{y'}) = -\frac{\exp(-\beta F_k)}{Z}

    >>> import jax.numpy as jnp
    >>> _nll(jnp.zeros(4), 1).tolist()
    [-0.25, 0.75, -0.25, -0.25]
    """
    energies, label = check_candidates(energies, label)
    derivative, _ = _right_minus_expected(energies, label, beta, where, log_weights)
    return derivative.astype(energies.dtype)


def _mee(
    energies: ArrayLike,
    label: ArrayLike,
    *,
    beta: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    log_weights: ArrayLike | None = None,
) -> Array:
    r"""Return the derivative of the minimum empirical error loss.

    .. math:: \beta P_y (\delta_y - P), \quad
        \text{since } \partial P_y / \partial F_k = -\beta P_y (\delta_{yk} - P_k)

    >>> import jax.numpy as jnp
    >>> _mee(jnp.zeros(2), 0).tolist()
    [0.25, -0.25]
    """
    energies, label = check_candidates(energies, label)
    derivative, right = _right_minus_expected(energies, label, beta, where, log_weights)
    beta = jnp.asarray(beta, right.dtype)
    # At beta = inf the probabilities are a step function, whose derivative is 0.
    force = jnp.where(beta == jnp.inf, 0.0, beta) * right
    return (force[..., None] * derivative).astype(energies.dtype)


def chain(derivative: ArrayLike, jacobian: PyTree) -> PyTree:
    r"""Return the gradient in the parameters from derivatives in the energies.

    .. math:: \frac{\partial \ell}{\partial W} = \sum_y \frac{\partial \ell}{\partial F(x, y)}
        \frac{\partial F(x, y)}{\partial W}

    For ``nll`` this is :math:`\partial F(x, y) / \partial W - \sum_{y'} P(y' \mid x) \, \partial
    F(x, y') / \partial W`, as in LeCun et al. (2006).

    Args:
        derivative: :math:`\partial \ell / \partial F` for every candidate, (n,), floating point.
        jacobian: :math:`\partial F / \partial W` for every candidate: a pytree of arrays (n, ...),
            as ``jax.jacobian`` of the energies returns it.

    Returns:
        A pytree like the parameters.

    >>> import jax.numpy as jnp
    >>> chain(jnp.array([1.0, -1.0]), {"w": jnp.array([[1.0, 2.0], [0.0, 5.0]])})["w"].tolist()
    [1.0, -3.0]
    """
    derivative = _checks.floating("derivative", derivative)
    if derivative.ndim != 1:
        raise ValueError(f"derivative must be (n,), got {derivative.shape}: vmap a batch.")

    def contract(leaf) -> Array:
        leaf = _checks.array("jacobian", leaf)
        if leaf.shape[:1] != derivative.shape:
            raise ValueError(
                f"jacobian must have the {derivative.shape[0]} candidates on the leading axis of "
                f"every leaf, got {leaf.shape}."
            )
        return jnp.tensordot(derivative, leaf, axes=1)

    if not jax.tree.leaves(jacobian):
        raise TypeError(f"jacobian must be a pytree with at least one array, got {jacobian!r}.")
    return jax.tree.map(contract, jacobian)


_DERIVATIVES: dict[Any, Callable[..., Any]] = {
    pairwise.energy: _energy,
    pairwise.hinge: _hinge,
    pairwise.log: _log,
    pairwise.lvq2: _lvq2,
    pairwise.mce: _mce,
    pairwise.simple: _simple,
    pairwise.square_square: _square_square,
    pairwise.square_exponential: _square_exponential,
    candidates.perceptron: _perceptron,
    candidates.nll: _nll,
    candidates.mee: _mee,
}
