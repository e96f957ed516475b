r"""Samplers of discrete variables with proposals from the gradient of the energy.

.. math:: d_i(k) \approx E(x \text{ with } x_i = k) - E(x), \qquad
    d_i(k) = \nabla_i E(x) (k - x_i)

With ``one_hot``, :math:`d_i(k)` is the difference of the derivatives in the indicators of k and of
the current value. One gradient per step estimates the changes of the energy for all n variables and
their q - 1 other values; Gibbs sampling evaluates the energy for each change. The chains lie on the
leading axis of every leaf. Integer and boolean leaves move; floating-point leaves are unchanged.

All samplers here take these arguments:

* ``energy``: function x -> () that also takes floats in place of the variables and is
  differentiable in them. Only its values at valid variables and the gradient there are used.
* ``values``: values that a variable may take, (q,): (0, 1) for units, (-1, 1) for spins, range(q)
  for categories.
* ``one_hot``: if True, the energy takes every variable as a row of q floats (one more axis), 1 at
  its value and 0 elsewhere: for categories without an order.
* ``beta``: inverse temperature, finite and >= 0, of the target :math:`\exp(-\beta E)`: one number,
  or one per chain.
* ``clamp``: boolean mask of variables that stay fixed; see ``samplers.systematic_scan_gibbs``.

They raise TypeError for positions without an integer or boolean leaf, or with a dtype that cannot
hold the values, and ValueError for options out of range and for a variable with an invalid value.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _bits, _checks, _discrete, _draws
from ebm_jax._trees import check_chains, select_chains
from ebm_jax.types import Array, Energy, Key, Position, PyTree, Sampler


class InformedState(NamedTuple):
    """Positions, energies and gradient-based estimates of energy changes.

    Attributes:
        position: positions of the chains.
        energy: E(x), (chains,).
        change: estimates :math:`d_i(k)`, (chains, n, q), 0 at the current value of the variable.
    """

    position: Position
    energy: Array
    change: Array


class MetropolisInfo(NamedTuple):
    """Energy, acceptance and acceptance rate of every chain, each (chains,).

    Attributes:
        energy: E(x).
        accepted: whether the proposal was accepted.
        acceptance_rate: probability of accepting it.
    """

    energy: Array
    accepted: Array
    acceptance_rate: Array


class DULAInfo(NamedTuple):
    """Energy and fraction of changed variables of every chain, each (chains,).

    Attributes:
        energy: E(x).
        changed: fraction of the variables whose value changed.
    """

    energy: Array
    changed: Array


class _Target(NamedTuple):
    """An energy of variables: states of it, and the variables of a state."""

    evaluate: Callable[[Position], InformedState]
    variables: Callable[[Position], _discrete.Variables]
    stay: Callable[[Position], Array | None]
    values: np.ndarray
    squares: np.ndarray  # |k - k'|^2 of the values as the energy takes them, (q, q)


def _target(energy: Energy, values, one_hot: bool, beta, clamp: PyTree) -> _Target:
    """Validate the options and return the target."""
    _checks.function("energy", energy)
    _checks.flag("one_hot", one_hot)
    _checks.nonnegative("beta", beta)
    known = _checks.concrete(beta)
    if known is not None and not np.isfinite(known).all():
        raise ValueError(f"beta must be finite, got {known}: systematic_scan_gibbs takes inf.")
    values = _discrete.check_values(values)
    number = values.astype(float)
    distance = 2 * (1 - np.eye(len(values))) if one_hot else (number[:, None] - number) ** 2

    def variables(position: Position) -> _discrete.Variables:
        return _discrete.variables(position, values)

    def one(x: Position) -> Array:
        value = _checks.floating("energy", energy(x))
        _checks.scalar("energy", value)
        return value

    def evaluate(position: Position) -> InformedState:
        x, fixed, _, fill = variables(position)
        shown = jax.nn.one_hot(x, len(values)) if one_hot else _discrete.decode(x, values)
        shown = shown.astype(jnp.result_type(float))
        of_floats = jax.vmap(jax.value_and_grad(lambda numbers, f: one(fill(numbers, f))))
        value, slope = of_floats(shown, fixed)
        if one_hot:
            change = slope - jnp.take_along_axis(slope, x[..., None], axis=2)
        else:
            change = slope[..., None] * (number.astype(slope.dtype)[None, None] - shown[..., None])
        return InformedState(position, value, change)

    return _Target(evaluate, variables, lambda p: _discrete.clamped(clamp, p), values, distance)


def _sampler(target: _Target, step) -> Sampler:
    def init(position: Position) -> InformedState:
        check_chains(position)
        _discrete.check_position(position, target.values)
        return target.evaluate(jax.tree.map(jnp.asarray, position))

    return Sampler(init, step, lambda state: target.evaluate(state.position))


def _metropolis(
    key: Key, beta, state: InformedState, proposed: InformedState, reverse: Array
) -> tuple[InformedState, MetropolisInfo]:
    """Accept with probability min(1, exp(reverse - beta (E' - E))).

    ``reverse`` is log q(x | x') - log q(x' | x).
    """
    log_ratio = reverse - _discrete.scaled(beta, proposed.energy - state.energy)
    accepted, acceptance_rate = _draws.metropolis(key, log_ratio)
    new = select_chains(accepted, proposed, state, jax.tree.map(lambda leaf: 0, state))
    return new, MetropolisInfo(new.energy, accepted, acceptance_rate)


def gibbs_with_gradients(
    energy: Energy,
    *,
    values=(0, 1),
    one_hot: bool = False,
    beta: ArrayLike = 1.0,
    clamp: PyTree = None,
) -> Sampler:
    r"""Return the Gibbs-with-gradients sampler, which proposes one variable per step.

    .. math:: q(i, k \mid x) \propto \exp(-\beta d_i(k) / 2), \qquad k \ne x_i

    A proposal is accepted with probability

    .. math:: \min\left(1, \exp(-\beta [E(x') - E(x)])
        \frac{q(i, x_i \mid x')}{q(i, k \mid x)} \right).

    It leaves the target invariant. Source: Grathwohl et al. (2021), Oops I took a gradient:
    scalable sampling for discrete distributions, ICML.

    Args:
        energy, values, one_hot, beta, clamp: see the module ``samplers.informed_proposals``.

    Returns:
        A ``Sampler`` with ``InformedState`` and ``MetropolisInfo``.

    >>> import jax, jax.numpy as jnp
    >>> sampler = gibbs_with_gradients(lambda x: -jnp.sum(x))
    >>> state = sampler.init(jnp.zeros((5, 20), bool))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> info.energy.tolist(), info.accepted.tolist()
    ([-1.0, -1.0, -1.0, -1.0, -1.0], [True, True, True, True, True])
    """
    target = _target(energy, values, one_hot, beta, clamp)
    q = len(target.values)

    def log_proposal(state: InformedState, x: Array) -> Array:
        """Return log q(i, k | x) of every i and k, (chains, n q)."""
        logits = -_discrete.scaled(beta, state.change) / 2
        never = jnp.arange(q)[None, None] == x[..., None]
        stay = target.stay(state.position)
        if stay is not None:
            never |= stay[..., None]
        logits = jnp.where(never, -jnp.inf, logits).reshape(x.shape[0], -1)
        return jax.nn.log_softmax(logits)

    def step(key: Key, state: InformedState) -> tuple[InformedState, MetropolisInfo]:
        _checks.one_key(key)
        choose_key, accept_key = jax.random.split(key)
        x, fixed, restore, _ = target.variables(state.position)
        forward = log_proposal(state, x)
        chosen = _draws.categorical(choose_key, forward)[:, None]
        site, back = chosen // q, chosen // q * q + jnp.take_along_axis(x, chosen // q, axis=1)
        moved = jnp.where(jnp.arange(x.shape[1])[None] == site, chosen % q, x)
        proposed = target.evaluate(jax.vmap(restore)(moved, fixed))
        ratio = jnp.take_along_axis(log_proposal(proposed, moved), back, axis=1)
        ratio -= jnp.take_along_axis(forward, chosen, axis=1)
        return _metropolis(accept_key, beta, state, proposed, ratio[:, 0])

    return _sampler(target, step)


def _drift(target: _Target, step_size, beta):
    """Return functions of (state, x): log q(. | x), (chains, n, q), and a draw."""
    _checks.positive("step_size", step_size)
    _checks.scalar("step_size", step_size)

    def log_proposal(state: InformedState, x: Array) -> Array:
        squares = _discrete.look_up(jnp.asarray(target.squares, state.change.dtype), x)
        logits = -_discrete.scaled(beta, state.change) / 2 - squares / (2 * step_size)
        stay = target.stay(state.position)
        if stay is not None:
            moved = jnp.arange(len(target.values))[None, None] != x[..., None]
            logits = jnp.where(stay[..., None] & moved, -jnp.inf, logits)
        return jax.nn.log_softmax(logits)

    def draw(key: Key, log_q: Array) -> Array:
        chains, n, q = log_q.shape
        counters = -(-n // 2) + 1
        fraction, _ = _bits.fractions(key, chains, counters)
        first, second = (
            _bits.categorical(word, [part[..., k] for k in range(q)], fraction)
            for word, part in _bits.halves(key, log_q, counters, 0)
        )
        moved = jnp.concatenate(_bits.both(first, second, q), axis=1)[:, :n]
        return moved.astype(jnp.int32)

    return log_proposal, draw


def dula(
    energy: Energy,
    *,
    step_size: ArrayLike,
    values=(0, 1),
    one_hot: bool = False,
    beta: ArrayLike = 1.0,
    clamp: PyTree = None,
) -> Sampler:
    r"""Return the discrete unadjusted Langevin sampler, which moves all variables.

    .. math:: q_i(k \mid x) \propto
        \exp\left( -\frac{\beta}{2} d_i(k) - \frac{(k - x_i)^2}{2 \alpha} \right)

    Each variable is drawn independently. The stationary distribution is biased: a smaller
    :math:`\alpha` reduces the bias, but the chains mix more slowly. Source: Zhang, Liu and Liu
    (2022), A Langevin-like sampler for discrete distributions, ICML.

    Args:
        energy, values, one_hot, beta, clamp: see the module ``samplers.informed_proposals``.
        step_size: :math:`\alpha > 0`, in squared units of the values; the squared distance of two
            different one-hot rows is 2.

    Returns:
        A ``Sampler`` with ``InformedState`` and ``DULAInfo``.

    >>> import jax, jax.numpy as jnp
    >>> sampler = dula(lambda x: jnp.sum(x), step_size=0.2)
    >>> state = sampler.init(jnp.zeros((5, 20), bool))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> state.position.dtype, info.changed.shape
    (dtype('bool'), (5,))
    """
    target = _target(energy, values, one_hot, beta, clamp)
    log_proposal, draw = _drift(target, step_size, beta)

    def step(key: Key, state: InformedState) -> tuple[InformedState, DULAInfo]:
        _checks.one_key(key)
        x, fixed, restore, _ = target.variables(state.position)
        moved = draw(key, log_proposal(state, x))
        new = target.evaluate(jax.vmap(restore)(moved, fixed))
        changed = jnp.mean((moved != x).astype(jnp.float32), axis=1)
        return new, DULAInfo(new.energy, changed)

    return _sampler(target, step)


def dmala(
    energy: Energy,
    *,
    step_size: ArrayLike,
    values=(0, 1),
    one_hot: bool = False,
    beta: ArrayLike = 1.0,
    clamp: PyTree = None,
) -> Sampler:
    r"""Return the discrete Metropolis-adjusted Langevin sampler.

    It accepts the proposal of ``dula`` with probability

    .. math:: \min\left(1, \exp(-\beta [E(x') - E(x)]) \frac{q(x \mid x')}{q(x' \mid x)} \right),

    so it leaves the target invariant. Source: Zhang, Liu and Liu (2022), A Langevin-like sampler
    for discrete distributions, ICML.

    Args:
        energy, values, one_hot, beta, clamp: see the module ``samplers.informed_proposals``.
        step_size: :math:`\alpha > 0`, in squared units of the values; ``samplers.adapt_step_size``
            tunes it.

    Returns:
        A ``Sampler`` with ``InformedState`` and ``MetropolisInfo``.

    >>> import jax, jax.numpy as jnp
    >>> sampler = dmala(lambda x: jnp.sum(x), step_size=0.2)
    >>> state = sampler.init(jnp.zeros((5, 20), bool))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> info.acceptance_rate.shape
    (5,)
    """
    target = _target(energy, values, one_hot, beta, clamp)
    log_proposal, draw = _drift(target, step_size, beta)

    def step(key: Key, state: InformedState) -> tuple[InformedState, MetropolisInfo]:
        _checks.one_key(key)
        move_key, accept_key = jax.random.split(key)
        x, fixed, restore, _ = target.variables(state.position)
        forward = log_proposal(state, x)
        moved = draw(move_key, forward)
        proposed = target.evaluate(jax.vmap(restore)(moved, fixed))

        def log_q(table: Array, to: Array) -> Array:
            return jnp.sum(jnp.take_along_axis(table, to[..., None], axis=2), axis=(1, 2))

        ratio = log_q(log_proposal(proposed, moved), x) - log_q(forward, moved)
        return _metropolis(accept_key, beta, state, proposed, ratio)

    return _sampler(target, step)
