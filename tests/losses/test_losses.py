"""What the losses share: lists, shapes, margins, and the most offending answer."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import losses
from ebm_jax.losses import gradients
from experiments import losses_by_name


@pytest.mark.parametrize("name", losses_by_name.NAMES)
def test_the_lists_name_losses_and_derivatives_of_one_signature(name):
    loss = getattr(losses, name)
    derivative = gradients.of(loss)
    assert inspect.signature(loss).parameters == inspect.signature(derivative).parameters


@pytest.mark.parametrize("name", losses_by_name.PAIRWISE)
@pytest.mark.sweep(3)
def test_pairwise_losses_are_unreduced_and_broadcast(name):
    loss = getattr(losses, name)
    positive, negative = jnp.linspace(-1, 1, 4)[:, None], jnp.linspace(-2, 2, 3)
    got = loss(positive, negative)
    assert got.shape == (4, 3)
    for i, j in np.ndindex(4, 3):
        np.testing.assert_allclose(got[i, j], loss(positive[i, 0], negative[j]), rtol=1e-6)
    by_hand = gradients.of(loss)(positive, negative)
    assert [d.shape for d in by_hand] == [(4, 3)] * 2


MARGINS = [
    ("hinge", "margin"),
    ("lvq2", "ceiling"),
    ("simple", "margin"),
    ("square_square", "margin"),
    ("square_exponential", "gamma"),
]


@pytest.mark.parametrize(("name", "option"), MARGINS)
def test_a_margin_may_be_one_a_pair(name, option):
    loss = getattr(losses, name)
    derivative = gradients.of(loss)
    values = jnp.array([0.0, 1.0, 5.0])
    for positive in (0.5, jnp.full(3, 0.5)):
        got, by_hand = (f(positive, 0.25, **{option: values}) for f in (loss, derivative))
        for i, value in enumerate(values):
            np.testing.assert_allclose(got[i], loss(0.5, 0.25, **{option: value}))
            one = derivative(0.5, 0.25, **{option: value})
            np.testing.assert_allclose([d[i] for d in by_hand], one)


def test_nll_over_a_grid_is_a_density(x64):
    points, volume = oracles.grid(-10, 10, 2000, 1)
    energies = points[:, 0] ** 2 / 2
    got = losses.nll(energies, 1234, log_weights=jnp.log(volume))
    np.testing.assert_allclose(got, energies[1234] + 0.5 * np.log(2 * np.pi), atol=1e-9)


ENERGIES = jnp.array([[0.3, -1.0, 2.0, 0.5], [1.0, 1.0, 4.0, 0.0]])
LABELS = np.array([0, 3])


def test_most_offending_discrete():
    positive, negative = losses.most_offending(ENERGIES, LABELS)
    np.testing.assert_allclose(positive, [0.3, 0.0])
    np.testing.assert_allclose(negative, [-1.0, 1.0])
    np.testing.assert_array_equal(losses.offender(ENERGIES, LABELS), [1, 0])
    gradient = jax.grad(lambda e: losses.most_offending(e, LABELS)[1].sum())(ENERGIES)
    np.testing.assert_array_equal(gradient, [[0, 1, 0, 0], [1, 0, 0, 0]])
    over = losses.over_candidates(losses.hinge, margin=2.0)
    np.testing.assert_allclose(over(ENERGIES, LABELS), [3.3, 1.0], rtol=1e-6)


def test_most_offending_continuous():
    """Candidates near the right answer are not wrong."""
    y = np.linspace(-1, 1, 21)
    label = 10
    energies = jnp.array(y**2, jnp.float32)
    distance = np.abs(y - y[label]).astype(np.float32)
    _, negative = losses.most_offending(energies, label, distance=distance, radius=0.25)
    np.testing.assert_allclose(negative, 0.3**2, rtol=1e-5)
    _, none = losses.most_offending(energies, label, distance=distance, radius=5.0)
    assert none == jnp.inf
    assert losses.hinge(0.0, none) == 0
    assert int(losses.offender(energies, label, distance=distance, radius=5.0)) == -1


@pytest.mark.parametrize("label", [0, 1, 2])
def test_the_offender_is_never_the_right_answer(label):
    """Not even where every wrong answer is at +inf, as the masked are."""
    energies = jnp.full(3, jnp.inf).at[label].set(0.0)
    assert int(losses.offender(energies, label)) != label
    assert losses.most_offending(energies, label)[1] == jnp.inf
    assert int(losses.winner(energies, label)) == label


def test_a_nan_among_many_rows_is_not_hidden():
    """XLA's minimum of many rows on CPU may skip it."""
    energies, label = jnp.zeros((5000, 4)).at[:, 1].set(jnp.nan), np.zeros(5000, int)

    @jax.jit
    def slopes(energies):
        over = [getattr(losses, name) for name in losses_by_name.CANDIDATES]
        over += [losses.over_candidates(getattr(losses, n)) for n in losses_by_name.PAIRWISE[1:]]
        return [jax.value_and_grad(lambda e, f=f: f(e, label).sum())(energies) for f in over]

    for value, slope in slopes(energies):
        assert np.isnan(value)
        assert np.isnan(slope[:, 1]).all()
    assert (losses.winner(energies, label) == 1).all()
    assert (losses.offender(energies, label) == 1).all()


FLAT, FIRST, ONE_EACH = jnp.zeros((4, 3)), jnp.zeros(4, int), jnp.zeros(4)


def test_a_label_outside_of_the_candidates_is_refused():
    with pytest.raises(ValueError, match="label must be"):
        losses.over_candidates(losses.hinge)(FLAT, FIRST + 3)


@pytest.mark.parametrize("name", losses_by_name.PAIRWISE)
def test_a_pairwise_loss_of_candidates_names_the_correct_call(name):
    with pytest.raises((TypeError, ValueError), match=r"over_candidates\(loss\)\("):
        getattr(losses, name)(FLAT, FIRST)


@pytest.mark.parametrize("name", losses_by_name.CANDIDATES)
def test_a_loss_of_candidates_of_a_pair_names_the_correct_call(name):
    with pytest.raises((TypeError, ValueError), match=r"a pairwise loss, such as losses\.hinge"):
        getattr(losses, name)(ONE_EACH, ONE_EACH)
    with pytest.raises((TypeError, ValueError), match=rf"call {name}\(energies, label\)"):
        losses.over_candidates(getattr(losses, name))
    with pytest.raises((TypeError, ValueError), match=rf"call {name}\("):
        losses.over_candidates(functools.partial(getattr(losses, name)))


def test_options_do_not_hide_a_loss_of_candidates():
    with pytest.raises((TypeError, ValueError), match=r"call mee\("):
        losses.over_candidates(losses.mee, beta=2.0)


@pytest.mark.parametrize("loss", [losses.offender, losses.most_offending])
def test_a_radius_needs_the_distance(loss):
    with pytest.raises(ValueError, match=r"radius 1\.0 needs the distance"):
        loss(FLAT, FIRST, radius=1.0)
