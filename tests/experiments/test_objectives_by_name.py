"""Every objective of the tables is made, with every value of its options, and gives a loss."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import gibbs
from ebm_jax.partition import exact
from experiments import objectives_by_name
from experiments.objectives_by_name import BINARY, CONTINUOUS, Problem
from experiments.run import errors

TABLES = {"points": CONTINUOUS, "bits": BINARY}
ROWS = [(kind, name) for kind, table in TABLES.items() for name in table]


def problem_of(table) -> tuple[Problem, dict]:
    """Return a small problem, its energy linear in features of x, and parameters."""
    rng = np.random.default_rng(0)
    if table is BINARY:
        data = rng.random((20, 3)) < 0.4
        states, log_weights = exact.states(3), None
    else:
        data = rng.normal(size=(20, 2)).astype(np.float32)
        states, log_weights = gibbs.grid([-4.0] * 2, [4.0] * 2, 10)

    def energy(params, x):
        x = jnp.asarray(x, jnp.float32)
        return params["w"] @ x + jnp.sum(x**2) / 2 + params["c"]

    params = {"w": jnp.zeros(data.shape[1]), "c": jnp.zeros(())}
    return Problem(energy, data, states, log_weights, num_chains=8), params


@pytest.mark.parametrize(("kind", "name"), ROWS)
@pytest.mark.sweep(10)
def test_every_row_gives_a_loss_and_a_gradient(kind, name):
    table, key = TABLES[kind], jax.random.key(0)
    problem, params = problem_of(table)
    row = table[name]
    start = row.start(problem, params, key)
    assert jax.tree.structure(objectives_by_name.energy_params(start)) == jax.tree.structure(params)
    searched = [[f"{k}={v}"] for k, values in row.search.items() for v in values]
    for given in [[], *searched]:
        objective = row.make(problem, **objectives_by_name.options_of(table, name, given))

        def value_and_gradient(params, key, objective=objective):
            state = objective.init(params, key)
            value = jax.value_and_grad(objective.loss, has_aux=True)
            return value(params, state, problem.data[:8], key)

        (value, _), gradient = jax.eval_shape(value_and_gradient, start, key)
        assert value.shape == ()
        assert jax.tree.map(jnp.shape, gradient) == jax.tree.map(jnp.shape, start)


def test_what_is_between_the_points_of_the_grid_counts():
    """E = w cos(2 pi x_1 / side) is one number at all of them; its Z is the area times I_0(w)."""
    problem, _ = problem_of(CONTINUOUS)
    side, weight = 0.8, 2.0
    problem = problem._replace(energy=lambda w, x: w * jnp.cos(2 * jnp.pi * x[0] / side))
    objective = CONTINUOUS["exact"].make(problem)
    keys = jax.random.split(jax.random.key(0), 4000)
    losses = jax.vmap(lambda key: objective.loss(weight, (), problem.data, key)[0])(keys)
    energies = weight * np.cos(2 * np.pi * problem.data[:, 0] / side)
    found = np.exp(np.asarray(losses, np.float64) - energies.mean())  # Z of every shift
    error = found.std() / len(keys) ** 0.5
    assert found.mean() == pytest.approx(64 * np.i0(weight), abs=4 * error)
    assert error < 0.03 * found.mean()


@pytest.mark.parametrize(("kind", "name"), ROWS)
def test_the_first_value_to_try_is_the_default(kind, name):
    row = TABLES[kind][name]
    parameters = inspect.signature(row.make).parameters
    for key, values in row.search.items():
        assert values[0] == parameters[key].default
        assert type(values[0]) is type(parameters[key].default)


def test_options_are_read_as_the_defaults_are():
    given = ["steps=3", "step_size=1", "restart=5e-1"]
    found = objectives_by_name.options_of(CONTINUOUS, "pcd", given)
    assert found == {"steps": 3, "step_size": 1.0, "restart": 0.5}
    assert type(found["step_size"]) is float
    for given in ("steps=2.5", "steps", "steps=[1]", "steps=__import__"):
        with pytest.raises(errors.UsageError, match="steps must be one int"):
            objectives_by_name.options_of(CONTINUOUS, "pcd", [given])
    with pytest.raises(errors.UsageError, match="the options of exact are none"):
        objectives_by_name.options_of(BINARY, "exact", ["steps=1"])


def test_the_mixture_that_is_drawn_from_has_the_density_it_says():
    """Against NumPy; the draws' first moments within 5 standard errors, 4 numbers: 2e-6."""
    rng = np.random.default_rng(0)
    means, log_scales = rng.normal(size=(4, 2)), rng.normal(size=(4, 2)) / 3
    params = {"means": jnp.asarray(means), "log_scales": jnp.asarray(log_scales)}
    draw = jax.jit(objectives_by_name._draw_mixture, static_argnums=2)
    x, log_q = map(np.asarray, draw(params, jax.random.key(0), 4000))
    scales = np.exp(log_scales)
    away = (x[:, None] - means) / scales
    each = np.exp(-0.5 * (away**2).sum(-1)) / (2 * np.pi * scales.prod(1))
    np.testing.assert_allclose(log_q, np.log(each.mean(1)), rtol=1e-3, atol=1e-4)
    second = (means**2 + scales**2).mean(0)
    assert (abs(x.mean(0) - means.mean(0)) < 5 * np.sqrt(second / 4000)).all()
    assert (abs((x**2).mean(0) - second) < 5 * (x**2).std(0) / np.sqrt(4000)).all()
