"""Distributions with functions to sample from them and to evaluate them.

Each function returns a ``Distribution(sample, log_prob)``. ``sample(key, num)`` draws ``num``
independent configurations, on the leading axis. ``log_prob(x)`` returns the normalised log-density
of one configuration (its log-probability if variables are discrete): -inf outside the support, NaN
if x has a NaN. Both functions can be used inside ``jit``, ``vmap`` and ``grad``. Distributions with
bfloat16 or float16 parameters compute in float32.

Parameters outside the range that a function states, or whose shapes do not match, raise ValueError.

A distribution of numpyro converts in one line. Its ``log_prob`` must return one number for one
configuration: ``to_event`` sets the axes that make up a configuration.

>>> import jax, jax.numpy as jnp, numpyro.distributions
>>> from ebm_jax import Distribution
>>> d = numpyro.distributions.Laplace(jnp.zeros(2), 1.0).to_event(1)
>>> laplace = Distribution(lambda key, num: d.sample(key, (num,)), d.log_prob)
>>> laplace.sample(jax.random.key(0), 5).shape, round(float(laplace.log_prob(jnp.zeros(2))), 4)
((5, 2), -1.3863)

A distribution of distrax converts in the same way:

    d = distrax.MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))
    normal = Distribution(lambda key, num: d.sample(seed=key, sample_shape=(num,)), d.log_prob)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws
from ebm_jax.types import Array, Distribution, Energy, Key, Position


def _distribution(
    shape: tuple[int, ...], draw: Callable[[Key, int], Array], density: Callable[[Array], Array]
) -> Distribution:
    """Return a distribution over arrays of one shape; other shapes raise ValueError."""

    def sample(key: Key, num: int) -> Array:
        _checks.one_key(key)
        return draw(key, _checks.count("num", num, least=0))

    def log_prob(x: Array) -> Array:
        x = _checks.array("x", x)
        if x.shape != shape:
            raise ValueError(
                f"The distribution is over configurations of shape {shape}, got {x.shape}."
            )
        return density(x)

    return Distribution(sample, log_prob)


def _within(support: Array, x: Array, value: Array) -> Array:
    """Return ``value`` where all of x is in the support, -inf elsewhere.

    If x has a NaN, the result is NaN.
    """
    value = jnp.where(jnp.all(support), value, -jnp.inf)
    return jnp.where(jnp.any(jnp.isnan(x)), jnp.nan, value)


def _wide(*arrays: Array) -> np.dtype:
    """Return the dtype to compute in, float32 or wider."""
    dtype = jnp.result_type(*arrays)
    floating = jnp.issubdtype(dtype, jnp.floating)
    return jnp.promote_types(dtype, jnp.float32) if floating else jnp.result_type(float)


def _parameter(
    name: str, value: ArrayLike, dtype: np.dtype, check: Callable[[str, Any], None]
) -> Array:
    """Return a parameter in the dtype of the computation.

    The check runs after the conversion, in which 1e-50, for example, becomes 0.
    """
    check(name, value)
    known = _checks.concrete(value)
    if known is not None:
        with np.errstate(over="ignore"):
            check(f"{name}, in {dtype.name},", known.astype(dtype))
    return jnp.asarray(value).astype(dtype)


def gaussian(
    mean: ArrayLike, sigma: ArrayLike | None = None, *, covariance: ArrayLike | None = None
) -> Distribution:
    r"""Return a Gaussian with independent coordinates or with a covariance matrix.

    .. math:: \log p(x) = -\tfrac{1}{2} (x - \mu)^T \Sigma^{-1} (x - \mu)
              - \tfrac{1}{2} \log \det (2 \pi \Sigma)

    where :math:`\Sigma` is the covariance, or :math:`\operatorname{diag}(\sigma^2)`. A covariance
    whose value is known during tracing is factorised in double precision.

    Args:
        mean: :math:`\mu`, finite, with the shape of one configuration.
        sigma: standard deviation :math:`\sigma > 0` of every coordinate: a scalar, or an array that
            broadcasts to the shape of ``mean``.
        covariance: :math:`\Sigma`, symmetric and positive definite, (d, d) for a mean (d,). Pass
            either ``sigma`` or ``covariance``.

    Returns:
        A ``Distribution`` over floating-point positions.

    >>> import jax, jax.numpy as jnp
    >>> normal = gaussian(jnp.zeros(2), 1.0)
    >>> normal.sample(jax.random.key(0), 5).shape, round(float(normal.log_prob(jnp.zeros(2))), 4)
    ((5, 2), -1.8379)
    >>> correlated = gaussian(jnp.zeros(2), covariance=jnp.array([[2.0, 1.0], [1.0, 1.0]]))
    >>> round(float(correlated.log_prob(jnp.zeros(2))), 4)  # the determinant is 1
    -1.8379
    """
    if (sigma is None) == (covariance is None):
        both = "neither" if sigma is None else "both"
        raise ValueError(f"Exactly one of sigma and covariance must be given, got {both}.")
    name = "sigma" if covariance is None else "covariance"
    spread: Any = sigma if covariance is None else covariance
    dtype = _wide(_checks.array("mean", mean), _checks.array(name, spread))
    mu = _parameter("mean", mean, dtype, _checks.finite)
    if sigma is not None:
        _checks.fits("sigma", sigma, "mean", mu.shape)
        sd = _parameter("sigma", spread, dtype, _checks.positive)
        log_scale = jnp.sum(jnp.log(jnp.broadcast_to(sd, mu.shape)))
        color, whiten = (lambda xi: sd * xi), (lambda d: d / sd)
    else:
        root, inverse = _roots(spread, mu.shape, dtype)
        log_scale = jnp.sum(jnp.log(jnp.diag(root)))
        color, whiten = (lambda xi: _product(xi, root.T)), (lambda d: _product(inverse, d))
    constant = log_scale + mu.size * math.log(2 * math.pi) / 2

    def draw(key: Key, num: int) -> Array:
        return mu + color(jax.random.normal(key, (num, *mu.shape), dtype))

    return _distribution(
        mu.shape, draw, lambda x: -jnp.sum(jnp.square(whiten(x - mu))) / 2 - constant
    )


def _product(a: Array, b: Array) -> Array:
    """Multiply matrices in full precision; accelerators round the factors by default."""
    return jnp.matmul(a, b, precision="highest")


def _roots(covariance: ArrayLike, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Array, Array]:
    """Return the Cholesky factor of a covariance and the inverse of the factor.

    Raises ValueError for a known matrix that is not a covariance; one known only at run time gives
    NaN.
    """
    if len(shape) != 1 or np.shape(covariance) != 2 * shape:
        raise ValueError(
            "covariance must be (d, d) for a mean (d,), got the covariance "
            f"{np.shape(covariance)} and the mean {shape}. Give standard deviations as sigma."
        )
    known = _checks.concrete(covariance)
    if known is None:
        root = jnp.linalg.cholesky(jnp.asarray(covariance).astype(dtype))
        identity = jnp.eye(shape[0], dtype=dtype)
        return root, jax.scipy.linalg.solve_triangular(root, identity, lower=True)
    known = known.astype(np.float64)
    fine = np.isfinite(known).all() and np.allclose(known, known.T, rtol=1e-4, atol=0)
    spectrum = np.linalg.eigvalsh(known) if fine and known.size else np.ones(1)
    if not fine or spectrum[0] <= 1e-12 * spectrum[-1]:
        raise ValueError(f"covariance must be symmetric and positive definite, got {known}.")
    root = np.linalg.cholesky(known)
    return jnp.asarray(root, dtype), jnp.asarray(np.linalg.inv(root), dtype)


def uniform(low: ArrayLike, high: ArrayLike) -> Distribution:
    r"""Return the uniform distribution over a box, boundary included.

    .. math:: \log p(x) = -\sum_i \log (h_i - l_i) \quad \text{where } l \le x \le h

    Args:
        low: lower bounds :math:`l`, finite.
        high: upper bounds :math:`h > l`, finite. ``low`` and ``high`` are broadcast together to the
            shape of one configuration.

    Returns:
        A ``Distribution`` over floating-point positions.

    >>> import jax, jax.numpy as jnp
    >>> box = uniform(jnp.zeros(2), 2.0)
    >>> x = box.sample(jax.random.key(0), 5)
    >>> x.shape, round(float(box.log_prob(x[0])), 4)  # -2 log 2
    ((5, 2), -1.3863)
    >>> float(box.log_prob(jnp.array([1.0, 3.0])))
    -inf
    """
    bounds = {"low": _checks.array("low", low), "high": _checks.array("high", high)}
    shape, dtype = _checks.broadcastable(**bounds), _wide(*bounds.values())
    start = _parameter("low", low, dtype, _checks.finite)
    end = _parameter("high", high, dtype, _checks.finite)
    first, last = _checks.concrete(low), _checks.concrete(high)
    if first is not None and last is not None:
        with np.errstate(over="ignore"):
            widths = last.astype(dtype) - first.astype(dtype)
        if not (np.all(widths > 0) and np.all(np.isfinite(widths))):
            raise ValueError(
                f"low must be below high and high - low finite in {dtype.name}, got low {first} "
                f"and high {last}."
            )
    level = -jnp.sum(jnp.log(jnp.broadcast_to(end - start, shape)))

    def draw(key: Key, num: int) -> Array:
        return jax.random.uniform(key, (num, *shape), dtype, start, end)

    return _distribution(shape, draw, lambda x: _within((x >= start) & (x <= end), x, level))


def bernoulli(logits: ArrayLike) -> Distribution:
    r"""Return independent bits, each with its own probability.

    .. math:: \log P(x) = \sum_i \left[ x_i \log \sigma(a_i) + (1 - x_i) \log \sigma(-a_i) \right]

    where :math:`\sigma` is the logistic sigmoid. To use the base rates of n data points, of which
    :math:`n_i` have bit i on, pass :math:`\log (n_i + 1) - \log (n - n_i + 1)`; the added 1 keeps a
    positive probability for bits that are never on in the data.

    Args:
        logits: :math:`a`, floating point and finite, with the shape of one configuration.

    Returns:
        A ``Distribution`` over boolean positions. ``log_prob`` also takes numbers: it is -inf for
        values other than 0 and 1. At 0 and 1 its gradient with respect to x is :math:`a`, which
        samplers with informed proposals use.

    >>> import jax, jax.numpy as jnp
    >>> bits = bernoulli(jnp.array([0.0, jnp.log(1 / 3)]))
    >>> bits.sample(jax.random.key(0), 5).dtype
    dtype('bool')
    >>> round(float(jnp.exp(bits.log_prob(jnp.array([1, 0])))), 4)  # 1/2 of 3/4
    0.375
    """
    dtype = _wide(_checks.floating("logits", logits))
    a = _parameter("logits", logits, dtype, _checks.finite)
    on, off = jax.nn.log_sigmoid(a), jax.nn.log_sigmoid(-a)

    def draw(key: Key, num: int) -> Array:
        return _draws.bernoulli(key, on, (num, *a.shape))

    def log_prob(x: Array) -> Array:
        value = jnp.sum(x.astype(dtype) * on + (1 - x.astype(dtype)) * off)
        return _within((x == 0) | (x == 1), x, value)

    return _distribution(a.shape, draw, log_prob)


def categorical(logits: ArrayLike, values: ArrayLike | None = None) -> Distribution:
    r"""Return independent variables that each take one of q values.

    .. math:: P(x_i = v_k) = \frac{\exp a_{ik}}{\sum_l \exp a_{il}}

    Equal logits give the uniform distribution: ``categorical(jnp.zeros((n, 2)), (-1, 1))`` draws n
    spins.

    Args:
        logits: :math:`a`, floating point and finite, (..., q): the shape of one configuration,
            followed by the q values.
        values: :math:`v`, q different numbers that a variable may take; None for 0 to q - 1.

    Returns:
        A ``Distribution`` over positions with the dtype of ``values``, int32 by default.
        ``log_prob`` is -inf if a variable has another value.

    >>> import jax, jax.numpy as jnp
    >>> spins = categorical(jnp.zeros((3, 2)), (-1, 1))
    >>> x = spins.sample(jax.random.key(0), 5)
    >>> x.shape, round(float(spins.log_prob(x[0])), 4)  # -3 log 2
    ((5, 3), -2.0794)
    >>> float(spins.log_prob(jnp.zeros(3)))
    -inf
    """
    dtype = _wide(_checks.floating("logits", logits))
    a = _parameter("logits", logits, dtype, _checks.finite)
    if not a.ndim or not a.shape[-1]:
        raise ValueError(f"logits must be (..., q), with q >= 1 values, got the shape {a.shape}.")
    v = _values(np.arange(a.shape[-1], dtype=np.int32) if values is None else values, a.shape[-1])
    log_probs = jax.nn.log_softmax(a)

    def draw(key: Key, num: int) -> Array:
        return jnp.asarray(v)[_draws.categorical(key, a, (num,))]

    def log_prob(x: Array) -> Array:
        same = x[..., None] == v
        which = jnp.argmax(same, axis=-1)[..., None]
        value = jnp.sum(jnp.take_along_axis(log_probs, which, axis=-1))
        return _within(jnp.any(same, axis=-1), x, value)

    return _distribution(a.shape[:-1], draw, log_prob)


def _values(values: ArrayLike, num: int) -> np.ndarray:
    """Return the values of a variable in JAX's dtype; raise if two become equal."""
    known = _checks.values(values)
    held = known.astype(jax.dtypes.canonicalize_dtype(known.dtype))
    exact = jnp.issubdtype(held.dtype, jnp.floating) or np.array_equal(held, known)
    if len(known) != num or not exact or len(np.unique(held)) != num:
        raise ValueError(
            f"values must be {num} different numbers of the type {held.dtype}, one for each of the "
            f"logits' last axis, got {known}."
        )
    return held


def mixture(components: Sequence[Distribution], weights: ArrayLike | None = None) -> Distribution:
    r"""Return a mixture of distributions.

    .. math:: p(x) = \sum_k w_k \, p_k(x)

    ``sample`` draws from every component and keeps one of the draws.

    Args:
        components: one or more distributions over positions of the same structure, shape and dtype.
        weights: :math:`w`, (components,), > 0; they are normalised. None for equal weights.

    Returns:
        A ``Distribution``.

    Raises:
        ValueError: if ``components`` is empty, if components draw different kinds of positions, or
            if weights have a wrong shape or are not finite and > 0.
        TypeError: if a component lacks ``sample`` or ``log_prob``.

    >>> import jax, jax.numpy as jnp
    >>> both = mixture([gaussian(jnp.zeros(2), 3.0), gaussian(jnp.zeros(2), 1.0)])
    >>> round(float(both.log_prob(jnp.zeros(2))), 4)  # the log of 5/9 of 1/(2 pi)
    -2.4257
    """
    several = isinstance(components, tuple | list) and not isinstance(components, Distribution)
    if not several or not components:
        raise ValueError(f"components must be a list of one or more, got {components!r}.")
    for component in components:
        _checks.distribution("Each of components", component)
    num_components = len(components)
    weights = np.ones(num_components) if weights is None else weights
    given = _checks.array("weights", weights)
    shape, dtype = given.shape, _wide(given)
    if shape != (num_components,):
        raise ValueError(
            f"weights must be ({num_components},), one for each component, got {shape}."
        )
    log_weights = jax.nn.log_softmax(
        jnp.log(_parameter("weights", weights, dtype, _checks.positive))
    )

    def sample(key: Key, num: int) -> Position:
        _checks.one_key(key)
        num = _checks.count("num", num, least=0)
        which_key, *keys = jax.random.split(key, num_components + 1)
        which = _draws.categorical(which_key, log_weights, (num,))
        drawn = [
            jax.tree.map(jnp.asarray, c.sample(k, num))
            for c, k in zip(components, keys, strict=True)
        ]
        kinds = [jax.tree.map(lambda leaf: f"{leaf.dtype}{leaf.shape[1:]}", d) for d in drawn]
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(
                "components must draw positions of one structure, shape and type, got "
                f"{', '.join(map(str, kinds))}."
            )
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[which, jnp.arange(num)], *drawn)

    def log_prob(x: Position) -> Array:
        each = [_checks.floating("log_prob of a component", c.log_prob(x)) for c in components]
        for value in each:
            _checks.scalar("log_prob of a component", value)
        return jax.nn.logsumexp(log_weights + jnp.stack(each))

    return Distribution(sample, log_prob)


def energy(distribution: Distribution) -> Energy:
    r"""Return the energy of a distribution; its partition function is 1.

    .. math:: E(x) = -\log p(x)

    Args:
        distribution: a ``Distribution``.

    Returns:
        A function that maps one configuration x to the energy, ().

    >>> import jax.numpy as jnp
    >>> round(float(energy(gaussian(jnp.zeros(2), 1.0))(jnp.zeros(2))), 4)  # log 2 pi
    1.8379
    """
    _checks.distribution("distribution", distribution)
    return lambda x: -distribution.log_prob(x)
