"""The suites: each measures its cases, interleaved, and names the ratios of their medians.

A suite is ``(peers, repetitions, quick) -> Suite``.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ebm_jax
from ebm_jax import objectives, samplers, training
from ebm_jax.energies import networks
from scripts.benchmark import devices, measure, workloads
from scripts.benchmark.alignment import run_alignment
from scripts.benchmark.discrete import run_discrete
from scripts.benchmark.efficiency import run_efficiency
from scripts.benchmark.graphs import run_graphs
from scripts.benchmark.keeping import run_keeping
from scripts.benchmark.matching import run_images, run_objectives
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite
from scripts.benchmark.tempering import run_tempering
from scripts.benchmark.verbs import run_verbs

ULA = functools.partial(samplers.ula, step_size=workloads.STEP_SIZE)
MALA = functools.partial(samplers.mala, step_size=workloads.STEP_SIZE)


def _against(times: dict, ours: str, others) -> dict[str, float | None]:
    return {name: measure.ratio(times, name, ours) for name in others}


def langevin_cases(peers: Peers, chains: int, steps: int) -> dict[str, measure.Case]:
    """Return ULA and MALA on the mixture of eight Gaussians, their floors, and blackjax's."""
    args = (None, jax.random.key(0), jax.random.normal(jax.random.key(1), (chains, 2)))

    def energy(_, x):
        return workloads.eight_gaussians(x)

    def case(function, compiled=ebm_jax.jit):
        return measure.case(compiled(function), *args)

    cases = {
        "ours": case(workloads.ours(ULA, energy, steps)),
        "ours, MALA": case(workloads.ours(MALA, energy, steps)),
        "gradient only": case(workloads.loop(workloads.gradient_step(energy), steps)),
        "noise only": case(workloads.loop(workloads.noise_step, steps)),
    }
    if jax.default_backend() == "cpu":
        wide = {"xla_cpu_prefer_vector_width": 512}
        cases["ours, vectors of 512 bits"] = case(
            workloads.ours(ULA, energy, steps),
            functools.partial(ebm_jax.jit, compiler_options=wide),
        )
    if "blackjax" in peers:
        vmapped, batch = (
            workloads.loop(workloads.blackjax_sgld(energy, whole_batch=whole), steps)
            for whole in (False, True)
        )
        cases |= {
            "blackjax.sgld, scan(vmap), default flags": case(vmapped, jax.jit),
            "blackjax.sgld, scan(vmap)": case(vmapped),
            "blackjax.sgld, the batch as one": case(batch),
            "blackjax.mala, scan(vmap)": case(workloads.blackjax_mala(energy, steps)),
        }
    return cases


def run_langevin(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """ULA and MALA on the mixture of eight Gaussians."""
    chains, steps = (64, 20) if quick else (10_000, 1_000)
    cases = langevin_cases(peers, chains, steps)
    torch = peers.torch_cases("mixture", chains=chains, steps=steps)
    first, times = measure.interleaved(cases | torch, repetitions)
    two = devices.measure(chains, steps, repetitions)
    ratios = {
        "sgld_default": measure.ratio(times, "blackjax.sgld, scan(vmap), default flags", "ours"),
        "sgld_tuned_scan_vmap": measure.ratio(times, "blackjax.sgld, scan(vmap)", "ours"),
        "sgld_tuned_batch": measure.ratio(times, "blackjax.sgld, the batch as one", "ours"),
        "mala_tuned": measure.ratio(times, "blackjax.mala, scan(vmap)", "ours, MALA"),
        "langevin_vs_floor": measure.speed(times, "ours", "gradient only", "noise only"),
        "two_devices": measure.ratio(two["times"], "one device", "two devices"),
    }
    times |= {f"ours, {name} of two": seconds for name, seconds in two["times"].items()}
    ula = [name for name in cases if name.startswith("blackjax.sgld")]
    ula = [*measure.fair(times, ula), *torch]
    mala = [name for name in cases if name.startswith("blackjax.mala")]
    return Suite(
        f"mixture of 8 Gaussians in the plane, {chains:,} chains x {steps:,} steps of ULA, and of "
        "MALA in the rows with that name. *scan(vmap)* moves each chain by a kernel of its own, "
        "*the batch as one* all chains as one position; *vectors of 512 bits* is our program "
        "compiled for wider instructions of the processor",
        chains * steps,
        ratios,
        _against(times, "ours", ula) | _against(times, "ours, MALA", mala),
        times,
        first,
        {"two_devices_identical": two["identical"]},
        dict.fromkeys(ula, "ours") | dict.fromkeys(mala, "ours, MALA"),
    )


def network_cases(
    peers: Peers, network, shape: tuple[int, ...], chains: int, steps: int
) -> dict[str, measure.Case]:
    """Return ULA on a network's energy, its floors, and blackjax's."""
    energy, args = network.apply, _network_arguments(network, shape, chains)

    def loop(step, compiled=ebm_jax.jit):
        return measure.case(compiled(workloads.loop(step, steps)), *args)

    cases = {
        "ours": measure.case(ebm_jax.jit(workloads.ours(ULA, energy, steps)), *args),
        "gradient only": loop(workloads.gradient_step(energy)),
        "noise only": loop(workloads.noise_step),
    }
    if "blackjax" in peers:
        vmapped, batch = (
            workloads.blackjax_sgld(energy, whole_batch=whole) for whole in (False, True)
        )
        cases |= {
            "blackjax.sgld, scan(vmap), default flags": loop(vmapped, jax.jit),
            "blackjax.sgld, the batch as one, default flags": loop(batch, jax.jit),
            "blackjax.sgld, scan(vmap)": loop(vmapped),
            "blackjax.sgld, the batch as one": loop(batch),
        }
    return cases


def _network_arguments(network, shape: tuple[int, ...], chains: int) -> tuple:
    """Return parameters, a key, and random chains."""
    params = network.init(jax.random.key(0), jnp.zeros(shape))
    return params, jax.random.key(0), jax.random.normal(jax.random.key(1), (chains, *shape))


NETWORKS = {
    "mlp": "The energy is a multi-layer perceptron of 2 inputs with two layers of 128 units (SiLU)",
    "conv": "The energy has three convolutions of stride 2 on 28 x 28 pixels, with 32, 64 and 64 "
    "channels (SiLU)",
}


def _network_suite(work, network, shape, chains, steps, peers, repetitions, extra) -> Suite:
    cases = network_cases(peers, network, shape, chains, steps)
    cases |= extra(steps, _network_arguments(network, shape, chains))
    torch = peers.torch_cases(work, chains=chains, steps=steps)
    first, times = measure.interleaved(cases | torch, repetitions)
    others = [name for name in times if name.startswith("blackjax") or name in torch]
    others = measure.fair(times, others)
    return Suite(
        f"{work} energy, {chains:,} chains x {steps:,} steps of ULA. {NETWORKS[work]}. blackjax "
        "has the energy function of ours, a PyTorch package the same layers in PyTorch",
        chains * steps,
        {},
        _against(times, "ours", others),
        times,
        first,
        {},
        dict.fromkeys(others, "ours"),
    )


def run_mlp(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """ULA on an MLP 2 -> 128 -> 128 -> 1."""
    chains, steps = (64, 10) if quick else (1024, 200)

    def extra(steps, args):
        weights = [0.05 * jnp.ones(shape) for shape in ((2, 128), (128, 128), (128, 1))]
        products = workloads.loop(workloads.matrix_step, steps)
        return {"matrix products only": measure.case(ebm_jax.jit(products), weights, *args[1:])}

    suite = _network_suite(
        "mlp", networks.MLP((128, 128)), (2,), chains, steps, peers, repetitions, extra
    )
    return suite._replace(
        ratios={"mlp_vs_gradient": measure.speed(suite.times, "ours", "gradient only")}
    )


def run_conv(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """ULA on a convolutional energy of 28 x 28 images, ours and XLA's convolution."""
    chains, steps = (4, 2) if quick else (64, 60)
    network = networks.ConvEnergy((32, 64, 64))

    def extra(steps, args):
        plain = networks.ConvEnergy((32, 64, 64), convolution=jax.lax.conv_general_dilated)
        run = ebm_jax.jit(workloads.ours(ULA, plain.apply, steps))
        return {"ours with lax.conv": measure.case(run, *args)}

    suite = _network_suite("conv", network, (28, 28, 1), chains, steps, peers, repetitions, extra)
    return suite._replace(
        ratios={"conv_vs_lax": measure.ratio(suite.times, "ours with lax.conv", "ours")}
    )


def train_cases(chains: int, steps: int, buffer_size: int, updates: int) -> dict[str, measure.Case]:
    """Return updates of persistent contrastive divergence on the convolutional energy, and parts.

    The two cases of gradients have the convolutions of an update: those of the steps of the chains,
    which draw no noise here, and those of the gradient of the loss in the parameters.
    """
    network, key = networks.ConvEnergy((32, 64, 64)), jax.random.key(0)
    params = network.init(key, jnp.zeros((28, 28, 1)))
    data = jax.random.normal(jax.random.key(1), (updates, chains, 28, 28, 1))
    objective = objectives.persistent(
        network.apply,
        ULA,
        num_steps=steps,
        num_chains=chains,
        buffer_size=buffer_size,
        initial=lambda params, key, indices: jax.random.normal(key, (len(indices), 28, 28, 1)),
    )
    trainer = training.trainer(objective, optax.adam(1e-4))
    state = trainer.init(params, key)

    def contrast(params, positives, negatives):
        energies = jax.vmap(network.apply, (None, 0))
        return jnp.mean(energies(params, positives)) - jnp.mean(energies(params, negatives))

    run, gradient = workloads.ours(ULA, network.apply, steps), jax.grad(contrast)
    descent = workloads.loop(workloads.gradient_step(network.apply), steps)
    return {
        "ours": measure.case(trainer.update, state, data, key),
        "chains": measure.case(ebm_jax.jit(run), params, key, data[0], calls=updates),
        "gradients in the steps of the chains": measure.case(
            ebm_jax.jit(descent), params, key, data[0], calls=updates
        ),
        "gradient of the loss": measure.case(
            ebm_jax.jit(gradient), params, data[0], -data[0], calls=updates
        ),
    }


def run_train(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Updates of persistent contrastive divergence on the convolutional energy."""
    chains, steps, buffer_size, updates = (4, 2, 16, 1) if quick else (64, 40, 10_000, 5)
    cases = train_cases(chains, steps, buffer_size, updates)
    torch = peers.torch_cases(
        "train",
        only=("ebmkit",),
        chains=chains,
        steps=steps,
        buffer_size=buffer_size,
        updates=updates,
    )
    first, times = measure.interleaved(cases | torch, repetitions)
    return Suite(
        f"{updates} updates of persistent contrastive divergence with the conv energy; each moves "
        f"{chains} of {buffer_size:,} stored chains by {steps} steps",
        None,
        {"train_vs_parts": measure.speed(times, "ours", "chains", "gradient of the loss")},
        _against(times, "ours", torch),
        times,
        first,
        {},
        dict.fromkeys(torch, "ours"),
    )


def run_scaling(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Time of ULA against chains, steps and dimension, and its memory."""
    del peers
    sizes = {
        "chains": [10**2, 10**3] if quick else [10**2, 10**3, 10**4, 10**5],
        "steps": [10, 100] if quick else [10, 10**2, 10**3, 10**4],
        "dimension": [2, 16] if quick else [2, 12, 48, 192, 768, 3072],
    }
    fixed = {"chains": 100, "steps": 10, "dimension": 2} if quick else {
        "chains": 1000, "steps": 100, "dimension": 2,
    }  # fmt: skip
    cases, names, programs = {}, {}, {}
    for axis, values in sizes.items():
        for value in values:
            at = fixed | {axis: value}
            energy = workloads.quadratic if axis == "dimension" else workloads.eight_gaussians
            run = ebm_jax.jit(workloads.ours(ULA, lambda _, x, e=energy: e(x), at["steps"]))
            x = jax.random.normal(jax.random.key(1), (at["chains"], at["dimension"]))
            name = f"{value:,} {axis.removesuffix('s')}s"
            names[axis, value] = name
            cases[name] = measure.case(run, None, jax.random.key(0), x)
            programs[name] = functools.partial(run.lower, None, jax.random.key(0), x)
    first, times = measure.interleaved(cases, repetitions)
    memory = {
        name: lower().compile().memory_analysis().temp_size_in_bytes
        for name, lower in programs.items()
    }
    exponents = {
        axis: float(
            np.polyfit(
                np.log(values),
                np.log([measure.median(times, names[axis, value]) for value in values]),
                1,
            )[0]
        )
        for axis, values in sizes.items()
    }
    return Suite(
        "time of ULA against the numbers of chains, steps and dimensions. Unless stated: "
        f"{fixed['chains']:,} chains, {fixed['steps']} steps, {fixed['dimension']} dimensions. "
        "The rows of dimensions have a quadratic energy, the others a mixture of eight Gaussians",
        None,
        {"exponent_chains": exponents["chains"], "exponent_steps": exponents["steps"]},
        {},
        times,
        first,
        {"exponent_dimension": exponents["dimension"], "temporary_bytes": memory},
    )


SUITES = {
    "langevin": run_langevin,
    "mlp": run_mlp,
    "conv": run_conv,
    "train": run_train,
    "scaling": run_scaling,
    "efficiency": run_efficiency,
    "discrete": run_discrete,
    "graphs": run_graphs,
    "tempering": run_tempering,
    "alignment": run_alignment,
    "keeping": run_keeping,
    "objectives": run_objectives,
    "images": run_images,
    "verbs": run_verbs,
}
