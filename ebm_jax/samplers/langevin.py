r"""Langevin dynamics over a batch of chains: unadjusted (ULA) and Metropolis-adjusted (MALA).

    x' = x - h grad E(x) + sqrt(2 h / beta) xi,      xi ~ N(0, I)

The chains lie on the leading axis of every leaf; the energy takes one of them. Floating leaves
move; integer leaves, such as the class a chain belongs to, stay as they are. Both samplers
target exp(-beta E): MALA exactly, ULA up to a bias of the order of h. beta = inf is gradient
descent. When step and noise are chosen separately, as image models do, the target is the one
of beta = 2 h / noise^2, and that effective beta is reported in every step's info.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.samplers._batch import (
    chain_sum,
    check_chains,
    partition,
    per_chain,
    standard_normal,
    value_and_gradient,
)
from ebm_jax.types import Array, Energy, Key, Position, Sampler

Schedule = Callable[[Array], Array]


class ULAState(NamedTuple):
    """Chains, and how many steps they have made (schedules read it)."""

    position: Position
    step: Array


class ULAInfo(NamedTuple):
    """What happened in a step; arrays (chains,) describe the position the step started from.

    Attributes:
        energy: E(x).
        gradient_norm: |grad E(x)|, before clipping.
        clipped: whether the gradient was clipped.
        at_box: the fraction of coordinates that the box stopped in this step.
        beta: effective inverse temperature, 2 h / noise^2; the shape of the step size.
    """

    energy: Array
    gradient_norm: Array
    clipped: Array
    at_box: Array
    beta: Array


class MALAState(NamedTuple):
    """Chains, their energy and (clipped) gradient, which a step needs again, and the step count."""

    position: Position
    energy: Array
    gradient: list
    gradient_norm: Array
    step: Array


class MALAInfo(NamedTuple):
    """What happened in a step; arrays are (chains,).

    Attributes:
        energy: E(x) after the step.
        gradient_norm: |grad E| where the step started, before clipping.
        clipped: whether that gradient was clipped.
        at_box: 1 where the proposal left the box (and so was refused), else 0.
        accepted: whether the proposal was accepted.
        acceptance: the probability with which it was.
        beta: inverse temperature of the target, ().
    """

    energy: Array
    gradient_norm: Array
    clipped: Array
    at_box: Array
    accepted: Array
    acceptance: Array
    beta: Array


def _at(value, step: Array):
    """Return a schedule's value at a step, or the constant itself."""
    return value(step) if callable(value) else value


def _clip(gradient: list, limit) -> tuple[list, Array, Array]:
    """Scale every chain's gradient to norm <= limit; return it, the norms, what was clipped."""
    norm = jnp.sqrt(chain_sum([jnp.square(g) for g in gradient]))
    if limit is None:
        return gradient, norm, jnp.zeros(norm.shape, bool)
    clipped = norm > limit
    # where, not minimum(1, limit / norm): a small gradient keeps every bit.
    factor = jnp.where(clipped, limit / jnp.where(clipped, norm, 1.0), 1.0)
    return [g * per_chain(factor, g).astype(g.dtype) for g in gradient], norm, clipped


def _check_options(step_size, beta, noise_scale, max_gradient_norm, box) -> None:
    if not callable(step_size):
        _checks.positive("step_size", step_size)
    if beta is not None and noise_scale is not None:
        raise ValueError(
            f"Give beta ({beta}) or noise_scale ({noise_scale}), not both: noise_scale sets the "
            "effective beta = 2 step_size / noise_scale^2."
        )
    if beta is not None and not callable(beta):
        known = _checks.concrete(beta)
        if known is not None and not (known > 0).all():
            raise ValueError(
                f"beta must be > 0 (inf is gradient descent), got {known}: "
                "at beta = 0 the noise would be infinite."
            )
    if noise_scale is not None and not callable(noise_scale):
        _checks.nonnegative("noise_scale", noise_scale)
    if max_gradient_norm is not None:
        _checks.positive("max_gradient_norm", max_gradient_norm)
    if box is not None:
        low, high = (_checks.concrete(side) for side in box)
        if low is not None and high is not None and not (low < high).all():
            raise ValueError(f"box must be (low, high) with low < high, got ({low}, {high}).")


def _kernel(step_size, beta, noise_scale):
    """Return step -> (h, noise standard deviation, effective beta), as arrays."""

    def at(step: Array) -> tuple[Array, Array, Array]:
        h = jnp.asarray(_at(step_size, step))
        if noise_scale is None:
            b = jnp.asarray(1.0 if beta is None else _at(beta, step))
            return h, jnp.sqrt(2 * h / b), b
        noise = jnp.asarray(_at(noise_scale, step))
        return h, noise, 2 * h / jnp.square(noise)

    return at


def _noiseless(beta, noise_scale) -> bool:
    """Whether the noise is known to be zero before anything runs."""
    value, zero = (beta, jnp.inf) if noise_scale is None else (noise_scale, 0.0)
    if value is None or callable(value):
        return False
    known = _checks.concrete(value)
    return known is not None and bool((known == zero).all())


def ula(
    energy: Energy,
    *,
    step_size,
    beta=None,
    noise_scale=None,
    max_gradient_norm=None,
    box=None,
) -> Sampler:
    r"""Return the unadjusted Langevin sampler.

        x' = x - h grad E(x) + sqrt(2 h / beta) xi

    On a Gaussian of precision k its stationary variance is 1 / (beta k (1 - h k / 2)): biased
    by h, and unstable for h k >= 2. Source: Roberts and Tweedie (1996), Exponential
    convergence of Langevin distributions, Bernoulli 2(4).

    Args:
        energy: E(x) -> (), one configuration in.
        step_size: h > 0, in x^2 / energy: a scalar, an array per dimension (broadcasting to
            one configuration), or a schedule: step () -> either.
        beta: inverse temperature > 0, 1 if not given; inf is gradient descent; or a schedule.
        noise_scale: standard deviation >= 0 of the noise in units of x, instead of beta;
            or a schedule. The effective beta is 2 h / noise^2.
        max_gradient_norm: a chain's longer gradients are scaled to this norm, the others left
            as they are. The target is then only approximately exp(-beta E).
        box: (low, high), scalars or arrays of one configuration: chains are projected into it
            after every step.

    Returns:
        A ``Sampler`` with ``ULAState`` and ``ULAInfo``.

    Raises:
        ValueError: step_size <= 0 or NaN, beta <= 0, both beta and noise_scale, an empty box,
            positions without a common leading axis, an energy that is not scalar.

    >>> import jax, jax.numpy as jnp
    >>> sampler = ula(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> state.position.shape, float(info.beta)
    ((5, 2), 1.0)
    """
    _check_options(step_size, beta, noise_scale, max_gradient_norm, box)
    kernel = _kernel(step_size, beta, noise_scale)
    silent = _noiseless(beta, noise_scale)

    def init(position: Position) -> ULAState:
        check_chains(position)
        return ULAState(jax.tree.map(jnp.asarray, position), jnp.zeros((), jnp.int32))

    def step(key: Key, state: ULAState) -> tuple[ULAState, ULAInfo]:
        value, gradient = value_and_gradient(energy, state.position)
        moving, fixed, merge = partition(state.position)
        drift, norm, clipped = _clip(gradient, max_gradient_norm)
        h, scale, effective_beta = kernel(state.step)
        moved = _move(moving, drift, h, None if silent else _shift(key, moving, scale))
        moved, at_box = (moved, jnp.zeros(norm.shape)) if box is None else _project(moved, box)
        info = ULAInfo(value, norm, clipped, at_box, effective_beta)
        return ULAState(merge(moved, fixed), state.step + 1), info

    return Sampler(init, step)


def _move(moving: list, drift: list, h: Array, shift: list | None) -> list:
    """Return x - h drift + shift, in the type of x."""
    shift = [jnp.zeros((), x.dtype) for x in moving] if shift is None else shift
    steps = zip(moving, drift, shift, strict=True)
    return [(x - h * g + n).astype(x.dtype) for x, g, n in steps]


def _shift(key: Key, moving: list, scale: Array) -> list:
    """Return scale xi, one flat draw for all chains."""
    return [scale * xi for xi in standard_normal(key, moving)]


def _project(moving: list, box) -> tuple[list, Array]:
    """Return the positions clipped to the box, and the fraction of each chain's clipped."""
    inside = [jnp.clip(x, *box) for x in moving]
    stopped = [(x != y).astype(jnp.float32) for x, y in zip(moving, inside, strict=True)]
    return inside, chain_sum(stopped) / sum(x[0].size for x in moving)


def mala(
    energy: Energy,
    *,
    step_size,
    beta=None,
    noise_scale=None,
    max_gradient_norm=None,
    box=None,
) -> Sampler:
    r"""Return the Metropolis-adjusted Langevin sampler, exact for exp(-beta E).

        x' ~ q(. | x) = N(x - h grad E(x), 2 h / beta)
        accepted with probability min(1, exp(-beta [E(x') - E(x)]) q(x | x') / q(x' | x))

    A step size per dimension is a diagonal preconditioner; clipping changes the proposal, not
    the target. At beta = inf it is gradient descent that refuses to go uphill. A proposal of
    NaN energy is refused. Source: Roberts and Tweedie (1996); Besag (1994).

    Args:
        energy: E(x) -> (), one configuration in.
        step_size: h > 0, in x^2 / energy: a scalar, an array per dimension (broadcasting to
            one configuration), or a schedule: step () -> either.
        beta: inverse temperature > 0, 1 if not given; or a schedule.
        noise_scale: standard deviation >= 0 of the proposal, instead of beta, with a scalar
            step size: the target is the one of beta = 2 h / noise^2.
        max_gradient_norm: a chain's longer gradients are scaled to this norm in the proposal.
        box: (low, high), scalars or arrays of one configuration: proposals outside are
            refused, which is exact for the target restricted to the box.

    Returns:
        A ``Sampler`` with ``MALAState`` and ``MALAInfo``.

    Raises:
        ValueError: step_size <= 0 or NaN, beta <= 0, both beta and noise_scale, noise_scale
            with a step size that is not a scalar, an empty box, positions without a common
            leading axis, an energy that is not scalar.

    >>> import jax, jax.numpy as jnp
    >>> sampler = mala(lambda x: jnp.sum(x**2) / 2, step_size=0.1)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> info.accepted.shape
    (5,)
    """
    _check_options(step_size, beta, noise_scale, max_gradient_norm, box)
    if noise_scale is not None and not callable(step_size) and jnp.ndim(step_size) > 0:
        raise ValueError(
            "noise_scale needs a scalar step_size in MALA (one effective beta for every "
            f"dimension), got a step_size of shape {jnp.shape(step_size)}: give beta instead."
        )
    kernel = _kernel(step_size, beta, noise_scale)

    def evaluate(position: Position) -> tuple[Array, list, Array]:
        value, gradient = value_and_gradient(energy, position)
        drift, norm, _ = _clip(gradient, max_gradient_norm)
        return value, drift, norm

    def init(position: Position) -> MALAState:
        check_chains(position)
        position = jax.tree.map(jnp.asarray, position)
        return MALAState(position, *evaluate(position), jnp.zeros((), jnp.int32))

    def step(key: Key, state: MALAState) -> tuple[MALAState, MALAInfo]:
        noise_key, accept_key = jax.random.split(key)
        moving, fixed, merge = partition(state.position)
        h, scale, b = kernel(state.step)
        shift = _shift(noise_key, moving, scale)
        moved = _move(moving, state.gradient, h, shift)
        outside = jnp.zeros(state.energy.shape) if box is None else _project(moved, box)[1]
        proposal = merge(moved, fixed)
        proposed = evaluate(proposal)
        # With s = g + g', log q(x|x')/q(x'|x) = -beta/4 sum (h s^2 - 2 s shift): no division by h.
        both = [g + k for g, k in zip(state.gradient, proposed[1], strict=True)]
        reverse = chain_sum([h * s**2 - 2 * s * n for s, n in zip(both, shift, strict=True)])
        acceptance = _acceptance(b, proposed[0] - state.energy, reverse / 4, outside > 0)
        accepted = jax.random.uniform(accept_key, acceptance.shape) < acceptance
        new = MALAState(proposal, *proposed, state.step)
        kept = jax.tree.map(
            lambda a, c: jnp.where(per_chain(accepted, a), a, c), new[:4], state[:4]
        )
        info = MALAInfo(
            energy=kept[1],
            gradient_norm=state.gradient_norm,
            clipped=state.gradient_norm
            > (jnp.inf if max_gradient_norm is None else max_gradient_norm),
            at_box=(outside > 0).astype(jnp.float32),
            accepted=accepted,
            acceptance=acceptance,
            beta=b,
        )
        return MALAState(*kept, step=state.step + 1), info

    return Sampler(init, step)


def _acceptance(beta: Array, uphill: Array, reverse: Array, outside: Array) -> Array:
    """Return min(1, exp(-beta (uphill + reverse))): 0 for NaN, and uphill only where beta = inf."""
    cold = beta == jnp.inf
    log_ratio = -jnp.where(cold, 1.0, beta) * (uphill + reverse)
    log_ratio = jnp.where(cold, jnp.where(uphill <= 0, 0.0, -jnp.inf), log_ratio)
    log_ratio = jnp.where(outside | jnp.isnan(log_ratio), -jnp.inf, log_ratio)
    return jnp.exp(jnp.minimum(log_ratio, 0.0))
