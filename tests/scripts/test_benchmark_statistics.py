"""The statistics of the benchmark of objectives against plain computations in NumPy and SciPy."""

import itertools

import numpy as np
import pytest
import scipy.stats

from scripts.benchmark_objectives import statistics
from scripts.benchmark_objectives.statistics import Interval

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("size", [1, 3, 4, 10, 41])
def test_the_interquartile_mean_is_the_trimmed_mean(size):
    scores = RNG.normal(size=(3, size))
    expected = [scipy.stats.trim_mean(row, 0.25) for row in scores]
    np.testing.assert_allclose(statistics.interquartile_mean(scores), expected, rtol=1e-14)


def test_a_quarter_of_diverged_runs_does_not_matter_and_more_do():
    few, many = np.array([np.inf, 1, 2, 3]), np.array([np.inf, np.inf, 1, 2, 3])
    assert statistics.interquartile_mean(few) == 2.5
    assert statistics.interquartile_mean(many) == np.inf
    interval = statistics.aggregate([many])
    assert interval.value == interval.high == np.inf
    assert not np.isnan(interval.low)


def test_the_interval_is_that_of_scipys_bootstrap():
    """The same percentile bootstrap with other draws: ends of 2,000 draws differ by their error.

    The end of an interval at 2.5 % has a standard error of about 0.05 standard deviations of the
    statistic; the difference of two such ends is beyond 0.3 of them in less than 1e-4.
    """
    scores = RNG.normal(size=30)

    def statistic(x, axis):
        return scipy.stats.trim_mean(x, 0.25, axis=axis)

    expected = scipy.stats.bootstrap(
        (scores,), statistic, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    )
    found = statistics.aggregate([scores])
    assert found.value == pytest.approx(scipy.stats.trim_mean(scores, 0.25))
    ends = expected.confidence_interval
    np.testing.assert_allclose(found[1:], ends, atol=0.3 * expected.standard_error)


def test_the_bootstrap_is_stratified():
    """Without strata the mean of two constant problems would vary."""
    found = statistics.aggregate([np.zeros(10), np.full(10, 4.0)])
    assert found == Interval(2.0, 2.0, 2.0)


def test_the_probability_of_improvement_is_the_mann_whitney_statistic():
    one = [RNG.integers(0, 4, 10).astype(float), RNG.normal(size=10)]
    other = [RNG.integers(0, 4, 8).astype(float), RNG.normal(size=10) + 0.5]
    expected = np.mean(
        [
            scipy.stats.mannwhitneyu(b, a).statistic / (len(a) * len(b))
            for a, b in zip(one, other, strict=True)
        ]
    )
    pairs = [
        np.mean([(x < y) + (x == y) / 2 for x, y in itertools.product(a, b)])
        for a, b in zip(one, other, strict=True)
    ]
    found = statistics.probability_of_improvement(one, other)
    assert found.value == pytest.approx(expected, rel=1e-12)
    assert found.value == pytest.approx(np.mean(pairs), rel=1e-12)
    assert found.low < found.value < found.high
    reverse = statistics.probability_of_improvement(other, one)
    assert reverse.value == pytest.approx(1 - found.value, rel=1e-12)


def test_runs_that_both_diverged_tie():
    diverged = [np.full(3, np.inf)]
    assert statistics.probability_of_improvement(diverged, diverged).value == 0.5


def test_no_problem_is_left_out_of_the_mean():
    """A seed that diverged is left out, as part of the upper quarter of its problem."""
    found = statistics.aggregate([np.ones(8), np.ones(8), np.full(8, 100.0)])
    assert found == (34.0, 34.0, 34.0)
    assert statistics.aggregate([[1.0] * 7 + [np.inf], np.zeros(8)]).value == 0.5


def test_groups_tie_where_intervals_overlap_with_the_best_of_the_group():
    intervals = {
        "a": Interval(1.0, 0.8, 1.2),
        "b": Interval(1.1, 1.1, 1.5),
        "c": Interval(1.4, 1.3, 1.6),  # overlaps with b and not with a, the best
        "d": Interval(9.0, 8.0, np.inf),
        "e": Interval(np.inf, np.inf, np.inf),
    }
    assert statistics.tied_groups(intervals) == [["a", "b"], ["c"], ["d", "e"]]


def test_normalised_gaps_are_divided_by_the_scale_of_their_problem():
    gaps = {"a": {"p": np.array([1.0, 2.0]), "q": np.array([30.0])}}
    found = statistics.normalised(gaps, {"q": 10.0, "p": 2.0})
    np.testing.assert_allclose(found["a"][0], [0.5, 1.0])
    np.testing.assert_allclose(found["a"][1], [3.0])


@pytest.mark.parametrize("scores", [[], [np.array([])]])
def test_no_scores_are_refused(scores):
    with pytest.raises(ValueError, match="at least one problem"):
        statistics.aggregate(scores)
