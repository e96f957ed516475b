"""ConvEnergy on CPU: patches and a matrix product, against XLA's convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ebm_jax import networks


class Reference(nn.Module):
    features: tuple = (4, 8)

    @nn.compact
    def __call__(self, x):
        for width in self.features:
            x = jax.nn.silu(nn.Conv(width, (3, 3), strides=(2, 2))(x))
        return nn.Dense(1)(jnp.ravel(x))[0]


@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 14, 3), (1, 1, 1)])
def test_same_parameters_and_numbers_as_flax(shape):
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), shape)
    network, reference = networks.ConvEnergy((4, 8)), Reference()
    params, expected = jax.jit(network.init)(key, x), jax.jit(reference.init)(key, x)
    jax.tree.map(np.testing.assert_array_equal, params, expected)

    found, expected = (
        jax.jit(jax.value_and_grad(module.apply, argnums=(0, 1)))(params, x)
        for module in (network, reference)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
    )


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_patches_are_the_convolution(strides, padding):
    images = jax.random.normal(jax.random.key(0), (2, 11, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 3, 5))
    expected = jax.lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = jax.jit(networks._patch_product, static_argnums=(2, 3))(
        images, kernel, strides, padding
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_other_backends_keep_the_convolution(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    network, x = networks.ConvEnergy((4,)), jnp.ones((6, 6, 1))
    params = jax.eval_shape(network.init, jax.random.key(0), x)
    assert "conv_general_dilated" in str(jax.make_jaxpr(network.apply)(params, x))
