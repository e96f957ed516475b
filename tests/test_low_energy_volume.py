"""The volume of low energy against areas and masses known in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.diagnostics import low_energy_volume


def square(size=400, half=4.0):
    axis = (np.arange(size) + 0.5) * 2 * half / size - half
    return np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)


def test_gaussian_disc_has_the_area_of_the_chi_square_quantile():
    # |y|^2 of a standard normal in the plane has the quantile -2 log(1 - mass).
    rng = np.random.default_rng(0)
    data = np.sum(rng.normal(size=(200_000, 2)) ** 2, 1) / 2
    plane = np.sum(square() ** 2, 1) / 2
    for mass in (0.5, 0.9, 0.95):
        expected = np.pi * -2 * np.log(1 - mass) / 64
        # five standard errors of the quantile: sqrt(m (1 - m) / n) / density
        error = 5 * 2 * np.pi / 64 * np.sqrt(mass / ((1 - mass) * 200_000))
        found = low_energy_volume(jnp.asarray(plane), jnp.asarray(data), mass=mass)
        assert abs(float(found) - expected) < error + 1e-3


def test_unchanged_by_temperature_and_offset():
    rng = np.random.default_rng(1)
    energies, data = jnp.asarray(rng.normal(size=5000)), jnp.asarray(rng.normal(size=500) - 1)
    volume = float(low_energy_volume(energies, data))
    assert 0 < volume < 1
    assert float(low_energy_volume(4 * energies + 8, 4 * data + 8)) == pytest.approx(volume)


def test_flat_is_one_and_separated_is_nothing():
    # 0.1 has no exact binary form: the quantile of equal numbers must not fall below them.
    for size in (3, 7, 1000):
        assert float(low_energy_volume(jnp.full(9, 0.1), jnp.full(size, 0.1))) == 1
    assert float(low_energy_volume(jnp.ones(9), jnp.zeros(9))) == 0


def test_weights_are_volumes_and_a_zero_weight_is_a_mask():
    energies, data = jnp.array([0.0, 1.0, 0.0]), jnp.array([0.5])
    log_weights = jnp.log(jnp.array([3.0, 1.0, 0.0]))
    assert float(low_energy_volume(energies, data, log_weights=log_weights)) == pytest.approx(
        0.75, rel=1e-5
    )
    shifted = low_energy_volume(energies, data, log_weights=log_weights - 200.0)
    assert float(shifted) == pytest.approx(0.75, rel=1e-5)


def test_nan_is_not_hidden_and_infinity_is_an_energy():
    assert np.isnan(low_energy_volume(jnp.zeros(3), jnp.array([0.0, jnp.nan])))
    assert float(low_energy_volume(jnp.array([0.0, jnp.inf]), jnp.zeros(4))) == 0.5
