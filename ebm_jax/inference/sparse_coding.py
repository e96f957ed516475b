r"""Sparse coding: a latent variable whose information an L1 penalty limits.

.. math:: E(y, z) = \tfrac{1}{2} \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1, \qquad
    F(y) = \min_z E(y, z)

Vectors that a few columns of the dictionary W explain have a low energy. With :math:`\lambda = 0`
and enough columns, F is zero everywhere; a larger :math:`\lambda` allows codes with less
information. Keep the columns at a fixed length (``unit_columns``): otherwise longer columns reduce
the penalty. All functions raise TypeError for integer arrays, and ValueError for wrong shapes and
for a negative sparsity.
"""

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.types import Array


def _check(dictionary, y, sparsity):
    """Return (dictionary, y, sparsity), at least in float32, and the result's dtype.

    A negative sparsity that is unknown during tracing becomes NaN.
    """
    dictionary, y = _checks.floating("dictionary", dictionary), _checks.floating("y", y)
    if dictionary.ndim != 2 or y.shape != dictionary.shape[:1]:
        raise ValueError(
            "Sparse coding takes a dictionary (d, k) and one y (d,), got "
            f"{dictionary.shape} and {y.shape}: vmap a batch."
        )
    _checks.nonnegative("sparsity", sparsity)
    _checks.scalar("sparsity", sparsity)
    dtype = jnp.result_type(dictionary, y)
    wide = jnp.promote_types(dtype, jnp.float32)
    sparsity = jnp.asarray(sparsity, wide)
    sparsity = jnp.where(sparsity >= 0, sparsity, jnp.nan)
    return dictionary.astype(wide), y.astype(wide), sparsity, dtype


def energy(dictionary, y, z, *, sparsity) -> Array:
    r"""Return the energy of a code.

    .. math:: E(y, z) = \tfrac{1}{2} \lVert y - W z \rVert^2 + \lambda \lVert z \rVert_1

    Source: Olshausen and Field (1996), Emergence of simple-cell receptive field properties by
    learning a sparse code for natural images, Nature 381.

    Args:
        dictionary: W, (d, k).
        y: data vector, (d,).
        z: code, (k,).
        sparsity: weight :math:`\lambda \ge 0` of the L1 penalty.

    Returns:
        The energy, ().

    >>> import jax.numpy as jnp
    >>> float(energy(jnp.eye(2), jnp.array([3.0, 0.0]), jnp.array([1.0, 0.0]), sparsity=0.5))
    2.5
    """
    dictionary, y, sparsity, dtype = _check(dictionary, y, sparsity)
    z = _checks.floating("z", z)
    if z.shape != dictionary.shape[1:]:
        raise ValueError(f"z must be a code {dictionary.shape[1:]}, got {z.shape}: vmap a batch.")
    dtype, z = jnp.promote_types(dtype, z.dtype), z.astype(jnp.promote_types(y.dtype, z.dtype))
    value = jnp.sum((y - dictionary @ z) ** 2) / 2 + sparsity * jnp.sum(jnp.abs(z))
    return value.astype(dtype)


def _soft_threshold(z: Array, threshold: Array) -> Array:
    """Return sign(z) [|z| - t]+, the proximal map of t |z|_1."""
    return jnp.sign(z) * jax.nn.relu(jnp.abs(z) - jnp.asarray(threshold, z.dtype))


def infer(dictionary, y, *, sparsity, num_steps: int = 100, accelerated: bool = True) -> Array:
    r"""Return the code of lowest energy, by FISTA or ISTA.

    .. math:: z_{t+1} = \operatorname{soft}\!\left( u - W^T (W u - y) / L, \; \lambda / L \right),
        \qquad \operatorname{soft}(z, s) = \operatorname{sign}(z) [\lvert z \rvert - s]_+

    where L is the largest eigenvalue of :math:`W^T W`. ISTA has :math:`u = z_t`; FISTA has :math:`u
    = z_t + \frac{a_{t-1} - 1}{a_t} (z_t - z_{t-1})` with the coefficients :math:`a_t` of the
    source. After t steps E exceeds its minimum by at most :math:`L \lVert z^\star \rVert^2 / (2 t)`
    with ISTA and :math:`2 L \lVert z^\star \rVert^2 / (t + 1)^2` with FISTA. Source: Beck and
    Teboulle (2009), A fast iterative shrinkage-thresholding algorithm for linear inverse problems,
    SIAM J. Imaging Sciences 2(1), theorems 3.1 and 4.4.

    Args:
        dictionary: W, (d, k).
        y: data vector, (d,).
        sparsity: weight :math:`\lambda \ge 0` of the L1 penalty.
        num_steps: number of iterations from z = 0, >= 1.
        accelerated: whether to use FISTA; if not, ISTA.

    Returns:
        The code, (k,).

    >>> import jax.numpy as jnp
    >>> infer(jnp.eye(2), jnp.array([3.0, 0.2]), sparsity=0.5).tolist()
    [2.5, 0.0]
    """
    dictionary, y, sparsity, dtype = _check(dictionary, y, sparsity)
    _checks.count("num_steps", num_steps)
    _checks.flag("accelerated", accelerated)
    gram, linear = dictionary.T @ dictionary, dictionary.T @ y
    smaller = gram if gram.shape[0] < len(y) else dictionary @ dictionary.T
    lipschitz = jnp.linalg.eigvalsh(smaller)[-1]
    lipschitz = jnp.where(lipschitz > 0, lipschitz, 1.0)

    def iterate(carry, _):
        z, u, a = carry
        following = _soft_threshold(u - (gram @ u - linear) / lipschitz, sparsity / lipschitz)
        a_following = (1 + jnp.sqrt(1 + 4 * a**2)) / 2
        momentum = (a - 1) / a_following if accelerated else 0.0
        return (following, following + momentum * (following - z), a_following), None

    zero = jnp.zeros_like(linear)
    (z, _, _), _ = jax.lax.scan(iterate, (zero, zero, jnp.ones_like(lipschitz)), length=num_steps)
    return z.astype(dtype)


def free_energy(dictionary, y, *, sparsity, num_steps: int = 100) -> Array:
    r"""Return the minimum of the energy over codes, with the envelope gradient.

    .. math:: F(y) = \min_z E(y, z), \qquad \nabla F(y) = \nabla E(y, z^\star)

    The gradient treats the minimiser :math:`z^\star` as a constant.

    Args:
        dictionary: W, (d, k).
        y: data vector, (d,).
        sparsity: weight :math:`\lambda \ge 0` of the L1 penalty.
        num_steps: number of iterations of FISTA, >= 1.

    Returns:
        The minimum, (), at most :math:`\lVert y \rVert^2 / 2`, the energy of z = 0.

    >>> import jax, jax.numpy as jnp
    >>> F = lambda y: free_energy(jnp.eye(1), y, sparsity=1.0)  # the Huber loss
    >>> float(F(jnp.array([0.5]))), float(F(jnp.array([3.0])))
    (0.125, 2.5)
    """
    dictionary, y = _checks.floating("dictionary", dictionary), _checks.floating("y", y)
    z = infer(*jax.lax.stop_gradient((dictionary, y)), sparsity=sparsity, num_steps=num_steps)
    return energy(dictionary, y, jax.lax.stop_gradient(z), sparsity=sparsity)


def unit_columns(dictionary) -> Array:
    """Return the dictionary with columns of length 1.

    Args:
        dictionary: W, (d, k), without a zero column.

    Returns:
        The scaled dictionary, (d, k); a column of zeros becomes NaN.

    >>> import jax.numpy as jnp
    >>> unit_columns(jnp.array([[3.0], [4.0]])).ravel().tolist()
    [0.6000..., 0.800...]
    """
    dictionary = _checks.floating("dictionary", dictionary)
    if dictionary.ndim != 2:
        raise ValueError(f"dictionary must be (d, k), got {dictionary.shape}.")
    # Scaled to entries of at most 1, so that no square overflows or underflows.
    scaled = dictionary / jnp.max(jnp.abs(dictionary), axis=0, keepdims=True)
    return scaled / jnp.linalg.norm(scaled, axis=0, keepdims=True)
