r"""Exact partition functions of discrete models: by enumeration in blocks, and in closed form.

In float64 (``jax_enable_x64``, float64 parameters) the answers are right to about 1e-12 of log Z;
in float32 to about 1e-6 of the largest energy, from the energies themselves: sums are taken over
blocks and then over the blocks' sums, so the number of states adds nothing to that.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _platform, gibbs
from ebm_jax._trees import check_energy
from ebm_jax.energies import _parameters
from ebm_jax.energies.boltzmann import RBM, GaussianRBM
from ebm_jax.types import Array, Energy

_BLOCK = {"on_cpu": 2**10, "elsewhere": 2**16}  # states that are evaluated at once, at most
_MOST_STATES = 2**30


def states(shape: int | tuple[int, ...], values=(0, 1)) -> Array:
    r"""Return every configuration of some variables, the last one changing fastest.

    Args:
        shape: of one configuration.
        values: what a variable may be, (q,); (0, 1) for units, (-1, 1) for spins, range(q) for
            categories.

    Returns:
        (q^n, *shape), of the type of ``values``.

    Raises:
        ValueError: no value, or more than 2^30 configurations.

    >>> states(2, (-1, 1)).tolist()
    [[-1, -1], [-1, 1], [1, -1], [1, 1]]
    """
    shape = _checks.shape(shape)
    values, num = _space(shape, values)
    return _decode(jnp.arange(num), values, shape)


def _space(shape: tuple[int, ...], values) -> tuple[Array, int]:
    """Return the values as an array and the number of configurations, at most 2^30."""
    values = jnp.asarray(_checks.values(values))
    num = values.shape[0] ** math.prod(shape)
    if num > _MOST_STATES:
        raise ValueError(
            f"Enumeration is for at most {_MOST_STATES} states, got {values.shape[0]} values "
            f"for each of {math.prod(shape)} variables."
        )
    return values, num


def _decode(number: Array, values: Array, shape: tuple[int, ...]) -> Array:
    """Return the configurations with these numbers: their digits in base q, (..., *shape)."""
    places = values.shape[0] ** np.arange(math.prod(shape) - 1, -1, -1)
    digits = number[..., None] // places.astype(np.int32) % values.shape[0]
    return values[digits].reshape(number.shape + shape)


def log_partition(
    energy: Energy, shape: int | tuple[int, ...], *, values=(0, 1), beta=1.0
) -> Array:
    r"""Return log Z of any energy of discrete variables, by enumeration.

        log Z = log sum_x exp(-beta E(x)),    x in values^shape

    The states are made, evaluated and summed in blocks, backwards too: the memory, of the
    gradient as well, is that of a block. Over given states, ``gibbs.log_partition`` of their
    energies is the same.

    Args:
        energy: E(x) -> (), one configuration in.
        shape: of one configuration.
        values: what a variable may be, (q,).
        beta: inverse temperature >= 0, ().

    Returns:
        (). Its gradient is minus beta times the expected gradient of the energy.

    Raises:
        ValueError: more than 2^30 configurations, a negative beta, an energy that is not a scalar.

    >>> import jax.numpy as jnp
    >>> round(float(log_partition(lambda x: -1.0 * jnp.sum(x), 10)), 4)  # 10 log(1 + e)
    13.1326
    """
    shape = _checks.shape(shape)
    _checks.function("energy", energy)
    values, num = _space(shape, values)
    check_energy(energy, _decode(jnp.arange(1), values, shape))
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)
    first = _decode(jnp.arange(1), values, shape)[0]
    block = min(num, _platform.rows_at_once(energy, first, **_BLOCK))

    @jax.checkpoint
    def over_block(start: Array) -> Array:
        number = start + jnp.arange(block)
        energies = jax.vmap(energy)(_decode(number, values, shape))
        return gibbs.log_partition(energies, beta=beta, where=number < num)

    each = jax.lax.map(over_block, block * jnp.arange(-(-num // block)))
    return gibbs.log_partition(-each)


def log_partition_rbm(params: RBM, *, beta=1.0) -> Array:
    r"""Return log Z of a restricted Boltzmann machine, by enumeration of its smaller side.

        log Z = log sum_h exp(beta c^T h + sum_i softplus(beta (b_i + W_i h)))

    Args:
        params: ``RBM(weights, visible_bias, hidden_bias)``; at most 30 units on the smaller side.
        beta: inverse temperature of E(v, h), ().

    Returns:
        (), differentiable.

    Raises:
        ValueError: more than 30 units on the smaller side, a negative beta.

    >>> import jax.numpy as jnp
    >>> rbm = RBM(jnp.zeros((784, 3)), jnp.zeros(784), jnp.zeros(3))
    >>> round(float(log_partition_rbm(rbm)), 3)  # 787 log 2
    545.507
    """
    _parameters.check_machine(params, RBM)
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)
    weights, outer, inner = jax.tree.map(lambda p: beta * jnp.asarray(p), params)
    if weights.shape[0] < weights.shape[1]:
        weights, outer, inner = weights.T, inner, outer

    def energy(h):
        h = h.astype(weights.dtype)
        return -jnp.dot(inner, h) - _sum_softplus(outer + weights @ h)

    return log_partition(energy, inner.shape[0])


@jax.custom_jvp
def _sum_softplus(x: Array) -> Array:
    """Return sum_i log(1 + exp(x_i)), with one logarithm for many terms."""
    terms = 1 + jnp.exp(-jnp.abs(x))  # in (1, 2]: so many have a product that does not overflow
    group = jnp.finfo(x.dtype).maxexp - 1
    terms = jnp.pad(terms, (0, -x.shape[0] % group), constant_values=1)
    products = jnp.prod(terms.reshape(-1, group), axis=1)
    return jnp.sum(jax.nn.relu(x)) + jnp.sum(jnp.log(products))


@_sum_softplus.defjvp
def _(primals, tangents):
    (x,), (dx,) = primals, tangents
    return _sum_softplus(x), jnp.sum(jax.nn.sigmoid(x) * dx)


def log_partition_gaussian_rbm(params: GaussianRBM, *, beta=1.0) -> Array:
    r"""Return log Z of a Gaussian-Bernoulli RBM, by enumeration of the hidden units.

        log Z = log sum_h exp(beta c^T h + beta sum_i (2 b_i + m_i) m_i / (2 s_i^2))
                + sum_i log(2 pi s_i^2 / beta) / 2,    m = W h

    Args:
        params: ``GaussianRBM(weights, visible_bias, hidden_bias, sigma)``; at most 30 hidden units.
        beta: inverse temperature of E(v, h) > 0, ().

    Returns:
        (), differentiable.

    Raises:
        ValueError: more than 30 hidden units, a negative beta.

    >>> import jax.numpy as jnp
    >>> rbm = GaussianRBM(jnp.zeros((2, 3)), jnp.zeros(2), jnp.zeros(3))
    >>> round(float(log_partition_gaussian_rbm(rbm)), 4)  # log 2 pi + 3 log 2
    3.9173
    """
    _parameters.check_machine(params, GaussianRBM)
    _checks.positive("beta", beta)
    _checks.scalar("beta", beta)
    weights, visible, hidden = (jnp.asarray(p) for p in params[:3])
    variance = jnp.broadcast_to(jnp.square(params.sigma), visible.shape)

    def energy(h):
        h = h.astype(weights.dtype)
        shift = weights @ h
        return -jnp.dot(hidden, h) - jnp.sum((2 * visible + shift) * shift / (2 * variance))

    gaussian = 0.5 * jnp.sum(jnp.log(2 * jnp.pi * variance / beta))
    return log_partition(energy, hidden.shape[0], beta=beta) + gaussian


def log_partition_ising(coupling: ArrayLike, shape: tuple[int, int]) -> Array:
    r"""Return log Z of the Ising model on a torus without a field, in Kaufman's closed form.

        Z = (2 sinh 2K)^(N/2) / 2 [C_odd + S_odd + C_even + S_even]
        C = prod_r 2 cosh(n g_r / 2),   S = prod_r 2 sinh(n g_r / 2),   r odd or even, 0 <= r < 2m
        cosh g_r = cosh 2K coth 2K - cos(pi r / m),   g_0 = 2K + log tanh K

    At beta the coupling is beta K, so ``jax.grad`` gives what a heat bath measures: for K = 1,
    <E> = -d/dbeta log Z, and the heat capacity is beta^2 d^2/dbeta^2 log Z, at the critical
    point log(1 + sqrt 2) / 2 too.
    Source: B. Kaufman (1949), Crystal statistics II, Phys. Rev. 76.

    Args:
        coupling: K > 0, the energy being ``lattice.ising`` at beta = 1, ().
        shape: (rows, columns).

    Returns:
        (), differentiable twice; to about 1e-12 of N in float64, 1e-6 of log Z in float32.

    Raises:
        ValueError: a coupling that is not > 0, a side < 1.

    >>> round(float(log_partition_ising(0.4, (8, 8))), 3)
    56.599
    """
    _checks.positive("coupling", coupling)
    _checks.scalar("coupling", coupling)
    if not isinstance(shape, tuple | list) or len(shape) != 2:
        raise ValueError(f"shape must be (rows, columns), got {shape!r}.")
    rows, columns = (_checks.count("shape", side) for side in shape)
    k = jnp.asarray(coupling, jnp.promote_types(jnp.result_type(coupling, float), jnp.float32))
    squares = np.square(np.sin(np.pi / (2 * rows) * np.arange(2 * rows))).astype(k.dtype)
    # cosh g_r - 1 = 2 sinh^2 (g_r / 2), with s = sinh 2K, is (s - 1)^2 / s + 2 sin^2 (pi r / 2m).
    # Three forms of that: none overflows, cancels or has a derivative that does in its range.
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
    # For a low coupling the two powers of s cancel, for a high one they add.
    power = jnp.where(low, 0.0, jnp.where(high, _log_sinh(2 * k_high), level))

    def terms(first: int) -> tuple[Array, Array]:
        # S / C = prod tanh, without the logarithm of the first factor: 0 at the critical point.
        ratio = tanh[first] * jnp.exp(jnp.sum(jnp.log(tanh[first + 2 :: 2])))
        return jnp.sum(log_cosh[first::2]), 1 + ratio

    (even, even_sum), (odd, odd_sum) = terms(0), terms(1)
    bracket = odd + jnp.log(odd_sum + jnp.exp(even - odd) * even_sum)
    return bracket + rows * columns * (power + math.log(2) / 2) - math.log(2)


def _log_sinh(x: Array) -> Array:
    return x + jnp.log(-jnp.expm1(-2 * x)) - math.log(2)
