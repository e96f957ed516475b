"""Full transition matrices of the discrete samplers, every outcome of their randomness enumerated.

The functions that draw are replaced: they note the probabilities they are given, and return what
the test wants, every outcome from every state at once, a chain each. What a step then does, and
with what probability, is exact.
"""

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import _bits, _draws, gibbs, samplers
from ebm_jax.energies import boltzmann, lattice
from ebm_jax.partition import exact
from ebm_jax.samplers import gibbs_sampling

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
    """All states (S, ...), and their probabilities at BETA."""

    states: np.ndarray
    pi: np.ndarray


def space(energy, shape, values):
    states = np.asarray(exact.states(shape, values))
    return Space(states, oracles.probabilities(jax.jit(jax.vmap(energy))(states), BETA))


def number(states, values):
    """The row of each state in the list of all of them."""
    digits = np.searchsorted(values, np.asarray(states).reshape(len(states), -1))
    return digits @ len(values) ** np.arange(digits.shape[1] - 1, -1, -1)


def assert_balanced(matrix, pi):
    flow = pi[:, None] * matrix
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(flow, flow.T, atol=1e-12)
    assert (matrix > 0).sum() > len(pi)  # something moves


def assert_stationary(matrix, pi):
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-12)
    np.testing.assert_allclose(pi @ matrix, pi, atol=1e-12)


class Script:
    """Stands in for functions that draw: returns the wanted outcomes and keeps their log-odds."""

    def __init__(self, *wanted):
        self.wanted, self.given = list(wanted), []

    def __call__(self, _, logits, *fraction, **options):
        del fraction, options
        self.given.append(jnp.stack(logits, axis=-1) if isinstance(logits, list) else logits)
        return jnp.asarray(self.wanted[len(self.given) - 1])


def accept_all(monkeypatch):
    monkeypatch.setattr(_draws, "bernoulli", lambda _, log_p: jnp.ones(log_p.shape, bool))


def log_bernoulli(logits, bits):
    return -np.logaddexp(0, np.where(bits, -logits, logits)).reshape(len(bits), -1).sum(1)


def log_categorical(logits, x):
    logits = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    chosen = np.take_along_axis(logits, np.asarray(x)[..., None], axis=-1)
    return chosen.reshape(len(x), -1).sum(1)


def collect(size, start, end, log_p):
    matrix = np.zeros((size, size))
    np.add.at(matrix, (start, end), np.exp(log_p))
    return matrix


def pairs(*spaces):
    """Every combination of the rows of several arrays, a chain each."""
    index = np.array(list(itertools.product(*(range(len(s)) for s in spaces))))
    return [s[index[:, i]] for i, s in enumerate(spaces)]


def step_once(sampler, start, script):
    """Return (state, info) after a step, and what the script was given, as arrays."""

    @jax.jit
    def go(x):
        state, info = sampler.step(jax.random.key(0), sampler.init(x))
        return state.position, info, list(script.given)

    return jax.tree.map(np.asarray, go(jnp.asarray(start)))


def test_rbm_is_reversible(x64, monkeypatch):
    visible, hidden = (np.asarray(exact.states(n)) for n in (4, 3))
    v, h, w = pairs(visible, hidden, visible)
    script = Script(h == 1, w == 1)
    monkeypatch.setattr(_bits, "units", script)
    found, info, (first, second) = step_once(samplers.rbm_gibbs(RBM, beta=BETA), v, script)
    np.testing.assert_array_equal(found, w)
    log_p = log_bernoulli(first, h == 1) + log_bernoulli(second, w == 1)
    matrix = collect(16, number(v, (0, 1)), number(w, (0, 1)), log_p)
    joint = -BETA * (
        -(visible @ RBM.weights @ hidden.T)
        - (visible @ RBM.visible_bias)[:, None]
        - hidden @ RBM.hidden_bias
    )
    pi = np.exp(joint - np.logaddexp.reduce(joint.ravel())).sum(1)
    assert_balanced(matrix, pi)
    np.testing.assert_allclose(info.visible_mean, 1 / (1 + np.exp(-second)), rtol=1e-12)


def drawn(x):
    """Return what a sweep to lattices draws: even sites, upper half and lower, then odd ones."""
    boards = gibbs_sampling._checkerboard.split(jnp.asarray(x))
    return [half for board in map(np.asarray, boards) for half in np.split(board, 2)]


@pytest.mark.parametrize("shape", [(2, 2), (2, 4), (4, 2)])
def test_checkerboard_of_spins(shape, x64, monkeypatch):
    """From every lattice to every other: the even sites first, the odd ones given them."""
    values = (-1, 1)
    states, pi = space(lambda s: lattice.ising(ISING, s), shape, values)
    start, end = pairs(states, states)
    up = [half == 1 for half in drawn(end)]
    script = Script(*up)
    monkeypatch.setattr(_bits, "threshold", lambda logits, _: jax.nn.sigmoid(logits))
    monkeypatch.setattr(_bits, "below", script)
    sampler = samplers.checkerboard_gibbs(ISING, beta=BETA)
    found, info, given = step_once(sampler, start, script)
    np.testing.assert_array_equal(found, end)
    np.testing.assert_allclose(
        info.energy, jax.jit(jax.vmap(lambda s: lattice.ising(ISING, s)))(end), atol=1e-12
    )
    chances = [np.where(u, p, 1 - p) for u, p in zip(up, given, strict=True)]
    log_p = sum(np.log(p).sum((0, 1)) for p in chances)
    matrix = collect(len(pi), number(start, values), number(end, values), log_p)
    assert_stationary(matrix, pi)


def test_checkerboard_of_colours(x64, monkeypatch):
    states, pi = space(lambda x: lattice.potts(POTTS, x), (2, 2), range(3))
    start, end = pairs(states, states)
    to = drawn(end)
    script = Script(*to)
    monkeypatch.setattr(_bits, "categorical", script)
    sampler = samplers.checkerboard_gibbs(POTTS, beta=BETA)
    found, info, given = step_once(sampler, start, script)
    np.testing.assert_array_equal(found, end)
    np.testing.assert_allclose(
        info.energy, jax.jit(jax.vmap(lambda x: lattice.potts(POTTS, x)))(end), atol=1e-12
    )
    log_p = sum(
        log_categorical(np.moveaxis(logits, 2, 0), np.moveaxis(np.asarray(t), 2, 0))
        for logits, t in zip(given, to, strict=True)
    )
    matrix = collect(len(pi), number(start, range(3)), number(end, range(3)), log_p)
    assert_stationary(matrix, pi)


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


SCANS = {
    "units": (machine, 4, (0, 1), 1),
    "spins": (machine, 4, (-1, 1), 2),
    "categories": (chain_of_categories, 3, (0, 1, 2), 1),
    "pairs": (chain_of_categories, 3, (0, 1, 2), 2),
    "all": (ordinal, 3, (0, 1, 2), 3),
}


def python_loop(low, high, body, value):
    for i in range(low, high):
        value = body(i, value)
    return value


@pytest.mark.parametrize("case", SCANS)
def test_systematic_scan_block_by_block(case, x64, monkeypatch):
    """The sweep's matrix is the product of its blocks': each is reversible."""
    energy, n, values, size = SCANS[case]
    states, pi = space(energy, n, values)
    sampler = samplers.systematic_scan_gibbs(energy, values=values, block_size=size, beta=BETA)
    choices = np.asarray(exact.states(size, range(len(values))))
    blocks = -(-n // size)
    # A choice of every block in turn, from every state: as many chains.
    start, *wanted = pairs(states, *[np.arange(len(choices))] * blocks)
    script = Script(*wanted)
    monkeypatch.setattr(gibbs, "sample", script)
    monkeypatch.setattr(jax.lax, "fori_loop", python_loop)  # what is drawn in it can leave it
    end, info, given = step_once(sampler, start, script)
    log_p = np.zeros(len(start))
    for energies, chosen in zip(given, wanted, strict=True):
        log_p += log_categorical(-BETA * energies, chosen)
    matrix = collect(len(pi), number(start, values), number(end, values), log_p)
    assert_stationary(matrix, pi)
    np.testing.assert_allclose(info.energy, jax.jit(jax.vmap(energy))(end), atol=1e-12)
    np.testing.assert_allclose(info.changed, (end != start).mean(1), atol=1e-7)
    if blocks == 1:  # drawn at once from the target
        np.testing.assert_allclose(matrix, np.tile(pi, (len(pi), 1)), atol=1e-12)


INFORMED = {
    "units": (machine, 4, (0, 1), False),
    "spins": (machine, 4, (-1, 1), False),
    "ordinal": (ordinal, 3, (0, 1, 2), False),
    "one-hot": (chain_of_categories, 3, (0, 1, 2), True),
}


@pytest.mark.parametrize("case", INFORMED)
def test_gibbs_with_gradients_is_reversible(case, x64, monkeypatch):
    energy, n, values, one_hot = INFORMED[case]
    states, pi = space(energy, n, values)
    q = len(values)
    start, chosen = pairs(states, np.arange(n * q))
    site, k = chosen // q, chosen % q
    moves = np.searchsorted(values, start)[np.arange(len(start)), site] != k
    start, chosen, site, k = start[moves], chosen[moves], site[moves], k[moves]
    script = Script(chosen)
    monkeypatch.setattr(_draws, "categorical", script)
    accept_all(monkeypatch)
    sampler = samplers.gibbs_with_gradients(energy, values=values, one_hot=one_hot, beta=BETA)
    found, info, (log_q,) = step_once(sampler, start, script)
    end = start.copy()
    end[np.arange(len(start)), site] = np.asarray(values)[k]
    np.testing.assert_array_equal(found, end)
    np.testing.assert_allclose(info.energy, jax.jit(jax.vmap(energy))(end), atol=1e-12)
    np.testing.assert_allclose(np.exp(log_q).sum(1), 1, atol=1e-12)
    log_q = np.take_along_axis(log_q, chosen[:, None], axis=1)[:, 0]
    assert np.ptp(log_q) > 0.1  # the gradient tells the moves apart
    log_p = log_q + np.log(info.acceptance_rate)
    matrix = collect(len(pi), number(start, values), number(end, values), log_p)
    matrix += np.diag(1 - matrix.sum(1))  # refused
    assert_balanced(matrix, pi)


def langevin_matrix(energy, n, values, one_hot, make, monkeypatch):
    """The transition matrix of dula or dmala, and the proposals' logarithms by hand."""
    states, pi = space(energy, n, values)
    start, end = pairs(states, states)
    to = np.searchsorted(values, end)
    half = -(-n // 2)
    second = np.pad(to[:, half:], ((0, 0), (0, 2 * half - n)))
    script = Script(to[:, :half], second)
    monkeypatch.setattr(_bits, "categorical", script)
    accept_all(monkeypatch)
    sampler = make(energy, values=values, one_hot=one_hot, beta=BETA)
    found, info, given = step_once(sampler, start, script)
    log_q = np.concatenate(given, axis=1)[:, :n]
    np.testing.assert_array_equal(found, end)
    np.testing.assert_allclose(info.energy, jax.jit(jax.vmap(energy))(end), atol=1e-12)
    log_p = log_categorical(log_q, to)
    accepted = np.asarray(getattr(info, "acceptance_rate", np.ones(len(start))))
    where = number(start, values), number(end, values)
    size = len(pi)
    return collect(size, *where, log_p), collect(size, *where, log_p + np.log(accepted)), pi


@pytest.mark.parametrize("case", INFORMED)
def test_dmala_is_reversible(case, x64, monkeypatch):
    def make(energy, **options):
        return samplers.dmala(energy, step_size=0.5, **options)

    _, matrix, pi = langevin_matrix(*INFORMED[case], make, monkeypatch)
    np.fill_diagonal(matrix, 0)
    matrix += np.diag(1 - matrix.sum(1))
    assert_balanced(matrix, pi)


@pytest.mark.parametrize("case", INFORMED)
def test_dula_proposes_as_published(case, x64, monkeypatch):
    """Equation 4 of Zhang et al.: softmax of -grad (k - x) / 2 - (k - x)^2 / (2 alpha)."""
    energy, n, values, one_hot = INFORMED[case]
    alpha = 0.5

    def make(energy, **options):
        return samplers.dula(energy, step_size=alpha, **options)

    found, _, _ = langevin_matrix(energy, n, values, one_hot, make, monkeypatch)
    states = np.asarray(exact.states(n, values))
    shown = np.eye(len(values))[np.searchsorted(values, states)] if one_hot else states[..., None]
    shown = shown.astype(float)
    slope = jax.vmap(jax.grad(energy))(jnp.asarray(shown if one_hot else shown[..., 0]))
    slope = np.asarray(slope).reshape(shown.shape)
    step = shown[None] - shown[:, None]  # from, to, variable, coordinate
    logits = -BETA / 2 * (slope[:, None] * step).sum(3) - (step**2).sum(3) / (2 * alpha)
    expected = np.exp(logits.sum(2))  # the variables are independent: one normaliser each
    np.testing.assert_allclose(
        found, expected / expected.sum(1, keepdims=True), rtol=1e-10, atol=1e-14
    )


def test_the_bias_of_dula_falls_with_its_step(x64, monkeypatch):
    bias = []
    for alpha in (0.8, 0.4, 0.2):

        def make(energy, alpha=alpha, **options):
            return samplers.dula(energy, step_size=alpha, **options)

        matrix, _, pi = langevin_matrix(machine, 4, (0, 1), False, make, monkeypatch)
        stationary = np.linalg.matrix_power(matrix, 2**14)[0]
        bias.append(np.abs(stationary - pi).sum())
    assert bias[0] > 0.05  # it is biased
    assert bias[0] > 1.5 * bias[1] > 2.25 * bias[2]
