"""The discrete samplers as they run: what they draw, hold, carry and refuse, and what they cost.

Chi-square tests and z-scores have fixed keys; p-values are refused below 1e-6 and scores beyond 5,
so that right samplers would fail a choice of keys with a probability below 1e-4 over this file.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

import ebm_jax
from ebm_jax import _bits, samplers
from ebm_jax.energies import boltzmann, lattice, pairwise, potts
from ebm_jax.partition import exact

RNG = np.random.default_rng(0)
CHAINS = 10_000
WEIGHTS = jnp.asarray(RNG.normal(size=(5, 5)), jnp.float32)
RBM = boltzmann.RBM(
    jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32),
    jnp.asarray(RNG.normal(size=5), jnp.float32),
    jnp.asarray(RNG.normal(size=3), jnp.float32),
)
MACHINE = boltzmann.BoltzmannMachine(WEIGHTS, jnp.zeros(5))
DENSE = potts.DensePotts(
    jnp.asarray(0.5 * np.random.default_rng(1).normal(size=(5, 3, 5, 3)), jnp.float32),
    jnp.asarray(np.random.default_rng(2).normal(size=(5, 3)), jnp.float32),
)


def machine(x):
    return boltzmann.boltzmann_machine(MACHINE, x)


def free(v):
    return boltzmann.rbm_free_energy(RBM, v)


CYCLE = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]
GRAPH = pairwise.Pairwise(
    jnp.array([0.5, -0.4, 0.3, 0.2, -0.6]), jnp.array([0.1, 0.3, -0.2, 0.4, 0.0])
)
SAMPLERS = {
    "rbm": (free, (5,), (0, 1), lambda **k: samplers.rbm_gibbs(RBM, **k)),
    "spins": (
        lambda s: lattice.ising(lattice.Ising(0.3, 0.1), s),
        (2, 4),
        (-1, 1),
        lambda **k: samplers.checkerboard_gibbs(lattice.Ising(0.3, 0.1), **k),
    ),
    "colours": (
        lambda x: lattice.potts(lattice.Potts(0.5, jnp.array([0.2, 0.0, -0.3])), x),
        (2, 2),
        (0, 1, 2),
        lambda **k: samplers.checkerboard_gibbs(
            lattice.Potts(0.5, jnp.array([0.2, 0.0, -0.3])), **k
        ),
    ),
    "dense": (
        lambda x: potts.dense_potts(DENSE, x),
        (5,),
        (0, 1, 2),
        lambda **k: samplers.dense_potts_gibbs(DENSE, **k),
    ),
    "graph": (
        lambda s: pairwise.energy(GRAPH, s, CYCLE),
        (5,),
        (-1, 1),
        lambda **k: samplers.graph_gibbs(GRAPH, CYCLE, values=(-1, 1), **k),
    ),
    "scan": (
        machine,
        (5,),
        (-1, 1),
        lambda **k: samplers.systematic_scan_gibbs(machine, values=(-1, 1), block_size=2, **k),
    ),
    "gwg": (
        machine,
        (5,),
        (0, 1),
        lambda **k: samplers.gibbs_with_gradients(machine, **k),
    ),
    "dmala": (
        machine,
        (5,),
        (0, 1),
        lambda **k: samplers.dmala(machine, step_size=0.5, **k),
    ),
}


def run(sampler, start, num_steps, seed=0):
    def go(key, x):
        return samplers.run(key, sampler, sampler.init(x), num_steps)[0].position

    return np.asarray(ebm_jax.jit(go)(jax.random.key(seed), start))


def rows(states, values):
    digits = np.searchsorted(values, np.asarray(states).reshape(len(states), -1))
    return digits @ len(values) ** np.arange(digits.shape[1] - 1, -1, -1)


def p_value(found, expected):
    """The chi-square of counts, states expected less than 10 times taken together."""
    common = expected >= 10
    found, expected = (
        np.append(c[common], c[~common].sum()) for c in (np.asarray(found, float), expected)
    )
    keep = expected > 0
    return stats.chisquare(found[keep], expected[keep]).pvalue


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.sweep(2)
def test_chains_stay_where_they_should(name):
    """Four groups in one run, each at a beta and with a mask of its own.

    At the target, and at the targets of two other betas, where they started; and from a corner,
    two variables held, the conditional distribution of the others.
    """
    rng = np.random.default_rng(1)
    energy, shape, values, make = SAMPLERS[name]
    states = np.asarray(exact.states(shape, values))
    values_at = np.asarray(jax.jit(jax.vmap(energy))(states)).astype(np.float64)
    held = (states.reshape(len(states), -1)[:, [0, 2]] == values[-1]).all(1)
    betas = (1.0, 1.0 if name == "rbm" else 0.4, 0.0, 1.0)  # rbm has beta in its hidden units
    targets = [oracles.probabilities(values_at, beta) for beta in betas]
    targets[3] = targets[3] * held / targets[3][held].sum()
    start = np.concatenate([rng.choice(len(states), CHAINS, p=p) for p in targets[:3]])
    start = np.append(start, np.full(CHAINS, len(states) - 1))
    mask = np.zeros((4 * CHAINS, *shape), bool)
    mask.reshape(4 * CHAINS, -1)[3 * CHAINS :, [0, 2]] = True
    sampler = make(beta=np.repeat(betas, CHAINS).astype(np.float32), clamp=mask)
    found = run(sampler, jnp.asarray(states[start], jnp.int8), 40 if name == "gwg" else 20)
    np.testing.assert_array_equal(found[mask], states[start][mask])
    for group, p in zip(np.split(rows(found, values), 4), targets, strict=True):
        assert p_value(np.bincount(group, minlength=len(p)), CHAINS * p) > 1e-6
    for group in np.split(found != states[start], 4):
        assert np.mean(group) > 0.05


def test_a_conditional_rbm_completes_its_patterns():
    """Half of a strong pattern held, the other half follows."""
    pattern = np.array([1, 1, 1, 0, 0, 0])
    weights = jnp.asarray(12.0 * np.stack([2 * pattern - 1, 1 - 2 * pattern], axis=1))
    params = boltzmann.RBM(weights, jnp.zeros(6), jnp.full(2, -6.0))
    start = np.tile(pattern, (100, 1)) * np.array([1, 1, 1, 0, 0, 0])
    sampler = samplers.rbm_gibbs(params, clamp=np.arange(6) < 3)
    found = run(sampler, jnp.asarray(start), 20)
    assert np.mean(found == pattern) > 0.95


MIXED = {"bits": (3,), "flag": (), "level": (2,), "weight": (4,)}


def mixed_energy(x):
    """Booleans, integers and floats: the floats only matter."""
    total = jnp.sum(x["bits"]) + x["flag"] + jnp.sum(x["level"])
    return (1.0 * total - 2) ** 2 / 2 + 0.0 * jnp.sum(x["weight"])


@pytest.mark.parametrize("make", ["scan", "gwg", "dmala", "dula"])
@pytest.mark.sweep(1)
def test_integers_and_booleans_move_and_floats_are_carried(make):
    factory = {
        "scan": samplers.systematic_scan_gibbs,
        "gwg": samplers.gibbs_with_gradients,
        "dmala": functools.partial(samplers.dmala, step_size=1.0),
        "dula": functools.partial(samplers.dula, step_size=1.0),
    }[make]
    types = {"bits": bool, "flag": jnp.int8, "level": jnp.int32, "weight": jnp.float32}
    start = {k: jnp.zeros((64, *shape), types[k]) for k, shape in MIXED.items()}
    start["weight"] = jax.random.normal(jax.random.key(1), (64, 4))
    clamp = {"bits": np.array([True, False, False]), "flag": False, "level": False, "weight": False}
    sampler = factory(mixed_energy, clamp=clamp)
    state, _ = jax.jit(lambda k: samplers.run(k, sampler, sampler.init(start), 20))(
        jax.random.key(0)
    )
    position = state.position
    assert {k: v.dtype for k, v in position.items()} == {k: v.dtype for k, v in start.items()}
    np.testing.assert_array_equal(position["weight"], start["weight"])
    np.testing.assert_array_equal(position["bits"][:, 0], start["bits"][:, 0])
    for free_part in (position["bits"][:, 1:], position["flag"], position["level"]):
        assert 0.1 < np.mean(free_part) < 0.9


def test_a_cold_scan_goes_to_the_nearest_minimum():
    start = jnp.asarray(np.random.default_rng(1).integers(2, size=(500, 5)))
    cold = run(samplers.systematic_scan_gibbs(machine, beta=jnp.inf), start, 10)
    energies = jax.jit(jax.vmap(machine))
    for i in range(5):
        flipped = cold.copy()
        flipped[:, i] = 1 - flipped[:, i]
        assert np.all(np.asarray(energies(flipped)) >= np.asarray(energies(cold)))


def test_forbidden_states_are_never_entered():
    """Energies of +inf, and no choice at all: the chain stays where it is, its energy told."""

    def energy(x):
        return jnp.where(jnp.sum(x) > 2, jnp.inf, -1.0 * jnp.sum(x))

    start = jnp.zeros((1000, 5), int)
    found = run(samplers.systematic_scan_gibbs(energy), start, 10)
    assert found.sum(1).max() == 2
    sampler = samplers.systematic_scan_gibbs(lambda x: jnp.nan * jnp.sum(x))
    state, info = jax.jit(sampler.step)(jax.random.key(0), sampler.init(start))
    np.testing.assert_array_equal(state.position, start)
    assert np.isnan(info.energy).all()


@pytest.mark.parametrize("name", ["scan", "spins"])
@pytest.mark.sweep(1)
def test_replicas_at_several_temperatures(name):
    """Tempered, from a corner, at the target."""
    energy, shape, values, make = SAMPLERS[name]
    sampler = samplers.replica_exchange(energy, lambda _, beta: make(beta=beta), [0.4, 1.0])
    start = jnp.full((CHAINS, *shape), values[-1], jnp.int8)
    found = run(sampler, start, 15)
    states = exact.states(shape, values)
    p = oracles.probabilities(np.asarray(jax.jit(jax.vmap(energy))(states)))
    counts = np.bincount(rows(found, values), minlength=len(p))
    assert p_value(counts, CHAINS * p) > 1e-6


@pytest.mark.parametrize("name", ["rbm", "spins", "dmala"])
@pytest.mark.sweep(1)
def test_a_chain_is_the_same_whatever_the_number_of_chains(name):
    _, shape, values, make = SAMPLERS[name]
    start = np.random.default_rng(1).choice(values, size=(40, *shape)).astype(np.int32)
    many, few = (run(make(), jnp.asarray(start[:n]), 5) for n in (40, 7))
    np.testing.assert_array_equal(many[:7], few)


def test_refresh_sees_another_energy():
    for make in (
        samplers.gibbs_with_gradients,
        functools.partial(samplers.dmala, step_size=0.5),
    ):
        old, new = (make(lambda x, k=k: k * jnp.sum(x)) for k in (1.0, 3.0))
        state = samplers.refresh(new, old.init(jnp.ones((2, 4), int)))
        np.testing.assert_allclose(state.energy, 12.0)
        np.testing.assert_allclose(state.change[0, 0], [-3.0, 0.0])


def uniform(word):
    return (np.asarray(word, np.float64) + 0.5) / 2**32


def test_words_are_uniform_and_independent(key):
    words = jax.jit(_bits.words, static_argnums=(1, 2))
    first, second = map(uniform, words(key, 2000, 101))
    for u in (first, second):
        assert stats.kstest(u.ravel(), "uniform").pvalue > 1e-6
        low_bits = (u * 2**32).astype(np.int64) % 2**9
        assert stats.chisquare(np.bincount(low_bits.ravel(), minlength=2**9)).pvalue > 1e-6
    for a, b in ((first, second), (first[1:], second[:-1]), (first[:, 1:], first[:, :-1])):
        score = np.corrcoef(np.ravel(a), np.ravel(b))[0, 1] * np.sqrt(a.size)
        assert abs(score) < 5
    np.testing.assert_array_equal(uniform(words(key, 3, 101)[0]), first[:3])
    keys = jax.random.split(key, 2)
    many = jax.jit(jax.vmap(lambda k: _bits.words(k, 3, 101)))(keys)
    np.testing.assert_array_equal(many[1][1], words(keys[1], 3, 101)[1])


def test_every_chain_has_a_fraction_of_its_own(key):
    """Uniform, and independent of one another and of the words that they complete."""
    n = 3
    found = jnp.stack(_bits.fractions(key, 20_000, n))[..., 0]
    for u in found:
        assert stats.kstest(u, "uniform").pvalue > 1e-6
    words = [uniform(word[:, i]) for word in _bits.words(key, 20_000, n) for i in (0, 1)]
    together = np.corrcoef(np.stack([*found, *words]))
    assert np.abs(together - np.eye(6)).max() < 5 / np.sqrt(20_000)
    few = _bits.fractions(key, 5, n, chains_last=True)
    np.testing.assert_array_equal(few[1][0], found[1, :5])


def test_words_of_a_part_are_those_of_the_whole():
    for key in (jax.random.key(1), jax.random.key(1, impl="rbg")):
        whole = _bits.words(key, 7, 10)
        for last in (False, True):
            part = _bits.words(key, 7, 10, 4, 9, chains_last=last)
            for a, b in zip(whole, part, strict=True):
                np.testing.assert_array_equal(a[:, 4:9], np.asarray(b).T if last else b)


@pytest.mark.parametrize("colours", [1, 17])
def test_lattices_of_one_colour_and_of_many(colours):
    """A pair of the latter needs more than 8 bits; with any field, beta = 0 is uniform."""
    model = lattice.Potts(jnp.float32(0.7), jnp.linspace(-3.0, 3.0, colours))
    sampler = samplers.checkerboard_gibbs(model, beta=0.0)
    x = run(sampler, jnp.zeros((2000, 2, 2), jnp.int32), 1)
    for site in x.reshape(2000, 4).T:
        counts = np.bincount(site, minlength=colours)
        assert len(counts) == colours
        deviation = np.sqrt(2000 / colours * (1 - 1 / colours))
        assert np.abs(counts - 2000 / colours).max() <= 5 * deviation


def test_units_are_on_with_their_probabilities(key):
    logits = jnp.array([-jnp.inf, 0.3, jnp.inf, -1.0, 1.5])  # an odd number of units

    @jax.jit
    def units(x):
        fraction, _ = _bits.fractions(key, len(x), 8)
        return _bits.units(key, x, fraction, n=8, start=2)

    on = units(jnp.tile(logits, (40_000, 1)))
    expected = 1 / (1 + np.exp(-np.asarray(logits, float)))
    tolerance = 5 * np.sqrt(expected * (1 - expected) / 40_000)
    np.testing.assert_array_less(np.abs(on.mean(0) - expected), tolerance + 1e-12)
    assert np.abs(np.corrcoef(on[:, [1, 3, 4]].T) - np.eye(3)).max() < 5 / np.sqrt(40_000)
    np.testing.assert_array_equal(units(jnp.tile(logits, (3, 1))), on[:3])


def test_other_generators_have_their_own_bits():
    key = jax.random.key(0, impl="rbg")
    first, second = map(uniform, _bits.words(key, 300, 50))
    assert stats.kstest(np.ravel(first), "uniform").pvalue > 1e-6
    assert abs(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]) < 5 / np.sqrt(15_000)


def test_categories_have_their_probabilities():
    """And what has none is never drawn, first, in between or last."""
    logits = jnp.log(jnp.array([0.0, 0.2, 0.0, 0.5, 0.3, 0.0]))

    @jax.jit
    def drawn(word):
        return _bits.categorical(word, [jnp.full(word.shape, x) for x in logits], jnp.float32(0.5))

    word = np.arange(0, 2**32, 2**16).astype(np.uint32)
    counts = np.bincount(drawn(word), minlength=6)
    np.testing.assert_allclose(counts / 2**16, np.exp(logits), atol=2e-5)


@pytest.mark.parametrize(
    ("make", "start", "error", "message"),
    [
        (lambda: samplers.rbm_gibbs(RBM), jnp.zeros((2, 5)), TypeError, "Units must be integers"),
        (lambda: samplers.rbm_gibbs(RBM), jnp.zeros((2, 4), int), ValueError, r"\(chains, 5\)"),
        (lambda: samplers.rbm_gibbs(RBM), jnp.full((2, 5), 2), ValueError, "values .0 1., got 2"),
        (lambda: samplers.rbm_gibbs(RBM, beta=-1.0), None, ValueError, "beta must be >= 0"),
        (SAMPLERS["spins"][3], jnp.ones((2, 3, 4), int), ValueError, "even sides"),
        (SAMPLERS["spins"][3], jnp.zeros((2, 4, 4), int), ValueError, "values .-1  1., got 0"),
        (SAMPLERS["spins"][3], jnp.ones((2, 4, 4)), TypeError, "Sites must be integers"),
        (SAMPLERS["scan"][3], jnp.ones((2, 5)), TypeError, "integer or boolean leaf"),
        (SAMPLERS["scan"][3], jnp.full((2, 5), 3), ValueError, "got 3"),
        (SAMPLERS["gwg"][3], jnp.full((2, 5), 3), ValueError, "got 3"),
        (
            lambda: samplers.systematic_scan_gibbs(machine, block_size=6),
            jnp.zeros((2, 5), int),
            ValueError,
            "at most the 5 variables, got 6",
        ),
        (
            lambda: samplers.systematic_scan_gibbs(machine, values=(1, 1)),
            None,
            ValueError,
            "different numbers",
        ),
        (
            lambda: samplers.dula(machine, step_size=0.0),
            None,
            ValueError,
            "step_size must be finite and > 0",
        ),
        (
            lambda: samplers.gibbs_with_gradients(machine, beta=np.inf),
            None,
            ValueError,
            "beta must be finite",
        ),
    ],
)
def test_what_cannot_be_sampled_is_refused(make, start, error, message):
    with pytest.raises(error, match=message):
        make().init(start)


def test_bad_options_are_refused_when_stepping(key):
    def step(name, **options):
        sampler = SAMPLERS[name][3](**options)
        start = jnp.full((2, 5), SAMPLERS[name][2][-1])
        return jax.eval_shape(lambda x: sampler.step(key, sampler.init(x)), start)

    for options, error, message in (
        ({"beta": np.ones(3)}, ValueError, r"one per chain \(2,\)"),
        ({"clamp": np.zeros(4, bool)}, ValueError, "clamp|broadcast"),
        ({"clamp": np.zeros(5)}, TypeError, "clamp must be boolean"),
    ):
        for name in ("rbm", "dmala"):
            with pytest.raises(error, match=message):
                step(name, **options)


@pytest.mark.parametrize("kind", [bool, jnp.int8, int])
def test_the_energy_that_an_rbm_reports_is_that_of_both_layers(kind):
    """Biases of +-60 decide the hidden units: E(v, h) by NumPy, clamped units included."""
    rng = np.random.default_rng(0)
    weights, visible = rng.normal(size=(5, 3)), rng.normal(size=5)
    hidden, h = np.array([60.0, -60.0, 60.0]), np.array([1, 0, 1])
    rbm = boltzmann.RBM(*(jnp.asarray(p, jnp.float32) for p in (weights, visible, hidden)))
    sampler = samplers.rbm_gibbs(rbm, clamp=jnp.arange(5) < 2)
    start = jnp.asarray(rng.integers(0, 2, (20, 5)), kind)
    state, info = jax.jit(sampler.step)(jax.random.key(0), sampler.init(start))
    v = np.asarray(state.position, np.float64)
    expected = -v @ visible - h @ hidden - v @ weights @ h
    np.testing.assert_allclose(info.energy, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [jnp.int8, jnp.bfloat16, jnp.float16])
@pytest.mark.sweep(1)
def test_lattices_with_narrow_parameters(dtype):
    """128 bonds between equal colours, each -1/2, are more than an int8."""
    sampler = samplers.checkerboard_gibbs(lattice.Potts(0.5, jnp.zeros(3, dtype)), beta=jnp.inf)
    state = sampler.init(jnp.zeros((1, 8, 8), jnp.int8))
    state, info = sampler.step(jax.random.key(0), state)
    assert not state.position.any()
    assert float(info.energy[0]) == -64


def test_values_of_unsigned_integers(key):
    """Units in the order (1, 0): their difference is no unsigned integer."""
    params = pairwise.Pairwise(jnp.zeros(1), jnp.full(2, 2.0))
    sampler = samplers.graph_gibbs(params, [[0, 1]], values=np.array([1, 0], np.uint8))
    x = ebm_jax.sample(key, sampler, jnp.zeros((4000, 2), jnp.int32), 1, warmup=1).position
    assert set(np.unique(x).tolist()) == {0, 1}
    expected = 1 / (1 + np.exp(-2))
    np.testing.assert_allclose(x.mean(), expected, atol=5 * (0.11 / x.size) ** 0.5)
