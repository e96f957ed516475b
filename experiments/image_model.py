"""The energy of ``images``: its network, its objectives, and how samples are drawn from it."""

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import ebm_jax
from ebm_jax import inference, objectives
from ebm_jax.energies import Gaussian
from ebm_jax.energies.networks import JointMLP, free_energy
from ebm_jax.samplers import chains, langevin, schedules
from ebm_jax.types import Array, Energy, Key, Objective, Params, Sampler
from experiments import checkpoints, devices, image_data, runs
from experiments.image_data import Images

FLOW_NOISE = 0.5  # standard deviation of the grey levels that the flow starts from, about 1/2
FLOW_SCALE = 0.3  # the flow's potential is so much of the energy
FLOW_STEPS = 100  # of descent, from noise to images
KERNEL = 3  # pixels across, of a convolution


class Model(NamedTuple):
    """The energies of one run: F(x, .) over the classes, and E of a configuration (x, y).

    Energies are those of ``dense(params)``, made once for many steps of a sampler; ``params`` are
    what is trained, and kept.
    """

    network: JointMLP
    reference: Gaussian  # what is below the network
    classes: Callable  # (dense params, x) -> (n,)
    joint: Callable  # (dense params, {"x", "y"}) -> ()
    init: Callable  # key -> params
    dense: Callable  # params -> those of the network


def make_model(
    train_x: np.ndarray,
    shape: tuple[int, ...],
    num_classes: int,
    hidden: int,
    noise: float,
    *,
    channels: int = 0,
    precision: str = "float32",
    scale: float = 1.0,
) -> Model:
    """Return a network, times a scale, on top of the Gaussian energy of independent pixels.

    The first of the two hidden layers is a convolution of ``channels``, or dense. The Gaussian
    bounds the energy from below, and makes noise an outlier from the first step.
    """
    first = hidden
    if channels:
        first = channels * math.prod(side - KERNEL + 1 for side in shape[:2])
    network = JointMLP((first, hidden), num_classes, dtype=jnp.dtype(precision))

    def init(key):
        params = network.init(key, jnp.zeros(math.prod(shape)))
        if not channels:
            return params
        taps = (KERNEL, KERNEL, math.prod(shape[2:]), channels)
        kernel = jax.nn.initializers.lecun_normal()(jax.random.fold_in(key, 1), taps)
        return _with_first(params, {"kernel": kernel, "bias": jnp.zeros(channels)})

    def dense(params):
        return _with_first(params, _as_dense(_first(params), shape)) if channels else params

    mean = jnp.asarray(train_x.mean(0))
    precision_of_pixels = jnp.asarray(1 / (train_x.var(0) + noise**2))
    reference = Gaussian(mean, precision_of_pixels)

    def classes(params, x):
        found = scale * network.apply(params, 4 * (x - 0.5))
        return found + ebm_jax.energies.gaussian(reference, x)

    def joint(params, configuration):
        return classes(params, configuration["x"])[configuration["y"]]

    return Model(network, reference, classes, joint, init, dense)


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
    channels: int,
    precision: str,
    generative: str,
) -> Prepared:
    """Return the data without the class held out (-1 for none), and the model of it."""
    # The weights that a flow needs are reached soonest where its potential is the network.
    scale = 1 / FLOW_SCALE if generative == "energy_matching" else 1.0
    images, unseen = image_data.hold_out(images, hold_out_class)
    model = make_model(
        images.split.train_x,
        images.shape,
        len(images.classes),
        hidden,
        noise,
        channels=channels,
        precision=precision,
        scale=scale,
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
            channels=int(given["channels"]),
            precision=given["precision"],
            generative=given["generative"],
        )
    except KeyError as error:
        raise runs.UsageError(f"{workdir} is no run of images: it has no flag {error}.") from None
    model = prepared.model
    like = jax.eval_shape(model.init, jax.random.key(0))
    params = checkpoints.read_parameters(workdir / "parameters.npz", like)
    return model.joint, model.dense(params), prepared, given


def flow_energy(model: Model) -> Energy:
    """Return the potential of the flow from N(0, I) to images: of {"z", "y"}.

    z = (x - 1/2) / FLOW_NOISE
    """

    def energy(params, configuration):
        x = 0.5 + FLOW_NOISE * configuration["z"]
        return FLOW_SCALE * model.joint(params, {"x": x, "y": configuration["y"]})

    return energy


def flow_batch(x: np.ndarray, y: np.ndarray) -> dict[str, np.ndarray]:
    """Return images as the flow sees them."""
    return {"z": (x - 0.5) / FLOW_NOISE, "y": y}


def flow(key: Key, model: Model, params: Params, labels: np.ndarray, noise: float) -> np.ndarray:
    """Return images of the classes given, as the energy models them: descended to from noise.

    The gradient of the potential carries noise to images in one unit of time.
    """

    @ebm_jax.jit
    def descend(key: Key, params: Params, labels: Array) -> Array:
        potential = functools.partial(flow_energy(model), params)
        sampler = langevin.ula(potential, step_size=1 / FLOW_STEPS, beta=jnp.inf)
        start_key, run_key, noise_key = jax.random.split(key, 3)
        z = jax.random.normal(start_key, (len(labels), len(model.reference.mean)))
        state, _ = chains.run(run_key, sampler, sampler.init({"z": z, "y": labels}), FLOW_STEPS)
        x = 0.5 + FLOW_NOISE * state.position["z"]
        return x + noise * jax.random.normal(noise_key, x.shape)

    return np.asarray(descend(key, params, jnp.asarray(labels)))


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


def flow_objective(
    model: Model, loss: Callable, *, weight: float, denoising_weight: float, noise: float
) -> Objective:
    """Return a loss over the classes, plus flow matching, plus denoising score matching.

    Where noise is as large as that of the data modelled, both want nearly one field; the flow
    alone leads there from afar, and score matching alone makes the energy there that of a Gibbs
    distribution. Batches are {"labelled": (x, y), "flow": {"z", "y"}, "clean": {"x", "y"}}.
    """
    matching = objectives.flow_matching(_of_params(model, flow_energy(model)))
    terms = {
        "discriminative": (1.0, _discriminative(model, loss), _labelled),
        "generative": (weight, matching, lambda batch: batch["flow"]),
    }
    if denoising_weight:  # or it would be differentiated for nothing
        denoising = objectives.denoising_score_matching(_of_params(model, model.joint), noise)
        terms["denoising"] = (denoising_weight, denoising, lambda batch: batch["clean"])
    return objectives.weighted_sum(**terms)


def _labelled(batch):
    return batch["labelled"]


def _of_params(model: Model, energy: Callable) -> Callable:
    """Return an energy of dense parameters as one of those trained."""
    return lambda params, x: energy(model.dense(params), x)


def _discriminative(model: Model, loss: Callable) -> Objective:
    return objectives.discriminative(_of_params(model, model.classes), loss)


def discriminative_objective(model: Model, loss: Callable) -> Objective:
    """Return a loss over the classes alone; batches are {"labelled": (x, y)}."""
    return objectives.weighted_sum(discriminative=(1.0, _discriminative(model, loss), _labelled))


def chains_objective(
    model: Model,
    loss: Callable,
    *,
    initial: Callable,
    generative_weight: float,
    step_size: float,
    langevin_steps: int,
    num_chains: int,
    capacity: int,
    restart_fraction: float,
    groups: int,
) -> Objective:
    """Return a loss over the classes plus the likelihood of (image, class) by persistent chains.

    Batches are {"labelled": (x, y), "configuration": {"x", "y"}}.
    """

    def make_sampler(params):
        energy = functools.partial(model.joint, model.dense(params))
        return langevin.mala(energy, step_size=step_size)

    generative = objectives.persistent(
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
    return objectives.weighted_sum(
        discriminative=(1.0, _discriminative(model, loss), _labelled),
        generative=(generative_weight, generative, lambda batch: batch["configuration"]),
    )


def guided(model: Model, params: Params, guidance: float) -> Energy:
    """Return the energy of {"x", "y"} whose images are surer of their class.

        F(x, y) - (w - 1) log P(y | x):  p(x) P(y | x)^w instead of p(x) P(y | x)

    Source: Dhariwal and Nichol (2021), Diffusion models beat GANs on image synthesis, 4.3, with
    the classifier that the energy itself is.
    """

    def energy(configuration):
        energies = model.classes(params, configuration["x"])
        sure = jax.nn.log_softmax(-energies)
        return (energies - (guidance - 1) * sure)[configuration["y"]]

    return energy


class Samples(NamedTuple):
    """Images (n, pixels) with their classes (n,), and the way from noise (frames, n, pixels)."""

    images: np.ndarray
    labels: np.ndarray
    film: np.ndarray
    num_steps: int
    beta: float
    guidance: float


def generate(
    key: Key,
    model: Model,
    params: Params,
    labels: np.ndarray,
    *,
    num_steps: int,
    step_size: float,
    beta: float,
    guidance: float,
    noise: float,
) -> Samples:
    """Draw images of the given classes from noise.

    MALA on F(., y), guided, beta rising tenfold to ``beta`` over the first half of the run; its
    steps are a multiple of 10. Film and samples are denoised: the data were noisy too.
    """
    energy = guided(model, params, guidance)
    sampler = _annealed(energy, num_steps, step_size, beta)

    def denoise(position):
        return jnp.clip(inference.denoise(energy, position, noise=noise)["x"], 0, 1)

    @ebm_jax.jit
    def sample(key):
        start_key, run_key = jax.random.split(key)
        start = {
            "x": jax.random.uniform(start_key, (len(labels), len(model.reference.mean))),
            "y": jnp.asarray(labels),
        }
        state, film = chains.run(
            run_key,
            sampler,
            sampler.init(start),
            num_steps,
            collect=lambda state, info: denoise(state.position),
            thin=num_steps // math.gcd(num_steps, 40),
        )
        return denoise(state.position), jnp.concatenate([start["x"][None], film])

    images, film = sample(key)
    return Samples(np.asarray(images), labels, np.asarray(film), num_steps, beta, guidance)


def _annealed(energy: Energy, num_steps: int, step_size: float, beta: float) -> Sampler:
    """Return MALA whose beta rises tenfold over the first half of the steps."""
    rising = schedules.geometric(0.1 * beta, beta, num_steps // 2)
    return langevin.mala(energy, step_size=lambda step: step_size * rising(step), beta=rising)


def inpaint(
    key: Key,
    model: Model,
    params: Params,
    x: np.ndarray,
    hidden: np.ndarray,
    repeats: int,
    *,
    num_steps: int,
    step_size: float,
    beta: float,
    noise: float,
) -> np.ndarray:
    """Return images (n, repeats, pixels) whose hidden pixels were drawn anew, of any class.

    Chains on the free energy F(x) move the hidden pixels alone, from noise; a chain carries the
    number of its image, so that each is conditioned on what is known of its own.

    Args:
        x: (n, pixels); what the energy models of the known pixels has noise, as the data had.
        hidden: (pixels,), true where a pixel is not known.
    """
    free, of_x = np.flatnonzero(hidden), free_energy(model.classes)
    known_key, start_key, run_key = jax.random.split(key, 3)
    known = jnp.asarray(x) + noise * jax.random.normal(known_key, x.shape)
    image = jnp.repeat(jnp.arange(len(x)), repeats)

    def energy(position):
        return of_x(params, known[position["image"]].at[free].set(position["free"]))

    sampler = _annealed(energy, num_steps, step_size, beta)

    @ebm_jax.jit
    def draw(start_key, run_key):
        start = {"free": jax.random.uniform(start_key, (len(image), len(free))), "image": image}
        state, _ = chains.run(run_key, sampler, sampler.init(start), num_steps)
        drawn = inference.denoise(energy, state.position, noise=noise)["free"]
        return jnp.asarray(x)[image].at[:, free].set(jnp.clip(drawn, 0, 1))

    return np.asarray(draw(start_key, run_key)).reshape(len(x), repeats, -1)
