r"""Score matching: the gradient of the energy fitted to the score of the data.

.. math:: J = \operatorname{mean}_i \tfrac{1}{2} \lVert \nabla E(x_i) \rVert^2
    - \operatorname{tr} \nabla^2 E(x_i)

The score of the model is :math:`-\nabla E`, for the target :math:`\exp(-E)`. Up to a constant, J is
half the mean squared difference to the score of the data's density, so it needs no partition
function. It does not determine the weights of separate modes. For a Gaussian model with free mean
and covariance it equals maximum likelihood. All objectives here except ``denoising_score_matching``
need three derivatives of the energy, so use smooth activations: the Hessian of a ReLU network is
zero almost everywhere.

The objectives take batches x on the leading axis. Gradients are with respect to floating-point
leaves; other leaves (a class) are given. Batches without a floating-point leaf raise TypeError,
options out of range ValueError.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_sum, explicit_mesh, partition, per_chain, value_and_gradient
from ebm_jax.types import Array, Energy, Key, Metrics, Objective, Params, Position

Probes = Callable[[Key, list], list]  # (key, leaves (n, ...)) -> leaves (probes, n, ...)


def _curvature(
    energy: Energy, params: Params, batch: Position, key: Key, draw: Probes
) -> tuple[list, list, Array]:
    """Return grad E, the probes v, and v^T Hess E v (probes, n).

    The Hessian is computed forward over reverse.
    """
    _checks.leading_axis("batch", batch)
    moving, given, merge = partition(jax.tree.map(jnp.asarray, batch))

    def gradient(moving: list) -> list:
        return value_and_gradient(lambda x: energy(params, x), merge(moving, given))[1]

    with explicit_mesh(moving):
        slope, hessian = jax.linearize(gradient, moving)
        probes = draw(key, moving)

        def along(v: list) -> Array:
            return chain_sum([a * b for a, b in zip(v, hessian(v), strict=True)])

        return slope, probes, jax.vmap(along)(probes)


def _result(square: Array, laplacian: Array) -> tuple[Array, Metrics]:
    square, laplacian = jnp.mean(square), jnp.mean(laplacian)
    value = square / 2 - laplacian
    return value, {"loss": value, "squared_score": square, "laplacian": laplacian}


def _units(key: Key, leaves: list) -> list:
    """Return all unit vectors, for each of the examples."""
    del key
    sizes = [leaf.size // len(leaf) for leaf in leaves]
    parts = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)

    def shaped(part: np.ndarray, leaf: Array) -> Array:
        unit = jnp.asarray(part, leaf.dtype).reshape(len(part), 1, *leaf.shape[1:])
        return jnp.broadcast_to(unit, (len(part), *leaf.shape))

    return [shaped(part, leaf) for part, leaf in zip(parts, leaves, strict=True)]


def _signs(num_probes: int) -> Probes:
    def draw(key: Key, leaves: list) -> list:
        keys = jax.random.split(key, len(leaves))
        pairs = zip(keys, leaves, strict=True)
        return [jax.random.rademacher(k, (num_probes, *x.shape), x.dtype) for k, x in pairs]

    return draw


def _normals(num_probes: int) -> Probes:
    def draw(key: Key, leaves: list) -> list:
        def one(k: Key) -> list:
            pairs = zip(standard_normal(k, leaves), leaves, strict=True)
            return [xi.astype(x.dtype) for xi, x in pairs]

        drawn = [one(k) for k in jax.random.split(key, num_probes)]
        return [jnp.stack(parts) for parts in zip(*drawn, strict=True)]

    return draw


def _square(leaves: list) -> Array:
    return chain_sum([jnp.square(leaf) for leaf in leaves])


def score_matching(energy: Energy) -> Objective:
    r"""Return score matching with the exact trace of the Hessian.

    .. math:: J = \operatorname{mean}_i \tfrac{1}{2} \lVert \nabla E(x_i) \rVert^2
        - \operatorname{tr} \nabla^2 E(x_i)

    The trace takes one Hessian-vector product per dimension, all at once, so it suits few
    dimensions. Source: Hyvarinen (2005), Estimation of non-normalized statistical models by score
    matching.

    Args:
        energy: function (params, x) -> () of one configuration.

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss``, ``squared_score`` (the mean
        squared gradient) and ``laplacian`` (the mean trace).

    >>> import jax, jax.numpy as jnp
    >>> objective = score_matching(lambda params, x: params * jnp.sum(x**2) / 2)
    >>> value, _ = objective.loss(3.0, (), jnp.array([[0.0, 1.0]]), jax.random.key(0))
    >>> float(value)  # 9/2 - 6
    -1.5
    """
    _checks.function("energy", energy)

    def loss(params, state, batch, key):
        slope, _, curvature = _curvature(energy, params, batch, key, _units)
        value, metrics = _result(_square(slope), jnp.sum(curvature, axis=0))
        return value, (state, metrics)

    return Objective(lambda params, key: (), loss)


def hutchinson_score_matching(energy: Energy, *, num_probes: int = 1) -> Objective:
    r"""Return score matching with Hutchinson's estimate of the trace.

    .. math:: J = \operatorname{mean}_i \tfrac{1}{2} \lVert \nabla E(x_i) \rVert^2
        - \operatorname{mean}_j v_{ij}^T \nabla^2 E(x_i) v_{ij}, \qquad v = \pm 1

    Its mean over the signs is ``score_matching``; each probe costs one Hessian-vector product. Only
    the off-diagonal entries of the Hessian add variance. Source: Hutchinson (1990), A stochastic
    estimator of the trace of the influence matrix.

    Args:
        energy: function (params, x) -> () of one configuration.
        num_probes: number of random directions per example, >= 1. More reduce the variance.

    Returns:
        An ``Objective`` without state, of batches x; metrics are those of ``score_matching``.

    >>> import jax, jax.numpy as jnp
    >>> objective = hutchinson_score_matching(lambda params, x: params * jnp.sum(x**2) / 2)
    >>> value, _ = objective.loss(3.0, (), jnp.array([[0.0, 1.0]]), jax.random.key(0))
    >>> float(value)
    -1.5
    """
    _checks.function("energy", energy)
    draw = _signs(_checks.count("num_probes", num_probes))

    def loss(params, state, batch, key):
        slope, _, curvature = _curvature(energy, params, batch, key, draw)
        value, metrics = _result(_square(slope), curvature)
        return value, (state, metrics)

    return Objective(lambda params, key: (), loss)


def sliced_score_matching(
    energy: Energy, *, num_probes: int = 1, variance_reduced: bool = True
) -> Objective:
    r"""Return sliced score matching, with scores projected to random directions.

    .. math:: J = \operatorname{mean}_{ij} \tfrac{1}{2} (v_{ij}^T \nabla E(x_i))^2
        - v_{ij}^T \nabla^2 E(x_i) v_{ij}, \qquad v \sim N(0, I)

    Its mean over the directions is ``score_matching``. With ``variance_reduced`` the first term is
    replaced by its mean over v, :math:`\lVert \nabla E(x_i) \rVert^2 / 2`. The objective then
    differs from ``hutchinson_score_matching`` only in the distribution of v. Source: Song et al.
    (2019), Sliced score matching: a scalable approach to density and score estimation.

    Args:
        energy: function (params, x) -> () of one configuration.
        num_probes: number of random directions per example, >= 1. More reduce the variance.
        variance_reduced: whether to average the square exactly.

    Returns:
        An ``Objective`` without state, of batches x; metrics are those of ``score_matching``.

    >>> import jax, jax.numpy as jnp
    >>> objective = sliced_score_matching(lambda params, x: params @ x)
    >>> value, _ = objective.loss(jnp.array([3.0, 4.0]), (), jnp.ones((8, 2)), jax.random.key(0))
    >>> float(value)
    12.5
    """
    _checks.function("energy", energy)
    _checks.flag("variance_reduced", variance_reduced)
    draw = _normals(_checks.count("num_probes", num_probes))

    def loss(params, state, batch, key):
        slope, probes, curvature = _curvature(energy, params, batch, key, draw)
        if variance_reduced:
            square = _square(slope)
        else:
            # slope broadcasts over the probes
            along = [v * g for v, g in zip(probes, slope, strict=True)]
            square = jnp.square(jax.vmap(chain_sum)(along))
        value, metrics = _result(square, curvature)
        return value, (state, metrics)

    return Objective(lambda params, key: (), loss)


def denoising_score_matching(energy: Energy, sigma: ArrayLike) -> Objective:
    r"""Return denoising score matching, with one or several noise levels.

    .. math:: L = \operatorname{mean}_i \tfrac{1}{2} \lVert
        \sigma \nabla E(x_i + \sigma \xi_i) - \xi_i \rVert^2, \qquad \xi \sim N(0, I)

    At the optimum exp(-E) is proportional to the density of the noisy data: for Gaussian data
    :math:`N(\mu, \Sigma)` it is :math:`N(\mu, \Sigma + \sigma^2 I)`. The objective of Vincent is
    multiplied by :math:`\sigma^2`, so that it has about the same size at every level. Divided by
    :math:`\sigma^2`, its gradient tends to that of ``score_matching`` as :math:`\sigma \to 0`, with
    a variance that grows as :math:`1/\sigma^2`. With several levels, every example gets one of them
    at random, and the energy takes the level as an argument. Source: Vincent (2011), A connection
    between score matching and denoising autoencoders; several levels from Song and Ermon (2019),
    Generative modeling by estimating gradients of the data distribution.

    Args:
        energy: (params, x) -> () for one noise level; (params, x, sigma) -> () for several.
        sigma: standard deviation :math:`\sigma > 0` of the noise, finite, in units of x: () for one
            level, (levels,) for several.

    Returns:
        An ``Objective`` without state, of batches x; their floating-point leaves get the noise.
        Metric ``loss``.

    >>> import jax, jax.numpy as jnp
    >>> def energy(params, x, sigma):
    ...     return params * jnp.sum(x**2) / (2 * sigma**2)
    >>> objective = denoising_score_matching(energy, jnp.array([0.1, 1.0, 10.0]))
    >>> value, _ = objective.loss(1.0, (), jnp.zeros((8, 2)), jax.random.key(0))
    >>> round(float(value), 4)  # all data are 0, so this energy predicts the noise exactly
    0.0
    """
    _checks.function("energy", energy)
    given_levels = _checks.array("sigma", sigma)
    _checks.positive("sigma", sigma)
    if given_levels.ndim > 1 or not given_levels.size:
        raise ValueError(f"sigma must be () or (levels,), got the shape {given_levels.shape}.")

    def loss(params, state, batch, key):
        num = _checks.leading_axis("batch", batch)
        moving, given, merge = partition(jax.tree.map(jnp.asarray, batch))
        level_key, noise_key = jax.random.split(key)
        levels = given_levels.astype(jnp.result_type(*moving))
        which = jax.random.randint(level_key, (num,), 0, levels.size)
        sigma = jnp.atleast_1d(levels)[which]
        xi = standard_normal(noise_key, moving)
        noisy = [
            (x + per_chain(sigma, x) * n).astype(x.dtype) for x, n in zip(moving, xi, strict=True)
        ]

        # The level is passed as an integer index: a floating leaf would get a gradient.
        def of_level(position: tuple[Position, Array]) -> Array:
            x, i = position
            return energy(params, x, levels[i]) if levels.ndim else energy(params, x)

        _, slope = value_and_gradient(of_level, (merge(noisy, given), which))
        pairs = zip(slope, xi, strict=True)
        value = jnp.mean(_square([per_chain(sigma, g) * g - n for g, n in pairs])) / 2
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), loss)
