import numpy as np
import pytest
from scipy.special import log_softmax

from experiments import evaluation

RNG = np.random.default_rng(0)


def test_auroc_counts_pairs_in_order():
    inlier, outlier = RNG.normal(size=40), RNG.normal(1, 1, size=30)
    pairs = np.mean(outlier[None] > inlier[:, None])
    np.testing.assert_allclose(evaluation.auroc(inlier, outlier), pairs)
    assert evaluation.auroc(np.zeros(3), np.ones(3)) == 1.0


def test_calibration_error_by_hand():
    """Two bins: confidence 0.6 with accuracy 1/2, confidence 0.9 with accuracy 1."""
    p = np.array([[0.6, 0.4], [0.6, 0.4], [0.9, 0.1], [0.9, 0.1]])
    labels = np.array([0, 1, 0, 0])
    expected = 0.5 * abs(0.6 - 0.5) + 0.5 * abs(0.9 - 1.0)
    np.testing.assert_allclose(evaluation.calibration_error(np.log(p), labels), expected)


def test_best_beta_recovers_the_temperature():
    """Labels drawn from P ~ exp(-2.5 F): the likelihood is highest near 2.5."""
    energies = RNG.normal(size=(20_000, 5))
    p = np.exp(log_softmax(-2.5 * energies, axis=1))
    labels = (RNG.random((20_000, 1)) > p.cumsum(axis=1)).sum(axis=1)
    np.testing.assert_allclose(evaluation.best_beta(energies, labels), 2.5, rtol=0.05)
    found = evaluation.calibration(energies, labels)
    assert found["ece_calibrated"] < 0.02 < found["ece"]


def test_one_nn_accuracy_of_same_different_and_copied_samples():
    """0.5 for the same distribution (standard error 0.025), 1 for another, 0 for copies."""
    a, b = RNG.normal(size=(400, 2)), RNG.normal(size=(400, 2))
    np.testing.assert_allclose(evaluation.one_nn_accuracy(a, b), 0.5, atol=0.12)
    assert evaluation.one_nn_accuracy(a, b + 100) == (1.0, 1.0)
    assert evaluation.one_nn_accuracy(a, a + 1e-9) == (0.0, 0.0)
    assert max(evaluation.one_nn_accuracy(a, a)) < 0.05


def test_one_nn_accuracy_of_samples_that_clump():
    """In many dimensions, points too near the centre are the nearest neighbours of all."""
    a, b = RNG.normal(size=(400, 30)), RNG.normal(size=(400, 30))
    on_samples, on_data = evaluation.one_nn_accuracy(0.6 * a, b)
    assert on_samples > 0.9
    assert on_data < 0.1


def test_nearest_distances():
    reference = np.array([[0.0, 0.0], [10.0, 0.0]])
    got = evaluation.nearest_distances(np.array([[3.0, 4.0], [10.0, 1.0]]), reference)
    np.testing.assert_allclose(got, [5.0, 1.0])


@pytest.mark.parametrize("confidence", [0.0, 1.0])
def test_calibration_error_at_the_ends(confidence):
    log_p = np.log(np.clip([[confidence, 1 - confidence]], 1e-300, 1))
    label = np.array([0 if confidence else 1])
    np.testing.assert_allclose(evaluation.calibration_error(log_p, label), 0.0, atol=1e-12)


def test_bias_and_variance_of_a_shifted_normal_mean():
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


def test_frechet_distance_is_that_of_gaussians():
    """In closed form where the covariances commute; of samples, 0 to themselves."""
    axes = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    z = np.concatenate([np.eye(5), -np.eye(5)]) * np.sqrt(9 / 2)  # covariance of exactly 1
    a, b = np.arange(1.0, 6), np.array([2.0, 2, 2, 0.5, 1])
    shift = np.full(5, 3.0)
    found = evaluation.frechet_distance(z * a @ axes, z * b @ axes + shift)
    np.testing.assert_allclose(found, 45 + ((a - b) ** 2).sum(), rtol=1e-9)
    x = RNG.normal(size=(50, 5))
    assert abs(evaluation.frechet_distance(x, x)) < 1e-9
    assert evaluation.frechet_distance(x[:, :1], x[:, :1] + 2) == pytest.approx(4)


def test_a_judge_tells_classes_and_has_features():
    x = RNG.normal(size=(300, 8)) + np.repeat([[0.0], [3.0]], 150, axis=0)
    y = np.repeat([0, 1], 150)
    predict, features = evaluation.judge(x, y)
    assert predict is not None
    assert np.mean(predict(x + 0.1) == y) > 0.95
    hidden = features(x)
    assert hidden.shape == (300, 256)
    assert hidden.min() == 0
    predict, features = evaluation.judge(x, np.zeros(300))
    assert predict is None
    assert features(x[:3]).shape == (3, 8)
