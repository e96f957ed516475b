import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import samplers
from ebm_jax.energies import networks

CASES = [
    (networks.MLP((8, 8)), (3,), ()),
    (networks.JointMLP((8, 8), num_classes=5), (3,), (5,)),
    (networks.ConvEnergy((4, 8)), (8, 8, 1), ()),
    (networks.JointConv((4, 8), 5, (1, 2), (6,)), (8, 7, 3), (5,)),
    (networks.JointConv((4,), 2, (3,), ()), (8, 7, 1), (2,)),
]


@pytest.mark.parametrize(("network", "shape", "out"), CASES)
@pytest.mark.sweep(2)
def test_one_configuration_in_energies_out(network, shape, out, key):
    x = jax.random.normal(key, shape)
    params = jax.jit(network.init)(key, x)
    one = jax.jit(network.apply)(params, x)
    assert one.shape == out
    # A batch is a vmap, and no configuration knows of the others.
    batch = jnp.stack([x, 2 * x, x])
    together = jax.jit(jax.vmap(network.apply, (None, 0)))(params, batch)
    np.testing.assert_allclose(together[0], one, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(together[0], together[2], rtol=1e-6)


@pytest.mark.parametrize(("network", "shape", "out"), CASES)
@pytest.mark.sweep(2)
def test_an_energy_is_a_fixed_function(network, shape, out, key):
    """No dropout, no batch statistics: nothing but parameters, and no randomness."""
    params = jax.jit(network.init)(key, jnp.ones(shape))
    assert set(params) == {"params"}
    x = jax.random.normal(key, shape)
    np.testing.assert_array_equal(network.apply(params, x), network.apply(params, x))


def test_the_score_is_not_flat(key):
    network = networks.MLP((8, 8))
    params = jax.jit(network.init)(key, jnp.ones(3))
    score = jax.jit(jax.grad(network.apply, 1))(params, jnp.ones(3))
    assert np.abs(score).sum() > 0


def test_free_energy_of_a_joint_energy(key):
    network = networks.JointMLP((8,), num_classes=5)
    x = jnp.ones(3)
    params = jax.jit(network.init)(key, x)
    energies = np.asarray(jax.jit(network.apply)(params, x), np.float64)
    got = jax.jit(networks.free_energy(network.apply, beta=2.0))(params, x)
    np.testing.assert_allclose(got, -np.log(np.exp(-2 * energies).sum()) / 2, rtol=1e-5)


def test_a_network_is_sampled_like_any_energy(key):
    network = networks.MLP((8,))

    @jax.jit
    def sample(key, x):
        params = network.init(key, jnp.ones(2))
        sampler = samplers.ula(functools.partial(network.apply, params), step_size=0.01)
        return samplers.run(key, sampler, sampler.init(x), 3)[0].position

    assert sample(key, jnp.ones((5, 2))).shape == (5, 2)


def test_network_with_one_class_and_vector_shape(key):
    params = jax.eval_shape(networks.MLP((4,)).init, key, jnp.ones((2, 3)))
    assert params["params"]["body"]["Dense_0"]["kernel"].shape == (6, 4)
