r"""Energy discrepancy: the energies of data against those of the data perturbed twice.

    L = mean_i log( w/M + 1/M sum_j exp(E(x_i) - E(x_ij)) )
    x_ij = perturb(perturb(x_i)), the first of the two the same for all j

It needs no scores, no chains and no partition function. With little noise it is score matching,
with much maximum likelihood. The perturbation is a kernel that is symmetric, q(x'|x) = q(x|x').
Source: Schroeder et al. (2023), Energy discrepancies: a score-independent loss for energy-based
models; for discrete data Schroeder et al. (2024), Energy-based modelling for discrete and mixed
data via heat equations on structured spaces.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax.objectives import _negatives
from ebm_jax.objectives.perturbations import Perturbation
from ebm_jax.types import Energy, Objective, Position


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
            axis, a perturbation of another structure. TypeError: a non-callable argument.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.objectives import gaussian_perturbation
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
        middle = _negatives.perturbed(perturb, once, batch)
        middle = jax.tree.map(lambda x: jnp.repeat(x, num_negatives, axis=0), middle)
        negatives = _negatives.perturbed(perturb, twice, middle)

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
