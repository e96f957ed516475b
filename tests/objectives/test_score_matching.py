"""Score matching against closed forms, and on a Gaussian whose optimum is known."""

import jax
import jax.numpy as jnp
import numpy as np
import objective_checks as checks
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_jax import objectives

KEY = jax.random.key(0)
FORMS = {
    "exact": objectives.score_matching,
    "hutchinson": objectives.hutchinson_score_matching,
    "sliced": objectives.sliced_score_matching,
    "not reduced": lambda e: objectives.sliced_score_matching(e, variance_reduced=False),
}

W = np.random.default_rng(0).normal(size=(4, 3))
A = np.array([1.0, -0.5, 0.8, 0.3])
X = np.random.default_rng(1).normal(size=(6, 3))


def waves(a, x):
    """sum_k a_k cos(w_k . x): slope and Laplacian are known."""
    return a @ jnp.cos(jnp.asarray(W, x.dtype) @ x)


def of_waves(a):
    """Score matching of the waves over X, in NumPy."""
    u = X @ W.T
    slope, laplacian = -(a * np.sin(u)) @ W, -np.cos(u) @ (a * np.sum(W**2, 1))
    return np.mean(np.sum(slope**2, 1) / 2 - laplacian)


EXACT = np.concatenate([[of_waves(A)], oracles.finite_difference(of_waves, A)])


def test_exact_value_and_gradient(x64):
    found = checks.values_and_gradients(FORMS["exact"](waves), A, X, 1)[0]
    np.testing.assert_allclose(found, EXACT, atol=1e-8)


@pytest.mark.parametrize("form", ["hutchinson", "sliced", "not reduced"])
def test_the_mean_over_probes_is_exact(form, x64):
    found = checks.values_and_gradients(FORMS[form](waves), A, X, 2000)
    checks.assert_mean(found[:, 1:], EXACT[1:])
    checks.assert_mean(found[:, :1], EXACT[:1])


def test_signs_and_more_probes_have_less_variance(x64):
    many = objectives.hutchinson_score_matching(waves, num_probes=4)
    forms = FORMS["sliced"](waves), FORMS["hutchinson"](waves), many
    spread = [np.var(checks.values_and_gradients(f, A, X, 2000)[:, 0]) for f in forms]
    # Such a ratio is off by a third once in more than 10^15 keys.
    assert spread[0] > 1.5 * spread[1]
    np.testing.assert_allclose(spread[1] / spread[2], 4, rtol=1 / 3)


def test_the_reduced_form_knows_the_square_exactly(x64):
    """A linear energy has no Hessian: what is left is |grad E|^2 / 2, not (v . grad E)^2 / 2."""
    found = [
        checks.values_and_gradients(FORMS[form](lambda a, x: a @ x), A[:3], X, 200)[:, 0]
        for form in ("sliced", "not reduced")
    ]
    np.testing.assert_allclose(found[0], np.sum(A[:3] ** 2) / 2)
    assert np.std(found[1]) > 0.1 * np.sum(A[:3] ** 2)


def test_signs_are_exact_where_the_hessian_is_diagonal(x64):
    objective = objectives.hutchinson_score_matching(lambda k, x: jnp.sum(k * x**4) / 4)
    value, (_, metrics) = objective.loss(A[:3], (), X, KEY)
    laplacian = np.mean(np.sum(3 * A[:3] * X**2, 1))
    np.testing.assert_allclose(metrics["laplacian"], laplacian)
    np.testing.assert_allclose(metrics["squared_score"], np.mean(np.sum((A[:3] * X**3) ** 2, 1)))
    np.testing.assert_allclose(value, metrics["squared_score"] / 2 - laplacian)


@pytest.mark.parametrize("form", FORMS)
def test_floating_leaves_of_a_pytree_together_the_others_given(form, x64):
    """A position in parts, with any class, gives the same result as the position."""

    def of_parts(a, parts):
        return parts["class"] * waves(a, jnp.concatenate([parts["u"][None], parts["v"][:, 0]]))

    parts = {"u": X[:, 0], "v": X[:, 1:, None], "class": np.full(len(X), 2)}
    run = jax.jit(jax.vmap(lambda k: FORMS[form](of_parts).loss(A, (), parts, k)[0]))
    found = run(jax.random.split(KEY, 1 if form == "exact" else 2000))
    expected = of_waves(2 * A)
    error = 0 if form == "exact" else np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - expected) <= 3 * error + 1e-10  # false alarm 0.0027


def test_on_a_gaussian_it_is_maximum_likelihood(x64):
    sample = checks.batches(1, 100)
    found, _ = checks.trained(
        objectives.score_matching(checks.gaussian), checks.START[:-1], np.repeat(sample, 2, 0), 3
    )
    expected = checks.theta_of(sample[0].mean(0), np.cov(sample[0].T, bias=True))
    np.testing.assert_allclose(found, expected[:-1], atol=1e-8)


@pytest.mark.parametrize("form", ["hutchinson", "sliced", "not reduced"])
@pytest.mark.sweep(1)
def test_training_finds_the_gaussian(form, x64):
    truth = checks.theta_of(checks.MEAN, checks.COVARIANCE)[:-1]
    data = checks.batches(100, 200)
    checks.assert_finds(FORMS[form](checks.gaussian), truth, data, checks.START[:-1], 3)


def test_denoising_finds_the_gaussian_with_the_noise(x64):
    sigma = 0.7
    noisy = checks.theta_of(checks.MEAN, checks.COVARIANCE + sigma**2 * np.eye(5))[:-1]
    objective = objectives.denoising_score_matching(checks.gaussian, sigma)
    checks.assert_finds(objective, noisy, checks.batches(100, 200), checks.START[:-1], 3)


def quartic(params, x, sigma=1.0):
    return sigma * jnp.sum(params[0] * x**4 / 4 + params[1] * x**2 / 2)


def denoising_by_quadrature(params, data, levels):
    """Mean over data, noise and levels of |sigma E'(x + sigma xi) - xi|^2 / 2."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    weights = weights / weights.sum()
    total = []
    for sigma, told in levels:
        y = data[:, None] + sigma * nodes
        slope = told * (params[0] * y**3 + params[1] * y)
        total.append(np.mean((sigma * slope - nodes) ** 2 @ weights) / 2)
    return np.mean(total)


@pytest.mark.parametrize("noise", [0.5, (0.5,), (0.2, 0.5, 1.0)])
def test_denoising_against_quadrature(noise, x64):
    """Value and gradient; with several levels the energy is told which one it is."""
    data, params = np.array([-1.0, 0.2, 0.9]), np.array([0.3, -0.4])
    levels = [(noise, 1.0)] if isinstance(noise, float) else [(s, s) for s in noise]
    expected = lambda p: denoising_by_quadrature(p, data, levels)  # noqa: E731
    objective = objectives.denoising_score_matching(quartic, np.array(noise))
    found = checks.values_and_gradients(objective, params, data, 4000)
    slope = oracles.finite_difference(expected, params)
    checks.assert_mean(found, [expected(params), *slope])


def test_little_noise_is_score_matching(x64):
    """Its gradient over sigma^2; by the quadrature, which the objective agrees with."""
    data, params, sigma = np.array([-1.0, 0.2, 0.9]), np.array([0.3, -0.4]), 0.01
    objective = objectives.score_matching(quartic)
    exact = checks.values_and_gradients(objective, params, data[:, None], 1)[0, 1:]
    denoising = oracles.finite_difference(
        lambda p: denoising_by_quadrature(p, data, [(sigma, 1.0)]), params, step=1e-3
    )
    np.testing.assert_allclose(denoising / sigma**2, exact, rtol=2e-3)


LEVELS = objectives.denoising_score_matching(
    lambda a, x, sigma: sigma * waves(a, x), jnp.array([0.5, 1.0])
)
SCORES = checks.losses_of([FORMS["exact"](waves), FORMS["hutchinson"](waves)], A)
LOSSES = checks.losses_of([FORMS["sliced"](waves), FORMS["not reduced"](waves), LEVELS], A)


@given(st.integers(0, 1000), st.sampled_from([0.01, 1.0, 10.0]))
@settings(max_examples=10, deadline=None)
def test_every_type_is_right_up_to_rounding(seed, scale):
    with jax.enable_x64(True):
        x = scale * np.random.default_rng(seed).normal(size=(6, 3))
        checks.assert_right_in_every_type(SCORES, x)


def test_a_row_of_nan_is_seen(x64):
    checks.assert_nan_is_seen(SCORES, X)
    checks.assert_nan_is_seen(LOSSES, X)


def test_under_vmap_over_parameters(x64):
    objective = objectives.hutchinson_score_matching(waves)
    run = jax.jit(jax.vmap(lambda a: objective.loss(a, (), X, KEY)[0]))
    many = np.stack([A, 2 * A])
    np.testing.assert_allclose(run(many), [run(many[:1])[0], run(many[1:])[0]])


def test_they_cost_at_most_three_gradients():
    """The floating-point operations that XLA counts, of the value and of the gradient."""

    def network(params, x):
        for w in params[:-1]:
            x = jax.nn.silu(w @ x)
        return params[-1] @ x

    params = [jnp.ones((64, 64)), jnp.ones((64, 64)), jnp.ones(64)]
    x = jnp.ones((32, 64))

    def count(function):
        return jax.jit(function).lower(params).cost_analysis()["flops"]

    def value_of(objective):
        return lambda p: objective.loss(p, (), x, KEY)[0]

    one = count(lambda p: jax.vmap(jax.grad(lambda y: network(p, y)))(x))
    # Any objective of a score has to differentiate its square by the parameters.
    square = count(jax.grad(value_of(objectives.gradient_penalty(network))))
    for form in ("hutchinson", "sliced", "not reduced"):
        value = value_of(FORMS[form](network))
        assert count(value) <= 3 * one
        assert count(jax.grad(value)) <= 3 * square
