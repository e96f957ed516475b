r"""Ratios of partition functions from samples at both ends of a path or along it.

.. math:: \log Z_1 / Z_0, \qquad Z_k = \sum_x \exp(-E_k(x))
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._trees import check_chains
from ebm_jax.partition.annealed import AnnealedState
from ebm_jax.partition.paths import Path
from ebm_jax.types import Array, Position


class Bridge(NamedTuple):
    """An estimate of a log ratio of partition functions.

    Attributes:
        log_z: log Z_1 / Z_0, ().
        standard_error: its standard error, ().
    """

    log_z: Array
    standard_error: Array


def bennett(forward: ArrayLike | AnnealedState, back: ArrayLike | AnnealedState) -> Bridge:
    r"""Estimate a log ratio of partition functions by Bennett's acceptance ratio.

    .. math:: \sum_i \sigma(f_i - c - m) = \sum_j \sigma(b_j + c + m), \qquad
        c = \log Z_1 / Z_0, \quad m = \log n_f / n_b

    For many independent samples, no estimator that uses both sets has a lower variance. The
    equation does not hold for chains that were resampled. Pass states instead of log-weights: then
    the function detects such chains and raises an error. Source: C. H. Bennett (1976), Efficient
    estimation of free energy differences from Monte Carlo data, J. Comp. Phys. 22; Shirts and
    Chodera (2008) for the error.

    Args:
        forward: log-weights :math:`f = E_0(x) - E_1(x)` of samples of 0, (n_f,); or the state of
            chains annealed from 0 to 1 without resampling.
        back: log-weights :math:`b = E_1(x) - E_0(x)` of samples of 1, (n_b,); or the state of
            chains annealed from 1 to 0 with reversible kernels and without resampling.

    Returns:
        ``Bridge``: the estimate of :math:`\log(Z_1 / Z_0)` and its standard error. The error is to
        first order, for independent samples. It is NaN for a single sample on either side, and if
        the log-weights on each side are constant but the sides disagree. For resampled chains under
        ``jit`` both numbers are NaN.

    Raises:
        ValueError: if log-weights are not vectors or contain NaN, or chains were resampled.

    >>> import jax.numpy as jnp
    >>> bridge = bennett(jnp.array([1.0, 1.0, 1.0]), jnp.array([-1.0, -1.0]))
    >>> round(float(bridge.log_z), 4), round(float(bridge.standard_error), 4)
    (1.0, 0.0)
    """
    sides = {n: _independent(n, v) for n, v in (("forward", forward), ("back", back))}
    forward, back = (_checks.floating(name, v) for name, v in sides.items())
    for name, given in sides.items():
        known = _checks.concrete(given)
        if known is not None and np.isnan(known.astype(float)).any():
            raise ValueError(f"{name} must have no NaN among its log-weights, got {known}.")
    if forward.ndim != 1 or back.ndim != 1 or not (forward.size and back.size):
        raise ValueError(
            f"The log-weights must be vectors, got the shapes {forward.shape} and {back.shape}."
        )
    ratio = jnp.log(forward.size) - jnp.log(back.size)

    def logs(c: Array) -> tuple[Array, Array]:
        sides = forward - c - ratio, back + c + ratio
        first, second = (jax.nn.log_sigmoid(s) for s in sides)
        return first, second

    def halve(_, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        c = (low + high) / 2
        first, second = map(jax.nn.logsumexp, logs(c))
        # The first sum falls with c, the second rises.
        return jnp.where(first > second, c, low), jnp.where(first > second, high, c)

    # The largest log-weight of each side bounds the log of its mean weight.
    every = jnp.concatenate([forward, -back])
    every = jnp.where(jnp.isfinite(every), every, 0.0)
    wide = jnp.abs(ratio) + 1
    ends = jnp.min(every) - wide, jnp.max(every) + wide
    low, high = jax.lax.fori_loop(0, 60, halve, ends)
    log_z = _ends(forward, back, (low + high) / 2)

    def relative_variance(log_f: Array) -> Array:
        excess = jax.nn.logsumexp(2 * log_f) - 2 * jax.nn.logsumexp(log_f) + jnp.log(log_f.size)
        return jnp.expm1(jnp.maximum(excess, 0.0)) / jnp.asarray(log_f.size - 1, log_f.dtype)

    error = jnp.sqrt(sum(map(relative_variance, logs(log_z))))
    # Without spread, the weights are exp(log Z) and exp(-log Z), or the sides disagree.
    gap, scale = jnp.abs(forward[0] + back[0]), jnp.maximum(1.0, jnp.abs(forward[0]))
    equal = jnp.all(forward == forward[0]) & jnp.all(back == back[0])
    apart = equal & (gap > 1000 * jnp.finfo(gap.dtype).eps * scale)
    return Bridge(log_z, jnp.where(apart, jnp.nan, error))


def _independent(name: str, side: ArrayLike | AnnealedState) -> ArrayLike:
    """Return the log-weights of a side; reject resampled chains (NaN if traced)."""
    if not isinstance(side, AnnealedState):
        return side
    resampled = jnp.any(side.groups != jnp.arange(side.groups.shape[0]))
    known = _checks.concrete(resampled)
    if known is not None and known:
        raise ValueError(
            f"{name} must be chains that were not resampled: Bennett's equation needs the weights "
            "of whole paths, which resampling discards. Anneal with resample_below=0, or use "
            "estimates.bracket, which takes resampled groups of chains."
        )
    if known is None:
        return jnp.where(resampled, jnp.nan, side.log_weights)
    return side.log_weights


def _ends(forward: Array, back: Array, log_z: Array) -> Array:
    """Return log Z, or its limit if the sides do not overlap; NaN for a NaN weight."""
    nowhere = [jnp.all(side == -jnp.inf) for side in (forward, back)]
    log_z = jnp.where(nowhere[0], -jnp.inf, jnp.where(nowhere[1], jnp.inf, log_z))
    lost = jnp.isnan(forward).any() | jnp.isnan(back).any() | (nowhere[0] & nowhere[1])
    return jnp.where(lost, jnp.nan, log_z)


def thermodynamic_integration(path: Path, betas: ArrayLike, positions: Position) -> Bridge:
    r"""Return a log ratio of partition functions from mean slopes along a path.

    .. math:: \log \frac{Z(\beta_K)}{Z(\beta_0)} = -\int_{\beta_0}^{\beta_K} \left\langle
        \frac{\partial \, \text{path}}{\partial \beta} \right\rangle_\beta d\beta

    by the trapezoidal rule. Its discretisation error, of second order in the spacing, is not in the
    standard error. Source: J. G. Kirkwood (1935), Statistical mechanics of fluid mixtures, J. Chem.
    Phys. 3; Gelman and Meng (1998), Simulating normalizing constants, Statistical Science 13(2).

    Args:
        path: function (beta (), x) -> (), differentiable in beta.
        betas: (temperatures,), at least two, in order.
        positions: samples at each beta, (temperatures, samples, ...) on every leaf, such as
            ``state.replicas.position`` of ``replica_exchange``.

    Returns:
        ``Bridge``: the estimate of log Z at the last beta minus log Z at the first, and its
        standard error for independent samples, NaN for one sample at each beta. Both are NaN if a
        sample has a finite energy at its beta and an infinite one at the next: the slope there is
        infinite.

    >>> import jax.numpy as jnp
    >>> path = lambda beta, x: beta * x  # a mean of 1 at beta 0 and of 2 at beta 1
    >>> positions = jnp.array([[1.0, 1.0], [2.0, 2.0]])
    >>> float(thermodynamic_integration(path, [0.0, 1.0], positions).log_z)
    -1.5
    """
    _checks.function("path", path)
    _checks.finite("betas", betas)
    betas = _checks.floating("betas", betas)
    if betas.ndim != 1 or betas.size < 2 or check_chains(positions) != betas.size:
        raise ValueError(
            f"betas must be two or more, one for each row of positions, got {betas.shape} for "
            f"{[np.shape(leaf) for leaf in jax.tree.leaves(positions)]}."
        )

    def energy(beta: Array, x: Position) -> Array:
        value = _checks.floating("What path returns", path(beta, x))
        _checks.scalar("What path returns", value)
        return value

    def slope(below: Array, beta: Array, above: Array, x: Position) -> Array:
        own, at_beta = jax.value_and_grad(energy)(beta, x)
        # At an end of the path the share of an infinite energy is 0, and its slope is not finite.
        beside = jnp.isinf(energy(below, x)) | jnp.isinf(energy(above, x))
        return jnp.where(jnp.isfinite(own) & beside, jnp.nan, at_beta)

    below, above = jnp.append(betas[:1], betas[:-1]), jnp.append(betas[1:], betas[-1:])
    over_samples = jax.vmap(slope, (None, None, None, 0))
    slopes = jax.vmap(over_samples)(below, betas, above, positions)
    gaps = jnp.diff(betas) / 2
    shares = jnp.pad(gaps, (1, 0)) + jnp.pad(gaps, (0, 1))
    num = slopes.shape[1]
    variances = jnp.var(slopes, axis=1) / (num - 1 if num > 1 else jnp.nan)
    return Bridge(-jnp.dot(shares, slopes.mean(axis=1)), jnp.sqrt(jnp.dot(shares**2, variances)))
