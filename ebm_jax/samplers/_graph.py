"""Pairwise models on a graph whose variables are drawn bucket by bucket, the chains last.

The variables lie in the order of the buckets of ``_colouring``, (n, chains): loops over chains
vectorise, and a bucket is a slice.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from ebm_jax import _bits, _checks, _discrete
from ebm_jax._trees import explicit_axes
from ebm_jax.samplers import _colouring
from ebm_jax.samplers._colouring import Bucket, Layout, Table
from ebm_jax.types import Array, Key

_WRITTEN_OUT = 8  # neighbours, or categories, of which a sum is written out; of more it is a loop
_MOST_LEVELS = 17  # sums of neighbours that are looked up: spins with up to 8 neighbours


class Model(NamedTuple):
    """What is drawn: parameters with a coupling of 0 at the end, the values, and what is known.

    Attributes:
        couplings: (m + 1,) or (m + 1, q, q).
        fields: (n,) or (n, q).
        values: what a variable may be, (q,).
        signs: of the couplings, (m + 1,), where all have one magnitude and all fields are equal.
    """

    couplings: Array
    fields: Array
    values: np.ndarray
    signs: np.ndarray | None


def model(couplings: Array, fields: Array, values: np.ndarray) -> Model:
    """Return a model; where numbers have few sums of neighbours, their couplings as signs."""
    signs, known = None, [_checks.concrete(a) for a in (couplings, fields)]
    if fields.ndim == 1 and len(values) == 2 and set(values.tolist()) <= {-1, 0, 1}:
        strengths, levels = known
        if strengths is not None and levels is not None and len(set(levels.tolist())) == 1:
            size = np.abs(strengths).max(initial=0)
            if np.isfinite(size) and np.isin(strengths, [-size, size]).all():
                signs = np.append(np.sign(strengths), 0).astype(np.int8)
    nothing = jnp.zeros((1, *couplings.shape[1:]), couplings.dtype)
    return Model(jnp.concatenate([couplings, nothing]), fields, values, signs)


def _sum(first, last, term, start: Array) -> Array:
    """Return start + sum_k term(k) from first to last, written out where it is short."""
    if isinstance(first, int) and last - first <= _WRITTEN_OUT:
        for k in range(first, last):
            start = start + term(k)
        return start
    return jax.lax.fori_loop(first, last, lambda k, total: total + term(k), start)


def like(array: Array, x: Array) -> Array:
    """Return an array, its last axis the chains, on the Explicit mesh axes of x, if on any."""
    if not explicit_axes(x):
        return array
    on = jax.typeof(x).sharding
    spec = PartitionSpec(*[None] * (array.ndim - 1), on.spec[-1])
    return jax.sharding.reshard(array, NamedSharding(on.mesh, spec))


def at(x: Array, places) -> Array:
    """Return the rows of x (n, chains) at some places, on the mesh axes of x."""
    sharding = jax.typeof(x).sharding if explicit_axes(x) else None
    return jnp.asarray(x).at[places].get(mode="promise_in_bounds", out_sharding=sharding)


def _signed_sum(signs: np.ndarray, table: Table, x: Array) -> Array:
    """Return the sums of the neighbours with their signs, int8."""
    x, sign = x.astype(jnp.int8), signs[table.edges][..., None]
    total = like(jnp.zeros((table.places.shape[1], x.shape[1]), jnp.int8), x)
    for k, places in enumerate(table.places):
        near = at(x, places)
        total = total + (near if (sign[k] == 1).all() else sign[k] * near)
    # The barrier: summed in vectors of 8 bits, which the loop over words would make ones of 32.
    return jax.lax.optimization_barrier(total)


class Part(NamedTuple):
    """Rows of a table of neighbours, from first to last, with the coupling to each.

    Attributes:
        places: of the neighbours, (rows, variables).
        couplings: (rows, variables), or (rows, own q, other q, variables).
        first, last: the rows that are summed, numbers or ().
    """

    places: Array
    couplings: Array
    first: Any
    last: Any


def _part(model: Model, table: Table) -> Part:
    couplings = model.couplings[table.edges]
    if couplings.ndim == 4:
        turned = jnp.asarray(table.turned)[..., None, None]
        couplings = jnp.where(turned, jnp.swapaxes(couplings, 2, 3), couplings)
        couplings = jnp.moveaxis(couplings, 1, -1)
    return Part(jnp.asarray(table.places), couplings, 0, len(table.places))


def _sums(model: Model, part: Part, x: Array) -> Array:
    """Return what the neighbours add to the logits: (variables, chains), or (q, ...) of these."""
    shape, couplings = (part.places.shape[1], x.shape[1]), part.couplings
    q = len(model.values)

    def of_numbers(k) -> Array:
        near = at(x, part.places[k]).astype(couplings.dtype)
        product = couplings[k][:, None] * near
        return jnp.where(near == 0, 0.0, product) if 0 in model.values else product

    def of_equals(k) -> Array:
        same = at(x, part.places[k])[None] == jnp.arange(q)[:, None, None]
        return jnp.where(same, couplings[k][:, None], 0.0)

    def of_tables(k) -> Array:
        near, tables = at(x, part.places[k])[None], couplings[k][..., None]
        return _sum(0, q, lambda a: jnp.where(near == a, tables[:, a], 0.0), start)

    if model.fields.ndim == 1:
        term = of_numbers
    else:
        shape, term = (q, *shape), of_equals if couplings.ndim == 2 else of_tables
    start = like(jnp.zeros(shape, couplings.dtype), x)
    return _sum(part.first, part.last, term, start)


def _with_fields(model: Model, sums: Array, variables) -> Array:
    """Return the logits at beta = 1 (of numbers: what their value is multiplied by)."""
    fields = model.fields[variables]
    return sums + (fields[:, None] if fields.ndim == 1 else fields.T[..., None])


def _levels(model: Model, table: Table, signs: np.ndarray) -> list[int]:
    """Return the sums of neighbours that occur, from the highest."""
    low, high = (int(v) for v in np.sort(model.values))
    sign = signs[table.edges]
    up, down = (sign > 0).sum(0), (sign < 0).sum(0)
    least, most = up * low - down * high, up * high - down * low
    pairs = set(zip(least.tolist(), most.tolist(), strict=True))
    sums = {s for a, b in pairs for s in range(a, b + 1, high - low)}
    return sorted(sums, reverse=True)


def _choose(
    model: Model, bucket: Bucket, number: int, beta, x: Array, word: Array, fraction: Array
) -> Array:
    """Return the numbers of the values that half of a bucket draws, from a word for each."""
    table, half = bucket.around.half(number), len(bucket.variables) // 2
    if model.signs is not None:
        levels = _levels(model, table, model.signs)
        if len(levels) <= _MOST_LEVELS:
            total = _signed_sum(model.signs, table, x)
            strength = jnp.max(jnp.abs(model.couplings), initial=0.0)
            step = (model.values[1] - model.values[0]).astype(model.fields.dtype)
            logits = [step * (strength * level + model.fields[0]) for level in levels]
            return _of_levels(total, levels, logits, beta, word, fraction)
    variables = bucket.variables[number * half : (number + 1) * half]
    total = _with_fields(model, _sums(model, _part(model, table), x), variables)
    return _draw(model, total, beta, word, fraction)


def _draw(model: Model, total: Array, beta, word: Array, fraction: Array) -> Array:
    """Return the numbers of values, given the sums of neighbours and fields."""
    if model.fields.ndim == 2:
        return _category(list(total), beta, word, fraction)
    values = model.values.astype(total.dtype)
    if len(values) == 2:
        logits = _scaled(beta, (values[1] - values[0]) * total)
        return _bits.bernoulli(word, logits, fraction)
    return _category([value * total for value in values], beta, word, fraction)


def _scaled(beta, logits: Array) -> Array:
    """Return beta times logits (variables, chains); without a selection where beta is known."""
    known = _checks.concrete(beta)
    if known is not None and known.ndim == 0 and 0 < known < np.inf:
        return jnp.asarray(known, logits.dtype) * logits
    return _discrete.scaled(beta, logits, -1)


def _of_levels(total: Array, levels, logits, beta, word: Array, fraction: Array) -> Array:
    """Return which of two values is drawn, the threshold of every level looked up."""
    chains = word.shape[-1]
    thresholds = jax.lax.optimization_barrier(
        [
            _bits.threshold(_discrete.scaled(beta, jnp.broadcast_to(logit, (chains,))), fraction[0])
            for logit in logits
        ]
    )
    # As wide as what it chooses: masks of 8 bits would be widened at every level.
    thresholds = [threshold[None] for threshold in thresholds]
    total, chosen = total.astype(jnp.int32), thresholds[0]
    for level, threshold in zip(levels[1:], thresholds[1:], strict=True):
        chosen = jnp.where(total <= level, threshold, chosen)
    return _bits.below(word, chosen)


def _category(logits: list, beta, word: Array, fraction: Array) -> Array:
    """Return categories; of infinite logits, and at an infinite beta, one of the highest."""
    drawn = _bits.categorical(word, _discrete.scaled_gaps(beta, logits, -1), fraction)
    return jnp.broadcast_to(drawn, word.shape)


def sweep(layout: Layout, model: Model, beta, key: Key, x: Array, stay: Array | None) -> Array:
    """Return (n, chains) after all colours are drawn, one after another."""
    if layout.looped:
        return _looped_sweep(layout, model, beta, key, x, stay)
    n, chains, q = layout.calls + 1, x.shape[1], len(model.values)
    fractions = _bits.fractions(key, chains, n, chains_last=True)
    for i, bucket in enumerate(layout.buckets):
        half = len(bucket.variables) // 2
        words = _bits.words(key, chains, n, bucket.calls, bucket.calls + half, chains_last=True)
        drawn = [
            _choose(model, bucket, number, beta, x, word, fractions[i % 2])
            for number, word in enumerate(words)
        ]
        parts = _bits.both(*drawn, q)
        for start, part in zip((0, half), parts, strict=True):
            place, size = bucket.start + start, min(half, bucket.size - start)
            new = _decode(part[:size], model.values, x.dtype)
            if stay is not None:
                old = jax.lax.slice_in_dim(x, place, place + size)
                new = jnp.where(stay[place : place + size], old, new)
            x = jax.lax.dynamic_update_slice_in_dim(x, like(new, x), place, 0)
    return x


def _stacked(model: Model, tables: list[Table]) -> tuple[Part, Array]:
    """Return the tables of all blocks, one below another, and where each begins, and the end."""
    ends = np.cumsum([0, *(len(table.places) for table in tables)])
    table = Table(*(np.concatenate(parts) for parts in zip(*tables, strict=True)))
    return _part(model, table), jnp.asarray(ends, jnp.int32)


def _looped_sweep(layout: Layout, model: Model, beta, key: Key, x: Array, stay) -> Array:
    """Return what ``sweep`` returns, by one program in a loop over blocks."""
    (n, chains), half, q = x.shape, _colouring.BLOCK // 2, len(model.values)
    calls = layout.calls + 1
    fractions = _bits.fractions(key, chains, calls, chains_last=True)
    words = jax.lax.optimization_barrier(
        _bits.words(key, chains, calls, 0, layout.calls, chains_last=True)
    )
    part, ends = _stacked(model, [bucket.around for bucket in layout.buckets])
    starts = jnp.asarray([bucket.start for bucket in layout.buckets])
    sizes = jnp.asarray([bucket.size for bucket in layout.buckets])
    variables = jnp.asarray(np.stack([bucket.variables for bucket in layout.buckets]))
    inside = ((0, _colouring.BLOCK), (0, 0))  # the last block ends within the array
    stay = None if stay is None else jnp.pad(stay, inside)

    def one(i: Array, x: Array) -> Array:
        sums = _sums(model, part._replace(first=ends[i], last=ends[i + 1]), x)
        total = _with_fields(model, sums, variables[i])
        drawn = [
            _draw(
                model,
                total[..., number * half : (number + 1) * half, :],
                beta,
                jax.lax.dynamic_slice_in_dim(word, i * half, half),
                jnp.where(i % 2 == 0, fractions[0], fractions[1]),
            )
            for number, word in enumerate(words)
        ]
        new = _decode(jnp.concatenate(_bits.both(drawn[0], drawn[1], q)), model.values, x.dtype)
        old = jax.lax.dynamic_slice_in_dim(x, starts[i], _colouring.BLOCK)
        keep = jnp.arange(_colouring.BLOCK)[:, None] >= sizes[i]
        if stay is not None:
            keep = keep | jax.lax.dynamic_slice_in_dim(stay, starts[i], _colouring.BLOCK)
        new = like(jnp.where(keep, old, new), x)
        return jax.lax.dynamic_update_slice_in_dim(x, new, starts[i], 0)

    return jax.lax.fori_loop(0, len(layout.buckets), one, jnp.pad(x, inside))[:n]


def _decode(numbers: Array, values: np.ndarray, dtype) -> Array:
    """Return the values of these numbers."""
    if len(values) == 2:  # in vectors of 8 bits, without a selection
        first, step = int(values[0]), int(values[1] - values[0])
        return (numbers.astype(dtype) * step + first).astype(dtype)
    return _discrete.decode(numbers, values).astype(dtype)


def energy(layout: Layout, model: Model, x: Array) -> Array:
    """Return E (chains,): every edge is counted at the later of its two variables."""

    def of_block(own: Array, part: Part, variables, kept) -> Array:
        total = _with_fields(model, _sums(model, part, x), variables)
        if model.fields.ndim == 1:
            own = own.astype(total.dtype)
            each = jnp.where(own == 0, 0.0, total * own)
        else:
            each = total[0]
            for k in range(1, len(total)):
                each = jnp.where(own == k, total[k], each)
        return jnp.sum(jnp.where(kept, each, 0.0), axis=0)

    total = like(jnp.zeros((1, x.shape[1]), model.fields.dtype), x)[0]
    tables = [bucket.before for bucket in layout.buckets]
    if not layout.looped:
        for bucket, table in zip(layout.buckets, tables, strict=True):
            rows = bucket.start + np.minimum(np.arange(len(bucket.variables)), bucket.size - 1)
            kept = (np.arange(len(rows)) < bucket.size)[:, None]
            total = total + of_block(at(x, rows), _part(model, table), bucket.variables, kept)
        return -total
    part, ends = _stacked(model, tables)
    variables = jnp.asarray(np.stack([bucket.variables for bucket in layout.buckets]))
    sizes = jnp.asarray([bucket.size for bucket in layout.buckets])
    places = jnp.asarray(layout.places)

    def one(i: Array, total: Array) -> Array:
        kept = jnp.arange(_colouring.BLOCK)[:, None] < sizes[i]
        rows = part._replace(first=ends[i], last=ends[i + 1])
        return total + of_block(at(x, places[variables[i]]), rows, variables[i], kept)

    return -jax.lax.fori_loop(0, len(layout.buckets), one, total)
