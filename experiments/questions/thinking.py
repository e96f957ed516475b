"""Does descending longer at test time give better answers than one pass of a network?

The question: an energy E(x, y) is trained so that descent in y ends at the answer to x. Is that
better than a feed-forward network of the same trunk, and does descending for longer than in
training help, on problems like those of training and on harder ones?

Two tasks of Du et al. (2022), whose exact answers are known: the sum of two matrices, harder where
the entries are larger; the inverse of a matrix R R' + c I, harder where c is smaller. The energy is
E(x, y) = |y - g(x, y)|^2 / 2, where g has the architecture of the feed-forward network y = g(x).
The feed-forward answer is a special case: if g ignores y, the minimum of E is y = g(x). The energy
is trained through the descent (unrolled, with a learned step size), through the minimum (implicit),
or by contrast with the answers that its own descent finds (square-square loss). All methods make
the same number of updates. An update through a descent costs as much as many updates of the
feed-forward network, which is therefore also trained with ten times as many updates.

The claims: with the same number of updates, the answers of the unrolled and of the implicit energy
are better than one pass, both on problems as in training and on harder ones. With ten times the
updates, which still cost less, one pass is better than both. A descent five times as long changes
the error by less than 5 %, because the descent has reached the minimum and the minimum is not
exactly the right answer; on the harder inverses, where descent is slower, it reduces the error by
more than 1 %. With the contrastive loss the error is larger at the number of steps used in
training, and on problems as in training it grows as descent continues.

    python -m experiments.questions.thinking --workdir=runs/thinking
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 1000, "Updates of every network.", lower_bound=1)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import functools
import time

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import ebm_jax
from ebm_jax import inference, losses, objectives
from ebm_jax.energies.networks import JointMLP
from experiments import plots
from experiments.data import minibatches
from experiments.run import loop
from experiments.run.claims import Claim

SIDE, BATCH, TESTS = 4, 128, 512
SIZE = SIDE**2  # numbers of an answer
DESCENT = {"unrolled": 16, "implicit": 32, "contrastive": 16}  # steps of descent in training
STEP_SIZE = 0.25  # the unrolled one begins with it
# Of y, what g sees: the energy begins as a round bowl. At 1 the curvature outgrows the implicit
# one's step size, descent misses the minimum, and training diverges.
SHARE = 0.3
LONGER = 5  # times as many steps are looked at
NETWORK = JointMLP((64, 64), SIZE)
ERROR_TICKS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 2)


def addition(rng, num: int, *, harder: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return two matrices, flat (num, 2 SIZE), and their sum."""
    x = (2.5 if harder else 1.0) * rng.uniform(-1, 1, (num, 2, SIZE))
    return x.reshape(num, -1).astype(np.float32), x.sum(1).astype(np.float32)


def inverse(rng, num: int, *, harder: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return matrices R R' + c I, flat (num, SIZE), and their inverse."""
    r = rng.uniform(-1, 1, (num, SIDE, SIDE))
    x = r @ r.transpose(0, 2, 1) + (0.1 if harder else 0.5) * np.eye(SIDE)
    flat = (num, SIZE)
    return x.reshape(flat).astype(np.float32), np.linalg.inv(x).reshape(flat).astype(np.float32)


SETS = {"alike": "problems as in training", "harder": "harder problems"}
TASKS = {"addition": addition, "inverse": inverse}


def problems(task, num: int, seed: int, number: int, *, harder: bool = False):
    """Return the problems with this number; different numbers give independent problems."""
    return task(minibatches.stream(seed, minibatches.NOISE, number), num, harder=harder)


def energy(params, x, y):
    """Return |y - g(x, y)|^2 / 2; the parameters are (the trunk's, log of the step size)."""
    found = NETWORK.apply(params[0], jnp.concatenate([x, SHARE * y]))
    return jnp.sum((y - found) ** 2) / 2


def start(key):
    """Return the start of a descent."""
    return jax.random.normal(key, (SIZE,))


def descend(params, x, y, num_steps: int):
    """Return y after ``num_steps`` steps of gradient descent."""
    own, step_size = functools.partial(energy, params, x), jnp.exp(params[1])
    return inference.unroll(own, y, step_size=step_size, num_steps=num_steps).position


def unrolled(params, x, key):
    """Return the answer, with gradients through every step."""
    return descend(params, x, start(key), DESCENT["unrolled"])


def implicit(params, x, key):
    """Return the answer, with the gradient of a minimum."""

    def minimize(frozen, y):
        options = {"step_size": STEP_SIZE, "num_steps": DESCENT["implicit"]}
        return inference.unroll(frozen, y, **options).position

    own = functools.partial(energy, params, x)
    return inference.implicit_minimum(own, start(key), minimize, num_iterations=8).position


def found(params, key, x, y):
    """Propose the answers that descent finds."""

    def one(x, key):
        return descend(params, x, start(key), DESCENT["contrastive"])

    return jax.vmap(one)(x, jax.random.split(key, len(y)))


def mean_square(y, right):
    """Return the mean squared error of one answer."""
    return jnp.mean((y - right) ** 2)


def feed_forward(params, x, key):
    """Return the answer of one pass."""
    del key
    return NETWORK.apply(params, x)


ONE_PASS = objectives.through_inference(feed_forward, mean_square)
# Of the contrasts tried only this one kept descent from diverging: the hinge and the log loss did
# not in the end, nor short Langevin chains from the right answers in place of descent.
ENERGIES = {
    "unrolled": objectives.through_inference(unrolled, mean_square),
    "implicit": objectives.through_inference(implicit, mean_square),
    "contrastive": objectives.contrastive(energy, losses.square_square, found),
}


@functools.partial(ebm_jax.jit, static_argnames="num_steps")
def thought(params, x, y, key, num_steps: int):
    """Return relative errors and mean energies after each step, and the right answers' energy."""

    def one(x, y, key):
        def step(position, _):
            position = descend(params, x, position, 1)
            return position, (jnp.mean((position - y) ** 2), energy(params, x, position))

        return jax.lax.scan(step, start(key), length=num_steps)[1]

    squares, energies = jax.vmap(one)(x, y, jax.random.split(key, len(y)))
    right = jax.vmap(energy, (None, 0, 0))(params, x, y)
    return relative(squares.mean(0), y), energies.mean(0), right.mean()


def relative(square, y):
    """Return the root of a mean square in units of the right answers' own."""
    return jnp.sqrt(square / jnp.mean(y**2))


def trained(run, label: str, objective, params, key, *, task, steps: int, seed: int):
    """Return the parameters after training on fresh problems, and its seconds."""
    began = time.perf_counter()
    batch = functools.partial(problems, task, BATCH, seed)
    params, _ = loop.fit(run, label, objective, params, batch, key, steps=steps, learning_rate=3e-3)
    return params, time.perf_counter() - began


def study(run, name: str, key, *, steps: int, seed: int):
    """Train every network on one task; test on problems as in training and on harder ones.

    That is (errors of one pass, what is seen along the descents, seconds of training).
    """
    task = TASKS[name]
    options = {"task": task, "seed": seed}
    tests = {
        where: problems(task, TESTS, seed + 1, number, harder=where == "harder")
        for number, where in enumerate(SETS)
    }
    init_key, fit_key, test_key = jax.random.split(key, 3)
    given = tests["alike"][0].shape[1]
    one_pass, thinking, seconds = {}, {}, {}
    for label, updates in (("feed-forward", steps), ("feed-forward, 10 x updates", 10 * steps)):
        params = NETWORK.init(init_key, jnp.zeros(given))
        params, seconds[label] = trained(
            run, f"{name}, {label}", ONE_PASS, params, fit_key, steps=updates, **options
        )
        one_pass[label] = {}
        for where, (x, y) in tests.items():
            answers = jax.vmap(feed_forward, (None, 0, None))(params, x, None)
            one_pass[label][where] = float(relative(jnp.mean((answers - y) ** 2), y))
    for method, objective in ENERGIES.items():
        params = NETWORK.init(init_key, jnp.zeros(given + SIZE)), jnp.log(STEP_SIZE)
        params, seconds[method] = trained(
            run, f"{name}, {method}", objective, params, fit_key, steps=steps, **options
        )
        thinking[method] = {
            where: tuple(map(np.asarray, thought(params, x, y, test_key, LONGER * DESCENT[method])))
            for where, (x, y) in tests.items()
        }
    return one_pass, thinking, seconds


def draw(path, results):
    """Write errors and energies along the descent."""
    figure, axes = plt.subplots(
        len(results),
        3,
        figsize=(plots.WIDTH, 2.6 * len(results) + 0.8),
        squeeze=False,
        sharex=True,
    )
    for row, (name, (one_pass, thinking, _)) in zip(axes, results.items(), strict=True):
        for number, (method, seen) in enumerate(thinking.items()):
            color, step = f"C{number}", np.arange(1, LONGER * DESCENT[method] + 1) / DESCENT[method]
            for axis, style, where in zip(row, ("-", "--"), SETS, strict=False):
                errors, energies, right = seen[where]
                axis.plot(step, errors, color=color, label=f"descent, {method}")
                row[2].plot(step, energies, style, color=color)
                row[2].plot(6, right, "o" if style == "-" else "x", color=color)
        for axis, where in zip(row, SETS, strict=False):
            for style, (label, errors) in zip(("--", ":"), one_pass.items(), strict=True):
                label = f"one pass, {label}".replace(" x ", " × ")
                axis.axhline(errors[where], color="0.3", ls=style, lw=1, label=label)
            axis.set(title=f"{name}: {SETS[where]}")
            shown = [line.get_ydata() for line in axis.lines]
            least, largest = (bound([bound(values) for values in shown]) for bound in (min, max))
            axis.set(yscale="log", ylim=(0.9 * least, 1.1 * largest))
            ticks = [tick for tick in ERROR_TICKS if 0.9 * least < tick < 1.1 * largest]
            axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
        row[0].set_ylabel("relative error of the answer")
        # Below this the energies are rounding errors around the minimum, which is 0.
        row[2].set(title=f"{name}: energy E", yscale="log", ylim=(1e-4, 100))
        for axis in row:
            axis.axvline(1, color="0.8", lw=1, zorder=0)
            axis.set(xscale="log")
            axis.set_xticks([0.1, 1, 5], ["0.1", "1", "5"])
            axis.set_xticks([], minor=True)
            axis.yaxis.set_minor_formatter("")
    axes[-1][1].set_xlabel("steps of descent / steps of descent in training")
    handles, names = axes[0][0].get_legend_handles_labels()
    for style, where in (("o-", "problems as in training"), ("x--", "harder problems")):
        handles += axes[0][2].plot([], [], style, color="0.4")
        names.append(f"energy: {where} (mark: of the right answer)")
    figure.legend(handles, names, loc="outside lower center", ncols=2)
    plots.save(figure, path)


def claimed(results) -> dict[str, Claim]:
    """Return whether each claim holds, over all tasks and both kinds of problems."""
    better, cheaper, settled, helped, contrast, grown = [], [], [], [], [], []
    for name, (one_pass, thinking, _) in results.items():
        once, ten_times = one_pass.values()
        for where in SETS:
            error = {method: seen[where][0] for method, seen in thinking.items()}
            trained = {method: path[DESCENT[method] - 1] for method, path in error.items()}
            change = {method: path[-1] / trained[method] for method, path in error.items()}
            for method in ("unrolled", "implicit"):
                better.append(trained[method] / once[where])
                cheaper.append(ten_times[where] / error[method].min())
                hard = (name, where) == ("inverse", "harder")
                (helped if hard else settled).append(change[method])
            contrast.append(trained["contrastive"] / trained["unrolled"])
            grown += [change["contrastive"]] if where == "alike" else []
    return {
        "descent_beats_one_pass_of_as_many_updates": Claim(
            max(better), "<", 1, "largest error / of one pass"
        ),
        "one_pass_of_ten_times_the_updates_beats_descent": Claim(
            max(cheaper), "<", 1, "largest error of one pass / of descent"
        ),
        "longer_descent_changes_little": Claim(
            max(abs(ratio - 1) for ratio in settled),
            "<",
            0.05,
            "largest relative change of the unrolled and implicit energies, without the harder "
            "inverses",
        ),
        "longer_descent_helps_a_little_on_harder_inverses": Claim(
            max(helped), "<", 0.99, "largest error after more steps / before"
        ),
        "contrastive_is_worse_at_the_number_of_steps_used_in_training": Claim(
            min(contrast), ">", 1.1, "smallest error / of unrolled"
        ),
        "longer_descent_makes_contrastive_worse_on_problems_like_those_of_training": Claim(
            min(grown), ">", 1.1, "smallest error after more steps / before"
        ),
    }


def summarise(results) -> tuple[dict, dict]:
    """Return the measurements, and whether each claim holds."""
    measured = {}
    for name, (one_pass, thinking, seconds) in results.items():
        measured[name] = {
            "error": {
                where: {label: errors[where] for label, errors in one_pass.items()}
                | {
                    f"{method}, {n} x steps": float(seen[where][0][n * DESCENT[method] - 1])
                    for method, seen in thinking.items()
                    for n in (1, 2, LONGER)
                }
                for where in SETS
            },
            "seconds": {label: round(s, 1) for label, s in seconds.items()},
        }
    return measured, claimed(results)


def main() -> None:
    """Answer the question."""
    run, seed, steps = entry.start(), FLAGS.seed, FLAGS.steps
    keys = jax.random.split(jax.random.key(seed), len(TASKS))
    results = {
        name: study(run, name, key, steps=steps, seed=seed)
        for name, key in zip(TASKS, keys, strict=True)
    }
    draw(run.workdir / "thinking.png", results)
    run.finish(*summarise(results))


if __name__ == "__main__":
    entry.main(main)
