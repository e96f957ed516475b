"""Negatives that depend on parameters: a sampler network's, and those of improved CD."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from objective_checks import assert_optimum, gaussian
from scipy.spatial import cKDTree
from scipy.special import digamma, gammaln

from ebm_jax import objectives, samplers, training
from ebm_jax.objectives import AmortizedParams


def bowl(k, x):
    return k * jnp.sum(x**2) / 2


def draw(log_scale, key, n):
    xi = jax.random.normal(key, (n, 2))
    log_density = jax.scipy.stats.norm.logpdf(xi).sum(1) - 2 * log_scale
    return jnp.exp(log_scale) * xi, log_density


def test_the_two_gradients_and_the_bound():
    """q = N(0, s^2 I) in 2 dimensions, 100,000 draws: all is known, to 4 standard errors."""
    k, scale, num = 1.7, 0.6, 100_000
    objective = objectives.amortized(bowl, draw, num_samples=num)
    x = 0.4 * jax.random.normal(jax.random.key(1), (512, 2))
    params = AmortizedParams(k, float(np.log(scale)))
    loss = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (_, (_, metrics)), gradient = loss(params, (), x, jax.random.key(0))
    error = 4 / np.sqrt(num)
    assert abs(gradient.energy - (np.mean(np.sum(x**2, 1)) / 2 - scale**2)) < error * scale**2
    assert abs(gradient.sampler - 2 * (k * scale**2 - 1)) < 2 * error
    entropy = np.log(2 * np.pi * np.e) + 2 * np.log(scale)
    assert abs(metrics["entropy"] - entropy) < error
    # log Z less the divergence between the two Gaussians.
    divergence = k * scale**2 - 1 - np.log(k * scale**2)
    bound = np.log(2 * np.pi / k) - divergence
    assert abs(metrics["log_partition_bound"] - bound) < 2 * error


def test_the_bound_is_tight_where_the_sampler_is_the_model():
    objective = objectives.amortized(bowl, draw, num_samples=3)
    params = AmortizedParams(4.0, float(np.log(0.5)))
    _, (_, metrics) = objective.loss(params, (), jnp.ones((2, 2)), jax.random.key(0))
    np.testing.assert_allclose(metrics["log_partition_bound"], np.log(2 * np.pi / 4), rtol=1e-6)


def test_the_penalty_is_on_the_squared_energies_of_data_and_draws():
    """The energy's gradient gets a d/dk (mean E^2); that of the sampler does not change."""
    x, a = jnp.array([[1.0, 0.0], [0.0, 2.0]]), 0.3
    params = AmortizedParams(1.5, float(np.log(0.5)))
    drawn = np.asarray(draw(params.sampler, jax.random.key(0), 4)[0], np.float64)
    halves = [np.sum(np.asarray(z, np.float64) ** 2, axis=1) / 2 for z in (x, drawn)]
    plain, penalised = (
        jax.grad(objectives.amortized(bowl, draw, num_samples=4, **o).loss, has_aux=True)(
            params, (), x, jax.random.key(0)
        )[0]
        for o in ({}, {"energy_penalty": a})
    )
    expected = a * 2 * params.energy * sum(np.mean(h**2) for h in halves)
    np.testing.assert_allclose(penalised.energy - plain.energy, expected, rtol=1e-5)
    assert penalised.sampler == plain.sampler


def test_both_are_trained_each_by_its_own_optimiser():
    """The energy's k becomes 1 / variance of the data, and the sampler follows."""
    data = 0.5 * jax.random.normal(jax.random.key(2), (100, 256, 2))
    objective = objectives.amortized(bowl, draw, num_samples=256)
    optimizer = optax.multi_transform(
        {"energy": optax.adam(0.05), "sampler": optax.adam(0.05)},
        AmortizedParams("energy", "sampler"),
    )
    trainer = training.trainer(objective, optimizer, average_decay=0.9)
    state = trainer.init(AmortizedParams(1.0, 0.0), jax.random.key(0))
    batches = jnp.concatenate([data] * 3)
    state, _ = trainer.update(state, batches, jax.random.key(1))
    variance = float(jnp.mean(data**2))
    # Adam wanders by its learning rate, 0.05 of the logarithm and of k.
    assert abs(state.average.energy * variance - 1) < 0.1
    assert abs(np.exp(2 * state.average.sampler) / variance - 1) < 0.15


@pytest.mark.parametrize("dimension", [1, 3])
def test_the_entropy_is_that_of_a_tree(dimension):
    x = np.random.default_rng(0).normal(size=(300, dimension))
    radius = cKDTree(x).query(x, 2)[0][:, 1]
    log_ball = dimension / 2 * np.log(np.pi) - gammaln(dimension / 2 + 1)
    wanted = dimension * np.log(radius).mean() + log_ball + np.log(299) - digamma(1)
    found = objectives.nearest_neighbor_entropy(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, wanted, atol=1e-3)
    known = dimension * np.log(2 * np.pi * np.e) / 2
    assert abs(found - known) < 0.25  # its standard deviation at 300 samples is 0.06 to 0.09


@pytest.mark.parametrize(("num_steps", "last_steps"), [(1, 1), (3, 1), (3, 3)])
@pytest.mark.sweep(1)
def test_the_gradient_through_the_last_steps(num_steps, last_steps):
    """Gradient descent on k x^2 / 2 ends at (1 - h k)^K x: every term is a power of k."""
    k, h, weight = 1.3, 0.1, 0.7
    x = jnp.asarray(np.random.default_rng(1).normal(size=(32, 2)), jnp.float32)
    objective = objectives.improved_contrastive_divergence(
        bowl,
        functools.partial(samplers.ula, step_size=h, beta=jnp.inf),
        num_steps=num_steps,
        last_steps=last_steps,
        entropy_weight=weight,
    )
    loss = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (_, (_, metrics)), gradient = loss(k, (), x, jax.random.key(0))
    square, shrunk = np.mean(np.sum(np.asarray(x) ** 2, 1)), (1 - h * k) ** num_steps
    contrast = square / 2 - shrunk**2 * square / 2
    # d/dk of the ends through the last steps alone: -h last_steps / (1 - h k) times themselves.
    rate = -h * last_steps / (1 - h * k)
    follow, entropy = k * shrunk**2 * square * rate, 2 * rate
    np.testing.assert_allclose(gradient, contrast + follow - weight * entropy, rtol=1e-4)
    np.testing.assert_allclose(metrics["energy_negative"], k * shrunk**2 * square / 2, rtol=1e-5)


def test_improved_contrastive_divergence_has_its_optimum_at_the_data():
    make_sampler = functools.partial(samplers.ula, step_size=0.05)
    objective = objectives.improved_contrastive_divergence(gaussian, make_sampler, num_steps=4)
    assert_optimum(objective, wrong=3.0, num=48)
