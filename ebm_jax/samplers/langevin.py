r"""Langevin dynamics over a batch of chains: ULA, SGLD and Metropolis-adjusted (MALA).

    x' = x - h grad E(x) + sqrt(2 h / beta) xi,      xi ~ N(0, I)

The chains lie on the leading axis of every leaf; the energy takes one of them. Floating leaves
move; integer leaves, such as the class a chain belongs to, stay as they are. All target
exp(-beta E): MALA exactly, ULA and SGLD up to a bias of the order of h. beta = inf is gradient
descent. A step size per dimension is a diagonal preconditioner. When step and noise are chosen
separately, as image models do, the target is the one of beta = 2 h / noise^2, and that effective
beta is reported in every step's info.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.samplers import _options
from ebm_jax.samplers._batch import (
    chain_sum,
    check_chains,
    partition,
    per_chain,
    standard_normal,
    value_and_gradient,
)
from ebm_jax.types import Array, Energy, Key, Position, Sampler


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


class SGLDInfo(NamedTuple):
    """What happened in a step; as ``ULAInfo``, of the estimated gradient, without an energy."""

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
    descend = _unadjusted(step_size, beta, noise_scale, max_gradient_norm, box)

    def step(key: Key, state: ULAState) -> tuple[ULAState, ULAInfo]:
        value, gradient = value_and_gradient(energy, state.position)
        state, what = descend(key, state, gradient)
        return state, ULAInfo(value, *what)

    return Sampler(_start, step)


def sgld(
    gradient: Callable[[Key, Position], Position],
    *,
    step_size,
    beta=None,
    noise_scale=None,
    max_gradient_norm=None,
    box=None,
) -> Sampler:
    r"""Return the stochastic-gradient Langevin sampler, for an estimate of the gradient.

        x' = x - h g(key, x) + sqrt(2 h / beta) xi,      E[g(key, x)] = grad E(x)

    The estimate's own noise adds to the temperature: h Var(g) should be well below 2 / beta.
    Source: Welling and Teh (2011), Bayesian learning via stochastic gradient Langevin dynamics.

    Args:
        gradient: (key, x) -> an estimate of grad E at one configuration, a pytree like x
            (integer leaves of it are not read). Every chain gets the same key: one minibatch a
            step for all of them.
        step_size: h > 0, as in ``ula``.
        beta: inverse temperature > 0, 1 if not given; inf is stochastic gradient descent.
        noise_scale: standard deviation >= 0 of the noise, instead of beta.
        max_gradient_norm: a chain's longer gradients are scaled to this norm.
        box: (low, high): chains are projected into it after every step.

    Returns:
        A ``Sampler`` with ``ULAState`` and ``SGLDInfo``.

    Raises:
        ValueError: as ``ula``; a gradient that is not shaped like the configuration.

    >>> import jax, jax.numpy as jnp
    >>> data = jnp.array([1.0, 2.0, 3.0, 4.0])
    >>> def gradient(key, x):  # of sum_i (x - data_i)^2 / 2, from two of the four
    ...     return 4 * jnp.mean(x - jax.random.choice(key, data, (2,), replace=False))
    >>> sampler = sgld(gradient, step_size=0.01)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros(100)))
    >>> state.position.shape
    (100,)
    """
    descend = _unadjusted(step_size, beta, noise_scale, max_gradient_norm, box)

    def step(key: Key, state: ULAState) -> tuple[ULAState, SGLDInfo]:
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
        state, what = descend(noise_key, state, leaves)
        return state, SGLDInfo(*what)

    return Sampler(_start, step)


def _start(position: Position) -> ULAState:
    check_chains(position)
    return ULAState(jax.tree.map(jnp.asarray, position), jnp.zeros((), jnp.int32))


def _unadjusted(step_size, beta, noise_scale, max_gradient_norm, box):
    """Return (key, state, gradient) -> (state, (norm, clipped, at_box, beta)), checked."""
    _options.check(step_size, beta, noise_scale, max_gradient_norm, box)
    kernel = _options.kernel(step_size, beta, noise_scale)
    silent = _options.noiseless(beta, noise_scale)

    def descend(key: Key, state: ULAState, gradient: list) -> tuple[ULAState, tuple]:
        moving, fixed, merge = partition(state.position)
        drift, norm, clipped = _options.clip(gradient, max_gradient_norm)
        h, scale, effective_beta = kernel(state.step)
        _options.fits("step_size", h, moving)
        moved = _move(moving, drift, h, None if silent else _shift(key, moving, scale))
        at_box = jnp.zeros(norm.shape)
        if box is not None:
            moved, at_box = _options.project(moved, box)
        state = ULAState(merge(moved, fixed), state.step + 1)
        return state, (norm, clipped, at_box, effective_beta)

    return descend


def _move(moving: list, drift: list, h: Array, shift: list | None) -> list:
    """Return x - h drift + shift, in the type of x."""
    shift = [jnp.zeros((), x.dtype) for x in moving] if shift is None else shift
    steps = zip(moving, drift, shift, strict=True)
    return [(x - h * g + n).astype(x.dtype) for x, g, n in steps]


def _shift(key: Key, moving: list, scale: Array) -> list:
    """Return scale xi, one flat draw for all chains."""
    return [scale * xi for xi in standard_normal(key, moving)]


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
    _options.check(step_size, beta, noise_scale, max_gradient_norm, box)
    if noise_scale is not None and not callable(step_size) and jnp.ndim(step_size) > 0:
        raise ValueError(
            "noise_scale needs a scalar step_size in MALA (one effective beta for every "
            f"dimension), got a step_size of shape {jnp.shape(step_size)}: give beta instead."
        )
    kernel = _options.kernel(step_size, beta, noise_scale)

    def evaluate(position: Position) -> tuple[Array, list, Array]:
        value, gradient = value_and_gradient(energy, position)
        drift, norm, _ = _options.clip(gradient, max_gradient_norm)
        return value, drift, norm

    def init(position: Position) -> MALAState:
        check_chains(position)
        position = jax.tree.map(jnp.asarray, position)
        return MALAState(position, *evaluate(position), jnp.zeros((), jnp.int32))

    def step(key: Key, state: MALAState) -> tuple[MALAState, MALAInfo]:
        noise_key, accept_key = jax.random.split(key)
        moving, fixed, merge = partition(state.position)
        h, scale, b = kernel(state.step)
        _options.fits("step_size", h, moving)
        shift = _shift(noise_key, moving, scale)
        moved = _move(moving, state.gradient, h, shift)
        outside = jnp.zeros(state.energy.shape) if box is None else _options.project(moved, box)[1]
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


def levels(steps_each: int, *values) -> tuple[Callable[[Array], Array], ...]:
    r"""Return schedules that stay ``steps_each`` steps at each value, and at the last for ever.

    Annealed Langevin dynamics is a sampler with such a schedule of step size and temperature;
    any other function of the step, an optax schedule say, will do as well.
    Source: Song and Ermon (2019), Generative modeling by estimating gradients of the data
    distribution, algorithm 1.

    Args:
        steps_each: steps at every level, >= 1.
        values: arrays of one value > 0 a level, all of the same length.

    Returns:
        One schedule, step () -> value (), for each of the arrays.

    Raises:
        ValueError: steps_each < 1, no level, levels <= 0 or NaN, arrays of different lengths.

    >>> step_size, beta = levels(100, [0.1, 0.01], [1.0, 10.0])
    >>> sampler = ula(lambda x: x**2 / 2, step_size=step_size, beta=beta)
    >>> float(beta(99)), float(beta(100)), float(beta(1000))
    (1.0, 10.0, 10.0)
    """
    values = tuple(jnp.asarray(value) for value in values)
    shapes = [value.shape for value in values]
    if not shapes or any(len(s) != 1 or s != shapes[0] or s[0] == 0 for s in shapes):
        raise ValueError(
            "Levels must be arrays of one dimension with one value a level, of the same length "
            f"(>= 1), got the shapes {shapes}."
        )
    if steps_each < 1:
        raise ValueError(f"steps_each must be at least 1, got {steps_each}.")
    for value in values:
        known = _checks.concrete(value)
        if known is not None:  # inf is gradient descent
            _checks.positive("levels", known[known != jnp.inf])

    def schedule(value: Array) -> Callable[[Array], Array]:
        return lambda step: value[jnp.minimum(step // steps_each, value.shape[0] - 1)]

    return tuple(schedule(value) for value in values)
