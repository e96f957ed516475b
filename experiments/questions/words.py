r"""Can a word be read without cutting it into letters first?

Claim: yes, with the alignment as a latent variable. A network computes the energies of all letters
for every window of the image, and that of a separator, which follows each letter. A monotone path z
assigns windows to letters. F(x, y) = min_z E(x, y, z) is computed by Viterbi, or F_beta by the
forward sum; the answer is argmin_y F(x, y) over all words, by the same recursion. The network is
trained on words of 1 and 2, then of 1 to 4 letters, without the positions of the letters.

    python -m experiments.questions.words --workdir=runs/words
"""

from absl import flags

from experiments.run import command_line, entry

flags.DEFINE_integer("steps", 1200, "Updates of the network for three fonts.", lower_bound=1)
flags.DEFINE_integer(
    "table_steps", 300, "Updates per loss in the comparison of losses.", lower_bound=1
)
flags.DEFINE_integer("test_words", 250, "Number of test words of each length.", lower_bound=12)
FLAGS = flags.FLAGS

command_line.parse(__name__)  # before JAX is imported, which takes seconds

import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

from ebm_jax import jit, losses
from ebm_jax.energies import networks
from ebm_jax.inference import alignment
from ebm_jax.types import Objective
from experiments import losses_by_name, plots
from experiments.data import minibatches
from experiments.questions import word_reader
from experiments.questions.lettering import (
    ALPHABET,
    HEIGHT,
    STRIDE,
    WINDOW,
    Images,
    num_windows,
    render,
)
from experiments.questions.word_reader import Word
from experiments.run import loop
from experiments.run.claims import Claim

LENGTHS = (1, 2, 3, 4)
HARD, SOFT = np.inf, 1.0
OVER_ALL_WORDS = ("nll", "mee")  # soft alone: their other answer is every other word
TABLE = [
    (name, beta)
    for name in losses_by_name.NAMES
    for beta in (HARD, SOFT)
    if beta == SOFT or name not in OVER_ALL_WORDS
]
BATCH = 64
network = networks.JointMLP((128, 64), len(ALPHABET) + 1)


def window_energies(params, pixels):
    """Return E(window, letter or separator), (windows, 27), of one image."""
    first = STRIDE * jnp.arange(num_windows(pixels.shape[1]))
    patches = jnp.moveaxis(pixels[:, first[:, None] + jnp.arange(WINDOW)], 0, 1)
    return jax.vmap(network.apply, (None, 0))(params, patches)


def free_energy(energies, word: Word, windows, beta):
    """Return F_beta(x, word); at beta = inf F of the best path."""
    spelt, labels = word_reader.spell(energies, word), jnp.maximum(2 * word.length, 1)
    return alignment.free_energy(spelt, beta=beta, num_windows=windows, num_labels=labels)


def read(params, images: Images):
    """Return for every image the letters of argmin_y F_inf(x, y), padded with -1, and its path."""

    def one(image: Images):
        energies, windows = window_energies(params, image.pixels), image.num_windows
        word, _ = word_reader.best_word(energies, num_windows=windows)
        spelt, labels = word_reader.spell(energies, word), jnp.maximum(2 * word.length, 1)
        path, _ = alignment.best_path(spelt, num_windows=windows, num_labels=labels)
        return word.letters, path

    return jax.lax.map(one, images, batch_size=200)


def exact(letters, images: Images) -> np.ndarray:
    """Return which images are read exactly, (..., n) booleans."""
    room = images.letters.shape[1]
    right = (np.asarray(letters)[..., :room] == images.letters).all(axis=-1)
    return right & (np.asarray(letters)[..., room:] < 0).all(axis=-1)


def nll(energies, word: Word, windows):
    """Return the NLL over all words, both free energies by the forward sum, and its gap."""
    right = free_energy(energies, word, windows, SOFT)
    wrong = word_reader.words_free_energy(energies, num_windows=windows, without=word)
    return losses.nll(jnp.stack([right, wrong]), 0), wrong - right


def any_loss(which, beta, energies, word: Word, windows):
    """Return loss number ``which`` of the table, hard or soft by its beta, and the gap.

    The wrong answer of a pairwise loss is the lowest other word, found by exact inference.
    """
    rival, _ = word_reader.best_word(energies, num_windows=windows, without=word)
    right, wrong = (free_energy(energies, w, windows, beta) for w in (word, rival))
    rest = word_reader.words_free_energy(energies, beta=beta, num_windows=windows, without=word)
    table = [
        losses_by_name.named(name)(jnp.stack([right, rest if name in OVER_ALL_WORDS else wrong]), 0)
        for name in losses_by_name.NAMES
    ]
    return jnp.stack(table)[which], wrong - right


def batch_mean(example_loss, params, batch: Images):
    """Return the mean over images of (energies, word, windows) -> loss, gap."""

    def one(image: Images):
        word = Word(image.letters, image.length)
        return example_loss(window_energies(params, image.pixels), word, image.num_windows)

    value, gap = jax.vmap(one)(batch)
    return value.mean(), gap.mean()


def reading(params, state, batch, key):
    """The NLL of one reader, and its gap."""
    del key
    value, gap = batch_mean(nll, params, batch)
    return value, (state, {"energy_gap": gap})


READING = Objective(lambda params, key: (), reading)


def every_loss() -> Objective:
    """Return the sum of every loss of the table, each of its own parameters (on a leading axis).

    Adam moves every number by itself, so that each is trained as if it were alone.
    """
    which = jnp.array([losses_by_name.NAMES.index(name) for name, _ in TABLE])
    betas = jnp.array([beta for _, beta in TABLE])

    def one(params, which, beta, batch):
        return batch_mean(functools.partial(any_loss, which, beta), params, batch)

    def loss(params, state, batch, key):
        del key
        values, gaps = jax.vmap(one, (0, 0, 0, None))(params, which, betas, batch)
        return values.sum(), (state, {"energy_gap": gaps.mean()})

    return Objective(lambda params, key: (), loss)


def curriculum(rng, *, jitter: bool, num_steps: int, seed: int):
    """Return t -> batch t: images of 1 and 2 letters for a third of the steps, then of 1 to 4."""
    first = num_steps // 3

    def words(longest: int, steps: int):
        size = min(5000 * longest, BATCH * max(steps, 1))
        images = render(rng, rng.integers(1, longest + 1, size), longest=4, jitter=jitter)
        return minibatches.batches(images, batch_size=BATCH, seed=seed)

    early, late = words(2, first), words(4, num_steps - first)
    return lambda t: early(t) if t < first else late(t)


def readers(run, rng, key, *, steps: int, test_words: int, seed: int) -> dict[str, tuple]:
    """Train on one font and on three; return test images, the letters read and their paths."""
    init_key, *keys = jax.random.split(key, 3)
    params = network.init(init_key, jnp.zeros((HEIGHT, WINDOW)))
    reader, found = jit(read), {}
    kinds = {"one_font": max(steps // 3, 1), "three_fonts": steps}
    for (name, count), fit_key in zip(kinds.items(), keys, strict=True):
        jitter, options = name == "three_fonts", {"steps": count, "learning_rate": 5e-3}
        batch = curriculum(rng, jitter=jitter, num_steps=count, seed=seed)
        trained, _ = loop.fit(run, name, READING, params, batch, fit_key, **options)
        images = render(rng, np.tile(LENGTHS, test_words), longest=4, jitter=jitter)
        found[name] = images, *map(np.asarray, reader(trained, images))
    return found


def compare(run, rng, key, *, steps: int, seed: int) -> dict[str, float]:
    """Train with every loss, hard and soft, all at once; return the exact matches."""
    lengths = rng.integers(1, 3, BATCH * steps // 2)
    images = render(rng, lengths, longest=2, jitter=False)
    test = render(rng, np.tile([1, 2], 200), longest=2, jitter=False)
    init_key, fit_key = jax.random.split(key)
    params = network.init(init_key, jnp.zeros((HEIGHT, WINDOW)))
    # The same start for all.
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * len(TABLE)), params)
    batch = minibatches.batches(images, batch_size=BATCH // 2, seed=seed)
    options = {"steps": steps, "learning_rate": 5e-3, "decay": False}
    params, _ = loop.fit(run, "every loss", every_loss(), params, batch, fit_key, **options)
    letters, _ = jit(jax.vmap(read, (0, None)))(params, test)
    rates = zip(TABLE, exact(letters, test).mean(axis=1), strict=True)
    return {f"{n}/{'hard' if b == HARD else 'soft'}": float(rate) for (n, b), rate in rates}


def show(axis, images: Images, index: int, letters, path) -> None:
    """Show one image, the word read, and the windows aligned with each letter."""
    axis.imshow(images.pixels[index], cmap="gray_r", vmin=0, vmax=1)
    for k, letter in enumerate(letters[letters >= 0]):
        centres = STRIDE * np.flatnonzero(path == 2 * k) + (WINDOW - 1) / 2
        axis.axvspan(centres[0] - 1, centres[-1] + 1, color=f"C{k}", alpha=0.35, linewidth=0)
        axis.text(centres.mean(), -1.5, ALPHABET[letter], ha="center", color=f"C{k}", fontsize=11)
    axis.set_axis_off()


def table_bars(axis, table: dict[str, float], steps: int) -> None:
    """Draw how many words every loss of the table learnt to read."""
    names = losses_by_name.NAMES
    for shift, kind in ((-0.2, "hard"), (0.2, "soft")):
        shares = [table.get(f"{name}/{kind}") for name in names]
        places = np.arange(len(names)) + shift
        bars = axis.bar(places, [share or 0 for share in shares], 0.4, label=f"{kind} alignment")
        values = ["soft only" if share is None else f"{share:.3g}" for share in shares]
        axis.bar_label(bars, values, padding=2, rotation=90, fontsize=7)
    axis.set_xticks(range(len(names)), names, rotation=40, ha="right")
    axis.set(ylim=(0, 1.6), yticks=[0, 0.5, 1])
    axis.set_title(f"Trained on 1 and 2 letters of one font, {steps} updates")
    axis.legend(ncols=2, loc="upper right")


def figure(path, readings: dict, rates: dict, table: dict, table_steps: int) -> None:
    """Draw the alignments, the accuracy by length, and the table of losses."""
    drawing = plt.figure(figsize=(plots.WIDTH, 5.8))
    top, bottom = drawing.subfigures(2, 1, squeeze=False, height_ratios=(1.1, 1))[:, 0]
    grid = top.subplots(4, 4)
    for axis, title in zip(grid[0], ("one font", *["three fonts"] * 3), strict=True):
        axis.set_title(title, pad=16)
    for column, axis in enumerate(grid.T):
        images, letters, paths = readings["three_fonts" if column else "one_font"]
        for row in range(4):
            index = 4 * column + 3 - row
            show(axis[row], images, index, letters[index], paths[index])
    top.suptitle("Test images, the words read, and the windows aligned with each letter (coloured)")
    left, right = bottom.subplots(1, 2, width_ratios=(1, 2.4))
    for name, by_length in rates.items():
        left.plot(LENGTHS, list(by_length.values()), "o-", label=name.replace("_", " "))
    left.set(xlabel="letters of the word", ylabel="words read exactly", xticks=LENGTHS)
    left.set(ylim=(0.9, 1.005))
    left.legend(loc="lower left")
    table_bars(right, table, table_steps)
    plots.save(drawing, path)


def by_length(images: Images, letters) -> dict[int, float]:
    """Return the share of words read exactly, by their number of letters."""
    correct = exact(letters, images)
    return {n: float(correct[images.length == n].mean()) for n in LENGTHS}


def main() -> None:
    """Train both readers and every loss; measure how many words are read exactly."""
    run, seed = entry.start(), FLAGS.seed
    rng, steps = np.random.default_rng(seed), FLAGS.table_steps
    readers_key, table_key = jax.random.split(jax.random.key(seed))
    options = {"steps": FLAGS.steps, "test_words": FLAGS.test_words, "seed": seed}
    readings = readers(run, rng, readers_key, **options)
    rates = {name: by_length(images, letters) for name, (images, letters, _) in readings.items()}
    table = compare(run, rng, table_key, steps=steps, seed=seed)
    figure(run.workdir / "words.png", readings, rates, table, steps)
    good = [table[f"{name}/{kind}"] for name in ("hinge", "log") for kind in ("hard", "soft")]
    claims = {
        "one_font_is_read": Claim(
            min(rates["one_font"].values()), ">", 0.98, "smallest share of words read, by length"
        ),
        "three_fonts_with_jitter_are_read": Claim(
            min(rates["three_fonts"].values()), ">", 0.95, "smallest share of words read, by length"
        ),
        "hinge_and_log_learn_with_hard_and_with_soft_alignment": Claim(
            min(good), ">", 0.95, "smallest share of words read"
        ),
        "the_energy_loss_does_not_learn": Claim(
            table["energy/hard"], "<", 0.1, "share of words read"
        ),
    }
    measured = {f"{name}_{n}": rate for name, row in rates.items() for n, rate in row.items()}
    run.finish(measured | {"table": table}, claims)


if __name__ == "__main__":
    entry.main(main)
