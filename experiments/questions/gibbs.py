r"""How does P(y | x) depend on beta, and how can energies be combined without normalisation?

Claims: an energy over classes trained by NLL is a softmax classifier. P(y|x) ~ exp(-beta F(x, y))
is uniform at beta = 0 and puts all mass on one class at beta = inf; the accuracy is the same for
every beta > 0, and the calibration is best at an intermediate beta. Energies can be combined
without normalising them: a constraint is an energy of +inf, and the sum and the soft minimum of
two energies are the product ("both") and the mixture ("either") of their densities, sampled
without any new training. Only the weights of a mixture need the partition functions.

    python -m experiments.questions.gibbs --workdir=runs/gibbs
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 600, "Updates of the classifier, and of each energy.", lower_bound=2)
flags.DEFINE_integer("langevin_steps", 3000, "MALA steps of every chain.", lower_bound=1)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ebm_jax import energies, gibbs, jit, losses, objectives, samplers
from ebm_jax.energies import networks
from experiments import evaluation, plots
from experiments.data import minibatches, splits
from experiments.questions import plane
from experiments.run import loop
from experiments.run.claims import Claim

BETAS = np.concatenate([[0.0], np.geomspace(0.03, 30, 25), [np.inf]])
EXTENT, CELLS = 3.0, 60
CENTRES = {"one": [(-1.0, 0.0), (1.0, 0.0)], "other": [(0.0, 1.0), (1.0, 0.0)]}
PANELS = {  # the titles of the composed energies in the figure
    "one": "A",
    "other": "B",
    "product: both": "A and B\n(product)",
    "mixture: either": "A or B\n(mixture)",
    "constraint: x < 0": "A where x < 0\n(constraint)",
}
NEAR = {"common_centre": (1.0, 0.0), "centre_of_one": (-1.0, 0.0), "centre_of_other": (0.0, 1.0)}


def fit(run, name: str, objective, params, examples, key, *, steps: int, seed: int):
    """Train on batches of examples; return the parameters."""
    batch = minibatches.batches(examples, batch_size=128, seed=seed)
    return loop.fit(run, name, objective, params, batch, key, steps=steps, learning_rate=5e-3)[0]


def classifier(run, key, *, steps: int, seed: int) -> dict:
    """Train F(x, y) on the digits by NLL; return the energies of the test digits and of noisy ones.

    ``allowed`` marks the classes that remain when it is known whether the digit is even.
    """
    split, network = splits.digits(), networks.JointMLP((128,), 10)
    init_key, fit_key = jax.random.split(key)
    params = network.init(init_key, split.train_x[0])
    objective = objectives.discriminative(network.apply, losses.nll)
    examples = split.train_x, split.train_y
    params = fit(run, "classifier", objective, params, examples, fit_key, steps=steps, seed=seed)
    noise = np.random.default_rng(seed).normal(0, 0.5, split.test_x.shape).astype(np.float32)
    evaluate = jax.vmap(network.apply, (None, 0))
    return {
        "labels": split.test_y,
        "energies": np.asarray(evaluate(params, split.test_x)),
        "noisy": np.asarray(evaluate(params, split.test_x + noise)),
        "allowed": (np.arange(10) - split.test_y[:, None]) % 2 == 0,
    }


def by_beta(found: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return measures of P(y | x) ~ exp(-beta F(x, y)), of energies (n, 10), at every beta."""
    energies, betas = jnp.asarray(found), jnp.asarray(BETAS)
    log_ps = np.asarray(jit(jax.vmap(lambda b: gibbs.log_probs(energies, beta=b)))(betas))
    entropies = jit(jax.vmap(lambda b: gibbs.entropy(energies, beta=b)))(betas)
    return {
        "log_probs": log_ps,
        "accuracy": (log_ps.argmax(2) == labels).mean(1),
        "confidence": np.exp(log_ps.max(2)).mean(1),
        "entropy": np.asarray(entropies).mean(1),
        "ece": np.array([evaluation.calibration_error(p, labels) for p in log_ps]),
    }


def planar_energy(run, name: str, key, *, steps: int, seed: int):
    """Train an energy of the plane on a mixture of Gaussians, by exact likelihood on a grid."""
    rng, network = np.random.default_rng(seed), networks.MLP((64, 64))
    centres = np.array(CENTRES[name])
    points = centres[rng.integers(len(centres), size=4000)]
    points = (points + rng.normal(0, 0.3, points.shape)).astype(np.float32)

    def energy(params, x):
        return network.apply(params, x) + 0.1 * jnp.sum(x**2)

    states, log_volumes = plane.grid(EXTENT, CELLS)
    objective = objectives.maximum_likelihood(energy, states, log_weights=log_volumes)
    init_key, fit_key = jax.random.split(key)
    params = network.init(init_key, states[0])
    params = fit(run, name, objective, params, points, fit_key, steps=steps, seed=seed)
    return functools.partial(energy, params)


def sample(energy, key, *, num_steps: int) -> np.ndarray:
    """Return samples of exp(-E) in the square, by MALA from a uniform start."""
    start_key, run_key = jax.random.split(key)
    start = jax.random.uniform(start_key, (1000, 2), minval=-EXTENT, maxval=EXTENT)
    kernel = samplers.mala(energy, step_size=0.05, bounds=(-EXTENT, EXTENT))

    @jit
    def run_chains(key, start):
        return samplers.run(key, kernel, kernel.init(start), num_steps)[0]

    state = run_chains(run_key, start)
    # A chain that began where the energy is infinite may not have left.
    return np.asarray(state.position)[np.isfinite(state.energy)]


def distance(surface: np.ndarray, points: np.ndarray) -> float:
    """Return the total variation over 6 x 6 cells between samples and the exact distribution."""
    mass = np.asarray(gibbs.probs(surface)).reshape(6, CELLS // 6, 6, CELLS // 6).sum((1, 3))
    edges = np.linspace(-EXTENT, EXTENT, 7)
    counts = np.histogram2d(points[:, 0], points[:, 1], (edges, edges))[0] / len(points)
    return float(0.5 * np.abs(counts - mass).sum())


def compose(one, other, key, *, num_steps: int) -> dict:
    """Sample two energies, their product, their mixture and one with a constraint."""
    states, _ = plane.grid(EXTENT, CELLS)
    # The weights of a mixture need the two log Z: the energies alone do not determine them.
    log_z = [gibbs.log_partition(jit(jax.vmap(energy))(states)) for energy in (one, other)]

    def left_half(x):
        return jnp.where(x[0] < 0, one(x), jnp.inf)

    composed = {
        "one": one,
        "other": other,
        "product: both": energies.product(one, other),
        "mixture: either": energies.mixture(one, other, log_weights=-jnp.stack(log_z)),
        "constraint: x < 0": left_half,
    }
    found = {}
    for (name, energy), own in zip(
        composed.items(), jax.random.split(key, len(composed)), strict=True
    ):
        surface = np.asarray(jit(jax.vmap(energy))(states))
        points = sample(energy, own, num_steps=num_steps)
        found[name] = {"surface": surface, "points": points, "distance": distance(surface, points)}
        for where, centre in NEAR.items():
            near = np.linalg.norm(points - centre, axis=1) < 0.75
            found[name][f"share_at_{where}"] = float(near.mean())
    return found


def figure(path, energies: np.ndarray, rows: dict, composed: dict) -> None:
    """Draw P(y | x) and the calibration over beta, and the composed energies with samples."""
    drawing = plt.figure(figsize=(plots.WIDTH, 4.6))
    top, bottom = drawing.subfigures(2, 1, squeeze=False)[:, 0]
    left, middle, right = top.subplots(1, 3)
    finite = np.isfinite(BETAS) & (BETAS > 0)
    unsure = int(np.argmax(gibbs.entropy(energies)))
    p = np.exp(rows["log_probs"][finite, unsure])
    for label in np.flatnonzero(p.max(0) > 0.12):
        left.plot(BETAS[finite], p[:, label], label=f"digit {label}")
    left.set(ylabel="P(y | x)", ylim=(-0.02, 1.05))
    left.legend(loc="upper left")
    for name in ("confidence", "accuracy"):
        middle.plot(BETAS[finite], rows[name][finite], label=name)
    middle.set_ylim(0, 1.05)
    middle.legend(loc="lower right")
    right.plot(BETAS[finite], rows["ece"][finite])
    titles = "Least certain test digit", "Mean over the test digits", "Calibration error (ECE)"
    for axis, title in zip((left, middle, right), titles, strict=True):
        axis.set(xscale="log", xlabel="inverse temperature β", title=title)
        axis.set_xticks([0.1, 1, 10], ["0.1", "1", "10"])
    bottom.suptitle("Densities exp(−E)/Z (blue) and samples of them (orange)")
    for axis, (name, row) in zip(bottom.subplots(1, 5), composed.items(), strict=True):
        extent = (-EXTENT, EXTENT, -EXTENT, EXTENT)
        density = np.exp(row["surface"].min() - row["surface"]).reshape(CELLS, CELLS).T
        axis.imshow(density, origin="lower", extent=extent, cmap="Blues")
        axis.plot(*row["points"][:300].T, ".", markersize=1.2, color="#dd6b20")
        axis.set(xticks=[], yticks=[], xlim=(-2.5, 2.5), ylim=(-2.5, 2.5))
        axis.set_title(PANELS[name])
    plots.save(drawing, path)


def accuracies(digits: dict) -> dict[str, float]:
    """Return the accuracy on clean and noisy digits, with and without the parity constraint."""
    labels, allowed = digits["labels"], digits["allowed"]

    def right(found):
        return float((found.argmin(1) == labels).mean())

    return {
        "accuracy": right(digits["energies"]),
        # A constraint: the answers that are not allowed have infinite energy.
        "accuracy_told_parity": right(np.where(allowed, digits["energies"], np.inf)),
        "accuracy_noisy": right(digits["noisy"]),
        "accuracy_noisy_told_parity": right(np.where(allowed, digits["noisy"], np.inf)),
    }


def summarise(digits: dict, rows: dict, composed: dict) -> tuple[dict, dict]:
    """Return the measurements, and whether each claim holds."""
    measured = accuracies(digits) | evaluation.calibration(digits["energies"], digits["labels"])
    for name in ("confidence", "entropy"):
        measured[f"{name}_beta_0"] = float(rows[name][0])
        measured[f"{name}_beta_inf"] = float(rows[name][-1])
    for name, row in composed.items():
        short = name.split(":")[0]
        for quantity in ("distance", *(f"share_at_{where}" for where in NEAR)):
            measured[f"{short}_{quantity}"] = row[quantity]
    claims = {
        "beta_0_is_uniform": Claim(
            abs(rows["entropy"][0] - np.log(10)), "<", 1e-4, "error of the entropy log 10"
        ),
        "beta_inf_is_the_winner": Claim(
            1 - rows["confidence"][-1], "<", 1e-4, "1 - confidence at beta = inf"
        ),
        "accuracy_is_the_same_at_every_beta": Claim(
            abs(rows["accuracy"][1:] - measured["accuracy"]).max(),
            "==",
            0,
            "largest difference of the accuracies",
        ),
        # beta = 0 is calibrated too, and says nothing: the hottest that ranks the answers counts.
        "a_beta_between_0_and_inf_is_calibrated_best": Claim(
            rows["ece"][2:-1].min() / min(rows["ece"][1], rows["ece"][-1]),
            "<",
            0.7,
            "smallest calibration error / that of the ends",
        ),
        "a_constraint_raises_accuracy": Claim(
            measured["accuracy_noisy_told_parity"] - measured["accuracy_noisy"],
            ">",
            0,
            "gain in accuracy on noisy digits",
        ),
        "all_samples_satisfy_the_constraint": Claim(
            (composed["constraint: x < 0"]["points"][:, 0] >= 0).mean(),
            "==",
            0,
            "share of the samples with x >= 0",
        ),
        "the_product_is_where_both_are": Claim(
            measured["product_share_at_common_centre"], ">", 0.9, "share at the common centre"
        ),
        "the_mixture_has_half_of_each": Claim(
            abs(
                measured["mixture_share_at_centre_of_one"]
                - measured["mixture_share_at_centre_of_other"]
            ),
            "<",
            0.1,
            "difference of the shares at the centres that only one of the two has",
        ),
        "samples_agree_with_the_exact_distributions": Claim(
            max(row["distance"] for row in composed.values()), "<", 0.1, "largest total variation"
        ),
    }
    return measured, claims


def main() -> None:
    """Measure the classifier over beta, and the composed energies."""
    run, options = entry.start(), {"steps": FLAGS.steps, "seed": FLAGS.seed}
    keys = jax.random.split(jax.random.key(FLAGS.seed), 4)
    digits = classifier(run, keys[0], **options)
    rows = by_beta(digits["energies"], digits["labels"])
    one, other = (
        planar_energy(run, name, key, **options)
        for name, key in zip(CENTRES, keys[1:3], strict=True)
    )
    composed = compose(one, other, keys[3], num_steps=FLAGS.langevin_steps)
    figure(run.workdir / "gibbs.png", digits["energies"], rows, composed)
    run.finish(*summarise(digits, rows, composed))


if __name__ == "__main__":
    entry.main(main)
