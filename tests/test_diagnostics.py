import sys

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import diagnostics


def test_energy_gap_and_collapse():
    found = diagnostics.energy_gap(
        lambda p, x: p * x, 2.0, jnp.array([1.0, 2.0]), jnp.array([4.0, 7.0])
    )
    assert float(found["energy_positive"]) == 3
    assert float(found["energy_negative"]) == 11
    assert float(found["energy_gap"]) == 8
    np.testing.assert_allclose(found["energy_spread"], np.std([2, 4, 8, 14]))
    flat = diagnostics.energy_gap(lambda p, x: 0 * x, None, jnp.ones(3), jnp.zeros(3))
    assert float(flat["energy_spread"]) == 0


def test_gradient_norms_over_a_pytree():
    position = {"a": jnp.array([[3.0], [0.0]]), "b": jnp.array([4.0, 2.0])}
    norms = diagnostics.gradient_norms(
        lambda x: jnp.sum(x["a"] ** 2) / 2 + x["b"] ** 2 / 2, position
    )
    np.testing.assert_allclose(norms, [5.0, 2.0])


def autoregressive(rho, steps=4000, chains=4, seed=0):
    rng = np.random.default_rng(seed)
    x = np.zeros((steps, chains))
    for t in range(1, steps):
        x[t] = rho * x[t - 1] + np.sqrt(1 - rho**2) * rng.normal(size=chains)
    return x


def test_ess_of_an_autoregression():
    """n (1 - rho) / (1 + rho), within the noise of an estimate."""
    x = autoregressive(0.8)
    expected = x.size * (1 - 0.8) / (1 + 0.8)
    np.testing.assert_allclose(diagnostics.ess(x), expected, rtol=0.15)


def test_rhat_sees_chains_that_disagree():
    x = autoregressive(0.5)
    assert diagnostics.rhat(x) < 1.01
    assert diagnostics.rhat(x + 3 * np.arange(4)) > 1.5


def test_the_axes_are_those_of_run():
    """(steps, chains, coordinates): one number a coordinate."""
    x = np.stack([autoregressive(0.0), autoregressive(0.9, seed=1)], axis=-1)
    both = diagnostics.ess(x)
    assert both.shape == diagnostics.rhat(x).shape == (2,)
    assert both[0] > 5 * both[1]


def test_missing_arviz_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_stats.base", None)
    with pytest.raises(ImportError, match=r"ebm_jax\[diagnostics\]"):
        diagnostics.ess(np.zeros((8, 2)))
