"""gibbs, losses, gradients, margins."""

import functools

import jax.numpy as jnp
import rules as r
from rules import INF, NAN, each, example, examples, only, plus, result

from ebm_jax import gibbs, losses
from ebm_jax.losses import gradients, margins
from experiments import losses_by_name

TABLE, ROW, LEVELS = jnp.zeros((4, 3)), jnp.zeros(3), jnp.zeros(4)
LABELS, OUTSIDE = jnp.zeros(4, int), jnp.full(4, 3)
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
NEEDLESS = [
    (lambda: losses.offender(TABLE, LABELS, radius=1.0), "radius 1.0 needs the distance"),
    (lambda: losses.most_offending(TABLE, LABELS, radius=1.0), "radius 1.0 needs the distance"),
]
OFFENDING = {"distance": DISTANCE, "radius": plus(0.0, LEVELS), "also": NEEDLESS}
OVER, PAIRWISE = r"over_candidates\(loss\)\(", "a pairwise loss, such as losses.hinge"
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
    example(
        losses.over_candidates,
        use=lambda loss: loss(TABLE, LABELS),
        also=[
            (lambda: losses.over_candidates(losses.hinge)(TABLE, OUTSIDE), "label must be"),
            (lambda: losses.over_candidates(losses.nll), r"call nll\(energies, label\)"),
            (lambda: losses.over_candidates(losses.mee, beta=2.0), r"call mee\("),
            (lambda: losses.over_candidates(functools.partial(losses.perceptron)), "call perc"),
            # The error for one kind of loss in place of the other has the correct call.
            *each(lambda f: getattr(losses, f)(TABLE, LABELS), losses_by_name.PAIRWISE, OVER),
            *each(
                lambda f: getattr(losses, f)(LEVELS, LEVELS), losses_by_name.CANDIDATES, PAIRWISE
            ),
        ],
        loss=losses.hinge,
    ),
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
