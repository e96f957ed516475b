"""What does maximum likelihood do to the energy of continuous y when the data lie on a curve?

The question: y is continuous and the data lie on a curve, the unit circle. How sharp does maximum
likelihood make the energy, and what keeps it smooth?

The claim: E = k d^2 / 2 across the curve has its best likelihood at k* = 1 / (beta sigma^2), with
sigma the spread of the data across it. A network trained on the exact likelihood learns this
curvature, within a factor 1.5 for every beta and sigma. Without spread there is no optimum: however
near y' is to the curve, the likelihood gains from pushing it up, and the steepest slope of the
energy grows as a power of the number of updates (exponent above 0.4 in the last quarter). The hinge
and the square-square loss are satisfied at their margin and stop (exponent below 0.1);
a penalty on |grad E|^2 keeps the likelihood's steepest slope below a tenth of what it is without.
It does not stop the growth within these updates: a bound is known for E = k d^2 / 2 alone.

    python -m experiments.questions.sharp_edges --workdir=runs/sharp_edges

Expected (seed 0, 2026-11-23, 60 s of processor time): curvature over theory 0.77 to 1.13 for nine
pairs of beta and sigma, log-log rate 1.016. Without spread the steepest slope is 1044, 588, 148
for beta = 0.5, 1, 4, with exponents 0.68, 1.11, 1.01; hinge 19.7 (0.00), square-square 11.2
(0.09), likelihood with a penalty of weight 0.01 23.0 (0.66) and of weight 0.1 8.9 (0.45).
"""

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from absl import flags

import ebm_jax
from ebm_jax import diagnostics, losses
from ebm_jax.energies.networks import MLP
from ebm_jax.objectives import likelihood, penalties, weighted_sum
from experiments import plots, runs
from experiments.questions import plane

flags.DEFINE_integer(
    "steps", 1400, "Updates; half as many where the data have spread.", lower_bound=2
)
FLAGS = flags.FLAGS

BETAS = (0.5, 1.0, 4.0)
SPREADS = (0.2, 0.1, 0.05)  # sigma, across the unit circle
PENALTIES = (0.01, 0.1)
NETWORK = MLP((64, 64), jnp.tanh)


def circle(num: int, spread: float) -> np.ndarray:
    """Return points (num, 2) around the unit circle, with a normal spread of their radius."""
    rng = np.random.default_rng(FLAGS.seed)
    angle = rng.uniform(0, 2 * np.pi, num)
    radius = 1 + spread * rng.standard_normal(num)
    return (radius * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)


def polar_grid() -> tuple[np.ndarray, np.ndarray]:
    """Return points and log cell volumes of the disc of radius 2, its cells finest at radius 1.

    A ridge far thinner than the cells of a square grid still has the right integral.
    """
    # cell edges 1 + sinh(u): 0.003 apart at the circle, 0.2 at the rim
    edges = 1 + np.sinh(np.linspace(-1, 1, 72) * np.arcsinh(300)) / 300
    radius = (edges[1:] + edges[:-1]) / 2
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    area = radius * np.diff(edges) * (angle[1] - angle[0])
    r, a = np.meshgrid(radius, angle, indexing="ij")
    points = np.stack([(r * np.cos(a)).ravel(), (r * np.sin(a)).ravel()], 1)
    log_area = np.broadcast_to(np.log(area)[:, None], r.shape).ravel()
    return points.astype(np.float32), log_area.astype(np.float32)


@ebm_jax.jit
def sharpness(params) -> dict[str, jax.Array]:
    """Return the mean curvature of E across the circle and its steepest slope anywhere."""
    angle = jnp.linspace(0, 2 * jnp.pi, 64, endpoint=False)
    normal = jnp.stack([jnp.cos(angle), jnp.sin(angle)], 1)

    def across(n):
        return n @ jax.hessian(NETWORK.apply, 1)(params, n) @ n

    slopes = diagnostics.gradient_norms(functools.partial(NETWORK.apply, params), polar_grid()[0])
    return {"curvature": jnp.mean(jax.vmap(across)(normal)), "max_slope": jnp.max(slopes)}


def train(run, name: str, objective, arrays, *, decay: bool) -> dict[str, np.ndarray]:
    """Return the history of one training, the same start for all.

    Where the question is whether something stops growing, the learning rate may not end it.
    """

    def measure(params):
        return {name: float(value) for name, value in sharpness(params).items()}

    steps = FLAGS.steps // 2 if decay else FLAGS.steps
    params = plane.init(NETWORK, FLAGS.seed)
    return plane.fit(
        run, name, objective, params, arrays, steps=steps, measure=measure, decay=decay
    )[1]


def alternatives(run, data: np.ndarray, exact) -> dict[str, dict[str, np.ndarray]]:
    """Train what ought to stay bounded on data without spread, beta = 1."""
    points, _ = polar_grid()
    # The slope is held down everywhere, half of the points being near the curve's walls.
    even = np.random.default_rng(FLAGS.seed).uniform(-2, 2, (len(data) // 2, 2))
    around = np.concatenate([even.astype(np.float32), circle(len(data) // 2, 0.1)])
    wrong = points[abs(np.hypot(*points.T) - 1) > 0.2]
    candidates = plane.against(data, wrong, 8, FLAGS.seed)
    found = {}
    for name in ("hinge", "square_square"):
        loss = getattr(losses, name)
        objective = likelihood.discriminative(
            jax.vmap(NETWORK.apply, (None, 0)),
            lambda e, right, loss=loss: loss(*losses.most_offending(e, right)),
        )
        found[name] = train(run, name, objective, candidates, decay=False)
    for weight in PENALTIES:
        objective = weighted_sum(
            likelihood=(1.0, exact, lambda batch: batch[0]),
            slope=(weight, penalties.gradient_penalty(NETWORK.apply), lambda batch: batch[1]),
        )
        found[f"likelihood + {weight:g} |grad E|²"] = train(
            run, f"penalty {weight:g}", objective, (data, around), decay=False
        )
    return found


def draw(path, thin, learned, theory, bounded):
    """Write the growth, the rate against theory, and what stays bounded."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.7))
    for beta, history in thin.items():
        axes[0].loglog(history["update"], history["max_slope"], "o-", ms=3, label=f"β = {beta:g}")
    slope = {"xlabel": "update", "ylabel": "steepest slope of E"}
    axes[0].set(**slope, title="Likelihood, data without spread")
    for beta in BETAS:
        at = [(theory[beta, s], learned[beta, s]) for s in SPREADS]
        axes[1].loglog(*zip(*at, strict=True), "o", label=f"β = {beta:g}")
    ends = np.array([min(theory.values()), max(theory.values())])
    axes[1].loglog(ends, ends, "--", color="0.5", label="equal")
    axes[1].set(xlabel="theory, 1 / (β σ²)", ylabel="curvature learned across the curve")
    axes[1].set_title("Likelihood, data with spread σ")
    for name, history in ({"likelihood": thin[1.0]} | bounded).items():
        axes[2].loglog(history["update"], history["max_slope"], "o-", ms=3, label=name)
    axes[2].set(**slope, title="Without spread, β = 1: what holds it down", ylim=(1e-3, None))
    for axis in axes[:2]:
        axis.legend()
    axes[2].legend(loc="lower right")
    plots.save(figure, path)


def sharp_edges() -> None:
    """Answer the question."""
    run = runs.Run()
    points, log_areas = polar_grid()
    thin, learned, theory = {}, {}, {}
    for beta in BETAS:
        exact = likelihood.maximum_likelihood(
            NETWORK.apply, points, beta=beta, log_weights=log_areas
        )
        for spread in SPREADS:
            data = circle(2000, spread)
            history = train(run, f"beta {beta:g} spread {spread:g}", exact, (data,), decay=True)
            learned[beta, spread] = float(history["curvature"][-1])
            theory[beta, spread] = float(1 / (beta * np.hypot(*data.T).var()))
        thin[beta] = train(run, f"beta {beta:g} spread 0", exact, (circle(2000, 0.0),), decay=False)
        if beta == 1:
            bounded = alternatives(run, circle(2000, 0.0), exact)
    draw(run.workdir / "sharp_edges.png", thin, learned, theory, bounded)

    ratio = np.array([max(learned[k], 1e-3) / theory[k] for k in learned])
    log_theory = np.log(list(theory.values()))
    rate = np.polyfit(log_theory, log_theory + np.log(ratio), 1)

    def growth(history):
        tail = slice(3 * len(history["update"]) // 4 - 1, None)
        update, slope = (np.log(history[k][tail]) for k in ("update", "max_slope"))
        return float(np.polyfit(update, slope, 1)[0])

    last = [float(history["max_slope"][-1]) for history in bounded.values()]
    steepest = {b: float(h["max_slope"][-1]) for b, h in thin.items()}
    exponents = {f"beta {b:g}": growth(h) for b, h in thin.items()}
    stopped = {n: growth(h) for n, h in bounded.items()}
    run.finish(
        {
            "curvature_over_theory": {f"{k}": round(learned[k] / theory[k], 3) for k in learned},
            "log_log_rate": float(rate[0]),
            "max_slope_no_spread": {f"{b:g}": v for b, v in steepest.items()},
            "growth_exponent": {k: round(v, 3) for k, v in (exponents | stopped).items()},
            "max_slope_bounded": dict(zip(bounded, last, strict=True)),
            "likelihood_keeps_growing": min(exponents.values()) > 0.4,
            "margin_losses_stop": max(stopped["hinge"], stopped["square_square"]) < 0.1,
            "penalised_likelihood_is_flatter": bool(max(last[2:]) < 0.1 * steepest[1.0]),
            "curvature_follows_theory": bool((abs(np.log(ratio)) < np.log(1.5)).all()),
        }
    )


if __name__ == "__main__":
    runs.main(sharp_edges)
