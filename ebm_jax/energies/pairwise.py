r"""Pairwise energies on any graph, such as spin glasses and sparse Potts models.

The energy is ``energy(params, x, edges) -> ()``. A graph is a list of edges between the variables 0
to n - 1: integers (m, 2), in any order, known when traced. An edge listed twice counts twice. The
fields decide what a variable is:

* ``fields`` (n,), ``couplings`` (m,): numbers, such as spins -1 and 1 or units 0 and 1.
* ``fields`` (n, q), ``couplings`` (m, q, q): categories 0 to q - 1. ``couplings`` (m,) are those
  of the Potts model, for two variables of one category.

``logits`` returns the logits of every variable given all the others at beta = 1; multiply them by
beta for other temperatures. Bind the edges to get an energy of the usual form,
``functools.partial(energy, edges=edges)``. ``samplers.graph_gibbs`` samples these models,
``partition.exact.log_partition`` has their log Z. Dense couplings of numbers are a
``boltzmann.boltzmann_machine``.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax.energies import _parameters
from ebm_jax.types import Array


class Pairwise(NamedTuple):
    """Parameters of a pairwise model on a graph with n variables and m edges.

    Attributes:
        couplings: couplings of the edges, (m,), or (m, q, q) for categories.
        fields: fields of the variables, (n,), or (n, q) for categories.
    """

    couplings: Array
    fields: Array


def _configuration(x, fields: Array) -> Array:
    """Validate and return one configuration: numbers of the type of the fields, or categories."""
    if fields.ndim == 1:
        x = _checks.array("x", x).astype(fields.dtype)
    else:
        x = _checks.categories("x", x, fields.shape[1], "graph_gibbs")
    if x.shape != fields.shape[:1]:
        raise ValueError(
            f"x must be one configuration of shape {fields.shape[:1]} for fields {fields.shape}, "
            f"got {x.shape}: vmap a batch."
        )
    return x


def energy(params: Pairwise, x: ArrayLike, edges: ArrayLike) -> Array:
    r"""Return the energy of a pairwise model.

    .. math::
        E(x) = -\sum_{(i,j)} J_{ij} x_i x_j - \sum_i h_i x_i \quad\text{(numbers)}

        E(x) = -\sum_{(i,j)} J_{ij}(x_i, x_j) - \sum_i h_i(x_i) \quad\text{(categories)}

    Couplings (m,) of categories are :math:`J_{ij}(a, b) = J_{ij} [a = b]`.
    Source: Edwards and Anderson (1975), Theory of spin glasses, J. Phys. F 5; Wu (1982), The Potts
    model, Rev. Mod. Phys. 54.

    Args:
        params: ``Pairwise(couplings, fields)``. A field may be infinite: -inf forbids a category,
            inf holds a spin or a unit at 1.
        x: (n,) numbers, or integers from 0 to q - 1.
        edges: integers (m, 2), pairs of different variables; row e has the coupling e.

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: if edges are traced or not integers, or categories are floating point.
        ValueError: if shapes do not fit together, an edge leads to a variable that does not exist
            or from a variable to itself, x is a batch, or a category is not from 0 to q - 1.

    >>> import jax.numpy as jnp
    >>> triangle = [(0, 1), (1, 2), (0, 2)]
    >>> float(energy(Pairwise(-jnp.ones(3), jnp.zeros(3)), jnp.array([1, 1, -1]), triangle))
    -1.0
    """
    couplings, fields, edges = _parameters.pairwise(params, Pairwise, edges)
    x, (i, j) = _configuration(x, fields), edges.T
    if fields.ndim == 1:
        return -(
            jnp.sum(_parameters.times(couplings, x[i] * x[j]))
            + jnp.sum(_parameters.times(fields, x))
        )
    if couplings.ndim == 1:
        pairs = jnp.where(x[i] == x[j], couplings, 0.0)
    else:
        pairs = couplings[jnp.arange(len(edges)), x[i], x[j]]
    return -(jnp.sum(pairs) + jnp.sum(fields[jnp.arange(len(fields)), x]))


def logits(params: Pairwise, x: ArrayLike, edges: ArrayLike) -> Array:
    r"""Return the logits of every variable given all the others.

    .. math::
        \log \frac{P(x_i = 1 \mid \text{rest})}{P(x_i = 0 \mid \text{rest})}
        = \sum_j J_{ij} x_j + h_i \quad\text{(units)}

        \log P(x_i = k \mid \text{rest}) = \sum_j J_{ij}(k, x_j) + h_i(k) + \text{const}
        \quad\text{(categories)}

    Over spins the logit of 1 against -1 is twice that of units.

    Args:
        params: ``Pairwise(couplings, fields)``.
        x: (n,) numbers, or integers from 0 to q - 1.
        edges: integers (m, 2), pairs of different variables.

    Returns:
        (n,) for numbers, (n, q) for categories.

    Raises:
        TypeError: if edges are traced or not integers, or categories are floating point.
        ValueError: if shapes do not fit together, an edge leads to a variable that does not exist
            or from a variable to itself, x is a batch, or a category is not from 0 to q - 1.

    >>> import jax.numpy as jnp
    >>> chain = Pairwise(jnp.array([1.0, 3.0]), jnp.zeros(3))
    >>> logits(chain, jnp.array([1, 0, 1]), [(0, 1), (1, 2)]).tolist()
    [0.0, 4.0, 0.0]
    """
    couplings, fields, edges = _parameters.pairwise(params, Pairwise, edges)
    x, (i, j) = _configuration(x, fields), edges.T
    if fields.ndim == 1:
        to_i, to_j = _parameters.times(couplings, x[j]), _parameters.times(couplings, x[i])
    elif couplings.ndim == 1:
        chosen = jax.nn.one_hot(x, fields.shape[1], dtype=fields.dtype)
        to_i, to_j = (_parameters.times(couplings[:, None], chosen[end]) for end in (j, i))
    else:
        edge = jnp.arange(len(edges))
        to_i, to_j = couplings[edge, :, x[j]], couplings[edge, x[i], :]
    return fields.at[i].add(to_i).at[j].add(to_j)
