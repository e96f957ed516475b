"""Annealed importance sampling in one call, against exact partition functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from jax.tree_util import Partial

from ebm_jax import distributions, samplers
from ebm_jax.energies import boltzmann
from ebm_jax.partition import annealed, annealed_importance_sampling, estimates, paths

MALA = functools.partial(samplers.mala, step_size=0.3)
BETAS = jnp.linspace(0, 1, 41)


def quadratic(k, x):
    return jnp.sum(k * x**2) / 2


def test_log_z_of_a_gaussian_from_below_and_above(key):
    """Both sides within 5 standard errors: a right estimate fails a key in 1 of 10^6."""
    k = jnp.array([1.0, 4.0, 0.25])
    exact = np.sum(np.log(2 * np.pi / np.asarray(k, np.float64))) / 2
    target = jax.random.normal(jax.random.key(7), (2000, 3)) / jnp.sqrt(k)
    found = annealed_importance_sampling(
        key,
        distributions.gaussian(jnp.zeros(3), 1.5),
        Partial(quadratic, k),
        MALA,
        BETAS,
        num_chains=2000,
        target_samples=target,
    )
    for side in (found, found.upper):
        assert abs(side.log_z - exact) < 5 * side.standard_error
        assert side.interval[0] < side.log_z < side.interval[1]
        assert side.effective_sample_size > 500


def test_log_z_of_a_boltzmann_machine_by_gibbs_sampling(key):
    rng = np.random.default_rng(0)
    machine = boltzmann.BoltzmannMachine(jnp.asarray(rng.normal(size=(6, 6))), jnp.zeros(6))
    energy = functools.partial(boltzmann.boltzmann_machine, machine)
    states = (np.arange(64)[:, None] >> np.arange(6)) & 1
    exact = oracles.log_partition(np.asarray(jax.vmap(energy)(jnp.asarray(states)), np.float64))
    base = distributions.bernoulli(jnp.zeros(6))
    found = annealed_importance_sampling(
        key, base, energy, samplers.systematic_scan_gibbs, BETAS, num_chains=2000
    )
    assert abs(found.log_z - exact) < 5 * found.standard_error
    assert found.upper is None


def test_it_is_the_composition_of_its_parts(key):
    base = distributions.gaussian(jnp.zeros(2), 1.0)
    energy = functools.partial(quadratic, 3.0)
    found = annealed_importance_sampling(key, base, energy, MALA, BETAS, num_chains=50)
    start_key, up_key, _, error_key = jax.random.split(key, 4)
    path = paths.geometric(distributions.energy(base), energy)
    state = annealed.start(path, MALA, base.sample(start_key, 50))
    state, _ = annealed.anneal(up_key, path, MALA, state, BETAS[1:])
    expected = estimates.log_partition(error_key, state)
    np.testing.assert_allclose(found.log_z, expected.log_z, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.standard_error, expected.standard_error, rtol=1e-3)


def test_other_parameters_do_not_compile_again(key):
    traces = []

    def energy(k, x):
        traces.append(k)
        return quadratic(k, x)

    base = distributions.gaussian(jnp.zeros(2), 1.0)
    call = functools.partial(annealed_importance_sampling, betas=BETAS, num_chains=4)
    first = call(key, base, Partial(energy, jnp.ones(2)), MALA)
    count = len(traces)
    second = call(key, base, Partial(energy, 2 * jnp.ones(2)), MALA)
    assert len(traces) == count
    assert first.log_z != second.log_z


@pytest.mark.parametrize("betas", [[0.0, 0.5], [0.1, 1.0], [0.0, 0.5, 0.5, 1.0], [1.0], 0.5])
def test_schedules_that_do_not_lead_from_0_to_1_are_refused(betas, key):
    base = distributions.gaussian(jnp.zeros(2), 1.0)
    with pytest.raises(ValueError, match="betas must"):
        annealed_importance_sampling(key, base, lambda x: x @ x, MALA, betas, num_chains=4)
