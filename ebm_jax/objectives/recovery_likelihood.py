r"""Recovery likelihood: the likelihood of data given noisy copies of them."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_sum, partition, per_chain
from ebm_jax.objectives import _conditional, _negatives
from ebm_jax.types import Array, Energy, Key, MakeSampler, Objective, Params, Position


def recovery_likelihood(
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    sigma: ArrayLike,
    num_steps: int,
) -> Objective:
    r"""Return recovery likelihood: contrastive divergence on data given noisy copies.

    .. math:: L &= \operatorname{mean} E(x) - \operatorname{mean} E(y), \qquad
        \tilde x_i = x_i + \sigma \xi_i \\
        y_i &\sim \exp\left( -E(y) - \lVert \tilde x_i - y \rVert^2 / (2 \sigma^2) \right)

    The conditional distribution has fewer modes than the model, so short chains reach it. They
    start at :math:`\tilde x`. For large :math:`\sigma` this is maximum likelihood. Source: Gao et
    al. (2021), Learning energy-based models by diffusion recovery likelihood; Bengio et al. (2013),
    Generalized denoising auto-encoders as generative models.

    Args:
        energy: function (params, x) -> () of one configuration.
        make_sampler: function from an energy to a ``Sampler``, such as
            ``functools.partial(samplers.ula, step_size=0.01)``. It gets the conditional energy,
            whose positions are pairs (y, index of the chain); the sampler moves the floating-point
            leaves.
        sigma: standard deviation :math:`\sigma > 0` of the noise, finite, in units of x.
        num_steps: number of steps of the chains, >= 1.

    Returns:
        An ``Objective`` without state, of batches x; their floating-point leaves get the noise.
        Metrics are those of the objectives with sampled negatives.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> objective = recovery_likelihood(lambda params, x: params * jnp.sum(x**2) / 2,
    ...     functools.partial(samplers.mala, step_size=0.1), sigma=0.5, num_steps=5)
    >>> value, (_, metrics) = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> float(value) == -float(metrics["energy_gap"])
    True
    """
    _negatives.check(energy, make_sampler, num_steps, 0.0)
    _checks.positive("sigma", sigma)
    _checks.scalar("sigma", sigma)

    def loss(params, state, batch, key):
        _checks.leading_axis("batch", batch)
        noise_key, run_key = jax.random.split(key)
        moving, fixed, merge = partition(jax.tree.map(jnp.asarray, batch))
        xi = standard_normal(noise_key, moving)
        noisy = [(x + sigma * n).astype(x.dtype) for x, n in zip(moving, xi, strict=True)]
        frozen = jax.lax.stop_gradient(params)

        def conditional(y: Position, around: list) -> Array:
            pairs = zip(partition(y)[0], around, strict=True)
            (distance,) = chain_sum([jnp.square(c - z)[None] for c, z in pairs])
            value = _checks.floating("energy", energy(frozen, y))
            return value + jnp.asarray(distance / (2 * sigma**2), value.dtype)

        ends, info = _conditional.run(
            run_key, conditional, merge(noisy, fixed), noisy, make_sampler, num_steps
        )
        value, metrics = _negatives.contrast(energy, params, batch, ends, 0.0)
        return value, (state, info | metrics)

    return Objective(lambda params, key: (), loss)


def diffusion_recovery_likelihood(
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    sigmas: ArrayLike,
    num_steps: int,
) -> Objective:
    r"""Return recovery likelihood over noise levels, with one energy for all of them.

    .. math::
        y = x + s_k \xi, \quad \tilde{x} = y + \delta_k \xi', \quad
        \delta_k^2 = s_{k+1}^2 - s_k^2, \qquad
        L = \mathbb{E}\left[ U(y, s_k) - U(\tilde{x} + \delta_k u, s_k) \right]

    where U is ``energy``, :math:`\xi` and :math:`\xi'` are standard normal, every example has a
    random level k, and the negatives u are the ends of chains that start at 0 and sample
    :math:`\exp(-U(\tilde{x} + \delta_k u, s_k) - \lVert u \rVert^2 / 2)`. In these units one step
    size suits all levels. Between neighbouring levels the conditional distribution is nearly
    Gaussian, so few steps reach it. The optimum is :math:`U(\cdot, s_k) = -\log p_{s_k}` plus a
    constant for each level, where :math:`p_s` is the density of the data with noise. Source: Gao et
    al. (2021), Learning energy-based models by diffusion recovery likelihood. The source also
    shrinks the data at each level; here their variance grows, as in
    ``noise_conditional_score_matching``.

    Args:
        energy: (params, x, sigma) -> (), where sigma () is one of ``sigmas`` except the last.
        make_sampler: function from an energy to a ``Sampler``, such as
            ``functools.partial(samplers.mala, step_size=0.1)``. The step size is in units of
            :math:`\delta_k^2`. The positions are pairs (u, index of the chain), of which the
            sampler moves the floating-point leaves.
        sigmas: increasing noise levels :math:`s_0 \ge 0` to :math:`s_K`, (K + 1,), in units of x;
            a first level of 0 is the data themselves.
        num_steps: steps of the chains, >= 1.

    Returns:
        An ``Objective`` without state, of batches x whose floating leaves get the noise; metrics
        as those of the objectives with sampled negatives.

    Raises:
        ValueError: if sigmas are not finite, negative, not increasing or fewer than two, or
            num_steps < 1.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> def energy(params, x, sigma):
    ...     return params * jnp.sum(x**2) / (2 * (1 + sigma**2))
    >>> objective = diffusion_recovery_likelihood(energy,
    ...     functools.partial(samplers.mala, step_size=0.3), sigmas=[0.0, 0.5, 1.0], num_steps=5)
    >>> value, (_, metrics) = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> float(value) == -float(metrics["energy_gap"])
    True
    """
    _negatives.check(energy, make_sampler, num_steps, 0.0)
    levels = _levels(sigmas)

    def loss(params, state, batch, key):
        num = _checks.leading_axis("batch", batch)
        level_key, data_key, noise_key, run_key = jax.random.split(key, 4)
        moving, fixed, merge = partition(jax.tree.map(jnp.asarray, batch))
        k = jax.random.randint(level_key, (num,), 0, levels.size - 1)
        low = levels.astype(jnp.result_type(*moving))[k]
        step = jnp.sqrt(levels[k + 1] ** 2 - levels[k] ** 2).astype(low.dtype)

        def noised(key: Key, leaves: list, scale: Array) -> list:
            pairs = zip(leaves, standard_normal(key, leaves), strict=True)
            return [(x + per_chain(scale, x) * n).astype(x.dtype) for x, n in pairs]

        positives = noised(data_key, moving, low)
        around = noised(noise_key, positives, step)
        frozen = jax.lax.stop_gradient(params)

        def conditional(u: Position, at: tuple) -> Array:
            noisy, step, i = at
            leaves = partition(u)[0]
            y = [z + step * v for z, v in zip(noisy, leaves, strict=True)]
            value = _checks.floating("energy", energy(frozen, merge(y, partition(u)[1]), levels[i]))
            (square,) = chain_sum([jnp.square(v)[None] for v in leaves])
            return value + jnp.asarray(square / 2, value.dtype)

        starts = merge([jnp.zeros_like(x) for x in moving], fixed)
        ends, info = _conditional.run(
            run_key, conditional, starts, (around, step, k), make_sampler, num_steps
        )
        pairs = zip(around, partition(ends)[0], strict=True)
        negatives = [(z + per_chain(step, z) * u).astype(z.dtype) for z, u in pairs]

        # The level is carried by its index, an integer: a floating leaf would count as data.
        def of_level(params: Params, position: tuple[Position, Array]) -> Array:
            x, i = position
            return energy(params, x, levels[i])

        told = (merge(positives, fixed), k), (merge(negatives, fixed), k)
        value, metrics = _negatives.contrast(of_level, params, *told, 0.0)
        return value, (state, info | metrics)

    return Objective(lambda params, key: (), loss)


def _levels(sigmas: ArrayLike) -> Array:
    """Validate and return increasing noise levels."""
    levels = _checks.array("sigmas", sigmas)
    _checks.nonnegative("sigmas", sigmas)
    _checks.finite("sigmas", sigmas)
    if levels.ndim != 1 or levels.size < 2:
        raise ValueError(f"sigmas must be (levels,), at least two, got the shape {levels.shape}.")
    known = _checks.concrete(sigmas)
    if known is not None and not (known[1:] > known[:-1]).all():
        raise ValueError(f"sigmas must increase, got {known}.")
    return levels
