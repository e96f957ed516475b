"""No state has a weak type, and no type changes where a loop carries it.

Every sampler, by its state after ``init`` and after a step, under the default types (with strict
promotion and without implicit broadcasting of ranks) and with float64 enabled, where Python numbers
are float64, from float32 and float64 positions.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import pytest

from ebm_jax import samplers
from ebm_jax.energies import boltzmann, lattice, pairwise, potts
from ebm_jax.partition import annealed
from ebm_jax.samplers.composition import alternate
from ebm_jax.samplers.tempering import replica_exchange

NUM = 4


def quadratic(x):
    return jnp.sum(x**2) / 2


def ising(dtype, x):
    return -jnp.sum(x[:-1].astype(dtype) * x[1:].astype(dtype)) / 2


def problems(dtype):
    """name: (make_sampler(energy), an energy, positions)."""
    x = jnp.linspace(-1, 1, NUM * 3, dtype=dtype).reshape(NUM, 3)
    spin, values = jnp.ones((NUM, 4), jnp.int8), (-1, 1)
    energy = functools.partial(ising, dtype)
    weights = jnp.ones((4, 3), dtype), jnp.zeros(4, dtype), jnp.zeros(3, dtype)
    one = jnp.ones((), dtype)
    return {
        "ula": (lambda e: samplers.ula(e, step_size=0.1), quadratic, x),
        "mala": (lambda e: samplers.mala(e, step_size=0.1), quadratic, x),
        "sgld": (
            lambda e: samplers.sgld(lambda k, x: jax.grad(e)(x), step_size=0.1),
            quadratic,
            x,
        ),
        "baoab": (
            lambda e: samplers.baoab(e, step_size=0.1, friction=1.0),
            quadratic,
            x,
        ),
        "scan": (lambda e: samplers.systematic_scan_gibbs(e, values=values), energy, spin),
        "gwg": (
            lambda e: samplers.gibbs_with_gradients(e, values=values),
            energy,
            spin,
        ),
        "dula": (
            lambda e: samplers.dula(e, values=values, step_size=1.0),
            energy,
            spin,
        ),
        "dmala": (
            lambda e: samplers.dmala(e, values=values, step_size=1.0),
            energy,
            spin,
        ),
        "rbm": (
            lambda e: samplers.rbm_gibbs(boltzmann.RBM(*weights)),
            None,
            jnp.ones((NUM, 4), bool),
        ),
        "checkerboard": (
            lambda e: samplers.checkerboard_gibbs(lattice.Ising(one, 0 * one)),
            None,
            jnp.ones((NUM, 2, 4), jnp.int8),
        ),
        "potts": (
            lambda e: samplers.checkerboard_gibbs(lattice.Potts(one, jnp.zeros(3, dtype))),
            None,
            jnp.ones((NUM, 2, 4), jnp.int8),
        ),
        "dense_potts": (
            lambda e: samplers.dense_potts_gibbs(
                potts.DensePotts(jnp.ones((3, 2, 3, 2), dtype), jnp.ones((3, 2), dtype))
            ),
            None,
            jnp.ones((NUM, 3), jnp.int8),
        ),
        "graph": (
            lambda e: samplers.graph_gibbs(
                pairwise.Pairwise(weights[2][:2], weights[1]), [(0, 1), (2, 3)]
            ),
            None,
            jnp.ones((NUM, 4), bool),
        ),
        "alternate": (
            lambda e: alternate(
                samplers.mala(e, step_size=0.1),
                samplers.baoab(e, step_size=0.1, friction=1.0),
            ),
            quadratic,
            x,
        ),
        "tempering": (
            lambda e: replica_exchange(
                e,
                functools.partial(samplers.mala, step_size=0.1),
                jnp.array([0.5, 1.0], dtype),
            ),
            quadratic,
            x,
        ),
    }


NAMES = list(problems(jnp.float32))
CARRYING = ["ula", "mala", "sgld", "baoab", "scan", "gwg", "dula", "dmala", "alternate"]
MODES = [(False, "float32"), (True, "float32"), (True, "float64")]


def types(tree):
    return [(str(leaf.dtype), leaf.shape) for leaf in jax.tree.leaves(tree)]


def assert_definite(tree):
    weak = [leaf for leaf in jax.tree.leaves(tree) if jax.typeof(leaf).weak_type]
    assert not weak, weak


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("wide", "dtype"), MODES)
def test_states_are_of_one_definite_type(name, wide, dtype):
    with contextlib.ExitStack() as modes:
        modes.enter_context(jax.enable_x64(wide))
        if not wide:
            modes.enter_context(jax.numpy_dtype_promotion("strict"))
            modes.enter_context(jax.numpy_rank_promotion("raise"))
        make, energy, x = problems(dtype)[name]
        sampler = make(energy)
        start = jax.eval_shape(sampler.init, x)
        after, _ = jax.eval_shape(sampler.step, jax.random.key(0), start)
        refreshed = jax.eval_shape(functools.partial(samplers.refresh, sampler), after)
    for state in (start, after, refreshed):
        assert_definite(state)
        assert types(state) == types(start)


@pytest.mark.parametrize("name", CARRYING)
@pytest.mark.parametrize(("wide", "dtype"), MODES)
def test_annealing_carries_one_type(name, wide, dtype):
    """The betas are Python numbers, as everyone gives them: they take the positions' type."""
    with jax.enable_x64(wide):
        make, energy, x = problems(dtype)[name]

        def path(beta, x):
            return (0.5 + beta) * energy(x)

        def run(x):
            start = annealed.start(path, make, x)
            return start, annealed.anneal(
                jax.random.key(0), path, make, start, [0.5, 1.0], resample_below=0.5
            )

        start, (end, info) = jax.eval_shape(run, x)
        options = {"fraction": 0.9, "max_betas": 5}
        choose = functools.partial(annealed.choose_betas, path=path, make_sampler=make)
        betas, _ = jax.eval_shape(lambda x: choose(jax.random.key(0), positions=x, **options), x)
    assert_definite((start, end, info, betas))
    assert types(start) == types(end)
    floating = jnp.issubdtype(x.dtype, jnp.floating)
    assert start.beta.dtype == (dtype if floating else "float64" if wide else "float32")
