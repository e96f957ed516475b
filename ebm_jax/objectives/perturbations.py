"""Perturbations of data by symmetric kernels: Gaussian noise and bit flips."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _discrete, _draws
from ebm_jax._noise import standard_normal
from ebm_jax._trees import partition
from ebm_jax.types import Key, Position

Perturbation = Callable[[Key, Position], Position]


def gaussian_perturbation(variance: ArrayLike) -> Perturbation:
    r"""Return a perturbation that adds Gaussian noise to the floating-point leaves.

    .. math:: x + \sqrt{t} \, \xi, \qquad \xi \sim N(0, I)

    Args:
        variance: variance t > 0 of the noise, finite, in units of :math:`x^2`.

    Returns:
        A function (key, positions) -> positions, with the configurations on the leading axis.

    >>> import jax, jax.numpy as jnp
    >>> gaussian_perturbation(0.1)(jax.random.key(0), jnp.zeros((5, 2))).shape
    (5, 2)
    """
    _checks.positive("variance", variance)
    _checks.scalar("variance", variance)

    def perturb(key: Key, positions: Position) -> Position:
        moving, given, merge = partition(positions)
        noise = standard_normal(key, moving)
        pairs = zip(moving, noise, strict=True)
        return merge([(x + jnp.sqrt(variance) * xi).astype(x.dtype) for x, xi in pairs], given)

    return perturb


def bernoulli_perturbation(probability: ArrayLike) -> Perturbation:
    """Return a perturbation that flips every bit with the same probability.

    Args:
        probability: probability of a flip, in (0, 1).

    Returns:
        A function (key, positions) -> positions, with the configurations on the leading axis. It
        flips boolean leaves and integer leaves of 0 and 1.

    Raises:
        TypeError: if positions have no integer or boolean leaf.
        ValueError: if probability is outside (0, 1), or a variable is neither 0 nor 1.

    >>> import jax, jax.numpy as jnp
    >>> bernoulli_perturbation(0.5)(jax.random.key(0), jnp.zeros((5, 2), bool)).dtype
    dtype('bool')
    """
    _checks.inside("probability", probability)

    def perturb(key: Key, positions: Position) -> Position:
        log_p = jnp.log(jnp.asarray(probability, float))
        return _flipped(positions, lambda x: _draws.bernoulli(key, log_p, x.shape))

    return perturb


def grid_perturbation() -> Perturbation:
    """Return a perturbation that flips one bit, chosen uniformly.

    It has the smallest possible neighbourhood: perturbed twice, a configuration differs from the
    data in two bits or in none.

    Returns:
        A function (key, positions) -> positions, with the configurations on the leading axis.

    >>> import jax, jax.numpy as jnp
    >>> grid_perturbation()(jax.random.key(0), jnp.zeros((5, 3), int)).sum(1).tolist()
    [1, 1, 1, 1, 1]
    """

    def perturb(key: Key, positions: Position) -> Position:
        def chosen(x: jax.Array) -> jax.Array:
            which = jax.random.randint(key, (len(x), 1), 0, x.shape[1])
            return jnp.arange(x.shape[1]) == which

        return _flipped(positions, chosen)

    return perturb


def _flipped(positions: Position, which: Callable[[jax.Array], jax.Array]) -> Position:
    """Return binary positions with the bits flipped that ``which`` selects."""
    bits = np.arange(2)
    _discrete.check_position(positions, bits)
    found = _discrete.variables(jax.tree.map(jnp.asarray, positions), bits)
    return jax.vmap(found.restore)(jnp.where(which(found.x), 1 - found.x, found.x), found.fixed)
