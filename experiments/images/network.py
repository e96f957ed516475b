"""The energy of ``images``: a network on top of the Gaussian energy of independent pixels."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax.energies import Gaussian
from ebm_jax.energies.networks import JointConv, JointMLP
from ebm_jax.types import Array, Params
from experiments.data.image_sets import Images
from experiments.images import flow
from experiments.images.defaults import KERNEL, SMALL


class Model(NamedTuple):
    """The energies of one run: F(x, .) over the classes, and E of a configuration (x, y).

    Energies are those of ``dense(params)``, made once for many steps of a sampler; ``params`` are
    what is trained, and kept.
    """

    reference: Gaussian  # what is below the network
    classes: Callable  # (dense params, x) -> (n,)
    joint: Callable  # (dense params, {"x", "y"}) -> ()
    init: Callable  # key -> params
    dense: Callable  # params -> those of the energies
    raised: Callable  # (params, (classes,)) -> params of energies as much higher, class by class
    flows: bool = False  # whether its gradient carries noise to images


def make_model(
    train_x: np.ndarray,
    shape: tuple[int, ...],
    num_classes: int,
    hidden: int,
    noise: float,
    *,
    channels: Sequence[int] = (),
    precision: str = "float32",
    flows: bool = False,
) -> Model:
    """Return a network on top of the Gaussian energy of independent pixels.

    The Gaussian bounds the energy from below, and makes noise an outlier from the first step. The
    network has convolutions of ``channels``, of which the last two halve the resolution, and a
    dense layer; or two dense layers. One convolution of small images is a dense layer, and faster.
    """
    # The weights that a flow needs are reached soonest where its potential is the network.
    scale = 1 / flow.SCALE if flows else 1.0
    dtype, pixels = jnp.dtype(precision), math.prod(shape)
    shared = len(channels) == 1 and pixels <= SMALL  # the weights of one convolution
    network, seen = _network(shape, num_classes, hidden, channels, shared, dtype)

    def init(key):
        params = network.init(key, jnp.zeros(seen))
        if not shared:
            return params
        taps = (KERNEL, KERNEL, pixels // math.prod(shape[:2]), *channels)
        kernel = jax.nn.initializers.lecun_normal()(jax.random.fold_in(key, 1), taps)
        return _with_layer(params, "Dense_0", {"kernel": kernel, "bias": jnp.zeros(channels)})

    taps = _taps(shape) if shared else None

    def dense(params):
        if taps is None:
            return params
        return _with_layer(params, "Dense_0", _as_dense(params["params"]["Dense_0"], taps))

    def raised(params, by):
        dense = (name for name in params["params"] if name.startswith("Dense"))
        last = max(dense, key=lambda name: int(name.removeprefix("Dense_")))
        layer = params["params"][last]
        return _with_layer(params, last, layer | {"bias": layer["bias"] + by / scale})

    mean = jnp.asarray(train_x.mean(0))
    precision_of_pixels = jnp.asarray(1 / (train_x.var(0) + noise**2))
    reference = Gaussian(mean, precision_of_pixels)

    def classes(params, x):
        found = scale * network.apply(params, 4 * (x - 0.5).reshape(seen))
        return found + ebm_jax.energies.gaussian(reference, x)

    def joint(params, configuration):
        return classes(params, configuration["x"])[configuration["y"]]

    return Model(reference, classes, joint, init, dense, raised, flows)


def _network(
    shape: tuple[int, ...],
    num_classes: int,
    hidden: int,
    channels: Sequence[int],
    shared: bool,
    dtype: jnp.dtype,
) -> tuple[JointConv | JointMLP, tuple[int, ...]]:
    """Return the network, and the shape in which it takes an image."""
    if channels and not shared:
        strides = [1] * (len(channels) - 2) + [2, 2]
        layers = channels, num_classes, strides[-len(channels) :], (hidden,)
        return JointConv(*layers, dtype=dtype), (*shape[:2], math.prod(shape[2:]))
    first = channels[0] * math.prod(side - KERNEL + 1 for side in shape[:2]) if shared else hidden
    return JointMLP((first, hidden), num_classes, dtype=dtype), (math.prod(shape),)


def model_of(
    images: Images,
    *,
    hidden: int,
    data_noise: float,
    channels: Sequence[int],
    precision: str,
    generative: str,
) -> Model:
    """Return the untrained model of a set of images."""
    return make_model(
        images.split.train_x,
        images.shape,
        len(images.classes),
        hidden,
        data_noise,
        channels=channels,
        precision=precision,
        flows=generative == "energy_matching",
    )


def _with_layer(params: Params, name: str, layer: dict[str, Array]) -> Params:
    """Return the parameters with another layer of this name."""
    return {"params": params["params"] | {name: layer}}


def _taps(shape: tuple[int, ...]) -> np.ndarray:
    """Return which weight leads from every pixel to every place of a convolution: 1, or 0.

    (pixels, places, weights of one feature)
    """
    pixels = math.prod(shape)
    alone = np.eye(pixels, dtype=np.float32).reshape(pixels, *shape[:2], -1)
    windows = np.lib.stride_tricks.sliding_window_view(alone, (KERNEL, KERNEL), (1, 2))
    _, rows, columns = windows.shape[:3]
    return np.moveaxis(windows, 3, -1).reshape(pixels, rows * columns, -1)


def _as_dense(layer: dict[str, Array], taps: np.ndarray) -> dict[str, Array]:
    """Return the dense layer that a convolution of small images is, with one row a pixel.

    One product is several times as fast there as the patches it replaces, and a product with
    constants as this one, backwards too.
    """
    pixels, places, weights = taps.shape
    rows = jnp.matmul(
        taps.reshape(-1, weights),
        layer["kernel"].reshape(weights, -1),
        precision=jax.lax.Precision.HIGHEST,  # weights are copied, not rounded
    ).reshape(pixels, -1)
    made = {"kernel": rows, "bias": jnp.tile(layer["bias"], places)}
    # Else what is computed of them in a loop would look up the short bias, number by number.
    return jax.lax.optimization_barrier(made)
