"""Samplers, and partition functions: exact, annealed, bridges, paths, pseudo-likelihood."""

import jax
import jax.numpy as jnp
import rules as r
from rules import INF, NAN, X, changed, energy, example, examples, only, plus, result

from ebm_jax import distributions, partition, samplers
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.energies.lattice import Ising, Potts
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.energies.potts import DensePotts
from ebm_jax.partition import annealed, bridges, estimates, exact, paths
from ebm_jax.partition.pseudo_likelihood import pseudo_log_likelihood
from ebm_jax.samplers import replay_buffer, schedules
from ebm_jax.types import Sampler

BITS, SITES = jnp.zeros((3, 4), int), jnp.ones((3, 4, 4), jnp.int8)
TWO, ROW, HALF, WIDE = jnp.ones(2), jnp.ones(4), 0.5 * jnp.ones(3), jnp.ones((3, 1))

# One number, one per dimension (2,), or one per chain (4, 1): not one per coordinate.
LANGEVIN = {
    "step_size": plus(0.1, X, ROW, jnp.array([0.1, 0.0])),
    "beta": plus(None, 0.0, X, jnp.ones((4, 1)), TWO),
    "max_gradient_norm": plus(None, ROW),
}
NOISE = plus(None, INF, X, ROW)
DENSE = changed(DensePotts(jnp.zeros((4, 2, 4, 2)), jnp.zeros((4, 2))), fields=[jnp.zeros((3, 2))])
FOREST = changed(Pairwise(TWO, jnp.zeros(4)), couplings=[jnp.ones(3)])
MACHINE = changed(RBM(jnp.zeros((4, 2)), jnp.zeros(4), jnp.zeros(2)), visible_bias=[jnp.zeros(2)])
LATTICES = plus(Ising(0.4, 0.0), Ising("k"), Ising(TWO), Potts(0.4, 0.0))

LADDER = [[1.0, 0.5], [0.5, 0.5], [1.0], [0.5, INF], [0.5, NAN], [[0.5, 1.0]], [0.0, 1.0]]
LADDER = plus([0.5, 1.0], *LADDER, -1.0, 0.0, NAN)
INDICES = [[0.5, 1.5], [0, 4], [0, -1], [1, 1], [], [[0, 1]], [True, False]]
INDICES = only(jnp.array([0, 2]), None, "0", 0, ["a"], *INDICES)
ENDS = only(0.1, *r.NUMBERS, -1.0, NAN, 0.0, INF)
RBM_OF_3 = changed(RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2)), visible_bias=[jnp.zeros(2)])
SHAPE = only((2, 2), None, "2", 1.5, (1.5,), (-1,), True, (2, -2), object())
UNITS = only((0, 1), *r.without(r.VALUES, (1,)))

STATE = annealed.start(energy, r.make_sampler, X)
ESTIMATE = only(estimates.Estimate(1.0, 0.1, jnp.array([0.8, 1.2]), 50.0), None, 1.0, STATE)
ANY = only(X, *r.BATCHES)  # integers, too
WEIGHTS = plus(jnp.zeros(4), 1.0, X, jnp.zeros(0), jnp.array([0.0, NAN]))
PLACE = only(0.5, *r.NUMBERS, NAN, INF, X[0])  # along a path
NORMAL = distributions.gaussian(jnp.zeros(2), 1.0)


def tempered(key):
    sizes = {"num_chains": 2, "num_scans": 16}
    return partition.parallel_tempering(key, NORMAL, energy, r.make_sampler, **sizes).log_z


ROWS = [
    example(samplers.sample, sampler=plus(r.MALA, Sampler(lambda x: x, lambda k, x: (x, x)))),
    *examples(samplers, "ula mala", noise_sigma=NOISE, **LANGEVIN),
    example(
        samplers.sgld,
        gradient=only(lambda k, x: x, *r.FUNCTIONS, result(1.0), result(None), result((X, X))),
        noise_sigma=NOISE,
        **LANGEVIN,
    ),
    example(
        samplers.baoab,
        friction=plus(1.0, INF, TWO),
        mass=plus(1.0, X, ROW),
        **LANGEVIN | {"step_size": plus(0.1, X, TWO)},
    ),
    example(samplers.rbm_gibbs, at=BITS, wrong=[BITS[:, :3]], params=MACHINE),
    example(
        samplers.checkerboard_gibbs,
        at=SITES,
        wrong=[0 * SITES, SITES[:, :3], SITES[:, 0]],
        params=LATTICES,
    ),
    example(samplers.dense_potts_gibbs, at=BITS, wrong=[BITS[:, :3]], params=DENSE),
    example(
        samplers.graph_gibbs,
        at=BITS,
        wrong=[BITS[:, :3]],
        params=FOREST,
        edges=plus([[0, 1], [1, 2]], []),
        values=plus(None, (0, 0.5)),
    ),
    example(samplers.systematic_scan_gibbs, at=BITS, block_size=plus(1, 5)),
    *examples(samplers, "gibbs_with_gradients dula dmala", at=BITS, beta=plus(1.0, INF)),
    example(samplers.alternate, r.MALA, r.MALA),
    example(samplers.replica_exchange, betas=LADDER),
    example(
        samplers.adapt_ladder, betas=LADDER, acceptance_rate=plus([0.5], [0.5, 0.5], 0.5, [NAN])
    ),
    example(
        samplers.adapt_step_size,
        make_sampler=plus(samplers.mala, samplers.ula),
        initial=ENDS._replace(bad=(*ENDS.bad, jnp.ones(3)), named="initial|step_size"),
        target=plus(0.5, 1.0),
    ),
    example(samplers.run, collect=only(*r.FUNCTIONS), thin=plus(1, 3)),
    example(replay_buffer.draw, num=plus(2, 5)),
    example(
        replay_buffer.write_back,
        indices=INDICES,
        moved=only(X[:2], None, "x", X, X[:1], X[:2, :1], {"a": X[:2]}, (X[:2], X[:2])),
    ),
    example(replay_buffer.restart, fresh=only(X, None, "x", X[:2], X[:, :1], {"a": X}, (X, X))),
    example(schedules.piecewise_constant, [0.1, 0.2]),
    example(schedules.geometric, start=ENDS, end=ENDS),
    example(schedules.warming, use=lambda beta: beta(0)),
    example(exact.states, shape=SHAPE, values=UNITS),
    example(exact.log_partition, shape=SHAPE, values=UNITS),
    example(annealed.start, positions=ANY, beta=PLACE),
    example(annealed.reweight, state=STATE, beta=PLACE),
    example(annealed.anneal, state=STATE, groups=plus(2, 3)),
    example(annealed.choose_betas, positions=ANY, fraction=only(0.5, *r.INSIDE)),
    example(estimates.log_partition, state=STATE),
    example(estimates.bracket, forward=STATE, back=STATE),
    example(estimates.hull, lower=ESTIMATE, upper=ESTIMATE),
    example(
        bridges.bennett,
        forward=WEIGHTS._replace(named="forward|log-weights"),
        back=WEIGHTS._replace(named="back|log-weights"),
    ),
    example(
        bridges.thermodynamic_integration,
        betas=plus(jnp.array([0.0, 1.0]), 1.0, jnp.zeros(3)),
        positions=only(jnp.ones((2, 3)), *r.BATCHES),
    ),
    example(paths.geometric, use=lambda path: path(0.5, HALF)),
    example(
        paths.noise_levels,
        use=lambda path: path(0.5, HALF),
        energy=only(lambda x, sigma: jnp.sum(x) * sigma, *r.FUNCTIONS),
        sigma=only(lambda beta: 1.0 - beta / 2, *r.FUNCTIONS),
    ),
    example(
        paths.rbm,
        use=lambda pair: pair[0](0.5, HALF),
        params=RBM_OF_3,
        base_bias=plus(HALF, jnp.zeros(2), 1.0),
    ),
    example(
        pseudo_log_likelihood,
        x=only(BITS[0], None, HALF, BITS[0] + 2, (), named="variable|leaf|Positions"),
        beta=plus(1.0, jnp.ones(3)),
    ),
    example(
        partition.annealed_importance_sampling,
        base=NORMAL,
        betas=plus(jnp.linspace(0, 1, 3), 1.0, jnp.zeros(3), [0.0]),
        target_samples=only(None, 1.0, (), jnp.zeros((0, 2)), {"a": X, "b": X[:2]}),
    ),
    example(
        partition.parallel_tempering,
        base=NORMAL,
        num_chains=plus(2, 1),
        num_scans=plus(16, 15),
        path=only(paths.geometric, *r.FUNCTIONS),
        max_replicas=plus(3, 2),
        also=[(lambda: jax.jit(tempered)(r.KEY), "key and energy must be known")],
    ),
]
