"""Partition functions: exact, annealed, bridges, paths, pseudo-likelihood."""

import functools

import jax.numpy as jnp
from kinds import (
    INF,
    NAN,
    Arg,
    count,
    energies,
    energy,
    fraction,
    key,
    nonnegative,
    numbers,
    params,
    positions,
    positive,
    row,
)
from rows_samplers import VALUES, maker

from ebm_jax import distributions, samplers
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

X, HALF = jnp.ones((4, 2)), 0.5 * jnp.ones(3)
MACHINE = RBM(jnp.zeros((3, 2)), jnp.zeros(3), jnp.zeros(2))
WRONG = RBM(jnp.zeros((3, 2)), jnp.zeros(2), jnp.zeros(2))
OF_RBM = params(MACHINE, WRONG)._replace(named="params|weights")
OF_GAUSSIAN = params(GaussianRBM(*MACHINE), GaussianRBM(*WRONG), GaussianRBM(*MACHINE, 0.0))
OF_GAUSSIAN = OF_GAUSSIAN._replace(named="params|weights|sigma")
SHAPE = Arg((2, 2), (None, "2", 1.5, (1.5,), (-1,), True, (2, -2), object()))
UNITS = VALUES._replace(bad=tuple(v for v in VALUES.bad if v != (1,)))


def count_on(x):
    return jnp.sum(1.0 * x)


def path(beta, x):
    return (1 + beta) * jnp.sum(x**2) / 2


make_sampler = functools.partial(samplers.mala, step_size=0.1)
STATE = annealed.start(path, make_sampler, X)
OF_PATH = energy(path, named="path|energy")
STATES = Arg(STATE, (None, "state", X, 1.0, STATE.chains), "state")
MAKER = maker(make_sampler)
BASE = distributions.gaussian(jnp.zeros(2), 1.0)
ALONG = {"path": OF_PATH, "make_sampler": MAKER, "num_steps": count(1), "key": key()}
WEIGHTS = energies(jnp.zeros(4), 1.0, X, jnp.zeros(0), jnp.array([0.0, NAN]))
INSIDE = fraction(0.5, 0.0, 1.0, jnp.ones(2))

ROWS = [
    row(exact.states, shape=SHAPE, values=UNITS),
    row(
        exact.log_partition,
        also=[(lambda: exact.log_partition(count_on, 31), r"at most 1073741824 states, got 2 val")],
        energy=energy(count_on),
        shape=SHAPE,
        values=UNITS,
        beta=nonnegative(1.0, jnp.ones(2)),
    ),
    row(
        exact.log_partition_rbm,
        params=OF_RBM,
        beta=nonnegative(1.0, jnp.ones(2)),
    ),
    row(exact.log_partition_gaussian_rbm, params=OF_GAUSSIAN, beta=positive(1.0, jnp.ones(2))),
    row(
        exact.log_partition_ising,
        coupling=positive(0.4, INF, jnp.ones(2)),
        shape=Arg((4, 4), (None, "44", 4, (4,), (4, 0), (4, 1.5), (4, 4, 4))),
    ),
    row(
        annealed.start,
        path=OF_PATH,
        make_sampler=MAKER,
        positions=positions(X),
        beta=numbers(0.0, NAN, INF, jnp.ones(2)),
    ),
    row(annealed.reweight, path=OF_PATH, state=STATES, beta=numbers(0.5, NAN, INF, jnp.ones(2))),
    row(
        annealed.anneal,
        **ALONG,
        state=STATES,
        betas=numbers(jnp.array([0.5, 1.0]), X, jnp.array([0.5, NAN])),
        resample_below=fraction(0.5, jnp.ones(2)),
        groups=count(2, 3),
    ),
    row(
        annealed.choose_betas,
        **ALONG,
        positions=positions(X),
        fraction=INSIDE,
        max_betas=count(3),
    ),
    row(estimates.log_partition, key=key(), state=STATES, confidence=INSIDE, resamples=count(2)),
    row(
        estimates.bracket,
        key=key(),
        forward=STATES._replace(named="forward"),
        back=STATES._replace(named="back"),
        confidence=INSIDE,
    ),
    row(
        bridges.bennett,
        forward=WEIGHTS._replace(named="forward|log-weights"),
        back=WEIGHTS._replace(named="back|log-weights"),
    ),
    row(
        bridges.thermodynamic_integration,
        path=OF_PATH,
        betas=numbers(jnp.array([0.0, 1.0]), 1.0, jnp.zeros(3), X, jnp.array([0.0, NAN])),
        positions=positions(jnp.ones((2, 3))),
    ),
    row(
        paths.geometric,
        use=lambda path: path(0.5, HALF),
        base=energy(count_on, named="base"),
        energy=energy(count_on),
    ),
    row(
        paths.rbm,
        use=lambda pair: pair[0](0.5, HALF),
        params=OF_RBM,
        base_bias=energies(HALF, jnp.zeros(2), 1.0),
    ),
    row(
        pseudo_log_likelihood,
        energy=energy(count_on),
        x=Arg(jnp.array([0, 1, 1]), (None, HALF, jnp.array([0, 2]), ()), "variable|leaf|Positions"),
        values=VALUES,
        beta=nonnegative(1.0, jnp.ones(3)),
    ),
    row(
        annealed_importance_sampling,
        key=key(),
        base=Arg(BASE, (None, 1.0, BASE.sample, [BASE])),
        energy=energy(lambda x: jnp.sum(x**2) / 2),
        make_sampler=MAKER,
        betas=numbers(jnp.linspace(0, 1, 3), 1.0, jnp.zeros(3), X, jnp.array([0.0, NAN]), [0.0]),
        num_chains=count(3),
        num_steps=count(1),
        target_samples=Arg(None, (1.0, (), jnp.zeros((0, 2)), {"a": X, "b": X[:2]})),
        confidence=INSIDE,
    ),
]
