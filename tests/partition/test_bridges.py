"""Bridges against closed forms and a root found elsewhere; fixed keys, z-scores within 5."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from ebm_jax.partition import bridges


@pytest.mark.parametrize(("first", "second"), [(50, 50), (200, 30), (1, 7)])
@pytest.mark.sweep(1)
def test_bennett_solves_its_equation(first, second, x64):
    rng = np.random.default_rng(1)
    forward, back = rng.normal(2, 1, first), rng.normal(-1, 2, second)
    ratio = np.log(first / second)

    def difference(c):
        return special.expit(forward - c - ratio).sum() - special.expit(back + c + ratio).sum()

    expected = optimize.brentq(difference, -50, 50, xtol=1e-12)
    np.testing.assert_allclose(bridges.bennett(forward, back).log_z, expected, atol=1e-9)


def test_bennett_on_two_gaussians_and_its_error():
    """log Z_1 / Z_0 = -log 3 + 2 for E_1 = 9 (x - 0.5)^2 / 2 - 2; 400 runs, the error to 15 %."""
    n = 300

    @jax.jit
    @jax.vmap
    def one(key):
        first, second = jax.random.split(key)
        x, y = jax.random.normal(first, (n,)), 0.5 + jax.random.normal(second, (2 * n,)) / 3

        def gap(x):
            return 9 * (x - 0.5) ** 2 / 2 - 2 - x**2 / 2

        return bridges.bennett(-gap(x), gap(y))

    found = one(jax.random.split(jax.random.key(0), 400))
    error = np.asarray(found.log_z, np.float64) - (2 - np.log(3))
    spread = error.std()
    assert abs(error.mean()) < 5 * spread / np.sqrt(400) + spread**2
    np.testing.assert_allclose(np.sqrt(np.mean(found.standard_error**2)), spread, rtol=0.18)


def test_bennett_with_weights_of_zero_and_far_ends():
    found = bridges.bennett(jnp.array([1000.0, 1000.0, -jnp.inf]), jnp.array([-1000.0] * 2))
    assert 999 < float(found.log_z) < 1001
    with pytest.raises(ValueError, match="must be vectors"):
        bridges.bennett(jnp.zeros((2, 2)), jnp.zeros(2))


@pytest.mark.parametrize(
    ("forward", "back", "log_z"),
    [
        ([1.0, np.nan], [1.0, 2.0], np.nan),
        ([1.0, 2.0], [np.nan, 0.0], np.nan),
        ([-np.inf, -np.inf], [1.0, 2.0], -np.inf),
        ([1.0, 2.0], [-np.inf], np.inf),
        ([-np.inf], [-np.inf], np.nan),
    ],
)
def test_bennett_without_overlap_or_with_a_nan_unknown_when_traced(forward, back, log_z):
    found = jax.jit(bridges.bennett)(jnp.array(forward), jnp.array(back))
    np.testing.assert_equal(float(found.log_z), log_z)
    assert np.isnan(found.standard_error)


def test_thermodynamic_integration(x64):
    """log Z(1) / Z(0) = -log(3) of precisions 1 to 9, from 4,000 exact samples at 33 betas."""
    rng = np.random.default_rng(1)
    betas = np.linspace(0, 1, 33) ** 2

    def path(beta, x):
        return (1 + 8 * beta) * x["x"] ** 2 / 2

    x = rng.normal(size=(33, 4000)) / np.sqrt(1 + 8 * betas)[:, None]
    found = bridges.thermodynamic_integration(path, betas, {"x": jnp.asarray(x)})
    slopes = 4 * x**2
    shares = np.convolve(np.diff(betas), [0.5, 0.5])
    by_hand = np.sqrt(np.sum(shares**2 * slopes.var(1, ddof=1) / 4000))
    np.testing.assert_allclose(found.log_z, -np.trapezoid(slopes.mean(1), betas), rtol=1e-12)
    np.testing.assert_allclose(found.standard_error, by_hand, rtol=1e-10)
    mean = 4 / (1 + 8 * betas)
    rule = -np.trapezoid(mean, betas) + np.log(3)  # the trapezoids' own error
    assert abs(rule) < 2e-3
    assert abs(found.log_z + np.log(3) - rule) < 5 * found.standard_error


def test_rows_and_temperatures_must_agree():
    with pytest.raises(ValueError, match="one for each row of positions"):
        bridges.thermodynamic_integration(lambda b, x: b * x, [0.0, 1.0], jnp.zeros((3, 5)))


def test_one_sample_at_each_beta_has_no_error():
    found = bridges.thermodynamic_integration(lambda b, x: b * x, [0.0, 1.0], jnp.ones((2, 1)))
    assert (float(found.log_z), np.isnan(found.standard_error)) == (-1.0, True)


def test_integration_over_an_infinite_energy_is_nan():
    """The slope of beta E is infinite at beta = 0, where the samples may have E = inf."""

    def path(beta, x):
        return jnp.where(beta == 0, 0.0, beta * jnp.where(x == 1, jnp.inf, 0.0))

    at_zero = jnp.array([[0, 1], [0, 0]])
    assert np.isnan(bridges.thermodynamic_integration(path, [0.0, 1.0], at_zero).log_z)
    allowed = jnp.zeros((2, 2), int)
    assert float(bridges.thermodynamic_integration(path, [0.0, 1.0], allowed).log_z) == 0
