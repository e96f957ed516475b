"""The pseudo-likelihood against conditionals of the enumerated distribution."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax.partition import exact, pseudo_log_likelihood

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(4, 4))


def energy(table, x):
    x = x.astype(float)
    return x @ table @ x + jnp.sum(jnp.cos(x))


@pytest.mark.parametrize("values", [(0, 1), (-1, 1), (0, 1, 2)])
@pytest.mark.sweep(1)
def test_every_conditional_counts(values, x64):
    states = np.asarray(exact.states(4, values))
    p = oracles.probabilities(np.asarray(jax.vmap(functools.partial(energy, TABLE))(states)), 0.6)
    found = jax.vmap(
        functools.partial(
            pseudo_log_likelihood, functools.partial(energy, TABLE), values=values, beta=0.6
        )
    )(jnp.asarray(states))
    for x, own, value in zip(states[::5], p[::5], found[::5], strict=True):
        same = [(np.delete(states, i, 1) == np.delete(x, i)).all(1) for i in range(4)]
        np.testing.assert_allclose(value, sum(np.log(own / p[s].sum()) for s in same), atol=1e-10)


def test_it_is_highest_at_the_truth(x64):
    """Its gradient's mean over the model's own distribution is zero; by finite differences too."""
    rng = np.random.default_rng(1)
    states = exact.states(4)
    p = oracles.probabilities(np.asarray(jax.vmap(functools.partial(energy, TABLE))(states)))

    def mean(table):
        each = jax.vmap(lambda x: pseudo_log_likelihood(functools.partial(energy, table), x))
        return jnp.dot(p, each(states))

    np.testing.assert_allclose(jax.grad(mean)(jnp.asarray(TABLE)), 0, atol=1e-10)
    off = TABLE + 0.3 * rng.normal(size=(4, 4))
    slope = oracles.finite_difference(jax.jit(mean), off)
    np.testing.assert_allclose(jax.grad(mean)(jnp.asarray(off)), slope, atol=1e-7)


def test_floating_leaves_are_given():
    def joint(z):
        return jnp.sum(z["y"]) * z["x"]

    found = pseudo_log_likelihood(joint, {"x": 2.0, "y": jnp.array([True, False])})
    np.testing.assert_allclose(found, -np.logaddexp(0, 2) - np.logaddexp(0, -2), rtol=1e-6)


def test_bad_data_are_refused():
    with pytest.raises(ValueError, match="got 2"):
        pseudo_log_likelihood(lambda x: 0.0 * x.sum(), jnp.array([0, 2]))
    with pytest.raises(TypeError, match="integer or boolean leaf"):
        pseudo_log_likelihood(lambda x: x.sum(), jnp.array([0.0, 1.0]))
