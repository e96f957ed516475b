"""How ``images`` draws from its energy: images of a class from noise, and completions of images.

Chains of a model whose gradient carries noise to images start where it carries them; those of
others start in uniform noise and cool.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import inference
from ebm_jax.samplers import schedules
from ebm_jax.types import Array, Energy, Key, MakeSampler, Params, Sampler
from experiments.images import flow
from experiments.images.network import Model

DRAWS = 32  # draws of the noise in hidden pixels, when a class is drawn from the known ones

Advance = Callable[[int], None]  # told the number of further steps that all chains have made


def _silent(steps: int) -> None:
    del steps


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
    key: Key,
    model: Model,
    params: Params,
    labels: np.ndarray | Array,
    guidance: float,
    known: Array | None = None,
    hidden: np.ndarray | None = None,
) -> tuple[Array, Array]:
    """Return images of the given classes drawn by the flow, and intermediate images.

    Pixels that are not ``hidden`` become those of ``known``; without it, all pixels are drawn.
    """
    energy = guided(model, params, guidance)

    def of_class(x, y):
        return energy({"x": x, "y": y})

    if known is None:
        known = jnp.zeros((len(labels), len(model.reference.mean)))
    drawn = jnp.ones(known.shape[1], bool) if hidden is None else hidden
    return flow.carry(key, of_class, known, drawn, jnp.asarray(labels))


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
    advance: Advance = _silent,
) -> Samples:
    """Draw images of the given classes from noise: chains on F(., y), guided.

    Its steps are a multiple of 10. Film and samples are denoised: the data were noisy too.
    """

    def dynamics(params: Params) -> tuple[Energy, Sampler]:
        energy = guided(model, params, guidance)
        return energy, _chains(model, make_sampler, energy, sample_steps, sample_beta)

    @ebm_jax.jit
    def start(key, params):
        y = jnp.asarray(labels)
        if model.flows:
            flow_key, noise_key = jax.random.split(key)
            x, before = flow_to(flow_key, model, params, labels, guidance)
            x = x + data_noise * jax.random.normal(noise_key, x.shape)
            before = jnp.clip(before, 0, 1)
        else:
            x = jax.random.uniform(key, (len(labels), len(model.reference.mean)))
            before = x[None]
        return dynamics(params)[1].init({"x": x, "y": y}), before

    def denoised(params, position):
        denoised = inference.denoise(dynamics(params)[0], position, sigma=data_noise)["x"]
        return jnp.clip(denoised, 0, 1)

    start_key, run_key = jax.random.split(key)
    state, before = start(start_key, params)
    thin = sample_steps // math.gcd(sample_steps, 40)
    move = _mover(lambda params: dynamics(params)[1], denoised, thin)
    frames = [np.asarray(before)]
    for first in range(0, sample_steps, thin):
        state, frame = move(run_key, params, state, first)
        frames.append(np.asarray(frame)[None])
        advance(thin)
    film = np.concatenate(frames)
    return Samples(film[-1], labels, film, sample_steps, sample_beta, guidance)


def _mover(chains_of: Callable[[Params], Sampler], shown: Callable, count: int) -> Callable:
    """Return (key, params, state, first) -> the state after ``count`` steps, and what it shows.

    ``first`` is the number of steps made before; step t uses ``fold_in(key, t)``, as in
    ``samplers.run``.
    """

    @ebm_jax.jit
    def move(key, params, state, first):
        sampler = chains_of(params)

        def step(number, state):
            return sampler.step(jax.random.fold_in(key, first + number), state)[0]

        state = jax.lax.fori_loop(0, count, step, state)
        return state, shown(params, state.position)

    return move


def _chains(
    model: Model, make_sampler: MakeSampler, energy: Energy, sample_steps: int, sample_beta: float
) -> Sampler:
    """Return how chains move; of those from noise, beta rises tenfold over half of the steps."""
    if model.flows:
        return make_sampler(energy, beta=sample_beta)
    return make_sampler(
        energy, beta=schedules.geometric(0.1 * sample_beta, sample_beta, sample_steps // 2)
    )


def classes_of_known(
    key: Key, model: Model, params: Params, known: Array, hidden: np.ndarray
) -> Array:
    """Draw a class for every image (n, pixels) from its known pixels alone.

    The energies classify images of which a part is noise (``flow.on_the_way``), so the hidden
    pixels are noise here, and the energies are averaged over ``DRAWS`` draws of it.
    """
    noise_key, class_key = jax.random.split(key)

    def energies(key):
        noise = 0.5 + flow.NOISE * jax.random.normal(key, known.shape)
        return jax.vmap(lambda x: model.classes(params, x))(jnp.where(hidden, noise, known))

    each = jax.lax.map(energies, jax.random.split(noise_key, DRAWS))
    return jax.random.categorical(class_key, -each.mean(axis=0))


def inpaint(
    key: Key,
    model: Model,
    params: Params,
    x: np.ndarray,
    hidden: np.ndarray,
    *,
    make_sampler: MakeSampler,
    sample_steps: int,
    sample_beta: float,
    guidance: float,
    data_noise: float,
    advance: Advance = _silent,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images (n, pixels) with newly drawn hidden pixels, of classes drawn with them.

    A model with a flow draws one class for every image from the known pixels, and keeps it: the
    flow to images of this class draws the hidden pixels, and chains on F(., y), guided as in
    ``generate``, start there and move the hidden pixels alone. Without a flow, chains on the free
    energy F(x) start in noise. A chain carries the number of its image, because its energy depends
    on the known pixels of that image.

    Args:
        x: (n, pixels); noise is added to the known pixels, as it was added to the data. The hidden
            pixels are not used.
        hidden: (pixels,), true where a pixel is not known.

    Returns:
        The images, and those of the flow alone, without chains: None for models without a flow.
    """
    free = np.flatnonzero(hidden)
    known_key, start_key, run_key = jax.random.split(key, 3)
    clean = jnp.asarray(np.where(hidden, 0.5, x))
    known = clean + data_noise * jax.random.normal(known_key, x.shape)

    def dynamics(params: Params) -> tuple[Energy, Sampler]:
        of = guided(model, params, guidance if model.flows else 0.0)  # 0 for F(x)

        def energy(position):
            whole = known[position["image"]].at[free].set(position["free"])
            return of({"x": whole, "y": position["y"]})

        return energy, _chains(model, make_sampler, energy, sample_steps, sample_beta)

    @ebm_jax.jit
    def start(key, params):
        carried, y = None, jnp.zeros(len(x), int)
        if model.flows:
            class_key, flow_key, noise_key = jax.random.split(key, 3)
            y = classes_of_known(class_key, model, params, clean, hidden)
            carried, _ = flow_to(flow_key, model, params, y, guidance, clean, hidden)
            first = carried[:, free]
            first = first + data_noise * jax.random.normal(noise_key, first.shape)
        else:
            first = jax.random.uniform(key, (len(x), len(free)))
        position = {"free": first, "image": jnp.arange(len(x)), "y": y}
        return dynamics(params)[1].init(position), carried

    def denoised(params, position):
        drawn = inference.denoise(dynamics(params)[0], position, sigma=data_noise)["free"]
        return clean.at[:, free].set(jnp.clip(drawn, 0, 1))

    state, carried = start(start_key, params)
    each = sample_steps // 10
    move = _mover(lambda params: dynamics(params)[1], denoised, each)
    completed = clean
    for before in range(0, sample_steps, each):
        state, completed = move(run_key, params, state, before)
        jax.block_until_ready(completed)
        advance(each)
    return np.asarray(completed), None if carried is None else np.clip(carried, 0, 1)
