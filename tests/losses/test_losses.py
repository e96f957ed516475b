import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import losses

# The table, written again in NumPy, from the formulas alone.
FORMULAS = {
    "energy": lambda p, n: p,
    "hinge": lambda p, n: np.maximum(0, 0.7 + p - n),
    "log": lambda p, n: np.logaddexp(0, p - n),
    "lvq2": lambda p, n: np.minimum(0.7, np.maximum(0, p - n)),
    "mce": lambda p, n: 1 / (1 + np.exp(n - p)),
    "simple": lambda p, n: np.maximum(0, p) + np.maximum(0, 0.7 - n),
    "square_square": lambda p, n: np.maximum(0, p) ** 2 + np.maximum(0, 0.7 - n) ** 2,
    "square_exponential": lambda p, n: p**2 + 0.7 * np.exp(-n),
}
OPTIONS = {
    "hinge": {"margin": 0.7},
    "lvq2": {"ceiling": 0.7},
    "simple": {"margin": 0.7},
    "square_square": {"margin": 0.7},
    "square_exponential": {"gamma": 0.7},
}


def test_the_lists_are_the_table():
    assert set(losses.PAIRWISE) == set(FORMULAS)
    assert set(losses.CANDIDATES) == {"perceptron", "nll", "mee"}


@pytest.mark.parametrize("name", losses.PAIRWISE)
def test_pairwise_losses_are_their_formulas(name, x64):
    p, n = np.meshgrid(np.linspace(-3, 3, 25), np.linspace(-3, 3, 25))
    got = getattr(losses, name)(p, n, **OPTIONS.get(name, {}))
    np.testing.assert_allclose(got, FORMULAS[name](p, n), atol=1e-12)
    assert got.shape == p.shape  # unreduced


@pytest.mark.parametrize("name", losses.PAIRWISE)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_pairwise_losses_keep_shape_and_type_and_stay_finite(name, dtype):
    loss = getattr(losses, name)
    got = loss(jnp.full((4, 1), 1e4, dtype), jnp.full((3,), 10.0, dtype))
    assert got.shape == (4, 3)
    assert got.dtype == dtype
    assert np.isfinite(got.astype(jnp.float32)).all()
    batch = jnp.linspace(-2, 2, 5)
    np.testing.assert_allclose(jax.vmap(loss)(batch, batch[::-1]), loss(batch, batch[::-1]))


def test_square_square_two_sided_is_lecuns_form():
    got = losses.square_square(jnp.array(-3.0), jnp.array(5.0), one_sided=False)
    assert float(got) == 9.0


def test_log_loss_is_never_zero_and_never_overflows():
    np.testing.assert_allclose(losses.log(0.0, 80.0), np.exp(-80.0), rtol=1e-5)
    assert float(losses.log(1e30, 0.0)) == np.float32(1e30)


def test_label_dependent_margins():
    margins = jnp.array([0.0, 1.0, 5.0])
    np.testing.assert_allclose(
        losses.hinge(jnp.zeros(3), jnp.full(3, 2.0), margin=margins), [0, 0, 3]
    )


ENERGIES = np.array([[0.3, -1.0, 2.0, 0.5], [1.0, 1.0, 4.0, 0.0]])
LABELS = np.array([0, 3])


def test_candidate_losses_against_enumeration(x64):
    np.testing.assert_allclose(losses.perceptron(ENERGIES, LABELS), [1.3, 0.0])
    for beta in (0.1, 1.0, 10.0):
        for i, label in enumerate(LABELS):
            log_z = oracles.log_partition(ENERGIES[i], beta)
            nll = ENERGIES[i, label] + log_z / beta
            np.testing.assert_allclose(losses.nll(ENERGIES, LABELS, beta=beta)[i], nll, atol=1e-12)
            p = oracles.probabilities(ENERGIES[i], beta)[label]
            np.testing.assert_allclose(
                losses.mee(ENERGIES, LABELS, beta=beta)[i], 1 - p, atol=1e-12
            )


def test_nll_tends_to_the_perceptron_loss():
    perceptron = losses.perceptron(jnp.array(ENERGIES), LABELS)
    np.testing.assert_allclose(losses.nll(jnp.array(ENERGIES), LABELS, beta=jnp.inf), perceptron)
    np.testing.assert_allclose(
        losses.nll(jnp.array(ENERGIES), LABELS, beta=1e4), perceptron, atol=1e-3
    )


def test_mee_keeps_its_digits_when_nearly_right():
    got = losses.mee(jnp.array([0.0, 40.0]), 0)
    np.testing.assert_allclose(got, np.exp(-40.0), rtol=1e-4)


def test_nll_over_a_grid_is_a_density(x64):
    points, volume = oracles.grid(-10, 10, 2000, 1)
    energies = points[:, 0] ** 2 / 2
    label = 1234
    got = losses.nll(energies, label, log_weights=jnp.log(volume))
    np.testing.assert_allclose(got, energies[label] + 0.5 * np.log(2 * np.pi), atol=1e-9)


def test_most_offending_discrete():
    positive, negative = losses.most_offending(jnp.array(ENERGIES), LABELS)
    np.testing.assert_allclose(positive, [0.3, 0.0])
    np.testing.assert_allclose(negative, [-1.0, 1.0])
    np.testing.assert_array_equal(losses.offender(jnp.array(ENERGIES), LABELS), [1, 0])
    gradient = jax.grad(lambda e: losses.most_offending(e, LABELS)[1].sum())(jnp.array(ENERGIES))
    np.testing.assert_array_equal(gradient, [[0, 1, 0, 0], [1, 0, 0, 0]])


def test_most_offending_continuous():
    """Candidates near the right answer are not wrong."""
    y = np.linspace(-1, 1, 21)
    label = 10
    energies = jnp.array(y**2, jnp.float32)
    distance = np.abs(y - y[label]).astype(np.float32)
    _, negative = losses.most_offending(energies, label, distance=distance, radius=0.25)
    np.testing.assert_allclose(negative, 0.3**2, rtol=1e-5)
    _, none = losses.most_offending(energies, label, distance=distance, radius=5.0)
    assert none == jnp.inf
    assert losses.hinge(0.0, none) == 0
    assert int(losses.offender(energies, label, distance=distance, radius=5.0)) == -1


def test_bad_labels():
    energies = jnp.zeros((2, 3))
    with pytest.raises(TypeError, match="integer array, got float32"):
        losses.nll(energies, jnp.zeros(2))
    with pytest.raises(ValueError, match=r"\[0, 3\).*from 0 to 3"):
        losses.perceptron(energies, jnp.array([0, 3]))
    with pytest.raises(ValueError, match=r"\(2,\), got \(3,\)"):
        losses.mee(energies, jnp.zeros(3, int))
    # Under jit the value is not known: the result is NaN, never another class's energy.
    assert np.isnan(jax.jit(losses.nll)(energies, jnp.array([0, 3]))).tolist() == [False, True]
    assert np.isnan(jax.jit(losses.nll)(energies, jnp.array([0, -1]))).tolist() == [False, True]


@pytest.mark.parametrize("name", losses.PAIRWISE)
def test_bad_energies(name):
    loss = getattr(losses, name)
    with pytest.raises(TypeError, match=r"positive must be floating point.*int32"):
        loss(jnp.array(1), jnp.array(1.0))
    with pytest.raises(ValueError, match=r"positive \(2,\), negative \(3,\)"):
        loss(jnp.zeros(2), jnp.zeros(3))


@pytest.mark.parametrize(("name", "option"), [(n, o) for n, kw in OPTIONS.items() for o in kw])
def test_bad_options(name, option):
    with pytest.raises(ValueError, match=f"{option} must be >= 0, got -1"):
        getattr(losses, name)(0.0, 0.0, **{option: -1.0})


def test_bad_radius():
    with pytest.raises(ValueError, match="needs the distance"):
        losses.most_offending(jnp.zeros(3), 0, radius=1.0)
    with pytest.raises(ValueError, match="radius must be >= 0"):
        losses.most_offending(jnp.zeros(3), 0, distance=jnp.zeros(3), radius=-1.0)
