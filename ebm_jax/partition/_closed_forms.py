"""Partition functions of the energies in closed form and of the Ising model."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.energies import Funnel, Gaussian, GaussianMixture, Ring, Rosenbrock, _parameters
from ebm_jax.energies.lattice import Ising
from ebm_jax.types import Array


def gaussian(params: Gaussian, beta) -> Array:
    """Return d/2 log(2 pi / beta) - 1/2 log det Lambda; NaN if not positive definite."""
    _checks.positive("beta", beta)
    _, precision = _parameters.gaussian(params, Gaussian)
    if precision.ndim == 2:
        wide = precision.astype(jnp.promote_types(precision.dtype, jnp.float32))
        # The energy depends only on the symmetric part of the matrix.
        root = jnp.diagonal(jnp.linalg.cholesky(wide))
        log_det = 2 * jnp.log(root).sum().astype(precision.dtype)
    else:
        log_det = jnp.log(precision).sum()
    return 0.5 * (precision.shape[0] * jnp.log(2 * jnp.pi / beta) - log_det)


def gaussian_mixture(params: GaussianMixture, beta) -> Array:
    """Return log sum_k w_k, for beta = 1 only."""
    _, weights, _ = _parameters.mixture(params, GaussianMixture)
    _checks.positive("beta", beta)
    known = _checks.concrete(beta)
    if known is not None and not np.all(known == 1):
        raise ValueError(f"The log Z of a GaussianMixture is known at beta = 1, got beta = {beta}.")
    return jnp.where(jnp.asarray(beta) == 1, jax.nn.logsumexp(weights), jnp.nan)


def rosenbrock(params: Rosenbrock, beta) -> Array:
    """Return log(pi / beta) - 1/2 log b: the inner integral does not depend on x_1."""
    _parameters.numbers(params, Rosenbrock, "b")
    _checks.positive("beta", beta)
    return jnp.log(jnp.pi / beta) - 0.5 * jnp.log(params.b)


def funnel(params: Funnel, dimension: int, beta) -> Array:
    """Return d/2 log(2 pi / beta) + log s + [(d - 1) (1 - beta) s]^2 / (8 beta)."""
    _parameters.numbers(params, Funnel, "sigma")
    _checks.positive("beta", beta)
    tilt = ((dimension - 1) * (1 - beta) * params.sigma) ** 2 / (8 * beta)
    return 0.5 * dimension * jnp.log(2 * jnp.pi / beta) + jnp.log(params.sigma) + tilt


def ring(params: Ring, beta) -> Array:
    r"""Return the integral over the radius, for the scaled width s = w / sqrt(beta).

    .. math:: \log \left( 2 \pi \left[ s^2 e^{-r^2 / 2 s^2} + r s \sqrt{\pi / 2}
        \left( 1 + \operatorname{erf}(r / (s \sqrt{2})) \right) \right] \right)
    """
    _parameters.numbers(params, Ring, "width")
    _checks.nonnegative("radius", params.radius)
    _checks.positive("beta", beta)
    s, r = params.width / jnp.sqrt(beta), params.radius
    bulk = r * s * jnp.sqrt(jnp.pi / 2) * (1 + jax.lax.erf(jnp.asarray(r / (s * jnp.sqrt(2.0)))))
    return jnp.log(2 * jnp.pi * (s**2 * jnp.exp(-0.5 * (r / s) ** 2) + bulk))


def ising(params: Ising, shape: tuple[int, ...], beta) -> Array:
    r"""Return log Z of the Ising model on a torus without field, by Kaufman's formula.

    .. math:: Z &= \tfrac{1}{2} (2 \sinh 2K)^{N/2}
        \left[ C_\text{odd} + S_\text{odd} + C_\text{even} + S_\text{even} \right] \\
        C &= \prod_r 2 \cosh(n g_r / 2), \quad S = \prod_r 2 \sinh(n g_r / 2), \quad
        r \text{ odd or even}, \; 0 \le r < 2m \\
        \cosh g_r &= \cosh 2K \coth 2K - \cos(\pi r / m), \quad g_0 = 2K + \log \tanh K

    K is beta times the coupling. Source: B. Kaufman (1949), Crystal statistics II, Phys. Rev. 76.
    """
    _, field = _parameters.lattice(params, Ising, 0)
    for name, value in (("coupling", params.coupling), ("beta", beta)):
        _checks.positive(name, value)
        _checks.scalar(name, value)
    known = _checks.concrete(params.field)
    if known is not None and known != 0:
        raise ValueError(f"The log Z of an Ising model is known without a field, got {known}.")
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"shape must be (rows, columns) of an Ising model, got {shape}.")
    rows, columns = shape
    coupling = beta * jnp.asarray(params.coupling)
    k = jnp.asarray(coupling, jnp.promote_types(jnp.result_type(coupling, float), jnp.float32))
    squares = np.square(np.sin(np.pi / (2 * rows) * np.arange(2 * rows))).astype(k.dtype)
    # cosh g_r - 1 = 2 sinh^2 (g_r / 2), with s = sinh 2K, is (s - 1)^2 / s + 2 sin^2 (pi r / 2m).
    # Three forms, each without overflow or cancellation (also in derivatives) in its range.
    low, high = k < 0.2, k > 0.8
    k_low, k_high = jnp.where(low, k, 0.1), jnp.where(high, k, 1.0)
    level = _log_sinh(jnp.where(low | high, 0.5, 2 * k)) / 2  # 0 at the critical point
    others = jnp.arcsinh(jnp.sqrt(2 * jnp.square(jnp.sinh(level)) + squares[1:]))
    half = columns * jnp.append(jnp.arcsinh(math.sqrt(2) * jnp.sinh(level)), others)
    log_cosh, tanh = jnp.logaddexp(half, -half), jnp.tanh(half)
    # e^(-g_r) = t e^(-2 rest), and g_0 is negative for a low coupling.
    t = jnp.where(low, jnp.sinh(2 * k_low), jnp.exp(-_log_sinh(2 * k_high)))
    about = jnp.square(1 - t) / 2 + t * squares
    rest = columns * jnp.log(jnp.sqrt(about) + jnp.sqrt(about + t))
    decay = t**columns * jnp.exp(-2 * rest)
    sign = jnp.where(low & (np.arange(2 * rows) == 0), -1.0, 1.0)
    log_cosh = jnp.where(low | high, rest + jnp.log1p(decay), log_cosh)
    tanh = jnp.where(low | high, sign * (1 - decay) / (1 + decay), tanh)
    # The two powers of s cancel for a low coupling and add for a high one.
    power = jnp.where(low, 0.0, jnp.where(high, _log_sinh(2 * k_high), level))

    def terms(first: int) -> tuple[Array, Array]:
        # S / C = prod tanh, without the logarithm of the first factor, which is 0 at criticality.
        ratio = tanh[first] * jnp.exp(jnp.sum(jnp.log(tanh[first + 2 :: 2])))
        return jnp.sum(log_cosh[first::2]), 1 + ratio

    (even, even_sum), (odd, odd_sum) = terms(0), terms(1)
    bracket = odd + jnp.log(odd_sum + jnp.exp(even - odd) * even_sum)
    log_z = bracket + rows * columns * (power + math.log(2) / 2) - math.log(2)
    return jnp.where(field == 0, log_z, jnp.nan)


def _log_sinh(x: Array) -> Array:
    return x + jnp.log(-jnp.expm1(-2 * x)) - math.log(2)
