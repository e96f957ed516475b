r"""How close does an objective come to maximum likelihood on binary data with an exact Z?

    python -m experiments.nltcs --objective=exact --workdir=runs/n
    python -m experiments.nltcs --data=answers.csv --objective=pcd --workdir=runs/mine

The data are the National Long Term Care Survey (NLTCS), 16 yes-or-no answers per person, or any
file of at most 20 columns of 0 and 1. The energy is a network plus a linear term. Z is a sum over
all states (65,536 for NLTCS), so the test NLL is exact for every objective. It is compared with
independent bits, with the Chow-Liu tree, and with the same network trained by exact likelihood.
"""

from absl import flags

from experiments import names
from experiments.run import command_line, entry, errors, work_directory

command_line.define_path(
    "data", None, "File of comma-separated columns of 0 and 1; if unset, NLTCS."
)
command_line.define_path("data_dir", None, names.DATA_DIR)
flags.DEFINE_enum("objective", "pcd", names.BINARY, "Objective to minimise.")
flags.DEFINE_multi_string("option", [], "Option of the objective, as name=value; may be repeated.")
flags.DEFINE_integer(
    "steps",
    None,
    "Updates; if unset, 700 for the exact objective and 2,000 for others.",
    lower_bound=1,
)
flags.DEFINE_integer("hidden", 64, "Width of the two hidden layers.", lower_bound=1)
flags.DEFINE_integer(
    "batch_size", 500, "Rows per update; the exact objective uses all.", lower_bound=2
)
flags.DEFINE_integer(
    "chains", 2000, "Persistent chains, for objectives that have them.", lower_bound=1
)
command_line.define_float(
    "learning_rate", None, "Initial learning rate; if unset, that of the objective.", 1e-9
)
command_line.define_float(
    "weight_decay", 0.01, "Weight decay, multiplied by the learning rate.", 0.0
)
flags.DEFINE_float(
    "exact_nll",
    None,
    "Test NLL of the network trained by exact likelihood; if unset, it is trained first.",
)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import jax
import matplotlib.pyplot as plt
import numpy as np
import optax

from ebm_jax import training
from ebm_jax.partition import exact
from experiments import objectives_by_name, plots
from experiments.data import datasets, minibatches
from experiments.data.datasets import Bits
from experiments.nltcs.model import chow_liu, evaluator, independent_bits, make_energy
from experiments.objectives_by_name import BINARY, Problem
from experiments.run import loop

MOST_COLUMNS = 20


def read_csv(path: str, seed: int) -> Bits:
    """Split a file's rows: 7 tenths to train on, 1 to validate and 2 to test.

    A first line of anything but numbers is taken for the columns' names.
    """
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.strip() for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise errors.UsageError(f"--data={path} cannot be read: {error}.") from error
    cells = [[cell.strip() for cell in line.split(",")] for line in lines]
    if cells and not any(cell.replace(".", "", 1).isdigit() for cell in cells[0]):
        cells = cells[1:]
    if len(cells) < 10:
        raise errors.UsageError(f"--data={path} has {len(cells)} rows; at least 10 are needed.")
    columns = len(cells[0])
    if not 2 <= columns <= MOST_COLUMNS:
        raise errors.UsageError(
            f"--data={path} has {columns} columns; the exact sum allows 2 to {MOST_COLUMNS}."
        )
    for number, row in enumerate(cells, 1):
        wrong = [cell for cell in row if cell not in ("0", "1")]
        if wrong or len(row) != columns:
            found = repr(wrong[0]) if wrong else f"{len(row)} columns instead of {columns}"
            raise errors.UsageError(f"--data={path}, row {number}: {found}; allowed are 0 and 1.")
    bits = np.array(cells) == "1"
    bits = np.random.default_rng(seed).permutation(bits)
    return Bits(*np.split(bits, [len(bits) * 7 // 10, len(bits) * 8 // 10]))


def fit(
    run: work_directory.Run, name: str, problem: Problem, key, measure: loop.Measure
) -> loop.History:
    """Train by the objective of a name and its options; return the history."""
    options, rows = FLAGS.option if name == FLAGS.objective else [], len(problem.data)
    batch_size = rows if name == "exact" else min(FLAGS.batch_size, rows)
    _, init = make_energy(problem.data, FLAGS.hidden)
    init_key, start_key, chain_key, train_key = jax.random.split(key, 4)
    objective, params = objectives_by_name.prepare(
        BINARY, name, problem, options, init(init_key), start_key
    )
    rate = FLAGS.learning_rate or BINARY[name].learning_rate
    steps = FLAGS.steps or (700 if name == "exact" else 2000)
    rate = optax.cosine_decay_schedule(rate, steps)
    trainer = training.trainer(objective, optax.adamw(rate, weight_decay=FLAGS.weight_decay))
    return loop.train(
        run,
        name,
        trainer,
        trainer.init(params, chain_key),
        minibatches.batches(problem.data, batch_size=batch_size, seed=FLAGS.seed),
        train_key,
        num_steps=steps,
        group=-(-steps // 20),
        measure=measure,
    )[1]


def draw(path, histories: dict[str, loop.History], lines: dict[str, float]) -> None:
    """Write the test NLL over training, and the reference lines."""
    figure, axis = plt.subplots(figsize=(5.5, 3.4))
    for name, history in histories.items():
        axis.plot(history["step"], history["test_nll"], label=name)
    for number, (name, value) in enumerate(lines.items()):
        axis.axhline(value, color="0.5", linestyle=("--", ":")[number % 2], label=name)
    best = min(history["test_nll"].min() for history in histories.values())
    top = max(best, *lines.values()) + 0.2
    axis.set(xlabel="update", ylabel="test NLL, nats", ylim=(best - 0.2, top))
    axis.legend()
    plots.save(figure, path)


def main() -> None:
    """Train, and compare with exact values."""
    run, seed = entry.start(), FLAGS.seed
    bits = read_csv(FLAGS.data, seed) if FLAGS.data else datasets.nltcs(FLAGS.data_dir)
    columns, key = bits.train.shape[1], jax.random.key(seed)
    energy, _ = make_energy(bits.train, FLAGS.hidden)
    states = exact.states(columns)
    problem = Problem(energy, bits.train, states, num_chains=FLAGS.chains)
    evaluate = evaluator(energy, states, bits)
    names = [FLAGS.objective] + ["exact"] * (FLAGS.exact_nll is None)
    histories, seconds = {}, {}
    for name in dict.fromkeys(names):  # both from the same start
        began = run.seconds()
        histories[name] = fit(run, name, problem, key, evaluate)
        seconds[name] = round(run.seconds() - began, 1)
    found = histories[FLAGS.objective]
    summary = {f"{part}_nll": float(found[f"{part}_nll"][-1]) for part in bits._fields}
    best = FLAGS.exact_nll
    if best is None:
        best = float(histories["exact"]["test_nll"][-1])
    independent, tree = (fitted(bits.train, bits.test) for fitted in (independent_bits, chow_liu))
    draw(
        run.workdir / "nll.png",
        histories,
        {"independent bits": independent, "Chow-Liu tree": tree},
    )
    summary |= {
        "gap_to_exact": summary["test_nll"] - best,
        "exact_nll": best,
        "chow_liu_nll": tree,
        "independent_nll": independent,
        "training_seconds": seconds[FLAGS.objective],
    }
    run.finish(summary)


if __name__ == "__main__":
    entry.main(main)
