"""The program on densities of the plane: what it measures is exact; it runs and refuses."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags

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
    "given", [["--objective=exact"], ["--option=steps=2", "--learning_rate=0.01"]]
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
