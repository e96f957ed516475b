import numpy as np
import pytest

from experiments.data import minibatches, splits, toy_points


def test_the_split_is_fixed_and_stratified():
    split = splits.digits()
    assert split.train_x.shape == (1437, 64)
    assert split.test_x.shape == (360, 64)
    assert split.train_x.min() == 0
    assert split.train_x.max() == 1
    np.testing.assert_array_equal(split.train_x * 16, np.round(split.train_x * 16))
    shares = np.bincount(split.test_y) / 360 - np.bincount(split.train_y) / 1437
    assert np.abs(shares).max() < 0.003
    np.testing.assert_array_equal(split.test_y, splits.digits().test_y)


def test_hold_out_renumbers_and_keeps_every_other_image():
    split = splits.digits()
    rest, held_out = splits.hold_out(split, 3)
    assert len(rest.test_x) + len(held_out) == 360
    assert set(rest.train_y) == set(range(9))
    np.testing.assert_array_equal(
        rest.train_x[rest.train_y == 3], split.train_x[split.train_y == 4]
    )
    np.testing.assert_array_equal(
        rest.train_x[rest.train_y == 2], split.train_x[split.train_y == 2]
    )
    np.testing.assert_array_equal(held_out, split.test_x[split.test_y == 3])


def test_outliers_are_what_they_say():
    x = splits.digits().test_x
    sets = splits.outliers(x, seed=0)
    np.testing.assert_allclose(sets["inverted"], 1 - x)
    np.testing.assert_allclose(np.sort(sets["shuffled"]), np.sort(x))
    permuted = (sets["shuffled"] != x).any(axis=1)
    assert permuted.all()  # every image, each by its own permutation
    assert abs(sets["noise"].mean() - 0.5) < 0.01
    np.testing.assert_array_equal(sets["noise"], splits.outliers(x, seed=0)["noise"])


def test_batches_are_epochs_of_permutations():
    batch = minibatches.batches(np.arange(10), batch_size=4, seed=0)
    seen = np.concatenate([batch(t) for t in range(5)])
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert not np.array_equal(seen[:10], seen[10:])


def test_a_batch_depends_on_the_data_the_seed_and_its_number_alone():
    x = np.arange(10)
    batches = {seed: minibatches.batches(x, batch_size=7, seed=seed) for seed in (0, 1)}
    late = batches[0](1000)  # no epoch before it was asked for
    again = minibatches.batches(x, batch_size=7, seed=0)
    np.testing.assert_array_equal([again(t) for t in range(1001)][-1], late)
    assert any(not np.array_equal(batches[0](t), batches[1](t)) for t in range(3))


def test_batches_mirror_the_pytree_of_the_examples():
    x = np.arange(6.0)
    pairs = minibatches.batches({"x": x, "y": (-x, x[:, None])}, batch_size=3, seed=0)(2)
    np.testing.assert_array_equal(pairs["x"], -pairs["y"][0])
    np.testing.assert_array_equal(pairs["x"][:, None], pairs["y"][1])
    np.testing.assert_array_equal(minibatches.batches(x, batch_size=3, seed=0)(2), pairs["x"])


def test_a_batch_larger_than_the_data_goes_on_in_the_next_epochs():
    seen = minibatches.batches(np.arange(3), batch_size=6, seed=0)(0)
    assert sorted(seen[:3]) == sorted(seen[3:]) == [0, 1, 2]


def test_streams_do_not_meet():
    """Neither those of two purposes or numbers, nor the generator of the seed alone."""
    drawn = [np.random.default_rng(5)] + [
        minibatches.stream(seed, which, number)
        for seed in (5, 6)
        for which in (minibatches.SHUFFLE, minibatches.NOISE)
        for number in (0, 1)
    ]
    assert len({rng.integers(2**63) for rng in drawn}) == len(drawn)


@pytest.mark.parametrize("examples", [np.zeros((0, 2)), (np.zeros(2), np.zeros(3))])
def test_data_of_no_or_several_lengths_are_refused(examples):
    with pytest.raises(ValueError, match="leaves of one length"):
        minibatches.batches(examples, batch_size=4, seed=0)


def test_the_spirals_are_two_and_turn_into_each_other():
    points = toy_points.two_spirals(4000, seed=0)
    assert points.shape == (4000, 2)
    assert points.dtype == np.float32
    np.testing.assert_array_equal(points, toy_points.two_spirals(4000, seed=0))
    assert not np.array_equal(points, toy_points.two_spirals(4000, seed=1))
    # Turned by 180 degrees the one arm lies on the other: a mean of zero, far from it no point.
    assert (abs(points.mean(0)) < 5 * points.std(0) / np.sqrt(4000)).all()
    assert 3 < np.linalg.norm(points, axis=1).max() < 4
    np.testing.assert_allclose(points[::2].mean(0), -points[1::2].mean(0), atol=0.15)


def test_the_ellipse_of_x():
    np.testing.assert_allclose(toy_points.ellipse(0.0, 0.0), [2.0, 0.0], atol=1e-6)
    np.testing.assert_allclose(toy_points.ellipse(0.0, np.pi / 2), [0.0, 1.5], atol=1e-6)
    np.testing.assert_allclose(toy_points.ellipse(1.0, np.pi / 2)[1], 2 * np.exp(2), rtol=1e-6)
    x, y = toy_points.ellipses(3000, seed=0, noise=0.0)
    radii = toy_points.ellipse(x, 0.0)[:, 0], toy_points.ellipse(x, np.pi / 2)[:, 1]
    np.testing.assert_allclose((y[:, 0] / radii[0]) ** 2 + (y[:, 1] / radii[1]) ** 2, 1, rtol=1e-5)
