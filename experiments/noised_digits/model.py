"""Energies of digits with a label and the noise level as inputs, their training, their samples."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ebm_jax
from ebm_jax import objectives, samplers, training
from ebm_jax.energies.networks import JointConv, JointMLP
from ebm_jax.types import Array, Key, Objective, Params
from experiments.data import minibatches
from experiments.run import loop, work_directory

SIDE = 8
SIGMA_MIN, SIGMA_MAX = 0.05, 4.0
AVERAGE_DECAY = 0.995
TIME_SCORE = 0.05  # weight of the time score
STEP = 0.3  # step size of MALA in units of the variance of the noise
SPECTRAL_SCALE = 30.0  # of energies whose network has slopes of at most 1
NETWORKS = ("dense", "residual", "spectral")


class Model(NamedTuple):
    """An energy(params, {"x": (64,), "y": (), "shift": (2,)}, sigma) -> (), and its start."""

    energy: Callable[[Params, Any, Array], Array]
    init: Callable[[Key], Params]


def make_model(x: np.ndarray, y: np.ndarray, network: str = "dense") -> Model:
    r"""Return the energy of images given a label, with the noise level as an input.

    .. math::
        U(x, y, \sigma) = -\log \mathcal{N}(x; m_y, C + \sigma^2 I)
        + \frac{v}{\sigma \sqrt{v + \sigma^2}} \, g_y(x, \sigma)

    with the mean of each label, the covariance C within labels, the mean variance v of a pixel, and
    a network g.
    """
    num_labels = int(y.max()) + 1
    means = np.stack([x[y == label].mean(0) for label in range(num_labels)])
    values, basis = np.linalg.eigh(np.cov(x - means[y], rowvar=False))
    values = jnp.asarray(np.maximum(values, 1e-6), jnp.float32)
    basis, centre = jnp.asarray(basis, jnp.float32), jnp.asarray(x.mean(0))
    variance, means = float(values.mean()), jnp.asarray(means)
    net = _network(network, num_labels)
    scale = SPECTRAL_SCALE if network == "spectral" else 1.0

    def seen(position, sigma: Array) -> Array:
        """Return the input of the network: the image in units of its variance, and the level."""
        log_sigma = jnp.log(sigma)
        level = jnp.stack([log_sigma / 2, jnp.sin(log_sigma), jnp.cos(log_sigma)])
        other = jnp.concatenate([level, position["shift"].astype(jnp.float32)])
        moved = position["x"] - centre
        if network == "dense":
            return jnp.concatenate([moved @ basis / jnp.sqrt(values + sigma**2), other])
        image = moved.reshape(SIDE, SIDE, 1) / jnp.sqrt(variance + sigma**2)
        planes = jnp.broadcast_to(other, (SIDE, SIDE, len(other)))
        return jnp.concatenate([image, planes], -1)

    def energy(params: Params, position, sigma: Array) -> Array:
        sigma = jnp.asarray(sigma, jnp.float32)
        total = values + sigma**2
        apart = (position["x"] - means[position["y"]]) @ basis
        gaussian = jnp.sum(apart**2 / total + jnp.log(2 * jnp.pi * total)) / 2
        weight = variance / (sigma * jnp.sqrt(variance + sigma**2))
        return gaussian + scale * weight * net.apply(params, seen(position, sigma))[position["y"]]

    def init(key: Key) -> Params:
        blank = {"x": jnp.zeros(SIDE**2), "y": 0, "shift": jnp.zeros(2, jnp.int32)}
        return net.init(key, seen(blank, jnp.ones(())))

    return Model(energy, init)


def _network(name: str, num_labels: int) -> JointMLP | JointConv:
    """Return the network of a name; one update costs about the same with each."""
    if name == "dense":
        return JointMLP((300,) * 3, num_labels)
    return JointConv(
        (8, 16),
        num_labels,
        strides=(1, 2),
        hidden=(64,),
        residual_blocks=1,
        spectral_norm=name == "spectral",
    )


def shifted(images: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Return images (n, 64) moved by up to one pixel down and right, (n, 2); the rest is 0."""
    padded = np.pad(images.reshape(-1, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    moved = np.empty((len(images), SIDE, SIDE), images.dtype)
    for down, right in np.unique(shifts, axis=0):
        which = (shifts == (down, right)).all(1)
        rows, columns = slice(1 - down, 1 - down + SIDE), slice(1 - right, 1 - right + SIDE)
        moved[which] = padded[which, rows, columns]
    return moved.reshape(len(images), -1)


def batches(x: np.ndarray, y: np.ndarray, *, batch_size: int, seed: int, augmented: float):
    """Return t -> batch t; a share of the images is shifted, and the energy is told the shift."""
    plain = minibatches.batches((x, y), batch_size=batch_size, seed=seed)

    def batch(t: int) -> dict[str, np.ndarray]:
        images, labels = plain(t)
        rng = minibatches.stream(seed, minibatches.NOISE, t)
        shifts = rng.integers(-1, 2, (len(images), 2))
        shifts[rng.random(len(images)) >= augmented] = 0
        return {"x": shifted(images, shifts), "y": labels, "shift": shifts.astype(np.int32)}

    return batch


def _objective(model: Model) -> Objective:
    return objectives.noise_conditional_score_matching(
        model.energy, sigma_min=SIGMA_MIN, sigma_max=SIGMA_MAX, time_score_weight=TIME_SCORE
    )


def train(
    run: work_directory.Run,
    name: str,
    model: Model,
    batch: loop.Batch,
    key: Key,
    *,
    steps: int,
    learning_rate: float = 2e-3,
    weight_decay: float = 0.3,
) -> Params:
    """Return the averaged parameters after denoising score matching over the levels."""
    schedule = optax.cosine_decay_schedule(learning_rate, steps)
    optimizer = optax.adamw(schedule, weight_decay=weight_decay)
    trainer = training.trainer(_objective(model), optimizer, average_decay=AVERAGE_DECAY)
    init_key, start_key, train_key = jax.random.split(key, 3)
    state, _ = loop.train(
        run,
        name,
        trainer,
        trainer.init(jax.jit(model.init)(init_key), start_key),
        batch,
        train_key,
        num_steps=steps,
        group=-(-steps // 20),
    )
    return state.average


def operations(model: Model, batch_size: int) -> float:
    """Return the number of floating-point operations of one update, as XLA counts them."""
    objective = _objective(model)
    params = jax.eval_shape(model.init, jax.random.key(0))
    labels, shifts = np.zeros(batch_size, np.int32), np.zeros((batch_size, 2), np.int32)
    batch = {"x": np.zeros((batch_size, SIDE**2), np.float32), "y": labels, "shift": shifts}
    key = jax.random.key(0)
    lowered = jax.jit(jax.grad(objective.loss, has_aux=True)).lower(params, (), batch, key)
    return float((lowered.cost_analysis() or {})["flops"])


@functools.partial(ebm_jax.jit, static_argnames=("energy", "num_levels", "num_steps"))
def sample(
    key: Key,
    energy: Callable,
    params: Any,
    y: Array,
    *,
    num_levels: int,
    num_steps: int,
    copies: float = 1.0,
) -> tuple[Array, Array]:
    """Return denoised images of labels (n, ...), and the acceptance rate at every level.

    From one level to the next the images make a step of reverse diffusion, then ``num_steps`` steps
    of MALA at the new level. A product of m energies of images has ``copies`` m: where the noise is
    large it is the Gaussian of that many observations.
    """
    start_key, key = jax.random.split(key)
    sigmas = jnp.geomspace(SIGMA_MAX, SIGMA_MIN, num_levels)
    given = {"y": y, "shift": jnp.zeros((len(y), 2), jnp.int32)}

    def score(x: Array, sigma: Array) -> Array:
        def of_one(x, other):
            return -energy(params, {"x": x} | other, sigma)

        return jax.vmap(jax.grad(of_one))(x, given)

    def down(x: Array, at: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        index, high, low = at
        noise_key, chain_key = jax.random.split(jax.random.fold_in(key, index))
        change = high**2 - low**2
        noise = jax.random.normal(noise_key, x.shape)
        x = x + change * score(x, high) + jnp.sqrt(change) * low / high * noise
        if not num_steps:
            return x, jnp.ones(())

        def at_level(position: dict[str, Array]) -> Array:
            return energy(params, position, low)

        sampler = samplers.mala(at_level, step_size=STEP * low**2 / copies)
        state, rates = samplers.run(
            chain_key,
            sampler,
            sampler.init({"x": x} | given),
            num_steps,
            collect=lambda state, info: info.acceptance_rate,
        )
        return state.position["x"], rates.mean()

    x = SIGMA_MAX / jnp.sqrt(copies) * jax.random.normal(start_key, (len(y), SIDE**2))
    x, rates = jax.lax.scan(down, x, (jnp.arange(num_levels - 1), sigmas[:-1], sigmas[1:]))
    return jnp.clip(x + SIGMA_MIN**2 / copies * score(x, sigmas[-1]), 0, 1), rates
