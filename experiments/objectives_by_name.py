"""The objectives by name, each made for a problem: one table for points, one for bits.

The energy of every objective is that of a Gibbs distribution at beta = 1, so that all are measured
by one likelihood. A row's ``search`` is the small set of hyper-parameters that are tried for it.
"""

import functools
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import distributions, objectives, samplers
from ebm_jax.objectives import AmortizedParams
from ebm_jax.types import Array, Distribution, Energy, Key, MakeSampler, Objective, Params
from experiments.run.errors import UsageError


class Problem(NamedTuple):
    """What an objective is made for: an energy of one x, data, and all that x can be."""

    energy: Energy  # (params, x) -> ()
    data: np.ndarray  # (n, d), of which noise has the moments and chains start
    states: Array  # every state, or the midpoints of a grid (m, d)
    log_weights: Array | None = None  # log cell volumes (m,) of a grid
    num_chains: int = 256  # chains and negatives an update


class Row(NamedTuple):
    """How an objective is made, and the values of its options to try, the first by default.

    ``make(problem, **options)``; ``start(problem, params, key)`` adds to the energy's parameters
    what else is trained. The learning rate is Adam's at first, falling to zero.
    """

    make: Callable[..., Objective]
    search: dict[str, list]
    learning_rate: float = 3e-3
    start: Callable[[Problem, Params, Key], Params] = lambda problem, params, key: params


def options_of(table: dict[str, Row], name: str, given: list[str]) -> dict[str, Any]:
    """Parse options of an objective given as "name=value"; raise UsageError for invalid ones."""
    allowed = {
        key: parameter.default
        for key, parameter in inspect.signature(table[name].make).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    found = {}
    for text in given:
        key, _, value = text.partition("=")
        if key not in allowed:
            known = ", ".join(f"{k}={v}" for k, v in allowed.items()) or "none"
            raise UsageError(f"--option={text}: the options of {name} are {known}.")
        try:
            found[key] = type(allowed[key])(value)
        except ValueError:
            kind = type(allowed[key]).__name__
            raise UsageError(f"--option={text}: {key} must be one {kind}.") from None
    return found


def prepare(
    table: dict[str, Row], name: str, problem: Problem, given: list[str], params: Params, key: Key
) -> tuple[Objective, Params]:
    """Validate and return the objective with a name, with its options, and what it trains."""
    options, row = options_of(table, name, given), table[name]
    try:
        objective, params = row.make(problem, **options), row.start(problem, params, key)

        def once(params: Params, key: Key) -> Array:
            return objective.loss(params, objective.init(params, key), problem.data[:2], key)[0]

        jax.eval_shape(once, params, key)  # some options are looked at by the first update
    except ValueError as error:
        raise UsageError(f"--objective={name} with {options}: {error}") from error
    return objective, params


def energy_params(params: Params) -> Params:
    """Return those of the trained parameters that are the energy's."""
    return params.energy if isinstance(params, AmortizedParams) else params


def _from_data(problem: Problem) -> Callable[[Params, Key, Array], Array]:
    """Return the start of chains at examples."""
    data = jnp.asarray(problem.data)
    return lambda params, key, indices: data[jax.random.randint(key, indices.shape, 0, len(data))]


def _exact(problem: Problem) -> Objective:
    return objectives.maximum_likelihood(
        problem.energy, problem.states, log_weights=problem.log_weights
    )


# Points of the plane


def _exact_on_grid(problem: Problem) -> Objective:
    """Return maximum likelihood by a sum over a grid, moved within a cell at every update.

    Points that stay are avoided: an energy that is low between them costs nothing there.
    """
    side = np.diff(np.unique(problem.states[:, 0])[:2])  # cells are cubes

    def loss(params: Params, state: Any, batch: Array, key: Key) -> tuple:
        shift = side * (jax.random.uniform(key, problem.states.shape[1:]) - 0.5)
        return _exact(problem._replace(states=problem.states + shift)).loss(
            params, state, batch, key
        )

    return Objective(_exact(problem).init, loss)


def _langevin(problem: Problem, step_size: float) -> MakeSampler:
    """Return MALA within the square that contains the states."""
    bounds = np.min(problem.states, 0), np.max(problem.states, 0)
    return functools.partial(samplers.mala, step_size=step_size, bounds=bounds)


# Unadjusted chains are never stuck, however rough the energy.
_unadjusted = functools.partial(samplers.ula, max_gradient_norm=20.0)


def _cd(problem: Problem, *, steps: int = 20, step_size: float = 0.02) -> Objective:
    return objectives.contrastive_divergence(
        problem.energy, _langevin(problem, step_size), num_steps=steps
    )


def _pcd(
    problem: Problem, *, steps: int = 20, step_size: float = 0.02, restart: float = 0.01
) -> Objective:
    return objectives.persistent(
        problem.energy,
        _langevin(problem, step_size),
        num_steps=steps,
        num_chains=problem.num_chains,
        buffer_size=problem.num_chains,
        initial=_from_data(problem),
        restart_fraction=restart,
    )


def _short_run(problem: Problem, *, steps: int = 40, step_size: float = 0.02) -> Objective:
    low, high = np.min(problem.states, 0), np.max(problem.states, 0)

    def initial(params, key, indices):
        return jax.random.uniform(key, (len(indices), len(low)), minval=low, maxval=high)

    return objectives.short_run(
        problem.energy,
        functools.partial(_unadjusted, step_size=step_size),
        num_steps=steps,
        num_chains=problem.num_chains,
        initial=initial,
    )


def _improved_cd(
    problem: Problem, *, steps: int = 5, step_size: float = 0.01, entropy_weight: float = 1.0
) -> Objective:
    return objectives.improved_contrastive_divergence(
        problem.energy,
        functools.partial(_unadjusted, step_size=step_size),
        num_steps=steps,
        entropy_weight=entropy_weight,
    )


def _amortized(problem: Problem, *, penalty: float = 0.0) -> Objective:
    return objectives.amortized(
        problem.energy, _draw_mixture, num_samples=problem.num_chains, energy_penalty=penalty
    )


COMPONENTS = 64


def _draw_mixture(params: dict[str, Array], key: Key, num: int) -> tuple[Array, Array]:
    """Return draws of equally many Gaussians each, and the log-density of the mixture."""
    means, log_scales = params["means"], params["log_scales"]
    which = jnp.arange(num) % len(means)
    noise = jax.random.normal(key, (num, means.shape[1]))
    x = means[which] + jnp.exp(log_scales)[which] * noise
    away = (x[:, None] - means) * jnp.exp(-log_scales)
    each = jnp.sum(-0.5 * away**2 - log_scales - 0.5 * np.log(2 * np.pi), -1)
    return x, jax.nn.logsumexp(each, axis=1) - np.log(len(means))


def _with_mixture(problem: Problem, params: Params, key: Key) -> AmortizedParams:
    """Return also the parameters of a mixture of narrow Gaussians at examples."""
    means = _from_data(problem)(params, key, jnp.arange(COMPONENTS))
    return AmortizedParams(params, {"means": means, "log_scales": jnp.full(means.shape, -1.0)})


def _score_matching(problem: Problem) -> Objective:
    return objectives.score_matching(problem.energy)


def _hutchinson(problem: Problem, *, probes: int = 1) -> Objective:
    return objectives.hutchinson_score_matching(problem.energy, num_probes=probes)


def _sliced(problem: Problem, *, probes: int = 1, variance_reduced: int = 1) -> Objective:
    return objectives.sliced_score_matching(
        problem.energy, num_probes=probes, variance_reduced=bool(variance_reduced)
    )


def _denoising(problem: Problem, *, sigma: float = 0.1) -> Objective:
    return objectives.denoising_score_matching(problem.energy, sigma)


def _stein(problem: Problem, *, length: float = 0.3) -> Objective:
    return objectives.kernelized_stein_discrepancy(problem.energy, length)


def _gaussian_noise(problem: Problem) -> Distribution:
    data = jnp.asarray(problem.data)
    return distributions.gaussian(data.mean(0), covariance=jnp.cov(data.T))


def _binary_nce(problem: Problem, *, negatives: int = 4) -> Objective:
    # The networks have a bias at the end, which learns log Z.
    noise = _gaussian_noise(problem)
    return objectives.binary_nce(problem.energy, noise, num_negatives=negatives)


def _ranking_nce(problem: Problem, *, negatives: int = 16) -> Objective:
    noise = _gaussian_noise(problem)
    return objectives.ranking_nce(problem.energy, noise, num_negatives=negatives)


def _conditional_nce(problem: Problem, *, variance: float = 0.3, negatives: int = 16) -> Objective:
    perturb = objectives.gaussian_perturbation(variance)
    return objectives.conditional_nce(problem.energy, perturb, num_negatives=negatives)


def _energy_discrepancy(
    problem: Problem, *, variance: float = 0.3, negatives: int = 16
) -> Objective:
    return objectives.energy_discrepancy(
        problem.energy, objectives.gaussian_perturbation(variance), num_negatives=negatives
    )


def _recovery_likelihood(
    problem: Problem, *, sigma: float = 0.5, steps: int = 20, step_size: float = 0.01
) -> Objective:
    return objectives.recovery_likelihood(
        problem.energy,
        functools.partial(_unadjusted, step_size=step_size),
        sigma=sigma,
        num_steps=steps,
    )


def _scaled(problem: Problem, temperature: float) -> Energy:
    """Return the potential that equals the energy of the problem at this temperature."""
    return lambda params, x: temperature * problem.energy(params, x)


def _energy_matching(
    problem: Problem, *, temperature: float = 1.0, weight: float = 10.0, steps: int = 40
) -> Objective:
    return objectives.energy_matching(
        _scaled(problem, temperature),
        weight=weight,
        temperature=temperature,
        step_size=1 / steps,
        num_steps=steps + steps // 2,
    )


def _equilibrium_matching(problem: Problem, *, temperature: float = 0.5) -> Objective:
    """Return the objective of a potential: whether some temperature makes it a density is asked."""
    return objectives.equilibrium_matching(_scaled(problem, temperature))


CONTINUOUS = {
    "exact": Row(_exact_on_grid, {}, learning_rate=3e-2),  # no noise but the batch's
    "cd": Row(_cd, {"steps": [20, 5], "step_size": [0.02, 0.01]}),
    "pcd": Row(_pcd, {"steps": [20, 5], "step_size": [0.02, 0.01]}),
    "short_run": Row(_short_run, {"steps": [40, 100], "step_size": [0.02, 0.005]}),
    "improved_cd": Row(_improved_cd, {"step_size": [0.01, 0.003], "entropy_weight": [1.0, 0.1]}),
    "amortized": Row(_amortized, {"penalty": [0.0, 0.01, 0.1]}, start=_with_mixture),
    "score_matching": Row(_score_matching, {}),
    "hutchinson_score_matching": Row(_hutchinson, {"probes": [1, 4]}),
    "sliced_score_matching": Row(_sliced, {"probes": [1, 4], "variance_reduced": [1, 0]}),
    "denoising_score_matching": Row(_denoising, {"sigma": [0.1, 0.05, 0.2]}),
    "stein_discrepancy": Row(_stein, {"length": [0.3, 0.1, 1.0]}),
    "binary_nce": Row(_binary_nce, {"negatives": [4, 16]}),
    "ranking_nce": Row(_ranking_nce, {"negatives": [16, 4]}),
    "conditional_nce": Row(_conditional_nce, {"variance": [0.3, 0.1, 1.0]}),
    "energy_discrepancy": Row(_energy_discrepancy, {"variance": [0.3, 0.1, 1.0]}),
    "recovery_likelihood": Row(_recovery_likelihood, {"sigma": [0.5, 0.25, 1.0]}),
    "energy_matching": Row(_energy_matching, {"temperature": [1.0, 0.3], "weight": [10.0, 1.0]}),
    "equilibrium_matching": Row(_equilibrium_matching, {"temperature": [0.5, 0.1]}),
}

# Bits


def _bits_cd(problem: Problem, *, sweeps: int = 1) -> Objective:
    return objectives.contrastive_divergence(
        problem.energy, samplers.systematic_scan_gibbs, num_steps=sweeps
    )


def _bits_persistent(problem: Problem, make_sampler: MakeSampler, num_steps: int) -> Objective:
    return objectives.persistent(
        problem.energy,
        make_sampler,
        num_steps=num_steps,
        num_chains=problem.num_chains,
        buffer_size=problem.num_chains,
        initial=_from_data(problem),
        restart_fraction=0.0,
    )


def _bits_pcd(problem: Problem, *, sweeps: int = 1) -> Objective:
    return _bits_persistent(problem, samplers.systematic_scan_gibbs, sweeps)


def _bits_informed_pcd(problem: Problem, *, steps: int = 10) -> Objective:
    return _bits_persistent(problem, samplers.gibbs_with_gradients, steps)


def _bits_energy_discrepancy(
    problem: Problem, *, probability: float = 0.2, negatives: int = 16
) -> Objective:
    perturb = objectives.bernoulli_perturbation(probability)
    return objectives.energy_discrepancy(problem.energy, perturb, num_negatives=negatives)


def _grid_energy_discrepancy(problem: Problem, *, negatives: int = 16) -> Objective:
    perturb = objectives.grid_perturbation()
    return objectives.energy_discrepancy(problem.energy, perturb, num_negatives=negatives)


def _pseudo_likelihood(problem: Problem) -> Objective:
    return objectives.pseudo_likelihood(problem.energy)


def _ratio_matching(problem: Problem) -> Objective:
    return objectives.ratio_matching(problem.energy)


def _probability_flow(problem: Problem) -> Objective:
    return objectives.minimum_probability_flow(problem.energy)


def _bernoulli_noise(problem: Problem) -> Distribution:
    on = jnp.asarray(problem.data).sum(0)  # each once more on and off: every bit stays possible
    logits = jnp.log((on + 1) / (len(problem.data) - on + 1))
    return distributions.bernoulli(logits)


def _bits_binary_nce(problem: Problem, *, negatives: int = 4) -> Objective:
    noise = _bernoulli_noise(problem)
    return objectives.binary_nce(problem.energy, noise, num_negatives=negatives)


def _bits_ranking_nce(problem: Problem, *, negatives: int = 16) -> Objective:
    noise = _bernoulli_noise(problem)
    return objectives.ranking_nce(problem.energy, noise, num_negatives=negatives)


def _bits_conditional_nce(
    problem: Problem, *, probability: float = 0.2, negatives: int = 8
) -> Objective:
    perturb = objectives.bernoulli_perturbation(probability)
    return objectives.conditional_nce(problem.energy, perturb, num_negatives=negatives)


BINARY = {
    "exact": Row(_exact, {}, learning_rate=5e-3),
    "cd": Row(_bits_cd, {"sweeps": [1, 4]}),
    "pcd": Row(_bits_pcd, {"sweeps": [1, 4]}),
    "informed_pcd": Row(_bits_informed_pcd, {"steps": [10, 30]}),
    "pseudo_likelihood": Row(_pseudo_likelihood, {}),
    "ratio_matching": Row(_ratio_matching, {}),
    "minimum_probability_flow": Row(_probability_flow, {}),
    "binary_nce": Row(_bits_binary_nce, {"negatives": [4, 16]}),
    "ranking_nce": Row(_bits_ranking_nce, {"negatives": [16, 4]}),
    "conditional_nce": Row(_bits_conditional_nce, {"probability": [0.2, 0.05]}),
    "energy_discrepancy": Row(_bits_energy_discrepancy, {"probability": [0.2, 0.05]}),
    "grid_energy_discrepancy": Row(_grid_energy_discrepancy, {"negatives": [16, 64]}),
}
