"""A lattice as the two colours of a checkerboard, the chains last, and the conditionals of a site.

Sites of the even colour have row + column even. Each colour is (rows, columns / 2, chains): loops
over chains vectorise, and a neighbour is a shift along another axis.
"""

import jax
import jax.numpy as jnp

from ebm_jax.energies.lattice import Ising, Potts
from ebm_jax.samplers import _discrete
from ebm_jax.types import Array


def _dtype(params: Ising | Potts) -> jnp.dtype:
    return jnp.promote_types(jnp.result_type(*params), jnp.float32)


def split(x: Array) -> tuple[Array, Array]:
    """Return the even and the odd sites of (chains, rows, columns), the chains last."""
    rows, columns = x.shape[1:]
    pairs = jnp.moveaxis(x, 0, -1).reshape(rows // 2, 2, columns // 2, 2, -1)
    boards = [
        jnp.stack([pairs[:, 0, :, first], pairs[:, 1, :, 1 - first]], axis=1) for first in (0, 1)
    ]
    even, odd = (board.reshape(rows, columns // 2, -1) for board in boards)
    return even, odd


def join(even: Array, odd: Array) -> Array:
    """Return (..., chains, rows, columns) from the even and the odd sites, (..., chains)."""
    *lead, rows, half, chains = even.shape
    a, b = (board.reshape(*lead, rows // 2, 2, half, chains) for board in (even, odd))
    upper = jnp.stack([a[..., 0, :, :], b[..., 0, :, :]], axis=-2)  # (rows / 2, half, 2, chains)
    lower = jnp.stack([b[..., 1, :, :], a[..., 1, :, :]], axis=-2)
    both = jnp.stack([upper, lower], axis=-4).reshape(*lead, rows, 2 * half, chains)
    return jnp.moveaxis(both, -1, -3)


def neighbours(other: Array, parity: int) -> list[Array]:
    """Return the four neighbours, all of the other colour, of the sites of a parity.

    In its own row a site has the site of its number, and the one before or after it.
    """
    # The torus is unrolled once: slices of it fuse into the loops that use them, shifts do not.
    around = jnp.pad(other, ((1, 1), (1, 1), (0, 0)), mode="wrap")
    around = jax.lax.optimization_barrier(around)
    before = jax.lax.broadcasted_iota(jnp.int32, (other.shape[0], 1, 1), 0) % 2 == parity
    beside = jnp.where(before, around[1:-1, :-2], around[1:-1, 2:])
    return [around[:-2, 1:-1], around[2:, 1:-1], other, beside]


def draw(params: Ising | Potts, beta, uniform: Array, around: list, dtype) -> Array:
    """Return the sites of one colour given their neighbours, one uniform number each."""
    if isinstance(params, Potts):
        return _draw_colours(params, beta, uniform, around).astype(dtype)
    up, down, same, beside = around
    # As wide as what it chooses: masks of 8 bits would be widened at every level.
    total, chains = (up + down + same + beside).astype(jnp.int32), uniform.shape[-1]

    def probability(total: int) -> Array:
        logit = jnp.asarray(2 * (params.coupling * total + params.field), _dtype(params))
        return jax.nn.sigmoid(_discrete.scaled(beta, jnp.broadcast_to(logit, (chains,))))

    # Four spins have five sums: the probabilities are looked up instead of computed.
    chosen = probability(4)
    for level in (2, 0, -2, -4):
        chosen = jnp.where(total <= level, probability(level), chosen)
    # The barrier: spins drawn once, not again in every loop that looks at a neighbour.
    return jax.lax.optimization_barrier(jnp.where(uniform < chosen, 1, -1).astype(dtype))


def _draw_colours(params: Potts, beta, uniform: Array, around: list) -> Array:
    logits = [
        params.coupling * sum((n == k).astype(_dtype(params)) for n in around) + params.field[k]
        for k in range(len(params.field))
    ]
    return _discrete.categorical(uniform, [_discrete.scaled(beta, x, -1) for x in logits])


def energy(params: Ising | Potts, even: Array, odd: Array, around: list) -> Array:
    """Return E (chains,), given the neighbours of the odd sites: every bond is one of theirs."""
    if isinstance(params, Potts):
        return _energy_colours(params, even, odd, around)
    spins = odd.astype(jnp.int32)
    bonds = jnp.sum(spins * sum(around), axis=(0, 1))
    total = jnp.sum(even.astype(jnp.int32) + spins, axis=(0, 1))
    return -(params.coupling * bonds + params.field * total)


def _energy_colours(params: Potts, even: Array, odd: Array, around: list) -> Array:
    bonds = jnp.sum(sum((n == odd).astype(jnp.int32) for n in around), axis=(0, 1))
    field = jnp.asarray(params.field)
    return -(params.coupling * bonds + jnp.sum(field[even] + field[odd], axis=(0, 1)))
