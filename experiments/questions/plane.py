"""Shared code of the two-dimensional questions: a grid of the plane, energies, surfaces."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from sklearn.neighbors import NearestNeighbors

import ebm_jax
from ebm_jax import diagnostics, gibbs, objectives
from ebm_jax.energies.networks import MLP
from ebm_jax.inference import sparse_coding
from ebm_jax.types import Energy, Objective
from experiments import losses_by_name
from experiments.data import minibatches
from experiments.run import checkpoints, command_line, loop, work_directory

HALF_WIDTH = 4.0  # the spirals end at about 3.5
CELLS = 60
ESCAPED = 1.5  # times the least possible volume: below it, an energy has escaped the collapse


def grid(half_width: float = HALF_WIDTH, cells: int = CELLS) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell centres (cells^2, 2) of a square and their log volumes (cells^2,)."""
    points, log_volumes = gibbs.grid([-half_width] * 2, [half_width] * 2, cells)
    return np.asarray(points), np.asarray(log_volumes)


NETWORK = MLP((64, 64), jnp.sin)  # sines follow a spiral with fewer updates than SiLU
BUMPS, _ = grid(cells=12)


def init(network: nn.Module, key: jax.Array, size: int = 2) -> Any:
    """Return fresh parameters of a network of a vector."""
    return network.init(key, jnp.zeros(size))


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
    # softmax keeps the vector from vanishing outside the square
    weights = jax.nn.softmax(-jnp.sum((y - BUMPS) ** 2, axis=1) / (2 * 0.5**2))
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


def contrast(name: str) -> Objective:
    """Return a loss of the table for ``positive_energy``, of batches from ``against``."""
    return objectives.discriminative(
        jax.vmap(positive_energy, (None, 0)), losses_by_name.named(name)
    )


_PUSH_DOWN_CODE = objectives.push_down(sparse_energy)


def fit_code(
    run: work_directory.Run,
    name: str,
    positives: np.ndarray,
    sparsity: float,
    key,
    *,
    steps: int,
    seed: int,
) -> Any:
    """Train the dictionary of ``sparse_energy`` on positives; return its parameters.

    It starts from the bumps of uniform points, which explain all of the plane.
    """
    start_key, fit_key = jax.random.split(key)
    start = jax.vmap(bumps)(uniform(start_key, len(BUMPS))).T, sparsity
    batch = minibatches.batches(positives, batch_size=128, seed=seed)
    fitted, _ = loop.fit(
        run, name, _PUSH_DOWN_CODE, start, batch, fit_key, steps=steps, learning_rate=3e-2
    )
    return fitted


def load(workdir: Path | str, training: str) -> tuple[Energy, Any]:
    """Return (energy, params) of one training of a finished run of ``collapse`` or ``three_ways``.

    energy(params, y (2,)) -> (), that of the code where the name begins with sparse, and otherwise
    of the network; ``training`` is the name of its file, without .npz.
    """
    path = command_line.home_path(workdir) / f"{training}.npz"
    if training.startswith("sparse"):
        shapes = (len(BUMPS), len(BUMPS)), ()
        like = tuple(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
        return sparse_energy, checkpoints.read_parameters(path, like)
    like = jax.eval_shape(lambda key: init(NETWORK, key), jax.random.key(0))
    return positive_energy, checkpoints.read_parameters(path, like)


def evaluator(energy: Energy) -> Callable[[Any, np.ndarray], np.ndarray]:
    """Return (params, points (n, 2)) -> the energies (n,), compiled."""
    compiled = ebm_jax.jit(jax.vmap(energy, (None, 0)))
    return lambda params, points: np.asarray(compiled(params, points))


def volume(on_grid: np.ndarray, held_out: np.ndarray) -> float:
    """Return the share of the plane as low in energy as 95 % of the held-out data."""
    return float(diagnostics.low_energy_volume(on_grid, held_out))


def least_volume(sample: np.ndarray, cells: int = CELLS) -> float:
    """Return the smallest share of the plane with 95 % of the data: the least possible volume."""
    edges = np.linspace(-HALF_WIDTH, HALF_WIDTH, cells + 1)
    counts = np.sort(np.histogram2d(*sample.T, bins=(edges, edges))[0].ravel())[::-1]
    return float(np.searchsorted(np.cumsum(counts), 0.95 * counts.sum()) + 1) / cells**2


def limits(*surfaces: np.ndarray) -> tuple[float, float]:
    """Return a colour scale for surfaces that are compared: their 2nd and 98th percentile.

    The scale spans at least 0.05, so that a flat energy looks flat.
    """
    low, high = np.quantile(np.concatenate(surfaces), [0.02, 0.98])
    return float(low), float(max(high, low + 0.05))


def surface(
    axis,
    values: np.ndarray,
    title: str,
    half_width: float = HALF_WIDTH,
    scale: tuple[float, float] | None = None,
):
    """Draw energies on the grid, low energies dark.

    The scale of colours is that of ``limits``; give the same one to panels that are compared.
    """
    cells = int(np.sqrt(len(values)))
    low, high = scale or limits(values)
    image = axis.imshow(
        values.reshape(cells, cells).T,
        origin="lower",
        extent=(-half_width, half_width) * 2,
        cmap="viridis",
        vmin=low,
        vmax=high,
    )
    axis.set_title(title)
    axis.set_xticks([])
    axis.set_yticks([])
    return image
