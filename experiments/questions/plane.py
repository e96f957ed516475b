"""What the two-dimensional questions share: a grid of the plane, short trainings, surfaces."""

import functools
import re
import sys
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn
from sklearn.neighbors import NearestNeighbors

import ebm_jax
from ebm_jax import diagnostics, losses, sparse_coding
from ebm_jax.energies.networks import MLP
from ebm_jax.objectives import likelihood
from ebm_jax.training import Trainer, raise_if_diverged, trainer
from ebm_jax.types import Energy, Objective
from experiments import data, runs

HALF_WIDTH = 4.0  # the spirals end at about 3.5


def grid(half_width: float = HALF_WIDTH, size: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell centres (size^2, 2) of a square and their log volumes (size^2,)."""
    width = 2 * half_width / size
    axis = (-half_width + width * (np.arange(size) + 0.5)).astype(np.float32)
    x, y = np.meshgrid(axis, axis)
    points = np.stack([x.ravel(), y.ravel()], 1)
    return points, np.full(size**2, 2 * np.log(width), np.float32)


NETWORK = MLP((64, 64), jnp.sin)  # sines follow a spiral with fewer updates than SiLU


def init(network: nn.Module, seed: int, size: int = 2) -> Any:
    """Return fresh parameters of a network of a vector."""
    return network.init(jax.random.key(seed), jnp.zeros(size))


@functools.cache
def _trainer(objective: Objective, learning_rate: float, decay_steps: int | None) -> Trainer:
    """Return the trainer, the same for the same objective: compiled once."""
    if decay_steps is None:
        return trainer(objective, optax.adam(learning_rate))
    return trainer(objective, optax.adam(optax.cosine_decay_schedule(learning_rate, decay_steps)))


def fit(
    run: runs.Run,
    name: str,
    objective: Objective,
    params: Any,
    arrays: tuple[np.ndarray, ...],
    *,
    steps: int,
    batch_size: int = 256,
    learning_rate: float = 1e-2,
    decay: bool = True,
    measure: Callable[[Any], dict[str, float]] | None = None,
) -> tuple[Any, dict[str, np.ndarray]]:
    """Train by Adam on batches of the arrays, the learning rate falling to zero or constant.

    Returns the parameters and, by name, the loss and what ``measure`` finds in the parameters,
    ``update`` being the number of updates: all taken some 20 times on the way.
    """
    started, tag = time.perf_counter(), re.sub(r"[^\w.-]", "_", name)
    training = _trainer(objective, learning_rate, steps if decay else None)
    key = jax.random.key(runs.FLAGS.seed)
    state = training.init(params, key)
    history: list[dict[str, float]] = []
    for group in data.batches(
        arrays,
        batch_size=min(batch_size, len(arrays[0])),
        num_steps=steps,
        group=-(-steps // 20),
        seed=runs.FLAGS.seed,
    ):
        # An array alone is the batch of an energy of x; several are a tuple.
        state, metrics = training.update(state, group if len(group) > 1 else group[0], key)
        raise_if_diverged(metrics)
        row = {"loss": float(np.mean(metrics["loss_total"]))}
        row |= {} if measure is None else measure(state.params)
        run.log(int(state.step), {f"{tag}/{k}": v for k, v in row.items()})
        history.append(row | {"update": int(state.step)})
    seconds = time.perf_counter() - started
    print(
        f"{name}: {steps} updates, loss {history[-1]['loss']:.4g}, {seconds:.1f} s", file=sys.stderr
    )
    return state.params, {k: np.array([row[k] for row in history]) for k in history[0]}


def positive_energy(params: Any, x: jax.Array) -> jax.Array:
    """Return softplus of the network: an energy that is never negative, so it can only go flat."""
    return jax.nn.softplus(NETWORK.apply(params, x))  # pyright: ignore


def far_from(points: np.ndarray, reference: np.ndarray, radius: float) -> np.ndarray:
    """Return the points farther than ``radius`` from every reference point: the wrong answers."""
    distance, _ = NearestNeighbors(n_neighbors=1).fit(reference).kneighbors(points)
    return points[distance[:, 0] > radius]


def against(
    positives: np.ndarray, negatives: np.ndarray, count: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return candidates (n, 1 + count, 2), the right one first, and the labels (n,), all 0."""
    drawn = np.random.default_rng(seed).integers(len(negatives), size=(len(positives), count))
    candidates = np.concatenate([positives[:, None], negatives[drawn]], 1)
    return candidates, np.zeros(len(positives), np.int32)


def bumps(y: jax.Array) -> jax.Array:
    """Return y as 12 x 12 Gaussian bumps over the plane, a vector of length 1.

    The energy of a linear sparse code is convex in its input: in the plane itself it could
    only be a bowl. In these features it can follow a curve.
    """
    centres, _ = grid(size=12)
    # softmax keeps the vector from vanishing outside the square
    weights = jax.nn.softmax(-jnp.sum((y - centres) ** 2, axis=1) / (2 * 0.5**2))
    return weights / jnp.linalg.norm(weights)


def sparse_energy(params: tuple[jax.Array, float], y: jax.Array) -> jax.Array:
    """Return min_z |phi(y) - W z|^2 / 2 + lambda |z|_1, phi the bumps, W with unit columns.

    The parameters are (W, lambda); training leaves lambda as it is.
    """
    dictionary, sparsity = params
    return sparse_coding.free_energy(
        sparse_coding.unit_columns(dictionary),
        bumps(y),
        sparsity=jax.lax.stop_gradient(sparsity),
        num_steps=40,
    )


def uniform(key: jax.Array, count: int) -> jax.Array:
    """Return uniform points (count, 2) of the square."""
    return jax.random.uniform(key, (count, 2), minval=-HALF_WIDTH, maxval=HALF_WIDTH)


def push_down(energy: Energy) -> Objective:
    """Return the energy loss, mean E(y) over the batch: positives only."""

    def loss(params, state, batch, key):
        del key
        return jnp.mean(jax.vmap(energy, (None, 0))(params, batch)), (state, {})

    return Objective(lambda key: (), loss)


def contrast(name: str) -> Objective:
    """Return a loss of the table for ``positive_energy``, of batches from ``against``."""
    loss = getattr(losses, name)

    def over_candidates(energies, right):
        if name in losses.CANDIDATES:
            return loss(energies, right)
        return loss(*losses.most_offending(energies, right))

    return likelihood.discriminative(jax.vmap(positive_energy, (None, 0)), over_candidates)


_PUSH_DOWN_CODE = push_down(sparse_energy)


def fit_code(run: runs.Run, name: str, positives: np.ndarray, sparsity: float, steps: int) -> Any:
    """Train the dictionary of ``sparse_energy`` on positives; return its parameters.

    It starts from the bumps of uniform points, which explain all of the plane.
    """
    points = uniform(jax.random.key(runs.FLAGS.seed), 144)
    start = jax.vmap(bumps)(points).T, sparsity
    fitted, _ = fit(
        run,
        name,
        _PUSH_DOWN_CODE,
        start,
        (positives,),
        steps=steps,
        batch_size=128,
        learning_rate=3e-2,
    )
    return fitted


def evaluator(energy: Energy) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Return (params, points (n, 2)) -> the energies (n,), compiled."""
    compiled = ebm_jax.jit(jax.vmap(energy, (None, 0)))
    return lambda params, points: np.asarray(compiled(params, points))


def volume(on_grid: np.ndarray, held_out: np.ndarray) -> float:
    """Return the share of the plane as low in energy as 95 % of the held-out data."""
    return float(diagnostics.low_energy_volume(on_grid, held_out))


def least_volume(sample: np.ndarray, size: int = 60) -> float:
    """Return the share of the plane that holds 95 % of the data: no energy can do with less."""
    edges = np.linspace(-HALF_WIDTH, HALF_WIDTH, size + 1)
    counts = np.sort(np.histogram2d(*sample.T, bins=(edges, edges))[0].ravel())[::-1]
    return float(np.searchsorted(np.cumsum(counts), 0.95 * counts.sum()) + 1) / size**2


def surface(axis, values: np.ndarray, title: str, half_width: float = HALF_WIDTH):
    """Draw energies on the grid, dark being low, scaled to the 2nd and 98th percentile.

    A range below 0.05 is not stretched: a flat energy looks flat.
    """
    size = int(np.sqrt(len(values)))
    low, high = np.quantile(values, [0.02, 0.98])
    image = axis.imshow(
        values.reshape(size, size),
        origin="lower",
        extent=(-half_width, half_width) * 2,
        cmap="viridis",
        vmin=low,
        vmax=max(high, low + 0.05),
    )
    axis.set_title(title, fontsize=9)
    axis.set_xticks([])
    axis.set_yticks([])
    return image
