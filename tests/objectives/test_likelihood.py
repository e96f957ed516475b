import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracles
import pytest

from ebm_jax import energies, losses, objectives, training
from ebm_jax.objectives import weighted_sum
from ebm_jax.types import Objective


def ising(params, s):
    """Three spins with couplings and fields: 8 states."""
    return -(params["J"] @ (s[jnp.array([0, 1, 2])] * s[jnp.array([1, 2, 0])]) + params["h"] @ s)


STATES = np.array(np.meshgrid(*[[-1.0, 1.0]] * 3)).reshape(3, -1).T
PAIRS = STATES * np.roll(STATES, -1, axis=1)
PARAMS = {"J": np.array([0.3, -0.5, 0.2]), "h": np.array([0.1, 0.0, -0.4])}


def test_value_and_gradient_against_enumeration(x64, key):
    """Loss = mean E + log Z / beta; gradient = data minus model statistics."""
    beta, rows = 1.4, [0, 0, 3, 5]
    objective = objectives.maximum_likelihood(ising, STATES, beta=beta)
    energy = -PAIRS @ PARAMS["J"] - STATES @ PARAMS["h"]
    log_z = oracles.log_partition(energy, beta)
    expected = np.mean(energy[rows]) + log_z / beta
    (value, (_, metrics)), gradient = jax.jit(jax.value_and_grad(objective.loss, has_aux=True))(
        PARAMS, (), STATES[rows], key
    )
    np.testing.assert_allclose(value, expected)
    p = oracles.probabilities(energy, beta)
    np.testing.assert_allclose(metrics["energy_negative"], p @ energy)
    for name, statistics in (("h", STATES), ("J", PAIRS)):
        slope = -statistics[rows].mean(0) + p @ statistics
        np.testing.assert_allclose(gradient[name], slope, atol=1e-12)


def test_training_recovers_a_gaussian(x64, key):
    """On a grid with cell volumes the maximum-likelihood Gaussian is the sample's moments."""
    data = np.random.default_rng(0).normal(0.7, 0.8, size=(400, 1))
    points, volume = oracles.grid(-6.0, 8.0, 400, 1)
    objective = objectives.maximum_likelihood(
        energies.gaussian, jnp.array(points), log_weights=jnp.log(jnp.full(len(points), volume))
    )
    trainer = training.trainer(objective, optax.adam(0.05))
    params = energies.Gaussian(jnp.zeros(1), jnp.ones(1))
    state = trainer.init(params, key)
    state, _ = trainer.update(state, jnp.tile(jnp.array(data), (600, 1, 1)), key)
    np.testing.assert_allclose(state.params.mean, data.mean(0), atol=1e-4)
    np.testing.assert_allclose(1 / state.params.precision, data.var(0), rtol=1e-3)


def test_push_down_is_the_mean_energy(x64, key):
    data = np.random.default_rng(0).normal(size=(7, 2))
    objective = objectives.push_down(lambda p, x: p[0] * x[0] ** 2 + p[1] * x[1])
    value, slope = jax.jit(jax.value_and_grad(lambda p: objective.loss(p, (), data, key)[0]))(
        jnp.array([2.0, -3.0])
    )
    statistics = np.mean([data[:, 0] ** 2, data[:, 1]], axis=1)
    np.testing.assert_allclose(value, statistics @ [2.0, -3.0])
    np.testing.assert_allclose(slope, statistics)


def test_discriminative_is_the_mean_of_the_loss(key):
    energy = np.array([[0.3, -1.0, 2.0], [1.0, 0.2, 4.0]], np.float32)
    labels = np.array([0, 1])
    objective = objectives.discriminative(lambda params, x: params * x, losses.nll)
    value, (state, metrics) = jax.jit(objective.loss)(2.0, (), (energy, labels), key)
    expected = np.mean(jax.jit(losses.nll)(2 * energy, labels))
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    np.testing.assert_allclose(metrics["energy_right"], (0.6 + 0.4) / 2, rtol=1e-6)
    np.testing.assert_allclose(metrics["energy_gap"], (-2.6 + 1.6) / 2, rtol=1e-5)
    assert state == ()


def test_weighted_sum_adds_values_gradients_and_states(key):
    count = Objective(
        lambda p, key: jnp.zeros(()), lambda p, s, b, key: (p**2 * b, (s + 1, {"state": s}))
    )
    cube = Objective(lambda p, key: jnp.ones(()), lambda p, s, b, key: (p**3 * b, (s * 2, {})))
    total = weighted_sum(a=(1.0, count, lambda b: b[0]), b=(0.5, cube, lambda b: b[1]))
    state = total.init(2.0, key)
    (value, (state, metrics)), slope = jax.jit(jax.value_and_grad(total.loss, has_aux=True))(
        2.0, state, (3.0, 10.0), key
    )
    assert float(value) == 4 * 3 + 0.5 * 8 * 10
    assert float(slope) == 2 * 2 * 3 + 0.5 * 3 * 4 * 10
    assert {k: float(v) for k, v in state.items()} == {"a": 1.0, "b": 2.0}
    assert set(metrics) == {"a/state"}


def test_a_weighted_sum_needs_a_term():
    with pytest.raises(ValueError, match="at least one term"):
        weighted_sum()
