"""How many updates fit into a time, and that a resumed run makes as many."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.training import Trainer
from ebm_jax.types import Objective
from experiments.data import minibatches
from experiments.images import training
from experiments.run import speed, work_directory


@pytest.mark.parametrize(
    ("num_steps", "seconds", "per_update", "expected"),
    [
        (16_000, 480, 0.02, 16_000),
        (16_000, 480, 0.03, 16_000),
        (16_000, 480, 0.0301, 15_925),  # 15,946 would fit: a multiple of 25
        (16_000, 480, 0.12, 4000),
        (16_000, 480, 10.0, 2000),  # an eighth
        (1000, 480, 10.0, 125),
        (1010, 480, 10.0, 150),  # an eighth, rounded up
        (10, 480, 100.0, 10),
    ],
)
def test_as_many_updates_as_fit_and_an_eighth_at_least(num_steps, seconds, per_update, expected):
    assert speed.fitted(num_steps, seconds, per_update, group=25) == expected


def test_the_speed_is_the_median_after_the_first_dispatch(monkeypatch):
    """Dispatches of 5 updates: 100 s with compilation, then 1 s, twice much longer."""
    takes = iter([100.0, 1.0, 50.0, 1.0, 1.0, 9.0, 1.0, 1.0, 1.0, 1.0])
    clock = {"time": 0.0}

    def update(state, batches, key):
        assert key == "key"
        clock["time"] += next(takes)
        return state + 1, {"loss": jnp.zeros(5)}

    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock["time"])
    monkeypatch.setattr(speed, "SECONDS", 1000.0)
    trainer = Trainer(None, None, update)
    batches = ({"x": np.zeros((5, 2))} for _ in range(20))
    assert speed.seconds_per_update(trainer, 0, batches, "key") == pytest.approx(0.2)


def test_a_slow_machine_is_measured_by_three_dispatches(monkeypatch):
    clock, calls = {"time": 0.0}, []

    def update(state, batches, key):
        clock["time"] += 40.0
        calls.append(state)
        return state + 1, {}

    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock["time"])
    batches = iter([np.zeros((5, 2))] * 20)
    found = speed.seconds_per_update(Trainer(None, None, update), 0, batches, None)
    assert found == pytest.approx(8)
    assert calls == [0, 1, 2, 3]


def square(params, state, batch, key):
    value = jnp.mean((params - batch) ** 2)
    return value, (state, {"loss": value})


def fitted_run(folder, minutes):
    """Train by 400 updates at most, in the run of a folder."""
    run = work_directory.Run(folder)
    params, history = training.fit(
        run,
        "part",
        Objective(lambda params, key: (), square),
        jnp.zeros(()),
        minibatches.batches(np.arange(7, dtype=np.float32), batch_size=3, seed=0),
        jax.random.key(0),
        steps=400,
        learning_rate=0.1,
        shown="loss",
        minutes=minutes,
    )
    run.close()
    return params, history


def test_a_run_makes_as_many_updates_when_it_resumes(tmp_path, monkeypatch):
    """Within a time that nothing fits into: an eighth of 400, at any speed later."""
    monkeypatch.setattr(speed, "seconds_per_update", lambda *_: 1.0)
    params, history = fitted_run(tmp_path / "a", 1e-3)
    assert history["step"][-1] == 50
    assert json.loads((tmp_path / "a" / speed.FILE).read_text(encoding="utf-8")) == {"part": 50}
    monkeypatch.setattr(speed, "seconds_per_update", lambda *_: pytest.fail("measured again"))
    shutil.rmtree(tmp_path / "a" / "checkpoints")
    again, _ = fitted_run(tmp_path / "a", 1e-3)
    np.testing.assert_array_equal(again, params)
    _, unlimited = fitted_run(tmp_path / "b", 0.0)
    assert unlimited["step"][-1] == 400
