r"""Underdamped Langevin dynamics: chains with a velocity, by the BAOAB splitting.

    dx = v dt,    m dv = -grad E(x) dt - friction m v dt + sqrt(2 friction m / beta) dW

The stationary distribution is exp(-beta [E(x) + m |v|^2 / 2]), so that of x is exp(-beta E).
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.samplers import _options
from ebm_jax.samplers._batch import (
    check_chains,
    partition,
    standard_normal,
    value_and_gradient,
)
from ebm_jax.types import Array, Energy, Key, Position, Sampler


class UnderdampedState(NamedTuple):
    """Chains, their velocities, energy and (clipped) gradient, and the step count.

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
    """What happened in a step; arrays are (chains,).

    Attributes:
        energy: E(x) after the step.
        gradient_norm: |grad E| there, before clipping.
        clipped: whether that gradient was clipped.
        at_box: the fraction of coordinates that the box stopped in this step.
        beta: inverse temperature, ().
    """

    energy: Array
    gradient_norm: Array
    clipped: Array
    at_box: Array
    beta: Array


def baoab(
    energy: Energy,
    *,
    step_size,
    friction,
    mass=1.0,
    beta=None,
    max_gradient_norm=None,
    box=None,
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
        step_size: h > 0, a time, x sqrt(m / energy): a scalar, or a schedule: step () -> ().
        friction: >= 0, in 1 / time.
        mass: m > 0, a scalar or an array per dimension (broadcasting to one configuration):
            a diagonal preconditioner.
        beta: inverse temperature > 0, 1 if not given; inf has no noise; or a schedule.
        max_gradient_norm: a chain's longer gradients are scaled to this norm.
        box: (low, high): coordinates outside are projected back and lose their velocity.

    Returns:
        A ``Sampler`` with ``UnderdampedState`` and ``UnderdampedInfo``; chains start at rest.

    Raises:
        ValueError: step_size, mass or beta <= 0 or NaN, friction < 0, a step size that is no
            scalar, an empty box, positions without a common leading axis, an energy that is
            not scalar.

    >>> import jax, jax.numpy as jnp
    >>> sampler = baoab(lambda x: jnp.sum(x**2) / 2, step_size=0.5, friction=1.0)
    >>> state, info = sampler.step(jax.random.key(0), sampler.init(jnp.zeros((5, 2))))
    >>> state.position.shape, info.energy.shape
    ((5, 2), (5,))
    """
    _options.check(step_size, beta, None, max_gradient_norm, box)
    _checks.nonnegative("friction", friction)
    _checks.positive("mass", mass)
    kernel = _options.kernel(step_size, beta, None)

    def evaluate(position: Position) -> tuple[Array, list, Array]:
        value, gradient = value_and_gradient(energy, position)
        drift, norm, _ = _options.clip(gradient, max_gradient_norm)
        return value, drift, norm

    def init(position: Position) -> UnderdampedState:
        check_chains(position)
        position = jax.tree.map(jnp.asarray, position)
        rest = [jnp.zeros_like(x) for x in partition(position)[0]]
        return UnderdampedState(position, rest, *evaluate(position), jnp.zeros((), jnp.int32))

    def step(key: Key, state: UnderdampedState) -> tuple[UnderdampedState, UnderdampedInfo]:
        moving, fixed, merge = partition(state.position)
        h, _, b = kernel(state.step)
        if h.ndim:
            raise ValueError(f"step_size must be a scalar, give mass instead: got {h.shape}.")
        m = jnp.asarray(mass)
        _options.fits("mass", m, moving)
        cold = b == jnp.inf
        unit = jax.lax.rsqrt(jnp.where(cold, 1.0, b) * m)  # one thermal velocity
        keep = jnp.exp(-friction * h)
        fresh = jnp.where(cold, 0.0, jnp.sqrt(-jnp.expm1(-2 * friction * h)))

        def kick(u: list, gradient: list) -> list:
            return [v - (h / 2) * g / (m * unit) for v, g in zip(u, gradient, strict=True)]

        def drift(x: list, u: list) -> list:
            return [y + (h / 2) * unit * v for y, v in zip(x, u, strict=True)]

        u = kick(state.velocity, state.gradient)
        x = drift(moving, u)
        u = [keep * v + fresh * xi for v, xi in zip(u, standard_normal(key, moving), strict=True)]
        x = [y.astype(x0.dtype) for y, x0 in zip(drift(x, u), moving, strict=True)]
        at_box = jnp.zeros(state.energy.shape)
        if box is not None:
            free = x
            x, at_box = _options.project(free, box)
            u = [jnp.where(y == z, v, 0.0) for y, z, v in zip(x, free, u, strict=True)]
        position = merge(x, fixed)
        value, gradient, norm = evaluate(position)
        u = [v.astype(y.dtype) for v, y in zip(kick(u, gradient), x, strict=True)]
        limit = jnp.inf if max_gradient_norm is None else max_gradient_norm
        info = UnderdampedInfo(value, norm, norm > limit, at_box, b)
        return UnderdampedState(position, u, value, gradient, norm, state.step + 1), info

    return Sampler(init, step)
