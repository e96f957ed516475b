r"""The answer y*(params) = argmin_y E(params, y) as a differentiable function of the parameters.

Energies here are of y alone, E(y), with parameters and inputs closed over: what the gradient is
taken by is whatever the energy closes over. Two ways: through every step of a descent
(``unroll``), or by what holds at the minimum (``implicit_minimum``).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_norm, check_energy
from ebm_jax.types import Array, Energy, Key, Position


class Descent(NamedTuple):
    """A descent, differentiable.

    Attributes:
        position: y_K.
        energies: E(y_0), ..., E(y_K), (K + 1,).
    """

    position: Position
    energies: Array


class ImplicitMinimum(NamedTuple):
    """A minimum, differentiable.

    Attributes:
        position: y*.
        gradient_norm: |grad E(y*)|, (): where it is not small neither y* nor its derivative is
            what it should be.
    """

    position: Position
    gradient_norm: Array


def _one(start: Position, energy: Energy) -> Position:
    """Validate and return the start as arrays."""
    _checks.function("energy", energy)
    start = jax.tree.map(lambda leaf: _checks.floating("start", leaf), start)
    if not jax.tree.leaves(start):
        raise ValueError("start must have at least one array, got none.")
    check_energy(energy, jax.tree.map(lambda leaf: leaf[None], start))
    return start


def unroll(
    energy: Energy,
    start: Position,
    *,
    step_size: ArrayLike,
    num_steps: int,
    last_steps: int | None = None,
    noise_sigma: ArrayLike = 0.0,
    key: Key | None = None,
) -> Descent:
    r"""Return where gradient descent ends, with gradients through its steps.

        y_{k+1} = y_k - a grad E(y_k) + s xi_k,   k < K

    The derivative is that of the algorithm, not of the minimum; on E = k (y - f)^2 / 2 both are
    known, y_K = f + (1 - a k)^K (y_0 - f). Memory grows with the steps that gradients flow
    through. Source: Belanger et al. (2017), End-to-end learning for structured prediction energy
    networks; Du et al. (2022), Learning iterative reasoning through energy minimization.

    Args:
        energy: E(y) -> (), one configuration in.
        start: y_0, floating leaves; one configuration, vmap over many.
        step_size: a > 0, in y^2 / energy; it may be learnt.
        num_steps: K >= 1.
        last_steps: through how many of the last steps gradients flow, from 1 to K; None for all.
            What lies before is a constant, its energies too.
        noise_sigma: s >= 0, in units of y.
        key: a key of ``jax.random.key``, used once; needed where there is noise.

    Returns:
        A ``Descent``.

    Raises:
        ValueError: options out of range, noise without a key, an energy that is not a scalar.
            TypeError: a start that is not floating, an integer energy, a non-callable argument.

    >>> import jax
    >>> def answer(f):
    ...     return unroll(lambda y: (y - f) ** 2 / 2, 0.0, step_size=0.5, num_steps=3).position
    >>> float(answer(1.0)), float(jax.grad(answer)(1.0))  # 1 - 1/2^3
    (0.875, 0.875)
    """
    start = _one(start, energy)
    _checks.positive("step_size", step_size)
    _checks.scalar("step_size", step_size)
    _checks.count("num_steps", num_steps)
    last = num_steps if last_steps is None else _checks.count("last_steps", last_steps)
    if last > num_steps:
        raise ValueError(f"last_steps must be in [1, num_steps={num_steps}], got {last_steps}.")
    _checks.nonnegative("noise_sigma", noise_sigma)
    _checks.scalar("noise_sigma", noise_sigma)
    if key is not None:
        _checks.one_key(key)
    elif (known := _checks.concrete(noise_sigma)) is None or known > 0:
        raise ValueError(f"noise_sigma={noise_sigma} needs a key, got None.")

    def noisy(position: Position, k: Array) -> Position:
        if key is None:
            return position
        leaves, treedef = jax.tree.flatten(position)
        xi = standard_normal(jax.random.fold_in(key, k), [leaf[None] for leaf in leaves])
        pairs = zip(leaves, xi, strict=True)
        return treedef.unflatten([(y + noise_sigma * n[0]).astype(y.dtype) for y, n in pairs])

    def step(position: Position, k: Array) -> tuple[Position, Array]:
        value, gradient = jax.value_and_grad(energy)(position)
        moved = jax.tree.map(lambda y, g: (y - step_size * g).astype(y.dtype), position, gradient)
        return noisy(moved, k), value

    first = num_steps - last
    position, before = jax.lax.scan(step, start, jnp.arange(first))
    if first:
        position, before = jax.lax.stop_gradient((position, before))
    position, after = jax.lax.scan(step, position, jnp.arange(first, num_steps))
    return Descent(position, jnp.concatenate([before, after, energy(position)[None]]))


def implicit_minimum(
    energy: Energy,
    start: Position,
    minimize: Callable[[Energy, Position], Position],
    *,
    num_iterations: int = 100,
    tolerance: float = 1e-5,
) -> ImplicitMinimum:
    r"""Return a minimum with the first derivative that the implicit function theorem gives it.

        grad_y E(p, y*) = 0   =>   dy*/dp = -(d^2E/dy^2)^-1 d^2E/dy dp

    However the minimum was found costs no memory; the system is solved by conjugate gradients,
    from products with the Hessian, which must be positive definite at y*. A start in its basin has
    no derivative. Source: Domke (2012), Generic methods for optimization-based modeling; Amos
    and Kolter (2017).

    Args:
        energy: E(y) -> (), one configuration in.
        start: floating leaves; one configuration, vmap over many.
        minimize: (energy, start) -> y*: ``lambda e, y: unroll(e, y, step_size=0.1,
            num_steps=100).position``, or another minimiser, which need not be differentiable.
        num_iterations: of conjugate gradients at most, >= 1.
        tolerance: their relative residual, > 0.

    Returns:
        An ``ImplicitMinimum``.

    Raises:
        ValueError: num_iterations < 1, a tolerance <= 0, an energy that is not a scalar, a y*
            unlike the start. TypeError: a start that is not floating, a non-callable argument.

    >>> import jax
    >>> def answer(f):
    ...     descend = lambda e, y: unroll(e, y, step_size=0.5, num_steps=50).position
    ...     return implicit_minimum(lambda y: 2 * (y - f**2) ** 2, 0.0, descend).position
    >>> round(float(jax.grad(answer)(3.0)), 4)
    6.0
    """
    start = jax.lax.stop_gradient(_one(start, energy))
    _checks.function("minimize", minimize)
    _checks.count("num_iterations", num_iterations)
    _checks.positive("tolerance", tolerance)
    _checks.scalar("tolerance", tolerance)

    # The same energy of constants alone, for all that no gradient flows through.
    converted, constants = jax.closure_convert(energy, start)

    def frozen(y: Position) -> Array:
        return converted(y, *jax.lax.stop_gradient(constants))

    found = minimize(frozen, start)
    _checks.alike("What minimize returns", found, start)
    found = jax.lax.stop_gradient(found)
    gradient = jax.grad(energy)(found)
    _, hessian = jax.linearize(jax.grad(frozen), found)
    # Newton's step from a gradient of value 0, which costs nothing: its derivative is that of y*.
    zero = jax.tree.map(lambda g: g - jax.lax.stop_gradient(g), gradient)
    step, _ = jax.scipy.sparse.linalg.cg(hessian, zero, tol=tolerance, maxiter=num_iterations)
    position = jax.tree.map(lambda y, s: y - s, found, step)
    norm = jax.lax.stop_gradient(chain_norm([g[None] for g in jax.tree.leaves(gradient)])[0])
    return ImplicitMinimum(position, norm)
