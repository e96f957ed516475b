"""Schedules, step () -> value (), for any option of a sampler: temperatures and step sizes."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax.samplers._options import Schedule
from ebm_jax.types import Array


def piecewise_constant(steps_each: int, *values: ArrayLike) -> tuple[Schedule, ...]:
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

    >>> from ebm_jax import samplers
    >>> step_size, beta = piecewise_constant(100, [0.1, 0.01], [1.0, 10.0])
    >>> sampler = samplers.ula(lambda x: x**2 / 2, step_size=step_size, beta=beta)
    >>> float(beta(99)), float(beta(100)), float(beta(1000))
    (1.0, 10.0, 10.0)
    """
    arrays = tuple(_checks.array("levels", value) for value in values)
    shapes = [value.shape for value in arrays]
    if not shapes or any(len(s) != 1 or s != shapes[0] or s[0] == 0 for s in shapes):
        raise ValueError(
            "Levels must be arrays of one dimension with one value a level, of the same length "
            f"(>= 1), got the shapes {shapes}."
        )
    steps_each = _checks.count("steps_each", steps_each)
    for value in values:
        known = _checks.concrete(value)
        if known is not None:  # inf is gradient descent
            _checks.positive("levels", known[known != jnp.inf])

    def schedule(value: Array) -> Schedule:
        return lambda step: value[jnp.minimum(step // steps_each, value.shape[0] - 1)]

    return tuple(schedule(value) for value in arrays)


def geometric(start: ArrayLike, end: ArrayLike, num_steps: int) -> Schedule:
    r"""Return a schedule that goes from start to end by a constant factor a step, then stays.

        v(t) = start (end / start)^min(t / T, 1)

    With beta rising so, the chains cross between modes first and settle later: simulated
    annealing. Source: Kirkpatrick et al. (1983), Optimization by simulated annealing, Science 220.

    Args:
        start: the value at step 0, > 0 and finite.
        end: the value from step T on, > 0 and finite.
        num_steps: T >= 1.

    Returns:
        step () -> value ().

    Raises:
        ValueError: values that are not finite and > 0, num_steps < 1.

    >>> beta = geometric(0.01, 1.0, 100)
    >>> [round(float(beta(t)), 4) for t in (0, 50, 100, 1000)]
    [0.01, 0.1, 1.0, 1.0]
    """
    for name, value in (("start", start), ("end", end)):
        _checks.positive(name, value)
    num_steps = _checks.count("num_steps", num_steps)
    first, last = jnp.asarray(start), jnp.asarray(end)
    _checks.broadcastable(start=first, end=last)
    ratio = last / first
    return lambda step: first * ratio ** jnp.minimum(step / num_steps, 1.0)


def warming(step_size: ArrayLike, temperature: ArrayLike, *, onset: ArrayLike = 1.0) -> Schedule:
    r"""Return the beta of chains that descend from noise to data in unit time, then are heated.

        1/beta(s) = eps(s h),  eps(t) = 0 for t < t0, rising linearly to eps_max at t = 1, then so

    Chains of ``samplers.ula`` that start at N(0, I) follow the field that ``flow_matching`` learns
    until t0, and sample the Gibbs distribution that ``energy_matching`` makes of it after t = 1.
    Source: Balcerak et al. (2025), Energy matching, arXiv 2504.10612.

    Args:
        step_size: h > 0, the time that a step takes.
        temperature: eps_max > 0.
        onset: t0 in [0, 1]; 1 is a jump.

    Returns:
        step () -> beta (), inf before the onset.

    Raises:
        ValueError: values out of range, or several of them. TypeError: an argument that is not a
            number.

    >>> beta = warming(0.1, 0.01, onset=0.5)
    >>> [round(float(beta(s)), 4) for s in (0, 5, 10, 100)]
    [inf, inf, 100.0, 100.0]
    """
    for name, value in (("step_size", step_size), ("temperature", temperature)):
        _checks.positive(name, value)
        _checks.scalar(name, value)
    _checks.fraction("onset", onset)
    _checks.scalar("onset", onset)

    def beta(step: Array) -> Array:
        # Rounded: 10 steps of 0.1 are a whole.
        step = jnp.asarray(step).astype(jnp.float32)
        time = jnp.round(step * jnp.asarray(step_size, jnp.float32), 5)
        rest = 1 - jnp.asarray(onset, jnp.float32)
        risen = jnp.where(
            rest > 0, (time - onset) / jnp.where(rest > 0, rest, 1), (time >= 1).astype(time.dtype)
        )
        return 1 / (jnp.asarray(temperature) * jnp.clip(risen, 0, 1))

    return beta
