"""Objectives: by chains, without chains, of pairs and of discrete data; training."""

import jax
import jax.numpy as jnp
import optax
import rules as r
from rules import INF, KEY, NAN, X, each, energy, example, examples, only, plus, result

from ebm_jax import distributions, losses, objectives, training
from ebm_jax.compilation import jit
from ebm_jax.types import Objective

BITS, LABELS, PARAMS = jnp.zeros((4, 3), int), jnp.zeros(4, int), jnp.array(1.0)
PAIRS = (X, jnp.zeros((4, 2)))


def noise(params, key, indices):
    return jax.random.normal(key, (len(indices), 2))


def proposed(propose):
    return propose(1.0, KEY, *PAIRS)


def draw(scale, key, n):
    return scale * jax.random.normal(key, (n, 2)), jnp.zeros(n) - scale


OF_SHAPE = plus(X, {"a": X})
INITIAL = plus(noise, result(1.0), result(X[:1]), result("noise"))
PERTURB = objectives.gaussian_perturbation(0.1)
FEW, OF_NOISE = lambda key, x: x[:1], "perturb|Negatives|noise"
FLIP, TWOS = objectives.bernoulli_perturbation(0.1), BITS + 2
UNLIKE = (X[:2], {"a": X}, X.astype(int))
OF_SIGMA = only(lambda p, x, sigma: p * jnp.sum(x**2) * (1 + sigma), *r.FUNCTIONS)
NO_LEVELS = [1.0], [[1.0] * 2] * 2, [1.0, 1.0], [-1.0, 1.0], [0.0, INF], [NAN, 1.0]
SIGMAS = (jnp.ones((2, 2)), jnp.zeros(0), jnp.array([1.0, 0.0]))
COUPLE = plus(None, FEW)
JOINT = only(lambda p, x: p * x, *r.FUNCTIONS, *map(result, (None, 1.0, jnp.ones(2, int))))

NOISE = distributions.gaussian(jnp.zeros(2), 1.0)
SAMPLES = [lambda key, n: jnp.zeros((n, 3)), lambda key, n: jnp.zeros((n + 1, 2))]
SAMPLES += [lambda key, n: (jnp.zeros((n, 2)),), lambda key, n: jnp.zeros((n, 2), int)]
NOISES = plus(
    NOISE,
    *("noise", NOISE.sample, distributions.gaussian),
    # Pairs that are none, and functions of them that return what they should not.
    *(NOISE._replace(log_prob=f) for f in (None, lambda x: x, result(1), result(None))),
    *(NOISE._replace(sample=f) for f in (None, result(None), *SAMPLES)),
    named="noise|log_prob|Negatives",
)

SQUARE = Objective(lambda p, k: (), lambda p, s, b, k: (p * jnp.sum(b), (s, {})))
OPTIMIZER = optax.sgd(0.1)
TRAINER = training.trainer(SQUARE, OPTIMIZER)
TRAINED = TRAINER.init(PARAMS, KEY)
STATE = only(TRAINED, None, PARAMS, "state")
STACKED = only(X, 1.0, (), X[:0], {"a": X, "b": X[:3]}, named="batches, stacked, must have")
NO_PARAMS = only(PARAMS, "p", {"f": jax.nn.relu, "w": PARAMS}, object(), named="arrays, got")
METRICS = {"skipped_in_row": jnp.array([0, 1]), "step": jnp.array([0, 1])}
TERM = (1.0, SQUARE, lambda b: b)
NO_TERMS = (None, 1.0, SQUARE, TERM[:2], "abc", (1.0, energy, TERM[2]), (1.0, SQUARE, None))


def denoised(energy):
    return r.value(X)(objectives.denoising_score_matching(energy, X[0]))


AMORTIZED = objectives.amortized(energy, draw, num_samples=2)
NO_PAIR = (None, 1.0, (1.0, 1.0), {"energy": 1.0, "sampler": 1.0})


def perturbed(perturb, at, *bad):
    refused = each(lambda x: perturb(KEY, x), bad, "[Pp]ositions|one of the values")
    return {"use": lambda f: f(KEY, at), "also": refused}


ON_BITS = "pseudo_likelihood ratio_matching minimum_probability_flow"

ROWS = [
    *examples(objectives, "short_run binary_nce ranking_nce", initial=INITIAL, noise=NOISES),
    *examples(objectives, ON_BITS, at=BITS, wrong=[X]),
    example(objectives.persistent, buffer_size=4, initial=INITIAL),
    example(objectives.improved_contrastive_divergence, last_steps=plus(1, 3)),
    example(
        objectives.discriminative,
        at=(X, LABELS),
        wrong=[(X, LABELS + 0.5), (X, jnp.full(4, 2))],
        joint=JOINT,
        loss=plus(losses.nll, result(1.0)),
    ),
    example(
        objectives.maximum_likelihood,
        integers=True,
        beta=plus(1.0, 0.0, INF, jnp.ones(4)),
        log_weights=plus(None, jnp.zeros(3), jnp.zeros((4, 1))),
    ),
    example(objectives.push_down, integers=True),
    example(
        objectives.weighted_sum,
        use=lambda objective: objective,
        a=only(TERM, *NO_TERMS, *((weight, *TERM[1:]) for weight in r.WEIGHT)),
    ),
    example(objectives.flow_matching, couple=COUPLE),
    example(objectives.equilibrium_matching, plateau=plus(0.8, 1.0), couple=COUPLE),
    example(objectives.energy_matching, lowest=plus(None, jnp.ones(2), NAN), couple=COUPLE),
    example(
        objectives.optimal_coupling,
        noise=plus(X, *UNLIKE, X[:, :1], named="noise|[Pp]ositions"),
        data=plus(X, *UNLIKE, named="data|[Pp]ositions"),
    ),
    example(objectives.gaussian_perturbation, **perturbed(PERTURB, X, BITS)),
    example(objectives.bernoulli_perturbation, **perturbed(FLIP, BITS, X, TWOS)),
    example(objectives.grid_perturbation, **perturbed(objectives.grid_perturbation(), BITS, X)),
    example(objectives.energy_discrepancy, perturb=plus(PERTURB, FEW, result(1.0))),
    example(
        objectives.contrastive,
        at=PAIRS,
        loss=plus(losses.hinge, result(1.0)),
        propose=plus(lambda params, key, x, y: y + 1.0, result(1.0), result(X[:1])),
    ),
    *examples(objectives, "most_offending_among by_sampling", use=proposed, candidates=OF_SHAPE),
    example(
        objectives.through_inference,
        at=PAIRS,
        infer=only(lambda params, x, key: params * x, *r.FUNCTIONS),
        loss=plus(lambda y, right: jnp.sum((y - right) ** 2), *map(result, (1, X, 1j))),
    ),
    example(
        objectives.amortized,
        trained=objectives.AmortizedParams(1.0, 1.0),
        also=each(lambda p: r.value(X, p)(AMORTIZED), NO_PAIR, "params"),
        draw=plus(draw, *map(result, (X, (X, jnp.zeros(3)), (X[:2], LABELS[:2]), (X[:1], X[0])))),
    ),
    example(objectives.nearest_neighbor_entropy, positions=plus(X, X[:1], X.astype(int))),
    example(
        objectives.denoising_score_matching,
        sigma=only(0.1, *(p for p in r.POSITIVE if getattr(p, "shape", ()) != (2,)), *SIGMAS),
        also=each(denoised, (lambda p, x, sigma: x, result(1)), "energy"),
    ),
    example(
        objectives.noise_conditional_score_matching,
        energy=OF_SIGMA,
        sigma_min=only(0.1, *r.POSITIVE, 2.0, named="sigma_min"),
        sigma_max=only(1.0, *r.POSITIVE, 0.1),
        score_weight=only(jnp.ones_like, *r.FUNCTIONS),
        time_score_weight=only(0.0, *r.WEIGHT),
    ),
    example(
        objectives.diffusion_recovery_likelihood,
        energy=OF_SIGMA,
        sigmas=only(jnp.array([0.0, 1.0]), None, "three", 1.0, *map(jnp.asarray, NO_LEVELS)),
    ),
    example(objectives.kernelized_stein_discrepancy, length=1.0, wrong=[X[:1]]),
    example(
        objectives.conditional_nce,
        perturb=plus(PERTURB, FEW, lambda k, x: (x, x), lambda k, x: x > 0, named=OF_NOISE),
    ),
    example(training.trainer, objective=SQUARE),
    example(TRAINER.init, params=NO_PARAMS),
    example(TRAINER.step, state=STATE, batch=only(X)),
    example(TRAINER.update, state=STATE, batches=STACKED),
    example(
        training.fit,
        objective=SQUARE,
        params=only(PARAMS, "p", object(), {"p": jnp.sum}, named="[Pp]arameters"),
        batch_size=only(2, *r.COUNTS[1:]),  # None is all data
        num_updates=3,
        callback=only(None, 3, "f", X),
        callback_every=only(None),
    ),
    example(
        training.raise_if_diverged,
        metrics=only(METRICS, None, "m", {}, {"skipped_in_row": "a"}, jnp.zeros(3)),
    ),
    example(jit, fun=only(jnp.sum, *r.FUNCTIONS)),
]
