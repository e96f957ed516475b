"""Noise-contrastive estimation against enumeration, closed forms and a known Gaussian."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import objective_checks as checks
import oracles
import pytest

from ebm_jax import objectives
from ebm_jax.distributions import bernoulli, gaussian
from ebm_jax.types import Distribution

KEY = jax.random.key(0)
BINARY, RANKING = objectives.binary_nce, objectives.ranking_nce
STANDARD = gaussian(jnp.zeros(3), 1.0)


def bowl(params, x):
    """-log N(x; 0, 1/k) with a constant of its own."""
    return params[0] * jnp.sum(x**2) / 2 + params[1]


AT_NOISE = np.array([1.0, 1.5 * np.log(2 * np.pi)])
X = np.random.default_rng(0).normal(size=(6, 3))


@pytest.mark.parametrize("num", [1, 3])
def test_values_where_data_and_noise_are_one(num, x64):
    """The losses are 2 log 2 and log(1 + K) for any batch."""
    binary, ranking = jax.jit(
        lambda p: (
            BINARY(bowl, STANDARD, num_negatives=num).loss(p, (), X, KEY)[0],
            RANKING(bowl, STANDARD, num_negatives=num).loss(p + jnp.array([0, 7.0]), (), X, KEY)[0],
        )
    )(jnp.asarray(AT_NOISE))
    np.testing.assert_allclose(binary, np.log(1 + num) + num * np.log((1 + num) / num))
    np.testing.assert_allclose(ranking, np.log(1 + num))


# Three bits, all expectations by enumeration.
BITS = np.array(list(itertools.product([0, 1], repeat=3)))
ROWS, COLUMNS = np.triu_indices(3)
PHI = np.concatenate([BITS[:, ROWS] * BITS[:, COLUMNS], np.ones((8, 1))], axis=1)
THETA = np.random.default_rng(1).normal(size=7)
P = np.array([0.3, 0.5, 0.6])
Q = np.prod(np.where(BITS == 1, P, 1 - P), axis=1)
DATA = BITS[[0, 1, 1, 4, 6, 7]]
COUNTS = np.array([(s == DATA).all(1).mean() for s in BITS])


def machine(theta, x):
    x = x.astype(theta.dtype)
    return theta @ jnp.concatenate([x[ROWS] * x[COLUMNS], jnp.ones(1, theta.dtype)])


def binary_by_enumeration(theta, num):
    g = -PHI @ theta - np.log(Q) - np.log(num)
    return COUNTS @ np.logaddexp(0, -g) + num * Q @ np.logaddexp(0, g)


def ranking_by_enumeration(theta):
    """K = 2: over all pairs of negatives."""
    g = -PHI @ theta - np.log(Q)
    total = np.logaddexp(g[:, None, None], np.logaddexp(g[:, None], g)) - g[:, None, None]
    return np.einsum("i,j,k,ijk", COUNTS, Q, Q, total)


def conditional_by_enumeration(theta):
    """A flip of one bit, each as likely."""
    energy = PHI @ theta
    flips = [[(BITS[i] != s).sum() == 1 for s in BITS] for i in range(8)]
    gaps = 2 * np.logaddexp(0, energy[:, None] - energy)
    return COUNTS @ np.mean(gaps, axis=1, where=np.array(flips))


NOISE = bernoulli(np.log(P / (1 - P)))
ENUMERATED = {
    "binary": (BINARY(machine, NOISE), lambda t: binary_by_enumeration(t, 1)),
    "three negatives": (
        BINARY(machine, NOISE, num_negatives=3),
        lambda t: binary_by_enumeration(t, 3),
    ),
    "ranking": (RANKING(machine, NOISE, num_negatives=2), ranking_by_enumeration),
    "conditional": (
        objectives.conditional_nce(machine, objectives.grid_perturbation()),
        conditional_by_enumeration,
    ),
}


@pytest.mark.parametrize("name", ENUMERATED)
@pytest.mark.sweep(1)
def test_value_and_gradient_against_enumeration(name, x64):
    objective, expected = ENUMERATED[name]
    found = checks.values_and_gradients(objective, THETA, DATA, 4000)
    exactly = np.array([expected(THETA), *oracles.finite_difference(expected, THETA)])
    if name in ("ranking", "conditional"):  # the constant cancels
        np.testing.assert_allclose(found[:, -1], 0, atol=1e-12)
        found, exactly = found[:, :-1], exactly[:-1]
    checks.assert_mean(found, exactly)


def test_many_negatives_are_maximum_likelihood():
    """The gradients of the expected objectives, by enumeration, against data minus model."""
    theta = np.append(THETA[:-1], oracles.log_partition(PHI[:, :-1] @ THETA[:-1]))
    model = oracles.probabilities(PHI @ theta)
    likelihood = COUNTS @ PHI - model @ PHI
    binary = oracles.finite_difference(lambda t: binary_by_enumeration(t, 1e6), theta, 1e-4)
    np.testing.assert_allclose(binary, likelihood, atol=1e-3)


BROAD = gaussian(np.zeros(5), covariance=1.5 * np.eye(5) + 0.2)


def test_training_binary_nce_finds_the_gaussian_and_its_log_z(x64):
    truth = checks.theta_of(checks.MEAN, checks.COVARIANCE)
    objective = BINARY(checks.gaussian, BROAD, num_negatives=2)
    checks.assert_finds(objective, truth, checks.batches(100, 200), checks.START, 10)


@pytest.mark.parametrize("form", ["ranking", "conditional"])
def test_training_finds_the_gaussian(form, x64):
    """Without a constant: it cancels."""
    truth = checks.theta_of(checks.MEAN, checks.COVARIANCE)[:-1]
    objective = {
        "ranking": RANKING(checks.gaussian, BROAD, num_negatives=4),
        "conditional": objectives.conditional_nce(
            checks.gaussian, objectives.gaussian_perturbation(0.5), num_negatives=2
        ),
    }[form]
    checks.assert_finds(objective, truth, checks.batches(100, 200), checks.START[:-1], 10)


def test_conditional_with_little_noise_is_score_matching(x64):
    """(L - 2 log 2) 2/t: the two signs of the noise, so that only t stays of it."""

    def quartic(params, x):
        return params[0] * x**4 / 4 + params[1] * x**2 / 2

    data, params, t = np.array([-1.0, 0.2, 0.9]), np.array([0.3, -0.4]), 1e-5
    signs = np.repeat([1.0, -1.0], 3)
    objective = objectives.conditional_nce(quartic, lambda key, x: x + np.sqrt(t) * signs)
    found = checks.values_and_gradients(objective, params, np.tile(data, 2), 1)[0]

    def exact(p):
        slope, second = p[0] * data**3 + p[1] * data, 3 * p[0] * data**2 + p[1]
        return np.mean(slope**2 / 2 - second)

    expected = [exact(params), *oracles.finite_difference(exact, params)]
    np.testing.assert_allclose((found - [2 * np.log(2), 0, 0]) * 2 / t, expected, rtol=1e-3)


def test_no_gradient_flows_through_the_noise(x64):
    """Neither through what is drawn nor through its density."""

    def of_noise(m):
        noise = gaussian(m * jnp.ones(3), jnp.exp(m / 2))
        forms = BINARY(bowl, noise), RANKING(bowl, noise)
        return sum(form.loss(AT_NOISE, (), X, KEY)[0] for form in forms)

    value, slope = jax.jit(jax.value_and_grad(of_noise))(0.3)
    assert float(slope) == 0
    assert float(value) > 0


def test_a_class_is_given_and_negatives_have_the_types_of_the_batch(x64):
    """Positions are pytrees; the noise draws the class as well."""

    def energy(params, x):
        assert {k: str(v.dtype) for k, v in x.items()} == {"u": "float32", "class": "int8"}
        return params * x["u"] ** 2 / 2 + 0.0 * x["class"]

    def sample(key, n):
        return {"u": jax.random.normal(key, (n,)), "class": jnp.ones(n, int)}

    noise = Distribution(sample, lambda x: jax.scipy.stats.norm.logpdf(x["u"]))
    batch = {"u": X[:, 0].astype(np.float32), "class": np.ones(6, np.int8)}
    value, _ = jax.jit(lambda p: RANKING(energy, noise).loss(p, (), batch, KEY))(1.0)
    np.testing.assert_allclose(value, np.log(2), rtol=1e-6)


SHAPE = np.array([0.7, 0.3])
LOSSES = checks.losses_of(
    [BINARY(bowl, STANDARD, num_negatives=2), RANKING(bowl, STANDARD, num_negatives=2)], SHAPE
)
CONDITIONAL = checks.losses_of(
    [objectives.conditional_nce(bowl, objectives.gaussian_perturbation(0.5))], SHAPE
)


@pytest.mark.parametrize("scale", [0.1, 3.0])
def test_every_type_is_right_up_to_rounding(scale, x64):
    checks.assert_right_in_every_type(LOSSES, scale * X)


def test_a_row_of_nan_is_seen(x64):
    checks.assert_nan_is_seen(LOSSES, X)
    checks.assert_nan_is_seen(CONDITIONAL, X)
