import numpy as np
import pytest

from experiments import data


def test_the_split_is_fixed_and_stratified():
    split = data.digits()
    assert split.train_x.shape == (1437, 64)
    assert split.test_x.shape == (360, 64)
    assert split.train_x.min() == 0
    assert split.train_x.max() == 1
    np.testing.assert_array_equal(split.train_x * 16, np.round(split.train_x * 16))
    shares = np.bincount(split.test_y) / 360 - np.bincount(split.train_y) / 1437
    assert np.abs(shares).max() < 0.003
    np.testing.assert_array_equal(split.test_y, data.digits().test_y)


def test_hold_out_renumbers_and_keeps_every_other_image():
    split = data.digits()
    rest, held_out = data.hold_out(split, 3)
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
    x = data.digits().test_x
    sets = data.outliers(x, seed=0)
    np.testing.assert_allclose(sets["inverted"], 1 - x)
    np.testing.assert_allclose(np.sort(sets["shuffled"]), np.sort(x))
    permuted = (sets["shuffled"] != x).any(axis=1)
    assert permuted.all()  # every image, each by its own permutation
    assert abs(sets["noise"].mean() - 0.5) < 0.01
    np.testing.assert_array_equal(sets["noise"], data.outliers(x, seed=0)["noise"])


def test_batches_are_epochs_of_permutations():
    x = np.arange(10)
    groups = list(data.batches((x, -x), batch_size=4, num_steps=7, group=3, seed=0))
    assert [g[0].shape for g in groups] == [(3, 4), (3, 4), (1, 4)]
    seen = np.concatenate([g[0].ravel() for g in groups])
    assert sorted(seen[:10]) == sorted(seen[10:20]) == list(range(10))
    np.testing.assert_array_equal(np.concatenate([g[1].ravel() for g in groups]), -seen)


def test_no_data_is_refused():
    with pytest.raises(ValueError, match="0 examples"):
        next(data.batches((np.zeros((0, 2)),), batch_size=4, num_steps=1, group=1, seed=0))
