"""Energies of categories take every integer type, and refuse values that are not categories."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import samplers
from ebm_jax.energies import boltzmann, lattice, pairwise, potts

RNG = np.random.default_rng(0)
EDGES = [(0, 1), (1, 2), (2, 3)]
TABLES = pairwise.Pairwise(RNG.normal(size=(3, 3, 3)), RNG.normal(size=(4, 3)))
SAME = pairwise.Pairwise(RNG.normal(size=3), RNG.normal(size=(4, 3)))
DENSE = potts.DensePotts(RNG.normal(size=(4, 3, 4, 3)), RNG.normal(size=(4, 3)))
TORUS = lattice.Potts(0.5, RNG.normal(size=3))
RBM = boltzmann.CategoricalRBM(RNG.normal(size=(4, 3, 2)), RNG.normal(size=(4, 3)), np.zeros(2))
# Functions of four categories from 0 to 2.
FUNCTIONS = {
    "energy of tables": lambda x: pairwise.energy(TABLES, x, EDGES),
    "logits of tables": lambda x: pairwise.logits(TABLES, x, EDGES),
    "energy of Potts couplings": lambda x: pairwise.energy(SAME, x, EDGES),
    "dense Potts energy": lambda x: potts.dense_potts(DENSE, x),
    "dense Potts logits": lambda x: potts.dense_potts_logits(DENSE, x),
    "lattice energy": lambda x: lattice.potts(TORUS, x.reshape(2, 2)),
    "lattice logits": lambda x: lattice.potts_logits(TORUS, x.reshape(2, 2)),
    "free energy of an RBM": lambda x: boltzmann.rbm_free_energy(RBM, x),
}
TYPES = (np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_integer_type_has_the_same_value(name):
    function, x = FUNCTIONS[name], np.array([2, 0, 1, 1])
    expected = function(x)
    assert not np.array_equal(expected, function(x[::-1] % 2))  # it depends on the categories
    for dtype in TYPES:
        np.testing.assert_array_equal(function(x.astype(dtype)), expected)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if "lattice" not in name])
def test_booleans_are_the_first_two_categories(name):
    function, units = FUNCTIONS[name], np.array([True, False, False, True])
    np.testing.assert_array_equal(function(units), function(units.astype(np.int32)))
    assert not np.array_equal(function(units), function(~units))


@pytest.mark.parametrize("wrong", [-1, 3, 127])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_value_that_is_not_a_category_is_named(name, wrong):
    x = np.array([0, 2, wrong, 1], np.int8)
    with pytest.raises(ValueError, match=f"integers from 0 to 2, got values from .*{wrong}"):
        FUNCTIONS[name](x)


@pytest.mark.parametrize("wrong", [2**32, -(2**32)])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_value_beyond_int32_does_not_wrap(name, wrong):
    with pytest.raises(ValueError, match=f"got values from .*{wrong}"):
        FUNCTIONS[name](np.array([0, 2, wrong, 1]))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_floats_are_refused(name, dtype):
    with pytest.raises(TypeError, match=r"integers \(or booleans\) from 0 to 2, got \w*float"):
        FUNCTIONS[name](np.zeros(4, dtype))


@pytest.mark.parametrize("one_hot", [False, True])
@pytest.mark.parametrize("make", ["gibbs_with_gradients", "dula", "dmala"])
def test_a_sampler_that_needs_a_gradient_names_one_that_does_not(make, one_hot):
    options = {} if make == "gibbs_with_gradients" else {"step_size": 0.5}
    sampler = getattr(samplers, make)(
        FUNCTIONS["energy of tables"], values=(0, 1, 2), one_hot=one_hot, **options
    )
    with pytest.raises(TypeError, match=r"no derivative in categories: samplers\.graph_gibbs"):
        sampler.init(np.zeros((5, 4), np.int32))
    other = samplers.graph_gibbs(TABLES, EDGES, values=(0, 1, 2))
    state, _ = other.step(jax.random.key(0), other.init(np.zeros((5, 4), np.int32)))
    assert state.position.shape == (5, 4)
    assert np.isin(state.position, (0, 1, 2)).all()
