"""Independent answers: NumPy enumeration, quadrature and finite differences in float64."""

import itertools
import math

import numpy as np


def log_partition(energies, beta=1.0, weights=None):
    """log sum_i w_i exp(-beta E_i), term by term in exact summation."""
    energies = np.asarray(energies, np.float64).ravel()
    weights = np.ones(len(energies)) if weights is None else np.asarray(weights, np.float64)
    shift = min(energies)
    terms = [w * math.exp(-beta * (e - shift)) for w, e in zip(weights, energies, strict=True)]
    return math.log(math.fsum(terms)) - beta * shift


def probabilities(energies, beta=1.0, weights=None):
    energies = np.asarray(energies, np.float64)
    weights = np.ones(len(energies)) if weights is None else np.asarray(weights, np.float64)
    unnormalised = weights * np.exp(-beta * (energies - energies.min()))
    return unnormalised / unnormalised.sum()


def grid(low, high, cells, dimension):
    """Midpoints (cells**d, d) of a grid of cells, and the volume of one."""
    width = (high - low) / cells
    axis = low + width * (np.arange(cells) + 0.5)
    mesh = np.meshgrid(*[axis] * dimension, indexing="ij")
    return np.stack([m.ravel() for m in mesh], axis=1), width**dimension


def finite_difference(function, x, step=1e-6):
    """Central differences of a scalar function of a flat float64 array."""
    x = np.asarray(x, np.float64)
    gradient = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        bump = np.zeros_like(x)
        bump[i] = step
        gradient[i] = (float(function(x + bump)) - float(function(x - bump))) / (2 * step)
    return gradient


def alignments(windows, labels):
    """Enumerate every monotone onto path, (C(L-1, T-1), L)."""
    steps = itertools.combinations(range(1, windows), labels - 1)
    return np.array([[sum(s <= i for s in cut) for i in range(windows)] for cut in steps])


def alignment_energies(energies, num_labels=None):
    """Return every path, and its energy, the sum over its cells."""
    z = alignments(len(energies), num_labels or energies.shape[1])
    return z, energies[np.arange(len(energies)), z].sum(axis=1)


def soft_minimum(values, beta):
    """-log(sum exp(-beta E)) / beta, and the least at beta = inf."""
    values = np.asarray(values, np.float64)
    low = values.min()
    return low if beta == np.inf else low - np.log(np.exp(-beta * (values - low)).sum()) / beta
