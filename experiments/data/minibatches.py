"""Mini-batches by number, and the random streams they are drawn from."""

import functools
from collections.abc import Callable

import jax
import numpy as np

from ebm_jax.types import PyTree

# Streams. NumPy's generator of [seed, 0, 0] is that of the seed alone.
SHUFFLE, NOISE, FLOW = 1, 2, 5


def stream(seed: int, which: int, number: int) -> np.random.Generator:
    """Return an independent random generator for one epoch's order or one batch's noise."""
    return np.random.default_rng([seed, which, number])


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
