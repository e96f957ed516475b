"""Nothing depends on where the origin is: distances far from it, against NumPy in float64.

Points are multiples of 2^-10 and shifts are integers up to 10,000: moved points are exact in
float32, so that all that may change is the rounding of the computation.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.special import digamma, gammaln

from ebm_jax import objectives, samplers

KEY = jax.random.key(0)
SHIFTS = [0.0, 1.0, 10.0, 100.0, 1e3, 1e4]
A = np.array([0.5, -0.3, 1.2])


def points(num, size, seed=0, clumps=0.0):
    """Return exact points, (num, size), in two clumps at +- ``clumps``."""
    x = np.random.default_rng(seed).normal(size=(num, size))
    x[::2] += clumps
    x[1::2] -= clumps
    return np.round(x * 2**10) / 2**10


def entropy(x):
    """Kozachenko and Leonenko, with all distances from differences in float64."""
    n, d = x.shape
    distances = np.sqrt(((x[:, None] - x) ** 2).sum(-1))
    radii = np.min(distances + np.diag(np.full(n, np.inf)), axis=1)
    log_ball = d / 2 * np.log(np.pi) - gammaln(d / 2 + 1)
    return d * np.log(radii).mean() + log_ball + np.log(n - 1) - digamma(1)


@pytest.mark.parametrize("clumps", [0.0, 1000.0])
@pytest.mark.parametrize("size", [1, 3])
def test_entropy(size, clumps):
    x = points(60, size, clumps=clumps)
    expected = entropy(x)
    estimate = jax.jit(objectives.nearest_neighbor_entropy)
    for shift in SHIFTS:
        found = estimate(jnp.asarray(x + shift, jnp.float32))
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=str(shift))


def test_entropy_of_leaves_is_in_the_widest_of_their_types(x64):
    x = points(60, 2)
    leaves = {"a": jnp.asarray(x[:, 0], jnp.float32), "b": x[:, 1] * 2.0**-30 + 1.0}
    expected = entropy(np.stack([leaves["a"], leaves["b"]], axis=1).astype(np.float64))
    found = objectives.nearest_neighbor_entropy(leaves)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def quartic(params, x):
    """Return an energy around an origin that moves with the points."""
    scale, origin = params
    return jnp.sum(scale * (x - origin) ** 4) / 4


def stein(scale, x, length=None):
    """Return the double sum and the length, from differences in float64."""
    n, d = x.shape
    score, z = -scale * x**3, x[:, None] - x
    square = (z**2).sum(-1)
    away = ~np.eye(n, dtype=bool)
    if length is None:
        distances = np.sqrt(square[away])
        length = np.median(distances) or np.median(distances[distances > 0])
    cross = ((score[:, None] - score) * z).sum(-1)
    u = score @ score.T + cross / length**2 + d / length**2 - square / length**4
    u *= np.exp(-square / (2 * length**2))
    return u[away].sum() / (n * (n - 1)), length


@pytest.mark.parametrize("length", [None, 0.7])
def test_kernelized_stein_discrepancy(length):
    x = points(40, 3)
    expected, scale = stein(A, x, length)
    objective = objectives.kernelized_stein_discrepancy(quartic, length)
    # Quadratic in the parameters: central differences are exact.
    h = 0.5
    slope = [
        (stein(A + h * e, x, length)[0] - stein(A - h * e, x, length)[0]) / (2 * h)
        for e in np.eye(3)
    ]

    @jax.jit
    def compute(scale, shift, batch):
        def loss(scale):
            return objective.loss((scale, shift), (), batch, KEY)

        return jax.value_and_grad(loss, has_aux=True)(scale)

    for shift in SHIFTS:
        batch = jnp.asarray(x + shift, jnp.float32)
        (value, (_, metrics)), gradient = compute(jnp.asarray(A, jnp.float32), shift, batch)
        np.testing.assert_allclose(metrics["length"], scale, rtol=1e-5)
        np.testing.assert_allclose(value, expected, rtol=2e-5, err_msg=str(shift))
        np.testing.assert_allclose(gradient, slope, rtol=2e-5, atol=1e-5)


@pytest.mark.parametrize("clumps", [0.0, 1000.0])
def test_kernelized_stein_discrepancy_of_clumps(clumps):
    """Clumps far apart do not see each other: the sum is that of each, in few numbers."""
    near = points(40, 3)
    x = near + clumps * np.where(np.arange(40) % 2, 1, -1)[:, None]
    sums = [stein(A, near[i::2], 0.7)[0] * 20 * 19 for i in range(2)]
    expected = sum(sums) / (40 * 39) if clumps else stein(A, near, 0.7)[0]

    def energy(params, x):  # with a copy of the bowl in each clump
        return quartic((jnp.asarray(A, x.dtype), clumps * jnp.where(x > 0, 1.0, -1.0)), x)

    if not clumps:
        energy = functools.partial(lambda _, x: quartic((jnp.asarray(A, x.dtype), 0.0), x))
    objective = objectives.kernelized_stein_discrepancy(energy, 0.7)
    found, _ = jax.jit(lambda b: objective.loss(None, (), b, KEY))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("equal", [0.0, 0.6, 0.9])
def test_the_length_is_a_number_where_most_rows_are_equal(equal):
    x = points(20, 3)
    x[: round(equal * 20)] = 0.25
    objective = objectives.kernelized_stein_discrepancy(quartic)
    expected, scale = stein(A, x)
    found, (_, metrics) = jax.jit(lambda b: objective.loss((A, 0.0), (), b, KEY))(
        jnp.asarray(x, jnp.float32)
    )
    np.testing.assert_allclose(metrics["length"], scale, rtol=1e-5)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("clumps", [0.0, 100.0])
def test_optimal_coupling(clumps):
    noise, data = points(30, 2), points(30, 2, seed=1, clumps=clumps)
    _, order = linear_sum_assignment(((data[:, None] - noise) ** 2).sum(-1))
    couple = jax.jit(objectives.optimal_coupling)
    for of_noise in SHIFTS:
        for of_data in SHIFTS:
            moved = noise + of_noise, data + of_data
            found = couple(*(jnp.asarray(x, jnp.float32) for x in moved))
            np.testing.assert_array_equal(found, noise[order] + of_noise)


def test_improved_contrastive_divergence():
    """Its value, with the entropy of where the chains end: descents without noise."""
    x, h = points(60, 2), 0.25
    ends = x * (1 - h)
    expected = np.mean((x**2).sum(1)) / 2 - entropy(ends)

    def energy(origin, x):
        return jnp.sum((x - origin) ** 2) / 2

    make_sampler = functools.partial(samplers.ula, step_size=h, beta=math.inf)
    loss = objectives.improved_contrastive_divergence(energy, make_sampler, num_steps=1).loss
    loss = jax.jit(loss)
    for shift in SHIFTS:
        found, _ = loss(jnp.float32(shift), (), jnp.asarray(x + shift, jnp.float32), KEY)
        # Positions at 10,000 are multiples of 2^-10: the ends are rounded to that.
        np.testing.assert_allclose(found, expected, atol=1e-5 + 2e-6 * shift, err_msg=str(shift))
