"""Energies in the plane that are told the noise level, their training and their log Z."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import ebm_jax
from ebm_jax import distributions, objectives, samplers
from ebm_jax.energies.networks import MLP
from ebm_jax.partition import annealed, estimates, paths
from ebm_jax.partition.estimates import Estimate
from ebm_jax.types import Array, Energy, Key, Objective, Params, Sampler
from experiments.objectives_by_name import Problem, Row

SIGMA_MIN, SIGMA_MAX = 0.05, 8.0
NAME = "denoising_levels"


def make_energy(
    points: np.ndarray, *, hidden: int = 128, octaves: int = 5
) -> tuple[Energy, Callable[[Key], Params]]:
    r"""Return energy(params, x (2,), sigma=SIGMA_MIN) -> (), and key -> its parameters.

    .. math::
        U(x, \sigma) = -\log \mathcal{N}(x; m, v + \sigma^2)
        + \frac{v}{v + \sigma^2} \, g(x, \sigma)

    with the mean m of the points, their variance v for each coordinate, and a network g. Where the
    noise is large the first term is exact, so the constant of the energy is fixed there.
    """
    mean, variance = jnp.asarray(points.mean(0)), float(points.var(0).mean())
    network = MLP((hidden,) * 3)
    frequencies = np.pi / 8 * 2.0 ** np.arange(octaves)

    def features(x: Array, sigma: Array) -> Array:
        log_sigma = jnp.log(sigma)
        phase = x[:, None] * frequencies
        damping = jnp.exp(-((frequencies * sigma) ** 2) / 2)  # of a wave under the noise
        waves = jnp.concatenate([jnp.sin(phase) * damping, jnp.cos(phase) * damping])
        level = jnp.stack([log_sigma / 2, jnp.sin(log_sigma), jnp.cos(log_sigma)])
        scaled = (x - mean) / jnp.sqrt(variance + sigma**2)
        return jnp.concatenate([scaled, level, jnp.ravel(waves)])

    def energy(params: Params, x: Array, sigma: Array | float = SIGMA_MIN) -> Array:
        sigma = jnp.asarray(sigma, x.dtype)
        total = variance + sigma**2
        gaussian = jnp.sum((x - mean) ** 2) / (2 * total) + jnp.log(2 * np.pi * total)
        g = network.apply(params, features(x, sigma))
        return gaussian + g * variance / total  # pyright: ignore

    return energy, lambda key: network.init(key, features(jnp.zeros(2), jnp.ones(())))


def _objective(problem: Problem, *, time_score: float = 0.2, length: float = 0.15) -> Objective:
    """Return score matching over the levels; ``length`` is the scale below which scores count."""
    return objectives.noise_conditional_score_matching(
        problem.energy,
        sigma_min=SIGMA_MIN,
        sigma_max=SIGMA_MAX,
        score_weight=lambda sigma: 1 + (length / sigma) ** 2,
        time_score_weight=time_score,
    )


ROW = Row(_objective, {"time_score": [0.2, 1.0], "length": [0.15, 0.3]}, learning_rate=2e-3)


def sigma_at(beta: Array) -> Array:
    """Return the noise level at beta: SIGMA_MAX at 0, SIGMA_MIN at 1, geometric between."""
    return SIGMA_MAX * (SIGMA_MIN / SIGMA_MAX) ** beta


def mala(energy: Partial, *, step: float = 0.3) -> Sampler:
    """Return MALA for ``Partial(path, beta)`` with a step size that follows the noise level."""
    return samplers.mala(energy, step_size=step * sigma_at(energy.args[0]) ** 2)


@functools.partial(ebm_jax.jit, static_argnums=(1,), static_argnames=("num_chains", "num_levels"))
def _ends(key: Key, energy: Energy, params: Params, back: Array, *, num_chains, num_levels):
    """Return the annealed states of chains from the base to the data, and of chains back."""
    start_key, up_key, down_key = jax.random.split(key, 3)
    base = distributions.gaussian(jnp.zeros(2), SIGMA_MAX)
    told = Partial(energy, params)
    path = paths.noise_levels(distributions.energy(base), told, sigma_at)
    betas = jnp.linspace(0, 1, num_levels + 1)
    begin = annealed.start(path, mala, base.sample(start_key, num_chains))
    up, _ = annealed.anneal(up_key, path, mala, begin, betas[1:], num_steps=2)
    begin = annealed.start(path, mala, back, beta=1.0)
    down, _ = annealed.anneal(down_key, path, mala, begin, betas[-2:0:-1], num_steps=2)
    return up, annealed.reweight(path, down, 0.0)


def log_z(
    key: Key,
    energy: Energy,
    params: Params,
    samples: Array,
    *,
    num_chains: int = 2000,
    num_levels: int = 100,
) -> Estimate:
    """Return log Z at the lowest level by annealing along the noise levels.

    Args:
        key: a key of ``jax.random.key``, used once.
        energy: (params, x, sigma) -> ().
        params: its parameters.
        samples: independent samples of the energy at the lowest level, (n, 2): for the bracket.
        num_chains: chains from the base.
        num_levels: noise levels.

    Returns:
        The estimate; its field ``upper`` is the estimate from above.
    """
    run_key, error_key = jax.random.split(key)
    sizes = {"num_chains": num_chains, "num_levels": num_levels}
    up, down = _ends(run_key, energy, params, samples, **sizes)
    lower, upper = estimates.bracket(error_key, up, down)
    return lower._replace(upper=upper)
