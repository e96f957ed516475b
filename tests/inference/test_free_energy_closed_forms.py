"""Free energies over a latent angle against Bessel functions; candidates as NumPy arrays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ive

from ebm_jax import inference

ANGLES = np.linspace(0, 2 * np.pi, 512, endpoint=False).astype(np.float32)


def log_bessel(x):
    return np.log(ive(0, x)) + x


def distance_to_ellipse(y, z):
    return jnp.sum((y - jnp.stack([2 * jnp.cos(z), 1.5 * jnp.sin(z)])) ** 2)


RADIUS = 1.5


def distance_to_circle(y, z):
    return jnp.sum((y - RADIUS * jnp.stack([jnp.cos(z), jnp.sin(z)])) ** 2)


@functools.partial(jax.jit, static_argnums=0)
def free_energy(energy, y, beta):
    return inference.marginalize_over(energy, ANGLES, beta=beta, mean=True)(y)


@pytest.mark.parametrize(
    ("beta", "expected"), [(0.0, 3.125), (1.0, 2.9420432484), (10.0, 2.4488242776), (np.inf, 2.25)]
)
def test_ellipse_at_the_origin(beta, expected):
    found = free_energy(distance_to_ellipse, jnp.zeros(2), beta)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.01, 0.3, 1.0, 7.0, 100.0])
def test_ellipse_at_the_origin_over_temperatures(beta):
    found = free_energy(distance_to_ellipse, jnp.zeros(2), beta)
    expected = 3.125 - log_bessel(0.875 * beta) / beta
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("beta", [0.1, 1.0, 20.0])
@pytest.mark.parametrize("y", [(0.0, 0.0), (1.0, -0.5), (3.0, 2.0)])
def test_circle_anywhere(beta, y):
    length = float(np.hypot(*y))
    expected = length**2 + RADIUS**2 - log_bessel(2 * beta * RADIUS * length) / beta
    found = free_energy(distance_to_circle, jnp.array(y), beta)
    np.testing.assert_allclose(found, expected, rtol=2e-5)


def test_numpy_candidates_under_jit_and_vmap():
    free = inference.minimize_over(distance_to_ellipse, ANGLES)
    ys = jnp.array([[2.0, 0.0], [0.0, 0.0], [3.0, 0.0]])
    np.testing.assert_allclose(jax.jit(jax.vmap(free))(ys), [0.0, 2.25, 1.0], atol=1e-5)
