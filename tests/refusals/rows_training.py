"""Objectives, training, compilation."""

import functools

import jax
import jax.numpy as jnp
import optax
from kinds import (
    INF,
    KEY,
    NAN,
    NO_NUMBERS,
    Arg,
    count,
    energy,
    flag,
    fraction,
    function,
    key,
    nonnegative,
    numbers,
    positions,
    positive,
    row,
)
from rows_samplers import maker

from ebm_jax import losses, objectives, samplers, training
from ebm_jax.compilation import jit
from ebm_jax.types import Objective

X, PARAMS = jnp.ones((4, 2)), jnp.array(1.0)
IMAGES = jnp.ones((4, 2), jnp.uint8)
LABELS = jnp.zeros(4, int)


def bowl(params, x):
    return params * jnp.sum(x**2) / 2


make_sampler = functools.partial(samplers.ula, step_size=0.1)


def noise(params, key, indices):
    return jax.random.normal(key, (len(indices), 2))


def value(batch=X, params=PARAMS):
    """Begin, and take the loss of a batch."""
    return lambda o: o.loss(params, o.init(params, KEY), batch, KEY)


def of_batches(make):
    """Return the refusals of batches: of what has no leading axis, of images that are integers."""
    bad = (None, 1.0, (), {"a": X, "b": X[:2]}, X[:0])
    calls = [(lambda b=b: value(b)(make()), "batch") for b in bad]
    return [*calls, (lambda: value(IMAGES)(make()), "images / 255")]


ENERGY = energy(bowl)
PENALTY = nonnegative(0.1, INF, jnp.ones(2))
RUN = {"energy": ENERGY, "make_sampler": maker(make_sampler), "num_steps": count(1)}
INITIAL = function(noise, lambda *a: None, lambda *a: 1.0, lambda *a: X[:1], lambda *a: "noise")
SHORT = {"num_steps": 1, "num_chains": 2, "initial": noise}


def persistent(**options):
    given = SHORT | {"buffer_size": 4} | options
    return objectives.persistent(bowl, make_sampler, **given)


SQUARE = Objective(lambda p, k: (), lambda p, s, b, k: (p * jnp.sum(b), (s, {})))


def of_weight(weight):
    return objectives.weighted_sum(a=(weight, SQUARE, lambda b: b))


TRAINER = training.trainer(SQUARE, optax.sgd(0.1))
TRAINED = TRAINER.init(PARAMS, KEY)
METRICS = {"skipped_in_row": jnp.array([0, 1]), "step": jnp.array([0, 1])}


def update(trainer):
    return trainer.update(trainer.init(PARAMS, KEY), X, KEY)


def fit(objective=SQUARE, batch_size=2, **options):
    return training.fit(
        KEY, objective, optax.sgd(0.1), PARAMS, X, batch_size=batch_size, num_updates=3, **options
    )


class Unhashable(list):
    def __call__(self, *args):
        return args


def keyed(call, pattern=r"\bkey\b"):
    return [(lambda k=k: call(k), pattern) for k in key().bad]


ROWS = [
    row(
        objectives.contrastive_divergence,
        use=value(),
        also=of_batches(lambda: objectives.contrastive_divergence(bowl, make_sampler, num_steps=1)),
        energy_penalty=PENALTY,
        **RUN,
    ),
    row(
        objectives.short_run,
        use=value(),
        also=of_batches(lambda: objectives.short_run(bowl, make_sampler, **SHORT)),
        num_chains=count(2),
        initial=INITIAL,
        energy_penalty=PENALTY,
        **RUN,
    ),
    row(
        objectives.persistent,
        use=value(),
        also=[
            *of_batches(persistent),
            (lambda: persistent(num_chains=5), r"\[1, buffer_size=4\], got 5"),
            (
                lambda: persistent(restart_fraction=1.0, burn_in=1),
                r"restart_fraction=1\.0 and burn_in=1 leave 0 of",
            ),
        ],
        num_chains=count(2),
        buffer_size=count(4),
        initial=INITIAL,
        restart_fraction=fraction(0.1, jnp.ones(2)),
        burn_in=Arg(0, tuple(v for v in count(0).bad if v is False or v != 0)),
        groups=count(1, 3),
        energy_penalty=PENALTY,
        **RUN,
    ),
    row(
        objectives.discriminative,
        use=value((X, LABELS)),
        also=[
            (
                lambda b=b: value(b)(objectives.discriminative(lambda p, x: p * x, losses.nll)),
                "batch|label",
            )
            for b in (
                None,
                X,
                (X,),
                (X, None),
                (X, LABELS[:2]),
                (X, LABELS + 0.5),
                (X, jnp.full(4, 2)),
            )
        ],
        joint=function(
            lambda p, x: p * x, lambda p, x: 1.0, lambda p, x: None, lambda p, x: jnp.ones(2, int)
        ),
        loss=function(losses.nll, lambda e, y: None, lambda e, y: 1.0, lambda e, y: "low"),
    ),
    row(
        objectives.maximum_likelihood,
        use=value(),
        also=of_batches(lambda: objectives.maximum_likelihood(bowl, X))[:-1],
        energy=ENERGY,
        states=positions(X, named="states"),
        beta=positive(1.0, INF, jnp.ones(4)),
        log_weights=numbers(None, jnp.zeros(3), jnp.zeros((4, 1))),
    ),
    row(
        objectives.push_down,
        use=value(),
        also=of_batches(lambda: objectives.push_down(bowl))[:-1],
        energy=ENERGY,
    ),
    row(
        objectives.gradient_penalty,
        use=value(),
        also=of_batches(lambda: objectives.gradient_penalty(bowl)),
        energy=ENERGY,
    ),
    row(
        objectives.weighted_sum,
        also=[
            (objectives.weighted_sum, "at least one term"),
            *(
                (lambda w=w: of_weight(w), "weight of a must be")
                for w in (*NO_NUMBERS, -1.0, NAN, INF, jnp.ones(2))
            ),
        ],
        a=Arg(
            (1.0, SQUARE, lambda b: b),
            (
                None,
                1.0,
                SQUARE,
                (1.0, SQUARE),
                "abc",
                (1.0, bowl, lambda b: b),
                (1.0, SQUARE, None),
            ),
        ),
    ),
    row(
        training.trainer,
        use=update,
        also=[
            *keyed(lambda k: TRAINER.init(PARAMS, k)),
            *keyed(lambda k: TRAINER.step(TRAINED, X, k)),
            *keyed(lambda k: TRAINER.update(TRAINED, X, k)),
            *(
                (
                    lambda b=b: TRAINER.update(TRAINED, b, KEY),
                    "batches, stacked, must have one leading axis",
                )
                for b in (1.0, (), X[:0], {"a": X, "b": X[:3]})
            ),
            *(
                (lambda p=p: TRAINER.init(p, KEY), "arrays, got")
                for p in ("p", {"f": jax.nn.relu, "w": PARAMS}, object())
            ),
            *((lambda s=s: TRAINER.update(s, X, KEY), "state") for s in (None, PARAMS, "state")),
            *((lambda s=s: TRAINER.step(s, X, KEY), "state") for s in (None, PARAMS, "state")),
        ],
        objective=Arg(SQUARE, (None, 3, bowl, "objective", (1, 2))),
        optimizer=Arg(optax.sgd(0.1), (None, "adam", 0.1, optax.sgd, (1, 2))),
        average_decay=fraction(None, 1.0, jnp.ones(2)),
        donate=flag(False),
    ),
    row(
        training.fit,
        also=[
            (lambda: fit(batch_size=5), "batch_size must be at most the 4 examples of data, got 5"),
            (lambda: fit(callback_every=2), "callback_every=2 needs a callback"),
            *((lambda c=c: fit(callback=c), "callback") for c in (3, "f", X)),
            (lambda: fit(objective=Objective([].append, Unhashable())), "objective must be hash"),
        ],
        key=key(),
        objective=Arg(SQUARE, (None, 3, bowl, "objective", (1, 2))),
        optimizer=Arg(optax.sgd(0.1), (None, "adam", 0.1, optax.sgd, (1, 2))),
        params=Arg(PARAMS, ("p", object(), {"p": jnp.sum}), "[Pp]arameters"),
        data=positions(X, named="data"),
        batch_size=Arg(2, count(2).bad[1:]),  # None is all data
        num_updates=count(3),
        average_decay=fraction(None, 1.0, jnp.ones(2)),
        callback=Arg(None, ()),
        callback_every=Arg(None, ()),
    ),
    row(
        training.raise_if_diverged,
        metrics=Arg(METRICS, (None, "m", {}, {"skipped_in_row": "a"}, jnp.zeros(3))),
        limit=count(20),
    ),
    row(jit, fun=function(jnp.sum, named="fun")),
]
