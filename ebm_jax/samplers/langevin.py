r"""Langevin samplers: unadjusted (ULA), stochastic-gradient (SGLD) and MALA.

.. math:: x' = x - h \nabla E(x) + \sqrt{2 h / \beta} \, \xi, \qquad \xi \sim N(0, I)

The chains lie on the leading axis of every leaf; the energy takes one configuration. Floating-point
leaves move; other leaves, such as the class of a chain, are unchanged. The target is
:math:`\exp(-\beta E)`: MALA is exact, ULA and SGLD have a bias of order h.

All three take these options, numbers or schedules, step () -> number:

* ``step_size``: h > 0, in units of :math:`x^2` / energy; or an array that broadcasts to one
  configuration, which is a diagonal preconditioner.
* ``beta``: inverse temperature > 0, 1 by default: one number, or one per chain; inf is gradient
  descent.
* ``noise_sigma``: standard deviation >= 0 of the noise, in units of x, instead of beta, as is
  common for image models. The target is then that of beta = 2 h / noise_sigma^2.
* ``max_gradient_norm``: gradients of a chain longer than this norm are scaled to it.
* ``bounds``: (low, high), the box of allowed positions: numbers or arrays of one configuration.

The functions raise ValueError for values or shapes that are not allowed, for positions without a
common leading axis and for energies that do not return a scalar, and TypeError for options that are
not numbers and for positions without a floating-point leaf. If a schedule leaves the allowed range
later, all chains become NaN.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws
from ebm_jax._trees import (
    chain_norm,
    chain_sum,
    check_chains,
    partition,
    select_chains,
    value_and_gradient,
)
from ebm_jax.samplers import _options
from ebm_jax.samplers._options import Options, Schedule, longer
from ebm_jax.types import Array, Energy, Key, Position, Sampler

Option = ArrayLike | Schedule


class LangevinState(NamedTuple):
    """The chains, their energies and gradients, and the number of steps made.

    ``gradient`` has one array per floating-point leaf of the position, the leaves that move;
    ``gradient_norm``, (chains,), is before clipping.
    """

    position: Position
    energy: Array
    gradient: list
    gradient_norm: Array
    step: Array


class ULAInfo(NamedTuple):
    r"""Information on a step and the chains after it; arrays are (chains,).

    Attributes:
        energy: E(x).
        gradient_norm: :math:`\lVert \nabla E(x) \rVert`, before clipping.
        clipped: whether the next step clips this gradient.
        at_bounds: fraction of coordinates that were projected to the bounds.
        beta: effective inverse temperature, 2 step_size / noise_sigma^2, with the shape of beta or
            of the step size.
    """

    energy: Array
    gradient_norm: Array
    clipped: Array
    at_bounds: Array
    beta: Array


class MALAInfo(NamedTuple):
    r"""Information on a step and the chains after it; arrays are (chains,).

    Attributes:
        energy: E(x).
        gradient_norm: :math:`\lVert \nabla E(x) \rVert`, before clipping.
        clipped: whether the next proposal clips this gradient.
        at_bounds: 1 if the proposal was rejected because it left the bounds, else 0.
        accepted: whether the proposal was accepted.
        acceptance_rate: probability of accepting it.
        beta: inverse temperature of the target, () or (chains,).
    """

    energy: Array
    gradient_norm: Array
    clipped: Array
    at_bounds: Array
    accepted: Array
    acceptance_rate: Array
    beta: Array


class SGLDState(NamedTuple):
    """The chains and the number of steps made."""

    position: Position
    step: Array


class SGLDInfo(NamedTuple):
    """Information on a step; arrays are (chains,).

    Attributes:
        estimate_norm: norm of the gradient estimate that the step used, before clipping.
        estimate_clipped: whether that estimate was clipped.
        at_bounds: fraction of coordinates that were projected to the bounds.
        beta: effective inverse temperature, as in ``ULAInfo``.
    """

    estimate_norm: Array
    estimate_clipped: Array
    at_bounds: Array
    beta: Array


def _evaluated(energy: Energy) -> Callable[[Position, Array], LangevinState]:
    """Return (position, step) -> state."""
    _checks.function("energy", energy)

    def state(position: Position, step: Array) -> LangevinState:
        value, gradient = value_and_gradient(energy, position)
        return LangevinState(position, value, gradient, chain_norm(gradient), step)

    return state


def _sampler(energy: Energy, step) -> Sampler:
    """Return the sampler of a step; ``init`` and ``refresh`` evaluate the energy."""
    evaluate = _evaluated(energy)

    def init(position: Position) -> LangevinState:
        check_chains(position)
        return evaluate(jax.tree.map(jnp.asarray, position), jnp.zeros((), jnp.int32))

    return Sampler(init, step, lambda state: evaluate(state.position, state.step))


def ula(
    energy: Energy,
    *,
    step_size: Option,
    beta: Option | None = None,
    noise_sigma: Option | None = None,
    max_gradient_norm: Option | None = None,
    bounds: tuple[Option, Option] | None = None,
) -> Sampler:
    r"""Return the unadjusted Langevin sampler.

    .. math:: x' = x - h \nabla E(x) + \sqrt{2 h / \beta} \, \xi, \qquad \xi \sim N(0, I)

    On a Gaussian with precision k its stationary variance is :math:`1 / (\beta k (1 - h k / 2))`:
    the bias grows with h, and the sampler is unstable for :math:`h k \ge 2`. Clipping gradients and
    projecting to bounds change this distribution. Source: Roberts and Tweedie (1996), Exponential
    convergence of Langevin distributions, Bernoulli 2(4).

    Args:
        energy: function x -> () of one configuration.
        step_size: h > 0, in units of :math:`x^2` / energy. All options may be schedules; see the
            module ``samplers.langevin`` for their shapes.
        beta: inverse temperature > 0 of the target; 1 by default, inf for gradient descent.
        noise_sigma: standard deviation of the noise, in units of x, instead of beta.
        max_gradient_norm: longer gradients of a chain are scaled to this norm.
        bounds: (low, high): positions are projected to this box after every step.

    Returns:
        A ``Sampler`` with ``LangevinState`` and ``ULAInfo``.

    >>> import jax, jax.numpy as jnp
    >>> sampler = ula(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> state.position.shape, float(info.beta)
    ((5, 2), 1.0)
    """
    options = Options(step_size, beta, noise_sigma, max_gradient_norm, bounds)
    descend, evaluate = _unadjusted(options), _evaluated(energy)

    def step(key: Key, state: LangevinState) -> tuple[LangevinState, ULAInfo]:
        position, now, _, at_bounds = descend(
            key, state.position, state.gradient, state.gradient_norm, state.step
        )
        state = evaluate(position, state.step + 1)
        norm = state.gradient_norm
        clipped = longer(norm, now.max_gradient_norm)
        return state, ULAInfo(state.energy, norm, clipped, at_bounds, now.beta)

    return _sampler(energy, step)


def sgld(
    gradient: Callable[[Key, Position], Position],
    *,
    step_size: Option,
    beta: Option | None = None,
    noise_sigma: Option | None = None,
    max_gradient_norm: Option | None = None,
    bounds: tuple[Option, Option] | None = None,
) -> Sampler:
    r"""Return the stochastic-gradient Langevin sampler, for gradient estimates.

    .. math:: x' = x - h g(\text{key}, x) + \sqrt{2 h / \beta} \, \xi, \qquad
        \mathbb{E}[g(\text{key}, x)] = \nabla E(x)

    The noise of the estimate raises the temperature. Its variance relative to that of the injected
    noise, :math:`\beta h \operatorname{Var}(g) / 2`, should be well below 1. Source: Welling and
    Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics.

    Args:
        gradient: function (key, x) -> estimate of the gradient at one configuration x, a pytree
            like x (leaves that do not move are ignored). Every chain gets the same key, so all
            chains use one mini-batch per step.
        step_size: h > 0, in units of :math:`x^2` / energy. All options may be schedules; see the
            module ``samplers.langevin`` for their shapes.
        beta: inverse temperature > 0 of the target; 1 by default, inf for gradient descent.
        noise_sigma: standard deviation of the noise, in units of x, instead of beta.
        max_gradient_norm: longer gradients of a chain are scaled to this norm.
        bounds: (low, high): positions are projected to this box after every step.

    Returns:
        A ``Sampler`` with ``SGLDState`` and ``SGLDInfo``. The info has no ``energy``, since a
        gradient does not determine it: compute it from the positions if you know the energy.

    >>> import jax, jax.numpy as jnp
    >>> data = jnp.array([1.0, 2.0, 3.0, 4.0])
    >>> def gradient(key, x):  # of sum_i (x - data_i)^2 / 2, from two of the four
    ...     return 4 * jnp.mean(x - jax.random.choice(key, data, (2,), replace=False))
    >>> sampler = sgld(gradient, step_size=0.01)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros(100)))
    >>> state.position.shape
    (100,)
    """
    _checks.function("gradient", gradient)
    descend = _unadjusted(Options(step_size, beta, noise_sigma, max_gradient_norm, bounds))

    def init(position: Position) -> SGLDState:
        check_chains(position)
        return SGLDState(jax.tree.map(jnp.asarray, position), jnp.zeros((), jnp.int32))

    def step(key: Key, state: SGLDState) -> tuple[SGLDState, SGLDInfo]:
        _checks.one_key(key)
        gradient_key, noise_key = jax.random.split(key)
        estimate = jax.vmap(gradient, (None, 0))(gradient_key, state.position)
        given, wanted = (jax.tree.map(jnp.shape, tree) for tree in (estimate, state.position))
        if given != wanted:
            raise ValueError(
                "The gradient must be shaped like one configuration; over the chains it has the "
                f"shapes {given}, the positions {wanted}."
            )
        moves = [jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(state.position)]
        leaves = [g for g, m in zip(jax.tree.leaves(estimate), moves, strict=True) if m]
        norm = chain_norm(leaves) if leaves else jnp.zeros(())  # raises below
        position, now, clipped, at_bounds = descend(
            noise_key, state.position, leaves, norm, state.step
        )
        return SGLDState(position, state.step + 1), SGLDInfo(norm, clipped, at_bounds, now.beta)

    return Sampler(init, step, lambda state: state)


def _unadjusted(options: Options):
    """Return the step, a function (key, position, gradient, norm, step).

    It returns (position, options, clipped, at_bounds).
    """
    _options.check_all(options)
    silent = _options.noiseless(options)

    def descend(key: Key, position: Position, gradient: list, norm: Array, step: Array):
        _checks.one_key(key)
        moving, fixed, merge = partition(position)
        now = _options.now(options, step, moving)
        drift, clipped = _options.clip(gradient, norm, now.max_gradient_norm)
        moved = _move(moving, drift, now, _options.shifts(key, moving, now.noise, silent))
        at_bounds = jnp.zeros(norm.shape)
        if now.bounds is not None:
            moved, at_bounds = _options.project(moved, now.bounds)
        return merge(moved, fixed), now, clipped, at_bounds

    return descend


def _move(moving: list, drift: list, now: _options.Now, shift: list) -> list:
    """Return x - h drift + shift, in the dtype of x."""
    steps = zip(moving, drift, shift, strict=True)
    return [(x - now.step_size * g + n).astype(x.dtype) for x, g, n in steps]


def mala(
    energy: Energy,
    *,
    step_size: Option,
    beta: Option | None = None,
    noise_sigma: Option | None = None,
    max_gradient_norm: Option | None = None,
    bounds: tuple[Option, Option] | None = None,
) -> Sampler:
    r"""Return the Metropolis-adjusted Langevin sampler, exact for exp(-beta E).

    .. math:: x' \sim q(\cdot \mid x) = N(x - h \nabla E(x), \; 2 h / \beta)

    A proposal is accepted with probability

    .. math:: \min\left(1, \exp(-\beta [E(x') - E(x)]) \frac{q(x \mid x')}{q(x' \mid x)} \right).

    Clipping changes the proposal, not the target. At beta = inf the sampler is gradient descent
    that rejects steps that increase the energy. A proposal with a NaN energy is rejected. Source:
    Roberts and Tweedie (1996); Besag (1994).

    Args:
        energy: function x -> () of one configuration.
        step_size: h > 0, in units of :math:`x^2` / energy. All options may be schedules; see the
            module ``samplers.langevin`` for their shapes.
        beta: inverse temperature > 0 of the target; 1 by default.
        noise_sigma: standard deviation of the proposal, in units of x, instead of beta: beta is 2
            step_size / noise_sigma^2, with one step size for all dimensions.
        max_gradient_norm: longer gradients of a chain are scaled to this norm.
        bounds: (low, high): proposals outside this box are rejected. This is exact for the target
            restricted to the box.

    Returns:
        A ``Sampler`` with ``LangevinState`` and ``MALAInfo``.

    >>> import jax, jax.numpy as jnp
    >>> sampler = mala(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> bool((info.acceptance_rate > 0.9).all())
    True
    """
    options = Options(step_size, beta, noise_sigma, max_gradient_norm, bounds)
    _options.check_all(options)
    if noise_sigma is not None:
        _options.one_number("noise_sigma needs one beta for all dimensions in MALA", options)
    silent, evaluate = _options.noiseless(options), _evaluated(energy)

    def step(key: Key, state: LangevinState) -> tuple[LangevinState, MALAInfo]:
        _checks.one_key(key)
        noise_key, accept_key = jax.random.split(key)
        moving, fixed, merge = partition(state.position)
        now = _options.now(options, state.step, moving)
        shift = _options.shifts(noise_key, moving, now.noise, silent)
        drift = _drift(state, now)
        moved = _move(moving, drift, now, shift)
        proposed = evaluate(merge(moved, fixed), state.step)
        outside = jnp.zeros(state.energy.shape, bool)
        if now.bounds is not None:
            outside = _options.project(moved, now.bounds)[1] > 0
        reverse = _reverse(now.step_size, drift, _drift(proposed, now), shift)
        log_ratio = _log_ratio(now.beta, proposed.energy - state.energy, reverse, outside)
        accepted, acceptance_rate = _draws.metropolis(accept_key, log_ratio)
        # Invalid options turn the chains NaN, instead of rejecting every proposal.
        axes = jax.tree.map(lambda leaf: 0 if leaf.ndim else -1, state)
        new = select_chains(accepted | ~now.valid, proposed, state, axes)
        return new._replace(step=state.step + 1), MALAInfo(
            energy=new.energy,
            gradient_norm=new.gradient_norm,
            clipped=longer(new.gradient_norm, now.max_gradient_norm),
            at_bounds=outside.astype(jnp.float32),
            accepted=accepted,
            acceptance_rate=acceptance_rate,
            beta=now.beta,
        )

    return _sampler(energy, step)


def _drift(state: LangevinState, now: _options.Now) -> list:
    """Return the clipped gradient."""
    return _options.clip(state.gradient, state.gradient_norm, now.max_gradient_norm)[0]


def _reverse(h: Array, drift: list, back: list, shift: list) -> Array:
    r"""Return log [q(x' | x) / q(x | x')] / beta, without a division by h.

    .. math:: \sum \left( h s^2 - 2 s \, \text{shift} \right) / 4

    where h is the step size and s the sum of the drifts at x and x'.
    """
    both = [g + k for g, k in zip(drift, back, strict=True)]
    return chain_sum([h * s**2 - 2 * s * n for s, n in zip(both, shift, strict=True)]) / 4


def _log_ratio(beta: Array, uphill: Array, reverse: Array, outside: Array) -> Array:
    """Return -beta (uphill + reverse); -inf out of bounds.

    At beta = inf it is the limit without ``reverse``.
    """
    cold = beta == jnp.inf
    log_ratio = -jnp.where(cold, 1.0, beta) * (uphill + reverse)
    log_ratio = jnp.where(cold, jnp.where(uphill <= 0, 0.0, -jnp.inf), log_ratio)
    return jnp.where(outside, -jnp.inf, log_ratio)
