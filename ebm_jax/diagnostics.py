"""Diagnostics of chains and of the energies of data and samples.

R-hat and effective sample size come from arviz-stats. In a checkout of the repository,
``pip install ".[diagnostics]"`` installs it.
"""

import math
import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.types import Array, Energy, Metrics, Params, Position, PyTree

MANY = 10  # chains per step, above which a history is likely to be transposed


def energy_gap(energy: Energy, params: Params, positives: Position, negatives: Position) -> Metrics:
    r"""Return the gap and spread between the energies of data and of samples.

    .. math:: \text{gap} = \operatorname{mean} E(x^-) - \operatorname{mean} E(x^+)

    for samples :math:`x^-` and data :math:`x^+`; the spread is the standard deviation over both. In
    maximum-likelihood training the gap should stay near zero. A gap that keeps growing means that
    the chains do not follow the energy; a spread near zero means that the energy has become
    constant.

    Args:
        energy: function (params, x) -> () of one configuration.
        params: parameters of the energy.
        positives: data, on the leading axis.
        negatives: samples, on the leading axis.

    Returns:
        ``energy_positive``, ``energy_negative``, ``energy_gap`` and ``energy_spread``, each ().

    >>> import jax.numpy as jnp
    >>> metrics = energy_gap(lambda p, x: x, None, jnp.zeros(3), jnp.ones(3))
    >>> float(metrics["energy_gap"]), float(metrics["energy_spread"])
    (1.0, 0.5)
    """
    _checks.function("energy", energy)

    def energies(name: str, batch: Position) -> Array:
        each = _checks.energies(lambda x: energy(params, x), batch, name)
        # Means in a half precision would differ by its rounding of their common level.
        return each.astype(jnp.promote_types(each.dtype, jnp.float32))

    positive, negative = energies("positives", positives), energies("negatives", negatives)
    return {
        "energy_positive": jnp.mean(positive),
        "energy_negative": jnp.mean(negative),
        "energy_gap": jnp.mean(negative) - jnp.mean(positive),
        "energy_spread": jnp.std(jnp.concatenate([positive, negative])),
    }


def low_energy_volume(energies, data_energies, *, mass=0.95, log_weights=None) -> Array:
    r"""Return the fraction of space whose energy is at most the energy of the data.

    .. math:: V = \frac{\sum_s w_s 1[E(s) \le q]}{\sum_s w_s}, \qquad
        q = \text{the mass-quantile of the energies of the data}

    V = 1 means collapse: the energy does not distinguish data from other points. The minimum over
    all energies is the volume of the smallest region that holds this mass of the data, reached by
    the density of the data. V does not change under increasing functions of the energy, such as a
    change of temperature. Source: LeCun (2022), A path towards autonomous machine intelligence, for
    the volume of low energy that regularised methods limit; minimum-volume sets: Polonik (1997),
    Stochastic Processes and their Applications 69(1).

    Args:
        energies: (n,), energies of points that cover the space: a grid, or uniform draws.
        data_energies: (m,), energies of data, preferably held out.
        mass: fraction of the data, in [0, 1], with energies up to q.
        log_weights: (n,), :math:`\log w_s`: log cell volumes; None for equal weights.

    Returns:
        (), in [0, 1]; NaN if an energy of the data, or one with positive weight, is NaN.

    Raises:
        TypeError: if energies are not floating point.
        ValueError: if mass is outside [0, 1], or energies are not nonempty vectors.

    >>> import jax.numpy as jnp
    >>> float(low_energy_volume(jnp.array([0.0, 1.0, 2.0, 3.0]), jnp.array([0.0, 0.5])))
    0.25
    >>> float(low_energy_volume(jnp.ones(4), jnp.ones(2)))  # flat
    1.0
    """
    energies = _checks.floating("energies", energies)
    data_energies = _checks.floating("data_energies", data_energies)
    _checks.fraction("mass", mass)
    _checks.scalar("mass", mass)
    for name, given in (("energies", energies), ("data_energies", data_energies)):
        if given.ndim != 1 or not given.size:
            raise ValueError(f"{name} must be a vector of at least one, got {given.shape}.")
    log_w = _checks.array("log_weights", 0.0 if log_weights is None else log_weights)
    _checks.fits("log_weights", log_w, "energies", energies.shape)
    # "higher" gives an energy of the data itself: interpolation could fall below a flat energy.
    level = jnp.quantile(data_energies, mass, method="higher")
    wide = jnp.promote_types(energies.dtype, jnp.float32)
    weights = jax.nn.softmax(jnp.broadcast_to(log_w, energies.shape).astype(wide))
    low = jnp.where(jnp.isnan(energies), jnp.nan, (energies <= level).astype(wide))
    volume = jnp.sum(jnp.where(weights == 0, 0.0, weights * low)) / jnp.sum(weights)
    return jnp.where(jnp.isnan(level), jnp.nan, volume)


def _array_stats() -> Any:
    try:
        from arviz_stats.base import array_stats  # pyright: ignore
    except ImportError as error:
        raise ImportError(
            "R-hat and ESS need the package arviz-stats: pip install 'arviz-stats>=0.8'."
        ) from error
    return array_stats


def _numbers(name: str, given) -> np.ndarray:
    """Return real numbers in double precision; raise an error for other types."""
    try:
        values = np.asarray(given)
        values = None if np.iscomplexobj(values) else values.astype(np.float64)
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise TypeError(
            f"{name} must be one array of real numbers (steps, chains, ...), got "
            f"{type(given).__name__}."
        )
    return values


def _history(history) -> np.ndarray:
    values = _numbers("history", history)
    if values.ndim < 2 or values.shape[0] < 4:
        raise ValueError(
            "history must be (steps, chains, ...) with at least 4 steps, as samplers.run collects "
            f"it; got {values.shape}."
        )
    steps, chains = values.shape[:2]
    if chains > MANY * steps:
        warnings.warn(
            f"history has {steps:,} steps of {chains:,} chains. If it is (chains, steps, ...), "
            "transpose it: it must be (steps, chains, ...). Otherwise collect more steps: R-hat "
            "and ESS of chains as short as these are unreliable.",
            stacklevel=3,
        )
    return np.moveaxis(values, (0, 1), (-1, -2))


def _unusable(values: np.ndarray) -> np.ndarray:
    """Return which coordinates are constant or contain values that are not finite."""
    with np.errstate(invalid="ignore"):
        spread = values.max((-1, -2)) - values.min((-1, -2))
    return ~(spread > 0) | ~np.isfinite(spread)


def rhat(history) -> np.ndarray:
    """Return the rank-normalised split R-hat of every coordinate.

    A value above 1.01 means that the chains disagree. Source: Vehtari et al. (2021),
    Rank-normalization, folding, and localization: an improved R-hat, Bayesian Analysis 16(2).

    Args:
        history: (steps, chains, ...), as ``samplers.run`` collects it, with at least two chains.
            The function warns if there are more than ten times as many chains as steps.

    Returns:
        The shape of one configuration, without NaN: a coordinate that is constant over all steps
        and chains, or contains NaN or inf, has R-hat inf. Leave out coordinates that are constant
        by design.

    Raises:
        ImportError: if arviz-stats is missing.
        ValueError: if there are fewer than 4 steps or 2 chains.

    >>> import numpy as np
    >>> float(rhat(np.random.default_rng(0).normal(size=(500, 4)))) < 1.01
    True
    """
    array_stats, values = _array_stats(), _history(history)
    if values.shape[-2] < 2:
        raise ValueError(f"history must hold 2 chains or more for R-hat, got {values.shape[-2]}.")
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(_unusable(values), np.inf, array_stats.rhat(values))


def ess(history) -> np.ndarray:
    """Return the bulk effective sample size of every coordinate, over all chains.

    The bulk is the centre of the distribution, where the mean and the median are. Source: Vehtari
    et al. (2021). Antithetic chains, whose successive draws are negatively correlated, can have
    more than one effective sample per draw. For short chains the estimate is often too high: the
    function warns above two per draw.

    Args:
        history: (steps, chains, ...), as ``samplers.run`` collects it. The function warns if there
            are more than ten times as many chains as steps.

    Returns:
        The shape of one configuration, in samples, without NaN: a coordinate that is constant over
        all steps and chains, or contains NaN or inf, has 0. Use ``rhat`` to detect a single chain
        that does not move.

    Raises:
        ImportError: if arviz-stats is missing.
        ValueError: if there are fewer than 4 steps.

    >>> import numpy as np
    >>> bool(1500 < ess(np.random.default_rng(0).normal(size=(500, 4))) < 2500)
    True
    """
    array_stats, values = _array_stats(), _history(history)
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.where(_unusable(values), 0.0, array_stats.ess(values))
    draws = math.prod(values.shape[-2:])
    if np.any(sizes > 2 * draws):
        warnings.warn(
            f"The largest ESS is {sizes.max():,.0f} of {draws:,} draws. Chains may be too short "
            "to estimate it, or history may be transposed: it must be (steps, chains, ...).",
            stacklevel=2,
        )
    return sizes


class Summary(NamedTuple):
    """The result of ``summary``.

    Each field has the structure and shape of one configuration. ``str`` and ``print`` show a table
    of the first 20 coordinates, and the lowest ESS and highest R-hat over all coordinates.

    Attributes:
        mean: the mean over draws and chains.
        sd: the standard deviation over draws and chains.
        mcse: the Monte Carlo standard error of the mean.
        ess: the bulk effective sample size.
        rhat: the rank-normalised split R-hat.
    """

    mean: PyTree
    sd: PyTree
    mcse: PyTree
    ess: PyTree
    rhat: PyTree

    def __str__(self) -> str:
        names = []
        for path, leaf in jax.tree_util.tree_leaves_with_path(self.mean):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            indices = np.ndindex(np.shape(leaf))
            names += [name + (str(list(i)) if i else "") or "x" for i in indices]
        columns = [[np.ravel(leaf) for leaf in jax.tree.leaves(field)] for field in self]
        rows = np.stack([np.concatenate(column) for column in columns], axis=1)
        width = max(map(len, names[:_SHOWN]), default=0)
        header = f"{'':{width}}  {'mean':>10}  {'sd':>10}  {'mcse':>10}  {'ess':>8}  {'rhat':>7}"
        lines = [
            f"{name:{width}}  {mean:10.4g}  {sd:10.4g}  {mcse:10.2g}  {ess:8.0f}  {rhat:7.3f}"
            for name, (mean, sd, mcse, ess, rhat) in zip(names[:_SHOWN], rows, strict=False)
        ]
        if len(names) > _SHOWN:
            lines.append(
                f"... and {len(names) - _SHOWN:,} more. Of all {len(names):,}: ess at least "
                f"{rows[:, 3].min():.0f}, rhat at most {rows[:, 4].max():.3f}."
            )
        return "\n".join([header, *lines])


_SHOWN = 20


def summary(samples: Position) -> Summary:
    r"""Return mean, deviation, Monte Carlo error, ESS and R-hat of every coordinate.

    .. math:: \text{mcse} = \text{sd} / \sqrt{n_\text{eff}}

    where :math:`n_\text{eff}` is the effective sample size for the mean. Read R-hat first: if it is
    above 1.01, the chains may not have converged and the other numbers are unreliable. A lower
    value does not prove convergence. Source: Vehtari et al. (2021), Rank-normalization, folding,
    and localization: an improved R-hat, Bayesian Analysis 16(2).

    Args:
        samples: (draws, chains, ...) on every leaf, as in ``ebm_jax.sample(...).position``, with at
            least 4 draws and at least 2 chains.

    Returns:
        A ``Summary`` in double precision. A coordinate that is constant over all draws and chains,
        or contains NaN or inf, has ``ess`` 0, and ``rhat`` and ``mcse`` inf.

    Raises:
        ImportError: if arviz-stats is missing.
        ValueError: if there are fewer than 4 draws or 2 chains.

    >>> import jax, jax.numpy as jnp, ebm_jax
    >>> sampler = ebm_jax.samplers.mala(lambda x: jnp.sum(x**2) / 2, step_size=1.0)
    >>> samples = ebm_jax.sample(jax.random.key(0), sampler, jnp.zeros((8, 2)), 500, warmup=50)
    >>> table = summary(samples.position)
    >>> table.mean.shape, bool((table.rhat < 1.01).all())
    ((2,), True)
    >>> print(str(table).splitlines()[0].split())
    ['mean', 'sd', 'mcse', 'ess', 'rhat']
    """
    leaves, treedef = jax.tree.flatten(samples)
    values = [_numbers("Each leaf of samples", leaf) for leaf in leaves]
    shapes = [leaf.shape for leaf in values]
    few = any(len(s) < 2 or s[:2] != shapes[0][:2] or s[0] < 4 or s[1] < 2 for s in shapes)
    if not values or few:
        raise ValueError(
            "samples must be (draws, chains, ...), the same draws and chains on every leaf, with "
            f"at least 4 draws of 2 chains; got the shapes {shapes}."
        )
    array_stats, fields = _array_stats(), []
    for leaf in values:
        chains_last = np.moveaxis(leaf, (0, 1), (-1, -2))
        bad = _unusable(chains_last)
        with np.errstate(divide="ignore", invalid="ignore"):
            fields.append(
                (
                    np.mean(leaf, axis=(0, 1)),
                    np.std(leaf, axis=(0, 1), ddof=1),
                    np.where(bad, np.inf, array_stats.mcse(chains_last)),
                    ess(leaf),
                    rhat(leaf),
                )
            )
    return Summary(*(treedef.unflatten(field) for field in zip(*fields, strict=True)))
