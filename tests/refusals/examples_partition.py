"""Partition functions: exact, annealed, bridges, paths, pseudo-likelihood."""

import jax
import jax.numpy as jnp
import rules as r
from rules import INF, NAN, X, each, energy, example, only, plus

from ebm_jax import distributions, energies, partition
from ebm_jax.energies import lattice
from ebm_jax.energies.boltzmann import RBM, GaussianRBM
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.partition import annealed, bridges, estimates, exact, paths
from ebm_jax.partition.pseudo_likelihood import pseudo_log_likelihood

HALF, INTEGERS = 0.5 * jnp.ones(3), jnp.array([0, 1, 1])
MACHINE = RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2))
WRONG = MACHINE._replace(visible_bias=jnp.zeros(2))
OF_RBM = plus(MACHINE, WRONG)
SHAPE = only((2, 2), None, "2", 1.5, (1.5,), (-1,), True, (2, -2), object())
SIDES = (None, "44", 4, (4,), (4, 0), (4, 1.5), (4, 4, 4))
TEMPERATURES = (*r.NUMBERS, NAN, INF, -1.0, 0.0)
CENTRES = energies.GaussianMixture(jnp.zeros((3, 2)), jnp.ones(3), 1.0)
WITHOUT_FORMULA = (
    WRONG,
    GaussianRBM(*WRONG),
    GaussianRBM(*MACHINE, 0.0),
    tuple(MACHINE),
    energies.DoubleWell(1.0, 0.0),
    energies.Gaussian(1.0, 1.0),
    CENTRES._replace(sigma=0.0),
)
UNITS = only((0, 1), *r.without(r.VALUES, (1,)))
PAIR = Pairwise(jnp.ones(1), jnp.ones(2))
NO_PAIR = [p for p in r.of_tuple(PAIR, True) if isinstance(p, Pairwise)]
NO_PAIR = [p for p in NO_PAIR if jnp.shape(p.fields) != (5,)]  # a graph, too


def at_beta(params, shape=None):
    return lambda beta: exact.log_partition(params, shape, beta=beta)


def of_shape(params):
    return lambda shape: exact.log_partition(params, shape)


def of_edges(params, values=None):
    return lambda edges: exact.log_partition(params, edges=edges, values=values)


def ising(coupling):
    return exact.log_partition(lattice.Ising(coupling), (4, 4))


STATE = annealed.start(energy, r.make_sampler, X)
ANY = only(X, *r.BATCHES)  # integers, too
WEIGHTS = plus(jnp.zeros(4), 1.0, X, jnp.zeros(0), jnp.array([0.0, NAN]))
FORWARD = WEIGHTS._replace(named="forward|log-weights")
BACK = WEIGHTS._replace(named="back|log-weights")
# Along a path, beta is where it is.
PLACE = only(0.5, *r.NUMBERS, NAN, INF, X[0])

ROWS = [
    example(exact.states, shape=SHAPE, values=UNITS),
    example(
        exact.log_partition,
        also=[
            (lambda: exact.log_partition(energy, 31), r"at most 1073741824 states, got 2 val"),
            *each(
                exact.log_partition, WITHOUT_FORMULA, "params|weights|sigma|known log Z|precision"
            ),
            *each(at_beta(RBM(*MACHINE)), (*r.NUMBERS, NAN, -1.0, jnp.ones(2)), "beta"),
            *each(at_beta(GaussianRBM(*MACHINE)), (*TEMPERATURES, jnp.ones(2)), "beta"),
            *each(at_beta(lattice.Ising(1.0), (4, 4)), (*TEMPERATURES, jnp.ones(2)), "beta"),
            *each(at_beta(energies.Funnel(3.0), 2), TEMPERATURES, "beta"),
            *each(at_beta(energies.Ring(1.0, 1.0)), TEMPERATURES, "beta"),
            *each(at_beta(energies.Rosenbrock(1.0, 1.0)), TEMPERATURES, "beta"),
            *each(at_beta(energies.Gaussian(HALF, HALF)), TEMPERATURES, "beta"),
            *each(at_beta(CENTRES), (*TEMPERATURES, 2.0), "beta"),
            *each(of_shape(lattice.Ising(1.0)), SIDES, "shape"),
            *each(of_shape(energies.Funnel(3.0)), (None, "2", 1.5, 0, (2, 2)), "shape"),
            (lambda: exact.log_partition(MACHINE, 3), "shape=3 is for an energy"),
            (lambda: exact.log_partition(MACHINE, values=(0, 1)), "values=.* is for an energy"),
            *each(lambda p: of_edges(p)([[0, 1]]), NO_PAIR, "couplings|fields"),
            *each(of_edges(PAIR), [e for e in r.EDGES if not isinstance(e, r.Traced)], "edges"),
            *each(lambda v: of_edges(PAIR, v)([[0, 1]]), r.without(r.VALUES[1:], (1,)), "values"),
            *each(
                lambda b: exact.log_partition(PAIR, edges=[[0, 1]], beta=b), r.NONNEGATIVE, "beta"
            ),
            (lambda: exact.log_partition(PAIR, 2), "shape=2 is for an energy"),
            (lambda: exact.log_partition(PAIR, 2, edges=[[0, 1]]), "edges.* without a shape"),
            *each(ising, (*r.NUMBERS, NAN, INF, 0.0, -1.0, jnp.ones(2)), "coupling"),
            (lambda: exact.log_partition(lattice.Ising(1.0, 0.5), (4, 4)), "without a field"),
            (lambda: exact.log_partition(energies.Rosenbrock(1.0, 0.0)), r"\bb\b"),
            (lambda: exact.log_partition(energies.Ring(1.0, 0.0)), "width"),
            (lambda: exact.log_partition(energies.Ring(-1.0, 0.5)), "radius"),
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
    example(bridges.bennett, forward=FORWARD, back=BACK),
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
        params=OF_RBM,
        base_bias=plus(HALF, jnp.zeros(2), 1.0),
    ),
    example(
        pseudo_log_likelihood,
        x=only(INTEGERS, None, HALF, jnp.array([0, 2]), (), named="variable|leaf|Positions"),
        beta=plus(1.0, jnp.ones(3)),
    ),
    example(
        partition.annealed_importance_sampling,
        base=distributions.gaussian(jnp.zeros(2), 1.0),
        betas=plus(jnp.linspace(0, 1, 3), 1.0, jnp.zeros(3), [0.0]),
        target_samples=only(None, 1.0, (), jnp.zeros((0, 2)), {"a": X, "b": X[:2]}),
    ),
    example(
        partition.parallel_tempering,
        base=distributions.gaussian(jnp.zeros(2), 1.0),
        num_chains=plus(2, 1),
        num_scans=plus(16, 15),
        path=only(paths.geometric, *r.FUNCTIONS),
        max_replicas=plus(3, 2),
        also=[
            (
                lambda: jax.jit(
                    lambda k: (
                        partition.parallel_tempering(
                            k,
                            distributions.gaussian(jnp.zeros(2), 1.0),
                            energy,
                            r.make_sampler,
                            num_chains=2,
                            num_scans=16,
                        ).log_z
                    )
                )(r.KEY),
                "key and energy must be known",
            )
        ],
    ),
]
