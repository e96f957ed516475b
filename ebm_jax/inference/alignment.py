r"""Monotone alignments as a latent variable: the Viterbi path and the forward sum.

A path z assigns L windows to T labels in order and skips no label: z(0) = 0, z(L-1) = T-1, and
z(l+1) - z(l) is 0 or 1. There are :math:`\binom{L-1}{T-1}` paths. With the energy E(l, t) of window
l as label t,

.. math:: E(z) = \sum_l E(l, z(l)), \qquad
    F_\infty = \min_z E(z), \qquad
    F_\beta = -\frac{1}{\beta} \log \sum_z \exp(-\beta E(z)).

``best_path`` computes :math:`F_\infty` and ``free_energy`` computes :math:`F_\beta`, both with

.. math:: a(l, t) = E(l, t) + \operatorname{softmin}_\beta \left[ a(l-1, t), a(l-1, t-1) \right].

Each function takes the energies of one example; use ``jax.vmap`` for a batch. ``num_windows`` and
``num_labels`` exclude padding, which is never read. An energy of +inf forbids a window and label;
if no path is allowed, F = +inf. At beta = inf the gradient is that of one path of lowest energy
(among equal paths, the one that advances early). A NaN energy gives NaN with NaN derivatives, and
so does a beta or a count that is out of range and unknown during tracing. Known values out of range
and batches raise ValueError, energies that are not floating point TypeError.
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
    r"""Return the free energy over all monotone paths.

    .. math:: F_\beta = -\frac{1}{\beta} \log \sum_z \exp\Big(-\beta \sum_l E(l, z(l))\Big)

    At beta = inf it is the energy of the lowest path. Its gradient in the energies, (L, T), is the
    posterior probability that window l is aligned with label t. Source: L. R. Rabiner (1989), A
    tutorial on hidden Markov models, section III (forward recursion).

    Args:
        energies: (L, T), the energy of every window as every label.
        beta: inverse temperature :math:`\beta \ge 0`, a scalar.
        num_windows: number of windows that are not padding, 1 to L; None for all.
        num_labels: number of labels that are not padding, 1 to T; None for all.
        mean: whether to divide the sum by the number of paths. As beta tends to 0, the mean form
            tends to the mean energy of the paths, the sum form to -inf (unless there is only one
            path).

    Returns:
        (), in units of energy; +inf if there are more labels than windows.

    >>> import jax.numpy as jnp
    >>> energies = jnp.array([[0.0, 9.0], [2.0, 1.0], [5.0, 0.0]])  # two paths: 2 + 0 and 1 + 0
    >>> float(free_energy(energies, beta=jnp.inf)), float(free_energy(energies, beta=0, mean=True))
    (1.0, 1.5)
    """
    _checks.flag("mean", mean)
    given = beta
    energies, beta, windows, dtype = prepare(energies, beta, num_windows, "labels")
    known = _checks.concrete(given)
    labels = count("num_labels", num_labels, energies.shape[1])
    result = read(forward(energies, beta), windows, labels)
    if not mean:
        result = sum_form(result, windows - 1, labels - 1, beta, len(energies))
        if known is None or known == 0:
            hottest = _sum_form_at_zero(energies, windows, labels)
            result = jnp.where(beta == 0, hottest, result)
    return with_nan_derivatives(result, energies, axis=(0, 1)).astype(dtype)


def _sum_form_at_zero(energies: Array, windows: Array, labels: Array) -> Array:
    """Return the limit beta -> 0: -inf for several paths, else the path's energy."""
    allowed = jnp.where(jnp.isinf(energies), jax.nn.relu(energies), 0.0 * energies)
    one = jnp.ones((), energies.dtype)
    mean_form = read(forward(allowed, one), windows, labels)
    minus_log_paths = sum_form(mean_form, windows - 1, labels - 1, one, len(energies))
    only = read(forward(energies, jnp.asarray(jnp.inf, energies.dtype)), windows, labels)
    return jnp.where(minus_log_paths < -0.5, -jnp.inf, only)


def best_path(energies, *, num_windows=None, num_labels=None) -> tuple[Array, Array]:
    r"""Return the path of lowest energy, by the Viterbi algorithm, with its energy.

    .. math:: z^\star = \operatorname{argmin}_z E(z)

    Source: A. J. Viterbi (1967), IEEE Transactions on Information Theory 13(2).

    Args:
        energies: (L, T), the energy of every window as every label.
        num_windows: number of windows that are not padding, 1 to L; None for all.
        num_labels: number of labels that are not padding, 1 to T; None for all.

    Returns:
        The label of every window, integers (L,), and the energy :math:`F_\infty`, (). Labels are -1
        in the padding, and everywhere if no path is allowed. Among equal paths, the one that
        advances early is returned.

    >>> import jax.numpy as jnp
    >>> best_path(jnp.array([[0.0, 9.0], [2.0, 1.0], [5.0, 0.0]]))[0].tolist()
    [0, 1, 1]
    """
    energies, beta, windows, dtype = prepare(energies, jnp.inf, num_windows, "labels")
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
    return path, with_nan_derivatives(lowest, energies, axis=(0, 1)).astype(dtype)
