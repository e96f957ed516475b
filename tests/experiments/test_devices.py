"""Training over devices and processes: the curve of one device, checkpoints that fit both."""

import json
import os
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from absl import flags

from experiments.run import devices, errors, work_directory

PROGRAM = """
import functools, json, sys
import jax, jax.numpy as jnp, numpy as np, optax
from pathlib import Path
from ebm_jax import objectives, training
from ebm_jax import samplers
from experiments.run import devices
from experiments.run import loop
from experiments.run import work_directory

energy = lambda params, x: jnp.sum(params["a"] * (x - params["b"]) ** 2)

def train(folder, steps, size):
    mesh = devices.make_mesh(size)
    run = work_directory.Run(Path(folder), "", mesh, first=devices.is_first())

    def start(params, key, indices):
        return devices.spread(mesh, jax.random.normal(key, (len(indices), 2)))

    objective = objectives.persistent(
        energy,
        functools.partial(samplers.mala, step_size=0.1),
        num_steps=5, num_chains=64, buffer_size=256, initial=start, groups=8,
    )
    trainer = training.trainer(objective, optax.adam(0.02), average_decay=0.9)
    params, key = {"a": jnp.ones(2), "b": jnp.zeros(2)}, jax.random.key(0)
    state = trainer.init(*devices.place(mesh, (params, key)))
    if mesh:
        assert len(state.objective.chains.position.sharding.device_set) == mesh.size
    data = lambda t: 3 + np.random.default_rng(t).standard_normal((32, 2), np.float32)
    state, _ = loop.train(run, "", trainer, state, data, jax.random.key(1),
                          num_steps=steps, group=5)
    assert state.params["a"].is_fully_addressable

trainings, coordinator, processes, number = map(json.loads, sys.argv[1:])
if coordinator:
    devices.join(coordinator, processes, number)
for folder, steps, size in trainings:
    train(folder, steps, size)
"""


def start(*trainings, devices, coordinator="", processes=1, number=0):
    """Start a process that makes trainings, each a folder, a number of steps and a mesh."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    named = [(str(folder), *rest) for folder, *rest in trainings]
    given = map(json.dumps, (named, coordinator, processes, number))
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *given],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
        stderr=subprocess.PIPE,
        text=True,
    )


def two(folder, steps):
    """Two processes of one device each, over gloo."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    joined = {"devices": 1, "coordinator": address, "processes": 2}
    return [start((folder, steps, 2), number=number, **joined) for number in (0, 1)]


def wait(*processes):
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == 0, told


def curve(folder):
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["step"] for row in rows] == [5, 10, 15, 20]
    return {name: [row[name] for row in rows] for name in rows[0]}


@pytest.mark.slow
def test_the_curve_is_that_of_one_device(tmp_path):
    one, eight, there, back = (tmp_path / name for name in ("one", "eight", "there", "back"))
    wait(*two(there, 10))
    # One process with two devices resumes the run of two processes, and the reverse.
    wait(start((one, 20, 1), (eight, 20, 8), (there, 20, 2), (back, 10, 2), devices=8))
    wait(*two(back, 20))
    expected = curve(one)
    parameters = np.load(one / "parameters.npz")
    for folder in (eight, there, back):
        found = curve(folder)
        assert found.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_allclose(found[name], values, rtol=2e-4, atol=2e-5, err_msg=name)
        for name, values in np.load(folder / "parameters.npz").items():
            np.testing.assert_allclose(values, parameters[name], rtol=1e-4)
    assert (tmp_path / "there" / "metrics.jsonl").exists()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_process_ends_the_other_with_a_sentence_and_the_code_that_requeues(
    killed, tmp_path
):
    """Otherwise it waits for the missed heartbeats, and aborts with a hundred lines."""
    processes = two(tmp_path, 10**6)
    metrics = tmp_path / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_bytes()):
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.05)
    processes[killed].kill()
    _, told = processes[1 - killed].communicate(timeout=60)  # heartbeats are waited for for 100 s
    processes[killed].communicate()
    assert processes[1 - killed].returncode == errors.STOPPED, told
    assert "error: another process ended, or cannot be reached" in told
    assert "run the same command again to resume" in told
    assert "Traceback" not in told


def test_a_stopped_process_names_the_folder_of_the_user(tmp_path):
    for first in (True, False):
        run = work_directory.Run(tmp_path, first=first)
        with pytest.raises(errors.StoppedError, match=f"last checkpoint in {tmp_path}"):
            run.stop(signal.SIGTERM, None)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--mesh=3"], "--groups=1 must divide --chains=64 and .* and be a multiple of --mesh=3"),
        (["--mesh=2", "--groups=2"], "--mesh=2 needs 2 devices"),
        (["--num_processes=2"], "--num_processes=2 needs --coordinator=HOST:PORT"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(arguments, sentence, program, tmp_path):
    with pytest.raises((flags.Error, errors.UsageError), match=sentence):
        program("digits", f"--workdir={tmp_path}", *arguments).main()


def test_a_mesh_divides_the_batch():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:1]), ("devices",))
    batches = {"x": np.zeros((3, 4, 2)), "weight": np.zeros(3)}
    with pytest.raises(errors.UsageError, match="--mesh=1 must divide the 1 examples"):
        devices.place_batches(mesh, batches)


STARTED = """
from experiments.run import entry
entry.main(entry.start)
"""


def test_all_processes_leave_when_the_first_refuses_the_workdir(tmp_path):
    """Otherwise the others would wait until they miss its heartbeat, and end without a sentence."""
    (tmp_path / "flags.txt").write_text("--seed=5\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    given = f"--workdir={tmp_path}", "--mesh=2", f"--coordinator={address}", "--num_processes=2"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", STARTED, *given, f"--process_id={number}"],
            env=os.environ | {"JAX_PLATFORMS": "cpu"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in (0, 1)
    ]
    for process in processes:
        _, told = process.communicate(timeout=300)
        assert process.returncode == errors.USAGE, told
        assert "holds a run with other flags: it has --seed=5, this one --seed=0" in told
        assert "Traceback" not in told
