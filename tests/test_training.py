import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import training
from ebm_jax.types import Objective


def noisy_quadratic(params, state, batch, key):
    """(p - b + noise)^2, counting its calls; NaN where the batch says so."""
    draw = jax.random.normal(key)
    loss = jnp.sum((params["p"] - batch + 0.1 * draw) ** 2)
    return loss, (state + 1, {"draw": draw})


OBJECTIVE = Objective(lambda key: jnp.zeros((), jnp.int32), noisy_quadratic)
PARAMS = {"p": jnp.array(0.0)}


def test_update_is_gradient_descent_written_out(key):
    trainer = training.trainer(OBJECTIVE, optax.sgd(0.1))
    batches = jnp.array([1.0, 2.0, 3.0])
    state, metrics = trainer.update(trainer.init(PARAMS, key), batches, key)
    p = 0.0
    for t, b in enumerate(batches):
        draw = jax.random.normal(jax.random.fold_in(key, t))
        np.testing.assert_allclose(metrics["loss_total"][t], (p - b + 0.1 * draw) ** 2, rtol=1e-5)
        np.testing.assert_allclose(
            metrics["gradient_norm"][t], abs(2 * (p - b + 0.1 * draw)), rtol=1e-5
        )
        p -= 0.1 * 2 * (p - b + 0.1 * draw)
    np.testing.assert_allclose(state.params["p"], p, rtol=1e-5)
    assert int(state.step) == int(state.objective) == 3
    assert metrics["step"].tolist() == [0, 1, 2]


def test_grouping_of_batches_does_not_matter(key):
    trainer = training.trainer(OBJECTIVE, optax.adam(0.1), average_decay=0.9)
    batches = jnp.arange(6.0)
    together, _ = trainer.update(trainer.init(PARAMS, key), batches, key)
    apart = trainer.init(PARAMS, key)
    for group in (batches[:1], batches[1:4], batches[4:]):
        apart, _ = trainer.update(apart, group, key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), together, apart)


def test_average(key):
    trainer = training.trainer(OBJECTIVE, optax.sgd(0.1), average_decay=0.8)
    state = trainer.init(PARAMS, key)
    average = 0.0
    for t in range(8):
        state, _ = trainer.update(state, jnp.ones(1), key)
        decay = min(0.8, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * float(state.params["p"])
    np.testing.assert_allclose(state.average["p"], average, rtol=1e-5)
    without = training.trainer(OBJECTIVE, optax.sgd(0.1))
    state, _ = without.update(without.init(PARAMS, key), jnp.ones(3), key)
    assert state.average["p"] == state.params["p"]


def test_a_nonfinite_update_is_skipped_counted_and_shown(key):
    """Parameters, optimiser and average keep every bit; the chains go on; the loss shows NaN."""
    trainer = training.trainer(OBJECTIVE, optax.adam(0.1), average_decay=0.9)
    state, _ = trainer.update(trainer.init(PARAMS, key), jnp.ones(3), key)
    after, metrics = trainer.update(state, jnp.array([jnp.nan, jnp.inf]), key)
    for before_leaf, after_leaf in zip(
        jax.tree.leaves((state.params, state.average, state.optimizer.inner_state)),
        jax.tree.leaves((after.params, after.average, after.optimizer.inner_state)),
        strict=True,
    ):
        np.testing.assert_array_equal(before_leaf, after_leaf)
    assert metrics["skipped"].tolist() == [True, True]
    assert metrics["skipped_in_row"].tolist() == [1, 2]
    assert not np.isfinite(metrics["loss_total"]).any()
    assert int(after.objective) == 5
    healed, metrics = trainer.update(after, jnp.ones(1), key)
    assert int(metrics["skipped_in_row"][0]) == 0
    assert int(metrics["skipped_total"][0]) == 2
    assert healed.params["p"] != state.params["p"]


def test_a_nan_loss_with_a_finite_gradient_is_skipped_too(key):
    objective = Objective(
        lambda key: (), lambda p, s, b, key: (p + jax.lax.stop_gradient(b), (s, {}))
    )
    trainer = training.trainer(objective, optax.sgd(0.1))
    state, metrics = trainer.update(trainer.init(1.0, key), jnp.array([jnp.nan]), key)
    assert float(state.params) == 1.0
    assert metrics["skipped"].tolist() == [True]


def test_too_many_in_a_row_stop_the_run(key):
    trainer = training.trainer(OBJECTIVE, optax.sgd(0.1))
    batches = jnp.array([1.0, *[jnp.nan] * 5])
    _, metrics = trainer.update(trainer.init(PARAMS, key), batches, key)
    training.raise_if_diverged(metrics, limit=6)
    with pytest.raises(
        training.DivergedError, match=r"at step 3: 3 updates in a row.*learning rate"
    ):
        training.raise_if_diverged(metrics, limit=3)


def test_one_compilation(key):
    counted = chex.assert_max_traces(n=1)(lambda p, s, b, key: noisy_quadratic(p, s, b, key))
    trainer = training.trainer(Objective(OBJECTIVE.init, counted), optax.sgd(0.1))
    state = trainer.init(PARAMS, key)
    for i in range(3):
        state, _ = trainer.update(state, jnp.full(2, float(i)), jax.random.key(i))
    assert int(state.step) == 6


def test_bad_decay():
    for decay in (1.0, -0.1, float("nan")):
        with pytest.raises(ValueError, match=r"average_decay must be in \[0, 1\)"):
            training.trainer(OBJECTIVE, optax.sgd(0.1), average_decay=decay)
