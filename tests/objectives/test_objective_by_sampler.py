"""Every sampled objective trains with every sampler, ours and blackjax's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import energies, objectives, samplers, training
from ebm_jax.types import Sampler

blackjax = pytest.importorskip("blackjax")
CHAINS = 64
DATA = jnp.asarray(np.random.default_rng(0).normal([0.5, -1.0], 1.0, (40, CHAINS, 2)), jnp.float32)
MEAN = np.asarray(DATA).reshape(-1, 2).mean(0)


def energy(mean, x):
    return energies.gaussian(energies.Gaussian(mean, jnp.ones(2)), x)


def vmapped(make):
    """A blackjax kernel of one chain as a factory of samplers of many."""

    def make_sampler(energy):
        kernel = make(lambda x: -energy(x))

        def step(key, state):
            return jax.vmap(kernel.step)(jax.random.split(key, CHAINS), state)

        return Sampler(jax.vmap(kernel.init), step)

    return make_sampler


SAMPLERS = {
    "ula": functools.partial(samplers.ula, step_size=0.3),
    "mala": functools.partial(samplers.mala, step_size=0.5),
    "sgld": lambda energy: samplers.sgld(lambda key, x: jax.grad(energy)(x), step_size=0.3),
    "baoab": functools.partial(samplers.baoab, step_size=0.8, friction=1.0),
    "tempering": functools.partial(
        samplers.replica_exchange,
        make_sampler=functools.partial(samplers.mala, step_size=0.5),
        betas=[0.3, 1.0],
    ),
    "blackjax.hmc": vmapped(lambda f: blackjax.hmc(f, 0.5, jnp.ones(2), 3)),
    "blackjax.nuts": vmapped(lambda f: blackjax.nuts(f, 0.5, jnp.ones(2))),
    "blackjax.mala": vmapped(lambda f: blackjax.mala(f, 0.5)),
}


def noise(params, key, indices):
    return jax.random.normal(key, (len(indices), 2))


OBJECTIVES = {
    "contrastive_divergence": objectives.contrastive_divergence,
    "short_run": functools.partial(objectives.short_run, num_chains=CHAINS, initial=noise),
    "persistent": functools.partial(
        objectives.persistent,
        num_chains=CHAINS,
        buffer_size=2 * CHAINS,
        initial=noise,
        restart_fraction=0.1,
        burn_in=2,
    ),
}


@pytest.mark.parametrize("make_sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.parametrize("make_objective", OBJECTIVES.values(), ids=OBJECTIVES)
@pytest.mark.sweep(8)
def test_the_mean_of_a_gaussian_is_found(make_objective, make_sampler):
    """40 updates of SGD from (3, 3) towards the mean of the data; |x0 - mean| is 4.7."""
    objective = make_objective(energy, make_sampler, num_steps=5)
    trainer = training.trainer(objective, optax.sgd(0.2))
    state = jax.jit(trainer.init)(jnp.full(2, 3.0), jax.random.key(0))
    state, metrics = trainer.update(state, DATA, jax.random.key(1))
    assert int(metrics["skipped_total"][-1]) == 0
    # SGD's own noise is below 0.1; short chains that lag behind the parameters leave the rest.
    assert np.linalg.norm(state.params - MEAN) < 0.5
    assert np.isfinite(metrics["chains_ready"]).all()
