"""Images for training and for testing, a class held out, and outliers made of test images."""

from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Split(NamedTuple):
    """Images (n, pixels) in [0, 1] and labels (n,), for training and for testing."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def stratified(x: np.ndarray, y: np.ndarray, num_test: int) -> Split:
    """Split off ``num_test`` examples, with the same class shares in both parts; deterministic."""
    parts = train_test_split(x, y.astype(np.int32), test_size=num_test, stratify=y, random_state=0)
    train_x, test_x, train_y, test_y = map(np.asarray, parts)
    return Split(train_x, train_y, test_x, test_y)


def digits() -> Split:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 with 17 grey levels: 1,437 and 360."""
    x, y = load_digits(return_X_y=True)
    return stratified((x / 16).astype(np.float32), y, 360)


def hold_out(split: Split, held_out: int) -> tuple[Split, np.ndarray]:
    """Return the split without a class, labels renumbered from 0, and its test images."""

    def without(x, y):
        kept = y != held_out
        return x[kept], y[kept] - (y[kept] > held_out)

    rest = Split(*without(split.train_x, split.train_y), *without(split.test_x, split.test_y))
    return rest, split.test_x[split.test_y == held_out]


OUTLIERS = ("noise", "shuffled", "inverted", "held_out")  # outliers that every data set has


def outliers(test_x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return images that are not digits: uniform noise, shuffled pixels and inverted images."""
    rng = np.random.default_rng(seed)
    return {
        "noise": rng.random(test_x.shape, dtype=np.float32),
        "shuffled": rng.permuted(test_x, axis=1),
        "inverted": 1 - test_x,
    }
