"""How many updates fit into a time, and that a resumed run makes as many."""

import itertools
import json

import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.training import Trainer
from experiments.run import speed


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
    now = itertools.count(0)
    clock = {"time": 0.0}

    def update(state, batches, key):
        assert key == "key"
        clock["time"] += next(takes)
        return state + 1, {"loss": jnp.zeros(5)}

    monkeypatch.setattr(speed.time, "perf_counter", lambda: clock["time"])
    monkeypatch.setattr(speed, "SECONDS", 1000.0)
    trainer = Trainer(None, None, update)
    batches = ({"x": np.zeros((5, 2))} for _ in now)
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


def test_a_run_makes_fewer_updates_and_as_many_when_it_resumes(
    program, tmp_path, capsys, monkeypatch
):
    """--train_minutes that nothing fits into: an eighth of 400 updates, in whole groups of 25."""
    given = ("--generative=none", "--hidden=8", "--channels=", "--steps=400", "--samples=10")
    given += ("--sample_steps=10", "--betas=0", "--train_minutes=0.0001", f"--workdir={tmp_path}")
    images = program("digits", *given)
    images.main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["updates"] == 50
    assert json.loads((tmp_path / speed.FILE).read_text(encoding="utf-8")) == {"training": 50}
    (tmp_path / "summary.json").unlink()
    monkeypatch.setattr(speed, "seconds_per_update", lambda *_: pytest.fail("measured again"))
    program("digits", *given).main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["updates"] == 50
