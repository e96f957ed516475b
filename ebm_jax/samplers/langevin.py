r"""Langevin dynamics over a batch of chains: ULA, SGLD and Metropolis-adjusted (MALA).

    x' = x - h grad E(x) + sqrt(2 h / beta) xi,      xi ~ N(0, I)

The chains lie on the leading axis of every leaf; the energy takes one of them. Floating leaves
move; the others, such as the class a chain belongs to, stay as they are. All target
exp(-beta E): MALA exactly, ULA and SGLD up to a bias of the order of h.

The options, the same for all three, are numbers or schedules, step () -> number:

* ``step_size``: h > 0, in x^2 / energy; or an array per dimension (broadcasting to one
  configuration), a diagonal preconditioner.
* ``beta``: inverse temperature > 0, 1 if not given; inf is gradient descent; or one a chain,
  (chains,).
* ``noise_sigma``: instead of beta, the standard deviation >= 0 of the noise in units of x, as
  image models choose it; the target is then that of beta = 2 h / noise_sigma^2.
* ``max_gradient_norm``: a chain's longer gradients are scaled to this norm, the others left as
  they are.
* ``bounds``: (low, high), numbers or arrays of one configuration: where chains may be.

Anything else is refused: ValueError for a value out of range or a shape, TypeError for options
that are not numbers; positions need a common leading axis and a floating leaf, the energy must
return a scalar. A schedule's later values that are out of range turn all chains NaN.
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
    """Chains, their energy and gradient, which a step needs again, and how many steps they made.

    ``gradient`` has one array per moving leaf, ``gradient_norm`` is (chains,), before clipping.
    """

    position: Position
    energy: Array
    gradient: list
    gradient_norm: Array
    step: Array


class ULAInfo(NamedTuple):
    """Where the chains are after a step; arrays are (chains,).

    Attributes:
        energy: E(x).
        gradient_norm: |grad E(x)|, before clipping.
        clipped: whether the next step clips it.
        at_bounds: the fraction of coordinates that the bounds stopped.
        beta: effective inverse temperature, 2 h / noise^2: the shape of beta, or of the step size.
    """

    energy: Array
    gradient_norm: Array
    clipped: Array
    at_bounds: Array
    beta: Array


class MALAInfo(NamedTuple):
    """Where the chains are after a step; arrays are (chains,).

    Attributes:
        energy: E(x).
        gradient_norm: |grad E(x)|, before clipping.
        clipped: whether the next proposal clips it.
        at_bounds: 1 where the proposal left the bounds (and so was refused), else 0.
        accepted: whether the proposal was accepted.
        acceptance_rate: the probability with which it was.
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
    """Chains, and how many steps they made."""

    position: Position
    step: Array


class SGLDInfo(NamedTuple):
    """How a step was made; energy and gradient at its end are not known. Arrays are (chains,).

    Attributes:
        estimate_norm: the norm of the gradient's estimate that the step followed, before clipping.
        estimate_clipped: whether that was clipped.
        at_bounds: the fraction of coordinates that the bounds stopped.
        beta: effective inverse temperature, as ``ULAInfo``.
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
    """Return the sampler of a step; its chains start, and are refreshed, by an evaluation."""
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

        x' = x - h grad E(x) + sqrt(2 h / beta) xi

    On a Gaussian of precision k its stationary variance is 1 / (beta k (1 - h k / 2)): biased
    by h, and unstable for h k >= 2. Clipped gradients change the target. Source: Roberts and
    Tweedie (1996), Exponential convergence of Langevin distributions, Bernoulli 2(4).

    Args:
        energy: E(x) -> (), one configuration in.
        step_size: h; this and the others as the module says.
        beta: inverse temperature.
        noise_sigma: standard deviation of the noise, instead of beta.
        max_gradient_norm: longest gradient.
        bounds: chains are projected into it after every step.

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
    r"""Return the stochastic-gradient Langevin sampler, for an estimate of the gradient.

        x' = x - h g(key, x) + sqrt(2 h / beta) xi,      E[g(key, x)] = grad E(x)

    The estimate's own noise adds to the temperature: h Var(g) should be well below 2 / beta.
    Source: Welling and Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics.

    Args:
        gradient: (key, x) -> an estimate of grad E at one configuration, a pytree like x
            (leaves that do not move are not read). Every chain gets the same key: one minibatch
            a step for all of them.
        step_size: h; this and the others as the module says.
        beta: inverse temperature.
        noise_sigma: standard deviation of the noise, instead of beta.
        max_gradient_norm: longest gradient.
        bounds: chains are projected into it after every step.

    Returns:
        A ``Sampler`` with ``SGLDState`` and ``SGLDInfo``. The info has no ``energy``: a gradient
        does not determine it. Compute it from the positions where you know the energy.

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
        norm = chain_norm(leaves) if leaves else jnp.zeros(())  # refused below
        position, now, clipped, at_bounds = descend(
            noise_key, state.position, leaves, norm, state.step
        )
        return SGLDState(position, state.step + 1), SGLDInfo(norm, clipped, at_bounds, now.beta)

    return Sampler(init, step, lambda state: state)


def _unadjusted(options: Options):
    """Return (key, position, gradient, norm, step) -> (position, options, clipped, at_bounds)."""
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
    """Return x - h drift + shift, in the type of x."""
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

        x' ~ q(. | x) = N(x - h grad E(x), 2 h / beta)
        accepted with probability min(1, exp(-beta [E(x') - E(x)]) q(x | x') / q(x' | x))

    Clipping changes the proposal, not the target. At beta = inf it is gradient descent that
    refuses to go uphill. A proposal of NaN energy is refused. Source: Roberts and Tweedie (1996);
    Besag (1994).

    Args:
        energy: E(x) -> (), one configuration in.
        step_size: h; this and the others as the module says.
        beta: inverse temperature.
        noise_sigma: standard deviation of the proposal, instead of beta; with one step size for
            all dimensions, or beta = 2 h / noise_sigma^2 would not be one number.
        max_gradient_norm: longest gradient.
        bounds: proposals outside are rejected, which is exact for the target restricted to them.

    Returns:
        A ``Sampler`` with ``LangevinState`` and ``MALAInfo``.

    >>> import jax, jax.numpy as jnp
    >>> sampler = mala(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> info.accepted.shape
    (5,)
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
        # Options that are not valid are not refused in silence: the chains turn NaN.
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
    """Return log [q(x' | x) / q(x | x')] / beta, without a division by the step size h.

    With s = g + g', the sum of the drifts at x and x', it is sum (h s^2 - 2 s shift) / 4.
    """
    both = [g + k for g, k in zip(drift, back, strict=True)]
    return chain_sum([h * s**2 - 2 * s * n for s, n in zip(both, shift, strict=True)]) / 4


def _log_ratio(beta: Array, uphill: Array, reverse: Array, outside: Array) -> Array:
    """Return -beta (uphill + reverse), uphill alone where beta = inf, -inf out of bounds."""
    cold = beta == jnp.inf
    log_ratio = -jnp.where(cold, 1.0, beta) * (uphill + reverse)
    log_ratio = jnp.where(cold, jnp.where(uphill <= 0, 0.0, -jnp.inf), log_ratio)
    return jnp.where(outside, -jnp.inf, log_ratio)
