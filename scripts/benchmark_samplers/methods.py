"""The samplers that are compared: how each is made from its options, and what a step costs."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import blackjax
import jax
import jax.numpy as jnp

from ebm_jax import samplers
from ebm_jax.types import Array, Key, Position, Sampler
from scripts.benchmark_samplers.targets import Target

Settings = dict[str, Any]
NUM_REPLICAS = 6
NUM_DISCRETE_REPLICAS = 4
STEPS_PER_SWAP = 2
ADAPTATION_STEPS = 100  # transitions of the window adaptation of NUTS
ENERGY_COST = 0.5  # of an energy without its gradient, in gradients


class Option(NamedTuple):
    """An option that pilot runs choose, from a range on a logarithmic scale."""

    name: str
    low: float
    high: float
    whole: bool = False


class Cost(NamedTuple):
    """Evaluations of one chain: gradients (each with its energy) and energies without gradient."""

    gradients: Array | float
    energies: Array | float = 0.0

    @property
    def total(self) -> Array | float:
        """The cost in gradient evaluations."""
        return self.gradients + ENERGY_COST * self.energies


class Prepared(NamedTuple):
    """The chains after a warm-up of their own, its settings for each chain, and its cost."""

    position: Position
    settings: Settings
    gradients: Array  # (chains,)


class Method(NamedTuple):
    """A sampler with the options that pilot runs choose.

    Attributes:
        label: name on the page.
        options: (target) -> the options to choose.
        make: (target, settings, key) -> sampler of a batch of chains.
        cost: (settings, info) -> cost of one step of one chain, () or (chains,).
        unbiased: whether the sampler leaves the target invariant.
        prepare: (key, target, positions, settings) -> ``Prepared``, or None.
    """

    label: str
    options: Callable[[Target], tuple[Option, ...]]
    make: Callable[[Target, Settings, Key], Sampler]
    cost: Callable[[Settings, Any], Cost]
    unbiased: bool
    prepare: Callable[[Key, Target, Position, Settings], Prepared] | None = None


def one_gradient(settings: Settings, info: Any) -> Cost:
    """Return the cost of a step that evaluates one gradient."""
    del settings, info
    return Cost(1.0)


def candidates(options: tuple[Option, ...], num: int) -> list[Settings]:
    """Return quasi-random settings (a Hammersley set) in the ranges of the options.

    With one option they are evenly spaced on the logarithmic scale; without options there is one.
    """
    if not options:
        return [{}]
    found = []
    for i in range(num):
        shares = [(i + 0.5) / num, _radical_inverse(i)]
        settings = {}
        for option, share in zip(options, shares, strict=False):
            value = option.low * (option.high / option.low) ** share
            settings[option.name] = max(1, round(value)) if option.whole else value
        found.append(settings)
    return found


def _radical_inverse(number: int) -> float:
    """Return the binary digits of a number mirrored at the point, plus 1/32, in (0, 1)."""
    return int(f"{number:04b}"[::-1], 2) / 16 + 1 / 32


def _step_size(target: Target) -> tuple[Option, ...]:
    unit = target.length**2
    return (Option("step_size", 0.01 * unit, 10 * unit),)


def _discrete_step_size(target: Target) -> tuple[Option, ...]:
    unit = float(target.values[1] - target.values[0]) ** 2
    return (Option("step_size", 0.03 * unit, 10 * unit),)


def _none(target: Target) -> tuple[Option, ...]:
    del target
    return ()


def _baoab_options(target: Target) -> tuple[Option, ...]:
    unit = target.length
    return (
        Option("step_size", 0.1 * unit, 2.5 * unit),
        Option("friction", 0.02 / unit, 5 / unit),
    )


def _tempering_options(target: Target) -> tuple[Option, ...]:
    return (*_step_size(target), Option("hottest_beta", 0.01, 0.5))


def _discrete_tempering_options(target: Target) -> tuple[Option, ...]:
    del target
    return (Option("hottest_beta", 0.05, 0.7),)


def _hmc_options(target: Target) -> tuple[Option, ...]:
    unit = target.length
    steps = Option("num_integration_steps", 2, 64, whole=True)
    return (Option("step_size", 0.1 * unit, 2.5 * unit), steps)


def _mclmc_options(target: Target) -> tuple[Option, ...]:
    unit = target.length * math.sqrt(target.dimension)  # momenta of MCLMC have norm 1
    return (Option("step_size", 0.05 * unit, 2.5 * unit), Option("L", 0.5 * unit, 30 * unit))


def _nuts_options(target: Target) -> tuple[Option, ...]:
    del target
    return (Option("target_acceptance_rate", 0.6, 0.95),)


def ladder(hottest: Array | float, num: int) -> Array:
    """Return inverse temperatures in geometric progression from the hottest to 1."""
    log_hottest = jnp.log(jnp.asarray(hottest, jnp.float32))
    return jnp.exp(jnp.linspace(log_hottest, 0.0, num)).at[-1].set(1.0)


def _tempering(target: Target, settings: Settings, key: Key) -> Sampler:
    del key
    step_size = settings["step_size"]

    def make_sampler(energy, beta) -> Sampler:
        return samplers.mala(energy, step_size=step_size / beta, beta=beta)

    betas = ladder(settings["hottest_beta"], NUM_REPLICAS)
    return samplers.replica_exchange(
        target.energy, make_sampler, betas, steps_per_swap=STEPS_PER_SWAP
    )


def _tempering_cost(settings: Settings, info: Any) -> Cost:
    """Return the cost of all replicas: their steps, and the energies for the swaps."""
    del settings, info
    return Cost(float(NUM_REPLICAS * STEPS_PER_SWAP), float(NUM_REPLICAS))


def _discrete_tempering(target: Target, settings: Settings, key: Key) -> Sampler:
    """Return tempering around Gibbs; around Gibbs with gradients for an RBM.

    Block Gibbs sampling of an RBM at another temperature does not sample the tempered free energy.
    """
    del key

    def make_sampler(energy, beta) -> Sampler:
        if target.path is None and target.gibbs is not None:
            return target.gibbs(beta)
        return samplers.gibbs_with_gradients(energy, values=target.values, beta=beta)

    betas = ladder(settings["hottest_beta"], NUM_DISCRETE_REPLICAS)
    return samplers.replica_exchange(
        target.energy, make_sampler, betas, steps_per_swap=STEPS_PER_SWAP
    )


def _discrete_tempering_cost(settings: Settings, info: Any) -> Cost:
    del settings, info
    return Cost(float(NUM_DISCRETE_REPLICAS * STEPS_PER_SWAP), float(NUM_DISCRETE_REPLICAS))


def log_density(target: Target) -> Callable[[Position], Array]:
    """Return the negative energy, which blackjax takes."""
    return lambda x: -target.energy(x)


def over_chains(init: Callable, step: Callable, *per_chain: Any) -> Sampler:
    """Return blackjax's functions as a sampler of a batch; ``step(key, state, *per_chain)``."""

    def vmapped(key: Key, state: Any):
        keys = jax.random.split(key, state.logdensity.shape[0])
        return jax.vmap(step)(keys, state, *per_chain)

    return Sampler(jax.vmap(init), vmapped)


def _blackjax_mala(target: Target, settings: Settings, key: Key) -> Sampler:
    del key
    kernel = blackjax.mala(log_density(target), settings["step_size"])
    return over_chains(kernel.init, kernel.step)


def _hmc(target: Target, settings: Settings, key: Key) -> Sampler:
    del key
    kernel = blackjax.hmc(
        log_density(target),
        settings["step_size"],
        jnp.ones(target.dimension),
        settings["num_integration_steps"],
    )
    return over_chains(kernel.init, kernel.step)


def _hmc_cost(settings: Settings, info: Any) -> Cost:
    del info
    return Cost(jnp.asarray(settings["num_integration_steps"], jnp.float32))


def _mclmc(target: Target, settings: Settings, key: Key) -> Sampler:
    density = log_density(target)
    kernel = blackjax.mclmc(density, settings["L"], settings["step_size"])

    def init(positions: Position) -> Any:
        keys = jax.random.split(key, positions.shape[0])
        return jax.vmap(kernel.init)(positions, keys)

    return Sampler(init, over_chains(lambda x: x, kernel.step).step)


def _mclmc_cost(settings: Settings, info: Any) -> Cost:
    """Return the two gradients of a step of the default integrator (McLachlan)."""
    del settings, info
    return Cost(2.0)


def _adapt(key: Key, target: Target, position: Position, settings: Settings) -> Prepared:
    """Run blackjax's window adaptation of the step size and a diagonal mass, for each chain."""
    warm_up = blackjax.window_adaptation(
        blackjax.nuts,
        log_density(target),
        target_acceptance_rate=settings["target_acceptance_rate"],
        initial_step_size=target.length,
        adaptation_info_fn=lambda state, info, adaptation: info.num_integration_steps,
    )

    def one(key: Key, x: Position):
        result, leapfrogs = warm_up.run(key, x, num_steps=ADAPTATION_STEPS)
        return result.state.position, result.parameters, jnp.sum(leapfrogs)

    keys = jax.random.split(key, position.shape[0])
    position, parameters, leapfrogs = jax.vmap(one)(keys, position)
    chosen = {name: parameters[name] for name in ("step_size", "inverse_mass_matrix")}
    return Prepared(position, chosen, leapfrogs.astype(jnp.float32))


def _nuts(target: Target, settings: Settings, key: Key) -> Sampler:
    del key
    kernel, density = blackjax.nuts.build_kernel(), log_density(target)

    def step(key: Key, state: Any, step_size: Array, inverse_mass: Array):
        return kernel(key, state, density, step_size, inverse_mass)

    per_chain = settings["step_size"], settings["inverse_mass_matrix"]
    return over_chains(lambda x: blackjax.nuts.init(x, density), step, *per_chain)


def _nuts_cost(settings: Settings, info: Any) -> Cost:
    """Return the leapfrog steps that the kernel reports."""
    del settings
    return Cost(info.num_integration_steps.astype(jnp.float32))


def _langevin(constructor: Callable, target: Target, settings: Settings, key: Key) -> Sampler:
    del key
    return constructor(target.energy, **settings)


def _informed(constructor: Callable, target: Target, settings: Settings, key: Key) -> Sampler:
    del key
    return constructor(target.energy, values=target.values, **settings)


def _gibbs(target: Target, settings: Settings, key: Key) -> Sampler:
    del settings, key
    assert target.gibbs is not None
    return target.gibbs(1.0)


_ula, _mala, _baoab = (
    functools.partial(_langevin, f) for f in (samplers.ula, samplers.mala, samplers.baoab)
)
_with_gradients, _dmala, _dula = (
    functools.partial(_informed, f)
    for f in (samplers.gibbs_with_gradients, samplers.dmala, samplers.dula)
)

CONTINUOUS: dict[str, Method] = {
    "ula": Method("ULA", _step_size, _ula, one_gradient, False),
    "mala": Method("MALA", _step_size, _mala, one_gradient, True),
    "baoab": Method("BAOAB", _baoab_options, _baoab, one_gradient, False),
    "tempering": Method("tempered MALA", _tempering_options, _tempering, _tempering_cost, True),
    "blackjax_mala": Method("blackjax MALA", _step_size, _blackjax_mala, one_gradient, True),
    "blackjax_hmc": Method("blackjax HMC", _hmc_options, _hmc, _hmc_cost, True),
    "blackjax_nuts": Method("blackjax NUTS", _nuts_options, _nuts, _nuts_cost, True, _adapt),
    "blackjax_mclmc": Method("blackjax MCLMC", _mclmc_options, _mclmc, _mclmc_cost, False),
}
DISCRETE: dict[str, Method] = {
    "gibbs": Method("Gibbs", _none, _gibbs, one_gradient, True),
    "gibbs_with_gradients": Method(
        "Gibbs with gradients", _none, _with_gradients, one_gradient, True
    ),
    "dmala": Method("DMALA", _discrete_step_size, _dmala, one_gradient, True),
    "dula": Method("DULA", _discrete_step_size, _dula, one_gradient, False),
    "tempering": Method(
        "tempered Gibbs",
        _discrete_tempering_options,
        _discrete_tempering,
        _discrete_tempering_cost,
        True,
    ),
}
