r"""Gibbs sampling of pairwise models on any graph, in parallel by colour.

``beta`` and ``clamp`` are those of ``samplers.gibbs_sampling``.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _discrete
from ebm_jax.energies import _parameters
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.samplers import _colouring, _graph
from ebm_jax.samplers.gibbs_sampling import GibbsInfo, _start
from ebm_jax.types import Array, Key, Sampler


class GraphState(NamedTuple):
    """The variables in the order in which they are drawn, and the place of each.

    Attributes:
        columns: (n, chains).
        places: the row of each variable, (n,).
    """

    columns: Array
    places: Array

    @property
    def position(self) -> Array:
        """The variables, (chains, n)."""
        if self.places.ndim == 1:
            return _graph.at(self.columns, self.places).T
        found = jnp.take_along_axis(self.columns, self.places[..., None], axis=-2)
        return jnp.swapaxes(found, -1, -2)  # of states that were collected


def graph_gibbs(
    params: Pairwise,
    edges: ArrayLike,
    *,
    values=None,
    beta: ArrayLike = 1.0,
    clamp: ArrayLike | None = None,
) -> Sampler:
    r"""Return a Gibbs sampler for a pairwise model on a graph, by graph colour.

    .. math::
        P(x_i = k \mid \text{rest}) \propto
        \exp \beta \Big( \sum_j J_{ij}(k, x_j) + h_i(k) \Big)

    For spins and units (0 and 1), :math:`J_{ij}(k, x_j) = J_{ij} k x_j` and :math:`h_i(k) = h_i k`.
    If the fields have the shape (n, q), the variables are categories 0 to q - 1, and a coupling is
    a (q, q) matrix, or a number that counts where the two categories are equal. The graph is
    coloured on the host when the sampler is constructed. Neighbours have different colours, so
    drawing all variables of a colour at once is the same as drawing them in turn. A step is a sweep
    over the colours, which leaves the target invariant. For spins and units the
    sampler is fastest if all couplings have the same magnitude and all fields are equal, and
    neither is traced when the sampler is constructed.
    Source: Gonzalez, Low, Gretton and Guestrin (2011), Parallel Gibbs sampling: from colored fields
    to thin junction trees, AISTATS.

    Args:
        params: ``Pairwise(couplings, fields)``, the energy being ``pairwise.energy``.
        edges: integers (m, 2), pairs of different variables, not traced.
        values: values of a variable, integers (q,): (-1, 1) for spins, None for units (0 and 1)
            and for categories.
        beta: inverse temperature >= 0, () or (chains,).
        clamp: booleans (n,) or (chains, n), True for variables that do not move.

    Returns:
        A ``Sampler`` of positions (chains, n), integer or boolean, with ``GraphState`` and
        ``GibbsInfo``; int8 is fastest.

    Raises:
        TypeError: if edges are traced, or positions are floating point or of a type that cannot
            hold the values.
        ValueError: if edges do not fit the parameters, beta is negative, or a variable has a value
            that is not in ``values``.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.energies.pairwise import Pairwise
    >>> triangle = [(0, 1), (1, 2), (0, 2)]
    >>> sampler = graph_gibbs(Pairwise(-jnp.ones(3), jnp.zeros(3)), triangle, values=(-1, 1))
    >>> state = sampler.init(jnp.ones((10, 3), jnp.int8))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> state.position.shape, info.energy.shape
    ((10, 3), (10,))
    """
    _checks.nonnegative("beta", beta)
    couplings, fields, edges = _parameters.pairwise(params, Pairwise, edges)
    known = _parameters.values(fields, values)
    if known.dtype.kind not in "iu":
        raise TypeError(f"values must be integers, got {values!r}: positions are integers.")
    known = known.astype(np.int64)  # differences of narrow integers would wrap
    num, layout = len(fields), _colouring.layout(len(fields), edges)
    model = _graph.model(couplings, fields, known)

    def init(position: Array) -> GraphState:
        x = _start(position, known)
        if np.shape(x)[1:] != (num,):
            raise ValueError(
                f"Positions must be (chains, {num}) for fields {fields.shape}, got {np.shape(x)}."
            )
        if not _discrete.moves(x):
            raise TypeError(f"Positions must be integers or booleans, got {x.dtype}.")
        return GraphState(_graph.at(x.T, layout.order), jnp.asarray(layout.places, jnp.int32))

    def step(key: Key, state: GraphState) -> tuple[GraphState, GibbsInfo]:
        _checks.one_key(key)
        dtype = state.columns.dtype
        x = state.columns.astype(jnp.int8) if dtype == jnp.bool_ else state.columns
        stay = None if clamp is None else _graph.at(_stay(clamp, x.shape), layout.order)
        new = _graph.sweep(layout, model, beta, key, x, stay)
        changed = jnp.mean((new != x).astype(jnp.float32), axis=0)
        info = GibbsInfo(_graph.energy(layout, model, new), changed)
        return GraphState(new.astype(dtype), state.places), info

    return Sampler(init, step, lambda state: state)


def _stay(clamp: ArrayLike, shape: tuple[int, ...]) -> Array:
    """Return which variables stay, (n, chains), or (n, 1) where they are the same ones."""
    n, chains = shape
    stay = _discrete.clamped_leaf(clamp, (chains, n))
    alike = np.ndim(clamp) < 2 or np.shape(clamp)[0] == 1
    return stay[:1].T if alike else stay.T
