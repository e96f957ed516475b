"""Training through inference on a linear regression, whose optimum is known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import inference, objectives, training

rng = np.random.default_rng(0)
NUM, CURVATURE, STEP, STEPS = 40, 1.3, 0.25, 3
X = rng.normal(size=(NUM, 2))
Y = X @ [1.0, -0.5] + 0.3 + 0.2 * rng.normal(size=NUM)
BATCH = ({"x": jnp.asarray(X, jnp.float32)}, jnp.asarray(Y, jnp.float32))
LEAST_SQUARES = np.linalg.lstsq(np.c_[X, np.ones(NUM)], Y, rcond=None)[0]
SHORT_OF = 1 - (1 - STEP * CURVATURE) ** STEPS  # y_K = (1 - r^K) f, from y_0 = 0


def energy(weights, x, y):
    return CURVATURE * (y - weights[:2] @ x["x"] - weights[2]) ** 2 / 2


def own(weights, x):
    return lambda y: energy(weights, x, y)


def unrolled(weights, x, _, **options):
    options = {"step_size": STEP, "num_steps": STEPS} | options
    return inference.unroll(own(weights, x), 0.0, **options).position


def implicit(weights, x, _):
    def minimize(e, y):
        return inference.unroll(e, y, step_size=0.5, num_steps=30).position

    return inference.implicit_minimum(own(weights, x), 0.0, minimize).position


def square(y, right):
    return (y - right) ** 2


@pytest.mark.parametrize(("infer", "reached"), [(unrolled, SHORT_OF), (implicit, 1.0)])
def test_training_ends_at_least_squares(infer, reached):
    """A descent that falls short of the minimum is made up for by the parameters."""
    objective = objectives.through_inference(infer, square)
    trainer = training.trainer(objective, optax.sgd(0.3))
    state = trainer.init(jnp.zeros(3), jax.random.key(0))
    batches = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (200, *leaf.shape)), BATCH)
    state, metrics = trainer.update(state, batches, jax.random.key(1))
    np.testing.assert_allclose(state.params, LEAST_SQUARES / reached, atol=1e-4)
    residual = Y - np.c_[X, np.ones(NUM)] @ LEAST_SQUARES
    np.testing.assert_allclose(metrics["loss"][-1], np.mean(residual**2), rtol=1e-4)
    assert metrics["loss"][0] > 2 * metrics["loss"][-1]


def test_every_example_has_noise_of_its_own():
    """The loss of x = y = 0 is the mean square of n normal numbers: n = 4000, 4.5 standard errors.

    With one key for all it would be the square of one of them.
    """
    num, noise = 4000, 0.3

    def infer(params, x, key):
        return unrolled(params, x, None, num_steps=1, noise_sigma=noise, key=key)

    objective = objectives.through_inference(infer, square)
    batch = {"x": jnp.zeros((num, 2))}, jnp.zeros(num)
    value, (state, metrics) = jax.jit(lambda k: objective.loss(jnp.zeros(3), (), batch, k))(
        jax.random.key(0)
    )
    assert abs(value / noise**2 - 1) < 4.5 * np.sqrt(2 / num)
    assert state == ()
    assert metrics["loss"] == value


def test_the_step_size_is_learnt():
    """Of one example, f = 1 from y_0 = 0: the loss (1 - a k)^(2 K) is 0 at a = 1 / k."""

    def infer(step_size, x, key):
        return unrolled(jnp.array([0.0, 0.0, 1.0]), x, key, step_size=step_size)

    objective = objectives.through_inference(infer, square)
    batch = {"x": jnp.zeros((1, 2))}, jnp.ones(1)

    @jax.jit
    def compute(step_size):
        return jax.value_and_grad(lambda a: objective.loss(a, (), batch, jax.random.key(0))[0])(
            step_size
        )

    for step_size in (0.3, 1 / CURVATURE, 1.0):
        r = 1 - step_size * CURVATURE
        value, slope = compute(step_size)
        np.testing.assert_allclose(value, r ** (2 * STEPS), atol=1e-6)
        wanted = -2 * STEPS * CURVATURE * r ** (2 * STEPS - 1)
        np.testing.assert_allclose(slope, wanted, atol=1e-5)
