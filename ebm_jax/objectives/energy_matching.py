r"""Matching a field: the gradient of the energy regresses on the straight way from noise to data.

    x_t = (1 - t) x_0 + t x_1,   t ~ U[0, 1],   x_0 ~ N(0, I),   x_1 data

The energy does not know the time t. Descending it carries noise to data; it is not yet the
energy of a Gibbs distribution of the data, so that its values are not likelihoods:
``energy_matching`` makes it one near the data.

What they share:

* ``energy``: (params, x) -> ().
* ``couple``: (x_0, x_1) -> x_0 in another order, which noise belongs to which example;
  ``optimal_coupling`` is one. None leaves them independent. Where the batch holds a class, exchange
  noise within a class only: otherwise the noise given the class is not N(0, I).
* batches x, on the leading axis; floating leaves are matched, the others (a class) given. Metric
  ``loss``, and ``loss_field``, the regression alone.

Refused: TypeError for batches without a floating leaf, integer energies, a non-callable argument;
ValueError for batches without a common leading axis, an energy that is not a scalar.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks
from ebm_jax._noise import standard_normal
from ebm_jax._trees import chain_sum, matrix, partition, per_chain, value_and_gradient
from ebm_jax.objectives import _negatives
from ebm_jax.samplers import langevin, schedules
from ebm_jax.types import Array, Energy, Key, Metrics, Objective, Params, Position

Coupling = Callable[[Position, Position], Position]


def _field(
    energy: Energy,
    params: Params,
    batch: Position,
    key: Key,
    factor: Callable[[Array], Any],
    couple: Coupling | None,
) -> Array:
    """Return mean_i |grad E(x_t) - c(t) (x_0 - x_1)|^2, and refuse batches."""
    num = _checks.leading_axis("batch", batch)
    data, given, merge = partition(jax.tree.map(jnp.asarray, batch))
    noise_key, time_key = jax.random.split(key)
    noise = standard_normal(noise_key, data)
    if couple is not None:
        loose = merge(noise, given)
        coupled = couple(loose, batch)
        _checks.alike("What couple returns", coupled, loose)
        noise = partition(coupled)[0]
    time = jax.random.uniform(time_key, (num,), jnp.promote_types(jnp.float32, data[0].dtype))

    def between(x0: Array, x1: Array) -> Array:
        t = per_chain(time, x1)
        return ((1 - t) * x0 + t * x1).astype(x1.dtype)

    there = [between(x0, x1) for x0, x1 in zip(noise, data, strict=True)]
    _, gradient = value_and_gradient(lambda x: energy(params, x), merge(there, given))
    residuals = [
        g - per_chain(factor(time), x1) * (x0 - x1)
        for g, x0, x1 in zip(gradient, noise, data, strict=True)
    ]
    return jnp.mean(chain_sum([jnp.square(r) for r in residuals]))


def _check(energy: Energy, couple: Coupling | None) -> None:
    _checks.function("energy", energy)
    if couple is not None:
        _checks.function("couple", couple)


def flow_matching(energy: Energy, *, couple: Coupling | None = None) -> Objective:
    r"""Return flow matching with the field of a potential: the first phase of energy matching.

        L = E |grad E(x_t) + x_1 - x_0|^2

    Samples: ``samplers.ula(energy, step_size=h, beta=inf)`` from N(0, I) for 1/h steps.
    Source: Balcerak et al. (2025), Energy matching, arXiv 2504.10612; flow matching from Lipman et
    al. (2023), Flow matching for generative modeling.

    Args:
        energy: (params, x) -> ().
        couple: which noise belongs to which example.

    Returns:
        An ``Objective`` without state.

    Raises:
        ValueError: as the module says.

    >>> import jax, jax.numpy as jnp
    >>> objective = flow_matching(lambda params, x: params * jnp.sum(x**2) / 2)
    >>> value, (_, metrics) = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> float(value) == float(metrics["loss_field"])
    True
    """
    _check(energy, couple)

    def loss(params, state, batch, key):
        value = _field(energy, params, batch, key, jnp.ones_like, couple)
        return value, (state, {"loss": value, "loss_field": value})

    return Objective(lambda params, key: (), loss)


def equilibrium_matching(
    energy: Energy,
    *,
    plateau: ArrayLike = 0.8,
    scale: ArrayLike = 4.0,
    couple: Coupling | None = None,
) -> Objective:
    r"""Return equilibrium matching: a field that vanishes where the data are.

        L = E |grad E(x_t) - c(t) (x_0 - x_1)|^2,   c(t) = lambda min(1, (1 - t) / (1 - a))

    The data are minima of the energy: samples are where gradient descent, accelerated or not,
    comes to rest. Source: Wang and Du (2025), Equilibrium matching, arXiv 2510.02300.

    Args:
        energy: (params, x) -> ().
        plateau: a in [0, 1), until when the field has its full strength.
        scale: lambda > 0, its strength.
        couple: which noise belongs to which example.

    Returns:
        An ``Objective`` without state.

    Raises:
        ValueError: a plateau outside [0, 1), a scale that is not finite and > 0.

    >>> import jax, jax.numpy as jnp
    >>> objective = equilibrium_matching(lambda params, x: params * jnp.sum(x**2) / 2)
    >>> value, _ = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> value.shape
    ()
    """
    _check(energy, couple)
    _checks.scalar("plateau", _checks.array("plateau", plateau))
    known = _checks.concrete(plateau)
    if known is not None and not 0 <= known < 1:
        raise ValueError(f"plateau must be in [0, 1), got {plateau}.")
    _checks.positive("scale", scale)
    _checks.scalar("scale", scale)

    def factor(time: Array) -> Any:
        return scale * jnp.minimum(1, (1 - time) / (1 - jnp.asarray(plateau, time.dtype)))

    def loss(params, state, batch, key):
        value = _field(energy, params, batch, key, factor, couple)
        return value, (state, {"loss": value, "loss_field": value})

    return Objective(lambda params, key: (), loss)


def energy_matching(
    energy: Energy,
    *,
    weight: ArrayLike,
    temperature: ArrayLike,
    step_size: ArrayLike,
    num_steps: int,
    onset: ArrayLike = 1.0,
    lowest: ArrayLike | None = None,
    couple: Coupling | None = None,
) -> Objective:
    r"""Return the second phase of energy matching: the field, and a contrast near the data.

        L = E |grad E(x_t) + x_1 - x_0|^2 + w (mean E(x_1) - mean E(x~))

    The negatives x~, constants, are the ends of n steps x <- x - h grad E + sqrt(2 eps h) xi. Half
    of them start at the data, with eps = eps_max; half at noise, with the temperature of
    ``samplers.schedules.warming``. So E becomes the energy of a Gibbs distribution at the data,
    with beta = 1/eps_max. The first phase is ``flow_matching``.
    Source: Balcerak et al. (2025), Energy matching, arXiv 2504.10612.

    Args:
        energy: (params, x) -> ().
        weight: w >= 0.
        temperature: eps_max > 0, in energy.
        step_size: h > 0, the time that a step takes.
        num_steps: n >= 1; 1/h steps lead from noise to data.
        onset: the time in [0, 1] from which the chains that start at noise are heated.
        lowest: the contrast, times its weight, pushes no further below this; None for no bound.
        couple: which noise belongs to which example.

    Returns:
        An ``Objective`` without state; metrics also those of the objectives with sampled
        negatives (``energy_gap``, ``chains_nonfinite`` and so on).

    Raises:
        ValueError: options out of range, batches of one example. TypeError: an argument that is not
            a number.

    >>> import jax, jax.numpy as jnp
    >>> objective = energy_matching(lambda params, x: params * jnp.sum(x**2) / 2,
    ...     weight=0.1, temperature=0.1, step_size=0.1, num_steps=5)
    >>> value, (_, metrics) = objective.loss(1.0, (), jnp.ones((8, 2)), jax.random.key(0))
    >>> round(float(value - metrics["loss_field"] + 0.1 * metrics["energy_gap"]), 4) == 0
    True
    """
    _check(energy, couple)
    _checks.weight("weight", weight)
    _checks.count("num_steps", num_steps)
    heated = schedules.warming(step_size, temperature, onset=onset)
    if lowest is not None:
        _checks.finite("lowest", lowest)
        _checks.scalar("lowest", lowest)

    def negatives(params: Params, batch: Position, key: Key) -> tuple[Position, Metrics]:
        start_key, run_key = jax.random.split(key)
        num = _checks.leading_axis("batch", batch)
        data, given, merge = partition(jax.tree.map(jnp.asarray, batch))
        at_data = jnp.arange(num) < num // 2
        starts = [
            jnp.where(per_chain(at_data, x1), x1, x0.astype(x1.dtype))
            for x0, x1 in zip(standard_normal(start_key, data), data, strict=True)
        ]
        sampler = langevin.ula(
            lambda x: energy(jax.lax.stop_gradient(params), x),
            step_size=step_size,
            beta=lambda step: jnp.where(at_data, 1 / jnp.asarray(temperature), heated(step)),
        )
        end, info = _negatives.run(run_key, sampler, sampler.init(merge(starts, given)), num_steps)
        return end.position, info

    def loss(params, state, batch, key):
        field_key, chain_key = jax.random.split(key)
        field = _field(energy, params, batch, field_key, jnp.ones_like, couple)
        ends, info = negatives(params, batch, chain_key)
        contrast, metrics = _negatives.contrast(energy, params, batch, ends, 0.0)
        contrast = weight * contrast
        if lowest is not None:
            contrast = jnp.maximum(contrast, jnp.asarray(lowest, contrast.dtype))
        value = field + contrast
        return value, (state, info | metrics | {"loss": value, "loss_field": field})

    return Objective(lambda params, key: (), loss)


def optimal_coupling(noise: Position, data: Position) -> Position:
    r"""Return the noise in the order that makes the paths to the data shortest in total.

        min over permutations p of sum_i |x_0[p(i)] - x_1[i]|^2

    This is the optimal transport within a batch: paths are straighter and the variance is lower.
    It costs the cube of the batch.

    Only noise and data that agree in all other leaves (a class, say) are paired: given the class,
    the noise keeps its distribution. A condition that is different for every example leaves
    nothing to permute.

    Pairing within a batch is biased: the noise that belongs to an example depends on what else is
    in the batch, and the field that is learnt is that of the plan averaged over batches. The bias
    vanishes as the number of examples per class grows; with one per class the pairs are
    independent. Source: Tong et al. (2024), Improving and generalizing flow-based generative
    models with minibatch optimal transport; Pooladian et al. (2023), Multisample flow matching.

    Args:
        noise: n configurations, on the leading axis.
        data: n configurations of the same structure, whose leaves that are not floating point
            are those of the noise in some order.

    Returns:
        The noise in another order. Its leaves that are not floating point are those of the data.

    Raises:
        ValueError: other numbers of noise than of data, other structures. TypeError: no floating
            leaf.

    >>> import jax.numpy as jnp
    >>> noise, data = jnp.array([[0.5], [2.0], [1.5]]), jnp.array([[2.0], [0.0], [1.0]])
    >>> optimal_coupling(noise, data).tolist()
    [[2.0], [0.5], [1.5]]
    """
    from optax.assignment import hungarian_algorithm  # few who import objectives need it

    for name, tree in (("noise", noise), ("data", data)):
        num = _checks.leading_axis(name, tree)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (noise, data)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"noise must be of the shapes of data, {shapes[1]}, got {shapes[0]}: one a datum."
        )
    noise, data = jax.tree.map(jnp.asarray, (noise, data))
    (x0, fixed, merge), (x1, given, _) = partition(noise), partition(data)

    # Of the squared distances only the products depend on the order, and no shift changes that.
    a, b = (
        x - jnp.mean(x, axis=0, keepdims=True)
        for x in jax.lax.stop_gradient((matrix(x0), matrix(x1)))
    )
    costs = -jnp.matmul(b, a.T, precision="highest")
    unlike = jnp.zeros((num, num), bool)
    for of_noise, of_data in zip(fixed, given, strict=True):
        different = of_data[:, None] != of_noise
        unlike |= jnp.any(different, axis=tuple(range(2, different.ndim)))
    rows, columns = hungarian_algorithm(jnp.where(unlike, jnp.inf, costs))
    order = jnp.zeros(num, jnp.int32).at[rows].set(columns.astype(jnp.int32))
    unpaired = unlike[jnp.arange(num), order]
    if _checks.concrete(unpaired) is not None and unpaired.any():
        raise ValueError(
            "noise must have the leaves of data that are not floating point, in any order, got "
            f"{fixed} for {given}."
        )
    coupled = [leaf[order] for leaf in x0]
    return merge([jnp.where(per_chain(unpaired, x), jnp.nan, x) for x in coupled], given)
