"""Objectives without chains: scores, noise, Stein's discrepancy, discrete data."""

import jax.numpy as jnp
from kinds import INF, NAN, Arg, count, energy, flag, function, positive, row
from rows_partition import count_on
from rows_samplers import VALUES
from rows_training import ENERGY, X, bowl, of_batches, value

from ebm_jax import distributions, objectives
from ebm_jax.types import Distribution

MEAN = jnp.zeros(2)
NOISE = distributions.gaussian(MEAN, 1.0)
BITS = jnp.zeros((4, 3), int)


def with_noise(sample=NOISE.sample, log_prob=NOISE.log_prob):
    return Distribution(sample, log_prob)


# Pairs that are none, and functions of them that return what they should not.
NOISES = Arg(
    NOISE,
    (
        *(None, 1.0, "noise", NOISE.sample, (1, 2), distributions.gaussian),
        with_noise(log_prob=None),
        with_noise(sample=None),
        with_noise(log_prob=lambda x: x),
        with_noise(log_prob=lambda x: 1),
        with_noise(log_prob=lambda x: None),
        with_noise(sample=lambda key, n: jnp.zeros((n, 3))),
        with_noise(sample=lambda key, n: jnp.zeros((n + 1, 2))),
        with_noise(sample=lambda key, n: (jnp.zeros((n, 2)),)),
        with_noise(sample=lambda key, n: jnp.zeros((n, 2), int)),
        with_noise(sample=lambda key, n: None),
    ),
    "noise|log_prob|Negatives",
)
PERTURB = function(
    objectives.gaussian_perturbation(0.1),
    lambda key, x: None,
    lambda key, x: x[:1],
    lambda key, x: (x, x),
    lambda key, x: x > 0,
    named="perturb|Negatives|noise",
)
NOT_DEFINITE = (
    jnp.ones((2, 2)),
    jnp.array([[1.0, 2.0], [-2.0, 1.0]]),
    -jnp.eye(2),
    NAN * jnp.eye(2),
)


def of_bits(make):
    """Return the refusals of batches for discrete objectives."""
    bad = (None, (), BITS[0, 0], {"a": BITS, "b": BITS[:2]}, BITS[:0], X, BITS + 2)
    wrong = "batch|Positions|variable"
    return [(lambda b=b: value(b)(make(count_on_params)), wrong) for b in bad]


def count_on_params(params, x):
    return params * count_on(x)


ON_BITS = energy(count_on_params)


ROWS = [
    row(
        objectives.score_matching,
        use=value(),
        also=of_batches(lambda: objectives.score_matching(bowl)),
        energy=ENERGY,
    ),
    row(
        objectives.hutchinson_score_matching,
        use=value(),
        also=of_batches(lambda: objectives.hutchinson_score_matching(bowl)),
        energy=ENERGY,
        num_probes=count(1),
    ),
    row(
        objectives.sliced_score_matching,
        use=value(),
        also=of_batches(lambda: objectives.sliced_score_matching(bowl)),
        energy=ENERGY,
        num_probes=count(1),
        variance_reduced=flag(True),
    ),
    row(
        objectives.denoising_score_matching,
        use=value(),
        also=[
            *of_batches(lambda: objectives.denoising_score_matching(bowl, 0.1)),
            *(
                (lambda e=e: value()(objectives.denoising_score_matching(e, jnp.ones(2))), "energy")
                for e in (lambda p, x, sigma: x, lambda p, x, sigma: 1)
            ),
        ],
        energy=ENERGY,
        sigma=positive(0.1, INF, jnp.ones((2, 2)), jnp.zeros(0), jnp.array([1.0, 0.0])),
    ),
    row(
        objectives.kernelized_stein_discrepancy,
        use=value(),
        also=[
            *of_batches(lambda: objectives.kernelized_stein_discrepancy(bowl)),
            (lambda: value(X[:1])(objectives.kernelized_stein_discrepancy(bowl)), "two config"),
        ],
        energy=ENERGY,
        length=positive(1.0, INF, jnp.ones(2)),
    ),
    row(
        objectives.binary_nce,
        use=value(),
        also=of_batches(lambda: objectives.binary_nce(bowl, NOISE)),
        energy=ENERGY,
        noise=NOISES,
        num_negatives=count(1),
    ),
    row(
        objectives.ranking_nce,
        use=value(),
        also=of_batches(lambda: objectives.ranking_nce(bowl, NOISE)),
        energy=ENERGY,
        noise=NOISES,
        num_negatives=count(1),
    ),
    row(
        objectives.conditional_nce,
        use=value(),
        also=of_batches(lambda: objectives.conditional_nce(bowl, PERTURB.valid)),
        energy=ENERGY,
        perturb=PERTURB,
        num_negatives=count(1),
    ),
    row(
        objectives.pseudo_likelihood,
        use=value(BITS),
        also=of_bits(objectives.pseudo_likelihood),
        energy=ON_BITS,
        values=VALUES,
    ),
    row(
        objectives.ratio_matching,
        use=value(BITS),
        also=of_bits(objectives.ratio_matching),
        energy=ON_BITS,
    ),
    row(
        objectives.minimum_probability_flow,
        use=value(BITS),
        also=of_bits(objectives.minimum_probability_flow),
        energy=ON_BITS,
    ),
]
