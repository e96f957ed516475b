"""Parallel tempering that tunes itself: log Z, barriers, round trips and its transition matrix.

Keys are fixed. The intervals hold log Z with a probability of 95 % each: in 20 runs fewer than 16
would hold it with a probability of 0.3 %.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

from ebm_jax import distributions, energies, partition, samplers
from ebm_jax.energies import boltzmann, lattice
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.partition import _replicas, exact, paths, tempering

SIDE = 4
ISING = lattice.Ising(0.6, 0.05)
SPINS = distributions.categorical(jnp.zeros((SIDE, SIDE, 2)), np.array([-1, 1], np.int8))


def ising(x):
    return lattice.ising(ISING, x)


def of_spins(energy):
    return samplers.checkerboard_gibbs(ISING, beta=energy.args[0])


ANGLES = 2 * np.pi * np.arange(8) / 8
MODES = energies.GaussianMixture(
    means=jnp.asarray(np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1) * 6, jnp.float32),
    log_weights=jnp.log(jnp.arange(1.0, 9.0)),
    sigma=jnp.array(0.5),
)
mixture = functools.partial(energies.gaussian_mixture, MODES)
WIDE = distributions.gaussian(jnp.zeros(2), 5.0)


def of_mixture(energy):
    return samplers.mala(energy, step_size=0.3 / (0.05 + energy.args[0]))


def seeds(num, base, energy, make_sampler, **options):
    keys = map(jax.random.key, range(num))
    run = functools.partial(tempering.parallel_tempering, base=base, energy=energy)
    return [run(key, make_sampler=make_sampler, **options) for key in keys]


def assert_estimates(results, log_z, least):
    """So many intervals hold log Z, and the mean of the z-scores is that of a t variable."""
    held = [float(r.interval[0]) <= log_z <= float(r.interval[1]) for r in results]
    scores = np.array([(float(r.log_z) - log_z) / float(r.standard_error) for r in results])
    assert sum(held) >= least, scores
    assert abs(scores.mean()) < 4 / np.sqrt(len(scores))
    assert all(r.warnings == () for r in results)


@pytest.mark.slow
def test_log_z_of_a_lattice_is_within_its_interval():
    """A 4 x 4 Ising model below its critical temperature, by enumeration of 65,536 states."""
    bits = (np.arange(2**16)[:, None] >> np.arange(16)) & 1
    s = (2 * bits - 1).reshape(-1, 4, 4)
    bonds = (s * (np.roll(s, 1, 1) + np.roll(s, 1, 2))).sum((1, 2))
    log_z = oracles.log_partition(-(0.6 * bonds + 0.05 * s.sum((1, 2))))
    results = seeds(20, SPINS, ising, of_spins, num_chains=24, num_scans=200, max_replicas=6)
    # E of the base is 16 log 2: log Z is that of the energy, the path's base is normalised.
    assert_estimates(results, log_z, least=16)
    up = np.concatenate([np.asarray(r.position, float).mean((1, 2)) for r in results]) > 0
    weight = np.exp(0.6 * bonds + 0.05 * s.sum((1, 2)))
    p = weight[s.sum((1, 2)) > 0].sum() / weight.sum()
    assert abs(up.mean() - p) < 5 * np.sqrt(p * (1 - p) / len(up))


@pytest.mark.slow
def test_log_z_of_eight_modes_is_within_its_interval():
    """Mode k has k parts of 36: the chains at the target visit them so, within 5 sigma each."""
    log_z = float(exact.log_partition(MODES))
    results = seeds(20, WIDE, mixture, of_mixture, num_chains=24, num_scans=150, max_replicas=5)
    assert_estimates(results, log_z, least=16)
    x = np.concatenate([r.position for r in results])
    nearest = np.argmin(((x[:, None] - np.asarray(MODES.means)) ** 2).sum(-1), axis=1)
    share, p = np.bincount(nearest, minlength=8) / len(x), np.arange(1, 9) / 36
    assert (abs(share - p) < 5 * np.sqrt(p * (1 - p) / len(x))).all()


def expected_rejection(low, high, base_sigma):
    """1 - E min(1, exp((b - b') c (x^2 - y^2))) of Gaussians on a path, by quadrature."""
    precision = [(1 - b) / base_sigma**2 + b for b in (low, high)]
    points, weights = np.polynomial.hermite_e.hermegauss(200)
    weights = weights / weights.sum()
    x, y = (points / np.sqrt(p) for p in precision)
    c = (1 - 1 / base_sigma**2) / 2
    log_ratio = (low - high) * c * (x[:, None] ** 2 - y[None] ** 2)
    return 1 - weights @ np.minimum(1, np.exp(log_ratio)) @ weights


@pytest.mark.slow
def test_the_barrier_of_a_gaussian_path_is_its_integral():
    """Lambda = (1 / pi) log(s_0^2 / s_1^2) in one dimension, since E|V - V'| = 4 |c| v / pi."""
    sigma = 50.0
    result = tempering.parallel_tempering(
        jax.random.key(0),
        distributions.gaussian(jnp.zeros(1), sigma),
        lambda x: jnp.sum(x**2) / 2,
        lambda energy: samplers.mala(
            energy, step_size=0.7 / (energy.args[0] + (1 - energy.args[0]) / sigma**2)
        ),
        num_chains=50,
        num_scans=400,
    )
    barrier = 2 * np.log(sigma) / np.pi
    betas, rates = np.asarray(result.betas, float), np.asarray(result.rejection_rates)
    expected = [expected_rejection(a, b, sigma) for a, b in itertools.pairwise(betas)]
    # A mean of 20,000 correlated probabilities; the quadrature of the kink errs by about 0.003.
    np.testing.assert_allclose(rates, expected, atol=0.02)
    np.testing.assert_allclose(result.barrier, rates.sum(), rtol=1e-5)
    # Finite steps see less than the integral: to second order in the spacing.
    assert 0.85 * barrier < float(result.barrier) < barrier
    assert 2 * barrier <= len(betas) <= 2 * barrier + 4
    assert rates.max() - rates.min() < 0.1  # equal
    assert (np.diff(betas) > 0).all()
    assert (betas[0], betas[-1]) == (0, 1)
    assert result.warnings == ()
    assert abs(float(result.log_z) - np.log(2 * np.pi) / 2) < 4 * float(result.standard_error)


@pytest.mark.slow
def test_thermodynamic_integration_is_that_of_the_ladder():
    """<dE/dbeta> of a Gaussian path is known at every rung: the trapezoidal rule is left."""
    base = distributions.gaussian(jnp.zeros(2), 2.0)
    result = tempering.parallel_tempering(
        jax.random.key(0),
        base,
        lambda x: jnp.sum(x**2) / 2,
        functools.partial(samplers.mala, step_size=1.0),
        num_chains=100,
        num_scans=400,
    )
    betas = np.asarray(result.betas, float)
    variance = 1 / ((1 - betas) / 4 + betas)
    slope = 2 * variance * (1 - 1 / 4) / 2 - np.log(2 * np.pi * 4)
    expected = -np.sum(np.diff(betas) * (slope[1:] + slope[:-1]) / 2)
    np.testing.assert_allclose(result.thermodynamic_integration, expected, atol=0.02)
    np.testing.assert_allclose(result.log_z, np.log(2 * np.pi), atol=0.03)


@pytest.mark.parametrize("replicas", [2, 3, 5])
@pytest.mark.sweep(1)
def test_round_trips_are_those_of_the_index_paths(replicas):
    """Replicas by number, moved by random swaps: from base to target and back, counted by hand."""
    rng, steps, chains = np.random.default_rng(replicas), 300, 7
    place = np.tile(np.arange(replicas)[:, None], (1, chains))  # which replica is at each rung
    came, trips = jnp.zeros((replicas, chains), int), 0
    history = []
    for step in range(steps):
        source = np.tile(np.arange(replicas)[:, None], (1, chains))
        for low in range(step % 2, replicas - 1, 2):
            swap = rng.random(chains) < 0.7
            source[low, swap], source[low + 1, swap] = low + 1, low
        place = np.take_along_axis(place, source, axis=0)
        history.append(place)
        came, more = _replicas.count_trips(jnp.take_along_axis(came, jnp.asarray(source), axis=0))
        trips += int(more)
    rungs = np.argsort(np.array(history), axis=1)  # where each replica was, (steps, replicas, n)
    expected = 0
    for path in rungs.reshape(steps, -1).T:
        ends = [end for end, _ in itertools.groupby(path[(path == 0) | (path == replicas - 1)])]
        ends = ends[1:] if ends and ends[0] else ends  # a trip begins at the base
        expected += max(len(ends) - 1, 0) // 2
    assert trips == expected > 0


def table_of(pi):
    """Return all joint states of the rungs as rows, and their probabilities."""
    rungs = len(pi)
    joint = np.array(list(itertools.product(range(len(pi[0])), repeat=rungs)))
    return joint, np.prod([pi[k][joint[:, k]] for k in range(rungs)], axis=0)


@pytest.mark.parametrize("parity", [0, 1])
@pytest.mark.parametrize("dtype", ["bool", "int8", "int32"])
@pytest.mark.sweep(2)
def test_a_scan_has_its_transition_matrix_and_keeps_the_product(parity, dtype, x64):
    """Two units, three rungs: 64 joint states, against NumPy's matrix of draw, sweep and swap."""
    betas = np.array([0.0, 0.4, 1.0])
    values = np.array([0.6, -2.4, 1.8, -0.8])  # E of the states 00, 01, 10, 11
    logits = np.array([0.5, -0.8])
    states = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    log_p = -(np.logaddexp(0, -(2 * states - 1) * logits)).sum(1)
    along = -(1 - betas[:, None]) * log_p + betas[:, None] * values
    pi = np.exp(-along) / np.exp(-along).sum(1, keepdims=True)

    def sweep(p):
        matrix = np.eye(4)
        for site in (0, 1):
            other = states[:, 1 - site]
            same = other[:, None] == other[None]
            matrix = matrix @ (same * p / (same * p).sum(1, keepdims=True))
        return matrix

    joint, product = table_of(pi)
    # Rung 0 is drawn anew, the others are swept.
    kernels = [np.tile(pi[0], (4, 1)), sweep(pi[1]), sweep(pi[2])]
    moved = np.prod([kernels[k][joint[:, None, k], joint[None, :, k]] for k in range(3)], axis=0)
    swapped, always = np.zeros((2, 64, 64))
    low = parity
    for i, row in enumerate(joint):
        a, b = row[low], row[low + 1]
        rate = min(1, pi[low][b] * pi[low + 1][a] / (pi[low][a] * pi[low + 1][b]))
        other = row.copy()
        other[low], other[low + 1] = b, a
        swapped[i, other @ [16, 4, 1]] += rate
        swapped[i, i] += 1 - rate
        always[i, other @ [16, 4, 1]] = 1
    matrix = moved @ swapped
    np.testing.assert_allclose(product @ matrix, product, atol=1e-14)

    base, table = distributions.bernoulli(jnp.asarray(logits)), jnp.asarray(values)
    if dtype != "bool":
        plain = base
        base = plain._replace(sample=lambda key, num: plain.sample(key, num).astype(dtype))
    energy = jax.tree_util.Partial(lambda x: table[2 * x[0].astype(int) + x[1].astype(int)])
    make = samplers.systematic_scan_gibbs
    options = (base, make, paths.geometric, 1)
    chains = 1500
    start = np.repeat(np.arange(64), chains)
    position = jnp.asarray(states[joint[start]].swapaxes(0, 1), dtype)
    ladder = jnp.asarray(betas)
    state = _replicas.start(jax.random.key(0), energy, ladder, len(start), *options)
    state = state._replace(
        replicas=state.replicas._replace(position=position), scan=jnp.asarray(parity, jnp.int32)
    )
    state, _ = _replicas.scans(jax.random.key(1), energy, ladder, state, 1, *options)
    end = np.asarray(state.replicas.position, int) @ [2, 1]
    counts = np.zeros((64, 64))
    np.add.at(counts, (start, [16, 4, 1] @ end), 1)
    assert not counts[matrix == 0].any()

    def pvalue(matrix):
        wanted = chains * matrix
        often = wanted >= 5
        statistic = ((counts - wanted)[often] ** 2 / wanted[often]).sum()
        return stats.chi2.sf(statistic, often.sum() - 64)

    assert pvalue(matrix) > 1e-6
    assert pvalue(moved @ always) < 1e-6


@pytest.mark.slow
def test_another_path_than_the_geometric_one(x64):
    """An RBM from its base rates, its own path and sampler, against enumeration."""
    rng = np.random.default_rng(0)
    rbm = RBM(*(jnp.asarray(rng.normal(size=s)) for s in ((8, 4), 8, 4)))
    bias = jnp.asarray(rng.normal(size=8))
    path, make_sampler = paths.rbm(rbm, bias)
    result = tempering.parallel_tempering(
        jax.random.key(0),
        distributions.bernoulli(bias),
        functools.partial(boltzmann.rbm_free_energy, rbm),
        make_sampler,
        num_chains=30,
        num_scans=200,
        path=lambda base, energy: path,
    )
    log_z = float(exact.log_partition(rbm))
    assert float(result.interval[0]) < log_z < float(result.interval[1])
    assert result.warnings == ()


@pytest.mark.parametrize("num_chains", [2, 5])
@pytest.mark.sweep(1)
def test_one_variable_of_one_value(num_chains):
    base = distributions.categorical(jnp.zeros((1, 1)))
    result = partition.parallel_tempering(
        jax.random.key(0),
        base,
        lambda x: 1.5 + 0.0 * jnp.sum(x),
        lambda energy: samplers.rbm_gibbs(
            boltzmann.CategoricalRBM(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1)), jnp.zeros(1))
        ),
        num_chains=num_chains,
        num_scans=32,
    )
    np.testing.assert_allclose([result.log_z, result.thermodynamic_integration], -1.5, rtol=1e-6)
    np.testing.assert_allclose(result.barrier, 0, atol=1e-6)
    assert len(result.betas) == 8 or len(result.betas) == 3
    assert result.warnings == ()


def test_saturated_rungs_and_missing_round_trips_are_told():
    """A narrow target far out in a wide base, with too few replicas for it."""
    result = tempering.parallel_tempering(
        jax.random.key(0),
        distributions.gaussian(jnp.zeros(4), 30.0),
        lambda x: jnp.sum((x - 40) ** 2) / 0.0002,
        functools.partial(samplers.mala, step_size=1e-4),
        num_chains=4,
        num_scans=32,
        max_replicas=3,
    )
    said = " ".join(result.warnings)
    assert "The rejection rate between beta" in said
    assert "round trips between base and target" in said


def test_the_next_ladder_has_equal_barriers():
    betas = np.linspace(0, 1, 9)
    rejection = np.linspace(0.1, 0.9, 8)
    new, nearest = tempering._next_ladder(betas, rejection, 64, last=True)
    assert len(new) == int(np.ceil(2 * (rejection + 1e-3).sum())) + 1 == len(nearest)
    barrier = np.concatenate([[0], np.cumsum(rejection + 1e-3)])
    # The interpolant goes through the old rungs, and between two of them stays between.
    found = np.searchsorted(betas, new[1:-1])
    wanted = np.searchsorted(barrier, np.linspace(0, barrier[-1], len(new))[1:-1])
    np.testing.assert_array_equal(found, wanted)
    assert (np.diff(new) > 0).all()
    assert len(tempering._next_ladder(betas, rejection, 5, last=True)[0]) == 5
    # Before the last round a ladder grows with replicas to spare, and does not shrink.
    spare = tempering._next_ladder(betas, rejection, 64, last=False)[0]
    assert len(new) < len(spare) <= 1.25 * len(new) + 1
    few = rejection / 10
    assert len(tempering._next_ladder(betas, few, 64, last=False)[0]) == len(betas)
    assert len(tempering._next_ladder(betas, few, 64, last=True)[0]) < len(betas)


@pytest.mark.slow
def test_a_forbidden_state_leaves_log_z_right_and_the_integral_nan():
    """Of two states with equal base probability one has E = inf: Z = 1/2 of the base's, 1."""
    base = distributions.categorical(jnp.zeros((1, 2)))
    found = partition.parallel_tempering(
        jax.random.key(0),
        base,
        lambda x: jnp.where(x[0] == 1, jnp.inf, 0.0),
        samplers.systematic_scan_gibbs,
        num_chains=20,
        num_scans=64,
    )
    assert abs(found.log_z) < 5 * found.standard_error + 1e-6
    assert np.isnan(found.thermodynamic_integration)
