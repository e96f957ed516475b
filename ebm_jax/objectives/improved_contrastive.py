"""Contrastive divergence with the gradient through the ends of its chains."""

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
    r"""Return the Kozachenko-Leonenko estimate of the entropy of samples.

    .. math:: H = d \operatorname{mean}_i \log r_i + \log V_d + \log(n - 1) + \gamma

    with the distance :math:`r_i` to the nearest other sample, the volume :math:`V_d` of the unit
    ball in d dimensions and Euler's constant :math:`\gamma`. It is differentiable; two equal
    samples make it -inf. Source: Kozachenko and Leonenko (1987), Sample estimate of the entropy of
    a random vector.

    Args:
        positions: n >= 2 samples on the leading axis; only floating-point leaves are used.

    Returns:
        The entropy in nats, ().

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
    r"""Return CD-k with the gradient through the ends of its chains.

    .. math:: L = \operatorname{mean} E(x^+) - \operatorname{mean} E(x^-)
        + \operatorname{mean} \bar E(x^-(\theta)) - w H(x^-(\theta))

    where :math:`\bar E` is the energy with constant parameters, :math:`x^+` are the batch,
    :math:`x^-` the ends of the chains, and :math:`x^-(\theta)` these ends as functions of the
    parameters. For w = 1 the last two terms are :math:`KL(q \parallel \exp(-\bar E)/Z) - \log Z`,
    where q is the distribution of the ends. Minimising them trains the energy so that short chains
    come close to its distribution. (Contrastive divergence treats the ends as constants. The
    gradient of :math:`KL(\text{data} \parallel p) - KL(q \parallel p)`, where p is the model,
    contains this term with the opposite sign; the sign here is that of the source.) The gradient of
    the last two terms flows through the last steps, and ``nearest_neighbor_entropy`` estimates H.
    Source: Du et al. (2021), Improved contrastive divergence training of energy-based models.

    Args:
        energy: function (params, x) -> () of one configuration.
        make_sampler: function from an energy to a ``Sampler`` whose step is differentiable in the
            parameters: ``samplers.ula`` or ``samplers.baoab``, but no sampler that accepts and
            rejects.
        num_steps: number of steps k >= 1.
        last_steps: number of last steps, from 1 to k, that the gradient flows through.
        entropy_weight: weight :math:`w \ge 0` of the entropy.
        energy_penalty: weight :math:`a \ge 0`, in 1/energy, of the squared energies, as in
            ``contrastive_divergence``.

    Returns:
        An ``Objective`` without state, of batches x. Metrics are those of the objectives with
        sampled negatives, ``divergence`` and ``entropy``.

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
