"""Random bits, and draws of units, sites and categories from them.

A unit or a site is drawn from the upper 30 bits k of a word and a fraction f in (0, 1) that all
draws of one chain share: (k + f) / 2^30 is uniform up to 2^-62, for one extra word per chain.
Conditional probabilities are thus accurate in both tails, up to the rounding of the logits. Two
draws of a chain are dependent only if the fraction decides both, with a probability of 2^-60.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _threefry
from ebm_jax.types import Array, Key

_RANGE = 2**30  # number of values; with 31 bits, a certain event would overflow int32
_DOMAIN = np.uint32(0x756E6966)  # keeps these words distinct from keys and draws of JAX


def words(
    key: Key, chains: int, n: int, start: int = 0, stop: int | None = None, *, chains_last=False
) -> tuple[Array, Array]:
    """Return two arrays of 32 random bits for every chain.

    They are (chains, stop - start), or (stop - start, chains) with ``chains_last``: the words
    ``start`` to ``stop`` of n. The bits of a chain depend on the key, its index and n, but not on
    the number of chains or of devices.
    """
    stop = n if stop is None else stop
    shape = (stop - start, chains) if chains_last else (chains, stop - start)
    if _threefry.is_threefry(key) and chains * n < 2**32:
        index = [jax.lax.broadcasted_iota(jnp.uint32, shape, axis) for axis in (0, 1)]
        site, chain = index if chains_last else index[::-1]
        return _threefry.words(key, chain * np.uint32(n) + (site + np.uint32(start)), _DOMAIN)
    drawn = jax.random.bits(key, (chains, 2, n), jnp.uint32)[..., start:stop]
    first, second = (drawn[:, i].T if chains_last else drawn[:, i] for i in (0, 1))
    return first, second


def fractions(key: Key, chains: int, n: int, *, chains_last=False) -> tuple[Array, Array]:
    """Return two fractions in (0, 1) per chain, from the last of its n ``words``."""
    last = words(key, chains, n, n - 1, n, chains_last=chains_last)
    parts = [(word.astype(jnp.float32) + 0.5) * 2.0**-32 for word in last]
    # The barrier makes XLA compute them once per chain, instead of again for every variable.
    first, second = jax.lax.optimization_barrier(parts)
    return first, second


def _number(word: Array) -> Array:
    """Return the upper 30 bits, as signed integers, which processors compare fast."""
    return (word >> 2).astype(jnp.int32)


def threshold(logits: Array, fraction: Array) -> Array:
    """Return how many 30-bit numbers are below sigmoid(logit).

    ``fraction`` decides the rounding.
    """
    rare = jnp.exp(-jnp.abs(logits))
    rare = jnp.ceil(rare / (1 + rare) * _RANGE - fraction).astype(jnp.int32)
    return jnp.where(logits >= 0, _RANGE - rare, rare)


def below(word: Array, threshold: Array) -> Array:
    """Return whether the 30-bit number of a word is below a threshold."""
    return _number(word) < threshold


def bernoulli(word: Array, logits: Array, fraction: Array) -> Array:
    """Return True with probability sigmoid(logit), False for NaN.

    It takes one exponential per draw.
    """
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    odds = jnp.exp(-jnp.abs(logits.astype(wide)))  # odds of the less likely value
    place = _number(word).astype(wide) + fraction.astype(wide)
    return (place + place * odds < odds * _RANGE) ^ (logits >= 0)


def both(first: Array, second: Array, q: int) -> tuple[Array, Array]:
    """Return two arrays of unsigned numbers below q, from both generator words.

    One loop makes both, since XLA would run all rounds of the generator for each of two arrays. The
    barrier makes it run once, instead of again in every loop that uses the numbers.
    """
    small = jnp.uint8 if q**2 <= 256 else jnp.uint32
    pair = jax.lax.optimization_barrier(first.astype(small) + small(q) * second.astype(small))
    return pair % small(q), pair // small(q)


def halves(key: Key, logits: Array, n: int, start: int) -> list[tuple[Array, Array]]:
    """Return (words, logits) of the first and of the second half of the variables.

    The variables are on axis 1; the words are those from ``start`` on, of n. If the number of
    variables is odd, the last word is unused.
    """
    chains, size = logits.shape[:2]
    half = -(-size // 2)
    rest = [(0, 0), (0, 2 * half - size)] + [(0, 0)] * (logits.ndim - 2)
    parts = logits[:, :half], jnp.pad(logits[:, half:], rest)
    return list(zip(words(key, chains, n, start, start + half), parts, strict=True))


def units(key: Key, logits: Array, fraction: Array, *, n: int, start: int) -> Array:
    """Return which units are on, (chains, units), with probabilities sigmoid(logit).

    Two units share one of the ``words`` from ``start`` on, of n.
    """
    first, second = (bernoulli(*half, fraction) for half in halves(key, logits, n, start))
    return jnp.concatenate(both(first, second, 2), axis=1)[:, : logits.shape[1]] == 1


def categories(key: Key, logits: Array, fraction: Array, *, n: int, start: int) -> Array:
    """Return categories, (chains, variables), drawn from logits (chains, variables, q).

    The bits are those of ``units``: one of the words for two variables.
    """
    q = logits.shape[-1]
    parts = [
        categorical(word, [half[..., k] for k in range(q)], fraction)
        for word, half in halves(key, logits, n, start)
    ]
    first, second = parts
    return jnp.concatenate(both(first, second, q), axis=1)[:, : logits.shape[1]]


def categorical(word: Array, logits: list, fraction: Array) -> Array:
    """Return categories drawn from one number each, for a list of arrays of logits.

    Every category except the likeliest gets a whole number of the values in the range; the
    likeliest gets the rest. Sums of integers are exact, while sums of probabilities would lose the
    small ones.
    """
    fraction = jnp.expand_dims(fraction, tuple(range(word.ndim - fraction.ndim)))
    highest, likeliest = logits[0], jnp.zeros((), jnp.int32)
    for k, logit in enumerate(logits[1:], 1):
        likeliest = jnp.where(logit > highest, k, likeliest)
        highest = jnp.maximum(highest, logit)
    weights = [jnp.exp(logit - highest) for logit in logits]
    scale = _RANGE / sum(weights)
    left, category = _number(word), likeliest
    for k, weight in enumerate(weights):
        share = jnp.ceil(weight * scale - fraction).astype(jnp.int32)
        share = jnp.where(likeliest == k, 0, share)
        category = jnp.where((left >= 0) & (left < share), k, category)
        left = left - share
    return category
