"""Residual blocks and spectral normalisation of networks, against NumPy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.energies import _spectral_norm, networks

KEY = jax.random.key(0)
SHAPE = (7, 6, 2)


def silu(x):
    return x / (1 + np.exp(-x))


def convolved(x, layer, stride, *, normalize=False):
    """Convolve (h, w, in) by 3x3 as "SAME" does, one output pixel at a time."""
    kernel, bias = (np.asarray(layer[name], np.float64) for name in ("kernel", "bias"))
    if normalize:
        kernel = kernel / max(1, np.linalg.norm(kernel.reshape(-1, kernel.shape[-1]), 2))
    sides = [-(-side // stride) for side in x.shape[:2]]
    pads = [max((n - 1) * stride + 3 - side, 0) for n, side in zip(sides, x.shape[:2], strict=True)]
    padded = np.pad(x, [*((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])
    out = np.zeros((*sides, kernel.shape[-1]))
    for i, j in np.ndindex(*sides):
        window = padded[i * stride : i * stride + 3, j * stride : j * stride + 3]
        out[i, j] = np.tensordot(window, kernel, 3) + bias
    return out


def expected(params, x, strides, blocks, *, normalize=False):
    """Return the energies of ``JointConv`` with one hidden dense layer."""
    layers, index = params["params"], 0
    for stride in strides:
        x = silu(convolved(x, layers[f"Conv_{index}"], stride, normalize=normalize))
        index += 1
        for _ in range(blocks):
            inner = silu(convolved(x, layers[f"Conv_{index}"], 1, normalize=normalize))
            x = x + convolved(inner, layers[f"Conv_{index + 1}"], 1, normalize=normalize)
            index += 2
    flat = x.ravel()
    for name in ("Dense_0", "Dense_1"):
        kernel = np.asarray(layers[name]["kernel"], np.float64)
        kernel = kernel / max(1, np.linalg.norm(kernel, 2)) if normalize else kernel
        flat = flat @ kernel + np.asarray(layers[name]["bias"], np.float64)
        flat = silu(flat) if name == "Dense_0" else flat
    return flat


def noisy(params, scale=0.3):
    """Return parameters with noise, so that no layer stays at zero."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(KEY, len(leaves))
    moved = [x + scale * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)]
    return jax.tree.unflatten(tree, moved)


@pytest.mark.parametrize("blocks", [1, 2])
def test_residual_blocks_are_those_of_numpy(blocks):
    network = networks.JointConv((3, 4), 5, (1, 2), (6,), residual_blocks=blocks)
    x = jax.random.normal(jax.random.key(1), SHAPE)
    params = noisy(jax.jit(network.init)(KEY, x))
    found = jax.jit(network.apply)(params, x)
    wanted = expected(params, np.asarray(x, np.float64), (1, 2), blocks)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_blocks_start_as_the_identity():
    """At the start a network with blocks is the one without, with the same first weights."""
    x = jax.random.normal(jax.random.key(1), SHAPE)
    plain = networks.JointConv((3,), 5, (2,), (6,))
    deep = networks.JointConv((3,), 5, (2,), (6,), residual_blocks=2)
    of_plain, of_deep = (jax.jit(network.init)(KEY, x) for network in (plain, deep))
    assert set(of_deep["params"]) - set(of_plain["params"]) == {f"Conv_{i}" for i in range(1, 5)}
    shared = {name: of_deep["params"][name] for name in of_plain["params"]}
    same = jax.jit(plain.apply)({"params": shared}, x), jax.jit(deep.apply)(of_deep, x)
    np.testing.assert_array_equal(*same)


@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_without_blocks_and_norms_nothing_changes(dtype):
    """The options at 0 and False give the network without them, to the bit."""
    x = jax.random.normal(jax.random.key(1), SHAPE)
    settings = (3, 4), 5, (1, 2), (6,)
    explicit = networks.JointConv(*settings, dtype=dtype, residual_blocks=0, spectral_norm=False)
    params = jax.jit(explicit.init)(KEY, x)
    found = jax.jit(explicit.apply)(params, x)

    def by_hand(params, x):
        layers, full = params["params"], x.dtype
        for name, stride in (("Conv_0", 1), ("Conv_1", 2)):
            kind = dtype or full
            kernel, bias = (layers[name][part].astype(kind) for part in ("kernel", "bias"))
            product = networks._fastest_convolution()(
                x.astype(kind)[None],
                kernel,
                (stride, stride),
                "SAME",
                lhs_dilation=(1, 1),
                rhs_dilation=(1, 1),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )[0]
            x = jax.nn.silu(product + bias)
        flat = jnp.ravel(x)
        kernel, bias = (layers["Dense_0"][part].astype(flat.dtype) for part in ("kernel", "bias"))
        flat = jax.nn.silu(flat @ kernel + bias).astype(full)
        return flat @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]

    np.testing.assert_array_equal(found, jax.jit(by_hand)(params, x))


@pytest.mark.parametrize("shape", [(4, 4), (9, 128), (300, 128), (5, 1), (1, 5), (3, 3, 2, 8)])
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e15])
@pytest.mark.sweep(9)
def test_the_bound_is_just_above_the_norm_of_numpy(shape, scale):
    kernel = scale * jax.random.normal(KEY, shape)
    matrix = np.asarray(kernel, np.float64).reshape(-1, shape[-1])
    exact = np.linalg.norm(matrix, 2)
    bound = float(jax.jit(_spectral_norm.upper_bound)(jnp.asarray(matrix, jnp.float32)))
    assert exact * (1 - 1e-5) < bound < exact * 1.0192
    normalized = np.asarray(jax.jit(_spectral_norm.normalized)(kernel), np.float64)
    assert np.linalg.norm(normalized.reshape(matrix.shape), 2) <= 1 + 1e-5


def test_equal_singular_values_have_the_largest_slack():
    """Of the identity with 128 rows the norm is 1 and the bound 128^(1/256)."""
    bound = float(jax.jit(_spectral_norm.upper_bound)(3 * jnp.eye(128)))
    np.testing.assert_allclose(bound, 3 * 128 ** (1 / 256), rtol=1e-5)


def test_the_derivative_of_the_bound_is_that_of_the_norm():
    """With distinct singular values d sigma / dW = u v^T; at 0, where it is undefined, 0."""
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(n, 4)))[0] for n in (6, 5))
    matrix = left @ np.diag([2.0, 1.0, 0.5, 0.1]) @ right.T
    slope = jax.jit(jax.grad(_spectral_norm.upper_bound))(jnp.asarray(matrix, jnp.float32))
    np.testing.assert_allclose(slope, np.outer(left[:, 0], right[:, 0]), atol=1e-5)
    at_zero = jax.jit(jax.grad(_spectral_norm.upper_bound))(jnp.zeros((3, 2)))
    np.testing.assert_array_equal(at_zero, np.zeros((3, 2)))
    assert np.isnan(_spectral_norm.upper_bound(jnp.full((3, 2), jnp.nan)))


def test_normalised_layers_are_those_of_numpy():
    """Weights of rank one, whose bound is exact, in every layer of a residual network."""
    network = networks.JointConv((3, 4), 5, (1, 2), (6,), residual_blocks=1, spectral_norm=True)
    x = jax.random.normal(jax.random.key(1), SHAPE)
    params = jax.jit(network.init)(KEY, x)
    rng = np.random.default_rng(0)

    def of_rank_one(leaf):
        if leaf.ndim == 1:
            return rng.normal(size=leaf.shape).astype(np.float32)
        rows, columns = leaf.size // leaf.shape[-1], leaf.shape[-1]
        matrix = np.outer(rng.normal(size=rows), rng.normal(size=columns))
        return matrix.reshape(leaf.shape).astype(np.float32)

    params = jax.tree.map(of_rank_one, params)
    wanted = expected(params, np.asarray(x, np.float64), (1, 2), 1, normalize=True)
    found = jax.jit(network.apply)(params, x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_no_layer_of_a_normalised_network_stretches():
    """A dense network with the identity as activation has slopes of norm at most 1."""
    network = networks.JointMLP((12, 9), 5, lambda x: x, spectral_norm=True)
    params = noisy(jax.jit(network.init)(KEY, jnp.zeros(8)), scale=2.0)
    slopes = jax.jit(jax.jacobian(network.apply, 1))(params, jnp.ones(8))
    assert np.linalg.norm(np.asarray(slopes, np.float64), 2) <= 1 + 1e-5
    # Each layer alone, as a network without hidden layers.
    for name, layer in params["params"].items():
        inputs, outputs = layer["kernel"].shape
        alone = networks.JointMLP((), outputs, spectral_norm=True)
        one = {"params": {"Dense_0": layer}}
        slopes = np.asarray(jax.jit(jax.jacobian(alone.apply, 1))(one, jnp.ones(inputs)))
        assert 0.97 < np.linalg.norm(slopes.astype(np.float64), 2) <= 1 + 1e-5, name


def test_small_weights_are_left_alone():
    network, plain = (networks.JointMLP((6,), 3, spectral_norm=on) for on in (True, False))
    params = jax.tree.map(lambda x: 0.1 * x, jax.jit(plain.init)(KEY, jnp.zeros(4)))
    found, wanted = (jax.jit(n.apply)(params, jnp.ones(4)) for n in (network, plain))
    np.testing.assert_array_equal(found, wanted)
