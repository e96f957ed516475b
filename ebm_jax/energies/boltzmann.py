r"""Boltzmann machines, energy(params, x) -> (): fully visible, restricted, and Gaussian-Bernoulli.

Units are 0 and 1; integers, booleans and floats are taken: probabilities, grey values and
relaxations have energies too. ``..._logits`` are the logits of a conditional distribution at
beta = 1; at beta they are beta times that. ``partition.exact`` has the partition functions.

Parameters of another kind raise TypeError; of shapes that do not fit together ValueError, as does
a batch instead of one configuration.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ebm_jax import _checks
from ebm_jax.energies import _parameters
from ebm_jax.types import Array


class BoltzmannMachine(NamedTuple):
    """Weights (n, n), of which the symmetric part off the diagonal counts, and biases (n,)."""

    weights: Array
    bias: Array


class RBM(NamedTuple):
    """Weights (visible, hidden), and the biases (visible,) and (hidden,)."""

    weights: Array
    visible_bias: Array
    hidden_bias: Array


class GaussianRBM(NamedTuple):
    """An ``RBM`` of real visibles, with their standard deviation given h: () or (visible,)."""

    weights: Array
    visible_bias: Array
    hidden_bias: Array
    sigma: Array | float = 1.0


# The bias of the units that an argument holds.
_BIAS = {"x": "bias", "v": "visible_bias", "h": "hidden_bias"}


def _units(params, wanted: type, name: str, x) -> Array:
    """Validate and return units as numbers of the parameters' type (at least float32)."""
    _parameters.check_machine(params, wanted)
    x, shape = _checks.array(name, x), jnp.shape(getattr(params, _BIAS[name]))
    if x.shape != shape:
        raise ValueError(
            f"{name} must be one configuration of shape {shape}, got {x.shape}: vmap a batch."
        )
    return x.astype(jnp.promote_types(jnp.result_type(*params), jnp.float32))


def boltzmann_machine(params: BoltzmannMachine, x) -> Array:
    r"""Return the energy of a fully visible Boltzmann machine.

        E(x) = -sum_{i<j} W_ij x_i x_j - b^T x,    W_ij the mean of weights[i, j] and weights[j, i]

    Over spins it is the Ising model on any graph: a spin glass, a Hopfield network.
    Source: Ackley, Hinton and Sejnowski (1985), A learning algorithm for Boltzmann machines,
    Cognitive Science 9.

    Args:
        params: ``BoltzmannMachine(weights, bias)``.
        x: (n,) of 0 and 1, or of -1 and 1.

    Returns:
        (), in nats at beta = 1.

    Raises:
        ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> float(boltzmann_machine(BoltzmannMachine(jnp.ones((3, 3)), jnp.ones(3)), jnp.ones(3, int)))
    -6.0
    """
    x = _units(params, BoltzmannMachine, "x", x)
    pairs = jnp.dot(x, params.weights @ x) - jnp.dot(jnp.diagonal(params.weights), x**2)
    return -(0.5 * pairs + jnp.dot(params.bias, x))


def boltzmann_machine_logits(params: BoltzmannMachine, x) -> Array:
    r"""Return the logit of every unit being 1, given all the others.

        log P(x_i = 1 | rest) / P(x_i = 0 | rest) = sum_{j != i} W_ij x_j + b_i

    Over spins the logit of s_i = 1 against -1 is twice that.

    Args:
        params: ``BoltzmannMachine(weights, bias)``.
        x: (n,).

    Returns:
        (n,).

    Raises:
        ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> machine = BoltzmannMachine(jnp.ones((3, 3)), jnp.zeros(3))
    >>> boltzmann_machine_logits(machine, jnp.array([1, 1, 0])).tolist()
    [1.0, 1.0, 2.0]
    """
    x = _units(params, BoltzmannMachine, "x", x)
    both = 0.5 * (params.weights @ x + x @ params.weights)
    return both - jnp.diagonal(params.weights) * x + params.bias


def _kind(params: RBM | GaussianRBM) -> type:
    return GaussianRBM if isinstance(params, GaussianRBM) else RBM


def rbm_energy(params: RBM | GaussianRBM, v, h) -> Array:
    r"""Return the energy of a restricted Boltzmann machine.

        E(v, h) = -v^T W h - b^T v - c^T h                                       (RBM)
        E(v, h) = sum_i (v_i - b_i)^2 / (2 s_i^2) - (v / s^2)^T W h - c^T h      (GaussianRBM)

    Source: P. Smolensky (1986); G. E. Hinton (2002), Training products of experts by minimizing
    contrastive divergence, Neural Computation 14(8); Cho, Ilin and Raiko (2011), Improved learning
    of Gaussian-Bernoulli restricted Boltzmann machines.

    Args:
        params: ``RBM(weights, visible_bias, hidden_bias)``, or a ``GaussianRBM`` with a ``sigma``.
        v: (visible,) of 0 and 1, or real for a ``GaussianRBM``.
        h: (hidden,) of 0 and 1.

    Returns:
        (), in nats at beta = 1.

    Raises:
        ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> rbm = RBM(jnp.ones((3, 2)), jnp.zeros(3), jnp.zeros(2))
    >>> float(rbm_energy(rbm, jnp.array([1, 1, 0]), jnp.array([1, 0])))
    -2.0
    """
    kind = _kind(params)
    h = _units(params, kind, "h", h)
    v = _units(params, kind, "v", v)
    return _visible_energy(params, v) - jnp.dot(h, rbm_hidden_logits(params, v))


def _visible_energy(params: RBM | GaussianRBM, v) -> Array:
    """Return the energy at h = 0."""
    if isinstance(params, GaussianRBM):
        return 0.5 * jnp.sum(((v - params.visible_bias) / params.sigma) ** 2)
    return -jnp.dot(params.visible_bias, v)


def rbm_free_energy(params: RBM | GaussianRBM, v) -> Array:
    r"""Return the free energy of the visible units, all hidden ones summed out.

        F(v) = -log sum_h exp(-E(v, h)) = E(v, 0) - sum_j softplus(logits_j(v))

    The logits are those of ``rbm_hidden_logits``. A ``GaussianRBM`` is a mixture of 2^hidden
    Gaussians, a target of any continuous sampler.
    Source: Hinton (2012), A practical guide to training restricted Boltzmann machines, eq. 25.

    Args:
        params: ``RBM`` or ``GaussianRBM``.
        v: (visible,) of 0 and 1, or real for a ``GaussianRBM``.

    Returns:
        (), in nats at beta = 1: P(v) = exp(-F(v)) / Z.

    Raises:
        ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> rbm = RBM(jnp.zeros((3, 2)), jnp.ones(3), jnp.zeros(2))
    >>> round(float(rbm_free_energy(rbm, jnp.array([1, 1, 0]))), 4)  # -2 - 2 log 2
    -3.3863
    >>> rbm = GaussianRBM(jnp.zeros((2, 1)), jnp.zeros(2), jnp.zeros(1))
    >>> round(float(rbm_free_energy(rbm, jnp.array([1.0, 1.0]))), 4)  # 1 - log 2
    0.3069
    """
    v = _units(params, _kind(params), "v", v)
    hidden = jax.nn.softplus(rbm_hidden_logits(params, v))
    return _visible_energy(params, v) - jnp.sum(hidden)


def rbm_hidden_logits(params: RBM | GaussianRBM, v) -> Array:
    r"""Return the logits of the hidden units given the visible ones.

    They are c + v^T W for an ``RBM``, and c + (v / s^2)^T W for a ``GaussianRBM``.

    Args:
        params: ``RBM`` or ``GaussianRBM``.
        v: (visible,).

    Returns:
        (hidden,): P(h_j = 1 | v) is their sigmoid.

    Raises:
        ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> rbm_hidden_logits(RBM(jnp.ones((3, 2)), jnp.zeros(3), jnp.ones(2)), jnp.ones(3)).tolist()
    [4.0, 4.0]
    """
    v = _units(params, _kind(params), "v", v)
    if isinstance(params, GaussianRBM):
        v = v / jnp.square(params.sigma)
    return v @ params.weights + params.hidden_bias


def rbm_visible_logits(params: RBM, h) -> Array:
    r"""Return the logits of the visible units given the hidden ones, b + W h.

    Args:
        params: ``RBM(weights, visible_bias, hidden_bias)``.
        h: (hidden,).

    Returns:
        (visible,): P(v_i = 1 | h) is their sigmoid.

    Raises:
        ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> rbm_visible_logits(RBM(jnp.ones((3, 2)), jnp.zeros(3), jnp.ones(2)), jnp.ones(2)).tolist()
    [2.0, 2.0, 2.0]
    """
    h = _units(params, RBM, "h", h)
    return h @ jnp.transpose(params.weights) + params.visible_bias


def gaussian_rbm_visible_mean(params: GaussianRBM, h) -> Array:
    r"""Return the mean of the visible units given the hidden ones: v | h ~ N(b + W h, s^2).

    At another beta the variance is s^2 / beta; the mean stays.

    Args:
        params: ``GaussianRBM(weights, visible_bias, hidden_bias, sigma)``.
        h: (hidden,) of 0 and 1.

    Returns:
        (visible,).

    Raises:
        ValueError: a batch instead of one configuration.

    >>> import jax.numpy as jnp
    >>> rbm = GaussianRBM(jnp.ones((2, 1)), jnp.zeros(2), jnp.zeros(1))
    >>> gaussian_rbm_visible_mean(rbm, jnp.array([1])).tolist()
    [1.0, 1.0]
    """
    _parameters.check_machine(params, GaussianRBM)
    return rbm_visible_logits(RBM(*params[:3]), h)
