"""Regularisers as objectives, to add to others with ``weighted_sum``."""

import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax._trees import chain_sum, value_and_gradient
from ebm_jax.types import Energy, Objective


def gradient_penalty(energy: Energy) -> Objective:
    r"""Return the objective of the mean squared gradient of the energy.

    .. math:: L = \operatorname{mean}_i \lVert \nabla_x E(x_i) \rVert^2

    The penalty bounds the sharpness that maximum likelihood gives an energy. Example: all data are
    0 and :math:`E = k x^2 / 2` in one dimension. The negative log-likelihood divided by
    :math:`\beta` (``maximum_likelihood``) alone makes k grow without bound. With a times the
    penalty added, over points with mean square m, it is lowest at :math:`k = 1 / (2 \sqrt{a \beta
    m})`. Do not use only the data as points, since the gradient may vanish there. Source: Gulrajani
    et al. (2017), Improved training of Wasserstein GANs, with target 0 instead of 1, as in
    Mescheder et al. (2018), Which training methods for GANs do actually converge?

    Args:
        energy: function (params, x) -> () of one configuration.

    Returns:
        An ``Objective`` without state, of batches x on the leading axis with a floating-point leaf;
        metric ``loss``.

    >>> import jax, jax.numpy as jnp
    >>> objective = gradient_penalty(lambda params, x: params * jnp.sum(x**2) / 2)
    >>> value, _ = objective.loss(3.0, (), jnp.array([[0.0, 1.0]]), jax.random.key(0))
    >>> float(value)
    9.0
    """

    _checks.function("energy", energy)

    def batch_loss(params, state, batch, key):
        del key
        _checks.leading_axis("batch", batch)
        _, gradient = value_and_gradient(lambda x: energy(params, x), batch)
        value = jnp.mean(chain_sum([jnp.square(g) for g in gradient]))
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), batch_loss)
