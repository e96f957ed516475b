"""One energy F(x, y) on images of any size that classifies, generates and spots outliers.

    python -m experiments.images --data=mnist --outliers=notmnist --quick --workdir=runs/mnist
    python -m experiments.images --data=my_folder --workdir=runs/mine

A joint energy over images x and classes y is trained by the sum of two objectives: a loss over
the classes given the image (``--loss``), and one that models (image, class) (``--generative``).
With pcd, the choice for small images, persistent Langevin chains that carry their class start from
noise, and it is maximum likelihood. With energy_matching, the choice for large ones, it is first a
flow, whose potential the energy is, from noise to images: quick, but no Gibbs energy yet. Denoising
score matching beside it makes it one near the data; chains beside both, that start at what the flow
drew, wherever the energy is low (``--steps``). No chain leaves its class: how likely the classes
are is found after training, by annealing (``--betas``). Then argmin_y F(x, y) classifies, Langevin
dynamics (``--sampler``) on F(., y) from noise, carried to images by the flow if there was one,
draws images of class y (``--guidance`` makes them surer of it), on F(x) with half of x given it
completes an image, and the free energy F(x) says what is like no image of the data. The network is
dense, or has convolutions first (``--channels``). What no flag says is chosen by the size of the
images.
"""

import re
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments import (
    data,
    datasets,
    image_data,
    image_likelihood,
    image_model,
    image_report,
    image_samples,
    loss_table,
    plots,
    runs,
)
from experiments.checkpoints import write_parameters
from experiments.image_data import Images
from experiments.image_model import Model, Prepared, load, prepare
from experiments.image_training import batches, defaults, fit, flow_batches, refining_batches

runs.define_path(
    "data",
    "digits",
    f"What to model: {', '.join(image_data.NAMED)}, a file .npz of x and y, or a folder of images.",
)
runs.define_path("data_dir", None, datasets.DATA_DIR)
runs.define_paths(
    "outliers", [], "Images of the same size to tell apart, named as those of --data."
)
flags.DEFINE_bool("quick", False, "Less of everything, for a processor and ten minutes.")
flags.DEFINE_enum(
    "generative",
    None,
    ["energy_matching", "pcd", "none"],
    "How (image, class) is modelled: a flow, refined; persistent chains from noise; not at all.",
)
flags.DEFINE_enum("loss", "nll", loss_table.NAMES, "Loss over the classes.")
runs.define_float("margin", 1.0, "Margin, ceiling or weight gamma of the loss.", 0, np.inf)
flags.DEFINE_integer(
    "steps", None, "Training updates, those of the flow not counted.", lower_bound=0
)
flags.DEFINE_integer("flow_steps", None, "Updates of the flow, before the others.", lower_bound=1)
flags.DEFINE_list(
    "channels",
    None,
    "Channels of the convolutions, the last two of which halve the resolution; a single one of "
    "small images does not. Of none, as in --channels=, the network is dense.",
)
flags.DEFINE_integer("hidden", None, "Width of the dense hidden layers.", lower_bound=1)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "bfloat16"], "Of the hidden layers' matrix products."
)
runs.define_float("learning_rate", None, "Peak learning rate of Adam.", 1e-9)
runs.define_float("flow_learning_rate", None, "The same, of the flow.", 1e-9)
runs.define_float("flow_weight", None, "Weight of the flow beside the loss over classes.", 0)
runs.define_float("denoising_weight", None, "Weight of score matching beside the flow.", 0)
runs.define_float("generative_weight", None, "Weight of the generative part.", 0)
flags.DEFINE_enum(
    "sampler", None, ["mala", "baoab"], "How chains move: exactly, or further, with velocities."
)
flags.DEFINE_integer("langevin_steps", None, "Steps of chains between updates.", lower_bound=1)
runs.define_float("step_size", None, "Step size, in squared grey levels of [0, 1].", 1e-9, 10)
flags.DEFINE_integer("chains", None, "Chains run at every update.", lower_bound=1)
flags.DEFINE_integer("capacity", None, "Persistent chains.", lower_bound=1)
flags.DEFINE_integer(
    "groups", 1, "Equal groups of persistent chains that as many are drawn from.", lower_bound=1
)
runs.define_float("restart", 0.005, "Fraction of drawn chains restarted.", 0, 1)
runs.define_float(
    "data_noise", 0.13, "Standard deviation of the noise on the data modelled.", 1e-3, 10
)
flags.DEFINE_integer("samples", None, "Images to draw at the end.", lower_bound=2)
flags.DEFINE_integer("sample_steps", None, "Steps of the samples from noise.", lower_bound=10)
runs.define_float("sample_beta", 0.8, "Inverse temperature of the samples.", 0.01, 100)
runs.define_float("guidance", None, "Power of P(y | x) in what the samples follow.", 0, 100)
flags.DEFINE_integer(
    "betas",
    None,
    "Temperatures of the annealing for log Z and the classes' levels; 0 for neither.",
    lower_bound=0,
)
flags.DEFINE_integer(
    "hold_out_class",
    -1,
    "Train without this class and score it as an outlier; -1 for none.",
    lower_bound=-1,
)
runs.define_path(
    "sample_from", None, "Draw more samples from the weights of this finished run, and no more."
)
flags.register_validator(
    "sample_steps", lambda n: n is None or n % 10 == 0, "must be a multiple of 10."
)
flags.register_validator(
    "channels",
    lambda widths: widths is None or all(re.fullmatch("[1-9][0-9]*", str(w)) for w in widths),
    "must be integers >= 1, as in 32,64, or nothing.",
)
flags.register_validator("betas", lambda n: n not in (1, 2), "must be 0, or at least 3.")
FLAGS = flags.FLAGS


def train(run: runs.Run, prepared: Prepared, network_key, fit_key) -> tuple[Any, dict]:
    """Train as the flags say; return the averaged parameters and the history of the last part."""
    (images, _, model), loss = prepared, loss_table.named(FLAGS.loss, FLAGS.margin)
    split = images.split
    params = model.init(network_key)
    flow_key, start_key, fit_key = jax.random.split(fit_key, 3)
    labels = image_model.proportions(split.train_y, FLAGS.capacity)
    initial = image_model.from_noise(labels, split.train_x.shape[1], run.mesh)
    batch = batches(split, FLAGS.data_noise, FLAGS.seed)
    terms, shown = image_model.discriminative(model, loss), "discriminative/loss"
    if model.flows:
        terms |= image_model.matching(
            model,
            weight=FLAGS.flow_weight,
            denoising_weight=FLAGS.denoising_weight,
            noise=FLAGS.data_noise,
        )
        params, history = fit(
            run,
            "flow" if FLAGS.steps else "",
            image_model.trained(model, terms),
            params,
            flow_batches(split, FLAGS.seed),
            flow_key,
            steps=FLAGS.flow_steps,
            learning_rate=FLAGS.flow_learning_rate,
            shown="matching/loss",
        )
        if not FLAGS.steps:
            return params, history
        dense = model.dense(params)
        drawn = image_samples.starts(start_key, model, dense, labels, FLAGS.data_noise)
        initial = image_model.from_images(labels, drawn, run.mesh)
        batch = refining_batches(split, FLAGS.data_noise, FLAGS.seed)
    if FLAGS.generative != "none":
        terms |= image_model.likelihood(
            model,
            initial=initial,
            weight=FLAGS.generative_weight,
            chains=image_model.chains_of(FLAGS.sampler, FLAGS.step_size),
            langevin_steps=FLAGS.langevin_steps,
            num_chains=FLAGS.chains,
            capacity=FLAGS.capacity,
            restart_fraction=FLAGS.restart,
            groups=FLAGS.groups,
        )
        shown = "generative/energy_gap"
    return fit(
        run,
        "",
        image_model.trained(model, terms),
        params,
        batch,
        fit_key,
        steps=FLAGS.steps,
        learning_rate=FLAGS.learning_rate,
        shown=shown,
        # Without a flow before, the first gradients are the longest.
        longest=10.0 if FLAGS.generative == "pcd" else 100.0,
    )


def sample(key, prepared: Prepared, params, count: int) -> image_samples.Samples:
    """Draw images from noise, the same number of every class, as the flags say."""
    return image_samples.generate(
        key,
        prepared.model,
        params,
        np.sort(np.arange(count) % len(prepared.images.classes)),
        moves=image_model.chains_of(FLAGS.sampler, FLAGS.step_size),
        num_steps=FLAGS.sample_steps,
        beta=FLAGS.sample_beta,
        guidance=FLAGS.guidance,
        noise=FLAGS.data_noise,
    )


def draw_more(run: runs.Run, source: str) -> None:
    """Draw from the weights of a finished run: samples.png and samples.npz."""
    _, params, prepared, given = load(source)
    noise = float(given["data_noise"])
    if noise != FLAGS.data_noise:
        raise runs.UsageError(f"--data_noise={FLAGS.data_noise}, but {source} has {noise}.")
    images = prepared.images
    samples = sample(jax.random.key(FLAGS.seed), prepared, params, 16 * len(images.classes))
    np.savez(run.workdir / "samples.npz", images=samples.images, labels=samples.labels)
    shown = image_report.rows(images, samples.images, samples.labels, 16)
    names = images.classes[: len(shown)]
    plots.image_rows(run.workdir / "samples.png", {"samples": shown}, names)
    run.finish({"samples": len(samples.images), "picture": str(run.workdir / "samples.png")})


def settle(images: Images) -> None:
    """Give the flags that were not given what suits the images, and refuse what cannot be."""
    if FLAGS.data not in image_data.NAMED:
        FLAGS["data"].value = str(Path(FLAGS.data).absolute())  # weights are loaded from anywhere
    chosen = defaults(images.shape, FLAGS.quick, FLAGS.generative, FLAGS.sampler)
    for name, value in chosen.items():
        if FLAGS[name].value is None:
            FLAGS[name].value = value
    image_data.hold_out(images, FLAGS.hold_out_class)  # or refuse
    if FLAGS.channels and min(images.shape[:2]) < image_model.KERNEL:
        raise runs.UsageError(
            f"{FLAGS['channels'].serialize()} needs images of {image_model.KERNEL} pixels or "
            f"more across, those of {FLAGS.data} are of shape {images.shape}: --channels=."
        )
    if not FLAGS.steps and FLAGS.generative != "energy_matching":
        raise runs.UsageError(f"--generative={FLAGS.generative} needs --steps >= 1, got 0.")
    if FLAGS.chains > FLAGS.capacity:
        raise runs.UsageError(
            f"--chains={FLAGS.chains} cannot exceed the --capacity={FLAGS.capacity} that they "
            "come from."
        )
    groups = FLAGS.groups
    if FLAGS.chains % groups or FLAGS.capacity % groups or groups % FLAGS.mesh:
        raise runs.UsageError(
            f"--groups={groups} must divide --chains={FLAGS.chains} and --capacity="
            f"{FLAGS.capacity}, and be a multiple of --mesh={FLAGS.mesh}."
        )


def main() -> None:
    """Train, draw samples, evaluate and report; or draw more samples of a run."""
    source = FLAGS.sample_from
    settings = runs.flags_of(Path(source)) if source else {}
    images = image_data.load(
        settings.get("data") or FLAGS.data, settings.get("data_dir") or FLAGS.data_dir
    )
    others = {}
    for which in FLAGS.outliers:
        name = image_data.name_of(which)
        if name in others or name in data.OUTLIERS:
            raise runs.UsageError(f"--outliers={which}: there are others of the name {name}.")
        others[name] = image_data.outliers(which, images.shape, FLAGS.data_dir)
    settle(images)
    run = runs.start()
    if source:
        draw_more(run, source)
        return
    prepared = prepare(
        images,
        FLAGS.hold_out_class,
        FLAGS.hidden,
        FLAGS.data_noise,
        channels=[int(width) for width in FLAGS.channels],
        precision=FLAGS.precision,
        generative=FLAGS.generative,
    )
    images, model = prepared.images, prepared.model
    network_key, fit_key, sample_key, nats_key, paint_key = jax.random.split(
        jax.random.key(FLAGS.seed), 5
    )
    trained, history = train(run, prepared, network_key, fit_key)
    likelihood = {}
    with ThreadPoolExecutor() as pool:  # compiles and computes on another core
        samples = pool.submit(sample, sample_key, prepared, model.dense(trained), FLAGS.samples)
        if FLAGS.betas:
            trained, likelihood = measure(run, nats_key, prepared, trained)
        params = model.dense(trained)
        inpainted = inpaint(paint_key, model, params, images)
    image_report.write(
        run,
        image_report.Results(
            classes=image_report.by_parts(model.classes, params),
            images=images,
            outliers=data.outliers(images.split.test_x, FLAGS.seed) | prepared.unseen | others,
            loss=FLAGS.loss,
            history=history,
            samples=samples.result(),
            inpainted=inpainted,
            likelihood=likelihood,
        ),
        image_data.name_of(FLAGS.data),
    )


def measure(run: runs.Run, key, prepared: Prepared, trained) -> tuple[Any, dict]:
    """Estimate the likelihood; return parameters of classes as likely as their images, and it."""
    model = prepared.model
    likelihood, levels = image_likelihood.measure(
        key,
        model,
        model.dense(trained),
        prepared.images.split,
        noise=FLAGS.data_noise,
        step_size=FLAGS.step_size,
        num_betas=FLAGS.betas,
        seed=FLAGS.seed,
    )
    if not levels.any() and len(levels) > 1:
        sentence = "alarm: too few chains say how likely the classes are: more --betas."
        print(sentence, file=sys.stderr)
    trained = model.raised(trained, levels)
    write_parameters(run.workdir / "parameters.npz", trained)
    return trained, likelihood


def inpaint(key, model: Model, params, images: Images) -> image_report.Inpainted:
    """Complete the lower half of a test image of every class, several times."""
    split, shape = images.split, images.shape
    chosen = [np.flatnonzero(split.test_y == c)[0] for c in range(len(images.classes))]
    hidden = np.zeros(shape, bool)
    hidden[shape[0] // 2 :] = True
    completed = image_samples.inpaint(
        key,
        model,
        params,
        split.test_x[chosen],
        hidden.ravel(),
        image_report.COMPLETIONS,
        moves=image_model.chains_of(FLAGS.sampler, FLAGS.step_size),
        num_steps=FLAGS.sample_steps,
        beta=FLAGS.sample_beta,
        noise=FLAGS.data_noise,
    )
    return image_report.Inpainted(split.test_x[chosen], hidden.ravel(), completed)


if __name__ == "__main__":
    runs.main(main)
