"""Samplers: their options, their positions and keys, running and adapting them."""

import functools

import jax.numpy as jnp
import rules as r
from rules import INF, NAN, X, each, energy, example, examples, only, plus, result

from ebm_jax import samplers
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.energies.lattice import Ising, Potts
from ebm_jax.energies.pairwise import Pairwise
from ebm_jax.energies.potts import DensePotts
from ebm_jax.samplers import replay_buffer, schedules
from ebm_jax.types import Sampler

BITS, SITES = jnp.zeros((3, 4), int), jnp.ones((3, 4, 4), jnp.int8)
ROW, INTEGERS = jnp.ones(4), X.astype(int)


# One number, one per dimension (2,), or one per chain (4, 1): not one per coordinate.
LANGEVIN = {
    "step_size": plus(0.1, X, ROW),
    "beta": plus(None, 0.0, X, jnp.ones((4, 1)), jnp.ones(2)),
    "max_gradient_norm": plus(None, ROW),
}
NOISE = plus(None, INF, X, ROW)
DENSE = DensePotts(jnp.zeros((4, 2, 4, 2)), jnp.zeros((4, 2)))
FOREST = Pairwise(jnp.ones(2), jnp.zeros(4))
MACHINE = RBM(jnp.zeros((4, 2)), jnp.zeros(4), jnp.zeros(2))

LADDER = [[1.0, 0.5], [0.5, 0.5], [1.0], [0.5, INF], [0.5, NAN], [[0.5, 1.0]], [0.0, 1.0]]
LADDER = plus([0.5, 1.0], *LADDER, -1.0, 0.0, NAN)
INDICES = [[0.5, 1.5], [0, 4], [0, -1], [1, 1], [], [[0, 1]], [True, False]]
INDICES = only(jnp.array([0, 2]), None, "0", 0, ["a"], *INDICES)
ENDS = only(0.1, *r.NUMBERS, -1.0, NAN, 0.0, INF)
LEVELS = (*r.NUMBERS, 0.1, [], [[0.1]], [0.1, 0.0], [0.1, -1.0], [0.1, NAN])

TWO_NOISES = functools.partial(samplers.ula, energy, step_size=1.0, beta=1.0, noise_sigma=1.0)
PER_DIMENSION = functools.partial(samplers.mala, energy, step_size=ROW[:2], noise_sigma=1.0)
NOISY = [(TWO_NOISES, "not both"), (PER_DIMENSION, "one beta for all dimensions in MALA")]

ROWS = [
    example(samplers.sample, sampler=plus(r.MALA, Sampler(lambda x: x, lambda k, x: (x, x)))),
    *examples(samplers, "ula mala", noise_sigma=NOISE, **LANGEVIN, also=NOISY),
    example(
        samplers.sgld,
        gradient=only(lambda k, x: x, *r.FUNCTIONS, result(1.0), result(None), result((X, X))),
        noise_sigma=NOISE,
        **LANGEVIN,
    ),
    example(
        samplers.baoab,
        friction=plus(1.0, INF, jnp.ones(2)),
        mass=plus(1.0, X, ROW),
        **LANGEVIN | {"step_size": plus(0.1, X, jnp.ones(2))},
    ),
    example(
        samplers.rbm_gibbs,
        at=BITS,
        wrong=[BITS[:, :3]],
        params=plus(MACHINE, MACHINE._replace(visible_bias=jnp.zeros(2))),
    ),
    example(
        samplers.checkerboard_gibbs,
        at=SITES,
        wrong=[0 * SITES, SITES[:, :3], SITES[:, 0]],
        params=plus(Ising(0.4, 0.0), Ising("k"), Ising(jnp.ones(2)), Potts(0.4, 0.0)),
    ),
    example(
        samplers.dense_potts_gibbs,
        at=BITS,
        wrong=[BITS[:, :3]],
        params=plus(DENSE, DENSE._replace(fields=jnp.zeros((3, 2)))),
    ),
    example(
        samplers.graph_gibbs,
        at=BITS,
        wrong=[BITS[:, :3]],
        params=plus(FOREST, FOREST._replace(couplings=jnp.ones(3))),
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
        initial=only(0.1, *r.NUMBERS, -1.0, NAN, 0.0, INF, jnp.ones(3), named="initial|step_size"),
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
            (lambda: schedules.piecewise_constant(2), "values must be vectors"),
            (
                lambda: schedules.piecewise_constant(2, [0.1], [0.1, 0.2]),
                r"same length .*\(1,\), \(2,\)",
            ),
            *each(lambda v: schedules.piecewise_constant(2, v), LEVELS, "values must be"),
        ],
    ),
    example(
        schedules.geometric,
        start=ENDS,
        end=ENDS,
        also=[
            (lambda: schedules.geometric(jnp.ones(2), jnp.ones(3), 2), r"start \(2,\), end \(3,\)")
        ],
    ),
    example(schedules.warming, use=lambda beta: beta(0)),
]
