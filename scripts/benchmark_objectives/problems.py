"""Problems whose exact answer is known: data, a network, and measures of a trained network.

Every problem has training, validation and test data, or an exact expectation in place of the test
data. ``measure(params, key)`` is a function that JAX can vmap; it returns

* ``gap``: test nats above the optimum, the cross entropy of the model minus ``entropy``;
* ``validation_gap``: the same on the validation data, which alone choose options;
* ``total_variation``, ``mode_weight_error`` and ``log_z_disagreement``, NaN where unknown.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import logsumexp

import ebm_jax
from ebm_jax import gibbs
from ebm_jax.energies.networks import MLP
from ebm_jax.partition import exact
from ebm_jax.types import Array, Energy, Key, Params
from experiments.data import datasets
from experiments.data.densities import DENSITIES, HALF_WIDTH
from experiments.density2d import model as density2d_model
from experiments.objectives_by_name import Problem
from scripts.benchmark_objectives import mixtures

HIDDEN = 64  # units in each of the two hidden layers
CELLS = 180  # of a side of the grid that measures planar densities: 0.05 wide
MOST_ROWS = 200_000  # of training data
EXAMPLES = 10_000  # training rows that objectives may look at
CHAINS = 256  # chains and negatives of an update
CHUNK = 4096  # states whose energies are computed together

TITLES = {
    "8gaussians": "Eight Gaussians on a circle",
    "2spirals": "Two spirals",
    "checkerboard": "Checkerboard",
    "pinwheel": "Pinwheel",
    "nltcs": "National long term care survey",
    "plants16": "Plants, first 16 columns",
    "rbm16": "Restricted Boltzmann machine with 16 visible units",
    "ising4x4": "Ising model, 4 × 4",
    "mixture8": "Mixture of Gaussians in 8 dimensions",
    "mixture32": "Mixture of Gaussians in 32 dimensions",
}
NAMES = tuple(TITLES)
PLANES = NAMES[:4]
TABLES = ("nltcs", "plants16")  # their distribution is unknown: a reference replaces the entropy

# Network passes of one training at budget 0; budgets 1 and 2 have 10 and 100 times as many.
PASSES = {"plane": 100_000, "bits": 400_000, "mixture": 100_000}


@dataclass(frozen=True, eq=False)
class Task:
    """A problem with its network, truth and measures.

    ``problem.data`` are the examples that objectives may use to choose noise and to start chains;
    ``train`` are those of which batches are drawn.
    """

    name: str
    problem_class: str  # plane, bits or mixture
    problem: Problem
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    init: Callable[[Key], Params]
    entropy: float  # NaN where it takes a reference
    how: str
    measure: Callable[[Params, Key], dict[str, Array]]
    log_prob: Callable[[np.ndarray], np.ndarray] | None = None  # mixtures: the true log-density

    @property
    def family(self) -> str:
        """Name of the problems that differ from this one in their data only."""
        return self.name if self.problem_class == "mixture" else self.problem_class

    @property
    def dimension(self) -> int:
        """Number of variables."""
        return self.train.shape[1]


@functools.cache
def task(name: str, data_dir: str | None = None, reference: float | None = None) -> Task:
    """Return a problem by name; ``reference`` is the entropy of a problem of ``TABLES``."""
    if name in PLANES:
        return plane(name)
    if name.startswith("mixture"):
        return mixture(name)
    return bits(name, data_dir, reference)


def _energies(energy: Energy, params: Params, states: Array) -> Array:
    """Return the energies of many states, a chunk at a time, which stays in the cache."""
    return jax.lax.map(lambda x: energy(params, x), states, batch_size=CHUNK)


def _measures(gap, validation_gap, **others) -> dict[str, Array]:
    unknown = dict.fromkeys(
        ("total_variation", "mode_weight_error", "log_z_disagreement"), jnp.float32(jnp.nan)
    )
    return {"gap": gap, "validation_gap": validation_gap} | unknown | others


def _nearest_centre(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((points[:, None] - centres) ** 2).sum(-1).argmin(1)


def _mode_error(nearest: np.ndarray, p: Array, q: Array, count: int) -> Array:
    """Return half the sum of absolute differences of the weights of the modes."""
    # Of the difference: the sum of p alone would be a constant, which XLA takes seconds to fold.
    return jnp.abs(jax.ops.segment_sum(p - q, jnp.asarray(nearest), count)).sum() / 2


def plane(name: str) -> Task:
    """Return a planar density; all its integrals are sums over a grid."""
    density = DENSITIES[name]
    energy, init = density2d_model.make_energy(HIDDEN, 6)
    points, log_areas = density2d_model.grid(CELLS)
    log_p = density.log_density(np.asarray(points))
    log_p -= logsumexp(log_p)  # of the cells; the square has all but 1e-5 of the mass
    inside = log_p > -np.inf
    entropy = float(log_areas[0]) - float((np.exp(log_p[inside]) * log_p[inside]).sum())
    sizes = (MOST_ROWS, 20_000, 4096)
    train, valid, test = (density.sample(n, seed) for seed, n in enumerate(sizes))
    valid_entropy = -float(density.log_density(valid).mean())
    p, x_valid = jnp.asarray(np.exp(log_p), jnp.float32), jnp.asarray(valid)
    centres = density.centres
    nearest = _nearest_centre(np.asarray(points), centres) if len(centres) else None

    def measure(params: Params, key: Key) -> dict[str, Array]:
        energies = _energies(energy, params, points)
        log_z = gibbs.log_partition(energies, log_weights=log_areas)
        q = jnp.exp(log_areas - energies - log_z)
        gap = jnp.sum(p * energies) + log_z - entropy
        valid_gap = jnp.mean(_energies(energy, params, x_valid)) + log_z - valid_entropy
        others = {"total_variation": jnp.abs(p - q).sum() / 2}
        if nearest is not None:
            others["mode_weight_error"] = _mode_error(nearest, p, q, len(centres))
        return _measures(gap, valid_gap, **others)

    how = f"The density is known; integrals are sums over a grid of {CELLS} × {CELLS} cells."
    corners = np.array([[-HALF_WIDTH] * 2, [HALF_WIDTH] * 2], np.float32)
    problem = Problem(energy, train[:EXAMPLES], corners, num_chains=CHAINS)
    rest = (ebm_jax.jit(init), entropy, how, ebm_jax.jit(measure))
    return Task(name, "plane", problem, train, valid, test, *rest)


def rbm_log_probs(states: np.ndarray) -> np.ndarray:
    """Return the log-probabilities of the teacher RBM, float64."""
    rng = np.random.default_rng(16)
    weights = rng.normal(0, 2.0, (16, 8))
    visible, hidden = rng.normal(0, 1.0, 16), rng.normal(0, 0.5, 8)
    x = states - 0.5
    biases = visible - weights.sum(1) / 2  # with these, each hidden unit prefers no side
    logits = x @ biases + np.logaddexp(0, x @ weights + hidden).sum(1)
    return logits - logsumexp(logits)


def ising_log_probs(states: np.ndarray, coupling: float = 0.4, field: float = 0.05) -> np.ndarray:
    """Return the log-probabilities of the Ising model on 4 × 4 sites, free boundary, float64."""
    spins = (2.0 * states - 1).reshape(-1, 4, 4)
    vertical, horizontal = spins[:, 1:] * spins[:, :-1], spins[..., 1:] * spins[..., :-1]
    bonds = vertical.sum((1, 2)) + horizontal.sum((1, 2))
    logits = coupling * bonds + field * spins.sum((1, 2))
    return logits - logsumexp(logits)


def _numbers(rows: np.ndarray) -> np.ndarray:
    """Return the index of every row among all states: its bits are those of the number."""
    return rows @ 2 ** np.arange(rows.shape[1] - 1, -1, -1)


def _frequencies(rows: np.ndarray) -> np.ndarray:
    """Return the frequency of every state among rows, float64."""
    counts = np.bincount(_numbers(rows), minlength=2 ** rows.shape[1])
    return counts / counts.sum()


def _teacher(log_p: np.ndarray, states: np.ndarray) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    sizes = (MOST_ROWS, 20_000, 20_000)
    return [states[rng.choice(len(states), n, p=np.exp(log_p))] for n in sizes]


def _published(name: str, data_dir: str | None) -> list[np.ndarray]:
    table = datasets.nltcs(data_dir) if name == "nltcs" else datasets.density("plants", data_dir)
    return [rows[:, :16] for rows in table]


_NETWORK = MLP((HIDDEN, HIDDEN))


def bits_energy(params: Params, x: Array) -> Array:
    """Return the energy of bits x: a network, a linear part and a constant."""
    x = jnp.asarray(x, params["linear"].dtype)
    return _NETWORK.apply(params["network"], x) + params["linear"] @ x + params["constant"]


def bits_init(train: np.ndarray) -> Callable[[Key], Params]:
    """Return key -> parameters; without the network they are normalised independent bits."""
    on = train.sum(0)
    logits = jnp.asarray(np.log((on + 1) / (len(train) - on + 1)), jnp.float32)

    def init(key: Key) -> Params:
        network = _NETWORK.init(key, logits)
        return {
            "network": network,
            "linear": -logits,
            "constant": jax.nn.softplus(logits).sum(),
        }

    return init


HOW_TABLE = (
    "Sums over 65,536 states are exact. The distribution of the data is unknown: the entropy is "
    "the test loss where the validation loss is least, in a long training of the same network by "
    "exact maximum likelihood."
)
HOW_TEACHER = "The teacher is known; sums over its 65,536 states are exact."


def bits(name: str, data_dir: str | None, reference: float | None) -> Task:
    """Return 16 binary variables; all sums are over their 65,536 states."""
    states, how = exact.states(16), HOW_TABLE
    if name in TABLES:
        train, valid, test = _published(name, data_dir)
        p, p_valid = _frequencies(test), _frequencies(valid)
        # The entropy of the test data stands for that of the validation data: the difference is
        # the same for all objectives.
        entropy = valid_entropy = np.nan if reference is None else reference
    else:
        all_states, how = np.asarray(states, np.float64), HOW_TEACHER
        log_p = rbm_log_probs(all_states) if name == "rbm16" else ising_log_probs(all_states)
        train, valid, test = _teacher(log_p, np.asarray(states, bool))
        p, p_valid = np.exp(log_p), _frequencies(valid)
        entropy, valid_entropy = -float(p @ log_p), -float(p_valid @ log_p)

    def measure(params: Params, key: Key) -> dict[str, Array]:
        energies = _energies(bits_energy, params, states)
        log_z = gibbs.log_partition(energies)
        gap, valid_gap = (
            jnp.sum(jnp.asarray(weights, jnp.float32) * energies) + log_z - least
            for weights, least in ((p, entropy), (p_valid, valid_entropy))
        )
        others = {}
        if name not in TABLES:
            others["total_variation"] = (
                jnp.abs(jnp.asarray(p, jnp.float32) - jnp.exp(-energies - log_z)).sum() / 2
            )
        return _measures(gap, valid_gap, **others)

    problem = Problem(bits_energy, train[:EXAMPLES], states, num_chains=CHAINS)
    rest = (ebm_jax.jit(bits_init(train)), entropy, how, ebm_jax.jit(measure))
    return Task(name, "bits", problem, train, valid, test, *rest)


def mixture(name: str) -> Task:
    """Return a mixture of Gaussians through a random rotation, in 8 or 32 dimensions."""
    dimension = int(name.removeprefix("mixture"))
    truth = mixtures.make(dimension, seed=dimension)
    train, valid, test = (truth.sample(n, s) for s, n in enumerate((MOST_ROWS, 20_000, 20_000)))
    energy, init = mixtures.make_energy(dimension, HIDDEN, float(train.var(0).mean()))
    large = truth.sample(1_000_000, 4)
    log_prob = np.concatenate([truth.log_prob(x) for x in np.array_split(large, 100)])
    error = log_prob.std() / len(log_prob) ** 0.5
    measured = mixtures.measurer(truth, energy, valid, test)
    edge = np.abs(train).max() + 1.0
    corners = np.array([[-edge] * dimension, [edge] * dimension], np.float32)
    how = (
        "The density is known; its entropy is the mean over 1,000,000 samples (standard error "
        f"{error:.4f}). log Z of the model is estimated by importance sampling from the density, "
        "and by annealing."
    )

    def measure(params: Params, key: Key) -> dict[str, Array]:
        return _measures(**measured(params, key))

    problem = Problem(energy, train[:EXAMPLES], corners, num_chains=CHAINS)
    rest = (ebm_jax.jit(init), -float(log_prob.mean()), how, ebm_jax.jit(measure))
    return Task(name, "mixture", problem, train, valid, test, *rest, truth.log_prob)
