"""ConvEnergy on CPU: patches and a matrix product, against XLA's convolution."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from ebm_jax.energies import networks


class Reference(nn.Module):
    strides: tuple = (2, 2)
    hidden: tuple = ()
    classes: int = 1
    dtype: Any = None

    @nn.compact
    def __call__(self, x):
        for width, stride in zip((4, 8), self.strides, strict=True):
            layer = nn.Conv(width, (3, 3), strides=(stride, stride), dtype=self.dtype)
            x = jax.nn.silu(layer(x))
        x = jnp.ravel(x)
        for width in self.hidden:
            x = jax.nn.silu(nn.Dense(width, dtype=self.dtype)(x))
        return nn.Dense(self.classes)(x.astype(jnp.float32))


JOINT = networks.JointConv((4, 8), 5, (1, 3), (6, 7))


@pytest.mark.parametrize(
    ("network", "reference"),
    [
        (networks.ConvEnergy((4, 8)), Reference()),
        (JOINT, Reference((1, 3), (6, 7), 5)),
    ],
)
@pytest.mark.parametrize("shape", [(28, 28, 1), (9, 14, 3), (1, 1, 1)])
@pytest.mark.sweep(2)
def test_same_parameters_and_numbers_as_flax(network, reference, shape):
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), shape)
    params, expected = jax.jit(network.init)(key, x), jax.jit(reference.init)(key, x)
    jax.tree.map(np.testing.assert_array_equal, params, expected)

    def last(params, x, module):
        return jnp.ravel(module.apply(params, x))[-1]

    found, expected = (
        jax.jit(jax.value_and_grad(last, argnums=(0, 1)), static_argnums=2)(params, x, module)
        for module in (network, reference)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected
    )


def test_a_lower_precision_is_that_of_all_layers_but_the_last():
    key, x = jax.random.key(0), jax.random.normal(jax.random.key(1), (9, 14, 3))
    params = jax.jit(JOINT.init)(key, x)
    rough = networks.JointConv((4, 8), 5, (1, 3), (6, 7), dtype=jnp.bfloat16)
    reference = Reference((1, 3), (6, 7), 5, jnp.bfloat16)
    found, expected = (jax.jit(module.apply)(params, x) for module in (rough, reference))
    exact = jax.jit(JOINT.apply)(params, x)
    assert found.dtype == jnp.float32
    size = np.abs(exact).max()
    assert 0 < np.abs(found - exact).max() < 2**-5 * size
    np.testing.assert_allclose(found, expected, atol=2**-6 * size)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize(
    "padding",
    ["SAME", "SAME_LOWER", "VALID", [(1, 2), (0, 3)], ((0, 0), (0, 0)), [(-1, 2), (4, -2)]],
)
def test_patches_are_the_convolution(strides, padding):
    images = jax.random.normal(jax.random.key(0), (2, 11, 8, 3))
    kernel = jax.random.normal(jax.random.key(1), (3, 2, 3, 5))
    expected = jax.lax.conv_general_dilated(
        images, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    found = jax.jit(lambda *x: networks._patch_product(*x, strides, padding))(images, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_patches_of_images_smaller_than_the_kernel():
    images, kernel = jnp.ones((2, 2, 5, 1)), jnp.ones((3, 3, 1, 4))
    found = networks._patch_product(images, kernel, (1, 1), "VALID")
    assert found.shape == (2, 0, 3, 4)


def test_other_backends_keep_the_convolution(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    network, x = networks.ConvEnergy((4,)), jnp.ones((6, 6, 1))
    params = jax.eval_shape(network.init, jax.random.key(0), x)
    assert "conv_general_dilated" in str(jax.make_jaxpr(network.apply)(params, x))


@pytest.mark.parametrize(
    ("features", "strides", "message"),
    [
        ((4, 4), (1,), r"one per convolution, 2, got \[1\]"),
        ((4,), (0,), "strides must be at least 1, got 0"),
    ],
)
def test_bad_strides_are_refused(features, strides, message):
    with pytest.raises(ValueError, match=message):
        networks.JointConv(features, 3, strides).init(jax.random.key(0), jnp.ones((8, 8, 1)))
