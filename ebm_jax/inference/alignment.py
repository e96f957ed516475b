r"""Monotone alignments as a latent variable: Viterbi and forward sum, one semiring recursion.

A path z assigns L windows to T labels in order, skipping none: z(0) = 0, z(L-1) = T-1 and
z(l+1) - z(l) is 0 or 1. There are C(L-1, T-1) of them. With E(l, t) the energy of window l as
label t,

    E(z) = sum_l E(l, z(l))
    F_inf = min_z E(z)                                     Viterbi
    F_beta = -1/beta log sum_z exp(-beta E(z))             forward sum

are one recursion, in the semiring whose product is + and whose sum is the soft minimum at beta:

    a(l, t) = E(l, t) + softmin_beta[a(l-1, t), a(l-1, t-1)]

Conventions: an array has ONE example, the caller vmaps; padding is named by ``num_windows`` and
``num_labels``, and is never read. An energy of +inf forbids; where no path is allowed F = +inf.
At beta = inf the gradient is that of one lowest path (at a tie, the one that advances early).
A NaN energy is returned as NaN, with NaN derivatives; so is a beta or a count that is out of
range where that was not known when traced.
"""

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax._derivatives import with_nan_derivatives
from ebm_jax.inference._monotone_paths import count, forward, prepare, read, sum_form
from ebm_jax.types import Array


def free_energy(
    energies, *, beta=1.0, num_windows=None, num_labels=None, mean: bool = False
) -> Array:
    r"""Return the free energy over all monotone paths; at beta = inf the lowest path's energy.

        F_beta = -1/beta log sum_z exp(-beta sum_l E(l, z(l)))          (mean form: / C(L-1, T-1))

    Its gradient is the posterior: P(window l is aligned with label t), (L, T). Source: L. R.
    Rabiner (1989), A tutorial on hidden Markov models, section III (forward recursion).

    Args:
        energies: (L, T), the energy of every window as every label.
        beta: inverse temperature >= 0, a scalar.
        num_windows: how many windows count, 1 to L; None for all. The rest is padding.
        num_labels: how many labels count, 1 to T; None for all.
        mean: divide by the number of paths; tends to the mean path energy as beta -> 0, where
            the sum form tends to -inf (unless there is one path).

    Returns:
        (), in units of energy; +inf where there are more labels than windows.

    Raises:
        TypeError: integer energies. ValueError: a batch, a negative beta, counts out of range.

    >>> import jax.numpy as jnp
    >>> energies = jnp.array([[0.0, 9.0], [2.0, 1.0], [5.0, 0.0]])  # two paths: 2 + 0 and 1 + 0
    >>> float(free_energy(energies, beta=jnp.inf)), float(free_energy(energies, beta=0, mean=True))
    (1.0, 1.5)
    """
    _checks.flag("mean", mean)
    given = beta
    energies, beta, windows = prepare(energies, beta, num_windows, "labels")
    known = _checks.concrete(given)
    labels = count("num_labels", num_labels, energies.shape[1])
    result = read(forward(energies, beta), windows, labels)
    if not mean:
        result = sum_form(result, windows - 1, labels - 1, beta, len(energies))
        if known is None or known == 0:
            hottest = _sum_form_at_zero(energies, windows, labels)
            result = jnp.where(beta == 0, hottest, result)
    return with_nan_derivatives(result, energies, axis=(0, 1))


def _sum_form_at_zero(energies: Array, windows: Array, labels: Array) -> Array:
    """Return the limit beta -> 0: the energy of the path, or -inf where several are allowed."""
    allowed = jnp.where(jnp.isinf(energies), jax.nn.relu(energies), 0.0 * energies)
    one = jnp.ones((), energies.dtype)
    mean_form = read(forward(allowed, one), windows, labels)
    minus_log_paths = sum_form(mean_form, windows - 1, labels - 1, one, len(energies))
    only = read(forward(energies, jnp.asarray(jnp.inf, energies.dtype)), windows, labels)
    return jnp.where(minus_log_paths < -0.5, -jnp.inf, only)


def best_path(energies, *, num_windows=None, num_labels=None) -> tuple[Array, Array]:
    r"""Return z* = argmin_z E(z), by Viterbi, and its energy.

    Source: A. J. Viterbi (1967), IEEE Transactions on Information Theory 13(2).

    Args:
        energies: (L, T), the energy of every window as every label.
        num_windows: how many windows count, 1 to L; None for all.
        num_labels: how many labels count, 1 to T; None for all.

    Returns:
        The label of every window, (L,) integers, -1 in the padding and everywhere if no path
        is allowed; and F_inf, (). Among ties, the path that advances early.

    Raises:
        TypeError: integer energies. ValueError: a batch, counts out of range.

    >>> import jax.numpy as jnp
    >>> best_path(jnp.array([[0.0, 9.0], [2.0, 1.0], [5.0, 0.0]]))[0].tolist()
    [0, 1, 1]
    """
    energies, beta, windows = prepare(energies, jnp.inf, num_windows, "labels")
    labels = count("num_labels", num_labels, energies.shape[1])
    rows = forward(energies, beta)
    lowest = read(rows, windows, labels)

    def back(label: Array, at: tuple[Array, Array]) -> tuple[Array, Array]:
        index, before = at
        advanced = (label > 0) & ~(before[label] <= before[label - 1])
        label = jnp.where(index < windows - 1, label - advanced, label)
        return label, label

    indices = jnp.arange(energies.shape[0] - 1)
    # Walking back from window l to l - 1 reads a(l - 1, .), which is rows[:-1] reversed.
    _, path = jax.lax.scan(back, labels - 1, (indices, rows[:-1]), reverse=True)
    path = jnp.concatenate([path, (labels - 1)[None]])
    seen = jnp.arange(energies.shape[0]) < windows
    path = jnp.where(seen & (lowest < jnp.inf), path, -1)
    return path, with_nan_derivatives(lowest, energies, axis=(0, 1))
