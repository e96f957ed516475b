"""Effective samples per second and per gradient: our MALA, blackjax's MALA and NUTS.

Both MALA make the same moves with the same tuned step size. NUTS adapts its own step size and its
scales by blackjax's window adaptation, which is not timed, like the tuning of MALA.
"""

import functools
import statistics
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import diagnostics, energies, samplers
from ebm_jax.types import Energy, Sampler
from scripts.benchmark import measure
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite

TARGETS = {
    # Standard deviations from 0.1 to 1 in 50 dimensions.
    "gaussian": (
        energies.Gaussian(jnp.zeros(50), jnp.logspace(0, 2, 50)),
        energies.gaussian,
        50,
    ),
    "funnel": (energies.Funnel(1.0), energies.funnel, 10),
}
WITH_NUTS = ("gaussian",)  # MALA does not visit all of the funnel: its sizes there do not compare
KEYS = 10  # runs of each sampler, whose effective sample sizes give the interval
CONFIDENCE = 0.95


class Sizes(NamedTuple):
    """How many chains, steps and steps of tuning; NUTS makes many gradients a step."""

    chains: int
    steps: int
    warm_up: int
    nuts_steps: int


FULL, QUICK = Sizes(100, 4000, 1000, 200), Sizes(8, 40, 20, 8)

Run = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]  # -> positions, gradients


def blackjax_mala(energy: Energy, step_size: jax.Array) -> Sampler:
    """Return blackjax's MALA over a batch of chains."""
    import blackjax

    kernel = blackjax.mala(lambda x: -energy(x), step_size)

    def step(key, state):
        return jax.vmap(kernel.step)(jax.random.split(key, state.logdensity.shape[0]), state)

    return Sampler(jax.vmap(kernel.init), step)


def metropolis(sampler: Sampler, steps: int) -> Run:
    """Return a run of MALA, which evaluates one gradient a step: every fourth position."""

    def run(key, x):
        state = sampler.init(x)
        positions = samplers.run(key, sampler, state, steps, collect=_position, thin=4)[1]
        return positions, jnp.asarray(steps * len(x))

    return run


def nuts(energy: Energy, key: jax.Array, start: jax.Array, sizes: Sizes) -> Run:
    """Return a run of blackjax's NUTS over a batch of chains, adapted on one chain before."""
    import blackjax

    def log_density(x):
        return -energy(x)

    adaptation = blackjax.window_adaptation(blackjax.nuts, log_density)
    (_, tuned), _ = jax.jit(adaptation.run, static_argnums=2)(key, start[0], sizes.warm_up)
    kernel = blackjax.nuts(log_density, **tuned)

    def run(key, x):
        def one(state, t):
            keys = jax.random.split(jax.random.fold_in(key, t), len(x))
            state, info = jax.vmap(kernel.step)(keys, state)
            return state, (state.position, info.num_integration_steps)

        _, (positions, gradients) = jax.lax.scan(
            one, jax.vmap(kernel.init)(x), jnp.arange(sizes.nuts_steps)
        )
        return positions, jnp.sum(gradients)

    return run


def runs(energy: Energy, start: jax.Array, sizes: Sizes, *, blackjax: bool, with_nuts: bool):
    """Return the tuned positions, the step size, and every sampler's run by name."""

    @ebm_jax.jit
    def tune(key, x):
        return samplers.adapt_step_size(key, energy, samplers.mala, x, sizes.warm_up, initial=0.01)

    tuned = tune(jax.random.key(2), start)
    found = {"ours": metropolis(samplers.mala(energy, step_size=tuned.step_size), sizes.steps)}
    if blackjax:
        theirs = blackjax_mala(energy, tuned.step_size)
        found["blackjax.mala"] = metropolis(theirs, sizes.steps)
    if blackjax and with_nuts:
        found["blackjax.nuts"] = nuts(energy, jax.random.key(4), tuned.position, sizes)
    return tuned, {name: ebm_jax.jit(run) for name, run in found.items()}


def ratio_interval(ours: list[float], theirs: list[float], times: float) -> list[float]:
    """Return the bootstrap interval of median(ours) / median(theirs), multiplied by ``times``."""
    rng = np.random.default_rng(0)

    def medians(sizes: list[float]) -> np.ndarray:
        return np.median(rng.choice(sizes, (2000, len(sizes))), axis=1)

    ends = np.array([1 - CONFIDENCE, 1 + CONFIDENCE]) / 2
    return [float(q) for q in np.quantile(times * medians(ours) / medians(theirs), ends)]


def run_efficiency(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Effective samples per second and per gradient, of the slowest coordinate."""
    sizes = QUICK if quick else FULL
    keys = 2 if quick else KEYS
    cases, ess, facts = {}, {}, {}
    for target, (params, closed_form, dimension) in TARGETS.items():
        energy = functools.partial(closed_form, params)
        start = 0.1 * jax.random.normal(jax.random.key(1), (sizes.chains, dimension))
        given = {"blackjax": "blackjax" in peers, "with_nuts": target in WITH_NUTS}
        tuned, compiled = runs(energy, start, sizes, **given)
        facts[f"step_size_{target}"] = float(tuned.step_size)
        for who, run in compiled.items():
            name = f"{who}, {target}"
            cases[name] = measure.case(run, jax.random.key(3), tuned.position)
            # Chains that get stuck make one estimate unreliable: the median over keys.
            found = [run(jax.random.key(3 + i), tuned.position) for i in range(keys)]
            ess[name] = [float(diagnostics.ess(positions).min()) for positions, _ in found]
            gradients = statistics.median(float(gradients) for _, gradients in found)
            per_gradient = 1000 * statistics.median(ess[name]) / gradients
            facts[f"effective samples per 1,000 gradients, {name}"] = per_gradient
    first, times = measure.interleaved(cases, repetitions)
    return compared(sizes, ess, first, times, facts)


def compared(sizes: Sizes, ess: dict, first: dict, times: dict, facts: dict) -> Suite:
    """Return the ratios of the rates of ours and of the peers, with their intervals.

    MALA of a peer makes the same moves as ours, so it is compared by its time.
    """
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    rates = {name: statistics.median(found) / median[name] for name, found in ess.items()}
    facts |= {f"effective samples per second, {name}": rate for name, rate in rates.items()}
    peers_found: dict[str, float | None] = {}
    baselines = {}
    ratios: dict[str, float | None] = {f"ess_{target}": None for target in TARGETS}
    for name in (name for name in rates if not name.startswith("ours")):
        target = name.split(", ")[1]
        ours = f"ours, {target}"
        ratio = rates[ours] / rates[name]
        ends = ratio_interval(ess[ours], ess[name], median[name] / median[ours])
        if name.startswith("blackjax.mala"):
            peers_found[name], baselines[name] = median[name] / median[ours], ours
            ratios[f"ess_{target}"] = ratio
            facts[f"95 % interval of ess_{target}"] = ends
        else:
            rated = f"{name}, effective samples per second"
            peers_found[rated] = ratio
            facts[f"95 % interval of the ratio, {rated}"] = ends
    work = (
        f"{sizes.chains} chains: MALA, {sizes.steps:,} steps, on a Gaussian in 50 dimensions with "
        "standard deviations from 0.1 to 1 and on a funnel in 10 dimensions, and NUTS, "
        f"{sizes.nuts_steps} steps, on the Gaussian. Both are tuned in {sizes.warm_up:,} steps "
        "that are not timed: MALA its step size, NUTS its step size and a diagonal mass matrix "
        "(one scale for each coordinate), by blackjax's window adaptation. Effective sample sizes "
        "are those of the slowest coordinate. They do not show a part of the target that no chain "
        "visits. MALA does not visit all of the funnel, so that only the two implementations of "
        "MALA are compared there. [The benchmark of samplers](samplers_benchmark.md) has squared "
        "errors; there MALA has a smaller step size on the funnel, because it is chosen for a "
        "small error, and other effective samples. Here both implementations of MALA make the same "
        "moves with the same step size: their ratio is that of the times, and their effective "
        "samples per gradient agree within the error of the estimates. "
        "NUTS is another algorithm, so its ratio is that of effective samples per second. Its "
        "interval is from a bootstrap over the random keys of the runs, without the error of the "
        "times. Gradients are cheap here, so that the overhead of NUTS counts, and all chains wait "
        "for the longest trajectory of a step; where gradients are expensive, look at the "
        "effective samples per gradient"
    )
    return Suite(work, None, ratios, peers_found, times, first, facts, baselines)


def _position(state, info):
    del info
    return state.position
