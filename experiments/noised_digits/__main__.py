"""Train an energy of 8x8 digits that is told the noise level, and compare its samples with digits.

    python -m experiments.noised_digits --workdir=runs/levels

The energy U(x, y, sigma) of a digit x of class y is trained by denoising score matching over the
noise levels sigma, with the time score. Samples follow the levels down; at each level MALA corrects
the step that led there. --network=residual has convolutions with residual blocks, and
--network=spectral has these with a spectral norm of at most 1 in every layer. The widths give all
three networks about the same number of floating-point operations per update
("operations_per_update" in the summary).

The samples are compared with test digits by the 1-nearest-neighbour two-sample test, in parts as
large as the test set, and by the distance to the nearest training digit. --validation holds out 360
training digits and uses them in place of the test digits, to choose options.
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_enum("network", "dense", ("dense", "residual", "spectral"), "Kind of network.")
flags.DEFINE_integer("steps", 2500, "Updates.", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "Digits per update.", lower_bound=1)
command_line.define_float("learning_rate", 2e-3, "Initial learning rate; it falls to zero.", 1e-9)
command_line.define_float(
    "weight_decay", 0.3, "Weight decay, multiplied by the learning rate.", 0.0
)
command_line.define_float(
    "augmented", 0.0, "Share of training digits that are moved by up to one pixel.", 0.0, 1.0
)
flags.DEFINE_integer("samples", 1440, "Samples.", lower_bound=2)
flags.DEFINE_integer("num_levels", 50, "Noise levels of the samples.", lower_bound=2)
flags.DEFINE_integer("chain_steps", 4, "Steps of MALA at each level.", lower_bound=0)
flags.DEFINE_bool("validation", False, "Measure on digits held out of the training digits.")
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments import evaluation, plots
from experiments.data import splits
from experiments.images import measures
from experiments.noised_digits import model

SHOWN = 16  # samples of each class in the figure


def main() -> None:
    """Train, draw samples, measure."""
    run, split = entry.start(), splits.digits()
    if FLAGS.validation:
        split = splits.stratified(split.train_x, split.train_y, len(split.test_x))
    x, y = split.train_x, split.train_y
    fit_key, sample_key = jax.random.split(jax.random.key(FLAGS.seed))
    made = model.make_model(x, y, FLAGS.network)
    began = run.seconds()
    params = model.train(
        run,
        "",
        made,
        model.batches(
            x, y, batch_size=FLAGS.batch_size, seed=FLAGS.seed, augmented=FLAGS.augmented
        ),
        fit_key,
        steps=FLAGS.steps,
        learning_rate=FLAGS.learning_rate,
        weight_decay=FLAGS.weight_decay,
    )
    seconds = run.seconds() - began
    labels = np.sort(np.arange(FLAGS.samples) % 10)
    images, rates = model.sample(
        sample_key,
        made.energy,
        params,
        jnp.asarray(labels),
        num_levels=FLAGS.num_levels,
        num_steps=FLAGS.chain_steps,
    )
    images = np.asarray(images)
    predict, _ = evaluation.judge(x, y)
    summary: dict[str, Any] = measures.realism(images, split) | {
        "acceptance_rate": [float(rates.min()), float(rates.mean())],
        "operations_per_update": model.operations(made, FLAGS.batch_size),
        "training_seconds": round(seconds, 1),
    }
    if predict is not None:
        summary["label_agreement"] = float(np.mean(predict(images) == labels))
    draw(run, images, labels, split)
    run.finish(summary)


def draw(run, images: np.ndarray, labels: np.ndarray, split: splits.Split) -> None:
    """Write samples of every class, and digits."""
    size = model.SIDE, model.SIDE

    def rows(images: np.ndarray, labels: np.ndarray, columns: int) -> np.ndarray:
        some = np.zeros((10, columns, *size))
        for c in range(10):
            own = images[labels == c][:columns]
            some[c, : len(own)] = own.reshape(-1, *size)
        return some

    panels = {
        "samples": rows(images, labels, SHOWN),
        "digits": rows(split.test_x, split.test_y, SHOWN // 2),
    }
    plots.image_rows(run.workdir / "samples.png", panels, [str(c) for c in range(10)])


if __name__ == "__main__":
    entry.main(main)
