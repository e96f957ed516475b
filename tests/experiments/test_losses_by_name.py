"""Losses by name, and the objectives they give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import objectives
from experiments import losses_by_name


@pytest.mark.parametrize("name", losses_by_name.NAMES)
@pytest.mark.sweep(4)
def test_every_loss_trains_a_classifier(name):
    """A few gradient steps lower each loss on separable data."""
    x = jnp.array(np.random.default_rng(0).normal(size=(50, 4)), jnp.float32)
    batch = x, jnp.argmax(x, axis=1)
    objective = objectives.discriminative(lambda w, x: x @ w, losses_by_name.named(name))

    def value(w):
        return objective.loss(w, (), batch, jax.random.key(0))[0]

    @jax.jit
    def descend(w):
        return jax.lax.fori_loop(0, 20, lambda _, w: w - 0.05 * jax.grad(value)(w), w)

    start = 0.1 * jax.random.normal(jax.random.key(0), (4, 4))
    assert value(descend(start)) < value(start)


def test_the_margin_reaches_the_losses_that_have_one():
    energies, right = jnp.array([[0.0, 0.5]]), jnp.array([0])
    assert losses_by_name.WITH_MARGIN == ("hinge", "simple", "square_square")
    assert float(losses_by_name.named("hinge", 2.0)(energies, right)[0]) == 1.5
    assert float(losses_by_name.named("simple", 2.0)(energies, right)[0]) == 1.5
    assert float(losses_by_name.named("square_square", 2.0)(energies, right)[0]) == 1.5**2
    assert float(losses_by_name.named("lvq2", 0.25)(energies[:, ::-1], right)[0]) == 0.25
    gamma = float(losses_by_name.named("square_exponential", 3.0)(energies, right)[0])
    assert gamma == pytest.approx(3 * np.exp(-0.5))
