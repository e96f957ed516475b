r"""What can an energy say that a normalised model cannot, and what does beta do to P(y | x)?

Claim: trained by NLL, an energy over classes is a softmax classifier: P(y|x) ~ exp(-beta F(x, y))
runs from uniform (beta = 0) to the winner (beta = inf), the accuracy is that of every beta, and
the calibration is best near one beta. But an energy need not be normalised to be composed: a
constraint is an energy of +inf, and the sum and the soft minimum of two trained energies are the
product ("both") and the mixture ("either") of what they describe, sampled without any new
training; only the shares of a mixture need the partition functions.

    python -m experiments.questions.gibbs --workdir=runs/gibbs

Measured (seed 0, 2026-11-23): accuracy 0.972 at every beta, ECE 0.015 at beta 1, 0.706 for 0.583 on
noisy digits told their parity; 0.99 of the product's samples at the common centre; all samples
within 0.043 (total variation over 36 cells) of the exact distribution.
"""

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from absl import flags

from ebm_jax import energies, gibbs, jit, losses, networks, samplers, training
from ebm_jax.objectives import likelihood
from experiments import data, evaluation, plots, runs

flags.DEFINE_integer("steps", 600, "Updates of the classifier, and of each energy.", lower_bound=2)
flags.DEFINE_integer("langevin_steps", 3000, "MALA steps of every chain.", lower_bound=1)
FLAGS = flags.FLAGS

BETAS = np.concatenate([[0.0], np.geomspace(0.03, 30, 25), [np.inf]])
EXTENT, GRID = 3.0, 60
CENTRES = {"one": [(-1.0, 0.0), (1.0, 0.0)], "other": [(0.0, 1.0), (1.0, 0.0)]}


def train(run, objective, params, arrays):
    """Train on batches of arrays; return the parameters."""
    key = jax.random.key(FLAGS.seed)
    schedule = optax.cosine_decay_schedule(5e-3, FLAGS.steps)
    trainer = training.trainer(objective, optax.adam(schedule))
    state = trainer.init(params, key)
    options = {"batch_size": 128, "num_steps": FLAGS.steps, "group": FLAGS.steps // 2}
    for group in data.batches(arrays, seed=FLAGS.seed, **options):
        state, metrics = trainer.update(state, group, key)
        training.raise_if_diverged(metrics)
        run.log(int(state.step), {"loss": float(metrics["loss_total"].mean())})
    return state.params


def classifier(run) -> dict:
    """Train F(x, y) on the digits by NLL; measure P(y | x) at every beta."""
    split, network = data.digits(), networks.JointMLP((128,), 10)
    params = network.init(jax.random.key(FLAGS.seed), split.train_x[0])
    objective = likelihood.discriminative(network.apply, losses.nll)
    params = train(run, objective, params, (split.train_x, split.train_y))
    found = np.asarray(jax.vmap(network.apply, (None, 0))(params, split.test_x))
    log_ps = [np.asarray(gibbs.log_probs(found, beta=beta)) for beta in BETAS]
    rows = {
        "accuracy": [(p.argmax(1) == split.test_y).mean() for p in log_ps],
        "confidence": [np.exp(p.max(1)).mean() for p in log_ps],
        "entropy": [gibbs.entropy(found, beta=beta).mean() for beta in BETAS],
        "ece": [evaluation.calibration_error(p, split.test_y) for p in log_ps],
    }
    # A constraint: told whether the digit is even, the answers of the other kind are forbidden.
    parity = (np.arange(10) - split.test_y[:, None]) % 2 == 0
    told = np.where(parity, found, np.inf)
    noise = np.random.default_rng(FLAGS.seed).normal(0, 0.5, split.test_x.shape)
    noisy = np.asarray(jax.vmap(network.apply, (None, 0))(params, split.test_x + noise))
    noisy_told = np.where(parity, noisy, np.inf)
    return {
        "energies": found,
        "rows": {name: np.array(values) for name, values in rows.items()},
        "calibration": evaluation.calibration(found, split.test_y),
        "accuracy_told_parity": float((told.argmin(1) == split.test_y).mean()),
        "accuracy_noisy": float((noisy.argmin(1) == split.test_y).mean()),
        "accuracy_noisy_told_parity": float((noisy_told.argmin(1) == split.test_y).mean()),
    }


def grid() -> np.ndarray:
    """Return the centres of the cells of a square grid, (GRID^2, 2)."""
    side = (np.arange(GRID) + 0.5) / GRID * 2 * EXTENT - EXTENT
    return np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2).astype(np.float32)


def planar_energy(run, centres, states):
    """Train an energy of the plane on a mixture of Gaussians, by exact likelihood on a grid."""
    rng, network = np.random.default_rng(FLAGS.seed), networks.MLP((64, 64))
    points = np.array(centres)[rng.integers(len(centres), size=4000)]
    points = (points + rng.normal(0, 0.3, points.shape)).astype(np.float32)

    def energy(params, x):
        return network.apply(params, x) + 0.1 * jnp.sum(x**2)

    cell = np.log((2 * EXTENT / GRID) ** 2)
    objective = likelihood.maximum_likelihood(
        energy, states, log_weights=jnp.full(len(states), cell)
    )
    wrapped = objective._replace(loss=lambda p, s, batch, key: objective.loss(p, s, batch[0], key))
    params = train(run, wrapped, network.init(jax.random.key(FLAGS.seed), states[0]), (points,))
    return functools.partial(energy, params)


def sample(energy):
    """Return samples of exp(-E) in the square, by MALA from a uniform start."""
    start_key, key = jax.random.split(jax.random.key(FLAGS.seed))
    start = jax.random.uniform(start_key, (1000, 2), minval=-EXTENT, maxval=EXTENT)
    kernel = samplers.langevin.mala(energy, step_size=0.05, box=(-EXTENT, EXTENT))
    run_chains = jit(
        lambda k, x: samplers.chains.run(k, kernel, kernel.init(x), FLAGS.langevin_steps)
    )
    return np.asarray(run_chains(key, start)[0].position)


def compose(run) -> dict:
    """Train two energies; sample them, their product, their mixture and one with a constraint."""
    states = grid()
    one, other = (planar_energy(run, centres, states) for centres in CENTRES.values())
    # Nothing in an energy says how much of a mixture it is: that takes the two log Z.
    surfaces = [np.asarray(jax.vmap(energy)(states)) for energy in (one, other)]
    shares = jnp.stack([-gibbs.log_partition(surface) for surface in surfaces])

    def left_half(x):
        return jnp.where(x[0] < 0, one(x), jnp.inf)

    found = {}
    for name, energy in {
        "one": one,
        "other": other,
        "product: both": energies.product(one, other),
        "mixture: either": energies.mixture(one, other, log_weights=shares),
        "constraint: x < 0": left_half,
    }.items():
        surface = np.asarray(jax.vmap(energy)(states))
        points = sample(energy)
        points = points[np.isfinite(jax.vmap(energy)(points))]
        mass = np.asarray(gibbs.probs(jnp.asarray(surface))).reshape(6, 10, 6, 10).sum((1, 3))
        edges = np.linspace(-EXTENT, EXTENT, 7)
        counts = np.histogram2d(points[:, 1], points[:, 0], (edges, edges))[0] / len(points)
        near = np.linalg.norm(points - np.array([1.0, 0.0]), axis=1) < 0.75
        found[name] = {
            "surface": surface.reshape(GRID, GRID),
            "points": points,
            "distance": float(0.5 * np.abs(counts - mass).sum()),  # total variation over 36 cells
            "share_at_common_centre": float(near.mean()),
        }
    return found


def figure(path, digits: dict, composed: dict) -> None:
    """Draw P(y | x) and the calibration over beta, and the composed energies with samples."""
    drawing = plt.figure(figsize=(11, 5.6))
    top, bottom = drawing.subfigures(2, 1)
    left, middle, right = top.subplots(1, 3)
    finite = np.isfinite(BETAS) & (BETAS > 0)
    unsure = int(np.argmax(gibbs.entropy(digits["energies"])))
    p = np.array([gibbs.probs(digits["energies"][unsure], beta=b) for b in BETAS[finite]])
    left.plot(BETAS[finite], p[:, p.max(0) > 0.12], linewidth=1.3)
    for name in ("confidence", "accuracy"):
        middle.plot(BETAS[finite], digits["rows"][name][finite], label=name)
    middle.legend(frameon=False, fontsize=8)
    right.plot(BETAS[finite], digits["rows"]["ece"][finite])
    titles = "P(y | x) of the least certain digit", "mean confidence", "calibration error (ECE)"
    for axis, title in zip((left, middle, right), titles, strict=True):
        axis.set(xscale="log", xlabel="beta")
        axis.set_title(title, fontsize=10)
    for axis, (name, row) in zip(bottom.subplots(1, 5), composed.items(), strict=True):
        extent = (-EXTENT, EXTENT, -EXTENT, EXTENT)
        density = np.exp(row["surface"].min() - row["surface"])
        axis.imshow(density, origin="lower", extent=extent, cmap="Blues")
        axis.plot(*row["points"][:300].T, ".", markersize=1.5, color="#dd6b20")
        axis.set(xticks=[], yticks=[], xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
        axis.set_title(name, fontsize=10)
    plots.save(drawing, path)


def program() -> None:
    """Measure the classifier over beta, and the composed energies."""
    run = runs.Run()
    digits, composed = classifier(run), compose(run)
    figure(run.workdir / "gibbs.png", digits, composed)
    rows = digits["rows"]
    summary = {name: digits[name] for name in digits if name.startswith("accuracy")}
    summary |= digits["calibration"] | {"accuracy": float(rows["accuracy"][-1])}
    for name in ("confidence", "entropy"):
        summary[f"{name}_beta_0"] = float(rows[name][0])
        summary[f"{name}_beta_inf"] = float(rows[name][-1])
    for name, row in composed.items():
        short = name.split(":")[0]
        for measured in ("distance", "share_at_common_centre"):
            summary[f"{short}_{measured}"] = row[measured]
    run.finish(summary)


if __name__ == "__main__":
    runs.main(program)
