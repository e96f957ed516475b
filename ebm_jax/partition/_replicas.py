"""The replicas of parallel tempering along a path: their moves, their swaps, their weights."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws, distributions
from ebm_jax._trees import chain_axes, check_chains
from ebm_jax.compilation import jit
from ebm_jax.partition.paths import Path
from ebm_jax.samplers import _exchange, running
from ebm_jax.types import Array, Distribution, Energy, Key, MakeSampler, Position, Sampler


class State(NamedTuple):
    """The samplers' states, (replicas, ...) every leaf, and what travels with them.

    ``came`` is the end of the ladder where a replica was last, (replicas, chains): 0 for neither, 1
    for the base, 2 for the target after the base.
    """

    replicas: Any
    came: Array
    trips: Array
    scan: Array


class Sums(NamedTuple):
    """Sums over scans, (replicas - 1, chains) each; of the slopes (replicas, chains)."""

    up: Any  # log sum exp(f / 2)
    down: Any  # log sum exp(-g / 2)
    rejected: Any
    slopes: Any


def _sampler(energy, base, make_sampler, path, beta) -> tuple[Path, Sampler]:
    along = path(distributions.energy(base), energy)
    bound = make_sampler(Partial(along, beta))
    return along, _checks.sampler("What make_sampler returns", bound)


def _renewed(energy, base, make_sampler, path, beta, replica) -> Any:
    return running.refresh(_sampler(energy, base, make_sampler, path, beta)[1], replica)


@functools.partial(jit, static_argnums=(3, 4, 5, 6, 7))
def start(
    key: Key, energy: Energy, ladder: Array, num_chains: int, base, make_sampler, path, num_steps
) -> State:
    """Return replicas drawn from the base, one set per chain at every rung of the ladder."""
    del num_steps

    def begin(key: Key, beta: Array) -> Any:
        position = base.sample(key, num_chains)
        check_chains(position)
        return _sampler(energy, base, make_sampler, path, beta)[1].init(position)

    replicas = jax.vmap(begin)(jax.random.split(key, ladder.shape[0]), ladder)
    came = jnp.zeros((ladder.shape[0], num_chains), jnp.int32)
    return State(replicas, came, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


@functools.partial(jit, static_argnums=(4, 5, 6, 7))
def renew(
    energy: Energy,
    ladder: Array,
    nearest: Array,
    state: State,
    base,
    make_sampler,
    path,
    num_steps,
) -> State:
    """Return the state on another ladder: every replica continues from the nearest one."""
    del num_steps
    taken = jax.tree.map(lambda leaf: leaf[nearest], state.replicas)
    renew = functools.partial(_renewed, energy, base, make_sampler, path)
    return state._replace(replicas=jax.vmap(renew)(ladder, taken), came=state.came[nearest])


@functools.partial(jit, static_argnums=(5, 6, 7, 8))
def scans(
    key: Key,
    energy: Energy,
    ladder: Array,
    state: State,
    num: ArrayLike,
    base: Distribution,
    make_sampler: MakeSampler,
    path: Callable,
    num_steps: int,
) -> tuple[State, Sums]:
    """Make some scans; return the sums over them, as they are after the moves."""

    def body(_, carry: tuple[State, Sums]) -> tuple[State, Sums]:
        state, sums = carry
        scan_key = jax.random.fold_in(key, state.scan)
        return _scan(scan_key, energy, ladder, state, sums, base, make_sampler, path, num_steps)

    pairs, chains = ladder.shape[0] - 1, state.came.shape[1]
    kind = jax.eval_shape(lambda: _weights(energy, base, path, ladder, positions(state)))[0].dtype
    nothing = jnp.full((pairs, chains), -jnp.inf, kind)
    zeros = jnp.zeros((pairs, chains), kind)
    sums = Sums(nothing, nothing, zeros, jnp.zeros((pairs + 1, chains), kind))
    return jax.lax.fori_loop(0, num, body, (state, sums))


def positions(state: State) -> Position:
    """Return the positions of all replicas, (replicas, chains, ...)."""
    return state.replicas.position


def _weights(energy, base, path, ladder: Array, positions: Position) -> tuple[Array, Array, Array]:
    """Return f (replicas - 1, chains) of the lower and of the upper ones, and the slopes."""
    along = path(distributions.energy(base), energy)

    def value(beta: Array, x: Position) -> Array:
        energy = _checks.floating("What path returns", along(beta, x))
        _checks.scalar("What path returns", energy)
        return energy

    def at(below: Array, beta: Array, above: Array, x: Position) -> tuple[Array, Array, Array]:
        betas, own = jnp.stack([below, beta, above]), jnp.array([0, 1, 0], beta.dtype)
        values, slopes = jax.jvp(lambda b: jax.vmap(value, (0, None))(b, x), (betas,), (own,))
        (lower, own, upper), slope = values, slopes[1]
        # At an end of the path the share of an infinite energy is 0, and its slope is not finite.
        cut = jnp.isfinite(own) & (jnp.isinf(lower) | jnp.isinf(upper))
        return own - upper, lower - own, jnp.where(cut, jnp.nan, slope)

    below, above = jnp.append(ladder[:1], ladder[:-1]), jnp.append(ladder[1:], ladder[-1:])
    over_chains = jax.vmap(at, (None, None, None, 0))
    lower, upper, slopes = jax.vmap(over_chains)(below, ladder, above, positions)
    return lower[:-1], upper[1:], slopes


def _scan(
    key: Key,
    energy: Energy,
    ladder: Array,
    state: State,
    sums: Sums,
    base: Distribution,
    make_sampler: MakeSampler,
    path: Callable,
    num_steps: int,
) -> tuple[State, Sums]:
    """Move the replicas, weigh them, and let neighbours swap."""
    base_key, move_key, swap_key = jax.random.split(key, 3)
    renew = functools.partial(_renewed, energy, base, make_sampler, path)

    def move(key: Key, beta: Array, replica: Any) -> Any:
        sampler = _sampler(energy, base, make_sampler, path, beta)[1]
        return running.run(key, sampler, replica, num_steps)[0]

    hottest = jax.tree.map(lambda leaf: leaf[0], state.replicas)
    others = jax.tree.map(lambda leaf: leaf[1:], state.replicas)
    keys = jax.random.split(move_key, ladder.shape[0] - 1)
    others = jax.vmap(move)(keys, ladder[1:], others)
    drawn = base.sample(base_key, state.came.shape[1])
    if "position" in getattr(hottest, "_fields", ()):  # the rest of it, a velocity say, stays
        hottest = renew(ladder[0], hottest._replace(position=drawn))
    else:
        sampler = _sampler(energy, base, make_sampler, path, ladder[0])[1]
        hottest = sampler.init(drawn)
    replicas = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), hottest, others)

    lower, upper, slopes = _weights(energy, base, path, ladder, replicas.position)
    accepted, acceptance_rate = _draws.metropolis(swap_key, lower - upper)
    sums = Sums(
        jnp.logaddexp(sums.up, lower / 2),
        jnp.logaddexp(sums.down, -upper / 2),
        sums.rejected + (1 - acceptance_rate),
        sums.slopes + slopes,
    )
    tried = jnp.arange(ladder.shape[0] - 1) % 2 == state.scan % 2
    source = _exchange.sources(tried[:, None] & accepted)
    first = jax.tree.map(lambda leaf: leaf[-1], replicas.position)
    axes = chain_axes(_sampler(energy, base, make_sampler, path, ladder[-1])[1].init, first)
    replicas = _exchange.permute(replicas, source, axes)
    replicas = _exchange.renew_moved(renew, ladder, replicas, source, axes)
    came, trips = count_trips(jnp.take_along_axis(state.came, source, axis=0))
    return State(replicas, came, state.trips + trips, state.scan + 1), sums


def count_trips(came: Array) -> tuple[Array, Array]:
    """Return where replicas were last, given where they were before, and how many came round."""
    trips = jnp.sum(came[0] == 2, dtype=jnp.int32)
    came = came.at[-1].set(jnp.where(came[-1] == 1, 2, came[-1]))
    return came.at[0].set(1), trips
