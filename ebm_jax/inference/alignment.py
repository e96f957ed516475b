r"""Monotone alignments as a latent variable: Viterbi and forward sum, one semiring recursion.

A path z assigns L windows to T labels in order, skipping none: z(0) = 0, z(L-1) = T-1 and
z(l+1) - z(l) is 0 or 1. There are C(L-1, T-1) of them. With E(l, t) the energy of window l as
label t,

    E(z) = sum_l E(l, z(l))
    F_inf = min_z E(z)                                     Viterbi
    F_beta = -1/beta log sum_z exp(-beta E(z))             forward sum

are one recursion, in the semiring whose product is + and whose sum is the soft minimum at beta:

    a(l, t) = E(l, t) + softmin_beta[a(l-1, t), a(l-1, t-1)]

The second half reads words: a word is spelt letter, separator, letter, separator, ...; so every
sequence of window classes belongs to one word, and a repeated letter is no ambiguity. Over all
words, or all but one, the same recursion gives the exact minimum and the exact sum.

Conventions: an array has ONE example, the caller vmaps; padding is named by ``num_windows`` and
``num_labels``, and is never read. An energy of +inf forbids; where no path is allowed F = +inf.
At beta = inf the gradient is that of one lowest path (at a tie, the one that advances early).
A NaN energy is returned as NaN, with NaN derivatives; so is a beta, a count or a word that is
out of range where that was not known when traced.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax._derivatives import zero_or_nan
from ebm_jax.types import Array


class Word(NamedTuple):
    """A word: letters (n,) as integers, of which the first ``length`` () count; -1 after them."""

    letters: Array
    length: Array


def _soft_minimum(values: Array, beta: Array, shares: Array | None = None) -> Array:
    r"""Return -1/beta log sum_i w_i exp(-beta v_i) over the first axis; the minimum at inf.

    w = 1, or shares that sum to one: then it is accurate down to beta = 0, the mean.
    """
    chosen = jnp.argmin(values, axis=0) == jnp.arange(values.shape[0])[:, *[None] * values[0].ndim]
    lowest = jnp.sum(jnp.where(chosen, values, 0.0), axis=0)
    # The formula holds for any level, so with a constant one the gradient is still whole.
    level = jax.lax.stop_gradient(lowest)
    usable = (values < jnp.inf) & jnp.isfinite(level)
    gap = jnp.where(usable, values, 0.0) - jnp.where(usable, level, 0.0)
    warm = jnp.where((beta == jnp.inf) | (beta == 0), 1.0, beta)
    if shares is None:
        total = jnp.sum(jnp.where(usable, jnp.exp(-warm * gap), 0.0), axis=0)
        soft = -jnp.log(jnp.where(jnp.isfinite(level), total, 1.0)) / warm
    else:
        shrink = jnp.sum(shares * jnp.where(usable, jnp.expm1(-warm * gap), -1.0), axis=0)
        soft = -jnp.log1p(jnp.where(jnp.isfinite(level), shrink, 0.0)) / warm
        refused = jnp.any((values == jnp.inf) & (shares > 0), axis=0)
        mean_gap = jnp.where(refused, jnp.inf, jnp.sum(shares * gap, axis=0))
        soft = jnp.where(beta == 0, mean_gap, soft)
    return jnp.where((beta == jnp.inf) | ~jnp.isfinite(level), lowest, level + soft)


def _prepare(energies, beta, num_windows, axis_name: str) -> tuple[Array, Array, Array]:
    """Check the arguments every function takes; keep gradients away from infinite energies."""
    energies = _checks.floating("energies", energies)
    if energies.ndim != 2 or 0 in energies.shape:
        raise ValueError(
            f"energies must be (windows, {axis_name}) of one example, got {energies.shape}: "
            "vmap a batch."
        )
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)
    beta = jnp.asarray(beta, energies.dtype)
    beta = jnp.where(beta >= 0, beta, jnp.nan)
    energies = jnp.where(jnp.isinf(energies), jax.lax.stop_gradient(energies), energies)
    return energies, beta, _count("num_windows", num_windows, energies.shape[0])


def _count(name: str, value, most: int, least: int = 1) -> Array:
    """Return a count; most + 1, which ``_read`` makes NaN, for one that is bad at run time."""
    value = most if value is None else value
    given = _checks.array(name, value)
    if not jnp.issubdtype(given.dtype, jnp.integer):
        raise TypeError(f"{name} must be an integer, got {value!r}.")
    _checks.scalar(name, given)
    known = _checks.concrete(value)
    if known is not None and not least <= known <= most:
        raise ValueError(f"{name} must be from {least} to {most}, the padded size, got {known}.")
    wide = given if given.dtype.itemsize >= 4 else given.astype(jnp.int32)
    return jnp.where((wide >= least) & (wide <= most), wide.astype(jnp.int32), most + 1)


def _read(rows: Array, *counts: Array) -> Array:
    """Return rows[count - 1, ...], NaN for a count that is out of range."""
    return rows.at[tuple(count - 1 for count in counts)].get(mode="fill", fill_value=jnp.nan)


def _with_nan_derivatives(value: Array, energies: Array) -> Array:
    return value + jnp.sum(zero_or_nan(jnp.isnan(value), energies))


def _forward(energies: Array, beta: Array) -> Array:
    """Return a(l, t), (L, T), in the mean form: divided by the number C(l, t) of paths to (l, t).

    C(l-1, t) / C(l, t) = (l - t) / l of the paths arrive from t and t / l of them from t - 1.
    """
    size = energies.shape[1]
    label = jnp.arange(size)

    def step(before: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        index, row = at
        advance = jnp.minimum(label / index, 1.0).astype(row.dtype)
        arrivals = jnp.stack([before, jnp.roll(before, 1).at[0].set(jnp.inf)])
        now = row + _soft_minimum(arrivals, beta, jnp.stack([1 - advance, advance]))
        now = jnp.where(label > index, jnp.inf, now)
        return now, now

    first = jnp.where(label == 0, energies[0], jnp.inf)
    indices = jnp.arange(1, energies.shape[0])
    return jnp.concatenate([first[None], jax.lax.scan(step, first, (indices, energies[1:]))[1]])


def _sum_form(mean_form: Array, index: Array, label: Array, beta: Array, most: int) -> Array:
    """Return a(l, t) without the division by C(l, t), the number of paths to (l, t); l < most."""
    several = (label > 0) & (index > label) & (beta < jnp.inf) & (mean_form < jnp.inf)
    of, chosen = jnp.where(several, index, 0), jnp.where(several, label, 0)
    log_factorial = jnp.asarray(np.log(np.maximum(np.arange(most), 1)).cumsum())
    log_paths = log_factorial[of] - log_factorial[chosen] - log_factorial[of - chosen]
    entropic = jnp.where(beta == 0, jnp.inf, log_paths / jnp.where(beta == 0, 1.0, beta))
    return mean_form - jnp.where(several, entropic, 0.0).astype(mean_form.dtype)


def free_energy(
    energies, *, beta=1.0, num_windows=None, num_labels=None, mean: bool = False
) -> Array:
    r"""Return the free energy over all monotone paths; at beta = inf the lowest path's energy.

        F_beta = -1/beta log sum_z exp(-beta sum_l E(l, z(l)))          (mean form: / C(L-1, T-1))

    Its gradient is the posterior: P(window l is aligned with label t), (L, T). Source: L. R.
    Rabiner (1989), A tutorial on hidden Markov models, section III (forward recursion).

    Args:
        energies: (L, T), the energy of every window as every label.
        beta: inverse temperature >= 0, a scalar.
        num_windows: how many windows count, 1 to L; None for all. The rest is padding.
        num_labels: how many labels count, 1 to T; None for all.
        mean: divide by the number of paths; tends to the mean path energy as beta -> 0, where
            the sum form tends to -inf (unless there is one path).

    Returns:
        (), in units of energy; +inf where there are more labels than windows.

    Raises:
        TypeError: integer energies. ValueError: a batch, a negative beta, counts out of range.

    >>> import jax.numpy as jnp
    >>> energies = jnp.array([[0.0, 9.0], [2.0, 1.0], [5.0, 0.0]])  # two paths: 2 + 0 and 1 + 0
    >>> float(free_energy(energies, beta=jnp.inf)), float(free_energy(energies, beta=0, mean=True))
    (1.0, 1.5)
    """
    _checks.flag("mean", mean)
    given = beta
    energies, beta, windows = _prepare(energies, beta, num_windows, "labels")
    known = _checks.concrete(given)
    labels = _count("num_labels", num_labels, energies.shape[1])
    result = _read(_forward(energies, beta), windows, labels)
    if not mean:
        result = _sum_form(result, windows - 1, labels - 1, beta, len(energies))
        if known is None or known == 0:
            hottest = _sum_form_at_zero(energies, windows, labels)
            result = jnp.where(beta == 0, hottest, result)
    return _with_nan_derivatives(result, energies)


def _sum_form_at_zero(energies: Array, windows: Array, labels: Array) -> Array:
    """Return the limit beta -> 0: the energy of the path, or -inf where several are allowed."""
    allowed = jnp.where(jnp.isinf(energies), jax.nn.relu(energies), 0.0 * energies)
    one = jnp.ones((), energies.dtype)
    mean_form = _read(_forward(allowed, one), windows, labels)
    minus_log_paths = _sum_form(mean_form, windows - 1, labels - 1, one, len(energies))
    only = _read(_forward(energies, jnp.asarray(jnp.inf, energies.dtype)), windows, labels)
    return jnp.where(minus_log_paths < -0.5, -jnp.inf, only)


def best_path(energies, *, num_windows=None, num_labels=None) -> tuple[Array, Array]:
    r"""Return z* = argmin_z E(z), by Viterbi, and its energy.

    Source: A. J. Viterbi (1967), IEEE Transactions on Information Theory 13(2).

    Args:
        energies: (L, T), the energy of every window as every label.
        num_windows: how many windows count, 1 to L; None for all.
        num_labels: how many labels count, 1 to T; None for all.

    Returns:
        The label of every window, (L,) integers, -1 in the padding and everywhere if no path
        is allowed; and F_inf, (). Among ties, the path that advances early.

    Raises:
        TypeError: integer energies. ValueError: a batch, counts out of range.

    >>> import jax.numpy as jnp
    >>> best_path(jnp.array([[0.0, 9.0], [2.0, 1.0], [5.0, 0.0]]))[0].tolist()
    [0, 1, 1]
    """
    energies, beta, windows = _prepare(energies, jnp.inf, num_windows, "labels")
    labels = _count("num_labels", num_labels, energies.shape[1])
    rows = _forward(energies, beta)
    lowest = _read(rows, windows, labels)

    def back(label: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        index, before = at
        advanced = (label > 0) & ~(before[label] <= before[label - 1])
        label = jnp.where(index < windows - 1, label - advanced, label)
        return label, label

    indices = jnp.arange(energies.shape[0] - 1)
    # Walking back from window l to l - 1 reads a(l - 1, .), which is rows[:-1] reversed.
    _, path = jax.lax.scan(back, labels - 1, (indices, rows[:-1]), reverse=True)
    path = jnp.concatenate([path, (labels - 1)[None]])
    seen = jnp.arange(energies.shape[0]) < windows
    path = jnp.where(seen & (lowest < jnp.inf), path, -1)
    return path, _with_nan_derivatives(lowest, energies)


def _check_word(name: str, word, letters: int) -> tuple[Word, Array]:
    """Return the word, and whether it is bad at run time: a letter or a length out of range."""
    if not isinstance(word, Word):
        raise TypeError(f"{name} must be a Word of letters and a length, got {word!r}.")
    spelling = _checks.array(f"{name}.letters", word.letters)
    length = _checks.array(f"{name}.length", word.length)
    for part, given in (("letters", spelling), ("length", length)):
        if not jnp.issubdtype(given.dtype, jnp.integer):
            raise TypeError(f"{name}.{part} must be integers, got {given.dtype}.")
    if spelling.ndim != 1 or length.ndim or not spelling.size:
        raise ValueError(
            f"{name} must have letters (n,) and a length (), got {spelling.shape} and "
            f"{length.shape}: vmap a batch."
        )
    known, end = _checks.concrete(word.letters), _checks.concrete(word.length)
    if known is not None and end is not None and _misspelt(known, end, letters):
        raise ValueError(
            f"{name} must have a length from 0 to {spelling.shape[0]} and so many letters in "
            f"[0, {letters}), got {known} and {end}."
        )
    return Word(spelling, length), jnp.asarray(_misspelt(spelling, length, letters))


def _misspelt(spelling, length, letters: int):
    used = np.arange(spelling.shape[0]) < length
    outside = (used & ((spelling < 0) | (spelling >= letters))).any()
    return outside | (length < 0) | (length > spelling.shape[0])


def _letters(energies: Array) -> int:
    if energies.ndim != 2 or energies.shape[1] < 2 or not energies.shape[0]:
        raise ValueError(
            "energies must be (windows, letters + separator), a letter and a separator at least, "
            f"got {energies.shape}: vmap a batch."
        )
    return energies.shape[1] - 1


def spell(energies, word: Word) -> Array:
    r"""Return the energies of windows as the labels letter, separator, letter, separator, ...

    ``free_energy(spell(energies, word), num_labels=2 * word.length)`` is F(x, word).

    Args:
        energies: (L, K + 1), the energy of every window as one of K letters or, last, as the
            separator that follows every letter.
        word: letters (n,) in [0, K) and how many of them count.

    Returns:
        (L, 2 n).

    Raises:
        TypeError: integer energies, letters that are no integers, what is no ``Word``. ValueError:
            a batch, a letter or a length out of range.

    >>> import jax.numpy as jnp
    >>> spell(jnp.array([[1.0, 2.0, 0.5]]), Word(jnp.array([1, 0]), jnp.array(2))).tolist()
    [[2.0, 0.5, 1.0, 0.5]]
    """
    energies = _checks.floating("energies", energies)
    separator = _letters(energies)
    word, bad = _check_word("word", word, separator)
    letters = jnp.clip(word.letters, 0, separator - 1)
    labels = jnp.stack([letters, jnp.full_like(letters, separator)], 1).reshape(-1)
    return jnp.where(bad, jnp.nan, energies[:, labels])


def words_free_energy(
    energies, *, beta=1.0, num_windows=None, without: Word | None = None
) -> Array:
    r"""Return the free energy of all words (of one letter or more), or of all but one.

        F_beta = -1/beta log sum_{y != without} exp(-beta F_beta(x, y)),   F_inf = min_y F_inf(x, y)

    Exact, over every word that fits: a path either follows the word left out and ends early, or
    leaves it after one of its separators (or at once) for another letter and is then free. With
    ``free_energy`` of the right word it makes the exact NLL, and the exact most offending
    wrong answer.

    Args:
        energies: (L, K + 1), as ``spell`` takes them; finite or +inf.
        beta: inverse temperature > 0, a scalar.
        num_windows: how many windows count, 1 to L; None for all.
        without: the word left out; None for none.

    Returns:
        (), in units of energy; +inf where no word fits.

    Raises:
        TypeError: integer energies. ValueError: a batch, beta <= 0, no letter, counts out of
            range.

    >>> import jax.numpy as jnp
    >>> energies = jnp.array([[0.0, 1.0, 9.0], [9.0, 9.0, 0.0]])  # two letters, two windows
    >>> float(words_free_energy(energies, beta=jnp.inf))
    0.0
    >>> a = Word(jnp.array([0]), jnp.array(1))
    >>> float(words_free_energy(energies, beta=jnp.inf, without=a))
    1.0
    """
    _checks.nonnegative("beta", beta)
    known = _checks.concrete(beta)
    if known is not None and not np.all(known > 0):
        raise ValueError(f"beta must be > 0, got {known}: the sum over all words diverges at 0.")
    energies, beta, windows = _prepare(energies, beta, num_windows, "letters + separator")
    beta = jnp.where(beta > 0, beta, jnp.nan)
    letters = _letters(energies)
    if without is None:
        without = Word(jnp.zeros(1, jnp.int32), jnp.zeros((), jnp.int32))
    without, bad = _check_word("without", without, letters)
    given = without.length > 0
    after, following, unfinished = _followed(energies, beta, without)
    letter = jnp.arange(letters)

    def step(before: tuple[Array, Array], at: tuple[Array, Array]):
        letters, separator = before
        row, followed = at
        # From a separator of the word left out, any letter but its next one leaves it.
        leave = jnp.where(following[:, None] != letter, followed[:, None], jnp.inf)
        begun = jnp.broadcast_to(separator, letters.shape)
        arrivals = jnp.concatenate([jnp.stack([letters, begun]), leave])
        now = (
            row[:-1] + _soft_minimum(arrivals, beta),
            row[-1] + _soft_minimum(jnp.append(letters, separator), beta),
        )
        return now, now[1]

    start = jnp.where(given & (letter == without.letters[0]), jnp.inf, energies[0, :-1])
    nowhere = jnp.asarray(jnp.inf, energies.dtype)
    _, free = jax.lax.scan(step, (start, nowhere), (energies[1:], after[:-1]))
    free = _read(jnp.append(nowhere, free), windows)
    prefixes = jnp.where(unfinished, _read(after, windows), jnp.inf)
    value = jnp.where(bad, jnp.nan, _soft_minimum(jnp.append(prefixes, free), beta))
    return _with_nan_derivatives(value, energies)


def _followed(energies: Array, beta: Array, word: Word) -> tuple[Array, Array, Array]:
    """Return, for every separator of a word, a(l, separator), its next letter, if one follows.

    (L, n), (n,) with -1 after the last letter, and (n,) booleans.
    """
    labels = jnp.arange(2 * word.letters.shape[0])
    rows = _forward(spell(energies, word), beta)
    rows = _sum_form(rows, jnp.arange(len(rows))[:, None], labels, beta, len(rows))[:, 1::2]
    place = jnp.arange(word.letters.shape[0])
    unfinished = place + 1 < word.length
    following = jnp.where(unfinished, jnp.roll(word.letters, -1), -1)
    return jnp.where(place < word.length, rows, jnp.inf), following, unfinished


def best_word(energies, *, num_windows=None, without: Word | None = None) -> tuple[Word, Array]:
    r"""Return y* = argmin_y min_z E(y, z) over all words, or over all but one, and its energy.

    Exact at zero temperature: the lowest path over all words names its word. At finite beta it
    is the word of the lowest path, not always the word of lowest F_beta.

    Args:
        energies: (L, K + 1), as ``spell`` takes them; finite or +inf.
        num_windows: how many windows count, 1 to L; None for all.
        without: a word that is not allowed: the right one, to find the most offending wrong one.

    Returns:
        The word, with room for L // 2 letters (at least one), of length 0 where none fits; and
        its energy F_inf, ().

    Raises:
        TypeError: integer energies. ValueError: a batch, no letter, counts out of range.

    >>> import jax.numpy as jnp
    >>> word, energy = best_word(jnp.array([[0.0, 1.0, 9.0], [9.0, 9.0, 0.0]]))
    >>> word.letters.tolist(), int(word.length), float(energy)
    ([0], 1, 0.0)
    """

    def lowest(energies: Array) -> Array:
        return words_free_energy(energies, beta=jnp.inf, num_windows=num_windows, without=without)

    # The gradient of a minimum over paths is the lowest path, one class for every window.
    energies = jax.lax.stop_gradient(_checks.floating("energies", energies))
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
