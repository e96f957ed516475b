r"""Reading words: the alignment of windows with a word, minimised or summed over all words.

A word is spelt letter, separator, letter, separator, ...; so every sequence of window classes
belongs to one word, and a repeated letter is not an ambiguity. Over all words, or all but one, the
recursion of ``ebm_jax.inference.alignment`` gives the exact minimum and the exact sum.

Arrays have ONE example; vmap a batch. Energies are finite or +inf; padding is never read.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax._derivatives import with_nan_derivatives
from ebm_jax.inference._monotone_paths import forward, prepare, read, soft_minimum, sum_form
from ebm_jax.types import Array


class Word(NamedTuple):
    """A word: letters (n,) as integers, of which the first ``length`` () count; -1 after them."""

    letters: Array | np.ndarray
    length: Array | np.ndarray | np.integer


NO_WORD = Word(np.zeros(1, np.int32), np.int32(0))


def spell(energies, word: Word) -> Array:
    """Return the energies of windows as the labels letter, separator, letter, separator, ...

    ``alignment.free_energy(spell(energies, word), num_labels=2 * word.length)`` is F(x, word).

    Args:
        energies: (L, K + 1), the energy of every window as one of K letters or, last, as the
            separator that follows every letter.
        word: letters (n,) in [0, K) and how many of them count.

    Returns:
        (L, 2 n).

    >>> import jax.numpy as jnp
    >>> spell(jnp.array([[1.0, 2.0, 0.5]]), Word(jnp.array([1, 0]), jnp.array(2))).tolist()
    [[2.0, 0.5, 1.0, 0.5]]
    """
    separator = energies.shape[1] - 1
    letters = jnp.clip(word.letters, 0, separator - 1)
    labels = jnp.stack([letters, jnp.full_like(letters, separator)], 1).reshape(-1)
    return jnp.asarray(energies)[:, labels]


def words_free_energy(energies, *, beta=1.0, num_windows=None, without: Word = NO_WORD) -> Array:
    r"""Return the free energy of all words (of one letter or more), or of all but one.

        F_beta = -1/beta log sum_{y != without} exp(-beta F_beta(x, y)),   F_inf = min_y F_inf(x, y)

    Exact, over every word that fits: a path either follows the word left out and ends early, or
    leaves it after one of its separators (or at once) for another letter and is then free. With
    ``alignment.free_energy`` of the right word it makes the exact NLL, and the exact most offending
    wrong answer.

    Args:
        energies: (L, K + 1), as ``spell`` takes them.
        beta: inverse temperature > 0, a scalar; the sum over all words diverges at 0.
        num_windows: how many windows count, 1 to L; None for all.
        without: the word left out.

    Returns:
        (), in units of energy; +inf where no word fits.

    >>> import jax.numpy as jnp
    >>> energies = jnp.array([[0.0, 1.0, 9.0], [9.0, 9.0, 0.0]])  # two letters, two windows
    >>> float(words_free_energy(energies, beta=jnp.inf))
    0.0
    >>> a = Word(jnp.array([0]), jnp.array(1))
    >>> float(words_free_energy(energies, beta=jnp.inf, without=a))
    1.0
    """
    energies, beta, windows, _ = prepare(energies, beta, num_windows, "letters + separator")
    following = _following(energies, beta, without)
    place = jnp.arange(without.letters.shape[0])
    # A path that follows the word left out may end before its last letter.
    early = jnp.where(place + 1 < without.length, read(following, windows), jnp.inf)
    free = read(_free(energies, beta, without, following), windows)
    return with_nan_derivatives(soft_minimum(jnp.append(early, free), beta), energies, axis=(0, 1))


def _following(energies: Array, beta: Array, word: Word) -> Array:
    """Return a(l, separator) of paths that follow a word, for each of its separators, (L, n)."""
    labels = jnp.arange(2 * word.letters.shape[0])
    rows = forward(spell(energies, word), beta)
    rows = sum_form(rows, jnp.arange(len(rows))[:, None], labels, beta, len(rows))[:, 1::2]
    return jnp.where(jnp.arange(word.letters.shape[0]) < word.length, rows, jnp.inf)


def _free(energies: Array, beta: Array, word: Word, following: Array) -> Array:
    """Return a(l, separator) of the paths that have left a word, (L,)."""
    letter, place = jnp.arange(energies.shape[1] - 1), jnp.arange(word.letters.shape[0])
    next_letter = jnp.where(place + 1 < word.length, jnp.roll(word.letters, -1), -1)

    def step(before: tuple[Array, Array], at: tuple[Array, Array]):
        letters, separator = before
        row, followed = at
        # From a separator of the word, any letter but its next one leaves it.
        leave = jnp.where(next_letter[:, None] != letter, followed[:, None], jnp.inf)
        begun = jnp.broadcast_to(separator, letters.shape)
        arrivals = jnp.concatenate([jnp.stack([letters, begun]), leave])
        now = (
            row[:-1] + soft_minimum(arrivals, beta),
            row[-1] + soft_minimum(jnp.append(letters, separator), beta),
        )
        return now, now[1]

    kept = (word.length > 0) & (letter == word.letters[0])
    start = jnp.where(kept, jnp.inf, energies[0, :-1]), jnp.asarray(jnp.inf, energies.dtype)
    _, free = jax.lax.scan(step, start, (energies[1:], following[:-1]))
    return jnp.append(start[1], free)


def best_word(energies, *, num_windows=None, without: Word = NO_WORD) -> tuple[Word, Array]:
    r"""Return y* = argmin_y min_z E(y, z) over all words, or over all but one, and its energy.

    Exact at zero temperature: the lowest path over all words names its word. At finite beta it
    is the word of the lowest path, not always the word of lowest F_beta.

    Args:
        energies: (L, K + 1), as ``spell`` takes them.
        num_windows: how many windows count, 1 to L; None for all.
        without: a word that is not allowed: the right one, to find the most offending wrong one.

    Returns:
        The word, with room for L // 2 letters (at least one), of length 0 where none fits; and
        its energy F_inf, ().

    >>> import jax.numpy as jnp
    >>> word, energy = best_word(jnp.array([[0.0, 1.0, 9.0], [9.0, 9.0, 0.0]]))
    >>> word.letters.tolist(), int(word.length), float(energy)
    ([0], 1, 0.0)
    """

    def lowest(energies: Array) -> Array:
        return words_free_energy(energies, beta=jnp.inf, num_windows=num_windows, without=without)

    # The gradient of a minimum over paths is the lowest path, one class for every window.
    energies = jax.lax.stop_gradient(energies)
    value, path = jax.value_and_grad(lowest)(energies)
    separator = energies.shape[1] - 1
    windows = energies.shape[0] if num_windows is None else num_windows
    seen = (jnp.arange(energies.shape[0]) < windows) & (value < jnp.inf)
    classes = jnp.where(seen, jnp.argmax(path, axis=1), separator)
    previous = jnp.roll(classes, 1).at[0].set(separator)
    begins = (classes != separator) & (previous == separator)
    room = max(energies.shape[0] // 2, 1)
    place = jnp.where(begins, jnp.cumsum(begins) - 1, room)
    letters = jnp.full(room, -1).at[place].set(classes, mode="drop")
    return Word(letters, jnp.sum(begins)), value
