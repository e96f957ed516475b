"""Full transition matrices of the discrete samplers, against those of the published kernels.

The expected matrices are NumPy's, from the formulas, and keep the target exactly. The samplers run
as users run them: one step from every state, by many chains, and the counts of where they went are
compared by chi-square. A false alarm has a probability of 1e-6 a test; a matrix of an inverse
temperature 20 % higher must be refused by the same counts. Where a sampler reports its acceptance
rate, that of every pair of states is compared to all digits.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from scipy import stats

from ebm_jax import samplers
from ebm_jax.energies import boltzmann, lattice, pairwise, potts
from ebm_jax.partition import exact
from ebm_jax.samplers import _colouring, gibbs_sampling

RNG = np.random.default_rng(0)
BETA = 0.7
MACHINE = boltzmann.BoltzmannMachine(RNG.normal(size=(4, 4)), RNG.normal(size=4))
RBM = boltzmann.RBM(RNG.normal(size=(4, 3)), RNG.normal(size=4), RNG.normal(size=3))
TABLE = RNG.normal(size=(3, 3))
ISING = lattice.Ising(0.4, -0.2)
POTTS = lattice.Potts(0.7, np.array([0.1, -0.3, 0.5]))


def machine(x):
    return boltzmann.boltzmann_machine(MACHINE, x)


def chain_of_categories(x):
    """Three categories, of numbers or of rows: an arbitrary energy of neighbours, one of each."""
    rows = x if x.ndim == 2 else jax.nn.one_hot(x, 3, dtype=jnp.result_type(float))
    return jnp.sum(rows[:-1] @ TABLE * rows[1:]) + rows[0] @ TABLE[0]


def ordinal(x):
    """Three values in an order, of numbers: not of first order in any of them."""
    return jnp.sum((x - jnp.array([0.3, 1.2, 1.9])) ** 2) + x[0] * x[1] * x[2] / 3


class Space(NamedTuple):
    """All states (S, ...), their energies, and their probabilities at an inverse temperature."""

    states: np.ndarray
    energies: np.ndarray
    pi: np.ndarray


def space(energy, shape, values, beta=BETA):
    states = np.asarray(exact.states(shape, values))
    energies = np.asarray(jax.jit(jax.vmap(energy))(states))
    return Space(states, energies, oracles.probabilities(energies, beta))


def number(states, values):
    """The row of each state in the list of all of them."""
    digits = np.searchsorted(values, np.asarray(states).reshape(len(states), -1))
    return digits @ len(values) ** np.arange(digits.shape[1] - 1, -1, -1)


class Steps(NamedTuple):
    """Where chains went: the numbers of their states, what was reported, and counts (S, S)."""

    start: np.ndarray
    end: np.ndarray
    info: NamedTuple
    counts: np.ndarray


def steps(sampler, where, values, chains=4000, seed=0):
    """Make one step from every state, by as many chains each."""
    states = where.states
    start = np.repeat(np.arange(len(states)), chains)
    go = jax.jit(lambda key, x: sampler.step(key, sampler.init(x)))
    state, info = jax.tree.map(np.asarray, go(jax.random.key(seed), jnp.asarray(states[start])))
    end = number(state.position, values)
    np.testing.assert_array_equal(state.position, states[end])
    np.testing.assert_allclose(info.energy, where.energies[end], atol=1e-12)
    counts = np.zeros((len(states), len(states)))
    np.add.at(counts, (start, end), 1)
    return Steps(start, end, info, counts)


def pvalue(counts, matrix):
    """Return that of the chi-square of all rows; outcomes expected less than 10 times are one."""
    assert (counts[matrix == 0] == 0).all()
    statistic, freedom = 0.0, 0
    for found, row in zip(counts, matrix, strict=True):
        expected = found.sum() * row
        often = expected >= 10
        found = np.append(found[often], found[~often].sum())
        expected = np.append(expected[often], expected[~often].sum())
        seen = expected >= 1
        statistic += ((found - expected)[seen] ** 2 / expected[seen]).sum()
        freedom += seen.sum() - 1
    return stats.chi2.sf(statistic, freedom)


def assert_follows(counts, matrix, pi, hotter):
    """The matrix keeps pi, the counts are its, and they are not those of another one."""
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(pi @ matrix, pi, atol=1e-12)
    assert pvalue(counts, matrix) > 1e-6
    assert pvalue(counts, hotter) < 1e-6


def assert_balanced(matrix, pi):
    flow = pi[:, None] * matrix
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)


def resampling(where, sites):
    """Draw these sites anew given the others: the exact conditionals of enumerated states."""
    flat = where.states.reshape(len(where.states), -1)
    others = np.delete(flat, sites, axis=1)
    same = (others[:, None] == others[None]).all(-1)
    matrix = same * where.pi
    return matrix / matrix.sum(1, keepdims=True)


def rbm_matrix(beta):
    """P(h | v) P(v' | h), and the distribution of v."""
    visible, hidden = (np.asarray(exact.states(n)) for n in (4, 3))
    joint = visible @ RBM.weights @ hidden.T + (visible @ RBM.visible_bias)[:, None]
    weight = np.exp(beta * (joint + hidden @ RBM.hidden_bias))
    matrix = weight / weight.sum(1, keepdims=True) @ (weight / weight.sum(0)).T
    return visible, hidden, weight / weight.sum(), matrix


def test_rbm_is_reversible(x64):
    visible, hidden, joint, matrix = rbm_matrix(BETA)
    pi = joint.sum(1)
    sampler = samplers.rbm_gibbs(RBM, beta=BETA)
    start = np.repeat(np.arange(16), 4000)
    go = jax.jit(lambda key, x: sampler.step(key, sampler.init(x)))
    state, info = jax.tree.map(np.asarray, go(jax.random.key(0), jnp.asarray(visible[start])))
    counts = np.zeros((16, 16))
    np.add.at(counts, (start, number(state.position, (0, 1))), 1)
    assert_follows(counts, matrix, pi, rbm_matrix(1.2 * BETA)[-1])
    assert_balanced(matrix, pi)
    # The means that a step reports are those of one of the hidden states, and never of another.
    means = 1 / (1 + np.exp(-BETA * (hidden @ RBM.weights.T + RBM.visible_bias)))
    distance = np.abs(info.visible_mean[:, None] - means).max(-1)
    assert distance.min(1).max() < 1e-12


@pytest.mark.parametrize(
    ("kind", "shape"),
    [("spins", (2, 2)), ("spins", (2, 4)), ("spins", (4, 2)), ("colours", (2, 2))],
)
@pytest.mark.sweep(1)
def test_checkerboard(kind, shape, x64):
    """Even sites first, odd ones given them: two draws from exact conditionals."""
    values = (-1, 1) if kind == "spins" else (0, 1, 2)
    params = ISING if kind == "spins" else POTTS
    energy = {"spins": lattice.ising, "colours": lattice.potts}[kind]
    even = np.flatnonzero(np.indices(shape).sum(0).ravel() % 2 == 0)
    odd = np.setdiff1d(np.arange(np.prod(shape)), even)

    def matrix(beta):
        where = space(lambda x: energy(params, x), shape, values, beta)
        return where, resampling(where, even) @ resampling(where, odd)

    where, expected = matrix(BETA)
    taken = steps(samplers.checkerboard_gibbs(params, beta=BETA), where, values, 1000)
    assert_follows(taken.counts, expected, where.pi, matrix(1.2 * BETA)[1])


DENSE = [((length, q), np.int8) for length, q in [(1, 3), (3, 1), (2, 2), (3, 3), (5, 2)]]


@pytest.mark.parametrize(("shape", "dtype"), [*DENSE, ((4, 2), bool), ((1, 1), np.int32)])
@pytest.mark.sweep(2)
def test_dense_potts_site_after_site(shape, dtype, x64):
    """The sweep's matrix is the product of those of its sites, with blocks and padding."""
    length, q = shape
    rng = np.random.default_rng(2)
    params = potts.DensePotts(rng.normal(size=(*shape, *shape)), rng.normal(size=shape))
    states = np.array(list(itertools.product(range(q), repeat=length))).astype(dtype)
    energies = jax.jit(jax.vmap(lambda x: potts.dense_potts(params, x)))(states)

    def matrix(beta):
        pi = oracles.probabilities(np.asarray(energies), beta)
        where, product = Space(states, np.asarray(energies), pi), np.eye(len(states))
        for site in range(length):
            product = product @ resampling(where, [site])
        return where, product

    where, expected = matrix(BETA)
    sampler = samplers.dense_potts_gibbs(params, beta=BETA)
    taken = steps(sampler, where, np.arange(q), 1000 if len(states) > 20 else 4000)
    if q == 1:
        assert (taken.counts == 4000).all()
    else:
        assert_follows(taken.counts, expected, where.pi, matrix(1.5 * BETA)[1])
    changed = (where.states[taken.start] != where.states[taken.end]).mean(1)
    np.testing.assert_allclose(taken.info.changed, changed, atol=1e-7)


def test_dense_potts_with_clamp_and_a_beta_a_chain(x64):
    """Half of the chains at beta 0, half at infinity: uniform, and the likeliest letter."""
    rng = np.random.default_rng(3)
    params = potts.DensePotts(rng.normal(size=(5, 3, 5, 3)), rng.normal(size=(5, 3)))
    beta = jnp.repeat(jnp.array([0.0, jnp.inf]), 5000)
    clamp = np.array([False, True, False, False, True])
    start = jnp.asarray(np.tile([0, 1, 2, 0, 1], (10_000, 1)), jnp.int8)
    sampler = samplers.dense_potts_gibbs(params, beta=beta, clamp=clamp)
    state, _ = jax.jit(sampler.step)(jax.random.key(0), sampler.init(start))
    x = np.asarray(state.position)
    np.testing.assert_array_equal(x[:, clamp], start[:, clamp])
    counts = np.array([np.bincount(column, minlength=3) for column in x[:5000, ~clamp].T])
    statistic = ((counts - 5000 / 3) ** 2 / (5000 / 3)).sum()
    assert stats.chi2.sf(statistic, 6) > 1e-6
    expected = np.array([0, 1, 2, 0, 1])
    for site in np.flatnonzero(~clamp):
        expected[site] = np.argmax(potts.dense_potts_logits(params, expected)[site])
    np.testing.assert_array_equal(x[5000:], np.tile(expected, (5000, 1)))


def test_the_checkerboard_knows_who_is_whose_neighbour():
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.integers(100, size=(3, 6, 4)))
    boards = gibbs_sampling._checkerboard.split(x)
    np.testing.assert_array_equal(gibbs_sampling._checkerboard.join(*boards), x)
    shifted = [np.roll(x, s, a) for a in (1, 2) for s in (1, -1)]
    around = [gibbs_sampling._checkerboard.split(jnp.asarray(s)) for s in shifted]
    for parity in (0, 1):
        found = gibbs_sampling._checkerboard.neighbours(boards[1 - parity], parity)
        expected = np.stack([a[parity] for a in around])
        np.testing.assert_array_equal(np.sort(found, axis=0), np.sort(expected, axis=0))


CIRCLE = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0)]  # three colours, the last of one variable
TRIANGLE = [(0, 1), (1, 2), (2, 0)]
SIGNS = np.array([1.0, -1.0, 1.0, 1.0, -1.0])
GRAPHS = {  # parameters, edges, values
    "signs": (pairwise.Pairwise(0.6 * SIGNS, np.full(5, 0.2)), CIRCLE, (-1, 1)),
    "units of signs": (pairwise.Pairwise(1.2 * SIGNS, np.full(5, -0.3)), CIRCLE, (0, 1)),
    "spins": (pairwise.Pairwise(RNG.normal(size=5), RNG.normal(size=6)), CIRCLE, (-1, 1)),
    "units": (pairwise.Pairwise(RNG.normal(size=5), RNG.normal(size=6)), CIRCLE, (0, 1)),
    "three numbers": (pairwise.Pairwise(RNG.normal(size=3), np.zeros(4)), TRIANGLE, (-1, 0, 1)),
    "potts": (pairwise.Pairwise(RNG.normal(size=3), RNG.normal(size=(4, 3))), TRIANGLE, range(3)),
    "tables": (
        pairwise.Pairwise(RNG.normal(size=(3, 3, 3)), RNG.normal(size=(4, 3))),
        TRIANGLE,
        range(3),
    ),
    "star": (
        pairwise.Pairwise(RNG.normal(size=5), RNG.normal(size=6)),
        [(2, i) for i in (0, 1, 3, 4, 5)],
        (-1, 1),
    ),
    "twice": (pairwise.Pairwise(SIGNS[:3], np.zeros(3)), [(0, 1), (1, 0), (1, 2)], (-1, 1)),
    "free": (pairwise.Pairwise(np.zeros(0), RNG.normal(size=3)), [], (-1, 1)),
    "one variable": (pairwise.Pairwise(np.zeros(0), np.array([[0.0, 1.0, -1.0]])), [], range(3)),
}


@pytest.mark.parametrize("case", GRAPHS)
@pytest.mark.sweep(4)
def test_colours_of_a_graph(case, x64):
    """A sweep over the colours is a scan over the variables in that order, one at a time."""
    params, edges, values = GRAPHS[case]
    n = len(params.fields)
    order = _colouring.layout(n, np.reshape(edges, (-1, 2)).astype(int)).order

    def matrix(beta):
        where = space(lambda x: pairwise.energy(params, x, edges), n, values, beta)
        found = np.eye(len(where.pi))
        for site in order:
            found = found @ resampling(where, [site])
        return where, found

    where, expected = matrix(BETA)
    sampler = samplers.graph_gibbs(params, edges, values=values, beta=BETA)
    taken = steps(sampler, where, np.array(values), 2000)
    assert_follows(taken.counts, expected, where.pi, matrix(1.4 * BETA)[1])
    moved = (where.states[taken.start] != where.states[taken.end]).mean(1)
    np.testing.assert_allclose(taken.info.changed, moved, atol=1e-6)


SCANS = {
    "units": (machine, 4, (0, 1), 1),
    "spins": (machine, 4, (-1, 1), 2),
    "categories": (chain_of_categories, 3, (0, 1, 2), 1),
    "pairs": (chain_of_categories, 3, (0, 1, 2), 2),
    "all": (ordinal, 3, (0, 1, 2), 3),
}


@pytest.mark.parametrize("case", SCANS)
@pytest.mark.sweep(2)
def test_systematic_scan_block_by_block(case, x64):
    """The sweep's matrix is the product of those of its blocks, each an exact conditional."""
    energy, n, values, size = SCANS[case]

    def matrix(beta):
        where, product = space(energy, n, values, beta), np.eye(len(values) ** n)
        for low in range(0, n, size):  # the last block may overlap the one before
            product = product @ resampling(where, min(low, n - size) + np.arange(size))
        return where, product

    where, expected = matrix(BETA)
    sampler = samplers.systematic_scan_gibbs(energy, values=values, block_size=size, beta=BETA)
    taken = steps(sampler, where, values)
    assert_follows(taken.counts, expected, where.pi, matrix(1.2 * BETA)[1])
    changed = (where.states[taken.start] != where.states[taken.end]).mean(1)
    np.testing.assert_allclose(taken.info.changed, changed, atol=1e-7)


INFORMED = {
    "units": (machine, 4, (0, 1), False),
    "spins": (machine, 4, (-1, 1), False),
    "ordinal": (ordinal, 3, (0, 1, 2), False),
    "one-hot": (chain_of_categories, 3, (0, 1, 2), True),
}


def slopes(energy, states, values, one_hot):
    """Return states as coordinates (S, n, c), and the gradient of the energy at each."""
    x = np.eye(len(values))[np.searchsorted(values, states)] if one_hot else states[..., None]
    x = x.astype(float)
    slope = jax.vmap(jax.grad(energy))(jnp.asarray(x if one_hot else x[..., 0]))
    return x, np.asarray(slope).reshape(x.shape)


def one_change(case, beta):
    """Gibbs with gradients: exp(-beta grad (x' - x) / 2) over all states that differ in one place.

    Source: Grathwohl et al. (2021), equations 6 to 8.
    """
    energy, n, values, one_hot = INFORMED[case]
    states = space(energy, n, values).states
    x, slope = slopes(energy, states, values, one_hot)
    rise = (slope[:, None] * (x[None] - x[:, None])).sum((2, 3))
    weight = np.exp(-beta / 2 * rise) * ((states[:, None] != states[None]).sum(2) == 1)
    return weight / weight.sum(1, keepdims=True)


def all_changes(case, beta, alpha=0.5):
    """Equation 4 of Zhang et al. (2022): softmax of -grad (k - x) / 2 - (k - x)^2 / (2 alpha)."""
    energy, n, values, one_hot = INFORMED[case]
    states = space(energy, n, values).states
    x, slope = slopes(energy, states, values, one_hot)
    step = x[None] - x[:, None]  # from, to, variable, coordinate
    logits = -beta / 2 * (slope[:, None] * step).sum(3) - (step**2).sum(3) / (2 * alpha)
    weight = np.exp(logits.sum(2))  # the variables are independent: one normaliser each
    return weight / weight.sum(1, keepdims=True)


def metropolis(proposal, pi):
    """Return the acceptance probabilities of a proposal, and the matrix with its refusals."""
    flow = pi[:, None] * proposal
    ratio = np.divide(flow.T, flow, out=np.zeros_like(flow), where=flow > 0)
    accepted = np.minimum(1, ratio)
    matrix = proposal * accepted
    np.fill_diagonal(matrix, 0)
    return accepted, matrix + np.diag(1 - matrix.sum(1))


@pytest.mark.parametrize("case", INFORMED)
@pytest.mark.parametrize("name", ["gibbs_with_gradients", "dmala"])
@pytest.mark.sweep(3)
def test_informed_proposals_are_reversible(name, case, x64):
    energy, n, values, one_hot = INFORMED[case]
    propose = {"gibbs_with_gradients": one_change, "dmala": all_changes}[name]
    options = {"step_size": 0.5} if name == "dmala" else {}
    where, hotter = space(energy, n, values), space(energy, n, values, 1.2 * BETA)
    accepted, expected = metropolis(propose(case, BETA), where.pi)
    make = getattr(samplers, name)
    sampler = make(energy, values=values, one_hot=one_hot, beta=BETA, **options)
    taken = steps(sampler, where, values, chains=5000)
    other = metropolis(propose(case, 1.2 * BETA), hotter.pi)[1]
    assert_follows(taken.counts, expected, where.pi, other)
    assert_balanced(expected, where.pi)
    moved = taken.start != taken.end
    assert moved.sum() > len(where.pi)
    rate = accepted[taken.start, taken.end]
    np.testing.assert_allclose(taken.info.acceptance_rate[moved], rate[moved], rtol=1e-9)


@pytest.mark.parametrize("case", INFORMED)
@pytest.mark.sweep(1)
def test_dula_proposes_as_published(case, x64):
    energy, n, values, one_hot = INFORMED[case]
    where = space(energy, n, values)
    sampler = samplers.dula(energy, step_size=0.5, values=values, one_hot=one_hot, beta=BETA)
    counts = steps(sampler, where, values, chains=5000).counts
    assert pvalue(counts, all_changes(case, BETA)) > 1e-6
    assert pvalue(counts, all_changes(case, 1.2 * BETA)) < 1e-6


def test_the_bias_of_dula_falls_with_its_step(x64):
    """Of the published matrices, which are those of the sampler at every step size."""
    bias, where = [], space(machine, 4, (0, 1))
    for alpha in (0.8, 0.4, 0.2):
        matrix = all_changes("units", BETA, alpha)
        sampler = samplers.dula(machine, step_size=alpha, beta=BETA)
        assert pvalue(steps(sampler, where, (0, 1)).counts, matrix) > 1e-6
        stationary = np.linalg.matrix_power(matrix, 2**14)[0]
        bias.append(np.abs(stationary - where.pi).sum())
    assert bias[0] > 0.05  # it is biased
    assert bias[0] > 1.5 * bias[1] > 2.25 * bias[2]
