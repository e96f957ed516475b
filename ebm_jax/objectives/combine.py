"""Objectives composed of other objectives."""

from collections.abc import Callable
from typing import Any

import jax

from ebm_jax import _checks
from ebm_jax.types import Objective

Term = tuple[float, Objective, Callable[[Any], Any]]


def weighted_sum(**terms: Term) -> Objective:
    r"""Return the weighted sum of objectives, each on its own part of the batch.

    .. math:: L = \sum_k w_k L_k(\text{select}_k(\text{batch}))

    Args:
        terms: name=(weight, objective, select), with a finite weight :math:`w_k \ge 0` and a
            function ``select`` from the batch to the batch of the objective.

    Returns:
        An ``Objective`` whose state is a dict by name; metrics are named ``name/metric``.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax.types import Objective
    >>> square = Objective(lambda p, key: (), lambda p, s, b, key: (p * jnp.sum(b), (s, {})))
    >>> total = weighted_sum(a=(1.0, square, lambda batch: batch), b=(2.0, square, lambda b: b[:1]))
    >>> state = total.init(1.0, jax.random.key(0))
    >>> float(total.loss(1.0, state, jnp.ones(3), jax.random.key(1))[0])
    5.0
    """
    if not terms:
        raise ValueError("weighted_sum needs at least one term, got none.")
    for name, term in terms.items():
        if not isinstance(term, tuple | list) or len(term) != 3:
            raise TypeError(f"{name} must be (weight, objective, select), got {term!r}.")
        weight, objective, select = term
        _checks.weight(f"The weight of {name}", weight)
        _checks.objective(f"The objective of {name}", objective)
        _checks.function(f"The select of {name}", select)

    def init(params, key):
        keys = jax.random.split(key, len(terms))
        return {n: t[1].init(params, k) for (n, t), k in zip(terms.items(), keys, strict=True)}

    def loss(params, state, batch, key):
        total: Any = 0.0
        new_state, metrics = {}, {}
        keys = jax.random.split(key, len(terms))
        for (name, (weight, objective, select)), k in zip(terms.items(), keys, strict=True):
            value, (new_state[name], own) = objective.loss(params, state[name], select(batch), k)
            total = total + weight * value
            metrics |= {f"{name}/{metric}": v for metric, v in own.items()}
        return total, (new_state, metrics)

    return Objective(init, loss)
