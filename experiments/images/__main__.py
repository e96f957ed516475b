"""Train one energy F(x, y) of images that classifies, generates and detects outliers.

    python -m experiments.images --data=mnist --outliers=notmnist --quick --workdir=runs/mnist
    python -m experiments.images --data=my_folder --workdir=runs/mine
    python -m experiments.images --init_from=runs/mine --steps=2000 --workdir=runs/longer
    python -m experiments.images --sample_from=runs/mine --samples=20 --workdir=runs/more

A joint energy over images x and classes y is trained by the sum of two objectives: a loss over the
classes given the image (``--loss``), and one that models (image, class) (``--generative``).
``--generative`` selects the second objective. ``--generative=pcd``, the default for small images,
is maximum likelihood with persistent Langevin chains; each chain has a class and starts from noise.
``--generative=energy_matching``, the default for large images, first trains a flow from noise to
images, whose potential is the energy. This is quick, but exp(-F) is not yet the density of the
images. Denoising score matching, trained together with the flow, makes it the density near the
data. Chains that start at images drawn by the flow then correct the energy in other regions where
it is low (``--steps``). A chain keeps its class, so the log-probabilities of the classes are
estimated after training, by annealing (``--betas``).

The trained energy has four uses. argmin_y F(x, y) classifies x. Langevin dynamics (``--sampler``)
on F(., y) draws images of class y; it starts in noise, or in images that the flow made from noise
(``--guidance`` > 0 favours images that are typical of their class). With half of x fixed, the same
dynamics completes an image. With a flow, the energy is also trained to classify images of which a
part is noise; one class is drawn from its probabilities given the known half, and the flow and the
chains complete the image as one of this class. Without a flow, the chains complete it on F(x). The
free energy F(x) is high for out-of-distribution images.

The network is dense, or has convolutions first (``--channels``). The defaults of the flags depend
on the size of the images.

``--train_minutes`` limits the time of training, by default only with ``--quick`` and large images.
The speed is measured before the first update, and on a slow machine fewer updates are made. Their
number is kept in the work directory, so a resumed run makes the same updates.

The learning rate rises and falls over ``--steps`` updates, so runs with different ``--steps``
differ from the first update on. To train a finished run for longer, start a new run from its
weights with ``--init_from``. The learning rate then rises and falls again, over the new
``--steps``, and the chains are restarted. A lower ``--learning_rate`` changes the weights less;
another ``--seed`` draws other batches than the first run.
"""

from absl import flags

from experiments.images import flags as image_flags
from experiments.run import command_line, entry, errors, work_directory

flags.adopt_module_key_flags(image_flags)
FLAGS = flags.FLAGS

command_line.parse(__name__, image_flags.help_text)  # before JAX is imported, which takes seconds

from pathlib import Path
from typing import Any

import numpy as np

from experiments.data import image_sets, splits
from experiments.images import pipeline, report
from experiments.images.settings import Settings, absolute, settle

# Flags that determine the shapes or the meaning of the weights.
FIXED = ("data", "hold_out_class", "hidden", "channels", "precision", "generative", "data_noise")


def read_flags() -> dict[str, Any]:
    """Return the values of the flags; --init_from and --sample_from set those not given."""
    values = {name: FLAGS[name].value for name in Settings._fields}
    source = FLAGS.sample_from or FLAGS.init_from
    return values | adopted(source) if source else values


def adopted(source: str) -> dict[str, Any]:
    """Return the values of a finished run for the flags not given.

    Raises errors.UsageError if a flag is given that the weights of the run do not fit.
    """
    folder, values = Path(source), {}
    texts = work_directory.flags_of(folder)
    if not (folder / "summary.json").exists():
        raise errors.UsageError(
            f"{source} holds an unfinished run: run its command again until it ends."
        )
    for name in texts.keys() & set(Settings._fields) - {"init_from", "sample_from", "seed"}:
        flag, text = FLAGS[name], texts[name]
        value = flag.parser.parse(text)
        if not flag.present:
            values[name] = value
        elif name in FIXED and flag.value not in (value, text) and absolute(flag.value) != value:
            raise errors.UsageError(
                f"{flag.serialize()}, but the weights of {source} were trained with {text}: leave "
                "the flag out."
            )
    return values


def outlier_sets(
    outliers: list[str], shape: tuple[int, ...], data_dir: str | None
) -> dict[str, np.ndarray]:
    """Return the user's outliers by name; raise an error for a name that is already used."""
    found = {}
    for which in outliers:
        name = image_sets.name_of(which)
        if name in found or name in (*splits.OUTLIERS, *report.SHOWN):
            raise errors.UsageError(
                f"--outliers={which}: the name {name} is already used; rename the file or folder."
            )
        found[name] = image_sets.outliers(which, shape, data_dir)
    return found


def main() -> None:
    """Train, draw samples, evaluate and report; or draw more samples of a run."""
    values = read_flags()
    data_dir = values["data_dir"]
    images = image_sets.load(values["data"], data_dir)
    images, unseen = image_sets.hold_out(images, values["hold_out_class"])
    if values["sample_from"]:
        settings = settle(values, images.shape, mesh=FLAGS.mesh)
        pipeline.draw_more(entry.start(settings._asdict()), settings, images)
        return
    unseen |= outlier_sets(values["outliers"], images.shape, data_dir)
    settings = settle(values, images.shape, mesh=FLAGS.mesh)
    pipeline.train_and_report(entry.start(settings._asdict()), settings, images, unseen)


if __name__ == "__main__":
    entry.main(main)
