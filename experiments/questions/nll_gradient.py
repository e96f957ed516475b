"""How do the variance and the bias of sampled likelihood gradients depend on the samples?

The question: the likelihood's gradient, grad F(y) - E_P[grad F(y')], sums over all y'. What does
the sum cost, and what is lost by replacing it with N samples?

The claims: the exact sum has 2^n terms for n bits. With all kinds of samples the variance falls as
1/N (slope -1). Exact samples are unbiased. A short Langevin run from noise has a bias that does not
decrease with N; persistent chains, with one step per update of the training, have a smaller one.
Near the end of training the gradient is a small difference of large terms: with fewer than
thousands of samples the error is larger than the gradient itself. The squared bias is
|mean - exact|^2 minus its expectation for an unbiased estimate, over repetitions; the exact
expectation is a sum over 40,000 cells of the plane.

    python -m experiments.questions.nll_gradient --workdir=runs/nll_gradient
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer(
    "steps", 200, "Updates by exact likelihood before the measurement.", lower_bound=1
)
flags.DEFINE_integer("samples", 100_000, "Samples of every kind.", lower_bound=100)
flags.DEFINE_integer("chain_steps", 30, "Langevin steps of a short run.", lower_bound=1)
flags.DEFINE_integer(
    "max_bits", 18, "Largest number of bits of an enumerated state.", lower_bound=3
)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import functools
import timeit

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from jax.flatten_util import ravel_pytree

import ebm_jax
from ebm_jax import gibbs, objectives, samplers, training
from ebm_jax.energies.networks import MLP
from ebm_jax.types import Objective
from experiments import evaluation, plots
from experiments.data import minibatches, toy_points
from experiments.questions import plane
from experiments.run import loop
from experiments.run.claims import Claim

NETWORK = MLP((16, 16))


def sampler(energy, params):
    """Return Metropolis-adjusted Langevin for the energy with these parameters, in the square."""
    bounds = (-plane.HALF_WIDTH, plane.HALF_WIDTH)
    return samplers.mala(functools.partial(energy, params), step_size=0.02, bounds=bounds)


def followed(energy, count: int) -> Objective:
    """Return the exact likelihood, its state being chains that make one step an update."""
    points, log_volumes = plane.grid(cells=40)
    exact = objectives.maximum_likelihood(energy, points, log_weights=log_volumes)

    def init(params, key):
        return sampler(energy, params).init(plane.uniform(key, count))

    def loss(params, state, batch, key):
        chain_key, exact_key = jax.random.split(key)
        kernel = sampler(energy, jax.lax.stop_gradient(params))
        state, _ = samplers.run(chain_key, kernel, samplers.refresh(kernel, state), 1)
        value, (_, metrics) = exact.loss(params, (), batch, exact_key)
        return value, (state, metrics)

    return Objective(init, loss)


def trained_with_chains(run, energy, params, train, count: int, key, *, steps: int, seed: int):
    """Train on the exact gradient; return the parameters and where persistent chains are."""
    init_key, train_key = jax.random.split(key)
    trainer = training.trainer(followed(energy, count), optax.adam(1e-2))
    state, _ = loop.train(
        run,
        "",
        trainer,
        trainer.init(params, init_key),
        minibatches.batches(train, batch_size=len(train), seed=seed),
        train_key,
        num_steps=steps,
        group=-(-steps // 20),
    )
    return state.params, state.objective.position


def ideal(energy, params, count: int, key, cells: int = 200):
    """Return exact samples, of a fine grid's cells and uniform within one, and E_P[grad E]."""
    points, log_volumes = plane.grid(cells=cells)
    energies = plane.evaluator(energy)(params, points)
    cell_key, jitter_key = jax.random.split(key)
    probs = gibbs.probs(energies, log_weights=log_volumes)
    chosen = jax.random.choice(cell_key, len(points), (count,), p=probs)
    width = 2 * plane.HALF_WIDTH / cells
    jitter = width * (jax.random.uniform(jitter_key, (count, 2)) - 0.5)

    def mean_energy(params):
        # Its gradient is that of -log Z: the expectation of the energy's gradient.
        all_energies = jax.vmap(energy, (None, 0))(params, points)
        return gibbs.free_energy(all_energies, log_weights=log_volumes)

    return jnp.asarray(points)[chosen] + jitter, ravel_pytree(jax.grad(mean_energy)(params))[0]


def mean_gradient(energy, params, points):
    """Return the mean of grad E over points, flat."""
    gradient = jax.grad(lambda p: jnp.mean(jax.vmap(energy, (None, 0))(p, points)))
    return ravel_pytree(gradient(params))[0]


def errors(estimate, samples, expected, sizes) -> dict[str, np.ndarray]:
    """Return squared bias, variance and noise of mean grad E over N samples, for each N.

    ``estimate`` takes groups of points (repetitions, N, 2), each to its mean of grad E.
    """
    rows = []
    for size in sizes:
        repetitions = min(2000, len(samples) // size)
        groups = samples[: repetitions * size].reshape(repetitions, size, 2)
        rows.append(evaluation.bias_and_variance(estimate(groups), expected))
    return dict(zip(("bias", "variance", "noise"), np.array(rows).T, strict=True))


def enumeration_seconds(bits: range, key) -> tuple[list[float], float]:
    """Return the seconds of an exact gradient over 2^n states, and of one from 1,000 samples."""

    def seconds(energy, params, states) -> float:
        energies = jax.vmap(energy, (None, 0))
        gradient = ebm_jax.jit(jax.grad(lambda p: gibbs.free_energy(energies(p, states))))
        # The first of the six compiles.
        return min(
            timeit.repeat(lambda: jax.block_until_ready(gradient(params)), number=1, repeat=6)
        )

    exact = []
    for n, init_key in zip(bits, jax.random.split(key, len(bits)), strict=True):
        states = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float32)
        params = plane.init(NETWORK, init_key, n)
        exact.append(seconds(NETWORK.apply, params, states))
    return exact, seconds(NETWORK.apply, params, np.resize(states, (1000, n)))


def draw(path, found, sizes, bits, seconds, sampled):
    """Write variance and bias against the number of samples, and the time of enumeration."""
    figure, axes = plt.subplots(1, 3, figsize=(plots.WIDTH, 3.1))
    for color, (name, error) in zip(("C0", "C1", "C2"), found.items(), strict=True):
        axes[0].loglog(sizes, error["variance"], "o-", color=color, label=name)
        seen = error["bias"] > error["noise"]
        axes[1].loglog(sizes[seen], error["bias"][seen], "o-", color=color, label=name)
        axes[1].loglog(sizes[~seen], error["noise"][~seen], "v:", color=color, mfc="none")
    axes[1].plot([], [], "v:", color="0.5", mfc="none", label="bias below this standard error")
    axes[0].loglog(sizes, found["ideal"]["variance"][0] / sizes, "--", color="0.5", label="∝ 1/N")
    titles = "Variance: falls as 1/N", "Squared bias: does not fall with N"
    for axis, title in zip(axes, titles, strict=False):
        axis.axhline(1, color="0.8", linewidth=1, zorder=0)
        axis.set(xlabel="number of samples N", title=title)
    axes[0].set_ylabel("divided by |exact gradient|²")
    axes[1].set_ylim(axes[0].get_ylim()[0] / 10, axes[0].get_ylim()[1])
    axes[2].semilogy(bits, seconds, "o-", label="all states")
    axes[2].axhline(sampled, color="C1", linestyle="--", label="1,000 samples")
    axes[2].set(xlabel="bits n", ylabel="seconds per gradient", title="Exact sum over 2ⁿ states")
    axes[2].legend(loc="upper left")
    labels = {
        name: handle
        for axis in axes[:2]
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True)
    }
    figure.legend(labels.values(), labels, loc="outside lower center", ncols=3)
    plots.save(figure, path)


def short_run(energy, params, count: int, key, *, steps: int):
    """Return the chains after a few steps from noise."""
    start_key, run_key = jax.random.split(key)
    kernel = sampler(energy, params)
    start = kernel.init(plane.uniform(start_key, count))
    return ebm_jax.jit(lambda s: samplers.run(run_key, kernel, s, steps)[0].position)(start)


def summarise(found, sizes, scale: float) -> tuple[dict, dict]:
    """Return the measurements in units of the gradient, and whether each claim holds."""
    logs = {name: np.log(error["variance"]) for name, error in found.items()}
    slopes = {n: round(np.polyfit(np.log(sizes), v, 1)[0], 3) for n, v in logs.items()}
    unbiased, run_short, kept = found.values()
    measured = {
        "variance_slope": slopes,
        "bias_squared": {n: float(e["bias"][-1]) for n, e in found.items()},
        "noise": {n: float(e["noise"][-1]) for n, e in found.items()},
        "gradient_norm": scale**0.5,
        "samples_for_an_error_as_large_as_the_gradient": float(unbiased["variance"][0]),
        "samples_where_bias_equals_variance": run_short["variance"][0] / run_short["bias"][-1],
    }
    claims = {
        "variance_falls_as_one_over_n": Claim(
            max(abs(s + 1) for s in slopes.values()), "<", 0.1, "largest error of the slope -1"
        ),
        "ideal_samples_are_unbiased": Claim(
            (np.abs(unbiased["bias"]) / unbiased["noise"]).max(),
            "<",
            2,
            "largest |squared bias| / its noise, over all numbers of samples",
        ),
        "the_bias_of_short_runs_stays": Claim(
            run_short["bias"][-1] / run_short["noise"][-1], ">", 5, "squared bias / its noise"
        ),
        "the_bias_of_persistent_chains_is_smaller": Claim(
            kept["bias"][-1] / run_short["bias"][-1], "<", 0.5, "squared bias / of short runs"
        ),
        "thousands_of_samples_are_needed": Claim(
            unbiased["variance"][0], ">", 1000, "variance of one sample / squared gradient"
        ),
    }
    return measured, claims


def main() -> None:
    """Answer the question."""
    run, seed, count = entry.start(), FLAGS.seed, FLAGS.samples
    train, energy = toy_points.two_spirals(2000, seed), NETWORK.apply
    init_key, train_key, *keys = jax.random.split(jax.random.key(seed), 5)
    params, persistent = trained_with_chains(
        run,
        energy,
        plane.init(NETWORK, init_key),
        train,
        count,
        train_key,
        steps=FLAGS.steps,
        seed=seed,
    )
    exact_samples, expected = ideal(energy, params, count, keys[0])
    kinds = {
        "ideal": exact_samples,
        f"short run, {FLAGS.chain_steps} steps": short_run(
            energy, params, count, keys[1], steps=FLAGS.chain_steps
        ),
        "persistent": persistent,
    }
    one = functools.partial(mean_gradient, energy, params)
    estimate = ebm_jax.jit(lambda groups: jax.lax.map(one, groups))
    scale = float(jnp.sum((one(train) - expected) ** 2))
    sizes = np.array([10**e for e in range(5) if 10**e <= count // 10])
    found = {}
    for name, samples in kinds.items():
        error = errors(estimate, samples, expected, sizes)
        found[name] = {kind: values / scale for kind, values in error.items()}
    bits = range(2, FLAGS.max_bits + 1, 2)
    seconds, sampled = enumeration_seconds(bits, keys[2])
    draw(run.workdir / "nll_gradient.png", found, sizes, bits, seconds, sampled)
    measured, claims = summarise(found, sizes, scale)
    times = {
        "seconds_enumeration": dict(zip(map(str, bits), seconds, strict=True)),
        "seconds_1000_samples": sampled,
    }
    run.finish(measured | times, claims)


if __name__ == "__main__":
    entry.main(main)
