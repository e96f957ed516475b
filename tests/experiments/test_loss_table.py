"""Losses by name, and the objectives they give."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import objectives
from experiments import loss_table


@pytest.mark.parametrize("name", loss_table.NAMES)
def test_every_loss_trains_a_classifier(name):
    """A few gradient steps lower each loss on separable data."""
    x = jnp.array(np.random.default_rng(0).normal(size=(50, 4)), jnp.float32)
    batch = x, jnp.argmax(x, axis=1)
    objective = objectives.discriminative(lambda w, x: x @ w, loss_table.named(name))

    def value(w):
        return objective.loss(w, (), batch, jax.random.key(0))[0]

    @jax.jit
    def descend(w):
        return jax.lax.fori_loop(0, 20, lambda _, w: w - 0.05 * jax.grad(value)(w), w)

    start = 0.1 * jax.random.normal(jax.random.key(0), (4, 4))
    assert value(descend(start)) < value(start)


def test_the_margin_reaches_the_losses_that_have_one():
    energies, right = jnp.array([[0.0, 0.5]]), jnp.array([0])
    assert loss_table.WITH_MARGIN == ("hinge", "simple", "square_square")
    assert float(loss_table.named("hinge", 2.0)(energies, right)[0]) == 1.5
    assert float(loss_table.named("simple", 2.0)(energies, right)[0]) == 1.5
    assert float(loss_table.named("square_square", 2.0)(energies, right)[0]) == 1.5**2
    assert float(loss_table.named("lvq2", 0.25)(energies[:, ::-1], right)[0]) == 0.25
    gamma = float(loss_table.named("square_exponential", 3.0)(energies, right)[0])
    assert gamma == pytest.approx(3 * np.exp(-0.5))
