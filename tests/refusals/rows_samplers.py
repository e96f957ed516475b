"""Samplers: their options, their positions and keys, running and adapting them."""

import functools

import jax.numpy as jnp
from ebm_jax.samplers.sampling import sample
from kinds import (
    INF,
    KEY,
    NAN,
    NO_NUMBERS,
    Arg,
    allowed,
    count,
    energy,
    flag,
    fraction,
    function,
    key,
    nonnegative,
    params,
    positions,
    positive,
    row,
)

from ebm_jax import samplers
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.energies.lattice import Ising, Potts
from ebm_jax.samplers import replay_buffer, schedules
from ebm_jax.samplers.composition import alternate
from ebm_jax.types import Sampler

X, BITS = jnp.ones((3, 2)), jnp.zeros((3, 4), int)
SITES = jnp.ones((3, 4, 4), jnp.int8)


def bowl(x):
    return jnp.sum(x**2) / 2


def hops(x):
    """An energy of units."""
    return jnp.sum(x * 1.0)


def mala(step_size=0.1, **options):
    return samplers.mala(bowl, step_size=step_size, **options)


MALA = mala()
MAKE_MALA = functools.partial(samplers.mala, step_size=0.1)
STATE = MALA.init(X)


def steps(x):
    """Start a sampler at x and make a step."""
    return lambda sampler: sampler.step(KEY, sampler.init(x))


def started(make, x, *wrong):
    """Return the refusals of every sampler: of what are no positions, and of what is no key."""
    calls = [
        (lambda v=v: steps(v)(make()), "Positions|Units|Sites|variable")
        for v in (*positions(x).bad, *wrong)
    ]
    return calls + [(lambda k=k: make().step(k, make().init(x)), r"\bkey\b") for k in key().bad]


def schedule(value):
    return lambda step: value


def option(valid, *more):
    """A number or a schedule, of which the value is checked at step 0."""
    bad = (*NO_NUMBERS, True, NAN, -1.0, *more)
    return Arg(valid, (*bad, *map(schedule, bad)))


def bounds():
    pairs = [(low, 1.0) for low in NO_NUMBERS] + [(0.0, schedule("high")), (1.0, 0.0), (0.0, NAN)]
    return Arg(None, (1.0, "bounds", (0.0,), (0.0, 1.0, 2.0), (X, 5.0), *pairs))


BETA = option(None, 0.0, X, jnp.ones((3, 1)), jnp.ones(2))
LANGEVIN = {
    "step_size": option(0.1, 0.0, INF, X, jnp.ones(3)),
    "beta": BETA,
    "max_gradient_norm": option(None, 0.0, INF, jnp.ones(3)),
    "bounds": bounds(),
}
NOISE = option(None, INF, X, jnp.ones(3))
INTEGERS = X.astype(int)

CLAMP = Arg(None, ("yes", object(), jnp.ones(4), jnp.ones(4, int), jnp.ones(5, bool)))
VALUES = Arg((0, 1), (None, "01", ("a", "b"), object(), 1, (1,), (0, 0), ((0, 1),), (0.0, NAN), 1j))
WARM = nonnegative(1.0, jnp.ones(2), jnp.ones((3, 1)))
DISCRETE = {"energy": energy(hops), "values": VALUES, "beta": WARM, "clamp": CLAMP}
INFORMED = DISCRETE | {
    "beta": nonnegative(1.0, INF, jnp.ones(2), jnp.ones((3, 1))),
    "one_hot": flag(False),
}
ALPHA = positive(0.2, INF, jnp.ones(2))
HALVES = 0.5 * jnp.ones((3, 4))


def maker(valid, named="make_sampler"):
    """A factory: what it returns must be a sampler."""
    return function(
        valid, lambda *_, **__: None, lambda *_, **__: bowl, lambda *_, **__: (1, 2), named=named
    )


SAMPLER = Arg(MALA, (None, 3, bowl, (1, 2), lambda: None))
STATES = Arg(STATE, (None, "x", X, {"a": X}, 1.0))
CHAINS = Arg(X, (None, "x", 1.0, (), jnp.zeros((0, 2)), {"a": X, "b": X[:2]}), "[Cc]hains")
AXES = Arg(None, ("x", 0.5, (0, 0), 2, -3))
GROUPS = count(1, 2)
LADDER = positive([0.5, 1.0], [1.0, 0.5], [0.5, 0.5], [1.0], [0.5, INF], [[0.5, 1.0]], [0.0, 1.0])
LEVELS = (*NO_NUMBERS, 0.1, [], [[0.1]], [0.1, 0.0], [0.1, -1.0], [0.1, NAN])

ROWS = [
    row(
        sample,
        key=key(),
        sampler=SAMPLER._replace(bad=(*SAMPLER.bad, Sampler(lambda x: x, lambda k, x: (x, x)))),
        positions=positions(X, INTEGERS),
        num_samples=count(2),
        warmup=Arg(0, tuple(v for v in count(0).bad if v is False or v != 0)),
        thin=count(1),
    ),
    row(
        samplers.ula,
        use=steps(X),
        also=[
            *started(lambda: samplers.ula(bowl, step_size=0.1), X, INTEGERS),
            (lambda: samplers.ula(bowl, step_size=1.0, beta=1.0, noise_sigma=1.0), "not both"),
        ],
        energy=energy(bowl),
        noise_sigma=NOISE,
        **LANGEVIN,
    ),
    row(
        samplers.mala,
        use=steps(X),
        also=[
            *started(mala, X, INTEGERS),
            (lambda: mala(jnp.ones(2), noise_sigma=1.0), "one beta for all dimensions in MALA"),
        ],
        energy=energy(bowl),
        noise_sigma=NOISE,
        **LANGEVIN,
    ),
    row(
        samplers.sgld,
        use=steps(X),
        also=started(lambda: samplers.sgld(lambda k, x: x, step_size=0.1), X, INTEGERS),
        gradient=function(lambda k, x: x, lambda k, x: 1.0, lambda k, x: None, lambda k, x: (x, x)),
        noise_sigma=NOISE,
        **LANGEVIN,
    ),
    row(
        samplers.baoab,
        use=steps(X),
        also=started(lambda: samplers.baoab(bowl, step_size=0.1, friction=1.0), X, INTEGERS),
        energy=energy(bowl),
        friction=option(1.0, INF, jnp.ones(2)),
        mass=option(1.0, 0.0, INF, X, jnp.ones(3)),
        **LANGEVIN | {"step_size": option(0.1, 0.0, INF, jnp.ones(2))},
    ),
    row(
        samplers.rbm_gibbs,
        use=steps(BITS),
        also=started(
            lambda: samplers.rbm_gibbs(RBM(jnp.zeros((4, 2)), jnp.zeros(4), jnp.zeros(2))),
            BITS,
            BITS + 2,
            HALVES,
            BITS[:, :3],
        ),
        params=params(
            RBM(jnp.zeros((4, 2)), jnp.zeros(4), jnp.zeros(2)),
            RBM(jnp.zeros((4, 2)), jnp.zeros(2), jnp.zeros(2)),
        )._replace(named="params|weights"),
        beta=WARM,
        clamp=CLAMP,
    ),
    row(
        samplers.checkerboard_gibbs,
        use=steps(SITES),
        also=started(
            lambda: samplers.checkerboard_gibbs(Ising(0.4)),
            SITES,
            0 * SITES,
            1.0 * SITES,
            SITES[:, :3],
            SITES[:, 0],
        ),
        params=params(Ising(0.4, 0.0), Ising("k"), Ising(jnp.ones(2)), Potts(0.4, 0.0))._replace(
            named="params|coupling|field"
        ),
        beta=WARM,
        clamp=CLAMP._replace(bad=(*CLAMP.bad[:2], jnp.ones(4), jnp.ones(5, bool))),
    ),
    row(
        samplers.systematic_scan_gibbs,
        use=steps(BITS),
        also=started(lambda: samplers.systematic_scan_gibbs(hops), BITS, BITS + 2, HALVES),
        block_size=count(1, 5),
        **DISCRETE,
    ),
    row(
        samplers.gibbs_with_gradients,
        use=steps(BITS),
        also=started(lambda: samplers.gibbs_with_gradients(hops), BITS, BITS + 2, HALVES),
        **INFORMED,
    ),
    row(
        samplers.dula,
        use=steps(BITS),
        also=started(lambda: samplers.dula(hops, step_size=0.2), BITS, BITS + 2, HALVES),
        step_size=ALPHA,
        **INFORMED,
    ),
    row(
        samplers.dmala,
        use=steps(BITS),
        also=started(lambda: samplers.dmala(hops, step_size=0.2), BITS, BITS + 2, HALVES),
        step_size=ALPHA,
        **INFORMED,
    ),
    row(
        alternate,
        MALA,
        MALA,
        use=steps(X),
        also=[
            (alternate, "two samplers or more, got 0"),
            (lambda: alternate(MALA), "two samplers or more, got 1"),
            (lambda: alternate(MALA, bowl), "Sampler"),
            (lambda: alternate(MALA, None), "Sampler"),
            *started(lambda: alternate(MALA, MALA), X, INTEGERS),
        ],
    ),
    row(
        samplers.replica_exchange,
        use=steps(X),
        also=started(
            lambda: samplers.replica_exchange(bowl, MAKE_MALA, [0.5, 1.0]),
            X,
            INTEGERS,
        ),
        energy=energy(bowl),
        make_sampler=maker(MAKE_MALA),
        betas=LADDER,
        steps_per_swap=count(1),
    ),
    row(
        samplers.adapt_ladder,
        betas=LADDER,
        acceptance_rate=fraction([0.5], [0.5, 0.5], 0.5, [NAN]),
    ),
    row(
        samplers.adapt_step_size,
        key=key(),
        energy=energy(bowl),
        make_sampler=maker(samplers.mala)._replace(
            bad=(*maker(samplers.mala).bad, samplers.ula),
            named="make_sampler",
        ),
        position=positions(X, INTEGERS),
        num_steps=count(2),
        initial=positive(0.1, INF, jnp.ones(3))._replace(named="initial|step_size"),
        target=positive(0.5, 1.0, INF, jnp.ones(2)),
    ),
    row(
        samplers.run,
        key=key(),
        sampler=SAMPLER,
        state=STATES,
        num_steps=count(2),
        collect=function(None),
        thin=count(1, 3),
    ),
    row(samplers.refresh, sampler=SAMPLER, state=STATES),
    row(samplers.mean_info, state=allowed(None), info=Arg(STATE, (None, "info", X, {"a": X}))),
    row(samplers.chain_axes, sampler=SAMPLER, position=positions(X, INTEGERS)),
    row(
        replay_buffer.draw,
        key=key(),
        chains=CHAINS,
        num=count(2, 4),
        axes=AXES,
        groups=GROUPS,
    ),
    row(
        replay_buffer.write_back,
        chains=CHAINS,
        indices=Arg(
            jnp.array([0, 2]),
            (None, "0", 0, ["a"], [0.5, 1.5], [0, 3], [0, -1], [1, 1], [], [[0, 1]], [True, False]),
        ),
        moved=Arg(X[:2], (None, "x", X, X[:1], X[:2, :1], {"a": X[:2]}, (X[:2], X[:2]))),
        axes=AXES,
        groups=GROUPS,
    ),
    row(
        replay_buffer.restart,
        key=key(),
        chains=CHAINS,
        fresh=Arg(X, (None, "x", X[:2], X[:, :1], {"a": X}, (X, X))),
        fraction=fraction(0.5, jnp.ones(3)),
        axes=AXES,
    ),
    row(
        schedules.piecewise_constant,
        [0.1, 0.2],
        also=[
            (lambda: schedules.piecewise_constant(2), "Levels must be arrays"),
            (
                lambda: schedules.piecewise_constant(2, [0.1], [0.1, 0.2]),
                r"same length .*\(1,\), \(2,\)",
            ),
            *(
                (lambda v=v: schedules.piecewise_constant(2, v), "[Ll]evels must be")
                for v in LEVELS
            ),
        ],
        steps_each=count(2),
    ),
    row(
        schedules.geometric,
        also=[
            (
                lambda: schedules.geometric(jnp.ones(2), jnp.ones(3), 2),
                r"start \(2,\), end \(3,\)",
            )
        ],
        start=positive(0.1, INF),
        end=positive(1.0, INF),
        num_steps=count(2),
    ),
]
