import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest
from scipy.special import i0e

from ebm_jax import energies, inference


def ellipse(y, z):
    """E(y, z) = |y - (2 cos z, 1.5 sin z)|^2."""
    return jnp.sum((y - jnp.array([2 * jnp.cos(z), 1.5 * jnp.sin(z)])) ** 2)


ANGLES = np.arange(720) * 2 * np.pi / 720
# Computed independently from I_0; see also the Bessel form below.
AT_ORIGIN = {1.0: 2.9420432484, 10.0: 2.4488242776}


def test_argmin_over_a_finite_set():
    candidates = {"a": jnp.array([3.0, 1.0, 2.0]), "b": jnp.array([0, 1, 2])}
    best, value = inference.argmin_over(lambda y: y["a"] ** 2, candidates)
    assert (float(best["a"]), int(best["b"]), float(value)) == (1.0, 1, 1.0)


def test_minimize_finds_the_global_minimum_among_restarts():
    well = energies.DoubleWell(barrier=2.0, tilt=0.5)
    energy = energies.condition(energies.double_well, well)
    starts = jnp.linspace(-2, 2, 8)[:, None]
    found = jax.jit(
        lambda s: inference.minimize(energy, s, optimizer=optax.adam(0.05), num_steps=400)
    )(starts)
    grid = np.linspace(-2, 2, 100_001)
    values = 2 * (grid**2 - 1) ** 2 + 0.5 * grid
    np.testing.assert_allclose(found.position[0], grid[values.argmin()], atol=1e-3)
    np.testing.assert_allclose(found.energy, values.min(), atol=1e-5)
    assert bool(found.converged)
    # Both wells were found, and the worse one was not chosen.
    assert np.ptp(np.sign(np.asarray(found.positions))) == 2


def test_minimize_says_what_did_not_converge():
    def minimize(energy, starts, rate, num_steps):
        return jax.jit(
            lambda s: inference.minimize(energy, s, optimizer=optax.sgd(rate), num_steps=num_steps)
        )(starts)

    slow = minimize(lambda y: jnp.sum(y**2), jnp.ones((1, 2)), 1e-4, 3)
    assert not bool(slow.converged)
    # One restart diverges: it is reported as NaN and never chosen.
    mixed = minimize(lambda y: y**4, jnp.array([0.1, 100.0]), 0.1, 50)
    assert np.isnan(mixed.energies).tolist() == [False, True]
    assert abs(float(mixed.position)) <= 0.1
    lost = minimize(lambda y: y**4, jnp.array([100.0]), 0.1, 50)
    assert np.isnan(lost.energy)
    assert not bool(lost.converged)


@pytest.mark.parametrize("beta", [1.0, 10.0])
def test_free_energy_of_the_ellipse(beta, x64):
    """At the origin -1/beta log I_0 in closed form; the trapezoid rule is exact to rounding."""
    free = jax.jit(inference.marginalize_over(ellipse, ANGLES, beta=beta, mean=True))
    bessel = 3.125 - (np.log(i0e(0.875 * beta)) + 0.875 * beta) / beta
    np.testing.assert_allclose(bessel, AT_ORIGIN[beta], atol=1e-9)
    np.testing.assert_allclose(free(np.zeros(2)), AT_ORIGIN[beta], atol=1e-9)


def test_free_energy_limits(x64):
    limits = (
        inference.marginalize_over(ellipse, ANGLES, beta=0.0, mean=True),
        inference.marginalize_over(ellipse, ANGLES, beta=jnp.inf),
        inference.minimize_over(ellipse, ANGLES),
    )
    found = jax.jit(lambda y: [limit(y) for limit in limits])(np.zeros(2))
    np.testing.assert_allclose(found, [3.125, 2.25, 2.25], atol=1e-12)


@pytest.mark.parametrize("radius", [0.5, 2.0])
def test_free_energy_of_the_circle(radius, x64):
    """|y|^2 + r^2 - 1/beta log I_0(2 beta r |y|)."""
    beta, y = 3.0, np.array([0.4, -0.7])

    def circle(y, z):
        return jnp.sum((y - radius * jnp.array([jnp.cos(z), jnp.sin(z)])) ** 2)

    free = jax.jit(inference.marginalize_over(circle, ANGLES, beta=beta, mean=True))
    argument = 2 * beta * radius * np.linalg.norm(y)
    expected = y @ y + radius**2 - (np.log(i0e(argument)) + argument) / beta
    np.testing.assert_allclose(free(y), expected, atol=1e-10)


@pytest.mark.parametrize("beta", [0.5, 4.0, np.inf])
def test_gradients_through_inference(beta, x64):
    """Envelope theorem for the minimum, posterior expectation for F_beta; finite differences."""
    free = inference.marginalize_over(ellipse, ANGLES, beta=beta)
    if beta == np.inf:
        free = inference.minimize_over(ellipse, ANGLES)
    free, y = jax.jit(free), np.array([0.9, 1.3])
    gradient = jax.jit(jax.grad(free))(y)
    np.testing.assert_allclose(gradient, oracles.finite_difference(free, y), atol=1e-5)
    of_each = jax.jit(jax.vmap(jax.value_and_grad(ellipse), (None, 0)))
    values, slopes = map(np.asarray, of_each(y, ANGLES))
    p = (values == values.min()) if beta == np.inf else oracles.probabilities(values, beta)
    np.testing.assert_allclose(gradient, p @ slopes, atol=1e-10)


def test_minimize_over_a_continuous_latent(x64):
    """Descent from a coarse grid reaches what a fine grid finds, and its gradient."""
    starts, y = ANGLES[::90], np.array([0.9, 1.3])
    continuous = inference.minimize_over(ellipse, starts, optimizer=optax.adam(0.05), num_steps=600)
    fine = inference.minimize_over(ellipse, np.linspace(0, 2 * np.pi, 20_000))
    (value, slope), (least, expected) = (
        jax.jit(jax.value_and_grad(free))(y) for free in (continuous, fine)
    )
    np.testing.assert_allclose(value, least, atol=1e-6)
    np.testing.assert_allclose(slope, expected, atol=1e-3)
