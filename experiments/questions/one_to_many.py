"""One x, many right y: what do a regression and an energy with a latent variable make of it?

HEAD
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import flags
from scipy.special import ive

import ebm_jax
from ebm_jax import inference
from ebm_jax.networks import JointMLP
from experiments import data, plots, runs
from experiments.questions import plane

flags.DEFINE_integer("steps", 1500, "Updates of every network.", lower_bound=1)
flags.DEFINE_integer("few", 48, "Training points of the comparison of temperatures.", lower_bound=2)
FLAGS = flags.FLAGS

BETAS = (0.01, 0.1, 1.0, 10.0, 100.0, np.inf)
NOISE = 1 / 20
REGRESSION = JointMLP((64, 64), 2)
DECODER = JointMLP((64, 64), 2)
ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False, dtype=np.float32)
FINE = np.linspace(0, 2 * np.pi, 480, endpoint=False, dtype=np.float32)


def off_manifold(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance (n,) of every y to the true ellipse of its x."""
    curves = data.ellipse(x[:, None], FINE)
    return np.linalg.norm(curves - y[:, None], axis=-1).min(1)


def decode(params, x, z):
    """Return the point of the learned curve: any curve, not an ellipse by construction."""
    return 4 * DECODER.apply(params, jnp.stack([2 * x - 1, jnp.cos(z), jnp.sin(z)]))


def energy(params, x, y, z):
    """Return E(x, y, z) = |y - g(x, z)|^2."""
    return jnp.sum((y - decode(params, x, z)) ** 2)


def warm(params, x, y, beta, angles: np.ndarray = ANGLES):
    """Return F_beta(x, y) in its mean form; beta = inf is the minimum over z."""
    return inference.marginalize_over(energy, angles, beta=beta, mean=True)(params, x, y)


def cold(params, x, y, angles: np.ndarray = FINE):
    """Return F_inf(x, y) = min_z E(x, y, z)."""
    return inference.minimize_over(energy, angles)(params, x, y)


def training_energy(params_and_beta, xy):
    """Return F_beta of a pair (x, y); training leaves beta as it is."""
    params, beta = params_and_beta
    return warm(params, *xy, jax.lax.stop_gradient(beta))


OBJECTIVE = plane.push_down(training_energy)


def fit(run, name: str, beta: float, pairs):
    """Train the energy by pushing F down on the data: z has one dimension, y has two."""
    start = plane.init(DECODER, FLAGS.seed, 3), beta
    fitted, _ = plane.fit(run, name, OBJECTIVE, start, pairs, steps=FLAGS.steps, batch_size=64)
    return fitted[0]


@ebm_jax.jit
def distances(params, x, y):
    """Return the distance (n,) of every y to the learned curve of its x."""
    return jnp.sqrt(jax.vmap(cold, (None, 0, 0))(params, x, y))


@ebm_jax.jit
def curves(params, x):
    """Return the learned curves (n, 480, 2)."""
    return jax.vmap(lambda x: jax.vmap(lambda z: decode(params, x, z))(FINE))(x)


def curves_off_manifold(params, x) -> float:
    """Return how far the learned curves run from the true ellipses, all of z, root mean square."""
    learned = np.asarray(curves(params, x)).reshape(-1, 2)
    return rms(off_manifold(np.repeat(x, len(FINE)), learned))


def rms(values) -> float:
    """Return the root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))


def regression(run, train, test) -> tuple[np.ndarray, dict[str, float]]:
    """Train a network on squared error; return its answers at three x and its distances."""

    def squared_error(params, xy):
        return jnp.sum((xy[1] - 4 * REGRESSION.apply(params, 2 * xy[0][None] - 1)) ** 2)

    objective = plane.push_down(squared_error)
    params = plane.init(REGRESSION, FLAGS.seed, 1)
    params, _ = plane.fit(run, "regression", objective, params, train, steps=FLAGS.steps)

    answers = jax.vmap(lambda x: 4 * REGRESSION.apply(params, 2 * x[None] - 1))
    y = np.asarray(answers(test[0]))
    found = {
        "regression_off_manifold": rms(off_manifold(test[0], y)),
        "regression_from_centre": rms(np.linalg.norm(y, axis=1)),
        "smallest_radius": float(
            np.linalg.norm(data.ellipse(test[0][:, None], FINE), axis=-1).min()
        ),
    }
    return np.asarray(answers(jnp.array([0.0, 0.5, 1.0]))), found


def closed_form(betas: np.ndarray) -> np.ndarray:
    """Return F_beta at the centre of the ellipse of x = 0: 3.125 - log I_0(0.875 beta) / beta."""
    log_bessel = np.log(ive(0, 0.875 * betas)) + 0.875 * betas
    return 3.125 - log_bessel / betas


def at_centre(params, betas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return F_beta(x=0, y=0) of the true ellipse and of the learned curve."""
    centre = jnp.zeros(2)

    def true(y, z):
        return jnp.sum((y - jnp.stack([2 * jnp.cos(z), 1.5 * jnp.sin(z)])) ** 2)

    def exact(beta):
        return inference.marginalize_over(true, FINE, beta=beta, mean=True)(centre)

    def learned(beta):
        return warm(params, jnp.zeros(()), centre, beta, FINE)

    both = ebm_jax.jit(lambda betas: (jax.vmap(exact)(betas), jax.vmap(learned)(betas)))
    return tuple(np.asarray(values) for values in both(jnp.asarray(betas)))


def draw(path, train, answers, params, betas, centre, scores, few, fits):
    """Write the answers, the two surfaces, the free energies, and the temperatures."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 7.4))
    (learned_at, *surfaces), (check, errors, small) = axes
    shown = np.array([0.0, 0.5, 1.0], np.float32)
    learned_at.plot(*train[1][:400].T, ".", color="0.8", ms=3, label="data, all x")
    for k, x in enumerate(shown):
        label = {"label": "learned, x = 0, 0.5, 1"} if k == 0 else {}
        learned_at.plot(*curves(params, shown)[k].T, color="C0", **label)
        label = {"label": "true ellipse"} if k == 0 else {}
        learned_at.plot(*data.ellipse(x, FINE).T, ":", color="black", lw=1, **label)
    learned_at.plot(*answers.T, "X", color="C1", label="regression")
    learned_at.set_title("Many answers, or their mean", fontsize=10)
    learned_at.set_ylim(top=24)
    learned_at.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    points, _ = plane.grid(3.5)
    kinds = {"min over z": cold, "β = 1": lambda *args: warm(*args, 1.0)}
    for axis, (title, free) in zip(surfaces, kinds.items(), strict=True):
        values = ebm_jax.jit(jax.vmap(free, (None, None, 0)))(params, jnp.zeros(()), points)
        image = plane.surface(axis, np.asarray(values), f"F at x = 0, {title}", 3.5)
        axis.plot(*data.ellipse(0.0, FINE).T, ":", color="white", lw=1)
        figure.colorbar(image, ax=axis, shrink=0.8)
    check.semilogx(betas, closed_form(betas), color="black", lw=1, label="Bessel closed form")
    check.semilogx(betas, centre[0], "o", ms=5, mfc="none", label="sum over a grid of z")
    check.semilogx(betas, centre[1], "x", ms=5, label="learned energy")
    check.set(xlabel="β", ylabel="F at the centre, x = 0")
    at = np.arange(len(BETAS))
    errors.semilogy(at, [s["train"] for s in scores.values()], "o-", label="training points")
    errors.semilogy(at, [s["held_out"] for s in scores.values()], "o-", label="held-out points")
    errors.semilogy(at, [s["off"] for s in scores.values()], "o-", label="learned curve to truth")
    errors.axhline(NOISE, color="0.5", ls="--", lw=1, label="noise")
    errors.set_xticks(at, [f"{b:g}".replace("inf", "∞") for b in BETAS])
    errors.set(xlabel="β in training", ylabel="RMS distance")
    errors.set_title(f"{len(few[0])} training points", fontsize=10)
    near = abs(few[0] - 0.5) < 0.15
    small.plot(*few[1][near].T, "k.", label="training points, x near 0.5")
    small.plot(*data.ellipse(0.5, FINE).T, ":", color="black", lw=1, label="true ellipse")
    for name, fitted in fits.items():
        small.plot(*curves(fitted, shown)[1].T, lw=1.2, label=name)
    small.set_title("Learned curves at x = 0.5", fontsize=10)
    small.set_ylim(top=13)
    small.legend(frameon=False, fontsize=8, ncols=2, loc="upper center")
    for axis in (check, errors):
        axis.legend(frameon=False, fontsize=8)
    plots.save(figure, path)


def one_to_many() -> None:
    """Answer the question."""
    run = runs.Run()
    train, test = data.ellipses(2000, FLAGS.seed), data.ellipses(1000, FLAGS.seed + 1)
    answers, summary = regression(run, train, test)
    params = fit(run, "latent", 10.0, train)
    summary |= {
        "energy_off_manifold": curves_off_manifold(params, test[0][:50]),
        "held_out_distance": rms(distances(params, *test)),
    }
    betas = np.logspace(-2, 2, 9)
    centre = at_centre(params, betas)
    summary["bessel_largest_error"] = float(abs(centre[0] - closed_form(betas)).max())
    summary["learned_largest_error"] = float(abs(centre[1] - closed_form(betas)).max())

    few = data.ellipses(FLAGS.few, FLAGS.seed + 2)
    scores, fits = {}, {}
    for beta in BETAS:
        fits[beta] = fit(run, f"few points, beta {beta:g}", beta, few)
        scores[beta] = {
            "train": rms(distances(fits[beta], *few)),
            "held_out": rms(distances(fits[beta], *test)),
            "off": curves_off_manifold(fits[beta], test[0][:50]),
        }
    best = min(BETAS, key=lambda b: scores[b]["held_out"])
    drawn = {"zero temperature": fits[np.inf], f"β = {best:g}": fits[best]}
    draw(run.workdir / "one_to_many.png", train, answers, params, betas, centre, scores, few, drawn)
    zero, mild = scores[np.inf], scores[best]
    run.finish(
        summary
        | {
            "temperatures": {
                f"{b:g}": {k: round(v, 4) for k, v in s.items()} for b, s in scores.items()
            },
            "best_beta": f"{best:g}",
            "overfit_zero_temperature": zero["held_out"] / zero["train"],
            "overfit_best_beta": mild["held_out"] / mild["train"],
            "regression_is_blurred": summary["regression_off_manifold"]
            > 10 * summary["held_out_distance"],
            "closed_form_agrees": summary["bessel_largest_error"] < 1e-4,
            "zero_temperature_overfits": zero["held_out"] > 2 * zero["train"],
            "warm_does_better": best != np.inf and mild["held_out"] < 0.8 * zero["held_out"],
        }
    )


if __name__ == "__main__":
    runs.main(one_to_many)
