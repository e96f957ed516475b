"""Energy discrepancy against its closed form on a Gaussian, and enumeration on bits."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from objective_checks import assert_optimum, gaussian

from ebm_jax import objectives


def bowl(k, x):
    return k * jnp.sum(x**2) / 2


def closed_form(k, variance, t):
    """E[E(x)] + E[log E[exp(-E(x''))]] of k x^2 / 2 on N(0, v): all is Gaussian."""
    spread = 1 + k * t
    return k * variance / 2 - k * (variance + t) / (2 * spread) - np.log(spread) / 2


@pytest.mark.parametrize("t", [0.01, 0.5, 4.0])
@pytest.mark.sweep(1)
def test_a_gaussian(t):
    """The value in 1 dimension, over 20,000 examples of 128 negatives.

    log of a mean of M terms is low by var / (2 M), below 0.01 here.
    """
    variance, num = 0.7, 20_000
    x = jnp.sqrt(variance) * jax.random.normal(jax.random.key(3), (num, 1))
    objective = objectives.energy_discrepancy(
        bowl, objectives.gaussian_perturbation(t), num_negatives=128, stabilizer=0.0
    )
    loss = jax.jit(lambda k: objective.loss(k, (), x, jax.random.key(0))[0])
    for k in (0.5, 1 / variance, 3.0):
        assert abs(float(loss(k)) - closed_form(k, variance, t)) < 0.01 + 0.03 * t * k
    # Little noise: t times the score matching of the same examples.
    if t == 0.01:
        k = 2.0
        score_matching = k**2 * variance / 2 - k
        assert abs(float(loss(k)) / t - score_matching) < 0.1


def test_its_optimum_is_the_data_in_five_dimensions():
    made = objectives.energy_discrepancy(
        gaussian, objectives.gaussian_perturbation(0.3), num_negatives=64, stabilizer=0.0
    )
    assert_optimum(made, num=48, size=128)


STATES = np.array(list(itertools.product([0, 1], repeat=4)))


def kernel(name, p=0.2):
    """The transition matrix of a perturbation, by its definition."""
    distance = (STATES[:, None] != STATES[None]).sum(2)
    if name == "bernoulli":
        return p**distance * (1 - p) ** (4 - distance)
    return (distance == 1) / 4


PERTURBATIONS = {
    "bernoulli": lambda: objectives.bernoulli_perturbation(0.2),
    "grid": objectives.grid_perturbation,
}


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
def test_bits_are_flipped_as_stated(name, dtype):
    """Frequencies against the matrix; 5 standard errors of 16 x 20,000 draws."""
    num = 20_000
    perturb = jax.jit(PERTURBATIONS[name]())
    start = jnp.asarray(np.repeat(STATES, num, axis=0), dtype)
    found = perturb(jax.random.key(1), start)
    assert found.dtype == dtype
    code = np.asarray(found).astype(int) @ [8, 4, 2, 1]
    counts = np.stack([np.bincount(c, minlength=16) for c in code.reshape(16, num)]) / num
    wanted = kernel(name)
    assert np.abs(counts - wanted).max() < 5 * np.sqrt(0.25 / num)
    assert counts[wanted == 0].sum() == 0


@pytest.mark.parametrize("name", PERTURBATIONS)
@pytest.mark.sweep(1)
def test_bits_by_enumeration(name):
    """The objective's limit is least where the model is the data: so is its gradient 0 there."""
    table = np.random.default_rng(0).normal(size=16)
    data = np.exp(-table) / np.exp(-table).sum()
    num, negatives = 2048, 128
    rng = np.random.default_rng(1)
    batches = jnp.asarray(STATES[rng.choice(16, (12, num), p=data)], jnp.int32)

    def lookup(params, x):
        return params[x @ jnp.array([8, 4, 2, 1])]

    objective = objectives.energy_discrepancy(
        lookup, PERTURBATIONS[name](), num_negatives=negatives, stabilizer=0.0
    )

    @jax.jit
    def run(params, keys):
        def one(batch, key):
            return jax.value_and_grad(lambda p: objective.loss(p, (), batch, key)[0])(params)

        return jax.lax.map(lambda pair: one(*pair), (batches, keys))

    q = kernel(name)
    other = table + np.random.default_rng(2).normal(size=16)
    for params in (table, other):
        values, gradients = run(
            jnp.asarray(params, jnp.float32), jax.random.split(jax.random.key(0), 12)
        )
        wanted = data @ params + (data @ q) @ np.log(q @ np.exp(-params))
        # The spread of 12 means, and the bias of a log of 256 terms.
        assert abs(values.mean() - wanted) < 4 * values.std() / np.sqrt(12) + 0.03
    middle = data @ q
    weights = q * np.exp(-other) / (q @ np.exp(-other))[:, None]
    np.testing.assert_allclose(gradients.mean(0), data - middle @ weights, atol=0.03)
    weights = q * np.exp(-table) / (q @ np.exp(-table))[:, None]
    np.testing.assert_allclose(data - middle @ weights, 0, atol=1e-12)


@pytest.mark.parametrize("weight", [0.0, 1.0, 3.0])
def test_a_constant_energy(weight):
    objective = objectives.energy_discrepancy(
        lambda p, x: p + 0.0 * x[0],
        objectives.gaussian_perturbation(1.0),
        num_negatives=8,
        stabilizer=weight,
    )
    value = jax.jit(objective.loss)(5.0, (), jnp.ones((4, 2)), jax.random.key(0))[0]
    np.testing.assert_allclose(value, np.log((weight + 8) / 8), atol=1e-6)


def test_the_stabilizer_bounds_what_a_far_negative_says():
    """An energy of -1000 next to the data is seen; one of +1000 costs log w / M at least."""

    def step(p, x):
        return jnp.where(jnp.abs(x[0]) < 1e-3, 0.0, p)

    objective = objectives.energy_discrepancy(
        step, objectives.gaussian_perturbation(1.0), num_negatives=8
    )
    loss = jax.jit(lambda p: objective.loss(p, (), jnp.zeros((4, 1)), jax.random.key(0))[0])
    np.testing.assert_allclose(loss(1000.0), -np.log(8), rtol=1e-6)
    np.testing.assert_allclose(loss(-1000.0), 1000.0, rtol=1e-6)
