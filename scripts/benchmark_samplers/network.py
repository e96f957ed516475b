"""A small network energy in the plane, trained in seconds by exact maximum likelihood."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ebm_jax.types import Array, Params
from experiments.data.densities import DENSITIES

TRAINING_HALF_WIDTH = 8.0  # of the square that training sums over
HALF_WIDTH = 16.0  # of the square of the quadrature, outside of which is less than 1e-10
SIZES = (2, 32, 32, 1)
CONFINEMENT = 3.0  # standard deviation of the Gaussian that multiplies exp(-network)


def init(seed: int) -> Params:
    """Return random weights and biases of the layers."""
    rng = np.random.default_rng(seed)
    return [
        (jnp.asarray(rng.standard_normal((i, o)) / np.sqrt(i), jnp.float32), jnp.zeros(o))
        for i, o in itertools.pairwise(SIZES)
    ]


def energy(params: Params, x: Array) -> Array:
    """Return the network's output at one point, plus the energy of a wide Gaussian."""
    hidden = x
    for weights, bias in params[:-1]:
        hidden = jnp.tanh(hidden @ weights + bias)
    weights, bias = params[-1]
    return (hidden @ weights + bias)[0] + jnp.sum(x**2) / (2 * CONFINEMENT**2)


def grid(num: int, half_width: float) -> np.ndarray:
    """Return the centres of num x num cells of a square, (num^2, 2)."""
    side = (np.arange(num) + 0.5) / num * 2 * half_width - half_width
    return np.stack(np.meshgrid(side, side, indexing="ij"), axis=-1).reshape(-1, 2)


@functools.cache
def train(num_updates: int = 600, num: int = 72) -> Params:
    """Return parameters trained on the pinwheel density, with Z as a sum over a grid."""
    points = grid(num, TRAINING_HALF_WIDTH)
    density = np.exp(DENSITIES["pinwheel"].log_density(points))
    data = jnp.asarray(density / density.sum(), jnp.float32)
    cells = jnp.asarray(points, jnp.float32)
    optimizer = optax.adam(optax.cosine_decay_schedule(1e-2, num_updates))

    def loss(params: Params) -> Array:
        values = jax.vmap(energy, (None, 0))(params, cells)
        return data @ values + jax.nn.logsumexp(-values)

    def update(carry, _):
        params, state = carry
        changes, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, changes), state), None

    params = init(0)
    start = (params, optimizer.init(params))
    return jax.jit(lambda carry: jax.lax.scan(update, carry, length=num_updates)[0])(start)[0]


def quadrature(params: Params, num: int) -> tuple[np.ndarray, float, np.ndarray]:
    """Return the points of a grid, log Z, and the probability of each cell, in float64."""
    points = grid(num, HALF_WIDTH)
    hidden = points
    weights = [[np.asarray(leaf, np.float64) for leaf in layer] for layer in params]
    for matrix, bias in weights[:-1]:
        hidden = np.tanh(hidden @ matrix + bias)
    matrix, bias = weights[-1]
    values = (hidden @ matrix + bias)[:, 0] + np.sum(points**2, axis=1) / (2 * CONFINEMENT**2)
    highest = -values.min()
    total = np.exp(-values - highest).sum()
    log_z = highest + np.log(total) + 2 * np.log(2 * HALF_WIDTH / num)
    return points, float(log_z), np.exp(-values - highest) / total
