r"""The likelihood of data given the noisy data: recovery likelihood, with sampled negatives."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_sum, partition
from ebm_jax.objectives import _conditional, _negatives
from ebm_jax.types import Array, Energy, MakeSampler, Objective, Position


def recovery_likelihood(
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    sigma: ArrayLike,
    num_steps: int,
) -> Objective:
    r"""Return contrastive divergence on the data given what is left of them under noise.

        L = mean E(x) - mean E(y),   y_i ~ exp(-E(y) - |x~_i - y|^2 / (2 sigma^2))
        x~_i = x_i + sigma xi_i

    The conditional distribution has one mode where the model's own has many: few steps reach it.
    The chains start at x~. With sigma large it is maximum likelihood.
    Source: Gao et al. (2021), Learning energy-based models by diffusion recovery likelihood;
    Bengio et al. (2013), Generalized denoising auto-encoders as generative models.

    Args:
        energy: (params, x) -> ().
        make_sampler: energy -> ``Sampler``: ``functools.partial(samplers.ula, step_size=0.01)``.
            The energy is the conditional one; its positions are pairs (y, index of the chain),
            of which the sampler moves the floating leaves.
        sigma: standard deviation of the noise, > 0, in units of x.
        num_steps: steps of the chains, >= 1.

    Returns:
        An ``Objective`` without state, of batches x whose floating leaves get the noise; metrics
        as those of the objectives with sampled negatives.

    Raises:
        ValueError: a sigma that is not finite and > 0, num_steps < 1. TypeError: batches without a
            floating leaf, a non-callable argument, one that makes no sampler.

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
