"""The reader of words against the enumeration of all words and of all paths."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.inference import alignment
from experiments.questions import word_reader
from experiments.questions.word_reader import NO_WORD, Word


def random_energies(*shape, seed=0):
    return 2 * np.random.default_rng(seed).normal(size=shape)


def all_words(windows, letters):
    lengths = range(1, windows // 2 + 1)
    return [w for n in lengths for w in itertools.product(range(letters), repeat=n)]


def padded_word(word, size):
    return Word(np.array([*word, *[-1] * (size - len(word))]), np.array(len(word)))


def padded_words(words, size):
    return jax.tree.map(lambda *w: np.stack(w), *[padded_word(w, size) for w in words])


@jax.jit
def over_all_words(energies, beta, *without):
    """Return F over all words, and over all but each of the words of every padding."""

    def free(word=NO_WORD):
        return word_reader.words_free_energy(energies, beta=beta, without=word)

    return free(), [jax.vmap(free)(words) for words in without]


def word_energies(energies, words, beta):
    separator = energies.shape[1] - 1
    spelt = [energies[:, [c for letter in w for c in (letter, separator)]] for w in words]
    return np.array([oracles.soft_minimum(oracles.alignment_energies(e)[1], beta) for e in spelt])


@pytest.mark.parametrize("beta", [0.6, 3.0, np.inf])
@pytest.mark.sweep(1)
def test_free_energy_over_all_words_is_that_of_enumeration(beta):
    with jax.enable_x64(True):
        energies = random_energies(6, 3, seed=7)
        words = all_words(6, 2)
        each = word_energies(energies, words, beta)
        found, without = over_all_words(energies, beta, *(padded_words(words, n) for n in (3, 5)))
        np.testing.assert_allclose(found, oracles.soft_minimum(each, beta), rtol=1e-12)
        rest = [oracles.soft_minimum(np.delete(each, i), beta) for i in range(len(words))]
        for found in without:
            np.testing.assert_allclose(found, rest, rtol=1e-12)


def test_spelling_gives_the_energy_of_a_word():
    energies = random_energies(6, 3, seed=7).astype(np.float32)

    @jax.jit
    def spelt_free_energy(word):
        return alignment.free_energy(word_reader.spell(energies, word), num_labels=4)

    found = spelt_free_energy(padded_word((1, 1), 4))
    np.testing.assert_allclose(found, word_energies(energies, [(1, 1)], 1.0)[0], rtol=1e-5)


@jax.jit
def best_words(energies, windows, without):
    """Return the best word but each of ``without``, and the best of all."""

    def best(word=NO_WORD):
        return word_reader.best_word(energies, num_windows=windows, without=word)

    return jax.vmap(best)(without), best()


@pytest.mark.parametrize("windows", [2, 4, 6])
@pytest.mark.sweep(1)
def test_best_word_is_the_lowest_of_all_with_padding_under_vmap(windows):
    energies = random_energies(6, 3, seed=8)
    words = all_words(windows, 2)
    each = word_energies(energies[:windows], words, np.inf)
    energies[windows:] = np.nan
    # Some twice, so that there are as many for every number of windows.
    without = jax.tree.map(lambda w: np.resize(w, (14, *w.shape[1:])), padded_words(words, 3))
    (found, energy), (word, _) = jax.tree.map(
        np.asarray, best_words(energies.astype(np.float32), windows, without)
    )
    for i in range(len(words)):
        others = np.delete(np.arange(len(words)), i)
        best = words[others[each[others].argmin()]]
        assert found.letters[i][: int(found.length[i])].tolist() == list(best)
        np.testing.assert_allclose(energy[i], each[others].min(), rtol=1e-5)
    assert word.letters[: int(word.length)].tolist() == list(words[each.argmin()])


def test_gradient_over_all_words_is_that_of_finite_differences():
    with jax.enable_x64(True):
        energies, step = random_energies(6, 3, seed=9), 1e-5

        @jax.jit
        def value(e):
            return word_reader.words_free_energy(e, beta=1.3, without=padded_word((1, 1), 3))

        gradient = jax.jit(jax.grad(value))(energies)
        for index in np.ndindex(6, 3):
            nudge = np.zeros((6, 3))
            nudge[index] = step
            both = value(energies + nudge) - value(energies - nudge)
            np.testing.assert_allclose(gradient[index], both / (2 * step), atol=1e-8)
        np.testing.assert_allclose(gradient.sum(axis=1), 1)


def test_where_no_word_fits_the_free_energy_is_infinite():
    word, energy = jax.jit(word_reader.best_word)(jnp.zeros((1, 3)))
    assert int(word.length) == 0
    assert energy == jnp.inf
