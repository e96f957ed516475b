r"""Paths of energies for annealing, from a base distribution to a target energy.

A path is a function (beta (), x) -> (): :math:`\exp(-\text{path}(0, x))` is the base and
:math:`\exp(-\text{path}(1, x))` the target. If the base is a ``Distribution`` of
``ebm_jax.distributions``, it is normalised, and the ratio of the partition functions at the ends of
the path is that of the target.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax.energies import _parameters, boltzmann
from ebm_jax.energies.boltzmann import RBM, CategoricalRBM
from ebm_jax.samplers import gibbs_sampling
from ebm_jax.types import Array, Energy, MakeSampler, Position, Sampler

Path = Callable[[Array, Position], Array]


def geometric(base: Energy, energy: Energy) -> Path:
    r"""Return the geometric path between two energies.

    .. math:: \text{path}(\beta, x) = (1 - \beta) E_0(x) + \beta E(x)

    Args:
        base: :math:`E_0`, the energy at beta = 0: ``distributions.energy`` of a base distribution.
        energy: :math:`E`, the energy at beta = 1.

    Returns:
        A function (beta (), x) -> (). If only one of the energies is infinite, the path is infinite
        at that end and in between.

    >>> path = geometric(lambda x: x**2, lambda x: 3 * x)
    >>> float(path(0.0, 2.0)), float(path(0.5, 2.0)), float(path(1.0, 2.0))
    (4.0, 5.0, 6.0)
    """

    _checks.function("base", base)
    _checks.function("energy", energy)

    def path(beta: Array, x: Position) -> Array:
        start, end = (_checks.floating(*e) for e in (("base", base(x)), ("energy", energy(x))))
        for name, value in (("base", start), ("energy", end)):
            _checks.scalar(name, value)
        return _times(1 - jnp.asarray(beta), start) + _times(jnp.asarray(beta), end)

    return path


def _times(share: Array, energy: Array) -> Array:
    """Return share times energy, with 0 times infinity = 0.

    The derivative in the share is the energy, but 0 where the product is 0 times infinity.
    """
    return share * jnp.where((share == 0) & jnp.isinf(energy), 0.0, energy)


def noise_levels(base: Energy, energy: Energy, sigma: Callable[[Array], Array]) -> Path:
    r"""Return the path of an energy from high noise levels to low ones.

    .. math::
        \text{path}(0, x) = E_0(x), \qquad
        \text{path}(\beta, x) = U(x, \sigma(\beta)) \quad \text{for } \beta > 0

    where U is ``energy`` and :math:`\sigma(\beta)` is ``sigma``. The first step goes from the base
    to the energy at the highest noise level, so the two should be close: with enough noise the data
    are Gaussian. At high noise levels the modes are connected, so that chains can move between them
    early. A geometric path does not connect modes in this way.

    Args:
        base: :math:`E_0`, the energy at beta = 0: ``distributions.energy`` of a base distribution.
        energy: (x, sigma) -> (), an energy from ``objectives.noise_conditional_score_matching``
            with its parameters bound.
        sigma: beta () -> (), the noise level at beta in (0, 1].

    Returns:
        (beta (), x) -> (). A sampler's step size has to follow the noise level:
        ``lambda energy: samplers.mala(energy, step_size=0.3 * sigma(energy.args[0]) ** 2)``.

    >>> import jax.numpy as jnp
    >>> energy = lambda x, sigma: x**2 / sigma
    >>> path = noise_levels(lambda x: x**2 / 8, energy, lambda beta: 4 - beta)
    >>> float(path(0.0, 2.0)), round(float(path(1.0, 2.0)), 4)
    (0.5, 1.3333)
    """
    for name, value in (("base", base), ("energy", energy), ("sigma", sigma)):
        _checks.function(name, value)

    def path(beta: Array, x: Position) -> Array:
        beta = jnp.asarray(beta)
        start = _checks.floating("base", base(x))
        end = _checks.floating("energy", energy(x, sigma(beta)))
        for name, value in (("base", start), ("energy", end)):
            _checks.scalar(name, value)
        return jnp.where(beta == 0, start, end)

    return path


def rbm(params: RBM | CategoricalRBM, base_bias: ArrayLike) -> tuple[Path, MakeSampler]:
    r"""Return a path of a restricted Boltzmann machine and the sampler along it.

    .. math:: \text{path}(\beta, v) = (1 - \beta) E_0(v) - \beta b^T v - \sum_j \left[
        \operatorname{softplus}(\beta (c_j + v^T W_j)) - (1 - \beta) \log 2 \right]

    The path starts at independent visible units. It is the free energy, with the hidden units
    summed out, of the geometric path from :math:`E_0`, the energy of
    ``distributions.bernoulli(base_bias)`` with free hidden units, to E(v, h). Block Gibbs sampling
    is exact along it, and the weights have a lower variance than those of v and h. For a
    ``CategoricalRBM``, :math:`b^T v` is the sum of :math:`b_i(v_i)`, and the base is
    ``distributions.categorical(base_bias)``. Source: Salakhutdinov and Murray (2008), On the
    quantitative analysis of deep belief networks, ICML, section 4.

    Args:
        params: ``RBM`` or ``CategoricalRBM``.
        base_bias: logits of the visible units at beta = 0, with the shape of the visible bias, for
            example the logits of the mean of each unit in the data.

    Returns:
        The path, and ``make_sampler``, which maps ``Partial(path, beta)`` to ``samplers.rbm_gibbs``
        at that beta.

    >>> import jax.numpy as jnp
    >>> params = RBM(jnp.zeros((4, 2)), jnp.ones(4), jnp.zeros(2))
    >>> path, make_sampler = rbm(params, jnp.zeros(4))
    >>> round(float(path(0.0, jnp.ones(4))), 4)  # 4 log 2
    2.7726
    """
    _parameters.check_machine(params, RBM, CategoricalRBM)
    base_bias = _checks.floating("base_bias", base_bias)
    if base_bias.shape != np.shape(params.visible_bias):
        raise ValueError(
            f"base_bias must be like the visible bias, {np.shape(params.visible_bias)}, got "
            f"{base_bias.shape}."
        )
    visible_bias, hidden = jnp.asarray(params.visible_bias), np.shape(params.hidden_bias)[0]
    categorical = isinstance(params, CategoricalRBM)
    levels = jax.nn.logsumexp(base_bias, axis=1) if categorical else jax.nn.softplus(base_bias)
    level = jnp.sum(levels) + hidden * math.log(2)

    def path(beta: Array, v: Array) -> Array:
        bias = (1 - beta) * base_bias + beta * visible_bias
        weights, none = (jnp.asarray(p)[..., :0] for p in (params.weights, params.hidden_bias))
        alone = type(params)(weights, bias, none)
        scaled = beta * boltzmann.rbm_hidden_logits(params, v)
        return (
            (1 - beta) * level
            + boltzmann.rbm_free_energy(alone, v)
            - jnp.sum(jax.nn.softplus(scaled))
        )

    def make_sampler(energy: Any) -> Sampler:
        (beta,) = energy.args  # Partial(path, beta)
        # At beta = 0 the smallest share of the model that rounding can tell from none.
        beta = jnp.maximum(beta, jnp.finfo(base_bias.dtype).eps)
        # beta times this bias is (1 - beta) a + beta b; scaled weights would take longer.
        bias = visible_bias + (1 / beta - 1) * base_bias
        return gibbs_sampling.rbm_gibbs(params._replace(visible_bias=bias), beta=beta)

    return path, make_sampler
