"""A restricted Boltzmann machine on binary images, with a likelihood that can be trusted.

    python -m experiments.rbm --workdir=runs/rbm
    python -m experiments.rbm --dataset=mnist --workdir=runs/rbm_mnist

Trained by contrastive divergence from the data (cd), with persistent chains (pcd), with
persistent chains that are tempered (pt), or by the exact likelihood (ml). A pixel is on where it
has at least half of full ink: every log-likelihood here is of images binarised so. With at most 20
hidden units it is exact, all through training; with more it is bracketed at the end, by annealing
from the base rates to the RBM and back.
"""

from absl import flags

from experiments import names
from experiments.run import command_line, entry, work_directory

EPOCHS = {"digits": 300, "mnist": 50}  # of each set of images
OBJECTIVES = ("cd", "pcd", "pt", "ml")

flags.DEFINE_enum("dataset", "digits", list(EPOCHS), "What images.")
command_line.define_path("data_dir", None, names.DATA_DIR)
flags.DEFINE_integer("hidden", 16, "Hidden units.", lower_bound=1)
flags.DEFINE_enum("objective", "pcd", OBJECTIVES, "What to minimise.")
flags.DEFINE_bool("centered", True, "Centre the units: at the data's means, and at 1/2.")
flags.DEFINE_integer(
    "epochs",
    None,
    "Epochs; if unset " + ", ".join(f"{num} of {name}" for name, num in EPOCHS.items()) + ".",
    lower_bound=1,
)
command_line.define_float("learning_rate", 0.1, "Learning rate at first; it falls to zero.", 1e-9)
flags.DEFINE_integer("batch_size", 100, "Images an update.", lower_bound=1)
flags.DEFINE_integer("chains", 100, "Persistent chains.", lower_bound=1)
flags.DEFINE_integer("groups", 1, "Equal groups that chains change places in.", lower_bound=1)
flags.DEFINE_integer("gibbs_steps", 1, "Sweeps of the chains between updates.", lower_bound=1)
flags.DEFINE_integer("temperatures", 10, "Replicas of a tempered chain.", lower_bound=2)
flags.DEFINE_integer("sample_steps", 1000, "Sweeps of the samples shown.", lower_bound=1)
flags.DEFINE_integer("betas", 10_000, "Temperatures of the annealing.", lower_bound=3)
flags.register_multi_flags_validator(
    ["objective", "hidden"],
    lambda given: given["objective"] != "ml" or given["hidden"] <= names.MOST_EXACT,
    f"--objective=ml sums over all hidden states: --hidden is at most {names.MOST_EXACT}.",
)
flags.register_multi_flags_validator(
    ["chains", "groups", "mesh"],
    lambda given: not (given["chains"] % given["groups"] or given["groups"] % given["mesh"]),
    "--groups must divide --chains, and be a multiple of --mesh.",
)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

from ebm_jax import training
from experiments import plots
from experiments.data import datasets, minibatches, splits
from experiments.rbm import model
from experiments.run import devices, loop


class Dataset(NamedTuple):
    """Where images come from, and how many epochs they take."""

    load: Callable[[str | None], splits.Split]
    epochs: int


DATASETS = {
    "digits": Dataset(lambda data_dir: splits.digits(), EPOCHS["digits"]),
    "mnist": Dataset(datasets.mnist, EPOCHS["mnist"]),
}


AVERAGE_DECAY = 0.999
ANNEALED = 100  # chains each way
SHOWN = 16  # images a row


def binary(split: splits.Split) -> splits.Split:
    """Return the split with pixels that are on or off."""
    return split._replace(train_x=split.train_x >= 0.5, test_x=split.test_x >= 0.5)


def fit(run: work_directory.Run, split: splits.Split, params, key, *, steps: int):
    """Train as the flags say; return the averaged parameters and the history."""
    rates = model.base_rates(split.train_x)
    objective = model.make_objective(
        FLAGS.objective,
        rates,
        FLAGS.hidden,
        gibbs_steps=FLAGS.gibbs_steps,
        chains=FLAGS.chains,
        temperatures=FLAGS.temperatures,
        groups=FLAGS.groups,
        mesh=run.mesh,
    )
    optimizer = optax.sgd(optax.cosine_decay_schedule(FLAGS.learning_rate, steps))
    trainer = training.trainer(objective, optimizer, average_decay=AVERAGE_DECAY)
    init_key, train_key = jax.random.split(key)
    known = FLAGS.hidden <= names.MOST_EXACT
    state, history = loop.train(
        run,
        "",
        trainer,
        trainer.init(*devices.place(run.mesh, (params, init_key))),
        minibatches.batches(split.train_x, batch_size=FLAGS.batch_size, seed=FLAGS.seed),
        train_key,
        num_steps=steps,
        group=-(-steps // 20),
        shown="test_log_likelihood" if known else "loss_total",
        measure=functools.partial(exact, split=split) if known else None,
    )
    return state.average, history


def exact(params, split: splits.Split) -> dict[str, float]:
    """Return the mean log-likelihoods of training and test images, all states summed over."""
    log_z = model.log_partition(params)
    return {
        f"{name}_log_likelihood": float(-model.mean_energy(params, x) - log_z)
        for name, x in (("train", split.train_x), ("test", split.test_x))
    }


def bracketed(params, split: splits.Split, key) -> dict:
    """Return the test log-likelihood and its interval, by annealing up and down."""
    sample_key, anneal_key = jax.random.split(key)
    # Chains from the data forget it before they are annealed.
    ends, _ = model.sample(
        sample_key, params, split.train_x[:ANNEALED], max(FLAGS.sample_steps, FLAGS.betas)
    )
    rates = model.base_rates(split.train_x)
    found = model.bracket(anneal_key, params, rates, ends, FLAGS.betas)
    train, test = (float(model.mean_energy(params, x)) for x in (split.train_x, split.test_x))
    bounds, interval = ([-test - z for z in ends[::-1]] for ends in (found.bounds, found.interval))
    return {
        "train_log_likelihood": -train - found.log_z,
        "test_log_likelihood": -test - found.log_z,
        "bounds": bounds,  # by annealing down, and up
        "interval": interval,
        "effective_sample_sizes": list(found.effective_sample_sizes),
    }


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Return (n, pixels) as rows of square images, (rows, columns, side, side)."""
    side = round(images.shape[1] ** 0.5)
    rows = -(-len(images) // columns)
    images = np.pad(images, ((0, rows * columns - len(images)), (0, 0)))
    return images.reshape(rows, columns, side, side)


def draw(
    run: work_directory.Run, params, means: np.ndarray, split: splits.Split, history: dict
) -> None:
    """Write filters.png, samples.png and, where it is exact, likelihood.png."""
    weights = np.asarray(params.weights).T
    weights = 0.5 + weights / (2 * np.abs(weights).max(axis=1, keepdims=True) + 1e-9)
    filters = tiles(weights, min(len(weights), SHOWN))
    plots.image_rows(run.workdir / "filters.png", {"weights": 1 - filters}, [""] * len(filters))
    panels = {
        "P(v = 1 | h) of the samples": 1 - tiles(means, SHOWN),
        "training images": 1 - tiles(split.train_x[: len(means)].astype(float), SHOWN),
    }
    rows = len(panels["training images"])
    plots.image_rows(run.workdir / "samples.png", panels, [""] * rows)
    if "test_log_likelihood" in history:
        lines = {name: history[f"{name}_log_likelihood"] for name in ("train", "test")}
        plots.curves(run.workdir / "likelihood.png", "log-likelihood", history["step"], lines)


def report(summary: dict, used: str, pictures: list[str]) -> str:
    """Return the page in Markdown; its pictures are in the same folder."""
    values = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in summary.values()]
    names = [name.replace("_", " ") for name in summary]
    rows = [f"| {name} | {value} |" for name, value in zip(names, values, strict=True)]
    shown = [f"![{name}]({name}.png)" for name in pictures]
    flags = [f"    {line}" for line in used.splitlines()]
    return "\n".join(["# RBM", "", "| | |", "|---|---|", *rows, "", *shown, "", *flags, ""])


def main() -> None:
    """Train, measure, draw and report."""
    run, dataset = entry.start(), DATASETS[FLAGS.dataset]
    split = binary(dataset.load(FLAGS.data_dir))
    start_key, fit_key, sample_key, bracket_key = jax.random.split(jax.random.key(FLAGS.seed), 4)
    steps = -(-(FLAGS.epochs or dataset.epochs) * len(split.train_x) // FLAGS.batch_size)
    params = model.start(start_key, split.train_x, FLAGS.hidden, centered=FLAGS.centered)
    began = run.seconds()
    params, history = fit(run, split, params, fit_key, steps=steps)
    summary = {"updates": steps, "training_seconds": round(run.seconds() - began, 1)}
    if FLAGS.hidden <= names.MOST_EXACT:
        summary |= {"exact": True} | exact(params, split)
    else:
        summary |= {"exact": False} | bracketed(params, split, bracket_key)
    noise_key, run_key = jax.random.split(sample_key)
    rates = jax.nn.sigmoid(model.base_rates(split.train_x))
    noise = jax.random.bernoulli(noise_key, rates, (SHOWN * 8, len(rates)))
    _, means = model.sample(run_key, params, noise, FLAGS.sample_steps)
    draw(run, params, np.asarray(means), split, history)
    pictures = sorted(path.stem for path in run.workdir.glob("*.png"))
    run.write("report.md", report(summary, run.flag_text, pictures))
    run.finish(summary | {"report": str(run.workdir / "report.md")})


if __name__ == "__main__":
    entry.main(main)
