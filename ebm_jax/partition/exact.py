"""Exact partition functions, in closed form, by enumeration and by elimination.

With float64 (``jax_enable_x64``, float64 parameters), log Z is accurate to about 1e-12, relative.
With float32 the error is about 1e-6 of the largest energy, because of the rounding of the energies.
States are summed in blocks, so that their number does not increase the error.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _platform, gibbs
from ebm_jax._trees import check_energy
from ebm_jax.energies import (
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
    Rosenbrock,
    _parameters,
    lattice,
)
from ebm_jax.energies.boltzmann import RBM, CategoricalRBM, GaussianRBM
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.partition import _closed_forms, _elimination
from ebm_jax.types import Array, Energy

Model = (
    Gaussian
    | GaussianMixture
    | Rosenbrock
    | Funnel
    | Ring
    | RBM
    | GaussianRBM
    | CategoricalRBM
    | lattice.Ising
    | Pairwise
)

_BLOCK = {"on_cpu": 2**10, "elsewhere": 2**16}  # maximum number of states evaluated at once
_MOST_STATES = 2**30


def states(shape: int | tuple[int, ...], values=(0, 1)) -> Array:
    """Return all configurations of discrete variables, the last changing fastest.

    Args:
        shape: shape of one configuration, or its number of variables.
        values: values that a variable may take, (q,): (0, 1) for units, (-1, 1) for spins, range(q)
            for categories.

    Returns:
        The configurations, (q^n, *shape), in the dtype of ``values``.

    Raises:
        ValueError: if values are empty, or there are more than 2^30 configurations.

    >>> states(2, (-1, 1)).tolist()
    [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    """
    shape = _checks.shape(shape)
    values, num = _space(shape, values)
    return _decode(jnp.arange(num), values, shape)


def _space(shape: tuple[int, ...], values) -> tuple[Array, int]:
    """Return the values as an array and the number of configurations, at most 2^30."""
    values = jnp.asarray(_checks.values(values))
    num = values.shape[0] ** math.prod(shape)
    if num > _MOST_STATES:
        raise ValueError(
            f"Enumeration is for at most {_MOST_STATES} states, got {values.shape[0]} values "
            f"for each of {math.prod(shape)} variables."
        )
    return values, num


def _decode(number: Array, values: Array, shape: tuple[int, ...]) -> Array:
    """Return the configurations (..., *shape) with these indices, in base q."""
    places = values.shape[0] ** np.arange(math.prod(shape) - 1, -1, -1)
    digits = number[..., None] // places.astype(np.int32) % values.shape[0]
    return values[digits].reshape(number.shape + shape)


def log_partition(
    energy: Energy | Model,
    shape: int | tuple[int, ...] | None = None,
    *,
    values: ArrayLike | None = None,
    beta: ArrayLike = 1.0,
    edges: ArrayLike | None = None,
) -> Array:
    r"""Return log Z of a model, in closed form, by enumeration or by elimination.

    .. math:: \log Z = \log \sum_x \exp(-\beta E(x)) \text{, or the integral over } x

    An energy of discrete variables is enumerated over ``values``\ :sup:`shape`, in blocks, so
    that the sum and its gradient need the memory of one block. To sum over a list of states, use
    ``gibbs.log_partition`` of their energies. The parameters of these models have formulas,
    where d is the dimension and other symbols are those of the parameter classes:

    ===================  ==========================================================================
    ``Gaussian``         d/2 log(2 pi / beta) - 1/2 log det Lambda; NaN if the precision is not
                         positive definite
    ``GaussianMixture``  log sum_k w_k, only for beta = 1 (NaN at others under ``jit``)
    ``Rosenbrock``       log(pi / beta) - 1/2 log b
    ``Funnel``           d/2 log(2 pi / beta) + log s + [(d - 1) (1 - beta) s]^2 / (8 beta), d
                         given by ``shape``
    ``Ring``             log 2 pi [t^2 exp(-r^2 / 2 t^2) + r t sqrt(pi / 2)
                         (1 + erf(r / (t sqrt 2)))] with t = w / sqrt(beta)
    ``RBM``              enumeration of the smaller side, at most 30 units
    ``GaussianRBM``      enumeration of the hidden units, at most 30
    ``CategoricalRBM``   enumeration of the side with fewer states, at most 2^30
    ``Ising``            Kaufman's closed form (1949, Phys. Rev. 76) on a torus without a field (NaN
                         with one under ``jit``); ``shape`` is (rows, columns)
    ``Pairwise``         elimination of one variable after another on the graph of the ``edges``
                         (Dechter 1999, Artificial Intelligence 113): the transfer matrix on a
                         chain. The time grows with q^(treewidth + 1), not with q^n
    ===================  ==========================================================================

    Args:
        energy: function x -> () of one configuration of discrete variables, or parameters of a type
            in the table.
        shape: shape of one configuration, for an energy, ``Funnel`` and ``Ising``.
        values: values that a variable may take, (q,), for an energy or a ``Pairwise`` with fields
            (n,); by default (0, 1). Omit it for fields (n, q).
        beta: inverse temperature, (): >= 0 for an energy, and finite for an ``RBM``, a
            ``CategoricalRBM`` and ``Pairwise``; > 0 for others. At 0, infinite couplings and fields
            of ``Pairwise`` count as 0, while infinite energies stay forbidden. ``Gaussian``,
            ``Rosenbrock``, ``Funnel`` and ``Ring`` also take an array.
        edges: pairs of different variables of ``Pairwise``, integers (m, 2).

    Returns:
        log Z, (), or with the shape of beta; differentiable in the parameters. The gradient is
        minus beta times the expected gradient of the energy. The log Z of an Ising model is right
        to about 1e-12 of the number of spins in float64 and 1e-6 of log Z in float32, and so are
        its two derivatives in the coupling or beta.

    Raises:
        TypeError: if the type of the parameters is not in the table.
        ValueError: if there are more than 2^30 configurations, a graph needs a table of more than
            2^24 entries, an energy is not a scalar, beta is out of range, or an Ising model has a
            field.

    >>> import jax.numpy as jnp
    >>> from ebm_jax.energies import Gaussian, lattice
    >>> round(float(log_partition(lambda x: -1.0 * jnp.sum(x), 10)), 4)  # 10 log(1 + e)
    13.1326
    >>> round(float(log_partition(Gaussian(jnp.zeros(2), jnp.ones(2)))), 4)  # log 2 pi
    1.8379
    >>> rbm = RBM(jnp.zeros((784, 3)), jnp.zeros(784), jnp.zeros(3))
    >>> round(float(log_partition(rbm)), 3)  # 787 log 2
    545.507
    >>> round(float(log_partition(lattice.Ising(0.4), (8, 8))), 3)
    56.599
    >>> chain = Pairwise(jnp.ones(99), jnp.zeros(100))
    >>> edges = [(i, i + 1) for i in range(99)]
    >>> log_z = log_partition(chain, edges=edges, values=(-1, 1))
    >>> round(float(log_z), 3)  # log 2 + 99 log(2 cosh 1)
    112.259
    """
    if isinstance(energy, Pairwise) and shape is None:
        return _pairwise(energy, edges, values, beta)
    if edges is not None:
        raise ValueError(f"edges={edges!r} is for Pairwise without a shape, got {energy!r}.")
    if callable(energy):
        return _enumerated(energy, shape, (0, 1) if values is None else values, beta)
    if values is not None:
        raise ValueError(f"values={values!r} is for an energy, got the parameters {energy!r}.")
    if isinstance(energy, Funnel):
        sides = _checks.shape(shape)
        if len(sides) != 1 or 0 in sides:
            raise ValueError(f"shape must be (d,), d >= 1, for a Funnel, got {shape!r}.")
        return _closed_forms.funnel(energy, sides[0], beta)
    if isinstance(energy, lattice.Ising):
        return _closed_forms.ising(energy, _checks.shape(shape), beta)
    if shape is not None:
        raise ValueError(
            f"shape={shape!r} is for an energy, Funnel or Ising: {type(energy).__name__} has one."
        )
    for kind, formula in _FORMULAS.items():
        if isinstance(energy, kind):
            return formula(energy, beta)
    raise TypeError(
        "energy must be a function E(x) -> (), or parameters with a known log Z "
        f"({', '.join(kind.__name__ for kind in _FORMULAS)}, Funnel, Ising, Pairwise), "
        f"got {energy!r}."
    )


def _enumerated(energy: Energy, shape, values, beta) -> Array:
    """Return log Z of an energy of discrete variables."""
    shape = _checks.shape(shape)
    values, num = _space(shape, values)
    check_energy(energy, _decode(jnp.arange(1), values, shape))
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)
    first = _decode(jnp.arange(1), values, shape)[0]
    block = min(num, _platform.rows_at_once(energy, first, **_BLOCK))

    @jax.checkpoint
    def over_block(start: Array) -> Array:
        number = start + jnp.arange(block)
        energies = jax.vmap(energy)(_decode(number, values, shape))
        return gibbs.log_partition(energies, beta=beta, where=number < num)

    each = jax.lax.map(over_block, block * jnp.arange(-(-num // block)))
    return gibbs.log_partition(-each)


def _rbm(params: RBM, beta) -> Array:
    r"""Return log Z of an RBM by enumeration of the smaller side, here h.

    .. math:: \log \sum_h \exp\Big( \beta c^T h
        + \sum_i \operatorname{softplus}(\beta (b_i + W_i h)) \Big)
    """
    _parameters.check_machine(params, RBM)
    _checks.nonnegative("beta", beta)
    _checks.finite("beta", beta)
    _checks.scalar("beta", beta)
    return _rbm_sum(params, beta)


@jax.jit
def _rbm_sum(params: RBM, beta) -> Array:
    weights, outer, inner = jax.tree.map(lambda p: beta * jnp.asarray(p), params)
    if weights.shape[0] < weights.shape[1]:
        weights, outer, inner = weights.T, inner, outer

    def energy(h):
        h = h.astype(weights.dtype)
        return -jnp.dot(inner, h) - _sum_softplus(outer + weights @ h)

    return _enumerated(energy, inner.shape[0], (0, 1), 1.0)


def _categorical_rbm(params: CategoricalRBM, beta) -> Array:
    """Return log sum_h exp(beta c^T h + sum_i log sum_k exp(beta (b_i(k) + W_i(k) h))).

    Or the sum over the visible units, where they have fewer states.
    """
    _parameters.check_machine(params, CategoricalRBM)
    _checks.nonnegative("beta", beta)
    _checks.finite("beta", beta)
    _checks.scalar("beta", beta)
    return _categorical_rbm_sum(params, beta)


@jax.jit
def _categorical_rbm_sum(params: CategoricalRBM, beta) -> Array:
    weights, visible, hidden = jax.tree.map(lambda p: beta * jnp.asarray(p), params)
    num, q = visible.shape

    def given_hidden(h):
        h = h.astype(weights.dtype)
        return -jnp.dot(hidden, h) - jnp.sum(jax.nn.logsumexp(visible + weights @ h, axis=1))

    def given_visible(v):
        on = (v[:, None] == jnp.arange(q)).astype(weights.dtype)
        return -jnp.sum(on * visible) - _sum_softplus(hidden + jnp.tensordot(on, weights, 2))

    if num * math.log2(q) < hidden.shape[0]:
        return _enumerated(given_visible, num, range(q), 1.0)
    return _enumerated(given_hidden, hidden.shape[0], (0, 1), 1.0)


@jax.custom_jvp
def _sum_softplus(x: Array) -> Array:
    """Return sum_i log(1 + exp(x_i)), with one logarithm for many terms."""
    terms = 1 + jnp.exp(-jnp.abs(x))  # in (1, 2], so that a product of a group cannot overflow
    group = jnp.finfo(x.dtype).maxexp - 1
    terms = jnp.pad(terms, (0, -x.shape[0] % group), constant_values=1)
    products = jnp.prod(terms.reshape(-1, group), axis=1)
    return jnp.sum(jax.nn.relu(x)) + jnp.sum(jnp.log(products))


@_sum_softplus.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _sum_softplus(x), jnp.sum(jax.nn.sigmoid(x) * dx)


def _gaussian_rbm(params: GaussianRBM, beta) -> Array:
    r"""Return log Z: a sum over hidden units of integrals over visible ones.

    .. math:: \log \sum_h \exp\Big( \beta c^T h
        + \beta \sum_i \frac{(2 b_i + m_i) m_i}{2 s_i^2} \Big)
        + \frac{1}{2} \sum_i \log(2 \pi s_i^2 / \beta), \qquad m = W h
    """
    _parameters.check_machine(params, GaussianRBM)
    _checks.positive("beta", beta)
    _checks.scalar("beta", beta)
    return _gaussian_rbm_sum(params, beta)


@jax.jit
def _gaussian_rbm_sum(params: GaussianRBM, beta) -> Array:
    weights, visible, hidden = (jnp.asarray(p) for p in params[:3])
    variance = jnp.broadcast_to(jnp.square(params.sigma), visible.shape)

    def energy(h):
        h = h.astype(weights.dtype)
        shift = weights @ h
        return -jnp.dot(hidden, h) - jnp.sum((2 * visible + shift) * shift / (2 * variance))

    gaussian = 0.5 * jnp.sum(jnp.log(2 * jnp.pi * variance / beta))
    return _enumerated(energy, hidden.shape[0], (0, 1), beta) + gaussian


def _pairwise(params: Pairwise, edges, values, beta) -> Array:
    """Return log Z of a pairwise model on a graph of small treewidth: a tree, a ladder, a ring."""
    couplings, fields, edges = _parameters.pairwise(params, Pairwise, edges)
    numbers = jnp.asarray(_parameters.values(fields, values), fields.dtype)
    _checks.nonnegative("beta", beta)
    _checks.finite("beta", beta)
    _checks.scalar("beta", beta)
    if fields.ndim == 1:
        fields = _parameters.times(fields[:, None], numbers[None])
        products = numbers[:, None] * numbers[None]
        couplings = _parameters.times(couplings[:, None, None], products[None])
    elif couplings.ndim == 1:
        same = jnp.eye(len(numbers), dtype=fields.dtype)
        couplings = _parameters.times(couplings[:, None, None], same[None])
    at_beta = functools.partial(_parameters.times, jnp.asarray(beta, fields.dtype))
    pairs = tuple(map(tuple, edges.tolist()))
    return _elimination.log_sum(at_beta(fields), at_beta(couplings), pairs)


_FORMULAS: dict[type, Callable[[Any, Any], Array]] = {
    Gaussian: _closed_forms.gaussian,
    GaussianMixture: _closed_forms.gaussian_mixture,
    Rosenbrock: _closed_forms.rosenbrock,
    Ring: _closed_forms.ring,
    RBM: _rbm,
    GaussianRBM: _gaussian_rbm,
    CategoricalRBM: _categorical_rbm,
}
