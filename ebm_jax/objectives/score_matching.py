r"""Score matching: the slope of the energy fitted to the slope of the data's log-density.

    J(params) = mean_i |grad E(x_i)|^2 / 2 - tr Hess E(x_i)

The score of the model is -grad E: its target is exp(-E), beta = 1. J is, up to a constant, half
the mean square of the difference to the score of the data's density, so that no partition function
is needed; nor does it see what lies between modes. On a Gaussian it is maximum likelihood. The
energy needs three derivatives, so smooth activations: a ReLU network has no Hessian.

What the forms share:

* ``energy``: (params, x) -> ().
* ``num_probes``: random directions for each example, >= 1; the form does not change with their
  number, only its variance.
* batches x, on the leading axis; gradients are by floating leaves, others (a class) are given.

Refused: TypeError for batches without a floating leaf, integer energies, a non-callable argument;
ValueError for batches without a common leading axis, an energy that is not a scalar.
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
    """Return grad E, the probes v, and v^T Hess E v (probes, n): forward over reverse."""
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
    """Return every unit vector, for each of the examples."""
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

        J(params) = mean_i |grad E(x_i)|^2 / 2 - tr Hess E(x_i)

    The trace takes a Hessian-vector product for each dimension, all at once: for few dimensions.
    Source: Hyvarinen (2005), Estimation of non-normalized statistical models by score matching.

    Args:
        energy: (params, x) -> ().

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss``, ``squared_score`` (the mean
        of |grad E|^2) and ``laplacian`` (that of the trace).

    Raises:
        ValueError: as the module says.

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

        J(params) = mean_i |grad E(x_i)|^2 / 2 - mean_j v_ij^T Hess E(x_i) v_ij,   v = +-1

    Its mean over the signs is ``score_matching``; each probe costs one Hessian-vector product. Only
    the Hessian's off-diagonal entries add variance.
    Source: Hutchinson (1990), A stochastic estimator of the trace of the influence matrix.

    Args:
        energy: (params, x) -> ().
        num_probes: for each example, >= 1.

    Returns:
        An ``Objective`` without state, of batches x; metrics as those of ``score_matching``.

    Raises:
        ValueError: num_probes < 1; and as the module says.

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
    r"""Return sliced score matching: the scores compared along random directions v ~ N(0, I).

        J(params) = mean_ij (v_ij^T grad E(x_i))^2 / 2 - v_ij^T Hess E(x_i) v_ij

    Its mean over the directions is ``score_matching``. Reduced (as a rule) in variance the mean of
    the square is taken exactly: |grad E(x_i)|^2 / 2, and what is left differs from
    ``hutchinson_score_matching`` in the distribution of v.
    Source: Song et al. (2019), Sliced score matching: a scalable approach to density and score
    estimation.

    Args:
        energy: (params, x) -> ().
        num_probes: for each example, >= 1.
        variance_reduced: whether the square is averaged exactly.

    Returns:
        An ``Objective`` without state, of batches x; metrics as those of ``score_matching``.

    Raises:
        ValueError: num_probes < 1; TypeError: what is neither True nor False; and as the module
            says.

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
    r"""Return denoising score matching, at one noise level or at several.

        L(params) = mean_i |sigma grad E(x_i + sigma xi_i) - xi_i|^2 / 2,   xi ~ N(0, I)

    Its optimum is the energy of the data with the noise: N(mu, Sigma + sigma^2 I) for a Gaussian.
    This is Vincent's objective times sigma^2, of the same size at every level. Divided by sigma^2
    its gradient becomes that of ``score_matching`` as sigma -> 0, with a variance that grows as
    1/sigma^2. With several levels every example gets one of them at random, so that the mean is
    over the levels, and the energy is told which.
    Source: Vincent (2011), A connection between score matching and denoising autoencoders; several
    levels from Song and Ermon (2019), Generative modeling by estimating gradients of the data
    distribution.

    Args:
        energy: (params, x) -> () with one noise level; (params, x, sigma) -> () with several.
        sigma: standard deviation of the noise, > 0, in units of x: () for one level, (levels,) for
            several.

    Returns:
        An ``Objective`` without state, of batches x whose floating leaves get the noise; metric
        ``loss``.

    Raises:
        ValueError: a sigma that is not finite and > 0, or neither () nor (levels,); and as the
            module says.

    >>> import jax, jax.numpy as jnp
    >>> def energy(params, x, sigma):
    ...     return params * jnp.sum(x**2) / (2 * sigma**2)
    >>> objective = denoising_score_matching(energy, jnp.array([0.1, 1.0, 10.0]))
    >>> value, _ = objective.loss(1.0, (), jnp.zeros((8, 2)), jax.random.key(0))
    >>> round(float(value), 4)  # without data but 0 the noise is all there is
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

        # The level is carried as a number: a floating leaf would get a gradient.
        def of_level(position: tuple[Position, Array]) -> Array:
            x, i = position
            return energy(params, x, levels[i]) if levels.ndim else energy(params, x)

        _, slope = value_and_gradient(of_level, (merge(noisy, given), which))
        pairs = zip(slope, xi, strict=True)
        value = jnp.mean(_square([per_chain(sigma, g) * g - n for g, n in pairs])) / 2
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), loss)
