"""A position's type holds every value a variable may take, or the position is refused.

The types and values are swept; which type holds what is decided here by Python's integers.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import distributions, objectives, samplers
from ebm_jax.energies import lattice
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.partition import exact, pseudo_log_likelihood

DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
VALUES = {
    "units": (0, 1),
    "spins": (-1, 1),
    "three": (0, 1, 2),
    "signed": (-1, 0, 1),
    "many": tuple(range(200)),
    "halves": (0.5, 1.0),
    "whole floats": (0.0, 3.0),
    "far": (0, 40_000),
    "beyond float32": (0, 2**31 - 1, 2**31 - 2),
}


def holds(dtype, values):
    if dtype == "bool":
        low, high = 0, 1
    else:
        info = jnp.iinfo(dtype)
        low, high = int(info.min), int(info.max)
    return all(value == int(value) and low <= value <= high for value in values)


def energy(x):
    return 0.5 * jnp.sum(x)


def log_likelihood(values, x):
    """Of independent variables with the energy x / 2."""
    terms = -0.5 * np.array(values, float)
    top = terms.max()
    return -0.5 * np.sum(x) - np.size(x) * (top + np.log(np.exp(terms - top).sum()))


SAMPLERS = {
    "scan": samplers.systematic_scan_gibbs,
    "gwg": samplers.gibbs_with_gradients,
    "dula": functools.partial(samplers.dula, step_size=1.0),
    "dmala": functools.partial(samplers.dmala, step_size=1.0),
}
USES = {
    **{
        name: lambda x, values, make=make: make(energy, values=values).init(x)
        for name, make in SAMPLERS.items()
    },
    "pseudo_log_likelihood": lambda x, values: pseudo_log_likelihood(energy, x[0], values=values),
    "pseudo_likelihood": lambda x, values: objectives.pseudo_likelihood(
        lambda params, x: energy(x), values=values
    ).loss((), (), x, jax.random.key(0))[0],
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("use", USES)
def test_a_type_holds_the_values_or_is_refused(use, dtype, x64):
    for values in VALUES.values():
        # The last of the values that the type holds: alone it looks like any other position.
        fine = [value for value in values if holds(dtype, (value,))]
        x = jnp.full((2, 3), fine[-1] if fine else 1).astype(dtype)

        def run(x, values=values):
            return USES[use](x, values)

        if holds(dtype, values):
            jax.eval_shape(run, x)
        else:
            for traced in (run, functools.partial(jax.eval_shape, run)):
                with pytest.raises(TypeError, match=f"holds all values, got {dtype}"):
                    traced(x)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("units", "bool"), ("spins", "int8"), ("many", "uint8"), ("many", "int16"), ("far", "uint16"),
     ("whole floats", "uint8"), ("beyond float32", "int32")],
)  # fmt: skip
def test_the_pseudo_likelihood_of_every_type_that_holds_them(name, dtype, x64):
    values = VALUES[name]
    x = np.array(values)[[-1, 0, 1]]
    found = pseudo_log_likelihood(energy, jnp.asarray(x).astype(dtype), values=values)
    np.testing.assert_allclose(found, log_likelihood(values, x), rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "values", "dtype"),
    [
        ("scan", range(200), "uint8"),
        ("scan", (0, 2**31 - 1), "int32"),
        ("dula", (-1, 1), "int8"),
        ("dula", (0, 40_000), "uint16"),
    ],
)
def test_samplers_stay_among_the_values(name, values, dtype, key):
    """Of a flat energy each value is as frequent; 5 standard errors of 3,000 draws."""
    sampler = {
        "scan": lambda: samplers.systematic_scan_gibbs(lambda x: 0.0 * x.sum(), values=values),
        "dula": lambda: samplers.dula(lambda x: 0.0 * x.sum(), values=values, step_size=1e30),
    }[name]()
    start = jnp.full((1000, 3), values[-1]).astype(dtype)
    state, _ = jax.jit(lambda k: samplers.run(k, sampler, sampler.init(start), 1))(key)
    found, counts = np.unique(state.position, return_counts=True)
    assert state.position.dtype == dtype
    assert found.tolist() == list(values)
    expected = 3000 / len(values)
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected) + 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_lattices(dtype, x64):
    models = {
        (-1, 1): lattice.Ising(0.3),
        tuple(range(200)): lattice.Potts(0.3, jnp.zeros(200)),
        (0, 1): lattice.Potts(0.3, jnp.zeros(2)),
    }
    for values, model in models.items():
        sampler = samplers.checkerboard_gibbs(model)
        x = jnp.full((2, 2, 2), 1).astype(dtype)
        if holds(dtype, values) and dtype != "bool":
            assert sampler.init(x).position.dtype == dtype
        else:
            with pytest.raises(TypeError, match=r"holds all values|must be integers"):
                sampler.init(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_graphs(dtype, x64):
    for q in (2, 200):
        sampler = samplers.graph_gibbs(Pairwise(jnp.ones(1), jnp.zeros((2, q))), [(0, 1)])
        x = jnp.full((2, 2), 1).astype(dtype)
        if holds(dtype, range(q)):
            assert sampler.init(x).position.dtype == dtype
        else:
            with pytest.raises(TypeError, match=r"holds all values|must be integers"):
                sampler.init(x)


def test_values_that_jax_would_cut_are_refused():
    """Without double precision JAX has no integers beyond 2^31 - 1, and cuts them silently."""
    values = (0, 2**40)
    for make in (
        lambda: distributions.categorical(jnp.zeros((3, 2)), values),
        lambda: exact.states(3, values),
        lambda: samplers.systematic_scan_gibbs(energy, values=values),
        lambda: objectives.pseudo_likelihood(lambda p, x: energy(x), values=values),
    ):
        with pytest.raises(ValueError, match="values must be integers that fit int32"):
            make()
    with jax.enable_x64(True):
        assert exact.states(1, values).tolist() == [[0], [2**40]]
