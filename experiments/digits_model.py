"""The energy of ``digits``: its network, its objective and how samples are drawn from it."""

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
from ebm_jax.energies.networks import JointMLP
from ebm_jax.samplers import chains, langevin, schedules
from ebm_jax.types import Objective
from experiments import checkpoints, data, devices, runs


class Model(NamedTuple):
    """The energies of one run: F(x, .) over the classes, and E of a configuration (x, y)."""

    network: JointMLP
    reference: Gaussian  # what is below the network
    classes: Callable  # (params, x) -> (n,)
    joint: Callable  # (params, {"x", "y"}) -> ()


def make_model(train_x: np.ndarray, num_classes: int, hidden: int, noise: float) -> Model:
    """Return a network on top of the Gaussian energy of independent pixels.

    The Gaussian bounds the energy from below, and makes noise an outlier from the first step.
    """
    network = JointMLP((hidden, hidden), num_classes)
    mean = jnp.asarray(train_x.mean(0))
    precision = jnp.asarray(1 / (train_x.var(0) + noise**2))
    reference = Gaussian(mean, precision)

    def classes(params, x):
        return network.apply(params, 4 * (x - 0.5)) + ebm_jax.energies.gaussian(reference, x)

    def joint(params, configuration):
        return classes(params, configuration["x"])[configuration["y"]]

    return Model(network, reference, classes, joint)


class Prepared(NamedTuple):
    """What the flags of a run make of the data: its split, its classes, and an untrained model."""

    split: data.Split
    unseen: dict[str, np.ndarray]  # the images of the digit held out, if any
    digits: list[int]
    model: Model


def prepare(hold_out_class: int, hidden: int, noise: float) -> Prepared:
    """Return the data without the class held out (-1 for none), and the model of it."""
    split, unseen = data.digits(), {}
    digits = [d for d in range(10) if d != hold_out_class]
    if hold_out_class >= 0:
        split, unseen["held_out"] = data.hold_out(split, hold_out_class)
    return Prepared(split, unseen, digits, make_model(split.train_x, len(digits), hidden, noise))


def load(workdir: Path | str) -> tuple[Callable, Any, Prepared, dict[str, str]]:
    """Return (energy, params, prepared, flags) of a finished run of ``digits``.

    energy(params, {"x", "y"}) -> (), x (64,) in [0, 1] and y the number of a class in
    ``prepared.digits``; the parameters are the averaged ones.
    """
    workdir = Path(workdir)
    given = runs.flags_of(workdir)
    try:
        prepared = prepare(
            int(given["hold_out_class"]), int(given["hidden"]), float(given["data_noise"])
        )
    except KeyError as error:
        raise runs.UsageError(f"{workdir} is no run of digits: it has no flag {error}.") from None
    like = jax.eval_shape(prepared.model.network.init, jax.random.key(0), jnp.zeros(64))
    params = checkpoints.read_parameters(workdir / "parameters.npz", like)
    return prepared.model.joint, params, prepared, given


def from_noise(train_y: np.ndarray, capacity: int, mesh: Mesh | None) -> Callable:
    """Return where chains start: uniform noise, and classes in the proportions of the data.

    Were the proportions others, F(., y) would drift: no chain ever leaves its class.
    """
    quantiles = (np.arange(capacity) + 0.5) / capacity * len(train_y)
    classes = jnp.asarray(np.sort(train_y)[quantiles.astype(int)])

    def initial(params, key, slots):
        del params
        start = {"x": jax.random.uniform(key, (len(slots), 64)), "y": classes[slots]}
        return devices.spread(mesh, start)

    return initial


def make_objective(
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
        return langevin.mala(functools.partial(model.joint, params), step_size=step_size)

    generative = objectives.persistent(
        model.joint,
        make_sampler,
        num_steps=langevin_steps,
        num_chains=num_chains,
        capacity=capacity,
        initial=initial,
        restart_fraction=restart_fraction,
        burn_in=25,
        groups=groups,
    )
    discriminative = objectives.discriminative(model.classes, loss)
    return objectives.weighted_sum(
        discriminative=(1.0, discriminative, lambda batch: batch["labelled"]),
        generative=(generative_weight, generative, lambda batch: batch["configuration"]),
    )


class Samples(NamedTuple):
    """Images (n, 64) with their classes (n,), and the way to them from noise (frames, n, 64)."""

    images: np.ndarray
    labels: np.ndarray
    film: np.ndarray
    num_steps: int
    beta: float


def generate(
    key,
    energy: Callable,
    labels: np.ndarray,
    *,
    num_steps: int,
    step_size: float,
    beta: float,
    noise: float,
) -> Samples:
    """Draw images of the given classes from noise, of an energy of {"x", "y"}.

    MALA on F(., y), beta rising tenfold to ``beta`` over the first half of the run; its steps
    are a multiple of 10. Film and samples are denoised: the data were noisy too.
    """
    rising = schedules.geometric(0.1 * beta, beta, num_steps // 2)
    sampler = langevin.mala(energy, step_size=lambda step: step_size * rising(step), beta=rising)

    def denoise(position):
        return jnp.clip(inference.denoise(energy, position, noise=noise)["x"], 0, 1)

    @ebm_jax.jit
    def sample(key):
        start_key, run_key = jax.random.split(key)
        start = {"x": jax.random.uniform(start_key, (len(labels), 64)), "y": jnp.asarray(labels)}
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
    return Samples(np.asarray(images), labels, np.asarray(film), num_steps, beta)
