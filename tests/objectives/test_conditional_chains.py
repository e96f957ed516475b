"""Recovery likelihood and the pairwise losses over data: chains that have an energy each."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import objective_checks as checks
import pytest
from objective_checks import assert_optimum, gaussian

from ebm_jax import losses, objectives, samplers


def bowl(k, x):
    return k * jnp.sum(x**2) / 2


def mala(energy):
    return samplers.mala(energy, step_size=0.2)


def test_the_recovered_are_gaussian():
    """k x^2 / 2 given x~: N(x~ / (1 + k s^2), s^2 / (1 + k s^2)); 4 standard errors of 40,000."""
    k, sigma, variance, num = 1.7, 0.8, 0.5, 40_000
    x = jnp.sqrt(variance) * jax.random.normal(jax.random.key(7), (num, 1))
    objective = objectives.recovery_likelihood(bowl, mala, sigma=sigma, num_steps=40)
    loss = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))
    (_, (_, metrics)), gradient = loss(k, (), x, jax.random.key(0))
    shrink = 1 + k * sigma**2
    wanted = k / 2 * ((variance + sigma**2) / shrink**2 + sigma**2 / shrink)
    assert abs(float(metrics["energy_negative"]) / wanted - 1) < 4 * np.sqrt(2 / num)
    # E is linear in k: nothing flows through the chains.
    np.testing.assert_allclose(gradient, -metrics["energy_gap"] / k, rtol=1e-4)


def test_recovery_has_its_optimum_at_the_data():
    sampler = functools.partial(samplers.mala, step_size=0.15)
    assert_optimum(
        objectives.recovery_likelihood(gaussian, sampler, sigma=0.7, num_steps=25), num=48
    )


@pytest.mark.slow
def test_diffusion_recovery_has_its_optimum_at_the_data_with_noise(x64):
    """-log N(x; m, v + s^2), parameters (m, log v): the mean gradient is 0 at the truth alone."""

    def energy(params, x, sigma):
        variance = jnp.exp(params[1]) + sigma**2
        return jnp.sum((x - params[0]) ** 2) / (2 * variance)

    sampler = functools.partial(samplers.mala, step_size=0.4)
    objective = objectives.diffusion_recovery_likelihood(
        energy, sampler, sigmas=[0.0, 0.4, 1.0, 2.0], num_steps=25
    )

    @jax.jit
    def scores(params, keys):
        def one(key):
            data_key, key = jax.random.split(key)
            data = 0.5 + np.sqrt(0.6) * jax.random.normal(data_key, (512, 2))
            return jax.grad(lambda p: objective.loss(p, (), data, key)[0])(params)

        slopes = jax.vmap(one)(keys)
        return slopes.mean(0) / (slopes.std(0, ddof=1) / np.sqrt(len(keys)))

    keys = jax.random.split(jax.random.key(0), 48)
    truth = np.array([0.5, np.log(0.6)])
    # A normal number exceeds 4.5 with probability 7e-6.
    assert np.abs(scores(truth, keys)).max() < 4.5
    assert np.abs(scores(truth + np.array([0.3, 0.0]), keys)[0]) > 6
    assert np.abs(scores(truth + np.array([0.0, 0.5]), keys)[1]) > 6


@pytest.mark.slow
def test_two_levels_are_recovery_likelihood(x64):
    """With the data as the first level the two objectives have the same mean gradient."""

    def bowl(params, x, sigma=0.0):
        return params[0] * jnp.sum(x**4) / 4 + params[1] * jnp.sum(x**2) / 2 + 0.0 * sigma

    x, params = np.random.default_rng(0).normal(size=(8, 2)), jnp.array([0.3, 0.5])
    plain = objectives.recovery_likelihood(
        bowl, functools.partial(samplers.mala, step_size=0.1), sigma=0.7, num_steps=30
    )
    levels = objectives.diffusion_recovery_likelihood(
        bowl, functools.partial(samplers.mala, step_size=0.2), sigmas=[0.0, 0.7], num_steps=30
    )
    difference = np.subtract(
        *(checks.values_and_gradients(o, params, x, 1500)[:, 1:] for o in (plain, levels))
    )
    checks.assert_mean(difference, np.zeros(2))


SAMPLERS = {
    "ula": functools.partial(samplers.ula, step_size=0.05),
    "mala": functools.partial(samplers.mala, step_size=0.2),
    "baoab": functools.partial(samplers.baoab, step_size=0.3, friction=1.0),
}


@pytest.mark.parametrize("make_sampler", SAMPLERS.values(), ids=SAMPLERS)
@pytest.mark.sweep(1)
def test_every_chain_has_its_own_energy(make_sampler):
    """exp(-(y - x)^2 / 2 (1/2)^2) from y = 0: each chain ends around its own x."""

    def near(params, x, y):
        return params * jnp.sum((y["a"] - x) ** 2) / 2 + 0.0 * y["b"]

    x = jnp.repeat(jnp.array([-50.0, 0.0, 100.0]), 400)
    start = {"a": jnp.tile(x[:, None], 2), "b": jnp.zeros(1200)}
    propose = objectives.by_sampling(near, make_sampler, num_steps=60)
    found = jax.jit(propose)(4.0, jax.random.key(0), x, start)["a"]
    distance = np.asarray(found - x[:, None]).reshape(3, 800)
    # Means have the standard error 0.5 / sqrt(800) = 0.018; ULA's variance is a tenth too large.
    assert np.abs(distance.mean(1)).max() < 0.08
    assert np.abs(distance.std(1) - 0.5).max() < 0.08


def test_contrastive_is_the_mean_of_the_loss():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 16))

    def squared(params, x, y):
        return (params * x - y) ** 2

    objective = objectives.contrastive(
        squared,
        functools.partial(losses.hinge, margin=1.0),
        lambda params, key, x, y: y + params * x,
    )
    batch = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)

    def value(p):
        return objective.loss(p, (), batch, jax.random.key(0))[0]

    # The wrong answer y + 0.3 x is a constant.
    right, wrong = (0.3 * x - y) ** 2, y**2
    np.testing.assert_allclose(value(0.3), np.maximum(0, 1 + right - wrong).mean(), rtol=1e-5)
    active = 1 + right - wrong > 0
    slope = np.mean(active * (2 * x * (0.3 * x - y) - 2 * x * -y))
    np.testing.assert_allclose(jax.grad(value)(0.3), slope, rtol=1e-4)


@pytest.mark.parametrize("radius", [0.0, 0.5, 1.5, 99.0])
@pytest.mark.parametrize("kind", [np.float32, np.uint8, bool])
@pytest.mark.sweep(4)
def test_the_offender_by_brute_force(radius, kind):
    rng = np.random.default_rng(3)
    candidates = (rng.random((9, 2)) * 4).astype(kind)
    right, x = (rng.random((7, 2)) * 4).astype(kind), rng.normal(size=7).astype(np.float32)

    def squared(params, x, y):
        return jnp.sum((params * x - y.astype(jnp.float32)) ** 2)

    propose = objectives.most_offending_among(squared, candidates, radius=radius)
    found = propose(1.3, jax.random.key(0), x, right)
    for i in range(7):
        away = np.linalg.norm(candidates.astype(float) - right[i].astype(float), axis=1) > radius
        energies = ((np.float32(1.3) * x[i] - candidates.astype(float)) ** 2).sum(1)
        best = candidates[np.argmin(np.where(away, energies, np.inf))] if away.any() else right[i]
        np.testing.assert_array_equal(found[i], best)


def test_over_labels_it_is_the_discriminative_objective():
    """The most offending label among all, by two ways."""
    table = jnp.asarray(np.random.default_rng(4).normal(size=(6, 5)), jnp.float32)
    label = jnp.array([0, 1, 2, 3, 4, 0])

    def one(params, x, y):
        return params * table[x, y]

    hinge = functools.partial(losses.hinge, margin=0.5)
    pairs = objectives.contrastive(one, hinge, objectives.most_offending_among(one, jnp.arange(5)))
    labels = objectives.discriminative(
        lambda params, x: params * table[x], losses.over_candidates(losses.hinge, margin=0.5)
    )
    batch = jnp.arange(6), label
    found = [jax.jit(o.loss)(1.1, (), batch, jax.random.key(0))[0] for o in (pairs, labels)]
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


SPECIAL = [-np.inf, 0.0, 1.0, np.inf, np.nan]
ENERGIES = np.array(list(itertools.product(SPECIAL, repeat=3)), np.float32)


@pytest.mark.parametrize("label", range(3))
@pytest.mark.parametrize("radius", [0.0, 1.5, 9.0])
def test_the_offender_at_every_infinity(label, radius):
    """All energies of three answers 0, 1, 2, by ``most_offending`` and as a proposal.

    The wrong answer of lowest energy, NaN before all: never the right one, unless it is alone.
    """
    away = np.abs(np.arange(3) - label)
    wrong = np.flatnonzero((away > radius) & (away > 0))
    lowest = [ENERGIES[:, [w]] for w in wrong]
    expected = np.concatenate(lowest, axis=1).min(axis=1) if len(wrong) else np.inf

    distance = jnp.broadcast_to(jnp.asarray(away, jnp.float32), ENERGIES.shape)
    labels = jnp.full(len(ENERGIES), label)
    _, found = losses.most_offending(
        jnp.asarray(ENERGIES), labels, distance=distance, radius=radius
    )
    np.testing.assert_array_equal(found, np.broadcast_to(expected, len(ENERGIES)))

    def energy(params, x, y):
        return jnp.asarray(ENERGIES)[x, y]

    propose = objectives.most_offending_among(energy, jnp.arange(3), radius=radius)
    x = jnp.arange(len(ENERGIES))
    answers = np.asarray(jax.jit(propose)(None, jax.random.key(0), x, labels))
    if not len(wrong):
        assert (answers == label).all()
    else:
        assert np.isin(answers, wrong).all()
        np.testing.assert_array_equal(ENERGIES[x, answers], expected)


@pytest.mark.parametrize(
    ("answers", "right"), [([256, 257], 256), ([16_777_216, 16_777_217], 16_777_217)]
)
def test_neighbouring_integers_are_different_answers(answers, right):
    """Also where the type of the energy, or float32, cannot tell them apart."""
    propose = objectives.most_offending_among(
        lambda params, x, y: (0 * x + 0 * y).astype(jnp.bfloat16), jnp.array(answers)
    )
    (wrong,) = propose(None, jax.random.key(0), jnp.zeros(1), jnp.array([right])).tolist()
    assert wrong in answers
    assert wrong != right
