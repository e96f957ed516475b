r"""Noise-contrastive estimation: the energy learns to tell data from noise of known density.

What the forms share:

* ``energy``: (params, x) -> ().
* ``noise``: a ``Distribution``. Its density must be positive wherever there are data; the closer
  it is to the data, the better the estimate.
* ``num_negatives``: for each example, >= 1.
* batches x, on the leading axis. Negatives are constants, of the batch's types.
* metrics ``loss``, ``energy_positive``, ``energy_negative`` and ``energy_gap``, their difference.

Refused: ValueError for num_negatives < 1, batches without a common leading axis, negatives of
other shapes; TypeError for a noise without sample or log_prob, batches of integers where the noise
is floating point, integer energies, a non-callable argument.
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
        return [(axis + jnp.shape(x)[1:], str(jnp.result_type(x))) for x in jax.tree.leaves(tree)]

    wanted = [shape for shape, _ in kinds(batch, (num,))]
    same = jax.tree.structure(batch) == jax.tree.structure(negatives)
    if not same or wanted != [jnp.shape(x) for x in jax.tree.leaves(negatives)]:
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
    r"""Return the logistic loss of telling data from noise.

        L(params) = mean_i softplus(-G(x_i)) + sum_j softplus(G(y_ij)),   y_ij ~ q, j = 1 ... v
        G(x) = -E(x) - log q(x) - log v

    Its optimum over all functions E is -log p, normalised: the energy needs a free additive
    constant, which learns log Z. Where it has none, give it one, a parameter c:
    ``lambda p, x: energy(p["energy"], x) + p["c"]``. At exp(-E) = p = q, v = 1, it is 2 log 2. As v
    grows its gradient becomes that of the likelihood.
    Source: Gutmann and Hyvarinen (2012), Noise-contrastive estimation of unnormalized statistical
    models, with applications to natural image statistics.

    Args:
        energy: (params, x) -> ().
        noise: q.
        num_negatives: v, for each example.

    Returns:
        An ``Objective`` without state; metrics also ``accuracy``, the share of data and noise told
        apart: near 1 the noise teaches nothing.

    Raises:
        ValueError: as the module says.

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
    r"""Return the loss of finding the example among its negatives: InfoNCE with log q known.

        L(params) = mean_i log(1 + sum_j exp(G(y_ij) - G(x_i))),   y_ij ~ q, j = 1 ... K
        G(x) = -E(x) - log q(x)

    A constant in the energy cancels: there is no log Z to learn. At exp(-E) = p = q up to a factor
    it is log(1 + K). As K grows its gradient becomes that of the likelihood.
    Source: Ma and Collins (2018), Noise contrastive estimation and negative sampling for
    conditional models; van den Oord et al. (2018), Representation learning with contrastive
    predictive coding.

    Args:
        energy: (params, x) -> ().
        noise: q.
        num_negatives: K, for each example.

    Returns:
        An ``Objective`` without state; metrics also ``accuracy``, the share of examples that rank
        before all their negatives.

    Raises:
        ValueError: as the module says.

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
    r"""Return the logistic loss of telling an example from its perturbed copies.

        L(params) = mean_ij 2 softplus(E(x_i) - E(y_ij)),   y_ij = perturb(x_i)

    The perturbation is a kernel that is symmetric, q(y|x) = q(x|y), so that its density cancels,
    as does a constant in the energy. A flat energy gives 2 log 2. With noise of a variance
    t -> 0, (L - 2 log 2) 2/t becomes ``score_matching``.
    Source: Ceylan and Gutmann (2018), Conditional noise-contrastive estimation of unnormalised
    models.

    Args:
        energy: (params, x) -> ().
        perturb: (key, positions) -> positions: ``gaussian_perturbation``,
            ``bernoulli_perturbation``, ``grid_perturbation``, or your own.
        num_negatives: for each example.

    Returns:
        An ``Objective`` without state.

    Raises:
        ValueError: as the module says.

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
