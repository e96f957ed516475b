"""Pilot and final runs of a sampler on a target, all seeds as one batch of chains."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax.types import Array, Key, Position
from scripts.benchmark_samplers import measures
from scripts.benchmark_samplers.methods import Cost, Method, Settings, candidates
from scripts.benchmark_samplers.targets import Target

BLOCKS = 32  # of one compiled call
PILOT_KEY, FINAL_KEY = 1, 2  # folded into the key of a run: pilot seeds are not final seeds


class Protocol(NamedTuple):
    """What is the same for all methods.

    Attributes:
        budget: cost of one chain in gradient evaluations, warm-up included.
        chains: number of chains of one seed.
        seeds: number of final seeds, and of pilot seeds.
        pilots: number of pilot runs, with the quasi-random options.
        pilot_share: budget of a pilot run, as a share of the budget.
        blocks: number of blocks of steps that are kept of a final run.
    """

    budget: int = 16384
    chains: int = 4
    seeds: int = 10
    pilots: int = 8
    pilot_share: float = 0.25
    blocks: int = 1024

    @property
    def budgets(self) -> tuple[float, ...]:
        """The budgets at which errors are measured."""
        return (self.budget / 16, self.budget / 4, float(self.budget))


QUICK = Protocol(budget=1024, chains=4, seeds=4, pilots=2, blocks=256)


def start(key: Key, target: Target, num: int) -> Position:
    """Return where chains start: a wide normal distribution, or uniform discrete states."""
    if target.values:
        values = jnp.asarray(target.values, jnp.int8)
        return jax.random.choice(key, values, (num, target.dimension))
    return target.start_sigma * jax.random.normal(key, (num, target.dimension))


class Runner:
    """A method on a target, compiled once for all settings and lengths."""

    def __init__(self, method: Method, target: Target) -> None:
        """Create the compiled functions; this compiles nothing."""
        self.method, self.target = method, target
        self._advance = ebm_jax.jit(self._blocks)
        self._init = ebm_jax.jit(self._first)

    def _first(self, key: Key, position: Position, settings: Settings):
        """Return the state, the settings and the cost of each chain after its warm-up."""
        init_key, adapt_key = jax.random.split(key)
        spent = jnp.zeros(position.shape[0])
        if self.method.prepare is not None:
            position, settings, spent = self.method.prepare(
                adapt_key, self.target, position, settings
            )
        return self.method.make(self.target, settings, init_key).init(position), settings, spent

    def _blocks(self, key: Key, state: Any, step: Array, settings: Settings, thin: Array):
        """Make BLOCKS times ``thin`` steps."""
        sampler = self.method.make(self.target, settings, key)
        functions = jax.vmap(self.target.functions)

        def one(_, carry):
            state, step, _, total, cost = carry
            state, info = sampler.step(jax.random.fold_in(key, step), state)
            values = functions(state.position)
            spent = self.method.cost(settings, info)
            return state, step + 1, values, total + values, cost + Cost(*spent).total

        def block(carry, _):
            state, step = carry
            values = jnp.zeros_like(functions(state.position))
            begin = (state, step, values, values, jnp.zeros(values.shape[0]))
            state, step, values, total, cost = jax.lax.fori_loop(0, thin, one, begin)
            return (state, step), (total / thin, values, cost)

        (state, step), kept = jax.lax.scan(block, (state, step), length=BLOCKS)
        return state, step, kept

    def run(self, key: Key, settings: Settings, budget: float, protocol: Protocol):
        """Return the trace of the chains of all seeds up to a budget."""
        start_key, init_key, run_key = jax.random.split(key, 3)
        position = start(start_key, self.target, protocol.seeds * protocol.chains)
        given = {
            name: jnp.asarray(v, jnp.int32 if isinstance(v, int) else jnp.float32)
            for name, v in settings.items()
        }
        state, full, warm_up = self._init(init_key, position, given)
        thin, step = self._thin(settings, protocol), jnp.zeros((), jnp.int32)
        warm_up = np.asarray(warm_up, float)
        kept, spent = [], warm_up
        while spent.min() < budget * (1 - 1e-6):
            state, step, block = self._advance(run_key, state, step, full, thin)
            kept.append(jax.tree.map(lambda leaf: np.asarray(leaf, float), block))
            spent = spent + kept[-1][2].sum(axis=0)
        if not kept:  # the warm-up took the whole budget
            num = len(self.target.mean)
            nothing = np.zeros((0, len(warm_up), num))
            return measures.Trace(nothing, nothing, nothing[..., 0], warm_up)
        means, last, cost = (np.concatenate(leaves) for leaves in zip(*kept, strict=True))
        return measures.Trace(means, last, warm_up + np.cumsum(cost, axis=0), warm_up)

    def _thin(self, settings: Settings, protocol: Protocol) -> int:
        """Return the number of steps of a block; 1 where trajectories have unknown lengths."""
        if self.method.prepare is not None:
            return 1
        each = float(Cost(*self.method.cost(settings, None)).total)
        return max(1, int(protocol.budget / (each * protocol.blocks)))


def evaluate(trace: measures.Trace, target: Target, budget: float, seeds: int) -> np.ndarray:
    """Return the squared error of every seed."""
    estimated = measures.estimates(trace, budget, seeds)
    return measures.squared_errors(estimated, target.mean, target.variance)


def choose(runner: Runner, protocol: Protocol, seed: int) -> tuple[Settings, list[dict]]:
    """Return the settings with the least squared error in pilot runs, and all pilot runs."""
    budget = protocol.budget * protocol.pilot_share
    key = jax.random.fold_in(jax.random.key(seed), PILOT_KEY)
    tried = candidates(runner.method.options(runner.target), protocol.pilots)
    if len(tried) == 1:
        return tried[0], []
    pilots = []
    for settings in tried:
        trace = runner.run(key, settings, budget, protocol)
        error = float(np.mean(evaluate(trace, runner.target, budget, protocol.seeds)))
        pilots.append({"options": settings, "error": error if np.isfinite(error) else None})
    return best_pilot(pilots), pilots


def best_pilot(pilots: list[dict]) -> Settings:
    """Return the options with the least error; the middle ones if no pilot run has an error."""
    finite = [p for p in pilots if p["error"] is not None]
    best = min(finite, key=lambda p: p["error"]) if finite else pilots[len(pilots) // 2]
    return best["options"]


def final(runner: Runner, settings: Settings, protocol: Protocol, seed: int) -> dict[str, Any]:
    """Return the measures of the final seeds."""
    key = jax.random.fold_in(jax.random.key(seed), FINAL_KEY)
    trace = runner.run(key, settings, protocol.budget, protocol)
    estimated = measures.estimates(trace, protocol.budget, protocol.seeds)
    share, t = measures.bias(estimated, runner.target.mean, runner.target.variance)
    sizes = measures.effective_samples(trace, protocol.budget, protocol.seeds)
    return {
        "errors": [
            numbers(evaluate(trace, runner.target, budget, protocol.seeds))
            for budget in protocol.budgets
        ],
        "effective_samples": numbers(sizes),
        "bias_share": share,
        "largest_t": t,
        "warm_up_cost": float(trace.warm_up.mean()),
    }


def numbers(values: np.ndarray) -> list[float | None]:
    """Return values with five significant digits, None where they are not finite."""
    return [float(f"{v:.5g}") if np.isfinite(v) else None for v in np.asarray(values, float)]
