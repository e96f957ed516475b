"""Energies of spins and colours on a torus: the Ising and Potts models.

Each is a function energy(params, x) -> (). A configuration is a matrix of sites, each with four
neighbours. Along a side of length two the two neighbours of a site are the same site. Along a side
of length one every site is its own neighbour, which adds a constant to the energy. ``..._logits``
return the logits of every site given all the others at beta = 1; multiply them by beta for other
temperatures. ``partition.exact`` has the partition function of the Ising model. All functions raise
ValueError for a batch of lattices, and TypeError for booleans; spins must have a signed type,
colours an integer type.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.energies import _parameters
from ebm_jax.types import Array


class Ising(NamedTuple):
    """Parameters of the Ising model.

    Attributes:
        coupling: K, (): coupling of neighbouring spins; ferromagnetic if > 0.
        field: h, (): field on every spin.
    """

    coupling: Array | float
    field: Array | float = 0.0


class Potts(NamedTuple):
    """Parameters of the Potts model.

    Attributes:
        coupling: K, (): coupling of neighbours with the same colour.
        field: h, (q,): field on each of the q colours.
    """

    coupling: Array | float
    field: Array


def _lattice(name: str, x) -> Array:
    x = _checks.array(name, x)
    if x.ndim != 2:
        raise ValueError(
            f"{name} must be one lattice of shape (rows, columns), got {x.shape}: vmap a batch."
        )
    if x.dtype == bool:
        raise TypeError(f"{name} must be numbers, got booleans: a spin is -1 or 1, not 0 or 1.")
    return x


def _spins(spins) -> Array:
    x = _lattice("spins", spins)
    if jnp.issubdtype(x.dtype, jnp.unsignedinteger):
        raise TypeError(f"spins must be of a signed type, which holds -1 and 1, got {x.dtype}.")
    return x


def _potts(params: Potts, colours) -> tuple[Array, Array, Array]:
    """Return the coupling, the field and one lattice of colours, all validated."""
    coupling, field = _parameters.lattice(params, Potts, 1)
    _lattice("colours", colours)
    return coupling, field, _checks.categories("colours", colours, len(field), "checkerboard_gibbs")


def _neighbours(x: Array) -> list[Array]:
    """Return the arrays of neighbours of every site; none along a side of length 1."""
    axes = [axis for axis in (0, 1) if x.shape[axis] > 1]
    return [jnp.roll(x, shift, axis) for axis in axes for shift in (1, -1)]


def ising(params: Ising, spins) -> Array:
    r"""Return the energy of the Ising model on a torus.

    .. math:: E(s) = -K \sum_{\langle ij \rangle} s_i s_j - h \sum_i s_i

    For other graphs use ``boltzmann.boltzmann_machine`` with spins.
    Source: E. Ising (1925), Beitrag zur Theorie des Ferromagnetismus, Z. Physik 31.

    Args:
        params: ``Ising(coupling, field)``.
        spins: (rows, columns) of -1 and 1.

    Returns:
        (), in nats at beta = 1.

    >>> import jax.numpy as jnp
    >>> float(ising(Ising(0.5), jnp.ones((4, 4), jnp.int8)))  # 32 bonds
    -16.0
    """
    coupling, field = _parameters.lattice(params, Ising, 0)
    s = _spins(spins).astype(field.dtype)
    bonds = s * (jnp.roll(s, 1, 0) + jnp.roll(s, 1, 1))
    return -(coupling * jnp.sum(bonds) + field * jnp.sum(s))


def ising_logits(params: Ising, spins) -> Array:
    r"""Return the logit of every spin being 1, given all the others.

    .. math:: \log \frac{P(s_i = 1 \mid \text{rest})}{P(s_i = -1 \mid \text{rest})}
        = 2 \Big( K \sum_{j \sim i} s_j + h \Big)

    Args:
        params: ``Ising(coupling, field)``.
        spins: (rows, columns) of -1 and 1.

    Returns:
        (rows, columns).

    >>> import jax.numpy as jnp
    >>> float(ising_logits(Ising(0.5), jnp.ones((4, 4), jnp.int8))[0, 0])
    4.0
    """
    coupling, field = _parameters.lattice(params, Ising, 0)
    s = _spins(spins).astype(field.dtype)
    return 2 * (coupling * sum(_neighbours(s), jnp.zeros_like(s)) + field)


def potts(params: Potts, colours) -> Array:
    r"""Return the energy of the Potts model on a torus.

    .. math:: E(x) = -K \sum_{\langle ij \rangle} [x_i = x_j] - \sum_i h(x_i)

    With two colours this is the Ising model with coupling K / 2, up to a constant. Source: R. B.
    Potts (1952), Some generalized order-disorder transformations, Proc. Camb. Phil. Soc. 48.

    Args:
        params: ``Potts(coupling, field)``.
        colours: integers (rows, columns), from 0 to q - 1.

    Returns:
        (), in nats at beta = 1.

    Raises:
        TypeError: if colours are floating point.
        ValueError: if a colour is not from 0 to q - 1, or colours are a batch.

    >>> import jax.numpy as jnp
    >>> float(potts(Potts(0.5, jnp.zeros(3)), jnp.zeros((4, 4), jnp.int8)))
    -16.0
    """
    coupling, field, x = _potts(params, colours)
    same = sum((x == jnp.roll(x, 1, axis)).astype(field.dtype) for axis in (0, 1))
    return -(coupling * jnp.sum(same) + jnp.sum(field[x]))


def potts_logits(params: Potts, colours) -> Array:
    r"""Return the logits of every site's colours given all the others.

    .. math:: \log P(x_i = k \mid \text{rest}) = K \sum_{j \sim i} [x_j = k] + h(k) + \text{const}

    The logits leave the constant out.

    Args:
        params: ``Potts(coupling, field)``.
        colours: integers (rows, columns), from 0 to q - 1.

    Returns:
        (rows, columns, q).

    Raises:
        TypeError: if colours are floating point.
        ValueError: if a colour is not from 0 to q - 1, or colours are a batch.

    >>> import jax.numpy as jnp
    >>> potts_logits(Potts(0.5, jnp.zeros(3)), jnp.zeros((4, 4), jnp.int8))[0, 0].tolist()
    [2.0, 0.0, 0.0]
    """
    coupling, field, x = _potts(params, colours)
    q = field.shape[0]
    of_neighbours = [jax.nn.one_hot(n, q, dtype=field.dtype) for n in _neighbours(x)]
    return coupling * sum(of_neighbours, jnp.zeros((*x.shape, q), field.dtype)) + field
