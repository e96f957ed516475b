r"""Types that all packages share.

An energy maps parameters and one configuration to one number: ``energy(params, x, ...) -> ()``.
A loss maps energies to one loss per example: ``loss(energies, ...) -> (batch,)``. A sampler
constructor maps an energy and options to a ``Sampler``: ``make_sampler(energy, **options)``.

A low energy means that the parts of a configuration are compatible. The distribution of an energy
is proportional to :math:`\exp(-\beta E)`, where :math:`\beta` is the inverse temperature.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Array = jax.Array
Key = jax.Array  # a typed key of jax.random.key
PyTree = Any
Params = PyTree  # the first argument of an energy
Position = PyTree  # a configuration, or a batch of them on the leading axis
Energy = Callable[..., Array]
Metrics = dict[str, Array]


class Sampler(NamedTuple):
    """A Markov kernel over a batch of chains: ``init``, ``step`` and ``refresh``.

    ``init`` and ``step`` are as in blackjax. ``init(positions) -> state`` takes positions with the
    chains on the leading axis of every leaf; ``step(key, state) -> (state, info)`` advances all
    chains by one step. The state has a field ``position``; state and info describe each chain's
    position after the step. The info of the samplers in ``ebm_jax.samplers`` has a field ``energy``
    and, if they accept or reject, ``acceptance_rate``; that of ``sgld``, which takes a gradient
    estimate instead of an energy, has neither.

    ``refresh(state) -> state`` updates a state after the energy, or part of the position, has
    changed outside the sampler: it recomputes what depends on them (a cached energy, a gradient)
    and keeps the rest (velocities, replicas, a step count). If None, as for kernels of blackjax,
    ``samplers.refresh`` uses ``init(state.position)``.
    """

    init: Callable[[Position], Any]
    step: Callable[[Key, Any], tuple[Any, Any]]
    refresh: Callable[[Any], Any] | None = None


# A sampler constructor with bound options, such as functools.partial(samplers.mala, step_size=h).
# It takes an energy of one configuration, and as keywords the options that its caller varies.
MakeSampler = Callable[..., Sampler]


class Distribution(NamedTuple):
    """A normalised distribution, with functions to sample from it and to evaluate it.

    ``sample(key, num) -> positions`` draws ``num`` independent configurations, on the leading axis
    of every leaf; ``log_prob(x) -> ()`` is the log-density of one configuration, or its
    log-probability if configurations are discrete. ``ebm_jax.distributions`` constructs common
    distributions and shows how to convert those of distrax and numpyro.
    """

    sample: Callable[[Key, int], Position]
    log_prob: Callable[[Position], Array]


class Objective(NamedTuple):
    """A function that training minimises, with a state such as persistent chains.

    ``init(params, key) -> state`` takes the parameters of the first update;
    ``loss(params, state, batch, key) -> (scalar, (state, metrics))``.
    """

    init: Callable[[Params, Key], Any]
    loss: Callable[[Params, Any, PyTree, Key], tuple[Array, tuple[Any, Metrics]]]
