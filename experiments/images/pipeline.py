"""The work of ``images``, one way: energy, training, likelihood, samples, measures, report."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments import evaluation, plots
from experiments.data import image_sets, splits
from experiments.data.image_sets import Images
from experiments.images import (
    chains,
    log_likelihood,
    measures,
    pictures,
    report,
    sampling,
    training,
)
from experiments.images.loading import parameters_of
from experiments.images.network import Model, model_of
from experiments.images.settings import Settings
from experiments.run import alarms
from experiments.run.checkpoints import write_parameters
from experiments.run.progress import counted, stage
from experiments.run.work_directory import Run

COMPLETED = 300  # test images, the same number of every class


def build(settings: Settings, images: Images) -> Model:
    """Return the untrained model of the images."""
    return model_of(
        images,
        hidden=settings.hidden,
        data_noise=settings.data_noise,
        channels=settings.channels,
        precision=settings.precision,
        generative=settings.generative,
    )


def train_and_report(
    run: Run, settings: Settings, images: Images, outliers: dict[str, np.ndarray]
) -> None:
    """Train, draw samples, measure and report.

    ``outliers`` (n, pixels) are added to the outliers that are made from the test images.
    """
    split, model = images.split, build(settings, images)
    network_key, fit_key, sample_key, nats_key, paint_key = jax.random.split(
        jax.random.key(settings.seed), 5
    )
    with run.timed("training"):
        trained, history, rung = training.train(run, settings, split, model, network_key, fit_key)
    likelihood = {}
    with ThreadPoolExecutor() as pool:  # compiles and computes on another core
        judge = pool.submit(evaluation.judge, split.train_x, split.train_y)
        if settings.betas:
            with run.timed("likelihood"):
                trained, likelihood, more = measure(run, nats_key, settings, split, model, trained)
            rung += more
        params = model.dense(trained)  # those that are saved
        told = "samples and completions, steps"
        with run.timed("samples"), counted(told, 2 * settings.sample_steps) as advance:
            given = settings, model, params
            drawing = pool.submit(sample, sample_key, *given, len(images.classes), advance)
            inpainted = inpaint(paint_key, *given, images, advance)
            samples = drawing.result()
        with run.timed("judge"), stage("training the classifier that judges the samples"):
            judging = judge.result()
    results = measures.Results(
        classes=measures.by_parts(model.classes, params),
        images=images,
        outliers=splits.outliers(split.test_x, settings.seed) | outliers,
        loss=settings.loss,
        history=history,
        samples=samples,
        inpainted=inpainted,
        likelihood=likelihood,
        sampler=settings.sampler,
        flows=model.flows,
        judge=judging,
        alarms=rung,
    )
    name, targets = image_sets.name_of(settings.data), measures.TARGETS.get(settings.data, {})
    report.write(run, results, name, targets)


def draw_more(run: Run, settings: Settings, images: Images) -> None:
    """Draw from the weights of a finished run: samples.png and samples.npz."""
    model = build(settings, images)
    params = model.dense(parameters_of(Path(str(settings.sample_from)), model))
    with counted(f"{settings.samples} samples, steps", settings.sample_steps) as advance:
        key = jax.random.key(settings.seed)
        samples = sample(key, settings, model, params, len(images.classes), advance)
    np.savez(run.workdir / "samples.npz", images=samples.images, labels=samples.labels)
    columns = min(16, int(np.bincount(samples.labels).max()))
    shown = pictures.rows(images, samples.images, samples.labels, columns)
    names = images.classes[: len(shown)]
    plots.image_rows(run.workdir / "samples.png", {"samples": shown}, names)
    run.finish({"samples": len(samples.images), "picture": str(run.workdir / "samples.png")})


def measure(
    run: Run, key, settings: Settings, split: splits.Split, model: Model, trained: Any
) -> tuple[Any, dict, list[str]]:
    """Estimate the log-likelihood.

    Returns parameters of classes as likely as their images, the likelihood, and alarms.
    """
    likelihood, levels = log_likelihood.measure(
        key,
        model,
        model.dense(trained),
        split,
        data_noise=settings.data_noise,
        step_size=settings.step_size,
        num_betas=settings.betas,
        seed=settings.seed,
    )
    rung = []
    if not levels.any() and len(levels) > 1:
        rung = [
            "too few chains estimate the class probabilities, so their energies stay as training "
            "left them: raise --betas."
        ]
        alarms.tell(rung)
    trained = model.raised(trained, levels)
    write_parameters(run.workdir / "parameters.npz", trained)
    return trained, likelihood, rung


def sample(
    key,
    settings: Settings,
    model: Model,
    params: Any,
    num_classes: int,
    advance: sampling.Advance,
) -> sampling.Samples:
    """Draw images from noise, the same number of every class."""
    return sampling.generate(
        key,
        model,
        params,
        np.sort(np.arange(settings.samples) % num_classes),
        make_sampler=chains.sampler_named(settings.sampler, settings.step_size),
        sample_steps=settings.sample_steps,
        sample_beta=settings.sample_beta,
        guidance=settings.guidance,
        data_noise=settings.data_noise,
        advance=advance,
    )


def inpaint(
    key,
    settings: Settings,
    model: Model,
    params: Any,
    images: Images,
    advance: sampling.Advance,
) -> measures.Inpainted:
    """Complete the lower halves of test images, the first one of every class several times."""
    split, shape, num_classes = images.split, images.shape, len(images.classes)
    chosen = []
    for label in range(num_classes):
        rows = np.flatnonzero(split.test_y == label)[: max(1, COMPLETED // num_classes)]
        chosen += [np.repeat(rows[:1], pictures.COMPLETIONS), rows[1:]]
    chosen = np.concatenate(chosen)
    hidden = np.zeros(shape, bool)
    hidden[shape[0] // 2 :] = True
    completed, by_flow = sampling.inpaint(
        key,
        model,
        params,
        split.test_x[chosen],
        hidden.ravel(),
        make_sampler=chains.sampler_named(settings.sampler, settings.step_size),
        sample_steps=settings.sample_steps,
        sample_beta=settings.sample_beta,
        guidance=settings.guidance,
        data_noise=settings.data_noise,
        advance=advance,
    )
    return measures.Inpainted(chosen, hidden.ravel(), completed, by_flow)
