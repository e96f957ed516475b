"""The shapes that everything in the library has.

    energy(params, x, ...) -> ()                  one configuration in, one number out
    loss(energies, ...) -> (batch,)               energies in, one loss per example out
    sampler = Sampler(init, step, refresh)        a batch of chains, one key
    make_sampler(energy, **what_varies) -> Sampler
    Distribution(sample, log_prob)                what one can sample and evaluate
    objective = Objective(init, loss)             what training minimises

Low energy means compatible. Temperature is written as the inverse temperature beta: the
distribution that belongs to an energy is always proportional to exp(-beta * energy).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key of jax.random.key
PyTree = Any
Params = PyTree  # whatever an energy takes as its first argument
Position = PyTree  # a configuration, or a batch of them on the leading axis
Energy = Callable[..., Array]
Metrics = dict[str, Array]


class Sampler(NamedTuple):
    """A Markov kernel over a batch of chains: the two functions blackjax also uses, and a third.

    ``init(positions) -> state`` takes chains on the leading axis of every leaf;
    ``step(key, state) -> (state, info)`` advances all of them once. The state has a field
    ``position``; state and info describe the position after the step, chain by chain.
    The info of the samplers here has a field ``energy`` and, where they accept or reject,
    ``acceptance_rate``; ``sgld``, which knows only an estimate of the gradient, has neither.

    ``refresh(state) -> state`` is for a state whose energy, or part of whose position, was
    changed from outside: it computes anew what depends on them (a cached energy, a gradient) and
    keeps the rest (a velocity, replicas, a step count). None stands for
    ``init(state.position)``, all that blackjax's kernels have: call ``samplers.refresh``.
    """

    init: Callable[[Position], Any]
    step: Callable[[Key, Any], tuple[Any, Any]]
    refresh: Callable[[Any], Any] | None = None


# A sampler constructor whose other options are bound, such as
# functools.partial(samplers.mala, step_size=h). It takes an energy of one configuration, and by
# keyword the option that its caller varies.
MakeSampler = Callable[..., Sampler]


class Distribution(NamedTuple):
    """A normalised distribution that can be sampled and evaluated.

    ``sample(key, num) -> positions`` draws ``num`` independent configurations, on the leading axis
    of every leaf; ``log_prob(x) -> ()`` is the log-density of one configuration, or its
    log-probability where configurations are discrete. ``ebm_jax.distributions`` constructs the
    common ones and shows how to convert a distribution of distrax or numpyro.
    """

    sample: Callable[[Key, int], Position]
    log_prob: Callable[[Position], Array]


class Objective(NamedTuple):
    """What training minimises, with whatever it remembers between steps (its chains, say).

    ``init(params, key) -> state``, the parameters those of the first update;
    ``loss(params, state, batch, key) -> (scalar, (state, metrics))``.
    """

    init: Callable[[Params, Key], Any]
    loss: Callable[[Params, Any, PyTree, Key], tuple[Array, tuple[Any, Metrics]]]
