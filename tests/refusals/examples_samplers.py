"""Samplers, and partition functions: exact, annealed, bridges, paths, pseudo-likelihood."""

import functools

import jax
import jax.numpy as jnp
import rules as r
from rules import INF, NAN, X, changed, each, energy, example, examples, only, plus, refused, result

from ebm_jax import distributions, partition, samplers
from ebm_jax.energies.boltzmann import RBM, GaussianRBM
from ebm_jax.energies.closed_forms import (
    DoubleWell,
    Funnel,
    Gaussian,
    GaussianMixture,
    Ring,
    Rosenbrock,
)
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
LEVELS = (*r.NUMBERS, 0.1, [], [[0.1]], [0.1, 0.0], [0.1, -1.0], [0.1, NAN])
ONE_BETA = functools.partial(samplers.mala, energy)
SCHEDULES = [functools.partial(schedules.piecewise_constant, 2), schedules.piecewise_constant]


def noisy(make, target):
    """Return that a step size and a noise that disagree with each other are refused."""
    both = functools.partial(make, target, step_size=1.0, beta=1.0)
    return refused(both, noise_sigma=[1.0], named="not both")


RBM_OF_3 = changed(RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2)), visible_bias=[jnp.zeros(2)])
RBM3, WRONG = RBM_OF_3.valid, RBM_OF_3.bad[0]
SHAPE = only((2, 2), None, "2", 1.5, (1.5,), (-1,), True, (2, -2), object())
SIDES = (None, "44", 4, (4,), (4, 0), (4, 1.5), (4, 4, 4))
TEMPERATURES = (*r.NUMBERS, NAN, INF, -1.0, 0.0)
CENTRES = GaussianMixture(jnp.zeros((3, 2)), jnp.ones(3), 1.0)
WITHOUT_FORMULA = (WRONG, GaussianRBM(*WRONG), GaussianRBM(*RBM3, 0.0), tuple(RBM3))
WITHOUT_FORMULA += (DoubleWell(1.0, 0.0), Gaussian(1.0, 1.0), CENTRES._replace(sigma=0.0))
ROUND = [(Ring(1.0, 1.0),), (Rosenbrock(1.0, 1.0),), (Gaussian(HALF, HALF),), (Funnel(3.0), 2)]
UNITS = only((0, 1), *r.without(r.VALUES, (1,)))
PAIR, EDGE = Pairwise(jnp.ones(1), TWO), [[0, 1]]
NO_PAIR = [p for p in r.of_tuple(PAIR, True) if isinstance(p, Pairwise)]
NO_PAIR = [p for p in NO_PAIR if jnp.shape(p.fields) != (5,)]  # a graph, too
LOG_Z = exact.log_partition
OF_EDGE = functools.partial(LOG_Z, edges=EDGE)

STATE = annealed.start(energy, r.make_sampler, X)
ANY = only(X, *r.BATCHES)  # integers, too
WEIGHTS = plus(jnp.zeros(4), 1.0, X, jnp.zeros(0), jnp.array([0.0, NAN]))
PLACE = only(0.5, *r.NUMBERS, NAN, INF, X[0])  # along a path
NORMAL = distributions.gaussian(jnp.zeros(2), 1.0)


def tempered(key):
    sizes = {"num_chains": 2, "num_scans": 16}
    return partition.parallel_tempering(key, NORMAL, energy, r.make_sampler, **sizes).log_z


ROWS = [
    example(samplers.sample, sampler=plus(r.MALA, Sampler(lambda x: x, lambda k, x: (x, x)))),
    example(samplers.ula, noise_sigma=NOISE, **LANGEVIN, also=noisy(samplers.ula, energy)),
    example(
        samplers.mala,
        noise_sigma=NOISE,
        **LANGEVIN,
        also=[
            *noisy(samplers.mala, energy),
            *(
                (functools.partial(ONE_BETA, step_size=h, noise_sigma=s), "one beta for all dim")
                for h in (TWO, result(TWO))
                for s in (1.0, result(TWO))
            ),
        ],
    ),
    example(
        samplers.sgld,
        gradient=only(lambda k, x: x, *r.FUNCTIONS, result(1.0), result(None), result((X, X))),
        noise_sigma=NOISE,
        **LANGEVIN,
        also=noisy(samplers.sgld, lambda k, x: x),
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
    example(
        samplers.alternate,
        r.MALA,
        r.MALA,
        also=[
            *each(lambda s: samplers.alternate(*s), ((), (r.MALA,)), "two samplers or more, got"),
            *each(lambda s: samplers.alternate(r.MALA, s), (energy, None), "Sampler"),
        ],
    ),
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
    example(
        schedules.piecewise_constant,
        [0.1, 0.2],
        also=[
            (SCHEDULES[0], "values must be vectors"),
            (lambda: SCHEDULES[0]([0.1], [0.1, 0.2]), r"same length .*\(1,\), \(2,\)"),
            *each(SCHEDULES[0], LEVELS, "values must be"),
        ],
    ),
    example(
        schedules.geometric,
        start=ENDS,
        end=ENDS,
        also=each(lambda s: schedules.geometric(*s, 2), [(TWO, HALF)], r"start \(2,\), end \(3,\)"),
    ),
    example(schedules.warming, use=lambda beta: beta(0)),
    example(exact.states, shape=SHAPE, values=UNITS),
    example(
        LOG_Z,
        also=[
            (lambda: LOG_Z(energy, 31), r"at most 1073741824 states, got 2 val"),
            *each(LOG_Z, WITHOUT_FORMULA, "params|weights|sigma|known log Z|precision"),
            *refused(LOG_Z, RBM3, beta=(*r.NUMBERS, NAN, -1.0, TWO)),
            *refused(LOG_Z, GaussianRBM(*RBM3), beta=(*TEMPERATURES, TWO)),
            *refused(LOG_Z, Ising(1.0), (4, 4), beta=(*TEMPERATURES, TWO)),
            *refused(LOG_Z, CENTRES, beta=(*TEMPERATURES, 2.0)),
            *(refusal for of in ROUND for refusal in refused(LOG_Z, *of, beta=TEMPERATURES)),
            *refused(LOG_Z, Ising(1.0), shape=SIDES),
            *refused(LOG_Z, Funnel(3.0), shape=(None, "2", 1.5, 0, (2, 2))),
            *refused(LOG_Z, RBM3, shape=[3], named="shape=3 is for an energy"),
            *refused(LOG_Z, RBM3, values=[(0, 1)], named="values=.* is for an energy"),
            *each(OF_EDGE, NO_PAIR, "couplings|fields"),
            *refused(LOG_Z, PAIR, edges=[e for e in r.EDGES if not isinstance(e, r.Traced)]),
            *refused(OF_EDGE, PAIR, values=r.without(r.VALUES[1:], (1,)), beta=r.NONNEGATIVE),
            *refused(LOG_Z, PAIR, shape=[2], named="shape=2 is for an energy"),
            *refused(OF_EDGE, PAIR, shape=[2], named="edges.* without a shape"),
            *each(
                lambda k: LOG_Z(Ising(k), (4, 4)),
                (*r.NUMBERS, NAN, INF, 0.0, -1.0, TWO),
                r"\bcoupling\b",
            ),
            *refused(LOG_Z, Ising(1.0, 0.5), shape=[(4, 4)], named="without a field"),
            *each(LOG_Z, [Rosenbrock(1.0, 0.0)], r"\bb\b"),
            *each(LOG_Z, [Ring(1.0, 0.0)], "width"),
            *each(LOG_Z, [Ring(-1.0, 0.5)], "radius"),
        ],
        shape=SHAPE,
        values=UNITS,
    ),
    example(annealed.start, positions=ANY, beta=PLACE),
    example(annealed.reweight, state=STATE, beta=PLACE),
    example(annealed.anneal, state=STATE, groups=plus(2, 3)),
    example(annealed.choose_betas, positions=ANY, fraction=only(0.5, *r.INSIDE)),
    example(estimates.log_partition, state=STATE),
    example(estimates.bracket, forward=STATE, back=STATE),
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
