import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.inference import alignment
from ebm_jax.inference.alignment import Word

SIZES = [(1, 1), (4, 1), (3, 3), (8, 4)]
BETAS = [1e-6, 0.3, 1.0, 40.0]


def paths(windows, labels):
    """Enumerate every monotone onto path, (C(L-1, T-1), L)."""
    steps = itertools.combinations(range(1, windows), labels - 1)
    return np.array([[sum(s <= i for s in cut) for i in range(windows)] for cut in steps])


def path_energies(energies, num_labels=None):
    z = paths(len(energies), num_labels or energies.shape[1])
    return z, energies[np.arange(len(energies)), z].sum(axis=1)


def soft_minimum(values, beta):
    values = np.asarray(values, np.float64)
    low = values.min()
    return low if beta == np.inf else low - np.log(np.exp(-beta * (values - low)).sum()) / beta


def random_energies(*shape, seed=0):
    return 2 * np.random.default_rng(seed).normal(size=shape)


@functools.partial(jax.jit, static_argnames="mean")
def free_energy(energies, beta, mean=False):
    return alignment.free_energy(energies, beta=beta, mean=mean)


value_and_gradient = jax.jit(jax.value_and_grad(free_energy))
slopes = jax.jit(jax.grad(free_energy, (0, 1)), static_argnames="mean")
best_path = jax.jit(alignment.best_path)


@pytest.mark.parametrize("size", SIZES)
def test_there_are_binomially_many_paths(size):
    windows, labels = size
    assert len(paths(*size)) == math.comb(windows - 1, labels - 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("beta", [*BETAS, np.inf])
def test_free_energy_and_its_gradient_are_those_of_enumeration(size, beta):
    with jax.enable_x64(True):
        energies = random_energies(*size)
        z, of_path = path_energies(energies)
        value, gradient = value_and_gradient(energies, beta)
        np.testing.assert_allclose(value, soft_minimum(of_path, beta), rtol=1e-12)
        if beta == np.inf:
            p = of_path == of_path.min()
        else:
            p = np.exp(-beta * (of_path - soft_minimum(of_path, beta)))
        posterior = np.einsum("p,plt->lt", p, np.eye(size[1])[z])
        np.testing.assert_allclose(gradient, posterior, atol=1e-10)


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("beta", [0.3, 5.0])
def test_gradient_is_that_of_finite_differences(beta, mean):
    with jax.enable_x64(True):
        energies = random_energies(6, 3, seed=1)
        value = functools.partial(free_energy, mean=mean)
        gradient, slope = slopes(energies, beta, mean=mean)
        step = 1e-5
        for index in np.ndindex(6, 3):
            nudge = np.zeros((6, 3))
            nudge[index] = step
            both = value(energies + nudge, beta) - value(energies - nudge, beta)
            np.testing.assert_allclose(gradient[index], both / (2 * step), atol=1e-8)
        both = value(energies, beta + step) - value(energies, beta - step)
        np.testing.assert_allclose(slope, both / (2 * step), atol=1e-6)


@pytest.mark.parametrize("beta", [0.0, 1e-30, 1e-6, 1e-2, 1.0, np.inf])
def test_mean_form_is_accurate_in_single_precision_down_to_beta_zero(beta):
    energies = random_energies(9, 4, seed=2).astype(np.float32)
    _, of_path = path_energies(energies.astype(np.float64))
    low, gaps = of_path.min(), of_path - of_path.min()
    if beta in (0.0, np.inf):
        exact = of_path.mean() if beta == 0 else low
    else:
        exact = low - np.log1p(np.expm1(-beta * gaps).mean()) / beta
    found = free_energy(energies, beta, mean=True)
    np.testing.assert_allclose(found, exact, rtol=3e-6)


def test_sum_form_at_beta_zero_diverges_unless_there_is_one_path():
    energies = random_energies(5, 2)
    assert free_energy(energies, 0) == -jnp.inf
    one = free_energy(energies[:2], 0)
    np.testing.assert_allclose(one, energies[0, 0] + energies[1, 1], rtol=1e-6)


@pytest.mark.parametrize("size", SIZES)
def test_best_path_is_the_lowest_of_all(size):
    with jax.enable_x64(True):
        energies = random_energies(*size, seed=3)
        z, of_path = path_energies(energies)
        path, energy = best_path(energies)
        assert path.tolist() == z[of_path.argmin()].tolist()
        np.testing.assert_allclose(energy, of_path.min(), rtol=1e-12)
        _, gradient = value_and_gradient(energies, np.inf)
        assert np.array_equal(gradient, np.eye(size[1])[path])


def test_at_a_tie_viterbi_and_its_gradient_take_the_same_path():
    path, _ = best_path(jnp.zeros((6, 3)))
    _, gradient = value_and_gradient(jnp.zeros((6, 3)), np.inf)
    assert path.tolist() == [0, 1, 2, 2, 2, 2]
    assert np.array_equal(gradient, np.eye(3)[path])


@jax.jit
@functools.partial(jax.vmap, in_axes=(0, 0, 0, None))
def aligned(energies, windows, labels, beta):
    """Return F and its gradient, the best path and its energy, of part of the energies."""
    part = {"num_windows": windows, "num_labels": labels}
    found = jax.value_and_grad(lambda e: alignment.free_energy(e, beta=beta, **part))(energies)
    return found, alignment.best_path(energies, **part)


@pytest.mark.parametrize("beta", [0.5, np.inf])
def test_padding_is_never_read_even_under_jit_and_vmap(beta):
    energies = random_energies(7, 4, seed=4).astype(np.float32)
    counts = [(7, 4), (5, 2), (3, 3), (4, 1), (2, 3)]
    padded = np.full((len(counts), 7, 4), np.nan, np.float32)
    for row, (windows, labels) in zip(padded, counts, strict=True):
        row[:windows, :labels] = energies[:windows, :labels]
    (found, gradients), (found_paths, lowest) = jax.tree.map(
        np.asarray, aligned(padded, *np.array(counts).T, beta)
    )
    for i, (n, t) in enumerate(counts[:-1]):
        z, of_path = path_energies(energies[:n, :t].astype(np.float64))
        np.testing.assert_allclose(found[i], soft_minimum(of_path, beta), rtol=1e-5)
        np.testing.assert_allclose(lowest[i], of_path.min(), rtol=1e-5)
        assert found_paths[i].tolist() == [*z[of_path.argmin()], *[-1] * (7 - n)]
        np.testing.assert_allclose(gradients[i].sum(), n, rtol=1e-5)
        assert not gradients[i][n:].any()
        assert not gradients[i][:, t:].any()
    assert found[-1] == jnp.inf  # more labels than windows: no path
    assert found_paths[-1].tolist() == [-1] * 7
    assert not gradients[-1].any()


@pytest.mark.parametrize("beta", [0.7, np.inf])
def test_an_infinite_energy_forbids_and_has_no_gradient(beta):
    energies = random_energies(6, 3, seed=5).astype(np.float32)
    energies[2, 1] = energies[4, 2] = np.inf
    _, of_path = path_energies(energies.astype(np.float64))
    finite = of_path[np.isfinite(of_path)]
    value, gradient = value_and_gradient(energies, beta)
    np.testing.assert_allclose(value, soft_minimum(finite, beta), rtol=1e-5)
    assert np.isfinite(gradient).all()
    assert gradient[2, 1] == gradient[4, 2] == 0
    nothing = free_energy(np.full((3, 2), np.inf, np.float32), beta)
    assert nothing == jnp.inf


def test_a_nan_that_counts_is_returned():
    everywhere, one = np.full((3, 2), np.nan, np.float32), np.zeros((3, 2), np.float32)
    one[1, 1] = np.nan
    assert np.isnan(free_energy(everywhere, 1.0))
    assert np.isnan(free_energy(one, 1.0))


def test_bfloat16_and_long_alignments_stay_finite():
    energies = random_energies(200, 40, seed=6).astype(np.float32)
    half = free_energy(energies.astype(jnp.bfloat16), 0.5)
    assert half.dtype == jnp.bfloat16
    assert np.isfinite(half)
    with jax.enable_x64(True):
        exact = free_energy(energies.astype(np.float64), 0.5)
    np.testing.assert_allclose(free_energy(energies, 0.5), exact, rtol=1e-5)


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

    def free(word=None):
        return alignment.words_free_energy(energies, beta=beta, without=word)

    return free(), [jax.vmap(free)(words) for words in without]


def word_energies(energies, words, beta):
    separator = energies.shape[1] - 1
    spelt = [energies[:, [c for letter in w for c in (letter, separator)]] for w in words]
    return np.array([soft_minimum(path_energies(e)[1], beta) for e in spelt])


@pytest.mark.parametrize("beta", [0.6, 3.0, np.inf])
def test_free_energy_over_all_words_is_that_of_enumeration(beta):
    with jax.enable_x64(True):
        energies = random_energies(6, 3, seed=7)
        words = all_words(6, 2)
        each = word_energies(energies, words, beta)
        found, without = over_all_words(energies, beta, *(padded_words(words, n) for n in (3, 5)))
        np.testing.assert_allclose(found, soft_minimum(each, beta), rtol=1e-12)
        rest = [soft_minimum(np.delete(each, i), beta) for i in range(len(words))]
        for found in without:
            np.testing.assert_allclose(found, rest, rtol=1e-12)


def test_spelling_gives_the_energy_of_a_word():
    energies = random_energies(6, 3, seed=7).astype(np.float32)

    @jax.jit
    def spelt_free_energy(word):
        return alignment.free_energy(alignment.spell(energies, word), num_labels=4)

    found = spelt_free_energy(padded_word((1, 1), 4))
    np.testing.assert_allclose(found, word_energies(energies, [(1, 1)], 1.0)[0], rtol=1e-5)


@jax.jit
def best_words(energies, windows, without):
    """Return the best word but each of ``without``, and the best of all."""

    def best(word=None):
        return alignment.best_word(energies, num_windows=windows, without=word)

    return jax.vmap(best)(without), best()


@pytest.mark.parametrize("windows", [2, 4, 6])
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
            return alignment.words_free_energy(e, beta=1.3, without=padded_word((1, 1), 3))

        gradient = jax.jit(jax.grad(value))(energies)
        for index in np.ndindex(6, 3):
            nudge = np.zeros((6, 3))
            nudge[index] = step
            both = value(energies + nudge) - value(energies - nudge)
            np.testing.assert_allclose(gradient[index], both / (2 * step), atol=1e-8)
        np.testing.assert_allclose(gradient.sum(axis=1), 1)


def test_where_no_word_fits_the_free_energy_is_infinite():
    word, energy = jax.jit(alignment.best_word)(jnp.zeros((1, 3)))
    assert int(word.length) == 0
    assert energy == jnp.inf
