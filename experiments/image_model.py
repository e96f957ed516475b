"""The energy of ``images``: its network, and the objectives that it is trained by."""

import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import ebm_jax
from ebm_jax import objectives
from ebm_jax.energies import Gaussian
from ebm_jax.energies.networks import JointConv, JointMLP
from ebm_jax.samplers import langevin
from ebm_jax.types import Array, Energy, Objective, Params
from experiments import checkpoints, devices, image_data, runs
from experiments.image_data import Images

FLOW_NOISE = 0.5  # standard deviation of the grey levels that the flow starts from, about 1/2
FLOW_SCALE = 0.3  # the flow's potential is so much of the energy
KERNEL = 3  # pixels across, of a convolution
SMALL = 256  # pixels at most of images that are small


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
    scale = 1 / FLOW_SCALE if flows else 1.0
    dtype, pixels = jnp.dtype(precision), math.prod(shape)
    shared = len(channels) == 1 and pixels <= SMALL  # the weights of one convolution
    if channels and not shared:
        strides = [1] * (len(channels) - 2) + [2, 2]
        network = JointConv(
            channels, num_classes, strides[-len(channels) :], (hidden,), dtype=dtype
        )
        seen = (*shape[:2], pixels // math.prod(shape[:2]))
    else:
        first = (
            channels[0] * math.prod(side - KERNEL + 1 for side in shape[:2]) if shared else hidden
        )
        network, seen = JointMLP((first, hidden), num_classes, dtype=dtype), (pixels,)

    def init(key):
        params = network.init(key, jnp.zeros(seen))
        if not shared:
            return params
        taps = (KERNEL, KERNEL, pixels // math.prod(shape[:2]), *channels)
        kernel = jax.nn.initializers.lecun_normal()(jax.random.fold_in(key, 1), taps)
        return _with_first(params, {"kernel": kernel, "bias": jnp.zeros(channels)})

    def dense(params):
        return _with_first(params, _as_dense(_first(params), shape)) if shared else params

    mean = jnp.asarray(train_x.mean(0))
    precision_of_pixels = jnp.asarray(1 / (train_x.var(0) + noise**2))
    reference = Gaussian(mean, precision_of_pixels)

    def classes(params, x):
        found = scale * network.apply(params, 4 * (x - 0.5).reshape(seen))
        return found + ebm_jax.energies.gaussian(reference, x)

    def joint(params, configuration):
        return classes(params, configuration["x"])[configuration["y"]]

    return Model(reference, classes, joint, init, dense, flows)


def _first(params: Params) -> dict[str, Array]:
    return params["params"]["Dense_0"]


def _with_first(params: Params, layer: dict[str, Array]) -> Params:
    """Return the parameters with another first layer."""
    return {"params": params["params"] | {"Dense_0": layer}}


def _as_dense(layer: dict[str, Array], shape: tuple[int, ...]) -> dict[str, Array]:
    """Return the dense layer that a convolution of small images is, with one row a pixel.

    One product is several times as fast there as the patches it replaces.
    """
    pixels = math.prod(shape)
    alone = jnp.eye(pixels).reshape(pixels, *shape[:2], -1)  # what one pixel leads to is its row
    rows = jax.lax.conv_general_dilated(
        alone,
        layer["kernel"],
        (1, 1),
        "VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=jax.lax.Precision.HIGHEST,  # weights are copied, not rounded
    ).reshape(pixels, -1)
    return {"kernel": rows, "bias": jnp.tile(layer["bias"], rows.shape[1] // len(layer["bias"]))}


class Prepared(NamedTuple):
    """What the flags of a run make of the data: its images, and an untrained model of them."""

    images: Images
    unseen: dict[str, np.ndarray]  # the images of the class held out, if any
    model: Model


def prepare(
    images: Images,
    hold_out_class: int,
    hidden: int,
    noise: float,
    *,
    channels: Sequence[int],
    precision: str,
    generative: str,
) -> Prepared:
    """Return the data without the class held out (-1 for none), and the model of it."""
    images, unseen = image_data.hold_out(images, hold_out_class)
    model = make_model(
        images.split.train_x,
        images.shape,
        len(images.classes),
        hidden,
        noise,
        channels=channels,
        precision=precision,
        flows=generative == "energy_matching",
    )
    return Prepared(images, unseen, model)


def load(workdir: Path | str) -> tuple[Callable, Any, Prepared, dict[str, str]]:
    """Return (energy, params, prepared, flags) of a finished run.

    energy(params, {"x", "y"}) -> (), x (pixels,) in [0, 1] and y the number of a class in
    ``prepared.images.classes``; the parameters are the averaged ones, as the energy takes them.
    """
    workdir = Path(workdir)
    given = runs.flags_of(workdir)
    try:
        prepared = prepare(
            image_data.load(given["data"], given.get("data_dir")),
            int(given["hold_out_class"]),
            int(given["hidden"]),
            float(given["data_noise"]),
            channels=[int(width) for width in given["channels"].split(",") if width],
            precision=given["precision"],
            generative=given["generative"],
        )
    except KeyError as error:
        raise runs.UsageError(f"{workdir} is no run of images: it has no flag {error}.") from None
    model = prepared.model
    like = jax.eval_shape(model.init, jax.random.key(0))
    params = checkpoints.read_parameters(workdir / "parameters.npz", like)
    return model.joint, model.dense(params), prepared, given


def potential(energy: Callable) -> Callable:
    """Return the potential of the flow from N(0, I) to images whose energy is (x, beside) -> ().

    V(z, beside) = FLOW_SCALE F(1/2 + FLOW_NOISE z, beside)
    """
    return lambda z, beside: FLOW_SCALE * energy(0.5 + FLOW_NOISE * z, beside)


def flow_energy(model: Model) -> Energy:
    """Return the potential of the flow, of dense parameters and {"z", "y"}."""

    def energy(params, configuration):
        def of_image(x, y):
            return model.joint(params, {"x": x, "y": y})

        return potential(of_image)(configuration["z"], configuration["y"])

    return energy


def flow_batch(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return images as the flow sees them."""
    return {"z": (x - 0.5) / FLOW_NOISE, "y": y}


def proportions(train_y: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` classes in the proportions of the data, in order.

    Were those of chains others, F(., y) would drift: no chain ever leaves its class.
    """
    quantiles = (np.arange(count) + 0.5) / count * len(train_y)
    return np.sort(train_y)[quantiles.astype(int)]


def from_noise(labels: np.ndarray, pixels: int, mesh: Mesh | None) -> Callable:
    """Return where chains of these classes start: uniform noise."""

    def initial(params, key, slots):
        del params
        x = jax.random.uniform(key, (len(slots), pixels))
        return devices.spread(mesh, {"x": x, "y": jnp.asarray(labels)[slots]})

    return initial


def from_images(labels: np.ndarray, x: np.ndarray, mesh: Mesh | None) -> Callable:
    """Return where chains of these classes start: images, one a chain."""

    def initial(params, key, slots):
        del params, key
        start = {"x": jnp.asarray(x)[slots], "y": jnp.asarray(labels)[slots]}
        return devices.spread(mesh, start)

    return initial


Terms = dict[str, tuple[float, Objective, Callable]]  # name: weight, objective, its batch


def _of_params(model: Model, energy: Callable) -> Callable:
    """Return an energy of dense parameters as one of those trained."""
    return lambda params, x: energy(model.dense(params), x)


def discriminative(model: Model, loss: Callable) -> Terms:
    """Return a loss over the classes, of ``batch["labelled"]``, (x, y)."""
    term = objectives.discriminative(_of_params(model, model.classes), loss)
    return {"discriminative": (1.0, term, lambda batch: batch["labelled"])}


def matching(model: Model, *, weight: float, denoising_weight: float, noise: float) -> Terms:
    """Return flow matching, of ``batch["flow"]``, and denoising score matching, of "clean".

    Where noise is as large as that of the data modelled, both want nearly one field; the flow
    alone leads there from afar, and score matching alone makes the energy there that of a Gibbs
    distribution.
    """
    flow = objectives.flow_matching(_of_params(model, flow_energy(model)))
    terms: Terms = {"matching": (weight, flow, lambda batch: batch["flow"])}
    if denoising_weight:  # or it would be differentiated for nothing
        denoising = objectives.denoising_score_matching(_of_params(model, model.joint), noise)
        terms["denoising"] = (denoising_weight, denoising, lambda batch: batch["clean"])
    return terms


def likelihood(
    model: Model,
    *,
    initial: Callable,
    weight: float,
    step_size: float,
    langevin_steps: int,
    num_chains: int,
    capacity: int,
    restart_fraction: float,
    groups: int,
) -> Terms:
    """Return the likelihood of ``batch["configuration"]``, {"x", "y"}, by persistent chains."""

    def make_sampler(params):
        energy = functools.partial(model.joint, model.dense(params))
        return langevin.mala(energy, step_size=step_size)

    term = objectives.persistent(
        _of_params(model, model.joint),
        make_sampler,
        num_steps=langevin_steps,
        num_chains=num_chains,
        capacity=capacity,
        initial=initial,
        restart_fraction=restart_fraction,
        burn_in=25,
        groups=groups,
    )
    return {"generative": (weight, term, lambda batch: batch["configuration"])}
