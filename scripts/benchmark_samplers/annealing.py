"""Annealing from a base distribution to a target: sequential Monte Carlo as a sampler."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

import ebm_jax
from ebm_jax import distributions, samplers
from ebm_jax.partition import annealed, paths
from ebm_jax.partition.annealed import AnnealedState
from ebm_jax.types import Array, Distribution, Key, MakeSampler, Sampler
from scripts.benchmark_samplers import measures
from scripts.benchmark_samplers.methods import Cost, Settings
from scripts.benchmark_samplers.running import FINAL_KEY, PILOT_KEY, Protocol, best_pilot, numbers
from scripts.benchmark_samplers.targets import Target

PARTICLES_PER_BETA = 4  # the number of particles of a seed over that of inverse temperatures
RESAMPLE_BELOW = 0.5


class Route(NamedTuple):
    """A base, the path to a target, the sampler along it, and the cost of one inverse temperature.

    The cost is that of reweighting (which shares its energy with the gradient) and of one step.
    """

    base: Distribution
    path: paths.Path
    make_sampler: MakeSampler
    cost: Cost


def route(target: Target, step_size: Any) -> Route:
    """Return the geometric path from where chains start, with MALA or Gibbs along it.

    The inverse of MALA's step size is interpolated between the target's and that of the base.
    """
    if target.values:
        values = np.asarray(target.values, np.int8)
        base = distributions.categorical(jnp.zeros((target.dimension, 2)), values)
        if target.path is not None:
            return Route(base, *target.path, Cost(1.0, 1.0))

        def gibbs(energy: Partial) -> Sampler:
            assert target.gibbs is not None
            return target.gibbs(energy.args[0])

        path = paths.geometric(distributions.energy(base), target.energy)
        return Route(base, path, gibbs, Cost(1.0, 1.0))
    base = distributions.gaussian(jnp.zeros(target.dimension), target.start_sigma)
    of_base = target.start_sigma**2 * target.dimension ** (-1 / 3)

    def mala(energy: Partial) -> Sampler:
        (beta,) = energy.args
        return samplers.mala(energy, step_size=1 / (beta / step_size + (1 - beta) / of_base))

    path = paths.geometric(distributions.energy(base), target.energy)
    return Route(base, path, mala, Cost(2.0))


def schedule(num: int) -> Array:
    """Return inverse temperatures from 0 to 1, (num + 1,), denser near 0."""
    return jnp.linspace(0, 1, num + 1) ** 2


def up(
    key: Key, along: Route, num_betas: int, seeds: int, each: int, resample_below: float
) -> AnnealedState:
    """Return ``each`` chains of every seed annealed from the base to the target."""
    start_key, run_key = jax.random.split(key)
    begin = annealed.start(
        along.path, along.make_sampler, along.base.sample(start_key, seeds * each)
    )
    return annealed.anneal(
        run_key,
        along.path,
        along.make_sampler,
        begin,
        schedule(num_betas)[1:],
        resample_below=resample_below,
        groups=seeds,
    )[0]


def num_betas(budget: float, cost: float) -> int:
    """Return the number of inverse temperatures that the budget of a seed pays for."""
    return max(2, int(math.sqrt(budget / (cost * PARTICLES_PER_BETA))))


class Particles:
    """Annealed sequential Monte Carlo on a target, compiled once for each budget."""

    label = "annealed SMC"
    unbiased = True

    def __init__(self, target: Target) -> None:
        """Create the compiled function; this compiles nothing."""
        self.target = target
        self._estimates = ebm_jax.jit(self._weighted, static_argnums=(2, 3))

    def _weighted(self, key: Key, step_size: Array, num_betas: int, seeds: int) -> Array:
        along, particles = route(self.target, step_size), PARTICLES_PER_BETA * num_betas
        state = up(key, along, num_betas, seeds, particles, RESAMPLE_BELOW)
        weights = jax.nn.softmax(state.log_weights.reshape(seeds, particles))
        values = jax.vmap(self.target.functions)(state.position)
        return jnp.einsum("sp,spm->sm", weights, values.reshape(seeds, particles, -1))

    def estimates(
        self, key: Key, settings: Settings, budget: float, protocol: Protocol
    ) -> np.ndarray:
        """Return the estimated means of every seed."""
        step_size = jnp.asarray(settings.get("step_size", 1.0), jnp.float32)
        num = num_betas(budget * protocol.chains, float(route(self.target, 1.0).cost.total))
        return np.asarray(self._estimates(key, step_size, num, protocol.seeds), float)

    def errors(self, key: Key, settings: Settings, budget: float, protocol: Protocol) -> np.ndarray:
        """Return the squared error of every seed."""
        found = self.estimates(key, settings, budget, protocol)
        return measures.squared_errors(found, self.target.mean, self.target.variance)

    def choose(
        self, tried: list[Settings], protocol: Protocol, seed: int
    ) -> tuple[Settings, list[dict]]:
        """Return the settings with the least squared error in pilot runs, and all pilot runs."""
        if len(tried) == 1:
            return tried[0], []
        key, budget = jax.random.key(seed), protocol.budget * protocol.pilot_share
        key, pilots = jax.random.fold_in(key, PILOT_KEY), []
        for settings in tried:
            error = float(np.mean(self.errors(key, settings, budget, protocol)))
            pilots.append({"options": settings, "error": error if np.isfinite(error) else None})
        return best_pilot(pilots), pilots

    def final(self, settings: Settings, protocol: Protocol, seed: int) -> dict[str, Any]:
        """Return the measures of the final seeds; each budget is a run of its own."""
        key = jax.random.fold_in(jax.random.key(seed), FINAL_KEY)
        last = self.estimates(key, settings, protocol.budget, protocol)
        share, t = measures.bias(last, self.target.mean, self.target.variance)
        return {
            "errors": [
                numbers(self.errors(key, settings, budget, protocol)) for budget in protocol.budgets
            ],
            "effective_samples": None,
            "bias_share": share,
            "largest_t": t,
            "warm_up_cost": 0.0,
        }
