r"""Energy discrepancy: the energies of data against those of the data perturbed twice.

    L = mean_i log( w/M + 1/M sum_j exp(E(x_i) - E(x_ij)) )
    x_ij = perturb(perturb(x_i)), the first of the two the same for all j

It needs no scores, no chains and no partition function. With little noise it is score matching,
with much maximum likelihood. The perturbation is a kernel that is symmetric, q(x'|x) = q(x|x').
Source: Schroeder et al. (2023), Energy discrepancies: a score-independent loss for energy-based
models; for discrete data Schroeder et al. (2024), Energy-based modelling for discrete and mixed
data via heat equations on structured spaces.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks, _draws
from ebm_jax._noise import standard_normal
from ebm_jax._trees import partition
from ebm_jax.objectives import _negatives
from ebm_jax.samplers import _discrete
from ebm_jax.types import Energy, Key, Objective, Position

Perturbation = Callable[[Key, Position], Position]


def gaussian_perturbation(variance: ArrayLike) -> Perturbation:
    r"""Return x + sqrt(t) xi, of the floating leaves; the others stay.

    Args:
        variance: t > 0, of one step, in x^2.

    Returns:
        (key, positions) -> positions, the configurations on the leading axis.

    Raises:
        ValueError: a variance that is not finite and > 0.

    >>> import jax, jax.numpy as jnp
    >>> gaussian_perturbation(0.1)(jax.random.key(0), jnp.zeros((5, 2))).shape
    (5, 2)
    """
    _checks.positive("variance", variance)
    _checks.scalar("variance", variance)

    def perturb(key: Key, positions: Position) -> Position:
        moving, given, merge = partition(positions)
        noise = standard_normal(key, moving)
        pairs = zip(moving, noise, strict=True)
        return merge([(x + jnp.sqrt(variance) * xi).astype(x.dtype) for x, xi in pairs], given)

    return perturb


def bernoulli_perturbation(probability: ArrayLike) -> Perturbation:
    r"""Return the flip of every bit with a probability of its own, of boolean and 0/1 leaves.

    Args:
        probability: of a flip, in (0, 1).

    Returns:
        (key, positions) -> positions, the configurations on the leading axis.

    Raises:
        ValueError: a probability outside (0, 1), a variable that is neither 0 nor 1.
        TypeError: no integer or boolean leaf.

    >>> import jax, jax.numpy as jnp
    >>> bernoulli_perturbation(0.5)(jax.random.key(0), jnp.zeros((5, 2), bool)).dtype
    dtype('bool')
    """
    _checks.inside("probability", probability)

    def perturb(key: Key, positions: Position) -> Position:
        log_p = jnp.log(jnp.asarray(probability, float))
        return _flipped(positions, lambda x: _draws.bernoulli(key, log_p, x.shape))

    return perturb


def grid_perturbation() -> Perturbation:
    r"""Return the flip of one bit of every configuration, each equally likely.

    The smallest neighbourhood there is: perturbed twice, a configuration differs from the data in
    two bits or in none.

    Returns:
        (key, positions) -> positions, the configurations on the leading axis.

    >>> import jax, jax.numpy as jnp
    >>> grid_perturbation()(jax.random.key(0), jnp.zeros((5, 3), int)).sum(1).tolist()
    [1, 1, 1, 1, 1]
    """

    def perturb(key: Key, positions: Position) -> Position:
        def chosen(x: jax.Array) -> jax.Array:
            which = jax.random.randint(key, (len(x), 1), 0, x.shape[1])
            return jnp.arange(x.shape[1]) == which

        return _flipped(positions, chosen)

    return perturb


def _flipped(positions: Position, which: Callable[[jax.Array], jax.Array]) -> Position:
    """Return binary positions with the bits flipped that ``which`` says, (n, bits)."""
    bits = np.arange(2)
    _discrete.check_position(positions, bits)
    found = _discrete.variables(jax.tree.map(jnp.asarray, positions), bits)
    return jax.vmap(found.restore)(jnp.where(which(found.x), 1 - found.x, found.x), found.fixed)


def _perturbed(perturb: Perturbation, key: Key, positions: Position) -> Position:
    """Return perturbed positions, constants, or refuse what is none."""
    found = perturb(key, positions)
    _checks.alike("What perturb returns", found, positions)
    return jax.lax.stop_gradient(found)


def energy_discrepancy(
    energy: Energy,
    perturb: Perturbation,
    *,
    num_negatives: int = 16,
    stabilizer: ArrayLike = 1.0,
) -> Objective:
    r"""Return the energy discrepancy of an energy and a perturbation.

        L = mean_i log( w/M + 1/M sum_j exp(E(x_i) - E(x_ij)) )

    As M grows it becomes mean E(x) + mean log E_q[exp(-E(x_ij))], whose least value is where
    exp(-E) is proportional to the data's density.

    Args:
        energy: (params, x) -> ().
        perturb: (key, positions) -> positions of the same structure, from a symmetric kernel:
            ``gaussian_perturbation``, ``bernoulli_perturbation``, ``grid_perturbation``, or your
            own.
        num_negatives: M >= 1, for each example.
        stabilizer: w >= 0: with it an energy far above those around it weighs at most log w/M.

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss``, ``energy_positive``,
        ``energy_negative`` and ``energy_gap``, their difference.

    Raises:
        ValueError: num_negatives < 1, a negative stabiliser, batches without a common leading
            axis, a perturbation of another structure. TypeError: what is no function.

    >>> import jax, jax.numpy as jnp
    >>> objective = energy_discrepancy(lambda params, x: 0.0 * params, gaussian_perturbation(0.1))
    >>> value, _ = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> round(float(value), 4) == round(float(jnp.log1p(1 / 16)), 4)
    True
    """
    _checks.function("energy", energy)
    _checks.function("perturb", perturb)
    _checks.count("num_negatives", num_negatives)
    _checks.weight("stabilizer", stabilizer)

    def loss(params, state, batch, key):
        num = _checks.leading_axis("batch", batch)
        batch = jax.tree.map(jnp.asarray, batch)
        once, twice = jax.random.split(key)
        middle = _perturbed(perturb, once, batch)
        middle = jax.tree.map(lambda x: jnp.repeat(x, num_negatives, axis=0), middle)
        negatives = _perturbed(perturb, twice, middle)

        def energies(name: str, x: Position) -> jax.Array:
            return _checks.energies(lambda one: energy(params, one), x, name)

        positive = energies("batch", batch)
        negative = energies("negatives", negatives).reshape(num, num_negatives)
        differences = positive[:, None] - negative
        weight = jnp.log(jnp.asarray(stabilizer, differences.dtype))
        terms = jnp.concatenate([jnp.full((num, 1), weight), differences], axis=1)
        value = jnp.mean(jax.nn.logsumexp(terms, axis=1)) - np.log(num_negatives)
        return value, (state, {"loss": value} | _negatives.means(positive, negative))

    return Objective(lambda params, key: (), loss)
