"""The problems: an energy, data, and an exact measure of the trained model."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from ebm_jax.partition import exact
from ebm_jax.types import Params
from experiments.data import datasets, minibatches
from experiments.data.densities import DENSITIES
from experiments.density2d import model as density2d_model
from experiments.nltcs import model as nltcs_model
from experiments.objectives_by_name import BINARY, CONTINUOUS, Problem, Row
from experiments.run import loop

NAMES = (*DENSITIES, "nltcs")


class Trial(NamedTuple):
    """A problem, the same for every seed and objective: only ``batch`` depends on the seed.

    ``measure`` returns what is exact, with ``gap``: nats above the best there can be.
    """

    problem: Problem
    init: Callable[[jax.Array], Params]
    batch: Callable[[int], loop.Batch]
    optimizer: Callable[[float, int], optax.GradientTransformation]  # (learning rate, updates)
    measure: Callable[[Params], dict[str, Any]]


def table(name: str) -> dict[str, Row]:
    """Return the objectives that a problem allows."""
    return BINARY if name == "nltcs" else CONTINUOUS


@functools.cache
def trial(name: str, data_dir: str | None) -> Trial:
    """Return a problem by name."""
    return nltcs(data_dir) if name == "nltcs" else plane(name)


def plane(dataset: str) -> Trial:
    """Return a density to learn with the energy of ``experiments.density2d``."""
    density, (energy, init) = DENSITIES[dataset], density2d_model.make_energy(64, 6)
    train = density.sample(300_000, 0)
    exactly = density2d_model.Exactly(density, energy, density.sample(20_000, 1))

    def measure(params: Params) -> dict[str, Any]:
        found = exactly.measure(params)
        exactly.seen.clear()
        return found | {"gap": found["kl"]}

    return Trial(
        Problem(energy, train, *density2d_model.grid(180), 1024),
        init,
        lambda seed: minibatches.batches(train, batch_size=1024, seed=seed),
        lambda rate, steps: optax.adam(optax.cosine_decay_schedule(rate, steps)),
        measure,
    )


BEST_NLTCS = 5.9914  # test NLL that ``experiments.nltcs --objective=exact`` ends with


def nltcs(data_dir: str | None) -> Trial:
    """Return 16 binary variables to learn with the energy of ``experiments.nltcs``."""
    bits = datasets.nltcs(data_dir)
    energy, init = nltcs_model.make_energy(bits.train, 64)
    states = exact.states(bits.train.shape[1])
    evaluate = nltcs_model.evaluator(energy, states, bits)

    def optimizer(rate: float, steps: int) -> optax.GradientTransformation:
        return optax.adamw(optax.cosine_decay_schedule(rate, steps), weight_decay=0.01)

    def measure(params: Params) -> dict[str, Any]:
        found = evaluate(params)
        return found | {"gap": found["test_nll"] - BEST_NLTCS}

    return Trial(
        Problem(energy, np.asarray(bits.train), states, num_chains=2000),
        init,
        lambda seed: minibatches.batches(bits.train, batch_size=2000, seed=seed),
        optimizer,
        measure,
    )
