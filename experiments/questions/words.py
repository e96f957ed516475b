r"""Can a word be read without cutting it into letters first?

Claim: yes, with the alignment as a latent variable. A network gives every window of the image an
energy per letter (and one for the separator that follows each letter); a monotone path says which
window belongs to which letter; F(x, y) = min_z E(x, y, z) by Viterbi, or F_beta by the forward
sum; the answer is argmin_y F(x, y) over all words, by the same recursion. Trained on 1 and 2, then
1 to 4 letters, never told where they are.

    python -m experiments.questions.words --workdir=runs/words

Measured (seed 0, 2026-11-23): one font 1.00 at every length; three fonts with jitter 0.992, 0.996,
0.996, 0.976 for 1 to 4 letters. The energy loss reads 0.01; hinge and log 1.00, hard or soft.
"""

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
from absl import flags

from ebm_jax import alignment, jit, losses, networks, training
from ebm_jax.inference.alignment import Word
from ebm_jax.types import Objective
from experiments import data, plots, runs
from experiments.lettering import ALPHABET, HEIGHT, STRIDE, WINDOW, Images, num_windows, render

flags.DEFINE_integer("steps", 1200, "Updates of the reader of three fonts.", lower_bound=2)
flags.DEFINE_integer("table_steps", 300, "Updates with every loss of the table.", lower_bound=1)
flags.DEFINE_integer("test_words", 250, "Test words of every length.", lower_bound=12)
FLAGS = flags.FLAGS

LENGTHS = (1, 2, 3, 4)
NAMES = (*losses.PAIRWISE, "perceptron", "mee", "nll")
HARD, SOFT = np.inf, 1.0
BATCH, GROUP = 64, 50
network = networks.JointMLP((128, 64), len(ALPHABET) + 1)


def window_energies(params, pixels):
    """Return E(window, letter or separator), (windows, 27), of one image."""
    first = STRIDE * jnp.arange(num_windows(pixels.shape[1]))
    patches = jnp.moveaxis(pixels[:, first[:, None] + jnp.arange(WINDOW)], 0, 1)
    return jax.vmap(network.apply, (None, 0))(params, patches)


def free_energy(energies, word: Word, windows, beta):
    """Return F_beta(x, word); at beta = inf F of the best path."""
    spelt, labels = alignment.spell(energies, word), jnp.maximum(2 * word.length, 1)
    return alignment.free_energy(spelt, beta=beta, num_windows=windows, num_labels=labels)


def read(params, images: Images):
    """Return for every image the letters of argmin_y F_inf(x, y), padded with -1, and its path."""

    def one(image: Images):
        energies, windows = window_energies(params, image.pixels), image.num_windows
        word, _ = alignment.best_word(energies, num_windows=windows)
        spelt, labels = alignment.spell(energies, word), jnp.maximum(2 * word.length, 1)
        path, _ = alignment.best_path(spelt, num_windows=windows, num_labels=labels)
        return word.letters, path

    return jax.lax.map(one, images, batch_size=200)


def exact(letters, images: Images) -> np.ndarray:
    """Return which images are read exactly, (..., n) booleans."""
    room = images.letters.shape[1]
    right = (np.asarray(letters)[..., :room] == images.letters).all(axis=-1)
    return right & (np.asarray(letters)[..., room:] < 0).all(axis=-1)


def nll(_, energies, word: Word, windows):
    """Return the NLL over all words, both free energies by the forward sum, and its gap."""
    right = free_energy(energies, word, windows, SOFT)
    wrong = alignment.words_free_energy(energies, num_windows=windows, without=word)
    return losses.nll(jnp.stack([right, wrong]), 0), wrong - right


def any_loss(state, energies, word: Word, windows):
    """Return the loss that the state names, hard or soft by its beta, and the gap.

    The wrong answer of a pairwise loss is the lowest other word, found by exact inference.
    """
    which, beta = state
    rival, _ = alignment.best_word(energies, num_windows=windows, without=word)
    right, wrong = (free_energy(energies, w, windows, beta) for w in (word, rival))
    rest = alignment.words_free_energy(energies, beta=beta, num_windows=windows, without=word)
    table = [getattr(losses, name)(right, wrong) for name in losses.PAIRWISE]
    table += [losses.perceptron(jnp.stack([right, wrong]), 0)]
    table += [loss(jnp.stack([right, rest]), 0) for loss in (losses.mee, losses.nll)]
    return jnp.stack(table)[which], wrong - right


def objective(example_loss) -> Objective:
    """Return the mean over a batch of images of (state, energies, word, windows) -> loss, gap."""

    def loss(params, state, batch, key):
        def one(image: Images):
            word = Word(image.letters, image.length)
            return example_loss(state, window_energies(params, image.pixels), word, image[1])

        value, gap = jax.vmap(one)(Images(*batch))
        return value.mean(), (state, {"energy_gap": gap.mean()})

    return Objective(lambda key: (jnp.int32(0), jnp.float32(SOFT)), loss)


def train_reader(run: runs.Run, trainer, params, rng, *, jitter: bool, num_steps: int):
    """Train on images of 1 and 2 letters, then of 1 to 4; return the parameters."""
    key, first = jax.random.key(FLAGS.seed), num_steps // 3 // GROUP * GROUP
    state = trainer.init(params, key)
    for longest, count in ((2, first), (4, num_steps - first))[first == 0 :]:
        size = min(5000 * longest, BATCH * count)
        images = render(rng, rng.integers(1, longest + 1, size), longest=4, jitter=jitter)
        options = {"batch_size": BATCH, "num_steps": count, "group": GROUP}
        groups = data.batches(tuple(images), seed=FLAGS.seed, **options)
        options = {"num_steps": num_steps, "gap": "energy_gap"}
        state, _ = runs.train(run, trainer, state, groups, key, **options)
    return state.params


def compare(params, rng) -> dict[str, float]:
    """Train with every loss, hard and soft, all at once under vmap; return the exact matches."""
    rows = [(n, b) for n in NAMES for b in (HARD, SOFT) if b == SOFT or n not in ("nll", "mee")]
    lengths = rng.integers(1, 3, BATCH * FLAGS.table_steps // 2)
    images = render(rng, lengths, longest=2, jitter=False)
    test = render(rng, np.tile([1, 2], 200), longest=2, jitter=False)
    key = jax.random.key(FLAGS.seed)
    trainer = training.trainer(objective(any_loss), optax.adam(5e-3))
    state = jax.vmap(lambda _: trainer.init(params, key))(jnp.arange(len(rows)))
    which = jnp.array([NAMES.index(name) for name, _ in rows])
    state = state._replace(objective=(which, jnp.array([beta for _, beta in rows])))
    update = jit(jax.vmap(trainer.update, (0, None, None)))
    advance, close = runs.progress(FLAGS.table_steps, "every loss")
    options = {"batch_size": BATCH // 2, "num_steps": FLAGS.table_steps, "group": GROUP}
    for batches in data.batches(tuple(images), seed=FLAGS.seed, **options):
        state, _ = update(state, batches, key)
        advance(int(state.step[0]), "")
    close()
    letters, _ = jit(jax.vmap(read, (0, None)))(state.params, test)
    rates = zip(rows, exact(letters, test).mean(axis=1), strict=True)
    return {f"{n}/{'hard' if b == HARD else 'soft'}": float(rate) for (n, b), rate in rates}


def show(axis, images: Images, index: int, letters, path) -> None:
    """Show one image, the word read, and over it which windows each letter was given."""
    axis.imshow(images.pixels[index], cmap="gray_r", vmin=0, vmax=1)
    for k, letter in enumerate(letters[letters >= 0]):
        centres = STRIDE * np.flatnonzero(path == 2 * k) + (WINDOW - 1) / 2
        axis.axvspan(centres[0] - 1, centres[-1] + 1, color=f"C{k}", alpha=0.35, linewidth=0)
        axis.text(centres.mean(), -1.5, ALPHABET[letter], ha="center", color=f"C{k}", fontsize=11)
    axis.set_axis_off()


def figure(path, readings: dict, table: dict) -> None:
    """Draw the alignments, the accuracy by length, and the table of losses."""
    drawing = plt.figure(figsize=(9, 6.2))
    top, bottom = drawing.subfigures(2, 1, height_ratios=(1.1, 1))
    for column, axis in enumerate(top.subplots(4, 4).T):
        images, letters, paths = readings["three_fonts" if column else "one_font"]
        for row in range(4):
            index = 4 * column + 3 - row
            show(axis[row], images, index, letters[index], paths[index])
    top.suptitle("windows given to each letter: one font | three fonts, jitter", fontsize=10)
    left, right = bottom.subplots(1, 2, width_ratios=(1, 2.4))
    for name, (images, letters, _) in readings.items():
        correct = exact(letters, images)
        left.plot(LENGTHS, [correct[images.length == n].mean() for n in LENGTHS], "o-", label=name)
    left.set(xlabel="letters", ylabel="read exactly", xticks=LENGTHS, ylim=(0.9, 1.005))
    left.legend(frameon=False)
    for shift, kind in ((-0.2, "hard"), (0.2, "soft")):
        heights = [table.get(f"{name}/{kind}", 0) for name in NAMES]
        right.bar(np.arange(len(NAMES)) + shift, heights, 0.4, label=f"{kind} alignment")
    right.set_xticks(range(len(NAMES)), NAMES, rotation=40, ha="right", fontsize=8)
    right.set(ylim=(0, 1.2), title=f"1 and 2 letters, one font, {FLAGS.table_steps} updates")
    right.legend(frameon=False, ncols=2, loc="upper right", fontsize=8)
    plots.save(drawing, path)


def program() -> None:
    """Train both readers and every loss; measure how many words are read exactly."""
    run, rng = runs.Run(), np.random.default_rng(FLAGS.seed)
    params = network.init(jax.random.key(FLAGS.seed), jnp.zeros((HEIGHT, WINDOW)))
    adam = optax.adam(optax.cosine_decay_schedule(5e-3, FLAGS.steps))
    trainer, reader, readings, summary = training.trainer(objective(nll), adam), jit(read), {}, {}
    for name, steps in (("one_font", max(FLAGS.steps // 3, 1)), ("three_fonts", FLAGS.steps)):
        jitter = name == "three_fonts"
        trained = train_reader(run, trainer, params, rng, jitter=jitter, num_steps=steps)
        images = render(rng, np.tile(LENGTHS, FLAGS.test_words), longest=4, jitter=jitter)
        readings[name] = images, *map(np.asarray, reader(trained, images))
        correct = exact(readings[name][1], images)
        summary |= {f"{name}_{n}": float(correct[images.length == n].mean()) for n in LENGTHS}
    table = compare(params, rng)
    figure(run.workdir / "words.png", readings, table)
    run.finish(summary | {"table": table})


if __name__ == "__main__":
    runs.main(program)
