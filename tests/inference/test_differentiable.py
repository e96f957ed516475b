"""Answers as functions of the parameters: closed forms of a quadratic, by descent and implicitly.

On E = k (y - f)^2 / 2 descent gives y_K = f + r^K (y_0 - f) with r = 1 - a k.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ebm_jax import inference

rng = np.random.default_rng(0)
CASES = 16
K, F, Y0 = rng.uniform(0.5, 3, CASES), rng.normal(size=CASES), rng.normal(size=CASES)
STEP = rng.uniform(0.05, 0.9, CASES) / K
RATE, STEPS = 1 - STEP * K, 7


def bowl(k, f, y):
    return k * (y - f) ** 2 / 2


def descend(k, f, step_size, y0, **options):
    energy = functools.partial(bowl, k, f)
    return inference.unroll(energy, y0, step_size=step_size, num_steps=STEPS, **options)


def test_unrolled_is_the_closed_form(x64):
    @jax.jit
    @jax.vmap
    def compute(*args):
        forward, reverse = (d(descend, range(4))(*args) for d in (jax.jacfwd, jax.jacrev))
        return descend(*args), forward, reverse

    found, forward, reverse = compute(K, F, STEP, Y0)
    np.testing.assert_allclose(found.position, F + RATE**STEPS * (Y0 - F), rtol=1e-12)
    powers = RATE[:, None] ** (2 * np.arange(STEPS + 1))
    np.testing.assert_allclose(
        found.energies, powers * (K * (Y0 - F) ** 2 / 2)[:, None], rtol=1e-10
    )
    inner = STEPS * RATE ** (STEPS - 1) * (Y0 - F)
    wanted = (-STEP * inner, 1 - RATE**STEPS, -K * inner, RATE**STEPS)
    for derivatives in (forward, reverse):
        np.testing.assert_allclose(derivatives.position, wanted, atol=1e-12)


def test_what_lies_before_the_last_steps_is_constant(x64):
    lasts = (1, 3, STEPS)

    @jax.jit
    def compute():
        def of(last):
            one = functools.partial(descend, last_steps=last)
            return jax.vmap(jax.jacrev(one, range(4)))(K, F, STEP, Y0)

        return [of(last) for last in lasts]

    for last, found in zip(lasts, compute(), strict=True):
        reached = RATE ** (STEPS - last) * (Y0 - F)  # from f, where the first steps end
        inner = last * RATE ** (last - 1) * reached
        start = RATE**STEPS * (last == STEPS)
        wanted = (-STEP * inner, 1 - RATE**last, -K * inner, start)
        np.testing.assert_allclose(found.position, np.stack(wanted), atol=1e-12)
        by_k, by_f = np.asarray(found.energies[0]), np.asarray(found.energies[1])
        assert not by_k[:, : STEPS - last].any()
        # where gradients begin, the energy is still a function of the parameters
        np.testing.assert_allclose(by_k[:, STEPS - last], reached**2 / 2, atol=1e-12)
        np.testing.assert_allclose(by_f[:, STEPS - last], -K * reached, atol=1e-12)


def test_noise_is_that_of_a_linear_chain():
    """Mean, variance and covariance of 20,000 pairs of numbers, each within 4.5 standard errors.

    Six of them: a false alarm once in 20,000 keys.
    """
    k, f, a, s, num = 1.5, 0.7, 0.2, 0.4, 20_000
    r = 1 - a * k

    def energy(y):
        return bowl(k, f, y["a"]) + bowl(k, f, y["b"])

    start = {"a": 2.0, "b": -1.0}

    @jax.jit
    @jax.vmap
    def compute(key):
        def end(s):
            options = {"step_size": a, "num_steps": STEPS, "noise_sigma": s, "key": key}
            return inference.unroll(energy, start, **options).position

        return end(s), jax.jacfwd(end)(s), end(0.0)

    ends, slopes, quiet = compute(jax.random.split(jax.random.key(0), num))
    ends, slopes = (np.stack([tree["a"], tree["b"]], 1, dtype=float) for tree in (ends, slopes))
    mean = f + r**STEPS * (np.array([2.0, -1.0]) - f)
    variance = s**2 * (1 - r ** (2 * STEPS)) / (1 - r**2)
    assert (abs(ends.mean(0) - mean) < 4.5 * np.sqrt(variance / num)).all()
    assert (abs(ends.var(0) / variance - 1) < 4.5 * np.sqrt(2 / num)).all()
    assert abs(np.corrcoef(ends.T)[0, 1]) < 4.5 / np.sqrt(num)
    np.testing.assert_allclose(slopes, (ends - mean) / s, atol=1e-4)
    np.testing.assert_allclose(quiet["a"], np.full(num, mean[0]), rtol=1e-5)


def settle(energy, start):
    """A minimiser that has no derivative in reverse: it stops when it stands still."""

    def moving(carry):
        return jnp.linalg.norm(jax.grad(energy)(carry)) > 1e-9

    return jax.lax.while_loop(moving, lambda y: y - 0.3 * jax.grad(energy)(y), start)


def by_optax(energy, start):
    optimizer = optax.sgd(0.3)
    found = inference.minimize(energy, start[None], optimizer=optimizer, num_steps=400)
    return found.position


def by_descent(energy, start):
    return inference.unroll(energy, start, step_size=0.3, num_steps=400).position


@pytest.mark.parametrize("minimize", [settle, by_optax, by_descent])
@pytest.mark.sweep(1)
def test_implicit_derivative_is_that_of_the_minimum(minimize, x64):
    """y* = f(theta) for any k and y_0: the derivative is f'(theta), the others are 0."""

    def answer(theta, k, y0):
        energy = functools.partial(bowl, k, jnp.sin(theta) + theta**2)
        found = inference.implicit_minimum(energy, y0, minimize)
        return found.position, found.gradient_norm

    @jax.jit
    @jax.vmap
    def compute(*args):
        return answer(*args), *(d(answer, range(3))(*args) for d in (jax.jacfwd, jax.jacrev))

    (position, norm), forward, reverse = compute(F, K, Y0)
    np.testing.assert_allclose(position, np.sin(F) + F**2, atol=1e-8)
    assert (norm < 1e-8).all()
    for derivatives, of_norm in (forward, reverse):
        np.testing.assert_allclose(derivatives[0], np.cos(F) + 2 * F, atol=1e-6)
        np.testing.assert_allclose(derivatives[1:], np.zeros((2, CASES)), atol=1e-6)
        np.testing.assert_array_equal(of_norm, np.zeros((3, CASES)))


def test_unrolled_and_implicit_agree_as_the_steps_grow(x64):
    """E = y A(t) y / 2 - b(t) y: dy*/dt = A^-1 (b' - A' y*), y a pytree of seven numbers."""
    root, change = rng.normal(size=(2, 7, 7))
    base = root @ root.T / 7 + 0.3 * np.eye(7)
    change = change @ change.T / 7
    b, slope = rng.normal(size=(2, 7))
    t = 0.4
    hessian = base + t * change
    exact = np.linalg.solve(hessian, b + t * slope)
    derivative = np.linalg.solve(hessian, slope - change @ exact)
    step_size = 1 / np.linalg.eigvalsh(hessian)[-1]
    start = {"a": jnp.ones(3), "b": jnp.zeros((2, 2))}

    def flat(y):
        return jnp.concatenate([y["a"], y["b"].ravel()])

    def energy(t, y):
        v = flat(y)
        return v @ (base + t * change) @ v / 2 - (b + t * slope) @ v

    def unrolled(num_steps, t):
        own = functools.partial(energy, t)
        return inference.unroll(own, start, step_size=step_size, num_steps=num_steps).position

    def implicit(t):
        def minimize(e, y):
            return inference.unroll(e, y, step_size=step_size, num_steps=500).position

        own = functools.partial(energy, t)
        return inference.implicit_minimum(own, start, minimize, tolerance=1e-12).position

    counts = (5, 20, 80, 320)

    @jax.jit
    def compute(t):
        functions = [*(functools.partial(unrolled, n) for n in counts), implicit]
        return [flat(jax.jacfwd(f)(t)) for f in functions], flat(implicit(t))

    (*descents, at_minimum), position = compute(t)
    np.testing.assert_allclose(position, exact, atol=1e-9)
    np.testing.assert_allclose(at_minimum, derivative, atol=1e-6)
    errors = [np.abs(found - at_minimum).max() for found in descents]
    assert errors[0] > 4 * errors[1] > 100 * errors[2] > 0
    assert errors[0] > 1e-2
    assert errors[3] < 1e-6


def test_the_gradients_norm_tells_a_minimum_from_what_is_none():
    @jax.jit
    def compute():
        def found(energy, start, minimize):
            return inference.implicit_minimum(energy, start, minimize).gradient_norm

        y = jnp.array([3.0, -4.0])
        stuck = found(lambda y: jnp.sum(y**2) / 2, y, lambda e, y: y)
        endless = found(lambda y: 2 * y, jnp.zeros(()), by_descent)
        return stuck, endless, found(lambda y: jnp.sum((y - 1) ** 2), y, by_descent)

    stuck, endless, settled = compute()
    np.testing.assert_allclose([stuck, endless], [5.0, 2.0], rtol=1e-6)
    assert settled < 1e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.sweep(1)
def test_the_answer_keeps_its_type(dtype, x64):
    """Also where the energy's parameters, the step and the noise have another."""

    @jax.jit
    def compute(f):
        y0 = jnp.zeros(3, dtype)

        def energy(y):
            return jnp.sum((y - f.astype(dtype)) ** 2) / 2

        def minimize(e, y):
            return inference.unroll(e, y, step_size=jnp.float32(0.5), num_steps=30).position

        implicit = inference.implicit_minimum(energy, y0, minimize).position
        noise = {"noise_sigma": jnp.float32(1e-3), "key": jax.random.key(0)}
        noisy = inference.unroll(energy, y0, step_size=0.5, num_steps=30, **noise)
        return implicit, noisy.position, noisy.energies

    f = jnp.array([1.0, 2.0, -3.0])
    *positions, energies = compute(f)
    slope = jax.jit(jax.jacrev(lambda f: compute(f)[0]))(f)
    assert {leaf.dtype for leaf in (*positions, energies)} == {jnp.dtype(dtype)}
    assert energies.shape == (31,)
    for position in positions:
        np.testing.assert_allclose(position.astype(float), f, atol=0.03)
    np.testing.assert_allclose(slope.astype(float), np.eye(3), atol=1e-2)


def test_noise_needs_a_key():
    def descend(sigma):
        options = {"step_size": 0.1, "num_steps": 2, "noise_sigma": sigma}
        return inference.differentiable.unroll(lambda y: jnp.sum(y**2), jnp.ones(2), **options)

    for call in (descend, functools.partial(jax.eval_shape, descend)):  # known, and traced
        with pytest.raises((TypeError, ValueError), match="key"):
            call(0.1)
