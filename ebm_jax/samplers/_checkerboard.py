"""Lattices split into the two colours of a checkerboard, and their conditionals.

Sites of the even colour have an even row + column. Each colour is (rows, columns / 2, chains), with
the chains last: loops over chains vectorise, and a neighbour is a shift along another axis.
"""

import jax
import jax.numpy as jnp

from ebm_jax import _bits, _discrete
from ebm_jax.energies.lattice import Ising, Potts
from ebm_jax.types import Array, Key


def _dtype(params: Ising | Potts) -> jnp.dtype:
    return jnp.promote_types(jnp.result_type(*params), jnp.float32)


def split(x: Array) -> tuple[Array, Array]:
    """Return the even and the odd sites of (chains, rows, columns), chains last."""
    chains, rows, columns = x.shape
    # One axis at a time: over Explicit mesh axes JAX splits or joins only one at once.
    pairs = jnp.moveaxis(x, 0, -1).reshape(rows // 2, 2, columns, chains)
    pairs = pairs.reshape(rows // 2, 2, columns // 2, 2, chains)
    boards = [
        jnp.stack([pairs[:, 0, :, first], pairs[:, 1, :, 1 - first]], axis=1) for first in (0, 1)
    ]
    even, odd = (board.reshape(rows, columns // 2, -1) for board in boards)
    return even, odd


def join(even: Array, odd: Array) -> Array:
    """Return (..., chains, rows, columns) from even and odd sites (..., chains)."""
    *lead, rows, half, chains = even.shape
    a, b = (board.reshape(*lead, rows // 2, 2, half, chains) for board in (even, odd))
    upper = jnp.stack([a[..., 0, :, :], b[..., 0, :, :]], axis=-2)  # (rows / 2, half, 2, chains)
    lower = jnp.stack([b[..., 1, :, :], a[..., 1, :, :]], axis=-2)
    both = jnp.stack([upper, lower], axis=-4).reshape(*lead, rows, half, 2, chains)
    both = both.reshape(*lead, rows, 2 * half, chains)
    return jnp.moveaxis(both, -1, -3)


def neighbours(other: Array, parity: int) -> list[Array]:
    """Return the four neighbours of the sites of a parity, all of the other colour.

    In its own row, a site's neighbours are the site with the same index and the one before or after
    it.
    """
    # The torus is padded once: XLA fuses slices of it into the loops that use them, but not rolls.
    around = jnp.pad(other, ((1, 1), (1, 1), (0, 0)), mode="wrap")
    around = jax.lax.optimization_barrier(around)
    before = jax.lax.broadcasted_iota(jnp.int32, (other.shape[0], 1, 1), 0) % 2 == parity
    beside = jnp.where(before, around[1:-1, :-2], around[1:-1, 2:])
    return [around[:-2, 1:-1], around[2:, 1:-1], other, beside]


def draw(params: Ising | Potts, beta, key: Key, other: Array, parity: int, dtype) -> Array:
    """Draw the sites of a parity, given the sites ``other`` of the other parity."""
    rows, half, chains = other.shape
    around, upper = neighbours(other, parity), rows // 2
    calls = upper * half  # each makes a number for a site of the upper half, and one below
    n = 2 * calls + 1
    words = _bits.words(key, chains, n, parity * calls, (1 + parity) * calls, chains_last=True)
    words = [word.reshape(upper, half, chains) for word in words]
    fraction = _bits.fractions(key, chains, n, chains_last=True)[parity][0]
    q = len(params.field) if isinstance(params, Potts) else 2

    def choose(word: Array, around: list) -> Array:
        if isinstance(params, Potts):
            return _colour(params, beta, word, around, fraction)
        return _is_up(params, beta, word, around, fraction)

    first = choose(words[0], [board[:upper] for board in around])
    second = choose(words[1], [board[upper:] for board in around])
    chosen = jnp.concatenate(_bits.both(first, second, q)).astype(dtype)
    return jax.lax.optimization_barrier(chosen if isinstance(params, Potts) else 2 * chosen - 1)


def _is_up(params: Ising, beta, word: Array, around: list, fraction: Array) -> Array:
    up, down, same, beside = around
    # In the width of the values it selects: masks with 8 bits would be widened at every level.
    total, chains = (up + down + same + beside).astype(jnp.int32), word.shape[-1]

    def threshold(total: int) -> Array:
        logit = jnp.asarray(2 * (params.coupling * total + params.field), _dtype(params))
        logits = _discrete.scaled(beta, jnp.broadcast_to(logit, (chains,)))
        return _bits.threshold(logits, fraction)

    # Four spins have five possible sums: their thresholds are looked up instead of computed.
    levels = (4, 2, 0, -2, -4)
    chosen, *others = jax.lax.optimization_barrier([threshold(level) for level in levels])
    for level, other in zip(levels[1:], others, strict=True):
        chosen = jnp.where(total <= level, other, chosen)
    return _bits.below(word, chosen)


def _colour(params: Potts, beta, word: Array, around: list, fraction: Array) -> Array:
    logits = [
        params.coupling * sum((n == k).astype(_dtype(params)) for n in around) + params.field[k]
        for k in range(len(params.field))
    ]
    return _bits.categorical(word, _discrete.scaled_gaps(beta, logits, -1), fraction)


def energy(params: Ising | Potts, even: Array, odd: Array, around: list) -> Array:
    """Return E (chains,), given the neighbours of the odd sites.

    Each bond joins an odd site to an even one.
    """
    if isinstance(params, Potts):
        return _energy_colours(params, even, odd, around)
    spins = odd.astype(jnp.int32)
    bonds = jnp.sum(spins * sum(around).astype(jnp.int32), axis=(0, 1))  # pyright: ignore
    total = jnp.sum(even.astype(jnp.int32) + spins, axis=(0, 1))
    kind = _dtype(params)
    return -(params.coupling * bonds.astype(kind) + params.field * total.astype(kind))


def _energy_colours(params: Potts, even: Array, odd: Array, around: list) -> Array:
    bonds = jnp.sum(sum((n == odd).astype(jnp.int32) for n in around), axis=(0, 1))
    even, odd = (_discrete.look_up(jnp.asarray(params.field), board) for board in (even, odd))
    return -(params.coupling * bonds.astype(even.dtype) + jnp.sum(even + odd, axis=(0, 1)))
