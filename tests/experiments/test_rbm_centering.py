"""Centred RBMs against the centred energy written out in NumPy."""

import functools
import itertools

import jax
import numpy as np
import optax

from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.types import Objective
from experiments.rbm import centering

RNG = np.random.default_rng(0)
VISIBLE, HIDDEN = 4, 3
W = RNG.normal(size=(VISIBLE, HIDDEN))
B, C = RNG.normal(size=VISIBLE), RNG.normal(size=HIDDEN)
MACHINE = RBM(W, B, C)


def bits(n):
    return np.array(list(itertools.product((0, 1), repeat=n)))


def rbm_by_hand(v, h):
    return -(v @ W @ h + B @ v + C @ h)


def centered_by_hand(params, v, h):
    weights, visible, hidden, mu, offset = params
    return -(v - mu) @ weights @ (h - offset) - visible @ (v - mu) - hidden @ (h - offset)


def test_the_centred_form_is_the_same_distribution(x64):
    rng = np.random.default_rng(1)
    params = centering.centered(MACHINE, rng.uniform(size=VISIBLE), rng.uniform(size=HIDDEN))
    states = list(itertools.product(bits(VISIBLE), bits(HIDDEN)))
    difference = [centered_by_hand(params, v, h) - rbm_by_hand(v, h) for v, h in states]
    np.testing.assert_allclose(difference, difference[0], atol=1e-12)
    back = centering.uncentered(params)
    for found, expected in zip(back, MACHINE, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_gradient_of_the_centred_form_is_centred(x64):
    """d E / d W = -(v - mu)(h - lambda)^T, less its mean over the model: Melchior et al., eq. 5."""
    rng = np.random.default_rng(1)
    mu, offset = rng.uniform(size=VISIBLE), rng.uniform(size=HIDDEN)
    params = centering.centered(MACHINE, mu, offset)

    def contrast(params, positive, negative):
        free = functools.partial(boltzmann.rbm_free_energy, centering.uncentered(params))
        return free(positive) - free(negative)

    positive, negative = bits(VISIBLE)[5], bits(VISIBLE)[10]
    gradient = jax.jit(jax.grad(contrast))(params, positive, negative)

    def hidden(v):
        return 1 / (1 + np.exp(-(C + v @ W)))

    def outer(v):
        return np.outer(v - mu, hidden(v) - offset)

    np.testing.assert_allclose(gradient.weights, outer(negative) - outer(positive), atol=1e-12)
    np.testing.assert_allclose(gradient.visible_bias, negative - positive, atol=1e-12)
    np.testing.assert_array_equal(gradient.visible_offset, 0)
    np.testing.assert_array_equal(gradient.hidden_offset, 0)


def flat_loss(params, state, batch, key):
    """A loss without a gradient: what moves is the offsets alone."""
    return 0.0 * params.weights.sum(), (state, {})


def test_moving_offsets_follow_the_means_and_keep_the_distribution(x64):
    params = centering.centered(MACHINE, np.full(VISIBLE, 0.3), np.full(HIDDEN, 0.5))
    objective = centering.with_means(Objective(lambda params, key: (), flat_loss))
    optimizer = centering.moving_offsets(optax.sgd(0.1), 0.25)
    batch = bits(VISIBLE)[[1, 5, 5, 12]].astype(bool)
    value, gradients = jax.value_and_grad(lambda p: objective.loss(p, (), batch, None)[0])(params)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)
    moved = optax.apply_updates(params, updates)
    assert value == 0
    hidden = 1 / (1 + np.exp(-(C + batch @ W)))
    np.testing.assert_allclose(moved.visible_offset, 0.75 * 0.3 + 0.25 * batch.mean(0), rtol=1e-12)
    np.testing.assert_allclose(moved.hidden_offset, 0.75 * 0.5 + 0.25 * hidden.mean(0), rtol=1e-12)
    for found, expected in zip(centering.uncentered(moved), MACHINE, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_the_means_change_no_other_gradient_and_not_the_loss(x64):
    def free(params, state, batch, key):
        rbm = centering.uncentered(params)
        return jax.vmap(lambda v: boltzmann.rbm_free_energy(rbm, v))(batch).sum(), (state, {})

    params = centering.centered(MACHINE, np.full(VISIBLE, 0.3), np.full(HIDDEN, 0.5))
    plain, batch = Objective(lambda params, key: (), free), bits(VISIBLE)[2:6]
    (value, gradient), (expected, plain_gradient) = (
        jax.value_and_grad(lambda p, o=o: o.loss(p, (), batch, None)[0])(params)
        for o in (centering.with_means(plain), plain)
    )
    assert value == expected
    for name in ("weights", "visible_bias", "hidden_bias"):
        np.testing.assert_array_equal(getattr(gradient, name), getattr(plain_gradient, name))
