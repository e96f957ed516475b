r"""Energy matching: the gradient of the energy fitted to straight paths to data.

.. math:: x_t = (1 - t) x_0 + t x_1, \qquad t \sim U[0, 1], \quad x_0 \sim N(0, I),
    \quad x_1 \text{ data}

The energy does not depend on the time t. Its descent moves noise to data, but
:math:`\exp(-E)` is not the density of the data, so its values are not likelihoods;
``energy_matching`` adds a contrast, with which the density near the data becomes proportional to
:math:`\exp(-E / \epsilon_\text{max})`, where :math:`\epsilon_\text{max}` is its argument
``temperature``.

The objectives take batches x on the leading axis; floating-point leaves are matched, other leaves
(a class) are given. Their metrics are ``loss`` and ``loss_field``, the regression alone. An
optional function ``couple``, (x_0, x_1) -> x_0 in another order, assigns noise to examples;
``optimal_coupling`` is one. With None they are independent. If the batch holds a class, exchange
noise within a class only: otherwise the noise given the class is not N(0, I). Batches without a
floating-point leaf raise TypeError.
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
    r"""Return the mean squared error of the field, after checks of the batch.

    .. math:: \operatorname{mean}_i \lVert \nabla E(x_t) - c(t) (x_0 - x_1) \rVert^2
    """
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
    r"""Return flow matching with a gradient field, the first phase of energy matching.

    .. math:: L = \mathbb{E} \lVert \nabla E(x_t) + x_1 - x_0 \rVert^2, \qquad
        x_t = (1 - t) x_0 + t x_1

    with noise :math:`x_0 \sim N(0, I)`, an example :math:`x_1` and t uniform in [0, 1]. To sample,
    run ``samplers.ula(Partial(energy, params), step_size=h, beta=jnp.inf)``, which is gradient
    descent, from N(0, I) for 1/h steps.
    Source: Balcerak et al. (2025), Energy matching, arXiv 2504.10612; flow matching from Lipman et
    al. (2023), Flow matching for generative modeling.

    Args:
        energy: function (params, x) -> () of one configuration.
        couple: function that assigns noise to examples; see the module
            ``objectives.energy_matching``.

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss`` and ``loss_field``.

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
    r"""Return equilibrium matching, with a field that vanishes at the data.

    .. math:: L = \mathbb{E} \lVert \nabla E(x_t) - c(t) (x_0 - x_1) \rVert^2, \qquad
        c(t) = \lambda \min\left( 1, \frac{1 - t}{1 - a} \right)

    Near isolated examples the learned field vanishes, so these become minima of the energy. Sample
    by gradient descent, with or without momentum, from N(0, I). Source: Wang and Du (2025),
    Equilibrium matching, arXiv 2510.02300.

    Args:
        energy: function (params, x) -> () of one configuration.
        plateau: time a in [0, 1) up to which the field has its full strength.
        scale: strength :math:`\lambda > 0` of the field, finite.
        couple: function that assigns noise to examples; see the module
            ``objectives.energy_matching``.

    Returns:
        An ``Objective`` without state, of batches x; metrics ``loss`` and ``loss_field``.

    >>> import jax, jax.numpy as jnp
    >>> energy = lambda params, x: params * jnp.sum(x**2) / 2
    >>> objective = equilibrium_matching(energy, plateau=0.0, scale=1.0)
    >>> value, _ = objective.loss(1.0, (), jnp.zeros((8, 2)), jax.random.key(0))
    >>> round(float(value), 4)  # all data are 0: this energy has the wanted field
    0.0
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
    r"""Return the second phase of energy matching: the field and a contrast.

    .. math:: L = \mathbb{E} \lVert \nabla E(x_t) + x_1 - x_0 \rVert^2
        + w \left( \operatorname{mean} E(x_1) - \operatorname{mean} E(\tilde x) \right)

    with :math:`x_0`, :math:`x_1` and :math:`x_t` as in ``flow_matching``. The negatives
    :math:`\tilde x`, constants, are the ends of n steps :math:`x \leftarrow x - h
    \nabla E + \sqrt{2 \epsilon h} \, \xi`. Half of the chains (rounded down) start at the data,
    with :math:`\epsilon = \epsilon_\text{max}`; the others start at noise, with the temperature of
    ``samplers.schedules.warming``. Near the data, E becomes the energy of a Gibbs distribution with
    :math:`\beta = 1/\epsilon_\text{max}`. The first phase is ``flow_matching``. Source: Balcerak et
    al. (2025), Energy matching, arXiv 2504.10612.

    Args:
        energy: function (params, x) -> () of one configuration.
        weight: weight :math:`w \ge 0` of the contrast.
        temperature: :math:`\epsilon_\text{max} > 0`, in units of energy.
        step_size: time h > 0 of one step.
        num_steps: number of steps n >= 1; 1/h steps lead from noise to data.
        onset: time in [0, 1] from which the chains that start at noise are heated.
        lowest: lower bound of the weighted contrast, below which it has no gradient; None for no
            bound.
        couple: function that assigns noise to examples; see the module
            ``objectives.energy_matching``.

    Returns:
        An ``Objective`` without state. Metrics include those of the objectives with sampled
        negatives (``energy_gap``, ``chains_nonfinite`` and so on).

    Raises:
        TypeError: if an option is not a number.
        ValueError: if options are out of range.

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
    r"""Return the noise in the order with the smallest squared distance to the data.

    .. math:: \min_p \sum_i \lVert x_0[p(i)] - x_1[i] \rVert^2 \quad \text{over permutations } p

    This is optimal transport within a batch: paths are straighter and the variance is lower. The
    cost grows with the cube of the batch size.

    Only noise and data that agree in all other leaves, such as a class, are paired, so the noise
    given the class keeps its distribution. If such a leaf differs between all examples, nothing is
    permuted.

    Pairing within a batch is biased: the noise of an example depends on the rest of the batch, and
    the field learnt is that of the transport plan averaged over batches. The bias vanishes as the
    number of examples per class grows; with one per class the pairs are independent. Source: Tong
    et al. (2024), Improving and generalizing flow-based generative models with minibatch optimal
    transport; Pooladian et al. (2023), Multisample flow matching.

    Args:
        noise: n configurations, on the leading axis.
        data: n configurations of the same structure. Its leaves that are not floating point are
            those of the noise in some order.

    Returns:
        The noise in another order. Its leaves that are not floating point are those of the data.

    >>> import jax.numpy as jnp
    >>> noise, data = jnp.array([[0.5], [2.0], [1.5]]), jnp.array([[2.0], [0.0], [1.0]])
    >>> optimal_coupling(noise, data).tolist()
    [[2.0], [0.5], [1.5]]
    """
    from optax.assignment import hungarian_algorithm  # imported here: few objectives need it

    for name, tree in (("noise", noise), ("data", data)):
        num = _checks.leading_axis(name, tree)
    shapes = [jax.tree.map(jnp.shape, tree) for tree in (noise, data)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"noise must have the shapes of data, {shapes[1]}, got {shapes[0]}: one per example."
        )
    noise, data = jax.tree.map(jnp.asarray, (noise, data))
    (x0, fixed, merge), (x1, given, _) = partition(noise), partition(data)

    # Only the inner products in the squared distances depend on the order, before or after a shift.
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
