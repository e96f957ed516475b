"""The objectives of the benchmark with the ranges of their options, the same for every problem.

A range (low, high) is searched log-uniformly, and its option is a number that a compiled program
takes as an argument; a list has the values of an option that changes the program.
"""

import functools
import importlib
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import gibbs, objectives, samplers
from ebm_jax.types import Array, Key, Objective, Params
from experiments import objectives_by_name
from experiments.objectives_by_name import Problem
from experiments.run import errors
from scripts.benchmark_objectives.problems import Task

Search = dict[str, tuple[float, float] | list]
LEARNING_RATES = (1e-3, 1e-1)  # of Adam at first; it falls to zero along a cosine
BATCH = 256

# Importance order: the first objectives of every class run first.
FIRST = (
    *("exact", "pcd", "cd", "denoising_score_matching", "pseudo_likelihood", "binary_nce"),
    *("energy_discrepancy", "score_matching", "ranking_nce", "sliced_score_matching"),
    *("ratio_matching", "minimum_probability_flow", "conditional_nce", "grid_energy_discrepancy"),
)


class Competitor(NamedTuple):
    """An objective that is trained and measured.

    Attributes:
        make: function (problem, **options) -> Objective.
        search: ranges and values of its options.
        batch_size: number of examples of an update.
        start: function (problem, params, key) -> what is trained.
        sample: function (problem, params, options, key, num) -> samples, for an objective whose
            energy is not that of a Gibbs distribution at beta = 1; else None.
        entry: module:function, or None for the objectives of this repository.
    """

    make: Callable[..., Objective]
    search: Search
    batch_size: int = BATCH
    start: Callable[[Problem, Params, Key], Params] = lambda problem, params, key: params
    sample: Callable[..., Array] | None = None
    entry: str | None = None


CELLS = 64  # of a side of the grid that trains: their points move, so that it can be coarse
POINTS_DRAWN = 1024  # of the true density, where it replaces a grid


def _exact_plane(problem: Problem) -> Objective:
    """Return maximum likelihood by a grid whose points move within their cells at each update."""
    low, high = np.min(problem.states, 0), np.max(problem.states, 0)
    points, log_areas = gibbs.grid(list(map(float, low)), list(map(float, high)), CELLS)
    side = (high - low) / CELLS

    def loss(params: Params, state: Any, batch: Array, key: Key) -> tuple:
        moved = points + side * (jax.random.uniform(key, points.shape) - 0.5)
        objective = objectives.maximum_likelihood(problem.energy, moved, log_weights=log_areas)
        return objective.loss(params, state, batch, key)

    return Objective(lambda params, key: (), loss)


def _exact_mixture(task: Task) -> Callable[..., Objective]:
    """Return maximum likelihood whose log Z is importance-sampled from the true density.

    Only a benchmark has that density. The estimate is good in 8 dimensions, not in 32.
    """
    assert task.log_prob is not None
    x = jnp.asarray(task.train)
    log_density = jnp.asarray(task.log_prob(task.train), jnp.float32)

    def make(problem: Problem) -> Objective:
        def loss(params: Params, state: Any, batch: Array, key: Key) -> tuple:
            rows = jax.random.randint(key, (POINTS_DRAWN,), 0, len(x))
            weights = -log_density[rows] - np.log(POINTS_DRAWN)
            objective = objectives.maximum_likelihood(problem.energy, x[rows], log_weights=weights)
            return objective.loss(params, state, batch, key)

        return Objective(lambda params, key: (), loss)

    return make


def _short_run_samples(problem: Problem, params: Params, options: dict, key: Key, num: int):
    start_key, run_key = jax.random.split(key)
    low, high = np.min(problem.states, 0), np.max(problem.states, 0)
    start = jax.random.uniform(start_key, (num, len(low)), minval=low, maxval=high)
    sampler = samplers.ula(
        lambda x: problem.energy(params, x),
        step_size=options["step_size"],
        max_gradient_norm=20.0,
    )
    return samplers.run(run_key, sampler, sampler.init(start), options["steps"])[0].position


def _descent(problem: Problem, params: Params, key: Key, num: int, step_size, steps: int) -> Array:
    """Return the ends of gradient descent from normal noise."""
    start = jax.random.normal(key, (num, problem.data.shape[1]))
    gradient = jax.vmap(jax.grad(problem.energy, argnums=1), (None, 0))
    return jax.lax.fori_loop(0, steps, lambda _, x: x - step_size * gradient(params, x), start)


FLOW_STEPS = 100


def _flow_samples(problem: Problem, params: Params, options: dict, key: Key, num: int) -> Array:
    return _descent(problem, params, key, num, 1 / FLOW_STEPS, FLOW_STEPS)


def _equilibrium_samples(problem: Problem, params: Params, options: dict, key: Key, num: int):
    return _descent(problem, params, key, num, options["descent"], 250)


def _flow_matching(problem: Problem) -> Objective:
    return objectives.flow_matching(problem.energy)


def _equilibrium_matching(problem: Problem, *, plateau: float, descent: float) -> Objective:
    del descent  # the step size of sampling
    return objectives.equilibrium_matching(problem.energy, plateau=plateau, scale=4.0)


STEP_SIZES = (2e-3, 1e-1)
VARIANCES = (3e-2, 3.0)
POINTS: dict[str, Search] = {
    "cd": {"steps": [5, 20], "step_size": STEP_SIZES},
    "pcd": {"steps": [5, 20], "step_size": STEP_SIZES},
    "improved_cd": {"step_size": (1e-3, 5e-2), "entropy_weight": (1e-2, 1.0)},
    "amortized": {"penalty": [0.003, 0.03, 0.3]},
    "score_matching": {},
    "hutchinson_score_matching": {"probes": [1, 4]},
    "sliced_score_matching": {"probes": [1, 4]},
    "denoising_score_matching": {"sigma": (3e-2, 5e-1)},
    "stein_discrepancy": {"length": (1e-1, 3.0)},
    "binary_nce": {"negatives": [4, 16]},
    "ranking_nce": {"negatives": [4, 16]},
    "conditional_nce": {"variance": VARIANCES},
    "energy_discrepancy": {"variance": VARIANCES},
    "recovery_likelihood": {"sigma": (1e-1, 1.0), "step_size": (1e-3, 5e-2)},
    "energy_matching": {"temperature": (1e-1, 1.0), "weight": (1e-1, 1e1)},
}
SAMPLED: dict[str, Competitor] = {
    "flow_matching": Competitor(_flow_matching, {}, sample=_flow_samples),
    "equilibrium_matching": Competitor(
        _equilibrium_matching,
        {"plateau": (1e-1, 9e-1), "descent": (1e-3, 3e-2)},
        sample=_equilibrium_samples,
    ),
    "short_run": Competitor(
        objectives_by_name.CONTINUOUS["short_run"].make,
        {"steps": [20, 60], "step_size": (2e-3, 5e-2)},
        sample=_short_run_samples,
    ),
}
BITS: dict[str, Search] = {
    "exact": {},
    "cd": {"sweeps": [1, 4]},
    "pcd": {"sweeps": [1, 4]},
    "informed_pcd": {"steps": [10, 30]},
    "pseudo_likelihood": {},
    "ratio_matching": {},
    "minimum_probability_flow": {},
    "binary_nce": {"negatives": [4, 16]},
    "ranking_nce": {"negatives": [4, 16]},
    "conditional_nce": {"probability": (2e-2, 4e-1)},
    "energy_discrepancy": {"probability": (2e-2, 4e-1)},
    "grid_energy_discrepancy": {"negatives": [4, 16]},
}


def names(problem_class: str) -> list[str]:
    """Return the names of the objectives of a class of problems, the most important first."""
    chosen = list(BITS) if problem_class == "bits" else ["exact", *POINTS, *SAMPLED]
    return sorted(chosen, key=lambda name: FIRST.index(name) if name in FIRST else len(FIRST))


@functools.cache
def competitor(name: str, task: Task) -> Competitor:
    """Return an objective by its name, or by module:function, for a problem."""
    if ":" in name:
        return entry(name)
    if name == "exact":
        # The sum over states costs much more than a batch, so that a large batch is almost free.
        if task.problem_class == "plane":
            return Competitor(_exact_plane, {}, 1024)
        if task.problem_class == "mixture":
            return Competitor(_exact_mixture(task), {}, 512)
        return Competitor(objectives_by_name.BINARY["exact"].make, {}, 4096)
    if name in SAMPLED:
        return SAMPLED[name]
    binary = task.problem_class == "bits"
    row = (objectives_by_name.BINARY if binary else objectives_by_name.CONTINUOUS)[name]
    return Competitor(row.make, (BITS if binary else POINTS)[name], start=row.start)


def entry(name: str) -> Competitor:
    """Import an objective that is named module:function."""
    module, _, function = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise errors.UsageError(
            f"--entry={name}: {error}. Name a function that can be imported, module:function."
        ) from error
    search = getattr(make, "search", {})
    if not isinstance(search, dict):
        raise errors.UsageError(
            f"--entry={name}: search is {search!r}; allowed is a dictionary from options to values."
        )
    _refuse_calls(name, make, search)
    for option, values in search.items():
        in_order = isinstance(values, tuple) and len(values) == 2 and 0 < values[0] < values[1]
        if not in_order and not (isinstance(values, list) and values):
            raise errors.UsageError(
                f"--entry={name}: search[{option!r}] is {values!r}; allowed are a range "
                "(low, high) of positive numbers and a list of values."
            )

    def checked(problem: Problem, **options: Any) -> Objective:
        made = make(problem, **options)
        if not isinstance(made, Objective):
            raise errors.UsageError(
                f"--entry={name} returned {made!r}; it must return an ebm_jax Objective."
            )
        return made

    return Competitor(checked, search, entry=name)


def _refuse_calls(name: str, make: Any, search: Search) -> None:
    """Reject what cannot be called with a problem and the options of the search."""
    if not callable(make):
        raise errors.UsageError(f"--entry={name} is {make!r}; it must be a function.")
    try:
        inspect.signature(make).bind(None, **search)
    except ValueError:
        return  # a function without a signature
    except TypeError as error:
        call = ", ".join(["problem", *(f"{option}=..." for option in search)])
        raise errors.UsageError(
            f"--entry={name} is called as {make.__name__}({call}), which its arguments do not "
            f"allow: {error}."
        ) from error


def static(search: Search) -> list[str]:
    """Return the options that change the program."""
    return [name for name, values in search.items() if isinstance(values, list)]
