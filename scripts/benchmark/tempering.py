"""Round trips of parallel tempering against hamon's, per second of processor time.

A spin glass on a cube of 8^3 spins with couplings of -1 and 1, and three independent double wells,
which have eight modes. "fixed ladder" gives both libraries the same inverse temperatures and counts
a run that starts where an earlier one ended; "tuning included" counts the choice of the ladder too.
"""

import functools
import itertools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import partition, samplers
from ebm_jax.energies import pairwise
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.types import Distribution, Energy, MakeSampler, Sampler
from scripts.benchmark import graphs, measure
from scripts.benchmark.peers import Peers
from scripts.benchmark.suite import Suite

HOTTEST, COLDEST = 0.1, 1.0  # inverse temperatures of the fixed ladders


class Sizes(NamedTuple):
    """The side of the cube, our ladders, the rounds of a run of both libraries, and the replicas.

    Both have the same number of rounds: a trip takes thousands, and those that a run cuts off at
    its beginning and end are not counted.
    """

    side: int
    chains: int
    rounds: int
    replicas: int


FULL, QUICK = Sizes(8, 8, 10_000, 24), Sizes(2, 4, 20, 4)


class Problem(NamedTuple):
    """A target for both libraries.

    Attributes:
        energy: our energy of one x.
        make_sampler: the sampler that moves the replicas, called with ``beta=``.
        start: (key, chains) -> positions.
        peer: () -> hamon's model, its program, and (key, replicas) -> initial states.
    """

    energy: Energy
    make_sampler: MakeSampler
    start: Callable
    peer: Callable[[], tuple[Any, Any, Callable]]


def glass(side: int) -> Problem:
    """Return a spin glass with couplings of -1 and 1 on a cube with periodic boundaries."""
    edges, num = graphs.cube_edges(side), side**3
    couplings = np.random.default_rng(0).choice([-1.0, 1.0], len(edges)).astype(np.float32)
    params = Pairwise(jnp.asarray(couplings), jnp.zeros(num))

    def start(key, chains):
        return jax.random.rademacher(key, (chains, num), dtype=jnp.int8)

    def peer():
        import hamon
        from hamon import models

        nodes = [hamon.SpinNode() for _ in range(num)]
        pairs = [(nodes[i], nodes[j]) for i, j in edges]
        parity = np.indices((side,) * 3).sum(0).ravel() % 2
        blocks = [hamon.Block([nodes[i] for i in np.flatnonzero(parity == c)]) for c in (0, 1)]
        model = models.IsingEBM(nodes, pairs, jnp.zeros(num), params.couplings, jnp.array(1.0))
        program = models.IsingSamplingProgram(model, blocks, clamped_blocks=[])
        return model, program, functools.partial(_peer_start, models.hinton_init, model, blocks)

    return Problem(
        lambda x: pairwise.energy(params, x, edges),
        lambda energy, beta: samplers.graph_gibbs(params, edges, values=(-1, 1), beta=beta),
        start,
        peer,
    )


def wells() -> Problem:
    """Return three independent double wells 8 (x^2 - 1)^2: eight modes."""
    height = 8.0

    def start(key, chains):
        return jax.random.normal(key, (chains, 3))

    def peer():
        import hamon
        from hamon import models

        nodes = [hamon.GaussianNode() for _ in range(3)]
        blocks = [hamon.Block(nodes)]
        model = models.DoubleWellEBM(
            nodes, [], jnp.full(3, height), jnp.zeros(3), jnp.zeros(0), jnp.array(1.0)
        )
        program = models.DoubleWellSamplingProgram(model, blocks, clamped_blocks=[])
        begin = functools.partial(_peer_start, models.double_well_init, model, blocks)
        return model, program, begin

    return Problem(
        lambda x: height * jnp.sum((x**2 - 1) ** 2),
        lambda energy, beta: samplers.mala(energy, step_size=0.01 / beta, beta=beta),
        start,
        peer,
    )


def _peer_start(init: Callable, model: Any, blocks: list, key: jax.Array, replicas: int) -> list:
    return init(key, model, blocks, (replicas,))


def count_trips(sampler: Sampler, rounds: int) -> Callable:
    """Return (key, state) -> (state, round trips) of a sampler made by ``replica_exchange``.

    A round trip is a replica's way from the hottest temperature to the coldest and back.
    """

    def run(key: jax.Array, state: Any) -> tuple[Any, jax.Array]:
        shape = jax.eval_shape(sampler.step, key, state)[1].swapped.shape
        came = jnp.zeros((shape[0] + 1, shape[1]), jnp.int32)  # 1 from the hot end, 2 from the cold

        def body(t: jax.Array, carry: tuple) -> tuple:
            state, came, trips = carry
            state, info = sampler.step(jax.random.fold_in(key, t), state)
            came = _swap(came, info.swapped)
            trips += jnp.sum(came[0] == 2)
            came = came.at[-1].set(jnp.where(came[-1] == 1, 2, came[-1])).at[0].set(1)
            return state, came, trips

        state, _, trips = jax.lax.fori_loop(0, rounds, body, (state, came, jnp.zeros((), int)))
        return state, trips

    return run


def _swap(values: jax.Array, swapped: jax.Array) -> jax.Array:
    """Return the values (replicas, chains) after neighbours changed places."""
    none = jnp.zeros_like(swapped[:1])
    up, down = jnp.concatenate([swapped, none]), jnp.concatenate([none, swapped])
    above, below = jnp.roll(values, -1, axis=0), jnp.roll(values, 1, axis=0)
    return jnp.where(up, above, jnp.where(down, below, values))


def ladder(problem: Problem, sizes: Sizes) -> tuple[jax.Array, Any]:
    """Return inverse temperatures of equal rejection, and the replicas' state after tuning."""
    betas = jnp.linspace(HOTTEST, COLDEST, sizes.replicas)
    position = problem.start(jax.random.key(1), sizes.chains)
    state, phases = None, 6
    for phase in range(phases):
        sampler = samplers.replica_exchange(problem.energy, problem.make_sampler, betas)
        state = sampler.init(position) if state is None else sampler.refresh(state)
        run = ebm_jax.jit(functools.partial(_mean_acceptance, sampler, -(-sizes.rounds // 10)))
        state, acceptance_rate = run(jax.random.key(phase), state)
        if phase < phases - 1:
            betas = samplers.adapt_ladder(betas, acceptance_rate)
    return betas, state


def _mean_acceptance(sampler: Sampler, rounds: int, key: jax.Array, state: Any) -> tuple:
    def mean(state: Any, info: Any) -> jax.Array:
        return jnp.mean(info.acceptance_rate, axis=1)

    state, means = samplers.run(key, sampler, state, rounds, collect=mean)
    return state, jnp.mean(means, axis=0)


def our_run(problem: Problem, betas: jax.Array, state: Any, rounds: int) -> Callable[[int], int]:
    """Return (number) -> round trips, of a run that continues the run before it."""
    sampler = samplers.replica_exchange(problem.energy, problem.make_sampler, betas)
    run, states = ebm_jax.jit(count_trips(sampler, rounds)), [state]

    def once(number: int) -> int:
        states[0], trips = run(jax.random.key(number), states[0])
        return int(trips)

    return once


def peer_run(problem: Problem, betas: jax.Array, rounds: int) -> Callable[[int], int]:
    """Return the same of hamon, which runs one ladder a call."""
    import hamon

    model, program, begin = problem.peer()
    states = [begin(jax.random.key(2), len(betas))]

    def once(number: int) -> int:
        key = jax.random.key(number)
        states[0], stats = hamon.nrpt(
            key, model, program, states[0], [], rounds, 1, betas=betas, device=None
        )
        return _trips(stats["round_trip_diagnostics"])

    return once


def _trips(diagnostics: dict) -> int:
    return int(np.sum(np.asarray(diagnostics["round_trips_per_chain"])))


def our_tuned_run(problem: Problem, base: Distribution, sizes: Sizes) -> Callable[[int], int]:
    """Return (number) -> round trips of ``partition.parallel_tempering``, its tuning included."""

    def make_sampler(energy: Any) -> Sampler:  # energy is of the path: its first argument is beta
        return problem.make_sampler(problem.energy, beta=energy.args[0])

    def once(number: int) -> int:
        return partition.parallel_tempering(
            jax.random.key(number),
            base,
            problem.energy,
            make_sampler,
            num_chains=sizes.chains,
            num_scans=max(sizes.rounds, 16),
        ).round_trips

    return once


def peer_tuned_run(problem: Problem, rounds: int) -> Callable[[int], int]:
    """Return the same of ``hamon.autotune``, the trips of whose last run are counted too."""
    import hamon

    model, program, begin = problem.peer()

    def once(number: int) -> int:
        plan = hamon.autotune(
            jax.random.key(number),
            ebm=model,
            program=program,
            init_factory=lambda num, *_: begin(jax.random.key(2), num),
            n_rounds=rounds,
            compile_cache=False,
            device=None,
        )
        assert plan.report is not None
        return int(plan.report.total_round_trips or 0)

    return once


def _cases(sizes: Sizes, peers: Peers) -> dict[str, Callable[[int], int]]:
    """Return (number) -> round trips by case."""
    cases = {}
    for name, problem in {"glass": glass(sizes.side), "wells": wells()}.items():
        betas, state = ladder(problem, sizes)
        cases[f"ours, {name}, fixed ladder"] = our_run(problem, betas, state, sizes.rounds)
        sampler = samplers.replica_exchange(problem.energy, problem.make_sampler, betas)
        alone = sampler.init(problem.start(jax.random.key(1), 1))
        cases[f"ours, {name}, one ladder"] = our_run(problem, betas, alone, sizes.rounds)
        if "hamon" in peers:
            run = peer_run(problem, betas, sizes.rounds)
            cases[f"hamon, {name}, fixed ladder"] = run
    problem, num = glass(sizes.side), sizes.side**3
    base = Distribution(problem.start, lambda x: -num * jnp.log(2.0))
    cases["ours, glass, tuning included"] = our_tuned_run(problem, base, sizes)
    if "hamon" in peers:
        cases["hamon, glass, tuning included"] = peer_tuned_run(problem, sizes.rounds)
    return cases


def run_tempering(peers: Peers, repetitions: int, quick: bool) -> Suite:
    """Round trips of parallel tempering on a spin glass and on a target with eight modes."""
    sizes = QUICK if quick else FULL
    trips: dict[str, list[int]] = {}

    def case(name: str, run: Callable[[int], int]) -> measure.Case:
        number = itertools.count()

        def once() -> float:
            began = time.process_time()
            found = run(next(number))
            seconds = time.process_time() - began
            trips.setdefault(name, []).append(found)
            return seconds

        return once

    cases = {name: case(name, run) for name, run in _cases(sizes, peers).items()}
    first, times = measure.interleaved(cases, repetitions)
    ratios, shown, facts = compared(trips, times, sizes.chains)
    work = (
        f"round trips on a spin glass of {sizes.side}^3 (*glass*) and on 8 modes (*wells*), "
        f"{sizes.rounds:,} rounds. A ladder is one set of replicas; a round trip takes a replica "
        "from the highest to the lowest temperature and back. All times are those of the "
        f"processor. The fixed ladder has {sizes.replicas} inverse temperatures from {HOTTEST:g} "
        f"to {COLDEST:g}, which ebm_jax chose before. Ours runs {sizes.chains} ladders in one "
        f"program, hamon one (*{sizes.chains} ladders against 1*), or one as well (*1 ladder of "
        "each*). In *tuning included* each package chooses the number and the values of its "
        f"inverse temperatures from 0 to {COLDEST:g} by itself. {sizes.chains} ladders of each are "
        "compared: hamon has one run with its own ladder, with tuning, and its run with the fixed "
        f"ladder is counted {sizes.chains - 1} times more"
    )
    return Suite(work, None, ratios, shown, times, first, facts)


def _rate(*runs: tuple[float, float]) -> float:
    """Return all round trips of some runs, each (trips, seconds), over all their seconds."""
    return sum(trips for trips, _ in runs) / sum(seconds for _, seconds in runs)


def compared(
    trips: dict[str, list[int]], times: dict[str, list[float]], chains: int
) -> tuple[dict[str, float | None], dict[str, float | None], dict[str, Any]]:
    """Return the named ratios, the rows of the page, and the rates and ranges.

    ``trips`` are those of every call of a case: of the first one, which compiles, and of two in
    each repetition, the second of which is timed. A rate has the mean trips and the median time,
    the range of a ratio those of the timed calls.
    """
    whole = {
        name: (float(np.mean(trips[name][1:])), statistics.median(times[name])) for name in times
    }
    timed = {name: list(zip(trips[name][2::2], times[name], strict=True)) for name in times}
    facts: dict[str, Any] = {
        f"round trips a processor second, {name}": _rate(run) for name, run in whole.items()
    }
    ratios: dict[str, float | None] = {}
    shown: dict[str, float | None] = {}
    glass, wells = "hamon, glass, fixed ladder", "hamon, wells, fixed ladder"
    tuned = ("hamon, glass, tuning included", *(glass,) * (chains - 1))
    many, one = f"{chains} ladders against 1", "1 ladder of each"
    both = f"glass, tuning included, {chains} ladders of each ({chains - 1} of hamon fixed)"
    for key, what, ours, peers in (
        ("glass_fixed_ladder", f"glass, {many}", "ours, glass, fixed ladder", (glass,)),
        ("wells_fixed_ladder", f"wells, {many}", "ours, wells, fixed ladder", (wells,)),
        ("glass_tuning_included", both, "ours, glass, tuning included", tuned),
        (None, f"glass, {one}", "ours, glass, one ladder", (glass,)),
        (None, f"wells, {one}", "ours, wells, one ladder", (wells,)),
    ):
        label, ratio = f"hamon, {what}, round trips per processor second", None
        if peers[0] in times and (slower := _rate(*(whole[name] for name in peers))):
            shown[label] = ratio = _rate(whole[ours]) / slower
            pairs = zip(*(timed[name] for name in (ours, *peers)), strict=True)
            found = [(_rate(own), _rate(*others)) for own, *others in pairs]
            if all(other for _, other in found):
                ends = [own / other for own, other in found]
                facts[f"range over repetitions, {label}"] = [min(ends), max(ends)]
        if key:
            ratios[f"tempering_vs_hamon_{key}"] = ratio
    return ratios, shown, facts
