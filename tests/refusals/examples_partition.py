"""Partition functions: exact, annealed, bridges, paths, pseudo-likelihood."""

import jax.numpy as jnp
import rules as r
from rules import INF, NAN, X, energy, example, only, plus

from ebm_jax import distributions
from ebm_jax.energies.boltzmann import RBM, GaussianRBM
from ebm_jax.partition import (
    annealed,
    annealed_importance_sampling,
    bridges,
    estimates,
    exact,
    paths,
)
from ebm_jax.partition.pseudo_likelihood import pseudo_log_likelihood

HALF, INTEGERS = 0.5 * jnp.ones(3), jnp.array([0, 1, 1])
MACHINE = RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2))
WRONG = MACHINE._replace(visible_bias=jnp.zeros(2))
OF_RBM = plus(MACHINE, WRONG)
OF_GAUSSIAN = plus(GaussianRBM(*MACHINE), GaussianRBM(*WRONG), GaussianRBM(*MACHINE, 0.0))
SHAPE = only((2, 2), None, "2", 1.5, (1.5,), (-1,), True, (2, -2), object())
UNITS = only((0, 1), *r.without(r.VALUES, (1,)))


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
        also=[(lambda: exact.log_partition(energy, 31), r"at most 1073741824 states, got 2 val")],
        shape=SHAPE,
        values=UNITS,
    ),
    example(exact.log_partition_rbm, params=OF_RBM),
    example(exact.log_partition_gaussian_rbm, params=OF_GAUSSIAN, beta=plus(1.0, 0.0)),
    example(
        exact.log_partition_ising,
        shape=only((4, 4), None, "44", 4, (4,), (4, 0), (4, 1.5), (4, 4, 4)),
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
        annealed_importance_sampling,
        base=distributions.gaussian(jnp.zeros(2), 1.0),
        betas=plus(jnp.linspace(0, 1, 3), 1.0, jnp.zeros(3), [0.0]),
        target_samples=only(None, 1.0, (), jnp.zeros((0, 2)), {"a": X, "b": X[:2]}),
    ),
]
