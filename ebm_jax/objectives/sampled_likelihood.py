r"""Maximum likelihood with sampled negatives: CD-k, persistent chains, short runs.

.. math:: \nabla_\theta L = \mathbb{E}_\text{data}[\nabla_\theta E(x)]
    - \mathbb{E}_\text{chains}[\nabla_\theta E(x)]

Here :math:`\theta` are the parameters. All three minimise :math:`\operatorname{mean} E(x^+) -
\operatorname{mean} E(x^-)`, where :math:`x^+` are the batch and :math:`x^-` the last positions of
the chains, as constants. They differ in where the chains start. The value of the loss is not a
likelihood: monitor ``energy_gap`` instead.

They share these arguments:

* ``energy``: function (params, x) -> () of one configuration.
* ``make_sampler``: function from an energy to a ``Sampler``: a sampler constructor with bound
  options, such as ``functools.partial(samplers.ula, step_size=0.01)``. It is called with
  ``jax.tree_util.Partial(energy, params)``, whose ``args`` hold the parameters:
  ``lambda energy: samplers.rbm_gibbs(*energy.args)``. Vmapped kernels of blackjax also work. No
  gradient flows through the sampler.
* ``energy_penalty``: weight :math:`a \ge 0`, in 1/energy, of :math:`a (\operatorname{mean} E(x^+)^2
  + \operatorname{mean} E(x^-)^2)`, which keeps energies near zero (Du and Mordatch 2019).

Batches x have the examples on the leading axis. Metrics are ``loss``, ``energy_positive``,
``energy_negative``, ``energy_gap`` (negative minus positive), the means of the sampler's info (its
energy as ``chain_energy``), ``chains_nonfinite``, and ``chains_ready``, the fraction of chains that
count.

Chains that become non-finite are excluded from the loss and counted; persistent ones restart when
they are next drawn. If no chain is left, the loss is NaN, and training skips the update.

The objectives raise TypeError for integer batches with floating-point chains (scale images to
floats) and if make_sampler does not return a sampler, and ValueError for options out of range and
for batches with another structure than the chains.
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
        chains: state of the sampler; ``chains.position`` has the chains on the leading axis.
        age: number of draws of each chain since its last restart, (buffer_size,).
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
    """Return the initial positions of chains, one for each index."""
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
    r"""Return contrastive divergence, CD-k, with chains of k steps from the batch.

    .. math:: L = \operatorname{mean} E(x^+) - \operatorname{mean} E(x^-)
        + a \left( \operatorname{mean} E(x^+)^2 + \operatorname{mean} E(x^-)^2 \right)

    Source: Hinton (2002), Training products of experts by minimizing contrastive divergence,
    Neural Computation 14(8).

    Args:
        energy: function (params, x) -> () of one configuration.
        make_sampler: function from an energy to a ``Sampler``.
        num_steps: number of steps k >= 1.
        energy_penalty: weight :math:`a \ge 0` of the squared energies, in 1/energy.

    Returns:
        An ``Objective`` without state, of batches x; metrics are those of the module.

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
    r"""Return the short-run objective, with new chains from noise at every update.

    .. math:: L = \operatorname{mean} E(x^+) - \operatorname{mean} E(x^-)
        + a \left( \operatorname{mean} E(x^+)^2 + \operatorname{mean} E(x^-)^2 \right)

    The chains do not reach the Gibbs distribution: the model learnt is the short run itself.
    Source: Nijkamp et al. (2019), Learning non-convergent non-persistent short-run MCMC.

    Args:
        energy: function (params, x) -> () of one configuration.
        make_sampler: function from an energy to a ``Sampler``.
        num_steps: number of steps of each run, >= 1.
        num_chains: number of chains per update, >= 1.
        initial: where chains start: a ``Distribution``, or a function (params, key, indices (n,))
            that returns n positions on the leading axis. The indices are those of the chains; use
            them if each chain has its own class.
        energy_penalty: weight :math:`a \ge 0` of the squared energies, in 1/energy.

    Returns:
        An ``Objective`` without state, of batches x; metrics are those of the module.

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
    r"""Return persistent contrastive divergence (PCD) with a replay buffer of chains.

    .. math:: L = \operatorname{mean} E(x^+) - \operatorname{mean} E(x^-)
        + a \left( \operatorname{mean} E(x^+)^2 + \operatorname{mean} E(x^-)^2 \right)

    Each update draws ``num_chains`` different chains from the ``buffer_size`` chains in the buffer,
    restarts a fraction of them, runs them, and writes them back. The buffer keeps the whole state
    of the sampler: replicas, velocities, and one step count, which all chains share.
    :math:`x^+` are the data and :math:`x^-` the chains. Source: Tieleman (2008), Training
    restricted Boltzmann machines using approximations to the likelihood gradient; restarts from Du
    and Mordatch (2019).

    Args:
        energy: function (params, x) -> () of one configuration.
        make_sampler: function from an energy to a ``Sampler``.
        num_steps: number of steps of the drawn chains at each update, >= 1.
        num_chains: number of chains to run at each update, from 1 to buffer_size.
        initial: where chains start and restart: a ``Distribution``, or a function (params, key,
            indices (n,)) that returns n positions on the leading axis. The indices are those of the
            chains in the buffer. If configurations contain a class, let it depend only on the
            index, so that the proportions of the classes stay constant. The positions that ``init``
            gets from this function decide on which devices the buffer is.
        buffer_size: number of persistent chains; ``num_chains`` by default.
        restart_fraction: probability in [0, 1] that a drawn chain restarts.
        burn_in: a restarted chain enters the loss after it has been drawn this many times, >= 0:
            before that it depends on its start. The chains of ``init`` enter at once.
        groups: number of contiguous blocks of chains in the buffer; the same number of chains is
            drawn from each. With a multiple of the number of devices that hold the buffer, chains
            stay on their device.
        energy_penalty: weight :math:`a \ge 0` of the squared energies, in 1/energy.

    Returns:
        An ``Objective`` whose state is a ``PersistentState``. Metrics include ``chains_restarted``.

    Raises:
        ValueError: if options are out of range, or restarts are so frequent that no chain counts.

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
        # ``refresh`` computes what depends on the energy, for old and new chains together.
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
    """Reject restarts so frequent that no chain counts."""
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
    """Return ``sampler.init(position)``, computed in blocks to limit memory."""

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
