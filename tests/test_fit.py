"""Training on arrays in memory: which examples, which keys, how often compiled and called back."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import training
from ebm_jax.types import Objective


def noisy(params, state, batch, key):
    """A quadratic with noise; its state counts, and its metrics show the batch and a draw."""
    x, label = batch
    draw = jax.random.normal(key, x.shape)
    loss = jnp.mean(jnp.sum((params["p"] - x + 0.1 * draw) ** 2, axis=1) * (1 + label))
    return loss, (state + 1, {"label": label, "draw": draw[0, 0]})


OBJECTIVE = Objective(lambda params, key: jnp.zeros((), jnp.int32), noisy)
OPTIMIZER = optax.adam(0.1)


def examples(n):
    x = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    return x, np.arange(n, dtype=np.uint8)


def params():
    return {"p": jnp.zeros(2)}


def fit(key, data, batch_size, num_updates, start=None, objective=OBJECTIVE, **options):
    options = {"average_decay": 0.9} | options
    start = params() if start is None else start
    return training.fit(
        key,
        objective,
        OPTIMIZER,
        start,
        data,
        batch_size=batch_size,
        num_updates=num_updates,
        **options,
    )


def rows(key, n, batch_size, num_updates):
    """The rows of every batch, as the docstring defines them."""
    _, data_key, _ = jax.random.split(key, 3)
    epochs = []
    for e in range(-(-num_updates // (n // batch_size))):
        numbers = jax.random.bits(jax.random.fold_in(data_key, e), (n,), jnp.uint32)
        order = np.argsort(np.asarray(numbers), kind="stable")
        epochs.append(order[: n // batch_size * batch_size].reshape(-1, batch_size))
    return np.concatenate(epochs)[:num_updates]


def assert_same_bits(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(("n", "batch_size"), [(11, 3), (4, 4), (5, 1), (1, 1), (7, 6)])
@pytest.mark.sweep(2)
def test_the_same_updates_as_on_stacked_batches(n, batch_size, key):
    """Batches, keys and counts are those of ``Trainer.update`` to the bit.

    The rest is up to rounding: XLA sums the rows of a batch in another order or with other fused
    multiplications where the loop around them is another.
    """
    data, num_updates = examples(n), 9
    state, metrics = fit(key, data, batch_size, num_updates)
    trainer = training.trainer(OBJECTIVE, OPTIMIZER, average_decay=0.9)
    init_key, _, train_key = jax.random.split(key, 3)
    indices = rows(key, n, batch_size, num_updates)
    batches = jax.tree.map(lambda leaf: leaf[indices], data)
    expected = trainer.update(trainer.init(params(), init_key), batches, train_key)
    np.testing.assert_array_equal(metrics["label"], batches[1])
    for name in ("draw", "step", "skipped_in_row"):
        np.testing.assert_array_equal(metrics[name], expected[1][name])
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (state, metrics),
        expected,
    )


def test_exact_arithmetic_gives_the_bits_of_update(key):
    """Sums of integers and powers of two are exact in any order."""

    def loss(p, state, batch, key):
        return jnp.sum((p - batch) ** 2), (state, {})

    objective, x = Objective(lambda p, key: (), loss), jnp.arange(10.0).reshape(5, 2)
    optimizer, start = optax.sgd(0.25), jnp.zeros(2)
    found = training.fit(key, objective, optimizer, start, x, batch_size=2, num_updates=5)
    trainer = training.trainer(objective, optimizer)
    init_key, _, train_key = jax.random.split(key, 3)
    batches = x[rows(key, 5, 2, 5)]
    expected = trainer.update(trainer.init(start, init_key), batches, train_key)
    assert_same_bits(found[0], expected[0])
    assert_same_bits(found[1]["loss_total"], expected[1]["loss_total"])


def test_every_epoch_is_a_permutation_of_its_own():
    """Without replacement in an epoch; each row is in each place, and left out, as often.

    Chi-square of 7 rows in 7 places over 600 epochs: 36 degrees of freedom, alarm 1e-6.
    """
    n, batch_size, epochs = 7, 2, 600
    _, metrics = fit(jax.random.key(3), examples(n), batch_size, 3 * epochs)
    labels = np.asarray(metrics["label"]).reshape(epochs, 6)
    assert all(len(set(epoch)) == 6 for epoch in labels.tolist())
    left_out = n * (n - 1) // 2 - labels.sum(axis=1)
    places = np.concatenate([labels, left_out[:, None]], axis=1)
    counts = np.stack([np.bincount(column, minlength=n) for column in places.T])
    assert np.sum((counts - epochs / n) ** 2 / (epochs / n)) < 91.9


def test_keys_of_updates_are_those_of_the_trainer(key):
    """Of the update's number alone; none is drawn from twice."""
    _, metrics = fit(key, examples(6), 2, 8)
    _, _, train_key = jax.random.split(key, 3)
    for t, draw in enumerate(metrics["draw"]):
        expected = jax.random.normal(jax.random.fold_in(train_key, t), (2, 2))[0, 0]
        assert float(draw) == float(expected)
    assert metrics["step"].tolist() == list(range(8))


def test_a_run_that_continues_is_the_uninterrupted_run(key, optimised):
    """Cut in the middle of an epoch, at its end, and by callbacks."""
    data = examples(11)
    whole, metrics = fit(key, data, 3, 10)
    for cuts in ((4,), (3, 6)):
        state, history = None, []
        for first, last in itertools.pairwise((0, *cuts, 10)):
            state, part = fit(key, data, 3, last - first, state)
            history.append(part)
        assert_same_bits(state, whole)
        assert_same_bits(jax.tree.map(lambda *m: np.concatenate(m), *history), metrics)
    for every in (4, 99):
        called = fit(key, data, 3, 10, callback=lambda *_: None, callback_every=every)
        assert_same_bits(called, (whole, metrics))
    other, _ = fit(jax.random.key(1), data, 3, 10)
    assert not np.array_equal(other.params["p"], whole.params["p"])


def test_all_data_at_once_is_gradient_descent(key):
    """p_t - m = (1 - 2 h)^t (p_0 - m), the data in their order."""

    def loss(p, state, batch, key):
        return jnp.mean(jnp.sum((p - batch) ** 2, axis=1)), (state, {"batch": batch})

    objective, (x, _) = Objective(lambda p, key: (), loss), examples(5)
    state, metrics = training.fit(
        key, objective, optax.sgd(0.1), jnp.zeros(2), x, batch_size=None, num_updates=6
    )
    mean = x.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(state.params, mean * (1 - 0.8**6), rtol=1e-5)
    np.testing.assert_array_equal(metrics["batch"], np.broadcast_to(x, (6, 5, 2)))
    # An objective that needs no data.
    alone = Objective(lambda p, key: (), lambda p, s, batch, key: (p**2, (s, {})))
    state, _ = training.fit(key, alone, optax.sgd(0.25), 1.0, (), batch_size=None, num_updates=3)
    assert float(state.params) == 0.125


@pytest.mark.parametrize(
    ("num_updates", "every", "calls"),
    [(25, None, [3] * 8 + [1]), (20, None, [2] * 10), (3, None, [1] * 3), (7, 3, [3, 3, 1])],
)
@pytest.mark.sweep(1)
def test_callbacks_get_the_metrics_since_the_last(num_updates, every, calls, key):
    seen = []

    def callback(state, metrics):
        seen.append((int(state.step), metrics["step"].tolist()))

    _, metrics = fit(key, examples(4), 2, num_updates, callback=callback, callback_every=every)
    ends = np.cumsum(calls)
    assert [step for step, _ in seen] == ends.tolist()
    assert [len(steps) for _, steps in seen] == calls
    assert [step for _, steps in seen for step in steps] == metrics["step"].tolist()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_a_callback_raises_ends_the_run(error, key):
    states = []

    def callback(state, metrics):
        states.append(state)
        if len(states) == 2:
            raise error("enough")

    with pytest.raises(error, match="enough"):
        fit(key, examples(4), 2, 9, callback=callback, callback_every=3)
    assert [int(state.step) for state in states] == [3, 6]
    # The states stay readable, and the run continues from any of them.
    whole, _ = fit(key, examples(4), 2, 9)
    assert_same_bits(fit(key, examples(4), 2, 6, states[0])[0], whole)


def test_one_compilation_for_each_number_of_updates(key):
    traces = []

    def counted(*args):
        traces.append(args)
        return noisy(*args)

    objective, data = Objective(OBJECTIVE.init, counted), examples(6)
    state, _ = fit(key, data, 2, 7, None, objective, callback=lambda *_: None, callback_every=3)
    assert len(traces) == 2  # 3, 3 and 1
    for seed in range(3):
        state, _ = fit(jax.random.key(seed), data, 2, 3, state, objective)
    assert len(traces) == 2


def test_the_data_are_an_argument_and_not_copied(key):
    """5 MB of data: neither a constant nor among the temporaries, of which the order is 80 kB."""
    x = jnp.ones((20_000, 64))
    labels = jnp.zeros(20_000, jnp.uint8)
    trainer = training.trainer(OBJECTIVE, OPTIMIZER)
    state = trainer.init({"p": jnp.zeros(64)}, key)
    lowered = training._fit.lower(state, (x, labels), key, key, OBJECTIVE, OPTIMIZER, None, 10, 100)
    assert len(lowered.as_text()) < 200_000
    memory = lowered.compile().memory_analysis()
    assert memory.temp_size_in_bytes < x.nbytes / 5
    assert memory.output_size_in_bytes < x.nbytes / 5


def test_divergence_stops_the_run_at_the_next_callback(key):
    """An update that is not finite is skipped and counted; twenty in a row end the run."""
    x, labels = examples(4)
    called = []
    with pytest.raises(training.DivergedError, match="at step 19: 20 updates in a row"):
        fit(
            key,
            (np.full_like(x, np.nan), labels),
            2,
            90,
            callback=lambda s, m: called.append(int(s.step)),
            callback_every=15,
        )
    assert called == [15]
    state, metrics = fit(key, (np.full_like(x, np.nan), labels), 2, 5)
    assert int(state.skipped_total) == 5
    assert metrics["skipped_in_row"].tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_array_equal(state.params["p"], 0)


def test_several_runs_side_by_side(key):
    """Under vmap over keys, and jit over data."""
    data, keys = examples(5), jax.random.split(key, 3)
    many, _ = jax.jit(jax.vmap(lambda k, d: fit(k, d, 2, 7), (0, None)))(keys, data)
    alone, _ = fit(keys[1], data, 2, 7)
    np.testing.assert_allclose(many.params["p"][1], alone.params["p"], rtol=1e-5)
    assert many.step.tolist() == [7, 7, 7]


def test_in_double_precision(key, x64):
    data = tuple(leaf.astype(np.float64) for leaf in examples(5))
    state, metrics = fit(key, data, 2, 4, {"p": jnp.zeros(2)})
    assert state.params["p"].dtype == metrics["loss_total"].dtype == np.float64
    assert state.step.dtype == np.int32


def test_a_batch_larger_than_the_data_is_refused(key):
    with pytest.raises(ValueError, match="batch_size must be at most the 4 examples of data"):
        fit(key, examples(4), 5, 3)


def test_callback_every_needs_a_callback(key):
    with pytest.raises(ValueError, match="callback_every=2 needs a callback"):
        fit(key, examples(4), 2, 3, callback_every=2)


def test_an_objective_that_cannot_be_hashed_is_refused(key):
    unhashable = type("Unhashable", (list,), {"__call__": lambda *args: args})()
    with pytest.raises(TypeError, match="objective must be hash"):
        fit(key, examples(4), 2, 3, objective=Objective([].append, unhashable))
