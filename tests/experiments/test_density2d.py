"""The program on densities of the plane: what it measures is exact; it runs and refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

from experiments import noise_levels
from experiments.data.densities import DENSITIES
from experiments.density2d import model as density2d_model
from experiments.run import errors

QUICK = (
    "--steps=40",
    "--hidden=8",
    "--octaves=3",
    "--batch_size=64",
    "--num_train=500",
    "--cells=18",
)


def test_a_gaussian_against_eight_is_measured_exactly():
    """E = |x - m|^2 / 2: the divergence of a mixture from a Gaussian, by its moments."""
    density, mean = DENSITIES["8gaussians"], np.array([0.3, -0.2])
    test = density.sample(1000, 0)

    def energy(params, x):
        return jnp.sum((x - params) ** 2) / 2 + 5.0

    exactly = density2d_model.Exactly(density, energy, test, 180)
    found = exactly.measure(jnp.asarray(mean, jnp.float32))
    # Of x: |centre|^2 = 8, variance 1/8 a coordinate; the square cuts off 1e-5 of the Gaussian.
    second = 8 + 2 / 8 + mean @ mean
    cross = second / 2 + np.log(2 * np.pi)
    entropy = 2.8315702  # by quadrature on 360 x 360 cells
    assert found["kl"] == pytest.approx(cross - entropy, abs=1e-3)
    nll = ((test - mean) ** 2).sum(1).mean() / 2 + np.log(2 * np.pi)
    assert found["test_nll"] == pytest.approx(nll, abs=1e-4)
    assert exactly.optimal_nll == pytest.approx(entropy, abs=5 * 1.0 / np.sqrt(1000))
    weights = np.array(exactly.mode_weights()["mode_weights"])
    assert weights.sum() == pytest.approx(1, abs=1e-3)
    assert weights.argmax() == 7  # that at -45 degrees is the nearest to the mean, at -34


def test_the_truth_diverges_from_itself_by_nothing():
    density = DENSITIES["8gaussians"]
    centres = jnp.asarray(density.centres, jnp.float32)

    def energy(params, x):
        return params - jax.nn.logsumexp(-4 * jnp.sum((x - centres) ** 2, axis=1))

    exactly = density2d_model.Exactly(density, energy, density.sample(500, 0), 90)
    found = exactly.measure(jnp.zeros(()))
    assert abs(found["kl"]) < 1e-5
    assert found["total_variation"] < 1e-4
    assert found["test_nll"] == pytest.approx(exactly.optimal_nll, abs=1e-4)
    np.testing.assert_allclose(exactly.mode_weights()["mode_weights"], 1 / 8, atol=1e-3)


@pytest.mark.parametrize(
    "given",
    [
        ["--objective=exact"],
        pytest.param(["--option=steps=2", "--learning_rate=0.01"], marks=pytest.mark.slow),
    ],
)
def test_a_short_run_writes_everything(program, monkeypatch, tmp_path, capsys, given):
    dataset = "8gaussians" if "exact" in given[0] else "moons"
    work = f"--workdir={tmp_path}", f"--dataset={dataset}"
    density2d = program("density2d", *work, *QUICK, *given)
    monkeypatch.setattr(density2d, "FINE", 90)
    monkeypatch.setattr(density2d, "NUM_TEST", 500)
    density2d.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    # The bowl that it begins with is 1.7 nats off, or more.
    assert 0 < summary["kl"] < 1.5
    assert 0 < summary["total_variation"] < 1
    gap = summary["test_nll"] - summary["optimal_nll"]
    assert gap == pytest.approx(summary["kl"], abs=0.3)
    assert ("mode_weights" in summary) == (dataset == "8gaussians")
    for name in ("density", "kl"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    density2d.main()  # all is done: it draws and tells the same
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert again["kl"] == summary["kl"]


def test_the_lowest_level_is_compared_with_the_density_with_its_noise():
    """Of eight Gaussians with noise the density is known: their variance is 1/8 + sigma^2."""
    density, sigma = DENSITIES["8gaussians"], 0.2
    centres = jnp.asarray(density.centres, jnp.float32)

    def energy(params, x):
        squares = jnp.sum((x - centres) ** 2, axis=1)
        return params - jax.nn.logsumexp(-squares / (2 * (1 / 8 + sigma**2)))

    test = density.sample(500, 0)
    exactly = density2d_model.Exactly(density, energy, test, 180, sigma=sigma)
    found = exactly.measure(jnp.zeros(()))
    assert abs(found["kl_lowest_level"]) < 1e-4
    assert found["kl"] > 0.01
    # What the square cuts off of the Gaussians with noise is 1e-4 of them.
    assert exactly.log_z == pytest.approx(np.log(8 * 2 * np.pi * (1 / 8 + sigma**2)), abs=1e-3)
    draws = exactly.draws(4000, 1)
    np.testing.assert_allclose(draws.mean(0), 0, atol=4 * np.sqrt(4.2 / 4000))
    assert draws.var(0) == pytest.approx(4 + 1 / 8 + sigma**2, rel=0.1)


@pytest.mark.slow
def test_log_z_along_the_levels_of_an_energy_that_is_known():
    """Without its network the energy is a normalised Gaussian at every level."""
    points = DENSITIES["8gaussians"].sample(1000, 0)
    energy, init = noise_levels.make_energy(points, hidden=2, octaves=1)
    params = jax.tree.map(jnp.zeros_like, init(jax.random.key(0)))
    spread = np.sqrt(points.var(0).mean() + noise_levels.SIGMA_MIN**2)
    samples = points.mean(0) + spread * np.random.default_rng(1).standard_normal((400, 2))
    key, samples = jax.random.key(2), jnp.asarray(samples, jnp.float32)
    found = noise_levels.log_z(key, energy, params, samples, num_chains=400, num_levels=80)
    for estimate in (found, found.upper):  # a deviation of 4.5 standard errors: 7e-6
        assert abs(estimate.log_z) < 4.5 * estimate.standard_error
        assert estimate.standard_error < 0.2


@pytest.mark.slow
def test_a_short_run_of_levels_writes_everything(program, monkeypatch, tmp_path, capsys):
    given = "--dataset=8gaussians", "--objective=denoising_levels", "--option=time_score=0.5"
    density2d = program("density2d", f"--workdir={tmp_path}", *QUICK, *given)
    monkeypatch.setattr(density2d, "FINE", 90)
    monkeypatch.setattr(density2d, "NUM_TEST", 500)
    density2d.main()
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    low, high = summary["log_z_interval"]
    assert low < high
    assert summary["kl_lowest_level"] > 0
    assert summary["log_z"] == pytest.approx(0, abs=3)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--option=sweeps=3", "the options of pcd are steps=20, step_size=0.02"),
        ("--option=step_size=-1", "with {'step_size': -1.0}: step_size must be"),
    ],
)
def test_options_that_the_objective_has_not_are_refused(program, tmp_path, given, message):
    with pytest.raises(errors.UsageError, match=message):
        program("density2d", f"--workdir={tmp_path}", *QUICK, given).main()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("--dataset=3spirals", "3spirals.*<8gaussians.2spirals"),
        ("--objective=ml", "ml.*<exact.cd.pcd"),
        ("--cells=3", "cells=3"),
        ("--learning_rate=0", "learning_rate=0"),
    ],
)
def test_bad_flags_are_refused_before_any_work(program, given, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        program("density2d", "--workdir=/proc/none", given)
