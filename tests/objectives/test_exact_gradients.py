"""Parameter gradients of objectives that run chains or descents, against exact ones.

The exact ones are central differences, in float64, of expectations by quadrature or of the same
computation in NumPy. Energies are not linear in their parameters, and not quadratic in x.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy.spatial import cKDTree
from scipy.special import logsumexp

from ebm_jax import inference, objectives, samplers

KEY = jax.random.key(0)
THETA = np.array([0.7, 0.4, 1.3])
DATA = np.array([-1.2, 0.3, 0.9])
AXIS, CELL = oracles.grid(-6.0, 6.0, 1500, 1)
AXIS = AXIS[:, 0]


def energy(theta, x, lib=jnp):
    """Return the energy of x, whose numbers lie on the last axis."""
    wave = lib.sin(theta[2] * x.sum(-1)) + (theta[1] * x**2).sum(-1)
    return wave + (theta[0] ** 2 * x**4).sum(-1) / 4


def slope(theta, x):
    """Return its derivative by x, in NumPy."""
    wave = theta[2] * np.cos(theta[2] * x.sum(-1, keepdims=True))
    return wave + 2 * theta[1] * x + theta[0] ** 2 * x**3


on_line = functools.partial(lambda theta, x: energy(theta, x[..., None], np))  # x are numbers


def test_the_slope_is_that_of_the_energy():
    x = np.array([0.3, -0.8])
    found = oracles.finite_difference(lambda x: energy(THETA, x, np), x)
    np.testing.assert_allclose(found, slope(THETA, x), atol=1e-8)


def assert_within(found, expected, deviation, num):
    """4.5 standard errors of a mean, of three numbers: false alarm 2e-5; 0 would be far off."""
    error = deviation / np.sqrt(num)
    assert (np.abs(found - expected) < 4.5 * error).all(), (found, expected, error)
    assert (np.abs(expected) > 10 * error).all()


def features(x):
    """Return dE/dtheta at numbers, (3, len(x))."""
    pairs = ((THETA + h, THETA - h) for h in 1e-5 * np.eye(3))
    return np.array([(on_line(up, x) - on_line(down, x)) / 2e-5 for up, down in pairs])


def test_recovery_likelihood():
    """The exact loss is -log p(x | x~), its partition functions by quadrature."""
    sigma, num = 0.6, 24_000
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    noisy = (DATA[:, None] + sigma * nodes).ravel()
    weights = np.tile(weights / weights.sum() / len(DATA), len(DATA))
    distances = (noisy[:, None] - AXIS) ** 2 / (2 * sigma**2)

    def exact(theta):
        log_z = logsumexp(-on_line(theta, AXIS) - distances, axis=1)
        return on_line(theta, DATA).mean() + weights @ log_z

    logits = -on_line(THETA, AXIS) - distances
    p = weights @ np.exp(logits - logsumexp(logits, axis=1, keepdims=True))
    phi = features(AXIS)
    deviation = np.sqrt(phi**2 @ p - (phi @ p) ** 2)

    make_sampler = functools.partial(samplers.mala, step_size=0.2)
    objective = objectives.recovery_likelihood(energy, make_sampler, sigma=sigma, num_steps=40)
    batch = jnp.asarray(np.tile(DATA, num // 3)[:, None], jnp.float32)
    theta = jnp.asarray(THETA, jnp.float32)
    found = jax.jit(jax.grad(lambda t: objective.loss(t, (), batch, KEY)[0]))(theta)
    assert_within(found, oracles.finite_difference(exact, THETA), deviation, num)


def ends_of_matching(temperature, h, steps):
    """Return weights on AXIS of the chains from the data, and where those from AXIS end, cold."""
    ahead = AXIS - h * slope(THETA, AXIS[:, None])[:, 0]
    width = np.sqrt(2 * temperature * h)

    def normal(mean):
        density = np.exp(-((AXIS - mean[:, None]) ** 2) / (2 * width**2))
        return density / density.sum(1, keepdims=True)

    p = normal(DATA - h * slope(THETA, DATA[:, None])[:, 0]).mean(0)
    for _ in range(steps - 1):
        p = p @ normal(ahead)
    cold = AXIS
    for _ in range(steps):
        cold = cold - h * slope(THETA, cold[:, None])[:, 0]
    return p, cold


@pytest.mark.slow
def test_the_contrast_of_energy_matching():
    """Half of the chains by their transition matrix, half by where the descent leads."""
    h, steps, temperature, num, weight = 0.05, 6, 0.4, 24_000, 0.7
    hot, cold = ends_of_matching(temperature, h, steps)
    start = np.exp(-(AXIS**2) / 2)
    start /= start.sum()

    def exact(theta):
        ends = on_line(theta, AXIS) @ hot / 2 + on_line(theta, cold) @ start / 2
        return weight * (on_line(theta, DATA).mean() - ends)

    of_hot, of_cold = features(AXIS), features(cold)
    variances = [(f**2 @ p - (f @ p) ** 2) / 2 for f, p in ((of_hot, hot), (of_cold, start))]
    deviation = weight * np.sqrt(sum(variances))
    options = {"temperature": temperature, "step_size": h, "num_steps": steps, "onset": 1.0}
    batch = jnp.asarray(np.tile(DATA, num // 3)[:, None], jnp.float32)

    @jax.jit
    def gradient(weight, lowest):
        made = objectives.energy_matching(energy, weight=weight, lowest=lowest, **options)
        theta = jnp.asarray(THETA, jnp.float32)
        return jax.grad(lambda t: made.loss(t, (), batch, KEY)[0])(theta)

    of_field = gradient(0.0, -1e3)
    found = gradient(weight, -1e3) - of_field
    assert_within(found, oracles.finite_difference(exact, THETA), deviation, num)
    # At its bound the contrast is a constant; short of it, itself.
    bound = exact(THETA)
    np.testing.assert_allclose(gradient(weight, bound + 0.5), of_field, atol=1e-5)
    np.testing.assert_allclose(gradient(weight, bound - 0.5) - of_field, found, atol=1e-5)


@pytest.mark.parametrize(("num_steps", "last_steps"), [(1, 1), (4, 1), (4, 3), (4, 4)])
@pytest.mark.sweep(1)
def test_improved_contrastive_divergence(num_steps, last_steps, x64):
    """The same chains in NumPy, with the noise that a flat energy shows."""
    h, weight, penalty = 0.1, 0.6, 0.05
    x = np.random.default_rng(0).normal(size=(24, 2))

    make_sampler = functools.partial(samplers.ula, step_size=h)
    first, last = jax.random.split(KEY)
    flat = samplers.ula(lambda x: 0 * jnp.sum(x), step_size=h)
    noise, at = [], flat.init(jnp.asarray(x))
    for key, steps in ((first, num_steps - last_steps), (last, last_steps)):
        if steps:
            before = at.position
            at, path = samplers.run(key, flat, at, steps, collect=lambda s, i: s.position)
            noise += list(np.diff(np.concatenate([before[None], path]), axis=0))
    noise = np.array(noise)

    def ends(theta):
        y = x
        for number, xi in enumerate(noise):
            live = number >= num_steps - last_steps
            y = y - h * slope(theta if live else THETA, y) + xi
        return y

    def entropy(y):  # up to a constant
        return y.shape[1] * np.log(cKDTree(y).query(y, 2)[0][:, 1]).mean()

    def exact(theta):
        low, high = energy(theta, x, np), energy(theta, ends(THETA), np)
        contrast = low.mean() - high.mean() + penalty * (np.mean(low**2) + np.mean(high**2))
        moved = ends(theta)
        return contrast + energy(THETA, moved, np).mean() - weight * entropy(moved)

    objective = objectives.improved_contrastive_divergence(
        energy,
        make_sampler,
        num_steps=num_steps,
        last_steps=last_steps,
        entropy_weight=weight,
        energy_penalty=penalty,
    )
    loss = jax.jit(jax.grad(lambda t: objective.loss(t, (), jnp.asarray(x), KEY)[0]))
    expected = oracles.finite_difference(exact, THETA)
    np.testing.assert_allclose(loss(jnp.asarray(THETA)), expected, rtol=1e-6)


def of_answer(theta, given, y, lib=jnp):
    """Return an energy of an answer y, (2,), given a number; convex in y."""
    away = y - lib.tanh(theta[:2] * given)
    return (away**2).sum() + theta[2] ** 2 * (away**4).sum() / 4 + lib.log(lib.cosh(y.sum()))


def answer_slope(theta, given, y):
    away = y - np.tanh(theta[:2] * given)
    return 2 * away + theta[2] ** 2 * away**3 + np.tanh(y.sum())


def unrolled(own, start):
    return inference.unroll(own, start, step_size=0.1, num_steps=4).position


def to_the_end(own, start):
    def minimize(e, y):
        return inference.unroll(e, y, step_size=0.15, num_steps=150).position

    return inference.implicit_minimum(own, start, minimize).position


@pytest.mark.parametrize(
    ("descend", "step_size", "num_steps"), [(unrolled, 0.1, 4), (to_the_end, 0.15, 400)]
)
def test_through_inference(descend, step_size, num_steps, x64):
    """The same descents in NumPy; implicit minima, by a longer one."""
    rng = np.random.default_rng(0)
    given, right = rng.normal(size=5), rng.normal(size=(5, 2))

    def exact(theta):
        each = []
        for x, answer in zip(given, right, strict=True):
            y = np.array([0.5, -0.5])
            for _ in range(num_steps):
                y = y - step_size * answer_slope(theta, x, y)
            each.append(np.sum(np.abs(y - answer) ** 3))
        return np.mean(each)

    def infer(theta, x, key):
        return descend(lambda y: of_answer(theta, x, y), jnp.array([0.5, -0.5]))

    objective = objectives.through_inference(infer, lambda y, r: jnp.sum(jnp.abs(y - r) ** 3))
    batch = jnp.asarray(given), jnp.asarray(right)
    loss = jax.value_and_grad(lambda t: objective.loss(t, (), batch, KEY)[0])
    value, gradient = jax.jit(loss)(jnp.asarray(THETA))
    np.testing.assert_allclose(value, exact(THETA), rtol=1e-9)
    np.testing.assert_allclose(gradient, oracles.finite_difference(exact, THETA), rtol=1e-6)
