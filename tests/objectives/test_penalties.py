"""The gradient penalty against a quadratic's closed form, alone and against the likelihood."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ebm_jax.objectives import gradient_penalty, maximum_likelihood, weighted_sum


def quadratic(stiffness, x):
    return stiffness * jnp.sum(x**2) / 2


def value(objective, params, batch):
    @jax.jit
    def loss(params):
        state = objective.init(params, jax.random.key(0))
        return objective.loss(params, state, batch, jax.random.key(1))[0]

    return loss(params)


def test_quadratic():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    found = value(gradient_penalty(quadratic), 3.0, x)
    np.testing.assert_allclose(found, 9 * np.mean(np.sum(x**2, 1)), rtol=1e-5)


def test_gradient_reaches_the_parameters():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    slope = jax.grad(lambda k: value(gradient_penalty(quadratic), k, x))(3.0)
    np.testing.assert_allclose(slope, 6 * np.mean(np.sum(x**2, 1)), rtol=1e-5)


def test_pytrees_sum_over_all_leaves():
    def energy(params, x):
        return params * (jnp.sum(x["a"]) + 2 * x["b"])

    batch = {"a": jnp.zeros((4, 2)), "b": jnp.zeros(4)}
    assert float(value(gradient_penalty(energy), 1.0, batch)) == 6


@pytest.mark.parametrize("beta", [0.5, 4.0])
@pytest.mark.parametrize("weight", [0.01, 0.1])
@pytest.mark.sweep(1)
def test_the_likelihood_of_data_without_spread_stops_at_the_stated_curvature(beta, weight):
    # Without the penalty the best curvature 1 / (beta sigma^2) is infinite.
    states = np.linspace(-8, 8, 20_001, dtype=np.float32)[:, None]
    exact = maximum_likelihood(
        quadratic, states, beta=beta, log_weights=np.full(len(states), np.log(16 / 20_000))
    )
    objective = weighted_sum(
        likelihood=(1.0, exact, lambda batch: batch[0]),
        slope=(weight, gradient_penalty(quadratic), lambda batch: batch[1]),
    )
    batch = jnp.zeros((4, 1)), jnp.array([[-1.0], [1.0], [2.0], [0.0]])
    total = jax.jit(lambda k: value(objective, k, batch))
    found = minimize_scalar(
        lambda log_k: float(total(np.exp(log_k))), bounds=(-2, 5), method="bounded"
    )
    expected = 1 / (2 * np.sqrt(weight * beta * 1.5))
    np.testing.assert_allclose(np.exp(found.x), expected, rtol=0.03)
