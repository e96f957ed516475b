"""When one x has many right answers y, what do a regression and a latent-variable energy learn?

The question: y = (rho_1(x) cos t, rho_2(x) sin t) + noise is a whole ellipse of right answers to
each x. What do a regression and an energy with a latent variable learn, and at which temperature?

The claims: regression predicts the conditional mean, near the centre and far from every right
answer. The energy E(x, y, z) = |y - g(x, z)|^2, with a network g and an angle z, learns the
ellipse. Its free energy over z has a valley along the ellipse at zero temperature (min over z),
and a smoother one at beta = 1. At the centre of the true ellipse it equals the closed form 3.125 -
log I_0(0.875 beta) / beta with the Bessel function I_0. At zero temperature each training point
moves only the nearest point of the curve; at finite beta every z contributes to every training
point. With few training points the held-out distance depends little on the temperature from zero
to beta = 10. When beta is too small, all z contribute equally and the curve shrinks towards the
mean, the prediction of the regression: the held-out distance is many times larger.

    python -m experiments.questions.one_to_many --workdir=runs/one_to_many
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 1500, "Updates of every network.", lower_bound=1)
flags.DEFINE_integer("few", 48, "Training points of the comparison of temperatures.", lower_bound=2)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from scipy.special import ive

import ebm_jax
from ebm_jax import inference, objectives
from ebm_jax.energies.networks import JointMLP
from experiments import plots
from experiments.data import minibatches, toy_points
from experiments.questions import plane
from experiments.run import loop
from experiments.run.claims import Claim

BETAS = (0.01, 1.0, 10.0, 100.0, np.inf)
OFFSET = {"textcoords": "offset points", "fontsize": 8}
REPETITIONS = 5  # sets of few points
NETWORK = JointMLP((64, 64), 2)
ANGLES = np.linspace(0, 2 * np.pi, 48, endpoint=False, dtype=np.float32)
FINE = np.linspace(0, 2 * np.pi, 480, endpoint=False, dtype=np.float32)


def decode(params, x, z):
    """Return the point g(x, z) of the learned curve: not an ellipse by construction."""
    return 4 * NETWORK.apply(params, jnp.stack([2 * x - 1, jnp.cos(z), jnp.sin(z)]))


def energy(params, x, y, z):
    """Return E(x, y, z) = |y - g(x, z)|^2."""
    return jnp.sum((y - decode(params, x, z)) ** 2)


def warm(params, x, y, beta, angles: np.ndarray = ANGLES):
    """Return F_beta(x, y) in its mean form; beta = inf is the minimum over z."""
    return inference.marginalize_over(energy, angles, beta=beta, mean=True)(params, x, y)


cold = inference.minimize_over(energy, FINE)  # F_inf(params, x, y)
squared_distances = ebm_jax.jit(jax.vmap(cold, (None, 0, 0)))  # of y (n, 2) to the curve of its x
curves = ebm_jax.jit(jax.vmap(jax.vmap(decode, (None, None, 0)), (None, 0, None)))


def free_energies(params, pairs):
    """Return the sum of F_beta(x, y) over networks, each with a pair (x, y) of its own.

    Their gradients do not meet: they train side by side. Training leaves beta as it is.
    """
    networks, beta = params
    each = jax.vmap(lambda network, x, y: warm(network, x, y, jax.lax.stop_gradient(beta)))
    return jnp.sum(each(networks, *pairs))


OBJECTIVE = objectives.push_down(free_energies)


def fit(run, name: str, beta: float, params, batch, key, *, steps: int):
    """Train the energies by pushing F down on the data: z has one dimension, y has two."""
    (fitted, _), _ = loop.fit(run, name, OBJECTIVE, (params, beta), batch, key, steps=steps)
    return fitted


def regression(run, batch, key, *, steps: int):
    """Train a network on squared error; return x (n,) -> its answers (n, 2)."""

    def answer(params, x):
        return 4 * NETWORK.apply(params, 2 * x[None] - 1)

    objective = objectives.push_down(lambda p, xy: jnp.sum((xy[1] - answer(p, xy[0])) ** 2))
    init_key, fit_key = jax.random.split(key)
    params = plane.init(NETWORK, init_key, 1)
    params, _ = loop.fit(run, "regression", objective, params, batch, fit_key, steps=steps)
    return lambda x: np.asarray(jax.vmap(answer, (None, 0))(params, x))


def rms(squares) -> float:
    """Return the root of the mean."""
    return float(np.sqrt(np.mean(squares)))


def off_ellipse(x: np.ndarray, y: np.ndarray) -> float:
    """Return how far y (n, 2) lie from the true ellipses of x (n,), root mean square."""
    true = toy_points.ellipse(x[:, None], FINE)
    return rms(((true - y[:, None]) ** 2).sum(-1).min(1))


def curves_off_ellipse(params, x: np.ndarray) -> float:
    """Return how far the learned curves, all of z, run from the true ellipses."""
    return off_ellipse(np.repeat(x, len(FINE)), np.asarray(curves(params, x, FINE)).reshape(-1, 2))


def at_centre(params, betas: np.ndarray) -> dict[str, np.ndarray]:
    """Return F_beta(x=0, y=0): closed form, true ellipse by the grid of z, learned curve."""

    def true(y, z):
        return jnp.sum((y - jnp.stack([2 * jnp.cos(z), 1.5 * jnp.sin(z)])) ** 2)

    @ebm_jax.jit
    @jax.vmap
    def both(beta):
        exact = inference.marginalize_over(true, FINE, beta=beta, mean=True)(jnp.zeros(2))
        return exact, warm(params, 0.0, jnp.zeros(2), beta, FINE)

    closed = 3.125 - (np.log(ive(0, 0.875 * betas)) + 0.875 * betas) / betas
    exact, learned = (np.asarray(values) for values in both(jnp.asarray(betas)))
    return {"Bessel closed form": closed, "sum over a grid of z": exact, "learned energy": learned}


def draw(path, train, answers, params, betas, centre, scores, few):
    """Write the answers, the two surfaces, the free energies, and the temperatures."""
    figure, axes = plt.subplot_mosaic("aabb;aacc;ddee", figsize=(plots.WIDTH, 8))
    shown = np.array([0.0, 0.5, 1.0], np.float32)
    axes["a"].plot(*train[1][:400].T, ".", color="0.8", ms=3, label="data, every x")
    first = ["learned, x = 0, 0.5, 1", "_", "_"]
    axes["a"].plot(*np.transpose(curves(params, shown, FINE), (2, 1, 0)), color="C0", label=first)
    true = np.transpose(toy_points.ellipse(shown[:, None], FINE), (2, 1, 0))
    axes["a"].plot(*true, ":", color="black", lw=1, label=["true ellipse", "_", "_"])
    axes["a"].plot(*answers(shown).T, "X", color="C1", label="regression")
    axes["a"].set(title="Right answers y to x = 0, 0.5 and 1", aspect="equal")
    points, _ = plane.grid(3.5)
    kinds = {"min over z": cold, "β = 1": lambda params, x, y: warm(params, x, y, 1.0)}
    surfaces = {
        title: np.asarray(
            ebm_jax.jit(jax.vmap(free, (None, None, 0)))(params, jnp.zeros(()), points)
        )
        for title, free in kinds.items()
    }
    scale = plane.limits(*surfaces.values())
    for letter, (title, values) in zip("bc", surfaces.items(), strict=True):
        image = plane.surface(axes[letter], values, f"F(0, y), {title}", 3.5, scale)
        axes[letter].plot(*toy_points.ellipse(0.0, FINE).T, ":", color="white", lw=1)
    figure.colorbar(image, ax=[axes["b"], axes["c"]], shrink=0.8, label="free energy F")
    closed, _, learned = centre.values()
    for style, (name, values) in zip(("k-", "oC0", "xC1"), centre.items(), strict=True):
        axes["d"].semilogx(betas, values, style, mfc="none", label=name)
    title = (
        f"F at the centre, x = 0\nlargest error of the learned F: {abs(learned - closed).max():.3f}"
    )
    axes["d"].set(xlabel="β", ylabel="F", title=title)
    at = np.arange(len(BETAS))
    for kind in scores[np.inf]:
        distances = [s[kind] for s in scores.values()]
        axes["e"].semilogy(at, distances, "o-", label=kind)
        if kind == "held-out points":
            for i, distance in zip(at, distances, strict=True):
                offset = (5, 4) if distance > 1 else (-8, -13)  # away from the other curves
                axes["e"].annotate(f"{distance:.3g}", (i, distance), offset, color="C1", **OFFSET)
    axes["e"].axhline(1 / 20, color="0.5", ls="--", lw=1, label="noise of the data")
    axes["e"].set_xticks(at, [f"{b:g}".replace("inf", "∞") for b in BETAS])
    title = f"{few} training points, mean of {REPETITIONS} sets"
    axes["e"].set(xlabel="β in training", ylabel="RMS distance", title=title, ylim=(None, 30))
    axes["a"].legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=2)
    axes["d"].legend(loc="lower left")
    axes["e"].legend(loc="upper right")
    plots.save(figure, path)


def by_temperature(run, test, key, *, few: int, steps: int, seed: int) -> dict[float, dict]:
    """Train on few points at every temperature; return the distances to the right answers.

    They are means over several sets of points, each with a network of its own.
    """
    init_key, *keys = jax.random.split(key, 1 + len(BETAS))
    sets = [toy_points.ellipses(few, seed + 2 + r) for r in range(REPETITIONS)]
    start = jax.vmap(lambda k: plane.init(NETWORK, k, 3))(jax.random.split(init_key, REPETITIONS))
    pairs = tuple(np.stack(arrays, axis=1) for arrays in zip(*sets, strict=True))
    batch = minibatches.batches(pairs, batch_size=min(64, few), seed=seed)
    scores = {}
    for beta, fit_key in zip(BETAS, keys, strict=True):
        fitted = fit(run, f"few points, beta {beta:g}", beta, start, batch, fit_key, steps=steps)
        rows = []
        for r, points in enumerate(sets):
            one = jax.tree.map(lambda leaf, r=r: leaf[r], fitted)
            rows.append(
                {
                    "training points": rms(squared_distances(one, *points)),
                    "held-out points": rms(squared_distances(one, *test)),
                    "learned curve to truth": curves_off_ellipse(one, test[0][:50]),
                }
            )
        scores[beta] = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    return scores


def summarise(answers, params, test, centre, scores) -> tuple[dict, dict]:
    """Return the measurements, and whether each claim holds."""
    closed, exact, learned = centre.values()
    held_out = {b: s["held-out points"] for b, s in scores.items()}
    best = min(BETAS, key=lambda b: held_out[b])
    blurred = off_ellipse(test[0], answers(test[0]))
    latent = curves_off_ellipse(params, test[0][:50])
    measured = {
        "regression_off_ellipse": blurred,
        "regression_from_centre": rms((answers(test[0]) ** 2).sum(1)),
        "latent_off_ellipse": latent,
        "latent_held_out_distance": rms(squared_distances(params, *test)),
        "bessel_largest_error": float(abs(exact - closed).max()),
        "learned_largest_error": float(abs(learned - closed).max()),
        "rms_distance_by_beta": {f"{b:g}": s for b, s in scores.items()},
        "best_beta": f"{best:g}",
    }
    claims = {
        "regression_is_blurred": Claim(
            blurred / latent,
            ">",
            10,
            "distance of the regression from the ellipse / of the answers of the energy",
        ),
        "closed_form_agrees": Claim(
            abs(exact - closed).max(), "<", 1e-4, "largest error of a sum over z, true ellipse"
        ),
        "zero_temperature_is_almost_as_good_as_the_best_beta": Claim(
            held_out[np.inf] / held_out[best],
            "<",
            1.5,
            "held-out distance at zero temperature / at the best beta",
        ),
        "a_beta_too_small_blurs": Claim(
            held_out[BETAS[0]] / held_out[best],
            ">",
            5,
            f"held-out distance at beta {BETAS[0]:g} / at the best beta",
        ),
    }
    return measured, claims


def main() -> None:
    """Answer the question."""
    run, seed, steps = entry.start(), FLAGS.seed, FLAGS.steps
    train, test = toy_points.ellipses(2000, seed), toy_points.ellipses(1000, seed + 1)
    regression_key, init_key, fit_key, few_key = jax.random.split(jax.random.key(seed), 4)
    batch = minibatches.batches(train, batch_size=256, seed=seed)
    answers = regression(run, batch, regression_key, steps=steps)
    alone = tuple(array[:, None] for array in train)  # one network
    batch, start = (
        minibatches.batches(alone, batch_size=64, seed=seed),
        plane.init(NETWORK, init_key, 3),
    )
    start = jax.tree.map(lambda leaf: leaf[None], start)
    params = fit(run, "latent", 10.0, start, batch, fit_key, steps=steps)
    params = jax.tree.map(lambda leaf: leaf[0], params)
    betas = np.logspace(-2, 2, 9)
    centre = at_centre(params, betas)
    scores = by_temperature(run, test, few_key, few=FLAGS.few, steps=steps, seed=seed)
    path = run.workdir / "one_to_many.png"
    draw(path, train, answers, params, betas, centre, scores, FLAGS.few)
    run.finish(*summarise(answers, params, test, centre, scores))


if __name__ == "__main__":
    entry.main(main)
