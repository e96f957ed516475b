"""The noise of the samplers: both words of threefry, in one flat draw.

Statistics are z-scores over fixed keys, refused beyond 5: with fewer than 200 of them the chance
that a good generator would fail a choice of keys is below 1.2e-4. P-values are refused below 1e-6.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ebm_jax import _noise, _threefry

NUM = 400_000


def draw(key, chains, *shape, dtype=jnp.float32):
    return np.asarray(_noise.standard_normal(key, [jnp.zeros((chains, *shape), dtype)])[0])


def assert_uncorrelated(a, b):
    for power in (1, 2):
        score = np.corrcoef(a.ravel() ** power, b.ravel() ** power)[0, 1] * np.sqrt(a.size)
        assert abs(score) < 5


def words(key, num, domain=_noise._DOMAIN):
    return _threefry.words(key, jnp.arange(num, dtype=jnp.uint32), domain)


def test_words_are_threefry():
    """Known answers of threefry2x32 with 20 rounds (Random123's kat_vectors)."""
    ones = 0xFFFFFFFF
    for key, counter, expected in (
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((ones, ones), (ones, ones), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ):
        typed = jax.random.wrap_key_data(jnp.array(key, jnp.uint32))
        found = _threefry.words(typed, jnp.uint32(counter[1]), np.uint32(counter[0]))
        assert tuple(map(int, found)) == expected


def test_no_word_is_a_key_derived_from_the_same_key():
    """fold_in(key, t), split(key)[t] and the bits of jax.random are made of other words."""
    key, num = jax.random.key(0), 2000
    found = np.stack([np.asarray(w) for w in words(key, num)], axis=1)
    folded = jax.vmap(lambda t: jax.random.fold_in(key, t))(jnp.arange(num))
    derived = [jax.random.key_data(folded), jax.random.key_data(jax.random.split(key, num))]
    pairs = {tuple(row) for keys in derived for row in np.asarray(keys).tolist()}
    assert len(pairs) >= num
    assert not pairs & {tuple(row) for row in found.tolist()}
    bits = np.asarray(jax.random.bits(key, (num,)))
    # Two sets of 2,000 of 2^32 words share one with a probability of 1e-3, for fixed keys never.
    assert not set(bits.tolist()) & set((found[:, 0] ^ found[:, 1]).tolist())


@pytest.mark.parametrize("size", [1, 2, 3])
@pytest.mark.sweep(1)
def test_moments_and_distribution(size):
    z = draw(jax.random.key(size), NUM, size).astype(np.float64)
    # E[z^p] and Var[z^p] of a standard normal.
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        score = ((z**power).mean(axis=0) - mean) / np.sqrt(variance / NUM)
        assert np.all(np.abs(score) < 5)
    assert min(stats.kstest(column, "norm").pvalue for column in z.T) > 1e-6


def test_no_correlation_across_words_chains_steps_and_keys():
    key = jax.random.key(0)
    z = draw(key, NUM, 2)
    assert_uncorrelated(z[:, 0], z[:, 1])  # the two words of one call
    assert_uncorrelated(z[1:], z[:-1])  # neighbouring chains
    assert_uncorrelated(z[1:, 0], z[:-1, 1])
    for step in (1, 2):
        first, second = (draw(jax.random.fold_in(key, t), NUM, 2) for t in (0, step))
        assert_uncorrelated(first, second)
    assert_uncorrelated(z, draw(jax.random.key(1), NUM, 2))
    assert_uncorrelated(z, np.asarray(jax.random.normal(key, z.shape)))


def test_leaves_are_independent():
    a, b = _noise.standard_normal(jax.random.key(0), [jnp.zeros((NUM, 2)), jnp.zeros(NUM)])
    assert a.shape == (NUM, 2)
    assert_uncorrelated(np.asarray(a[:, 0]), np.asarray(b))
    assert_uncorrelated(np.asarray(a[:, 1]), np.asarray(b))


@pytest.mark.parametrize("shape", [(), (2,), (3,), (4, 5)])
@pytest.mark.sweep(1)
def test_a_chain_draws_the_same_whatever_the_number_of_chains(shape):
    key = jax.random.key(0)
    np.testing.assert_array_equal(draw(key, 7, *shape), draw(key, 1000, *shape)[:7])


def test_typed_and_raw_keys_agree():
    typed = jax.random.key(3)
    np.testing.assert_array_equal(draw(typed, 5, 2), draw(jax.random.key_data(typed), 5, 2))


def test_under_vmap_every_key_draws_its_own():
    keys = jax.random.split(jax.random.key(0), 3)
    many = jax.vmap(lambda key: _noise.standard_normal(key, [jnp.zeros((5, 3))])[0])(keys)
    for key, one in zip(keys, many, strict=True):
        np.testing.assert_array_equal(one, draw(key, 5, 3))


def test_other_generators_use_their_own_normal():
    key = jax.random.key(0, impl="rbg")
    np.testing.assert_array_equal(draw(key, 3, 2), jax.random.normal(key, (6,)).reshape(3, 2))


def test_double_precision_has_its_bits():
    with jax.enable_x64(True):
        z = draw(jax.random.key(0), NUM, 2, dtype=jnp.float64)
    assert z.dtype == np.float64
    assert stats.kstest(z.ravel(), "norm").pvalue > 1e-6
    assert np.mean(z == z.astype(np.float32)) < 1e-3


def test_narrow_types_are_drawn_in_float32():
    z = draw(jax.random.key(0), 10_000, 2, dtype=jnp.bfloat16)
    assert z.dtype == np.float32
    assert np.unique(z).size > 19_000
