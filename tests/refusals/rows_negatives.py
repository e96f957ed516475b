"""Objectives with negatives: matching, discrepancies, recovery, pairs, trained samplers."""

import jax
import jax.numpy as jnp
from kinds import (
    INF,
    KEY,
    NAN,
    count,
    energy,
    fraction,
    function,
    nonnegative,
    numbers,
    positions,
    positive,
    row,
)
from rows_samplers import maker
from rows_training import ENERGY, PENALTY, X, bowl, make_sampler, of_batches, value

from ebm_jax import losses, objectives, samplers
from ebm_jax.objectives import AmortizedParams
from ebm_jax.samplers import schedules

ONE = positive(0.1, INF, jnp.ones(2))
WEIGHT = nonnegative(0.1, INF, jnp.ones(2))
COUPLE = function(None, lambda a, b: a[:1], lambda a, b: None)
PAIRS = (X, jnp.zeros((4, 2)))


def own(energy):
    return samplers.ula(energy, step_size=0.1)


def pair_energy(params, x, y):
    return params * jnp.sum((x - y) ** 2)


def propose(params, key, x, y):
    return y + 1.0


def draw(scale, key, n):
    return scale * jax.random.normal(key, (n, 2)), jnp.zeros(n) - scale


def of_pairs(make):
    """Return the refusals of batches that are no pairs of as many."""
    bad = (None, X, (X,), (X, X[:2]), (X, None), "ab")
    return [(lambda b=b: value(b)(make()), "batch") for b in bad]


def phase(**options):
    given = {"weight": 0.1, "temperature": 0.1, "step_size": 0.1, "num_steps": 1} | options
    return objectives.energy_matching(bowl, **given)


def proposed(propose):
    return propose(1.0, KEY, *PAIRS)


BITS = jnp.zeros((4, 3), int)
PERTURB = objectives.gaussian_perturbation(0.1)
AMORTIZED = AmortizedParams(1.0, 1.0)

ROWS = [
    row(
        schedules.warming,
        use=lambda beta: beta(0),
        step_size=ONE,
        temperature=ONE,
        onset=fraction(1.0, jnp.ones(2)),
    ),
    row(
        objectives.flow_matching,
        use=value(),
        also=of_batches(lambda: objectives.flow_matching(bowl)),
        energy=ENERGY,
        couple=COUPLE,
    ),
    row(
        objectives.equilibrium_matching,
        use=value(),
        also=of_batches(lambda: objectives.equilibrium_matching(bowl)),
        energy=ENERGY,
        plateau=fraction(0.8, 1.0, jnp.ones(2)),
        scale=ONE,
        couple=COUPLE,
    ),
    row(
        objectives.energy_matching,
        use=value(),
        also=of_batches(phase),
        energy=ENERGY,
        weight=WEIGHT,
        temperature=ONE,
        step_size=ONE,
        num_steps=count(1),
        onset=fraction(1.0, jnp.ones(2)),
        lowest=numbers(None, jnp.ones(2), NAN),
        couple=COUPLE,
    ),
    row(
        objectives.optimal_coupling,
        noise=positions(X, X[:2], {"a": X}, X[:, :1], X.astype(int), named="noise|[Pp]ositions"),
        data=positions(X, X[:2], {"a": X}, X.astype(int), named="data|[Pp]ositions"),
    ),
    row(
        objectives.gaussian_perturbation,
        use=lambda f: f(KEY, X),
        also=[(lambda: PERTURB(KEY, BITS), "[Pp]ositions")],
        variance=ONE,
    ),
    row(
        objectives.bernoulli_perturbation,
        use=lambda f: f(KEY, BITS),
        also=[
            (lambda p=p: objectives.bernoulli_perturbation(0.1)(KEY, p), pattern)
            for p, pattern in ((X, "[Pp]ositions"), (BITS + 2, "one of the values"))
        ],
        probability=fraction(0.1, 0.0, 1.0, jnp.ones(2)),
    ),
    row(
        objectives.grid_perturbation,
        use=lambda f: f(KEY, BITS),
        also=[(lambda: objectives.grid_perturbation()(KEY, X), "[Pp]ositions")],
    ),
    row(
        objectives.energy_discrepancy,
        use=value(),
        also=of_batches(lambda: objectives.energy_discrepancy(bowl, PERTURB)),
        energy=ENERGY,
        perturb=function(PERTURB, lambda k, x: None, lambda k, x: x[:1], lambda k, x: 1.0),
        num_negatives=count(2),
        stabilizer=WEIGHT,
    ),
    row(
        objectives.recovery_likelihood,
        use=value(),
        also=of_batches(lambda: objectives.recovery_likelihood(bowl, own, sigma=0.1, num_steps=1)),
        energy=ENERGY,
        make_sampler=maker(own),
        sigma=ONE,
        num_steps=count(1),
    ),
    row(
        objectives.contrastive,
        use=value(PAIRS),
        also=of_pairs(lambda: objectives.contrastive(pair_energy, losses.hinge, propose)),
        energy=energy(pair_energy),
        loss=function(losses.hinge, lambda a, b: None, lambda a, b: 1.0, lambda a, b: "low"),
        propose=function(propose, lambda *a: None, lambda *a: 1.0, lambda *a: X[:1]),
    ),
    row(
        objectives.most_offending_among,
        use=proposed,
        energy=energy(pair_energy),
        candidates=positions(X, {"a": X}, named="candidates"),
        radius=nonnegative(0.1, jnp.ones(2)),
    ),
    row(
        objectives.by_sampling,
        use=proposed,
        energy=energy(pair_energy),
        make_sampler=maker(own),
        num_steps=count(1),
    ),
    row(
        objectives.amortized,
        use=value(params=AMORTIZED),
        also=[
            *of_batches(lambda: objectives.amortized(bowl, draw, num_samples=2))[:0],
            *(
                (
                    lambda p=p: value(params=p)(objectives.amortized(bowl, draw, num_samples=2)),
                    "params",
                )
                for p in (None, 1.0, (1.0, 1.0), {"energy": 1.0, "sampler": 1.0})
            ),
        ],
        energy=ENERGY,
        draw=function(
            draw,
            lambda *a: None,
            lambda *a: X,
            lambda *a: (X, jnp.zeros(3)),
            lambda *a: (X[:2], jnp.zeros(2, int)),
            lambda *a: (X[:1], jnp.zeros(2)),
        ),
        num_samples=count(2),
    ),
    row(
        objectives.nearest_neighbor_entropy,
        positions=positions(X, X[:1], X.astype(int)),
    ),
    row(
        objectives.improved_contrastive_divergence,
        use=value(),
        also=[
            *of_batches(
                lambda: objectives.improved_contrastive_divergence(bowl, make_sampler, num_steps=1)
            )
        ],
        energy=ENERGY,
        make_sampler=maker(make_sampler),
        num_steps=count(1),
        last_steps=count(1, 2),
        entropy_weight=WEIGHT,
        energy_penalty=PENALTY,
    ),
]
