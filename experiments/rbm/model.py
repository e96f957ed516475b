"""The RBM of ``rbm``: its parameters, the objectives that train it, its samples and likelihood."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

import ebm_jax
from ebm_jax import distributions, objectives, samplers
from ebm_jax.energies import boltzmann
from ebm_jax.energies.boltzmann import RBM, CategoricalRBM
from ebm_jax.partition import annealed, bridges, estimates, exact, paths, tempering
from ebm_jax.samplers import gibbs_sampling
from ebm_jax.types import Array, Distribution, Energy, Key, Objective, Sampler
from experiments import names
from experiments.rbm import centering
from experiments.rbm.centering import CenteredRBM
from experiments.run import checkpoints, command_line, devices, errors, work_directory

HOTTEST = 0.2  # inverse temperature of the hottest replicas

TEMPERED = 8  # chains of parallel tempering


def base_rates(x: np.ndarray, q: int = 2) -> np.ndarray:
    """Return the logits of the units' values over (n, visible), each value seen once more.

    Booleans, and grey values from 0 to 1, have one logit per unit, (visible,); integers are q
    categories, (visible, q).
    """
    if not np.issubdtype(x.dtype, np.integer):
        on = x.sum(0)
        return np.log((on + 1) / (len(x) - on + 1)).astype(np.float32)
    counts = (x[..., None] == np.arange(q)).sum(0)
    return np.log((counts + 1) / (len(x) + q)).astype(np.float32)


def start(key: Key, train_x: np.ndarray, hidden: int, *, centered: bool, q: int = 2) -> CenteredRBM:
    """Return an RBM of the data's base rates and almost no weights.

    Centred, the offsets are the data's means and 1/2; otherwise 0. Training leaves them. With q
    categories the visible units are indicators: (visible, q, hidden), (visible, q) and so on.
    """
    rates = base_rates(train_x, q)
    means = train_x if rates.ndim == 1 else train_x[..., None] == np.arange(q)
    weights = 0.01 * jax.random.normal(key, (*rates.shape, hidden))
    rbm = (RBM if rates.ndim == 1 else CategoricalRBM)(
        weights, jnp.asarray(rates), jnp.zeros(hidden)
    )
    offsets = jnp.asarray(means.mean(0), jnp.float32), jnp.full(hidden, 0.5)
    return centering.centered(rbm, *(o if centered else jnp.zeros_like(o) for o in offsets))


def load(workdir: Path | str) -> tuple[Callable, CenteredRBM, dict[str, str]]:
    """Return (energy, params, flags) of a finished run of ``rbm``; the parameters are averages.

    energy(params, x) -> (), the free energy of visible units x (visible,), off or on, or numbers
    of categories.
    """
    workdir = command_line.home_path(workdir)
    given = work_directory.flags_of(workdir)
    try:
        _, hidden = given["dataset"], int(given["hidden"])
    except KeyError as error:
        raise errors.UsageError(f"{workdir} is not a run of rbm: it has no flag {error}.") from None
    shapes = checkpoints.shapes(workdir / "parameters.npz")
    visible = shapes.get("visible_bias", ())
    sides = (*visible, hidden), visible, (hidden,), visible, (hidden,)
    like = jax.eval_shape(lambda: CenteredRBM(*(jnp.zeros(s, jnp.float32) for s in sides)))
    return energy, checkpoints.read_parameters(workdir / "parameters.npz", like), given


def energy(params: CenteredRBM, x: Array) -> Array:
    """Return the free energy of the visible units, the first of x."""
    rbm = centering.uncentered(params)
    x = x[: rbm.visible_bias.shape[0]]
    return boltzmann.rbm_free_energy(rbm, x)


def block_gibbs(params: CenteredRBM) -> Sampler:
    """Return block Gibbs sampling of the visible units."""
    return samplers.rbm_gibbs(centering.uncentered(params))


def tempered(params: CenteredRBM, temperatures: int) -> Sampler:
    """Return parallel tempering of all units, visible and hidden end to end.

    It is exp(-beta E(v, h)) that block Gibbs follows at beta; the free energy of v alone is not
    beta times the same function, and swapping by it would leave another distribution.
    """
    rbm = centering.uncentered(params)
    visible = rbm.visible_bias.shape[0]

    def joint(x):
        return boltzmann.rbm_energy(rbm, x[:visible], x[visible:])

    def of_both(energy: Energy, beta: Array) -> Sampler:
        del energy
        blocks = samplers.rbm_gibbs(rbm, beta=beta)

        def step(key, state):
            v_key, h_key = jax.random.split(key)
            v = gibbs_sampling.GibbsState(state.position[:, :visible])
            v, info = blocks.step(v_key, v)
            logits = jax.vmap(boltzmann.rbm_hidden_logits, (None, 0))(rbm, v.position)
            h = jax.random.bernoulli(h_key, jax.nn.sigmoid(beta * logits))
            return gibbs_sampling.GibbsState(jnp.concatenate([v.position, h], axis=1)), info

        return Sampler(gibbs_sampling.GibbsState, step, lambda state: state)

    ladder = jnp.linspace(HOTTEST, 1, temperatures)
    return samplers.replica_exchange(joint, of_both, ladder)


def exact_likelihood() -> Objective:
    """Return the negative log-likelihood, log Z by enumeration: mean F(v) + log Z."""

    def loss(params, state, batch, key):
        del key
        value = jnp.mean(jax.vmap(energy, (None, 0))(params, batch))
        value += exact.log_partition(centering.uncentered(params))
        return value, (state, {"loss": value})

    return Objective(lambda params, key: (), loss)


def make_objective(
    name: str,
    rates: np.ndarray,
    hidden: int,
    *,
    gibbs_steps: int,
    chains: int,
    temperatures: int,
    groups: int = 1,
    mesh: Mesh | None = None,
) -> Objective:
    """Return the objective of a name: ml, cd, pcd, pt; persistent chains start at the rates."""
    if name == "ml":
        return exact_likelihood()

    def make_sampler(bound: Any) -> Sampler:
        (params,) = bound.args
        return tempered(params, temperatures) if name == "pt" else block_gibbs(params)

    if name == "cd":
        return objectives.contrastive_divergence(energy, make_sampler, num_steps=gibbs_steps)
    if rates.ndim == 1:
        probabilities = jax.nn.sigmoid(jnp.asarray(rates))
        if name == "pt":
            probabilities = jnp.concatenate([probabilities, jnp.full(hidden, 0.5)])

    def initial(params, key, indices):
        del params
        if rates.ndim == 2:
            start = base_distribution(rates).sample(key, len(indices))
        else:
            start = jax.random.bernoulli(key, probabilities, (len(indices), len(probabilities)))
        return devices.spread(mesh, start)

    return objectives.persistent(
        energy,
        make_sampler,
        num_steps=gibbs_steps,
        num_chains=chains,
        buffer_size=chains,
        initial=initial,
        restart_fraction=0.0,
        groups=groups,
    )


def base_distribution(rates: np.ndarray) -> Distribution:
    """Return independent visible units with the logits of ``base_rates``."""
    if rates.ndim == 1:
        return distributions.bernoulli(rates)
    return distributions.categorical(rates, np.arange(rates.shape[1], dtype=np.int8))


@ebm_jax.jit
def mean_energy(params: CenteredRBM, x: Array) -> Array:
    """Return the mean free energy of visible units (n, visible)."""
    return jnp.mean(jax.vmap(energy, (None, 0))(params, x))


@ebm_jax.jit
def log_partition(params: CenteredRBM) -> Array:
    """Return log Z of the free energy, for at most MOST_EXACT_ONCE hidden units."""
    return exact.log_partition(centering.uncentered(params))


def sample(
    key: Key, params: CenteredRBM, x: Array | np.ndarray, num_steps: int
) -> tuple[Array, Array]:
    """Return visible units after Gibbs sweeps from x, and the means they were drawn from."""

    @ebm_jax.jit
    def run(key, params, x):
        sampler = block_gibbs(params)
        state, means = samplers.run(
            key,
            sampler,
            sampler.init(x),
            num_steps,
            collect=lambda state, info: info.visible_mean,
            thin=num_steps,
        )
        return state.position, means[0]

    return run(key, params, x)


class Bracket(NamedTuple):
    """log Z from annealing in both directions: estimates of each, the combined one, an interval.

    Its warnings say why it is not reliable.
    """

    log_z: float
    bounds: tuple[float, float]  # in expectation below and above log Z
    interval: tuple[float, float]  # holds the intervals of both directions
    effective_sample_sizes: tuple[float, float]  # of the chains, up and down
    warnings: tuple[str, ...]


def bracket(
    key: Key, params: CenteredRBM, rates: np.ndarray, ends: Array, num_betas: int
) -> Bracket:
    """Return log Z by annealing as many chains from the base rates up, and from ``ends`` down.

    The upper end holds as far as ``ends`` are samples of the RBM.
    """
    rbm, base = centering.uncentered(params), base_distribution(rates)
    path, make_sampler = paths.rbm(rbm, rates)
    betas = jnp.linspace(0, 1, num_betas)
    start_key, up_key, down_key, key = jax.random.split(key, 4)

    @ebm_jax.jit
    def anneal(up_key, down_key, first, last):
        up = annealed.start(path, make_sampler, first)
        up, _ = annealed.anneal(up_key, path, make_sampler, up, betas[1:])
        down = annealed.start(path, make_sampler, last, beta=1.0)
        down, _ = annealed.anneal(down_key, path, make_sampler, down, betas[-2:0:-1])
        return up, annealed.reweight(path, down, 0.0)

    up, down = anneal(up_key, down_key, base.sample(start_key, len(ends)), ends)
    lower, upper = estimates.bracket(key, up, down)
    best = bridges.bennett(up, down)
    bounds = float(lower.log_z), float(upper.log_z)
    low, high = map(float, estimates.hull(lower, upper))
    sizes = float(lower.effective_sample_size), float(upper.effective_sample_size)
    warnings = []
    fewest = names.FEWEST_EFFECTIVE
    if min(sizes) < fewest:
        warnings.append(
            f"The effective sample size of the annealed chains is {min(sizes):.3g}, below {fewest}."
        )
    if lower.interval[0] > upper.interval[1]:
        warnings.append("The estimates by annealing up and down contradict each other.")
    return Bracket(float(best.log_z), bounds, (low, high), sizes, tuple(warnings))


def by_tempering(
    key: Key, params: CenteredRBM, rates: np.ndarray, num_scans: int
) -> tempering.Tempering:
    """Return log Z by parallel tempering between the base rates and the RBM."""
    # Parameters on the devices of several processes cannot be used outside of compiled functions.
    rbm = jax.tree.map(np.asarray, centering.uncentered(params))
    path, make_sampler = paths.rbm(rbm, rates)
    return tempering.parallel_tempering(
        key,
        base_distribution(rates),
        jax.tree_util.Partial(boltzmann.rbm_free_energy, rbm),
        make_sampler,
        num_chains=TEMPERED,
        num_scans=num_scans,
        path=lambda base, energy: path,
    )
