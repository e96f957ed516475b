"""Three ways to shape an energy: push down, limit the latent variable, contrast.

The question: how do the energies differ that pushing down alone, a regularised latent variable and
contrast learn from the same data, two spirals?

The claims: the network trained by pushing down alone is flat: its standard deviation over the
plane is below 1 % of that after contrast. The low-energy volume is the share of the plane with an
energy below the 95th percentile of held-out data. With a sparse code, and with contrast (log loss
on the lowest of 16 wrong answers), it is less than 0.7 times that of pushing down. The sparse code
needs no wrong answers, but its energy stays low between the arms, because a few of its wide
features reconstruct points there; contrast raises the energy there.

    python -m experiments.questions.three_ways --workdir=runs/three_ways

The plane includes the data, so the AUROC of held-out data against it cannot be 1.
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 600, "Updates of the networks.", lower_bound=1)
flags.DEFINE_integer("code_steps", 150, "Updates of the sparse code.", lower_bound=1)
command_line.define_float("sparsity", 0.01, "Weight of the L1 prior on the code.", 0)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import jax
import matplotlib.pyplot as plt
import numpy as np

from ebm_jax import objectives
from experiments import evaluation, plots
from experiments.data import minibatches, toy_points
from experiments.questions import plane
from experiments.run import loop
from experiments.run.claims import Claim


def train(
    run, points, positives, key, *, seed: int, steps: int, code_steps: int, sparsity: float
) -> dict[str, tuple]:
    """Return (energies of points, parameters) trained in each of the three ways."""
    init_key, push_key, code_key, contrast_key = jax.random.split(key, 4)
    params = plane.init(plane.NETWORK, init_key)
    network, code = plane.evaluator(plane.positive_energy), plane.evaluator(plane.sparse_energy)
    objective = objectives.push_down(plane.positive_energy)
    batch = minibatches.batches(positives, batch_size=256, seed=seed)
    pushed, _ = loop.fit(run, "push down", objective, params, batch, push_key, steps=steps)
    coded = plane.fit_code(
        run, "sparse code", positives, sparsity, code_key, steps=code_steps, seed=seed
    )
    objective, wrong = plane.contrast("log"), plane.far_from(points, positives, 0.2)
    candidates = plane.against(positives, wrong, 16, seed)
    batch = minibatches.batches(candidates, batch_size=128, seed=seed)
    contrasted, _ = loop.fit(run, "contrast", objective, params, batch, contrast_key, steps=steps)
    return {
        "push down": (network, pushed),
        "sparse code": (code, coded),
        "contrast": (network, contrasted),
    }


def draw(path, found, held_out, least: float):
    """Draw the surfaces with data on them, and below them histograms of the energies."""
    figure, axes = plt.subplots(2, 3, figsize=(plots.WIDTH, 5.4), height_ratios=[1.6, 1])
    # The first and the last are energies of the same network: they share a colour scale.
    shared = plane.limits(found["push down"][0], found["contrast"][0])
    for (above, below), (name, (on_plane, on_data, scores)) in zip(
        axes.T, found.items(), strict=True
    ):
        title = f"{name}: volume {scores['volume']:.2f}"
        scale = None if name == "sparse code" else shared
        image = plane.surface(above, on_plane, title, scale=scale)
        figure.colorbar(image, ax=above, location="bottom", label="energy", shrink=0.9)
        above.plot(*held_out[:150].T, ".", color="white", ms=1.5)
        top = max(float(np.quantile(on_plane, 0.98)), 0.05)
        bins = np.linspace(0, top, 40)
        for label, values in (("the plane", on_plane), ("held-out data", on_data)):
            weights = np.full(len(values), 1 / len(values))
            clipped = np.clip(values, 0, top)
            below.hist(clipped, bins, weights=weights, alpha=0.6, label=label)
        below.set(xlabel="energy", ylabel="share of points" if below is axes[1, 0] else "")
        below.set_title(f"AUROC {scores['auroc']:.3f}")
    figure.suptitle(
        f"Energies of the plane, dark: low; white: held-out data; least possible volume {least:.2f}"
    )
    handles, names = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    plots.save(figure, path)


def main() -> None:
    """Answer the question."""
    run, seed = entry.start(), FLAGS.seed
    positives, held_out = toy_points.two_spirals(2000, seed), toy_points.two_spirals(1000, seed + 1)
    points, _ = plane.grid()
    trained = train(
        run,
        points,
        positives,
        jax.random.key(seed),
        seed=seed,
        steps=FLAGS.steps,
        code_steps=FLAGS.code_steps,
        sparsity=FLAGS.sparsity,
    )
    found = {}
    for name, (energy, params) in trained.items():
        on_plane, on_data = energy(params, points), energy(params, held_out)
        scores = {
            "volume": plane.volume(on_plane, on_data),
            "auroc": evaluation.auroc(on_data, on_plane),
            "energy_held_out": float(on_data.mean()),
            "energy_plane": float(on_plane.mean()),
            "std_plane": float(on_plane.std()),
        }
        found[name] = (on_plane, on_data, scores)
    least = plane.least_volume(toy_points.two_spirals(1_000_000, seed + 2))
    draw(run.workdir / "three_ways.png", found, held_out, least)
    scores = {name: values[2] for name, values in found.items()}
    pushed, coded, contrasted = scores.values()
    rounded = {n: {k: round(v, 5) for k, v in s.items()} for n, s in scores.items()}
    claims = {
        "pushing_down_is_flat": Claim(
            pushed["std_plane"] / contrasted["std_plane"],
            "<",
            0.05,
            "standard deviation of the energy / with contrast",
        ),
        "pushing_down_does_not_escape": Claim(
            pushed["volume"] / least, ">", plane.ESCAPED, "volume / least possible"
        ),
        "sparse_code_escapes": Claim(
            coded["volume"] / least, "<", plane.ESCAPED, "volume / least possible"
        ),
        "contrast_escapes": Claim(
            contrasted["volume"] / least, "<", plane.ESCAPED, "volume / least possible"
        ),
    }
    run.finish({"least_volume": least} | rounded, claims)


if __name__ == "__main__":
    entry.main(main)
