"""Ours under blackjax's runner, blackjax's under ours, other libraries' densities as energies.

Moments are z-scores of independent chains, refused beyond 5, with fixed keys.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ebm_jax
from ebm_jax import samplers
from ebm_jax.types import Sampler

blackjax = pytest.importorskip("blackjax")
N = 4000


def energy(x):
    return jnp.sum(x**2) / 2


def vmapped(kernel, num_chains, init_keys=None):
    """One line of glue: a blackjax kernel for one chain, as a Sampler of many."""

    def step(key, state):
        return jax.vmap(kernel.step)(jax.random.split(key, num_chains), state)

    if init_keys is None:
        return Sampler(jax.vmap(kernel.init), step)
    return Sampler(lambda x: jax.vmap(kernel.init)(x, init_keys), step)


def assert_standard_normal(x):
    x = np.asarray(x, np.float64)
    assert np.all(np.abs(x.mean(axis=0)) < 5 / np.sqrt(len(x)))
    assert np.all(np.abs((x**2).mean(axis=0) - 1) < 5 * np.sqrt(2 / len(x)))


@pytest.mark.parametrize(
    "sampler",
    [
        samplers.ula(energy, step_size=0.002),
        samplers.mala(energy, step_size=0.5),
        samplers.baoab(energy, step_size=0.5, friction=1.0),
    ],
    ids=["ula", "mala", "baoab"],
)
def test_ours_run_under_blackjax(sampler):
    start = sampler.init(jax.random.normal(jax.random.key(0), (N, 2)))
    state, history = blackjax.util.run_inference_algorithm(
        jax.random.key(1),
        sampler,
        30,
        initial_state=start,
        transform=lambda state, info: info.energy.mean(),
    )
    assert_standard_normal(state.position)
    assert history.shape == (30,)


@pytest.mark.parametrize(
    ("make", "num_steps"),
    [
        (lambda f: blackjax.hmc(f, 0.5, jnp.ones(2), 4), 10),
        (lambda f: blackjax.nuts(f, 0.5, jnp.ones(2)), 3),
        (lambda f: blackjax.mala(f, 0.3), 30),
    ],
    ids=["hmc", "nuts", "mala"],
)
def test_blackjax_runs_under_ours(make, num_steps):
    sampler = vmapped(make(lambda x: -energy(x)), N)
    run = ebm_jax.jit(
        lambda key, x: samplers.run(
            key, sampler, sampler.init(x), num_steps, collect=lambda s, i: i.acceptance_rate.mean()
        )
    )
    state, acceptance = run(jax.random.key(1), jax.random.normal(jax.random.key(0), (N, 2)))
    assert_standard_normal(state.position)
    assert np.all(acceptance > 0.5)


def test_blackjax_mclmc_runs_under_ours():
    kernel = blackjax.mclmc(lambda x: -energy(x), L=2.0, step_size=0.3)
    sampler = vmapped(kernel, N, jax.random.split(jax.random.key(2), N))
    run = ebm_jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), 40)[0])
    found = np.asarray(run(jax.random.key(1), jnp.zeros((N, 2)) + 0.1).position)
    # Unadjusted: its bias at this step is not known in closed form, only that it is small.
    np.testing.assert_allclose(np.mean(found**2, axis=0), 1, atol=0.15)


def test_blackjax_hmc_tunes_with_our_adaptation():
    def make(energy, step_size):
        return vmapped(blackjax.hmc(lambda x: -energy(x), step_size, jnp.ones(2), 4), 200)

    tune = ebm_jax.jit(
        lambda key, x: samplers.adapt_step_size(
            key,
            energy,
            make,
            x,
            200,
            initial=0.01,
            target=0.8,
        )
    )
    tuned = tune(jax.random.key(0), jax.random.normal(jax.random.key(1), (200, 2)))
    assert abs(tuned.acceptance_rate[100:].mean() - 0.8) < 0.05


def test_a_numpyro_model_is_an_energy():
    numpyro = pytest.importorskip("numpyro")
    from numpyro import distributions as dist
    from numpyro.infer.util import potential_energy

    data = jnp.array([1.0, 2.0, 4.0])

    def model(data):
        mean = numpyro.sample("mean", dist.Normal(0.0, 2.0))
        numpyro.sample("data", dist.Normal(mean, 1.0), obs=data)

    energy = functools.partial(potential_energy, model, (data,), {})  # the one line
    sampler = samplers.mala(energy, step_size=0.2)
    start = {"mean": jnp.repeat(jnp.array([-30.0, 0.0, 1.0, 30.0]), N // 4)}
    run = ebm_jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), 60)[0].position)
    found = run(jax.random.key(1), start)["mean"]
    precision = 1 / 4 + len(data)
    for from_one_start in jnp.split(found, 4):
        assert_standard_normal((from_one_start - data.sum() / precision) * np.sqrt(precision))


def test_a_log_prob_is_an_energy():
    pytest.importorskip("numpyro")
    from numpyro import distributions as dist

    target = dist.MultivariateNormal(jnp.array([1.0, -1.0]), jnp.array([[2.0, 0.5], [0.5, 1.0]]))
    sampler = samplers.mala(lambda x: -target.log_prob(x), step_size=0.3)  # the one line
    run = ebm_jax.jit(lambda key, x: samplers.run(key, sampler, sampler.init(x), 100)[0].position)
    found = run(jax.random.key(1), jnp.zeros((N, 2)))
    white = np.linalg.solve(
        np.linalg.cholesky(target.covariance_matrix), np.asarray(found - target.mean).T
    )
    assert_standard_normal(white.T)
