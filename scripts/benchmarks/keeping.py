"""What checkpoints, logs and alarms cost a training: the loop of experiments against none."""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax

from scripts.benchmarks import measure
from scripts.benchmarks.peers import Peers
from scripts.benchmarks.suite import Suite

STEPS = 500  # a training, a sixth of the main job: what a run costs once weighs six times


def run_keeping(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Trainings of the main job at its default flags, kept as a run and kept nowhere."""
    del peers
    from experiments import losses_by_name
    from experiments.data import image_sets
    from experiments.images import chains, defaults, loading, objective_terms
    from experiments.images import training as image_training
    from experiments.run import loop, work_directory

    found, noise = image_sets.load("digits"), 0.13
    chosen = defaults.defaults(found.shape, False, "pcd")
    steps, group = (4, 2) if quick else (STEPS, image_training.GROUP)
    prepared = loading.prepare(
        found,
        -1,
        chosen["hidden"],
        noise,
        channels=chosen["channels"],
        precision="float32",
        generative="pcd",
    )
    split = prepared.images.split
    labels = chains.proportions(split.train_y, chosen["buffer_size"])
    terms = objective_terms.likelihood(
        prepared.model,
        initial=chains.from_noise(labels, split.train_x.shape[1], None),
        weight=chosen["generative_weight"],
        make_sampler=chains.sampler_named(chosen["sampler"], chosen["step_size"]),
        langevin_steps=1 if quick else chosen["langevin_steps"],
        num_chains=chosen["chains"],
        buffer_size=chosen["buffer_size"],
        restart_fraction=0.005,
        groups=1,
    )
    terms |= objective_terms.discriminative(prepared.model, losses_by_name.named("nll"))
    objective = objective_terms.trained(prepared.model, terms)
    trainer = training.trainer(objective, optax.adam(1e-3), average_decay=0.998)
    network_key, init_key, key = jax.random.split(jax.random.key(0), 3)
    start = trainer.init(prepared.model.init(network_key), init_key)
    batch = image_training.batches(split, noise, 0)

    def alone() -> float:
        began, state = time.perf_counter(), start
        for first in range(0, steps, group):
            batches = map(batch, range(first, first + group))
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *batches)
            state, metrics = trainer.update(state, stacked, key)
            jax.device_get(metrics)
        return time.perf_counter() - began

    def kept() -> float:
        silent = (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        )
        with tempfile.TemporaryDirectory() as folder, silent[0], silent[1]:
            began, run = time.perf_counter(), work_directory.Run(Path(folder))
            loop.train(run, "", trainer, start, batch, key, num_steps=steps, group=group)
            run.finish({})
            return time.perf_counter() - began

    cases = {"training alone": alone, "as a run": kept}
    first, times = measure.interleaved(cases, repetitions)
    ratio = measure.ratio(times, "as a run", "training alone")
    work = f"{steps} updates of experiments.digits, kept (checkpoints, metrics, TensorBoard) or not"
    return Suite(work, None, {"run_over_training": ratio}, {}, times, first, {})
