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


# What is not finite, ties, one class, one row, one dimension: by counting, or NaN.
INF, NAN = np.inf, np.nan


@pytest.mark.parametrize("size", [1, 2, 5])
def test_auroc_ranks_every_energy(size):
    """Ties count half, infinities are energies, NaN and an empty side give NaN."""
    values = np.array([-INF, -1.0, 0.0, 0.0, 2.0, INF])
    rng = np.random.default_rng(size)
    for _ in range(20):
        inlier, outlier = rng.choice(values, size), rng.choice(values, 3)
        pairs = (outlier[:, None] > inlier) + 0.5 * (outlier[:, None] == inlier)
        np.testing.assert_allclose(evaluation.auroc(inlier, outlier), pairs.mean())
    assert np.isnan(evaluation.auroc(np.array([0.0, NAN]), np.ones(3)))
    assert np.isnan(evaluation.auroc(np.ones(3), np.array([0.0, NAN])))
    assert np.isnan(evaluation.auroc(np.zeros(0), np.ones(3)))


ROWS = {
    "finite": ([0.0, 1.0, 3.0], 1),
    "forbidden": ([0.5, INF, 0.2], 0),
    "certain": ([0.0, -INF, 2.0], 1),
    "two certain": ([-INF, 0.0, -INF], 2),
    "forbidden and certain": ([-INF, INF, 2.0], 0),
    "far": ([1e5, 1e5 + 1.0, 2e5], 0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ROWS)
def test_calibration_of_infinite_energies(name):
    """P(y | x) by its limit, one energy of which is far below the others."""
    row, label = np.array(ROWS[name][0]), ROWS[name][1]
    energies = np.stack([row] * 3 + [[0.0, 2.0, 1.0]] * 7)
    labels = np.array([label] * 3 + [0, 0, 1, 2, 0, 0, 0])
    found = evaluation.calibration(energies, labels)
    infinite = np.where(np.isinf(energies), np.sign(energies) * 1e6, energies)
    p = np.exp(log_softmax(-infinite, axis=1))
    confidence, correct = p.max(axis=1), p.argmax(axis=1) == labels
    gaps = {c: (confidence - correct)[confidence == c].sum() for c in set(confidence)}
    np.testing.assert_allclose(found["ece"], sum(map(abs, gaps.values())) / 10, atol=1e-12)
    assert np.isfinite(list(found.values())).all()


@pytest.mark.filterwarnings("error")
def test_calibration_is_nan_where_it_is_not_known():
    energies, labels = RNG.normal(size=(20, 3)), RNG.integers(0, 3, 20)
    for share in (1, 10, 20):
        bad = energies.copy()
        bad[:share, 1] = NAN
        assert np.isnan(list(evaluation.calibration(bad, labels).values())).all()
        assert np.isnan(evaluation.calibration_error(log_softmax(-bad, axis=1), labels))
    nowhere = energies.copy()
    nowhere[3] = INF
    assert np.isnan(list(evaluation.calibration(nowhere, labels).values())).all()
    # The right answer is forbidden: no beta gives it any likelihood. The probabilities are known.
    forbidden = energies.copy()
    forbidden[3, labels[3]] = INF
    found = evaluation.calibration(forbidden, labels)
    assert np.isfinite(found["ece"])
    assert np.isnan(found["ece_calibrated"])
    assert np.isnan(evaluation.best_beta(forbidden, labels))
    none = evaluation.calibration(energies[:0], labels[:0])
    assert np.isnan(list(none.values())).all()
    one = evaluation.calibration(energies[:1], labels[:1])  # no others to fit its beta on
    assert np.isfinite(one["ece"])
    assert np.isnan(one["ece_calibrated"])


@pytest.mark.parametrize("energies", [np.zeros((12, 3)), np.arange(12.0)[:, None]])
def test_a_beta_that_changes_nothing_is_one(energies):
    """Ties go to the first class, and one class is always right."""
    labels = np.arange(12) % energies.shape[1]
    found = evaluation.calibration(energies, labels)
    assert found["calibration_beta"] == 1.0
    np.testing.assert_allclose([found["ece"], found["ece_calibrated"]], 0.0, atol=1e-12)


def by_distances(samples, reference):
    """The two accuracies from all distances in float64, ties counting half."""

    def apart(a, b):
        return np.sqrt(((a[:, None].astype(float) - b.astype(float)) ** 2).sum(-1))

    def accuracy(own, others):
        inside = apart(own, own) + np.diag(np.full(len(own), INF))
        inside, outside = inside.min(1), apart(own, others).min(1)
        return ((inside < outside) + 0.5 * (inside == outside)).mean()

    return accuracy(samples, reference), accuracy(reference, samples)


@pytest.mark.parametrize("shift", [0.0, 100.0, 1e4])
@pytest.mark.parametrize("size", [1, 3, 40])
def test_neighbours_far_from_the_origin(size, shift):
    """Multiples of 2^-10, so that float32 holds them moved: with doubles and copies among them."""
    rng = np.random.default_rng(0)
    a, b = (np.round(rng.normal(size=(60, size)) * 2**10) / 2**10 for _ in range(2))
    b[:10], b[10:15], a[50:] = a[:10], b[15:20], a[40:50]
    b[20:25] = a[20:25] + 2.0**-10
    moved = [(x + shift).astype(np.float32) for x in (a, b)]
    np.testing.assert_allclose(evaluation.one_nn_accuracy(*moved), by_distances(a, b), atol=1e-12)
    nearest = np.sqrt(((a[:, None] - b) ** 2).sum(-1)).min(1)
    np.testing.assert_allclose(evaluation.nearest_distances(*moved), nearest, rtol=1e-12)
    expected = evaluation.frechet_distance(a, b)
    np.testing.assert_allclose(evaluation.frechet_distance(*moved), expected, rtol=1e-6)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("bad", [NAN, INF, -INF])
def test_positions_that_are_not_finite_are_nan(bad):
    a, b = RNG.normal(size=(2, 6, 2))
    wrong = a.copy()
    wrong[2, 1] = bad
    for pair in ((wrong, b), (b, wrong)):
        assert np.isnan(evaluation.one_nn_accuracy(*pair)).all()
        assert np.isnan(evaluation.frechet_distance(*pair))
    np.testing.assert_array_equal(
        np.isnan(evaluation.nearest_distances(wrong, b)), np.arange(6) == 2
    )
    assert np.isnan(evaluation.nearest_distances(b, wrong)).all()
    assert np.isnan(evaluation.bias_and_variance(wrong, np.zeros(2))).all()


@pytest.mark.filterwarnings("error")
def test_too_few_rows_are_nan():
    a = RNG.normal(size=(6, 2))
    for few in (a[:0], a[:1]):
        assert np.isnan(evaluation.one_nn_accuracy(few, a)).all()
        assert np.isnan(evaluation.one_nn_accuracy(a, few)).all()
        assert np.isnan(evaluation.frechet_distance(few, a))
        assert np.isnan(evaluation.frechet_distance(a, few))
        assert np.isnan(evaluation.bias_and_variance(few, np.zeros(2))).all()
    assert evaluation.nearest_distances(a[:0], a).shape == (0,)
    assert np.isnan(evaluation.nearest_distances(a, a[:0])).all()
    distance = np.linalg.norm(a - a[0], axis=1)
    np.testing.assert_allclose(evaluation.nearest_distances(a, a[:1]), distance)


def test_equal_points_cannot_be_told_apart():
    assert evaluation.one_nn_accuracy(np.zeros((4, 20)), np.zeros((7, 20))) == (0.5, 0.5)


def test_bias_and_variance_of_one_number():
    """One coordinate, or a matrix of one column: mean 2, variance 1, three repetitions."""
    bias, variance, noise = evaluation.bias_and_variance(np.array([[1.0], [2.0], [3.0]]), [0.5])
    np.testing.assert_allclose([bias, variance, noise], [2.25 - 1 / 3, 1.0, 2 * 2**0.5 / 3])
