"""Losses and their derivatives at every energy, infinite and NaN too, in every floating type.

The judge is NumPy in longdouble, from the formulas: the difference E+ - E- is exact there.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_jax import losses
from ebm_jax.losses import gradients
from experiments import losses_by_name

pytestmark = pytest.mark.usefixtures("optimised")
WIDE = np.longdouble
DTYPES = [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64]
M = 0.75
# Every kink is hit: 0, the margin, a difference of the margin; then large, infinite, NaN.
FINITE = [0.0, -1.0, 0.25, 0.5, M, 1.0, 2.0, 17.0, 88.0, -89.0, 256.0, 300.0, -300.0, 1e4, -1e4]
SPECIAL = [*FINITE, np.inf, -np.inf, np.nan]


def logistic(u):
    return np.where(u > 0, 1 / (1 + np.exp(-u)), np.exp(u) / (1 + np.exp(u)))


def relu(u):
    return np.where(np.isnan(u), u, np.where(u > 0, u, 0))


def step(u):
    return np.where(np.isnan(u), u, (u > 0) * 1.0)


def hinge(m):
    return (
        lambda p, n: relu(m + (p - n)),
        lambda p, n: step(m + (p - n)),
        lambda p, n: -step(m + (p - n)),
    )


def square_exponential(gamma):
    return (
        lambda p, n: p**2 + gamma * np.exp(-n),
        lambda p, n: 2 * p,
        lambda p, n: -gamma * np.exp(-n),
    )


# loss, options: (loss, dl/dE+, dl/dE-), of longdoubles; limits where energies are infinite.
TABLE = {
    ("energy", ()): (
        lambda p, n: p + np.zeros_like(n),
        lambda p, n: np.ones_like(p),
        lambda p, n: np.zeros_like(n),
    ),
    ("hinge", (("margin", M),)): hinge(M),
    ("hinge", (("margin", 0.0),)): hinge(0),
    ("log", ()): (
        lambda p, n: relu(p - n) + np.log1p(np.exp(-np.abs(p - n))),
        lambda p, n: logistic(p - n),
        lambda p, n: -logistic(p - n),
    ),
    ("lvq2", (("ceiling", M),)): (
        lambda p, n: np.where(np.isnan(p - n), p - n, np.minimum(M, relu(p - n))),
        lambda p, n: step(p - n) * step(M - (p - n)),
        lambda p, n: -step(p - n) * step(M - (p - n)),
    ),
    ("mce", ()): (
        lambda p, n: logistic(p - n),
        lambda p, n: logistic(p - n) * logistic(n - p),
        lambda p, n: -logistic(p - n) * logistic(n - p),
    ),
    ("simple", (("margin", M),)): (
        lambda p, n: relu(p) + relu(M - n),
        lambda p, n: step(p),
        lambda p, n: -step(M - n),
    ),
    ("square_square", (("margin", M),)): (
        lambda p, n: relu(p) ** 2 + relu(M - n) ** 2,
        lambda p, n: 2 * relu(p),
        lambda p, n: -2 * relu(M - n),
    ),
    ("square_square", (("margin", M), ("one_sided", False))): (
        lambda p, n: p**2 + relu(M - n) ** 2,
        lambda p, n: 2 * p,
        lambda p, n: -2 * relu(M - n),
    ),
    ("square_exponential", (("gamma", M),)): square_exponential(M),
    ("square_exponential", (("gamma", 1e4),)): square_exponential(1e4),
    ("square_exponential", (("gamma", 2.0**-10),)): square_exponential(2.0**-10),
    ("square_exponential", (("gamma", 0.0),)): (
        lambda p, n: p**2 + 0 * np.where(np.isnan(n), n, 0),
        lambda p, n: 2 * p,
        lambda p, n: np.zeros_like(n),
    ),
}


def judge(case, positive, negative):
    """Return the loss and its two derivatives: NaN together, as the loss says."""
    p, n = np.asarray(positive, WIDE), np.asarray(negative, WIDE)
    with np.errstate(all="ignore"):
        value, *slopes = (f(p, n) for f in TABLE[case])
    return value, *(np.where(np.isnan(value), np.nan, slope) for slope in slopes)


def assert_close(got, expected, dtype, scale=1.0, atol=0.0):
    """Within some rounding errors of the type; inf where the type cannot hold the number."""
    info, expected = jnp.finfo(dtype), np.asarray(expected, WIDE)
    beyond = np.abs(expected) > WIDE(info.max)
    expected = np.where(beyond, np.copysign(np.inf, expected), expected).astype(np.float64)
    got = np.asarray(got, np.float64)
    tolerance = 8 * float(info.eps) * scale * abs(expected) + 4 * float(info.tiny) + atol
    same = (got == expected) | (np.isnan(got) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        bad = ~same & ~(abs(got - expected) <= tolerance)
    assert not bad.any(), (np.argwhere(bad)[:5], got[bad][:5], expected[bad][:5])


def test_the_table_is_complete_and_its_slopes_are_those_of_its_values():
    """By central differences, away from the kinks."""
    assert {name for name, _ in TABLE} == set(losses_by_name.PAIRWISE)
    p, n = np.array([(-1.3, 0.4), (0.6, 1.9), (0.9, 0.5), (0.2, -0.7), (2.5, 0.1)], WIDE).T
    h = WIDE(1e-6)
    for case, (value, down, up) in TABLE.items():
        slopes = (value(p + h, n) - value(p - h, n), value(p, n + h) - value(p, n - h))
        for slope, expected in zip(slopes, (down(p, n), up(p, n)), strict=True):
            np.testing.assert_allclose(
                np.float64(slope / (2 * h)), np.float64(expected), atol=1e-9, err_msg=str(case)
            )


@jax.jit
def pairwise(positive, negative):
    """Return, for every case, the loss, its slopes in reverse and forward mode and by hand."""
    found = {}
    for name, options in TABLE:
        loss = functools.partial(getattr(losses, name), **dict(options))
        both = functools.partial(jax.jvp, loss, (positive, negative))
        one, zero = jnp.ones_like(positive), jnp.zeros_like(positive)
        found[name, options] = (
            loss(positive, negative),
            jax.vmap(jax.grad(loss, argnums=(0, 1)))(positive, negative),
            (both((one, zero))[1], both((zero, one))[1]),
            gradients.of(getattr(losses, name))(positive, negative, **dict(options)),
        )
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_pairwise(dtype, x64):
    values = jnp.asarray(SPECIAL, dtype)
    positive, negative = (v.ravel() for v in jnp.meshgrid(values, values))
    for case, (got, *all_slopes) in pairwise(positive, negative).items():
        value, *expected = judge(case, positive, negative)
        # p - n rounds once; what is large in it may be large in the exponent.
        scale = 100 if case[0] in ("mce", "log", "square_exponential") else 1
        assert got.dtype == dtype
        assert_close(got, value, dtype, scale)
        for slopes in all_slopes:
            for slope, right in zip(slopes, expected, strict=True):
                assert slope.dtype == dtype
                most = WIDE(jnp.finfo(dtype).max)  # where unbounded derivatives end
                assert_close(slope, np.clip(right, -most, most), dtype, scale)


@pytest.mark.parametrize("case", TABLE)
def test_no_nan_in_a_hessian(case):
    """At finite energies, however far: exp(-E-) overflows long before."""
    values = jnp.array([-1e4, -88.8, -1.0, 0.5, 40.0, 1e4])
    positive, negative = (v.ravel() for v in jnp.meshgrid(values, values))
    loss = functools.partial(getattr(losses, case[0]), **dict(case[1]))
    hessian = jax.jit(jax.vmap(jax.hessian(lambda e: loss(e[0], e[1]))))
    assert not np.isnan(hessian(jnp.stack([positive, negative], 1))).any()


DIFFERENCES = [case for case in TABLE if case[0] in ("hinge", "lvq2", "log", "mce")]


@jax.jit
def of_a_difference(positive, negative):
    return [
        jax.value_and_grad(functools.partial(getattr(losses, name), **dict(options)))(
            positive, negative
        )
        for name, options in DIFFERENCES
    ]


@settings(max_examples=50, deadline=None)
@given(level=st.floats(-(2.0**100), 2.0**100, width=32), gap=st.floats(-4, 4, width=16))
def test_a_loss_of_the_difference_knows_no_level(level, gap):
    """If the dtype can hold E+ - E-, the margin is not rounded away."""
    positive = np.float32(level)
    negative = np.float32(positive - np.float32(gap))
    difference = np.float64(positive) - np.float64(negative)
    found = of_a_difference(positive, negative)
    for case, (value, slope) in zip(DIFFERENCES, found, strict=True):
        expected, down, _ = judge(case, difference, 0.0)
        assert_close(value, expected, jnp.float32, 4)
        assert_close(slope, down, jnp.float32, 4)


# Over candidates: the derivative is delta_right - P where that means something.
ROWS = [
    [0.3, -1.0, 2.0, 0.5],
    [1.0, 1.0, 4.0, 1.0],
    [0.0, 40.0, 60.0, 50.0],
    [256.0, 258.0, 257.0, 300.0],
    [-1e4, 1e4, 0.0, 3.0],
    [-np.inf, 0.0, 0.0, 1.0],
    [-np.inf, 0.0, -np.inf, 1.0],
    [np.inf, 0.0, 1.0, np.inf],
    [np.inf, np.inf, np.inf, np.inf],
    [0.0, np.nan, 1.0, 2.0],
]
MASKS = [[True] * 4, [True, False, True, True], [False, True, False, False], [False] * 4]
EQUAL, VOLUMES = [0.0] * 4, np.log([0.5, 0.125, 0.25, 0.0625])
OPTIONS = [(1.0, EQUAL), (0.3, VOLUMES), (7.0, VOLUMES), (0.0, EQUAL), (0.0, VOLUMES)]
OPTIONS += [(np.inf, EQUAL), (1.0, [0.0, -np.inf, np.nan, 0.0])]
CASES = list(itertools.product(ROWS, range(4), MASKS, OPTIONS))


def candidates_judge(energies, label, allowed, beta, log_w):
    """Return the NLL, its derivative, the MEE and its derivative, one row."""
    energies, log_w = np.asarray(energies, WIDE), np.where(allowed, log_w, -np.inf)
    allowed = log_w != -np.inf
    nothing = np.zeros(len(energies))
    if np.isnan(energies[allowed]).any() or np.isnan(log_w).any():
        return np.nan, nothing + np.nan, np.nan, nothing + np.nan
    energies = np.where(allowed, energies, np.inf)
    lowest, w = energies.min(), np.exp(log_w.astype(WIDE))
    if energies[label] == np.inf:
        return np.inf, nothing, 1.0, nothing  # P = 0, at all finite energies
    gap = np.where(energies == np.inf, np.inf, energies - energies[label])
    if lowest == -np.inf:
        gap = np.where(energies == lowest, 0, np.inf)
    flat = lowest == -np.inf or beta == np.inf
    p = w * (
        (energies == lowest)
        if flat
        else np.exp(-beta * np.where(gap < np.inf, gap - gap.min(), 0)) * (gap < np.inf)
    )
    p, total = p / p.sum(), p.sum()
    others = np.delete(p, label).sum()
    slope = -p
    slope[label] = others
    if lowest == -np.inf:
        slope = nothing
    if energies[label] > lowest == -np.inf:
        nll = np.inf
    elif beta == np.inf:
        nll = -gap.min()
    elif beta == 0:
        nll = np.copysign(np.inf, np.log(total)) if total != 1 else WIDE(0)
    elif w[label] == 1 and gap.min() == 0:
        nll = np.log1p(np.delete(p, label).sum() * total) / beta  # with all its digits
    else:
        nll = np.log(total) / beta - gap.min()
    return nll, slope, others, p[label] * (0 if beta == np.inf else beta) * slope


@jax.jit
@jax.vmap
def over_candidates(energies, label, where, beta, log_w):
    options = {"where": where, "beta": beta, "log_weights": log_w}
    found = []
    for name in ("nll", "mee"):
        loss = functools.partial(getattr(losses, name), **options)
        found += [
            *jax.value_and_grad(loss)(energies, label),
            jax.jacfwd(loss)(energies, label),
            gradients.of(getattr(losses, name))(energies, label, **options),
        ]
    return found


@pytest.mark.parametrize("dtype", DTYPES)
def test_nll_and_mee(dtype, x64):
    energies, label, mask, options = zip(*CASES, strict=True)
    wide = jnp.promote_types(dtype, jnp.float32)
    energies = jnp.asarray(energies, dtype)
    beta, log_w = (np.asarray(a).astype(wide) for a in zip(*options, strict=True))
    mask = np.array(mask)
    got = over_candidates(energies, np.array(label), mask, beta, log_w)
    with np.errstate(all="ignore"):
        rows = zip(np.asarray(energies, WIDE), label, mask, beta.astype(WIDE), log_w, strict=True)
        expected = [np.array(a) for a in zip(*(candidates_judge(*r) for r in rows), strict=True)]
    # Log-weights of up to three round, and are divided by beta.
    b = np.where((beta > 0) & (beta < np.inf), beta, 1.0)
    atol = 48 * float(jnp.finfo(wide).eps) * np.any(log_w != 0, axis=1) / b
    nll, nll_slope, mee, mee_slope = expected
    assert_close(got[0], nll, dtype, 8, atol)
    assert_close(got[4], mee, dtype, 8, atol)
    for found in got[1:4]:
        assert found.dtype == dtype
        assert_close(found, nll_slope, dtype, 8, atol[:, None])
    for found in got[5:]:
        assert_close(found, mee_slope, dtype, 16, atol[:, None])


@pytest.mark.parametrize("dtype", DTYPES)
def test_perceptron(dtype, x64):
    energies = jnp.asarray(np.repeat(ROWS, 4, 0), dtype)
    label = np.tile(np.arange(4), len(ROWS))
    got, auto = jax.jit(jax.vmap(jax.value_and_grad(losses.perceptron)))(energies, label)
    by_hand = gradients.of(losses.perceptron)(energies, label)
    np.testing.assert_array_equal(auto.astype(float), by_hand.astype(float))
    wide = np.asarray(energies, WIDE)
    for row, right, value, slope in zip(wide, label, got, np.asarray(auto, float), strict=True):
        if np.isnan(row).any():
            assert np.isnan(value)
            assert np.isnan(slope).all()
        elif row[right] == row.min():
            assert value == 0
            assert not slope.any()
        else:
            assert_close(value, row[right] - row.min(), dtype)
            assert slope.tolist() == list(np.eye(4)[right] - np.eye(4)[row.argmin()])


@pytest.mark.parametrize("name", losses_by_name.CANDIDATES)
def test_a_label_out_of_range_under_jit_moves_no_energy(name):
    """Its derivatives are NaN, all of them: delta - P alone would push every energy up."""
    value_and_gradient = jax.jit(jax.value_and_grad(getattr(losses, name)))
    by_hand = jax.jit(gradients.of(getattr(losses, name)))
    for label in (-1, 3, 2**20):
        value, gradient = value_and_gradient(jnp.arange(3.0), label)
        assert np.isnan(value)
        assert np.isnan(gradient).all()
        assert np.isnan(by_hand(jnp.arange(3.0), label)).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"])
def test_labels_of_every_integer_type(dtype, x64):
    label = 100 if dtype == "int8" else 200
    energies = jnp.linspace(0.0, 3.0, 300)
    expected = np.log(np.exp(-np.linspace(0, 3, 300)).sum()) + 3 * label / 299
    compiled = jax.jit(losses.nll)
    for nll in (losses.nll, compiled):
        np.testing.assert_allclose(nll(energies, np.asarray(label, dtype)), expected, rtol=1e-6)
    if dtype in ("int64", "uint64"):
        assert np.isnan(compiled(energies, jnp.asarray(2**32 + 3, dtype)))
