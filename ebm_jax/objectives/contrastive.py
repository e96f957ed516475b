r"""Pairwise losses as objectives: right answers against wrong answers.

.. math:: L = \operatorname{mean}_i \, \text{loss}(F(x_i, y_i), F(x_i, y'_i))

The choice of the wrong answer y' decides what is learnt: the most offending answer, an answer from
a Markov chain, or your own proposal. Source: LeCun et al. (2006), sections 2.2 and 3.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from ebm_jax import _checks, _platform
from ebm_jax._trees import chain_norm
from ebm_jax.losses._arguments import lowest_wrong
from ebm_jax.objectives import _conditional, _negatives
from ebm_jax.types import Array, Energy, Key, MakeSampler, Objective, Params, Position, PyTree

Propose = Callable[[Params, Key, PyTree, Position], Position]


def contrastive(
    energy: Energy, loss: Callable[[Array, Array], Array], propose: Propose
) -> Objective:
    r"""Return the objective of a pairwise loss on right and wrong answers.

    .. math:: L = \operatorname{mean}_i \, \text{loss}(F(x_i, y_i), F(x_i, y'_i))

    No gradient flows through the wrong answers :math:`y'`.

    Args:
        energy: function F(params, x, y) -> () of one example.
        loss: elementwise pairwise loss of energies (n,) and (n,), such as ``losses.hinge``.
        propose: function (params, key, x, y) that returns wrong answers y', like y:
            ``most_offending_among``, ``by_sampling``, or your own.

    Returns:
        An ``Objective`` without state, of batches (x, y); metrics ``loss``, ``energy_positive``,
        ``energy_negative`` and ``energy_gap`` (negative minus positive).

    Raises:
        TypeError: if a batch is not a pair.
        ValueError: if proposals are unlike y, or the loss is not elementwise.

    >>> import jax, jax.numpy as jnp
    >>> from ebm_jax import losses
    >>> objective = contrastive(lambda params, x, y: (params * x - y) ** 2, losses.hinge,
    ...                         lambda params, key, x, y: y + jax.random.normal(key, y.shape))
    >>> x = jnp.arange(4.0)
    >>> value, (_, metrics) = objective.loss(2.0, (), (x, 2 * x), jax.random.key(0))
    >>> float(metrics["energy_positive"])
    0.0
    """
    for name, value in (("energy", energy), ("loss", loss), ("propose", propose)):
        _checks.function(name, value)

    def batch_loss(params, state, batch, key):
        x, y = jax.tree.map(jnp.asarray, _checks.pair(batch))
        wrong = propose(jax.lax.stop_gradient(params), key, x, y)
        _checks.alike("What propose returns", wrong, y)
        wrong = jax.lax.stop_gradient(wrong)

        def energies(answers: Position) -> Array:
            return _checks.energies(lambda pair: energy(params, *pair), (x, answers), "batch")

        positive, negative = energies(y), energies(wrong)
        each = _checks.floating("What loss returns", loss(positive, negative))
        if each.shape != positive.shape:
            raise ValueError(
                f"loss must return one number per example, {positive.shape}, it returned "
                f"{each.shape}."
            )
        value = jnp.mean(each)
        return value, (state, {"loss": value} | _negatives.means(positive, negative))

    return Objective(lambda params, key: (), batch_loss)


def most_offending_among(
    energy: Energy, candidates: Position, *, radius: ArrayLike = 0.0
) -> Propose:
    r"""Return a function that proposes the most offending answer of a finite set.

    .. math:: y' = \operatorname{argmin}_c F(x, c) \quad
        \text{over candidates } c \text{ with } \lVert c - y \rVert > \text{radius}

    For continuous y, the radius protects answers that are close to the right one. Source: LeCun et
    al. (2006), definitions 1 and 2.

    Args:
        energy: function F(params, x, y) -> () of one example.
        candidates: answers like y, on the leading axis.
        radius: candidates within this distance of y are not wrong, >= 0, in units of y.

    Returns:
        A function (params, key, x, y) -> y'. If no candidate is wrong, y' is y.

    Raises:
        ValueError: if candidates have no common leading axis, or radius < 0.

    >>> import jax, jax.numpy as jnp
    >>> propose = most_offending_among(lambda params, x, y: (x - y) ** 2, jnp.arange(5.0))
    >>> propose(None, jax.random.key(0), jnp.array([1.2]), jnp.array([1.0])).tolist()
    [2.0]
    """
    _checks.function("energy", energy)
    _checks.leading_axis("candidates", candidates)
    _checks.nonnegative("radius", radius)
    _checks.scalar("radius", radius)
    candidates, what = jax.tree.map(jnp.asarray, candidates), "candidates"

    def propose(params, key, x, y):
        del key
        first = [jax.tree.map(lambda leaf: leaf[0], answers) for answers in (candidates, y)]
        _checks.alike(what, *first)

        def one(pair):
            given, right = pair
            energies = _checks.energies(lambda c: energy(params, given, c), candidates, what)
            difference = jax.tree.map(_difference, candidates, right)
            far = chain_norm(jax.tree.leaves(difference)) > radius
            index = lowest_wrong(energies, far)
            return jax.tree.map(lambda c, r: jnp.where(index < 0, r, c[index]), candidates, right)

        first = jax.tree.map(lambda leaf: leaf[0], (x, y))
        rows = _platform.rows_at_once(one, first, on_cpu=256, elsewhere=256)
        return jax.lax.map(one, (x, y), batch_size=rows)

    return propose


def _difference(candidate: Array, right: Array) -> Array:
    """Return the difference of two answers; different integers are not rounded to equal ones."""
    whole = not jnp.issubdtype(candidate.dtype, jnp.floating)
    wide = jnp.promote_types(candidate.dtype, jnp.int32 if whole else jnp.float32)
    difference = candidate.astype(wide) - right.astype(wide)
    return difference.astype(jnp.promote_types(wide, jnp.float32))


def by_sampling(energy: Energy, make_sampler: MakeSampler, *, num_steps: int) -> Propose:
    """Return a function that proposes wrong answers with chains from the right ones.

    The chain of example i samples exp(-F(x_i, .)) and starts at its right answer y_i.

    Args:
        energy: function F(params, x, y) -> () of one example.
        make_sampler: function from an energy to a ``Sampler`` of continuous positions, such as
            ``functools.partial(samplers.ula, step_size=0.01)``. Its positions are pairs (y, index
            of the chain). Samplers of discrete variables would move the index.
        num_steps: number of steps of the chains, >= 1.

    Returns:
        A function (params, key, x, y) -> y'.

    Raises:
        TypeError: if answers have no floating-point leaf, or make_sampler does not return a
            sampler.
        ValueError: if num_steps < 1.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import samplers
    >>> propose = by_sampling(lambda params, x, y: (x - y) ** 2,
    ...                       functools.partial(samplers.mala, step_size=0.1), num_steps=10)
    >>> propose(None, jax.random.key(0), jnp.ones(5), jnp.ones(5)).shape
    (5,)
    """
    _checks.function("energy", energy)
    _checks.function("make_sampler", make_sampler)
    _checks.count("num_steps", num_steps)

    def propose(params, key, x, y):
        def own(answer: Position, given: PyTree) -> Array:
            return energy(params, given, answer)

        return _conditional.run(key, own, y, x, make_sampler, num_steps)[0]

    return propose
