r"""The losses of two energies as objectives over data: a right answer against a wrong one.

    L = mean_i loss(F(x_i, y_i), F(x_i, y'_i))

Which wrong answer y' it is decides what is learnt: the most offending one, one that a chain finds,
or one of the user's own proposal. Source: LeCun et al. (2006), sections 2.2 and 3.
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
    r"""Return the mean of a pairwise loss over a batch of right answers and wrong ones.

        L = mean_i loss(F(x_i, y_i), F(x_i, y'_i)),   y' a constant

    Args:
        energy: F(params, x, y) -> ().
        loss: (E+ (n,), E- (n,)) -> (n,): ``losses.hinge`` and its kin, their margin filled in.
        propose: (params, key, x, y) -> y', wrong answers like y: ``most_offending_among``,
            ``by_sampling``, or your own, which may ignore what it is given.

    Returns:
        An ``Objective`` without state, of batches (x, y); metrics ``loss``, ``energy_positive``,
        ``energy_negative`` and ``energy_gap``.

    Raises:
        TypeError: batches that are not pairs, a non-callable argument. ValueError: batches without
            a common leading axis, proposals unlike y, an energy that is not a scalar, a loss that
            is not elementwise.

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
                f"loss must return one number an example, {positive.shape}, it returned "
                f"{each.shape}."
            )
        value = jnp.mean(each)
        return value, (state, {"loss": value} | _negatives.means(positive, negative))

    return Objective(lambda params, key: (), batch_loss)


def most_offending_among(
    energy: Energy, candidates: Position, *, radius: ArrayLike = 0.0
) -> Propose:
    r"""Return the proposal of the most offending answer of a finite set.

        y' = argmin F(x, c) over the candidates c with |c - y| > radius

    For continuous y the radius keeps the answers that are as good as right from being pushed up.
    Source: LeCun et al. (2006), definitions 1 and 2.

    Args:
        energy: F(params, x, y) -> ().
        candidates: answers like y, on the leading axis.
        radius: >= 0, in units of y.

    Returns:
        (params, key, x, y) -> y'. Where no candidate is that far it is y itself.

    Raises:
        ValueError: candidates without a common leading axis, a radius < 0.

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
            difference = jax.tree.map(
                lambda c, r: c.astype(energies.dtype) - r.astype(energies.dtype), candidates, right
            )
            far = chain_norm(jax.tree.leaves(difference)) > radius
            index = lowest_wrong(energies, far)
            return jax.tree.map(lambda c, r: jnp.where(index < 0, r, c[index]), candidates, right)

        first = jax.tree.map(lambda leaf: leaf[0], (x, y))
        rows = _platform.rows_at_once(one, first, on_cpu=256, elsewhere=256)
        return jax.lax.map(one, (x, y), batch_size=rows)

    return propose


def by_sampling(energy: Energy, make_sampler: MakeSampler, *, num_steps: int) -> Propose:
    r"""Return the proposal of the answers that chains of exp(-F(x_i, .)) find, from y_i on.

    Args:
        energy: F(params, x, y) -> ().
        make_sampler: energy -> ``Sampler``: ``functools.partial(samplers.ula, step_size=0.01)``.
            The positions of that energy are pairs (y, index of the chain).
        num_steps: steps of the chains, >= 1.

    Returns:
        (params, key, x, y) -> y'.

    Raises:
        ValueError: num_steps < 1. TypeError: answers without a floating leaf, a non-callable
            argument, one that makes no sampler.

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
