"""The log-likelihood of the energy of images: it is that of a density known in closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.energies import Gaussian
from experiments.data import splits
from experiments.images import log_likelihood, network

NOISE = 0.1
MEANS = np.array([[0.2, 0.7, 0.4], [0.6, 0.3, 0.5]])
LEVELS = np.array([-3.0, 1.0])  # the second class weighs exp(-4) of the first
SCALE = 0.2


def gaussians(means):
    """Two classes, each a Gaussian at a level of its own; the reference is wide enough for both."""

    def classes(params, x):
        return jnp.sum((x - jnp.asarray(means, jnp.float32)) ** 2, 1) / (2 * SCALE**2) + LEVELS

    reference = Gaussian(jnp.full(3, 0.5), jnp.full(3, 1 / 0.3**2))
    return network.Model(
        reference,
        classes,
        lambda params, c: classes(params, c["x"])[c["y"]],
        None,
        None,
        None,
    )


def split(means):
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 50).astype(np.int32)
    x = (means[y] + 0.15 * rng.standard_normal((100, 3))).astype(np.float32)
    return splits.Split(x, y, x[::2], y[::2])


def measured(means, num_betas):
    return log_likelihood.measure(
        jax.random.key(0),
        gaussians(means),
        None,
        split(means),
        data_noise=NOISE,
        step_size=0.02,
        num_betas=num_betas,
        seed=0,
    )


def log_density(means, x, y):
    """log p(x), both classes equally likely, log p(x | y), log p of the reference: in float64."""
    given = -((x[:, None] - means) ** 2).sum(2) / (2 * SCALE**2)
    given -= 1.5 * np.log(2 * np.pi * SCALE**2)
    total, given = np.logaddexp.reduce(given, axis=1) + np.log(0.5), given[np.arange(len(x)), y]
    reference = -((x - 0.5) ** 2).sum(1) / (2 * 0.3**2) - 1.5 * np.log(2 * np.pi * 0.3**2)
    return total.mean(), given.mean(), reference.mean()


def test_it_is_that_of_a_known_density():
    """Fixed key; 25 chains each way err by 0.05 in log Z: 0.2 is four times that."""
    found, levels = measured(MEANS, 300)
    test = split(MEANS)
    x = np.repeat(test.test_x, log_likelihood.DRAWS, axis=0)
    noisy = log_likelihood.noisy(x, NOISE, 0, log_likelihood.EVALUATION)
    assert (noisy - x).std() == pytest.approx(NOISE, rel=0.05)
    y = np.repeat(test.test_y, log_likelihood.DRAWS)
    total, given, reference = log_density(MEANS, noisy.astype(np.float64), y)
    low, high = found["nats_interval"]
    assert low < total < high
    assert high - low < 0.5
    assert found["nats"] == pytest.approx(total, abs=0.2)
    assert found["nats_given_class"] == pytest.approx(given, abs=0.2)
    assert found["nats_reference"] == pytest.approx(reference, abs=1e-4)
    # Two classes of equal weight, 25 chains each.
    assert 20 < found["nats_effective_sample_size"] <= 50
    # What makes their Z equal again.
    np.testing.assert_allclose(levels, LEVELS.mean() - LEVELS, atol=0.2)


def test_classes_are_as_heavy_as_they_are_many():
    """A third and two thirds: their Z are of this ratio, not equal."""
    some = split(MEANS)
    few = splits.Split(some.train_x[25:], some.train_y[25:], some.test_x, some.test_y)
    options = {"data_noise": NOISE, "step_size": 0.02, "num_betas": 300, "seed": 0}
    _, levels = log_likelihood.measure(jax.random.key(0), gaussians(MEANS), None, few, **options)
    raised = LEVELS + levels
    assert raised[0] - raised[1] == pytest.approx(np.log(2), abs=0.2)


def test_what_cannot_be_believed_says_so():
    """So far from the reference and in so few temperatures, one chain has all the weight."""
    found, levels = measured(MEANS + 3, 3)
    np.testing.assert_array_equal(levels, 0)  # the energies stay what they are
    assert found["nats_effective_sample_size"] < 3


def test_chains_start_at_training_images_of_their_class():
    start = log_likelihood.starts(split(MEANS), 2, 40, 1e-6, seed=1)
    assert start["y"].tolist() == [0] * 40 + [1] * 40
    train = split(MEANS)
    gaps = np.abs(np.asarray(start["x"])[:, None] - train.train_x).max(2)
    assert gaps.min(1).max() < 1e-5
    np.testing.assert_array_equal(train.train_y[gaps.argmin(1)], start["y"])
