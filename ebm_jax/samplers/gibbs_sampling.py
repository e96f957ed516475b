r"""Gibbs sampling: variables drawn one or a block at a time, given all the others.

.. math:: x_B \sim P(x_B \mid x_\text{rest}) \propto \exp(-\beta E(x))

for restricted Boltzmann machines, lattices, and any energy whose variables have few values. The
chains lie on the leading axis of every leaf. Integer and boolean leaves move; floating-point leaves
are unchanged. Each block is drawn from its exact conditional distribution, up to the rounding of
the energies: the draws resolve probabilities down to :math:`2^{-60}`. At ``beta=jnp.inf`` the
values of lowest energy are drawn with equal probabilities.

All samplers here take these options:

* ``beta``: inverse temperature >= 0 of the target :math:`\exp(-\beta E)`: one number, or one per
  chain.
* ``clamp``: boolean mask, True for variables that stay fixed, broadcasting to the positions (one
  configuration, or one per chain); a pytree of masks if positions are a pytree. The other variables
  are then sampled given the fixed ones, for conditional sampling or inpainting.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _bits, _checks, _discrete, gibbs
from ebm_jax._trees import check_chains, check_energy
from ebm_jax.energies import _parameters
from ebm_jax.energies.boltzmann import RBM, CategoricalRBM
from ebm_jax.energies.lattice import Ising, Potts
from ebm_jax.samplers import _checkerboard
from ebm_jax.types import Array, Energy, Key, Position, PyTree, Sampler


class GibbsState(NamedTuple):
    """The positions of the chains."""

    position: Position


class GibbsInfo(NamedTuple):
    """Energy and fraction of changed variables of every chain, each (chains,).

    Attributes:
        energy: E(x).
        changed: fraction of the variables whose value the sweep changed.
    """

    energy: Array
    changed: Array


class RBMInfo(NamedTuple):
    r"""The chains after a step: the energy and the means of the visible units.

    Attributes:
        energy: E(v, h), (chains,), of the visible units and the hidden units from which they were
            drawn.
        visible_mean: :math:`P(v_i = 1 \mid h)`, (chains, visible), for clamped units too; for a
            ``CategoricalRBM`` :math:`P(v_i = k \mid h)`, (chains, visible, q). As images these
            probabilities are smoother than the units.
    """

    energy: Array
    visible_mean: Array


class LatticeState(NamedTuple):
    """The two colours of the checkerboard, (rows, columns / 2, chains) each."""

    even: Array
    odd: Array

    @property
    def position(self) -> Array:
        """The lattices, (chains, rows, columns)."""
        return _checkerboard.join(self.even, self.odd)


class LatticeInfo(NamedTuple):
    """Energy of every chain after a sweep.

    Attributes:
        energy: E(x), (chains,).
    """

    energy: Array


def _start(position: Position, values: np.ndarray) -> Position:
    """Validate and return positions as arrays."""
    check_chains(position)
    _discrete.check_position(position, values)
    return jax.tree.map(jnp.asarray, position)


def rbm_gibbs(
    params: RBM | CategoricalRBM, *, beta: ArrayLike = 1.0, clamp: ArrayLike | None = None
) -> Sampler:
    r"""Return a block Gibbs sampler for a restricted Boltzmann machine.

    .. math:: h \sim \text{Bernoulli}(\sigma(\beta (c + v^T W))), \qquad
        v \sim \text{Bernoulli}(\sigma(\beta (b + W h)))

    Units with q categories are drawn from the softmax of :math:`\beta (b + W h)`. A step takes two
    matrix products. It is reversible for the marginal distribution of v under
    :math:`\exp(-\beta E(v, h))`. At beta = 1 this is :math:`\exp(-F(v))` with
    ``boltzmann.rbm_free_energy``; at other beta it is not :math:`\exp(-\beta F(v))`, so do not use
    the free energy with ``replica_exchange``. Source: Hinton (2002), Training products of experts
    by minimizing contrastive divergence, Neural Computation 14(8).

    Args:
        params: ``RBM`` or ``CategoricalRBM``.
        beta: inverse temperature >= 0 of E(v, h): one number, or one per chain.
        clamp: boolean mask of visible units that stay fixed, (visible,) or (chains, visible).

    Returns:
        A ``Sampler`` of integer or boolean positions (chains, visible), with ``GibbsState`` and
        ``RBMInfo``.

    Raises:
        TypeError: if positions are floating point.
        ValueError: if beta is negative, or positions have another shape.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.energies.boltzmann import RBM
    >>> sampler = rbm_gibbs(RBM(jnp.zeros((6, 3)), jnp.zeros(6), jnp.zeros(3)))
    >>> state = sampler.init(jnp.zeros((100, 6), bool))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> state.position.shape, float(info.visible_mean[0, 0])
    ((100, 6), 0.5)
    """
    _checks.nonnegative("beta", beta)
    _parameters.check_machine(params, RBM, CategoricalRBM)
    weights, visible, hidden = (jnp.asarray(p) for p in params)
    num_visible, num_hidden = weights.shape[0], weights.shape[-1]
    categories = jnp.arange(weights.shape[1]) if isinstance(params, CategoricalRBM) else None
    values = np.arange(2 if categories is None else categories.shape[0])
    weights = weights.reshape(visible.size, num_hidden)
    # The sums of bfloat16 products are exact to float32: rounded, they would bias probabilities.
    wide = jnp.promote_types(weights.dtype, jnp.float32)
    product = functools.partial(jnp.matmul, preferred_element_type=wide)

    def init(position: Array) -> GibbsState:
        v = _start(position, values)
        if np.shape(v)[1:] != (num_visible,):
            raise ValueError(
                f"Positions must be visible units, (chains, {num_visible}), got {np.shape(v)}."
            )
        if not _discrete.moves(v):
            raise TypeError(f"Units must be integers or booleans (v > 0.5, say), got {v.dtype}.")
        return GibbsState(v)

    def indicators(v: Array) -> Array:
        """Return the numbers that the energy is linear in, (chains, visible bias)."""
        if categories is not None:
            v = (v[..., None] == categories).reshape(v.shape[0], visible.size)
        return v.astype(weights.dtype)

    def step(key: Key, state: GibbsState) -> tuple[GibbsState, RBMInfo]:
        _checks.one_key(key)
        v = state.position
        of_hidden, of_visible = -(-num_hidden // 2), -(-num_visible // 2)
        counters = of_hidden + of_visible + 1
        fractions = _bits.fractions(key, v.shape[0], counters)
        options = {"n": counters, "start": of_hidden}
        logits = _discrete.scaled(beta, product(indicators(v), weights) + hidden[None])
        h = _bits.units(key, logits, fractions[0], n=counters, start=0).astype(weights.dtype)
        field = product(h, weights.T) + visible.reshape(1, visible.size)
        if categories is None:
            logits = _discrete.scaled(beta, field)
            new, mean = _bits.units(key, logits, fractions[1], **options), jax.nn.sigmoid(logits)
        else:
            fields = field.reshape(v.shape[0], *visible.shape)
            fields = [fields[..., k] for k in range(visible.shape[1])]
            logits = jnp.stack(_discrete.scaled_gaps(beta, fields), axis=-1)
            new = _bits.categories(key, logits, fractions[1], **options)
            mean = jax.nn.softmax(logits)
        new = new.astype(v.dtype)
        if clamp is not None:
            new = jnp.where(_discrete.clamped_leaf(clamp, v.shape), v, new)
        # The energy of (v, h) from what was computed already: no further product.
        of_visible_units = jnp.sum(indicators(new).astype(field.dtype) * field, axis=1)
        energy = -of_visible_units - jnp.sum(h * hidden[None], axis=1)
        return GibbsState(new), RBMInfo(energy, mean)

    return Sampler(init, step, lambda state: state)


def checkerboard_gibbs(
    params: Ising | Potts, *, beta: ArrayLike = 1.0, clamp: ArrayLike | None = None
) -> Sampler:
    r"""Return a Gibbs sampler for lattices that draws half of the sites at once.

    .. math:: P(x_i = k \mid \text{rest}) \propto
        \exp\Big( \beta \Big( K \sum_{j \sim i} [x_j = k] + h(k) \Big) \Big)

    for the Potts model; the Ising model is analogous. The sites of one colour of a checkerboard are
    not neighbours, so they are independent given the others. A step is a sweep: first the even
    sites, then the odd ones. It leaves the target invariant. Source: Geman and Geman (1984),
    Stochastic relaxation, Gibbs distributions, and the Bayesian restoration of images, IEEE PAMI 6.

    Args:
        params: ``Ising(coupling, field)`` for spins -1 and 1, or ``Potts(coupling, field)`` for
            colours 0 to q - 1.
        beta: inverse temperature >= 0: one number, or one per chain.
        clamp: boolean mask of sites that stay fixed, (rows, columns) or (chains, rows, columns).

    Returns:
        A ``Sampler`` of integer positions (chains, rows, columns), with even rows and columns, with
        ``LatticeState`` and ``LatticeInfo``; int8 takes the least memory.

    Raises:
        TypeError: if positions are not integers, or their dtype cannot hold the values.
        ValueError: if a side is odd, beta is negative, or a site has an invalid value.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.energies.lattice import Ising
    >>> sampler = checkerboard_gibbs(Ising(0.44), beta=0.5)
    >>> state = sampler.init(jnp.ones((10, 8, 8), jnp.int8))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> state.position.shape, info.energy.shape
    ((10, 8, 8), (10,))
    """
    _checks.nonnegative("beta", beta)
    potts = isinstance(params, Potts)
    wide = _parameters.lattice(params, Potts if potts else Ising, int(potts))
    # Narrow parameters would round sums over bonds; Python numbers stay known under ``jit``.
    pairs = zip(params, wide, strict=True)
    params = type(params)(*(p if isinstance(p, int | float) else w for p, w in pairs))  # pyright: ignore
    values = np.arange(np.shape(params.field)[0]) if potts else np.array([-1, 1])

    def init(position: Array) -> LatticeState:
        x = _start(position, values)
        if np.ndim(x) != 3 or x.shape[1] % 2 or x.shape[2] % 2:
            raise ValueError(
                "Positions must be lattices (chains, rows, columns) of even sides, got "
                f"{np.shape(x)}: use systematic_scan_gibbs for lattices of other shapes."
            )
        if not jnp.issubdtype(x.dtype, jnp.integer):
            raise TypeError(f"Sites must be integers, got {x.dtype}.")
        return LatticeState(*_checkerboard.split(x))

    def update(key: Key, own: Array, other: Array, parity: int, stay) -> Array:
        new = _checkerboard.draw(params, beta, key, other, parity, own.dtype)
        return new if stay is None else jnp.where(stay, own, new)

    def step(key: Key, state: LatticeState) -> tuple[LatticeState, LatticeInfo]:
        _checks.one_key(key)
        even, odd = state
        rows, half, chains = even.shape
        stay = (None, None)
        if clamp is not None:
            stay = _checkerboard.split(_discrete.clamped_leaf(clamp, (chains, rows, 2 * half)))
        even = update(key, even, odd, 0, stay[0])
        odd = update(key, odd, even, 1, stay[1])
        around = _checkerboard.neighbours(even, 1)
        energy = _checkerboard.energy(params, even, odd, around)
        return LatticeState(even, odd), LatticeInfo(energy)

    return Sampler(init, step, lambda state: state)


def systematic_scan_gibbs(
    energy: Energy,
    *,
    values=(0, 1),
    block_size: int = 1,
    beta: ArrayLike = 1.0,
    clamp: PyTree = None,
) -> Sampler:
    r"""Return a Gibbs sampler for any energy of discrete variables, block after block.

    .. math:: P(x_B = k \mid \text{rest}) = \frac{\exp(-\beta E(k, \text{rest}))}
        {\sum_{k'} \exp(-\beta E(k', \text{rest}))}

    A step is a sweep over the blocks in order. For each of the n / block_size blocks it evaluates
    the energy for all q^block_size values of the block. At beta = inf it draws uniformly among the
    values of lowest energy. If all energies are +inf, or one is NaN, the block stays unchanged.
    Source: Geman and Geman (1984).

    Args:
        energy: function x -> () of one configuration.
        values: values that a variable may take, (q,): (0, 1) for units, (-1, 1) for spins, range(q)
            for categories.
        block_size: number of variables that are drawn together, consecutive in the flattened
            position. If it does not divide n, the last block overlaps the one before.
        beta: inverse temperature >= 0: one number, or one per chain.
        clamp: boolean mask of variables that stay fixed, like the positions.

    Returns:
        A ``Sampler`` of positions with integer or boolean leaves, with ``GibbsState`` and
        ``GibbsInfo``.

    Raises:
        TypeError: if positions have no integer or boolean leaf, or a dtype that cannot hold the
            values.
        ValueError: if beta is negative, blocks are larger than a configuration, or a variable has
            an invalid value.

    >>> import jax, jax.numpy as jnp
    >>> energy = lambda x: jnp.abs(x.sum() - 2.0)
    >>> sampler = systematic_scan_gibbs(energy, values=range(3), beta=jnp.inf)
    >>> state = sampler.init(jnp.zeros((5, 4), int))
    >>> state, info = sampler.step(jax.random.key(0), state)
    >>> info.energy.tolist()
    [0.0, 0.0, 0.0, 0.0, 0.0]
    """
    _checks.function("energy", energy)
    _checks.nonnegative("beta", beta)
    values, block_size = (
        _discrete.check_values(values),
        _checks.count("block_size", block_size),
    )
    q, size = len(values), block_size
    choices = jnp.asarray(_digits(np.arange(q**size, dtype=np.int32), q, size))

    def init(position: Position) -> GibbsState:
        position = _start(position, values)
        check_energy(energy, position)
        n = _discrete.variables(position, values).x.shape[1]
        if block_size > n:
            raise ValueError(f"block_size must be at most the {n} variables, got {block_size}.")
        return GibbsState(position)

    def step(key: Key, state: GibbsState) -> tuple[GibbsState, GibbsInfo]:
        _checks.one_key(key)
        start, fixed, restore, _ = _discrete.variables(state.position, values)
        stay = _discrete.clamped(clamp, state.position)
        chains, n = start.shape
        over_choices = jax.vmap(lambda x, f: energy(restore(x, f)), (0, None))

        def update(block: Array, carry: tuple[Array, Array]) -> tuple[Array, Array]:
            x, _ = carry
            first = jnp.minimum(block * size, n - size)  # the last may overlap
            current = jax.lax.dynamic_slice_in_dim(x, first, size, 1)
            energies = jax.vmap(over_choices)(_put(choices, x, first), fixed)
            allowed = None
            if stay is not None:
                held = jax.lax.dynamic_slice_in_dim(stay, first, size, 1)
                allowed = jnp.all((choices == current[:, None]) | ~held[:, None], axis=-1)
            block_key = jax.random.fold_in(key, block)
            drawn = gibbs.sample(block_key, energies, beta=beta, where=allowed)  # pyright: ignore
            new = jnp.where(drawn[:, None] < 0, current, _digits(drawn, q, size))
            return jax.lax.dynamic_update_slice_in_dim(x, new, first, 1), _at(energies, drawn)

        nothing = jnp.zeros(chains, jax.eval_shape(jax.vmap(energy), state.position).dtype)
        x, at = jax.lax.fori_loop(0, -(-n // size), update, (start, nothing))
        info = GibbsInfo(at, jnp.mean((x != start).astype(jnp.float32), axis=1))
        return GibbsState(jax.vmap(restore)(x, fixed)), info

    return Sampler(init, step, lambda state: state)


def _digits(numbers, q: int, size: int):
    """Return the digits in base q, (n, size): choice k gives the block these values."""
    powers = (q ** np.arange(size)[::-1]).astype(np.int32)
    return numbers[:, None].astype(np.int32) // powers[None] % q


def _put(choices: Array, x: Array, first: Array) -> Array:
    """Return x with each choice in place of a block, (chains, choices, n)."""
    size = choices.shape[1]
    place = jnp.arange(x.shape[1]) - first
    inside = (place >= 0) & (place < size)
    return jnp.where(inside, choices[:, jnp.clip(place, 0, size - 1)], x[:, None])


def _at(energies: Array, drawn: Array) -> Array:
    """Return the energy of each chain's draw; the highest if the draw is -1."""
    chosen = drawn[:, None] == jnp.arange(energies.shape[1])[None]
    at = jnp.sum(jnp.where(chosen, energies, 0), axis=1, dtype=energies.dtype)
    return jnp.where(drawn < 0, jnp.max(energies, axis=1), at)
