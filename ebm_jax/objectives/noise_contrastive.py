"""Noise-contrastive estimation: distinguish data from noise with a known density.

The objectives take batches x on the leading axis. Negatives are constants, converted to the dtypes
of the batch. Metrics are ``loss``, ``energy_positive``, ``energy_negative`` and ``energy_gap``
(negative minus positive). The density of the noise must be positive wherever there are data. Noise
that resembles the data usually gives a better estimate.

The objectives raise ValueError for num_negatives < 1 and negatives of other shapes than the data,
and TypeError for noise without ``sample`` or ``log_prob`` and for batches of integers with
floating-point noise.
"""

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.objectives import _negatives
from ebm_jax.objectives.perturbations import Perturbation
from ebm_jax.types import Array, Distribution, Energy, Key, Metrics, Objective, Params, Position


def _like(batch: Position, negatives: Position, num: int) -> Position:
    """Validate and return negatives as constants in the types of the batch."""

    def kinds(tree: Position, axis: tuple) -> list:
        return [(axis + np.shape(x)[1:], str(jnp.result_type(x))) for x in jax.tree.leaves(tree)]

    wanted = [shape for shape, _ in kinds(batch, (num,))]
    same = jax.tree.structure(batch) == jax.tree.structure(negatives)
    if not same or wanted != [np.shape(x) for x in jax.tree.leaves(negatives)]:
        raise ValueError(
            f"Negatives must be configurations like those of the batch, {kinds(batch, (num,))}; "
            f"drawn were {kinds(negatives, ())}."
        )

    def typed(data: Array, negative: Array) -> Array:
        types = data.dtype, jnp.result_type(negative)
        if len({jnp.issubdtype(t, jnp.floating) for t in types}) > 1:
            raise TypeError(
                "batch and noise must both be floating point or both discrete, got "
                f"{types[0]} and {types[1]}. Scale integer data to floats: images / 255, say."
            )
        return jax.lax.stop_gradient(jnp.asarray(negative, data.dtype))

    return jax.tree.map(typed, batch, negatives)


def _log_prob(noise: Distribution, x: Position) -> Array:
    values = _checks.floating("What log_prob returns", jax.vmap(noise.log_prob)(x))
    if values.ndim != 1:
        raise ValueError(
            "log_prob must take one configuration and return a scalar (), it returned the shape "
            f"{values.shape[1:]}."
        )
    return jax.lax.stop_gradient(values)


def _contrast(
    energy: Energy,
    noise: Distribution,
    num_negatives: int,
    params: Params,
    batch: Position,
    key: Key,
) -> tuple[Array, Array, Metrics]:
    """Return -E - log q of the batch (n,), and of its negatives (n, num_negatives)."""
    num = _checks.leading_axis("batch", batch)
    batch = jax.tree.map(jnp.asarray, batch)
    total = num * num_negatives
    negatives = _like(batch, noise.sample(key, total), total)

    def energies(name: str, x: Position) -> Array:
        return _checks.energies(lambda one: energy(params, one), x, name)

    positive, negative = energies("batch", batch), energies("negatives", negatives)
    ratio = -negative - _log_prob(noise, negatives)
    return (
        -positive - _log_prob(noise, batch),
        ratio.reshape(num, num_negatives),
        _negatives.means(positive, negative),
    )


def binary_nce(energy: Energy, noise: Distribution, *, num_negatives: int = 1) -> Objective:
    r"""Return the objective of logistic classification of data against noise.

    .. math:: L &= \operatorname{mean}_i \Big[ \operatorname{softplus}(-G(x_i))
        + \sum_{j=1}^\nu \operatorname{softplus}(G(y_{ij})) \Big], \quad y_{ij} \sim q \\
        G(x) &= -E(x) - \log q(x) - \log \nu

    The optimum over all functions E is :math:`-\log p`, normalised. The energy therefore needs a
    free additive constant, which learns log Z; if it has none, add a parameter c: ``lambda p, x:
    energy(p["energy"], x) + p["c"]``. For :math:`\exp(-E) = p = q` and :math:`\nu = 1`, L is 2 log
    2. As :math:`\nu` grows, the gradient tends to that of the likelihood. Source: Gutmann and
    Hyvarinen (2012), Noise-contrastive estimation of unnormalized statistical models, with
    applications to natural image statistics.

    Args:
        energy: function (params, x) -> () of one configuration.
        noise: the noise distribution q, a ``Distribution``.
        num_negatives: number :math:`\nu \ge 1` of noise samples per example.

    Returns:
        An ``Objective`` without state. The metric ``accuracy`` is the fraction of data and noise
        classified correctly. A constant answer has the accuracy :math:`\nu / (1 + \nu)`; with one
        negative, an accuracy near 1 means that the noise is too easy to distinguish from the data.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import energies
    >>> from ebm_jax import distributions
    >>> noise = distributions.gaussian(jnp.zeros(2), 1.0)
    >>> def energy(params, x):
    ...     return energies.gaussian(params["energy"], x) + params["log_partition"]
    >>> params = {"energy": energies.Gaussian(jnp.zeros(2), jnp.ones(2)),
    ...           "log_partition": jnp.log(2 * jnp.pi)}
    >>> objective = binary_nce(energy, noise)
    >>> value, _ = objective.loss(params, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> round(float(value), 4)  # 2 log 2
    1.3863
    """
    _checks.function("energy", energy)
    _checks.distribution("noise", noise)
    _checks.count("num_negatives", num_negatives)

    def loss(params, state, batch, key):
        positive, negative, metrics = _contrast(energy, noise, num_negatives, params, batch, key)
        positive, negative = (g - np.log(num_negatives) for g in (positive, negative))
        value = jnp.mean(jax.nn.softplus(-positive))
        value += num_negatives * jnp.mean(jax.nn.softplus(negative))
        right = jnp.sum(positive > 0) + jnp.sum(negative < 0)
        metrics |= {"loss": value, "accuracy": right / (positive.size + negative.size)}
        return value, (state, metrics)

    return Objective(lambda params, key: (), loss)


def ranking_nce(energy: Energy, noise: Distribution, *, num_negatives: int = 1) -> Objective:
    r"""Return the objective of identifying an example among noise samples (InfoNCE).

    .. math:: L &= \operatorname{mean}_i \log\Big( 1 + \sum_{j=1}^K \exp(G(y_{ij}) - G(x_i)) \Big),
        \quad y_{ij} \sim q \\
        G(x) &= -E(x) - \log q(x)

    This is InfoNCE with a known density of the negatives. A constant in the energy cancels, so log
    Z is not learnt. If :math:`\exp(-E)` is proportional to :math:`p = q`, L is log(1 + K). As K
    grows, the gradient tends to that of the likelihood. Source: Ma and Collins (2018), Noise
    contrastive estimation and negative sampling for conditional models; van den Oord et al. (2018),
    Representation learning with contrastive predictive coding.

    Args:
        energy: function (params, x) -> () of one configuration.
        noise: the noise distribution q, a ``Distribution``.
        num_negatives: number K >= 1 of noise samples per example.

    Returns:
        An ``Objective`` without state. The metric ``accuracy`` is the fraction of examples that
        rank before all their negatives.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import distributions
    >>> objective = ranking_nce(lambda k, x: k * jnp.sum(x**2) / 2,
    ...     distributions.gaussian(jnp.zeros(2), 1.0), num_negatives=3)
    >>> value, _ = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> round(float(value), 4)  # log 4
    1.3863
    """
    _checks.function("energy", energy)
    _checks.distribution("noise", noise)
    _checks.count("num_negatives", num_negatives)

    def loss(params, state, batch, key):
        positive, negative, metrics = _contrast(energy, noise, num_negatives, params, batch, key)
        scores = jnp.concatenate([positive[:, None], negative], axis=1)
        value = -jnp.mean(jax.nn.log_softmax(scores, axis=1)[:, 0])
        first = jnp.mean(positive > jnp.max(negative, axis=1), dtype=jnp.float32)
        return value, (state, metrics | {"loss": value, "accuracy": first})

    return Objective(lambda params, key: (), loss)


def conditional_nce(energy: Energy, perturb: Perturbation, *, num_negatives: int = 1) -> Objective:
    r"""Return the objective of classifying examples against perturbed copies.

    .. math:: L = \operatorname{mean}_{ij} 2 \operatorname{softplus}(E(x_i) - E(y_{ij})),
        \qquad y_{ij} = \text{perturb}(x_i)

    The perturbation kernel must be symmetric, q(y|x) = q(x|y), so that its density cancels. A
    constant in the energy cancels too. A constant energy gives 2 log 2. For Gaussian noise with
    variance :math:`t \to 0`, :math:`(L - 2 \log 2) \, 2/t` tends to ``score_matching``. Source:
    Ceylan and Gutmann (2018), Conditional noise-contrastive estimation of unnormalised models.

    Args:
        energy: function (params, x) -> () of one configuration.
        perturb: function (key, positions) -> positions: ``gaussian_perturbation``,
            ``bernoulli_perturbation``, ``grid_perturbation``, or your own.
        num_negatives: number of perturbed copies per example, >= 1.

    Returns:
        An ``Objective`` without state, of batches x; metrics are those of the module.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.objectives import gaussian_perturbation
    >>> objective = conditional_nce(lambda params, x: 0.0 * params, gaussian_perturbation(0.1))
    >>> value, _ = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> round(float(value), 4)
    1.3863
    """
    _checks.function("energy", energy)
    _checks.function("perturb", perturb)
    _checks.count("num_negatives", num_negatives)

    def loss(params, state, batch, key):
        num = _checks.leading_axis("batch", batch)
        batch = jax.tree.map(jnp.asarray, batch)
        repeated = jax.tree.map(lambda x: jnp.repeat(x, num_negatives, axis=0), batch)
        negatives = _negatives.perturbed(perturb, key, repeated)

        def energies(name: str, x: Position) -> Array:
            return _checks.energies(lambda one: energy(params, one), x, name)

        positive, negative = energies("batch", batch), energies("negatives", negatives)
        gaps = positive[:, None] - negative.reshape(num, num_negatives)
        value = 2 * jnp.mean(jax.nn.softplus(gaps))
        return value, (state, {"loss": value} | _negatives.means(positive, negative))

    return Objective(lambda params, key: (), loss)
