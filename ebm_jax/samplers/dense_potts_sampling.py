"""Gibbs sampling of Potts models with couplings between all sites."""

import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _bits, _checks, _discrete
from ebm_jax._trees import check_chains
from ebm_jax.energies import _parameters
from ebm_jax.energies.potts import DensePotts
from ebm_jax.samplers.gibbs_sampling import GibbsInfo, GibbsState
from ebm_jax.types import Array, Key, Sampler


def dense_potts_gibbs(
    params: DensePotts, *, beta: ArrayLike = 1.0, clamp: ArrayLike | None = None
) -> Sampler:
    r"""Return a Gibbs sampler for a Potts model with couplings between all sites.

    .. math:: P(x_i = a \mid x_{\neg i}) \propto
              \exp\Big[\beta \Big(h_i(a) + \sum_{j \ne i} J_{ij}(a, x_j)\Big)\Big]

    where L is the number of sites, q the number of letters, and :math:`J_{ij}(a, b)` the mean of
    ``couplings[i, a, j, b]`` and ``couplings[j, b, i, a]``. A step is a sweep over the sites in
    order, which leaves the target invariant. The sums over j come from one matrix product for a
    block of sites and all chains; within the block they are updated after each draw. One site of
    one chain takes O(L q^2) multiplications, where ``systematic_scan_gibbs`` takes O(L^2 q^3). At
    beta = inf it chooses the most likely letter. Source: Geman and Geman (1984), Stochastic
    relaxation, Gibbs distributions, and the Bayesian restoration of images, IEEE PAMI 6.

    Args:
        params: ``potts.DensePotts(couplings, fields)``, (L, q, L, q) and (L, q), finite.
        beta: inverse temperature >= 0, one number or one per chain.
        clamp: booleans that broadcast to the positions, True for sites that do not move.

    Returns:
        A ``Sampler`` of positions (chains, L), integers from 0 to q - 1 (or booleans for q = 2),
        with ``GibbsState`` and ``GibbsInfo``; int8 takes the least memory.

    Raises:
        TypeError: if positions are floating point, or their type cannot hold the letters.
        ValueError: if beta is negative, a letter is outside 0 to q - 1, or a shape does not fit.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.energies.potts import DensePotts
    >>> sampler = dense_potts_gibbs(DensePotts(jnp.zeros((6, 4, 6, 4)), jnp.zeros((6, 4))))
    >>> state = sampler.init(jnp.zeros((1000, 6), jnp.int8))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> state.position.shape, 0.7 < float(info.changed.mean()) < 0.8
    ((1000, 6), True)
    """
    _checks.nonnegative("beta", beta)
    couplings, fields = _parameters.dense_potts(params, DensePotts)
    length, q = fields.shape
    # The product for a site has L q^2 terms, an update after a draw size q^2: about sqrt(L) sites.
    blocks = math.isqrt(max(length, 1))
    size = -(-length // blocks)
    rest = blocks * size - length  # sites without couplings, whose letters are not kept
    w = jnp.pad(couplings, ((0, rest), (0, 0), (0, rest), (0, 0)))
    fields = jnp.pad(fields, ((0, rest), (0, 0)))

    def init(position: Array) -> GibbsState:
        check_chains(position)
        _discrete.check_position(position, np.arange(q))
        if np.shape(position)[1:] != (length,):
            raise ValueError(
                f"Positions must be sequences, (chains, {length}), got {np.shape(position)}."
            )
        if not _discrete.moves(position):
            raise TypeError(f"Positions must be integers or booleans, got {position.dtype}.")
        return GibbsState(jnp.asarray(position))

    def step(key: Key, state: GibbsState) -> tuple[GibbsState, GibbsInfo]:
        _checks.one_key(key)
        x = jnp.pad(state.position.T.astype(jnp.int32), ((0, rest), (0, 0)))
        stay = None
        if clamp is not None:
            stay = _discrete.clamped_leaf(clamp, state.position.shape).T
            stay = jnp.pad(stay, ((0, rest), (0, 0)), constant_values=True)
        words, fraction = _words(key, *x.shape)
        letters = _one_hot(x, q, w.dtype)  # (sites, q, chains)
        draw = functools.partial(_draw, beta, fraction=fraction)
        letters = _sweep(w, fields, letters, words, stay, draw, size)
        numbers = jnp.arange(q, dtype=w.dtype)[None, :, None]
        new = jnp.sum(letters[:length] * numbers, axis=1)
        new = new.T.astype(state.position.dtype)
        field = fields[..., None] + 0.5 * _product(w, letters)
        changed = jnp.mean((new != state.position).astype(jnp.float32), axis=1)
        return GibbsState(new), GibbsInfo(-jnp.sum(letters * field, axis=(0, 1)), changed)

    return Sampler(init, step, lambda state: state)


def _sweep(
    couplings: Array,
    fields: Array,
    letters: Array,
    words: Array,
    stay: Array | None,
    draw: Callable[[Array, Array], Array],
    size: int,
) -> Array:
    """Return the letters (sites, q, chains) after a sweep by blocks of ``size`` sites.

    ``draw(word, logits)`` returns letters (chains,) for logits (q, chains).
    """
    q, dtype = letters.shape[1], letters.dtype

    def block(number: Array, letters: Array) -> Array:
        first = number * size
        part = functools.partial(jax.lax.dynamic_slice_in_dim, start_index=first, slice_size=size)
        own, old = part(couplings), part(letters)
        field = _product(own, letters) + part(fields)[..., None]
        within = jnp.moveaxis(part(own, axis=2), (2, 3), (0, 1))[..., None]

        def site(field: Array, inputs: tuple) -> tuple[Array, Array]:
            i, old, word, to_others, stays = inputs
            new = _one_hot(draw(word, field[i]), q, dtype)
            new = new if stays is None else jnp.where(stays[None], old, new)
            # One loop over memory: for so few terms a matrix product is slower.
            change = (new - old)[:, None, None]
            return field + sum(to_others[k] * change[k] for k in range(q)), new

        stays = None if stay is None else part(stay)
        new = jax.lax.scan(site, field, (jnp.arange(size), old, part(words), within, stays))[1]
        return jax.lax.dynamic_update_slice_in_dim(letters, new, first, 0)

    return jax.lax.fori_loop(0, len(letters) // max(size, 1), block, letters)


def _one_hot(x: Array, q: int, dtype) -> Array:
    """Return letters (..., chains) as zeros and ones (..., q, chains)."""
    x = x[..., None, :]
    numbers = jnp.arange(q, dtype=x.dtype).reshape(*[1] * (x.ndim - 2), q, 1)
    return (x == numbers).astype(dtype)


def _product(couplings: Array, letters: Array) -> Array:
    """Return sum_jb couplings[i, a, j, b] letters[j, b, chain], (i, a, chain)."""
    sites, q, _, _ = couplings.shape
    rows, columns = couplings.reshape(sites * q, -1), letters.reshape(-1, letters.shape[-1])
    return jnp.matmul(rows, columns, precision="highest").reshape(sites, q, -1)


def _words(key: Key, sites: int, chains: int) -> tuple[Array, Array]:
    """Return 32 random bits for every site and chain, and a fraction in (0, 1) for every chain."""
    calls = -(-sites // 2)  # each makes two words
    n = calls + 1
    words = _bits.words(key, chains, n, 0, calls, chains_last=True)
    fraction = _bits.fractions(key, chains, n, chains_last=True)[0][0]
    return jax.lax.optimization_barrier(jnp.concatenate(words)), fraction


def _draw(beta, word: Array, logits: Array, fraction: Array) -> Array:
    """Return letters drawn from logits (q, chains) at an inverse temperature."""
    return _bits.categorical(word, _discrete.scaled_gaps(beta, list(logits), -1), fraction)
