"""What does maximum likelihood do to the energy of continuous y when the data lie on a curve?

The question: y is continuous and the data lie on a curve, the unit circle. How sharp does maximum
likelihood make the energy, and what keeps it smooth?

The claim: E = k d^2 / 2 across the curve has its best likelihood at k* = 1 / (beta sigma^2), with
sigma the spread of the data across it. A network trained on the exact likelihood learns this
curvature, within a factor 1.5 for every beta and sigma. Without spread no optimum exists: however
near y' is to the curve, the likelihood gains from pushing it up, and the steepest slope of the
energy grows as a power of the number of updates (exponent above 0.4 in the last quarter). The hinge
and the square-square loss are satisfied at their margin and stop (exponent below 0.1);
a penalty on |grad E|^2 keeps the likelihood's steepest slope below a tenth of the unpenalised one.
It does not stop the growth within these updates: a bound is known for E = k d^2 / 2 alone.

    python -m experiments.questions.sharp_edges --workdir=runs/sharp_edges
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer(
    "steps", 1400, "Updates; half as many where the data have spread.", lower_bound=2
)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds


import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ebm_jax
from ebm_jax import objectives
from ebm_jax.energies.networks import MLP
from experiments import losses_by_name, plots
from experiments.data import minibatches
from experiments.questions import plane
from experiments.run import loop
from experiments.run.claims import Claim

BETAS = (0.5, 1.0, 4.0)
SPREADS = (0.2, 0.1, 0.05)  # sigma, across the unit circle
PENALTIES = (0.01, 0.1)
MARGINS = ("hinge", "square_square")
NETWORK = MLP((64, 64), jnp.tanh)


def circle(num: int, spread: float, seed: int) -> np.ndarray:
    """Return points (num, 2) around the unit circle, with a normal spread of their radius."""
    rng = np.random.default_rng(seed)
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

    gradients = jax.vmap(jax.grad(NETWORK.apply, 1), (None, 0))(params, polar_grid()[0])
    slopes = jnp.linalg.norm(gradients, axis=1)
    return {"curvature": jnp.mean(jax.vmap(across)(normal)), "max_slope": jnp.max(slopes)}


def train(
    run, name: str, objective, params, batch, key, *, steps: int, decay: bool = False
) -> dict[str, np.ndarray]:
    """Return the history of one training, the same start for all.

    Where the question is whether something stops growing, the learning rate may not end it.
    """

    def measure(params):
        return {name: float(value) for name, value in sharpness(params).items()}

    return loop.fit(
        run, name, objective, params, batch, key, steps=steps, measure=measure, decay=decay
    )[1]


def alternatives(run, params, exact, key, *, steps: int, seed: int):
    """Train the losses that should keep slopes bounded (no spread, beta = 1); return histories."""
    on_curve = circle(2000, 0.0, seed)
    points, _ = polar_grid()
    wrong = points[abs(np.hypot(*points.T) - 1) > 0.2]
    candidates = plane.against(on_curve, wrong, 8, seed)
    keys = iter(jax.random.split(key, len(MARGINS) + len(PENALTIES)))
    batch = minibatches.batches(candidates, batch_size=256, seed=seed)
    found = {}
    for name in MARGINS:
        objective = objectives.discriminative(
            jax.vmap(NETWORK.apply, (None, 0)), losses_by_name.named(name)
        )
        found[name] = train(run, name, objective, params, batch, next(keys), steps=steps)
    # The slope is held down everywhere, half of the points being near the curve's walls.
    even = np.random.default_rng(seed).uniform(-2, 2, (1000, 2)).astype(np.float32)
    around = np.concatenate([even, circle(1000, 0.1, seed)])
    batch = minibatches.batches({"data": on_curve, "around": around}, batch_size=256, seed=seed)
    for weight in PENALTIES:
        slope = objectives.gradient_penalty(NETWORK.apply)
        objective = objectives.weighted_sum(
            likelihood=(1.0, exact, lambda batch: batch["data"]),
            slope=(weight, slope, lambda batch: batch["around"]),
        )
        found[f"likelihood + {weight:g} |grad E|²"] = train(
            run, f"penalty {weight:g}", objective, params, batch, next(keys), steps=steps
        )
    return found


def by_likelihood(run, beta: float, params, exact, key, *, steps: int, seed: int):
    """Train on data with every spread and with none: (learned, theory by spread), the growth."""
    keys = jax.random.split(key, 1 + len(SPREADS))
    rates, batch_size = {}, 256
    for spread, spread_key in zip(SPREADS, keys[1:], strict=True):
        points = circle(2000, spread, seed)
        batch = minibatches.batches(points, batch_size=batch_size, seed=seed)
        name = f"beta {beta:g} spread {spread:g}"
        history = train(run, name, exact, params, batch, spread_key, steps=steps // 2, decay=True)
        theory = float(1 / (beta * np.hypot(*points.T).var()))
        rates[beta, spread] = float(history["curvature"][-1]), theory
    batch = minibatches.batches(circle(2000, 0.0, seed), batch_size=batch_size, seed=seed)
    return rates, train(run, f"beta {beta:g} spread 0", exact, params, batch, keys[0], steps=steps)


def draw(path, thin, rates, bounded):
    """Draw the growth, the curvature against theory, and the slopes that stay bounded."""
    figure, axes = plt.subplot_mosaic("ab;cc", figsize=(plots.WIDTH, 6.2))
    growing, equal, bound = axes.values()
    lines = [growing.loglog(h["step"], h["max_slope"], "o-", ms=3)[0] for h in thin.values()]
    growing.set(xlabel="update", ylabel="steepest slope of E")
    growing.set_title("Maximum likelihood, data on a thin circle")
    plots.label_ends(growing, lines, [f"β = {beta:g}" for beta in thin])
    for beta in BETAS:
        learned, theory = np.array([rates[beta, s] for s in SPREADS]).T
        equal.loglog(theory, learned, "o", label=f"β = {beta:g}")
    ends = np.array([f([theory for _, theory in rates.values()]) for f in (min, max)])
    equal.loglog(ends, ends, "--", color="0.5", label="equal")
    equal.set(xlabel="theory: 1 / (β σ²)", ylabel="learned curvature across the circle")
    equal.set_title("Maximum likelihood, data with spread σ")
    equal.legend(loc="upper left")
    names = {"likelihood": "likelihood alone", "square_square": "square-square loss"}
    names["hinge"] = "hinge loss"
    histories = {"likelihood": thin[1.0]} | bounded
    lines = [
        bound.loglog(history["step"], history["max_slope"], "o-", ms=3)[0]
        for history in histories.values()
    ]
    bound.set(xlabel="update", ylabel="steepest slope of E")
    bound.set_title("Which losses keep the slope small on the thin circle, β = 1")
    plots.label_ends(
        bound,
        lines,
        [names.get(name) or name.replace("likelihood +", "penalty") for name in histories],
    )
    plots.save(figure, path)


def growth(history) -> float:
    """Return the exponent of the steepest slope as a power of the updates, in the last quarter."""
    tail = slice(3 * len(history["step"]) // 4 - 1, None)
    update, slope = (np.log(history[k][tail]) for k in ("step", "max_slope"))
    return float(np.polyfit(update, slope, 1)[0])


def summarise(thin, rates, bounded) -> tuple[dict, dict]:
    """Return the measurements, and whether each claim holds."""
    learned, theory = np.array(list(rates.values())).T
    ratio = np.maximum(learned, 1e-3) / theory
    rate = np.polyfit(np.log(theory), np.log(theory * ratio), 1)[0]
    last = {name: float(history["max_slope"][-1]) for name, history in bounded.items()}
    steepest = {beta: float(history["max_slope"][-1]) for beta, history in thin.items()}
    growing = {f"beta {beta:g}": growth(history) for beta, history in thin.items()}
    stopped = {name: growth(history) for name, history in bounded.items()}
    penalised = [slope for name, slope in last.items() if name not in MARGINS]
    measured = {
        "curvature_over_theory": {
            f"beta {b:g}, sigma {s:g}": round(r, 3) for (b, s), r in zip(rates, ratio, strict=True)
        },
        "log_log_rate": float(rate),
        "max_slope_no_spread": {f"{b:g}": v for b, v in steepest.items()},
        "growth_exponent": {k: round(v, 3) for k, v in (growing | stopped).items()},
        "max_slope_bounded": last,
    }
    claims = {
        "likelihood_keeps_growing": Claim(
            min(growing.values()), ">", 0.4, "smallest growth exponent of the slope"
        ),
        "margin_losses_stop": Claim(
            max(stopped[name] for name in MARGINS), "<", 0.1, "largest growth exponent"
        ),
        "penalised_likelihood_is_flatter": Claim(
            max(penalised) / steepest[1.0], "<", 0.1, "largest slope / of the likelihood"
        ),
        "curvature_follows_theory": Claim(
            np.exp(np.abs(np.log(ratio)).max()), "<", 1.5, "largest factor from the theory"
        ),
    }
    return measured, claims


def main() -> None:
    """Answer the question."""
    run, seed, steps = entry.start(), FLAGS.seed, FLAGS.steps
    init_key, other_key, *keys = jax.random.split(jax.random.key(seed), 2 + len(BETAS))
    params = plane.init(NETWORK, init_key)
    points, log_areas = polar_grid()
    thin, rates = {}, {}
    for beta, key in zip(BETAS, keys, strict=True):
        exact = objectives.maximum_likelihood(
            NETWORK.apply, points, beta=beta, log_weights=log_areas
        )
        found, thin[beta] = by_likelihood(run, beta, params, exact, key, steps=steps, seed=seed)
        rates |= found
        if beta == 1:
            bounded = alternatives(run, params, exact, other_key, steps=steps, seed=seed)
    draw(run.workdir / "sharp_edges.png", thin, rates, bounded)
    run.finish(*summarise(thin, rates, bounded))


if __name__ == "__main__":
    entry.main(main)
