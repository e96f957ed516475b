r"""Potts models with a coupling between every two sites.

A configuration is a sequence of L letters, integers from 0 to q - 1: an aligned RNA, DNA or protein
sequence in direct coupling analysis. ``dense_potts_logits`` returns the logits of every site given
all other sites at beta = 1; multiply them by beta for other temperatures.
``samplers.dense_potts_gibbs`` samples the model; ``lattice`` has the Potts model on a torus.

Many parameters give the same probabilities: a gauge chooses one of them. The gauges here change the
energy of all sequences by the same constant.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.energies import _parameters
from ebm_jax.types import Array


class DensePotts(NamedTuple):
    """Parameters of a Potts model with couplings between all sites.

    Attributes:
        couplings: (L, q, L, q). The energy uses their symmetric part, and no coupling of a site
            with itself.
        fields: preferences for the letters of each site, (L, q).
    """

    couplings: Array
    fields: Array


def _letters(params: DensePotts, x) -> Array:
    """Validate one sequence and return its letters as (L q,) zeros and ones."""
    length, q = np.shape(params.fields)
    x = _checks.categories("x", x, q, "dense_potts_gibbs")
    if x.shape != (length,):
        raise ValueError(
            f"x must be one sequence of shape ({length},), got {x.shape}: vmap a batch."
        )
    return jax.nn.one_hot(x, q, dtype=params.fields.dtype).reshape(length * q)


def dense_potts(params: DensePotts, x) -> Array:
    r"""Return the energy of the Potts model with couplings between all sites.

    .. math:: E(x) = -\sum_{i < j} J_{ij}(x_i, x_j) - \sum_i h_i(x_i)

    where :math:`J_{ij}(a, b)` is the mean of ``couplings[i, a, j, b]`` and
    ``couplings[j, b, i, a]``; the blocks ``couplings[i, :, i, :]`` are not used.
    Source: Weigt et al. (2009), Identification of direct residue contacts in protein-protein
    interaction by message passing, PNAS 106(1).

    Args:
        params: ``DensePotts(couplings, fields)``, (L, q, L, q) and (L, q).
        x: (L,), integers from 0 to q - 1.

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: floating letters. ValueError: a batch instead of one sequence, letters outside
            0 to q - 1.

    >>> import jax.numpy as jnp
    >>> params = DensePotts(jnp.ones((3, 4, 3, 4)), jnp.zeros((3, 4)))
    >>> float(dense_potts(params, jnp.array([0, 1, 3])))  # three pairs
    -3.0
    """
    couplings, fields = _parameters.dense_potts(params, DensePotts)
    letters = _letters(DensePotts(couplings, fields), x)
    return -jnp.dot(letters, fields.reshape(-1) + 0.5 * _sums(couplings, letters))


def _sums(couplings: Array, letters: Array) -> Array:
    """Return the sums of the couplings to the letters (L q,) of a sequence, (L q,)."""
    size = letters.shape[0]
    # Accelerators round the factors of a product by default.
    return jnp.matmul(couplings.reshape(size, size), letters, precision="highest")


def dense_potts_logits(params: DensePotts, x) -> Array:
    r"""Return the logits of the letters of every site given all other sites.

    .. math:: \log P(x_i = a \mid x_{\neg i}) = h_i(a) + \sum_{j \ne i} J_{ij}(a, x_j)
              + \text{const}

    The change of energy by the mutation of site i to letter a is the difference of two logits,
    ``logits[i, x[i]] - logits[i, a]``.

    Args:
        params: ``DensePotts(couplings, fields)``, (L, q, L, q) and (L, q).
        x: (L,), integers from 0 to q - 1.

    Returns:
        (L, q).

    Raises:
        TypeError: floating letters. ValueError: a batch instead of one sequence, letters outside
            0 to q - 1.

    >>> import jax.numpy as jnp
    >>> params = DensePotts(jnp.ones((3, 2, 3, 2)), jnp.zeros((3, 2)))
    >>> dense_potts_logits(params, jnp.array([0, 1, 1])).tolist()
    [[2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]
    """
    couplings, fields = _parameters.dense_potts(params, DensePotts)
    letters = _letters(DensePotts(couplings, fields), x)
    return fields + _sums(couplings, letters).reshape(fields.shape)


def zero_sum_gauge(params: DensePotts) -> DensePotts:
    r"""Return parameters of the same distribution whose sums over letters are 0.

    .. math:: \hat J_{ij}(a, b) = J_{ij}(a, b) - J_{ij}(\cdot, b) - J_{ij}(a, \cdot)
              + J_{ij}(\cdot, \cdot), \quad
              \hat h_i(a) = h_i(a) - h_i(\cdot)
              + \sum_{j \ne i} [J_{ij}(a, \cdot) - J_{ij}(\cdot, \cdot)]

    where a dot is the mean over letters. It is the gauge with the smallest sum of squared
    couplings: their norms score contacts.
    Source: Ekeberg et al. (2013), Improved contact prediction in proteins: using pseudolikelihoods
    to infer Potts models, Physical Review E 87, 012707.

    Args:
        params: ``DensePotts(couplings, fields)``, (L, q, L, q) and (L, q).

    Returns:
        ``DensePotts``, its couplings symmetric with zero diagonal blocks.

    >>> import jax.numpy as jnp
    >>> params = zero_sum_gauge(DensePotts(jnp.ones((3, 4, 3, 4)), jnp.ones((3, 4))))
    >>> float(abs(params.couplings).max()), float(abs(params.fields).max())
    (0.0, 0.0)
    """
    couplings, fields = _parameters.dense_potts(params, DensePotts)
    over_own = jnp.mean(couplings, axis=1, keepdims=True)
    over_other = jnp.mean(couplings, axis=3, keepdims=True)
    over_both = jnp.mean(over_own, axis=3, keepdims=True)
    moved = jnp.sum(over_other - over_both, axis=(2, 3))
    fields = fields - jnp.mean(fields, axis=1, keepdims=True) + moved
    return DensePotts(couplings - over_own - over_other + over_both, fields)


def lattice_gas_gauge(params: DensePotts, reference: int = -1) -> DensePotts:
    r"""Return the parameters of the same distribution that are zero for one letter.

    .. math:: \hat J_{ij}(a, b) = J_{ij}(a, b) - J_{ij}(r, b) - J_{ij}(a, r) + J_{ij}(r, r), \quad
              \hat h_i(a) = h_i(a) - h_i(r) + \sum_{j \ne i} [J_{ij}(a, r) - J_{ij}(r, r)]

    for a reference letter r, which takes the part of an empty site. The energy of a sequence of r
    alone is 0.
    Source: Morcos et al. (2011), Direct-coupling analysis of residue coevolution captures native
    contacts across many protein families, PNAS 108(49).

    Args:
        params: ``DensePotts(couplings, fields)``, (L, q, L, q) and (L, q).
        reference: the letter r, from -q to q - 1; negative letters count from the last.

    Returns:
        ``DensePotts``, its couplings symmetric with zero diagonal blocks.

    Raises:
        ValueError: a reference that is not one of the letters.

    >>> import jax.numpy as jnp
    >>> params = DensePotts(jnp.ones((3, 2, 3, 2)), jnp.array([[0.0, 1.0]] * 3))
    >>> lattice_gas_gauge(params).fields.tolist()
    [[-1.0, 0.0], [-1.0, 0.0], [-1.0, 0.0]]
    """
    couplings, fields = _parameters.dense_potts(params, DensePotts)
    q = fields.shape[1]
    if _checks.count("reference", reference, -q) >= q:
        raise ValueError(f"reference must be a letter from {-q} to {q - 1}, got {reference}.")
    r = reference % q
    own, other = couplings[:, r : r + 1], couplings[..., r : r + 1]
    both = own[..., r : r + 1]
    moved = jnp.sum(other - both, axis=(2, 3))
    return DensePotts(couplings - own - other + both, fields - fields[:, r : r + 1] + moved)
