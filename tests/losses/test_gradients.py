import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import gradients, losses
from ebm_jax.energies.networks import JointMLP

M = 0.75
OPTIONS = {
    "hinge": [{"margin": M}, {"margin": 0.0}],
    "lvq2": [{"ceiling": M}],
    "simple": [{"margin": M}],
    "square_square": [{"margin": M}, {"margin": M, "one_sided": False}],
    "square_exponential": [{"gamma": M}],
}
CASES = [(n, kw) for n in losses.PAIRWISE for kw in OPTIONS.get(n, [{}])]
# E+ and E- that hit every kink exactly (0, the margin, a difference of the margin), and +-1e4.
VALUES = np.array([-1e4, -2.0, -M, -0.25, 0.0, 0.25, M, 1.0, 1.0 + M, 2.0, 1e4])


@pytest.mark.parametrize(("name", "options"), CASES)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_autodiff_equals_the_derivation_everywhere(name, options, dtype, x64):
    positive, negative = (jnp.asarray(v.ravel(), dtype) for v in np.meshgrid(VALUES, VALUES))
    loss = getattr(losses, name)
    auto = jax.vmap(jax.grad(lambda p, n: loss(p, n, **options), argnums=(0, 1)))(
        positive, negative
    )
    by_hand = getattr(gradients, name)(positive, negative, **options)
    for a, b in zip(auto, by_hand, strict=True):
        rtol = 50 * float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_the_derivation_equals_finite_differences(name, options, x64):
    """Away from the kinks, where a central difference means something."""
    loss, derivative = getattr(losses, name), getattr(gradients, name)
    for p, n in [(-1.3, 0.4), (0.6, 1.9), (0.9, 0.5), (0.2, -0.7), (2.5, 0.1)]:
        expected = oracles.finite_difference(lambda e: loss(e[0], e[1], **options), [p, n])
        np.testing.assert_allclose(np.array(derivative(p, n, **options)), expected, atol=1e-6)


def test_kinks_have_derivative_zero():
    """The homework's cases read "<= 0 -> 0"; jnp.maximum would give 1/2."""
    assert [float(jax.grad(losses.hinge)(0.0, 1.0)), float(jax.grad(losses.hinge)(1.0, 2.0))] == [
        0,
        0,
    ]
    assert float(jax.grad(losses.simple)(0.0, 5.0)) == 0
    assert float(jax.grad(losses.simple, argnums=1)(-1.0, 1.0)) == 0
    assert float(jax.grad(losses.lvq2)(1.0, 1.0)) == 0
    assert float(jax.grad(losses.lvq2)(1.0, 0.0)) == 0


ENERGIES = np.array(
    [[0.3, -1.0, 2.0, 0.5], [1.0, 1.0, 4.0, 1.0], [1e4, -1e4, 0.0, 3.0], [-1e4, 1e4, 0.0, 3.0]]
)
CANDIDATE_CASES = [
    ("perceptron", {}),
    *[(n, {"beta": b}) for n in ("nll", "mee") for b in (0.3, 1.0, 7.0, np.inf)],
    ("nll", {"where": np.array([True, True, False, True])}),
]


@pytest.mark.parametrize(("name", "options"), CANDIDATE_CASES)
@pytest.mark.parametrize("label", [0, 1, 3])
def test_candidate_losses(name, options, label, x64):
    """Ties are in the second row; the right answer is among them."""
    loss, labels = getattr(losses, name), np.full(len(ENERGIES), label)
    auto = jax.grad(lambda e: loss(e, labels, **options).sum())(jnp.asarray(ENERGIES))
    by_hand = getattr(gradients, name)(ENERGIES, labels, **options)
    np.testing.assert_allclose(auto, by_hand, atol=1e-12)
    if options.get("beta") != np.inf:
        expected = oracles.finite_difference(lambda e: loss(e, label, **options), ENERGIES[0])
        np.testing.assert_allclose(by_hand[0], expected, atol=1e-6)


@pytest.mark.parametrize("name", [*losses.PAIRWISE, *losses.CANDIDATES])
def test_chain_rule_through_a_network(name, x64):
    """dl/dW from the derivation equals jax.grad and finite differences of the whole."""
    network = JointMLP((5,), num_classes=4)
    x, label = jnp.array([0.3, -0.8, 1.1]), 2
    params = network.init(jax.random.key(3), x)
    params = jax.tree.map(lambda p: jnp.asarray(p, jnp.float64), params)
    flat, unflatten = jax.flatten_util.ravel_pytree(params)

    def energies(w):
        return network.apply(unflatten(w), x)

    def loss(w):
        if name in losses.CANDIDATES:
            return getattr(losses, name)(energies(w), label)
        return getattr(losses, name)(*losses.most_offending(energies(w), label))

    values = energies(flat)
    if name in losses.CANDIDATES:
        derivative = getattr(gradients, name)(values, label)
    else:
        wrong = int(losses.offender(values, label))
        up, down = getattr(gradients, name)(values[label], values[wrong])
        derivative = jnp.zeros(4).at[label].add(up).at[wrong].add(down)
    by_hand = gradients.chain(derivative, jax.jacobian(energies)(flat))
    np.testing.assert_allclose(by_hand, jax.grad(loss)(flat), atol=1e-12)
    np.testing.assert_allclose(by_hand, oracles.finite_difference(loss, flat), atol=1e-7)


def test_nll_gradient_is_positive_minus_expected(x64):
    """The homework's form, the expectation by enumeration over all y."""
    network = JointMLP((5,), num_classes=6)
    x, label = jnp.array([0.3, -0.8]), 4
    params = network.init(jax.random.key(5), x)
    gradient = jax.grad(lambda w: losses.nll(network.apply(w, x), label, beta=1.7))(params)
    slopes = [jax.grad(lambda w, y=y: network.apply(w, x)[y])(params) for y in range(6)]
    p = oracles.probabilities(np.asarray(network.apply(params, x)), 1.7)
    expected = jax.tree.map(
        lambda *leaves: sum(q * s for q, s in zip(p, leaves, strict=True)), *slopes
    )
    by_hand = jax.tree.map(jnp.subtract, slopes[label], expected)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, by_hand)


@pytest.mark.parametrize("name", losses.PAIRWISE)
def test_the_signature_is_the_losses(name):
    import inspect

    assert (
        inspect.signature(getattr(losses, name)).parameters.keys()
        == inspect.signature(getattr(gradients, name)).parameters.keys()
    )
