"""How ``images`` trains: the batches and the optimiser."""

from collections.abc import Callable

import jax
import numpy as np
import optax

from ebm_jax import training
from ebm_jax.types import Key, Objective, Params
from experiments.data import minibatches, splits
from experiments.images import flow
from experiments.run import devices, loop, work_directory

BATCH = 256
FLOW_BATCH, BATCH_BESIDE_FLOW = 64, 128  # of the flow; of the classifier beside it
GROUP = 25  # updates a dispatch
CLASSIFIER_NOISE = 0.2  # at most, of the images that the classifier sees


def batches(split: splits.Split, data_noise: float, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t: the images modelled, noisy, and those the classifier sees."""
    plain = minibatches.batches((split.train_x, split.train_y), batch_size=BATCH, seed=seed)

    def batch(t: int) -> dict:
        x, y = plain(t)
        generator = minibatches.stream(seed, minibatches.NOISE, t)
        noise = generator.standard_normal(x.shape, np.float32)
        return {
            "configuration": {"x": x + data_noise * noise, "y": y},
            "labelled": (_roughened(generator, x), y),
        }

    return batch


def flow_batches(split: splits.Split, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t of the flow: the images without noise, and those the classifier sees."""
    shown = (split.train_x, split.train_y)
    plain = minibatches.batches(shown, batch_size=BATCH_BESIDE_FLOW, seed=seed)

    def batch(t: int) -> dict:
        x, y = plain(t)
        generator = minibatches.stream(seed, minibatches.FLOW, t)
        return {
            "flow": flow.batch(x[:FLOW_BATCH], y[:FLOW_BATCH]),
            "clean": {"x": x[:FLOW_BATCH], "y": y[:FLOW_BATCH]},
            "labelled": (_roughened(generator, x), y),
        }

    return batch


def refining_batches(split: splits.Split, data_noise: float, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t of the flow and of chains together; the classifier sees those of both."""
    flow, noisy = flow_batches(split, seed), batches(split, data_noise, seed)
    return lambda t: flow(t) | noisy(t)


def _roughened(generator: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Return the images with noise, an amount of its own for each: the test images have none."""
    amount = generator.uniform(0, CLASSIFIER_NOISE, (len(x), 1)).astype(np.float32)
    return x + amount * generator.standard_normal(x.shape, np.float32)


def fit(
    run: work_directory.Run,
    name: str,
    objective: Objective,
    params: Params,
    batch: loop.Batch,
    key: Key,
    *,
    steps: int,
    learning_rate: float,
    shown: str,
    longest: float = 100.0,
) -> tuple[Params, loop.History]:
    """Train by Adam with warm-up and decay; return the averaged parameters and the history.

    Gradients are no longer than ``longest``.
    """
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 2), steps, learning_rate / 100
    )
    optimizer = optax.chain(optax.clip_by_global_norm(longest), optax.adam(schedule))
    trainer = training.trainer(objective, optimizer, average_decay=0.998)
    init_key, train_key = jax.random.split(key)
    state, history = loop.train(
        run,
        name,
        trainer,
        trainer.init(*devices.place(run.mesh, (params, init_key))),
        batch,
        train_key,
        num_steps=steps,
        group=GROUP,
        shown=shown,
    )
    return state.average, history
