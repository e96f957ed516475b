"""What does it cost to estimate the gradient of the likelihood, and what can go wrong?

The question: the likelihood's gradient, grad F(y) - E_P[grad F(y')], sums over all y'. What does
the sum cost, and what is lost by replacing it with N samples?

The claim: the exact sum has 2^n terms for n bits. With samples of any kind the variance falls as
1/N (slope -1); exact samples are unbiased; a short Langevin run from noise has a bias that no N
mends; chains that persisted through training, one step an update, have less of it. Near the end
of training the gradient is a small difference of large terms, so that the error is larger than
the gradient itself below thousands of samples. The bias is |mean - exact|^2 less the share that
chance adds, over repetitions; the exact expectation is a sum over 40,000 cells of the plane.

    python -m experiments.questions.nll_gradient --workdir=runs/nll_gradient

Expected (seed 0, 2026-11-23, 45 s of processor time), in units of |exact gradient|^2 = 0.045^2:
slopes of the variance -1.015 (exact samples), -0.990 (short run), -0.985 (persistent); the error is
as large as the gradient at N = 8,000; squared bias 0.02 +- 0.09 (exact), 18.6 (short run of 30
steps: from N = 500 on it outweighs the variance), 0.52 (persistent). Enumerating 18 bits takes some
hundred times as long as 10 bits and as 1,000 samples; the seconds depend on the machine.
"""

import functools
import timeit

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from absl import flags
from jax.flatten_util import ravel_pytree

import ebm_jax
from ebm_jax import gibbs
from ebm_jax.energies.networks import MLP
from ebm_jax.objectives import likelihood
from ebm_jax.samplers import chains, langevin
from ebm_jax.training import trainer
from experiments import data, evaluation, plots, runs
from experiments.questions import plane

flags.DEFINE_integer("steps", 200, "Exact updates before the gradient is looked at.", lower_bound=1)
flags.DEFINE_integer("samples", 100_000, "Samples of every kind.", lower_bound=100)
flags.DEFINE_integer("chain_steps", 30, "Langevin steps of a short run.", lower_bound=1)
flags.DEFINE_integer("max_bits", 18, "Enumerate states of up to so many bits.", lower_bound=3)
FLAGS = flags.FLAGS


def sampler(energy, params):
    """Return Metropolis-adjusted Langevin for the energy with these parameters, in the square."""
    box = (-plane.HALF_WIDTH, plane.HALF_WIDTH)
    return langevin.mala(lambda x: energy(params, x), step_size=0.02, box=box)


def trained_with_chains(energy, params, train, count: int, key):
    """Train on the exact gradient; persistent chains follow, one Langevin step an update."""
    points, log_volumes = plane.grid(size=40)
    objective = likelihood.maximum_likelihood(energy, points, log_weights=log_volumes)
    training = trainer(objective, optax.adam(1e-2))
    state = training.init(params, key)

    @ebm_jax.jit
    def follow(key, params, positions):
        kernel = sampler(energy, params)
        return chains.run(key, kernel, kernel.init(positions), 1)[0].position

    positions = plane.uniform(jax.random.fold_in(key, 0), count)
    for (batch,) in data.batches(
        (train,), batch_size=len(train), num_steps=FLAGS.steps, group=1, seed=FLAGS.seed
    ):
        state, _ = training.update(state, batch, key)
        positions = follow(jax.random.fold_in(key, state.step), state.params, positions)
    return state.params, positions


def ideal(energy, params, count: int, key, size: int = 200):
    """Return exact samples, of a fine grid's cells and uniform within one, and E_P[grad E]."""
    points, log_volumes = plane.grid(size=size)
    energies = plane.evaluator(energy)(params, points)
    cell_key, jitter_key = jax.random.split(key)
    probs = gibbs.probs(energies, log_weights=log_volumes)
    cells = jax.random.choice(cell_key, len(points), (count,), p=probs)
    width = 2 * plane.HALF_WIDTH / size
    jitter = width * (jax.random.uniform(jitter_key, (count, 2)) - 0.5)

    def mean_energy(params):
        # Its gradient is that of -log Z: the expectation of the energy's gradient.
        all_energies = jax.vmap(energy, (None, 0))(params, points)
        return gibbs.free_energy(all_energies, log_weights=log_volumes)

    return jnp.asarray(points)[cells] + jitter, ravel_pytree(jax.grad(mean_energy)(params))[0]


def mean_gradient(energy, params, points):
    """Return the mean of grad E over points, flat."""
    gradient = jax.grad(lambda p: jnp.mean(jax.vmap(energy, (None, 0))(p, points)))
    return ravel_pytree(gradient(params))[0]


def errors(energy, params, samples, expected, sizes) -> dict[str, np.ndarray]:
    """Return squared bias, variance and noise of mean grad E over N samples, for each N."""
    one = functools.partial(mean_gradient, energy, params)
    estimate = ebm_jax.jit(lambda groups: jax.lax.map(one, groups))
    rows = []
    for size in sizes:
        repetitions = min(2000, len(samples) // size)
        groups = samples[: repetitions * size].reshape(repetitions, size, 2)
        rows.append(evaluation.bias_and_variance(estimate(groups), expected))
    return dict(zip(("bias", "variance", "noise"), np.array(rows).T, strict=True))


def enumeration_seconds(bits: range) -> tuple[list[float], float]:
    """Return the seconds of an exact gradient over 2^n states, and of one from 1,000 samples."""

    def seconds(energy, params, states) -> float:
        energies = jax.vmap(energy, (None, 0))
        gradient = ebm_jax.jit(jax.grad(lambda p: gibbs.free_energy(energies(p, states))))
        # The first of the six compiles.
        return min(
            timeit.repeat(lambda: jax.block_until_ready(gradient(params)), number=1, repeat=6)
        )

    network = MLP((16, 16))
    exact = []
    for n in bits:
        states = ((np.arange(2**n)[:, None] >> np.arange(n)) & 1).astype(np.float32)
        params = plane.init(network, FLAGS.seed, n)
        exact.append(seconds(network.apply, params, states))
    return exact, seconds(network.apply, params, np.resize(states, (1000, n)))


def draw(path, found, sizes, bits, seconds, sampled):
    """Write variance and bias against the number of samples, and what enumeration costs."""
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6))
    for color, (name, error) in zip(("C0", "C1", "C2"), found.items(), strict=True):
        axes[0].loglog(sizes, error["variance"], "o-", color=color, label=name)
        seen = error["bias"] > error["noise"]
        axes[1].loglog(sizes[seen], error["bias"][seen], "o-", color=color, label=name)
        axes[1].loglog(sizes[~seen], error["noise"][~seen], "v:", color=color, mfc="none")
    axes[1].plot([], [], "v:", color="0.5", mfc="none", label="below what can be seen")
    axes[0].loglog(sizes, found["ideal"]["variance"][0] / sizes, "--", color="0.5", label="1 / N")
    titles = "Variance: 1/N, whatever the samples", "Squared bias: no N mends it"
    for axis, title in zip(axes, titles, strict=False):
        axis.axhline(1, color="0.8", linewidth=1, zorder=0)
        axis.set(xlabel="samples N", ylabel="relative to |exact gradient|²", title=title)
        axis.legend()
    axes[1].set_ylim(top=axes[0].get_ylim()[1])
    axes[2].semilogy(bits, seconds, "o-", label="all states")
    axes[2].axhline(sampled, color="C1", linestyle="--", label="1,000 samples")
    axes[2].set(xlabel="bits n", ylabel="seconds a gradient", title="The exact sum has 2ⁿ terms")
    axes[2].legend()
    plots.save(figure, path)


def nll_gradient() -> None:
    """Answer the question."""
    run = runs.Run()
    train, network = data.two_spirals(2000, FLAGS.seed), MLP((16, 16))
    energy, keys = network.apply, jax.random.split(jax.random.key(FLAGS.seed), 4)
    start = plane.init(network, FLAGS.seed)
    params, persistent = trained_with_chains(energy, start, train, FLAGS.samples, keys[0])
    exact_samples, expected = ideal(energy, params, FLAGS.samples, keys[1])
    kernel = sampler(energy, params)
    start = kernel.init(plane.uniform(keys[2], FLAGS.samples))
    short = ebm_jax.jit(lambda s: chains.run(keys[3], kernel, s, FLAGS.chain_steps)[0].position)
    name = f"short run, {FLAGS.chain_steps} steps"
    kinds = {"ideal": exact_samples, name: short(start), "persistent": persistent}
    scale = float(jnp.sum((mean_gradient(energy, params, train) - expected) ** 2))
    sizes = np.array([10**e for e in range(5) if 10**e <= FLAGS.samples // 10])
    found = {}
    for name, samples in kinds.items():
        error = errors(energy, params, samples, expected, sizes)
        found[name] = {kind: values / scale for kind, values in error.items()}
    bits = range(2, FLAGS.max_bits + 1, 2)
    seconds, sampled = enumeration_seconds(bits)
    draw(run.workdir / "nll_gradient.png", found, sizes, bits, seconds, sampled)

    logs = {n: np.log(e["variance"]) for n, e in found.items()}
    slopes = {n: round(np.polyfit(np.log(sizes), v, 1)[0], 3) for n, v in logs.items()}
    unbiased, run_short, kept = found.values()
    run.finish(
        {
            "variance_slope": slopes,
            "bias_squared": {n: float(e["bias"][-1]) for n, e in found.items()},
            "noise": {n: float(e["noise"][-1]) for n, e in found.items()},
            "gradient_norm": scale**0.5,
            "samples_for_an_error_as_large_as_the_gradient": float(unbiased["variance"][0]),
            "samples_where_bias_equals_variance": run_short["variance"][0] / run_short["bias"][-1],
            "seconds_enumeration": dict(zip(map(str, bits), seconds, strict=True)),
            "seconds_1000_samples": sampled,
            "variance_falls_as_one_over_n": all(abs(s + 1) < 0.1 for s in slopes.values()),
            "ideal_is_unbiased": bool((np.abs(unbiased["bias"]) < 2 * unbiased["noise"]).all()),
            "short_run_bias_stays": bool(run_short["bias"][-1] > 5 * run_short["noise"][-1]),
            "persistent_bias_is_smaller": bool(kept["bias"][-1] < 0.5 * run_short["bias"][-1]),
        }
    )


if __name__ == "__main__":
    runs.main(nll_gradient)
