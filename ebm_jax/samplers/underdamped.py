r"""Underdamped Langevin dynamics: chains with a velocity, by the BAOAB splitting.

.. math:: dx = v \, dt, \qquad m \, dv = -\nabla E(x) \, dt - \gamma m v \, dt
    + \sqrt{2 \gamma m / \beta} \, dW

with the friction :math:`\gamma`. The stationary distribution is
:math:`\exp(-\beta [E(x) + m \lVert v \rVert^2 / 2])`, so x has :math:`\exp(-\beta E)`.
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
    r"""The chains, their velocities, energies and gradients, and the step count.

    ``velocity`` has one array per moving leaf, in thermal units: :math:`v \sqrt{\beta m}`, standard
    normal at equilibrium for any temperature. (At beta = inf it is :math:`v \sqrt{m}`.)
    """

    position: Position
    velocity: list
    energy: Array
    gradient: list
    gradient_norm: Array
    step: Array


class UnderdampedInfo(NamedTuple):
    r"""The chains after a step; arrays are (chains,).

    Attributes:
        energy: E(x).
        gradient_norm: :math:`\lVert \nabla E(x) \rVert`, before clipping.
        clipped: whether that gradient was clipped.
        at_bounds: fraction of coordinates that were projected to the bounds.
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
    r"""Return the underdamped Langevin sampler with the BAOAB splitting.

    A step makes the updates B, A, O, A, B (kick, drift, friction, drift, kick):

    .. math:: \text{B: } v &\leftarrow v - \frac{h}{2m} \nabla E(x), \qquad
        \text{A: } x \leftarrow x + \frac{h}{2} v \\
        \text{O: } v &\leftarrow c v + \sqrt{(1 - c^2) / (\beta m)} \, \xi, \qquad
        c = \exp(-\gamma h)

    with the friction :math:`\gamma`. The bias of x is of order :math:`h^2`, and zero on a Gaussian.
    Without friction it is velocity Verlet. A step takes one gradient, as in ULA. Here h is a time:
    at high friction the corresponding step size of ULA is :math:`h^2 / (2 m)`. Source: Leimkuhler
    and Matthews (2013), Rational construction of stochastic numerical methods for molecular
    sampling, Applied Mathematics Research eXpress 2013(1).

    Args:
        energy: function x -> () of one configuration.
        step_size: h > 0, one number: a time, in units of x sqrt(m / energy). All options may be
            schedules, step () -> value, as in ``samplers.langevin``.
        friction: :math:`\gamma \ge 0`, in 1 / time, one number.
        mass: m > 0: a number, or an array that broadcasts to one configuration, which is a diagonal
            preconditioner.
        beta: inverse temperature > 0, 1 by default: one number, or one per chain; inf has no noise.
        max_gradient_norm: longer gradients of a chain are scaled to this norm.
        bounds: (low, high): coordinates outside are projected to this box and lose their velocity.

    Returns:
        A ``Sampler`` with ``UnderdampedState`` and ``UnderdampedInfo``; initial velocities are
        zero.

    Raises:
        ValueError: if step_size, mass or beta is not > 0, friction < 0, step_size is not a scalar,
            or bounds are empty; for positions and energies as in ``samplers.langevin``.

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
    """The three updates of a step, on lists of arrays.

    Velocities u are in thermal units, x are positions.
    """

    kick: Callable[[list, list], list]  # B: (u, gradient) -> u
    drift: Callable[[list, list], list]  # A: (x, u) -> x
    mix: Callable[[list, list], list]  # O: (u, xi) -> u


def _motion(now: _options.Now, friction, mass, step: Array, moving: list) -> _Motion:
    """Return the updates with the options of one step."""
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

    # The thermal velocity, 1 / sqrt(beta m).
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
