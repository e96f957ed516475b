"""Score matching over a continuum of noise levels, against quadrature over noise and levels."""

import jax
import jax.numpy as jnp
import numpy as np
import objective_checks as checks
import oracles
import pytest

from ebm_jax import objectives

LOW, HIGH, TIME = 0.2, 0.8, 0.7
PARAMS = np.array([0.1, -0.4, 0.8])
DATA = np.array([[-1.0, 0.5], [0.2, 0.1], [0.9, -0.7]])


def quartic(params, x, sigma):
    return jnp.sum(params[0] * x**4 / 4 + params[1] * x**2 / 2) * sigma + params[2] * sigma**2


def weight(sigma):
    return 1 + 0.5 / sigma**2


OBJECTIVE = objectives.noise_conditional_score_matching(
    quartic, sigma_min=LOW, sigma_max=HIGH, score_weight=weight, time_score_weight=TIME
)


def by_quadrature(params):
    """The loss of ``quartic`` in NumPy: 12 Hermite nodes for each coordinate, 40 Legendre nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(12)
    xi = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2)
    probability = np.outer(weights, weights).ravel() / weights.sum() ** 2
    levels, shares = np.polynomial.legendre.leggauss(40)
    total = 0.0
    for level, share in zip((levels + 1) / 2, shares / 2, strict=True):
        sigma = LOW * (HIGH / LOW) ** level
        y = DATA[:, None] + sigma * xi
        slope = sigma * (params[0] * y**3 + params[1] * y)
        score = np.sum((sigma * slope - xi) ** 2, -1)
        potential = np.sum(params[0] * y**4 / 4 + params[1] * y**2 / 2, -1)
        of_log_sigma = sigma * potential + 2 * params[2] * sigma**2  # at a fixed noisy point
        time = (of_log_sigma - (2 - np.sum(xi**2, -1))) ** 2
        total += share * np.mean((weight(sigma) * score + TIME * time) @ probability) / 2
    return total


def test_value_and_gradient_against_quadrature(x64):
    found = checks.values_and_gradients(OBJECTIVE, PARAMS, DATA, 4000)
    slope = oracles.finite_difference(by_quadrature, PARAMS)
    checks.assert_mean(found, [by_quadrature(PARAMS), *slope])


@pytest.mark.parametrize("time_score_weight", [0.0, 1.0])
def test_the_time_score_finds_the_constant_of_every_level(time_score_weight, x64):
    """The data are 0: U = |x|^2 / (2 sigma^2) + d log sigma. Only the time score knows the d."""

    def energy(params, x, sigma):
        return params[0] * jnp.sum(x**2) / (2 * sigma**2) + params[1] * jnp.log(sigma)

    objective = objectives.noise_conditional_score_matching(
        energy, sigma_min=0.1, sigma_max=10.0, time_score_weight=time_score_weight
    )
    zeros = np.zeros((8, 3))
    at_optimum = checks.value_and_gradient(objective, jnp.array([1.0, 3.0]), zeros, checks.KEY)
    np.testing.assert_allclose(at_optimum, 0, atol=1e-12)
    slope = checks.value_and_gradient(objective, jnp.array([1.0, 2.0]), zeros, checks.KEY)[2]
    assert (abs(slope) > 0.5) == bool(time_score_weight)


@pytest.mark.parametrize("num", [1, 2, 7, 64])
@pytest.mark.sweep(1)
def test_levels_are_stratified(num):
    """One level in each of num equal intervals of log sigma, in an order that varies."""
    seen = []

    def energy(params, x, sigma):
        return params * (jnp.sum(x) * 0 + sigma)

    def loss(params, key):
        objective = objectives.noise_conditional_score_matching(
            energy, sigma_min=LOW, sigma_max=HIGH, score_weight=note
        )
        return objective.loss(params, (), jnp.zeros((num, 2)), key)[0]

    def note(sigma):
        seen.append(np.log(np.asarray(sigma) / LOW) / np.log(HIGH / LOW))
        return jnp.ones_like(sigma)

    for seed in range(3):
        loss(1.0, jax.random.key(seed))
    for shares in seen:
        assert sorted(np.floor(shares * num).astype(int)) == list(range(num))
    if num == 64:
        assert not (np.argsort(seen[0]) == np.argsort(seen[1])).all()


def test_integer_leaves_are_passed_on():
    def energy(params, x, sigma):
        return params[x["class"]] * jnp.sum(x["image"] ** 2) * sigma

    objective = objectives.noise_conditional_score_matching(energy, sigma_min=0.1, sigma_max=1.0)
    batch = {"class": jnp.array([0, 0, 2]), "image": jnp.ones((3, 4))}
    slope = jax.grad(lambda p: objective.loss(p, (), batch, checks.KEY)[0])(jnp.ones(3))
    assert slope[0] != 0
    assert slope[1] == 0
    assert slope[2] != 0


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32", "float64"])
@pytest.mark.sweep(1)
def test_the_loss_at_the_optimum_is_rounding_in_every_type(dtype, x64):
    """The data are 0, as above; whatever the noise is, both residuals are 0."""

    def energy(params, x, sigma):
        return params * (jnp.sum((x / sigma) ** 2) / 2 + x.size * jnp.log(sigma))

    objective = objectives.noise_conditional_score_matching(
        energy, sigma_min=0.5, sigma_max=4.0, time_score_weight=1.0
    )
    params, zeros = jnp.ones((), dtype), jnp.zeros((16, 3), dtype)
    value, (_, metrics) = objective.loss(params, (), zeros, checks.KEY)
    assert jnp.issubdtype(value.dtype, jnp.floating)
    rounding = float(jnp.finfo(dtype).eps)
    for number in (value, *metrics.values()):  # |xi|^2 is at most some 20
        assert 0 <= float(number) < (100 * rounding) ** 2


def test_a_row_of_nan_is_seen(x64):
    losses = checks.losses_of([OBJECTIVE], PARAMS)
    checks.assert_nan_is_seen(losses, np.ones((3, 2)))
