"""Tweedie's formula against the posterior mean, by closed form and by quadrature."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import inference


@pytest.mark.parametrize("beta", [0.5, 1.0, 3.0])
def test_a_gaussian(beta):
    """Data N(m, S), noise sigma: E[x0 | x] = m + S (S + sigma^2)^-1 (x - m)."""
    mean, spread, noise = np.array([1.0, -2.0]), np.array([[2.0, 0.6], [0.6, 0.5]]), 0.7
    total = spread + noise**2 * np.eye(2)
    precision = jnp.asarray(np.linalg.inv(total), jnp.float32) / beta

    def energy(x):  # exp(-beta E) is the density of the noisy data
        return (x - mean) @ precision @ (x - mean) / 2

    x = np.random.default_rng(0).normal(size=(20, 2))
    found = inference.denoise(energy, jnp.asarray(x, jnp.float32), sigma=noise, beta=beta)
    expected = mean + (x - mean) @ np.linalg.inv(total) @ spread
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_two_points(x64):
    """Data at -1 and 1: the posterior mean is tanh(x / sigma^2), here by the two weights."""
    noise, x = 0.6, np.linspace(-3, 3, 41)

    def energy(y):
        return -jax.nn.logsumexp(-(jnp.stack([y - 1, y + 1]) ** 2) / (2 * noise**2))

    weights = np.exp(-((x[:, None] - np.array([-1, 1])) ** 2) / (2 * noise**2))
    expected = weights @ [-1, 1] / weights.sum(1)
    np.testing.assert_allclose(inference.denoise(energy, x, sigma=noise), expected, atol=1e-12)


def test_what_is_carried_stays_and_types_are_kept(key):
    position = {"x": jnp.ones((3, 2), jnp.bfloat16), "y": jnp.arange(3)}
    found = inference.denoise(lambda c: jnp.sum(c["x"]) * c["y"], position, sigma=0.5)
    assert found["x"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["y"], position["y"])
    np.testing.assert_allclose(
        found["x"].astype(float), 1 - 0.25 * np.arange(3)[:, None] * [1, 1], rtol=1e-2
    )
