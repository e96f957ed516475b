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

pytestmark = pytest.mark.usefixtures("optimised")
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
    p[p < WIDE("1e-4900")] = 0  # where a longdouble has few digits left
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
@settings(deadline=None, max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
@pytest.mark.sweep(1)
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
    underflow = 200 * float(jnp.finfo(wide).tiny)  # of a P before it meets beta
    for got, along, factor in zip(reverse, forward, (-b, 1.0 + 0 * b, 1.0 + 0 * b), strict=True):
        expected = factor[:, None] * slope
        close(got, expected, dtype, 4 * abs(factor)[:, None] * p_error + underflow)
        rounding = abs(np.nan_to_num(expected.astype(float)) * values).sum(1)
        rounding *= 4 * float(jnp.finfo(dtype).eps) + 4 * relative
        close(along, (expected * values).sum(1), dtype, rounding)
    for draws, row in zip(np.asarray(drawn).T, p, strict=True):
        undefined = np.isnan(row).any() or not row.any()
        assert (draws == -1).all() if undefined else (row[draws] > 0).all()


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
@pytest.mark.sweep(1)
def test_axis_is_the_axis_that_goes(axis):
    energies = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    moved = np.moveaxis(energies, axis, -1)
    expected = np.array([oracles.log_partition(row) for row in moved.reshape(-1, moved.shape[-1])])

    @jax.jit
    def along(energies):
        return (
            gibbs.log_partition(energies, axis=axis),
            gibbs.probs(energies, axis=axis).sum(axis),
            gibbs.expectation(energies, energies, axis=axis, beta=INF),
            gibbs.sample(jax.random.key(0), energies, axis=axis, beta=INF),
        )

    got, total, mean, drawn = along(energies)
    np.testing.assert_allclose(got, expected.reshape(moved.shape[:-1]), rtol=1e-5)
    np.testing.assert_allclose(total, 1, rtol=1e-5)
    np.testing.assert_array_equal(mean, energies.min(axis))
    np.testing.assert_array_equal(drawn, energies.argmin(axis))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
@pytest.mark.sweep(1)
def test_many_candidates_lose_no_digits(dtype):
    """float16 cannot represent P = 1e-6, and bfloat16 cannot represent the sum."""
    energies = jnp.asarray(np.random.default_rng(0).normal(size=1_000_000), dtype)
    expected = oracles.log_partition(np.asarray(energies, np.float64))
    eps = float(jnp.finfo(dtype).eps)
    np.testing.assert_allclose(float(gibbs.log_partition(energies)), expected, rtol=2 * eps)
    mean = gibbs.expectation(jnp.ones(1, dtype), energies)
    np.testing.assert_allclose(float(mean), 1.0, rtol=max(2 * eps, 1e-5))


# The derivative by beta and by the log-weights, from the moments.


@pytest.mark.parametrize("mean", [False, True])
def test_derivatives_of_the_free_energy_by_beta_and_weights(mean):
    """Smooth through beta = 0 in the mean form: there minus half the variance of E."""
    log_w = np.array([0.1, -0.4, 0.3, 0.0])

    @jax.jit
    @functools.partial(jax.vmap, in_axes=(0, None))
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(beta, weights):
        return gibbs.free_energy(
            jnp.asarray(E, jnp.float32), beta=beta, log_weights=weights, mean=mean
        )

    betas = np.array([0.0, 1e-6, 1e-3, 1e-2, 0.1, 1.0, 30.0, INF], np.float32)
    by_beta, by_weight = slopes(betas, jnp.asarray(log_w, jnp.float32))
    w = np.exp(log_w) / (np.exp(log_w).sum() if mean else 1)
    for i, b in enumerate(betas.astype(WIDE)):
        if b == 0 or b == INF:
            if mean or b:
                p = w / w.sum()
                variance = p @ E**2 - (p @ E) ** 2
                np.testing.assert_allclose(by_beta[i], 0 if b else -variance / 2, rtol=1e-3)
            assert not np.isnan(by_weight[i]).any()
            continue
        p = w * np.exp(-b * E.astype(WIDE))
        free = -np.log(p.sum()) / b
        p = p / p.sum()
        expected = (p @ E - free) / b
        np.testing.assert_allclose(by_beta[i], float(expected), rtol=2e-3)
        share = np.exp(log_w) / np.exp(log_w).sum() if mean else 0.0
        np.testing.assert_allclose(
            by_weight[i], ((share - p) / b).astype(float), rtol=1e-4, atol=3e-7 / float(b)
        )


def test_derivatives_of_the_entropy_and_the_probabilities(x64):
    """dH/dE = -beta^2 P (E - <E>), dlog P(i)/dE(j) = beta (P(j) - 1[i = j])."""
    beta = 0.7
    p = oracles.probabilities(E, beta)

    @jax.jit
    def derivatives(energies):
        entropy, log_probs, log_partition = (
            functools.partial(f, beta=beta)
            for f in (gibbs.entropy, gibbs.log_probs, gibbs.log_partition)
        )
        return (
            jax.grad(entropy)(energies),
            jax.jacobian(log_probs)(energies),
            jax.hessian(log_partition)(energies),
        )

    slope, jacobian, hessian = derivatives(E)
    np.testing.assert_allclose(slope, -(beta**2) * p * (E - p @ E), atol=1e-12)
    np.testing.assert_allclose(jacobian, beta * (p - np.eye(4)), atol=1e-12)
    np.testing.assert_allclose(hessian, beta**2 * (np.diag(p) - np.outer(p, p)), atol=1e-12)


def test_no_derivative_is_nan_at_infinite_energies_and_masks():
    """Masked and infinite entries get exactly zero, from every function."""
    energies = np.array([[INF, 1, 2], [-INF, 1, -INF], [INF] * 3, [1, 2, 3]])
    masks = np.array([[True] * 3, [True, False, True], [False] * 3])
    index = np.array(np.meshgrid(range(4), range(3), range(3))).reshape(3, -1)
    energies, mask, beta = energies[index[0]], masks[index[1]], np.array([0, 0.5, INF])[index[2]]

    @jax.jit
    @jax.vmap
    @jax.jacobian
    def jacobian(e, where, beta):
        kwargs = {"beta": beta, "where": where}
        return jnp.stack([gibbs.entropy(e, **kwargs), *gibbs.log_probs(e, **kwargs)])

    found = np.asarray(jacobian(energies, mask, beta))
    assert np.isfinite(found).all()
    assert (found.swapaxes(1, 2)[~mask | np.isinf(energies)] == 0).all()


def test_samples_follow_the_probabilities():
    """Chi-square over 4 outcomes with a fixed key; false alarm below 1e-4."""
    n, p = 20_000, oracles.probabilities(E, 1.5)
    drawn = gibbs.sample(jax.random.key(1), jnp.array(E), beta=1.5, shape=(n,))
    counts = np.bincount(np.asarray(drawn), minlength=4)
    assert np.sum((counts - n * p) ** 2 / (n * p)) < 21.1


def test_extreme_energies_do_not_overflow():
    energies = jnp.array([1e30, 1e30, -1e30])
    assert np.isfinite(gibbs.free_energy(energies))
    np.testing.assert_allclose(gibbs.probs(energies), [0, 0, 1])
    np.testing.assert_allclose(gibbs.log_partition(jnp.array([1e4, 1e4])), np.log(2) - 1e4)
    # The square of a gap, and the gap itself, are beyond float32.
    mean = gibbs.free_energy(jnp.array([0.0, 1e30]), beta=0, mean=True)
    np.testing.assert_allclose(mean, 5e29, rtol=1e-6)
    np.testing.assert_allclose(gibbs.probs(jnp.array([3e38, -3e38]), beta=0), [0.5, 0.5])


@pytest.mark.parametrize("beta", [-1.0, NAN])
def test_a_beta_that_is_bad_at_run_time_gives_nan(beta):
    found = jax.jit(lambda b: jax.value_and_grad(gibbs.free_energy)(jnp.asarray(E), beta=b))(beta)
    assert np.isnan(found[0])
    assert np.isnan(found[1]).all()
    assert jax.jit(lambda b: gibbs.sample(jax.random.key(0), jnp.asarray(E), beta=b))(beta) == -1


def test_a_nan_among_many_rows_is_not_hidden():
    """XLA's minimum of many rows on CPU may skip it."""
    energies = jnp.zeros((5000, 4)).at[:, 2].set(jnp.nan)
    for function in (gibbs.free_energy, gibbs.log_partition, gibbs.entropy):
        for call in (function, jax.jit(function)):
            assert np.isnan(call(energies)).all()
    assert (gibbs.sample(jax.random.key(0), energies) == -1).all()


# gibbs.grid, by integrals in closed form.


@pytest.mark.parametrize("dimension", [1, 2, 3])
@pytest.mark.sweep(1)
def test_a_grid_makes_an_integral(dimension, x64):
    """The Gaussian of variance s^2/beta: log Z, entropy, mean and variance."""
    beta, center = 0.5, 0.3
    cells = {1: 400, 2: (90, 110), 3: (44, 40, 42)}[dimension]
    points, log_volumes = gibbs.grid([-9.0] * dimension, [10.0] * dimension, cells)
    assert points.dtype == log_volumes.dtype == jnp.float64

    @jax.jit
    def integrals(points, log_volumes):
        energies = jnp.sum((points - center) ** 2, axis=1) / 2
        options = {"beta": beta, "log_weights": log_volumes}
        mean = [gibbs.expectation(x, energies, **options) for x in points.T]
        variance = gibbs.expectation((points[:, 0] - center) ** 2, energies, **options)
        log_z, entropy = (f(energies, **options) for f in (gibbs.log_partition, gibbs.entropy))
        return log_z, entropy, jnp.stack(mean), variance

    log_z, entropy, mean, variance = integrals(points, log_volumes)
    expected = dimension / 2 * np.log(2 * np.pi / beta)
    np.testing.assert_allclose(log_z, expected, atol=1e-8)
    np.testing.assert_allclose(entropy, expected + dimension / 2, atol=1e-8)
    np.testing.assert_allclose(mean, center, atol=1e-8)
    np.testing.assert_allclose(variance, 1 / beta, atol=1e-7)


def test_a_grid_has_the_cells_it_was_asked_for():
    points, log_volumes = gibbs.grid([0.0, -1.0], [1.0, 2.0], (2, 3))
    expected = [[0.25, -0.5], [0.25, 0.5], [0.25, 1.5], [0.75, -0.5], [0.75, 0.5], [0.75, 1.5]]
    np.testing.assert_allclose(points, expected)
    np.testing.assert_allclose(np.exp(log_volumes), 0.5)
    np.testing.assert_allclose(oracles.grid(0, 1, 4, 2)[0], gibbs.grid([0.0] * 2, [1.0] * 2, 4)[0])
