"""Gibbs sums against NumPy in longdouble, term by term, in every floating type and every limit."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_jax import gibbs

INF, NAN = float("inf"), float("nan")
WIDE = np.longdouble
E = np.array([0.3, 1.2, -0.5, 2.0])
DTYPES = [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64]
ROWS, N = 64, 4


def judge(energies, beta, mask, log_w, values):
    """Return one row's log Z, F in both forms, P, entropy and E[v], by definition and limit."""
    allowed = mask & (log_w != -INF)
    if np.isnan(energies[allowed]).any() or np.isnan(log_w[mask]).any():
        return NAN, NAN, NAN, np.where(allowed, NAN, 0.0), NAN, NAN
    allowed &= energies < INF
    if not allowed.any():
        return -INF, INF, INF, np.zeros(N), 0.0, 0.0
    e, w = energies[allowed].astype(WIDE), np.exp(log_w[allowed].astype(WIDE))
    lowest, log_total = e.min(), np.log(w.sum())
    if lowest == -INF or beta == INF:
        weights = w * (e == lowest)
        log_z = np.log(weights.sum()) if lowest == 0 else -INF * np.sign(lowest)
        free = mean = lowest
    else:
        weights = w * np.exp(-beta * (e - lowest))
        log_z = np.log(weights.sum()) - beta * lowest
        shrink = (w @ np.expm1(-beta * (e - lowest))) / w.sum()
        mean = lowest - np.log1p(shrink) / beta if beta else (w @ e) / w.sum()
        offset = log_total / beta if beta else np.copysign(INF, log_total)
        free = mean - (offset if log_total else 0)
    p = np.zeros(N, WIDE)
    p[allowed] = weights / weights.sum()
    has = p > 0
    entropy = np.sum(p[has] * (log_w[has] - np.log(p[has])))
    return log_z, free, mean, p, entropy, np.sum(p[has] * values[has])


@jax.jit
def everything(energies, beta, mask, log_w, values, key):
    """Return every function of a batch of rows, and derivatives in both modes."""
    options = {"beta": beta, "where": mask, "log_weights": log_w}
    sums = [
        functools.partial(gibbs.log_partition, **options),
        functools.partial(gibbs.free_energy, **options),
        functools.partial(gibbs.free_energy, mean=True, **options),
    ]
    found = [
        *(f(energies) for f in sums),
        gibbs.probs(energies, **options),
        gibbs.entropy(energies, **options),
        gibbs.expectation(values, energies, **options),
    ]
    reverse = [jax.grad(lambda e, f=f: f(e).sum())(energies) for f in sums]
    forward = [jax.jvp(f, (energies,), (values,))[1] for f in sums]
    log_p = gibbs.log_probs(energies, **options)
    return found, reverse, forward, log_p, gibbs.sample(key, energies, shape=(3,), **options)


def close(got, expected, dtype, error):
    """Within the error of the arithmetic, two roundings to the type, and its smallest numbers."""
    info, got = jnp.finfo(dtype), np.asarray(got, np.float64)
    expected = np.asarray(expected, WIDE)
    expected = np.where(abs(expected) > WIDE(info.max), np.copysign(INF, expected), expected)
    expected = expected.astype(np.float64)
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    tolerance = error + 2 * float(info.eps) * abs(expected) + 4 * float(info.tiny)
    bad = ~same & ~(abs(got - expected) <= tolerance)
    assert not bad.any(), (np.argwhere(bad)[:3], got[bad][:3], expected[bad][:3])


def random_rows(seed):
    """Return energies, beta, mask, log-weights, values; plain rows, and some of each special."""
    rng = np.random.default_rng(seed)
    scale = rng.choice([0.0, 0.1, 1.0, 30.0, 1e4], size=(ROWS, 1))
    energies = scale * rng.normal(size=(ROWS, N)) + rng.choice([0.0, 1.0, -300.0], size=(ROWS, 1))
    special = rng.choice([INF, -INF, NAN, 0.0], p=[0.5, 0.2, 0.1, 0.2], size=(ROWS, N))
    energies = np.where(rng.random((ROWS, N)) < 0.1, special, energies)
    beta = rng.choice([0.0, 1e-6, 0.01, 0.3, 1.0, 7.0, 50.0, INF], size=ROWS)
    mask = rng.random((ROWS, N)) < rng.choice([1.0, 0.6], size=(ROWS, 1))
    log_w = rng.choice([0.0, 2.0], size=(ROWS, 1)) * rng.normal(size=(ROWS, N))
    log_w[rng.random((ROWS, N)) < 0.05] = -INF
    log_w[rng.random((ROWS, N)) < 0.02] = NAN
    return energies, beta, mask, log_w, rng.normal(size=(ROWS, N))


@pytest.mark.parametrize("dtype", DTYPES)
@settings(deadline=None, max_examples=200)
@given(seed=st.integers(0, 2**32 - 1))
def test_everything_is_what_its_definition_says(dtype, seed):
    with jax.enable_x64(True):
        wide = jnp.promote_types(dtype, jnp.float32)
        types = (dtype, wide, bool, wide, dtype)
        rows = [jnp.asarray(a, t) for a, t in zip(random_rows(seed), types, strict=True)]
        found, reverse, forward, log_p, drawn = everything(*rows, jax.random.key(0))
    assert {a.dtype for a in (*found, *reverse, *forward, log_p)} == {jnp.dtype(dtype)}
    energies, beta, mask, log_w, values = (
        np.asarray(a, t) for a, t in zip(rows, (float, float, bool, float, float), strict=True)
    )
    judged = [
        np.array(a) for a in zip(*map(judge, energies, beta, mask, log_w, values), strict=True)
    ]
    p, b = judged[3], np.where(beta < INF, beta, 0.0)
    # What rounds: energies of this size, times beta, and log-weights of that.
    counts = mask & np.isfinite(energies) & (log_w > -INF)
    size = 1 + abs(np.where(counts, energies, 0.0)).max(1)
    weight = 2 + abs(np.where(np.isfinite(log_w), log_w, 0.0)).max(1)
    eps = 32 * float(jnp.finfo(wide).eps)
    relative = eps * (b * size + weight)
    p_error = relative[:, None] * np.nan_to_num(p.astype(float))
    errors = [
        relative,
        eps * (size * weight + np.where(b > 0, weight / np.where(b > 0, b, 1), 0)),
        eps * size * weight,
        p_error,
        eps * weight**2,
        eps * weight * 4,
    ]
    for got, expected, error in zip(found, judged, errors, strict=True):
        close(got, expected, dtype, error)
    with np.errstate(divide="ignore"):
        close(log_p, np.log(p), dtype, relative[:, None])
    # dF/dE = P, dlog Z/dE = -beta P: 0 at infinite energies, NaN in all of a row that is NaN.
    moves = np.isnan(p) | np.isfinite(energies) & np.isfinite(judged[2])[:, None]
    slope = np.where(moves, p, 0.0)
    for got, along, factor in zip(reverse, forward, (-b, 1.0 + 0 * b, 1.0 + 0 * b), strict=True):
        expected = factor[:, None] * slope
        close(got, expected, dtype, 4 * abs(factor)[:, None] * (p_error + float(jnp.finfo(wide).tiny)))
        rounding = abs(np.nan_to_num(expected.astype(float)) * values).sum(1)
        rounding *= 4 * float(jnp.finfo(dtype).eps) + 4 * relative
        close(along, (expected * values).sum(1), dtype, rounding)
    for draws, row in zip(np.asarray(drawn).T, p, strict=True):
        undefined = np.isnan(row).any() or not row.any()
        assert (draws == -1).all() if undefined else (row[draws] > 0).all()
