"""The energy of ``digits``: its network, its chains and how samples are drawn from it."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import losses
from ebm_jax.energies.networks import JointMLP
from ebm_jax.samplers import chains, langevin


class Model(NamedTuple):
    """The energies of one run: F(x, .) over the classes, and E of a configuration (x, y)."""

    network: JointMLP
    classes: Callable  # (params, x) -> (n,)
    joint: Callable  # (params, {"x", "y"}) -> ()
    free: Callable  # (params, x) -> ()


def make_model(train_x: np.ndarray, num_classes: int, hidden: int, noise: float) -> Model:
    """Return a network on top of the Gaussian energy of independent pixels.

    The Gaussian bounds the energy from below, and makes noise an outlier from the first step.
    """
    network = JointMLP((hidden, hidden), num_classes)
    mean = jnp.asarray(train_x.mean(0))
    precision = jnp.asarray(1 / (train_x.var(0) + noise**2))
    reference = ebm_jax.energies.Gaussian(mean, precision)

    def classes(params, x):
        return network.apply(params, 4 * (x - 0.5)) + ebm_jax.energies.gaussian(reference, x)

    def joint(params, configuration):
        return classes(params, configuration["x"])[configuration["y"]]

    return Model(network, classes, joint, ebm_jax.networks.free_energy(classes))


def make_loss(name: str, margin: float) -> Callable:
    """Return a loss of the table over candidates; pairwise ones meet the most offending class."""
    loss = getattr(losses, name)
    options = {"margin", "ceiling", "gamma"} & set(inspect.signature(loss).parameters)
    loss = functools.partial(loss, **dict.fromkeys(options, margin))
    if name in losses.CANDIDATES:
        return loss
    return lambda energies, label: loss(*losses.most_offending(energies, label))


def from_noise(train_y: np.ndarray, capacity: int) -> Callable:
    """Return where chains start: uniform noise, and classes in the proportions of the data.

    Were the proportions others, F(., y) would drift: no chain ever leaves its class.
    """
    quantiles = (np.arange(capacity) + 0.5) / capacity * len(train_y)
    classes = jnp.asarray(np.sort(train_y)[quantiles.astype(int)])
    return lambda key, slots: {"x": jax.random.uniform(key, (len(slots), 64)), "y": classes[slots]}


def generate(
    key,
    model: Model,
    params,
    labels: np.ndarray,
    *,
    num_steps: int,
    step_size: float,
    beta: float,
    noise: float,
):
    """Draw images of the given classes from noise: (samples, film (frames, n, 64)).

    MALA on F(., y), beta rising tenfold to ``beta`` over the first half of the run. The
    film and the samples are denoised by Tweedie's formula, x - noise^2 grad E(x): the data were
    noisy too.
    """
    half = num_steps // 2

    def rising(step):
        return beta * 0.1 ** jnp.maximum(0.0, 1 - step / half)

    sampler = langevin.mala(
        functools.partial(model.joint, params),
        step_size=lambda step: step_size * rising(step),
        beta=rising,
    )

    def denoise(position):
        gradient = jax.vmap(
            jax.grad(lambda x, y: model.joint(params, {"x": x, "y": y})), in_axes=(0, 0)
        )(position["x"], position["y"])
        return jnp.clip(position["x"] - noise**2 * gradient, 0, 1)

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
            thin=num_steps // 10,
        )
        return denoise(state.position), jnp.concatenate([start["x"][None], film])

    return sample(key)
