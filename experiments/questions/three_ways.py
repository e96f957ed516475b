"""Three ways to shape an energy: push down, limit the latent variable, contrast.

The question: how do the energy surfaces differ that pushing down alone, a regularised latent
variable and contrast make of the same data, two spirals?

The claim: pushing down alone makes the same network flat (its standard deviation over the plane is
below 1 % of what contrast gives it); a sparse code and contrast (log loss, the most offending of
16 wrong answers) leave less than 0.7 times its volume of low energy, the share of the plane as low
as 95 % of held-out data. The sparse code needs no wrong answers, but the gap between the arms,
which a few of its wide features can explain, stays low; contrast raises it.

    python -m experiments.questions.three_ways --workdir=runs/three_ways

Expected (seed 0, 2026-11-23, 25 s of processor time), where the data need a volume of 0.22:

    |             | volume | AUROC | energy held out | energy of the plane | its deviation |
    | push down   | 0.48   | 0.753 | 0.00001         | 0.0009              | 0.0042        |
    | sparse code | 0.27   | 0.894 | 0.013           | 0.105               | 0.113         |
    | contrast    | 0.23   | 0.890 | 2.24            | 8.05                | 3.71          |

The plane holds the data too, so that the AUROC of held-out data against it cannot be 1.
"""

import matplotlib.pyplot as plt
import numpy as np
from absl import flags

from experiments import data, evaluation, plots, runs
from experiments.questions import plane

flags.DEFINE_integer("steps", 600, "Updates of the networks.", lower_bound=1)
flags.DEFINE_integer("code_steps", 150, "Updates of the sparse code.", lower_bound=1)
flags.DEFINE_float("sparsity", 0.01, "Weight of the L1 prior on the code.", lower_bound=0.0)
FLAGS = flags.FLAGS


def train(run, points, positives) -> dict[str, tuple]:
    """Return (energies of points, parameters) trained in each of the three ways."""
    params = plane.init(plane.NETWORK, FLAGS.seed)
    wrong = plane.far_from(points, positives, 0.2)
    network, code = plane.evaluator(plane.positive_energy), plane.evaluator(plane.sparse_energy)
    pushed, _ = plane.fit(
        run,
        "push down",
        plane.push_down(plane.positive_energy),
        params,
        (positives,),
        steps=FLAGS.steps,
    )
    coded = plane.fit_code(run, "sparse code", positives, FLAGS.sparsity, FLAGS.code_steps)
    contrasted, _ = plane.fit(
        run,
        "contrast",
        plane.contrast("log"),
        params,
        plane.against(positives, wrong, 16, FLAGS.seed),
        steps=FLAGS.steps,
        batch_size=128,
    )
    return {
        "push down": (network, pushed),
        "sparse code": (code, coded),
        "contrast": (network, contrasted),
    }


def draw(path, found, held_out, least: float):
    """Write the surfaces with data on them, and below them who has which energy."""
    figure, axes = plt.subplots(2, 3, figsize=(10, 6), height_ratios=[1.6, 1])
    for (above, below), (name, (on_plane, on_data, scores)) in zip(
        axes.T, found.items(), strict=True
    ):
        title = f"{name}: volume {scores['volume']:.2f} (least {least:.2f})"
        image = plane.surface(above, on_plane, title)
        figure.colorbar(image, ax=above, shrink=0.8)
        above.plot(*held_out[:150].T, ".", color="white", ms=1.5)
        top = max(float(np.quantile(on_plane, 0.98)), 0.05)
        bins = np.linspace(0, top, 40)
        for label, values in (("the plane", on_plane), ("held-out data", on_data)):
            weights = np.full(len(values), 1 / len(values))
            clipped = np.clip(values, 0, top)
            below.hist(clipped, bins, weights=weights, alpha=0.6, label=label)
        below.set(xlabel="energy", ylabel="share" if below is axes[1, 0] else "")
        below.set_title(f"AUROC {scores['auroc']:.3f}", fontsize=9)
    axes[1, 0].legend()
    plots.save(figure, path)


def three_ways() -> None:
    """Answer the question."""
    run = runs.Run()
    positives, held_out = data.two_spirals(2000, FLAGS.seed), data.two_spirals(1000, FLAGS.seed + 1)
    points, _ = plane.grid()
    found = {}
    for name, (energy, params) in train(run, points, positives).items():
        on_plane, on_data = energy(params, points), energy(params, held_out)
        scores = {
            "volume": plane.volume(on_plane, on_data),
            "auroc": evaluation.auroc(on_data, on_plane),
            "energy_held_out": float(on_data.mean()),
            "energy_plane": float(on_plane.mean()),
            "std_plane": float(on_plane.std()),
        }
        found[name] = (on_plane, on_data, scores)
    least = plane.least_volume(data.two_spirals(1_000_000, FLAGS.seed + 2))
    draw(run.workdir / "three_ways.png", found, held_out, least)
    scores = {name: values[2] for name, values in found.items()}
    pushed, coded, contrasted = scores.values()
    run.finish(
        {
            "least_volume": least,
            **{n: {k: round(v, 5) for k, v in s.items()} for n, s in scores.items()},
            "pushing_down_is_flat": pushed["std_plane"] < 0.01 * contrasted["std_plane"],
            "sparse_code_escapes": coded["volume"] < 0.7 * pushed["volume"],
            "contrast_escapes": contrasted["volume"] < 0.7 * pushed["volume"],
        }
    )


if __name__ == "__main__":
    runs.main(three_ways)
