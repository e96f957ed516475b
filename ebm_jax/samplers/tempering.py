r"""Parallel tempering: replicas at several temperatures exchange positions.

The increasing inverse temperatures are called the ladder. Hot replicas cross between modes; the
exchanges take their positions to the cold replicas. Any sampler that takes a temperature can move
the replicas, and the result is again a ``Sampler``.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws
from ebm_jax._trees import chain_axes, check_chains, check_energy, explicit_mesh
from ebm_jax.samplers import _exchange, running
from ebm_jax.types import Array, Energy, Key, MakeSampler, Position, Sampler


class TemperingState(NamedTuple):
    """The state of all replicas, with temperatures on the axis before that of the chains.

    ``position`` is where the coldest replicas are, the ones at the target.
    """

    replicas: Any
    step: Array

    @property
    def position(self) -> Position:
        """The chains at the last temperature of the ladder."""
        # Of states that were collected or vmapped, the step has the leading axes.
        last = (slice(None),) * jnp.ndim(self.step) + (-1,)
        return jax.tree.map(lambda leaf: leaf[last], self.replicas.position)


class TemperingInfo(NamedTuple):
    """Information on a step of all replicas.

    Attributes:
        energy: E(x) of the chains at the target, after the step, (chains,).
        acceptance_rate: min(1, exp((b_i - b_{i+1}) (E_i - E_{i+1}))) of every neighbouring pair,
            tried in this step or not, (temperatures - 1, chains). One minus its mean is the
            rejection rate that ``adapt_ladder`` takes.
        swapped: whether the pair swapped, (temperatures - 1, chains).
    """

    energy: Array
    acceptance_rate: Array
    swapped: Array


def _check_ladder(betas: ArrayLike) -> Array:
    known, betas = betas, _checks.array("betas", betas)
    known = _checks.concrete(known)
    if betas.ndim != 1 or betas.shape[0] < 2:
        raise ValueError(f"betas must be a ladder of at least 2 values, got {betas.shape}.")
    if known is not None:
        _checks.positive("betas", known)
        if not (known[1:] > known[:-1]).all():
            raise ValueError(f"betas must increase, from the hottest to the target, got {known}.")
    return betas


def replica_exchange(
    energy: Energy,
    make_sampler: MakeSampler,
    betas: ArrayLike,
    *,
    steps_per_swap: int = 1,
) -> Sampler:
    r"""Return a sampler with replicas of every chain at several temperatures.

    Replica i targets :math:`\exp(-\beta_i E)`. Neighbouring replicas swap with probability

    .. math:: \min\left(1, \exp\left[(\beta_i - \beta_{i+1}) (E(x_i) - E(x_{i+1}))\right]\right)

    for the pairs (0, 1), (2, 3), ... at even steps and (1, 2), (3, 4), ... at odd steps.

    Every chain has its own replicas and swaps. The swaps leave the product of the targets of the
    replicas invariant. All parts of a state that belong to a chain, such as its energy and its
    velocity (in units of its standard deviation at equilibrium), move with the chain. Parts that
    depend on the temperature, such as the log-density in the states of blackjax, are then computed
    again.
    Source: Syed et al. (2022), Non-reversible parallel tempering: a scalable highly parallel
    MCMC scheme, JRSS B 84(2); Okabe et al. (2001).

    Args:
        energy: E(x) -> (), one configuration in.
        make_sampler: called as ``make_sampler(energy, beta=beta)``; returns a ``Sampler`` whose
            state has a field ``position``: ``functools.partial(samplers.mala, step_size=0.1)``, or
            with a step size for each temperature,
            ``lambda energy, beta: samplers.mala(energy, step_size=0.1 / beta, beta=beta)``.
        betas: inverse temperatures > 0, (temperatures,), increasing; the last is the target's.
        steps_per_swap: steps of the sampler between swaps, >= 1.

    Returns:
        A ``Sampler`` with ``TemperingState`` and ``TemperingInfo``. ``init`` starts all
        replicas of a chain at the position of the chain.

    Raises:
        ValueError: if betas do not increase, are <= 0 or fewer than two, or steps_per_swap < 1.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> energy = lambda x: jnp.sum((x**2 - 4) ** 2)
    >>> make_sampler = functools.partial(samplers.mala, step_size=0.01)
    >>> sampler = replica_exchange(energy, make_sampler, betas=[0.1, 0.3, 1.0])
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> state.position.shape, info.acceptance_rate.shape
    ((5, 2), (2, 5))
    """
    _checks.function("energy", energy)
    _checks.function("make_sampler", make_sampler)
    ladder = _check_ladder(betas)
    steps_per_swap = _checks.count("steps_per_swap", steps_per_swap)
    energies = jax.vmap(jax.vmap(energy))

    def at(b: Array) -> Sampler:
        return _checks.sampler("What make_sampler returns", make_sampler(energy, beta=b))

    def init(position: Position) -> TemperingState:
        check_chains(position)
        position = jax.tree.map(jnp.asarray, position)
        check_energy(energy, position)
        with explicit_mesh(position):
            replicas = jax.vmap(lambda b: at(b).init(position))(ladder)
        return TemperingState(replicas, jnp.zeros((), jnp.int32))

    def renew(b: Array, replica: Any) -> Any:
        return running.refresh(at(b), replica)

    def refresh(state: TemperingState) -> TemperingState:
        return state._replace(replicas=jax.vmap(renew)(ladder, state.replicas))

    def step(key: Key, state: TemperingState) -> tuple[TemperingState, TemperingInfo]:
        _checks.one_key(key)
        move_key, swap_key = jax.random.split(key)

        def move(key: Key, b: Array, replica: Any) -> Any:
            return running.run(key, at(b), replica, steps_per_swap)[0]

        keys = jax.random.split(move_key, ladder.shape[0])
        replicas = jax.vmap(move)(keys, ladder, state.replicas)
        values = energies(replicas.position)
        accepted, acceptance_rate = _draws.metropolis(swap_key, _log_ratio(ladder, values))
        tried = jnp.arange(ladder.shape[0] - 1) % 2 == state.step % 2
        swapped = tried[:, None] & accepted
        source = _exchange.sources(swapped)
        axes = chain_axes(at(ladder[-1]).init, state.position)
        replicas = _exchange.renew_moved(
            renew, ladder, _exchange.permute(replicas, source, axes), source, axes
        )
        energy_at_target = jnp.take_along_axis(values, source, axis=0)[-1]
        info = TemperingInfo(energy_at_target, acceptance_rate, swapped)
        return TemperingState(replicas, state.step + 1), info

    return Sampler(init, step, refresh)


def _log_ratio(ladder: Array, values: Array) -> Array:
    """Return the log of the ratio that each pair of neighbours swaps by, (temperatures - 1, n)."""
    return (ladder[:-1] - ladder[1:])[:, None] * (values[:-1] - values[1:])


def adapt_ladder(betas: ArrayLike, acceptance_rate: ArrayLike) -> Array:
    r"""Return inverse temperatures at which all neighbours swap equally often.

    .. math:: \Lambda(b_k) = \frac{k}{T - 1} \Lambda(b_{T-1}), \qquad k = 0, \ldots, T - 1

    where :math:`b_k` is the new ladder and T the number of temperatures. The communication barrier
    :math:`\Lambda(b)` is the sum of the rejection rates from the hottest temperature to b along the
    old ladder, interpolated. The ends of the ladder stay the same. Run the sampler, average
    ``info.acceptance_rate``, adapt the ladder, and repeat with longer runs. Keep the last ladder
    fixed. Source: Syed et al. (2022), algorithm 4.

    Args:
        betas: the ladder, (temperatures,), increasing.
        acceptance_rate: mean swap probability of every neighbouring pair, (temperatures - 1,), in
            [0, 1].

    Returns:
        The new ladder, (temperatures,).

    Raises:
        ValueError: if betas do not increase, or acceptance_rate has another shape or is outside
            [0, 1].

    >>> import jax.numpy as jnp
    >>> adapt_ladder(jnp.array([0.0625, 0.5, 1.0]), jnp.array([0.5, 0.5])).tolist()
    [0.0625, 0.5, 1.0]
    """
    _checks.fraction("acceptance_rate", acceptance_rate)
    ladder = _check_ladder(betas)
    acceptance_rate = _checks.array("acceptance_rate", acceptance_rate)
    if acceptance_rate.shape != (ladder.shape[0] - 1,):
        raise ValueError(
            f"acceptance_rate must have one value per pair, ({ladder.shape[0] - 1},), got "
            f"{acceptance_rate.shape}."
        )
    # A little is added, so that a ladder without any rejection stays increasing.
    rejection = 1 - acceptance_rate + 1e-3
    barrier = jnp.concatenate([jnp.zeros(1, rejection.dtype), jnp.cumsum(rejection)])
    wanted = jnp.linspace(0, barrier[-1], ladder.shape[0])
    return jnp.interp(wanted, barrier, ladder).at[0].set(ladder[0]).at[-1].set(ladder[-1])
