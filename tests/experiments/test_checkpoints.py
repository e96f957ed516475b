"""An interrupted training resumes bit for bit; damaged checkpoints are reported and skipped."""

import errno
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import objectives, samplers, training
from experiments.data import minibatches
from experiments.run import checkpoints, errors, loop, work_directory
from experiments.run.checkpoints import Checkpoints
from experiments.run.errors import UsageError


def energy(params, x):
    return params @ x**2 / 2


OBJECTIVE = objectives.persistent(
    energy,
    functools.partial(samplers.mala, step_size=0.1),
    num_steps=2,
    num_chains=4,
    buffer_size=8,
    initial=lambda params, key, indices: jax.random.normal(key, (len(indices), 2)),
)
TRAINER = training.trainer(OBJECTIVE, optax.adam(0.05), average_decay=0.9)
POINTS = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)


def train(run, num_steps=12, stop_after=None, tick=lambda: None):
    """Train; a signal arrives while update ``stop_after`` gets its batch; each batch ticks."""
    plain = minibatches.batches(POINTS, batch_size=16, seed=0)

    def batch(t):
        tick()
        if t == stop_after:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(t)

    start = TRAINER.init(jnp.ones(2), jax.random.key(0))
    return loop.train(
        run, "toy", TRAINER, start, batch, jax.random.key(1), num_steps=num_steps, group=3
    )


@pytest.fixture
def make_run():
    """Runs whose signals do not outlive the test."""
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}

    def make(folder):
        run = work_directory.Run(folder)
        for which in before:
            signal.signal(which, run.stop)
        return run

    yield make
    for which, handler in before.items():
        signal.signal(which, handler)


def rows(folder):
    return [
        json.loads(line)
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def assert_same(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    return *train(work_directory.Run(folder)), rows(folder)


@pytest.mark.parametrize("stops", [[0], [4], [4, 7], [1, 3, 11]])
def test_a_stopped_run_goes_on_to_the_same_bits(stops, make_run, tmp_path, uninterrupted):
    expected, expected_history, expected_rows = uninterrupted
    for t in stops:
        with pytest.raises(errors.StoppedError, match=r"SIGTERM after update \d+ of 12"):
            train(make_run(tmp_path), stop_after=t)
    state, history = train(make_run(tmp_path))
    assert_same(state, expected)
    assert {k: v.tolist() for k, v in history.items()} == {
        k: v.tolist() for k, v in expected_history.items()
    }
    assert rows(tmp_path) == expected_rows


def test_a_killed_run_repeats_updates_and_writes_no_row_twice(make_run, tmp_path, uninterrupted):
    """Killed between a row and its checkpoint, and in the middle of writing a row."""
    with pytest.raises(errors.StoppedError):
        train(make_run(tmp_path), stop_after=7)
    with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(uninterrupted[2][2]) + "\n" + '{"step": 12, "toy/lo')
    state, _ = train(make_run(tmp_path))
    assert_same(state, uninterrupted[0])
    assert rows(tmp_path) == uninterrupted[2]


def test_the_seconds_of_a_resumed_run_include_those_before(make_run, tmp_path, monkeypatch):
    """A batch takes 10 s, and those of the next dispatch are made before the signal is noticed."""
    clock = [0.0]
    monkeypatch.setattr(work_directory.time, "perf_counter", lambda: clock[0])

    def tick():
        clock[0] += 10

    with pytest.raises(errors.StoppedError, match="after update 3"):
        train(make_run(tmp_path), stop_after=4, tick=tick)
    clock[0] += 1000
    run = make_run(tmp_path)
    with run.timed("training"):
        train(run, tick=tick)
    assert run.seconds_by_phase == {"training": 60 + 90}
    clock[0] += 5
    assert run.seconds() == 60 + 90 + 5


def test_a_finished_training_is_not_done_again(make_run, tmp_path, uninterrupted):
    train(make_run(tmp_path))
    state, history = train(make_run(tmp_path), stop_after=0)  # no batch is asked for
    assert_same(state, uninterrupted[0])
    assert history["step"].tolist() == [3, 6, 9, 12]


def states(folder):
    """Two checkpoints of a state with every kind of leaf; the newest is 2."""
    state = {
        "p": jnp.arange(6.0).reshape(2, 3),
        "b": jnp.ones(3, jnp.bfloat16),
        "key": jax.random.key(3),
        "n": jnp.int32(4),
    }
    saved = Checkpoints(folder)
    saved.save(1, state, 1.5)
    saved.save(2, state | {"n": jnp.int32(5)}, 2.5)
    saved.close()
    return state


def largest(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return max(files, key=lambda path: path.stat().st_size)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before_and_says_so(damage, tmp_path, capfd):
    state = states(tmp_path)
    newest = tmp_path / "2" / "state"
    path = largest(newest if damage == "truncated" else newest / "d")
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        path.write_bytes(bytes([*content[:-8], *(255 - b for b in content[-8:])]))
    else:
        path.unlink()
    found, seconds = Checkpoints(tmp_path).restore(state)
    assert (int(found["n"]), seconds) == (4, 1.5)
    assert "2 cannot be read" in capfd.readouterr().err
    assert found["b"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(jax.random.key_data(found["key"]), [0, 3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": jnp.zeros((3, 2))}, r"p: float32\[2, 3\].*p: float32\[3, 2\]"),
        ({"n": jnp.float32(0)}, r"n: int32\[\].*n: float32\[\]"),
    ],
)
def test_a_state_of_another_shape_or_type_is_refused(change, message, tmp_path):
    state = states(tmp_path)
    with pytest.raises(errors.UsageError, match=message):
        Checkpoints(tmp_path).restore(state | change)


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(errors.UsageError, match=r"cannot be written .*choose another --workdir"):
        Checkpoints(tmp_path / "file" / "checkpoints")


def test_other_flags_are_refused_with_the_differences(tmp_path):
    work_directory.Run(tmp_path, "--seed=0\n--steps=3\n")
    with pytest.raises(errors.UsageError, match=r"it has --seed=0, this one --seed=1\."):
        work_directory.Run(tmp_path, "--seed=1\n--steps=3\n")


def test_a_metric_that_is_not_finite_is_the_same_after_a_stop(make_run, tmp_path):
    """Infinity is not in JSON: the history has NaN there, read back or not."""

    def history(folder, *lengths):
        for num_steps in lengths:
            found = loop.train(
                make_run(folder),
                "toy",
                TRAINER,
                TRAINER.init(jnp.ones(2), jax.random.key(0)),
                lambda t: POINTS[:16],
                jax.random.key(1),
                num_steps=num_steps,
                group=3,
                measure=lambda params: {"odd": np.inf},
            )[1]
        return found

    whole, cut = history(tmp_path / "whole", 12), history(tmp_path / "cut", 6, 12)
    assert whole.keys() == cut.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(cut[name], values)
    assert np.isnan(whole["odd"]).tolist() == [True] * 4
    one, other = (
        (tmp_path / name / "metrics.jsonl").read_text(encoding="utf-8") for name in ("whole", "cut")
    )
    assert one == other
    assert "Infinity" not in one


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_when_there_is_room(
    make_run, tmp_path, uninterrupted, monkeypatch
):
    with pytest.raises(errors.StoppedError):
        train(make_run(tmp_path), stop_after=7)
    with monkeypatch.context() as full:
        full.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 0))
        with pytest.raises(
            errors.CannotWriteError,
            match=r"No space left on device.*run the same command again to resume",
        ):
            train(make_run(tmp_path))
    assert [p.name for p in (tmp_path / "checkpoints" / "toy").iterdir()] == ["6"]
    state, _ = train(make_run(tmp_path))
    assert_same(state, uninterrupted[0])
    assert rows(tmp_path) == uninterrupted[2]


@pytest.mark.parametrize("numbers", [1, 1_000, 10_000, 100_000, 1_000_000])
def test_the_room_asked_for_is_what_a_checkpoint_takes(numbers, tmp_path):
    """Counted in blocks of 4 KiB, as a disk does; random numbers are what compresses least."""
    for leaves in (1, 10, 60):
        rng = np.random.default_rng(0)
        shape = (-(-numbers // leaves),)
        state = {str(i): jnp.asarray(rng.normal(size=shape), jnp.float32) for i in range(leaves)}
        saved = Checkpoints(tmp_path / str(leaves))
        saved.save(1, state, 0.0)
        saved.close()
        sizes = [path.stat().st_size for path in (tmp_path / str(leaves)).rglob("*")]
        taken = sum(4096 * -(-size // 4096) for size in sizes)
        assert 0.3 * checkpoints.room(state) < taken <= checkpoints.room(state)


FULL = """
import resource, signal, sys, time
import jax.numpy as jnp, numpy as np
from experiments.run import entry
from experiments.run.checkpoints import Checkpoints
from experiments.run.errors import UsageError
def main():
    saved = Checkpoints(entry.start().checkpoints)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
    numbers = np.random.default_rng(0).normal(size=10**6)
    saved.save(1, {"a": jnp.asarray(numbers, jnp.float32)}, 0.0)
    for update in range(1000):
        saved.due()
        time.sleep(0.05)
    print("all updates are made")
entry.main(main)
"""


def test_a_disk_that_fills_while_it_is_written_to_is_one_sentence_at_once(tmp_path):
    """A limit on the size of a file stands for it; orbax logs several tracebacks of its own."""
    done = subprocess.run(
        [sys.executable, "-c", FULL, f"--workdir={tmp_path}"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == errors.USAGE
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "cannot be written" in done.stderr
    assert "free some space or choose another --workdir" in done.stderr
    assert done.stdout == ""


def test_weights_that_cannot_be_written_leave_those_before(tmp_path, monkeypatch):
    path = tmp_path / "parameters.npz"
    checkpoints.write_parameters(path, {"a": jnp.ones(2)})

    def half(file, array, **options):
        file.write(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np.lib.format, "write_array", half)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.write_parameters(path, {"a": jnp.zeros(2)})
    found = checkpoints.read_parameters(path, {"a": jnp.zeros(2)})
    assert found["a"].tolist() == [1, 1]
    assert [p.name for p in tmp_path.iterdir()] == ["parameters.npz"]


def test_a_folder_that_orbax_cannot_name_is_refused_before_training(tmp_path):
    """As in a locale of ASCII: the bytes of the name come as surrogates."""
    folder = tmp_path / os.fsdecode(b"l\xe4ufe")
    with pytest.raises(UsageError, match=r"PYTHONUTF8=1"):
        Checkpoints(folder)


def test_integers_that_jax_would_cut_are_refused(tmp_path):
    """Without double precision JAX makes int32 of int64: 2^40 would be read as 0."""
    checkpoints.write_parameters(tmp_path / "p.npz", {"n": np.array([2**40])})
    with pytest.raises(UsageError, match=r"n in int64, which JAX would read as int32.*X64"):
        checkpoints.read_parameters(tmp_path / "p.npz", {"n": np.zeros(1, np.int64)})
