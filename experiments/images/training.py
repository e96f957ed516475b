"""How ``images`` trains: the batches, the order of the parts, and the optimiser."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from ebm_jax import training
from ebm_jax.types import Key, Objective, Params
from experiments import losses_by_name
from experiments.data import minibatches, splits
from experiments.images import chains, flow, objective_terms, sampling
from experiments.images.loading import parameters_of
from experiments.images.network import Model
from experiments.images.settings import Settings
from experiments.run import alarms, devices, loop, speed, work_directory

BATCH = 256
# Batch sizes of the flow, of denoising score matching and of the classifier. An image costs as much
# in score matching as in the flow, but its gradient is less noisy.
FLOW_BATCH, DENOISED_BATCH, BATCH_BESIDE_FLOW = 64, 32, 128
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
            "clean": {"x": x[:DENOISED_BATCH], "y": y[:DENOISED_BATCH]},
            "labelled": (_roughened(generator, x), y),
            "on_the_way": flow.on_the_way(generator, x[:FLOW_BATCH], y[:FLOW_BATCH]),
        }

    return batch


def refining_batches(split: splits.Split, data_noise: float, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t of the flow and of chains together; the classifier sees those of both."""
    of_flow, of_chains = flow_batches(split, seed), batches(split, data_noise, seed)
    return lambda t: of_flow(t) | of_chains(t)


def _roughened(generator: np.random.Generator, x: np.ndarray) -> np.ndarray:
    """Return noisy images, with a different noise level for each; the test images have no noise."""
    amount = generator.uniform(0, CLASSIFIER_NOISE, (len(x), 1)).astype(np.float32)
    return x + amount * generator.standard_normal(x.shape, np.float32)


def train(
    run: work_directory.Run,
    settings: Settings,
    split: splits.Split,
    model: Model,
    network_key: Key,
    fit_key: Key,
) -> tuple[Params, loop.History, list[str]]:
    """Train the flow, where there is one, and then the energy.

    Returns the averaged parameters, the history of the last part, and the alarms of all parts.
    """
    params = first_params(settings, model, network_key)
    flow_key, start_key, fit_key = jax.random.split(fit_key, 3)
    loss = losses_by_name.named(settings.loss, settings.margin)
    terms, rung = objective_terms.discriminative(model, loss), []
    batch = batches(split, settings.data_noise, settings.seed)
    if model.flows:
        terms |= objective_terms.matching(
            model,
            flow_weight=settings.flow_weight,
            denoising_weight=settings.denoising_weight,
            data_noise=settings.data_noise,
        )
        terms |= objective_terms.discriminative_on_the_way(model)
        batch = refining_batches(split, settings.data_noise, settings.seed)
    if model.flows and settings.flow_steps:
        name = "flow" if settings.steps else ""
        objective = objective_terms.trained(model, terms)
        params, history = fit_flow(run, name, settings, split, objective, params, flow_key)
        rung += alarms.in_history(name, history)
        if not settings.steps:
            return params, history, rung
    shown = "discriminative/loss"
    if settings.generative != "none":
        initial = chain_starts(run.mesh, settings, split, model, params, start_key)
        terms |= objective_terms.likelihood(model, settings, initial)
        shown = "generative/energy_gap"
    params, history = fit(
        run,
        "",
        objective_terms.trained(model, terms),
        params,
        batch,
        fit_key,
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        shown=shown,
        # Without a flow before, the first gradients are the longest.
        longest=10.0 if settings.generative == "pcd" else 100.0,
        minutes=minutes_of_each(settings),
    )
    return params, history, rung + alarms.in_history("", history)


def first_params(settings: Settings, model: Model, key: Key) -> Params:
    """Return the parameters that training starts from: drawn, or those of a finished run."""
    if settings.init_from:
        return parameters_of(Path(settings.init_from), model)
    return model.init(key)


def chain_starts(
    mesh: Mesh | None,
    settings: Settings,
    split: splits.Split,
    model: Model,
    params: Params,
    key: Key,
) -> Callable:
    """Return where persistent chains start: in noise, or where the flow carries it."""
    labels = chains.proportions(split.train_y, settings.buffer_size)
    if not model.flows:
        return chains.from_noise(labels, split.train_x.shape[1], mesh)
    dense = model.dense(params)
    drawn = sampling.starts(key, model, dense, labels, settings.data_noise)
    return chains.from_images(labels, drawn, mesh)


def fit_flow(
    run: work_directory.Run,
    name: str,
    settings: Settings,
    split: splits.Split,
    objective: Objective,
    params: Params,
    key: Key,
) -> tuple[Params, loop.History]:
    """Train the flow together with the classifier."""
    return fit(
        run,
        name,
        objective,
        params,
        flow_batches(split, settings.seed),
        key,
        steps=settings.flow_steps,
        learning_rate=settings.flow_learning_rate,
        shown="matching/loss",
        minutes=minutes_of_each(settings),
    )


def minutes_of_each(settings: Settings) -> float:
    """Return the minutes that each part of the training may take: equal shares; 0 for no limit."""
    flow = settings.generative == "energy_matching" and settings.flow_steps > 0
    return settings.train_minutes / (2 if flow and settings.steps else 1)


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
    minutes: float = 0.0,
) -> tuple[Params, loop.History]:
    """Train by Adam with warm-up and decay; return the averaged parameters and the history.

    Gradients are clipped to the norm ``longest``. If ``minutes`` > 0, fewer than ``steps`` updates
    are made where they would take longer.
    """

    def trainer_of(steps: int) -> training.Trainer:
        schedule = optax.warmup_cosine_decay_schedule(
            0.0, learning_rate, min(100, steps // 2), steps, learning_rate / 100
        )
        optimizer = optax.chain(optax.clip_by_global_norm(longest), optax.adam(schedule))
        return training.trainer(objective, optimizer, average_decay=0.998)

    init_key, train_key = jax.random.split(key)
    trainer = trainer_of(steps)
    state = trainer.init(*devices.place(run.mesh, (params, init_key)))
    if minutes:
        chosen = speed.choose(
            run, name, trainer, state, batch, train_key, steps, minutes, group=GROUP
        )
        trainer, steps = (trainer, steps) if chosen == steps else (trainer_of(chosen), chosen)
    state, history = loop.train(
        run, name, trainer, state, batch, train_key, num_steps=steps, group=GROUP, shown=shown
    )
    return state.average, history
