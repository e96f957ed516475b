"""Binary data with an exact partition function: the energy, its exact NLL, and baselines."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

import ebm_jax
from ebm_jax.energies.networks import MLP
from ebm_jax.types import Array, Energy, Params
from experiments import objectives_by_name
from experiments.data.datasets import Bits


def independent_bits(train: np.ndarray, test: np.ndarray) -> float:
    """Return the test NLL of independent bits, their means those of the training rows."""
    p = np.clip(train.mean(0), 1e-12, 1 - 1e-12)
    return float(-np.where(test, np.log(p), np.log1p(-p)).sum(1).mean())


def chow_liu(train: np.ndarray, test: np.ndarray) -> float:
    """Return the test NLL of the best tree, every pair of bits seen once more in each state.

    Source: Chow and Liu (1968), Approximating discrete probability distributions with dependence
    trees.
    """
    seen = np.stack([~train, train], -1).astype(float)
    joint = (np.einsum("nia,njb->ijab", seen, seen) + 1) / (len(train) + 4)
    alone = joint.sum(3)  # P(x_i = a), the same for every j
    information = joint * np.log(joint / (alone[..., None] * joint.sum(2)[:, :, None]))
    weight = -information.sum((2, 3))
    np.fill_diagonal(weight, 0)
    tree = minimum_spanning_tree(weight).toarray()
    order, parents = breadth_first_order(tree + tree.T, 0, directed=False)
    x, root = test.astype(int), order[0]
    log_p = np.log((seen.sum(0) + 2)[root] / (len(train) + 4))[x[:, root]]
    for i in order[1:]:
        given = joint[parents[i], i] / joint[parents[i], i].sum(1, keepdims=True)
        log_p += np.log(given)[x[:, parents[i]], x[:, i]]
    return float(-log_p.mean())


def make_energy(train: np.ndarray, hidden: int) -> tuple[Energy, Callable[[jax.Array], Params]]:
    """Return energy(params, x) -> () of bits x (columns,), and key -> its parameters.

    Without its network it begins as the normalised energy of independent bits.
    """
    network, size = MLP((hidden, hidden)), len(train)
    on = train.sum(0)
    logits = jnp.asarray(np.log((on + 1) / (size - on + 1)), jnp.float32)
    log_z = float(jax.nn.softplus(logits).sum())

    def energy(params: Params, x: Array) -> Array:
        x = jnp.asarray(x, params["linear"].dtype)
        return network.apply(params["network"], x) + params["linear"] @ x + log_z  # pyright: ignore

    def init(key: jax.Array) -> Params:
        return {"network": network.init(key, logits), "linear": -logits}

    return energy, init


def evaluator(energy: Energy, states: Array, bits: Bits) -> Callable[[Params], dict[str, float]]:
    """Return params -> the exact NLL of the rows of every part, each state evaluated once."""
    columns = bits.train.shape[1]
    places = 2 ** np.arange(columns - 1, -1, -1)  # the states' numbers in binary are their bits
    numbers = {name: rows @ places for name, rows in bits._asdict().items()}
    on_states = ebm_jax.jit(jax.vmap(energy, (None, 0)))

    def evaluate(params: Params) -> dict[str, float]:
        energies = np.asarray(
            on_states(objectives_by_name.energy_params(params), states), np.float64
        )
        log_z = np.logaddexp.reduce(-energies)
        return {f"{name}_nll": float(energies[n].mean() + log_z) for name, n in numbers.items()}

    return evaluate
