"""Train a restricted Boltzmann machine on binary images or tables, and measure its likelihood.

    python -m experiments.rbm --workdir=runs/rbm
    python -m experiments.rbm --dataset=mnist --workdir=runs/rbm_mnist
    python -m experiments.rbm --dataset=dna --workdir=runs/dna
    python -m experiments.rbm --data=table.csv --workdir=runs/table

Training minimises the negative log-likelihood with contrastive divergence from the data (cd), with
persistent chains (pcd), with persistent chains at several temperatures (pt), or with the exact
gradient (ml). Images are binarised: a pixel is 1 if its grey value is at least one half, and every
log-likelihood is that of the binarised images. A table (--data) has any number of columns, of 0 and
1 or of at most 32 different integers, or it has aligned sequences. A tenth of its rows is for
validation and two tenths are for testing; compare settings by valid_log_likelihood.

With at most 23 hidden units or variables the log-likelihood is exact; with at most 20 it is also
computed during training. With more, it is estimated at the end by annealed importance sampling
from independent units to the RBM, and back: two bounds that hold in expectation. With --scans it is
estimated by parallel tempering, whose positions visit the modes many times. The report begins with
warnings if the estimate is not reliable.
"""

from absl import flags

from experiments import names
from experiments.run import command_line, entry, errors, work_directory

EPOCHS = {"digits": 300, "mnist": 50}  # of each set of images
TABLE_UPDATES = 20_000  # for a table: the number of epochs follows from its rows
OBJECTIVES = ("cd", "pcd", "pt", "ml")

flags.DEFINE_enum(
    "dataset",
    "digits",
    [*EPOCHS, *names.DENSITY_TABLES],
    "Published images, or a published binary table.",
)
command_line.define_path("data", None, "Your table: a .csv, .npy, .npz or .fasta file.")
command_line.define_path("data_dir", None, names.DATA_DIR)
flags.DEFINE_integer("hidden", 16, "Number of hidden units.", lower_bound=1)
flags.DEFINE_enum("objective", "pcd", OBJECTIVES, "Training method.")
flags.DEFINE_bool(
    "centered",
    True,
    "Subtract the mean of the data from each visible unit, 1/2 from each hidden one.",
)
flags.DEFINE_integer(
    "epochs",
    None,
    "Number of epochs; if unset, "
    + ", ".join(f"{num} for {name}" for name, num in EPOCHS.items())
    + f", and for a table the number that makes {TABLE_UPDATES:,} updates.",
    lower_bound=1,
)
command_line.define_float("learning_rate", 0.1, "Initial learning rate.", 1e-9)
flags.DEFINE_enum(
    "schedule",
    "cosine",
    ["cosine", "constant"],
    "Learning rate during training: it falls to zero along a cosine, or is constant.",
)
flags.DEFINE_bool("average", True, "Measure the moving average of the parameters, not the last.")
command_line.define_float(
    "offset_rate",
    0.0,
    "Fraction by which the offsets move, at each update, to the means of visible and hidden "
    "units over the mini-batch; 0 fixes the offsets.",
    0.0,
)
command_line.define_float(
    "weight_decay", 0.0, "Weight decay, multiplied by the learning rate.", 0.0
)
flags.DEFINE_integer("batch_size", 100, "Rows per update.", lower_bound=1)
flags.DEFINE_integer("chains", 100, "Number of persistent chains.", lower_bound=1)
flags.DEFINE_integer(
    "groups",
    1,
    "Number of groups of persistent chains; each update draws equally from all groups.",
    lower_bound=1,
)
flags.DEFINE_integer("gibbs_steps", 1, "Gibbs sweeps of the chains between updates.", lower_bound=1)
flags.DEFINE_integer(
    "temperatures", 10, "Number of temperatures of the chains of pt.", lower_bound=2
)
flags.DEFINE_integer(
    "sample_steps",
    1000,
    "Gibbs sweeps from the start of a chain to the sample that is shown.",
    lower_bound=1,
)
flags.DEFINE_integer("betas", 10_000, "Number of temperatures of the annealing.", lower_bound=3)
flags.DEFINE_integer("annealed", 100, "Number of annealed chains in each direction.", lower_bound=2)
flags.DEFINE_integer(
    "scans",
    None,
    "Estimate log Z by parallel tempering with this number of scans; if unset, by annealing.",
    lower_bound=16,
)
flags.register_multi_flags_validator(
    ["objective", "hidden"],
    lambda given: given["objective"] != "ml" or given["hidden"] <= names.MOST_EXACT,
    f"--objective=ml sums over all hidden states: --hidden is at most {names.MOST_EXACT}.",
)
flags.register_multi_flags_validator(
    ["offset_rate", "centered"],
    lambda given: given["offset_rate"] <= (1 if given["centered"] else 0),
    "--offset_rate must be in [0, 1], and 0 with --nocentered.",
)
flags.register_multi_flags_validator(
    ["chains", "groups", "mesh"],
    lambda given: not (given["chains"] % given["groups"] or given["groups"] % given["mesh"]),
    "--groups must divide --chains, and be a multiple of --mesh.",
)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ebm_jax import training
from experiments import plots
from experiments.data import datasets, minibatches, splits, tables
from experiments.rbm import centering, model
from experiments.run import devices, loop


class Rows(NamedTuple):
    """Rows (n, variables) to train on, to validate, where there are any, and to test."""

    train_x: np.ndarray
    test_x: np.ndarray
    valid_x: np.ndarray | None = None
    q: int = 2

    @property
    def parts(self) -> dict[str, np.ndarray]:
        """The rows by name."""
        named = {"train": self.train_x, "valid": self.valid_x, "test": self.test_x}
        return {name: rows for name, rows in named.items() if rows is not None}


AVERAGE_DECAY = 0.999
SHOWN = 16  # images a row


def binary(split: splits.Split) -> Rows:
    """Return images with pixels that are on or off."""
    return Rows(split.train_x >= 0.5, split.test_x >= 0.5)


def load() -> Rows:
    """Return the rows that the flags name."""
    if FLAGS.data:
        table = tables.read(FLAGS.data, FLAGS.seed)
        return Rows(table.train, table.test, table.valid, len(table.values))
    if FLAGS.dataset in names.DENSITY_TABLES:
        bits = datasets.density(FLAGS.dataset, FLAGS.data_dir)
        return Rows(bits.train, bits.test, bits.valid)
    if FLAGS.dataset == "mnist":
        return binary(datasets.mnist(FLAGS.data_dir))
    return binary(splits.digits())


def summed(rows: Rows, most: int) -> bool:
    """Whether all states of the hidden units, or of the variables, are few enough to sum over."""
    return min(FLAGS.hidden, rows.train_x.shape[1] * np.log2(max(rows.q, 2))) <= most


def weights_alone(params: Any) -> Any:
    """Return which parameters decay."""
    return type(params)(True, *[False] * (len(params) - 1))


def make_optimizer(steps: int) -> optax.GradientTransformation:
    """Return stochastic gradient descent as the flags say."""
    rate = FLAGS.learning_rate
    schedule = optax.cosine_decay_schedule(rate, steps) if FLAGS.schedule == "cosine" else rate
    optimizer = optax.sgd(schedule)
    if FLAGS.weight_decay:
        decay = optax.add_decayed_weights(FLAGS.weight_decay, mask=weights_alone)
        optimizer = optax.chain(decay, optimizer)
    return (
        centering.moving_offsets(optimizer, FLAGS.offset_rate) if FLAGS.offset_rate else optimizer
    )


def fit(run: work_directory.Run, split: Rows, params, key, *, steps: int):
    """Train as the flags say; return the parameters to measure and the history."""
    rates = model.base_rates(split.train_x, split.q)
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
    if FLAGS.offset_rate:
        objective = centering.with_means(objective)
    decay = AVERAGE_DECAY if FLAGS.average else None
    trainer = training.trainer(objective, make_optimizer(steps), average_decay=decay)
    init_key, train_key = jax.random.split(key)
    known = summed(split, names.MOST_EXACT)
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


def exact(params, split: Rows) -> dict[str, float]:
    """Return the mean log-likelihoods of the rows of every part, all states summed over."""
    log_z = model.log_partition(params)
    return {
        f"{name}_log_likelihood": float(-model.mean_energy(params, x) - log_z)
        for name, x in split.parts.items()
    }


def bracketed(params, split: Rows, key) -> dict:
    """Return the test log-likelihood and its interval, by annealing up and down."""
    sample_key, anneal_key = jax.random.split(key)
    # Chains from the data forget it before they are annealed.
    first = np.resize(split.train_x, (FLAGS.annealed, split.train_x.shape[1]))
    ends, _ = model.sample(sample_key, params, first, max(FLAGS.sample_steps, FLAGS.betas))
    rates = model.base_rates(split.train_x, split.q)
    found = model.bracket(anneal_key, params, rates, ends, FLAGS.betas)
    energies = {name: float(model.mean_energy(params, x)) for name, x in split.parts.items()}
    test = energies["test"]
    bounds, interval = ([-test - z for z in ends[::-1]] for ends in (found.bounds, found.interval))
    return {
        **{f"{name}_log_likelihood": -e - found.log_z for name, e in energies.items()},
        "bounds": bounds,  # by annealing down, and up
        "interval": interval,
        "effective_sample_sizes": list(found.effective_sample_sizes),
        "warnings": list(found.warnings),
    }


def tempered(params, split: Rows, key) -> dict:
    """Return the log-likelihoods and the interval of the test one, by parallel tempering."""
    rates = model.base_rates(split.train_x, split.q)
    found = model.by_tempering(key, params, rates, FLAGS.scans)
    energies = {name: float(model.mean_energy(params, x)) for name, x in split.parts.items()}
    return {
        **{f"{name}_log_likelihood": -e - float(found.log_z) for name, e in energies.items()},
        "interval": [-energies["test"] - float(end) for end in found.interval[::-1]],
        "standard_error": float(found.standard_error),
        "round_trips": found.round_trips,
        "replicas": len(found.betas),
        "warnings": list(found.warnings),
    }


def tiles(images: np.ndarray, columns: int) -> np.ndarray:
    """Return (n, pixels) as rows of square images, (rows, columns, side, side)."""
    side = round(images.shape[1] ** 0.5)
    rows = -(-len(images) // columns)
    images = np.pad(images, ((0, rows * columns - len(images)), (0, 0)))
    return images.reshape(rows, columns, side, side)


def draw(run: work_directory.Run, params, means: np.ndarray, split: Rows, history: dict) -> None:
    """Write filters.png and samples.png of images and, where it is exact, likelihood.png."""
    if "test_log_likelihood" in history:
        lines = {name: history[f"{name}_log_likelihood"] for name in split.parts}
        plots.curves(run.workdir / "likelihood.png", "log-likelihood", history["step"], lines)
    if FLAGS.data or FLAGS.dataset in names.DENSITY_TABLES:
        return
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


def report(summary: dict, used: str, pictures: list[str]) -> str:
    """Return the page in Markdown; its pictures are in the same folder."""
    summary = dict(summary)
    warnings = [f"**Not reliable:** {text}\n" for text in summary.pop("warnings", [])]
    values = [f"{v:.6g}" if isinstance(v, float) else str(v) for v in summary.values()]
    labels = [name.replace("_", " ") for name in summary]
    rows = [f"| {label} | {value} |" for label, value in zip(labels, values, strict=True)]
    shown = [f"![{name}]({name}.png)" for name in pictures]
    flags = [f"    {line}" for line in used.splitlines()]
    return "\n".join(
        ["# RBM", "", *warnings, "| | |", "|---|---|", *rows, "", *shown, "", *flags, ""]
    )


def main() -> None:
    """Train, measure, draw and report."""
    run, split = entry.start(), load()
    if split.train_x.dtype != bool and FLAGS.objective == "pt":
        raise errors.UsageError(
            f"--objective=pt is for binary variables, got {split.q} categories: choose cd, pcd, ml."
        )
    if FLAGS.offset_rate and split.train_x.dtype != bool:
        raise errors.UsageError(
            f"--offset_rate={FLAGS.offset_rate} is for binary variables, got {split.q} categories: "
            "leave it at 0."
        )
    start_key, fit_key, sample_key, bracket_key = jax.random.split(jax.random.key(FLAGS.seed), 4)
    images = not FLAGS.data and FLAGS.dataset in EPOCHS
    epochs = FLAGS.epochs or (EPOCHS[FLAGS.dataset] if images else None)
    steps = TABLE_UPDATES if epochs is None else -(-epochs * len(split.train_x) // FLAGS.batch_size)
    params = model.start(start_key, split.train_x, FLAGS.hidden, centered=FLAGS.centered, q=split.q)
    began = run.seconds()
    params, history = fit(run, split, params, fit_key, steps=steps)
    summary = {"updates": steps, "training_seconds": round(run.seconds() - began, 1)}
    if summed(split, names.MOST_EXACT_ONCE):
        found = {"exact": True} | exact(params, split)
        # log Z has no error: the interval is a point.
        summary |= found | {"interval": [found["test_log_likelihood"]] * 2}
    else:
        estimate = tempered if FLAGS.scans else bracketed
        summary |= {"exact": False} | estimate(params, split, bracket_key)
    if not images:
        summary |= dict(zip(("rows", "variables"), split.train_x.shape, strict=True))
        summary |= {"values": split.q}
    noise_key, run_key = jax.random.split(sample_key)
    base = model.base_distribution(model.base_rates(split.train_x, split.q))
    _, means = model.sample(run_key, params, base.sample(noise_key, SHOWN * 8), FLAGS.sample_steps)
    draw(run, params, np.asarray(means), split, history)
    pictures = sorted(path.stem for path in run.workdir.glob("*.png"))
    run.write("report.md", report(summary, run.flag_text, pictures))
    run.finish(summary | {"report": str(run.workdir / "report.md")})


if __name__ == "__main__":
    entry.main(main)
