"""Energy discrepancy: energies of data against energies of data perturbed twice.

It needs no scores, no chains and no partition function. With little noise it approaches score
matching, with much noise maximum likelihood. Source: Schroeder et al. (2023), Energy discrepancies:
a score-independent loss for energy-based models; for discrete data Schroeder et al. (2024),
Energy-based modelling for discrete and mixed data via heat equations on structured spaces.
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

    .. math:: L = \operatorname{mean}_i \log \Big( \frac{w}{M}
        + \frac{1}{M} \sum_{j=1}^M \exp(E(x_i) - E(x_{ij})) \Big)

    where :math:`\bar x_i` is a perturbation of :math:`x_i`, and :math:`x_{ij}` one of :math:`\bar
    x_i` for each j. As M grows, L tends to :math:`\operatorname{mean}_i (E(x_i) + \log
    \mathbb{E}[\exp(-E(x_{ij})) \mid \bar x_i])`. The mean of this limit over data and perturbations
    is lowest if exp(-E) is proportional to the density of the data.

    Args:
        energy: function (params, x) -> () of one configuration.
        perturb: function (key, positions) -> positions of the same structure, from a symmetric
            kernel, q(x'|x) = q(x|x'): ``gaussian_perturbation``, ``bernoulli_perturbation``,
            ``grid_perturbation``, or your own.
        num_negatives: number M >= 1 of negatives per example.
        stabilizer: :math:`w \ge 0`. With w > 0 the logarithm is at least log(w / M), and negatives
            with energies far above that of their example have almost no gradient.

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss``, ``energy_positive``,
        ``energy_negative`` and ``energy_gap`` (negative minus positive).

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
