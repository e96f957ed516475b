"""Gibbs sampling of spins on graphs against thrml, hamon, D-Wave and a loop that draws bits alone.

A spin glass on a cube with couplings of -1 and 1 and with Gaussian ones, and a glass on a random
graph with three neighbours each. JAX packages run with the options of ``ebm_jax.jit``, and a second
time with jax's default flags. D-Wave's sampler is C++ on one thread, so it is compared by the time
of the processor.
"""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import samplers
from ebm_jax.energies.pairwise import Pairwise
from scripts.benchmark import discrete, measure
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite

LIBRARIES = ("thrml", "hamon")
DWAVE = "dwave-samplers"
PROCESSOR = ", processor time"


class Sizes(NamedTuple):
    """The side of the cubes, whose number of spins the other graph has, and how often."""

    side: int
    chains: int
    steps: int


FULL, QUICK = Sizes(16, 64, 100), Sizes(4, 4, 3)


def cube_edges(side: int) -> np.ndarray:
    """Return the bonds of a cube with periodic boundaries, (3 side^3, 2)."""
    number = np.arange(side**3).reshape(side, side, side)
    shifted = [np.roll(number, -1, axis).ravel() for axis in range(3)]
    return np.concatenate([np.stack([number.ravel(), other], 1) for other in shifted])


def cubic_edges(num: int, rng: np.random.Generator) -> np.ndarray:
    """Return a ring and a random matching of its nodes, no edge of both: three neighbours each."""
    ring = np.stack([np.arange(num), np.roll(np.arange(num), -1)], 1)
    while True:
        matching = rng.permutation(num).reshape(-1, 2)
        distance = np.abs(matching[:, 0] - matching[:, 1])
        if not np.isin(distance, [1, num - 1]).any():
            return np.concatenate([ring, matching])


def graphs(sizes: Sizes) -> dict[str, tuple[np.ndarray, np.ndarray, list]]:
    """Return (edges, couplings, colours) of every graph: the peers are given the same colours."""
    rng = np.random.default_rng(0)
    num, cube = sizes.side**3, cube_edges(sizes.side)
    parity = np.indices((sizes.side,) * 3).sum(0).ravel() % 2
    cubic = cubic_edges(num, rng)
    colour = colours(num, cubic)
    two = [np.flatnonzero(parity == c) for c in (0, 1)]
    three = [np.flatnonzero(colour == c) for c in range(colour.max() + 1)]
    signs = (rng.choice([-1.0, 1.0], len(edges)).astype(np.float32) for edges in (cube, cubic))
    return {
        "cube, signs": (cube, next(signs), two),
        "cube, Gaussian": (cube, rng.normal(size=len(cube)).astype(np.float32), two),
        "3-regular, signs": (cubic, next(signs), three),
    }


def colours(num: int, edges: np.ndarray) -> np.ndarray:
    """Return the first colour that no earlier neighbour has, for every node: (num,)."""
    around: list[set[int]] = [set() for _ in range(num)]
    for i, j in edges.tolist():
        around[i].add(j)
        around[j].add(i)
    found = np.full(num, -1)
    for v in range(num):
        taken = {found[u] for u in around[v]}
        found[v] = next(c for c in range(len(taken) + 1) if c not in taken)
    return found


def _cases(sizes: Sizes, peers: Peers) -> dict[str, measure.Case]:
    """Return our sampler and the peers' on every graph, and the loop of random bits."""
    num, key = sizes.side**3, jax.random.key(0)
    spins = jax.random.rademacher(key, (sizes.chains, num), dtype=jnp.int8)
    halves = jnp.split(spins.T, 2)
    bits = ebm_jax.jit(discrete.noise_loop(sizes.steps, ours=True))
    cases = {"one uniform a spin, ours": measure.case(bits, key, halves)}
    for name, (edges, couplings, blocks) in graphs(sizes).items():
        params = Pairwise(jnp.asarray(couplings), jnp.zeros(num))
        sampler = samplers.graph_gibbs(params, edges, values=(-1, 1))
        run = ebm_jax.jit(discrete.sweeps(sampler, sizes.steps))
        cases[f"ours, {name}"] = measure.case(run, key, spins)
        for library in (library for library in LIBRARIES if library in peers):
            peer = discrete.peer_chains(library, num, edges, couplings, blocks, sizes.steps)
            cases[f"{library}, {name}"] = measure.case(ebm_jax.jit(peer), key, spins > 0)
            default = f"{library}, {name}{measure.DEFAULT}"
            cases[default] = measure.case(jax.jit(peer), key, spins > 0)
        if DWAVE in peers:
            theirs = dwave_sweeps(edges, couplings, np.asarray(spins), sizes.steps)
            clock = time.process_time
            cases[f"{DWAVE}, {name}{PROCESSOR}"] = measure.case(theirs, clock=clock)
            cases[f"ours, {name}{PROCESSOR}"] = measure.case(run, key, spins, clock=clock)
    return cases


def dwave_sweeps(
    edges: np.ndarray, couplings: np.ndarray, spins: np.ndarray, num_steps: int
) -> Callable[[], np.ndarray]:
    """Return () -> spins (chains, n) after Gibbs sweeps at beta = 1 by D-Wave's C++ sampler."""
    import dimod
    import dwave.samplers

    num = spins.shape[1]
    pairs = {(int(i), int(j)): -float(w) for (i, j), w in zip(edges, couplings, strict=True)}
    model = dimod.BinaryQuadraticModel(dict.fromkeys(range(num), 0.0), pairs, 0.0, "SPIN")
    sampler = dwave.samplers.SimulatedAnnealingSampler()

    def run() -> np.ndarray:
        found = sampler.sample(
            model,
            initial_states=(spins, list(range(num))),
            num_reads=len(spins),
            beta_schedule_type="custom",
            beta_schedule=[1.0],
            num_sweeps_per_beta=num_steps,
            num_sweeps=num_steps,
            proposal_acceptance_criteria="Gibbs",
            seed=0,
        )
        return found.record.sample

    return run


def run_graphs(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Gibbs sampling of spin glasses on graphs by colours."""
    sizes = QUICK if quick else FULL
    return compared(sizes, *measure.interleaved(_cases(sizes, peers), repetitions))


def compared(sizes: Sizes, first: dict, times: dict) -> Suite:
    """Return the ratios of the times of our sampler and of the peers' on every graph."""
    names = list(graphs(sizes))

    def least(found: dict[str, float | None]) -> float | None:
        known = [value for value in found.values() if value is not None]
        return min(known) if known else None

    def against(library: str) -> dict[str, float | None]:
        cases = {name: measure.fair(times, [f"{library}, {name}"])[0] for name in names}
        return {
            case.removeprefix(f"{library}, "): measure.ratio(times, case, f"ours, {name}")
            for name, case in cases.items()
        }

    noise = {n: measure.ratio(times, "one uniform a spin, ours", f"ours, {n}") for n in names}
    of_peers = {library: against(library) for library in LIBRARIES}
    both = (DWAVE, "ours")
    of_dwave = {
        f"{name}{PROCESSOR}": measure.ratio(times, *(f"{who}, {name}{PROCESSOR}" for who in both))
        for name in names
    }
    ratios = {f"graphs_vs_{library}": least(found) for library, found in of_peers.items()}
    ratios["graphs_vs_dwave"] = least(of_dwave)
    ratios["graphs_vs_noise_loop"] = least(noise)
    amount = sizes.side**3 * sizes.chains * sizes.steps / 1e6
    rates = {n: amount / (measure.median(times, f"ours, {n}") or 1.0) for n in names}
    facts = {f"million spins a second, {name}": rate for name, rate in rates.items()}
    facts |= {f"graphs_vs_noise_loop, {name}": value for name, value in noise.items()}
    peers_found = {
        f"{library}, {name}": value
        for library, found in (of_peers | {DWAVE: of_dwave}).items()
        for name, value in found.items()
        if value is not None
    }
    baselines = {}
    for case in peers_found:
        graph = case.removesuffix(measure.DEFAULT).split(", ", 1)[1]  # and processor time
        baselines[case] = f"ours, {graph}"
    for peer in (f"{library}, {name}" for library in LIBRARIES for name in names):
        if faster := measure.ratio(times, peer + measure.DEFAULT, peer):
            facts[f"speed-up of a peer by our compiler options, {peer}"] = faster
    work = (
        f"{sizes.side**3} spins on graphs, {sizes.chains} chains x {sizes.steps} sweeps. *Cube* is "
        f"a periodic lattice of {sizes.side}^3 spins, *3-regular* a random graph on which every "
        "spin has three neighbours; the couplings are -1 and 1 (*signs*) or normal (*Gaussian*). A "
        "sweep updates every spin once; D-Wave's sampler makes its sweeps at a constant temperature"
    )
    return Suite(work, None, ratios, peers_found, times, first, facts, baselines)
