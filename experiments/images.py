"""One energy F(x, y) on images of any size that classifies, generates and spots outliers.

    python -m experiments.images --data=mnist --outliers=notmnist --quick --workdir=runs/mnist
    python -m experiments.images --data=my_folder --workdir=runs/mine

A joint energy over images x and classes y is trained by the sum of two objectives: a loss over
the classes given the image (``--loss``), and one that models (image, class) (``--generative``).
With energy_matching that is first a flow, whose potential the energy is, from noise to images:
quick, but no Gibbs energy yet. Persistent Langevin chains, which start at what the flow drew and
carry their class, then make it one by maximum likelihood (small images), or denoising score
matching does so near the data, beside the flow (large ones: ``--denoising_weight``, ``--steps=0``).
With pcd chains start from noise and do all. Afterwards argmin_y F(x, y) classifies, Langevin
dynamics on F(., y) from noise draws images of class y, on F(x) with half of x given it completes
an image, and the free energy F(x) says what is like no image of the data. What no flag says is
chosen by the size of the images.
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from ebm_jax import training
from experiments import (
    checkpoints,
    data,
    datasets,
    devices,
    image_data,
    image_likelihood,
    image_model,
    image_report,
    loop,
    loss_table,
    plots,
    runs,
)
from experiments.image_data import Images
from experiments.image_model import Model

flags.DEFINE_string(
    "data",
    "digits",
    f"What to model: {', '.join(image_data.NAMED)}, a file .npz of x and y, or a folder of images.",
)
flags.DEFINE_string("data_dir", None, datasets.DATA_DIR)
flags.DEFINE_list(
    "outliers", [], "Images of the same size to tell apart, named as those of --data."
)
flags.DEFINE_bool("quick", False, "Less of everything, for a processor and ten minutes.")
flags.DEFINE_enum(
    "generative",
    "energy_matching",
    ["energy_matching", "pcd", "none"],
    "How (image, class) is modelled: a flow refined by persistent chains, these alone, not at all.",
)
flags.DEFINE_enum("loss", "nll", loss_table.NAMES, "Loss over the classes.")
runs.define_float("margin", 1.0, "Margin, ceiling or weight gamma of the loss.", 0, np.inf)
flags.DEFINE_integer(
    "steps", None, "Training updates, those of the flow not counted.", lower_bound=0
)
flags.DEFINE_integer("flow_steps", None, "Updates of the flow, before the others.", lower_bound=1)
flags.DEFINE_integer("hidden", None, "Width of the two hidden layers.", lower_bound=1)
flags.DEFINE_enum(
    "precision", "float32", ["float32", "bfloat16"], "Of the hidden layers' matrix products."
)
runs.define_float("learning_rate", None, "Peak learning rate of Adam.", 1e-9)
runs.define_float("flow_learning_rate", None, "The same, of the flow.", 1e-9)
runs.define_float("flow_weight", None, "Weight of the flow beside the loss over classes.", 0)
runs.define_float("denoising_weight", None, "Weight of score matching beside the flow.", 0)
runs.define_float("generative_weight", 1.0, "Weight of the generative part.", 0)
flags.DEFINE_integer("langevin_steps", 20, "MALA steps between updates.", lower_bound=1)
runs.define_float("step_size", None, "MALA step size, in squared grey levels of [0, 1].", 1e-9, 10)
flags.DEFINE_integer("chains", None, "Chains run at every update.", lower_bound=1)
flags.DEFINE_integer("capacity", None, "Persistent chains.", lower_bound=1)
flags.DEFINE_integer(
    "groups", 1, "Equal groups of persistent chains that as many are drawn from.", lower_bound=1
)
runs.define_float("restart", 0.005, "Fraction of drawn chains restarted.", 0, 1)
runs.define_float(
    "data_noise", 0.13, "Standard deviation of the noise on the data modelled.", 1e-3, 10
)
flags.DEFINE_integer("samples", None, "Images to draw at the end.", lower_bound=1)
flags.DEFINE_integer("sample_steps", None, "MALA steps of the samples from noise.", lower_bound=10)
runs.define_float("sample_beta", 0.8, "Inverse temperature of the samples.", 0.01, 100)
flags.DEFINE_integer(
    "betas", None, "Temperatures of the annealing for log Z; 0 for no log Z.", lower_bound=0
)
flags.DEFINE_integer(
    "hold_out_class",
    -1,
    "Train without this class and score it as an outlier; -1 for none.",
    lower_bound=-1,
)
flags.DEFINE_string(
    "sample_from", None, "Draw more samples from the weights of this finished run, and no more."
)
flags.register_validator(
    "sample_steps", lambda n: n is None or n % 10 == 0, "must be a multiple of 10."
)
flags.register_validator("betas", lambda n: n not in (1, 2), "must be 0, or at least 3.")
FLAGS = flags.FLAGS

BATCH, FLOW_BATCH = 256, 64
GROUP = 25  # updates a dispatch
CLASSIFIER_NOISE = 0.2  # augmentation of the images the classifier sees
SMALL = 256  # pixels at most of images that are small


def defaults(pixels: int, quick: bool, generative: str) -> dict[str, Any]:
    """Return what flags that are not given are, by the size of the images."""
    matched = generative == "energy_matching"
    if pixels <= SMALL:
        return {
            "hidden": 512 if matched else 256,
            "flow_steps": 1000 if quick else 4000,
            "flow_learning_rate": 3e-3,
            "flow_weight": 1.0,
            "denoising_weight": 0.0,
            "steps": (250 if quick else 500) if matched else (1000 if quick else 2500),
            "learning_rate": 1e-3 if matched else 3e-3,
            "step_size": 0.008,
            "chains": 256,
            "capacity": 2560,
            "samples": 360,
            "sample_steps": 500 if quick else 1000,
            "betas": 0 if quick else 1000,
        }
    return {
        "hidden": 1024,
        "flow_steps": 8000 if quick else 60_000,
        "flow_learning_rate": 2e-3,
        "flow_weight": 12 / pixels,
        "denoising_weight": 24 / pixels,
        "steps": 0 if matched else (1000 if quick else 20_000),
        "learning_rate": 1e-3,
        "step_size": 0.004,
        "chains": 128,
        "capacity": 1280 if quick else 12_800,
        "samples": 400 if quick else 1000,
        "sample_steps": 500 if quick else 2000,
        "betas": 0,
    }


class Prepared(NamedTuple):
    """What the flags of a run make of the data: its images, and an untrained model of them."""

    images: Images
    unseen: dict[str, np.ndarray]  # the images of the class held out, if any
    model: Model


def prepare(
    images: Images, hold_out_class: int, hidden: int, noise: float, precision: str
) -> Prepared:
    """Return the data without the class held out (-1 for none), and the model of it."""
    unseen, count = {}, len(images.classes)
    if hold_out_class >= 0:
        if not hold_out_class < count or count == 1:
            raise runs.UsageError(
                f"--hold_out_class={hold_out_class}: the data have the classes 0 to {count - 1}, "
                "and one must be left."
            )
        split, unseen["held_out"] = data.hold_out(images.split, hold_out_class)
        kept = [name for c, name in enumerate(images.classes) if c != hold_out_class]
        images = images._replace(split=split, classes=kept)
    model = image_model.make_model(
        images.split.train_x, len(images.classes), hidden, noise, precision
    )
    return Prepared(images, unseen, model)


def load(workdir: Path | str) -> tuple[Callable, Any, Prepared, dict[str, str]]:
    """Return (energy, params, prepared, flags) of a finished run.

    energy(params, {"x", "y"}) -> (), x (pixels,) in [0, 1] and y the number of a class in
    ``prepared.images.classes``; the parameters are the averaged ones.
    """
    workdir = Path(workdir)
    given = runs.flags_of(workdir)
    try:
        prepared = prepare(
            image_data.load(given["data"], given.get("data_dir")),
            int(given["hold_out_class"]),
            int(given["hidden"]),
            float(given["data_noise"]),
            given["precision"],
        )
    except KeyError as error:
        raise runs.UsageError(f"{workdir} is no run of images: it has no flag {error}.") from None
    like = jax.eval_shape(prepared.model.network.init, jax.random.key(0), _blank(prepared))
    params = checkpoints.read_parameters(workdir / "parameters.npz", like)
    return prepared.model.joint, params, prepared, given


def _blank(prepared: Prepared):
    return jnp.zeros(prepared.images.split.train_x.shape[1])


def batches(split: data.Split, data_noise: float, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t: the images modelled, noisy, and those the classifier sees."""
    plain = data.batches((split.train_x, split.train_y), batch_size=BATCH, seed=seed)

    def batch(t: int) -> dict:
        x, y = plain(t)
        noise = data.stream(seed, data.NOISE, t).standard_normal((2, *x.shape), np.float32)
        return {
            "configuration": {"x": x + data_noise * noise[0], "y": y},
            "labelled": (x + CLASSIFIER_NOISE * noise[1], y),
        }

    return batch


def flow_batches(split: data.Split, seed: int) -> Callable[[int], dict]:
    """Return t -> batch t of the flow: the images without noise, and those the classifier sees."""
    plain = data.batches((split.train_x, split.train_y), batch_size=FLOW_BATCH, seed=seed)

    def batch(t: int) -> dict:
        x, y = plain(t)
        noise = data.stream(seed, data.FLOW, t).standard_normal(x.shape, np.float32)
        return {
            "flow": image_model.flow_batch(x, y),
            "clean": {"x": x, "y": y},
            "labelled": (x + CLASSIFIER_NOISE * noise, y),
        }

    return batch


def fit(
    run,
    name: str,
    objective,
    params,
    batch,
    key,
    *,
    steps: int,
    learning_rate: float,
    shown: str,
    average_decay: float = 0.998,
):
    """Train by Adam with warm-up and decay; return the averaged parameters and the history."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 2), steps, learning_rate / 100
    )
    optimizer = optax.chain(optax.clip_by_global_norm(100.0), optax.adam(schedule))
    trainer = training.trainer(objective, optimizer, average_decay=average_decay)
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


def train(run: runs.Run, prepared: Prepared, network_key, fit_key) -> tuple[Any, dict]:
    """Train as the flags say; return the averaged parameters and the history of the last part."""
    (images, _, model), loss = prepared, loss_table.named(FLAGS.loss, FLAGS.margin)
    split = images.split
    params = model.network.init(network_key, _blank(prepared))
    flow_key, start_key, fit_key = jax.random.split(fit_key, 3)
    labels = image_model.proportions(split.train_y, FLAGS.capacity)
    initial = image_model.from_noise(labels, split.train_x.shape[1], run.mesh)
    if FLAGS.generative == "energy_matching":
        objective = image_model.flow_objective(
            model,
            loss,
            weight=FLAGS.flow_weight,
            denoising_weight=FLAGS.denoising_weight,
            noise=FLAGS.data_noise,
        )
        params, history = fit(
            run,
            "flow" if FLAGS.steps else "",
            objective,
            params,
            flow_batches(split, FLAGS.seed),
            flow_key,
            steps=FLAGS.flow_steps,
            learning_rate=FLAGS.flow_learning_rate,
            shown="generative/loss",
        )
        if not FLAGS.steps:
            return params, history
        starts = image_model.flow(start_key, model, params, labels, FLAGS.data_noise)
        initial = image_model.from_images(labels, starts, run.mesh)
    options = {"steps": FLAGS.steps, "learning_rate": FLAGS.learning_rate}
    batch = batches(split, FLAGS.data_noise, FLAGS.seed)
    if FLAGS.generative == "none":
        objective = image_model.discriminative_objective(model, loss)
        return fit(
            run, "", objective, params, batch, fit_key, **options, shown="discriminative/loss"
        )
    objective = image_model.chains_objective(
        model,
        loss,
        initial=initial,
        generative_weight=FLAGS.generative_weight,
        step_size=FLAGS.step_size,
        langevin_steps=FLAGS.langevin_steps,
        num_chains=FLAGS.chains,
        capacity=FLAGS.capacity,
        restart_fraction=FLAGS.restart,
        groups=FLAGS.groups,
    )
    return fit(run, "", objective, params, batch, fit_key, **options, shown="generative/energy_gap")


def sample(key, energy: Callable, images: Images, count: int) -> image_model.Samples:
    """Draw images from noise, the same number of every class, as the flags say."""
    return image_model.generate(
        key,
        energy,
        np.sort(np.arange(count) % len(images.classes)),
        images.split.train_x.shape[1],
        num_steps=FLAGS.sample_steps,
        step_size=FLAGS.step_size,
        beta=FLAGS.sample_beta,
        noise=FLAGS.data_noise,
    )


def draw_more(run: runs.Run, source: str) -> None:
    """Draw from the weights of a finished run: samples.png and samples.npz."""
    energy, params, prepared, given = load(source)
    noise = float(given["data_noise"])
    if noise != FLAGS.data_noise:
        raise runs.UsageError(f"--data_noise={FLAGS.data_noise}, but {source} has {noise}.")
    images = prepared.images
    bound = functools.partial(energy, params)
    samples = sample(jax.random.key(FLAGS.seed), bound, images, 16 * len(images.classes))
    np.savez(run.workdir / "samples.npz", images=samples.images, labels=samples.labels)
    shown = image_report.rows(images, samples.images, samples.labels, 16)
    plots.image_rows(run.workdir / "samples.png", {"samples": shown}, images.classes)
    run.finish({"samples": len(samples.images), "picture": str(run.workdir / "samples.png")})


def settle(images: Images) -> None:
    """Give the flags that were not given what suits the images, and refuse what cannot be."""
    if FLAGS.data not in image_data.NAMED:
        FLAGS["data"].value = str(Path(FLAGS.data).absolute())  # weights are loaded from anywhere
    pixels = images.split.train_x.shape[1]
    for name, value in defaults(pixels, FLAGS.quick, FLAGS.generative).items():
        if FLAGS[name].value is None:
            FLAGS[name].value = value
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
    images = image_data.load(settings.get("data") or FLAGS.data, FLAGS.data_dir)
    others = {
        image_data.name_of(which): image_data.outliers(which, images.shape, FLAGS.data_dir)
        for which in FLAGS.outliers
    }
    settle(images)
    run = runs.start()
    if source:
        draw_more(run, source)
        return
    prepared = prepare(
        images, FLAGS.hold_out_class, FLAGS.hidden, FLAGS.data_noise, FLAGS.precision
    )
    images, model = prepared.images, prepared.model
    network_key, fit_key, sample_key, nats_key, paint_key = jax.random.split(
        jax.random.key(FLAGS.seed), 5
    )
    params, history = train(run, prepared, network_key, fit_key)
    samples = sample(sample_key, functools.partial(model.joint, params), images, FLAGS.samples)
    likelihood = {}
    if FLAGS.betas:
        likelihood = image_likelihood.measure(
            nats_key,
            model,
            params,
            images.split,
            noise=FLAGS.data_noise,
            step_size=FLAGS.step_size,
            num_betas=FLAGS.betas,
            seed=FLAGS.seed,
        )
    image_report.write(
        run,
        image_report.Results(
            classes=image_report.by_parts(model.classes, params),
            images=images,
            outliers=data.outliers(images.split.test_x, FLAGS.seed) | prepared.unseen | others,
            loss=FLAGS.loss,
            history=history,
            samples=samples,
            inpainted=inpaint(paint_key, model, params, images),
            likelihood=likelihood,
        ),
        image_data.name_of(FLAGS.data),
    )


def inpaint(key, model: Model, params, images: Images) -> image_report.Inpainted:
    """Complete the lower half of a test image of every class, several times."""
    split, shape = images.split, images.shape
    chosen = [np.flatnonzero(split.test_y == c)[0] for c in range(len(images.classes))]
    hidden = np.zeros(shape, bool)
    hidden[shape[0] // 2 :] = True
    completed = image_model.inpaint(
        key,
        model,
        params,
        split.test_x[chosen],
        hidden.ravel(),
        image_report.COMPLETIONS,
        num_steps=FLAGS.sample_steps,
        step_size=FLAGS.step_size,
        beta=FLAGS.sample_beta,
        noise=FLAGS.data_noise,
    )
    return image_report.Inpainted(split.test_x[chosen], hidden.ravel(), completed)


if __name__ == "__main__":
    runs.main(main)
