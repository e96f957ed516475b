"""Distributions: their parameters, their positions, what they draw."""

import jax.numpy as jnp
from kinds import INF, KEY, NAN, Arg, count, energies, key, numbers, positive, row

from ebm_jax import distributions

MEAN = jnp.zeros(2)
NORMAL = distributions.gaussian(MEAN, 1.0)
NOT_DEFINITE = (
    jnp.ones((2, 2)),
    jnp.array([[1.0, 2.0], [-2.0, 1.0]]),
    -jnp.eye(2),
    NAN * jnp.eye(2),
)
INFINITE = (jnp.array([0.0, INF]), jnp.array([0.0, NAN]))


def used(distribution):
    """Draw from it, and evaluate a draw."""
    return distribution.log_prob(distribution.sample(KEY, 3)[0])


def refused_by(distribution):
    """Return the refusals of what it makes: of keys, of counts, of configurations."""
    sample, log_prob = distribution
    counts = [n for n in count(0).bad if n is False or n != 0]
    return [
        *((lambda k=k: sample(k, 3), r"\bkey\b") for k in key().bad),
        *((lambda n=n: sample(KEY, n), r"\bnum\b") for n in counts if not hasattr(n, "value")),
        *((lambda x=x: log_prob(x), r"\bx\b") for x in (None, "x", object(), 1j)),
        *((lambda x=x: log_prob(x), "configurations of shape") for x in (1.0, jnp.zeros((3, 2)))),
    ]


def of_covariance(covariance, mean=MEAN):
    return lambda: distributions.gaussian(mean, covariance=covariance)


ROWS = [
    row(
        distributions.gaussian,
        use=used,
        also=[
            *refused_by(NORMAL),
            (lambda: distributions.gaussian(MEAN), "sigma and covariance must be given, got nei"),
            *((of_covariance(c), r"\bcovariance\b") for c in ("three", object(), 1j, [[1.0], []])),
            *((of_covariance(c), "covariance must be sym") for c in NOT_DEFINITE),
            *((of_covariance(c), r"be \(d, d\)") for c in (1.0, jnp.ones(2), jnp.eye(3))),
            (of_covariance(jnp.eye(2), jnp.zeros((1, 2))), r"covariance must be \(d, d\)"),
        ],
        mean=numbers(MEAN, NAN * MEAN, INF),
        sigma=positive(1.0, INF, jnp.ones(3), jnp.ones((1, 2))),
        covariance=Arg(None, (jnp.eye(2),)),
    ),
    row(
        distributions.uniform,
        use=used,
        also=refused_by(distributions.uniform(MEAN, 1.0)),
        low=numbers(MEAN, NAN, -INF, 1.0, 2.0, jnp.array([0.0, 1.0]), jnp.zeros(3)),
        high=numbers(jnp.ones(2), NAN, INF, 0.0, -1.0, jnp.array([1.0, 0.0]), jnp.ones(3)),
    ),
    row(
        distributions.bernoulli,
        use=used,
        also=refused_by(distributions.bernoulli(MEAN)),
        logits=energies(MEAN, *INFINITE),
    ),
    row(
        distributions.categorical,
        use=used,
        also=refused_by(distributions.categorical(jnp.zeros((2, 3)))),
        logits=energies(jnp.zeros((4, 2)), *INFINITE, 1.0, jnp.zeros((4, 3)), jnp.zeros((4, 0))),
        values=Arg((0, 1), ("01", ("a", "b"), 1, (1,), (0, 0), ((0, 1),), (0, NAN), (0, 1, 2), 1j)),
    ),
    row(
        distributions.mixture,
        use=used,
        also=refused_by(distributions.mixture([NORMAL])),
        components=Arg([NORMAL, NORMAL], (None, 1.0, NORMAL, [], [NORMAL, None], [NORMAL.sample])),
        weights=positive(jnp.ones(2), INF, jnp.ones(3), 1.0, jnp.array([1.0, 0.0])),
    ),
    row(
        distributions.energy,
        use=lambda energy: energy(MEAN),
        distribution=Arg(NORMAL, (None, 1.0, NORMAL.sample, [NORMAL])),
    ),
]
