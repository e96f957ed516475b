"""Descent and minima that are differentiable, and training through them."""

import jax
import jax.numpy as jnp
from kinds import INF, Arg, count, energy, function, key, nonnegative, positive, row
from rows_training import value

from ebm_jax import objectives
from ebm_jax.inference import differentiable

Y = jnp.ones(2)
PAIRS = (jnp.ones((4, 2)), jnp.zeros((4, 2)))


def quadratic(y):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(y))


def stay(energy, y):
    return y


def follow(params, x, key):
    return params * x


def square(y, right):
    return jnp.sum((y - right) ** 2)


def descend(**options):
    return differentiable.unroll(quadratic, Y, **{"step_size": 0.1, "num_steps": 2} | options)


def through(loss=square):
    return objectives.through_inference(follow, loss)


START = Arg(Y, (None, (), "y", object(), 1j * Y, Y.astype(int), {"a": Y, "b": Y > 0}))

ROWS = [
    row(
        differentiable.unroll,
        also=[
            (lambda: descend(noise_sigma=0.1), "key"),
            (lambda: jax.eval_shape(lambda s: descend(noise_sigma=s), 0.1), "key"),
        ],
        energy=energy(quadratic),
        start=START,
        step_size=positive(0.1, INF, jnp.ones(2)),
        num_steps=count(2),
        last_steps=count(1, 3),
        noise_sigma=nonnegative(0.1, jnp.ones(2)),
        key=key(),
    ),
    row(
        differentiable.implicit_minimum,
        energy=energy(quadratic),
        start=START,
        minimize=function(
            stay,
            lambda e, y: None,
            lambda e, y: "low",
            lambda e, y: y[:1],
            lambda e, y: (y, y),
            lambda e, y: y.astype(int),
        ),
        num_iterations=count(2),
        tolerance=positive(1e-3, INF, jnp.ones(2)),
    ),
    row(
        objectives.through_inference,
        use=value(PAIRS),
        also=[
            (lambda b=b: value(b)(through()), "batch")
            for b in (None, Y, (Y,), (Y, Y, Y), (Y, Y[:1]), (Y, None), (None, Y), (Y, 1.0), "ab")
        ],
        infer=function(follow),
        loss=function(
            square, lambda *a: None, lambda *a: "low", lambda *a: 1, lambda *a: Y, lambda *a: 1j
        ),
    ),
]
