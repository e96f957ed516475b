"""Why does an energy trained on right answers alone collapse, and what prevents it?

The question: the energy loss only pushes down the energy of the data. Why does an energy trained
with it become flat, and which methods prevent that?

The claims: on two spirals, a non-negative energy trained on positives alone becomes flat: its range
between the 10th and the 90th percentile over the plane falls at least 20-fold. Its low-energy
volume, the share of the plane with an energy below the 95th percentile of held-out data, is more
than 1.5 times the least possible. It is below 1.5 times with
* contrast with wrong answers, by every loss of LeCun et al. (2006) with a positive margin; the
  perceptron and LVQ2, whose margin is 0, are satisfied by an almost flat energy;
* maximum likelihood, which pushes up everywhere in proportion to exp(-E);
* limited information in z: the sparse code has its smallest volume at an intermediate weight of
  the L1 prior; with a lower weight it reconstructs every point, with a higher one no point.
Limited capacity is not enough: few centres, one line (PCA 1) and the whole plane (PCA 2) have more
than 1.5 times the least volume; 64 centres follow the spirals.
A wrong answer is a point farther than 0.2 from all training data. The volume depends only on the
order of the energies: the flat energy keeps some order, at 1/300 of the height of the hinge's.

    python -m experiments.questions.collapse --workdir=runs/collapse
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 400, "Updates of every network.", lower_bound=1)
flags.DEFINE_integer("code_steps", 80, "Updates of every sparse code.", lower_bound=1)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from sklearn.cluster import KMeans

from ebm_jax import objectives
from ebm_jax.energies.networks import JointMLP
from experiments import losses_by_name, plots
from experiments.data import minibatches, toy_points
from experiments.questions import plane
from experiments.run import loop
from experiments.run.claims import Claim

NO_MARGIN = ("energy", "perceptron", "lvq2")
CONTRASTS = (*losses_by_name.NAMES, "likelihood")
CENTRES = (1, 4, 16, 64, 256)
SMALL = ("k-means 1", "k-means 4", "k-means 16", "PCA 0", "PCA 1", "PCA 2")
WIDTHS = (0, 1, 2)
SPARSITIES = (0.001, 0.01, 0.1, 0.3, 0.6, 1.0)


def contrastive(run, train, record, key, *, steps: int, seed: int):
    """Train one network by every loss of the table, and by the exact likelihood."""
    energy = plane.positive_energy
    evaluate = plane.evaluator(energy)
    points, log_volumes = plane.grid()
    # A point is wrong where no training point is near. Every right answer gets 16 of them.
    candidates = plane.against(train, plane.far_from(points, train, 0.2), 16, seed)
    init_key, *keys = jax.random.split(key, 1 + len(CONTRASTS))
    params = plane.init(plane.NETWORK, init_key)

    def spread(fitted):
        low, high = np.quantile(evaluate(fitted, points), [0.1, 0.9])
        return {"spread": float(high - low)}

    spreads = {}
    for name, fit_key in zip(CONTRASTS, keys, strict=True):
        if name == "likelihood":
            examples = train
            objective = objectives.maximum_likelihood(energy, points, log_weights=log_volumes)
        else:
            examples, objective = candidates, plane.contrast(name)
        batch = minibatches.batches(examples, batch_size=128, seed=seed)
        fitted, history = loop.fit(
            run, name, objective, params, batch, fit_key, steps=steps, measure=spread
        )
        spreads[name] = np.append(spread(params)["spread"], history["spread"])
        updates = np.append(0, history["step"])
        record(name, lambda y, fitted=fitted: evaluate(fitted, y))
    return updates, spreads


def without_training(train, record, seed: int):
    """Fit energies that are low in few places only: k centres, or principal components."""
    for k in CENTRES:
        centres = KMeans(k, random_state=seed).fit(train).cluster_centers_
        record(
            f"k-means {k}",
            lambda y, c=centres: ((y[:, None] - c) ** 2).sum(-1).min(1).astype(np.float32),
        )
    mean = train.mean(0)
    axes = np.linalg.svd(train - mean, full_matrices=False)[2]
    for rank in WIDTHS:
        kept = axes[:rank].T @ axes[:rank]
        # The rounding of a perfect reconstruction is not an energy.
        record(
            f"PCA {rank}",
            lambda y, kept=kept: ((y - mean - (y - mean) @ kept) ** 2).sum(1).round(6),
        )


def bottlenecks(run, train, record, key, *, steps: int, seed: int):
    """Train autoencoders with a narrow layer, whose energy is the reconstruction error."""
    batch = minibatches.batches(train, batch_size=256, seed=seed)
    for width, width_key in zip(WIDTHS[1:], jax.random.split(key, len(WIDTHS) - 1), strict=True):
        encoder, decoder = (JointMLP((64, 64), n, jnp.sin) for n in (width, 2))

        def energy(params, y, encoder=encoder, decoder=decoder):
            return ((y - decoder.apply(params[1], encoder.apply(params[0], y))) ** 2).sum()

        encoder_key, decoder_key, fit_key = jax.random.split(width_key, 3)
        params = plane.init(encoder, encoder_key), plane.init(decoder, decoder_key, width)
        name, objective = f"bottleneck {width}", objectives.push_down(energy)
        fitted, _ = loop.fit(run, name, objective, params, batch, fit_key, steps=steps)
        record(name, lambda y, e=energy, fitted=fitted: plane.evaluator(e)(fitted, y))


def sparse_codes(run, train, record, key, *, steps: int, seed: int):
    """Train a sparse code for every weight of its L1 prior."""
    evaluate = plane.evaluator(plane.sparse_energy)
    for sparsity, fit_key in zip(SPARSITIES, jax.random.split(key, len(SPARSITIES)), strict=True):
        name = f"sparse {sparsity:g}"
        fitted = plane.fit_code(run, name, train, sparsity, fit_key, steps=steps, seed=seed)
        record(name, lambda y, fitted=fitted: evaluate(fitted, y).round(6))


def draw(path, surfaces, volumes, least, updates, spreads):
    """Draw eight energies of the plane, and the low-energy volume of every method."""
    figure = plt.figure(figsize=(plots.WIDTH, 9.6))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(1.0, 1.35))[:, 0]
    best = min((n for n in volumes if n.startswith("sparse")), key=volumes.get)
    titles = {
        "energy": "positives only",
        "hinge": "hinge loss",
        "log": "log loss",
        "likelihood": "likelihood",
        "k-means 64": "k-means, 64 centres",
        "PCA 1": "PCA, 1 direction",
        "bottleneck 1": "bottleneck, width 1",
        best: f"sparse code, λ = {best.split()[1]}",
    }
    # Energies of the same unit share a colour scale: of the network, squared distances, the code.
    scales = [plane.limits(*(surfaces[n] for n in list(titles)[:4]))] * 4
    scales += [plane.limits(*(surfaces[n] for n in list(titles)[4:7]))] * 3
    scales += [plane.limits(surfaces[best])]
    axes = top.subplots(2, 4).ravel()
    images = [
        plane.surface(axis, surfaces[name], f"{title}\nvolume {volumes[name]:.2f}", scale=scale)
        for axis, (name, title), scale in zip(axes, titles.items(), scales, strict=True)
    ]
    top.colorbar(images[0], ax=axes[3], label="energy, top row")
    top.colorbar(images[4], ax=axes[6], label="squared distance")
    top.colorbar(images[7], ax=axes[7], label="energy of the code")
    ((spread_axis, contrast_axis), (capacity_axis, code_axis)) = bottom.subplots(2, 2)
    names = ("energy", "perceptron", "lvq2", "hinge", "likelihood")
    lines = [spread_axis.semilogy(updates, spreads[name])[0] for name in names]
    spread_axis.set(
        xlabel="update",
        ylabel="10th to 90th percentile of E",
        title="Range of the energy over the plane",
        ylim=(3e-4, None),
    )
    shown_names = ["positives only" if name == "energy" else name for name in names]
    plots.label_ends(spread_axis, lines, shown_names)
    volume_bars(
        contrast_axis,
        {n: volumes[n] for n in CONTRASTS},
        "By loss (orange: the margin is 0)",
    )
    capacity = {
        n: v for n, v in volumes.items() if n.split()[0] in ("k-means", "PCA", "bottleneck")
    }
    volume_bars(capacity_axis, capacity, "By capacity")
    code_axis.semilogx(SPARSITIES, [volumes[f"sparse {s:g}"] for s in SPARSITIES], "o-")
    code_axis.set(
        xlabel="λ, the weight of the L1 prior",
        ylabel="low-energy volume",
        ylim=(0, 1.05),
        title="By the sparsity of the code",
    )
    code_axis.axhline(least, color="0.4", linestyle="--", linewidth=1)
    code_axis.text(SPARSITIES[0], least - 0.07, "least possible", color="0.3", fontsize=8)
    for axis in (contrast_axis, capacity_axis):
        axis.axvline(least, color="0.4", linestyle="--", linewidth=1)
    plots.save(figure, path)


def volume_bars(axis, volumes: dict[str, float], title: str) -> None:
    """Draw the low-energy volume of each method as a horizontal bar with its value."""
    colors = ["C1" if name in NO_MARGIN else "C0" for name in volumes]
    bars = axis.barh(list(volumes), list(volumes.values()), color=colors, height=0.7)
    axis.bar_label(bars, fmt="%.2f", padding=2, fontsize=8)
    axis.invert_yaxis()
    axis.set(title=title, xlim=(0, 1.15), xlabel="volume (dashed: least possible)")


def summarise(volumes, spreads, least: float) -> tuple[dict, dict]:
    """Return the measurements, and whether each claim holds."""
    start, end = (float(spreads["energy"][at]) for at in (0, -1))
    code = [volumes[f"sparse {s:g}"] for s in SPARSITIES]
    margin = [name for name in CONTRASTS if name not in (*NO_MARGIN, "likelihood")]
    measured = {
        "spread_start": start,
        "spread_energy_loss": end,
        "volumes": {n: round(v, 3) for n, v in volumes.items()},
        "best_sparsity": SPARSITIES[int(np.argmin(code))],
    }
    claims = {
        "positives_only_is_flat": Claim(end / start, "<", 0.05, "range of the energy, end / start"),
        "losses_with_a_margin_escape": Claim(
            max(volumes[n] for n in margin) / least,
            "<",
            plane.ESCAPED,
            "largest volume / least possible",
        ),
        "losses_without_a_margin_do_not_escape": Claim(
            min(volumes[n] for n in NO_MARGIN) / least,
            ">",
            plane.ESCAPED,
            "smallest volume / least possible",
        ),
        "likelihood_escapes": Claim(
            volumes["likelihood"] / least, "<", plane.ESCAPED, "volume / least possible"
        ),
        "small_models_do_not_escape": Claim(
            min(volumes[n] for n in SMALL if n in volumes) / least,
            ">",
            plane.ESCAPED,
            "smallest volume of k-means with up to 16 centres and of PCA / least possible",
        ),
        "sparsity_has_an_optimum": Claim(
            min(code[0], code[-1]) / min(code), ">", 1.25, "volume at the ends / smallest"
        ),
    }
    return measured, claims


def main() -> None:
    """Answer the question."""
    run, seed, steps = entry.start(), FLAGS.seed, FLAGS.steps
    train, held_out = toy_points.two_spirals(2000, seed), toy_points.two_spirals(1000, seed + 1)
    points, _ = plane.grid()
    surfaces, volumes = {}, {}

    def record(name, energy):
        surfaces[name] = energy(points)
        volumes[name] = plane.volume(surfaces[name], energy(held_out))

    keys = jax.random.split(jax.random.key(seed), 3)
    updates, spreads = contrastive(run, train, record, keys[0], steps=steps, seed=seed)
    without_training(train, record, seed)
    bottlenecks(run, train, record, keys[1], steps=2 * steps, seed=seed)
    sparse_codes(run, train, record, keys[2], steps=FLAGS.code_steps, seed=seed)
    least = plane.least_volume(toy_points.two_spirals(1_000_000, seed + 2))
    draw(run.workdir / "collapse.png", surfaces, volumes, least, updates, spreads)
    measured, claims = summarise(volumes, spreads, least)
    run.finish({"least_volume": least} | measured, claims)


if __name__ == "__main__":
    entry.main(main)
