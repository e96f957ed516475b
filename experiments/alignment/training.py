"""The two ways to train the Potts model: pseudo-likelihood by L-BFGS, and persistent chains."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

import ebm_jax
from ebm_jax import samplers, training
from ebm_jax.energies.potts import DensePotts
from ebm_jax.training import Trainer, TrainingState
from ebm_jax.types import Array, Objective
from experiments.alignment import model


class Data(NamedTuple):
    """Blocks of sequences (blocks, n, columns) and their weights (blocks, n)."""

    letters: Array
    weights: Array


class Chains(NamedTuple):
    """The state of ``persistent``: chains (n, columns), and the data's pair frequencies."""

    positions: Array
    pairs: Array


def pseudo_likelihood(
    data: Data, *, field_penalty: float, coupling_penalty: float, tolerance: float
) -> Trainer:
    r"""Return L-BFGS for the penalised negative pseudo-log-likelihood, which is convex.

    .. math:: -\sum_n w_n \sum_i \log P(x_{ni} \mid x_{n \neg i}) + a \sum_i |h_i|^2
              + b \sum_{i < j} |J_{ij}|^2

    Updates after the gradient norm has fallen to ``tolerance`` change nothing. The batch and the
    key of an update are not used. Source: Ekeberg et al. (2013), Improved contact prediction in
    proteins: using pseudolikelihoods to infer Potts models, Physical Review E 87, 012707.

    Args:
        data: all sequences; they are a part of the state.
        field_penalty: a >= 0.
        coupling_penalty: b >= 0.
        tolerance: a gradient norm.
    """
    optimizer = optax.lbfgs()

    def init(params, key) -> TrainingState:
        del key
        params, zero = jax.tree.map(jnp.asarray, params), jnp.zeros((), jnp.int32)
        state = optimizer.init(params)
        return TrainingState(params, params, state, data, zero, zero, zero)

    def step(state: TrainingState, batch, key):
        del batch, key

        def loss(params: DensePotts) -> Array:
            penalty = model.penalty(params, field_penalty, coupling_penalty)
            return penalty + model.negative_pseudo_likelihood(params, *state.objective)

        value, gradient = optax.value_and_grad_from_state(loss)(state.params, state=state.optimizer)
        norm = optax.tree.norm(gradient)

        def move(carry):
            params, optimizer_state = carry
            updates, new = optimizer.update(
                gradient, optimizer_state, params, value=value, grad=gradient, value_fn=loss
            )
            return optax.apply_updates(params, updates), new

        finite = jnp.isfinite(value) & jnp.isfinite(norm)
        params, optimizer_state = jax.lax.cond(
            finite & (norm > tolerance), move, lambda c: c, (state.params, state.optimizer)
        )
        new = TrainingState(
            params,
            params,
            optimizer_state,
            state.objective,
            skipped_in_row=jnp.where(finite, 0, state.skipped_in_row + 1),
            skipped_total=state.skipped_total + ~finite,
            step=state.step + 1,
        )
        return new, {
            "loss_total": value,
            "gradient_norm": norm,
            "skipped": ~finite,
            "skipped_in_row": new.skipped_in_row,
            "skipped_total": new.skipped_total,
            "step": state.step,
        }

    @ebm_jax.jit
    def update(state: TrainingState, batches, key):
        return jax.lax.scan(lambda s, batch: step(s, batch, key), state, batches)

    return Trainer(init, step, update)


def persistent(
    pairs: Array,
    base: DensePotts,
    *,
    num_chains: int,
    sweeps: int,
    field_penalty: float,
    coupling_penalty: float,
) -> Objective:
    r"""Return the likelihood of the data's frequencies, its gradient from persistent chains.

    .. math:: \langle E \rangle_{\text{data}} - \langle E \rangle_{\text{chains}}
              + a \sum_i |h_i|^2 + b \sum_{i < j} |J_{ij}|^2

    The mean energies are linear in the frequencies of pairs of letters, which are all that is
    taken from the data. Source: Muntoni et al. (2021), adabmDCA: adaptive Boltzmann machine
    learning for biological sequences, BMC Bioinformatics 22.

    Args:
        pairs: the data's frequencies, (columns, q, columns, q); they are a part of the state.
        base: independent columns, which the chains start from.
        num_chains: the number of chains.
        sweeps: Gibbs sweeps of the chains for each update.
        field_penalty: a >= 0.
        coupling_penalty: b >= 0.
    """
    q = pairs.shape[1]

    def init(params, key) -> Chains:
        del params
        return Chains(model.sample(key, base, base, num_chains, 1), pairs)

    def loss(params: DensePotts, state: Chains, batch, key):
        del batch
        sampler = samplers.dense_potts_gibbs(jax.lax.stop_gradient(params))
        chains, _ = samplers.run(key, sampler, sampler.init(state.positions), sweeps)
        x = chains.position
        found = model.frequencies(x[None], jnp.ones((1, num_chains), state.pairs.dtype), q)
        value = model.mean_energy(params, state.pairs) - model.mean_energy(params, found)
        total = value + model.penalty(params, field_penalty, coupling_penalty)
        metrics = {"energy_gap": value, "pearson": model.pearson(found, state.pairs)}
        return total, (Chains(x, state.pairs), metrics)

    return Objective(init, loss)


def gradient_descent(objective: Objective, learning_rate: float, steps: int) -> Trainer:
    """Return gradient descent with momentum; the learning rate falls to zero."""
    optimizer = optax.sgd(optax.cosine_decay_schedule(learning_rate, steps), momentum=0.9)
    return training.trainer(objective, optimizer, average_decay=0.9)
