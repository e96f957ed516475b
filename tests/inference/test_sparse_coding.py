"""Sparse coding against scikit-learn, closed forms, optimality conditions and stated rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import sparse_encode

from ebm_jax.inference import sparse_coding


def problem(d=6, k=10, seed=0):
    rng = np.random.default_rng(seed)
    dictionary = rng.normal(size=(d, k))
    dictionary /= np.linalg.norm(dictionary, axis=0)
    return dictionary.astype(np.float32), rng.normal(size=d).astype(np.float32)


@pytest.mark.parametrize("sparsity", [0.05, 0.3, 1.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_code_is_that_of_coordinate_descent(sparsity, seed):
    dictionary, y = (array.astype(np.float64) for array in problem(seed=seed))
    expected = sparse_encode(
        y[None], dictionary.T, algorithm="lasso_cd", alpha=sparsity, max_iter=100_000
    )[0]
    with jax.enable_x64(True):
        code = sparse_coding.infer(dictionary, y, sparsity=sparsity, num_steps=5000)
        ours = float(sparse_coding.energy(dictionary, y, code, sparsity=sparsity))
        theirs = float(sparse_coding.energy(dictionary, y, expected, sparsity=sparsity))
    # scikit-learn stops at a duality gap of 1e-4 |y|^2.
    assert theirs - 1e-3 < ours <= theirs + 1e-9
    np.testing.assert_allclose(code, expected, atol=0.03)


@pytest.mark.parametrize("accelerated", [True, False])
def test_code_satisfies_the_optimality_conditions(accelerated):
    # 0 is in the subdifferential: W^T r = lambda sign(z) where z != 0, |W^T r| <= lambda elsewhere.
    dictionary, y = problem()
    code = sparse_coding.infer(dictionary, y, sparsity=0.2, num_steps=5000, accelerated=accelerated)
    code = np.asarray(code)
    pull = dictionary.T @ (y - dictionary @ code)
    used = code != 0
    assert 0 < used.sum() < len(code)
    np.testing.assert_allclose(pull[used], 0.2 * np.sign(code[used]), atol=1e-4)
    assert (abs(pull) <= 0.2 + 1e-4).all()


def test_orthonormal_dictionary_has_the_soft_threshold_and_the_huber_energy():
    basis = np.linalg.qr(np.random.default_rng(3).normal(size=(4, 4)))[0].astype(np.float32)
    y = basis @ np.array([2.0, -0.1, -1.5, 0.3], np.float32)
    code = sparse_coding.infer(basis, y, sparsity=0.5, num_steps=50)
    np.testing.assert_allclose(code, [1.5, 0, -1.0, 0], atol=1e-5)
    huber = (2 - 0.25) * 0.5 + (1.5 - 0.25) * 0.5 + (0.1**2 + 0.3**2) / 2
    np.testing.assert_allclose(
        sparse_coding.free_energy(basis, y, sparsity=0.5, num_steps=50), huber, rtol=1e-5
    )


def test_no_sparsity_explains_everything_and_much_explains_nothing():
    dictionary, y = problem(d=4, k=12)
    free = sparse_coding.free_energy(dictionary, y, sparsity=0.0, num_steps=3000)
    assert float(free) < 1e-8
    most = float(abs(dictionary.T @ y).max())
    code = sparse_coding.infer(dictionary, y, sparsity=most * 1.001)
    np.testing.assert_array_equal(code, 0)
    assert np.any(sparse_coding.infer(dictionary, y, sparsity=most * 0.99) != 0)


def test_the_energy_stays_within_the_stated_rates():
    dictionary, y = problem(d=20, k=40)
    best = sparse_coding.infer(dictionary, y, sparsity=0.1, num_steps=5000)
    lowest = float(sparse_coding.energy(dictionary, y, best, sparsity=0.1))
    scale = np.linalg.norm(dictionary, 2) ** 2 * float(jnp.sum(best**2))
    for steps in (2, 8, 32):
        for accelerated, bound in (
            (False, scale / (2 * steps)),
            (True, 2 * scale / (steps + 1) ** 2),
        ):
            code = sparse_coding.infer(
                dictionary, y, sparsity=0.1, num_steps=steps, accelerated=accelerated
            )
            excess = float(sparse_coding.energy(dictionary, y, code, sparsity=0.1)) - lowest
            assert -1e-5 < excess <= bound


def test_acceleration_needs_fewer_steps():
    dictionary, y = problem(d=20, k=40)
    excess = [
        float(
            sparse_coding.energy(
                dictionary,
                y,
                sparse_coding.infer(
                    dictionary, y, sparsity=0.01, num_steps=60, accelerated=accelerated
                ),
                sparsity=0.01,
            )
        )
        for accelerated in (True, False)
    ]
    assert excess[0] < excess[1]


def test_gradients_are_those_of_finite_differences():
    dictionary, y = problem()

    def free(dictionary, y):
        return sparse_coding.free_energy(dictionary, y, sparsity=0.2, num_steps=3000)

    with jax.enable_x64(True):
        dictionary, y = jnp.asarray(dictionary, jnp.float64), jnp.asarray(y, jnp.float64)
        by_dictionary, by_y = jax.grad(free, (0, 1))(dictionary, y)
        rng = np.random.default_rng(5)
        along = jnp.asarray(rng.normal(size=dictionary.shape)), jnp.asarray(rng.normal(size=6))
        step = 1e-5
        plus = free(dictionary + step * along[0], y + step * along[1])
        minus = free(dictionary - step * along[0], y - step * along[1])
        expected = (plus - minus) / (2 * step)
        found = jnp.sum(by_dictionary * along[0]) + jnp.sum(by_y * along[1])
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_free_energy_is_convex_in_y():
    # Why sparse coding of raw coordinates can only be a bowl.
    dictionary, _ = problem()
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 200, 6)).astype(np.float32)
    free = jax.jit(
        jax.vmap(lambda y: sparse_coding.free_energy(dictionary, y, sparsity=0.3, num_steps=500))
    )
    assert (free((a + b) / 2) <= (free(a) + free(b)) / 2 + 1e-4).all()


def test_vmap_and_jit_agree_with_one_at_a_time():
    dictionary, _ = problem()
    ys = np.random.default_rng(2).normal(size=(5, 6)).astype(np.float32)

    def free(y):
        return sparse_coding.free_energy(dictionary, y, sparsity=0.1)

    one = np.array([free(y) for y in ys])
    np.testing.assert_allclose(jax.jit(jax.vmap(free))(ys), one, rtol=1e-4)


def test_zero_dictionary_and_zero_gradient():
    assert sparse_coding.infer(jnp.zeros((2, 3)), jnp.ones(2), sparsity=0.0).tolist() == [0, 0, 0]
    columns = sparse_coding.unit_columns(jnp.array([[3.0, 0.0], [4.0, 2.0]]))
    np.testing.assert_allclose(columns, [[0.6, 0.0], [0.8, 1.0]], rtol=1e-6)
