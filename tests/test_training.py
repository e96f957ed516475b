import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import training
from ebm_jax.types import Objective


def noisy_quadratic(params, state, batch, key):
    """(p - b + noise)^2, counting its calls; NaN for a NaN in the batch."""
    draw = jax.random.normal(key)
    loss = jnp.sum((params["p"] - batch + 0.1 * draw) ** 2)
    return loss, (state + 1, {"draw": draw})


OBJECTIVE = Objective(lambda params, key: jnp.zeros((), jnp.int32), noisy_quadratic)
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
    """Parameters, optimiser and average stay bit-identical; the chains advance; the loss is NaN."""
    trainer = training.trainer(OBJECTIVE, optax.adam(0.1), average_decay=0.9)
    state, _ = trainer.update(trainer.init(PARAMS, key), jnp.ones(3), key)
    after, metrics = trainer.update(state, jnp.array([jnp.nan, jnp.inf]), key)
    for before_leaf, after_leaf in zip(
        jax.tree.leaves((state.params, state.average, state.optimizer)),
        jax.tree.leaves((after.params, after.average, after.optimizer)),
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
        lambda p, key: (), lambda p, s, b, key: (p + jax.lax.stop_gradient(b), (s, {}))
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
    last = float(metrics["loss_total"][0])
    with pytest.raises(
        training.DivergedError,
        match=rf"at step 3: 3 updates in a row.*last finite, at step 0: .*loss_total={last:.4g}"
        ".*learning rate",
    ):
        training.raise_if_diverged(metrics, limit=3)
    with pytest.raises(training.DivergedError, match="none of this call was finite"):
        training.raise_if_diverged(jax.tree.map(lambda m: m[3:], metrics), limit=3)


def test_when_no_chain_counts_it_is_not_the_learning_rate():
    metrics = {"skipped_in_row": [1, 2], "step": [0, 1], "generative/chains_ready": [0.0, 0.0]}
    with pytest.raises(training.DivergedError, match="no chain counts") as error:
        training.raise_if_diverged(metrics, limit=2)
    assert "learning rate" not in str(error.value)


def test_one_compilation(key):
    counted = chex.assert_max_traces(n=1)(lambda p, s, b, key: noisy_quadratic(p, s, b, key))
    trainer = training.trainer(Objective(OBJECTIVE.init, counted), optax.sgd(0.1))
    state = trainer.init(PARAMS, key)
    for i in range(3):
        state, _ = trainer.update(state, jnp.full(2, float(i)), jax.random.key(i))
    assert int(state.step) == 6


def plain(loss):
    return Objective(lambda params, key: (), lambda p, s, batch, key: (loss(p, batch), (s, {})))


def test_one_step_is_one_update(key):
    trainer = training.trainer(OBJECTIVE, optax.adam(0.1), average_decay=0.9)
    state = trainer.init(PARAMS, key)
    many, metrics = trainer.update(state, jnp.array([2.0]), key)
    one, single = jax.jit(trainer.step)(state, jnp.array(2.0), key)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, many)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b[0], rtol=1e-6), single, metrics)
    # It nests: several trainings side by side, each with its own key.
    keys = jax.random.split(key, 3)
    states = jax.vmap(lambda k: trainer.init(PARAMS, k))(keys)
    side_by_side, _ = jax.vmap(trainer.step, (0, None, 0))(states, jnp.array(2.0), keys)
    alone, _ = trainer.step(trainer.init(PARAMS, keys[1]), jnp.array(2.0), keys[1])
    np.testing.assert_allclose(side_by_side.params["p"][1], alone.params["p"], rtol=1e-6)


def test_the_leading_axis_of_stacked_batches_is_the_number_of_updates(key):
    trainer = training.trainer(plain(lambda p, b: jnp.mean((b - p) ** 2)), optax.sgd(0.1))
    state, batch = trainer.init(jnp.zeros(2), key), jnp.ones((256, 2))
    with pytest.raises(ValueError, match=r"batches, .*leading axis.*\(3, 5\), \(2,\)"):
        trainer.update(state, (jnp.ones((3, 5)), jnp.ones(2)), key)
    with pytest.raises(ValueError, match=r"batches, .*leading axis"):
        trainer.update(state, (), key)
    state, metrics = trainer.update(state, batch[None], key)
    assert int(state.step) == 1
    assert metrics["loss_total"].shape == (1,)


def test_an_objective_without_data(key):
    objective = plain(lambda p, b: p**2)
    state, _ = training.fit(
        key, objective, optax.sgd(0.25), 1.0, (), batch_size=None, num_updates=3
    )
    assert float(state.params) == 0.125


@pytest.mark.parametrize(
    ("optimizer", "slope"),
    [
        (optax.sgd(1e38), 10.0),  # the step overflows
        (optax.adam(0.1), 1e20),  # the second moment overflows, and would stay infinite
        (optax.sgd(1.0, momentum=0.9), jnp.inf),
    ],
)
def test_nothing_that_was_finite_becomes_infinite(optimizer, slope, key):
    trainer = training.trainer(plain(lambda p, b: slope * p), optimizer)
    state = trainer.init(1.0, key)
    after, metrics = trainer.update(state, jnp.zeros(2), key)
    assert metrics["skipped_total"].tolist() == [1, 2]
    assert float(after.params) == 1.0
    for leaf in jax.tree.leaves(after.optimizer):
        assert np.isfinite(leaf).all()
    np.testing.assert_allclose(metrics["gradient_norm"], slope, rtol=1e-6)


def test_an_optimiser_that_begins_with_an_infinity_works(key):
    """reduce_on_plateau remembers the best value so far, at first inf."""

    def init(params):
        return jnp.asarray(jnp.inf)

    def update(gradient, best, params=None):
        return jax.tree.map(lambda g: -0.5 * g, gradient), jnp.minimum(best, 3.0)

    trainer = training.trainer(plain(lambda p, b: p**2), optax.GradientTransformation(init, update))
    state, metrics = trainer.update(trainer.init(1.0, key), jnp.zeros(5), key)
    assert not metrics["skipped"].any()
    assert float(state.optimizer) == 3.0


def test_the_average_of_bfloat16_parameters_moves(key):
    """In bfloat16 a step of 1 / 1000 of 1.0 would be rounded away."""
    objective = plain(lambda p, b: -p.astype(jnp.float32))
    trainer = training.trainer(objective, optax.sgd(2.0**-3), average_decay=0.999)
    state = trainer.init(jnp.ones((), jnp.bfloat16), key)
    state, _ = trainer.update(state, jnp.zeros(40), key)
    assert state.params.dtype == jnp.bfloat16
    assert state.average.dtype == jnp.float32
    p, average = 1.0, 1.0
    for t in range(40):
        p += 2.0**-3
        d = min(0.999, (1 + t) / (10 + t))
        average = d * average + (1 - d) * p
    np.testing.assert_allclose(state.average, average, rtol=1e-5)


def test_a_donated_state_is_gone_and_its_parameters_were_a_copy(key):
    params = {"p": jnp.array(0.0)}
    trainer = training.trainer(OBJECTIVE, optax.adam(0.1), average_decay=0.9, donate=True)
    kept = training.trainer(OBJECTIVE, optax.adam(0.1), average_decay=0.9)
    first = trainer.init(params, key)
    after, _ = trainer.update(first, jnp.ones(3), key)
    assert first.params["p"].is_deleted()
    assert float(params["p"]) == 0.0
    same, _ = kept.update(kept.init(params, key), jnp.ones(3), key)
    jax.tree.map(np.testing.assert_array_equal, after, same)


def test_a_module_given_whole_is_refused_with_what_helps(key):
    trainer = training.trainer(OBJECTIVE, optax.sgd(0.1))
    with pytest.raises(TypeError, match=r"must be arrays, got <.*equinox\.partition"):
        trainer.init({"p": jnp.array(0.0), "activation": jax.nn.relu}, key)
