"""How ``images`` draws from its energy: images of a class from noise, and completions of images.

Chains of a model whose gradient carries noise to images start where it carries them; those of
others start in uniform noise and cool.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import inference, samplers
from ebm_jax.energies.networks import free_energy
from ebm_jax.samplers import schedules
from ebm_jax.types import Array, Energy, Key, MakeSampler, Params, Sampler
from experiments.images import flow
from experiments.images.network import Model


def guided(model: Model, params: Params, guidance: float) -> Energy:
    """Return the energy of {"x", "y"} whose images are surer of their class.

        F(x, y) - (w - 1) log P(y | x):  p(x) P(y | x)^w instead of p(x) P(y | x)

    Energies may be infinite: where F(x, y) is, so is the guided energy, for any w > 0.
    Source: Dhariwal and Nichol (2021), Diffusion models beat GANs on image synthesis, 4.3, with
    the classifier that the energy itself is.
    """

    def energy(configuration):
        energies = model.classes(params, configuration["x"])
        own = energies[configuration["y"]]
        if guidance == 0:
            return ebm_jax.gibbs.free_energy(energies)
        if guidance == 1:
            return own  # 0 log P would be NaN where P = 0
        log_p = ebm_jax.gibbs.log_probs(energies)[configuration["y"]]
        return jnp.where(jnp.isinf(own), own, own - (guidance - 1) * log_p)

    return energy


def flow_to(
    key: Key, model: Model, params: Params, labels: np.ndarray, guidance: float
) -> tuple[Array, Array]:
    """Return images of the given classes drawn by the flow, and intermediate images."""
    energy = guided(model, params, guidance)

    def of_class(x, y):
        return energy({"x": x, "y": y})

    blank = jnp.zeros((len(labels), len(model.reference.mean)))
    return flow.carry(key, of_class, blank, jnp.ones(blank.shape[1], bool), jnp.asarray(labels))


def starts(key: Key, model: Model, params: Params, labels: np.ndarray, noise: float) -> np.ndarray:
    """Return images of the given classes with noise, as the energy models them."""

    @ebm_jax.jit
    def draw(key, params):
        flow_key, noise_key = jax.random.split(key)
        x, _ = flow_to(flow_key, model, params, labels, 1.0)
        return x + noise * jax.random.normal(noise_key, x.shape)

    return np.asarray(draw(key, params))


class Samples(NamedTuple):
    """Images (n, pixels) with their classes (n,), and the way from noise (frames, n, pixels)."""

    images: np.ndarray
    labels: np.ndarray
    film: np.ndarray
    sample_steps: int
    sample_beta: float
    guidance: float


def generate(
    key: Key,
    model: Model,
    params: Params,
    labels: np.ndarray,
    *,
    make_sampler: MakeSampler,
    sample_steps: int,
    sample_beta: float,
    guidance: float,
    data_noise: float,
) -> Samples:
    """Draw images of the given classes from noise: chains on F(., y), guided.

    Its steps are a multiple of 10. Film and samples are denoised: the data were noisy too.
    """

    @ebm_jax.jit
    def sample(key, params):
        energy = guided(model, params, guidance)

        def denoise(position):
            return jnp.clip(inference.denoise(energy, position, sigma=data_noise)["x"], 0, 1)

        start_key, run_key = jax.random.split(key)
        y = jnp.asarray(labels)
        if model.flows:
            flow_key, noise_key = jax.random.split(start_key)
            x, before = flow_to(flow_key, model, params, labels, guidance)
            x, before = (
                x + data_noise * jax.random.normal(noise_key, x.shape),
                jnp.clip(before, 0, 1),
            )
        else:
            x = jax.random.uniform(start_key, (len(labels), len(model.reference.mean)))
            before = x[None]
        sampler = _chains(model, make_sampler, energy, sample_steps, sample_beta)
        state, film = samplers.run(
            run_key,
            sampler,
            sampler.init({"x": x, "y": y}),
            sample_steps,
            collect=lambda state, info: denoise(state.position),
            thin=sample_steps // math.gcd(sample_steps, 40),
        )
        return denoise(state.position), jnp.concatenate([before, film])

    images, film = sample(key, params)
    return Samples(
        np.asarray(images), labels, np.asarray(film), sample_steps, sample_beta, guidance
    )


def _chains(
    model: Model, make_sampler: MakeSampler, energy: Energy, sample_steps: int, sample_beta: float
) -> Sampler:
    """Return how chains move; of those from noise, beta rises tenfold over half of the steps."""
    if model.flows:
        return make_sampler(energy, beta=sample_beta)
    return make_sampler(
        energy, beta=schedules.geometric(0.1 * sample_beta, sample_beta, sample_steps // 2)
    )


def inpaint(
    key: Key,
    model: Model,
    params: Params,
    x: np.ndarray,
    hidden: np.ndarray,
    repeats: int,
    *,
    make_sampler: MakeSampler,
    sample_steps: int,
    sample_beta: float,
    data_noise: float,
) -> np.ndarray:
    """Return images (n, repeats, pixels) with newly drawn hidden pixels, from all classes.

    Chains on the free energy F(x) move the hidden pixels alone, from noise; a chain carries the
    number of its image, so that each is conditioned on what is known of its own.

    Args:
        x: (n, pixels); what the energy models of the known pixels has noise, as the data had.
        hidden: (pixels,), true where a pixel is not known.
    """
    free, of_x = np.flatnonzero(hidden), free_energy(model.classes)
    image = np.repeat(np.arange(len(x)), repeats)

    @ebm_jax.jit
    def draw(key, params):
        known_key, start_key, run_key = jax.random.split(key, 3)
        clean = jnp.asarray(x)[image]
        known = jnp.asarray(x) + data_noise * jax.random.normal(known_key, x.shape)

        def energy(position):
            return of_x(params, known[position["image"]].at[free].set(position["free"]))

        if model.flows:
            flow_key, noise_key = jax.random.split(start_key)
            carried, _ = flow.carry(flow_key, lambda x, _: of_x(params, x), clean, hidden, image)
            start = carried[:, free]
            start = start + data_noise * jax.random.normal(noise_key, start.shape)
        else:
            start = jax.random.uniform(start_key, (len(image), len(free)))
        sampler = _chains(model, make_sampler, energy, sample_steps, sample_beta)
        position = {"free": start, "image": jnp.asarray(image)}
        state, _ = samplers.run(run_key, sampler, sampler.init(position), sample_steps)
        drawn = inference.denoise(energy, state.position, sigma=data_noise)["free"]
        return clean.at[:, free].set(jnp.clip(drawn, 0, 1))

    return np.asarray(draw(key, params)).reshape(len(x), repeats, -1)
