"""Recovery likelihood: the likelihood of data given noisy data, from samples."""

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
    r"""Return contrastive divergence on data given noisy data.

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
