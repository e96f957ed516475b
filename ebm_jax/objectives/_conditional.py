"""Chains with one energy each: F(x_i, .) for chain i."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.objectives import _negatives
from ebm_jax.types import Array, Key, MakeSampler, Metrics, Position, PyTree


def run(
    key: Key,
    energy: Callable[[Position, PyTree], Array],
    starts: Position,
    given: PyTree,
    make_sampler: MakeSampler,
    num_steps: int,
) -> tuple[Position, Metrics]:
    """Run the chains of energy(., given_i) from their starts.

    Returns their last positions, which are constants, and means of the sampler's info. A position
    holds the index of its chain, an integer leaf, which no continuous sampler moves: the energy
    uses it to look up what is given.
    """
    num = _checks.leading_axis("starts", starts)

    def own(position: tuple[Position, Array]) -> Array:
        x, i = position
        return energy(x, jax.tree.map(lambda leaf: leaf[i], given))

    sampler = _checks.sampler("What make_sampler returns", make_sampler(own))
    state, info = _negatives.run(key, sampler, sampler.init((starts, jnp.arange(num))), num_steps)
    return state.position[0], info
