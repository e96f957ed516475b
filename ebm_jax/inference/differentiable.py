r"""Minimisers of energies as differentiable functions of the parameters.

.. math:: y^\star(p) = \operatorname{argmin}_y E(p, y)

Energies here are functions of y alone, which close over parameters and inputs; differentiate with
respect to those. ``unroll`` differentiates through the steps of gradient descent.
``implicit_minimum`` uses the implicit function theorem at the minimum.
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
    r"""The result of ``unroll``.

    Attributes:
        position: the last position, :math:`y_K`.
        energies: :math:`E(y_0), \ldots, E(y_K)`, (K + 1,).
    """

    position: Position
    energies: Array


class ImplicitMinimum(NamedTuple):
    r"""The result of ``implicit_minimum``.

    Attributes:
        position: the minimum, :math:`y^\star`.
        gradient_norm: :math:`\lVert \nabla E(y^\star) \rVert`, (). Position and derivative are
            accurate only if it is small.
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
    r"""Return the end of gradient descent, differentiable through its steps.

    .. math:: y_{k+1} = y_k - a \nabla E(y_k) + s \, \xi_k, \qquad k < K

    The derivative is that of the algorithm, not of the minimum. For :math:`E = k (y - f)^2 / 2` the
    descent without noise ends at :math:`y_K = f + (1 - a k)^K (y_0 - f)`. Memory grows with the
    number of steps that gradients flow through. Source: Belanger et al. (2017), End-to-end learning
    for structured prediction energy networks; Du et al. (2022), Learning iterative reasoning
    through energy minimization.

    Args:
        energy: function y -> () of one configuration.
        start: :math:`y_0`, one configuration with floating-point leaves; use vmap for several.
        step_size: :math:`a > 0`, in units of :math:`y^2` / energy; it may be a learnt parameter.
        num_steps: number of steps K >= 1.
        last_steps: number of last steps, from 1 to K, that gradients flow through; None for all.
            Positions and energies of earlier steps are constants.
        noise_sigma: standard deviation :math:`s \ge 0` of the noise, in units of y.
        key: a key of ``jax.random.key``, used once; required if there is noise.

    Returns:
        A ``Descent``.

    Raises:
        TypeError: if the start has leaves that are not floating point.
        ValueError: if options are out of range, or there is noise without a key.

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
    r"""Return a minimum that can be differentiated, by the implicit function theorem.

    .. math:: \nabla_y E(p, y^\star) = 0 \quad \Rightarrow \quad \frac{dy^\star}{dp}
        = -\left( \frac{\partial^2 E}{\partial y^2} \right)^{-1}
        \frac{\partial^2 E}{\partial y \, \partial p}

    p is anything that the function ``energy`` uses besides y. Only the minimum is stored for the
    derivative, not the steps of the search. Second derivatives are not supported. Conjugate
    gradients solve the linear system with products with the Hessian, which must be positive
    definite at :math:`y^\star`. The derivative with respect to the start is zero. Source: Domke
    (2012), Generic methods for optimization-based modeling; Amos and Kolter (2017).

    Args:
        energy: function y -> () of one configuration.
        start: one configuration with floating-point leaves; use vmap for several.
        minimize: function (energy, start) -> minimum, which need not be differentiable, such as
            ``lambda e, y: unroll(e, y, step_size=0.1, num_steps=100).position``.
        num_iterations: maximum number of iterations of conjugate gradients, >= 1.
        tolerance: relative residual at which conjugate gradients stop, > 0.

    Returns:
        An ``ImplicitMinimum``.

    Raises:
        TypeError: if the start has leaves that are not floating point.
        ValueError: if num_iterations < 1, tolerance <= 0, or the minimum has another structure or
            shape than the start.

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

    # The same energy with constants only, for computations without a gradient.
    converted, constants = jax.closure_convert(energy, start)

    def frozen(y: Position) -> Array:
        return converted(y, *jax.lax.stop_gradient(constants))

    found = minimize(frozen, start)
    _checks.alike("What minimize returns", found, start)
    found = jax.lax.stop_gradient(found)
    gradient = jax.grad(energy)(found)
    _, hessian = jax.linearize(jax.grad(frozen), found)
    # A Newton step with a gradient of value 0 leaves y* unchanged and has the derivative of y*.
    zero = jax.tree.map(lambda g: g - jax.lax.stop_gradient(g), gradient)
    step, _ = jax.scipy.sparse.linalg.cg(hessian, zero, tol=tolerance, maxiter=num_iterations)
    position = jax.tree.map(lambda y, s: y - s, found, step)
    norm = jax.lax.stop_gradient(chain_norm([g[None] for g in jax.tree.leaves(gradient)])[0])
    return ImplicitMinimum(position, norm)
