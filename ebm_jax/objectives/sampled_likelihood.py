r"""Maximum likelihood with sampled negatives: CD-k, persistent chains, short runs from noise.

    grad L = E_data[grad E(x)] - E_chains[grad E(x)]

All three minimise ``mean E(x+) - mean E(stop_gradient(x-))``, whose gradient this is, and differ
only in where the chains start. The value itself is not a likelihood: watch the energy gap.

What they share:

* ``energy``: (params, x) -> ().
* ``make_sampler``: energy -> ``Sampler``, a sampler constructor whose other options are bound:
  ``functools.partial(samplers.ula, step_size=0.01)``. It is called with
  ``jax.tree_util.Partial(energy, params)``, so that a sampler that needs the parameters finds them:
  ``lambda energy: samplers.rbm_gibbs(*energy.args)``. Vmapped blackjax kernels fit too. No gradient
  flows through it.
* ``energy_penalty``: a >= 0, in 1/energy, of a (mean E(x+)^2 + mean E(x-)^2), which keeps the level
  of the energies near zero (Du and Mordatch 2019).
* batches x, on the leading axis; metrics ``loss``, ``energy_positive``, ``energy_negative``,
  ``energy_gap``, the means of the sampler's info (its energy as ``chain_energy``),
  ``chains_nonfinite``, and ``chains_ready``, the fraction of the chains that count.

A chain that turns non-finite is left out of the loss and counted; a persistent one restarts the
next time it is drawn. When none is left the loss is NaN, which training skips and counts.

Refused: TypeError for integers where the chains are floats (images that are to be scaled), an
integer energy, a non-callable argument, one that makes no sampler; ValueError for batches without a
common leading axis or of another structure than the chains, an energy that is not a scalar.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.sharding import NamedSharding, PartitionSpec

from ebm_jax import _checks
from ebm_jax.objectives import _negatives
from ebm_jax.samplers import replay_buffer, running
from ebm_jax.types import (
    Array,
    Distribution,
    Energy,
    Key,
    MakeSampler,
    Objective,
    Params,
    Position,
    PyTree,
    Sampler,
)

Initial = Callable[[Params, Key, Array], Position]  # (params, key, indices (n,)) -> n positions


class PersistentState(NamedTuple):
    """The sampler's state for all persistent chains, and the age of each chain.

    Attributes:
        chains: the sampler's state; ``chains.position`` has the chains on the leading axis.
        age: how often each chain was drawn since its last restart, (buffer_size,).
    """

    chains: Any
    age: Array


def _check_initial(initial: Distribution | Initial) -> None:
    if not (callable(initial) or isinstance(initial, Distribution)):
        raise TypeError(
            "initial must be a Distribution, or a function (params, key, indices) -> positions, "
            f"got {initial!r}."
        )


def _initial(initial: Distribution | Initial, params: Params, key: Key, indices: Array) -> Position:
    """Return the positions that chains start from; raise an error for another number of them."""
    num = len(indices)
    if isinstance(initial, Distribution):
        start = initial.sample(key, num)
    else:
        start = initial(params, key, indices)
    given = _checks.leading_axis("What initial returns", start)
    if given != num:
        raise ValueError(f"initial must return {num} positions, one for each chain, got {given}.")
    return start


def contrastive_divergence(
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    num_steps: int,
    energy_penalty: float = 0.0,
) -> Objective:
    r"""Return CD-k: the chains start at the batch and make k steps.

        L = mean E(x+) - mean E(x-) + a (mean E(x+)^2 + mean E(x-)^2)

    Source: Hinton (2002), Training products of experts by minimizing contrastive divergence,
    Neural Computation 14(8).

    Args:
        energy: (params, x) -> ().
        make_sampler: energy -> ``Sampler``.
        num_steps: k >= 1.
        energy_penalty: a.

    Returns:
        An ``Objective`` without state.

    Raises:
        ValueError: num_steps < 1, a negative penalty.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> energy = lambda params, x: params * jnp.sum(x**2)
    >>> objective = contrastive_divergence(energy, num_steps=2,
    ...     make_sampler=functools.partial(samplers.ula, step_size=0.1))
    >>> value, (_, metrics) = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> float(value) == -float(metrics["energy_gap"])
    True
    """
    _negatives.check(energy, make_sampler, num_steps, energy_penalty)

    def loss(params, state, batch, key):
        _checks.leading_axis("batch", batch)
        sampler = _negatives.bind(make_sampler, energy, jax.lax.stop_gradient(params))
        end, info = _negatives.run(key, sampler, sampler.init(batch), num_steps)
        value, metrics = _negatives.contrast(energy, params, batch, end.position, energy_penalty)
        return value, (state, info | metrics)

    return Objective(lambda params, key: (), loss)


def short_run(
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    num_steps: int,
    num_chains: int,
    initial: Distribution | Initial,
    energy_penalty: float = 0.0,
) -> Objective:
    r"""Return the short-run objective: fresh chains from noise at every update.

        L = mean E(x+) - mean E(x-) + a (mean E(x+)^2 + mean E(x-)^2)

    The chains do not reach the Gibbs distribution: what is learnt is the short run itself.
    Source: Nijkamp et al. (2019), Learning non-convergent non-persistent short-run MCMC.

    Args:
        energy: (params, x) -> ().
        make_sampler: energy -> ``Sampler``.
        num_steps: length of the runs, >= 1.
        num_chains: chains a step, >= 1.
        initial: where chains start: a ``Distribution``, or a function (params, key, indices (n,))
            -> n positions on the leading axis. The indices are those of the chains; use them where
            a chain has a class of its own.
        energy_penalty: a.

    Returns:
        An ``Objective`` without state.

    Raises:
        ValueError: num_steps < 1, num_chains < 1, a negative penalty.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import distributions, samplers
    >>> energy = lambda params, x: params * jnp.sum(x**2)
    >>> objective = short_run(energy, num_steps=2, num_chains=4,
    ...     make_sampler=functools.partial(samplers.ula, step_size=0.1),
    ...     initial=distributions.gaussian(jnp.zeros(2), 1.0))
    >>> value, _ = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> value.shape
    ()
    """
    _negatives.check(energy, make_sampler, num_steps, energy_penalty)
    _checks.count("num_chains", num_chains)
    _check_initial(initial)

    def loss(params, state, batch, key):
        start_key, run_key = jax.random.split(key)
        frozen = jax.lax.stop_gradient(params)
        sampler = _negatives.bind(make_sampler, energy, frozen)
        start = _initial(initial, frozen, start_key, jnp.arange(num_chains))
        end, info = _negatives.run(run_key, sampler, sampler.init(start), num_steps)
        value, metrics = _negatives.contrast(energy, params, batch, end.position, energy_penalty)
        return value, (state, info | metrics)

    return Objective(lambda params, key: (), loss)


def persistent(
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    num_steps: int,
    num_chains: int,
    initial: Distribution | Initial,
    buffer_size: int | None = None,
    restart_fraction: float = 0.05,
    burn_in: int = 0,
    groups: int = 1,
    energy_penalty: float = 0.0,
) -> Objective:
    r"""Return persistent contrastive divergence (PCD), with a replay buffer of chains.

        L = mean E(x+) - mean E(x-) + a (mean E(x+)^2 + mean E(x-)^2)

    Each update draws ``num_chains`` different chains from the ``buffer_size`` in the buffer,
    restarts a fraction of them, runs them, and writes them back. The buffer keeps the whole state
    of the sampler: replicas, velocities, and the step count, which all chains share.
    Source: Tieleman (2008), Training restricted Boltzmann machines using approximations to the
    likelihood gradient; restarts from Du and Mordatch (2019).

    Args:
        energy: (params, x) -> ().
        make_sampler: energy -> ``Sampler``.
        num_steps: steps of the chains between two updates, >= 1.
        num_chains: chains to run at each update, from 1 to buffer_size.
        initial: where chains start and restart: a ``Distribution``, or a function (params, key,
            indices (n,)) -> n positions on the leading axis. The indices are those of the chains
            in the buffer. Let a chain's class depend on its index alone: the proportions of the
            classes then stay constant. The chains stay on the devices that the first positions
            are on.
        buffer_size: number of persistent chains; ``num_chains`` if not given.
        restart_fraction: probability in [0, 1] that a drawn chain restarts.
        burn_in: how many draws a restarted chain makes before it counts as a negative, >= 0:
            until then it has not forgotten its start. The first chains count at once.
        groups: number of blocks of neighbouring chains in the buffer that equally many are drawn
            from. With a multiple of the number of devices that hold the buffer, every chain stays
            on its device.
        energy_penalty: a.

    Returns:
        An ``Objective`` whose state is a ``PersistentState``; metrics also ``chains_restarted``.

    Raises:
        ValueError: num_steps < 1, num_chains outside [1, buffer_size], a fraction outside [0, 1],
            a negative burn-in or penalty, restarts so frequent that no chain gets to count.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import distributions, samplers
    >>> energy = lambda params, x: params * jnp.sum(x**2)
    >>> objective = persistent(energy, num_steps=2, num_chains=4, buffer_size=16,
    ...     make_sampler=functools.partial(samplers.ula, step_size=0.1),
    ...     initial=distributions.gaussian(jnp.zeros(2), 1.0))
    >>> state = objective.init(1.0, jax.random.key(0))
    >>> value, (state, _) = objective.loss(1.0, state, jnp.ones((8, 2)), jax.random.key(1))
    >>> state.chains.position.shape
    (16, 2)
    """
    _negatives.check(energy, make_sampler, num_steps, energy_penalty)
    _check_initial(initial)
    buffer_size = num_chains if buffer_size is None else buffer_size
    num_chains = _checks.count("num_chains", num_chains, 0)
    if not 1 <= num_chains <= _checks.count("buffer_size", buffer_size):
        raise ValueError(f"num_chains must be in [1, buffer_size={buffer_size}], got {num_chains}.")
    _checks.groups(groups, num_chains, buffer_size)
    _check_restarts(num_chains, restart_fraction, burn_in)

    def init(params, key):
        params = jax.lax.stop_gradient(params)
        start = _initial(initial, params, key, jnp.arange(buffer_size))
        chains = _start(_negatives.bind(make_sampler, energy, params), start, num_chains)
        age = jnp.full((buffer_size,), burn_in, jnp.int32)
        return PersistentState(chains, _beside(jax.tree.leaves(start)[0], 0, age))

    def loss(params, state, batch, key):
        draw_key, restart_key, fresh_key, run_key = jax.random.split(key, 4)
        frozen = jax.lax.stop_gradient(params)
        sampler = _negatives.bind(make_sampler, energy, frozen)
        chain_axes = running.chain_axes(sampler, state.chains.position)
        axes = PersistentState(chain_axes, age=0)  # pyright: ignore[reportArgumentType]
        indices, (drawn, age) = replay_buffer.draw(
            draw_key, state, num_chains, axes=axes, groups=groups
        )
        # All that depends on the energy is computed by ``refresh``, for old and new together.
        fresh = sampler.init(_initial(initial, frozen, fresh_key, indices))
        start, restarted = replay_buffer.restart(
            restart_key, drawn, fresh, restart_fraction, axes=chain_axes
        )
        start = running.refresh(sampler, start)
        end, info = _negatives.run(run_key, sampler, start, num_steps)
        age = jnp.where(restarted, 0, age + 1)
        state = replay_buffer.write_back(
            state, indices, PersistentState(end, age), axes=axes, groups=groups
        )
        value, metrics = _negatives.contrast(
            energy, params, batch, end.position, energy_penalty, age >= burn_in
        )
        metrics["chains_restarted"] = jnp.mean(restarted, dtype=jnp.float32)
        return value, (state, info | metrics)

    return Objective(init, loss)


def _check_restarts(num_chains: int, restart_fraction: float, burn_in: int) -> None:
    """Reject restarts so frequent that no chain gets to count."""
    _checks.fraction("restart_fraction", restart_fraction)
    _checks.scalar("restart_fraction", restart_fraction)
    _checks.count("burn_in", burn_in, 0)
    # A chain counts when its last ``burn_in`` draws did not restart it.
    counting = num_chains * (1 - restart_fraction) ** burn_in
    if counting < 1:
        raise ValueError(
            f"restart_fraction={restart_fraction} and burn_in={burn_in} leave {counting:.2g} of "
            f"num_chains={num_chains} chains to count, on average: lower one of the two."
        )


def _start(sampler: Sampler, position: Position, block: int) -> PyTree:
    """Return ``sampler.init(position)``, in blocks: never all chains in memory at once."""

    def one(x: Position) -> Any:
        return sampler.init(jax.tree.map(lambda leaf: leaf[None], x))

    def place(axis: int, leaf: Array) -> Array:
        return leaf[0] if axis < 0 else jnp.moveaxis(jnp.squeeze(leaf, axis + 1), 0, axis)

    axes = running.chain_axes(sampler, position)
    states = jax.tree.map(place, axes, jax.lax.map(one, position, batch_size=block))
    return jax.tree.map(functools.partial(_beside, jax.tree.leaves(position)[0]), axes, states)


def _beside(start: Array, axis: int, leaf: Array) -> Array:
    """Return a leaf of the chains' state on the devices that hold their starts."""
    where = None if isinstance(start, Tracer) else getattr(start, "sharding", None)
    if axis < 0 or not isinstance(where, NamedSharding):
        return leaf
    spec = PartitionSpec(*(None,) * axis, *where.spec[:1])
    there = NamedSharding(where.mesh, spec)
    return jax.jit(lambda x: x, out_shardings=there)(leaf)  # of other processes too
