"""The noise-indexed energy of digits: its Gaussian part, its batches, its samples, its program."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.ndimage import shift as moved
from scipy.stats import multivariate_normal

from experiments.data import splits
from experiments.noised_digits import model

KEY = jax.random.key(0)


@pytest.mark.parametrize("network", ["dense", "residual"])
def test_without_its_network_the_energy_is_gaussian(network):
    """Parameters of 0: the NLL of each class's mean, the covariance within classes and noise."""
    split = splits.digits()
    x, y = split.train_x, split.train_y
    made = model.make_model(x, y, network)
    params = jax.tree.map(lambda leaf: 0 * leaf, jax.jit(made.init)(KEY))
    means = np.stack([x[y == c].mean(0) for c in range(10)]).astype(np.float64)
    covariance = np.cov(x - means[y], rowvar=False)
    energy = jax.jit(made.energy)
    for sigma, label in ((0.1, 3), (2.0, 7)):
        noisy = covariance + sigma**2 * np.eye(64)
        wanted = -multivariate_normal(means[label], noisy).logpdf(x[5])
        position = {"x": jnp.asarray(x[5]), "y": label, "shift": jnp.zeros(2, jnp.int32)}
        np.testing.assert_allclose(energy(params, position, sigma), wanted, rtol=1e-4, atol=0.02)


def test_shifted_images_are_those_of_scipy():
    images = np.random.default_rng(0).random((9, 64), np.float32)
    shifts = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)])
    wanted = [moved(x.reshape(8, 8), s, order=0) for x, s in zip(images, shifts, strict=True)]
    np.testing.assert_array_equal(model.shifted(images, shifts).reshape(-1, 8, 8), wanted)


def test_batches_tell_the_shift_and_shift_their_share():
    """Of 1,000 images half are chosen, and 8 of 9 of these move: 444 within 4.5 deviations."""
    x, y = np.random.default_rng(0).random((1000, 64), np.float32), np.arange(1000, dtype=np.int32)
    batch = model.batches(x, y, batch_size=1000, seed=0, augmented=0.5)(0)
    np.testing.assert_array_equal(batch["x"], model.shifted(x[batch["y"]], batch["shift"]))
    assert abs(batch["shift"].any(1).sum() - 444) < 4.5 * np.sqrt(1000 * 0.444 * 0.556)
    still = model.batches(x, y, batch_size=1000, seed=0, augmented=0.0)(0)
    assert not still["shift"].any()


@pytest.mark.parametrize(("copies", "num_steps"), [(1, 0), (1, 2), (2, 2)])
@pytest.mark.sweep(1)
def test_samples_of_a_known_energy_have_its_moments(copies, num_steps):
    """Gaussian data of variance v about m: denoised, v^2 / (v + sigma^2) / copies.

    Means and variances of 200 x 64 numbers, within 5 standard errors and, of the variance without
    chains, the error of 100 steps of reverse diffusion, 10 %.
    """
    mean, variance = 0.5, 0.02

    def energy(params, position, sigma):
        apart = position["x"] - mean
        return copies * jnp.sum(apart**2) / (2 * (variance + sigma**2))

    images, rates = model.sample(
        KEY,
        energy,
        (),
        jnp.zeros(200, jnp.int32),
        num_levels=100,
        num_steps=num_steps,
        copies=copies,
    )
    wanted = variance**2 / (variance + model.SIGMA_MIN**2) / copies
    images = np.asarray(images, np.float64)
    assert abs(images.mean() - mean) < 5 * np.sqrt(wanted / images.size) + 1e-3
    assert abs(images.var() / wanted - 1) < 5 * np.sqrt(2 / images.size) + 0.1
    assert rates.shape == (99,)
    assert np.all(rates > 0.3)


@pytest.mark.slow
@pytest.mark.parametrize("network", ["dense", "spectral"])
def test_program(network, program, tmp_path, capsys):
    flags = "--steps=2", "--samples=20", "--num_levels=3", "--chain_steps=1", "--validation"
    program("noised_digits", f"--workdir={tmp_path}", f"--network={network}", *flags).main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary["one_nn"] > 0.6  # noise
    assert summary["operations_per_update"] > 1e7
    assert (tmp_path / "samples.png").stat().st_size > 5_000


def test_a_question_needs_the_thickness_of_strokes(program, tmp_path):
    """A bar of 1 x 4 pixels has ink 4 and variation 2 (1 + 4); one of 2 x 4, 8 and 2 (2 + 4)."""
    composed = program("questions.composed_digits", f"--workdir={tmp_path}")
    bars = np.zeros((2, 8, 8), np.float32)
    bars[0, 3, 2:6] = bars[1, 3:5, 2:6] = 1
    np.testing.assert_allclose(composed.thickness(bars.reshape(2, 64)), [0.4, 2 / 3], rtol=1e-6)
    bounds = np.array([[0.3, 0.4], [0.5, 0.6]])
    labels = np.array([1, 1])
    kinds = composed.strokes(bars.reshape(2, 64), labels, bounds)
    assert kinds.tolist() == [composed.THIN, composed.THICK]
