"""Can separately learned concepts of images be combined: this digit, with thick strokes?

The question: one energy is trained on digits with their class, a second on digits with the
thickness of their strokes, neither of them on both labels. Do samples of the composed energy show
the digit that was asked for, with the strokes that were asked for?

The claim: both are right almost as often as for test digits of that class and those strokes, by at
most 0.1 less, as judged by classifiers that were trained on other digits. The product
p(x | class) p(x | strokes) has what all digits share twice. Divided by p(x), a third energy, it is
p(x | class, strokes), if class and strokes are independent given x.

    python -m experiments.questions.composed_digits --workdir=runs/composed_digits

Thickness is the ink of a digit divided by its total variation. Within each class the third with the
lowest thickness is thin, the third with the highest thick; the strokes' energy sees no other
digits. The samples follow the noise levels down, with and without MALA at each level.
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 2000, "Updates of each energy.", lower_bound=1)
flags.DEFINE_integer("samples", 50, "Samples of each of the 20 pairs of concepts.", lower_bound=1)
flags.DEFINE_integer("num_levels", 50, "Noise levels of the samples.", lower_bound=2)
flags.DEFINE_integer("chain_steps", 3, "Steps of MALA at each level.", lower_bound=1)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ebm_jax.types import Key, Params
from experiments import evaluation, plots
from experiments.data import splits
from experiments.noised_digits import model
from experiments.noised_digits.model import Model
from experiments.run import work_directory
from experiments.run.claims import Claim

NUM_JUDGES = 500  # digits that train the classifiers, which no energy sees
THIN, THICK, BETWEEN = 0, 1, 2
SHOWN = 8  # samples of a pair of concepts in the figure, with half as many test digits
WEIGHTS = {"product": (1.0, 1.0, 0.0), "divided": (1.0, 1.0, -1.0)}  # class, strokes, all digits
MARGIN = 0.1  # by which the shares of samples may be below those of test digits


def thickness(images: np.ndarray) -> np.ndarray:
    """Return the ink of images (n, 64) per unit of total variation, in pixels."""
    padded = np.pad(images.reshape(-1, model.SIDE, model.SIDE), ((0, 0), (1, 1), (1, 1)))
    variation = sum(np.abs(np.diff(padded, axis=axis)).sum((1, 2)) for axis in (1, 2))
    return padded.sum((1, 2)) / np.maximum(variation, 1e-9)


def strokes(images: np.ndarray, labels: np.ndarray, thirds: np.ndarray) -> np.ndarray:
    """Return THIN, THICK or BETWEEN for images, by the bounds (classes, 2) of the thirds."""
    values = thickness(images)
    low, high = thirds[labels].T
    return np.where(values <= low, THIN, np.where(values >= high, THICK, BETWEEN))


def outer(images: np.ndarray, labels: np.ndarray, thirds: np.ndarray) -> tuple:
    """Return the thin and the thick images, their classes and their strokes."""
    kinds = strokes(images, labels, thirds)
    kept = kinds != BETWEEN
    return images[kept], labels[kept], kinds[kept].astype(np.int32)


def train(run: work_directory.Run, name: str, data: tuple, key: Key) -> tuple[Model, Params]:
    """Return an energy of images given a label, and its parameters."""
    x, y = data
    made = model.make_model(x, y)
    batch = model.batches(x, y, batch_size=128, seed=FLAGS.seed, augmented=0.0)
    return made, model.train(run, name, made, batch, key, steps=FLAGS.steps)


def composed(models: list[Model], weights: tuple[float, ...]) -> Any:
    """Return energy(params of all, {"x", "y": (class, strokes, 0)}, sigma), a weighted sum."""

    def energy(params: tuple, position: dict, sigma) -> jax.Array:
        parts = [
            weight * made.energy(own, position | {"y": position["y"][i]}, sigma)
            for i, (made, own, weight) in enumerate(zip(models, params, weights, strict=True))
            if weight
        ]
        return sum(parts[1:], parts[0])

    return energy


def share_right(judges: tuple, images: np.ndarray, wanted: np.ndarray) -> dict[str, float]:
    """Return the shares of images whose class, whose strokes, and both, the judges confirm."""
    right = [judge(images) == labels for judge, labels in zip(judges, wanted.T, strict=False)]
    return {
        "class": float(right[0].mean()),
        "strokes": float(right[1].mean()),
        "both": float((right[0] & right[1]).mean()),
    }


def main() -> None:
    """Answer the question."""
    run, whole = entry.start(), splits.digits()
    split = splits.stratified(whole.train_x, whole.train_y, NUM_JUDGES)
    x, y = split.train_x, split.train_y
    values = thickness(x)
    thirds = np.stack([np.quantile(values[y == c], [1 / 3, 2 / 3]) for c in range(10)])
    outer_x, _, kinds = outer(x, y, thirds)
    judged_x, _, judged_kinds = outer(split.test_x, split.test_y, thirds)
    judges = (
        evaluation.judge(split.test_x, split.test_y)[0],
        evaluation.judge(judged_x, judged_kinds)[0],
    )
    keys = jax.random.split(jax.random.key(FLAGS.seed), 5)
    data = {"class": (x, y), "strokes": (outer_x, kinds), "all digits": (x, np.zeros_like(y))}
    trained = [train(run, name, data[name], key) for name, key in zip(data, keys, strict=False)]
    models, params = [made for made, _ in trained], tuple(own for _, own in trained)
    pairs = np.array([(c, kind, 0) for c in range(10) for kind in (THIN, THICK)], np.int32)
    wanted = np.repeat(pairs, FLAGS.samples, 0)
    summary: dict[str, Any] = {"samples": len(wanted)}
    pictured = {}
    for (name, weights), key in zip(WEIGHTS.items(), keys[3:], strict=True):
        energy = composed(models, weights)
        for num_steps, suffix in ((FLAGS.chain_steps, ""), (0, "_without_mcmc")):
            images, _ = model.sample(
                key,
                energy,
                params,
                jnp.asarray(wanted),
                num_levels=FLAGS.num_levels,
                num_steps=num_steps,
                copies=sum(weights),
            )
            found = share_right(judges, np.asarray(images), wanted)
            summary |= {f"{name}_{part}{suffix}": share for part, share in found.items()}
            if not suffix:
                pictured[name] = np.asarray(images)
    test = outer(whole.test_x, whole.test_y, thirds)
    found = share_right(judges, test[0], np.stack(test[1:], 1))
    summary |= {f"test_{part}": share for part, share in found.items()}
    draw(run, pictured, test)
    what = "share of test digits minus share of samples"
    claims = {
        f"{name}_shows_both_concepts": Claim(
            summary["test_both"] - summary[f"{name}_both"], "<=", MARGIN, what
        )
        for name in WEIGHTS
    }
    run.finish(summary, claims)


def draw(run: work_directory.Run, images: dict[str, np.ndarray], test: tuple) -> None:
    """Write samples of every pair of concepts, and test digits of the same pairs."""
    size, (test_x, test_y, test_kinds) = (model.SIDE, model.SIDE), test
    widths = [SHOWN] * len(images) + [SHOWN // 2]
    figure, axes = plt.subplots(2, len(widths), figsize=(plots.WIDTH, 7.4), width_ratios=widths)
    for row, kind, called in zip(axes, (THIN, THICK), ("thin", "thick"), strict=True):
        real = np.zeros((10, SHOWN // 2, *size))
        for c in range(10):
            some = test_x[(test_y == c) & (test_kinds == kind)][: SHOWN // 2]
            real[c, : len(some)] = some.reshape(-1, *size)
        panels = {
            f"{called}, {name}: samples": drawn.reshape(10, 2, -1, *size)[:, kind, :SHOWN]
            for name, drawn in images.items()
        }
        panels[f"{called}: test digits"] = real
        for axis, (title, shown) in zip(row, panels.items(), strict=True):
            plots.show_rows(axis, title, shown, [str(c) for c in range(10)])
    plots.save(figure, run.workdir / "composed_digits.png")


if __name__ == "__main__":
    entry.main(main)
