r"""How close does an objective bring an energy to a density in the plane?

    python -m experiments.density2d --dataset=2spirals --objective=pcd --workdir=runs/e

The energy is a network plus |x|^2 / 18. The network takes the sines and cosines of both
coordinates. The energy is defined on a square that contains the density, and Z is computed by a sum
over a fine grid of the square. The test NLL, the Kullback-Leibler divergence from the true density
and the total variation distance are therefore exact for every objective. ``--objective=exact`` is
maximum likelihood, with a coarser grid during training.

``--objective=denoising_levels`` trains an energy with the noise level as an input, and measures it
at the lowest level: ``kl_lowest_level`` compares it with the density to which this noise was added.
It also estimates log Z by annealing along the noise levels, with an interval.
"""

from typing import Any

from absl import flags

from experiments import names
from experiments.run import command_line, entry

flags.DEFINE_enum("dataset", "2spirals", names.DENSITIES, "Density to learn.")
flags.DEFINE_enum(
    "objective", "pcd", (*names.CONTINUOUS, "denoising_levels"), "Training objective to minimise."
)
flags.DEFINE_multi_string("option", [], "Option of the objective, as name=value; may be repeated.")
flags.DEFINE_integer(
    "steps", None, "Updates; if unset 1500, or 6000 for denoising_levels.", lower_bound=1
)
flags.DEFINE_integer(
    "hidden",
    None,
    "Width of the layers; if unset 64 (2 layers), or 128 (3 layers) for denoising_levels.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "octaves", 6, "Number of frequencies of the sines that the network takes.", lower_bound=1
)
flags.DEFINE_integer(
    "batch_size",
    None,
    "Points per update and number of chains; if unset 1024, or 512 for denoising_levels.",
    lower_bound=2,
)
flags.DEFINE_integer("num_train", 300_000, "Number of training points.", lower_bound=2)
flags.DEFINE_integer(
    "cells", 180, "Cells along each side of the grid for exact sums.", lower_bound=18
)
command_line.define_float(
    "learning_rate", None, "Initial learning rate; if unset, that of the objective.", 1e-9
)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ebm_jax.partition import estimates
from experiments import noise_levels, objectives_by_name, plots
from experiments.data import minibatches
from experiments.data.densities import DENSITIES, HALF_WIDTH
from experiments.density2d.model import FINE, Exactly, grid, make_energy
from experiments.objectives_by_name import CONTINUOUS, Problem
from experiments.run import loop

NUM_TEST = 20_000
SHOWN = 4  # times of the training that are drawn


def picture(axis, values: np.ndarray, title: str, **options) -> None:
    """Draw values on the fine grid."""
    side = round(len(values.ravel()) ** 0.5)
    image, extent = values.reshape(side, side).T, (-HALF_WIDTH, HALF_WIDTH) * 2
    axis.imshow(image, origin="lower", extent=extent, **options)
    axis.set(title=title, xticks=[], yticks=[])


def draw(path, exactly: Exactly, test: np.ndarray, history: loop.History, seed: int) -> None:
    """Write data, energy, density and samples; below, the density as it came about."""
    figure, axes = plt.subplots(2, 4, figsize=(12, 6.2))
    truth, log_q = np.exp(exactly.log_truth), exactly.seen[-1]
    shown = {"cmap": "magma", "vmin": 0, "vmax": truth.max()}
    bins = np.linspace(-HALF_WIDTH, HALF_WIDTH, 91)
    counts = np.histogram2d(*test.T, bins=(bins, bins), density=True)[0]
    picture(axes[0, 0], counts, "data", **shown)
    picture(axes[0, 1], -log_q, "energy, Z = 1", vmin=-log_q.max(), vmax=-log_q.max() + 10)
    picture(axes[0, 2], np.exp(log_q), "density", **shown)
    picture(axes[0, 3], truth, "true density", **shown)
    times = np.unique(np.linspace(0, len(exactly.seen) - 1, SHOWN).round().astype(int))[:-1]
    for axis, time in zip(axes[1], times, strict=False):
        step = history["step"][time - len(exactly.seen)]
        picture(axis, np.exp(exactly.seen[time]), f"density, update {step:.0f}", **shown)
    axes[1, 3].plot(*exactly.draws(3000, seed).T, ",", color="black")
    edge = (-HALF_WIDTH, HALF_WIDTH)
    axes[1, 3].set(title="samples", xticks=[], yticks=[], aspect="equal", xlim=edge, ylim=edge)
    plots.save(figure, path)


def main() -> None:
    """Train, measure, draw."""
    run, seed, density = entry.start(), FLAGS.seed, DENSITIES[FLAGS.dataset]
    of_levels = FLAGS.objective == noise_levels.NAME
    steps, batch_size = FLAGS.steps or (6000 if of_levels else 1500), FLAGS.batch_size
    batch_size = batch_size or (512 if of_levels else 1024)
    init_key, start_key, train_key = jax.random.split(jax.random.key(seed), 3)
    train_seed, test_seed = np.random.SeedSequence(seed).generate_state(2)
    train = density.sample(FLAGS.num_train, int(train_seed))
    test = density.sample(NUM_TEST, int(test_seed))
    if of_levels:
        table = CONTINUOUS | {noise_levels.NAME: noise_levels.ROW}
        energy, init = noise_levels.make_energy(
            train, hidden=FLAGS.hidden or 128, octaves=FLAGS.octaves
        )
    else:
        table = CONTINUOUS
        energy, init = make_energy(FLAGS.hidden or 64, FLAGS.octaves)
    problem = Problem(energy, train, *grid(FLAGS.cells), batch_size)
    objective, params = objectives_by_name.prepare(
        table, FLAGS.objective, problem, FLAGS.option, init(init_key), start_key
    )
    sigma = noise_levels.SIGMA_MIN if of_levels else None
    exactly, began = Exactly(density, energy, test, FINE, sigma=sigma), run.seconds()
    params, history = loop.fit(
        run,
        "",
        objective,
        params,
        minibatches.batches(train, batch_size=batch_size, seed=seed),
        train_key,
        steps=steps,
        learning_rate=FLAGS.learning_rate or table[FLAGS.objective].learning_rate,
        measure=exactly.measure,
    )
    trained = run.seconds() - began
    if not exactly.seen:  # a finished run was resumed: nothing was trained
        exactly.measure(params)
    draw(run.workdir / "density.png", exactly, test, history, seed)
    measured = ("test_nll", "kl", "total_variation", *(["kl_lowest_level"] if of_levels else []))
    summary = {name: float(history[name][-1]) for name in measured}
    summary |= {"optimal_nll": exactly.optimal_nll, "training_seconds": round(trained, 1)}
    if of_levels:
        summary |= annealed(exactly, energy, params, seed)
    plots.curves(run.workdir / "kl.png", "KL to the density", history["step"], {"": history["kl"]})
    run.finish(summary | exactly.mode_weights())


def annealed(exactly: Exactly, energy, params, seed: int) -> dict[str, Any]:
    """Return log Z by the grid, and by annealing along the noise levels with its bracket."""
    key, draws = jax.random.key(seed + 1), exactly.draws(2000, seed + 1).astype(np.float32)
    estimate = noise_levels.log_z(key, energy, params, jnp.asarray(draws))
    return {
        "log_z": exactly.log_z,
        "log_z_annealed": [float(estimate.log_z), float(estimate.upper.log_z)],
        "log_z_interval": estimates.hull(estimate, estimate.upper).tolist(),
        "effective_sample_size": float(estimate.effective_sample_size),
    }


if __name__ == "__main__":
    entry.main(main)
