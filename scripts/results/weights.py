"""The published weights of restricted Boltzmann machines: log Z, exact and by annealing."""

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import distributions, jit
from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.partition import annealed, estimates, exact, paths
from experiments.data import datasets
from experiments.rbm import model as rbm_model

CONFIDENCE = 0.997  # of intervals: three standard errors each way
CHAINS = 100


def mean_energies(rbm: RBM, sets: dict[str, np.ndarray]) -> dict[str, float]:
    """Return the mean free energy of every set of visible units, (n, visible) in [0, 1]."""
    free = jit(lambda rbm, x: jnp.mean(jax.vmap(boltzmann.rbm_free_energy, (None, 0))(rbm, x)))
    return {name: float(free(rbm, x)) for name, x in sets.items()}


def exact_rbm(data_dir: str | None, seed: int, workdir: Path) -> dict[str, Any]:
    """Enumerate the 2^15 hidden states of the published weights, in float64."""
    del seed, workdir
    weights = datasets.rbm_weights("15", data_dir)
    with jax.enable_x64(True):
        began = time.perf_counter()
        rbm = jax.tree.map(jnp.asarray, weights)
        log_z = float(jit(exact.log_partition)(rbm))
        seconds = time.perf_counter() - began
        split = datasets.mnist(data_dir)
        images = {"test": split.test_x >= 0.5, "train": split.train_x >= 0.5}
        energies = mean_energies(rbm, images)
    return {
        "log_z": log_z,
        "interval": [log_z, log_z],
        "seconds": seconds,
        "log_likelihoods_at_threshold_0.5": {n: -e - log_z for n, e in energies.items()},
    }


def schedule() -> np.ndarray:
    """Return the 14,501 betas of the published run: 0:1e-3:0.5, 0.5:1e-4:0.9, 0.9:1e-5:1."""
    parts = np.linspace(0, 0.5, 501), np.linspace(0.5, 0.9, 4001), np.linspace(0.9, 1, 10_001)
    return np.concatenate([parts[0], parts[1][1:], parts[2][1:]])


def _anneal(rbm: RBM, rates: np.ndarray, seed: int) -> estimates.Estimate:
    """Return log Z by annealing chains from independent units to the weights."""
    base, (path, make_sampler) = distributions.bernoulli(rates), paths.rbm(rbm, rates)
    start_key, run_key, interval_key = jax.random.split(jax.random.key(seed), 3)
    betas = jnp.asarray(schedule()[1:], jnp.float32)

    @jit
    def run(key, first):
        state = annealed.start(path, make_sampler, first)
        return annealed.anneal(key, path, make_sampler, state, betas)[0]

    state = run(run_key, base.sample(start_key, CHAINS))
    return estimates.log_partition(interval_key, state, confidence=CONFIDENCE)


def annealed_rbm(data_dir: str | None, seed: int, workdir: Path) -> dict[str, Any]:
    """Anneal 100 chains to the published weights of 500 hidden units.

    The first number and its interval are the test log-likelihood of one random binarisation.
    """
    del workdir
    split = datasets.mnist(data_dir)
    began = time.perf_counter()
    weights = datasets.rbm_weights("CD25", data_dir)
    rbm = jax.tree.map(lambda p: jnp.asarray(p, jnp.float32), weights)
    estimate = _anneal(rbm, rbm_model.base_rates(split.train_x), seed)
    log_z, seconds = float(estimate.log_z), time.perf_counter() - began
    rng = np.random.default_rng(seed)
    images = {
        **{f"stochastic_{k}": rng.random(split.test_x.shape) < split.test_x for k in (1, 2)},
        "threshold_0.5": split.test_x >= 0.5,
        "grey": split.test_x,
    }
    energies = mean_energies(rbm, images)
    low, high = (float(end) for end in estimate.interval)
    first = energies.pop("stochastic_1")
    return {
        "test_log_likelihood": -first - log_z,
        "interval": [-first - high, -first - low],
        "of_other_binarisations": {name: -e - log_z for name, e in energies.items()},
        "log_z": log_z,
        "log_z_interval": [low, high],
        "standard_error": float(estimate.standard_error),
        "effective_sample_size": float(estimate.effective_sample_size),
        "seconds": seconds,
    }
