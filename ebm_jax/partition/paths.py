r"""Where annealing starts and how it goes: base distributions, and paths from them to an energy.

    path(beta, x) -> (),    exp(-path(0, x)) the base,    exp(-path(1, x)) the target

Every base here is normalised, so that log Z of the target is that of the path's end over its
beginning.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws
from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM, rbm_hidden_logits
from ebm_jax.samplers import gibbs_sampling
from ebm_jax.types import Array, Energy, Key, MakeSampler, Position, Sampler

Path = Callable[[Array, Position], Array]


class Base(NamedTuple):
    """A normalised distribution that can be drawn from.

    Attributes:
        energy: x -> (), -log p(x) of one configuration.
        sample: (key, num) -> num positions, the chains on the leading axis.
    """

    energy: Energy
    sample: Callable[[Key, int], Position]


def uniform(shape: int | tuple[int, ...], values=(0, 1)) -> Base:
    r"""Return the uniform distribution over discrete variables, E(x) = n log q.

    Args:
        shape: of one configuration.
        values: what a variable may be, (q,).

    Returns:
        A ``Base``, its positions of the type of ``values``.

    >>> import jax
    >>> base = uniform(3, (-1, 1))
    >>> x = base.sample(jax.random.key(0), 5)
    >>> x.shape, round(float(base.energy(x[0])), 4)  # 3 log 2
    ((5, 3), 2.0794)
    """
    shape, values = _checks.shape(shape), jnp.asarray(_checks.values(values))
    level = math.prod(shape) * math.log(values.shape[0])
    return Base(
        lambda x: jnp.full((), level),
        lambda key, num: jax.random.choice(key, values, (num, *shape)),
    )


def base_rate(logits: ArrayLike) -> Base:
    r"""Return independent units, each with a rate of its own: those of the data, say.

        E(x) = sum_i [softplus(a_i) - a_i x_i],    P(x_i = 1) = sigmoid(a_i)

    A unit that the data never turn on needs a little more than that, log (n_i + 1) / (n - n_i + 1):
    what the base excludes the target must not need.

    Args:
        logits: a, finite, of the shape of one configuration.

    Returns:
        A ``Base``, its positions boolean.

    Raises:
        ValueError: logits that are not finite.

    >>> import jax, jax.numpy as jnp
    >>> base = base_rate(jnp.zeros(3))
    >>> round(float(base.energy(jnp.ones(3, bool))), 4)  # 3 log 2
    2.0794
    """
    given, logits = logits, _checks.floating("logits", logits)
    known = _checks.concrete(given)
    if known is not None and not np.isfinite(known).all():
        raise ValueError(f"logits must be finite, got {known[~np.isfinite(known)][0]}.")
    level = jnp.sum(jax.nn.softplus(logits))

    def sample(key: Key, num: int) -> Array:
        wide = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
        return _draws.bernoulli(key, jax.nn.log_sigmoid(wide), (num, *logits.shape))

    return Base(lambda x: level - jnp.sum(logits * x), sample)


def gaussian(mean: ArrayLike, scale: ArrayLike) -> Base:
    r"""Return independent Gaussian coordinates.

        E(x) = sum_i [(x_i - mu_i)^2 / (2 s_i^2) + log(2 pi s_i^2) / 2]

    Args:
        mean: mu, of the shape of one configuration.
        scale: the standard deviation s > 0, () or of that shape.

    Returns:
        A ``Base`` of floating positions.

    Raises:
        ValueError: a scale that is not finite and > 0.

    >>> import jax.numpy as jnp
    >>> round(float(gaussian(jnp.zeros(2), 1.0).energy(jnp.zeros(2))), 4)  # log 2 pi
    1.8379
    """
    _checks.finite("mean", mean)
    mean = _checks.floating("mean", mean)
    _checks.positive("scale", scale)
    _checks.fits("scale", scale, "mean", mean.shape)
    scale = jnp.broadcast_to(jnp.asarray(scale, mean.dtype), mean.shape)
    level = jnp.sum(jnp.log(scale)) + mean.size * 0.5 * math.log(2 * math.pi)

    def sample(key: Key, num: int) -> Array:
        return mean + scale * jax.random.normal(key, (num, *mean.shape), mean.dtype)

    return Base(lambda x: level + 0.5 * jnp.sum(((x - mean) / scale) ** 2), sample)


def geometric(base: Energy, energy: Energy) -> Path:
    r"""Return the geometric path between two energies.

        path(beta, x) = (1 - beta) E_0(x) + beta E(x)

    Args:
        base: E_0, the energy at beta = 0.
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

    The free energy of the geometric path between E_0, ``base_rate(base_bias)`` with all hidden
    units free, and E(v, h): block Gibbs sampling is exact along it, and the weights have less
    variance than those of v and h. Source: Salakhutdinov and Murray (2008), On the quantitative
    analysis of deep belief networks, ICML, section 4.

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
    boltzmann._check(params, RBM)
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
