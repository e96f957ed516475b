r"""Maximum likelihood with sampled negatives: CD-k, persistent chains, short runs from noise.

    grad L = E_data[grad E(x)] - E_chains[grad E(x)]

All three minimise ``mean E(x+) - mean E(stop_gradient(x-))``, whose gradient this is, and differ
only in where the chains start. The value itself is not a likelihood: watch the energy gap.

A chain that turns non-finite is left out of the loss and counted (``chains_nonfinite``); a
persistent one restarts the next time it is drawn. When none is left the loss is NaN, which
training skips and counts.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.samplers import chains as _chains
from ebm_jax.types import Array, Energy, Key, Metrics, Objective, Params, Position, Sampler

SamplerFactory = Callable[[Energy], Sampler]
Initial = Callable[[Key, Array], Position]  # (key, slots (n,)) -> n positions


class PersistentState(NamedTuple):
    """The persistent chains, capacity on the leading axis, and how often each was run."""

    chains: Position
    age: Array  # (capacity,), draws since the last restart


def _negatives(
    key: Key,
    energy: Energy,
    params: Params,
    make_sampler: SamplerFactory,
    start: Position,
    num_steps,
) -> tuple[Position, Metrics]:
    """Run the chains and return where they end, as constants, with the means of their info."""
    params, start = jax.lax.stop_gradient((params, start))
    sampler = make_sampler(lambda x: energy(params, x))
    state, info = _chains.run(
        key, sampler, sampler.init(start), num_steps, collect=_chains.mean_info
    )
    metrics = jax.tree.map(jnp.mean, info)
    return jax.lax.stop_gradient(state.position), metrics


def _contrast(
    energy: Energy,
    params: Params,
    positives: Position,
    negatives: Position,
    penalty: float,
    ready: Array | bool = True,
) -> tuple[Array, Metrics]:
    """Return mean E(x+) - mean E(x-) + penalty (mean E(x+)^2 + mean E(x-)^2).

    Only chains that are ready and finite count; without any the result is 0 / 0, which
    training skips.
    """
    energies = jax.vmap(energy, (None, 0))
    alive = _chains.finite(negatives)
    counted = alive & ready
    # A configuration of NaN would reach the gradient even with weight zero.
    stand_in = jax.tree.map(lambda n: jnp.where(jnp.isfinite(n), n, jnp.zeros_like(n)), negatives)
    positive, negative = energies(params, positives), energies(params, stand_in)

    def mean_negative(values):
        return jnp.sum(jnp.where(counted, values, 0.0)) / jnp.sum(counted)

    gap = mean_negative(negative) - jnp.mean(positive)
    squares = jnp.mean(positive**2) + mean_negative(negative**2)
    metrics = {
        "energy_positive": jnp.mean(positive),
        "energy_negative": mean_negative(negative),
        "energy_gap": gap,
        "chains_nonfinite": jnp.mean(~alive, dtype=jnp.float32),
    }
    return penalty * squares - gap, metrics


def _check(num_steps: int, energy_penalty: float) -> None:
    if num_steps < 1:
        raise ValueError(f"num_steps must be at least 1, got {num_steps}.")
    _checks.nonnegative("energy_penalty", energy_penalty)


def contrastive_divergence(
    energy: Energy,
    make_sampler: SamplerFactory,
    *,
    num_steps: int,
    energy_penalty: float = 0.0,
) -> Objective:
    r"""Return CD-k: the chains start at the batch and make k steps.

        L = mean E(x+) - mean E(x-) + a (mean E(x+)^2 + mean E(x-)^2)

    Source: Hinton (2002), Training products of experts by minimizing contrastive divergence,
    Neural Computation 14(8). The penalty is the energy regularisation of Du and Mordatch (2019).

    Args:
        energy: (params, x) -> ().
        make_sampler: energy of x alone -> ``Sampler``:
            ``functools.partial(langevin.ula, step_size=0.01)``.
        num_steps: k >= 1.
        energy_penalty: a >= 0, in 1/energy; keeps the level of the energies near zero.

    Returns:
        An ``Objective`` without state, of batches x (chains on the leading axis). Metrics:
        ``energy_positive``, ``energy_negative``, ``energy_gap``, ``chains_nonfinite`` and the
        means of the sampler's info.

    Raises:
        ValueError: num_steps < 1, a negative penalty.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> objective = contrastive_divergence(lambda params, x: params * jnp.sum(x**2),
    ...     functools.partial(langevin.ula, step_size=0.1), num_steps=2)
    >>> value, (_, metrics) = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> float(value) == -float(metrics["energy_gap"])
    True
    """
    _check(num_steps, energy_penalty)

    def loss(params, state, batch, key):
        negatives, info = _negatives(key, energy, params, make_sampler, batch, num_steps)
        value, metrics = _contrast(energy, params, batch, negatives, energy_penalty)
        return value, (state, info | metrics | {"loss": value})

    return Objective(lambda key: (), loss)


def short_run(
    energy: Energy,
    make_sampler: SamplerFactory,
    *,
    num_steps: int,
    num_chains: int,
    initial: Initial,
    energy_penalty: float = 0.0,
) -> Objective:
    r"""Return the short-run objective: fresh chains from noise at every update.

        L = mean E(x+) - mean E(x-) + a (mean E(x+)^2 + mean E(x-)^2)

    The chains do not reach the Gibbs distribution: what is learnt is the short run itself.
    Source: Nijkamp et al. (2019), Learning non-convergent non-persistent short-run MCMC.

    Args:
        energy: (params, x) -> ().
        make_sampler: energy of x alone -> ``Sampler``.
        num_steps: length of the runs, >= 1.
        num_chains: chains a step, >= 1.
        initial: (key, slots (n,)) -> n starting positions on the leading axis; the slots are
            the chains' numbers, for what belongs to a chain, such as its class.
        energy_penalty: a >= 0, in 1/energy.

    Returns:
        An ``Objective`` without state, of batches x; metrics as ``contrastive_divergence``.

    Raises:
        ValueError: num_steps < 1, num_chains < 1, a negative penalty.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> objective = short_run(lambda params, x: params * jnp.sum(x**2),
    ...     functools.partial(langevin.ula, step_size=0.1), num_steps=2, num_chains=4,
    ...     initial=lambda key, slots: jax.random.normal(key, (len(slots), 2)))
    >>> value, _ = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> value.shape
    ()
    """
    _check(num_steps, energy_penalty)
    if num_chains < 1:
        raise ValueError(f"num_chains must be at least 1, got {num_chains}.")

    def loss(params, state, batch, key):
        start_key, run_key = jax.random.split(key)
        start = initial(start_key, jnp.arange(num_chains))
        negatives, info = _negatives(run_key, energy, params, make_sampler, start, num_steps)
        value, metrics = _contrast(energy, params, batch, negatives, energy_penalty)
        return value, (state, info | metrics | {"loss": value})

    return Objective(lambda key: (), loss)


def persistent(
    energy: Energy,
    make_sampler: SamplerFactory,
    *,
    num_steps: int,
    num_chains: int,
    capacity: int,
    initial: Initial,
    restart_fraction: float = 0.05,
    burn_in: int = 0,
    energy_penalty: float = 0.0,
) -> Objective:
    r"""Return PCD: chains that go on from update to update, some of them restarted.

        L = mean E(x+) - mean E(x-) + a (mean E(x+)^2 + mean E(x-)^2)

    Every update draws ``num_chains`` of ``capacity`` slots without repetition, restarts the
    stated fraction, runs them, and writes them back to the slots they came from.
    Source: Tieleman (2008), Training restricted Boltzmann machines using approximations to the
    likelihood gradient; restarts from Du and Mordatch (2019).

    Args:
        energy: (params, x) -> ().
        make_sampler: energy of x alone -> ``Sampler``.
        num_steps: steps of the chains between two updates, >= 1.
        num_chains: chains a step, from 1 to capacity.
        capacity: number of persistent chains.
        initial: (key, slots (n,)) -> starting positions of these slots on the leading axis, for
            the first chains and for restarts. What a slot carries, such as its class, should
            depend on its number: then the share of every class stays what it is.
        restart_fraction: probability in [0, 1] that a drawn chain restarts.
        burn_in: how many draws a restarted chain makes before it counts as a negative, >= 0:
            until then it has not forgotten its start. The first chains count at once.
        energy_penalty: a >= 0, in 1/energy.

    Returns:
        An ``Objective`` whose state is a ``PersistentState``, of batches x; metrics as
        ``contrastive_divergence``, and ``chains_restarted``.

    Raises:
        ValueError: num_steps < 1, num_chains outside [1, capacity], a fraction outside [0, 1],
            a negative burn-in or penalty.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax.samplers import langevin
    >>> objective = persistent(lambda params, x: params * jnp.sum(x**2),
    ...     functools.partial(langevin.ula, step_size=0.1), num_steps=2, num_chains=4, capacity=16,
    ...     initial=lambda key, slots: jax.random.normal(key, (len(slots), 2)))
    >>> state = objective.init(jax.random.key(0))
    >>> value, (state, _) = objective.loss(1.0, state, jnp.ones((8, 2)), jax.random.key(1))
    >>> state.chains.shape
    (16, 2)
    """
    _check(num_steps, energy_penalty)
    if not 1 <= num_chains <= capacity:
        raise ValueError(f"num_chains must be in [1, capacity={capacity}], got {num_chains}.")
    _checks.fraction("restart_fraction", restart_fraction)
    _checks.nonnegative("burn_in", burn_in)

    def loss(params, state, batch, key):
        draw_key, restart_key, fresh_key, run_key = jax.random.split(key, 4)
        indices, (drawn, age) = _chains.draw(draw_key, state, num_chains)
        fresh = initial(fresh_key, indices)
        start, restarted = _chains.restart(restart_key, drawn, fresh, restart_fraction)
        age = jnp.where(restarted, 0, age + 1)
        negatives, info = _negatives(run_key, energy, params, make_sampler, start, num_steps)
        state = _chains.write_back(state, indices, PersistentState(negatives, age))
        ready = age >= burn_in
        value, metrics = _contrast(energy, params, batch, negatives, energy_penalty, ready)
        metrics["chains_restarted"] = jnp.mean(restarted, dtype=jnp.float32)
        return value, (state, info | metrics | {"loss": value})

    def init(key):
        start = initial(key, jnp.arange(capacity))
        return PersistentState(start, jnp.full((capacity,), burn_in, jnp.int32))

    return Objective(init, loss)
