"""Gibbs sampling of spins and of an RBM against thrml and against floors; annealing and its parts.

The floors: a loop that draws one uniform number a spin, compares it, and looks at no neighbour;
a loop of the two matrix products of a sweep, thresholded.
"""

import functools
import importlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import _bits, samplers
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.energies.lattice import Ising
from ebm_jax.partition import annealed, paths
from scripts.benchmark import measure
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite

COUPLING = 0.44


class Sizes(NamedTuple):
    """What is sampled, and how often."""

    side: int
    lattices: int
    ising_steps: int
    visible: int
    hidden: int
    machines: int
    rbm_steps: int


FULL, QUICK = Sizes(64, 64, 200, 784, 500, 100, 50), Sizes(4, 4, 3, 8, 4, 4, 3)


def sweeps(sampler, num_steps: int):
    """Return (key, x) -> x after a number of sweeps."""

    def run(key, x):
        return samplers.run(key, sampler, sampler.init(x), num_steps)[0].position

    return run


def uniforms(key, chains: int, n: int):
    """Return two arrays (chains, n) of uniform numbers, both words of every generator's call."""

    def uniform(word):
        one_to_two = (word >> 9) | np.float32(1).view(np.uint32)
        return jax.lax.bitcast_convert_type(one_to_two, jnp.float32) - np.float32(1 - 2**-24)

    # One array of complex numbers: of two real ones, each would run all rounds of the generator.
    # The barrier keeps these out of the loops that use the numbers.
    both = jax.lax.optimization_barrier(jax.lax.complex(*map(uniform, _bits.words(key, chains, n))))
    return jnp.real(both), jnp.imag(both)


def noise_loop(num_steps: int, *, ours: bool):
    """Return (key, halves) -> spins kept or turned by numbers of ours, or by jax.random's."""

    def draw(key, halves):
        sites, num = halves[0].shape
        if ours:  # two numbers a call of the generator, one for each half of the spins
            return uniforms(key, sites, num)
        return jax.random.uniform(key, (2, sites, num))

    def run(key, halves):
        def one(halves, t):
            uniform = draw(jax.random.fold_in(key, t), halves)
            pairs = zip(halves, uniform, strict=True)
            return [jnp.where(u < 0.5, s, -s).astype(s.dtype) for s, u in pairs], None

        return jax.lax.scan(one, halves, jnp.arange(num_steps))[0]

    return run


def two_products(params: RBM, num_steps: int):
    """Return (key, v) -> v after the matrix products of a number of sweeps."""

    def run(key, v):
        del key

        def one(v, _):
            h = (v @ params.weights > 0).astype(v.dtype)
            return (h @ params.weights.T > 0).astype(v.dtype), None

        return jax.lax.scan(one, v.astype(params.weights.dtype), length=num_steps)[0]

    return run


def two_energies(path, betas):
    """Return (key, x) -> the path's energies of x at every beta and the one before, summed."""

    def run(key, x):
        del key

        def one(carry, pair):
            x, total = carry
            old, new = (jnp.sum(jax.vmap(path, (None, 0))(b, x)) for b in pair)
            total += old - new
            # It never is: but then nothing can be moved out of the loop.
            return (jnp.where(jnp.isnan(total), ~x, x), total), None

        pairs = (jnp.concatenate([jnp.zeros(1), betas[:-1]]), betas)
        return jax.lax.scan(one, (x, jnp.zeros(())), pairs)[0][1]

    return run


def annealing(path, make_sampler, betas):
    """Return (key, x) -> log-weights at the end of the betas."""

    def run(key, x):
        state = annealed.start(path, make_sampler, x)
        return annealed.anneal(key, path, make_sampler, state, betas)[0].log_weights

    return run


def sweep_at_every_beta(path, make_sampler, betas):
    """Return (key, x) -> x after a sweep at every beta: annealing without its weights."""

    def at(beta):
        return make_sampler(jax.tree_util.Partial(path, beta))

    def run(key, x):
        def one(carry, beta):
            state, t = carry
            state, _ = at(beta).step(jax.random.fold_in(key, t), state)
            return (state, t + 1), None

        start = at(betas[0]).init(x), jnp.zeros((), jnp.int32)
        return jax.lax.scan(one, start, betas)[0][0].position

    return run


def peer_chains(
    library: str, num_nodes: int, edges: np.ndarray, weights, colours: list, num_steps: int
):
    """Return (key, spins (chains, nodes)) -> spins, by thrml's or hamon's block Gibbs."""
    peer, models = (importlib.import_module(name) for name in (library, f"{library}.models"))
    nodes = [peer.SpinNode() for _ in range(num_nodes)]
    pairs = [(nodes[i], nodes[j]) for i, j in edges]
    model = models.IsingEBM(
        nodes, pairs, jnp.zeros(num_nodes), jnp.asarray(weights), jnp.array(1.0)
    )
    blocks = [peer.Block([nodes[i] for i in colour]) for colour in colours]
    program = models.IsingSamplingProgram(model, blocks, clamped_blocks=[])
    schedule = peer.SamplingSchedule(n_warmup=num_steps, n_samples=1, steps_per_sample=1)
    places = [np.asarray(colour) for colour in colours]

    def run(key, spins):
        def one(key, spins):
            start = [spins[place] for place in places]
            return peer.sample_states(key, program, schedule, start, [], blocks)

        return jax.vmap(one)(jax.random.split(key, len(spins)), spins)

    return run


def lattice_edges(side: int) -> np.ndarray:
    """Return the bonds of a torus, (2 side^2, 2)."""
    number = np.arange(side**2).reshape(side, side)
    shifted = [np.roll(number, -1, axis).ravel() for axis in (0, 1)]
    return np.concatenate([np.stack([number.ravel(), other], 1) for other in shifted])


def lattice_peer(library: str, side: int, num_steps: int):
    """Return (key, spins (chains, side^2)) -> spins, by a peer on the lattice of ``Ising``."""
    edges = lattice_edges(side)
    parity = np.indices((side, side)).sum(0).ravel() % 2
    colours = [np.flatnonzero(parity == c) for c in (0, 1)]
    couplings = np.full(len(edges), COUPLING, np.float32)
    return peer_chains(library, side**2, edges, couplings, colours, num_steps)


def machine_peer(library: str, rbm: RBM, num_steps: int):
    """Return (key, units (chains, visible + hidden)) -> units, by a peer on an RBM's bonds."""
    visible, hidden = rbm.weights.shape
    pairs = np.indices((visible, hidden)).reshape(2, -1).T + np.array([0, visible])
    sides = [visible + np.arange(hidden), np.arange(visible)]
    bonds = np.asarray(rbm.weights).ravel() / 4
    return peer_chains(library, visible + hidden, pairs, bonds, sides, num_steps)


def random_spins(key: jax.Array, sizes: Sizes) -> jax.Array:
    """Return lattices of random spins, (lattices, side, side)."""
    return jax.random.rademacher(key, (sizes.lattices, sizes.side, sizes.side), dtype=jnp.int8)


def random_machine(key: jax.Array, sizes: Sizes) -> tuple[RBM, jax.Array]:
    """Return an RBM of small random weights, and random visible units of its chains."""
    weights_key, units_key = jax.random.split(key)
    weights = 0.05 * jax.random.normal(weights_key, (sizes.visible, sizes.hidden))
    units = jax.random.bernoulli(units_key, 0.5, (sizes.machines, sizes.visible))
    return RBM(weights, jnp.zeros(sizes.visible), jnp.zeros(sizes.hidden)), units


def ising_cases(sizes: Sizes, spins: jax.Array, key: jax.Array) -> dict[str, measure.Case]:
    """Return our sampler of lattices, and the loops that draw its random numbers alone."""
    lattice, steps = samplers.checkerboard_gibbs(Ising(COUPLING)), sizes.ising_steps
    halves = jnp.split(spins.reshape(len(spins), -1).T, 2)
    runs = {
        "ours, Ising": (sweeps(lattice, steps), spins),
        "one uniform a spin, ours": (noise_loop(steps, ours=True), halves),
        "one uniform a spin, jax's": (noise_loop(steps, ours=False), halves),
    }
    return {name: measure.case(ebm_jax.jit(run), key, start) for name, (run, start) in runs.items()}


def machine_cases(
    sizes: Sizes, rbm: RBM, units: jax.Array, key: jax.Array
) -> dict[str, measure.Case]:
    """Return our sampler of an RBM and its matrix products alone."""
    runs = {
        "ours, RBM": sweeps(samplers.rbm_gibbs(rbm), sizes.rbm_steps),
        "two matrix products": two_products(rbm, sizes.rbm_steps),
    }
    return {name: measure.case(ebm_jax.jit(run), key, units) for name, run in runs.items()}


def annealing_cases(
    sizes: Sizes, rbm: RBM, units: jax.Array, key: jax.Array
) -> dict[str, measure.Case]:
    """Return annealed importance sampling of an RBM and its parts."""
    path, make_sampler = paths.rbm(rbm, jnp.zeros(sizes.visible))
    betas = jnp.linspace(0, 1, sizes.rbm_steps + 1)[1:]
    runs = {
        "annealing": annealing(path, make_sampler, betas),
        "its sweeps": sweep_at_every_beta(path, make_sampler, betas),
        "its energies": two_energies(path, betas),
    }
    return {name: measure.case(ebm_jax.jit(run), key, units) for name, run in runs.items()}


def _cases(sizes: Sizes, *, thrml: bool) -> dict[str, measure.Case]:
    """Return every case: the samplers, their floors, annealing and its parts, and thrml's.

    thrml's are measured at default flags and with the options that ours has.
    """
    keys = jax.random.split(jax.random.key(0), 3)
    spins, (rbm, units) = random_spins(keys[0], sizes), random_machine(keys[1], sizes)
    cases = ising_cases(sizes, spins, keys[2])
    cases |= machine_cases(sizes, rbm, units, keys[2])
    cases |= annealing_cases(sizes, rbm, units, keys[2])
    if not thrml:
        return cases
    both = jnp.concatenate([units, jnp.zeros((len(units), sizes.hidden), bool)], axis=1)
    flat = spins.reshape(len(spins), -1) > 0
    runs = {
        "Ising": (lattice_peer("thrml", sizes.side, sizes.ising_steps), flat),
        "RBM": (machine_peer("thrml", rbm, sizes.rbm_steps), both),
    }
    return cases | {
        f"thrml, {name}{suffix}": measure.case(compiled(run), jax.random.key(2), start)
        for name, (run, start) in runs.items()
        for suffix, compiled in ((", default flags", jax.jit), ("", ebm_jax.jit))
    }


def run_discrete(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Block Gibbs on lattices and RBMs, and annealed importance sampling."""
    sizes = QUICK if quick else FULL
    first, times = measure.interleaved(_cases(sizes, thrml="thrml" in peers), repetitions)
    ratio = functools.partial(measure.ratio, times)
    ratios = {
        "ising_vs_thrml_default_flags": ratio("thrml, Ising, default flags", "ours, Ising"),
        "ising_vs_noise_loop": ratio("one uniform a spin, ours", "ours, Ising"),
        "rbm_vs_thrml_default_flags": ratio("thrml, RBM, default flags", "ours, RBM"),
        "rbm_vs_floor": ratio("two matrix products", "ours, RBM"),
        "ais_vs_parts": measure.speed(times, "annealing", "its sweeps", "its energies"),
    }
    thrml = measure.fair(times, [case for case in times if "thrml" in case])
    against = {case: f"ours, {'RBM' if 'RBM' in case else 'Ising'}" for case in thrml}
    amounts = {
        "ours, Ising": sizes.side**2 * sizes.lattices * sizes.ising_steps / 1e6,
        "ours, RBM": sizes.machines * sizes.rbm_steps / 1e3,
    }
    spins, machines = (n / (measure.median(times, c) or 1.0) for c, n in amounts.items())
    facts = {
        "million spins a second": spins,
        "thousand RBM sweeps a second": machines,
        "ising_vs_noise_loop_of_jax_random": ratio("one uniform a spin, jax's", "ours, Ising"),
    }
    work = (
        f"Ising {sizes.side} x {sizes.side}, {sizes.lattices} chains x {sizes.ising_steps} sweeps; "
        f"RBM {sizes.visible} x {sizes.hidden}, {sizes.machines} chains x {sizes.rbm_steps} sweeps "
        "or temperatures"
    )
    peers_found = {case: ratio(case, ours) for case, ours in against.items()}
    return Suite(work, None, ratios, peers_found, times, first, facts, against)
