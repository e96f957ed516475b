"""Effective samples a second of MALA, ours and blackjax's, at the same tuned step size."""

import functools
import statistics

import jax
import jax.numpy as jnp

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


def blackjax_mala(energy: Energy, step_size: jax.Array) -> Sampler:
    """Return blackjax's MALA over a batch of chains."""
    import blackjax

    kernel = blackjax.mala(lambda x: -energy(x), step_size)

    def step(key, state):
        return jax.vmap(kernel.step)(jax.random.split(key, state.logdensity.shape[0]), state)

    return Sampler(jax.vmap(kernel.init), step)


def run_efficiency(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Effective samples a second of the slowest coordinate, the step size tuned for both."""
    num_chains, steps, warm_up = (8, 40, 20) if quick else (100, 4000, 1000)
    cases, sizes, facts = {}, {}, {}
    for name, (params, closed_form, dimension) in TARGETS.items():
        energy = functools.partial(closed_form, params)
        start = 0.1 * jax.random.normal(jax.random.key(1), (num_chains, dimension))

        @ebm_jax.jit
        def tune(key, x, energy=energy):
            return samplers.adapt_step_size(key, energy, samplers.mala, x, warm_up, initial=0.01)

        tuned = tune(jax.random.key(2), start)
        facts[f"step_size_{name}"] = float(tuned.step_size)
        by_name = {"ours": samplers.mala(energy, step_size=tuned.step_size)}
        if "blackjax" in peers:
            by_name["blackjax"] = blackjax_mala(energy, tuned.step_size)
        for who, sampler in by_name.items():

            def run(key, x, sampler=sampler):
                state = sampler.init(x)
                return samplers.run(key, sampler, state, steps, collect=_position, thin=4)[1]

            compiled = ebm_jax.jit(run)
            cases[f"{who}, {name}"] = measure.case(compiled, jax.random.key(3), tuned.position)
            # Chains that get stuck make one estimate unreliable: the median over keys.
            sizes[f"{who}, {name}"] = statistics.median(
                float(diagnostics.ess(compiled(jax.random.key(3 + i), tuned.position)).min())
                for i in range(repetitions)
            )
    first, times = measure.interleaved(cases, repetitions)
    rates = {case: size / statistics.median(times[case]) for case, size in sizes.items()}
    facts |= {f"ess_a_second, {case}": rate for case, rate in rates.items()}
    ratios = {
        f"ess_{name}": rates[f"ours, {name}"] / rates[f"blackjax, {name}"]
        if f"blackjax, {name}" in rates
        else None
        for name in TARGETS
    }
    work = (
        f"MALA, {num_chains} chains x {steps:,} steps: effective samples per second. Both samplers "
        "make the same moves with the same step size, so that their effective sample sizes differ "
        "by the error of the estimate alone: compare the times as well"
    )
    peers_found = {f"blackjax.mala, {name}": ratios[f"ess_{name}"] for name in TARGETS}
    return Suite(work, num_chains * steps, ratios, peers_found, times, first, facts)


def _position(state, info):
    del info
    return state.position
