"""What tests of objectives share: a Gaussian family, training to the end, and how far is too far.

The family is linear, E = theta . phi(x) = -log N(x; mean, covariance): its last parameter is log Z.
"""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

KEY = jax.random.key(0)
DIMENSION = 5
_ROWS, _COLUMNS = np.triu_indices(DIMENSION)
_HALF = np.where(_ROWS == _COLUMNS, 0.5, 1.0)

MEAN = np.array([0.5, -0.3, 0.0, 0.2, -0.6])
_ROOT = np.eye(DIMENSION) + 0.3 * np.tri(DIMENSION, k=-1) * np.array([1, -1, 1, -1, 1])
COVARIANCE = _ROOT @ _ROOT.T * 0.8


def gaussian(theta, x):
    """-log N(x; ...) at 21 parameters; at the first 20 of them without its log Z."""
    phi = jnp.concatenate([-x, x[_ROWS] * x[_COLUMNS] * _HALF, jnp.ones(1, x.dtype)])
    return theta @ phi[: len(theta)]


def theta_of(mean, covariance):
    """(21,), the parameters of N(mean, covariance)."""
    precision = np.linalg.inv(covariance)
    log_z = (mean @ precision @ mean + np.linalg.slogdet(2 * np.pi * covariance)[1]) / 2
    return np.concatenate([precision @ mean, precision[_ROWS, _COLUMNS], [log_z]])


START = theta_of(np.zeros(DIMENSION), np.eye(DIMENSION))


def batches(num, size, seed=0):
    """Samples of the truth, (num, size, 5)."""
    normal = np.random.default_rng(seed).normal(size=(num, size, DIMENSION))
    return MEAN + normal @ np.linalg.cholesky(COVARIANCE).T


def trained(objective, start, data, steps):
    """Newton's method from the start over all batches, (num, size, ...), each with its own key.

    Returns the parameters where the gradient is zero, and their covariance (the sandwich).
    """
    keys = jax.random.split(KEY, len(data))

    @jax.jit
    def run(start, data):
        def slopes(theta):
            def one(batch, key):
                return jax.grad(lambda t: objective.loss(t, (), batch, key)[0])(theta)

            each = jax.vmap(one)(data, keys)
            return jnp.mean(each, axis=0), each

        def newton(theta, _):
            hessian, each = jax.jacfwd(slopes, has_aux=True)(theta)
            return theta - jnp.linalg.solve(hessian, jnp.mean(each, axis=0)), (hessian, each)

        # At the end a step is nothing: the last slopes are those of the result.
        theta, found = jax.lax.scan(newton, start, length=steps)
        return theta, found[0][-1], found[1][-1]

    theta, hessian, each = map(np.asarray, run(jnp.asarray(start), jnp.asarray(data)))
    np.testing.assert_allclose(each.mean(0), 0, atol=1e-6)
    inverse = np.linalg.inv(hessian)
    return theta, inverse @ np.cov(each.T) @ inverse / len(data)


def hotelling(difference, covariance, num):
    """The probability of a difference as large, its covariance estimated from num repetitions."""
    size = len(difference)
    square = difference @ np.linalg.solve(covariance, difference)
    return stats.f.sf(square * (num - size) / (size * (num - 1)), size, num - size)


def assert_finds(objective, expected, data, start, steps):
    """Training ends at the expected parameters as near as three standard errors (p = 0.0027)."""
    found, covariance = trained(objective, start, data, steps)
    assert hotelling(found - expected, covariance, len(data)) > 0.0027, found - expected
    assert hotelling(start - expected, covariance, len(data)) < 1e-9  # it could have failed


def assert_mean(samples, expected):
    """The mean of independent vectors, (num, size), is the expected one: false alarm 0.0027."""
    samples = np.asarray(samples)
    covariance = np.atleast_2d(np.cov(samples.T)) / len(samples)
    difference = samples.mean(0) - expected
    # Where the samples do not vary (as of a sum of entries that is constant) a solve is noise.
    variance, directions = np.linalg.eigh(covariance)
    varies, along = variance > 1e-9 * variance[-1], directions.T @ difference
    np.testing.assert_allclose(along[~varies], 0, atol=1e-6)
    size = hotelling(along[varies], np.diag(variance[varies]), len(samples))
    assert size > 0.0027, difference


def value_and_gradient(objective, params, batch, key):
    """The value and its gradient, (1 + size,)."""

    def loss(p):
        return objective.loss(p, (), batch, key)[0]

    value, slope = jax.value_and_grad(loss)(params)
    return jnp.concatenate([value[None], slope])


def values_and_gradients(objective, params, batch, num):
    """The value and its gradient at num keys, (num, 1 + size)."""

    @jax.jit
    def run(params, keys):
        return jax.vmap(lambda key: value_and_gradient(objective, params, batch, key))(keys)

    return np.asarray(run(jnp.asarray(params), jax.random.split(KEY, num)))


def losses_of(objectives, params):
    """One compiled function of a batch: every value and gradient, in the type of the batch."""

    @jax.jit
    def run(batch):
        own = jnp.asarray(params, batch.dtype)
        return [value_and_gradient(objective, own, batch, KEY) for objective in objectives]

    return run


def assert_right_in_every_type(run, x):
    """float16 to float32 against float64, at numbers that all of them have."""
    x = jnp.asarray(x, jnp.float16).astype(jnp.bfloat16)
    exact = run(x.astype(jnp.float64))
    for dtype, rounding in (("float16", 5e-3), ("bfloat16", 4e-2), ("float32", 1e-5)):
        for found, expected in zip(run(x.astype(dtype)), exact, strict=True):
            assert jnp.issubdtype(found.dtype, jnp.floating)
            found = np.asarray(found, np.float64)
            np.testing.assert_allclose(
                found, expected, atol=10 * rounding * (1 + np.abs(expected).max())
            )


def assert_nan_is_seen(run, x):
    """A row of NaN makes every value NaN."""
    values = run(jnp.asarray(x).at[1].set(jnp.nan))
    assert all(np.isnan(value[0]) for value in values)


OPTIMUM = theta_of(MEAN, COVARIANCE)[:-1]  # an energy that nobody normalises


def assert_optimum(objective, *, wrong=1.5, num=64, size=256):
    """The mean gradient over fresh batches and keys is 0 at the optimum, and not near it.

    A standard normal number exceeds 4.5 with probability 7e-6: of 20 parameters one does by chance
    once in 7,000 objectives.
    """

    @jax.jit
    def scores(theta, data, keys):
        def one(batch, key):
            state = objective.init(theta, key)
            return jax.grad(lambda t: objective.loss(t, state, batch, key)[0])(theta)

        each = jax.vmap(one)(data, keys)
        return each.mean(0) / (each.std(0, ddof=1) / np.sqrt(num))

    def largest(theta):
        data = jnp.asarray(batches(num, size), jnp.float32)
        keys = jax.random.split(KEY, num)
        return np.abs(scores(jnp.asarray(theta, jnp.float32), data, keys)).max()

    assert largest(OPTIMUM) < 4.5
    assert largest(wrong * OPTIMUM) > 6
