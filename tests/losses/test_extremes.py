"""Losses and their derivatives at large, infinite and NaN energies, in every floating type.

The judge is NumPy in longdouble, from the formulas: the difference E+ - E- is exact there.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_jax import gradients, losses

WIDE = np.longdouble
DTYPES = [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64]
SPECIAL = [
    0.0,
    -1.0,
    0.5,
    2.0,
    17.0,
    88.0,
    256.0,
    300.0,
    -300.0,
    1e4,
    -1e4,
    np.inf,
    -np.inf,
    np.nan,
]
M = 0.75


def logistic(u):
    with np.errstate(over="ignore"):
        return np.where(u > 0, 1 / (1 + np.exp(-u)), np.exp(u) / (1 + np.exp(u)))


def relu(u):
    return np.where(np.isnan(u), u, np.where(u > 0, u, 0))


def step(u):
    return np.where(np.isnan(u), u, (u > 0) * 1.0)


# name: (loss, dl/dE+, dl/dE-), of longdoubles; limits where energies are infinite.
TABLE = {
    "energy": (lambda p, n: p, lambda p, n: np.ones_like(p), lambda p, n: np.zeros_like(n)),
    "hinge": (
        lambda p, n: relu(M + (p - n)),
        lambda p, n: step(M + (p - n)),
        lambda p, n: -step(M + (p - n)),
    ),
    "log": (
        lambda p, n: relu(p - n) + np.log1p(np.exp(-np.abs(p - n))),
        lambda p, n: logistic(p - n),
        lambda p, n: -logistic(p - n),
    ),
    "lvq2": (
        lambda p, n: np.where(np.isnan(p - n), p - n, np.minimum(M, relu(p - n))),
        lambda p, n: step(p - n) * step(M - (p - n)),
        lambda p, n: -step(p - n) * step(M - (p - n)),
    ),
    "mce": (
        lambda p, n: logistic(p - n),
        lambda p, n: logistic(p - n) * logistic(n - p),
        lambda p, n: -logistic(p - n) * logistic(n - p),
    ),
    "simple": (
        lambda p, n: relu(p) + relu(M - n),
        lambda p, n: step(p),
        lambda p, n: -step(M - n),
    ),
    "square_square": (
        lambda p, n: relu(p) ** 2 + relu(M - n) ** 2,
        lambda p, n: 2 * relu(p),
        lambda p, n: -2 * relu(M - n),
    ),
    "square_exponential": (
        lambda p, n: p**2 + M * np.exp(-n),
        lambda p, n: 2 * p,
        lambda p, n: -M * np.exp(-n),
    ),
}
OPTIONS = {
    "hinge": {"margin": M},
    "lvq2": {"ceiling": M},
    "simple": {"margin": M},
    "square_square": {"margin": M},
    "square_exponential": {"gamma": M},
}


def judge(name, positive, negative):
    """The loss and its two derivatives: NaN together, as the loss says."""
    p, n = np.asarray(positive, WIDE), np.asarray(negative, WIDE)
    with np.errstate(all="ignore"):
        value, *slopes = (f(p, n) for f in TABLE[name])
    return value, *(np.where(np.isnan(value), np.nan, slope) for slope in slopes)


def assert_close(got, expected, dtype, scale=1.0):
    """Within some rounding errors of the type; inf where the type cannot hold the number."""
    info = jnp.finfo(dtype)
    got = np.asarray(got, np.float64)
    expected = np.where(np.abs(expected) > WIDE(info.max), np.sign(expected) * np.inf, expected)
    tolerance = 8 * float(info.eps)
    np.testing.assert_allclose(
        got, expected.astype(np.float64), rtol=tolerance * scale, atol=4 * float(info.tiny)
    )


@pytest.mark.parametrize("name", losses.PAIRWISE)
@pytest.mark.parametrize("dtype", DTYPES)
def test_pairwise(name, dtype, x64):
    """Values, derivatives by jax.grad and by hand, all three against the judge."""
    values = jnp.asarray(SPECIAL, dtype)
    positive, negative = (v.ravel() for v in jnp.meshgrid(values, values))
    value, down, up = judge(name, positive, negative)
    loss = functools.partial(getattr(losses, name), **OPTIONS.get(name, {}))
    got = loss(positive, negative)
    assert got.dtype == dtype
    # p - n rounds once; what is large in it may be large in the exponent.
    scale = 100 if name in ("mce", "log", "square_exponential") else 1
    assert_close(got, value, dtype, scale)
    auto = jax.vmap(jax.grad(loss, argnums=(0, 1)))(positive, negative)
    by_hand = getattr(gradients, name)(positive, negative, **OPTIONS.get(name, {}))
    for a, h, expected in zip(auto, by_hand, (down, up), strict=True):
        assert a.dtype == h.dtype == dtype
        # Unbounded derivatives end at the largest number (times gamma).
        most = WIDE(jnp.finfo(dtype).max) * (M if expected is up and "exp" in name else 1)
        expected = np.where(np.isnan(expected), expected, np.clip(expected, -most, most))
        assert_close(a, expected, dtype, scale)
        assert_close(h, expected, dtype, scale)


@pytest.mark.parametrize("name", losses.PAIRWISE)
def test_forward_and_reverse_mode_agree(name):
    values = jnp.asarray(SPECIAL)
    positive, negative = (v.ravel() for v in jnp.meshgrid(values, values))
    loss = functools.partial(getattr(losses, name), **OPTIONS.get(name, {}))
    forward = jax.vmap(jax.jacfwd(loss, argnums=(0, 1)))(positive, negative)
    reverse = jax.vmap(jax.jacrev(loss, argnums=(0, 1)))(positive, negative)
    jax.tree.map(np.testing.assert_array_equal, forward, reverse)


@pytest.mark.parametrize("name", losses.PAIRWISE)
def test_no_nan_in_a_hessian(name):
    """At finite energies, however far: exp(-E-) overflows long before."""
    values = jnp.array([-1e4, -88.8, -1.0, 0.5, 40.0, 1e4])
    positive, negative = (v.ravel() for v in jnp.meshgrid(values, values))
    loss = functools.partial(getattr(losses, name), **OPTIONS.get(name, {}))
    hessian = jax.vmap(jax.hessian(lambda e: loss(e[0], e[1])))
    assert not np.isnan(hessian(jnp.stack([positive, negative], 1))).any()


@pytest.mark.parametrize("name", ["hinge", "lvq2", "log", "mce"])
@settings(max_examples=25, deadline=None)
@given(level=st.floats(-(2.0**100), 2.0**100, width=32), gap=st.floats(-4, 4, width=16))
def test_a_loss_of_the_difference_knows_no_level(name, level, gap):
    """Where E+ and E- differ by what the type can hold, the margin is not rounded away."""
    loss = functools.partial(getattr(losses, name), **OPTIONS.get(name, {}))
    positive = np.float32(level)
    negative = np.float32(positive - np.float32(gap))
    difference = np.float64(positive) - np.float64(negative)
    expected, down, _ = judge(name, difference, 0.0)
    value, slope = jax.value_and_grad(loss)(positive, negative)
    assert_close(value, expected, jnp.float32, 4)
    assert_close(slope, down, jnp.float32, 4)


# Over candidates, in longdouble; the derivative is delta_right - P where that means something.


def nll_judge(energies, label, allowed):
    energies = np.where(allowed, np.asarray(energies, WIDE), np.inf)
    if np.isnan(energies).any():
        return np.nan, np.full(len(energies), np.nan), np.nan
    lowest = energies.min()
    if np.isinf(lowest):
        floor = energies == -np.inf
        p_right = floor[label] / max(floor.sum(), 1)
        return -np.log(p_right) if p_right else np.inf, np.zeros(len(energies)), p_right
    weights = np.exp(-(energies - lowest))
    p = weights / weights.sum()
    others = np.delete(p, label).sum()
    derivative = -p
    derivative[label] = others if allowed[label] else 0
    if energies[label] == np.inf:
        return np.inf, derivative, p[label]
    lead = np.append(0, energies[label] - np.delete(energies, label))
    rest = np.delete(lead, lead.argmax()) - lead.max()
    return lead.max() + np.log1p(np.exp(rest).sum()), derivative, p[label]


ROWS = [
    [0.3, -1.0, 2.0, 0.5],
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


def at_every_label(function, dtype):
    """Return function(row, label, mask) at every row, mask and label, in one compilation."""
    for axes in ((None, 0, None), (None, None, 0), (0, None, None)):
        function = jax.vmap(function, axes)
    found = jax.jit(function)(jnp.asarray(ROWS, dtype), jnp.arange(4), jnp.asarray(MASKS))
    return jax.tree.map(np.asarray, found)  # (rows, masks, labels, ...)


@pytest.mark.parametrize("dtype", DTYPES)
def test_nll_and_mee(dtype, x64):
    def everything(row, label, mask):
        return (
            *jax.value_and_grad(losses.nll)(row, label, where=mask),
            gradients.nll(row, label, where=mask),
            *jax.value_and_grad(losses.mee)(row, label, where=mask),
            gradients.mee(row, label, where=mask),
        )

    nll, nll_auto, nll_hand, mee, mee_auto, mee_hand = at_every_label(everything, dtype)
    for at in np.ndindex(nll.shape):
        row, mask, label = at
        energies, allowed = np.asarray(ROWS[row]), np.array(MASKS[mask])
        energies = np.asarray(jnp.asarray(energies, dtype), WIDE)
        value, derivative, p_right = nll_judge(energies, label, allowed)
        assert_close(nll[at], value, dtype, 4)
        assert_close(nll_auto[at], derivative, dtype, 4)
        assert_close(nll_hand[at], derivative, dtype, 4)
        # 1 - P(right), by the derivative of the nll where P is not all on the floor
        wrong = derivative[label] if np.isfinite(value) and derivative.any() else 1 - p_right
        assert_close(mee[at], wrong, dtype, 4)
        assert_close(mee_auto[at], p_right * derivative, dtype, 16)
        assert_close(mee_hand[at], p_right * derivative, dtype, 16)


def test_a_weight_that_is_zero_or_nan_is_told_apart():
    energies, label = jnp.zeros(3), 1
    assert losses.nll(energies, label, log_weights=jnp.array([0.0, -jnp.inf, 0.0])) == jnp.inf
    assert np.isnan(losses.nll(energies, label, log_weights=jnp.array([0.0, jnp.nan, 0.0])))


@pytest.mark.parametrize("dtype", DTYPES)
def test_perceptron(dtype, x64):
    for row in ROWS:
        for label in range(4):
            energies = jnp.asarray(row, dtype)
            wide = np.asarray(row, WIDE)
            got, auto = jax.value_and_grad(losses.perceptron)(energies, label)
            by_hand = gradients.perceptron(energies, label)
            np.testing.assert_array_equal(auto.astype(float), by_hand.astype(float))
            if np.isnan(wide).any():
                assert np.isnan(got)
                assert np.isnan(auto).all()
            elif energies[label] == energies.min():
                assert got == 0
                assert not auto.any()
            else:
                assert_close(got, wide[label] - wide.min(), dtype)
                assert auto[label] == 1
                assert auto.sum() == 0


@pytest.mark.parametrize("name", losses.CANDIDATES)
def test_a_label_out_of_range_under_jit_moves_no_energy(name):
    """Its derivatives are NaN, all of them: delta - P alone would push every energy up."""
    gradient = jax.jit(jax.grad(getattr(losses, name)))
    for label in (-1, 3, 2**20):
        assert np.isnan(gradient(jnp.arange(3.0), label)).all()
        assert np.isnan(jax.jit(getattr(gradients, name))(jnp.arange(3.0), label)).all()


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "uint32", "int64", "uint64"])
def test_labels_of_every_integer_type(dtype, x64):
    label = 100 if dtype == "int8" else 200
    energies = jnp.linspace(0.0, 3.0, 300)
    expected = np.log(np.exp(-np.linspace(0, 3, 300)).sum()) + 3 * label / 299
    for compiled in (losses.nll, jax.jit(losses.nll)):
        np.testing.assert_allclose(
            compiled(energies, np.asarray(label, dtype)), expected, rtol=1e-6
        )
    if dtype in ("int64", "uint64"):
        assert np.isnan(jax.jit(losses.nll)(energies, jnp.asarray(2**32 + 3, dtype)))
