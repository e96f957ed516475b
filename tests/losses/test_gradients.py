"""The chain rule through a network: dl/dW by hand, by jax.grad and by finite differences."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import losses
from ebm_jax.energies.networks import JointMLP
from ebm_jax.losses import gradients
from experiments import losses_by_name

LABEL = 2


@pytest.fixture(scope="module")
def network():
    """Return the energies of four classes as a function of flat weights, weights, dF/dW."""
    with jax.enable_x64(True):
        module, x = JointMLP((5,), num_classes=4), jnp.array([0.3, -0.8, 1.1])
        params = jax.jit(module.init)(jax.random.key(3), x)
        params = jax.tree.map(lambda p: p.astype(jnp.float64), params)
        flat, unflatten = jax.flatten_util.ravel_pytree(params)
        energies = jax.jit(lambda w: module.apply(unflatten(w), x))
        return energies, flat, jax.jit(jax.jacobian(energies))(flat)


@pytest.mark.parametrize("name", losses_by_name.NAMES)
@pytest.mark.sweep(4)
def test_chain_rule_through_a_network(name, network, x64):
    energies, flat, jacobian = network
    over = getattr(losses, name)
    if name in losses_by_name.PAIRWISE:
        over = losses.over_candidates(over)
    loss = jax.jit(lambda w: over(energies(w), LABEL))
    values = energies(flat)
    if name in losses_by_name.CANDIDATES:
        derivative = gradients.of(getattr(losses, name))(values, LABEL)
    else:
        wrong = int(losses.offender(values, LABEL))
        down, up = gradients.of(getattr(losses, name))(values[LABEL], values[wrong])
        derivative = jnp.zeros(4).at[LABEL].add(down).at[wrong].add(up)
    by_hand = gradients.chain(derivative, jacobian)
    np.testing.assert_allclose(by_hand, jax.grad(loss)(flat), atol=1e-12)
    np.testing.assert_allclose(by_hand, oracles.finite_difference(loss, flat), atol=1e-7)


def test_nll_gradient_is_positive_minus_expected(network, x64):
    """dF(x, y)/dW - sum_y' P(y' | x) dF(x, y')/dW, the expectation by enumeration."""
    energies, flat, jacobian = network
    nll = functools.partial(losses.nll, label=LABEL, beta=1.7)
    p = oracles.probabilities(np.asarray(energies(flat)), 1.7)
    expected = jacobian[LABEL] - p @ np.asarray(jacobian)
    np.testing.assert_allclose(jax.grad(lambda w: nll(energies(w)))(flat), expected, atol=1e-12)
