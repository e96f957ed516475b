"""The data the experiments train on, as NumPy arrays, and their batches by number."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from ebm_jax.types import PyTree

SHUFFLE, NOISE, FLOW = (
    1,
    2,
    5,
)  # streams; NumPy's generator of [seed, 0, 0] is that of the seed alone


def stream(seed: int, which: int, number: int) -> np.random.Generator:
    """Return the generator of one epoch's order or one batch's noise, none like another."""
    return np.random.default_rng([seed, which, number])


class Split(NamedTuple):
    """Images (n, pixels) in [0, 1] and labels (n,), for training and for testing."""

    train_x: np.ndarray
    train_y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def stratified(x: np.ndarray, y: np.ndarray, num_test: int) -> Split:
    """Return so many for testing, with the same share of every class on both sides; fixed."""
    train_x, test_x, train_y, test_y = train_test_split(
        x, y.astype(np.int32), test_size=num_test, stratify=y, random_state=0
    )
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


OUTLIERS = ("noise", "shuffled", "inverted", "held_out")  # names of what is always at hand


def outliers(test_x: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Return what is no digit: uniform noise, every image with its pixels shuffled, inverted."""
    rng = np.random.default_rng(seed)
    return {
        "noise": rng.random(test_x.shape, dtype=np.float32),
        "shuffled": rng.permuted(test_x, axis=1),
        "inverted": 1 - test_x,
    }


def two_spirals(num: int, seed: int) -> np.ndarray:
    """Return points (num, 2) on two interleaved spirals around the origin, within about 4 of it.

    The toy density "2spirals" of Grathwohl et al. (2019), FFJORD.
    """
    rng = np.random.default_rng(seed)
    angle = np.sqrt(rng.random(num)) * 3 * np.pi
    arm = np.stack([-np.cos(angle) * angle, np.sin(angle) * angle], 1) + rng.random((num, 2)) / 2
    side = np.where(np.arange(num) % 2, 1, -1)[:, None]
    return (side * arm / 3 + 0.1 * rng.standard_normal((num, 2))).astype(np.float32)


def ellipse(x, angle) -> np.ndarray:
    """Return the points (..., 2) of the homework's ellipse that belongs to x, in [0, 1]."""
    a, b = 1.5, 2.0
    x, angle = np.broadcast_arrays(x, angle)
    radii = np.stack([a * x + b * (1 - x), b * x + a * (1 - x)]) * np.exp(2 * x)
    return np.moveaxis(radii * np.stack([np.cos(angle), np.sin(angle)]), 0, -1).astype(np.float32)


def ellipses(num: int, seed: int, noise: float = 1 / 20) -> tuple[np.ndarray, np.ndarray]:
    """Return x (num,), uniform in [0, 1], and y (num, 2): a random point of its ellipse, noisy."""
    rng = np.random.default_rng(seed)
    x, angle = rng.random(num).astype(np.float32), rng.uniform(0, 2 * np.pi, num)
    return x, ellipse(x, angle) + noise * rng.standard_normal((num, 2)).astype(np.float32)


def batches(examples: PyTree, *, batch_size: int, seed: int) -> Callable[[int], PyTree]:
    """Return t -> batch t of the examples, a pytree with ``batch_size`` of them on every leaf.

    Every epoch is a new permutation, and an incomplete batch takes from the next one; what batch
    t holds depends on the seed and t alone.
    """
    sizes = {len(leaf) for leaf in jax.tree.leaves(examples)}
    if len(sizes) != 1 or 0 in sizes:
        raise ValueError(f"Batches need leaves of one length >= 1, got {sorted(sizes)} examples.")
    (size,) = sizes

    @functools.lru_cache(maxsize=2)
    def permutation(epoch: int) -> np.ndarray:
        return stream(seed, SHUFFLE, epoch).permutation(size)

    def batch(t: int) -> PyTree:
        epochs, places = np.divmod(np.arange(t * batch_size, (t + 1) * batch_size), size)
        parts = [permutation(int(e))[places[epochs == e]] for e in np.unique(epochs)]
        chosen = np.concatenate(parts)
        return jax.tree.map(lambda leaf: leaf[chosen], examples)

    return batch
