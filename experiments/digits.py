"""One energy F(x, y) on real handwritten digits that classifies, generates and spots outliers.

    python -m experiments.digits --workdir=runs/demo

A joint energy over 8x8 images x and classes y (scikit-learn's 1,797 digits) is trained by the
sum of two objectives: a loss over the classes given the image (``--loss``), and maximum
likelihood of (image, class) by persistent contrastive divergence, with Langevin chains that
carry their class. Afterwards argmin_y F(x, y) classifies, Langevin dynamics on F(., y) from
noise draws digits of class y, and the free energy F(x) says what is no digit.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import flags

from ebm_jax import losses, training
from ebm_jax.objectives import contrastive_divergence, likelihood, weighted_sum
from ebm_jax.samplers import langevin
from experiments import data, digits_report, runs
from experiments.digits_model import Model, from_noise, generate, make_loss, make_model

flags.DEFINE_enum("loss", "nll", [*losses.PAIRWISE, *losses.CANDIDATES], "Loss over the classes.")
flags.DEFINE_float("margin", 1.0, "Margin, ceiling or weight gamma of the loss.", lower_bound=0)
flags.DEFINE_integer("steps", 2500, "Training updates.", lower_bound=1)
flags.DEFINE_integer("hidden", 256, "Width of the two hidden layers.", lower_bound=1)
flags.DEFINE_float("learning_rate", 3e-3, "Peak learning rate of Adam.", lower_bound=0)
flags.DEFINE_float("generative_weight", 1.0, "Weight of the generative part.", lower_bound=0)
flags.DEFINE_integer("langevin_steps", 20, "MALA steps between updates.", lower_bound=1)
flags.DEFINE_float("step_size", 0.008, "MALA step size, in squared grey levels of [0, 1].")
flags.DEFINE_integer("chains", 256, "Chains run at every update.", lower_bound=1)
flags.DEFINE_integer("capacity", 2560, "Persistent chains.", lower_bound=1)
flags.DEFINE_float("restart", 0.005, "Fraction of drawn chains restarted from noise.")
flags.DEFINE_float("data_noise", 0.13, "Standard deviation of the noise on the data modelled.")
flags.DEFINE_integer("sample_steps", 2000, "MALA steps of the samples from noise.", lower_bound=10)
flags.DEFINE_float("sample_beta", 0.8, "Inverse temperature of the samples.")
flags.DEFINE_integer("hold_out_class", -1, "Train without this digit and score it as an outlier.")
FLAGS = flags.FLAGS

BATCH = 256
GROUP = 25  # updates a dispatch
CLASSIFIER_NOISE = 0.2  # augmentation of the images the classifier sees


def groups(split: data.Split, seed: int) -> Iterator[dict]:
    """Yield groups of batches: the modelled images, noisy, and those the classifier sees."""
    rng = np.random.default_rng(seed)
    arrays = (split.train_x, split.train_y)
    options = {"batch_size": BATCH, "num_steps": FLAGS.steps, "group": GROUP, "seed": seed}
    for x, y in data.batches(arrays, **options):
        noise = rng.standard_normal((2, *x.shape), dtype=np.float32)
        yield {
            "configuration": {"x": x + FLAGS.data_noise * noise[0], "y": y},
            "labelled": (x + CLASSIFIER_NOISE * noise[1], y),
        }


def fit(run: runs.Run, model: Model, split: data.Split, key):
    """Train, and return the averaged parameters and the history of the metrics."""
    generative = contrastive_divergence.persistent(
        model.joint,
        functools.partial(langevin.mala, step_size=FLAGS.step_size),
        num_steps=FLAGS.langevin_steps,
        num_chains=FLAGS.chains,
        capacity=FLAGS.capacity,
        initial=from_noise(split.train_y, FLAGS.capacity),
        restart_fraction=FLAGS.restart,
        burn_in=25,
    )
    discriminative = likelihood.discriminative(model.classes, make_loss(FLAGS.loss, FLAGS.margin))
    objective = weighted_sum(
        discriminative=(1.0, discriminative, lambda batch: batch["labelled"]),
        generative=(FLAGS.generative_weight, generative, lambda batch: batch["configuration"]),
    )
    schedule = optax.warmup_cosine_decay_schedule(
        0.0, FLAGS.learning_rate, min(100, FLAGS.steps // 2), FLAGS.steps, FLAGS.learning_rate / 100
    )
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))
    trainer = training.trainer(objective, optimizer, average_decay=0.998)
    init_key, chain_key, train_key = jax.random.split(key, 3)
    params = model.network.init(init_key, jnp.zeros(64))
    state = trainer.init(params, chain_key)
    state, history = runs.train(
        run,
        trainer,
        state,
        groups(split, FLAGS.seed),
        train_key,
        num_steps=FLAGS.steps,
        gap="generative/energy_gap",
    )
    return state.average, history


def check_flags() -> None:
    """Refuse values that absl cannot judge alone."""
    if not -1 <= FLAGS.hold_out_class <= 9:
        raise runs.UsageError(
            f"--hold_out_class={FLAGS.hold_out_class} is no digit: give 0 to 9, or -1 for none."
        )
    if FLAGS.chains > FLAGS.capacity:
        raise runs.UsageError(
            f"--chains={FLAGS.chains} cannot exceed the --capacity={FLAGS.capacity} they come from."
        )
    if FLAGS.sample_steps % 10:
        raise runs.UsageError(f"--sample_steps={FLAGS.sample_steps} must be a multiple of 10.")
    ranges = {"restart": (0, 1), "step_size": (1e-9, 10), "data_noise": (0, 10)}
    for name, (low, high) in (ranges | {"sample_beta": (0.01, 100)}).items():
        if not low <= FLAGS[name].value <= high:
            raise runs.UsageError(f"--{name}={FLAGS[name].value} must be in [{low}, {high}].")


def main() -> None:
    """Train, evaluate and report."""
    check_flags()
    run = runs.Run()
    split, held_out = data.digits(), None
    digits = [d for d in range(10) if d != FLAGS.hold_out_class]
    if FLAGS.hold_out_class >= 0:
        split, held_out = data.hold_out(split, FLAGS.hold_out_class)
    model = make_model(split.train_x, len(digits), FLAGS.hidden, FLAGS.data_noise)
    train_key, sample_key = jax.random.split(jax.random.key(FLAGS.seed))
    params, history = fit(run, model, split, train_key)
    # As many samples as test images, the same number of every class.
    labels = np.sort(np.arange(len(split.test_x)) % len(digits))
    samples, film = generate(
        sample_key,
        model,
        params,
        labels,
        num_steps=FLAGS.sample_steps,
        step_size=FLAGS.step_size,
        beta=FLAGS.sample_beta,
        noise=FLAGS.data_noise,
    )
    digits_report.write(
        run,
        digits_report.Results(
            classes=jax.jit(jax.vmap(functools.partial(model.classes, params))),
            split=split,
            held_out=held_out,
            digits=digits,
            history=history,
            samples=np.asarray(samples),
            labels=labels,
            film=np.asarray(film),
        ),
    )


if __name__ == "__main__":
    runs.main(main)
