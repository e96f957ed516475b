r"""How strongly does each loss change the energies, and how good are the classifiers?

Claims, with E+ the energy of the right answer, E- that of the wrong one and the force -d loss /
dE: the hinge and the log loss depend on E+ - E- alone, the simple and the square-square loss push
E+ below one level and E- above another. The log loss is a smooth hinge: its force decays
exponentially but is never zero, that of the hinge is zero beyond its margin. The force of
square-square grows with the violation and vanishes at its target, that of the simple loss is
constant: a wrong label pulls harder on square-square.

    python -m experiments.questions.loss_gallery --workdir=runs/loss_gallery
"""

from absl import flags

from experiments import names
from experiments.run import command_line, entry

flags.DEFINE_multi_enum(
    "losses", names.LOSSES, names.LOSSES, "Loss to train with; repeat the flag for several losses."
)
flags.DEFINE_integer("steps", 400, "Updates of every classifier.", lower_bound=1)
flags.DEFINE_integer("seeds", 4, "Classifiers per loss, trained together.", lower_bound=2)
command_line.define_float("mislabelled", 0.1, "Share of wrong labels.", 0, 1)
command_line.define_float("margin", 1.0, "Margin of the losses with a margin.", 0)
command_line.define_float("hard_margin", 10.0, "A second, larger margin for these losses.", 0)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ebm_jax import jit, losses, objectives
from ebm_jax.energies import networks
from ebm_jax.losses import gradients
from ebm_jax.losses.margins import margin_condition
from ebm_jax.types import Objective
from experiments import evaluation, losses_by_name, plots
from experiments.data import minibatches, splits
from experiments.run import loop
from experiments.run.claims import Claim

COLUMNS = 4
LEAST_ACCURACY = 0.75  # left end of the axis of accuracies
network = networks.JointMLP((64,), 10)


def pairwise(name: str, margin: float):
    """Return any loss of the table as a function of (E+, E-): the only two answers there are."""
    over_candidates = losses_by_name.named(name, margin)

    @jit
    def loss(right, wrong):
        both = jnp.stack(jnp.broadcast_arrays(right, wrong), axis=-1)
        return over_candidates(both, jnp.zeros(both.shape[:-1], jnp.int32))

    return loss


def forces() -> dict[str, float]:
    """Return the force on E+ of four losses at growing distances past or before their goal."""
    found = {}
    for name in ("hinge", "log"):
        derivative = gradients.of(getattr(losses, name))
        for difference in (1, 2, 5, 10, 20):
            force = derivative(0.0, float(difference))[0]
            found[f"{name}_force_at_difference_{difference}"] = force
    for name in ("simple", "square_square"):
        derivative = gradients.of(getattr(losses, name))
        for e in (0.1, 1, 10):
            found[f"{name}_force_at_{e}"] = derivative(float(e), 9.0)[0]
    return {name: float(force) for name, force in found.items()}


def together(objective: Objective) -> Objective:
    """Return the sum of an objective over rows of parameters and of the batch: all its trainings.

    Adam moves every number by itself, so that each is trained as if it were alone.
    """

    def loss(params, state, batch, key):
        values, (_, metrics) = jax.vmap(objective.loss, (0, None, 0, None))(params, (), batch, key)
        return jnp.sum(values), (state, jax.tree.map(jnp.mean, metrics))

    return Objective(lambda params, key: (), loss)


def train(
    run, title: str, loss, split: splits.Split, labels: np.ndarray, seeds: np.ndarray, steps: int
) -> np.ndarray:
    """Train a classifier for every row of labels and its seed; return their energies of the test.

    Rows of one seed have the same start and the same order of examples.
    """
    init_keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 0))(seeds)
    params = jax.vmap(network.init, (0, None))(init_keys, split.train_x[0])
    rows = [
        minibatches.batches((split.train_x, y), batch_size=64, seed=int(seed))
        for y, seed in zip(labels, seeds, strict=True)
    ]

    def batch(t: int):
        return jax.tree.map(lambda *leaves: np.stack(leaves), *(row(t) for row in rows))

    objective = together(objectives.discriminative(network.apply, loss))
    key = jax.random.fold_in(jax.random.key(seeds[0]), 1)
    options = {"steps": steps, "learning_rate": 3e-3, "decay": False}
    params, _ = loop.fit(run, title, objective, params, batch, key, **options)
    predict = jax.vmap(jax.vmap(network.apply, (None, 0)), (0, None))
    return np.asarray(predict(params, split.test_x))


def mislabel(labels: np.ndarray, share: float, copies: int, seed: int) -> np.ndarray:
    """Return copies of the labels (copies, n), a share of each moved to another digit."""
    rng = np.random.default_rng(seed)
    tiled = np.tile(labels, (copies, 1))
    moved = (tiled + rng.integers(1, 10, tiled.shape)) % 10
    return np.where(rng.random(tiled.shape) < share, moved, tiled)


def measure(energies: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return accuracy and calibration of every seed, and the margin that each digit reaches."""
    right = np.take_along_axis(energies, labels[None, :, None], axis=2)[..., 0]
    others = np.where(np.arange(10) == labels[:, None], np.inf, energies).min(axis=2)
    calibrations = [evaluation.calibration(e, labels) for e in energies]
    return {
        "accuracy": (energies.argmin(2) == labels).mean(1),
        "ece": np.array([found["ece"] for found in calibrations]),
        "ece_calibrated": np.array([found["ece_calibrated"] for found in calibrations]),
        "margin_reached": others - right,
    }


def settings(names, margin: float, hard_margin: float) -> dict[str, tuple[str, float]]:
    """Return title -> (loss, margin): every loss, and those with a margin at the hard one too."""
    soft = {name: (name, margin) for name in names}
    return soft | {
        f"{name}, hard margin": (name, hard_margin)
        for name in names
        if name in losses_by_name.WITH_MARGIN
    }


def compare(
    run, chosen: dict[str, tuple[str, float]], *, steps: int, seeds: np.ndarray, mislabelled: float
) -> dict[str, dict[str, np.ndarray]]:
    """Train with every loss on right labels and on noisy ones; return their measures."""
    split, rows = splits.digits(), {}
    clean = np.tile(split.train_y, (len(seeds), 1))
    noisy = mislabel(split.train_y, mislabelled, len(seeds), int(seeds[0]))
    labels = np.concatenate([clean, noisy]).astype(np.int32)
    for title, (name, margin) in chosen.items():
        loss = losses_by_name.named(name, margin)
        found = train(run, title, loss, split, labels, np.tile(seeds, 2), steps)
        row, bad = (measure(part, split.test_y) for part in np.split(found, 2))
        rows[title] = row | {f"{key}_noisy": value for key, value in bad.items()}
    return rows


def surface(axis, name: str, loss, margin: float) -> None:
    """Draw a loss over (E+, E-), where -gradient points, the line E+ = E- and the margin."""
    fine, coarse = np.linspace(-2, 3, 81), np.linspace(-1.75, 2.75, 9)
    right, wrong = np.meshgrid(fine, fine)
    axis.contourf(right, wrong, np.minimum(loss(right, wrong), 8), 24, cmap="Blues")
    right, wrong = (jnp.asarray(a) for a in np.meshgrid(coarse, coarse))
    down, up = jit(jax.grad(lambda a, b: loss(a, b).sum(), (0, 1)))(right, wrong)
    size = np.maximum(np.hypot(down, up), 1e-9)
    shown = np.tanh(size) / size
    axis.quiver(right, wrong, -down * shown, -up * shown, color="#dd6b20", scale=12, width=0.008)
    axis.plot(fine, fine, color="black", linewidth=0.8)
    if 0 < margin < np.inf:
        axis.plot(fine, fine + margin, "--", color="black", linewidth=0.8)
    label = {0: "no margin", np.inf: "any margin"}.get(margin, f"margin {margin:g}")
    axis.set(title=f"{name}\n{label}")
    axis.set(xlim=(-2, 3), ylim=(-2, 3), xticks=[0], yticks=[0], aspect="equal")


def surfaces(figure, table: dict[str, tuple]) -> None:
    """Draw every loss of the table, name -> (loss, margin), and the forces of four losses."""
    rows = len(table) // COLUMNS + 1  # with a place for the forces
    axes = figure.subplots(rows, COLUMNS).ravel()
    for axis, (name, (loss, margin)) in zip(axes, table.items(), strict=False):
        surface(axis, name, loss, margin)
    for number, axis in enumerate(axes[: len(table)]):
        below = number + COLUMNS >= len(table) + 1  # the panel of the forces is the last
        axis.set(xlabel="E+" if below else "", ylabel="" if number % COLUMNS else "E−")
    force_curves(axes[len(table)])
    for axis in axes[len(table) + 1 :]:
        axis.set_axis_off()
    figure.suptitle(
        "Each loss over the energies of the right answer (E+) and the wrong one (E−), dark: high\n"
        "Arrows: −gradient. Solid line: E− = E+. Dashed line: E− = E+ + margin."
    )


def force_curves(axis) -> None:
    """Draw the force on E+ of four losses."""
    violation = jnp.linspace(-6, 3, 200)
    for name, style in (("hinge", "-"), ("log", "-"), ("simple", "--"), ("square_square", "--")):
        force = gradients.of(getattr(losses, name))(violation, 0.0 * violation)[0]
        axis.plot(violation, force, style, label=name)
    axis.set(xlabel="E+ (E− = 0)", title="Force on E+", xlim=(-13, 3), ylim=(-0.1, 4))
    axis.legend(loc="upper left")


def accuracy_intervals(axis, rows: dict) -> None:
    """Draw the accuracy of every loss with and without wrong labels, and its 95 % interval."""
    place = np.arange(len(rows))
    for shift, key in ((-0.15, "accuracy"), (0.15, "accuracy_noisy")):
        values = [row[key] for row in rows.values()]
        means = [v.mean() for v in values]
        widths = [1.96 * v.std(ddof=1) / np.sqrt(len(v)) for v in values]
        label = "with wrong labels" if shift > 0 else "right labels only"
        axis.errorbar(means, place + shift, xerr=widths, fmt="o", ms=4, label=label)
        for row, mean in zip(place, means, strict=True):
            if mean < LEAST_ACCURACY:
                axis.annotate(f"← {mean:.2f}", (LEAST_ACCURACY, row + 2.5 * shift), va="center")
    axis.set_yticks(place, list(rows))
    axis.set(title="Test accuracy, 95 % intervals", xlim=(LEAST_ACCURACY, 1))
    axis.invert_yaxis()
    axis.legend(loc="upper center", bbox_to_anchor=(0.3, -0.08))


def margin_boxes(axis, rows: dict) -> None:
    """Draw the energy of the best wrong answer minus that of the right one."""
    margins = [row["margin_reached"].ravel() for row in rows.values()]
    axis.boxplot(margins, orientation="horizontal", showfliers=False, whis=(5, 95))
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xticks([-100, -10, -1, 0, 1, 10], ["−100", "−10", "−1", "0", "1", "10"])
    axis.set_yticks(np.arange(len(rows)) + 1, [])
    axis.set(title="Margin reached, E− − E+, of test digits", xlabel="whiskers: 5 % to 95 %")
    axis.invert_yaxis()


def figure(path, table: dict[str, tuple], rows: dict) -> None:
    """Draw the surfaces, the forces, accuracy with and without wrong labels, and the margins."""
    drawing = plt.figure(figsize=(plots.WIDTH, 11.6))
    top, bottom = drawing.subfigures(2, 1, squeeze=False, height_ratios=(1.85, 1))[:, 0]
    surfaces(top, table)
    left, right = bottom.subplots(1, 2)
    accuracy_intervals(left, rows)
    margin_boxes(right, rows)
    plots.save(drawing, path)


def shifted(loss) -> float:
    """Return how much a loss changes at most when both energies rise by 3."""
    energies = np.linspace(-2, 2, 9, dtype=np.float32)
    right, wrong = np.meshgrid(energies, energies)
    return float(np.abs(loss(right + 3, wrong + 3) - loss(right, wrong)).max())


def claim(
    table: dict[str, tuple], force: dict, rows: dict, margin: float
) -> dict[str, bool | Claim]:
    """Return whether each claim holds, for the losses that were trained."""
    without = {name for name, (_, found) in table.items() if found == 0}
    accuracy = {name: row["accuracy"].mean() for name, row in rows.items() if name in table}
    decay = force["log_force_at_difference_20"] / force["log_force_at_difference_10"]
    moved = {name: shifted(table[name][0]) for name in ("hinge", "log", "simple")}
    others = [value for name, value in accuracy.items() if name != "energy"]
    return {
        "hinge_and_log_see_only_the_difference": Claim(
            max(moved["hinge"], moved["log"]), "<", 1e-5, "change when both energies rise by 3"
        ),
        "simple_depends_on_each_energy": Claim(
            moved["simple"], ">", 1e-5, "change when both energies rise by 3"
        ),
        "the_force_of_the_hinge_ends_at_its_margin": Claim(
            force["hinge_force_at_difference_2"], "==", 0, "force at twice the margin"
        ),
        "the_force_of_the_log_loss_decays_exponentially": Claim(
            abs(decay * np.exp(10) - 1), "<", 0.01, "relative error of the factor exp(-10)"
        ),
        "the_force_of_simple_is_constant": Claim(
            max(abs(force[f"simple_force_at_{e}"] - 1) for e in (0.1, 1, 10)),
            "==",
            0,
            "largest difference of the force from 1",
        ),
        "the_force_of_square_square_grows": Claim(
            force["square_square_force_at_10"], "==", 20, "force at a violation of 10"
        ),
        "energy_perceptron_and_lvq2_guarantee_no_positive_margin": (
            without == {"energy", "perceptron", "lvq2"}
        ),
        "a_loss_with_a_margin_guarantees_the_margin_set": Claim(
            max(abs(table[name][1] - margin) for name in losses_by_name.WITH_MARGIN),
            "==",
            0,
            "largest difference from --margin",
        ),
        "the_energy_loss_learns_nothing": Claim(
            accuracy.get("energy", 0), "<", 0.2, "mean accuracy"
        ),
        "every_other_loss_classifies_with_correct_labels": Claim(
            min(others, default=1), ">", 0.9, "smallest mean accuracy"
        ),
    }


def main() -> None:
    """Check the margins and the forces, then train with every loss."""
    run = entry.start()
    seeds = FLAGS.seed + np.arange(FLAGS.seeds)
    pairs = {name: pairwise(name, FLAGS.margin) for name in losses_by_name.NAMES}
    table = {name: (loss, margin_condition(loss).margin) for name, loss in pairs.items()}
    chosen = settings(FLAGS.losses, FLAGS.margin, FLAGS.hard_margin)
    rows = compare(run, chosen, steps=FLAGS.steps, seeds=seeds, mislabelled=FLAGS.mislabelled)
    figure(run.workdir / "loss_gallery.png", table, rows)
    force = forces()
    measured = {f"margin_{n}": m if m < np.inf else "any" for n, (_, m) in table.items()} | force
    for title, row in rows.items():
        short = title.replace(", ", "_").replace(" ", "_")
        measured |= {f"{short}_{key}": round(float(v.mean()), 4) for key, v in row.items()}
    run.finish(measured, claim(table, force, rows, FLAGS.margin))


if __name__ == "__main__":
    entry.main(main)
