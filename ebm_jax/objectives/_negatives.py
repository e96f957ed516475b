"""Functions that the objectives with sampled negatives share."""

from typing import Any

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax._trees import finite_chains, info_fields
from ebm_jax.objectives.perturbations import Perturbation
from ebm_jax.samplers import running
from ebm_jax.types import Array, Energy, Key, MakeSampler, Metrics, Params, Position, Sampler


def run(key: Key, sampler: Sampler, state: Any, num_steps: int) -> tuple[Any, Metrics]:
    """Run the chains; return their last state, a constant, and means of their info.

    Sums over steps are kept per chain: a mean at every step would make the devices that share the
    chains wait for each other.
    """

    def one(key, state):
        state, info = sampler.step(key, state)
        return state, info_fields(info)

    def step(key, carry):
        state, now = one(key, carry[0])
        return (state, jax.tree.map(jnp.add, carry[1], now)), None

    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(one, key, state)[1])
    adding = Sampler(sampler.init, step)
    (state, sums), _ = running.run(key, adding, (state, zero), num_steps)
    means = jax.tree.map(lambda total: jnp.mean(total) / num_steps, sums)
    return jax.lax.stop_gradient((state, means))


def contrast(
    energy: Energy,
    params: Params,
    positives: Position,
    negatives: Position,
    penalty: float,
    ready: Array | bool = True,
) -> tuple[Array, Metrics]:
    r"""Return the contrast of energies of data and of chains, with an energy penalty.

    .. math:: \operatorname{mean} E(x^+) - \operatorname{mean} E(x^-)
        + a \left( \operatorname{mean} E(x^+)^2 + \operatorname{mean} E(x^-)^2 \right)

    Only chains that are ready and finite count. If there are none, the result is 0 / 0 = NaN, which
    training skips.
    """

    def energies(name: str, x: Position) -> Array:
        return _checks.energies(lambda one: energy(params, one), x, name)

    _same_kinds(positives, negatives)
    alive = finite_chains(negatives)
    counted = alive & ready
    # A NaN configuration would make the gradient NaN even with weight zero.
    stand_in = jax.tree.map(lambda n: jnp.where(jnp.isfinite(n), n, jnp.zeros_like(n)), negatives)
    pair = energies("batch", positives), energies("chains", stand_in)
    # Sums over many chains need more than half precision.
    positive, negative = (e.astype(jnp.promote_types(e.dtype, jnp.float32)) for e in pair)

    def mean_negative(values):
        return jnp.sum(jnp.where(counted, values, 0.0)) / jnp.sum(counted, dtype=values.dtype)

    gap = mean_negative(negative) - jnp.mean(positive)
    value = -gap
    if penalty:
        value += penalty * (jnp.mean(positive**2) + mean_negative(negative**2))
    metrics = {
        "loss": value,
        "energy_positive": jnp.mean(positive),
        "energy_negative": mean_negative(negative),
        "energy_gap": gap,
        "chains_nonfinite": jnp.mean(~alive, dtype=jnp.float32),
        "chains_ready": jnp.mean(counted, dtype=jnp.float32),
    }
    return value, metrics


def _same_kinds(batch: Position, chains: Position) -> None:
    """Reject batches unlike the chains, such as integers where these are floats.

    The data would have energies of another scale than the chains.
    """
    _checks.leading_axis("batch", batch)
    if jax.tree.structure(batch) != jax.tree.structure(chains):
        raise ValueError(
            "batch must have the structure of the chains' positions, "
            f"{jax.tree.structure(chains)}, got {jax.tree.structure(batch)}."
        )
    for data, chain in zip(*map(jax.tree.leaves, (batch, chains)), strict=True):
        kinds = [jnp.issubdtype(jnp.result_type(leaf), jnp.floating) for leaf in (data, chain)]
        if kinds == [False, True]:
            raise TypeError(
                f"batch must be floating point where the chains are, got {data.dtype}: "
                "images / 255, say."
            )


def check(energy: Energy, make_sampler: MakeSampler, num_steps: int, penalty: float) -> None:
    """Check the arguments that the three objectives share."""
    _checks.function("energy", energy)
    _checks.function("make_sampler", make_sampler)
    _checks.count("num_steps", num_steps)
    _checks.weight("energy_penalty", penalty)


def bind(make_sampler: MakeSampler, energy: Energy, params: Params) -> Sampler:
    """Return the sampler for ``energy`` at these parameters."""
    bound = jax.tree_util.Partial(energy, params)
    return _checks.sampler("What make_sampler returns", make_sampler(bound))


def means(positive: Array, negative: Array) -> Metrics:
    """Return metrics of the energies of data and of negatives."""
    low, high = jnp.mean(positive), jnp.mean(negative)
    return {"energy_positive": low, "energy_negative": high, "energy_gap": high - low}


def perturbed(perturb: Perturbation, key: Key, positions: Position) -> Position:
    """Validate and return perturbed positions, constants."""
    found = perturb(key, positions)
    _checks.alike("What perturb returns", found, positions)
    return jax.lax.stop_gradient(found)
