"""Rare outcomes have their probabilities: decisions as functions of their random bits.

Every decision of the library compares a uniform number u, of 62 or 64 bits, with a probability.
Here the bits are given: just below the probability the event must happen, just above it must not,
for probabilities down to 2^-46 and for events that are as rare to fail. All is deterministic.
"""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import _bits, _draws, distributions, gibbs, objectives, samplers
from ebm_jax.energies import boltzmann, lattice, pairwise, potts
from ebm_jax.samplers import gibbs_sampling, replay_buffer
from ebm_jax.types import Sampler

TOLERANCE = 4e-5  # of a probability; 2^-46 is 65,536 of the steps of 2^-62
LOGITS = np.arange(0.25, 31.9, 0.7)
RARE = np.exp(-LOGITS) / (1 + np.exp(-LOGITS))


def bits(probability, bits_of_u):
    """Two words of the u, a little below and a little above a probability <= 1/2: (2,) each."""
    words = []
    for side in (-1, 1):
        u = int(Fraction(float(probability)) * Fraction(1 + side * TOLERANCE) * 2**bits_of_u)
        words.append((u >> 32, u % 2**32))
    return np.array(words, np.uint32).T


def short(probability):
    """Words and fractions' words of the discrete samplers: 30 bits and 32."""
    word, fraction = bits(probability, 62)
    return word << 2 | 3, fraction


def long(probability):
    """The words of 64 bits where an event of this probability happens, and where it does not.

    Above one half the probability of the other outcome is what must be right: given as 1 - p.
    """
    probability = Fraction(float(probability))
    if probability <= Fraction(1, 2):
        return bits(probability, 64)
    first, second = bits(1 - probability, 64)
    return ~first[::-1], ~second[::-1]


def stacked(make, probabilities):
    """Words for every probability, (2, number) each: below it in row 0, above it in row 1."""
    first, second = zip(*[make(p) for p in probabilities], strict=True)
    return np.stack(first, axis=1), np.stack(second, axis=1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["bernoulli", "threshold"])
def test_units_and_spins(name, dtype, x64):
    """At logits of both signs: the rarer of the two outcomes happens where it should."""
    word, fraction = stacked(short, RARE)
    fraction = jnp.asarray((fraction.astype(float) + 0.5) / 2**32, dtype)

    def draw(word, logits):
        if name == "bernoulli":
            return _bits.bernoulli(word, logits, fraction)
        return _bits.below(word, _bits.threshold(logits, fraction))

    on = draw(word, jnp.asarray(-LOGITS, dtype))
    np.testing.assert_array_equal(on, [[True] * len(LOGITS), [False] * len(LOGITS)])
    turned = word if name == "bernoulli" else ~word  # what switches off are the highest numbers
    np.testing.assert_array_equal(draw(turned, jnp.asarray(LOGITS, dtype)), ~on)


@pytest.mark.parametrize("name", ["bernoulli", "threshold"])
def test_certain_and_undefined_units(name):
    word = np.array([0, 3, 2**31, 2**32 - 1], np.uint32)[:, None]
    for fraction in map(jnp.float32, (2**-33, 0.5, 1.0)):
        logits = jnp.array([jnp.inf, -jnp.inf, 200.0, -200.0, jnp.nan])
        if name == "bernoulli":
            on = _bits.bernoulli(word, logits, fraction)
        else:
            on = _bits.below(word, _bits.threshold(logits, fraction))
        np.testing.assert_array_equal(on, np.tile([True, False, True, False, False], (4, 1)))


CATEGORIES = [
    (0.0,),
    (0.0, -20.0),
    (-20.0, 0.0),
    (0.0, 0.0, -17.0),  # what comes after a sum of one half
    (-0.1, 0.0, -17.0, -25.0, -0.2, -30.0),
    (-np.inf, -31.0, 0.0, -np.inf, 2.0, -np.inf),
    tuple(np.random.default_rng(0).normal(size=40) * 8),
]


@pytest.mark.parametrize("logits", CATEGORIES)
def test_categories_have_whole_numbers_of_places(logits):
    """Of the 2^30 numbers ceil(2^30 p - fraction) draw a category, to the last one."""
    logits = np.array(logits)
    p = np.exp(logits - logits.max())
    places = 2.0**30 * p / p.sum()
    likeliest = int(np.argmax(logits))
    order = [k for k in range(len(p)) if k != likeliest] + [likeliest]
    rank = np.argsort(order)
    near = np.outer([1 - 1e-4, 1 + 1e-4], places % 1).ravel()  # one place more, and one less
    fractions = np.concatenate([[2.0**-33, 0.3, 1 - 2.0**-24], near])
    fractions = fractions[(fractions > 0) & (fractions < 1)].astype(np.float32)

    @jax.jit
    def draw(number):
        word = number.astype(jnp.uint32) << 2
        return _bits.categorical(word, [jnp.float32(x) for x in logits], fractions[:, None])

    # How many numbers draw one of the first k of the order, by bisection.
    low = np.zeros((len(fractions), len(p)), np.int64)
    high = np.full_like(low, 2**30)
    while (high > low).any():
        middle = (low + high) // 2
        inside = rank[np.asarray(draw(np.minimum(middle, 2**30 - 1)))] <= np.arange(len(p))
        inside &= middle < 2**30
        low, high = np.where(inside & (high > low), middle + 1, low), np.where(inside, high, middle)
    counts = np.diff(low, axis=1, prepend=0)[:, rank]
    rounding = 3e-6 * places
    least = np.ceil(places - rounding - fractions[:, None])
    most = np.ceil(places + rounding - fractions[:, None])
    rest = np.arange(len(p)) == likeliest
    assert ((counts >= least) & (counts <= most))[:, ~rest].all()
    assert (counts.sum(1) == 2**30).all()


def given_words(word, fraction):
    """Stand in for ``_bits.words``: chain i has the i-th word everywhere, and fraction."""

    def words(key, chains, n, start=0, stop=None, *, chains_last=False):
        del key
        site = np.arange(start, n if stop is None else stop)
        board = np.where(site == n - 1, fraction[:chains, None], word[:chains, None])
        board = jnp.asarray(board.T if chains_last else board)
        return board, board

    return words


def rbm(sign, num):
    bias = np.repeat(sign * LOGITS, 2)  # of chain i unit i is looked at
    params = boltzmann.RBM(jnp.zeros((num, 1)), jnp.asarray(bias, jnp.float32), jnp.zeros(1))
    return samplers.rbm_gibbs(params), jnp.zeros((num, num), jnp.int8)


def spins(sign, num):
    beta = np.repeat(LOGITS / 2, 2).astype(np.float32)
    sampler = samplers.checkerboard_gibbs(lattice.Ising(0.0, 1.0 * sign), beta=beta)
    return sampler, jnp.ones((num, 2, 2), jnp.int8)


def colours(sign, num):
    field = np.array([0.0, sign], np.float32)
    beta = np.repeat(LOGITS, 2).astype(np.float32)
    sampler = samplers.checkerboard_gibbs(lattice.Potts(0.0, field), beta=beta)
    return sampler, jnp.zeros((num, 2, 2), jnp.int8)


def letters(sign, num):
    fields = np.tile(np.array([0.0, sign], np.float32), (3, 1))
    beta = np.repeat(LOGITS, 2).astype(np.float32)
    params = potts.DensePotts(np.zeros((3, 2, 3, 2), np.float32), fields)
    return samplers.dense_potts_gibbs(params, beta=beta), jnp.zeros((num, 3), jnp.int8)


def graph_of_one_magnitude(sign, num):
    """Equal fields, known: thresholds that are looked up."""
    beta = np.repeat(LOGITS / 2, 2).astype(np.float32)
    params = pairwise.Pairwise(jnp.zeros(0), jnp.full(2, 1.0 * sign))
    sampler = samplers.graph_gibbs(params, [], values=(-1, 1), beta=beta)
    return sampler, jnp.ones((num, 2), jnp.int8)


def graph(sign, num):
    beta = np.repeat(LOGITS, 2).astype(np.float32)
    params = pairwise.Pairwise(jnp.zeros(0), jnp.array([1.0 * sign, 0.0]))
    return samplers.graph_gibbs(params, [], beta=beta), jnp.ones((num, 2), jnp.int8)


def graph_of_categories(sign, num):
    beta = np.repeat(LOGITS, 2).astype(np.float32)
    params = pairwise.Pairwise(jnp.zeros(0), jnp.array([[0.0, sign], [0.0, 0.0]]))
    return samplers.graph_gibbs(params, [], beta=beta), jnp.zeros((num, 2), jnp.int8)


def langevin_of_bits(sign, num):
    beta = np.repeat(2 * LOGITS, 2).astype(np.float32)
    sampler = samplers.dula(lambda x: -sign * jnp.sum(x), step_size=1e12, beta=beta)
    return sampler, jnp.zeros((num, 3), jnp.int8)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize(
    "make",
    [
        rbm,
        spins,
        colours,
        letters,
        graph_of_one_magnitude,
        graph,
        graph_of_categories,
        langevin_of_bits,
    ],
)
@pytest.mark.sweep(8)
def test_every_discrete_sampler_to_its_tails(make, sign, key, monkeypatch):
    """At a logit of -30 a unit switches on, and at 30 off, with the right few of its bits."""
    word, fraction = (w.T.ravel() for w in stacked(short, RARE))
    if (
        make in (spins, graph_of_one_magnitude) and sign > 0
    ):  # what switches off are the highest numbers
        word = ~word
    monkeypatch.setattr(_bits, "words", given_words(word, fraction))
    sampler, start = make(sign, len(word))
    state, _ = jax.jit(sampler.step)(key, sampler.init(start))
    on = np.asarray(state.position).reshape(len(word), -1) > 0
    on = np.diagonal(on) if make is rbm else on[:, 0]
    np.testing.assert_array_equal(on ^ (sign > 0), np.tile([True, False], len(LOGITS)))


DELTAS = np.array([31.5, 25.0, 17.0, 2.0, 0.5, 1e-2, 1e-6, 1e-12])


def given_long_words(first, second):
    """Stand in for ``_draws.words``: words for every chain, on the last axis or the first."""

    def words(key, shape):
        del key
        column = shape[-1] != len(first)
        found = [jnp.asarray(word)[:, None] if column else word for word in (first, second)]
        return tuple(jnp.broadcast_to(word, shape) for word in found)

    return words


def climb(x, i):
    """Energy i of ``DELTAS`` (0 at first) away from zero, without a slope."""
    return jnp.asarray(DELTAS, jnp.float32)[i] * jax.lax.stop_gradient(jnp.abs(x) > 0)


def by_mala(which):
    sampler = samplers.mala(lambda x: climb(x[0], x[1]), step_size=1.0)
    return sampler.step(jax.random.key(0), sampler.init((jnp.zeros(len(which)), which)))[1].accepted


def by_proposal(make):
    def run(which):
        energies = jnp.asarray(DELTAS, jnp.float32)[which]
        sampler = make(lambda x: x["delta"] * jax.lax.stop_gradient(x["bit"]))
        start = {"bit": jnp.zeros(len(which), jnp.int8), "delta": energies}
        return sampler.step(jax.random.key(0), sampler.init(start))[1].accepted

    return run


def by_swap(which):
    still = Sampler(gibbs_sampling.GibbsState, lambda key, state: (state, ()), lambda state: state)
    sampler = samplers.replica_exchange(lambda x: x, lambda energy, beta: still, [1.0, 2.0])
    state = sampler.init(jnp.zeros(len(which)))
    energies = jnp.asarray(DELTAS, jnp.float32)[which]
    replicas = gibbs_sampling.GibbsState(jnp.stack([energies, jnp.zeros(len(which))]))
    return sampler.step(jax.random.key(0), state._replace(replicas=replicas))[1].swapped[0]


MOVES = {
    "mala": by_mala,
    "gibbs with gradients": by_proposal(samplers.gibbs_with_gradients),
    "dmala": by_proposal(lambda energy: samplers.dmala(energy, step_size=1e12)),
    "swap": by_swap,
}


@pytest.mark.parametrize("name", MOVES)
def test_uphill_moves_are_accepted_as_often_as_they_should(name, monkeypatch):
    """Of each energy two chains: one number at which it is accepted, and one at which it is not."""
    if name == "dmala":  # the bit must turn for there to be a move
        monkeypatch.setattr(_bits, "words", given_words(*np.zeros((2, 99), np.uint32)))
    which = np.repeat(np.arange(len(DELTAS)), 2)
    first, second = (w.T.ravel() for w in stacked(acceptance_words, DELTAS))
    monkeypatch.setattr(_draws, "words", given_long_words(first, second))
    accepted = jax.jit(MOVES[name])(jnp.asarray(which))
    np.testing.assert_array_equal(accepted, np.tile([True, False], len(DELTAS)))


def acceptance_words(delta):
    """The words at which exp(-delta) is accepted, and refused; near 1 from 1 - p alone."""
    if delta > 0.5:
        return bits(np.exp(-delta), 64)
    first, second = bits(-np.expm1(-delta), 64)
    return ~first[::-1], ~second[::-1]


def test_impossible_decisions():
    """No bits accept a rise of 50 or of NaN, and none refuse to go down."""
    ends = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
    first, second = (w.ravel() for w in np.meshgrid(ends, ends))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_draws, "words", given_long_words(first, second))
        for ratio, accepted in (
            (-50.0, False), (-np.inf, False), (np.nan, False), (0.0, True), (3.0, True),
            (np.inf, True),
        ):  # fmt: skip
            ratios = jnp.full(len(first), ratio)
            found, acceptance = _draws.metropolis(jax.random.key(0), ratios)
            assert (np.asarray(found) == accepted).all()
            assert acceptance[0] == (0 if np.isnan(ratio) else min(1, np.float32(np.exp(ratio))))


PROBABILITIES = np.array([2.0**-46, 1e-12, 1e-7, 0.01, 0.5, 0.9, 1 - 2.0**-20], np.float32)


def of_bernoulli(key, num):
    logits = np.concatenate([-LOGITS, LOGITS]).astype(np.float32)
    return distributions.bernoulli(logits).sample(key, num)


def of_restarts(key, num):
    del num
    old, fresh = jnp.zeros((2, 1)), jnp.ones((2, 1))
    return jnp.stack([replay_buffer.restart(key, old, fresh, p)[1] for p in PROBABILITIES], axis=1)


def of_flips(key, num):
    bits = jnp.zeros((num, 1), bool)
    flips = [objectives.bernoulli_perturbation(p)(key, bits) for p in PROBABILITIES]
    return jnp.concatenate(flips, axis=1)


@pytest.mark.parametrize("draw", [of_bernoulli, of_restarts, of_flips])
def test_rare_events(draw, key, monkeypatch):
    """Each has two draws: one with the last bits at which it happens, one with those beyond."""
    if draw is of_bernoulli:
        first, second = stacked(long_of_logit, np.concatenate([-LOGITS, LOGITS]))
    else:
        first, second = stacked(long, PROBABILITIES)
    columns = iter(range(len(PROBABILITIES)))

    def words(key, shape):
        del key
        if len(shape) == 2 and shape[1] > 1:
            return jnp.asarray(first), jnp.asarray(second)
        k = next(columns)
        return jnp.asarray(first[:, k].reshape(shape)), jnp.asarray(second[:, k].reshape(shape))

    monkeypatch.setattr(_draws, "words", words)
    found = np.asarray(draw(key, 2))
    np.testing.assert_array_equal(found, [[True] * first.shape[1], [False] * first.shape[1]])


def long_of_logit(logit):
    """As ``long``, of the probability sigmoid(logit)."""
    rare = np.exp(-abs(logit)) / (1 + np.exp(-abs(logit)))
    first, second = bits(rare, 64)
    return (first, second) if logit < 0 else (~first[::-1], ~second[::-1])


def test_probabilities_of_zero_and_one(key, monkeypatch):
    ends = np.array([0, 2**32 - 1], np.uint32)
    monkeypatch.setattr(_draws, "words", given_long_words(ends, ends))
    for fraction, restarted in ((0, False), (0.0, False), (1, True), (1.0, True)):
        found = replay_buffer.restart(key, jnp.zeros((2, 1)), jnp.ones((2, 1)), fraction)[1]
        assert (np.asarray(found) == restarted).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_candidates_far_above_the_lowest(dtype, key, x64, monkeypatch):
    """One of two wins the race where its exponential number is exp(-gap) of the other's."""
    gaps = np.array([0.5, 5.0, 17.0, 25.0, 31.0])
    lower = np.log(2.0)  # -log u of the lower candidate, u = 1/2
    chances = -np.expm1(-lower * np.exp(-gaps))
    # u near 1 has a small -log u.
    first, second = (~word for word in stacked(lambda p: bits(p, 64), chances))

    def words(key, shape):
        del key
        assert shape == (2, len(gaps), 2)
        half = np.full(first.shape, 2**31, np.uint32)
        return jnp.stack([half, first], axis=2), jnp.stack([0 * half, second], axis=2)

    monkeypatch.setattr(_draws, "words", words)
    energies = jnp.stack([jnp.zeros(len(gaps)), gaps], axis=1).astype(dtype)
    found = jax.jit(lambda key, energies: gibbs.sample(key, energies, shape=(2,)))(key, energies)
    np.testing.assert_array_equal(found, [[1] * len(gaps), [0] * len(gaps)])


def test_numbers_of_sixty_four_bits(key):
    """Both ends of the exponential distribution, by quantiles of 2^17 numbers; 5 standard errors.

    And every array element has its own bits, for any generator.
    """
    for impl in ("threefry2x32", "rbg"):
        key = jax.random.key(3, impl=impl)
        x = np.asarray(jax.jit(lambda k: _draws.exponential(k, (2**9, 2**8), jnp.float32))(key))
        for p in (1e-3, 0.1, 0.5, 0.9, 0.999):
            below = (x < -np.log1p(-p)).mean()
            assert abs(below - p) < 5 * np.sqrt(p * (1 - p) / x.size)
        assert len(np.unique(x)) > 0.99 * x.size
