"""The programs about energy surfaces run for a few steps; what they build on is right."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CLAIMS = {
    "one_to_many": (["--steps=2", "--few=8"], "regression_is_blurred"),
    "collapse": (["--steps=2", "--code_steps=1"], "positives_only_is_flat"),
    "three_ways": (["--steps=2", "--code_steps=1"], "pushing_down_is_flat"),
    "sharp_edges": (["--steps=2"], "curvature_follows_theory"),
    "nll_gradient": (
        ["--steps=2", "--samples=200", "--chain_steps=2", "--max_bits=4"],
        "ideal_is_unbiased",
    ),
}


def run(program, *flags):
    command = [sys.executable, "-m", f"experiments.questions.{program}", *flags]
    # A few steps do not repay optimised code.
    environment = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.mark.parametrize("program", CLAIMS)
def test_few_steps(program, tmp_path):
    flags, claim = CLAIMS[program]
    done = run(program, f"--workdir={tmp_path}", *flags)
    assert done.returncode == 0, done.stderr[-2000:]
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text())
    assert isinstance(summary[claim], bool)
    figure = (tmp_path / f"{program}.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    assert len(figure) > 20_000


def test_bad_usage_is_one_sentence():
    done = run("three_ways")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("error: --workdir is not set")


def test_the_spirals_are_two_and_turn_into_each_other():
    from experiments import data

    points = data.two_spirals(4000, seed=0)
    assert points.shape == (4000, 2)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, data.two_spirals(4000, seed=0))
    assert not np.array_equal(points, data.two_spirals(4000, seed=1))
    # Turned by 180 degrees the one arm lies on the other: a mean of zero, far from it no point.
    assert (abs(points.mean(0)) < 5 * points.std(0) / np.sqrt(4000)).all()
    assert 3 < np.linalg.norm(points, axis=1).max() < 4
    np.testing.assert_allclose(points[::2].mean(0), -points[1::2].mean(0), atol=0.15)


def test_the_plane_is_covered_by_its_cells():
    from experiments.questions import plane

    points, log_volumes = plane.grid(half_width=2.0, size=40)
    assert np.exp(log_volumes).sum() == pytest.approx(16, rel=1e-4)
    # The integral of exp(-|y|^2 / (2 s^2)) is 2 pi s^2.
    integral = np.sum(np.exp(log_volumes - np.sum(points**2, 1) / (2 * 0.3**2)))
    assert integral == pytest.approx(2 * np.pi * 0.3**2, rel=1e-3)


def test_wrong_answers_keep_their_distance():
    from experiments.questions import plane

    points, _ = plane.grid(size=20)
    wrong = plane.far_from(points, np.zeros((1, 2), np.float32), 1.0)
    np.testing.assert_array_equal(wrong, points[np.hypot(*points.T) > 1.0])
    candidates, labels = plane.against(points[:7], wrong, 5, seed=0)
    assert candidates.shape == (7, 6, 2)
    np.testing.assert_array_equal(candidates[:, 0], points[:7])
    assert not labels.any()
    assert np.isin(candidates[:, 1:].reshape(-1, 2), wrong).all()


def test_least_volume_of_an_even_square_is_its_area():
    from experiments.questions import plane

    sample = np.random.default_rng(0).uniform(-1, 1, (400_000, 2))
    assert plane.least_volume(sample, size=64) == pytest.approx(0.95 * 4 / 64, rel=0.05)


def test_the_bumps_are_a_unit_vector_that_tells_places_apart():
    from experiments.questions import plane

    a, b, near = (plane.bumps(np.array(y, np.float32)) for y in ((0, 0), (2, 0), (0.05, 0)))
    assert float(a @ a) == pytest.approx(1, rel=1e-5)
    assert float(a @ near) > 0.99
    assert float(a @ b) < 0.1


def test_bias_and_variance_of_a_shifted_normal_mean():
    from experiments import evaluation

    rng = np.random.default_rng(0)
    truth = np.zeros(3)
    estimates = 0.5 + 2 * rng.standard_normal((4000, 3))
    bias, variance, noise = evaluation.bias_and_variance(estimates, truth)
    assert variance == pytest.approx(12, rel=0.05)
    assert bias == pytest.approx(0.75, abs=5 * 2 * np.sqrt(0.75 * 4 / 4000))
    assert bias > 5 * noise
    unbiased = [
        evaluation.bias_and_variance(rng.standard_normal((20, 3)), truth) for _ in range(400)
    ]
    # Centred at 0 where |mean|^2 alone would be 3 / 20; the noise is two standard deviations.
    assert abs(np.mean([u[0] for u in unbiased])) < 0.02
    assert 0.7 < np.std([u[0] for u in unbiased]) / np.mean([u[2] for u in unbiased]) * 2 < 1.4


def test_the_ellipse_of_x():
    from experiments import data

    np.testing.assert_allclose(data.ellipse(0.0, 0.0), [2.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(data.ellipse(0.0, np.pi / 2), [0.0, 1.5], atol=1e-6)
    np.testing.assert_allclose(data.ellipse(1.0, np.pi / 2)[1], 2 * np.exp(2), rtol=1e-6)
    x, y = data.ellipses(3000, seed=0, noise=0.0)
    radii = data.ellipse(x, 0.0)[:, 0], data.ellipse(x, np.pi / 2)[:, 1]
    np.testing.assert_allclose((y[:, 0] / radii[0]) ** 2 + (y[:, 1] / radii[1]) ** 2, 1, rtol=1e-5)
