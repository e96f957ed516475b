"""The densities of the plane: they are normalised, and what is drawn from them is of them."""

import numpy as np
import pytest

from experiments.data import densities
from experiments.data.densities import DENSITIES, HALF_WIDTH

CELLS, COARSE = 180, 30


@pytest.fixture(scope="module", params=list(DENSITIES))
def gridded(request):
    """A density and its values at the midpoints of a grid, (CELLS, CELLS)."""
    density = DENSITIES[request.param]
    edges = np.linspace(-HALF_WIDTH, HALF_WIDTH, CELLS + 1)
    middle = (edges[1:] + edges[:-1]) / 2
    points = np.stack(np.meshgrid(middle, middle, indexing="ij"), -1).reshape(-1, 2)
    return density, np.exp(density.log_density(points)).reshape(CELLS, CELLS)


def test_it_is_normalised_within_the_square(gridded):
    _, p = gridded
    assert p.sum() * (2 * HALF_WIDTH / CELLS) ** 2 == pytest.approx(1, abs=2e-5)


def test_samples_are_of_it(gridded):
    """Pearson's statistic of 50,000 points in 900 cells, beyond 5 of its deviations in 1e-5."""
    density, p = gridded
    x = density.sample(50_000, 0)
    assert x.shape == (50_000, 2)
    assert x.dtype == np.float32
    edges = np.linspace(-HALF_WIDTH, HALF_WIDTH, COARSE + 1)
    found = np.histogram2d(*x.T, bins=(edges, edges))[0].ravel()
    size = CELLS // COARSE
    mass = p.reshape(COARSE, size, COARSE, size).sum((1, 3)) * (2 * HALF_WIDTH / CELLS) ** 2
    expected = len(x) * mass.ravel()
    often = expected > 10
    # What is left over is a cell of its own.
    found = np.append(found[often], len(x) - found[often].sum())
    expected = np.append(expected[often], len(x) - expected[often].sum())
    statistic, freedom = ((found - expected) ** 2 / expected).sum(), len(found) - 1
    assert abs(statistic - freedom) < 5 * np.sqrt(2 * freedom)


def test_a_seed_draws_the_same_again(gridded):
    density, _ = gridded
    np.testing.assert_array_equal(density.sample(100, 3), density.sample(100, 3))
    assert not np.array_equal(density.sample(100, 3), density.sample(100, 4))


def test_curves_are_those_of_a_fine_mixture():
    """The quadrature over a curve, against 20,000 equidistant components."""
    t = (np.arange(20_000) + 0.5) / 20_000
    x = DENSITIES["swissroll"].sample(30, 0).astype(float)
    angle = 1.5 * np.pi * (1 + 2 * t)
    curve = np.stack([angle * np.cos(angle), angle * np.sin(angle)], 1) / 5
    each = np.exp(-((x[:, None] - curve) ** 2).sum(-1) / (2 * 0.2**2)) / (2 * np.pi * 0.2**2)
    found = DENSITIES["swissroll"].log_density(x)
    np.testing.assert_allclose(found, np.log(each.mean(1)), rtol=1e-6)


def test_the_checkerboards_walls():
    points = np.array([[-3.0, -3.0], [-3.0, -1.0], [1.0, 1.0], [4.1, 3.0], [3.9, 3.9]])
    found = DENSITIES["checkerboard"].log_density(points)
    np.testing.assert_allclose(np.exp(found), np.array([1, 0, 1, 0, 1]) / 32)


def test_the_eight_modes():
    centres = DENSITIES["8gaussians"].centres
    assert centres.shape == (8, 2)
    peak = DENSITIES["8gaussians"].log_density(centres)
    np.testing.assert_allclose(peak, -np.log(8 * 2 * np.pi * 0.125), atol=1e-3)
    assert not len(densities.DENSITIES["moons"].centres)
