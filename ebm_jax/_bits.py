"""Random bits, and draws of units, sites and categories from them.

A unit or a site is drawn from the upper 30 bits k of a word and a fraction f in (0, 1) that the
draws of one chain share: (k + f) / 2^30 is uniform to 2^-62, at the cost of one word more for each
chain. Conditionals so have their probabilities in both tails, up to the rounding of the logits.
Two draws of a chain are dependent only where the fraction decides both: with a probability of
2^-60.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _threefry
from ebm_jax.types import Array, Key

_RANGE = 2**30  # how many numbers there are; with 31 bits a certain event would overflow int32
_DOMAIN = np.uint32(0x756E6966)  # none of our words is a key or a draw derived from the key


def words(
    key: Key, chains: int, n: int, start: int = 0, stop: int | None = None, *, chains_last=False
) -> tuple[Array, Array]:
    """Return two arrays (chains, stop - start) of 32 random bits, or (stop - start, chains).

    They are numbers start to stop of n. The bits of a chain depend on the key, its index and n,
    not on how many chains there are or on how many devices share them.
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
    """Return two fractions in (0, 1) for each chain, of the last of its n pairs of ``words``."""
    last = words(key, chains, n, n - 1, n, chains_last=chains_last)
    parts = [(word.astype(jnp.float32) + 0.5) * 2.0**-32 for word in last]
    # The barrier: made once for each chain, not again for every variable in the loops over them.
    first, second = jax.lax.optimization_barrier(parts)
    return first, second


def _number(word: Array) -> Array:
    """Return the upper 30 bits: signed numbers are what processors compare and convert."""
    return (word >> 2).astype(jnp.int32)


def threshold(logits: Array, fraction: Array) -> Array:
    """Return how many numbers are below sigmoid(logit): one more at the right fractions."""
    rare = jnp.exp(-jnp.abs(logits))
    rare = jnp.ceil(rare / (1 + rare) * _RANGE - fraction).astype(jnp.int32)
    return jnp.where(logits >= 0, _RANGE - rare, rare)


def below(word: Array, threshold: Array) -> Array:
    """Return whether the number of a word is below a threshold."""
    return _number(word) < threshold


def bernoulli(word: Array, logits: Array, fraction: Array) -> Array:
    """Return true with probability sigmoid(logit), False for NaN; one exponential each."""
    wide = jnp.promote_types(logits.dtype, jnp.float32)
    odds = jnp.exp(-jnp.abs(logits.astype(wide)))  # of the less likely of the two
    place = _number(word).astype(wide) + fraction.astype(wide)
    return (place + place * odds < odds * _RANGE) ^ (logits >= 0)


def both(first: Array, second: Array, q: int) -> tuple[Array, Array]:
    """Return two arrays of numbers below q, of the two words of the generator, as unsigned ones.

    They are made in one loop, as one array: of two, each would run all rounds of the generator.
    The barrier: drawn once, not again in every loop that uses them.
    """
    small = jnp.uint8 if q**2 <= 256 else jnp.uint32
    pair = jax.lax.optimization_barrier(first.astype(small) + small(q) * second.astype(small))
    return pair % small(q), pair // small(q)


def halves(key: Key, logits: Array, n: int, start: int) -> list[tuple[Array, Array]]:
    """Return (words, logits) of the first half of the variables, on axis 1, and of the second.

    The words are number ``start`` and the following of n. An odd last variable has a partner that
    is not used.
    """
    chains, size = logits.shape[:2]
    half = -(-size // 2)
    rest = [(0, 0), (0, 2 * half - size)] + [(0, 0)] * (logits.ndim - 2)
    parts = logits[:, :half], jnp.pad(logits[:, half:], rest)
    return list(zip(words(key, chains, n, start, start + half), parts, strict=True))


def units(key: Key, logits: Array, fraction: Array, *, n: int, start: int) -> Array:
    """Return which units are on, (chains, units): true with probability sigmoid(logit) each.

    The bits are ``words`` from start on, of n: one of them for two units.
    """
    first, second = (bernoulli(*half, fraction) for half in halves(key, logits, n, start))
    return jnp.concatenate(both(first, second, 2), axis=1)[:, : logits.shape[1]] == 1


def categorical(word: Array, logits: list, fraction: Array) -> Array:
    """Return categories from an array of logits for each of them, of one number each.

    Whole numbers of the range belong to every category but the likeliest, which has the rest: sums
    of them lose nothing, where sums of probabilities would lose the small ones.
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
