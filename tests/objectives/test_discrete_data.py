"""Objectives of discrete data against the enumerated distribution of four bits."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import objective_checks as checks
import oracles
import pytest

from ebm_jax import objectives
from ebm_jax.partition import exact

KEY = jax.random.key(0)
ROWS, COLUMNS = np.triu_indices(4)
THETA = np.random.default_rng(0).normal(size=len(ROWS))
OTHER = np.random.default_rng(1).normal(size=len(ROWS))
STATES = np.asarray(exact.states(4))
CENTRED = {(0, 1): STATES, (-1, 1): np.asarray(exact.states(4, (-1, 1)))}


def energy(theta, x):
    """Fields and couplings: a fully visible Boltzmann machine."""
    x = x.astype(theta.dtype)
    return theta @ (x[ROWS] * x[COLUMNS])


def conditionals(theta, x, states=STATES):
    """P(x_k | the others) for every k, from the whole table."""
    p = oracles.probabilities(states[:, ROWS] * states[:, COLUMNS] @ theta)
    own = p[(states == x).all(1)][0]
    same = [(np.delete(states, k, 1) == np.delete(x, k)).all(1) for k in range(4)]
    return np.array([own / p[s].sum() for s in same])


ORACLES = {
    "pseudo_likelihood": lambda p: -np.log(p).sum(),
    "ratio_matching": lambda p: ((1 - p) ** 2).sum(),  # the Brier score
    "minimum_probability_flow": lambda p: np.sqrt((1 - p) / p).sum(),
}
NAMES = list(ORACLES)


def make(name, energy=energy):
    return getattr(objectives, name)(energy)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.sweep(1)
def test_value_and_gradient_against_enumeration(name, x64):
    data = STATES[[0, 3, 3, 9, 14]]
    expected = lambda t: np.mean([ORACLES[name](conditionals(t, x)) for x in data])  # noqa: E731
    found = checks.values_and_gradients(make(name), THETA, jnp.asarray(data), 1)[0]
    slope = oracles.finite_difference(expected, THETA)
    np.testing.assert_allclose(found, [expected(THETA), *slope], atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_the_optimum_is_the_distribution_of_the_data(name, x64):
    """With every state as often as the model has it the gradient is zero, and elsewhere not."""
    objective = make(name)

    @jax.jit
    def slope(theta, p):
        def mean(t):
            return p @ jax.vmap(lambda x: objective.loss(t, (), x[None], KEY)[0])(STATES)

        return jax.grad(mean)(theta)

    p = oracles.probabilities(STATES[:, ROWS] * STATES[:, COLUMNS] @ THETA)
    np.testing.assert_allclose(slope(THETA, p), 0, atol=1e-12)
    assert np.abs(slope(OTHER, p)).max() > 1e-2


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.sweep(1)
def test_training_finds_the_parameters(name, x64):
    p = oracles.probabilities(STATES[:, ROWS] * STATES[:, COLUMNS] @ THETA)
    drawn = np.random.default_rng(2).choice(len(p), size=(100, 200), p=p)
    checks.assert_finds(make(name), THETA, STATES[drawn], 0 * THETA, 10)


@pytest.mark.parametrize("values", [(-1, 1), (0, 1, 2)])
def test_the_pseudo_likelihood_of_other_values(values, x64):
    states = np.asarray(exact.states(4, values))
    data = states[[0, 5, 11]]
    objective = objectives.pseudo_likelihood(energy, values=values)
    found = jax.jit(lambda t: objective.loss(t, (), jnp.asarray(data), KEY)[0])(THETA)
    each = [-np.log(conditionals(THETA, x, states)).sum() for x in data]
    np.testing.assert_allclose(found, np.mean(each))


@pytest.mark.parametrize("name", NAMES)
def test_bits_of_every_type_and_in_parts(name, x64):
    """Booleans and integers are the same bits; a floating leaf is given."""

    def of_parts(theta, x):
        return x["scale"] * energy(theta, jnp.concatenate([x["a"].astype(int).ravel(), x["b"]]))

    data = STATES[[1, 6, 7]]
    parts = {"a": data[:, :2, None] == 1, "b": data[:, 2:].astype(np.uint8), "scale": np.ones(3)}
    whole, in_parts = jax.jit(
        lambda t: (
            [
                make(name).loss(t, (), jnp.asarray(data, dtype), KEY)[0]
                for dtype in (bool, jnp.int8)
            ],
            make(name, of_parts).loss(t, (), parts, KEY)[0],
        )
    )(THETA)
    expected = np.mean([ORACLES[name](conditionals(THETA, x)) for x in data])
    np.testing.assert_allclose([*whole, in_parts], expected)


@functools.partial(jax.jit, static_argnames="dtype")
def all_values(data, dtype):
    theta = jnp.asarray(THETA, dtype)
    return [make(name).loss(theta, (), data, KEY)[0] for name in NAMES]


def test_every_type_is_right_up_to_rounding(x64):
    data = jnp.asarray(STATES[[0, 3, 9, 14]])
    expected = all_values(data, "float64")
    for dtype, rounding in (("float16", 1e-2), ("bfloat16", 8e-2), ("float32", 1e-5)):
        for found, exactly in zip(all_values(data, dtype), expected, strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(
                np.asarray(found, float), exactly, atol=rounding * np.abs(exactly).max()
            )


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_bit_is_nan_where_it_is_known_too_late(name, x64):
    """Under jit nothing can be raised: the value is NaN, and so is the gradient."""
    run = jax.jit(lambda x: checks.value_and_gradient(make(name), jnp.asarray(THETA), x, KEY))
    for wrong in (2, -1):
        assert np.isnan(run(jnp.asarray(STATES[:4]).at[1, 2].set(wrong))).all()
    assert np.isfinite(run(jnp.asarray(STATES[:4]))).all()


@pytest.mark.parametrize("name", NAMES)
def test_known_data_are_refused(name):
    def loss(batch):
        return make(name).loss(jnp.asarray(THETA), (), batch, KEY)

    with pytest.raises(ValueError, match="got 2"):
        loss(jnp.array([[0, 1, 2, 1]]))
    with pytest.raises(TypeError, match="integer or boolean leaf"):
        loss(jnp.array([[0.0, 1.0, 1.0, 1.0]]))


def test_ratio_matching_is_bounded_and_a_parameter_of_nan_is_seen(x64):
    data = jnp.asarray(STATES)
    run = jax.jit(lambda t: [make(name).loss(t, (), data, KEY)[0] for name in NAMES])
    assert 0 <= float(run(1e6 * jnp.asarray(THETA))[1]) <= 4
    assert all(np.isnan(v) for v in run(jnp.asarray(THETA).at[0].set(jnp.nan)))
