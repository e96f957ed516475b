"""One energy F(x, y) on real handwritten digits that classifies, generates and spots outliers.

    python -m experiments.digits --workdir=runs/demo

A joint energy over 8x8 images x and classes y (scikit-learn's 1,797 digits) is trained by the
sum of two objectives: a loss over the classes given the image (``--loss``), and maximum
likelihood of (image, class) by persistent contrastive divergence, with Langevin chains that
carry their class. Afterwards argmin_y F(x, y) classifies, Langevin dynamics on F(., y) from
noise draws digits of class y, and the free energy F(x) says what is no digit.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from ebm_jax import training
from experiments import (
    data,
    devices,
    digits_likelihood,
    digits_report,
    loop,
    loss_table,
    plots,
    runs,
)
from experiments.digits_model import from_noise, generate, load, make_objective, prepare

flags.DEFINE_enum("loss", "nll", loss_table.NAMES, "Loss over the classes.")
runs.define_float("margin", 1.0, "Margin, ceiling or weight gamma of the loss.", 0, np.inf)
flags.DEFINE_integer("steps", 2500, "Training updates.", lower_bound=1)
flags.DEFINE_integer("hidden", 256, "Width of the two hidden layers.", lower_bound=1)
runs.define_float("learning_rate", 3e-3, "Peak learning rate of Adam.", 1e-9)
runs.define_float("generative_weight", 1.0, "Weight of the generative part.", 0)
flags.DEFINE_integer("langevin_steps", 20, "MALA steps between updates.", lower_bound=1)
runs.define_float("step_size", 0.008, "MALA step size, in squared grey levels of [0, 1].", 1e-9, 10)
flags.DEFINE_integer("chains", 256, "Chains run at every update.", lower_bound=1)
flags.DEFINE_integer("capacity", 2560, "Persistent chains.", lower_bound=1)
flags.DEFINE_integer(
    "groups", 1, "Equal groups of persistent chains that as many are drawn from.", lower_bound=1
)
runs.define_float("restart", 0.005, "Fraction of drawn chains restarted from noise.", 0, 1)
runs.define_float(
    "data_noise", 0.13, "Standard deviation of the noise on the data modelled.", 1e-3, 10
)
flags.DEFINE_integer("sample_steps", 2000, "MALA steps of the samples from noise.", lower_bound=10)
runs.define_float("sample_beta", 0.8, "Inverse temperature of the samples.", 0.01, 100)
flags.DEFINE_integer("betas", 1000, "Temperatures of the annealing for log Z.", lower_bound=3)
flags.DEFINE_integer(
    "hold_out_class",
    -1,
    "Train without this digit and score it as an outlier; -1 for none.",
    lower_bound=-1,
    upper_bound=9,
)
flags.DEFINE_string(
    "sample_from", None, "Draw more samples from the weights of this finished run, and no more."
)
flags.register_validator("sample_steps", lambda n: n % 10 == 0, "must be a multiple of 10.")
flags.register_multi_flags_validator(
    ["chains", "capacity"],
    lambda given: given["chains"] <= given["capacity"],
    "--chains cannot exceed the --capacity that they come from.",
)
flags.register_multi_flags_validator(
    ["chains", "capacity", "groups", "mesh"],
    lambda given: (
        not (
            given["chains"] % given["groups"]
            or given["capacity"] % given["groups"]
            or given["groups"] % given["mesh"]
        )
    ),
    "--groups must divide --chains and --capacity, and be a multiple of --mesh.",
)
FLAGS = flags.FLAGS

BATCH = 256
GROUP = 25  # updates a dispatch
CLASSIFIER_NOISE = 0.2  # augmentation of the images the classifier sees


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


def fit(run, objective, params, batch, key, *, steps: int, learning_rate: float):
    """Train by Adam with warm-up and decay; return the averaged parameters and the history."""
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, learning_rate, min(100, steps // 2), steps, learning_rate / 100
    )
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))
    trainer = training.trainer(objective, optimizer, average_decay=0.998)
    init_key, train_key = jax.random.split(key)
    state, history = loop.train(
        run,
        "",
        trainer,
        trainer.init(*devices.place(run.mesh, (params, init_key))),
        batch,
        train_key,
        num_steps=steps,
        group=GROUP,
        shown="generative/energy_gap",
    )
    return state.average, history


def sample(key, energy: Callable, count: int, classes: int):
    """Draw images from noise, the same number of every class, as the flags say."""
    return generate(
        key,
        energy,
        np.sort(np.arange(count) % classes),
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
    digits = prepared.digits
    bound = functools.partial(energy, params)
    samples = sample(jax.random.key(FLAGS.seed), bound, 16 * len(digits), len(digits))
    np.savez(run.workdir / "samples.npz", images=samples.images, labels=samples.labels)
    rows = samples.images.reshape(len(digits), 16, 8, 8)
    plots.image_rows(run.workdir / "samples.png", {"samples": rows}, [str(d) for d in digits])
    run.finish({"samples": len(samples.images), "picture": str(run.workdir / "samples.png")})


def main() -> None:
    """Train, draw samples, evaluate and report; or draw more samples of a run."""
    run = runs.start()
    if FLAGS.sample_from:
        draw_more(run, FLAGS.sample_from)
        return
    split, unseen, digits, model = prepare(FLAGS.hold_out_class, FLAGS.hidden, FLAGS.data_noise)
    objective = make_objective(
        model,
        loss_table.named(FLAGS.loss, FLAGS.margin),
        initial=from_noise(split.train_y, FLAGS.capacity, run.mesh),
        generative_weight=FLAGS.generative_weight,
        step_size=FLAGS.step_size,
        langevin_steps=FLAGS.langevin_steps,
        num_chains=FLAGS.chains,
        capacity=FLAGS.capacity,
        restart_fraction=FLAGS.restart,
        groups=FLAGS.groups,
    )
    network_key, fit_key, sample_key, nats_key = jax.random.split(jax.random.key(FLAGS.seed), 4)
    params, history = fit(
        run,
        objective,
        model.network.init(network_key, jnp.zeros(64)),
        batches(split, FLAGS.data_noise, FLAGS.seed),
        fit_key,
        steps=FLAGS.steps,
        learning_rate=FLAGS.learning_rate,
    )
    # As many samples as test images.
    bound = functools.partial(model.joint, params)
    samples = sample(sample_key, bound, len(split.test_x), len(digits))
    options = {"noise": FLAGS.data_noise, "step_size": FLAGS.step_size, "num_betas": FLAGS.betas}
    likelihood = digits_likelihood.measure(
        nats_key, model, params, split, **options, seed=FLAGS.seed
    )
    classes = jax.jit(jax.vmap(functools.partial(model.classes, params)))
    outliers = data.outliers(split.test_x, FLAGS.seed) | unseen
    digits_report.write(
        run,
        digits_report.Results(
            classes, split, outliers, digits, FLAGS.loss, history, samples, likelihood
        ),
    )


if __name__ == "__main__":
    runs.main(main)
