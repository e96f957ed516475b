"""How ``images`` trains: what suits which size, the batches, the optimiser."""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax

from ebm_jax import training
from ebm_jax.types import Key, Objective, Params
from experiments import data, devices, image_model, loop, runs

BATCH = 256
FLOW_BATCH, BATCH_BESIDE_FLOW = 64, 128  # of the flow; of the classifier beside it
GROUP = 25  # updates a dispatch
CLASSIFIER_NOISE = 0.2  # at most, of the images that the classifier sees


def defaults(
    shape: tuple[int, ...], quick: bool, generative: str | None = None, sampler: str | None = None
) -> dict[str, Any]:
    """Return what flags that are not given are, by the shape of the images."""
    pixels, wide = math.prod(shape), min(shape[:2]) >= image_model.KERNEL
    small = pixels <= image_model.SMALL
    generative = generative or ("pcd" if small else "energy_matching")
    matched = generative == "energy_matching"
    sampler = sampler or ("baoab" if small and not matched else "mala")
    if small:
        return {
            "generative": generative,
            "sampler": sampler,
            "channels": [8] if wide and not matched else [],
            "hidden": 512 if matched else 128,
            "flow_steps": 1000 if quick else 4000,
            "flow_learning_rate": 3e-3,
            "flow_weight": 1.0,
            "denoising_weight": 0.0,
            "steps": (250 if quick else 500) if matched else (1500 if quick else 4500),
            "learning_rate": 1e-3 if matched else 6e-3,
            "generative_weight": 1.0 if matched else 0.5,
            "langevin_steps": 20 if matched else 10,
            "step_size": 0.008,
            "chains": 256 if matched else 64,
            "capacity": 2560 if matched else 1280,
            "samples": 360,
            "sample_steps": 500 if quick or sampler == "baoab" else 1000,
            "guidance": 1.0,
            "betas": 0 if quick else 600,
        }
    deep = matched and wide and not quick  # convolutions: they take an hour, or an accelerator
    return {
        "generative": generative,
        "sampler": sampler,
        "channels": [32, 64, 128] if deep else [],
        "hidden": 512 if deep else 1024,
        "flow_steps": 6000 if deep else 16_000 if quick else 60_000,
        "flow_learning_rate": 2e-3,
        "flow_weight": (2 if deep else 6) / pixels,
        "denoising_weight": (4 if deep else 12) / pixels,
        "steps": (600 if deep else 0) if matched else (1000 if quick else 20_000),
        "learning_rate": 1.5e-4 if matched else 1e-3,
        "generative_weight": 0.007 if matched else 1.0,
        "langevin_steps": 20,
        "step_size": 0.002 if deep else 0.004,
        "chains": 128,
        "capacity": 1280 if quick else 2560,
        "samples": 400 if quick else 1000,
        "sample_steps": 300 if deep else 500,
        "guidance": 4.0 if matched else 2.0,
        "betas": 0,
    }


def batches(split: data.Split, data_noise: float, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t: the images modelled, noisy, and those the classifier sees."""
    plain = data.batches((split.train_x, split.train_y), batch_size=BATCH, seed=seed)

    def batch(t: int) -> dict:
        x, y = plain(t)
        generator = data.stream(seed, data.NOISE, t)
        noise = generator.standard_normal(x.shape, np.float32)
        return {
            "configuration": {"x": x + data_noise * noise, "y": y},
            "labelled": (_roughened(generator, x), y),
        }

    return batch


def flow_batches(split: data.Split, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t of the flow: the images without noise, and those the classifier sees."""
    shown = (split.train_x, split.train_y)
    plain = data.batches(shown, batch_size=BATCH_BESIDE_FLOW, seed=seed)

    def batch(t: int) -> dict:
        x, y = plain(t)
        generator = data.stream(seed, data.FLOW, t)
        return {
            "flow": image_model.flow_batch(x[:FLOW_BATCH], y[:FLOW_BATCH]),
            "clean": {"x": x[:FLOW_BATCH], "y": y[:FLOW_BATCH]},
            "labelled": (_roughened(generator, x), y),
        }

    return batch


def refining_batches(split: data.Split, data_noise: float, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t of the flow and of chains together; the classifier sees those of both."""
    flow, noisy = flow_batches(split, seed), batches(split, data_noise, seed)
    return lambda t: flow(t) | noisy(t)


def _roughened(generator: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Return the images with noise, an amount of its own for each: the test images have none."""
    amount = generator.uniform(0, CLASSIFIER_NOISE, (len(x), 1)).astype(np.float32)
    return x + amount * generator.standard_normal(x.shape, np.float32)


def fit(
    run: runs.Run,
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
