"""Energies of Boltzmann machines: fully visible, and restricted ones.

Each is a function energy(params, x) -> (). Units are 0 and 1, as integers, booleans or floats;
other floats, such as probabilities and grey values, are also accepted. ``..._logits`` return the
logits of a conditional distribution at beta = 1; multiply them by beta for other temperatures.
``partition.exact`` has the partition functions.

Parameters of another type raise TypeError. Parameters with shapes that do not fit, and a batch
instead of one configuration, raise ValueError.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ebm_jax import _checks
from ebm_jax.energies import _parameters
from ebm_jax.types import Array


class BoltzmannMachine(NamedTuple):
    """Parameters of a fully visible Boltzmann machine.

    Attributes:
        weights: (n, n); only the symmetric part off the diagonal is used.
        bias: (n,).
    """

    weights: Array
    bias: Array


class RBM(NamedTuple):
    """Parameters of a restricted Boltzmann machine.

    Attributes:
        weights: W, (visible, hidden).
        visible_bias: b, (visible,).
        hidden_bias: c, (hidden,).
    """

    weights: Array
    visible_bias: Array
    hidden_bias: Array


class GaussianRBM(NamedTuple):
    """Parameters of an RBM with real visible units.

    Attributes:
        weights: W, (visible, hidden).
        visible_bias: b, (visible,).
        hidden_bias: c, (hidden,).
        sigma: standard deviation of the visible units given the hidden ones, () or (visible,).
    """

    weights: Array
    visible_bias: Array
    hidden_bias: Array
    sigma: Array | float = 1.0


class CategoricalRBM(NamedTuple):
    """Parameters of an RBM with categorical visible units: a Potts-Bernoulli RBM.

    Attributes:
        weights: W, (visible, q, hidden).
        visible_bias: b, (visible, q).
        hidden_bias: c, (hidden,).
    """

    weights: Array
    visible_bias: Array
    hidden_bias: Array


# The field of the bias for the units that each argument holds.
_BIAS = {"x": "bias", "v": "visible_bias", "h": "hidden_bias"}


def _units(params, wanted: type, name: str, x) -> Array:
    """Validate and return units in the dtype of the parameters, at least float32.

    Categories become indicators, (visible, q).
    """
    _parameters.check_machine(params, wanted)
    shape, q = np.shape(getattr(params, _BIAS[name])), None
    if wanted is CategoricalRBM and name == "v":
        shape, q = shape[:1], shape[1]
        x = _checks.categories(name, x, q, "rbm_gibbs")
    else:
        x = _checks.array(name, x)
    if x.shape != shape:
        raise ValueError(
            f"{name} must be one configuration of shape {shape}, got {x.shape}: vmap a batch."
        )
    if q is not None:
        x = x[:, None] == jnp.arange(q, dtype=jnp.int32)
    return x.astype(jnp.promote_types(jnp.result_type(*params), jnp.float32))


def boltzmann_machine(params: BoltzmannMachine, x) -> Array:
    r"""Return the energy of a fully visible Boltzmann machine.

    .. math:: E(x) = -\sum_{i<j} W_{ij} x_i x_j - b^T x

    where :math:`W_{ij}` is the mean of ``weights[i, j]`` and ``weights[j, i]``. With spins it is
    the Ising model on any graph, such as a spin glass or a Hopfield network. Source: Ackley, Hinton
    and Sejnowski (1985), A learning algorithm for Boltzmann machines, Cognitive Science 9.

    Args:
        params: ``BoltzmannMachine(weights, bias)``.
        x: units 0 and 1, or spins -1 and 1, (n,).

    Returns:
        The energy, (), in nats at beta = 1.

    >>> import jax.numpy as jnp
    >>> float(boltzmann_machine(BoltzmannMachine(jnp.ones((3, 3)), jnp.ones(3)), jnp.ones(3, int)))
    -6.0
    """
    x = _units(params, BoltzmannMachine, "x", x)
    pairs = jnp.dot(x, params.weights @ x) - jnp.dot(jnp.diagonal(params.weights), x**2)
    return -(0.5 * pairs + jnp.dot(params.bias, x))


def boltzmann_machine_logits(params: BoltzmannMachine, x) -> Array:
    r"""Return the logit of every unit being 1, given all the others.

    .. math:: \log \frac{P(x_i = 1 \mid \text{rest})}{P(x_i = 0 \mid \text{rest})}
        = \sum_{j \ne i} W_{ij} x_j + b_i

    For spins, the logit of 1 against -1 is twice this.

    Args:
        params: ``BoltzmannMachine(weights, bias)``.
        x: units 0 and 1, or spins -1 and 1, (n,).

    Returns:
        The logits, (n,).

    >>> import jax.numpy as jnp
    >>> machine = BoltzmannMachine(jnp.ones((3, 3)), jnp.zeros(3))
    >>> boltzmann_machine_logits(machine, jnp.array([1, 1, 0])).tolist()
    [1.0, 1.0, 2.0]
    """
    x = _units(params, BoltzmannMachine, "x", x)
    both = 0.5 * (params.weights @ x + x @ params.weights)
    return both - jnp.diagonal(params.weights) * x + params.bias


def _kind(params: RBM | GaussianRBM | CategoricalRBM) -> type:
    return type(params) if isinstance(params, GaussianRBM | CategoricalRBM) else RBM


def rbm_energy(params: RBM | GaussianRBM | CategoricalRBM, v, h) -> Array:
    r"""Return the energy of a restricted Boltzmann machine.

    .. math:: E(v, h) &= -v^T W h - b^T v - c^T h \quad \text{(RBM)} \\
        E(v, h) &= \sum_i \frac{(v_i - b_i)^2}{2 s_i^2} - (v / s^2)^T W h - c^T h
        \quad \text{(GaussianRBM)} \\
        E(v, h) &= -\sum_i [b_i(v_i) + W_i(v_i)^T h] - c^T h \quad \text{(CategoricalRBM)}

    with the standard deviations s. Source: P. Smolensky (1986); G. E. Hinton (2002), Training
    products of experts by minimizing contrastive divergence, Neural Computation 14(8); Cho, Ilin
    and Raiko (2011), Improved learning of Gaussian-Bernoulli restricted Boltzmann machines;
    Tubiana, Cocco and Monasson (2019), Learning protein constitutive motifs from sequence data,
    eLife 8.

    Args:
        params: ``RBM(weights, visible_bias, hidden_bias)``, a ``GaussianRBM`` with a ``sigma``, or
            a ``CategoricalRBM``.
        v: visible units, (visible,): 0 and 1, real for a ``GaussianRBM``, integers 0 to q - 1 (or
            booleans) for a ``CategoricalRBM``.
        h: hidden units 0 and 1, (hidden,).

    Returns:
        The energy, (), in nats at beta = 1.

    >>> import jax.numpy as jnp
    >>> rbm = RBM(jnp.ones((3, 2)), jnp.zeros(3), jnp.zeros(2))
    >>> float(rbm_energy(rbm, jnp.array([1, 1, 0]), jnp.array([1, 0])))
    -2.0
    >>> rbm = CategoricalRBM(jnp.ones((2, 3, 1)), jnp.zeros((2, 3)), jnp.zeros(1))
    >>> float(rbm_energy(rbm, jnp.array([2, 0]), jnp.array([1])))
    -2.0
    """
    kind = _kind(params)
    h = _units(params, kind, "h", h)
    v = _units(params, kind, "v", v)
    return _visible_energy(params, v) - jnp.dot(h, _hidden_logits(params, v))


def _visible_energy(params: RBM | GaussianRBM | CategoricalRBM, v) -> Array:
    """Return the energy at h = 0."""
    if isinstance(params, GaussianRBM):
        return 0.5 * jnp.sum(((v - params.visible_bias) / params.sigma) ** 2)
    return -jnp.vdot(params.visible_bias, v)


def _hidden_logits(params: RBM | GaussianRBM | CategoricalRBM, v) -> Array:
    """Return the logits of the hidden units given what ``_units`` returns for the visible ones."""
    if isinstance(params, GaussianRBM):
        v = v / jnp.square(params.sigma)
    return jnp.tensordot(v, params.weights, v.ndim) + params.hidden_bias


def rbm_free_energy(params: RBM | GaussianRBM | CategoricalRBM, v) -> Array:
    r"""Return the free energy of the visible units, with hidden units summed out.

    .. math:: F(v) = -\log \sum_h \exp(-E(v, h))
        = E(v, 0) - \sum_j \operatorname{softplus}(a_j(v))

    where a are the logits of ``rbm_hidden_logits``. A ``GaussianRBM`` is a mixture of 2^hidden
    Gaussians, which any continuous sampler can target.
    Source: Hinton (2012), A practical guide to training restricted Boltzmann machines, eq. 25.

    Args:
        params: ``RBM``, ``GaussianRBM`` or ``CategoricalRBM``.
        v: visible units, (visible,), as in ``rbm_energy``.

    Returns:
        The free energy, (), in nats at beta = 1: P(v) = exp(-F(v)) / Z.

    >>> import jax.numpy as jnp
    >>> rbm = RBM(jnp.zeros((3, 2)), jnp.ones(3), jnp.zeros(2))
    >>> round(float(rbm_free_energy(rbm, jnp.array([1, 1, 0]))), 4)  # -2 - 2 log 2
    -3.3863
    >>> rbm = GaussianRBM(jnp.zeros((2, 1)), jnp.zeros(2), jnp.zeros(1))
    >>> round(float(rbm_free_energy(rbm, jnp.array([1.0, 1.0]))), 4)  # 1 - log 2
    0.3069
    """
    v = _units(params, _kind(params), "v", v)
    hidden = jax.nn.softplus(_hidden_logits(params, v))
    return _visible_energy(params, v) - jnp.sum(hidden)


def rbm_hidden_logits(params: RBM | GaussianRBM | CategoricalRBM, v) -> Array:
    r"""Return the logits of the hidden units given the visible ones.

    They are :math:`c + v^T W` for an ``RBM``, :math:`c + (v / s^2)^T W` for a ``GaussianRBM``, and
    :math:`c + \sum_i W_i(v_i)` for a ``CategoricalRBM``.

    Args:
        params: ``RBM``, ``GaussianRBM`` or ``CategoricalRBM``.
        v: visible units, (visible,), as in ``rbm_energy``.

    Returns:
        The logits, (hidden,): P(h_j = 1 | v) is their sigmoid.

    >>> import jax.numpy as jnp
    >>> rbm_hidden_logits(RBM(jnp.ones((3, 2)), jnp.zeros(3), jnp.ones(2)), jnp.ones(3)).tolist()
    [4.0, 4.0]
    """
    return _hidden_logits(params, _units(params, _kind(params), "v", v))


def rbm_visible_logits(params: RBM | CategoricalRBM, h) -> Array:
    """Return the logits of the visible units given the hidden ones, b + W h.

    Args:
        params: ``RBM`` or ``CategoricalRBM``.
        h: hidden units, (hidden,).

    Returns:
        The logits, (visible,): P(v_i = 1 | h) is their sigmoid. (visible, q) for a
        ``CategoricalRBM``: P(v_i = k | h) is their softmax over the last axis.

    >>> import jax.numpy as jnp
    >>> rbm_visible_logits(RBM(jnp.ones((3, 2)), jnp.zeros(3), jnp.ones(2)), jnp.ones(2)).tolist()
    [2.0, 2.0, 2.0]
    """
    kind = CategoricalRBM if isinstance(params, CategoricalRBM) else RBM
    h = _units(params, kind, "h", h)
    return jnp.asarray(params.weights) @ h + params.visible_bias


def gaussian_rbm_visible_mean(params: GaussianRBM, h) -> Array:
    r"""Return the mean of the real visible units given the hidden ones, b + W h.

    The visible units given the hidden ones are :math:`N(b + W h, s^2)` at beta = 1. At other beta
    the variance is :math:`s^2 / \beta`, with the same mean.

    Args:
        params: ``GaussianRBM(weights, visible_bias, hidden_bias, sigma)``.
        h: hidden units 0 and 1, (hidden,).

    Returns:
        The mean, (visible,).

    >>> import jax.numpy as jnp
    >>> rbm = GaussianRBM(jnp.ones((2, 1)), jnp.zeros(2), jnp.zeros(1))
    >>> gaussian_rbm_visible_mean(rbm, jnp.array([1])).tolist()
    [1.0, 1.0]
    """
    _parameters.check_machine(params, GaussianRBM)
    return rbm_visible_logits(RBM(*params[:3]), h)
