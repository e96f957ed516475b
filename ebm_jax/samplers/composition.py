r"""Composition of samplers: each moves a part of the position, given the others.

.. math:: x' \sim K_1(\cdot \mid x, y), \qquad y' \sim K_2(\cdot \mid x', y), \quad \ldots

A continuous sampler moves the floating-point leaves, and a discrete sampler the integer and boolean
leaves. Neither changes the other part of the position. Langevin dynamics on x and Gibbs sampling on
y together sample a joint distribution :math:`\exp(-F(x, y))`.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax._trees import check_chains
from ebm_jax.samplers import running
from ebm_jax.types import Array, Key, Position, Sampler


class AlternateState(NamedTuple):
    """The positions of the chains and the states of all samplers.

    Attributes:
        position: positions of the chains.
        states: states of all samplers; the position of a state may be outdated, except in the last.
    """

    position: Position
    states: tuple


class AlternateInfo(NamedTuple):
    """Information on a step.

    Attributes:
        energy: energy of the new position, (chains,), if the info of the last sampler has it.
        infos: info of every sampler after its own move; the last describes the new position.
    """

    energy: Array | None
    infos: tuple


def alternate(*samplers: Sampler) -> Sampler:
    """Return a sampler that makes one step of each sampler in turn.

    Each sampler is refreshed before it moves, since the others have changed the position for which
    it stores an energy or a gradient. If each sampler leaves a joint distribution invariant, so
    does the composition; it does not keep detailed balance. Source: Tierney (1994), Markov chains
    for exploring posterior distributions, section 2.4 (cycles of kernels).

    Args:
        samplers: two or more samplers over positions of one structure, whose states have a field
            ``position``: all samplers of this library except ``replica_exchange``,
            ``checkerboard_gibbs`` and ``graph_gibbs``, whose states hold several positions or
            another layout.
            ``replica_exchange`` may run the composition.

    Returns:
        A ``Sampler`` with ``AlternateState`` and ``AlternateInfo``.

    Raises:
        TypeError: if a state has no field ``position``.
        ValueError: if there are fewer than two samplers.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> def energy(z):  # two Gaussians, and which of them it is
    ...     return (z["x"] - 2.0 * z["y"]) ** 2 / 2
    >>> sampler = alternate(samplers.mala(energy, step_size=0.5),
    ...                     samplers.systematic_scan_gibbs(energy))
    >>> state = sampler.init({"x": jnp.zeros(5), "y": jnp.zeros(5, bool)})
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> state.position["x"].shape, state.position["y"].dtype
    ((5,), dtype('bool'))
    """
    if len(samplers) < 2:
        raise ValueError(f"alternate needs two samplers or more, got {len(samplers)}.")
    for sampler in samplers:
        _checks.sampler("Each of the samplers", sampler)

    def init(position: Position) -> AlternateState:
        check_chains(position)
        position = jax.tree.map(jnp.asarray, position)
        states = tuple(sampler.init(position) for sampler in samplers)
        for state in states:
            if "position" not in getattr(state, "_fields", ()):
                raise TypeError(
                    "alternate needs states with a field position, which the other samplers "
                    f"update; {type(state).__name__} has none."
                )
        return AlternateState(position, states)

    def step(key: Key, state: AlternateState) -> tuple[AlternateState, AlternateInfo]:
        _checks.one_key(key)
        position, states, infos = state.position, [], []
        keys = jax.random.split(key, len(samplers))
        for own_key, sampler, old in zip(keys, samplers, state.states, strict=True):
            own = running.refresh(sampler, old._replace(position=position))
            own, info = sampler.step(own_key, own)
            position = own.position
            states.append(own)
            infos.append(info)
        energy = getattr(infos[-1], "energy", None)
        return AlternateState(position, tuple(states)), AlternateInfo(energy, tuple(infos))

    # Each state is refreshed before its use, so stored energies and gradients may be outdated here.
    return Sampler(init, step, lambda state: state)
