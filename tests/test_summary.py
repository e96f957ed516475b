import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ebm_jax
from ebm_jax import diagnostics

DRAWS, CHAINS = 4000, 4


def autoregressive(rho, mean=0.0, sd=1.0, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(DRAWS, CHAINS))
    for t in range(1, DRAWS):
        x[t] = rho * x[t - 1] + np.sqrt(1 - rho**2) * x[t]
    return mean + sd * x


def test_every_column_has_its_closed_form():
    """Of autoregressions: n (1 - rho) / (1 + rho) effective samples, within the noise of each."""
    rhos, means, sds = np.array([[0.0, 0.8], [0.5, -0.3]]), np.array([[0, 5], [-2, 1]]), [[1], [4]]
    sds = np.broadcast_to(np.array(sds, float), (2, 2))
    cases = zip(rhos.ravel(), means.ravel(), sds.ravel(), range(4), strict=True)
    x = np.stack([autoregressive(*case) for case in cases], axis=-1).reshape(DRAWS, CHAINS, 2, 2)
    found = diagnostics.summary(x)
    effective = DRAWS * CHAINS * (1 - rhos) / (1 + rhos)
    np.testing.assert_allclose(found.mean, x.mean((0, 1)), rtol=1e-12)
    np.testing.assert_allclose(found.sd, x.reshape(-1, 2, 2).std(0, ddof=1), rtol=1e-12)
    np.testing.assert_allclose(found.ess, effective, rtol=0.2)
    np.testing.assert_allclose(found.mcse, sds / np.sqrt(effective), rtol=0.1)
    assert np.all(np.abs(found.mean - means) < 5 * found.mcse)  # a false alarm once in 10^6
    assert np.all(found.rhat < 1.01)
    for field in found:
        assert field.shape == (2, 2)
        assert field.dtype == np.float64


def test_fields_have_the_structure_of_a_configuration(key):
    sampler = ebm_jax.samplers.mala(lambda x: jnp.sum(x["u"] ** 2) / 2 + x["v"] ** 2, step_size=0.5)
    start = {"u": jnp.zeros((3, 2)), "v": jnp.zeros(3)}
    samples = ebm_jax.sample(key, sampler, start, 50).position
    found = diagnostics.summary(samples)
    for field in found:
        assert jax.tree.map(np.shape, field) == {"u": (2,), "v": ()}
    alone = diagnostics.summary(samples["v"])
    for of_all, of_one in zip(found, alone, strict=True):
        np.testing.assert_array_equal(of_all["v"], of_one)
    names = [line.split("  ")[0] for line in str(found).splitlines()[1:]]
    assert names == ["u[0]", "u[1]", "v"]


@pytest.mark.parametrize("value", [0.0, 1e8, np.nan, np.inf, -np.inf])
def test_nothing_is_claimed_of_frozen_and_non_finite_coordinates(value):
    """The other coordinates have the same results as alone."""
    x = np.stack([autoregressive(0.5), autoregressive(0.5, seed=1)], axis=-1)
    alone = diagnostics.summary(x[..., 1])
    if np.isfinite(value):
        x[..., 0] = value
    else:
        x[17, 2, 0] = value
    found = diagnostics.summary(x)
    assert found.ess[0] == 0
    assert found.rhat[0] == found.mcse[0] == np.inf
    for field, expected in zip(found, alone, strict=True):
        np.testing.assert_allclose(field[1], expected, rtol=1e-10)
    assert "inf" in str(found).splitlines()[1]


def test_chains_that_disagree_are_seen():
    apart = autoregressive(0.5) + 3 * np.arange(CHAINS)
    found = diagnostics.summary(apart)
    assert found.rhat > 1.5
    assert found.ess < 10
    assert found.mcse > 0.5  # of chains at 0, 3, 6, 9 the mean is not known


@pytest.mark.parametrize("kind", [bool, np.int8, np.uint8, np.float16, jnp.bfloat16, np.float32])
def test_positions_of_any_type_are_summed_in_double_precision(kind):
    x = (autoregressive(0.5)[:200] > 0).astype(kind)
    exactly = diagnostics.summary(np.asarray(x, np.float64))
    for given in (x, jnp.asarray(x)):
        for field, expected in zip(diagnostics.summary(given), exactly, strict=True):
            np.testing.assert_array_equal(field, expected)
    np.testing.assert_allclose(exactly.mean, np.mean(np.asarray(x, float)))


def test_the_table():
    one = diagnostics.summary(np.random.default_rng(0).normal(size=(100, 4)))
    header, line = str(one).splitlines()
    assert header.split() == ["mean", "sd", "mcse", "ess", "rhat"]
    name, *numbers = line.split()
    assert name == "x"
    np.testing.assert_allclose([float(n) for n in numbers], tuple(one), rtol=0.05)
    many = diagnostics.summary(np.random.default_rng(0).normal(size=(10, 4, 5, 6)))
    lines = str(many).splitlines()
    assert len(lines) == 22
    assert lines[1].startswith("[0, 0]")
    worst = f"ess at least {many.ess.min():.0f}, rhat at most {many.rhat.max():.3f}."
    assert lines[-1] == f"... and 10 more. Of all 30: {worst}"
    empty = diagnostics.summary(np.zeros((10, 4, 0)))
    assert empty.mean.shape == (0,)
    assert len(str(empty).splitlines()) == 1


@pytest.mark.parametrize("shape", [(), (9,), (3, 4), (9, 1), (0, 4)])
def test_too_few_draws_or_chains(shape):
    with pytest.raises(ValueError, match=r"samples must be .* at least 4 draws of 2 chains"):
        diagnostics.summary(np.zeros(shape))
    with pytest.raises(ValueError, match=r"samples must be .* same draws and chains on every leaf"):
        diagnostics.summary({"a": np.zeros((9, 4)), "b": np.zeros((9, 3))})
