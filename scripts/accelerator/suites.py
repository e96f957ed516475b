"""The suites at sizes that fill a GPU, with the limits of the card and the peers.

``python -m scripts.accelerator.suites SUITE [tiny] [profile]`` measures one and prints its rows.
"""

import functools
import json
import sys
from collections.abc import Callable
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from ebm_jax import _bits, _noise
from ebm_jax.energies import networks
from scripts.accelerator.recorder import Recorder
from scripts.benchmark import discrete, measure, report, suites, workloads
from scripts.benchmark.peers import Peers

PRECISIONS = {"float32": "highest", "default": "default"}  # of the products of float32 numbers
NO_PEERS = Peers([], "")


def facts() -> dict[str, str | int | float]:
    """Return the conditions of the measurements: the card, its memory, the versions."""
    device = jax.devices()[0]
    memory = (device.memory_stats() or {}).get("bytes_limit")
    return report.machine() | {
        "card": device.device_kind,
        "devices": jax.device_count(),
        "runtime": " ".join(device.client.platform_version.split()),
        "memory_bytes": memory or 0,
    }


def missing(asked: list[str]) -> tuple[list[str], dict[str, str]]:
    """Return the peers that are installed, and why the others are not measured."""
    peers = Peers(asked, "")
    return [name for name in asked if name in peers], peers.skipped


def _generators(numbers: int) -> dict[str, tuple[Callable, str | None]]:
    """Return, by name, key -> one word made of many random ones, and the key's implementation."""

    def combined(bits):
        return jax.lax.reduce(bits.ravel(), np.uint32(0), jax.lax.bitwise_xor, (0,))

    def ours(key):
        first, second = _bits.words(key, 1, numbers // 2)
        return combined(first ^ second)

    return {"ours": (ours, None)} | {
        f"jax.random.bits, {name}": (lambda key: combined(jax.random.bits(key, (numbers,))), name)
        for name in ("threefry2x32", "rbg")
    }


def roofs(record: Recorder) -> None:
    """Measure the limits of the card: matrix products, memory, random bits."""
    side, calls, numbers = (64, 2, 2**12) if record.tiny else (8192, 10, 2**28)
    limits = {}

    def limit(name: str, size: str, case: str, run: Callable, argument, amount: float, unit: str):
        times = record.cases(size, {case: measure.case(jax.jit(run), argument)})
        if seconds := measure.median(times, case):
            limits[name] = max(limits.get(name, 0.0), amount / seconds)
            record.row(size, f"{case}: limit", rate=amount / seconds, unit=unit)

    weights = jax.random.normal(jax.random.key(0), (side, side)) / np.sqrt(side)
    for name in ("float32", "default", "bfloat16"):
        w, precision = weights, PRECISIONS.get(name)
        if name == "bfloat16":
            w = weights.astype(jnp.bfloat16)

        def products(x, w=w, precision=precision):
            def one(x, _):
                return jnp.matmul(x, w, precision=precision), None

            return jax.lax.scan(one, x, length=calls)[0]

        size = f"{calls} products of {side} x {side}"
        limit(name, size, f"{name} products", products, w, 2 * calls * side**3, "flop/s")

    def copies(x):
        return jax.lax.fori_loop(0, calls, lambda t, x: x * 0.5 + t, x)

    limit(
        "bytes",
        f"{numbers:,} float32 numbers, read and written {calls} times",
        "memory",
        copies,
        jnp.zeros(numbers),
        8 * numbers * calls,
        "bytes/s",
    )

    for name, (generate, implementation) in _generators(numbers).items():

        def draws(key, generate=generate):
            def one(t, total):
                return total ^ generate(jax.random.fold_in(key, t))

            return jax.lax.fori_loop(0, calls, one, np.uint32(0))

        key = jax.random.key(0, impl=implementation)
        # The samplers draw from threefry: another generator is a row, and no limit of theirs.
        kind = "rbg words" if implementation == "rbg" else "words"
        size = f"{numbers:,} words, combined, {calls} times"
        limit(kind, size, f"random bits, {name}", draws, key, numbers * calls, "words/s")
    print(json.dumps({"limits": limits}), flush=True)
    record.headline(**limits)


def ula(record: Recorder) -> None:
    """ULA and MALA on the mixture of eight Gaussians."""
    names, skipped = missing(["blackjax"])
    sizes = [(64, 10)] if record.tiny else [(10**6, 100), (10**5, 300), (10**4, 1000)]
    for chains, steps in sizes:
        size = f"{chains:,} chains x {steps:,} steps"
        cases = suites.langevin_cases(NO_PEERS, chains, steps)
        x = jax.random.normal(jax.random.key(1), (chains, 2))
        loop = workloads.loop(lambda _, key, x: x + jax.random.normal(key, x.shape), steps)
        if jax.default_backend() == "gpu":
            cases["ours, its noise kept apart"] = _kept_apart(chains, steps)
        cases["noise of jax.random only"] = measure.case(jax.jit(loop), None, jax.random.key(0), x)
        least = {"words": 2 * chains * steps, "bytes": 16 * chains * steps}
        record.cases(size, cases, steps=chains * steps, unit="chain steps", work={"ours": least})
        makers = {
            f"blackjax.{case}": functools.partial(_blackjax, case, chains, steps)
            for case in ("sgld, scan(vmap)", "sgld, the batch as one")
            if names
        }
        ratios = record.peers(
            size, cases["ours"], makers, skipped, steps=chains * steps, unit="chain steps"
        )
        record.headline(**{f"over_blackjax_{chains}_chains": min(ratios.values(), default=None)})


def _kept_apart(chains: int, steps: int) -> measure.Case:
    """Return ULA whose noise is written to memory before the update, as it is on a CPU."""
    apart = suites.langevin_cases(NO_PEERS, chains, steps)["ours"]

    def compiled() -> float:
        with mock.patch.object(_noise, "_kept_apart", jax.lax.optimization_barrier):
            return apart()

    return compiled


def _blackjax(case: str, chains: int, steps: int) -> measure.Case:
    return suites.langevin_cases(Peers(["blackjax"], ""), chains, steps)[f"blackjax.{case}"]


def _network(record: Recorder, network, shape: tuple[int, ...], chains: int, steps: int) -> None:
    names, skipped = missing(["blackjax"])
    size = f"{chains:,} chains x {steps:,} steps"
    params = network.init(jax.random.key(0), jnp.zeros(shape))
    score = jax.vmap(jax.grad(network.apply, argnums=1), (None, 0))
    flops = _flops(score, params, jax.ShapeDtypeStruct((chains, *shape), jnp.float32))
    cases = suites.network_cases(NO_PEERS, network, shape, chains, steps)
    least = {"default": flops * steps}
    times = record.cases(
        size, cases, steps=chains * steps, unit="chain steps", work={"ours": least}
    )
    makers = {
        f"blackjax.{case}": lambda case=case: suites.network_cases(
            Peers(["blackjax"], ""), network, shape, chains, steps
        )[f"blackjax.{case}"]
        for case in ("sgld, scan(vmap)", "sgld, the batch as one")
        if names
    }
    ratios = record.peers(
        size, cases["ours"], makers, skipped, steps=chains * steps, unit="chain steps"
    )
    record.headline(
        gradient_over_ours=measure.ratio(times, "gradient only", "ours"),
        over_blackjax=min(ratios.values(), default=None),
    )


def _flops(function: Callable, *shapes) -> float:
    """Return the operations of a function, as XLA counts them before it compiles."""
    return float((jax.jit(function).lower(*shapes).cost_analysis() or {}).get("flops", 0.0))


def mlp(record: Recorder) -> None:
    """ULA on an MLP 2 -> 128 -> 128 -> 1."""
    chains, steps = (64, 5) if record.tiny else (10**5, 100)
    _network(record, networks.MLP((128, 128)), (2,), chains, steps)


def conv(record: Recorder) -> None:
    """ULA on a convolutional energy of 28 x 28 images."""
    chains, steps = (4, 2) if record.tiny else (4096, 40)
    _network(record, networks.ConvEnergy((32, 64, 64)), (28, 28, 1), chains, steps)


def pcd(record: Recorder) -> None:
    """Updates of persistent contrastive divergence, and the convolutions alone."""
    sizes = [(4, 2, 16, 1)] if record.tiny else [(2048, 40, 10**5, 5), (128, 40, 10**4, 5)]
    for chains, steps, buffer_size, updates in sizes:
        size = f"{updates} updates of {chains:,} chains x {steps} steps, {buffer_size:,} persistent"
        cases = suites.train_cases(chains, steps, buffer_size, updates)
        work = chains * steps * updates
        times = record.cases(size, cases, steps=work, unit="chain steps")
        parts = "gradients in the steps of the chains", "gradient of the loss"
        ratio = _parts(times, "ours", *parts)
        record.headline(**{f"convolutions_over_ours_{chains}_chains": ratio})


def _parts(times: dict, whole: str, *parts: str) -> float | None:
    """Return the medians of the parts, added up, over that of the whole."""
    ratio = measure.ratio(times, whole, *parts)
    return None if ratio is None else 1 / ratio


def rbm(record: Recorder) -> None:
    """Block Gibbs sampling of an RBM 784 x 500, at every precision of its products."""
    sizes = [_sizes(record, machines=10**5), _sizes(record, machines=10**4)]
    for machines in sizes[:1] if record.tiny else sizes:
        params, units = discrete.random_machine(jax.random.key(0), machines)
        work = machines.machines * machines.rbm_steps
        for name in ("float32", "default", "bfloat16"):
            weights = params
            if name == "bfloat16":
                weights = jax.tree.map(lambda p: p.astype(jnp.bfloat16), params)
            with jax.default_matmul_precision(PRECISIONS.get(name, "default")):
                cases = discrete.machine_cases(machines, weights, units, jax.random.key(1))
                flops = 4 * machines.visible * machines.hidden * work
                numbers = (machines.visible + machines.hidden) * work
                times = record.cases(
                    f"{_chains(machines.machines, machines.rbm_steps)}, {name} products",
                    {"ours": cases["ours, RBM"], "two products": cases["two matrix products"]},
                    steps=work,
                    unit="chain sweeps",
                    work={"ours": {name: flops, "words": numbers}},
                )
            ratio = measure.ratio(times, "two products", "ours")
            record.headline(**{f"products_over_ours_{machines.machines}_chains_{name}": ratio})


def _sizes(record: Recorder, **sizes: int) -> discrete.Sizes:
    """Return the sizes of the discrete suites: those for a show, or those given and the rest."""
    if record.tiny:
        return discrete.QUICK
    return discrete.FULL._replace(ising_steps=100, rbm_steps=50, **sizes)


def _chains(chains: int, sweeps: int) -> str:
    return f"{chains:,} {'chain' if chains == 1 else 'chains'} x {sweeps} sweeps"


def rbm_peers(record: Recorder) -> None:
    """Block Gibbs sampling of the same RBM by the peers, to whom it is a graph."""
    machines = _sizes(record, machines=1000)
    params, units = discrete.random_machine(jax.random.key(0), machines)
    both = jnp.concatenate([units, jnp.zeros((len(units), machines.hidden), bool)], axis=1)
    ours = discrete.machine_cases(machines, params, units, jax.random.key(1))["ours, RBM"]

    def make(library: str) -> measure.Case:
        run = discrete.machine_peer(library, params, machines.rbm_steps)
        return measure.case(jax.jit(run), jax.random.key(1), both)

    names, skipped = missing(["thrml", "hamon"])
    work, size = machines.machines * machines.rbm_steps, _chains(machines.machines, 50)
    record.cases(size, {"ours": ours}, steps=work, unit="chain sweeps")
    makers = {name: functools.partial(make, name) for name in names}
    ratios = record.peers(size, ours, makers, skipped, steps=work, unit="chain sweeps")
    record.headline(**{f"over_{name}": ratio for name, ratio in ratios.items()})


def ising(record: Recorder) -> None:
    """Gibbs sampling of Ising lattices: 1024^2 alone, and smaller ones against the peers."""
    for lattices in (1, 16):
        _lattices(record, _sizes(record, side=1024, lattices=lattices), {}, {})
        if record.tiny:
            break
    names, skipped = missing(["thrml", "hamon"])
    # Their nodes are Python objects: at 1024^2 they are minutes in the making.
    sizes = _sizes(record, side=256, lattices=16)
    makers = {name: functools.partial(_lattice_peer, name, sizes) for name in names}
    ratios = _lattices(record, sizes, makers, skipped)
    record.headline(**{f"over_{name}_at_{sizes.side}": r for name, r in ratios.items()})


def ising_peers(record: Recorder) -> None:
    """Gibbs sampling of the Ising lattice 1024^2 by the peers: minutes, most of them in Python."""
    sizes = _sizes(record, side=1024, lattices=1)
    names, skipped = missing(["thrml", "hamon"])
    makers = {name: functools.partial(_lattice_peer, name, sizes) for name in names}
    ratios = _lattices(record, sizes, makers, skipped)
    record.headline(**{f"over_{name}": ratio for name, ratio in ratios.items()})


def _lattice_peer(library: str, sizes: discrete.Sizes) -> measure.Case:
    spins = discrete.random_spins(jax.random.key(0), sizes).reshape(sizes.lattices, -1) > 0
    run = discrete.lattice_peer(library, sizes.side, sizes.ising_steps)
    return measure.case(jax.jit(run), jax.random.key(1), spins)


def _lattices(record: Recorder, sizes: discrete.Sizes, makers: dict, skipped: dict) -> dict:
    spins = discrete.random_spins(jax.random.key(0), sizes)
    cases = discrete.ising_cases(sizes, spins, jax.random.key(1))
    cases["ours"] = cases.pop("ours, Ising")
    work = sizes.side**2 * sizes.lattices * sizes.ising_steps
    size = f"{sizes.side}^2, {_chains(sizes.lattices, sizes.ising_steps)}"
    least = {"words": work, "bytes": 2 * work}
    record.cases(size, cases, steps=work, unit="spins", work={"ours": least})
    return record.peers(size, cases["ours"], makers, skipped, steps=work, unit="spins")


def ais(record: Recorder) -> None:
    """Annealed importance sampling of an RBM 784 x 500, and its parts."""
    sizes = _sizes(record, machines=10**4)
    params, units = discrete.random_machine(jax.random.key(0), sizes)
    cases = discrete.annealing_cases(sizes, params, units, jax.random.key(1))
    cases = {"ours": cases.pop("annealing")} | cases
    work = sizes.machines * sizes.rbm_steps
    size = f"{sizes.machines:,} chains x {sizes.rbm_steps} temperatures"
    times = record.cases(size, cases, steps=work, unit="chain temperatures")
    record.headline(parts_over_ours=_parts(times, "ours", "its sweeps", "its energies"))


def graphs(record: Recorder) -> None:
    """Gibbs sampling of coloured graphs, by the suite of that name of ``scripts.benchmark``."""
    run = suites.SUITES.get("graphs")
    if run is None:
        record.row("", "graphs", error="scripts.benchmark has no suite graphs yet")
        return
    names, skipped = missing(["thrml", "hamon"])
    suite = run(Peers(names, ""), 1 if record.tiny else 3, record.tiny)
    for name, reason in skipped.items():
        record.row(suite.work, name, error=reason)
    for name, seconds in suite.times.items():
        record.row(suite.work, name, seconds=float(np.median(seconds)))
    record.headline(**suite.ratios)


SUITES = {
    suite.__name__: suite
    for suite in (roofs, ula, rbm, ising, pcd, conv, mlp, ais, graphs, rbm_peers, ising_peers)
}


def main(name: str, *options: str) -> None:
    """Measure one suite and print its rows."""
    logging.set_verbosity(logging.WARNING)  # JAX names every backend that it does not find
    print(json.dumps({"machine": facts()}), flush=True)
    SUITES[name](Recorder(name, tiny="tiny" in options, profiled="profile" in options))


if __name__ == "__main__":
    main(*sys.argv[1:])
