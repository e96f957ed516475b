"""The training loop: resumable, measured, and honest about what it could not learn."""

import json
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax.training import DivergedError, trainer
from ebm_jax.types import Objective
from experiments.data import minibatches
from experiments.run import loop, progress, work_directory


def noisy_square(params, state, batch, key):
    """The mean of (params - x - noise)^2, remembering how often it was asked."""
    value = jnp.mean((params - batch + 0.1 * jax.random.normal(key)) ** 2)
    return value, (state + 1, {"loss": value})


OBJECTIVE = Objective(lambda params, key: jnp.zeros(()), noisy_square)
INIT_KEY, TRAIN_KEY = jax.random.split(jax.random.key(0))
BATCH = minibatches.batches(np.arange(7, dtype=np.float32), batch_size=3, seed=0)
TRAINER = trainer(OBJECTIVE, optax.adam(0.1))


@pytest.fixture
def run(tmp_path):
    return work_directory.Run(tmp_path)


def trained(run, state, num_steps, group=4, training=TRAINER):
    state = training.init(jnp.zeros(()), INIT_KEY) if state is None else state
    options = {"num_steps": num_steps, "group": group}
    return loop.train(run, "a name", training, state, BATCH, TRAIN_KEY, **options)


def test_it_makes_the_updates_that_single_steps_make(run):
    """Adam by hand in NumPy's float64, without the noise."""

    def square(params, state, batch, key):
        return jnp.mean((params - batch) ** 2), (state, {})

    fitted, history = loop.fit(
        run,
        "adam",
        Objective(lambda params, key: (), square),
        jnp.zeros(()),
        BATCH,
        TRAIN_KEY,
        steps=40,
        learning_rate=0.1,
        decay=False,
        measure=lambda params: {"twice": 2 * float(params)},
    )
    x = m = v = 0.0
    for t in range(40):
        g = 2 * (x - BATCH(t).astype(np.float64).mean())
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        x -= 0.1 * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8)
    np.testing.assert_allclose(fitted, x, rtol=1e-4)
    assert len(history["twice"]) == 20
    np.testing.assert_allclose(history["twice"][-1], 2 * x, rtol=1e-4)


def test_every_dispatch_is_logged_under_the_name(run):
    trained(run, None, 11)
    lines = [
        json.loads(line)
        for line in (run.workdir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["step"] for line in lines] == [4, 8, 11]
    assert all(np.isfinite(line["a_name/loss_total"]) for line in lines)


@pytest.mark.parametrize("num_steps", [1, 3, 19, 30])
def test_a_run_that_learns_nothing_says_so_however_short(run, num_steps):
    lost = Objective(lambda params, key: (), lambda p, s, b, k: (p * jnp.nan, (s, {})))
    training = trainer(lost, optax.adam(0.1))
    with pytest.raises(DivergedError, match="Nothing was learnt: every update was skipped"):
        trained(run, training.init(jnp.zeros(()), INIT_KEY), num_steps, training=training)


def test_a_short_run_that_diverges_on_the_way_says_so(run):
    def after_two(params, state, batch, key):
        return jnp.where(state < 2, params**2, jnp.nan), (state + 1, {})

    training = trainer(Objective(lambda params, key: jnp.zeros(()), after_two), optax.adam(0.1))
    state = training.init(jnp.ones(()), INIT_KEY)
    with pytest.raises(DivergedError, match=r"^Training diverged at step 6: 5 updates in a row"):
        trained(run, state, 8, group=8, training=training)


def test_one_bad_update_is_no_divergence(run):
    def last_one(params, state, batch, key):
        return jnp.where(state < 7, params**2, jnp.nan), (state + 1, {})

    training = trainer(Objective(lambda params, key: jnp.zeros(()), last_one), optax.adam(0.1))
    state, history = trained(run, training.init(jnp.ones(()), INIT_KEY), 8, training=training)
    assert int(state.step) == 8
    assert history["skipped_total"][-1] == 0.25  # the mean of 0, 0, 0, 1


def test_steps_of_several_threads_are_counted_together(capsys):
    with progress.counted("drawing", 40) as advance, ThreadPoolExecutor(4) as pool:
        list(pool.map(advance, [1] * 40))
    assert "drawing 40/40, 0 s left\n" in capsys.readouterr().err


def test_the_time_left_is_that_of_the_speed_after_the_first_call(capsys, monkeypatch):
    """Compilation (60 s here) and the updates of an interrupted run say nothing about the speed."""
    times = iter([0.0, 60.0, 70.0, 80.0])  # of the bar, and of three calls
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    advance, _ = progress.bar(1000, "training")
    for done in (500, 600, 700):
        advance(done, "")
    assert capsys.readouterr().err.splitlines() == [
        "training 500/1000",
        "training 600/1000, 40 s left",
        "training 700/1000, 30 s left",
    ]
