"""Schedules of sampler options: functions from the step number to a value."""

import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax.samplers._options import Schedule
from ebm_jax.types import Array


def piecewise_constant(steps_each: int, *values: ArrayLike) -> tuple[Schedule, ...]:
    """Return schedules that keep each value for ``steps_each`` steps.

    Each schedule then keeps its last value. A sampler with such schedules of step size and
    temperature is annealed Langevin dynamics. Any other function of the step, such as an optax
    schedule, is a schedule too. Source: Song and Ermon (2019), Generative modeling by estimating
    gradients of the data distribution, algorithm 1.

    Args:
        steps_each: number of steps at every value, >= 1.
        values: vectors of equal length with the values > 0 of each schedule.

    Returns:
        One schedule, step () -> value (), for each of the vectors.

    Raises:
        ValueError: if steps_each < 1, vectors are empty or differ in length, or values are not > 0.

    >>> from ebm_jax import samplers
    >>> step_size, beta = piecewise_constant(100, [0.1, 0.01], [1.0, 10.0])
    >>> sampler = samplers.ula(lambda x: x**2 / 2, step_size=step_size, beta=beta)
    >>> float(beta(99)), float(beta(100)), float(beta(1000))
    (1.0, 10.0, 10.0)
    """
    arrays = tuple(_checks.array("values", value) for value in values)
    shapes = [value.shape for value in arrays]
    if not shapes or any(len(s) != 1 or s != shapes[0] or s[0] == 0 for s in shapes):
        raise ValueError(
            "values must be vectors of the same length (>= 1), one value per level, got the shapes "
            f"{shapes}."
        )
    steps_each = _checks.count("steps_each", steps_each)
    for value in values:
        known = _checks.concrete(value)
        if known is not None:  # inf is gradient descent
            _checks.positive("values", known[known != jnp.inf])

    def schedule(value: Array) -> Schedule:
        return lambda step: value[jnp.minimum(step // steps_each, value.shape[0] - 1)]

    return tuple(schedule(value) for value in arrays)


def geometric(start: ArrayLike, end: ArrayLike, num_steps: int) -> Schedule:
    r"""Return a schedule that changes by a constant factor per step, then is constant.

    .. math:: v(t) = \text{start} \, (\text{end} / \text{start})^{\min(t / T, 1)}

    A schedule of increasing beta is simulated annealing: chains first move between modes and later
    settle in one. Source: Kirkpatrick et al. (1983), Optimization by simulated annealing, Science
    220.

    Args:
        start: value at step 0, > 0 and finite.
        end: value from step T on, > 0 and finite.
        num_steps: T >= 1.

    Returns:
        A schedule, step () -> value ().

    Raises:
        ValueError: if start or end is not finite and > 0, or num_steps < 1.

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
    r"""Return a schedule of beta for chains that descend from noise, then warm up.

    .. math:: \beta(s) = \frac{1}{\epsilon(s h)}, \qquad \epsilon(t) =
        \epsilon_\text{max} \min\left( 1, \frac{\max(t - t_0, 0)}{1 - t_0} \right)

    Chains of ``samplers.ula`` that start at N(0, I) follow the field of ``flow_matching`` up to
    time :math:`t_0` (beta = inf), and sample the Gibbs distribution of ``energy_matching`` from t =
    1 on. Source: Balcerak et al. (2025), Energy matching, arXiv 2504.10612.

    Args:
        step_size: h > 0, the time of one step.
        temperature: :math:`\epsilon_\text{max} > 0`, in units of energy.
        onset: :math:`t_0` in [0, 1]; with 1 the temperature jumps at t = 1.

    Returns:
        A schedule, step () -> beta (), inf before the onset.

    Raises:
        TypeError: if an argument is not a number.
        ValueError: if an argument is out of range or not a scalar.

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
        # Rounded, so that 10 steps of 0.1 give exactly 1.
        step = jnp.asarray(step).astype(jnp.float32)
        time = jnp.round(step * jnp.asarray(step_size, jnp.float32), 5)
        rest = 1 - jnp.asarray(onset, jnp.float32)
        risen = jnp.where(
            rest > 0, (time - onset) / jnp.where(rest > 0, rest, 1), (time >= 1).astype(time.dtype)
        )
        return 1 / (jnp.asarray(temperature) * jnp.clip(risen, 0, 1))

    return beta
