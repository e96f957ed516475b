"""The energy of a point of the plane, and what is exact of it on a grid."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import gaussian_filter

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
        self,
        density: densities.Density,
        energy: Energy,
        test: np.ndarray,
        cells: int = FINE,
        *,
        sigma: float | None = None,
    ) -> None:
        """Evaluate the density on the grid, once.

        With ``sigma`` the divergence from the density with normal noise of that standard deviation
        is measured too, which is what an energy of that noise level should learn.
        """
        points, log_areas = grid(cells)
        self.log_truth = density.log_density(np.asarray(points))
        self.optimal_nll = float(-density.log_density(test).mean())
        self.cells = cells
        self.seen: list[np.ndarray] = []  # log-densities on the grid, as training went on
        self._centres, self._points = density.centres, np.asarray(points)
        self.area = float(np.exp(log_areas[0]))
        self.log_z = np.nan
        self._with_noise = None
        if sigma is not None:
            on_grid = np.exp(self.log_truth).reshape(cells, cells)
            width = sigma / np.sqrt(self.area)
            self._with_noise = gaussian_filter(on_grid, width, mode="constant", truncate=8).ravel()

        @ebm_jax.jit
        def evaluate(params: Params) -> tuple[Array, Array, Array]:
            each = jax.vmap(energy, (None, 0))
            on_grid = each(params, points)
            log_z = gibbs.log_partition(on_grid, log_weights=log_areas)
            return -on_grid - log_z, jnp.mean(each(params, test)) + log_z, log_z

        self._evaluate = evaluate

    def measure(self, params: Params) -> dict[str, float]:
        """Return test NLL, divergence and total variation of an energy's parameters."""
        log_q, nll, log_z = self._evaluate(objectives_by_name.energy_params(params))
        log_q, self.log_z = np.asarray(log_q, np.float64), float(log_z)
        self.seen.append(log_q)
        p = np.exp(self.log_truth)
        variation = np.abs(p - np.exp(log_q)).sum() * self.area / 2
        measures = {"test_nll": float(nll), "kl": self._kl(p, log_q), "total_variation": variation}
        if self._with_noise is not None:
            measures["kl_lowest_level"] = self._kl(self._with_noise, log_q)
        return measures

    def _kl(self, p: np.ndarray, log_q: np.ndarray) -> float:
        inside = p > 0
        return (p[inside] * (np.log(p[inside]) - log_q[inside])).sum() * self.area

    def draws(self, num: int, seed: int) -> np.ndarray:
        """Return exact draws (num, 2) of the energy last measured, uniform within a cell."""
        rng, mass = np.random.default_rng(seed), np.exp(self.seen[-1]) * self.area
        drawn = np.stack(np.divmod(rng.choice(len(mass), num, p=mass / mass.sum()), self.cells))
        return ((drawn + rng.random(drawn.shape)) * 2 * HALF_WIDTH / self.cells - HALF_WIDTH).T

    def mode_weights(self) -> dict[str, list[float]]:
        """Return the mass nearest to each mode, where the density has such: 1/8 of 8gaussians."""
        if not len(self._centres):
            return {}
        apart = ((self._points[:, None] - self._centres) ** 2).sum(-1)
        mass = np.exp(self.seen[-1]) * self.area
        found = np.bincount(apart.argmin(1), mass, len(self._centres))
        return {"mode_weights": [round(float(weight), 4) for weight in found]}
