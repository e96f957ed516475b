"""A 5-D Gaussian: the energy, data, and whether an objective's gradient vanishes at an optimum."""

import jax
import jax.numpy as jnp
import numpy as np

DIMENSIONS, SAMPLES = 5, 256
_rng = np.random.default_rng(0)
_factor = np.linalg.qr(_rng.normal(size=(5, 5)))[0] * np.sqrt([0.5, 0.7, 1.0, 1.4, 2.0])
COVARIANCE = _factor @ _factor.T
MEAN = _rng.normal(size=5) / 2


def energy(params, x):
    """E = x A x / 2 - b x: the mean is A^-1 b, the covariance A^-1."""
    return x @ params["precision"] @ x / 2 - params["linear"] @ x


def parameters(mean, covariance):
    precision = np.linalg.inv(covariance)
    return {
        "precision": jnp.asarray(precision, jnp.float32),
        "linear": jnp.asarray(precision @ mean, jnp.float32),
    }


OPTIMUM = parameters(MEAN, COVARIANCE)


def data(seed, batches, samples=SAMPLES):
    rng = np.random.default_rng(seed)
    normal = rng.normal(size=(batches, samples, DIMENSIONS))
    return jnp.asarray(MEAN + normal @ _factor.T, jnp.float32)


def scores(objective, params, *, batches=64, seed=0, samples=SAMPLES):
    """Return mean / standard error of each entry of the gradient, over fresh batches and keys."""

    @jax.jit
    @jax.vmap
    def gradient(batch, key):
        init_key, loss_key = jax.random.split(key)
        state = objective.init(params, init_key)
        return jax.grad(lambda p: objective.loss(p, state, batch, loss_key)[0])(params)

    found = gradient(data(seed, batches, samples), jax.random.split(jax.random.key(seed), batches))
    flat = np.concatenate(
        [np.asarray(g, np.float64).reshape(batches, -1) for g in jax.tree.leaves(found)], axis=1
    )
    return flat.mean(0) / (flat.std(0, ddof=1) / np.sqrt(batches))


def assert_optimum(objective, params=OPTIMUM, wrong=1.5, **options):
    """The gradient vanishes at the optimum, and not a little way from it.

    A standard normal number exceeds 4.5 with probability 7e-6; of 30 entries one does by chance
    once in 5,000 objectives.
    """
    assert np.abs(scores(objective, params, **options)).max() < 4.5
    there = jax.tree.map(lambda p: wrong * p, params)
    assert np.abs(scores(objective, there, **options)).max() > 6
