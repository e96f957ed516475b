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
from ebm_jax import objectives, samplers
from ebm_jax.energies import Gaussian
from ebm_jax.energies.networks import JointConv, JointMLP
from ebm_jax.types import Array, Energy, MakeSampler, Objective, Params, Sampler
from experiments.data import image_sets
from experiments.data.image_sets import Images
from experiments.image_defaults import KERNEL, SMALL
from experiments.run import checkpoints, command_line, devices, errors, work_directory

FLOW_NOISE = 0.5  # standard deviation of the grey levels that the flow starts from, about 1/2
FLOW_SCALE = 0.3  # the flow's potential is so much of the energy
FRICTION = 3.0  # of chains with velocities, per unit of their time


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
    images, unseen = image_sets.hold_out(images, hold_out_class)
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
    workdir = command_line.home_path(workdir)
    given = work_directory.flags_of(workdir)
    try:
        prepared = prepare(
            image_sets.load(given["data"], given.get("data_dir")),
            int(given["hold_out_class"]),
            int(given["hidden"]),
            float(given["data_noise"]),
            channels=[int(width) for width in given["channels"].split(",") if width],
            precision=given["precision"],
            generative=given["generative"],
        )
    except KeyError as error:
        raise errors.UsageError(f"{workdir} is no run of images: it has no flag {error}.") from None
    model = prepared.model
    return model.joint, model.dense(parameters_of(workdir, model)), prepared, given


def parameters_of(workdir: Path, model: Model) -> Params:
    """Return the averaged parameters of a finished run, as they are trained."""
    like = jax.eval_shape(model.init, jax.random.key(0))
    return checkpoints.read_parameters(workdir / "parameters.npz", like)


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

    def initial(params, key, indices):
        del params
        x = jax.random.uniform(key, (len(indices), pixels))
        return devices.spread(mesh, {"x": x, "y": jnp.asarray(labels)[indices]})

    return initial


def from_images(labels: np.ndarray, x: np.ndarray, mesh: Mesh | None) -> Callable:
    """Return where chains of these classes start: images, one a chain."""

    def initial(params, key, indices):
        del params, key
        start = {"x": jnp.asarray(x)[indices], "y": jnp.asarray(labels)[indices]}
        return devices.spread(mesh, start)

    return initial


def chains_of(sampler: str, step_size: float) -> MakeSampler:
    """Return the chains of a name: "mala", exact, or "baoab", biased, which have velocities.

    Those get further in as many steps. The time of one is the root of 1.25 ``step_size``: MALA
    refuses where too long a step leads, they would diverge.
    """
    if sampler == "baoab":
        time = math.sqrt(1.25 * step_size)
        return functools.partial(samplers.baoab, step_size=time, friction=FRICTION)

    def mala(energy: Energy, beta: Any = 1.0) -> Sampler:
        # While beta rises the steps do: the noise of hot chains is that of cold ones.
        step: Any = (lambda number: step_size * beta(number)) if callable(beta) else step_size
        return samplers.mala(energy, step_size=step, beta=beta)

    return mala


Terms = dict[str, tuple[float, Objective, Callable]]  # name: weight, objective, its batch


def discriminative(model: Model, loss: Callable) -> Terms:
    """Return a loss over the classes, of ``batch["labelled"]``, (x, y)."""
    term = objectives.discriminative(model.classes, loss)
    return {"discriminative": (1.0, term, lambda batch: batch["labelled"])}


def matching(model: Model, *, weight: float, denoising_weight: float, noise: float) -> Terms:
    """Return flow matching, of ``batch["flow"]``, and denoising score matching, of "clean".

    Where noise is as large as that of the data modelled, both want nearly one field; the flow
    alone leads there from afar, and score matching alone makes the energy there that of a Gibbs
    distribution.
    """
    flow = objectives.flow_matching(flow_energy(model))
    terms: Terms = {"matching": (weight, flow, lambda batch: batch["flow"])}
    if denoising_weight:  # or it would be differentiated for nothing
        denoising = objectives.denoising_score_matching(model.joint, noise)
        terms["denoising"] = (denoising_weight, denoising, lambda batch: batch["clean"])
    return terms


def likelihood(
    model: Model,
    *,
    initial: Callable,
    weight: float,
    chains: MakeSampler,
    langevin_steps: int,
    num_chains: int,
    buffer_size: int,
    restart_fraction: float,
    groups: int,
) -> Terms:
    """Return the likelihood of ``batch["configuration"]``, {"x", "y"}, by persistent chains."""

    term = objectives.persistent(
        model.joint,
        chains,
        num_steps=langevin_steps,
        num_chains=num_chains,
        buffer_size=buffer_size,
        initial=initial,
        restart_fraction=restart_fraction,
        burn_in=25,
        groups=groups,
    )
    return {"generative": (weight, term, lambda batch: batch["configuration"])}


def trained(model: Model, terms: Terms) -> Objective:
    """Return the weighted sum of terms, as an objective of what is trained."""
    summed = objectives.weighted_sum(**terms)
    return Objective(
        lambda params, key: summed.init(model.dense(params), key),
        lambda params, *rest: summed.loss(model.dense(params), *rest),
    )
