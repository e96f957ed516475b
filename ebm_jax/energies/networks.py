"""Neural networks that define energies, as Flax modules.

``MLP((128, 128)).apply`` is an energy(params, x). A module takes one configuration, as every energy
does. No module has batch normalisation, which couples the configurations of a batch, or dropout,
which makes the energy random: a sampler needs one fixed, smooth function of x.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.errors import ScopeParamShapeError
from jax.typing import DTypeLike

from ebm_jax import _checks, _platform, gibbs
from ebm_jax.energies import _spectral_norm
from ebm_jax.types import Array, Energy

if TYPE_CHECKING:

    class _Module(nn.Module):
        """Flax's module, whose ``apply`` is an energy."""

        def apply(self, variables: Any, *args: Any, **options: Any) -> Array: ...
else:
    _Module = nn.Module


@contextmanager
def _one_configuration(name: str, x: Array) -> Iterator[None]:
    """Turn Flax's error about a parameter of another shape into one about x."""
    try:
        yield
    except ScopeParamShapeError as error:
        raise ValueError(
            f"{name} takes one x, of the size that its parameters were initialised for, got the "
            f"shape {x.shape}: vmap a batch."
        ) from error


def _counts(name: str, given) -> list[int]:
    """Validate and return a sequence of integers >= 1, one per layer."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"{name} must be a sequence of integers, got {given!r}.")
    return [_checks.count(name, one) for one in given]


def _floating_dtype(dtype: DTypeLike | None) -> jnp.dtype | None:
    """Validate and return a floating type, None for None."""
    if dtype is None:
        return None
    try:
        given = jnp.dtype(dtype)
        floating = jnp.issubdtype(given, jnp.floating)
    except TypeError:
        given, floating = None, False
    if not floating:
        raise TypeError(
            "dtype must be float16, bfloat16, float32 or float64, or None for that of x, got "
            f"{dtype!r}."
        )
    return given


class MLP(_Module):
    """The energy F(x) of an array x: dense layers on the flattened x.

    Attributes:
        features: widths of the hidden layers.
        activation: smooth nonlinearity; the score of the model contains its derivative.

    >>> import jax
    >>> network = MLP((16, 16))
    >>> params = jax.jit(network.init)(jax.random.key(0), jax.numpy.zeros(2))
    >>> network.apply(params, jax.numpy.ones(2)).shape
    ()
    """

    features: Sequence[int]
    activation: Callable[[Array], Array] = jax.nn.silu

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return F(x), ()."""
        return JointMLP(self.features, 1, self.activation, name="body")(x)[0]


class JointMLP(_Module):
    r"""The energies F(x, y) of an array x for all classes y: dense layers on x.

    Attributes:
        features: widths of the hidden layers.
        num_classes: number of classes, n.
        activation: smooth nonlinearity.
        dtype: dtype of the matrix products in the hidden layers, such as bfloat16; None for that of
            x and the parameters. The last layer and the result have the dtype of x.
        spectral_norm: whether every weight matrix W, the last included, is replaced by
            :math:`W / \max(1, \sigma)`, where :math:`\sigma` is a differentiable upper bound on its
            spectral norm (at most 2 % too large up to 128 outputs). The slope of the energies is
            then at most that of the activations: multiply the energies to allow steeper ones.
            Source: Miyato et al. (2018), Spectral normalization for generative adversarial
            networks; the bound from Delattre et al. (2023), Efficient bound of Lipschitz constant
            for convolutional layers by Gram iteration.

    >>> import jax
    >>> network = JointMLP((16,), num_classes=10)
    >>> params = jax.jit(network.init)(jax.random.key(0), jax.numpy.zeros(64))
    >>> network.apply(params, jax.numpy.ones(64)).shape
    (10,)
    """

    features: Sequence[int]
    num_classes: int
    activation: Callable[[Array], Array] = jax.nn.silu
    dtype: DTypeLike | None = None
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return F(x, .), (num_classes,)."""
        _checks.flag("spectral_norm", self.spectral_norm)
        flat = jnp.ravel(_checks.array("x", x))
        with _one_configuration("JointMLP" if self.name is None else "MLP", jnp.asarray(x)):
            widths = _counts("features", self.features)
            return _dense(self, widths, flat, _floating_dtype(self.dtype))


def _dense(network, features, flat: Array, dtype: jnp.dtype | None) -> Array:
    """Return one number per class; the last dense layer is in the dtype of ``flat``."""
    full = flat.dtype if jnp.issubdtype(flat.dtype, jnp.floating) else jnp.float32
    _checks.function("activation", network.activation)
    product = _normalized_product if network.spectral_norm else None
    for width in features:
        flat = network.activation(nn.Dense(width, dtype=dtype, dot_general=product)(flat))
    last = nn.Dense(_checks.count("num_classes", network.num_classes), dot_general=product)
    return last(flat if dtype is None else flat.astype(full))


def _normalized_product(x: Array, kernel: Array, *args, **options) -> Array:
    """Return the product of ``jax.lax.dot_general`` with weights of spectral norm at most 1."""
    return jax.lax.dot_general(x, _spectral_norm.normalized(kernel), *args, **options)


class ConvEnergy(_Module):
    """The energy F(x) of an image (height, width, channels): strided convolutions.

    Attributes:
        features: numbers of channels of the convolutions; each halves the resolution.
        activation: smooth nonlinearity.
        convolution: function with the signature of ``jax.lax.conv_general_dilated``. None chooses
            by backend (that of ``jax.default_device``, if set): a product of patches on CPU,
            ``jax.lax.conv_general_dilated`` elsewhere. The parameters do not depend on it.

    >>> import jax
    >>> network = ConvEnergy((8, 16))
    >>> params = jax.jit(network.init)(jax.random.key(0), jax.numpy.zeros((28, 28, 1)))
    >>> network.apply(params, jax.numpy.ones((28, 28, 1))).shape
    ()
    """

    features: Sequence[int] = (32, 64, 64)
    activation: Callable[[Array], Array] = jax.nn.silu
    convolution: Callable[..., Array] | None = None

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return F(x), ()."""
        widths = _counts("features", self.features)
        with _one_configuration("ConvEnergy", x):
            return nn.Dense(1)(_convolved(self, widths, [2] * len(widths), x))[0]


class JointConv(_Module):
    r"""A convolutional network with one output, the energy F(x, y), for every class y.

    The image x is (height, width, channels). Every strided convolution may be followed by residual
    blocks with two convolutions of the same number of channels, without batch normalisation,

    .. math:: x \leftarrow x + W_2 * a(W_1 * x + b_1) + b_2,

    where * is a 3x3 convolution with kernels W and biases b, and a the activation. A block starts
    as the identity: :math:`W_2` and :math:`b_2` start at 0.
    Source: He et al. (2016), Identity mappings in deep residual networks; without normalisation,
    Zhang et al. (2019), Fixup initialization; for energies, Du and Mordatch (2019), Implicit
    generation and modeling with energy based models.

    Attributes:
        features: numbers of channels of the 3x3 convolutions.
        num_classes: number of classes.
        strides: strides of the convolutions, one per convolution.
        hidden: widths of the dense layers after them.
        activation: smooth nonlinearity.
        convolution: see ``ConvEnergy``.
        dtype: dtype of the convolutions and hidden layers; see ``JointMLP``.
        residual_blocks: number of residual blocks after each strided convolution.
        spectral_norm: see ``JointMLP``. It is applied to the matrix from the 9 in_channels inputs
            of a 3x3 window to its out_channels outputs. Each pixel lies in up to 9 windows, so the
            Lipschitz constant of the convolution is at most 3.

    >>> import jax
    >>> network = JointConv((8, 16), num_classes=10, strides=(1, 2))
    >>> params = jax.jit(network.init)(jax.random.key(0), jax.numpy.zeros((28, 28, 1)))
    >>> network.apply(params, jax.numpy.ones((28, 28, 1))).shape
    (10,)
    """

    features: Sequence[int]
    num_classes: int
    strides: Sequence[int]
    hidden: Sequence[int] = (128,)
    activation: Callable[[Array], Array] = jax.nn.silu
    convolution: Callable[..., Array] | None = None
    dtype: DTypeLike | None = None
    residual_blocks: int = 0
    spectral_norm: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        """Return F(x, .), (num_classes,)."""
        _checks.count("residual_blocks", self.residual_blocks, least=0)
        _checks.flag("spectral_norm", self.spectral_norm)
        widths, hidden = _counts("features", self.features), _counts("hidden", self.hidden)
        strides, dtype = _counts("strides", self.strides), _floating_dtype(self.dtype)
        if len(strides) != len(widths):
            raise ValueError(f"strides must be one per convolution, {len(widths)}, got {strides}.")
        with _one_configuration("JointConv", x):
            return _dense(self, hidden, _convolved(self, widths, strides, x, dtype), dtype)


def _convolved(network, widths, strides, x, dtype: jnp.dtype | None = None) -> Array:
    """Return the convolved image as a vector in the dtype of x."""
    x = _checks.array("x", x)
    if x.ndim != 3:
        raise ValueError(
            f"{type(network).__name__} takes one image (height, width, channels), got {x.shape}: "
            "vmap a batch."
        )
    activation = network.activation
    _checks.function("activation", activation)
    full = x.dtype if jnp.issubdtype(x.dtype, jnp.floating) else jnp.float32
    layer = functools.partial(
        nn.Conv, kernel_size=(3, 3), dtype=dtype, conv_general_dilated=_convolution(network)
    )
    for width, stride in zip(widths, strides, strict=True):
        x = activation(layer(width, strides=(stride, stride))(x))
        for _ in range(getattr(network, "residual_blocks", 0)):
            inner = activation(layer(width)(x))
            x = x + layer(width, kernel_init=nn.initializers.zeros)(inner)
    flat = jnp.ravel(x)
    return flat if dtype is None else flat.astype(full)


def _convolution(network) -> Callable[..., Array]:
    """Return the function that convolves, with the options of a network."""
    convolve = network.convolution
    if convolve is None:
        convolve = _fastest_convolution()
    _checks.function("convolution", convolve)
    if not getattr(network, "spectral_norm", False):
        return convolve

    def normalized(images: Array, kernel: Array, *args, **options) -> Array:
        return convolve(images, _spectral_norm.normalized(kernel), *args, **options)

    return normalized


def _fastest_convolution() -> Callable[..., Array]:
    # In a loop on CPU, XLA's convolution is several times slower than a matrix product.
    on_cpu = _platform.platform() == "cpu"
    return _patch_product if on_cpu else jax.lax.conv_general_dilated


def _patch_product(images, kernel, strides, padding, *, precision=None, **plain) -> Array:
    """Convolve (n, h, w, in) with (kh, kw, in, out): patches times a matrix.

    It replaces ``jax.lax.conv_general_dilated`` without dilation and groups.
    """
    del plain  # dilations of 1, one group, the axes as above
    height, width, _, features = kernel.shape
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(images.shape[1:3], (height, width), strides, padding)
    # Negative pads remove pixels.
    pads = [(0, 0, 0), *((low, high, 0) for low, high in padding), (0, 0, 0)]
    padded = jax.lax.pad(images, jnp.zeros((), images.dtype), pads)
    rows, columns = (
        max((size - span) // stride * stride + 1, 0)
        for size, span, stride in zip(padded.shape[1:3], (height, width), strides, strict=True)
    )
    patches = [
        padded[:, i : i + rows : strides[0], j : j + columns : strides[1]]
        for i in range(height)
        for j in range(width)
    ]
    stacked = jnp.concatenate(patches, -1)
    # As matrices: with more axes, the kernel gradient would not use the fast product.
    rows_by_tap = stacked.reshape(-1, stacked.shape[-1])
    product = jnp.matmul(rows_by_tap, kernel.reshape(-1, features), precision=precision)
    return product.reshape(*stacked.shape[:-1], features)


def free_energy(joint: Callable[..., Array], *, beta=1.0) -> Energy:
    r"""Turn energies F(x, y) over classes y into an energy of x alone.

    .. math:: F(x) = -\frac{1}{\beta} \log \sum_y \exp(-\beta F(x, y))

    Source: Grathwohl et al. (2020), Your classifier is secretly an energy based model, eq. 6.

    Args:
        joint: function (params, x) -> (n,), one energy per class.
        beta: inverse temperature :math:`\beta \ge 0`, one number.

    Returns:
        energy(params, x) -> ().

    >>> import jax.numpy as jnp
    >>> float(free_energy(lambda params, x: params * x)(0.0, jnp.zeros(1)))
    0.0
    """
    _checks.function("joint", joint)
    _checks.nonnegative("beta", beta)
    _checks.scalar("beta", beta)

    def energy(params, x) -> Array:
        energies = _checks.floating("What joint returns", joint(params, x))
        if energies.ndim != 1:
            raise ValueError(
                f"joint must return one energy per class, (n,), it returned {energies.shape}."
            )
        return gibbs.free_energy(energies, beta=beta)

    return energy
