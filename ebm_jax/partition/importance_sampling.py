"""Annealed importance sampling from a distribution to an energy, in one call."""

import functools

import jax
import jax.numpy as jnp
from jax.tree_util import Partial
from jax.typing import ArrayLike

from ebm_jax import _checks, distributions
from ebm_jax.compilation import jit
from ebm_jax.partition import annealed, estimates, paths
from ebm_jax.partition.estimates import Estimate
from ebm_jax.types import Array, Distribution, Energy, Key, MakeSampler, Position


def annealed_importance_sampling(
    key: Key,
    base: Distribution,
    energy: Energy,
    make_sampler: MakeSampler,
    betas: ArrayLike,
    *,
    num_chains: int,
    num_steps: int = 1,
    target_samples: Position | None = None,
    confidence: float = 0.95,
) -> Estimate:
    r"""Estimate log Z of an energy by annealing chains from a base distribution.

    .. math::
        \log Z \approx \log \frac{1}{n} \sum_{i=1}^n \prod_k
        \exp\left[E_{\beta_{k-1}}(x_i^{k-1}) - E_{\beta_k}(x_i^{k-1})\right], \qquad
        E_\beta = -(1 - \beta) \log p_0 + \beta E

    Chains start at independent draws of the base :math:`p_0`, and a sampler moves them at each
    :math:`\beta_k`. The estimate is below log Z in expectation. With exact samples of the target,
    chains also run back to the base; their estimate is above log Z in expectation. Samples that
    miss a mode can make it too low, and samplers that are not exact, such as ULA, bias both. The
    interval accounts for the finite number of chains, but not for missed modes or for the bias of
    the sampler. Source: R. M. Neal (2001),
    Annealed importance sampling, Statistics and Computing 11; Grosse, Ghahramani and Adams (2015),
    Sandwiching the marginal likelihood, arXiv 1511.02543.

    The module ``partition.annealed`` has the steps of this function, for other paths than
    :math:`E_\beta`, for resampling, and for a run that is saved between its steps. The call is
    compiled once for each base, energy and ``make_sampler``. Pass the energy as
    ``jax.tree_util.Partial(energy, params)``, so that other parameters do not compile it again.

    Args:
        key: a key of ``jax.random.key``, used once.
        base: a ``Distribution`` whose support contains that of the energy's distribution.
        energy: function x -> () of one configuration.
        make_sampler: function from an energy to a ``Sampler``, such as
            ``functools.partial(samplers.mala, step_size=0.1)``.
        betas: increasing from 0 to 1, both included, (k,) with k >= 2. More betas make the weights
            more equal and raise the effective sample size.
        num_chains: number of chains from the base, >= 1.
        num_steps: number of sampler steps at each beta, >= 1.
        target_samples: independent samples of exp(-energy) on the leading axis, for example from a
            long run. They enable the estimate from above.
        confidence: confidence level of the intervals, in (0, 1).

    Returns:
        ``Estimate``: log Z with its standard error, an interval and the effective sample size;
        with ``target_samples`` its field ``upper`` is the ``Estimate`` from above.

    Raises:
        TypeError: if base lacks ``sample`` or ``log_prob``.
        ValueError: if betas do not increase from 0 to 1, num_chains or num_steps < 1, or confidence
            is outside (0, 1).

    >>> import functools, jax, jax.numpy as jnp
    >>> from ebm_jax import distributions, samplers
    >>> base = distributions.gaussian(jnp.zeros(2), 2.0)
    >>> make_sampler = functools.partial(samplers.mala, step_size=0.5)
    >>> estimate = annealed_importance_sampling(
    ...     jax.random.key(0), base, lambda x: jnp.sum(x**2) / 2, make_sampler,
    ...     jnp.linspace(0, 1, 21), num_chains=200)
    >>> bool(abs(estimate.log_z - jnp.log(2 * jnp.pi)) < 4 * estimate.standard_error)
    True
    """
    _checks.between(key, base, energy, make_sampler)
    _checks.count("num_chains", num_chains)
    _checks.count("num_steps", num_steps)
    _checks.inside("confidence", confidence)
    _check_betas(betas)
    if target_samples is not None:
        _checks.leading_axis("target_samples", target_samples)
    energy = energy if isinstance(energy, Partial) else Partial(energy)
    options = (base, make_sampler, num_chains, num_steps, confidence)
    return _estimate(key, energy, jnp.asarray(betas), target_samples, *options)


def _check_betas(betas: ArrayLike) -> None:
    shape, known = _checks.array("betas", betas).shape, _checks.concrete(betas)
    if len(shape) != 1 or shape[0] < 2:
        raise ValueError(f"betas must be a vector of at least two numbers, got the shape {shape}.")
    if known is None:
        return
    if known[0] != 0 or known[-1] != 1 or not (known[1:] > known[:-1]).all():
        raise ValueError(f"betas must increase from 0 to 1, both included, got {known}.")


@functools.partial(jit, static_argnums=(4, 5, 6, 7, 8))
def _estimate(
    key: Key,
    energy: Energy,
    betas: Array,
    target_samples: Position | None,
    base: Distribution,
    make_sampler: MakeSampler,
    num_chains: int,
    num_steps: int,
    confidence: float,
) -> Estimate:
    start_key, up_key, down_key, error_key = jax.random.split(key, 4)
    path = paths.geometric(distributions.energy(base), energy)
    anneal = functools.partial(
        annealed.anneal, path=path, make_sampler=make_sampler, num_steps=num_steps
    )
    start = annealed.start(path, make_sampler, base.sample(start_key, num_chains))
    up, _ = anneal(up_key, state=start, betas=betas[1:])
    if target_samples is None:
        return estimates.log_partition(error_key, up, confidence=confidence)
    start = annealed.start(path, make_sampler, target_samples, beta=1.0)
    down, _ = anneal(down_key, state=start, betas=betas[-2:0:-1])
    down = annealed.reweight(path, down, 0.0)
    lower, upper = estimates.bracket(error_key, up, down, confidence=confidence)
    return lower._replace(upper=upper)
