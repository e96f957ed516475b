"""Centred RBMs against the centred energy written out in NumPy."""

import functools
import itertools

import jax
import numpy as np

from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM
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
