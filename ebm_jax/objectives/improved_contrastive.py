r"""Contrastive divergence with the term that it leaves out: the chains depend on the parameters."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import chain_norm, difference_products, matrix, mean_info, partition
from ebm_jax.objectives import _negatives
from ebm_jax.samplers import running
from ebm_jax.types import Array, Energy, MakeSampler, Objective, Position


def nearest_neighbor_entropy(positions: Position) -> Array:
    r"""Return the Kozachenko-Leonenko estimate of the entropy of samples, differentiable.

        H = d mean_i log r_i + log V_d + log(n - 1) + gamma

    with r_i the distance to the nearest other sample, V_d the volume of the unit ball in d
    dimensions and gamma Euler's constant. Two equal samples make it -inf.
    Source: Kozachenko and Leonenko (1987), Sample estimate of the entropy of a random vector.

    Args:
        positions: n >= 2 samples on the leading axis, of which the floating leaves count.

    Returns:
        The entropy in nats, ().

    Raises:
        ValueError: fewer than two samples, no common leading axis. TypeError: no floating leaf.

    >>> import jax, jax.numpy as jnp
    >>> x = jax.random.normal(jax.random.key(0), (2000, 1))
    >>> bool(abs(nearest_neighbor_entropy(x) - 1.4189) < 0.1)  # log(2 pi e) / 2
    True
    """
    num = _checks.leading_axis("positions", positions)
    if num < 2:
        raise ValueError(f"positions must be two samples or more, got {num}.")
    moving = partition(jax.tree.map(jnp.asarray, positions))[0]
    x = matrix(moving)
    size = x.shape[1]
    fixed = jax.lax.stop_gradient(x)
    distances = difference_products(fixed, fixed)
    nearest = jnp.argmin(jnp.where(jnp.eye(num, dtype=bool), jnp.inf, distances), axis=1)
    radius = chain_norm([x - x[nearest]])
    log_ball = size / 2 * math.log(math.pi) - math.lgamma(size / 2 + 1)
    return size * jnp.mean(jnp.log(radius)) + log_ball + math.log(num - 1) + float(jnp.euler_gamma)


def improved_contrastive_divergence(
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    num_steps: int,
    last_steps: int = 1,
    entropy_weight: ArrayLike = 1.0,
    energy_penalty: float = 0.0,
) -> Objective:
    r"""Return CD-k with the gradient through where its chains end.

        L = mean E(x+) - mean E(x-) + mean E_const(x-(params)) - w H(x-(params))

    The second half is the divergence KL(q_params || exp(-E)/Z) of the chains' ends, whose gradient
    contrastive divergence neglects; it is taken through the last steps, and the entropy estimated
    by ``nearest_neighbor_entropy``.
    Source: Du et al. (2021), Improved contrastive divergence training of energy-based models.

    Args:
        energy: (params, x) -> ().
        make_sampler: energy -> ``Sampler``, whose step is differentiable in the parameters:
            ``samplers.ula``, ``samplers.baoab``; no sampler that accepts and rejects.
        num_steps: k >= 1.
        last_steps: through how many of them the gradient is taken, from 1 to k.
        entropy_weight: w >= 0.
        energy_penalty: a >= 0, as in ``contrastive_divergence``.

    Returns:
        An ``Objective`` without state, of batches x; metrics also those of the objectives with
        sampled negatives, ``divergence`` and ``entropy``.

    Raises:
        ValueError: last_steps outside [1, num_steps], a weight or penalty that is negative.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> energy = lambda params, x: params * jnp.sum(x**2) / 2
    >>> objective = improved_contrastive_divergence(energy, num_steps=2,
    ...     make_sampler=functools.partial(samplers.ula, step_size=0.1))
    >>> value, _ = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> value.shape
    ()
    """
    _negatives.check(energy, make_sampler, num_steps, energy_penalty)
    if _checks.count("last_steps", last_steps) > num_steps:
        raise ValueError(f"last_steps must be in [1, num_steps={num_steps}], got {last_steps}.")
    _checks.weight("entropy_weight", entropy_weight)

    def loss(params, state, batch, key):
        _checks.leading_axis("batch", batch)
        first_key, last_key = jax.random.split(key)
        frozen = jax.lax.stop_gradient(params)
        sampler, live = (_negatives.bind(make_sampler, energy, p) for p in (frozen, params))
        middle = sampler.init(batch)
        if num_steps > last_steps:
            middle, _ = _negatives.run(first_key, sampler, middle, num_steps - last_steps)
        middle = running.refresh(live, middle)
        end, info = running.run(last_key, live, middle, last_steps, collect=mean_info)
        info = jax.lax.stop_gradient(jax.tree.map(jnp.mean, info))
        ends = end.position
        value, metrics = _negatives.contrast(
            energy, params, batch, jax.lax.stop_gradient(ends), energy_penalty
        )
        follow = jnp.mean(_checks.energies(lambda x: energy(frozen, x), ends, "chains"))
        entropy = nearest_neighbor_entropy(ends)
        value = value + follow - entropy_weight * entropy
        metrics |= {"loss": value, "divergence": follow - entropy, "entropy": entropy}
        return value, (state, info | metrics)

    return Objective(lambda params, key: (), loss)
