"""Distributions whose density is known, for the noise of noise-contrastive estimation."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws
from ebm_jax.types import Array, Key, Position


class Noise(NamedTuple):
    """A distribution to draw from whose density is known.

    ``sample(key, n) -> positions``, on the leading axis; ``log_prob(x) -> ()``, of one
    configuration, normalised.
    """

    sample: Callable[[Key, int], Position]
    log_prob: Callable[[Position], Array]


def _check_noise(name: str, value) -> Noise:
    """Return a noise, or refuse what has no density or cannot be drawn."""
    return _checks._functions(name, value, "a Noise", "sample", "log_prob")


def gaussian_noise(mean: ArrayLike, covariance: ArrayLike) -> Noise:
    r"""Return N(mean, covariance).

    Args:
        mean: (d,).
        covariance: (d, d), positive definite; its diagonal, (d,); or one variance, ().

    Returns:
        A ``Noise`` of positions (n, d), at least float32.

    Raises:
        ValueError: other shapes, a variance that is not finite and > 0, a matrix that is not
            positive definite.

    >>> import jax, jax.numpy as jnp
    >>> noise = gaussian_noise(jnp.zeros(2), 1.0)
    >>> noise.sample(jax.random.key(0), 5).shape, round(float(noise.log_prob(jnp.zeros(2))), 4)
    ((5, 2), -1.8379)
    """
    _checks.finite("mean", mean)
    _check_covariance(covariance)
    mean, covariance = _checks.array("mean", mean), _checks.array("covariance", covariance)
    size, shape = mean.shape, covariance.shape
    if len(size) != 1 or shape not in ((), size, 2 * size):
        raise ValueError(
            "mean must be (d,) and covariance (d, d), (d,) or (), got the shapes "
            f"{size} and {shape}."
        )
    dtype = jnp.promote_types(jnp.result_type(mean, covariance), jnp.float32)
    mean, covariance = mean.astype(dtype), covariance.astype(dtype)
    if len(shape) == 2:
        root = jnp.linalg.cholesky(covariance)
        inverse, log_scale = jnp.linalg.inv(root), jnp.log(jnp.diag(root))
    else:
        root = jnp.broadcast_to(jnp.sqrt(covariance), size)
        inverse, log_scale = 1 / root, jnp.log(root)
    constant = jnp.sum(log_scale) + len(mean) * np.log(2 * np.pi) / 2

    def apply(matrix: Array, x: Array) -> Array:
        return matrix @ x if matrix.ndim == 2 else matrix * x

    def sample(key: Key, n: int) -> Array:
        xi = jax.random.normal(key, (n, *size), dtype)
        return mean + jax.vmap(lambda one: apply(root, one))(xi)

    def log_prob(x: Array) -> Array:
        if jnp.shape(x) != size:
            raise ValueError(f"The noise is of configurations {size}, got {jnp.shape(x)}.")
        return -jnp.sum(jnp.square(apply(inverse, x - mean))) / 2 - constant

    return Noise(sample, log_prob)


def _check_covariance(covariance: ArrayLike) -> None:
    """Refuse what is known to be no covariance; others give NaN."""
    if jnp.ndim(_checks.array("covariance", covariance)) != 2:
        return _checks.positive("covariance", covariance)
    known = _checks.concrete(covariance)
    if known is None:
        return None
    known = known.astype(np.float64)
    fine = known.shape[0] == known.shape[1] and np.isfinite(known).all()
    fine = fine and np.allclose(known, known.T, rtol=1e-4, atol=0)
    spectrum = np.linalg.eigvalsh(known) if fine else np.zeros(1)
    if spectrum[0] <= 1e-12 * spectrum[-1]:
        raise ValueError(f"covariance must be symmetric and positive definite, got {known}.")
    return None


def mixture_noise(components: Sequence[Noise], weights: ArrayLike | None = None) -> Noise:
    r"""Return the mixture of distributions.

        q(x) = sum_k w_k q_k(x)

    A draw draws from every component, and takes one.

    Args:
        components: of positions of one structure.
        weights: (components,), > 0, in any unit; None for equal ones.

    Returns:
        A ``Noise``.

    Raises:
        ValueError: no component, weights of another shape or not finite and > 0. TypeError: a
            component without sample or log_prob.

    >>> import jax, jax.numpy as jnp
    >>> wide, narrow = gaussian_noise(jnp.zeros(2), 9.0), gaussian_noise(jnp.zeros(2), 1.0)
    >>> round(float(mixture_noise([wide, narrow]).log_prob(jnp.zeros(2))), 4)  # of 5/9 of 1/(2 pi)
    -2.4257
    """
    if not isinstance(components, tuple | list) or isinstance(components, Noise) or not components:
        raise ValueError(f"components must be a list of one or more Noises, got {components!r}.")
    for component in components:
        _check_noise("Each of components", component)
    num = len(components)
    weights = np.ones(num) if weights is None else weights
    _checks.positive("weights", weights)
    given = _checks.array("weights", weights)
    if given.shape != (num,):
        raise ValueError(f"weights must be ({num},), one a component, got {given.shape}.")
    log_weights = jax.nn.log_softmax(jnp.log(given))

    def sample(key: Key, n: int) -> Position:
        which_key, *keys = jax.random.split(key, num + 1)
        which = _draws.categorical(which_key, log_weights, (n,))
        drawn = [c.sample(k, n) for c, k in zip(components, keys, strict=True)]
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[which, jnp.arange(n)], *drawn)

    def log_prob(x: Position) -> Array:
        each = jnp.stack([jnp.asarray(c.log_prob(x)) for c in components])
        return jax.nn.logsumexp(log_weights + each)

    return Noise(sample, log_prob)


def bernoulli_noise(probability: ArrayLike) -> Noise:
    r"""Return independent bits, bit k one with the probability p_k.

    Args:
        probability: in (0, 1), of the shape of a configuration.

    Returns:
        A ``Noise`` of boolean positions; its density is of booleans and of 0 and 1, -inf for
        anything else.

    Raises:
        ValueError: a probability outside (0, 1).

    >>> import jax, jax.numpy as jnp
    >>> noise = bernoulli_noise(jnp.array([0.5, 0.25]))
    >>> float(jnp.exp(noise.log_prob(jnp.array([1, 0]))))  # 3/8
    0.375
    """
    given = _checks.array("probability", probability)
    known = _checks.concrete(probability)
    if known is not None and not np.all((known > 0) & (known < 1)):
        raise ValueError(f"probability must be in (0, 1), got {known}.")
    one, zero = jnp.log(given), jnp.log1p(-given)

    def sample(key: Key, n: int) -> Array:
        wide = given.astype(jnp.promote_types(given.dtype, jnp.float32))
        return _draws.bernoulli(key, jnp.log(wide), (n, *given.shape))

    def log_prob(x: Array) -> Array:
        if jnp.shape(x) != given.shape:
            raise ValueError(f"The noise is of configurations {given.shape}, got {jnp.shape(x)}.")
        return jnp.sum(jnp.where(x == 1, one, jnp.where(x == 0, zero, -jnp.inf)))

    return Noise(sample, log_prob)
