"""The main job: every loss gives an objective; the program runs, refuses and reports."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import flagsaver

from ebm_jax import losses
from ebm_jax.objectives import likelihood
from experiments import digits, digits_model, runs

ROOT = Path(__file__).parents[2]
QUICK = (
    "--steps=3",
    "--hidden=8",
    "--langevin_steps=2",
    "--sample_steps=10",
    "--chains=16",
    "--capacity=128",
)


def program(*flags):
    return subprocess.run(
        [sys.executable, "-m", "experiments.digits", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.parametrize("name", [*losses.PAIRWISE, *losses.CANDIDATES])
def test_every_loss_trains_a_classifier(name):
    """A few gradient steps lower each loss on separable data."""
    x = jnp.array(np.random.default_rng(0).normal(size=(50, 4)), jnp.float32)
    objective = likelihood.discriminative(
        lambda w, x: x @ w, digits_model.make_loss(name, margin=1.0)
    )
    batch = (x, jnp.argmax(x, axis=1))
    w = 0.1 * jax.random.normal(jax.random.key(0), (4, 4))
    before = objective.loss(w, (), batch, jax.random.key(0))[0]
    gradient = jax.jit(jax.grad(lambda w: objective.loss(w, (), batch, jax.random.key(0))[0]))
    for _ in range(20):
        w = w - 0.05 * gradient(w)
    assert objective.loss(w, (), batch, jax.random.key(0))[0] < before


def test_the_margin_reaches_the_loss():
    energies, label = jnp.array([[0.0, 0.5]]), jnp.array([0])
    assert float(digits_model.make_loss("hinge", 2.0)(energies, label)[0]) == 1.5
    assert float(digits_model.make_loss("lvq2", 0.25)(energies[:, ::-1], label)[0]) == 0.25


def test_chains_keep_the_proportions_of_the_classes():
    train_y = np.repeat([2, 0, 1], [10, 60, 30])
    start = digits_model.from_noise(train_y, 200)(jax.random.key(0), jnp.arange(200))
    assert np.bincount(start["y"]).tolist() == [120, 60, 20]
    assert start["x"].shape == (200, 64)
    again = digits_model.from_noise(train_y, 200)(jax.random.key(1), jnp.array([0, 199]))
    assert again["y"].tolist() == [0, 2]


def test_the_joint_energy_is_bounded_by_its_reference():
    """Far from the data the energy grows like the Gaussian's, whatever the network says."""
    model = digits_model.make_model(np.full((3, 64), 0.5, np.float32), 10, 8, noise=0.1)
    params = model.network.init(jax.random.key(0), jnp.zeros(64))
    far = model.classes(params, jnp.full(64, 10.0))
    np.testing.assert_allclose(far, 0.5 * 64 * 9.5**2 / 0.1**2, rtol=0.01)
    joint = model.joint(params, {"x": jnp.zeros(64), "y": 3})
    np.testing.assert_allclose(joint, model.classes(params, jnp.zeros(64))[3])


def test_a_short_run_writes_everything(tmp_path):
    done = program(*QUICK, f"--workdir={tmp_path}", "--hold_out_class=4")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    for name in ("accuracy", "auroc_noise", "auroc_shuffled", "auroc_inverted", "auroc_held_out"):
        assert 0 <= summary[name] <= 1
    for name in ("label_agreement", "one_nn", "seconds", "ece", "ece_calibrated", "effective_beta"):
        assert np.isfinite(summary[name])
    report = (tmp_path / "report.md").read_text()
    for figure in ("samples.png", "chains.png", "training.png", "outliers.png"):
        assert (tmp_path / figure).stat().st_size > 5000
        assert figure in report
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 3
    assert "generative/energy_gap" in lines[-1]
    assert "--hold_out_class=4" in (tmp_path / "flags.txt").read_text()
    assert list((tmp_path / "tensorboard").glob("events*"))
    # The folder now belongs to these flags.
    other = program(*QUICK, f"--workdir={tmp_path}", "--seed=1")
    assert other.returncode == 1
    assert "holds a run with other flags" in other.stderr


def test_an_unknown_loss_is_refused_with_the_list():
    done = program("--loss=hing", "--workdir=/nonexistent")
    assert done.returncode == 1
    assert "hing" in done.stderr
    for name in (*losses.PAIRWISE, *losses.CANDIDATES):
        assert name in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "--workdir is not set"),
        (["--workdir=/proc/none"], "--workdir=/proc/none cannot be written"),
        (["--workdir=x", "--hold_out_class=10"], "--hold_out_class=10 is no digit"),
        (["--workdir=x", "--chains=99", "--capacity=9"], "--chains=99 cannot exceed"),
        (["--workdir=x", "--restart=1.5"], "--restart=1.5 must be in"),
        (["--workdir=x", "--sample_steps=11"], "multiple of 10"),
    ],
)
def test_bad_flags_are_refused_before_any_work(flags, message):
    with flagsaver.flagsaver():
        digits.FLAGS(["digits", *flags])
        with pytest.raises(runs.UsageError, match=message):
            digits.main()
    assert not Path("x").exists()
