r"""Underdamped Langevin dynamics: chains with a velocity, by the BAOAB splitting.

    dx = v dt,    m dv = -grad E(x) dt - friction m v dt + sqrt(2 friction m / beta) dW

The stationary distribution is exp(-beta [E(x) + m |v|^2 / 2]), so that of x is exp(-beta E).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_norm, check_chains, partition, per_chain, value_and_gradient
from ebm_jax.samplers import _options
from ebm_jax.samplers._options import Options, longer
from ebm_jax.samplers.langevin import Option
from ebm_jax.types import Array, Energy, Key, Position, Sampler


class UnderdampedState(NamedTuple):
    """Chains, their velocities, energy and gradient, and the step count.

    ``velocity`` has one array per moving leaf, in thermal units, v sqrt(beta m): a standard
    normal at equilibrium, whatever the temperature. (At beta = inf it is v sqrt(m).)
    """

    position: Position
    velocity: list
    energy: Array
    gradient: list
    gradient_norm: Array
    step: Array


class UnderdampedInfo(NamedTuple):
    """Where the chains are after a step; arrays are (chains,).

    Attributes:
        energy: E(x).
        gradient_norm: |grad E(x)|, before clipping.
        clipped: whether that gradient was clipped.
        at_bounds: the fraction of coordinates that the bounds stopped.
        beta: inverse temperature, () or (chains,).
    """

    energy: Array
    gradient_norm: Array
    clipped: Array
    at_bounds: Array
    beta: Array


def baoab(
    energy: Energy,
    *,
    step_size: Option,
    friction: Option,
    mass: Option = 1.0,
    beta: Option | None = None,
    max_gradient_norm: Option | None = None,
    bounds: tuple[Option, Option] | None = None,
) -> Sampler:
    r"""Return the underdamped Langevin sampler in the order kick, drift, friction, drift, kick.

        B: v <- v - (h / 2m) grad E(x)      A: x <- x + (h / 2) v
        O: v <- c v + sqrt((1 - c^2) / (beta m)) xi,    c = exp(-friction h);   then A, then B

    The bias of x is of the order h^2, and nil on a Gaussian. At ``friction=0`` it is velocity
    Verlet. One gradient a step, as ULA; h here is a time: ULA's is h^2 / 2 at high friction.
    Source: Leimkuhler and Matthews (2013), Rational construction of stochastic numerical
    methods for molecular sampling, Applied Mathematics Research eXpress 2013(1).

    Args:
        energy: E(x) -> (), one configuration in.
        step_size: h > 0, a time, x sqrt(m / energy): one number; like all of these it may be a
            schedule, step () -> value, as ``langevin`` says.
        friction: >= 0, in 1 / time, one number.
        mass: m > 0, a number or an array per dimension (broadcasting to one configuration):
            a diagonal preconditioner.
        beta: inverse temperature > 0, 1 if not given; inf has no noise; or one a chain.
        max_gradient_norm: a chain's longer gradients are scaled to this norm.
        bounds: (low, high): coordinates outside are projected back and lose their velocity.

    Returns:
        A ``Sampler`` with ``UnderdampedState`` and ``UnderdampedInfo``; chains start at rest.

    Raises:
        ValueError: step_size, mass or beta <= 0 or NaN, friction < 0, a step size that is not
            a scalar, an empty bounds, positions without a common leading axis, an energy that is
            not a scalar.

    >>> import jax, jax.numpy as jnp
    >>> sampler = baoab(lambda x: jnp.sum(x**2) / 2, step_size=0.5, friction=1.0)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> state.position.shape, info.energy.shape
    ((5, 2), (5,))
    """
    _checks.function("energy", energy)
    options = Options(step_size, beta, None, max_gradient_norm, bounds)
    _options.check_all(options)
    _options.check("friction", friction)
    _options.check("mass", mass)

    def evaluate(position: Position) -> tuple[Array, list, Array]:
        value, gradient = value_and_gradient(energy, position)
        return value, gradient, chain_norm(gradient)

    def init(position: Position) -> UnderdampedState:
        check_chains(position)
        position = jax.tree.map(jnp.asarray, position)
        rest = [jnp.zeros_like(x) for x in partition(position)[0]]
        return UnderdampedState(position, rest, *evaluate(position), jnp.zeros((), jnp.int32))

    def refresh(state: UnderdampedState) -> UnderdampedState:
        value, gradient, norm = evaluate(state.position)
        return state._replace(energy=value, gradient=gradient, gradient_norm=norm)

    def step(key: Key, state: UnderdampedState) -> tuple[UnderdampedState, UnderdampedInfo]:
        _checks.one_key(key)
        moving, fixed, merge = partition(state.position)
        now = _options.now(options, state.step, moving)
        motion = _motion(now, friction, mass, state.step, moving)
        limit = now.max_gradient_norm
        drift, _ = _options.clip(state.gradient, state.gradient_norm, limit)
        u = motion.kick(state.velocity, drift)
        x = motion.drift(moving, u)
        u = motion.mix(u, standard_normal(key, moving))
        x = [y.astype(x0.dtype) for y, x0 in zip(motion.drift(x, u), moving, strict=True)]
        at_bounds = jnp.zeros(state.energy.shape)
        if now.bounds is not None:
            free = x
            x, at_bounds = _options.project(free, now.bounds)
            u = [jnp.where(y == z, v, 0.0) for y, z, v in zip(x, free, u, strict=True)]
        position = merge(x, fixed)
        value, gradient, norm = evaluate(position)
        u = motion.kick(u, _options.clip(gradient, norm, limit)[0])
        u = [v.astype(y.dtype) for v, y in zip(u, x, strict=True)]
        info = UnderdampedInfo(value, norm, longer(norm, limit), at_bounds, now.beta)
        return UnderdampedState(position, u, value, gradient, norm, state.step + 1), info

    return Sampler(init, step, refresh)


class _Motion(NamedTuple):
    """The three maps of a step, of lists of arrays: velocities u in thermal units, positions x."""

    kick: Callable[[list, list], list]  # B: (u, gradient) -> u
    drift: Callable[[list, list], list]  # A: (x, u) -> x
    mix: Callable[[list, list], list]  # O: (u, xi) -> u


def _motion(now: _options.Now, friction, mass, step: Array, moving: list) -> _Motion:
    """Return the maps at the options of one step."""
    h = now.step_size
    if h.ndim:
        raise ValueError(f"step_size must be one number, give mass instead: got {h.shape}.")
    friction = _options.scalar("friction", friction, step)
    m = _options.configuration("mass", mass, step, moving)
    fine = _options.valid("friction", friction) & _options.valid("mass", m)
    h = jnp.where(fine, h, jnp.nan)
    cold = now.beta == jnp.inf
    warm = jnp.where(cold, 1.0, now.beta)
    keep, fresh = jnp.exp(-friction * h), jnp.sqrt(-jnp.expm1(-2 * friction * h))
    fresh = jnp.where(cold, 0.0, fresh)

    def each(value: Array, leaf: Array) -> Array:
        return per_chain(value, leaf) if value.ndim else value

    # One thermal velocity, 1 / sqrt(beta m).
    units = [jax.lax.rsqrt(each(warm, leaf) * m) for leaf in moving]
    half = h / 2

    def kick(u: list, gradient: list) -> list:
        terms = zip(u, gradient, units, strict=True)
        return [v - half * g / (m * unit) for v, g, unit in terms]

    def drift(x: list, u: list) -> list:
        return [y + half * unit * v for y, v, unit in zip(x, u, units, strict=True)]

    def mix(u: list, xi: list) -> list:
        return [keep * v + each(fresh, v) * noise for v, noise in zip(u, xi, strict=True)]

    return _Motion(kick, drift, mix)
