import sys
import warnings

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
    with pytest.raises(ImportError, match=r"pip install 'arviz-stats"):
        diagnostics.ess(np.zeros((8, 2)))


def frozen(kind):
    """Return histories that say nothing of a coordinate, beside two that are fine."""
    x = np.stack([autoregressive(0.3, 500, seed=seed) for seed in range(3)], axis=-1)
    if kind == "constant":
        x[..., 1] = 2.0
    elif kind == "constants":
        x[..., 1] = np.arange(4)
    else:
        x[7, 2, 1] = float(kind)
    return x


@pytest.mark.parametrize("kind", ["constant", "constants", "nan", "inf", "-inf"])
def test_a_frozen_coordinate_is_not_perfect(kind):
    """No gate lets it pass: ``rhat > 1.01`` and ``ess < 400`` are true of it, and of it alone."""
    x = frozen(kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nor is NumPy's the only word
        r_hat, size = diagnostics.rhat(x), diagnostics.ess(x)
    np.testing.assert_array_equal(r_hat > 1.01, [False, True, False])
    np.testing.assert_array_equal(size < 400, [False, True, False])
    if kind == "constants":  # chains that disagree: two draws of each count at most
        assert size[1] < 10
    else:
        assert (r_hat[1], size[1]) == (np.inf, 0)


def test_one_frozen_chain_is_seen_by_rhat():
    x = autoregressive(0.3)
    x[:, 0] = np.median(x)  # where the mean is that of the others
    assert diagnostics.rhat(x) > 1.1


def test_all_frozen():
    x = np.zeros((1000, 4))
    assert diagnostics.rhat(x) == np.inf
    assert diagnostics.ess(x) == 0


def test_discrete_chains_are_not_frozen():
    x = np.random.default_rng(0).integers(0, 2, (1000, 4))
    assert diagnostics.rhat(x) < 1.01
    assert 3000 < diagnostics.ess(x) < 5000
    assert diagnostics.rhat(x.astype(bool)) < 1.01


def test_a_transposed_history_is_told():
    x = np.random.default_rng(0).normal(size=(1000, 4))
    with pytest.warns(UserWarning, match="transpose it"):
        diagnostics.rhat(x.T)
    with pytest.warns(UserWarning, match="transpose it"), pytest.warns(UserWarning, match="draws"):
        diagnostics.ess(x.T)


def test_more_effective_samples_than_draws_are_told():
    """Chains that alternate: x_t = -0.9 x_{t-1} + noise has 19 effective samples a draw."""
    x = autoregressive(-0.9, steps=2000)
    with pytest.warns(UserWarning, match=r"8,000 draws"):
        assert diagnostics.ess(x) > 2 * x.size
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert diagnostics.ess(autoregressive(-0.2)) > 16_000


def test_rhat_takes_two_chains():
    with pytest.raises(ValueError, match="2 chains"):
        diagnostics.rhat(np.random.default_rng(0).normal(size=(100, 1)))


def test_the_gap_of_half_precision_is_that_of_its_energies():
    """Means of bfloat16 numbers near 100 would be multiples of 1/2."""
    level = jnp.asarray(100 + np.arange(8) / 2, jnp.bfloat16)
    found = diagnostics.energy_gap(lambda p, x: x, None, level[:4], level[2:])
    exact = np.asarray(level, np.float64)
    np.testing.assert_allclose(found["energy_gap"], exact[2:].mean() - exact[:4].mean(), rtol=1e-6)
    both = np.concatenate([exact[:4], exact[2:]])
    np.testing.assert_allclose(found["energy_spread"], both.std(), rtol=1e-5)
