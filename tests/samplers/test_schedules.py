import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import samplers
from ebm_jax.samplers import schedules


@pytest.mark.parametrize(("start", "end"), [(0.01, 1.0), (5.0, 0.2), (3.0, 3.0)])
def test_geometric_is_a_line_in_the_logarithm(start, end):
    steps = np.arange(0, 150, 7)
    found = jax.vmap(schedules.geometric(start, end, 100))(steps)
    line = np.interp(steps, [0, 100], np.log([start, end]))
    np.testing.assert_allclose(np.log(found), line, atol=1e-5)


def test_geometric_is_an_option_of_a_sampler(key):
    sampler = samplers.ula(lambda x: 0.0 * x, step_size=0.5, beta=schedules.geometric(4.0, 1.0, 2))
    state, betas = sampler.init(jnp.zeros(3)), []
    for _ in range(4):
        state, info = sampler.step(key, state)
        betas.append(float(info.beta))
    np.testing.assert_allclose(betas, [4.0, 2.0, 1.0, 1.0], rtol=1e-6)


def test_levels_stay_and_end():
    (values,) = schedules.piecewise_constant(3, [1.0, 5.0])
    assert [float(values(t)) for t in (0, 2, 3, 5, 6, 99)] == [1, 1, 5, 5, 5, 5]


def test_piecewise_constant_takes_vectors_of_one_length():
    with pytest.raises(ValueError, match="values must be vectors"):
        schedules.piecewise_constant(2)
    with pytest.raises(ValueError, match=r"same length .*\(1,\), \(2,\)"):
        schedules.piecewise_constant(2, [0.1], [0.1, 0.2])


@pytest.mark.parametrize("bad", [None, "three", object(), 1j, 0.1, [], [[0.1]]])
def test_piecewise_constant_refuses_what_is_no_vector(bad):
    with pytest.raises((TypeError, ValueError), match="values must be"):
        schedules.piecewise_constant(2, bad)


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan])
def test_piecewise_constant_refuses_values_that_are_not_positive(bad):
    with pytest.raises(ValueError, match="values must be"):
        schedules.piecewise_constant(2, [0.1, bad])


def test_geometric_takes_shapes_that_broadcast():
    with pytest.raises(ValueError, match=r"start \(2,\), end \(3,\)"):
        schedules.geometric(jnp.ones(2), jnp.ones(3), 2)
