"""One energy F(x, y) on images of any size that classifies, generates and spots outliers.

    python -m experiments.images --data=mnist --outliers=notmnist --quick --workdir=runs/mnist
    python -m experiments.images --data=my_folder --workdir=runs/mine
    python -m experiments.images --init_from=runs/mine --steps=2000 --workdir=runs/longer
    python -m experiments.images --sample_from=runs/mine --samples=20 --workdir=runs/more

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

The learning rate rises and falls over all of ``--steps``, so a run with more steps is another run
from its first update on. To train a finished run longer, start a new one at its weights with
``--init_from``: the learning rate rises and falls once more, over the new ``--steps``, and the
chains start anew. A lower ``--learning_rate`` keeps nearer to what was learnt; another ``--seed``
gives other batches than the first run had.
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

# Flags that the weights of a run belong to.
FIXED = ("data", "hold_out_class", "hidden", "channels", "precision", "generative", "data_noise")


def read_flags() -> dict[str, Any]:
    """Return the values of the flags, those of a finished run where it is gone on from."""
    values = {name: FLAGS[name].value for name in Settings._fields}
    source = FLAGS.sample_from or FLAGS.init_from
    return values | adopted(source) if source else values


def adopted(source: str) -> dict[str, Any]:
    """Return the values of a finished run for the flags not given; refuse another model's."""
    folder, values = Path(source), {}
    texts = work_directory.flags_of(folder)
    if not (folder / "summary.json").exists():
        raise errors.UsageError(
            f"{source} is not finished: run the same command again, to its end."
        )
    for name in texts.keys() & set(Settings._fields) - {"init_from", "sample_from", "seed"}:
        flag, text = FLAGS[name], texts[name]
        value = flag.parser.parse(text)
        if not flag.present:
            values[name] = value
        elif name in FIXED and flag.value not in (value, text) and absolute(flag.value) != value:
            raise errors.UsageError(
                f"{flag.serialize()}, but {source} has {text}, which its weights belong to: leave "
                "the flag out."
            )
    return values


def outlier_sets(
    outliers: list[str], shape: tuple[int, ...], data_dir: str | None
) -> dict[str, np.ndarray]:
    """Return the user's outliers by name; raise an error for a name that others have."""
    found = {}
    for which in outliers:
        name = image_sets.name_of(which)
        if name in found or name in (*splits.OUTLIERS, *report.SHOWN):
            raise errors.UsageError(f"--outliers={which}: there are others of the name {name}.")
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
