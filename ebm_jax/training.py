"""Training of an objective with an optax optimiser, in a compiled loop.

``fit`` trains on arrays in memory:

    state, metrics = fit(
        key, objective, optax.adam(1e-3), params, data, batch_size=128, num_updates=10_000
    )

``trainer`` returns the parts, for batches from other sources:

    training = trainer(objective, optax.adam(1e-3))
    state = training.init(params, init_key)
    state, metrics = training.update(state, batches, train_key)

Values that are not finite are handled as follows:

* An update is skipped if its loss, gradient, step, new parameters or new optimiser state is not
  finite: parameters, optimiser and average do not change, while the chains advance. The metric
  ``skipped`` of that update is 1, and ``skipped_total`` counts such updates.
* The metrics report the loss and the gradient norm as they are, NaN included.
* ``objectives.persistent`` restarts chains that become non-finite; all objectives with chains
  count them.
* ``raise_if_diverged`` raises an error after too many skipped updates in a row.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer

from ebm_jax import _checks
from ebm_jax._trees import chain_norm, explicit_axes
from ebm_jax.compilation import jit
from ebm_jax.types import Array, Key, Metrics, Objective, Params, PyTree


class TrainingState(NamedTuple):
    """The state of a training run.

    Attributes:
        params: the parameters.
        average: exponential moving average of the parameters, at least float32 (without one, the
            parameters themselves).
        optimizer: state of the optimiser.
        objective: state of the objective, such as its persistent chains.
        skipped_in_row: number of latest updates in a row that were skipped, ().
        skipped_total: number of skipped updates, ().
        step: number of updates tried, ().
    """

    params: Params
    average: Params
    optimizer: Any
    objective: Any
    skipped_in_row: Array
    skipped_total: Array
    step: Array


class Trainer(NamedTuple):
    """Functions to start training, to make one update, and to make compiled updates.

    ``init(params, key) -> state``; ``step(state, batch, key) -> (state, metrics)`` makes one update
    and is not compiled, so it can be used inside any transformation; ``update(state, batches, key)
    -> (state, metrics)`` makes one update for each of the batches stacked on the leading axis.
    """

    init: Callable[[Params, Key], TrainingState]
    step: Callable[[TrainingState, PyTree, Key], tuple[TrainingState, Metrics]]
    update: Callable[[TrainingState, PyTree, Key], tuple[TrainingState, Metrics]]


class DivergedError(FloatingPointError):
    """Error raised after too many skipped updates in a row."""


def trainer(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    *,
    average_decay: float | None = None,
    donate: bool = False,
) -> Trainer:
    r"""Return (init, step, update) for an objective and an optimiser.

    .. math:: g &= \nabla_\theta L(\theta), \qquad \theta \leftarrow \theta + \text{optimizer}(g) \\
        \bar\theta &\leftarrow d \, \bar\theta + (1 - d) \, \theta, \qquad
        d = \min\left( \text{decay}, \frac{1 + t}{10 + t} \right)

    where L is the objective, :math:`\theta` the parameters and t the number of updates before.
    ``update`` is one compiled function, which also runs the chains. Update t uses the key
    ``fold_in(key, t)``. Pass the same key to every call, but not the key of ``init``: results then
    do not depend on how batches are grouped into calls.

    Args:
        objective: the ``Objective`` to minimise.
        optimizer: an optax transformation.
        average_decay: decay in [0, 1) of the moving average of the parameters; None for no average.
        donate: whether ``update`` may overwrite the memory of its state, which is then invalid:
            large persistent chains are not copied.

    Returns:
        A ``Trainer``. Metrics, stacked over the updates of a call of ``update``: those of the
        objective, and ``loss_total`` (value of the objective), ``gradient_norm`` (Euclidean),
        ``skipped``, ``skipped_in_row``, ``skipped_total``, and ``step`` (index of the update, from
        0).

    Raises:
        TypeError: if a leaf of the parameters is not an array.
        ValueError: if average_decay is outside [0, 1), or batches have no common leading axis.

    >>> import jax, jax.numpy as jnp, optax
    >>> objective = Objective(
    ...     lambda p, key: (), lambda p, s, batch, key: ((p - batch) ** 2, (s, {})))
    >>> training = trainer(objective, optax.sgd(0.5))
    >>> init_key, train_key = jax.random.split(jax.random.key(0))
    >>> state = training.init(0.0, init_key)
    >>> state, metrics = training.update(state, jnp.array([4.0]), train_key)
    >>> float(state.params)
    4.0
    """
    _checks.objective("objective", objective)
    _checks.optimizer(optimizer)
    _checks.flag("donate", donate)
    _check_decay(average_decay)

    def init(params: Params, key: Key) -> TrainingState:
        _checks.one_key(key)
        params = average = _arrays(params)
        if average_decay is not None:
            average = jax.tree.map(_at_least_float32, average)
        # Copies, each with memory of its own: the state may be donated.
        inner, optimizer_state = objective.init(params, key), optimizer.init(params)
        zero: Any = np.int32(0)
        return _arrays(TrainingState(params, average, optimizer_state, inner, zero, zero, zero))

    def step(state: TrainingState, batch: PyTree, key: Key) -> tuple[TrainingState, Metrics]:
        _checks.one_key(key)
        _check_state(state)
        _refuse_explicit(batch)
        return _step(objective, optimizer, average_decay, state, batch, key)

    @functools.partial(jit, donate_argnums=(0,) if donate else ())
    def several(state: TrainingState, batches: PyTree, key: Key):
        return jax.lax.scan(lambda state, batch: step(state, batch, key), state, batches)

    def update(state: TrainingState, batches: PyTree, key: Key) -> tuple[TrainingState, Metrics]:
        _checks.leading_axis("batches, stacked,", batches)
        _checks.one_key(key)
        _check_state(state)
        return several(state, batches, key)

    return Trainer(init, step, update)


def fit(
    key: Key,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    params: Params | TrainingState,
    data: PyTree,
    *,
    batch_size: int | None,
    num_updates: int,
    average_decay: float | None = None,
    callback: Callable[[TrainingState, Metrics], Any] | None = None,
    callback_every: int | None = None,
) -> tuple[TrainingState, Metrics]:
    """Train on arrays in memory, with mini-batches drawn inside the compiled loop.

    An epoch has ``n // batch_size`` batches without replacement, in a new random order; the
    remaining examples are left out of it. The batch and the key of an update depend only on ``key``
    and the number of updates before it, so a run that continues from its ``TrainingState`` with the
    same key is identical to an uninterrupted run.

    Updates are those of ``trainer``: one that is not finite is skipped and counted. The loop is
    compiled once for each objective, optimiser, shape of the data and number of updates between two
    callbacks. To avoid compiling again, pass the same objective and optimiser objects.

    Args:
        key: a key of ``jax.random.key``. Pass the same one to continue a run.
        objective: the ``Objective`` to minimise.
        optimizer: an optax transformation.
        params: initial parameters, or a ``TrainingState`` to continue from.
        data: a pytree of arrays with the n examples on the leading axis. The compiled loop takes it
            as an argument and does not copy it.
        batch_size: number of examples per update, from 1 to n. None takes all data at every update,
            in order.
        num_updates: number of updates, >= 1.
        average_decay: decay in [0, 1) of the moving average of the parameters; None for no average.
        callback: function (state, metrics), called in Python between updates with the metrics of
            the updates since the last call, for progress, checkpoints or early stopping. An
            exception that it raises ends the run.
        callback_every: number of updates between two calls; by default a tenth of ``num_updates``.

    Returns:
        The ``TrainingState``, and the metrics of ``trainer``, stacked over all updates.

    Raises:
        DivergedError: if 20 or more updates in a row were skipped, checked at every callback and at
            the end. Under ``jit`` or ``vmap`` read ``metrics["skipped_in_row"]`` instead.
        ValueError: if data have no common leading axis or are smaller than a batch.

    >>> import jax, jax.numpy as jnp, optax
    >>> objective = Objective(
    ...     lambda p, key: (), lambda p, s, batch, key: (jnp.mean((p - batch) ** 2), (s, {})))
    >>> key, data = jax.random.key(0), jnp.arange(10.0)
    >>> state, metrics = fit(
    ...     key, objective, optax.sgd(0.05), 0.0, data, batch_size=5, num_updates=100)
    >>> metrics["loss_total"].shape, bool(abs(state.params - 4.5) < 0.5)
    ((100,), True)
    """
    _checks.one_key(key)
    training = trainer(objective, optimizer, average_decay=average_decay)
    _checks.hashable("objective", objective)
    _checks.hashable("optimizer", optimizer)
    num_updates = _checks.count("num_updates", num_updates)
    data = jax.tree.map(functools.partial(_checks.array, "data"), data)
    if batch_size is not None:
        num_examples = _checks.leading_axis("data", data)
        batch_size = _checks.count("batch_size", batch_size)
        if batch_size > num_examples:
            raise ValueError(
                f"batch_size must be at most the {num_examples} examples of data, got {batch_size}."
            )
    decay = None if average_decay is None else float(average_decay)
    options = (objective, optimizer, decay, batch_size)
    init_key, data_key, train_key = jax.random.split(key, 3)
    state = params if isinstance(params, TrainingState) else training.init(params, init_key)
    history, done, interval = [], 0, _interval(callback, callback_every, num_updates)
    while done < num_updates:
        num = min(interval, num_updates - done)
        state, metrics = _fit(state, data, data_key, train_key, *options, num)
        if not isinstance(metrics["skipped_in_row"], Tracer):
            raise_if_diverged(metrics)
        if callback is not None:
            callback(state, metrics)
        history.append(metrics)
        done += num
    if len(history) == 1:
        return state, history[0]
    return state, jax.tree.map(lambda *parts: jnp.concatenate(parts), *history)


def _step(
    objective: Objective,
    optimizer: optax.GradientTransformation,
    average_decay: float | None,
    state: TrainingState,
    batch: PyTree,
    key: Key,
) -> tuple[TrainingState, Metrics]:
    """Make one update."""
    step_key = jax.random.fold_in(key, state.step)
    value_and_grad = jax.value_and_grad(objective.loss, has_aux=True)
    (loss, (inner, metrics)), gradient = value_and_grad(
        state.params, state.objective, batch, step_key
    )
    updates, optimizer_state = optimizer.update(gradient, state.optimizer, state.params)
    params, norm = optax.apply_updates(state.params, updates), _norm(gradient)
    average = _average(params, state, average_decay)
    # An infinite step makes a parameter infinite, an infinite gradient the norm.
    finite = jnp.isfinite(loss) & jnp.isfinite(norm)
    finite &= _stays_finite((state.params, state.optimizer), (params, optimizer_state))
    new = _advance(state, (params, average, optimizer_state), inner, finite)
    return new, metrics | {
        "loss_total": loss,
        "gradient_norm": norm,
        "skipped": ~finite,
        "skipped_in_row": new.skipped_in_row,
        "skipped_total": new.skipped_total,
        "step": state.step,
    }


def _interval(callback: Any, callback_every: int | None, num_updates: int) -> int:
    """Return the number of updates in one compiled call."""
    if callback_every is not None:
        _checks.count("callback_every", callback_every)
        if callback is None:
            raise ValueError(f"callback_every={callback_every} needs a callback, got None.")
    if callback is None:
        return num_updates
    _checks.function("callback", callback)
    return callback_every or -(-num_updates // 10)


@functools.partial(jit, static_argnums=(4, 5, 6, 7, 8))
def _fit(
    state: TrainingState,
    data: PyTree,
    data_key: Key,
    train_key: Key,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    average_decay: float | None,
    batch_size: int | None,
    num_updates: int,
) -> tuple[TrainingState, Metrics]:
    """Make the updates of one compiled call."""
    step = trainer(objective, optimizer, average_decay=average_decay).step

    def one(carry: tuple[TrainingState, Any], _) -> tuple[tuple[TrainingState, Any], Metrics]:
        state, epoch = carry
        batch = data
        if batch_size is not None:
            batch, epoch = _next_batch(data_key, data, batch_size, state.step, epoch)
        state, metrics = step(state, batch, train_key)
        return (state, epoch), metrics

    epoch = None
    if batch_size is not None:
        order = jnp.arange(_checks.leading_axis("data", data))
        epoch = _Epoch(jnp.full_like(state.step, -1), order)
    (state, _), metrics = jax.lax.scan(one, (state, epoch), length=num_updates)
    return state, metrics


class _Epoch(NamedTuple):
    """The index of an epoch and the order of its examples."""

    number: Array
    order: Array


def _next_batch(
    key: Key, data: PyTree, batch_size: int, step: Array, epoch: _Epoch
) -> tuple[PyTree, _Epoch]:
    """Return the batch of an update and its epoch, with a new order for a new epoch."""
    num_examples = len(epoch.order)
    num_batches = num_examples // batch_size
    number = step // num_batches

    def permuted() -> Array:
        # One sort; jax.random.permutation sorts twice, so that equal numbers leave no trace.
        numbers = jax.random.bits(jax.random.fold_in(key, number), (num_examples,), jnp.uint32)
        return jnp.argsort(numbers).astype(epoch.order.dtype)

    order = jax.lax.cond(number == epoch.number, lambda: epoch.order, permuted)
    start = (step % num_batches) * batch_size
    rows = jax.lax.dynamic_slice_in_dim(order, start, batch_size)
    batch = jax.tree.map(lambda leaf: leaf.at[rows].get(mode="promise_in_bounds"), data)
    return batch, _Epoch(number, order)


def _check_decay(decay: float | None) -> None:
    if decay is None:
        return
    _checks.scalar("average_decay", _checks.array("average_decay", decay))
    if not 0 <= decay < 1:
        raise ValueError(f"average_decay must be in [0, 1) or None, got {decay}.")


def _check_state(state: TrainingState) -> None:
    if not isinstance(state, TrainingState):
        raise TypeError(
            f"state must be a TrainingState, Trainer.init(params, key), got {type(state).__name__}."
        )


def _refuse_explicit(batch: PyTree) -> None:
    """Reject batches over Explicit axes, over which JAX cannot sum gradients."""
    if axes := explicit_axes(batch):
        raise ValueError(
            f"The batches are sharded over Explicit mesh axes {sorted(axes)}: training needs Auto "
            "axes, jax.make_mesh(shape, names, axis_types=(jax.sharding.AxisType.Auto,))."
        )


def _arrays(tree: PyTree) -> PyTree:
    """Return copies that are not weakly typed, which would compile the update twice."""

    def copy(leaf):
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(
                jnp.array(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf)
            )
        if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float):
            raise TypeError(
                f"Parameters and states must be arrays, got {leaf!r}. Split a module that contains "
                "functions first: equinox.partition(module, equinox.is_array), nnx.split."
            )
        return jnp.array(leaf, jnp.result_type(leaf), copy=True)

    return jax.tree.map(copy, tree)


def _at_least_float32(leaf: Array) -> Array:
    # An average in bfloat16 would stay constant, since its changes are rounded away.
    floating = jnp.issubdtype(leaf.dtype, jnp.floating)
    return leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32)) if floating else leaf


def _average(params: Params, state: TrainingState, decay: float | None) -> Params:
    if decay is None:
        return params
    # A smaller decay early on, so that the initial parameters have little weight.
    d = jnp.minimum(decay, (1 + state.step) / (10 + state.step))

    def mix(new: Array, old: Array) -> Array:
        if not jnp.issubdtype(new.dtype, jnp.floating):
            return new
        return ((1 - d) * new.astype(old.dtype) + d * old).astype(old.dtype)

    return jax.tree.map(mix, params, state.average)


def _advance(state: TrainingState, new: Any, objective: Any, finite: Array) -> TrainingState:
    """Return the next state; skip the update if it is not finite."""
    old = (state.params, state.average, state.optimizer)
    params, average, optimizer = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, old)
    in_row = jnp.where(finite, 0, state.skipped_in_row + 1)
    total = state.skipped_total + (~finite).astype(jnp.int32)
    return TrainingState(params, average, optimizer, objective, in_row, total, state.step + 1)


def _floats(tree: PyTree) -> list[Array]:
    leaves = [jnp.asarray(leaf) for leaf in jax.tree.leaves(tree)]
    return [leaf for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]


def _stays_finite(old: PyTree, new: PyTree) -> Array:
    """Return whether all values that were finite stay finite.

    An optimiser may start with infinities.
    """
    pairs = zip(_floats(old), _floats(new), strict=True)
    return jnp.all(jnp.array([jnp.all(~jnp.isfinite(a) | jnp.isfinite(b)) for a, b in pairs]))


def _norm(gradient: PyTree) -> Array:
    """Return the Euclidean norm of a gradient, without overflow of its squares."""
    leaves = [jnp.ravel(leaf)[None] for leaf in _floats(gradient) if leaf.size]
    return chain_norm(leaves)[0] if leaves else jnp.zeros(())


def raise_if_diverged(metrics: Mapping[str, Array | np.ndarray], *, limit: int = 20) -> None:
    """Raise an error if ``limit`` or more updates in a row were skipped.

    The run of skipped updates may lie anywhere in ``metrics``. Call the function between calls of
    ``update``: it waits for the metrics.

    Args:
        metrics: metrics that ``Trainer.update`` or ``fit`` returned, not traced.
        limit: number of skipped updates in a row that raises an error, >= 1.

    Raises:
        DivergedError: states the step, the metrics there, the last finite ones and likely causes.

    >>> import jax.numpy as jnp
    >>> raise_if_diverged({"step": jnp.arange(3), "skipped_in_row": jnp.array([0, 1, 2])}, limit=2)
    Traceback (most recent call last):
        ...
    ebm_jax.training.DivergedError: Training diverged at step 2: ...
    """
    _checks.count("limit", limit)
    if not isinstance(metrics, Mapping) or "skipped_in_row" not in metrics:
        raise TypeError(f"metrics must be what Trainer.update returned, got {metrics!r}.")
    _checks.array("metrics['skipped_in_row']", metrics["skipped_in_row"])
    in_row = np.atleast_1d(np.asarray(metrics["skipped_in_row"]))
    if in_row.max() < limit:
        return
    where = int(np.argmax(in_row >= limit))
    rows = {name: np.atleast_1d(np.asarray(value)) for name, value in metrics.items()}
    finite = np.flatnonzero(in_row[:where] == 0)
    before = "none of this call was finite"
    if finite.size:
        before = f"the last finite, at step {rows['step'][finite[-1]]}: {_shown(rows, finite[-1])}"
    raise DivergedError(
        f"Training diverged at step {int(rows['step'][where])}: {int(in_row[where])} updates in a "
        f"row were not finite and were skipped ({_shown(rows, where)}; {before}). Likely causes: "
        f"{_causes(rows, where)}."
    )


_WATCHED = ("loss_total", "gradient_norm", "energy_gap", "chains_nonfinite", "chains_ready")


def _shown(rows: dict[str, np.ndarray], where: int) -> str:
    names = [name for name in sorted(rows) if name.split("/")[-1] in _WATCHED]
    return ", ".join(f"{name}={rows[name][where]:.4g}" for name in names)


def _causes(rows: dict[str, np.ndarray], where: int) -> str:
    ready = [values[where] for name, values in rows.items() if name.endswith("chains_ready")]
    if 0 in ready:
        return (
            "no chain counts as a negative (chains_ready=0): they turn non-finite (a sampler step "
            "size too large for the energy's curvature), or restart before they have burnt in"
        )
    return (
        "a learning rate that is too high, a sampler step size too large for the energy's "
        "curvature, no energy penalty or weight decay to bound the energies, or non-finite data"
    )
