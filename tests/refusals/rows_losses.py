"""gibbs, losses, gradients, margins."""

import functools

import jax.numpy as jnp
from kinds import (
    NAN,
    Arg,
    energies,
    flag,
    function,
    key,
    nonnegative,
    numbers,
    positive,
    row,
)

from ebm_jax import gibbs, losses
from ebm_jax.losses import gradients, margins

TABLE, ROW = jnp.zeros((4, 3)), jnp.zeros(3)
MASK = Arg(None, ("yes", object(), ROW, jnp.ones(3, int), jnp.ones(5, bool)))
WEIGHTS = numbers(None, jnp.zeros(5), jnp.zeros((2, 4, 3)))
BETA = nonnegative(1.0, jnp.ones(3), jnp.array([1.0, -1.0, 1.0, 1.0]))
OF_TABLE = {
    "energies": energies(TABLE, 1.0, jnp.zeros((4, 0))),
    "beta": BETA,
    "axis": Arg(-1, (None, (0, 1), "last", 1.5, True, 2, -3)),
    "where": MASK,
    "log_weights": WEIGHTS,
}
VALUES = numbers(TABLE, jnp.zeros((2, 4, 3)), jnp.zeros(5))
SHAPE = Arg((), (None, 3, [3], "3", (-1,), (1.5,), (True,)))

LEVELS = jnp.zeros(4)
LABELS, OUTSIDE = jnp.zeros(4, int), jnp.full(4, 3)
LABEL = Arg(
    LABELS,
    (
        None,
        "a",
        ["a"] * 4,
        object(),
        1j,
        jnp.zeros(4),
        jnp.zeros(4, bool),
        jnp.full(4, 3),
        jnp.full(4, -1),
        jnp.zeros(3, int),
        jnp.zeros((4, 1), int),
    ),
)
OF_LABEL = {"energies": energies(TABLE, 1.0, ROW), "label": LABEL}
OF_LABEL["energies"] = OF_LABEL["energies"]._replace(named="energies")
DISTANCE = energies(jnp.ones((4, 3)), jnp.full((4, 3), -1.0), jnp.full((4, 3), NAN), jnp.ones(5))
RADIUS = nonnegative(0.0, jnp.ones(4))
OF_PAIR = {n: energies(jnp.zeros(4), ROW) for n in ("positive", "negative")}


def margin(name):
    return {name: nonnegative(1.0, ROW, jnp.array([1.0, -1.0, 1.0, 1.0]))}


def of_pair(room):
    return [
        row(room.energy, **OF_PAIR),
        row(room.log, **OF_PAIR),
        row(room.mce, **OF_PAIR),
        row(room.hinge, **OF_PAIR, **margin("margin")),
        row(room.simple, **OF_PAIR, **margin("margin")),
        row(room.lvq2, **OF_PAIR, **margin("ceiling")),
        row(room.square_exponential, **OF_PAIR, **margin("gamma")),
        row(room.square_square, **OF_PAIR, **margin("margin"), one_sided=flag(True)),
    ]


def of_label(room):
    options = {"beta": BETA, "where": MASK, "log_weights": WEIGHTS}
    return [
        row(room.perceptron, **OF_LABEL),
        row(room.nll, **OF_LABEL, **options),
        row(room.mee, **OF_LABEL, **options),
    ]


def offending(function_):
    needless = (lambda: function_(TABLE, LABELS, radius=1.0), "radius 1.0 needs the distance")
    return row(function_, also=[needless], **OF_LABEL, distance=DISTANCE, radius=RADIUS)


ROWS = [
    row(gibbs.log_partition, **OF_TABLE),
    row(gibbs.free_energy, **OF_TABLE, mean=flag(False)),
    row(gibbs.log_probs, **OF_TABLE),
    row(gibbs.probs, **OF_TABLE),
    row(gibbs.entropy, **OF_TABLE),
    row(gibbs.expectation, **OF_TABLE, values=VALUES),
    row(gibbs.sample, **OF_TABLE, key=key(), shape=SHAPE),
    row(
        gibbs.grid,
        low=energies([0.0, 0.0], jnp.zeros(3), 0.0, jnp.array([0.0, 2.0]), jnp.array([0.0, NAN])),
        high=energies([1.0, 1.0], jnp.ones(3), 1.0, jnp.array([1.0, 0.0]), jnp.array([1.0, NAN])),
        cells=Arg(4, (None, "4", object(), 0, -1, 1.5, True, (2, 2, 2), (2, 0))),
    ),
    *of_pair(losses),
    *of_label(losses),
    *of_pair(gradients),
    *of_label(gradients),
    row(losses.winner, **OF_LABEL),
    offending(losses.offender),
    offending(losses.most_offending),
    row(
        losses.over_candidates,
        use=lambda loss: loss(TABLE, LABELS),
        also=[
            (lambda: losses.over_candidates(losses.hinge)(TABLE, OUTSIDE), "label must be"),
            (lambda: losses.over_candidates(losses.nll), r"write nll\(energies, label\)"),
            (lambda: losses.over_candidates(losses.mee, beta=2.0), r"write mee\("),
            (
                lambda: losses.over_candidates(functools.partial(losses.perceptron)),
                r"write perceptron\(",
            ),
            # Each kind of loss in place of the other says how to write it.
            *(
                (lambda f=f: getattr(losses, f)(TABLE, LABELS), r"over_candidates\(loss\)\(")
                for f in losses.PAIRWISE
            ),
            *(
                (lambda f=f: getattr(losses, f)(LEVELS, LEVELS), "a pairwise loss, losses.hinge")
                for f in losses.CANDIDATES
            ),
        ],
        loss=function(losses.hinge),
    ),
    row(
        gradients.chain,
        derivative=energies(ROW, TABLE),
        jacobian=Arg({"w": TABLE.T}, ("w", {"w": TABLE}, {"w": 1.0}, {"w": "w"}, None)),
    ),
    row(
        margins.margin_condition,
        loss=function(
            losses.hinge,
            lambda *e: 0.0,
            lambda *e: None,
            lambda *e: "low",
            lambda a, b: NAN * a * b,
        ),
        limit=positive(4.0, float("inf"), jnp.ones(2)),
        spacing=positive(0.5, float("inf"), jnp.ones(2), 1.0),
        lowest=numbers(None, NAN, -float("inf"), jnp.ones(2), 4.0),
    ),
]
