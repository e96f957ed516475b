"""Cost of checkpoints, logs and alarms: the training loop of experiments against a bare one."""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import jax
import numpy as np
import optax

from ebm_jax import losses, training
from scripts.benchmark import measure
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite

STEPS = 500  # a training, a sixth of the main job: what a run costs once weighs six times


def run_keeping(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Trainings of the main job at its default flags, kept as a run and kept nowhere."""
    del peers
    from experiments.data import image_sets
    from experiments.images import objective_terms, pipeline
    from experiments.images import training as image_training
    from experiments.images.settings import Settings, settle
    from experiments.run import loop, work_directory

    images = image_sets.load("digits")
    fixed = {"data": "digits", "generative": "pcd", "loss": "nll", "margin": 1.0, "groups": 1}
    fixed |= {"data_noise": 0.13, "restart": 0.005, "precision": "float32", "outliers": []}
    fixed |= {"langevin_steps": 1} if quick else {}
    settings = settle(dict.fromkeys(Settings._fields) | fixed, images.shape)
    steps, group = (4, 2) if quick else (STEPS, image_training.GROUP)
    model, split = pipeline.build(settings, images), images.split
    network_key, init_key, key = jax.random.split(jax.random.key(0), 3)
    params = model.init(network_key)
    initial = image_training.chain_starts(None, settings, split, model, params, key)
    terms = objective_terms.likelihood(model, settings, initial)
    terms |= objective_terms.discriminative(model, losses.nll)
    objective = objective_terms.trained(model, terms)
    trainer = training.trainer(objective, optax.adam(1e-3), average_decay=0.998)
    start = trainer.init(params, init_key)
    batch = image_training.batches(split, settings.data_noise, 0)

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
    ratio = measure.speed(times, "as a run", "training alone")
    work = f"{steps} updates of experiments.digits, kept (checkpoints, metrics, TensorBoard) or not"
    return Suite(work, None, {"run_vs_training": ratio}, {}, times, first, {})
