r"""From energies to losses: the family of LeCun et al. (2006), table 1, and the homework's own.

Two kinds, one signature each, unreduced (the caller averages):

* pairwise, ``loss(positive, negative, *, ...)``: E+ = F(x, y) of the right answer and
  E- = F(x, y') of a wrong one, broadcasting; elementwise;
* over candidates, ``loss(energies, label, *, ...)``: F(x, y) for every candidate y on the last
  axis, and the index of the right one.

``most_offending`` makes a pairwise loss one over candidates:
``hinge(*most_offending(energies, label), margin=1.0)``.

[.]+ has derivative 0 at 0 (``jax.nn.relu``; ``jnp.maximum`` would give 1/2). A label that is
out of range is refused where its value is known; under jit it gives NaN.

Source of every formula: Y. LeCun, S. Chopra, R. Hadsell, M. Ranzato, F. Huang (2006), A tutorial
on energy-based learning, in Predicting Structured Data, MIT Press.
"""

import jax
import jax.numpy as jnp

from ebm_jax import _checks, gibbs
from ebm_jax.types import Array

PAIRWISE = (
    "energy",
    "hinge",
    "log",
    "lvq2",
    "mce",
    "simple",
    "square_square",
    "square_exponential",
)
CANDIDATES = ("perceptron", "nll", "mee")


def _pair(positive, negative) -> tuple[Array, Array]:
    positive = _checks.floating("positive", positive)
    negative = _checks.floating("negative", negative)
    _checks.broadcastable(positive=positive, negative=negative)
    return positive, negative


def _margin(name: str, value, *energies: Array) -> Array:
    """Check a margin (>= 0, broadcasting) and give it the energies' type."""
    _checks.nonnegative(name, value)
    value = jnp.asarray(value, jnp.result_type(*energies))
    _checks.broadcastable(**{"positive": energies[0], "negative": energies[1], name: value})
    return value


def energy(positive, negative) -> Array:
    r"""Return the energy loss, which pushes down and never up: it collapses.

        l = E+                                             margin: none

    Source: LeCun et al. (2006), eq. 6.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting; only its shape matters.
    Returns:
        The broadcast shape.
    Raises:
        TypeError: integer energies. ValueError: shapes that do not broadcast.

    >>> float(energy(2.0, 5.0))
    2.0
    """
    positive, negative = _pair(positive, negative)
    return jnp.broadcast_to(positive, jnp.broadcast_shapes(positive.shape, negative.shape))


def hinge(positive, negative, *, margin=1.0) -> Array:
    r"""Return the hinge loss: zero once the wrong answer lies a margin above the right one.

        l = [m + E+ - E-]+                                 margin: m

    Source: LeCun et al. (2006), eq. 11.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting.
        margin: m >= 0 in units of energy, broadcasting: an array is a margin m(y, y').
    Returns:
        The broadcast shape.
    Raises:
        TypeError: integer energies. ValueError: a negative margin, shapes that do not broadcast.

    >>> float(hinge(1.0, 1.5, margin=1.0)), float(hinge(1.0, 3.0, margin=1.0))
    (0.5, 0.0)
    """
    positive, negative = _pair(positive, negative)
    return jax.nn.relu(_margin("margin", margin, positive, negative) + positive - negative)


def log(positive, negative) -> Array:
    r"""Return the log loss, a smooth hinge that is never exactly zero.

        l = log(1 + exp(E+ - E-))                          margin: > 0

    It pushes at every margin, with a force sigma(E+ - E-) that decays exponentially.
    Source: LeCun et al. (2006), eq. 12.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting.
    Returns:
        The broadcast shape.
    Raises:
        TypeError: integer energies. ValueError: shapes that do not broadcast.

    >>> round(float(log(0.0, 0.0)), 4), float(log(1e4, 0.0))
    (0.6931, 10000.0)
    """
    positive, negative = _pair(positive, negative)
    return jax.nn.softplus(positive - negative)


def lvq2(positive, negative, *, ceiling=1.0) -> Array:
    r"""Return the LVQ2 loss, a perceptron whose force stops for hopeless examples.

        l = min(M, [E+ - E-]+)                             margin: 0

    The derivative is 0 at both kinks. Source: Driancourt et al. (1991), as in LeCun et al.
    (2006), eq. 13.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting.
        ceiling: M >= 0 in units of energy, broadcasting.
    Returns:
        The broadcast shape.
    Raises:
        TypeError: integer energies. ValueError: a negative ceiling, shapes that do not broadcast.

    >>> [float(lvq2(d, 0.0)) for d in (-1.0, 0.5, 7.0)]
    [0.0, 0.5, 1.0]
    """
    positive, negative = _pair(positive, negative)
    ceiling = _margin("ceiling", ceiling, positive, negative)
    violation = positive - negative
    return jnp.where(violation >= ceiling, ceiling, jax.nn.relu(violation))


def mce(positive, negative) -> Array:
    r"""Return the minimum classification error loss, a smooth count of errors.

        l = sigma(E+ - E-)                                 margin: > 0

    Source: Juang et al. (1997), as in LeCun et al. (2006), eq. 14.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting.
    Returns:
        The broadcast shape, in (0, 1).
    Raises:
        TypeError: integer energies. ValueError: shapes that do not broadcast.

    >>> float(mce(1.0, 1.0))
    0.5
    """
    positive, negative = _pair(positive, negative)
    return jax.nn.sigmoid(positive - negative)


def simple(positive, negative, *, margin=1.0) -> Array:
    r"""Return the simple loss, a constant force towards two absolute levels.

        l = [E+]+ + [m - E-]+                              margin: m

    It pulls E+ down to 0 and E- up to m, each by itself, with a force that does not grow with
    the violation: robust to outliers. Source: the homework; cf. LeCun et al. (2006), eq. 15.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting.
        margin: m >= 0, the level of wrong answers in units of energy, broadcasting.
    Returns:
        The broadcast shape.
    Raises:
        TypeError: integer energies. ValueError: a negative margin, shapes that do not broadcast.

    >>> float(simple(0.5, 0.25, margin=1.0))
    1.25
    """
    positive, negative = _pair(positive, negative)
    margin = _margin("margin", margin, positive, negative)
    return jax.nn.relu(positive) + jax.nn.relu(margin - negative)


def square_square(positive, negative, *, margin=1.0, one_sided: bool = True) -> Array:
    r"""Return the square-square loss, a force that grows with the violation.

        l = ([E+]+)^2 + ([m - E-]+)^2      one_sided=True, the homework's form    margin: m
        l = (E+)^2 + ([m - E-]+)^2         one_sided=False, LeCun et al. (2006), eq. 15

    The two agree for energies that cannot be negative.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting.
        margin: m >= 0, the level of wrong answers in units of energy, broadcasting.
        one_sided: whether a right answer below energy 0 is left alone.
    Returns:
        The broadcast shape, in energy squared.
    Raises:
        TypeError: integer energies. ValueError: a negative margin, shapes that do not broadcast.

    >>> float(square_square(-2.0, 0.5)), float(square_square(-2.0, 0.5, one_sided=False))
    (0.25, 4.25)
    """
    positive, negative = _pair(positive, negative)
    margin = _margin("margin", margin, positive, negative)
    pull = jax.nn.relu(positive) if one_sided else positive
    return pull**2 + jax.nn.relu(margin - negative) ** 2


def square_exponential(positive, negative, *, gamma=1.0) -> Array:
    r"""Return the square-exponential loss: wrong answers are pushed up for ever.

        l = (E+)^2 + gamma exp(-E-)                        margin: > 0

    A wrong answer at a very negative energy overflows to inf, as the formula does.
    Source: Osadchy et al. (2005), as in LeCun et al. (2006), eq. 16.

    Args:
        positive: energy of the right answer, any shape.
        negative: energy of a wrong answer, broadcasting.
        gamma: weight >= 0 of the wrong answer, broadcasting.
    Returns:
        The broadcast shape.
    Raises:
        TypeError: integer energies. ValueError: a negative gamma, shapes that do not broadcast.

    >>> float(square_exponential(2.0, 0.0, gamma=3.0))
    7.0
    """
    positive, negative = _pair(positive, negative)
    gamma = _margin("gamma", gamma, positive, negative)
    return positive**2 + gamma * jnp.exp(-negative)


def _pick(energies: Array, label: Array) -> Array:
    """Return energies[..., label]; NaN for a label that is out of range."""
    n = energies.shape[-1]
    safe = jnp.clip(label, 0, n - 1)
    chosen = jnp.take_along_axis(energies, safe[..., None], axis=-1)[..., 0]
    return jnp.where(label == safe, chosen, jnp.nan)


def _candidates(energies, label) -> tuple[Array, Array]:
    energies = _checks.floating("energies", energies)
    return energies, _checks.labels(label, energies)


def perceptron(energies, label) -> Array:
    r"""Return the perceptron loss: zero as soon as the right answer is (one of) the lowest.

        l = F(x, y) - min_y' F(x, y')                      margin: 0

    At a tie the right answer counts as the winner, then the candidate that comes first.
    Source: LeCun et al. (2006), eq. 7.

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
    Returns:
        Shape (...), >= 0.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range.

    >>> import jax.numpy as jnp
    >>> float(perceptron(jnp.array([3.0, 1.0, 2.0]), 0))
    2.0
    """
    energies, label = _candidates(energies, label)
    right = _pick(energies, label)
    return right - _pick(energies, winner(energies, label))


def winner(energies: Array, label: Array) -> Array:
    """Return argmin_y F(x, y), of shape (...); a tie goes to ``label``, then to the first."""
    first = jnp.argmin(energies, axis=-1)
    return jnp.where(_pick(energies, label) <= jnp.min(energies, axis=-1), label, first)


def nll(energies, label, *, beta=1.0, where=None, log_weights=None) -> Array:
    r"""Return the negative log-likelihood of the Gibbs distribution, divided by beta.

        l = F(x, y) + 1/beta log sum_y' exp(-beta F(x, y'))          margin: > 0

    Its gradient is "the right answer minus the expected one". beta -> inf is the perceptron
    loss. With ``log_weights`` (log cell volumes) the sum is an integral over a grid.
    Source: LeCun et al. (2006), eq. 17.

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        beta: inverse temperature >= 0; scalar or broadcasting to the result.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log-weights of the candidates, broadcasting to ``energies``.
    Returns:
        Shape (...), in units of energy; +inf at beta = 0 for n > 1.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative beta.

    >>> import jax.numpy as jnp
    >>> round(float(nll(jnp.zeros(10), 3)), 4)  # log 10
    2.3026
    """
    energies, label = _candidates(energies, label)
    soft_minimum = gibbs.free_energy(energies, beta=beta, where=where, log_weights=log_weights)
    return _pick(energies, label) - soft_minimum


def mee(energies, label, *, beta=1.0, where=None, log_weights=None) -> Array:
    r"""Return the minimum empirical error loss: the probability of being wrong.

        l = 1 - P(y | x),   P from the Gibbs distribution            margin: > 0

    Source: Ljolje et al. (1990), as in LeCun et al. (2006), eq. 20.

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        beta: inverse temperature >= 0; scalar or broadcasting to the result.
        where: booleans broadcasting to ``energies``; False drops a candidate.
        log_weights: log-weights of the candidates, broadcasting to ``energies``.
    Returns:
        Shape (...), in [0, 1].
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative beta.

    >>> import jax.numpy as jnp
    >>> float(mee(jnp.zeros(4), 3))
    0.75
    """
    energies, label = _candidates(energies, label)
    p = gibbs.probs(energies, beta=beta, where=where, log_weights=log_weights)
    # The sum over the wrong answers, not 1 - P: no cancellation near 0.
    wrong = jnp.arange(energies.shape[-1]) != label[..., None]
    error = jnp.sum(jnp.where(wrong, p, 0.0), axis=-1)
    return jnp.where(jnp.isnan(_pick(p, label)), jnp.nan, error)


def offender(energies, label, *, distance=None, radius: float = 0.0) -> Array:
    r"""Return the index of the most offending wrong answer.

        y' = argmin F(x, y) over y != right (discrete), over |y - right| > radius (continuous)

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        distance: (..., n), how far each candidate lies from the right answer; None for
            discrete candidates, which are all wrong but the right one.
        radius: candidates within this distance of the right answer do not count as wrong.
    Returns:
        Integers (...), the first of ties, or -1 where no candidate is wrong.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative radius, a radius without distances.

    >>> import jax.numpy as jnp
    >>> int(offender(jnp.array([0.0, 2.0, 1.0]), 0))
    2
    """
    energies, label = _candidates(energies, label)
    _checks.nonnegative("radius", radius)
    wrong = jnp.arange(energies.shape[-1]) != label[..., None]
    if distance is not None:
        distance = _checks.floating("distance", distance)
        if _checks.broadcastable(energies=energies, distance=distance) != energies.shape:
            raise ValueError(
                f"distance {distance.shape} must broadcast to energies {energies.shape}."
            )
        wrong = wrong & (distance > radius)
    elif _checks.concrete(radius) is None or radius > 0:
        raise ValueError(f"radius {radius} needs the distance of every candidate, got None.")
    index = jnp.argmin(jnp.where(wrong, energies, jnp.inf), axis=-1)
    return jnp.where(jnp.any(wrong, axis=-1), index, -1)


def most_offending(energies, label, *, distance=None, radius: float = 0.0) -> tuple[Array, Array]:
    r"""Return (E+, E-), with E- the energy of the most offending wrong answer.

        E+ = F(x, y),   E- = min F(x, y') over y' != y, or over |y' - y| > radius

    It turns any pairwise loss into one over candidates. Source: LeCun et al. (2006), definitions
    1 (discrete) and 2 (continuous).

    Args:
        energies: (..., n), the energy of every candidate.
        label: integers (...), the index of the right answer.
        distance: (..., n), how far each candidate lies from the right answer; None for
            discrete candidates.
        radius: candidates within this distance of the right answer do not count as wrong.
    Returns:
        Two arrays (...); E- is +inf where no candidate is wrong.
    Raises:
        TypeError: integer energies, labels that are not integers. ValueError: wrong shapes,
            labels out of range, a negative radius, a radius without distances.

    >>> import jax.numpy as jnp
    >>> float(hinge(*most_offending(jnp.array([0.0, 0.5, 2.0]), 0), margin=1.0))
    0.5
    """
    index = offender(energies, label, distance=distance, radius=radius)
    energies, label = _candidates(energies, label)
    return _pick(energies, label), jnp.where(index < 0, jnp.inf, _pick(energies, index))
