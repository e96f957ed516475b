"""Estimates of log Z by parallel tempering, with tuned temperatures and warnings."""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.tree_util import Partial

from ebm_jax import _checks
from ebm_jax.partition import _replicas, paths
from ebm_jax.partition._replicas import State, Sums
from ebm_jax.partition.paths import Path
from ebm_jax.types import Array, Distribution, Energy, Key, MakeSampler, Position

_FIRST_REPLICAS = 8
_SATURATED = 0.95  # a rejection rate beyond which a barrier is only bounded from below
_FEW_TRIPS = 10
_BLOCK = 64  # scans whose weights are summed in the type of the energies


class Tempering(NamedTuple):
    """The result of ``parallel_tempering``: log Z, samples, moves of the replicas.

    Attributes:
        log_z: the estimate, from a bridge between every two neighbours.
        standard_error: standard error of ``log_z``, from the spread of the independent chains.
        interval: confidence interval of ``log_z``, (2,), from the t distribution.
        thermodynamic_integration: log Z by the trapezoidal rule along the ladder. Its error of
            second order in the spacing of the ladder is not in ``standard_error``. NaN if a replica
            with a finite energy has an infinite one at the next beta.
        betas: the ladder, the inverse temperatures of the replicas, (replicas,), from 0 to 1.
        rejection_rates: mean rejection rate of every two neighbours, (replicas - 1,).
        barrier: the communication barrier Lambda, the sum of ``rejection_rates``.
        round_trips: how often a replica went from the base to the target and back, all chains
            together.
        position: the chains at the target after the last scan.
        warnings: sentences that say why the estimate is not reliable; empty if no check failed.
    """

    log_z: Array
    standard_error: Array
    interval: Array
    thermodynamic_integration: Array
    betas: Array
    rejection_rates: Array
    barrier: Array
    round_trips: int
    position: Position
    warnings: tuple[str, ...]


def parallel_tempering(
    key: Key,
    base: Distribution,
    energy: Energy,
    make_sampler: MakeSampler,
    *,
    num_chains: int,
    num_scans: int,
    num_steps: int = 1,
    path: Callable[[Energy, Energy], Path] = paths.geometric,
    max_replicas: int = 64,
    confidence: float = 0.95,
) -> Tempering:
    r"""Estimate log Z and sample by parallel tempering from a base distribution.

    .. math::
        \log Z = \sum_k \log \frac{\langle e^{f_k(x_k) / 2} \rangle}
        {\langle e^{-f_k(x_{k+1}) / 2} \rangle}, \qquad
        f_k = E_{\beta_k} - E_{\beta_{k+1}}, \quad E_\beta = -(1 - \beta) \log p_0 + \beta E

    where :math:`p_0` is the density of ``base``, E is ``energy``, and :math:`E_\beta` is the
    default ``path``. Replica k samples :math:`e^{-E_{\beta_k}}`. In each scan a sampler moves the
    replicas, the replica at :math:`\beta = 0` is drawn anew from the base, and neighbours swap:
    pairs (0, 1), (2, 3), ... in even scans and (1, 2), (3, 4), ... in odd ones. The ladder is tuned
    before the final run. The rejection rates of the pairs up to :math:`\beta` add up to the
    communication barrier :math:`\Lambda(\beta)`, which is interpolated monotonically. The new
    ladder has about :math:`2 \Lambda(1) + 1` replicas, at equal distances in :math:`\Lambda`. The
    number of scans for tuning is about that of the final run.

    The ratio of the partition functions of two neighbours is estimated with the geometric bridge,
    from samples of both. Unlike the chains of annealed importance sampling, positions also move
    back to the base, so that the weights of the modes come from many visits. Samplers that are not
    exact, such as ULA, bias the result. Source: Syed, Bouchard-Cote, Deligiannidis and Doucet
    (2022), Non-reversible parallel tempering: a scalable highly parallel MCMC scheme, JRSS B 84(2);
    Meng and Wong (1996), Simulating ratios of normalizing constants via a simple identity,
    Statistica Sinica 6.

    The function reads its results between compiled parts: do not call it under ``jit``. One part
    is compiled for each number of replicas. Give the energy as
    ``jax.tree_util.Partial(energy, params)``, so that other parameters do not compile it again.

    Args:
        key: a key of ``jax.random.key``, used once.
        base: a ``Distribution`` whose support contains that of the energy's distribution.
        energy: E(x) -> (), one configuration in.
        make_sampler: energy -> ``Sampler``, called with ``jax.tree_util.Partial(path, beta)``:
            ``functools.partial(samplers.mala, step_size=0.1)``, or, with a step size that depends
            on beta, ``lambda energy: samplers.mala(energy, step_size=0.1 / (0.1 +
            energy.args[0]))``.
        num_chains: number of independent sets of replicas, >= 2. The errors are estimated from
            their spread.
        num_scans: number of scans of the final run, >= 16.
        num_steps: number of sampler steps in each scan.
        path: (energy of the base, energy) -> path, for other paths between the two than the
            geometric one: ``lambda base, energy: paths.rbm(params, base_bias)[0]``.
        max_replicas: largest number of replicas of a chain, >= 3.
        confidence: confidence level of the interval, in (0, 1).

    Returns:
        ``Tempering``: log Z with its errors, the ladder, the final positions, and ``warnings``,
        which you should read first.

    Raises:
        TypeError: if base has no ``sample`` or ``log_prob``.
        ValueError: if num_chains, num_scans or max_replicas is too small, confidence is outside
            (0, 1), or the call is under ``jit``.

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import distributions, samplers
    >>> base = distributions.gaussian(jnp.zeros(2), 3.0)
    >>> make_sampler = functools.partial(samplers.mala, step_size=0.5)
    >>> result = parallel_tempering(
    ...     jax.random.key(0), base, lambda x: jnp.sum(x**2) / 2, make_sampler,
    ...     num_chains=20, num_scans=200)
    >>> bool(abs(result.log_z - jnp.log(2 * jnp.pi)) < 4 * result.standard_error)
    True
    >>> result.warnings
    ()
    """
    _checks.between(key, base, energy, make_sampler)
    _checks.count("num_chains", num_chains, least=2)
    _checks.count("num_scans", num_scans, least=16)
    _checks.count("num_steps", num_steps)
    _checks.function("path", path)
    _checks.hashable("path", path)
    _checks.count("max_replicas", max_replicas, least=3)
    _checks.inside("confidence", confidence)
    energy = energy if isinstance(energy, Partial) else Partial(energy)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((key, energy))):
        raise ValueError(
            "key and energy must be known: parallel_tempering reads its results between compiled "
            "parts. Call it outside jit, vmap and grad."
        )
    options = (base, make_sampler, path, num_steps)
    with jax.ensure_compile_time_eval():
        return _tune_and_run(key, energy, options, num_chains, num_scans, max_replicas, confidence)


def _tune_and_run(
    key: Key,
    energy: Energy,
    options: tuple,
    num_chains: int,
    num_scans: int,
    max_replicas: int,
    confidence: float,
) -> Tempering:
    start_key, *keys = jax.random.split(key, 6)
    betas = np.linspace(0, 1, min(_FIRST_REPLICAS, max_replicas))
    state = _replicas.start(start_key, energy, jnp.asarray(betas), num_chains, *options)
    for tuning_key, share in zip(keys, (16, 8, 4, 2), strict=False):
        num = max(num_scans // share, 4)
        state, (sums,) = _run(tuning_key, energy, betas, state, num, 1, options)
        rejection = sums.rejected.mean(axis=1) / num
        betas, nearest = _next_ladder(betas, rejection, max_replicas, last=share == 2)
        state = _replicas.renew(energy, jnp.asarray(betas), jnp.asarray(nearest), state, *options)
    state = state._replace(came=jnp.zeros_like(state.came), trips=jnp.zeros_like(state.trips))
    state, halves = _run(keys[-1], energy, betas, state, num_scans, 2, options)
    return _report(betas, state, halves, num_scans, confidence)


def _run(
    key: Key,
    energy: Energy,
    betas: np.ndarray,
    state: State,
    num: int,
    parts: int,
    options: tuple,
) -> tuple[State, list[Sums]]:
    """Make scans; return the state and the sums over each of the equal parts, in float64."""
    ladder, sums = jnp.asarray(betas), []
    for share in np.array_split(np.arange(num), parts):
        blocks = []
        for first in range(0, len(share), _BLOCK):
            length = min(_BLOCK, len(share) - first)
            state, block = _replicas.scans(key, energy, ladder, state, length, *options)
            blocks.append(jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), block))
        every = Sums(*(np.stack(leaves) for leaves in zip(*blocks, strict=True)))
        sums.append(
            Sums(
                np.logaddexp.reduce(every.up),
                np.logaddexp.reduce(every.down),
                every.rejected.sum(axis=0),
                every.slopes.sum(axis=0),
            )
        )
    return state, sums


def _next_ladder(
    betas: np.ndarray, rejection: np.ndarray, most: int, last: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ladder of equal rejection, and which old replica is nearest to each new one.

    A ladder of another size is another program to compile. Before the last round of tuning the
    ladder therefore has replicas to spare when it grows, and does not shrink.
    """
    from scipy.interpolate import PchipInterpolator  # slow to import

    # A little is added, so that the barrier increases where nothing is rejected.
    barrier = np.concatenate([[0.0], np.cumsum(np.clip(rejection, 0, 1) + 1e-3)])
    num = math.ceil(2 * barrier[-1]) + 1
    if num <= len(betas) and (not last or len(betas) < 1.25 * num):
        num = len(betas)
    elif not last:
        num = math.ceil(1.25 * num)
    num = min(max(num, 3), most)
    wanted = np.linspace(0, barrier[-1], num)
    new = PchipInterpolator(barrier, betas)(wanted)
    new[0], new[-1] = 0.0, 1.0
    nearest = np.argmin(np.abs(np.interp(new, betas, barrier)[:, None] - barrier), axis=1)
    return new, nearest


def _log_means(sums: Sums, num: float) -> tuple[np.ndarray, np.ndarray]:
    return sums.up - np.log(num), sums.down - np.log(num)


def _bridge(up: np.ndarray, down: np.ndarray) -> tuple[float, float]:
    """Return log Z and its standard error, by the jackknife over the chains."""

    def total(kept: np.ndarray) -> float:
        mean = np.log(len(kept))
        both = (np.logaddexp.reduce(part[:, kept], axis=1) - mean for part in (up, down))
        return float(np.sum(np.subtract(*both)))

    every = np.arange(up.shape[1])
    without = np.array([total(np.delete(every, i)) for i in every])
    spread = np.sqrt((len(every) - 1) * np.mean((without - without.mean()) ** 2))
    return total(every), float(spread)


def _report(
    betas: np.ndarray,
    state: State,
    halves: list[Sums],
    num_scans: int,
    confidence: float,
) -> Tempering:
    from scipy.special import stdtrit  # slow to import

    lengths = [len(part) for part in np.array_split(np.arange(num_scans), len(halves))]
    up, down = (
        np.logaddexp.reduce([getattr(half, name) for half in halves]) - np.log(num_scans)
        for name in ("up", "down")
    )
    with np.errstate(invalid="ignore"):
        log_z, error = _bridge(up, down)
        parts = [_bridge(*_log_means(half, n)) for half, n in zip(halves, lengths, strict=True)]
    rejection, slopes = (
        np.sum([getattr(half, name).mean(axis=1) for half in halves], axis=0) / num_scans
        for name in ("rejected", "slopes")
    )
    integral = -np.sum(np.diff(betas) * (slopes[1:] + slopes[:-1]) / 2)
    freedom = up.shape[1] - 1
    reach = stdtrit(freedom, (1 + confidence) / 2) * error
    trips, scale = int(state.trips), jnp.asarray(betas).dtype
    return Tempering(
        jnp.asarray(log_z, scale),
        jnp.asarray(error, scale),
        jnp.asarray([log_z - reach, log_z + reach], scale),
        jnp.asarray(integral, scale),
        jnp.asarray(betas, scale),
        jnp.asarray(rejection, scale),
        jnp.asarray(rejection.sum(), scale),
        trips,
        jax.tree.map(lambda leaf: leaf[-1], _replicas.positions(state)),
        _verdict(betas, rejection, trips, log_z, error, parts),
    )


def _verdict(betas, rejection, trips: int, log_z: float, error: float, parts: list) -> tuple:
    """Return the reasons not to trust the result."""
    warnings = []
    worst = int(np.argmax(rejection))
    if rejection[worst] > _SATURATED:
        warnings.append(
            f"The rejection rate between beta {betas[worst]:.3g} and {betas[worst + 1]:.3g} is "
            f"{rejection[worst]:.3f}: the replicas hardly change places there. Raise max_replicas, "
            "num_scans or num_steps, or choose a base nearer to the target."
        )
    if trips < _FEW_TRIPS:
        warnings.append(
            f"The replicas made {trips} round trips between base and target: fewer than "
            f"{_FEW_TRIPS} say little about how modes are weighted. Raise num_scans."
        )
    if not (np.isfinite(log_z) and np.isfinite(error)):
        warnings.append(
            "log Z is not finite: energies are infinite or NaN, or the base has no mass there."
        )
    (first, first_error), (second, second_error) = parts
    if abs(first - second) > 4 * np.hypot(first_error, second_error):
        warnings.append(
            f"The first half of the run says log Z = {first:.5g} and the second {second:.5g}, more "
            "than 4 standard errors apart: the chains have not converged. Raise num_scans."
        )
    return tuple(warnings)
