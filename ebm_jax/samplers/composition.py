r"""Several samplers in turn on one position: each moves its own part, given the others'.

    x' ~ K_1(. | x, y),   y' ~ K_2(. | x', y),   ...

A continuous sampler moves the floating leaves and carries the others, a discrete one moves the
integer and boolean leaves and carries the floating ones: Langevin dynamics on x and Gibbs sampling
on y sample a joint exp(-F(x, y)).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax._trees import check_chains
from ebm_jax.samplers import running
from ebm_jax.types import Array, Key, Position, Sampler


class AlternateState(NamedTuple):
    """Chains, and what each sampler keeps of them.

    Attributes:
        position: where the chains are.
        states: a state of every sampler; all but the last were left behind by those after them.
    """

    position: Position
    states: tuple


class AlternateInfo(NamedTuple):
    """What happened in a step.

    Attributes:
        energy: E of the new position, (chains,), where the last sampler's info tells it.
        infos: the info of every sampler, after its own move: the last describes the new position.
    """

    energy: Array | None
    infos: tuple


def alternate(*samplers: Sampler) -> Sampler:
    r"""Return the sampler that makes one step of each in turn, all on one position.

    Each is refreshed before it moves: what it remembers of the energy (a value, a gradient) is of
    a position that the others have changed since. What leaves a joint distribution as it is one
    by one does so in turn; detailed balance is not kept.
    Source: Tierney (1994), Markov chains for exploring posterior distributions, section 2.4
    (cycles of kernels).

    Args:
        samplers: two or more, of positions of one structure, whose states have a field
            ``position``: all of ours but ``replica_exchange`` and ``checkerboard_gibbs``, which
            hold more than one position or another layout of it. ``replica_exchange`` may run this
            one.

    Returns:
        A ``Sampler`` with ``AlternateState`` and ``AlternateInfo``.

    Raises:
        ValueError: fewer than two samplers. TypeError: a state without the field ``position``.

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
                    "alternate needs states with a field position, to put the others' moves in; "
                    f"{type(state).__name__} has none."
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

    # Nothing that a sampler remembers is used before it is refreshed.
    return Sampler(init, step, lambda state: state)
