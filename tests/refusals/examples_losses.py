"""gibbs, losses, gradients, margins."""

import functools

import jax.numpy as jnp
import rules as r
from rules import INF, NAN, example, examples, only, plus, result

from ebm_jax import gibbs, losses
from ebm_jax.losses import gradients, margins

TABLE, ROW, LEVELS = jnp.zeros((4, 3)), jnp.zeros(3), jnp.zeros(4)
LABELS = jnp.zeros(4, int)
SIGNS = jnp.array([1.0, -1.0, 1.0, 1.0])
WEIGHTED = {
    "beta": plus(1.0, ROW, SIGNS),
    "log_weights": plus(None, jnp.zeros(5), jnp.zeros((2, 4, 3))),
}
OF_TABLE = WEIGHTED | {"energies": plus(TABLE, 1.0, jnp.zeros((4, 0)))}
OF_LABEL = {"energies": plus(TABLE, 1.0, ROW), "label": LABELS}
OF_PAIR = {"positive": plus(LEVELS, ROW), "negative": plus(LEVELS, ROW)}
MARGIN = plus(1.0, ROW, SIGNS)
WHOLE = (jnp.arange(2), jnp.arange(2) > 0, 1j * jnp.arange(2))
SHAPE = only((), None, 3, [3], "3", (-1,), (1.5,), (True,))
VALUES = only(TABLE, *r.NUMBERS, jnp.zeros((2, 4, 3)), jnp.zeros(5))
FAR = jnp.ones((4, 3))
DISTANCE = plus(FAR, -FAR, NAN * FAR, jnp.ones(5))


MARGINS = {"margin": MARGIN, "ceiling": MARGIN, "gamma": MARGIN}
NAMES = "energy log mce hinge simple lvq2 square_exponential square_square"
GIBBS = "log_partition free_energy log_probs probs entropy expectation sample"
OFFENDING = {"distance": DISTANCE, "radius": plus(0.0, LEVELS)}
PAIRS = examples(losses, NAMES, **OF_PAIR, **MARGINS)
LABELLED = examples(losses, "perceptron nll mee", **OF_LABEL, **WEIGHTED)


def of_gradient(row):
    """Return that the derivative of a loss rejects what the loss rejects."""
    derivative = gradients.of(row.function)
    valid = {name: arg.valid for name, arg in row.arguments.items()}
    for name, arg in row.arguments.items():
        for bad in arg.bad:
            yield functools.partial(derivative, **valid | {name: bad}), arg.named


ROWS = [
    *examples(gibbs, GIBBS, **OF_TABLE, values=VALUES, shape=SHAPE),
    example(
        gibbs.grid,
        low=plus([0.0, 0.0], ROW, 0.0, jnp.array([0.0, 2.0]), jnp.array([0.0, NAN]), *WHOLE),
        high=plus([1.0, 1.0], ROW + 1, 1.0, jnp.array([1.0, 0.0]), jnp.array([1.0, NAN]), *WHOLE),
        cells=only(4, None, "4", object(), 0, -1, 1.5, True, (2, 2, 2), (2, 0)),
    ),
    *PAIRS,
    *LABELLED,
    example(losses.winner, **OF_LABEL),
    example(
        gradients.of,
        loss=only(losses.hinge, *r.FUNCTIONS, jnp.sin),
        also=[refusal for row in (*PAIRS, *LABELLED) for refusal in of_gradient(row)],
    ),
    *examples(losses, "offender most_offending", **OF_LABEL, **OFFENDING),
    example(losses.over_candidates, use=lambda loss: loss(TABLE, LABELS), loss=losses.hinge),
    example(
        gradients.chain,
        derivative=plus(ROW, TABLE),
        jacobian=only({"w": TABLE.T}, "w", {"w": TABLE}, {"w": 1.0}, {"w": "w"}, None),
    ),
    example(
        margins.margin_condition,
        loss=plus(losses.hinge, result(0.0), lambda a, b: NAN * a * b),
        limit=only(4.0, *r.POSITIVE),
        spacing=plus(0.5, 1.0),
        lowest=plus(None, NAN, -INF, jnp.ones(2), 4.0),
    ),
]
