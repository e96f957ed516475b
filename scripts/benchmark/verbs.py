"""What one call costs: `sample` and `fit` against the code that a user would write by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ebm_jax
from ebm_jax import distributions, objectives, samplers, training
from ebm_jax.energies import networks
from scripts.benchmark import measure, workloads
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite


def run_verbs(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """MALA by `sample` and by `run`, training by `fit` and by `update` on stacked batches."""
    del peers
    repetitions = max(repetitions, 5)
    chains, warmup, num_samples = (16, 5, 10) if quick else (1_000, 500, 1_000)
    size, batch_size, updates = (64, 8, 4) if quick else (10_000, 256, 300)
    cases, identical = _sampling(chains, warmup, num_samples)
    more, facts = _training(size, batch_size, updates)
    first, times = measure.interleaved(cases | more, repetitions)
    ratios = {
        "sample_vs_composition": measure.speed(times, "sample", "run after run"),
        "fit_vs_update": measure.speed(times, "fit", "update on stacked batches"),
        "fit_vs_stack_and_update": measure.speed(times, "fit", "stack batches, then update"),
    }
    difference = measure.median(times, "fit") - measure.median(times, "update on stacked batches")
    facts |= {"sample_identical": identical, "fit_seconds_per_update": difference / updates}
    work = (
        f"{chains:,} chains x ({warmup:,} + {num_samples:,}) steps of MALA on 8 Gaussians; "
        f"{updates:,} updates of README's first example, batches of {batch_size} of {size:,} points"
    )
    return Suite(work, None, ratios, {}, times, first, facts)


def _sampling(chains: int, warmup: int, num_samples: int) -> tuple[dict[str, measure.Case], bool]:
    """Return both ways to sample, and whether they give the same bits."""
    sampler = samplers.mala(workloads.eight_gaussians, step_size=0.5)
    key, start = jax.random.key(0), jax.random.normal(jax.random.key(1), (chains, 2))

    def in_one_call(key, start):
        return ebm_jax.sample(key, sampler, start, num_samples, warmup=warmup)

    @ebm_jax.jit
    def by_hand(key, start):
        warmup_key, run_key = jax.random.split(key)
        state, _ = samplers.run(warmup_key, sampler, sampler.init(start), warmup)
        state, (position, info) = samplers.run(
            run_key,
            sampler,
            state,
            num_samples,
            collect=lambda state, info: (state.position, info),
        )
        return position, info, state

    both = zip(
        jax.tree.leaves(in_one_call(key, start)), jax.tree.leaves(by_hand(key, start)), strict=True
    )
    identical = all(np.array_equal(one, other) for one, other in both)
    cases = {
        "sample": measure.case(in_one_call, key, start),
        "run after run": measure.case(by_hand, key, start),
    }
    return cases, identical


def _training(size: int, batch_size: int, updates: int) -> tuple[dict[str, measure.Case], dict]:
    """Return both ways to train README's first example, and the memory `fit` needs for itself."""
    network, key = networks.MLP((32, 32)), jax.random.key(0)
    data = jax.random.normal(jax.random.key(1), (size, 2))
    objective = objectives.persistent(
        network.apply,
        functools.partial(samplers.mala, step_size=0.02),
        num_steps=10,
        num_chains=batch_size,
        initial=distributions.uniform(jnp.full(2, -2.0), jnp.full(2, 2.0)),
    )
    optimizer = optax.adam(3e-3)
    trainer = training.trainer(objective, optimizer)
    start = trainer.init(network.init(key, data[0]), key)

    def in_one_call(start, data):
        return training.fit(
            key, objective, optimizer, start, data, batch_size=batch_size, num_updates=updates
        )

    @ebm_jax.jit
    def stack(key, data):
        whole = size // batch_size  # batches of an epoch
        keys = jax.random.split(key, -(-updates // whole))
        orders = jax.vmap(lambda k: jax.random.permutation(k, size)[: whole * batch_size])(keys)
        return data[orders.reshape(-1, batch_size)[:updates]]

    def by_hand(start, data, key):
        return trainer.update(start, stack(key, data), key)

    batches = stack(key, data)
    compiled = ebm_jax.jit(in_one_call).lower(start, data).compile()
    facts = {
        "fit_temporary_bytes": compiled.memory_analysis().temp_size_in_bytes,
        "fit_data_bytes": data.nbytes,
    }
    cases = {
        "fit": measure.case(in_one_call, start, data),
        "update on stacked batches": measure.case(trainer.update, start, batches, key),
        "stack batches, then update": measure.case(by_hand, start, data, key),
    }
    return cases, facts
