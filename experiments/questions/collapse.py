"""Why does an energy trained on right answers alone collapse, and what keeps it from that?

The question: pushing down the energy of the data is all that the energy loss does. Why is that not
learning, and which four ways lead out of it?

The claim: on two spirals an energy that cannot be negative, trained on positives alone, goes flat:
its standard deviation over the plane falls at least 20-fold. The share of the plane as low in
energy as 95 % of held-out data, the volume of low energy, is then larger than after
* contrasting with wrong answers, by every loss of LeCun et al. (2006) that has a margin; the
  perceptron and LVQ2, whose margin is 0, are content with an almost flat energy;
* maximum likelihood, which pushes up everywhere in proportion to exp(-E);
* limiting capacity: 64 centres follow the spirals, one line (PCA 1) or one curve that training
  does not wind up (bottleneck 1) cannot, and the whole plane (PCA 2) is low everywhere;
* limiting the information in z: the sparse code of the plane has its least volume at one weight
  of the L1 prior; with less the code explains everything, with more nothing.
A wrong answer is a point farther than 0.2 from all training data. The volume knows only the order
of energies: the flat energy keeps some order, at 1/300 of the hinge's height.

    python -m experiments.questions.collapse --workdir=runs/collapse

Expected (seed 0, 2026-11-23, 90 s of processor time): the standard deviation falls from 0.455 to
0.0057. Volumes: energy loss 0.52, perceptron and LVQ2 0.38; losses with a margin 0.23 to 0.30;
likelihood 0.23; k-means with 64 centres 0.24, PCA 1 0.66, PCA 2 1.00, bottleneck 1 0.55 and 2 0.31;
sparse code 0.42, 0.28, 1.00 at a weight of 0.001, 0.01, 1. The data need 0.22.
"""

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import flags
from sklearn.cluster import KMeans

from ebm_jax import losses
from ebm_jax.energies.networks import JointMLP
from ebm_jax.objectives import likelihood
from experiments import data, plots, runs
from experiments.questions import plane

flags.DEFINE_integer("steps", 400, "Updates of every network.", lower_bound=1)
flags.DEFINE_integer("code_steps", 80, "Updates of every sparse code.", lower_bound=1)
FLAGS = flags.FLAGS

NO_MARGIN = ("energy", "perceptron", "lvq2")
CENTRES = (1, 4, 16, 64, 256)
WIDTHS = (0, 1, 2)
SPARSITIES = (0.001, 0.01, 0.1, 0.3, 0.6, 1.0)


def contrastive(run, train, record):
    """Train one network by every loss of the table, and by the exact likelihood."""
    energy = plane.positive_energy
    evaluate = plane.evaluator(energy)
    points, log_volumes = plane.grid()
    # A point is wrong where no training point is near. Every right answer gets 16 of them.
    wrong = plane.far_from(points, train, 0.2)
    candidates = plane.against(train, wrong, 16, FLAGS.seed)
    params = plane.init(plane.NETWORK, FLAGS.seed)

    def spread(fitted):
        return {"std": float(evaluate(fitted, points).std())}

    spreads = {}
    for name in (*losses.PAIRWISE, *losses.CANDIDATES, "likelihood"):
        if name == "likelihood":
            objective = likelihood.maximum_likelihood(energy, points, log_weights=log_volumes)
            arrays = (train,)
        else:
            objective, arrays = plane.contrast(name), candidates
        fitted, history = plane.fit(
            run, name, objective, params, arrays, steps=FLAGS.steps, batch_size=128, measure=spread
        )
        start = spread(params)["std"]
        spreads[name] = np.append(start, history["std"])
        updates = np.append(0, history["update"])
        record(name, lambda y, fitted=fitted: evaluate(fitted, y))
    return updates, spreads


def limited_capacity(run, train, record):
    """Fit what can only be low in few places: k centres, a plane's lines, a narrow network."""
    for k in CENTRES:
        centres = KMeans(k, n_init=1, random_state=FLAGS.seed).fit(train).cluster_centers_
        record(
            f"k-means {k}",
            lambda y, c=centres: ((y[:, None] - c) ** 2).sum(-1).min(1).astype(np.float32),
        )
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2]
    for rank in WIDTHS:
        kept = axes[:rank].T @ axes[:rank]
        # The rounding of a perfect reconstruction is no energy.
        record(
            f"PCA {rank}",
            lambda y, kept=kept: ((y - mean - (y - mean) @ kept) ** 2).sum(1).round(6),
        )
    for width in WIDTHS[1:]:
        encoder, decoder = (JointMLP((64, 64), n, jnp.sin) for n in (width, 2))

        def energy(params, y, encoder=encoder, decoder=decoder):
            return ((y - decoder.apply(params[1], encoder.apply(params[0], y))) ** 2).sum()

        params = plane.init(encoder, FLAGS.seed), plane.init(decoder, FLAGS.seed + 1, width)
        name = f"bottleneck {width}"
        fitted, _ = plane.fit(
            run, name, plane.push_down(energy), params, (train,), steps=2 * FLAGS.steps
        )
        record(name, lambda y, e=energy, fitted=fitted: plane.evaluator(e)(fitted, y))


def limited_information(run, train, record):
    """Train a sparse code for every weight of its L1 prior."""
    evaluate = plane.evaluator(plane.sparse_energy)
    for sparsity in SPARSITIES:
        name = f"sparse {sparsity:g}"
        fitted = plane.fit_code(run, name, train, sparsity, FLAGS.code_steps)
        record(name, lambda y, fitted=fitted: evaluate(fitted, y).round(6))


def draw(path, surfaces, volumes, least, updates, spreads):
    """Write the surfaces above, and below them what each way does to the low-energy volume."""
    figure, axes = plt.subplot_mosaic(
        [[*"abcdefgh"], [*"SSVVCCLL"]],
        figsize=(13, 5.4),
        height_ratios=[1, 1.6],
    )
    best = min((n for n in volumes if n.startswith("sparse")), key=volumes.get)
    shown = ("energy", "hinge", "log", "likelihood", "k-means 64", "PCA 1", "bottleneck 1", best)
    for letter, name in zip("abcdefgh", shown, strict=True):
        plane.surface(axes[letter], surfaces[name], f"{name}: {volumes[name]:.2f}")
    for name in ("energy", "perceptron", "lvq2", "hinge", "likelihood"):
        axes["S"].semilogy(updates, np.maximum(spreads[name], 1e-7), label=name)
    axes["S"].set(xlabel="update", ylabel="standard deviation of E over the plane")
    axes["S"].legend()
    tables = {
        "V": (*losses.PAIRWISE, *losses.CANDIDATES, "likelihood"),
        "C": tuple(n for n in volumes if n.split()[0] in ("k-means", "PCA", "bottleneck")),
    }
    for letter, names in tables.items():
        colors = ["C1" if n in NO_MARGIN else "C0" for n in names]
        axes[letter].bar(range(len(names)), [volumes[n] for n in names], color=colors, width=0.7)
        axes[letter].set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=8)
    axes["L"].semilogx(SPARSITIES, [volumes[f"sparse {s:g}"] for s in SPARSITIES], "o-")
    axes["L"].set_xlabel("weight of the L1 prior on z")
    titles = {
        "S": "Positives only: flat",
        "V": "Contrastive (orange: no margin), likelihood",
        "C": "Limited capacity",
        "L": "Limited information in z",
    }
    for letter, title in titles.items():
        axes[letter].set_title(title)
        if letter != "S":
            axes[letter].axhline(least, color="0.4", linestyle="--", linewidth=1)
            axes[letter].set(ylim=(0, 1.05), ylabel="volume of low energy" if letter == "V" else "")
    plots.save(figure, path)


def collapse() -> None:
    """Answer the question."""
    run = runs.Run()
    train, held_out = data.two_spirals(2000, FLAGS.seed), data.two_spirals(1000, FLAGS.seed + 1)
    points, _ = plane.grid()
    surfaces, volumes = {}, {}

    def record(name, energy):
        surfaces[name] = energy(points)
        volumes[name] = plane.volume(surfaces[name], energy(held_out))

    updates, spreads = contrastive(run, train, record)
    limited_capacity(run, train, record)
    limited_information(run, train, record)
    least = plane.least_volume(data.two_spirals(1_000_000, FLAGS.seed + 2))
    draw(run.workdir / "collapse.png", surfaces, volumes, least, updates, spreads)

    margin = [n for n in (*losses.PAIRWISE, *losses.CANDIDATES) if n not in NO_MARGIN]
    code = [volumes[f"sparse {s:g}"] for s in SPARSITIES]
    run.finish(
        {
            "least_volume": least,
            "std_start": float(spreads["energy"][0]),
            "std_energy_loss": float(spreads["energy"][-1]),
            "volumes": {n: round(v, 3) for n, v in volumes.items()},
            "best_sparsity": SPARSITIES[int(np.argmin(code))],
            "positives_only_is_flat": bool(spreads["energy"][-1] < 0.05 * spreads["energy"][0]),
            "losses_with_a_margin_escape": all(
                volumes[n] < min(volumes[m] for m in NO_MARGIN) for n in margin
            ),
            "likelihood_escapes": volumes["likelihood"] < 0.5 * volumes["energy"],
            "capacity_escapes": volumes["k-means 64"] < 0.5 < volumes["PCA 2"],
            "sparsity_has_an_optimum": min(code[0], code[-1]) > 1.25 * min(code),
        }
    )


if __name__ == "__main__":
    runs.main(collapse)
