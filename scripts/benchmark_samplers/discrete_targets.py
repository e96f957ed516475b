"""Targets of discrete variables, whose moments and log Z are sums over all states."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import samplers
from ebm_jax.energies import boltzmann, pairwise
from ebm_jax.partition import exact, paths
from ebm_jax.types import Array, Key
from scripts.benchmark_samplers.targets import Target


def enumerated(energy, functions, dimension: int, values: tuple[int, ...]):
    """Return (mean, variance, log Z, exact sampler) by a sum over all states in float64."""
    states = exact.states(dimension, values)
    exponents = -np.asarray(jax.vmap(energy)(states), np.float64)
    highest = exponents.max()
    weights = np.exp(exponents - highest)
    log_z, probability = highest + np.log(weights.sum()), weights / weights.sum()
    table = np.asarray(jax.vmap(functions)(states), np.float64)
    mean = probability @ table
    cumulative = jnp.asarray(np.cumsum(probability), jnp.float32)

    def sample(key: Key, num: int) -> Array:
        drawn = jnp.searchsorted(cumulative, jax.random.uniform(key, (num,)), side="right")
        return states[jnp.minimum(drawn, len(states) - 1)].astype(jnp.int8)

    return mean, probability @ (table - mean) ** 2, float(log_z), sample


def spins(couplings, fields, edges: np.ndarray) -> Target:
    """Return spins on a graph; the functions are all spins and the products along the edges."""
    params = pairwise.Pairwise(jnp.asarray(couplings), jnp.asarray(fields))
    first, second = edges.T

    def functions(x: Array) -> Array:
        x = x.astype(jnp.float32)
        return jnp.concatenate([x, x[first] * x[second]])

    energy = functools.partial(pairwise.energy, params, edges=edges)
    mean, variance, log_z, sample = enumerated(energy, functions, len(fields), (-1, 1))
    return Target(
        energy,
        functions,
        mean,
        variance,
        len(fields),
        log_z,
        sample,
        gibbs=lambda beta: samplers.graph_gibbs(params, edges, values=(-1, 1), beta=beta),
        values=(-1, 1),
    )


def ising() -> Target:
    """Return the 4 x 4 Ising model on a torus at the critical coupling of the infinite lattice."""
    sites = np.arange(16).reshape(4, 4)
    pairs = [(sites, np.roll(sites, -1, axis)) for axis in (0, 1)]
    edges = np.concatenate([np.stack([a.ravel(), b.ravel()], axis=1) for a, b in pairs])
    critical = np.log1p(np.sqrt(2)) / 2
    return spins(
        np.full(len(edges), critical, np.float32),
        np.zeros(16, np.float32),
        edges,
    )


def random_graph() -> Target:
    """Return a spin glass with fields on a random graph with 14 nodes and 28 edges."""
    rng = np.random.default_rng(0)
    every = np.stack(np.triu_indices(14, 1), axis=1)
    edges = every[np.sort(rng.choice(len(every), 28, replace=False))]
    return spins(
        rng.standard_normal(28).astype(np.float32),
        (0.3 * rng.standard_normal(14)).astype(np.float32),
        edges,
    )


def rbm() -> Target:
    """Return the free energy of an RBM with 12 visible and 6 hidden units."""
    rng = np.random.default_rng(0)
    weights = 2.0 * rng.standard_normal((12, 6)).astype(np.float32)
    params = boltzmann.RBM(
        jnp.asarray(weights),
        jnp.asarray(-weights.sum(1) / 2),
        jnp.asarray(-weights.sum(0) / 2),
    )

    def functions(x: Array) -> Array:
        x = x.astype(jnp.float32)
        return jnp.concatenate([x, x[:-1] * x[1:]])

    energy = functools.partial(boltzmann.rbm_free_energy, params)
    mean, variance, log_z, sample = enumerated(energy, functions, 12, (0, 1))
    return Target(
        energy,
        functions,
        mean,
        variance,
        12,
        log_z,
        sample,
        gibbs=lambda beta: samplers.rbm_gibbs(params, beta=beta),
        values=(0, 1),
        path=paths.rbm(params, jnp.zeros(12)),
    )


DISCRETE: dict[str, Callable[[], Target]] = {
    "ising": ising,
    "random_graph": random_graph,
    "rbm": rbm,
}
