"""Score matching with the noise level as an input of the energy."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_sum, partition, per_chain, value_and_gradient
from ebm_jax.types import Array, Energy, Objective, Position


def _one(sigma: Array) -> Array:
    return jnp.ones_like(sigma)


def noise_conditional_score_matching(
    energy: Energy,
    *,
    sigma_min: ArrayLike,
    sigma_max: ArrayLike,
    score_weight: Callable[[Array], Array] = _one,
    time_score_weight: ArrayLike = 0.0,
) -> Objective:
    r"""Return denoising score matching of an energy with the noise level as an input.

    .. math::
        L = \tfrac{1}{2} \, \mathbb{E} \left[ w(\sigma) \,
        \lVert \sigma \nabla_x U(x + \sigma \xi, \sigma) - \xi \rVert^2
        + \lambda \left( \frac{\partial U}{\partial \log \sigma}
        - (d - \lVert \xi \rVert^2) \right)^2
        \right], \qquad \xi \sim \mathcal{N}(0, I)

    where U is the energy, d the number of dimensions of x, and :math:`\log \sigma` uniform between
    its bounds, stratified over the batch. Both terms are minimised by :math:`U(\cdot, \sigma) =
    -\log p_\sigma + c`, where :math:`p_\sigma` is the density of the data with noise. The first
    term allows a different constant c for each level and, where the noise does not connect the
    modes, for each mode. The second term, the time score, makes c the same for all levels and
    modes, so that the weights of the modes are learned. Then :math:`\log Z = -c` at every level;
    estimate it at the largest level, where :math:`p_\sigma` is close to a Gaussian. Both
    derivatives come from one gradient of the energy.

    For the plain loss with a fixed set of levels, see ``denoising_score_matching``.
    Source: Song and Ermon (2019), Generative modeling by estimating gradients of the data
    distribution; the time score from Choi et al. (2022), Density ratio estimation via
    infinitesimal classification.

    Args:
        energy: (params, x, sigma) -> (), differentiable in x and in sigma, which is ().
        sigma_min: the smallest standard deviation of the noise, > 0, in units of x.
        sigma_max: the largest, > sigma_min. Choose it so large that the noisy data are close to
            Gaussian.
        score_weight: :math:`w`, sigma (batch,) -> (batch,).
        time_score_weight: :math:`\lambda \ge 0`; 0 leaves the time score out.

    Returns:
        An ``Objective`` without state, of batches x whose floating leaves get the noise; metrics
        ``loss``, ``loss_score`` and ``loss_time_score`` (both without their weights).

    Raises:
        ValueError: if sigma_min or sigma_max is not finite and > 0, sigma_max <= sigma_min, or the
            weight is negative.

    >>> import jax, jax.numpy as jnp
    >>> def energy(params, x, sigma):  # data that are all 0
    ...     return params * jnp.sum(x**2) / (2 * sigma**2) + x.size * jnp.log(sigma)
    >>> objective = noise_conditional_score_matching(
    ...     energy, sigma_min=0.1, sigma_max=10.0, time_score_weight=1.0)
    >>> value, _ = objective.loss(1.0, (), jnp.zeros((8, 2)), jax.random.key(0))
    >>> bool(abs(value) < 1e-6)
    True
    """
    _checks.function("energy", energy)
    for name, sigma in (("sigma_min", sigma_min), ("sigma_max", sigma_max)):
        _checks.positive(name, sigma)
        _checks.scalar(name, sigma)
    low, high = _checks.concrete(sigma_min), _checks.concrete(sigma_max)
    if low is not None and high is not None and not low < high:
        raise ValueError(f"sigma_max must be > sigma_min = {low}, got {high}.")
    _checks.function("score_weight", score_weight)
    _checks.weight("time_score_weight", time_score_weight)

    def loss(params, state, batch, key):
        num = _checks.leading_axis("batch", batch)
        moving, given, merge = partition(jax.tree.map(jnp.asarray, batch))
        level_key, noise_key = jax.random.split(key)
        sigma = _stratified(level_key, num, sigma_min, sigma_max)
        sigma = sigma.astype(jnp.result_type(*moving))
        xi = standard_normal(noise_key, moving)
        noisy = [
            (x + per_chain(sigma, x) * n).astype(x.dtype) for x, n in zip(moving, xi, strict=True)
        ]

        def of_level(position: tuple[Position, Array]) -> Array:
            x, log_sigma = position
            return energy(params, x, jnp.exp(log_sigma))

        _, slopes = value_and_gradient(of_level, (merge(noisy, given), jnp.log(sigma)))
        *slopes, time_score = slopes
        residuals = [per_chain(sigma, g) * g - n for g, n in zip(slopes, xi, strict=True)]
        score_errors = chain_sum([jnp.square(r) for r in residuals])
        dimension = sum(leaf.size for leaf in moving) // num
        target = dimension - chain_sum([jnp.square(n) for n in xi])
        time_errors = jnp.square(time_score - target)
        value = jnp.mean(score_weight(sigma) * score_errors + time_score_weight * time_errors) / 2
        metrics = {
            "loss": value,
            "loss_score": jnp.mean(score_errors) / 2,
            "loss_time_score": jnp.mean(time_errors) / 2,
        }
        return value, (state, metrics)

    return Objective(lambda params, key: (), loss)


def _stratified(key: jax.Array, num: int, low: ArrayLike, high: ArrayLike) -> Array:
    """Return num values, one in each of num equal intervals of log sigma, in random order."""
    offset_key, order_key = jax.random.split(key)
    uniform = (jnp.arange(num) + jax.random.uniform(offset_key, (num,))) / num
    uniform = jax.random.permutation(order_key, uniform)
    low = jnp.asarray(low)
    return low * (jnp.asarray(high) / low) ** uniform
