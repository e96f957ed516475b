"""Mixtures of Gaussians of known density, and log Z of a model by two independent estimates."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

from ebm_jax import distributions, samplers
from ebm_jax.energies.networks import MLP
from ebm_jax.partition import annealed, paths
from ebm_jax.types import Array, Distribution, Energy, Key, Params

WEIGHTS = np.array([0.3, 0.25, 0.2, 0.15, 0.1])
DISTANCE = 4.0  # root mean squared distance of two centres
CHAINS, BETAS, STEP_SIZE = 128, 100, 0.08  # of annealing


class Mixture(NamedTuple):
    """Gaussians of diagonal covariance, all turned by one rotation.

    Attributes:
        means: centres before the rotation, (k, d).
        sigmas: standard deviations, (k, d).
        rotation: orthogonal matrix, (d, d).
    """

    means: np.ndarray
    sigmas: np.ndarray
    rotation: np.ndarray

    def sample(self, num: int, seed: int) -> np.ndarray:
        """Return independent samples, (num, d) float32."""
        rng = np.random.default_rng(seed)
        which = rng.choice(len(WEIGHTS), num, p=WEIGHTS)
        noise = rng.standard_normal((num, self.means.shape[1]))
        points = self.means[which] + self.sigmas[which] * noise
        return (points @ self.rotation.T).astype(np.float32)

    def log_joint(self, x: np.ndarray) -> np.ndarray:
        """Return log-densities of points and components, (n, k)."""
        straight = np.asarray(x, np.float64) @ self.rotation
        away = (straight[:, None] - self.means) / self.sigmas
        each = -0.5 * (away**2).sum(-1) - np.log(self.sigmas).sum(-1)
        return each - 0.5 * self.means.shape[1] * np.log(2 * np.pi) + np.log(WEIGHTS)

    def log_prob(self, x: np.ndarray) -> np.ndarray:
        """Return log-densities, (n,)."""
        return logsumexp(self.log_joint(x), axis=1)


def make(dimension: int, seed: int) -> Mixture:
    """Return a mixture of five Gaussians whose modes overlap little."""
    rng = np.random.default_rng(seed)
    shape = (len(WEIGHTS), dimension)
    means = rng.standard_normal(shape) * DISTANCE / np.sqrt(2 * dimension)
    sigmas = np.exp(rng.uniform(np.log(0.4), np.log(1.0), shape))
    rotation, triangle = np.linalg.qr(rng.standard_normal((dimension, dimension)))
    return Mixture(means - WEIGHTS @ means, sigmas, rotation * np.sign(np.diag(triangle)))


def make_energy(dimension: int, hidden: int, variance: float) -> tuple[Energy, Callable]:
    """Return energy(params, x) -> (), and key -> params: a network plus a normalised Gaussian."""
    network = MLP((hidden, hidden))
    constant = 0.5 * dimension * np.log(2 * np.pi * variance)

    def energy(params: Params, x: Array) -> Array:
        bowl = jnp.sum(x**2) / (2 * variance) + constant
        return network.apply(params, x) + bowl

    return energy, lambda key: network.init(key, jnp.zeros(dimension))


def annealed_log_z(key: Key, base: Distribution, energy: Callable) -> tuple[Array, Array]:
    """Return log Z by annealed importance sampling from the base, and its standard error."""
    start_key, move_key = jax.random.split(key)
    path = paths.geometric(distributions.energy(base), energy)
    make_sampler = functools.partial(samplers.mala, step_size=STEP_SIZE)
    state = annealed.start(path, make_sampler, base.sample(start_key, CHAINS))
    betas = jnp.linspace(0, 1, BETAS + 1)[1:]
    state, _ = annealed.anneal(move_key, path, make_sampler, state, betas)
    log_z = jax.nn.logsumexp(state.log_weights) - np.log(CHAINS)
    relative = jnp.exp(state.log_weights - log_z)
    return log_z, jnp.std(relative) / np.sqrt(CHAINS)


def measurer(
    truth: Mixture, energy: Energy, valid: np.ndarray, test: np.ndarray
) -> Callable[[Params, Key], dict[str, Array]]:
    """Return (params, key) -> measures of a model.

    Both estimates of Z are unbiased, so that both of log Z are low in expectation. Importance
    sampling from the true density misses what the model has far from the data; the gap is that of
    annealing where annealing is higher by more than three standard errors.
    """
    log_p, log_p_valid = (jnp.asarray(truth.log_prob(x), jnp.float32) for x in (test, valid))
    nearest = jnp.asarray(truth.log_joint(test).argmax(1))
    x_test, x_valid = jnp.asarray(test), jnp.asarray(valid)
    base = distributions.gaussian(test.mean(0), covariance=np.cov(test.T) * 1.2)

    def measure(params: Params, key: Key) -> dict[str, Array]:
        def log_ratios(x, log_density):
            each = jax.lax.map(lambda one: energy(params, one), x, batch_size=2000)
            return -each - log_density  # log q(x) Z / p(x)

        ratios, valid_ratios = log_ratios(x_test, log_p), log_ratios(x_valid, log_p_valid)
        annealing, error = annealed_log_z(key, base, lambda x: energy(params, x))

        def estimates(ratios: Array) -> tuple[Array, Array]:
            """Return log Z by importance sampling, and the one that the gap uses."""
            importance = jax.nn.logsumexp(ratios) - np.log(len(ratios))
            return importance, jnp.where(annealing - 3 * error > importance, annealing, importance)

        (importance, log_z), (_, valid_log_z) = estimates(ratios), estimates(valid_ratios)
        differences = jax.nn.softmax(ratios) - 1 / len(test)  # of the weights of model and data
        modes = jax.ops.segment_sum(differences, nearest, len(WEIGHTS))
        return {
            "gap": log_z - jnp.mean(ratios),
            "validation_gap": valid_log_z - jnp.mean(valid_ratios),
            "total_variation": jnp.mean(jnp.abs(1 - jnp.exp(ratios - log_z))) / 2,
            "mode_weight_error": jnp.abs(modes).sum() / 2,
            "log_z_disagreement": jnp.abs(importance - annealing),
        }

    return measure
