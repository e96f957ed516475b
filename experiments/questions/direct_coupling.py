"""Which pairs interact? Correlations, mean field and maximum pseudo-likelihood on the same samples.

The question: two positions that both interact with a third one are correlated although they do not
interact. What finds the couplings themselves?

The claim: ten sites of three letters have eight strong couplings, in two chains, and three weak
ones. Correlations rank pairs at the ends of two strong couplings above the weak couplings, however
many samples there are: fewer than 80 % of their best 11 pairs interact. Mean field with the usual
pseudo-count of 1/2 does the same. Without the pseudo-count mean field finds the 11 pairs; with or
without, the strengths that it gives them are wrong by more than 30 % at any number of samples.
Pseudo-likelihood finds the 11 pairs, its strengths are wrong by less than 5 % at the largest number
of samples, and its error is roughly proportional to one over the square root of the number of
samples (the exponent is at most -0.4). All states are enumerated, so that the samples are exact and
independent.

    python -m experiments.questions.direct_coupling --workdir=runs/direct_coupling
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 100, "Updates of the pseudo-likelihood.", lower_bound=1)
flags.DEFINE_integer("most", 100_000, "The largest number of samples.", lower_bound=1000)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ebm_jax import gibbs
from ebm_jax.energies.potts import DensePotts
from ebm_jax.partition import exact
from experiments import plots
from experiments.alignment import model, training
from experiments.run import loop
from experiments.run.claims import Claim

SITES, LETTERS = 10, 3
CHAINS = ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9))
STRONG, WEAK = 2.0, 0.6
WEAK_PAIRS = ((0, 9), (2, 7), (4, 5))
FRACTIONS = (100, 30, 10, 3, 1)  # of the samples
FOUND = "share of the true pairs found with the most samples"
METHODS = ("correlations", "mean field", "mean field, no pseudo-count", "pseudo-likelihood")


def planted(rng: np.random.Generator) -> tuple[DensePotts, np.ndarray]:
    """Return the model, and which pairs interact, (sites, sites).

    A coupling favours one letter of the other site for each letter, as complementary bases do.
    """
    couplings = np.zeros((SITES, LETTERS, SITES, LETTERS), np.float32)
    strengths = {pair: STRONG for chain in CHAINS for pair in itertools.pairwise(chain)}
    strengths |= dict.fromkeys(WEAK_PAIRS, WEAK)
    direct = np.zeros((SITES, SITES), bool)
    for (i, j), strength in strengths.items():
        block = strength * np.eye(LETTERS)[rng.permutation(LETTERS)]
        couplings[i, :, j], couplings[j, :, i] = block, block.T
        direct[i, j] = direct[j, i] = True
    return DensePotts(jnp.asarray(couplings), jnp.zeros((SITES, LETTERS))), direct


def scores_of(run, letters: np.ndarray, steps: int, key) -> dict[str, np.ndarray]:
    """Return the score of every pair by each method: norms of correlations or of couplings."""
    data = training.Data(*model.blocks(letters))
    pairs = model.pair_frequencies(*data, LETTERS)
    trainer = training.pseudo_likelihood(
        data, field_penalty=0.01, coupling_penalty=0.01, tolerance=1e-5 * len(letters)
    )
    start = DensePotts(*(jnp.zeros((SITES, LETTERS) * n, jnp.float32) for n in (2, 1)))
    state, _ = loop.train(
        run,
        f"{len(letters)}_samples",
        trainer,
        trainer.init(start, key),
        lambda t: np.float32(t),
        key,
        num_steps=steps,
        group=min(steps, 20),
    )
    return {
        "correlations": model.norms(model.connected(pairs)),
        "mean field": model.norms(model.mean_field(pairs)),
        "mean field, no pseudo-count": model.norms(model.mean_field(pairs, 1e-3)),
        "pseudo-likelihood": model.norms(state.params.couplings),
    }


def precision(scores: np.ndarray, direct: np.ndarray) -> float:
    """Return the share of true pairs among the best n pairs, where n pairs are true."""
    places = np.triu_indices(SITES, 1)
    number = int(direct[places].sum())
    best = np.argsort(-scores[places])[:number]
    return float(direct[places][best].mean())


def draw(path, truth: np.ndarray, shown: dict[str, np.ndarray], numbers: list[int], found) -> None:
    """Write the scores of all pairs by each method; below, precision and error by samples."""
    panels = {"true couplings": truth} | {m: shown[m] for m in METHODS if m != METHODS[2]}
    layout: list[Any] = [list(panels), ["precision"] * 2 + ["error"] * 2]
    figure, axes = plt.subplot_mosaic(layout, figsize=(plots.WIDTH, 5.4))
    for name, scores in panels.items():
        image = axes[name].imshow(scores, cmap="Greys", vmin=0)
        for i, j in zip(*np.nonzero(truth > 0), strict=True):
            axes[name].plot(j, i, "s", markersize=6, markerfacecolor="none", color="#dd6b20")
        ticks = range(0, SITES, 2)
        axes[name].set(title=name, xticks=ticks, yticks=ticks)
        figure.colorbar(image, ax=axes[name], location="bottom")
    styles = dict(zip(METHODS, ("-", "--", "-", "--"), strict=True))  # some lines coincide
    for measure, values in found.items():
        for number, name in enumerate(METHODS):
            line = [at[name] for at in values if name in at]
            if line:
                options = {"color": f"C{number}", "linestyle": styles[name], "markersize": 4}
                axes[measure].plot(numbers, line, marker="o", label=name, **options)
        axes[measure].set(xscale="log", xlabel="samples")
    axes["precision"].set(title="share of true pairs among the best 11", ylim=(0, 1.05))
    handles, names = axes["precision"].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    axes["error"].set(title="relative error of the couplings' norms", yscale="log")
    plots.save(figure, path)


def main() -> None:
    """Answer the question."""
    run, rng = entry.start(), np.random.default_rng(FLAGS.seed)
    params, direct = planted(rng)
    states = np.asarray(exact.states(SITES, range(LETTERS)), np.int8)
    probs = np.asarray(gibbs.probs(model.energies(params, states)), np.float64)
    letters = states[rng.choice(len(states), FLAGS.most, p=probs / probs.sum())]
    truth, places = model.norms(params.couplings), np.triu_indices(SITES, 1)
    numbers = [FLAGS.most // fraction for fraction in FRACTIONS]
    found = {"precision": [], "error": []}
    for number, key in zip(
        numbers, jax.random.split(jax.random.key(FLAGS.seed), len(numbers)), strict=True
    ):
        shown = scores_of(run, letters[:number], FLAGS.steps, key)
        found["precision"].append({m: precision(shown[m], direct) for m in METHODS})
        size = np.linalg.norm(truth[places])
        found["error"].append(
            {m: float(np.linalg.norm((shown[m] - truth)[places]) / size) for m in METHODS[1:]}
        )
    draw(run.workdir / "direct_coupling.png", truth, shown, numbers, found)
    best, last = found["precision"][-1], found["error"][-1]
    falls = found["error"][0]["pseudo-likelihood"] / last["pseudo-likelihood"]
    claims = {
        "correlations_prefer_indirect_pairs": Claim(best["correlations"], "<", 0.8, FOUND),
        "mean_field_with_pseudo_count_prefers_indirect_pairs": Claim(
            best["mean field"], "<", 0.8, FOUND
        ),
        "without_pseudo_count_mean_field_finds_the_pairs": Claim(best[METHODS[2]], "==", 1, FOUND),
        "mean_field_has_wrong_strengths": Claim(
            min(last[method] for method in METHODS[1:3]),
            ">",
            0.3,
            "smallest relative error with the most samples",
        ),
        "pseudo_likelihood_finds_the_pairs": Claim(best["pseudo-likelihood"], "==", 1, FOUND),
        "pseudo_likelihood_has_the_strengths": Claim(
            last["pseudo-likelihood"], "<", 0.05, "relative error with the most samples"
        ),
        "the_error_of_pseudo_likelihood_falls_with_samples": Claim(
            falls, ">", (numbers[-1] / numbers[0]) ** 0.4, "error with the fewest / most samples"
        ),
    }
    named = {
        measure: dict(zip(map(str, numbers), values, strict=True))
        for measure, values in found.items()
    }
    run.finish(named, claims)


if __name__ == "__main__":
    entry.main(main)
