"""The energy of a point of the plane, and what is exact of it on a grid."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import gibbs
from ebm_jax.energies.networks import MLP
from ebm_jax.types import Array, Energy, Params
from experiments import objectives_by_name
from experiments.data import densities
from experiments.data.densities import HALF_WIDTH

FINE = 360  # cells of a side of the grid that measures: 0.025 wide


def make_energy(hidden: int, octaves: int) -> tuple[Energy, Callable[[jax.Array], Params]]:
    """Return energy(params, x) -> () of a point x (2,), and key -> its parameters."""
    network = MLP((hidden, hidden))
    frequencies = np.pi / 8 * 2.0 ** np.arange(octaves)  # the lowest has not turned at the edge

    def waves(x: Array) -> Array:
        phase = jnp.ravel(x[:, None] * frequencies)
        return jnp.concatenate([jnp.sin(phase), jnp.cos(phase)])

    def energy(params: Params, x: Array) -> Array:
        bowl = jnp.sum(x**2) / 18 + np.log(18 * np.pi)  # alone it is normalised in the plane
        return network.apply(params, waves(x)) + bowl  # pyright: ignore

    return energy, lambda key: network.init(key, waves(jnp.zeros(2)))


def grid(cells: int) -> tuple[Array, Array]:
    """Return midpoints and log areas of the square's cells."""
    return gibbs.grid([-HALF_WIDTH] * 2, [HALF_WIDTH] * 2, cells)


class Exactly:
    """What is exact of an energy on the fine grid, compared with a density; what it was."""

    def __init__(
        self, density: densities.Density, energy: Energy, test: np.ndarray, cells: int = FINE
    ) -> None:
        """Evaluate the density on the grid, once."""
        points, log_areas = grid(cells)
        self.log_truth = density.log_density(np.asarray(points))
        self.optimal_nll = float(-density.log_density(test).mean())
        self.cells = cells
        self.seen: list[np.ndarray] = []  # log-densities on the grid, as training went on
        self._centres, self._points = density.centres, np.asarray(points)
        self.area = float(np.exp(log_areas[0]))

        @ebm_jax.jit
        def evaluate(params: Params) -> tuple[Array, Array]:
            each = jax.vmap(energy, (None, 0))
            on_grid = each(params, points)
            log_z = gibbs.log_partition(on_grid, log_weights=log_areas)
            return -on_grid - log_z, jnp.mean(each(params, test)) + log_z

        self._evaluate = evaluate

    def measure(self, params: Params) -> dict[str, float]:
        """Return test NLL, divergence and total variation of an energy's parameters."""
        log_q, nll = self._evaluate(objectives_by_name.energy_params(params))
        log_q = np.asarray(log_q, np.float64)
        self.seen.append(log_q)
        p = np.exp(self.log_truth)
        inside = p > 0
        divergence = (p[inside] * (self.log_truth - log_q)[inside]).sum() * self.area
        variation = np.abs(p - np.exp(log_q)).sum() * self.area / 2
        return {"test_nll": float(nll), "kl": divergence, "total_variation": variation}

    def mode_weights(self) -> dict[str, list[float]]:
        """Return the mass nearest to each mode, where the density has such: 1/8 of 8gaussians."""
        if not len(self._centres):
            return {}
        apart = ((self._points[:, None] - self._centres) ** 2).sum(-1)
        mass = np.exp(self.seen[-1]) * self.area
        found = np.bincount(apart.argmin(1), mass, len(self._centres))
        return {"mode_weights": [round(float(weight), 4) for weight in found]}
