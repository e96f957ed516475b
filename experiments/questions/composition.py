"""Can learned energies be composed: and, or, not?

The question: two energies are learned from data of two densities p_1 and p_2 in the plane. Sampling
from their product p_1 p_2, mixture (p_1 + p_2) / 2 and negation p_1 / p_2^0.5 needs no training, as
their energies are sums of learned ones. How near are the samples to the exact compositions?

The claim: with Markov chains at every noise level, reweighted on the way, they are as near as a
total variation of 0.06, 0.06 and 0.10, the learned energies' own errors included. Reverse diffusion
with the summed scores, which uses no Markov chains, is at least twice as far off for the product
and the negation: the sum of the scores of two noised densities is not the score of the noised
product (Du et al. 2023, Reduce, reuse, recycle). A mixture has no such error: the noised mixture is
the mixture of the noised densities.

    python -m experiments.questions.composition --workdir=runs/composition

p_1 is "8gaussians", p_2 a mixture of three broad Gaussians. The total variation is that of a
histogram of --samples samples, 50 x 50 cells; exact samples of the same number are the floor. All
figures are means over --repeats trainings with different seeds.
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 6000, "Updates of each energy.", lower_bound=1)
flags.DEFINE_integer("samples", 100_000, "Samples of each composition.", lower_bound=1000)
flags.DEFINE_integer("repeats", 3, "Trainings, with different seeds.", lower_bound=1)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import functools
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.tree_util import Partial

import ebm_jax
from ebm_jax import distributions, energies, samplers
from ebm_jax.partition import annealed, paths
from ebm_jax.types import Array, Key, Params, Sampler
from experiments import noise_levels, objectives_by_name, plots
from experiments.data import minibatches
from experiments.data.densities import DENSITIES, HALF_WIDTH, Density, gaussians
from experiments.run import loop
from experiments.run.claims import Claim

CELLS = 50
BROAD = gaussians(np.array([[-2.0, -1.5], [2.0, -1.0], [0.0, 2.0]]), 1.0)
DENSITY_PAIR = DENSITIES["8gaussians"], BROAD
COMPOSITIONS = {
    "product": energies.product,
    "mixture": functools.partial(energies.mixture, log_weights=np.log([0.5, 0.5])),
    "negation": functools.partial(energies.product, weights=np.array([1.0, -0.5])),
}
LIMITS = {"product": 0.06, "mixture": 0.06, "negation": 0.10}
WIDTH = 64  # of the networks
NUM_LEVELS = 40
CHAINS = 25_000  # of each run; several runs give the samples
LAST_STEPS = 20  # of MALA at the lowest level
REVERSE_STEPS = 150


def exact(points: np.ndarray) -> dict[str, np.ndarray]:
    """Return the exact composed densities at points, with sum 1 over them."""
    first, second = (density.log_density(points) for density in DENSITY_PAIR)
    logs = {
        "product": first + second,
        "mixture": np.logaddexp(first, second),
        "negation": first - 0.5 * second,
    }
    densities = {name: np.exp(log - log.max()) for name, log in logs.items()}
    return {name: density / density.sum() for name, density in densities.items()}


def on_cells(fine: np.ndarray, factor: int) -> np.ndarray:
    """Return the masses of CELLS x CELLS cells from those of a grid finer by a factor."""
    return fine.reshape(CELLS, factor, CELLS, factor).sum((1, 3))


def histogram(samples: np.ndarray) -> np.ndarray:
    """Return the shares of the samples in the cells; samples outside the square are in none."""
    edges = np.linspace(-HALF_WIDTH, HALF_WIDTH, CELLS + 1)
    return np.histogram2d(*samples.T, bins=(edges, edges))[0] / len(samples)


def total_variation(samples: np.ndarray, masses: np.ndarray) -> float:
    """Return the total variation between samples and cell masses, what is outside included."""
    found = histogram(samples)
    return float(np.abs(found - masses).sum() + abs(found.sum() - masses.sum())) / 2


def train(run, density: Density, name: str, seed: int) -> tuple[Any, Params]:
    """Return an energy that is told the noise level, and its parameters, trained on a density."""
    points = density.sample(300_000, seed)
    energy, init = noise_levels.make_energy(points, hidden=WIDTH)
    problem = objectives_by_name.Problem(energy, points, jnp.zeros((1, 2)))
    batch = minibatches.batches(points, batch_size=512, seed=seed)
    init_key, key = jax.random.split(jax.random.key(seed))
    params, _ = loop.fit(
        run,
        name,
        noise_levels.ROW.make(problem),
        init(init_key),
        batch,
        key,
        steps=FLAGS.steps,
        learning_rate=noise_levels.ROW.learning_rate,
    )
    return energy, params


def _mala(energy: Partial) -> Sampler:
    """Return MALA with a quarter of the variance that the narrowest mode has with noise."""
    variance = noise_levels.sigma_at(energy.args[0]) ** 2 + 1 / 8
    return samplers.mala(energy, step_size=variance / 4)


@functools.partial(ebm_jax.jit, static_argnums=1)
def by_chains(key: Key, energy: Any, params: tuple[Params, Params]) -> Array:
    """Return samples of a composed energy: MALA at every noise level, with resampling."""
    start_key, key = jax.random.split(key)
    # The negation of two Gaussians of equal variance has twice the variance.
    base = distributions.gaussian(jnp.zeros(2), np.sqrt(2) * noise_levels.SIGMA_MAX)
    path = paths.noise_levels(
        distributions.energy(base), Partial(energy, params), noise_levels.sigma_at
    )
    betas = jnp.linspace(0, 1, NUM_LEVELS + 1)[1:]
    state = annealed.start(path, _mala, base.sample(start_key, CHAINS))
    # At the last level all chains are resampled, and so of equal weight.
    state, _ = annealed.anneal(key, path, _mala, state, betas[:-1], num_steps=2, resample_below=0.5)
    state, _ = annealed.anneal(
        key, path, _mala, state, betas[-1:], num_steps=LAST_STEPS, resample_below=1.0
    )
    return state.position


@functools.partial(ebm_jax.jit, static_argnums=1)
def by_reverse_diffusion(key: Key, energy: Any, params: tuple[Params, Params]) -> Array:
    """Return samples by Euler-Maruyama steps of reverse diffusion with the composed scores."""
    start_key, key = jax.random.split(key)
    sigmas = noise_levels.sigma_at(jnp.linspace(0, 1, REVERSE_STEPS + 1))
    slope = jax.vmap(jax.grad(lambda x, sigma: energy(params, x, sigma)), (0, None))

    def step(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, None]:
        index, high, low = at
        change = high**2 - low**2
        noise = jax.random.normal(jax.random.fold_in(key, index), x.shape)
        return x - change * slope(x, high) + jnp.sqrt(change) * noise, None

    x = noise_levels.SIGMA_MAX * jax.random.normal(start_key, (CHAINS, 2))
    at = jnp.arange(REVERSE_STEPS), sigmas[:-1], sigmas[1:]
    return jax.lax.scan(step, x, at)[0]


def drawn(key: Key, energy: Any, params: tuple, num: int) -> dict[str, np.ndarray]:
    """Return num samples of a composed energy, with and without Markov chains."""
    samples = {"chains": [], "no_chains": []}
    for k in jax.random.split(key, -(-num // CHAINS)):
        chain_key, reverse_key = jax.random.split(k)
        samples["chains"].append(np.asarray(by_chains(chain_key, energy, params)))
        samples["no_chains"].append(np.asarray(by_reverse_diffusion(reverse_key, energy, params)))
    return {name: np.concatenate(parts)[:num] for name, parts in samples.items()}


def composed(compose: Any, pair: list) -> Any:
    """Return energy((params_1, params_2), x, sigma) of a composition of two energies."""

    def energy(params: tuple, x: Array, sigma: Array) -> Array:
        parts = [functools.partial(e, p) for e, p in zip(pair, params, strict=True)]
        return compose(*parts)(x, sigma)

    return energy


def draw(path, masses: dict[str, np.ndarray], samples: dict[str, dict[str, np.ndarray]]) -> None:
    """Write the exact compositions above the samples with and without Markov chains."""
    figure, axes = plt.subplots(3, len(masses), figsize=(7.4, 7.6), squeeze=False)
    titles = "exact", "with Markov chains", "without Markov chains"
    for column, (name, exactly) in zip(axes.T, masses.items(), strict=True):
        seen = [exactly, histogram(samples[name]["chains"]), histogram(samples[name]["no_chains"])]
        for axis, title, values in zip(column, titles, seen, strict=True):
            extent = (-HALF_WIDTH, HALF_WIDTH) * 2
            shown = {"origin": "lower", "cmap": "magma", "vmin": 0, "vmax": exactly.max()}
            axis.imshow(values.T, extent=extent, **shown)
            axis.set(title=f"{name}\n{title}" if axis is column[0] else title, xticks=[], yticks=[])
    plots.save(figure, path)


def main() -> None:
    """Answer the question."""
    run, factor, seed = entry.start(), 6, FLAGS.seed
    centres = (np.arange(CELLS * factor) + 0.5) / (CELLS * factor) * 2 * HALF_WIDTH - HALF_WIDTH
    points = np.stack(np.meshgrid(centres, centres, indexing="ij"), -1).reshape(-1, 2)
    exactly = exact(points)
    masses = {name: on_cells(exactly[name], factor) for name in COMPOSITIONS}
    variations: dict[str, list[float]] = {}
    pictured = {}
    for repeat in range(FLAGS.repeats):
        seeds = np.random.SeedSequence((seed, repeat)).generate_state(3)
        trained = [
            train(run, density, f"energy {number}, training {repeat + 1}", int(s))
            for number, (density, s) in enumerate(zip(DENSITY_PAIR, seeds, strict=False), 1)
        ]
        pair, params = [energy for energy, _ in trained], tuple(params for _, params in trained)
        keys = jax.random.split(jax.random.key(int(seeds[2])), len(COMPOSITIONS))
        for key, (name, compose) in zip(keys, COMPOSITIONS.items(), strict=True):
            energy = composed(compose, pair)
            samples = drawn(key, energy, params, FLAGS.samples)
            rng = np.random.default_rng(int(seeds[2]))
            flat = masses[name].ravel()
            floor = rng.multinomial(FLAGS.samples, flat / flat.sum()) / FLAGS.samples
            found = {
                f"tv_{name}": total_variation(samples["chains"], masses[name]),
                f"tv_{name}_without_mcmc": total_variation(samples["no_chains"], masses[name]),
                f"tv_{name}_floor": float(np.abs(floor - flat).sum() / 2),
            }
            for measure, value in found.items():
                variations.setdefault(measure, []).append(value)
            pictured.setdefault(name, samples)
    draw(run.workdir / "composition.png", masses, pictured)
    means = {name: round(float(np.mean(values)), 4) for name, values in variations.items()}
    every = {name: [round(value, 4) for value in values] for name, values in variations.items()}
    claims = {}
    for name in COMPOSITIONS:
        with_chains, without = means[f"tv_{name}"], means[f"tv_{name}_without_mcmc"]
        claims[f"{name}_is_sampled"] = Claim(with_chains, "<=", LIMITS[name], "total variation")
        if name != "mixture":
            ratio = without / with_chains
            claims[f"{name}_needs_mcmc"] = Claim(ratio, ">", 2, "total variation, without / with")
    run.finish(means | {"seeds": every}, claims)


if __name__ == "__main__":
    entry.main(main)
