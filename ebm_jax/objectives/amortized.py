"""Negatives from a sampler that is trained together with the energy."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.objectives import _negatives
from ebm_jax.types import Array, Energy, Key, Objective, Params, Position

Draw = Callable[[Params, Key, int], tuple[Position, Array]]


class AmortizedParams(NamedTuple):
    """The parameters of the energy and of the sampler.

    Use ``AmortizedParams("energy", "sampler")`` as labels of ``optax.multi_transform`` to give each
    its own optimiser.
    """

    energy: Params
    sampler: Params


def amortized(
    energy: Energy, draw: Draw, *, num_samples: int, energy_penalty: float = 0.0
) -> Objective:
    r"""Return the objective of an energy and of a sampler trained against it.

    .. math:: \text{energy: } & \operatorname{mean} E(x) - \operatorname{mean} E(g)
        + a \left( \operatorname{mean} E(x)^2 + \operatorname{mean} E(g)^2 \right),
        \quad g \sim q \text{ constants} \\
        \text{sampler: } & \operatorname{mean} E(g) - H(q), \quad
        H(q) = -\operatorname{mean} \log q(g), \quad E \text{ constant}

    The sampler minimises :math:`KL(q \parallel \exp(-E)/Z) - \log Z`, so that :math:`H(q) -
    \mathbb{E}_q[E] \le \log Z`; the left-hand side is the metric ``log_partition_bound``. The two
    are adversaries, and the energy approaches maximum likelihood as far as the sampler follows; the
    penalty keeps the energies from growing without bound where it does not. Source: Kim and Bengio
    (2016), Deep directed generative models with energy-based probability estimation; Grathwohl et
    al. (2021), No MCMC for me: amortized sampling for fast and stable training of energy-based
    models.

    Args:
        energy: function (params, x) -> () of one configuration.
        draw: function (params, key, n) that returns n positions on the leading axis, differentiable
            in the parameters, and their log-densities (n,): a flow, a Gaussian, a mixture.
        num_samples: number of draws per update, >= 1.
        energy_penalty: weight :math:`a \ge 0`, in 1/energy, of the squared energies, as in
            ``contrastive_divergence``.

    Returns:
        An ``Objective`` without state, of batches x and ``AmortizedParams``. Metrics are ``loss``,
        ``energy_positive``, ``energy_negative``, ``energy_gap`` (negative minus positive),
        ``chains_nonfinite``, ``chains_ready``, ``entropy`` (the estimate of H(q), in nats) and
        ``log_partition_bound``.

    >>> import jax, jax.numpy as jnp
    >>> def draw(log_scale, key, n):
    ...     xi = jax.random.normal(key, (n, 1))
    ...     log_q = jax.scipy.stats.norm.logpdf(xi)[:, 0] - log_scale
    ...     return jnp.exp(log_scale) * xi, log_q
    >>> objective = amortized(lambda k, x: k * jnp.sum(x**2) / 2, draw, num_samples=1000)
    >>> _, (_, metrics) = objective.loss(AmortizedParams(1.0, 0.0), (), jnp.ones((8, 1)),
    ...                                  jax.random.key(0))
    >>> bool(jnp.isclose(metrics["log_partition_bound"], jnp.log(2 * jnp.pi) / 2))
    True
    """
    _checks.function("energy", energy)
    _checks.function("draw", draw)
    _checks.count("num_samples", num_samples)
    _checks.weight("energy_penalty", energy_penalty)

    def loss(params, state, batch, key):
        _checks.kind(params, AmortizedParams)
        drawn = draw(params.sampler, key, num_samples)
        if not isinstance(drawn, tuple | list) or len(drawn) != 2:
            raise TypeError(
                f"draw must return (positions, log-densities), it returned {type(drawn).__name__}."
            )
        positions, log_density = drawn[0], _checks.floating("What draw returns", drawn[1])
        num = _checks.leading_axis("What draw returns", positions)
        if num != num_samples or log_density.shape != (num_samples,):
            raise ValueError(
                f"draw must return {num_samples} positions and their log-densities, "
                f"({num_samples},), it returned {num} and {log_density.shape}."
            )
        contrast, metrics = _negatives.contrast(
            energy, params.energy, batch, jax.lax.stop_gradient(positions), energy_penalty
        )
        frozen = jax.lax.stop_gradient(params.energy)
        energies = _checks.energies(lambda x: energy(frozen, x), positions, "draws")
        entropy, divergence = -jnp.mean(log_density), jnp.mean(energies + log_density)
        # The value is the contrast; the divergence contributes only its gradient.
        value = contrast + divergence
        metrics |= {"loss": value, "entropy": entropy, "log_partition_bound": -divergence}
        return value, (state, metrics)

    return Objective(lambda params, key: (), loss)
