r"""Paths of energies for annealing, from a base distribution to a target energy.

    path(beta, x) -> (),    exp(-path(0, x)) the base,    exp(-path(1, x)) the target

The base is normalised where it is a ``Distribution`` of ``ebm_jax.distributions``: the ratio of the
partition functions at the ends of the path is then the target's.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax.energies import _parameters
from ebm_jax.energies.boltzmann import RBM, rbm_hidden_logits
from ebm_jax.samplers import gibbs_sampling
from ebm_jax.types import Array, Energy, MakeSampler, Position, Sampler

Path = Callable[[Array, Position], Array]


def geometric(base: Energy, energy: Energy) -> Path:
    r"""Return the geometric path between two energies.

        path(beta, x) = (1 - beta) E_0(x) + beta E(x)

    Args:
        base: E_0, the energy at beta = 0: ``distributions.energy`` of a base distribution.
        energy: E, the energy at beta = 1.

    Returns:
        (beta (), x) -> (). States of infinite energy at one end alone have that energy at that
        end and in between.

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
    """Return share times energy, 0 times infinity being 0; its slope in the share is the energy."""
    return share * jnp.where((share == 0) & jnp.isinf(energy), 0.0, energy)


def rbm(params: RBM, base_bias: ArrayLike) -> tuple[Path, MakeSampler]:
    r"""Return the path of an RBM from independent visible units, hidden units summed out.

        path(beta, v) = (1 - beta) E_0(v) - beta b^T v
                        - sum_j [softplus(beta (c_j + v^T W_j)) - (1 - beta) log 2]

    The free energy of the geometric path between E_0, ``distributions.bernoulli(base_bias)`` with
    all hidden units free, and E(v, h). Block Gibbs sampling is exact along it, and the weights have
    less variance than those of v and h. Source: Salakhutdinov and Murray (2008), On the
    quantitative analysis of deep belief networks, ICML, section 4.

    Args:
        params: ``RBM(weights, visible_bias, hidden_bias)``.
        base_bias: the logits of the visible units at beta = 0, (visible,): the data's base rates.

    Returns:
        ``path``, and ``make_sampler``: ``Partial(path, beta)`` -> ``samplers.rbm_gibbs`` at
        that beta > 0.

    >>> import jax.numpy as jnp
    >>> params = RBM(jnp.zeros((4, 2)), jnp.ones(4), jnp.zeros(2))
    >>> path, make_sampler = rbm(params, jnp.zeros(4))
    >>> round(float(path(0.0, jnp.ones(4))), 4)  # 4 log 2
    2.7726
    """
    _parameters.check_machine(params, RBM)
    base_bias = _checks.floating("base_bias", base_bias)
    if base_bias.shape != jnp.shape(params.visible_bias):
        raise ValueError(
            f"base_bias must be one a visible unit, {jnp.shape(params.visible_bias)}, got "
            f"{base_bias.shape}."
        )
    visible_bias, hidden = jnp.asarray(params.visible_bias), jnp.shape(params.hidden_bias)[0]
    level = jnp.sum(jax.nn.softplus(base_bias)) + hidden * math.log(2)

    def path(beta: Array, v: Array) -> Array:
        logits = rbm_hidden_logits(params, v)
        bias = (1 - beta) * base_bias + beta * visible_bias
        linear = (1 - beta) * level - jnp.dot(v.astype(bias.dtype), bias)
        return linear - jnp.sum(jax.nn.softplus(beta * logits))

    def make_sampler(energy: Any) -> Sampler:
        (beta,) = energy.args  # Partial(path, beta)
        # beta times this bias is (1 - beta) a + beta b.
        bias = visible_bias + (1 / beta - 1) * base_bias
        return gibbs_sampling.rbm_gibbs(params._replace(visible_bias=bias), beta=beta)

    return path, make_sampler
