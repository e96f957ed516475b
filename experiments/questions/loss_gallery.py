r"""What does each loss pull on, how hard, and what does that do to a classifier?

Claim: seen over the plane (E+, E-), hinge and log look at E+ - E- alone, simple and square-square
pull each to a level. Log is a smooth hinge that never stops pushing: its force decays
exponentially, the hinge's is zero past its margin. Square-square's force grows with the violation
and fades near its target, simple's is constant: a wrong label pulls harder on square-square.

    python -m experiments.questions.loss_gallery --workdir=runs/loss_gallery

Measured (seed 0, 2026-11-23): log's force is 0.007 at a gap of 5, hinge's 0. Accuracy, right/wrong
labels: energy 0.10, 0.12; hinge 0.962, 0.951; simple 0.967, 0.952; square-square 0.969, 0.949
(hard margin 0.950, 0.936); nll 0.966, 0.958: the intervals of the four seeds overlap.
"""

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from absl import flags

from ebm_jax import gradients, jit, losses, networks, training
from ebm_jax.losses.margins import margin_condition
from ebm_jax.objectives import likelihood
from experiments import data, evaluation, plots, runs

WITH_MARGIN = ("hinge", "simple", "square_square")
ALL = (*losses.PAIRWISE, *losses.CANDIDATES)

flags.DEFINE_multi_enum("losses", ALL, ALL, "The losses that train, one flag each.")
flags.DEFINE_integer("steps", 400, "Updates of every classifier.", lower_bound=1)
flags.DEFINE_integer("seeds", 4, "Classifiers of every loss, trained together.", lower_bound=2)
flags.DEFINE_float("mislabelled", 0.1, "Share of wrong labels.", lower_bound=0, upper_bound=1)
flags.DEFINE_float("margin", 1.0, "Margin of the losses that have one.", lower_bound=0)
flags.DEFINE_float("hard_margin", 10.0, "The larger margin they are compared at.", lower_bound=0)
FLAGS = flags.FLAGS

network = networks.JointMLP((64,), 10)


def over_candidates(name: str, margin: float):
    """Return any loss of the table as a function of the energies of all answers."""
    options = {"margin": margin} if name in WITH_MARGIN else {}
    loss = functools.partial(getattr(losses, name), **options)
    if name in losses.CANDIDATES:
        return loss
    return lambda energies, label: loss(*losses.most_offending(energies, label))


def pairwise(name: str):
    """Return any loss of the table as a function of (E+, E-): the only two answers there are."""

    def loss(right, wrong):
        both = jnp.stack(jnp.broadcast_arrays(right, wrong), axis=-1)
        return over_candidates(name, FLAGS.margin)(both, jnp.zeros(both.shape[:-1], jnp.int32))

    return loss


def forces() -> dict[str, float]:
    """Return the force on E+ of four losses at growing distances past or before their goal."""
    found = {}
    for name in ("hinge", "log"):
        for gap in (1, 2, 5, 10, 20):
            found[f"{name}_force_at_gap_{gap}"] = getattr(gradients, name)(0.0, float(gap))[0]
    for name in ("simple", "square_square"):
        for e in (0.1, 1, 10):
            found[f"{name}_force_at_{e}"] = getattr(gradients, name)(float(e), 9.0)[0]
    return {name: float(force) for name, force in found.items()}


def train(name: str, margin: float, split: data.Split, labels: np.ndarray) -> np.ndarray:
    """Train a classifier for every seed and row of labels; return their energies of the test."""
    objective = likelihood.discriminative(network.apply, over_candidates(name, margin))
    trainer = training.trainer(objective, optax.adam(3e-3))
    seeds = FLAGS.seed + np.arange(len(labels)) % FLAGS.seeds
    keys = jax.vmap(jax.random.key)(seeds)
    state = jax.vmap(lambda k: trainer.init(network.init(k, split.train_x[0]), k))(keys)
    take = functools.partial(data.batches, batch_size=64, num_steps=FLAGS.steps, group=FLAGS.steps)
    orders = [next(take((split.train_x, y), seed=k)) for k, y in zip(seeds, labels, strict=True)]
    batches = tuple(np.stack(arrays) for arrays in zip(*orders, strict=True))
    state, _ = jit(jax.vmap(trainer.update))(state, batches, keys)
    predict = jax.vmap(jax.vmap(network.apply, (None, 0)), (0, None))
    return np.asarray(predict(state.params, split.test_x))


def mislabel(labels: np.ndarray) -> np.ndarray:
    """Return the labels once for every seed, a share of them moved to another digit."""
    rng = np.random.default_rng(FLAGS.seed)
    copies = np.tile(labels, (FLAGS.seeds, 1))
    moved = (copies + rng.integers(1, 10, copies.shape)) % 10
    return np.where(rng.random(copies.shape) < FLAGS.mislabelled, moved, copies)


def measure(energies: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy and calibration of every seed, and all energy gaps."""
    right = np.take_along_axis(energies, labels[None, :, None], axis=2)[..., 0]
    others = np.where(np.arange(10) == labels[:, None], np.inf, energies).min(axis=2)
    calibrations = [evaluation.calibration(e, labels) for e in energies]
    return {
        "accuracy": (energies.argmin(2) == labels).mean(1),
        "ece": np.array([found["ece"] for found in calibrations]),
        "ece_calibrated": np.array([found["ece_calibrated"] for found in calibrations]),
        "gap": others - right,
    }


def compare(run) -> dict[str, dict[str, np.ndarray]]:
    """Train with every loss on right labels and on noisy ones, and at the hard margin."""
    split, rows = data.digits(), {}
    clean = np.tile(split.train_y, (FLAGS.seeds, 1))
    labels = np.concatenate([clean, mislabel(split.train_y)]).astype(np.int32)
    hard = [name for name in WITH_MARGIN if name in FLAGS.losses]
    chosen = [(name, FLAGS.margin, name) for name in FLAGS.losses]
    chosen += [(name, FLAGS.hard_margin, f"{name}, hard margin") for name in hard]
    for number, (name, margin, title) in enumerate(chosen):
        found = train(name, margin, split, labels)
        row, bad = (measure(part, split.test_y) for part in np.split(found, 2))
        rows[title] = row | {f"{key}_noisy": value for key, value in bad.items()}
        run.log(number, {"accuracy": float(row["accuracy"].mean())})
    return rows


def surfaces(figure, table: dict) -> None:
    """Draw every loss over (E+, E-), where -gradient points, the line E+ = E- and the margin."""
    fine, coarse, axes = np.linspace(-2, 3, 81), np.linspace(-1.75, 2.75, 9), figure.subplots(2, 6)
    for axis, (name, (_, margin)) in zip(axes.ravel(), table.items(), strict=False):
        loss = pairwise(name)
        right, wrong = np.meshgrid(fine, fine)
        axis.contourf(right, wrong, np.minimum(loss(right, wrong), 8), 24, cmap="Blues")
        right, wrong = (jnp.asarray(a) for a in np.meshgrid(coarse, coarse))
        down, up = jax.grad(lambda a, b, f=loss: f(a, b).sum(), (0, 1))(right, wrong)
        size = np.maximum(np.hypot(down, up), 1e-9)
        shown = np.tanh(size) / size
        arrows = right, wrong, -down * shown, -up * shown
        axis.quiver(*arrows, color="#dd6b20", scale=12, width=0.008)
        axis.plot(fine, fine, color="black", linewidth=0.8)
        if 0 < margin < np.inf:
            axis.plot(fine, fine + margin, "--", color="black", linewidth=0.8)
        label = {0: "none", np.inf: "any"}.get(margin, f"{margin:g}")
        axis.set_title(f"{name}, margin: {label}", fontsize=8)
        axis.set(xlim=(-2, 3), ylim=(-2, 3), xticks=[0], yticks=[0], aspect="equal")
    title = "above the line the right answer wins, above the dashed one by the margin"
    figure.suptitle(f"{title}; arrows are -gradient", fontsize=10)
    figure.supxlabel("E+", fontsize=9)
    figure.supylabel("E−", fontsize=9)
    axes[-1, -1].remove()


def figure(path, table: dict, rows: dict) -> None:
    """Draw the surfaces, the forces, accuracy with and without wrong labels, and the gaps."""
    drawing = plt.figure(figsize=(12, 8.6))
    top, bottom = drawing.subfigures(2, 1, height_ratios=(1, 1.05))
    surfaces(top, table)
    left, middle, right = bottom.subplots(1, 3, width_ratios=(1, 1.2, 1.2))
    violation = jnp.linspace(-6, 3, 200)
    for name, style in (("hinge", "-"), ("log", "-"), ("simple", "--"), ("square_square", "--")):
        force = getattr(gradients, name)(violation, 0.0 * violation)[0]
        left.plot(violation, force, style, label=name)
    left.set(xlabel="E+, where E− = 0", title="force on E+", ylim=(-0.1, 4))
    left.legend(frameon=False, fontsize=8)
    place = np.arange(len(rows))
    for shift, key in ((-0.15, "accuracy"), (0.15, "accuracy_noisy")):
        values = [row[key] for row in rows.values()]
        means = [v.mean() for v in values]
        widths = [1.96 * v.std(ddof=1) / np.sqrt(len(v)) for v in values]
        label = "noisy labels" if shift > 0 else "right labels"
        middle.errorbar(means, place + shift, xerr=widths, fmt="o", ms=4, label=label)
    middle.set_yticks(place, list(rows), fontsize=8)
    middle.set(title=f"accuracy ({next(iter(rows))}, noisy: {means[0]:.2f})", xlim=(0.75, 1))
    middle.invert_yaxis()
    middle.legend(frameon=False, fontsize=8, loc="lower left")
    gaps = [row["gap"].ravel() for row in rows.values()]
    right.boxplot(gaps, orientation="horizontal", showfliers=False, whis=(5, 95))
    right.axvline(0, color="black", linewidth=0.8)
    right.set_xscale("symlog", linthresh=1)
    right.set_yticks(place + 1, [])
    right.set_title("energy gap E− − E+ of test digits", fontsize=10)
    right.invert_yaxis()
    plots.save(drawing, path)


def program() -> None:
    """Check the margins and the forces, then train with every loss."""
    run = runs.Run()
    table = {name: margin_condition(pairwise(name)) for name in ALL}
    rows = compare(run)
    figure(run.workdir / "loss_gallery.png", table, rows)
    summary = {f"margin_{n}": m if m < np.inf else "any" for n, (_, m) in table.items()}
    summary |= forces()
    for title, row in rows.items():
        short = title.replace(", ", "_").replace(" ", "_")
        summary |= {f"{short}_{key}": round(float(v.mean()), 4) for key, v in row.items()}
    run.finish(summary)


if __name__ == "__main__":
    runs.main(program)
