import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.inference import alignment

SIZES = [(1, 1), (4, 1), (3, 3), (8, 4)]
BETAS = [1e-6, 0.3, 1.0, 40.0]


def random_energies(*shape, seed=0):
    return 2 * np.random.default_rng(seed).normal(size=shape)


@functools.partial(jax.jit, static_argnames="mean")
def free_energy(energies, beta, mean=False):
    return alignment.free_energy(energies, beta=beta, mean=mean)


value_and_gradient = jax.jit(jax.value_and_grad(free_energy))
slopes = jax.jit(jax.grad(free_energy, (0, 1)), static_argnames="mean")
best_path = jax.jit(alignment.best_path)


@pytest.mark.parametrize("size", SIZES)
def test_there_are_binomially_many_paths(size):
    windows, labels = size
    assert len(oracles.alignments(*size)) == math.comb(windows - 1, labels - 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", [*BETAS, np.inf])
@pytest.mark.sweep(10)
def test_free_energy_and_its_gradient_are_those_of_enumeration(size, beta):
    with jax.enable_x64(True):
        energies = random_energies(*size)
        z, of_path = oracles.alignment_energies(energies)
        value, gradient = value_and_gradient(energies, beta)
        np.testing.assert_allclose(value, oracles.soft_minimum(of_path, beta), rtol=1e-12)
        if beta == np.inf:
            p = of_path == of_path.min()
        else:
            p = np.exp(-beta * (of_path - oracles.soft_minimum(of_path, beta)))
        posterior = np.einsum("p,plt->lt", p, np.eye(size[1])[z])
        np.testing.assert_allclose(gradient, posterior, atol=1e-10)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("beta", [0.3, 5.0])
@pytest.mark.sweep(1)
def test_gradient_is_that_of_finite_differences(beta, mean):
    with jax.enable_x64(True):
        energies = random_energies(6, 3, seed=1)
        value = functools.partial(free_energy, mean=mean)
        gradient, slope = slopes(energies, beta, mean=mean)
        step = 1e-5
        for index in np.ndindex(6, 3):
            nudge = np.zeros((6, 3))
            nudge[index] = step
            both = value(energies + nudge, beta) - value(energies - nudge, beta)
            np.testing.assert_allclose(gradient[index], both / (2 * step), atol=1e-8)
        both = value(energies, beta + step) - value(energies, beta - step)
        np.testing.assert_allclose(slope, both / (2 * step), atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1e-30, 1e-6, 1e-2, 1.0, np.inf])
def test_mean_form_is_accurate_in_single_precision_down_to_beta_zero(beta):
    energies = random_energies(9, 4, seed=2).astype(np.float32)
    _, of_path = oracles.alignment_energies(energies.astype(np.float64))
    low, gaps = of_path.min(), of_path - of_path.min()
    if beta in (0.0, np.inf):
        exact = of_path.mean() if beta == 0 else low
    else:
        exact = low - np.log1p(np.expm1(-beta * gaps).mean()) / beta
    found = free_energy(energies, beta, mean=True)
    np.testing.assert_allclose(found, exact, rtol=3e-6)


def test_sum_form_at_beta_zero_diverges_unless_there_is_one_path():
    energies = random_energies(5, 2)
    assert free_energy(energies, 0) == -jnp.inf
    one = free_energy(energies[:2], 0)
    np.testing.assert_allclose(one, energies[0, 0] + energies[1, 1], rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_best_path_is_the_lowest_of_all(size):
    with jax.enable_x64(True):
        energies = random_energies(*size, seed=3)
        z, of_path = oracles.alignment_energies(energies)
        path, energy = best_path(energies)
        assert path.tolist() == z[of_path.argmin()].tolist()
        np.testing.assert_allclose(energy, of_path.min(), rtol=1e-12)
        _, gradient = value_and_gradient(energies, np.inf)
        assert np.array_equal(gradient, np.eye(size[1])[path])


def test_at_a_tie_viterbi_and_its_gradient_take_the_same_path():
    path, _ = best_path(jnp.zeros((6, 3)))
    _, gradient = value_and_gradient(jnp.zeros((6, 3)), np.inf)
    assert path.tolist() == [0, 1, 2, 2, 2, 2]
    assert np.array_equal(gradient, np.eye(3)[path])


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
def aligned(energies, windows, labels, beta):
    """Return F and its gradient, the best path and its energy, of part of the energies."""
    part = {"num_windows": windows, "num_labels": labels}
    found = jax.value_and_grad(lambda e: alignment.free_energy(e, beta=beta, **part))(energies)
    return found, alignment.best_path(energies, **part)


@pytest.mark.parametrize("beta", [0.5, np.inf])
def test_padding_is_never_read_even_under_jit_and_vmap(beta):
    energies = random_energies(7, 4, seed=4).astype(np.float32)
    counts = [(7, 4), (5, 2), (3, 3), (4, 1), (2, 3)]
    padded = np.full((len(counts), 7, 4), np.nan, np.float32)
    for row, (windows, labels) in zip(padded, counts, strict=True):
        row[:windows, :labels] = energies[:windows, :labels]
    (found, gradients), (found_paths, lowest) = jax.tree.map(
        np.asarray, aligned(padded, *np.array(counts).T, beta)
    )
    for i, (n, t) in enumerate(counts[:-1]):
        z, of_path = oracles.alignment_energies(energies[:n, :t].astype(np.float64))
        np.testing.assert_allclose(found[i], oracles.soft_minimum(of_path, beta), rtol=1e-5)
        np.testing.assert_allclose(lowest[i], of_path.min(), rtol=1e-5)
        assert found_paths[i].tolist() == [*z[of_path.argmin()], *[-1] * (7 - n)]
        np.testing.assert_allclose(gradients[i].sum(), n, rtol=1e-5)
        assert not gradients[i][n:].any()
        assert not gradients[i][:, t:].any()
    assert found[-1] == jnp.inf  # more labels than windows: no path
    assert found_paths[-1].tolist() == [-1] * 7
    assert not gradients[-1].any()


@pytest.mark.parametrize("beta", [0.7, np.inf])
def test_an_infinite_energy_forbids_and_has_no_gradient(beta):
    energies = random_energies(6, 3, seed=5).astype(np.float32)
    energies[2, 1] = energies[4, 2] = np.inf
    _, of_path = oracles.alignment_energies(energies.astype(np.float64))
    finite = of_path[np.isfinite(of_path)]
    value, gradient = value_and_gradient(energies, beta)
    np.testing.assert_allclose(value, oracles.soft_minimum(finite, beta), rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert gradient[2, 1] == gradient[4, 2] == 0
    nothing = free_energy(np.full((3, 2), np.inf, np.float32), beta)
    assert nothing == jnp.inf


def test_a_nan_that_counts_is_returned():
    everywhere, one = np.full((3, 2), np.nan, np.float32), np.zeros((3, 2), np.float32)
    one[1, 1] = np.nan
    assert np.isnan(free_energy(everywhere, 1.0))
    assert np.isnan(free_energy(one, 1.0))


def test_bfloat16_and_long_alignments_stay_finite():
    energies = random_energies(200, 40, seed=6).astype(np.float32)
    half = free_energy(energies.astype(jnp.bfloat16), 0.5)
    assert half.dtype == jnp.bfloat16
    assert np.isfinite(half)
    with jax.enable_x64(True):
        exact = free_energy(energies.astype(np.float64), 0.5)
    np.testing.assert_allclose(free_energy(energies, 0.5), exact, rtol=1e-5)


def test_long_alignments_in_half_precision():
    """Windows of energy 1 with one label: F is their number."""
    for dtype in (jnp.bfloat16, jnp.float16):
        ones = jnp.ones((1000, 1), dtype)
        found = alignment.free_energy(ones)
        assert (found.dtype, float(found)) == (dtype, 1000)
        assert float(alignment.best_path(ones)[1]) == 1000


@pytest.mark.parametrize(("windows", "labels"), [(10_000, 3), (4000, 2000), (30_000, 2)])
@pytest.mark.sweep(1)
def test_the_number_of_many_paths(windows, labels):
    """With energies of 0, -F is log C(windows - 1, labels - 1), here by exact integers."""
    found = free_energy(jnp.zeros((windows, labels)), 1.0)
    exact = math.log(math.comb(windows - 1, labels - 1))
    np.testing.assert_allclose(-found, exact, rtol=1e-6)
