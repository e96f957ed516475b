"""The log-likelihood of ``images``: log Z of its energy, class by class, by annealing both ways.

    log p(x) = -F(x) - log Z,    Z = sum_y Z_y,    Z_y the integral of exp(-F(x, y)) over x

No chain leaves its class, so every class is annealed by itself, from the Gaussian reference to
F(., y) and back; the estimate sets the level of the energies of each class. The density is
one of the data modelled: the grey levels in [0, 1] plus Gaussian noise of standard deviation
``--data_noise``; it is evaluated at the test images with such noise, ten draws of it for each, in
nats an image.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import distributions, samplers
from ebm_jax.partition import annealed, bridges, estimates, paths
from ebm_jax.types import Array, Distribution, Key, Params
from experiments.data import minibatches, splits
from experiments.images.network import Model
from experiments.run.progress import stage

START, EVALUATION = 3, 4  # streams of noise, none like those of training
CHAINS = 25  # a class and way
DRAWS = 10  # of the noise on a test image
BELIEVED = 2.0  # chains of equal weight a class, at least, on average


class LogPartition(NamedTuple):
    """log Z_y of every class, (classes,) each, and of how many chains the answer is."""

    best: np.ndarray
    low: np.ndarray
    high: np.ndarray
    effective_sample_sizes: np.ndarray


def noisy(x: np.ndarray, noise: float, seed: int, which: int) -> np.ndarray:
    """Return images as the energy models them."""
    drawn = minibatches.stream(seed, which, 0).standard_normal(x.shape, np.float32)
    return x + noise * drawn


def starts(split: splits.Split, num_classes: int, chains: int, noise: float, seed: int) -> dict:
    """Return as many noisy training images of every class, the classes in order."""
    rng = minibatches.stream(seed, START, 1)
    chosen = [rng.choice(np.flatnonzero(split.train_y == c), chains) for c in range(num_classes)]
    x = noisy(split.train_x[np.concatenate(chosen)], noise, seed, START)
    return {"x": jnp.asarray(x), "y": jnp.repeat(jnp.arange(num_classes), chains)}


def reference(model: Model) -> Distribution:
    """Return the Gaussian of independent pixels that annealing starts from."""
    return distributions.gaussian(model.reference.mean, model.reference.precision**-0.5)


def log_partitions(
    key: Key, model: Model, params: Params, start: dict, *, step_size: float, num_betas: int
) -> LogPartition:
    """Return log Z_y by annealing as many chains up from the reference, and down from ``start``.

    The chains from ``start``, equally many a class in order, first make ``num_betas`` steps on
    the energy itself. What they find from above holds as far as they are then samples of it.
    """
    base, joint = reference(model), functools.partial(model.joint, params)
    path = paths.geometric(lambda configuration: -base.log_prob(configuration["x"]), joint)
    anneal = _annealer(path, step_size)
    keys = jax.random.split(key, 5)
    rising = jnp.linspace(0, 1, num_betas + 1)
    first = start | {"x": base.sample(keys[0], len(start["y"]))}
    num_classes = int(start["y"][-1]) + 1
    which = f"likelihood: {len(start['y'])} chains, {num_betas} temperatures"
    with stage(f"{which}, up from the reference (1 of 3)"):
        up = jax.block_until_ready(anneal(keys[1], first, rising))
    with stage(f"{which}, on the energy itself (2 of 3)"):
        settled = jax.block_until_ready(anneal(keys[2], start, jnp.ones_like(rising)))
    with stage(f"{which}, down to the reference (3 of 3)"):
        down = jax.block_until_ready(anneal(keys[3], settled.position, rising[::-1]))
    weights = (state.log_weights.reshape(num_classes, -1) for state in (up, down))
    lower, upper, best = _by_class(jax.random.split(keys[4], num_classes), *weights)
    sizes = np.minimum(lower.effective_sample_size, upper.effective_sample_size)
    low, high = np.asarray(estimates.hull(lower, upper)).T
    return LogPartition(np.asarray(best), low, high, sizes)


def _annealer(path: paths.Path, step_size: float) -> Callable:
    """Return (key, positions, betas) -> the chains at the last beta, compiled once."""

    make_sampler = functools.partial(samplers.mala, step_size=step_size)

    @ebm_jax.jit
    def anneal(key: Key, positions, betas: Array) -> annealed.AnnealedState:
        state = annealed.start(path, make_sampler, positions, beta=betas[0])
        return annealed.anneal(key, path, make_sampler, state, betas[1:])[0]

    return anneal


@ebm_jax.jit
@jax.vmap
def _by_class(key: Key, up: Array, down: Array) -> tuple:
    """Return log Z from below, from above, and the best of both, from log-weights (chains,)."""
    index, end = jnp.arange(len(up)), jnp.zeros(())
    forward, back = (annealed.AnnealedState(None, end, w, index, end) for w in (up, down))
    lower, upper = estimates.bracket(key, forward, back)
    return lower, upper, bridges.bennett(up, down).log_z


def measure(
    key: Key,
    model: Model,
    params: Params,
    split: splits.Split,
    *,
    data_noise: float,
    step_size: float,
    num_betas: int,
    seed: int,
) -> tuple[dict, np.ndarray]:
    """Return the mean log-likelihood of the noisy test images, and the levels it supposes.

    Training leaves the Z_y free, as no chain ever leaves its class. The likelihood is that of
    F(x, y) + level_y, (classes,), whose Z_y are in the proportions of the training images; of F as
    it is where the Z_y rest on fewer than BELIEVED chains each, or are not finite.

    ``nats`` with its interval and effective sample size; the same of x given its class; and that
    of the reference alone. Interval and size are those of log Z: the test images are given.
    """
    shares = np.bincount(split.train_y) / len(split.train_y)
    start = starts(split, len(shares), CHAINS, data_noise, seed)
    found = log_partitions(key, model, params, start, step_size=step_size, num_betas=num_betas)
    levels = found.best - np.log(shares)
    believed = np.isfinite(levels).all() and found.effective_sample_sizes.mean() >= BELIEVED
    levels = levels - levels.mean() if believed else np.zeros_like(shares)
    x, y = (np.repeat(a, DRAWS, axis=0) for a in (split.test_x, split.test_y))
    x = noisy(x, data_noise, seed, EVALUATION)
    energies = np.asarray(_energies(model, params, x), np.float64) + levels
    mean = np.logaddexp.reduce(-energies, axis=1).mean()
    right = -energies[np.arange(len(x)), y]
    log_z_y, *bounds = (z - levels for z in (found.best, found.low, found.high))
    best, low, high = (np.logaddexp.reduce(z) for z in (log_z_y, *bounds))
    weights = np.exp(log_z_y - best)
    likelihood = {
        "nats": float(mean - best),
        "nats_interval": [float(mean - high), float(mean - low)],
        # The effective sample size of the sum of independent estimates, from its relative variance.
        "nats_effective_sample_size": float(1 / np.sum(weights**2 / found.effective_sample_sizes)),
        "nats_given_class": float(np.mean(right - log_z_y[y])),
        "nats_reference": float(jnp.mean(jax.vmap(reference(model).log_prob)(x))),
    }
    return likelihood, levels.astype(np.float32)


def _energies(model: Model, params: Params, x: np.ndarray) -> Array:
    return jax.jit(jax.vmap(model.classes, (None, 0)))(params, x)
