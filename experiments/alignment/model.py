"""Statistics of an alignment, and the Potts model that is trained on them."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

import ebm_jax
from ebm_jax import distributions, partition, samplers
from ebm_jax.energies import potts
from ebm_jax.energies.potts import DensePotts
from ebm_jax.partition.estimates import Estimate
from ebm_jax.types import Array, Distribution, Key

BLOCK = 1024  # sequences whose letters are zeros and ones in memory at once


def blocks(letters: np.ndarray, weights: np.ndarray | None = None) -> tuple[Array, Array]:
    """Return letters (blocks, BLOCK, columns) and weights (blocks, BLOCK).

    The last block is filled up with sequences of weight 0 and of the letter -1.
    """
    weights = np.ones(len(letters)) if weights is None else weights
    size = min(BLOCK, len(letters))
    rest = -len(letters) % size
    letters = np.pad(np.asarray(letters, np.int8), ((0, rest), (0, 0)), constant_values=-1)
    weights = np.pad(np.asarray(weights), (0, rest))
    dtype = jnp.result_type(float)
    return (
        jnp.asarray(letters.reshape(-1, size, letters.shape[1])),
        jnp.asarray(weights.reshape(-1, size), dtype),
    )


def flat(letters: Array, q: int) -> Array:
    """Return sequences (n, columns) as zeros and ones, (n, columns q)."""
    ones = jax.nn.one_hot(letters.astype(jnp.int32), q, dtype=jnp.result_type(float))
    return ones.reshape(letters.shape[0], -1)


def sequence_weights(letters: np.ndarray, q: int, identity: float = 0.8) -> np.ndarray:
    """Return 1 over the number of sequences that are as similar, themselves counted, (n,).

    Two sequences are similar where at least the fraction ``identity`` of their columns has the
    same letter, gaps included. Blocks of sequences are compared with blocks: the memory does not
    grow with n^2. Source: Morcos et al. (2011), PNAS 108(49).
    """
    threshold = max(1, math.ceil(identity * letters.shape[1] - 1e-9))
    counts = _similar(blocks(letters)[0], q, threshold)
    return 1 / np.asarray(counts, np.float64).reshape(-1)[: len(letters)]


@functools.partial(ebm_jax.jit, static_argnums=(1, 2))
def _similar(letters: Array, q: int, threshold: int) -> Array:
    def row(block: Array) -> Array:
        ours = flat(block, q)

        def column(count: Array, other: Array) -> tuple[Array, None]:
            same = jnp.matmul(ours, flat(other, q).T, precision="highest")
            return count + jnp.sum(same > threshold - 0.5, axis=1), None

        start = jnp.zeros(block.shape[0], jnp.int32)
        return jax.lax.scan(column, start, letters)[0]

    return jax.lax.map(row, letters)


def frequencies(letters: Array, weights: Array, q: int) -> Array:
    """Return the weighted frequencies of pairs of letters, (columns, q, columns, q).

    The diagonal, f[i, a, i, a], has the frequencies of letters. Letters and weights are blocks.
    """
    columns = letters.shape[-1]

    def add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        ones = flat(block[0], q)
        pairs = jnp.matmul((ones * block[1][:, None]).T, ones, precision="highest")
        return total + pairs, None

    start = jnp.zeros((columns * q, columns * q), weights.dtype)
    total = jax.lax.scan(add, start, (letters, weights))[0]
    return total.reshape(columns, q, columns, q) / jnp.sum(weights)


pair_frequencies = ebm_jax.jit(frequencies, static_argnums=2)


def single(pairs: Array) -> Array:
    """Return the frequencies of letters, (columns, q), from those of pairs."""
    columns, q = pairs.shape[:2]
    return jnp.diagonal(pairs.reshape(columns * q, -1)).reshape(columns, q)


def connected(pairs: Array) -> Array:
    """Return f_ij(a, b) - f_i(a) f_j(b), with zeros for i = j."""
    letters = single(pairs)
    return _off_diagonal(pairs - letters[:, :, None, None] * letters)


def _off_diagonal(couplings: Array) -> Array:
    sites = jnp.arange(couplings.shape[0])
    return jnp.where((sites[:, None] != sites)[:, None, :, None], couplings, 0)


def pearson(pairs: Array, other: Array) -> Array:
    """Return the correlation of two sets of connected two-site frequencies, over i < j, a, b."""
    x, y = connected(pairs), connected(other)
    columns, q = pairs.shape[:2]
    number = columns * (columns - 1) * q**2
    x, y = (_off_diagonal(v - jnp.sum(v) / number) for v in (x, y))
    return jnp.sum(x * y) / jnp.sqrt(jnp.sum(x**2) * jnp.sum(y**2))


def profile(pairs: Array, effective: float) -> DensePotts:
    """Return independent columns with the data's frequencies, one pseudo-count per column."""
    columns, q = pairs.shape[:2]
    letters = (single(pairs) * effective + 1 / q) / (effective + 1)
    return DensePotts(jnp.zeros((columns, q, columns, q), letters.dtype), jnp.log(letters))


def mean_field(pairs: np.ndarray, pseudo_count: float = 0.5) -> np.ndarray:
    """Return the couplings of the mean-field approximation, minus the inverse covariance.

    The last letter's are zero. Source: Morcos et al. (2011), PNAS 108(49).

    Args:
        pairs: frequencies, (columns, q, columns, q).
        pseudo_count: the share of uniform frequencies that they are mixed with.
    """
    pairs = np.asarray(pairs, np.float64)
    columns, q = pairs.shape[:2]
    mixed = (1 - pseudo_count) * pairs + pseudo_count / q**2
    letters = (1 - pseudo_count) * np.einsum("iaia->ia", pairs) + pseudo_count / q
    sites = np.arange(columns)
    mixed[sites, :, sites] = letters[:, :, None] * np.eye(q)
    covariance = mixed - letters[:, :, None, None] * letters
    kept = covariance[:, :-1, :, :-1]
    inverse = np.linalg.inv(kept.reshape(columns * (q - 1), -1)).reshape(kept.shape)
    couplings = np.zeros_like(pairs)
    couplings[:, :-1, :, :-1] = -inverse
    couplings[sites, :, sites] = 0
    return couplings


def norms(couplings: Array | np.ndarray) -> np.ndarray:
    """Return the Frobenius norms of couplings in the zero-sum gauge, (columns, columns).

    All letters count, the gap too.
    """
    columns, q = couplings.shape[:2]
    moved = potts.zero_sum_gauge(DensePotts(jnp.asarray(couplings), jnp.zeros((columns, q))))
    return np.sqrt(np.sum(np.asarray(moved.couplings, np.float64) ** 2, axis=(1, 3)))


def corrected(scores: np.ndarray) -> np.ndarray:
    """Return scores less their average product correction; the diagonal is 0.

    Source: Dunn, Wahl and Gloor (2008), Mutual information without the influence of phylogeny or
    entropy dramatically improves residue contact prediction, Bioinformatics 24(3).
    """
    count = len(scores) - 1
    mean = (scores.sum(1) - np.diagonal(scores)) / count
    result = scores - mean[:, None] * mean / (mean.mean() or 1.0)
    np.fill_diagonal(result, 0)
    return result


def penalty(params: DensePotts, field_penalty: float, coupling_penalty: float) -> Array:
    """Return a sum_i |h_i|^2 + b sum_{i<j} |J_ij|^2 of symmetric couplings."""
    couplings = params.couplings + jnp.transpose(params.couplings, (2, 3, 0, 1))
    squares = jnp.sum(_off_diagonal(couplings) ** 2) / 8  # of twice J, each pair twice
    return field_penalty * jnp.sum(params.fields**2) + coupling_penalty * squares


def negative_pseudo_likelihood(params: DensePotts, letters: Array, weights: Array) -> Array:
    """Return -sum_n w_n sum_i log P(x_i | rest) of blocks of sequences.

    The letters of a block are made zeros and ones again for the gradient: memory is that of one.
    """
    q = params.fields.shape[1]

    @jax.checkpoint
    def of_block(params: DensePotts, letters: Array, weights: Array) -> Array:
        logits = jax.vmap(functools.partial(potts.dense_potts_logits, params))(letters)
        ones = flat(letters, q).reshape(logits.shape)
        return -jnp.sum(weights[:, None, None] * ones * jax.nn.log_softmax(logits))

    def add(total: Array, block: tuple[Array, Array]) -> tuple[Array, None]:
        return total + of_block(params, *block), None

    return jax.lax.scan(add, jnp.zeros((), params.fields.dtype), (letters, weights))[0]


def mean_energy(params: DensePotts, pairs: Array) -> Array:
    """Return the mean energy of sequences with these frequencies: it is linear in them."""
    return -jnp.sum(params.fields * single(pairs)) - 0.5 * jnp.sum(
        _off_diagonal(params.couplings) * pairs
    )


@ebm_jax.jit
def energies(params: DensePotts, letters: Array) -> Array:
    """Return the energies of sequences (n, columns)."""
    return jax.vmap(functools.partial(potts.dense_potts, params))(letters)


@ebm_jax.jit
def mutations(params: DensePotts, letters: Array) -> Array:
    """Return the change of energy by every single mutation of a sequence, (columns, q)."""
    logits = potts.dense_potts_logits(params, letters)
    own = flat(letters[None], logits.shape[1]).reshape(logits.shape)
    return jnp.sum(own * logits, axis=1, keepdims=True) - logits


@functools.partial(ebm_jax.jit, static_argnums=(3, 4))
def sample(key: Key, params: DensePotts, base: DensePotts, num: int, sweeps: int) -> Array:
    """Return sequences after sweeps of Gibbs sampling from independent columns, int8."""
    start_key, run_key = jax.random.split(key)
    x = distributions.categorical(base.fields).sample(start_key, num).astype(jnp.int8)
    sampler = samplers.dense_potts_gibbs(params)
    return samplers.run(run_key, sampler, sampler.init(x), sweeps)[0].position


def log_partition(
    key: Key, params: DensePotts, base: DensePotts, *, num_betas: int, num_chains: int
) -> Estimate:
    """Return log Z by annealing from independent columns."""
    start: Distribution = distributions.categorical(base.fields)

    def make_sampler(energy):
        (beta,) = energy.args
        # As independent columns have no couplings, the path is that of the parameters.
        fields = (1 - beta) * base.fields + beta * params.fields
        return samplers.dense_potts_gibbs(DensePotts(beta * params.couplings, fields))

    return partition.annealed_importance_sampling(
        key,
        start,
        jax.tree_util.Partial(potts.dense_potts, params),
        make_sampler,
        jnp.linspace(0, 1, num_betas),
        num_chains=num_chains,
    )
