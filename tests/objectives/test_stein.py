"""The kernelised Stein discrepancy against its closed form, its sum and a known Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import objective_checks as checks
import oracles
import pytest

from ebm_jax.objectives import kernelized_stein_discrepancy

KEY = jax.random.key(0)
X = np.random.default_rng(0).normal(size=(7, 3))
A = np.array([0.5, -0.3, 1.2])


def quartic(a, x):
    return jnp.sum(a * x**4) / 4


def by_pairs(a, length, x=X):
    """The double sum, with the kernel's derivatives by differences of the kernel."""

    def kernel(x, y):
        return np.exp(-np.sum((x - y) ** 2) / (2 * length**2))

    def one(x, y):
        s, t, step = -a * x**3, -a * y**3, 1e-4
        total = s @ t * kernel(x, y)
        for unit in step * np.eye(len(x)):
            by_x = (kernel(x + unit, y) - kernel(x - unit, y)) / (2 * step)
            by_y = (kernel(x, y + unit) - kernel(x, y - unit)) / (2 * step)
            both = kernel(x + unit, y + unit) - kernel(x + unit, y - unit)
            both += kernel(x - unit, y - unit) - kernel(x - unit, y + unit)
            total += (s @ unit * by_y + t @ unit * by_x) / step + both / (4 * step**2)
        return total

    n = len(x)
    return sum(one(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))


@pytest.mark.parametrize("length", [0.7, 2.0])
def test_it_is_the_sum_over_pairs(length, x64):
    objective = kernelized_stein_discrepancy(quartic, length)
    found = checks.values_and_gradients(objective, A, X + 3, 1)[0]
    expected = lambda a: by_pairs(a, length, X + 3)  # noqa: E731
    slope = oracles.finite_difference(expected, A, step=1e-2)
    np.testing.assert_allclose(found, [expected(A), *slope], rtol=1e-5)


def test_the_length_is_the_median_distance_and_a_constant(x64):
    """It is found from the data: no derivative by them goes through it."""
    distances = [np.linalg.norm(X[i] - X[j]) for i in range(7) for j in range(i)]
    (given, (_, metrics)), slope = jax.jit(
        lambda x: (
            kernelized_stein_discrepancy(quartic).loss(A, (), x, KEY),
            jax.grad(lambda y: kernelized_stein_discrepancy(quartic).loss(A, (), y, KEY)[0])(x),
        )
    )(X)
    median = float(np.median(distances))
    np.testing.assert_allclose(metrics["length"], median)
    np.testing.assert_allclose(given, by_pairs(A, median), rtol=1e-5)
    fixed = oracles.finite_difference(lambda x: by_pairs(A, median, x), X, step=1e-4)
    np.testing.assert_allclose(slope, fixed, atol=1e-4)


@pytest.mark.parametrize("length", [0.8, 3.0])
def test_gaussians_apart(length, x64):
    """|mu|^2 (l^2 / (l^2 + 2))^(d/2), by repeated samples; 0 where the two are the same."""
    objective = kernelized_stein_discrepancy(lambda mu, x: jnp.sum((x - mu) ** 2) / 2, length)
    mu = np.array([0.4, -0.2, 0.1])
    samples = np.random.default_rng(1).normal(size=(400, 50, 3))
    run = jax.jit(jax.vmap(lambda x, m: objective.loss(m, (), x, KEY)[0], (0, None)))
    found = np.stack([run(samples, mu), run(samples, 0 * mu)], axis=1)
    expected = mu @ mu * (length**2 / (length**2 + 2)) ** 1.5
    checks.assert_mean(found, [expected, 0.0])


def test_training_finds_the_gaussian(x64):
    truth = checks.theta_of(checks.MEAN, checks.COVARIANCE)[:-1]
    objective = kernelized_stein_discrepancy(checks.gaussian, 3.0)
    checks.assert_finds(objective, truth, checks.batches(100, 100), checks.START[:-1], 3)


def test_leaves_count_together_and_a_class_is_given(x64):
    def of_parts(a, x):
        return x["class"] * quartic(a, jnp.concatenate([x["u"][None], x["v"][:, 0]]))

    parts = {"u": X[:, 0], "v": X[:, 1:, None], "class": np.full(len(X), 2)}
    objective = kernelized_stein_discrepancy(of_parts, 1.0)
    found, _ = jax.jit(lambda: objective.loss(A, (), parts, KEY))()
    np.testing.assert_allclose(found, by_pairs(2 * A, 1.0), rtol=1e-5)


LOSSES = checks.losses_of(
    [kernelized_stein_discrepancy(quartic, 1.0), kernelized_stein_discrepancy(quartic)], A
)


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_every_type_is_right_up_to_rounding(scale, x64):
    checks.assert_right_in_every_type(LOSSES, scale * X)


def test_a_row_of_nan_is_seen(x64):
    checks.assert_nan_is_seen(LOSSES, X)


def test_the_same_data_twice_have_no_median_distance(x64):
    _, value = LOSSES(jnp.ones((3, 3)))
    assert np.isnan(value[0])
