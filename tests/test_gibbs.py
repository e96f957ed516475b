import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ebm_jax import gibbs

INF = float("inf")
FUNCTIONS = (gibbs.log_partition, gibbs.free_energy, gibbs.log_probs, gibbs.probs, gibbs.entropy)
E = np.array([0.3, 1.2, -0.5, 2.0])


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.floats(-50, 50), min_size=1, max_size=8),
    st.floats(0.01, 20),
)
def test_everything_matches_enumeration(energies, beta):
    with jax.enable_x64(True):
        p = oracles.probabilities(energies, beta)
        log_z = oracles.log_partition(energies, beta)
        got = jnp.asarray(energies, jnp.float64)
        np.testing.assert_allclose(gibbs.log_partition(got, beta=beta), log_z, atol=1e-9)
        np.testing.assert_allclose(gibbs.free_energy(got, beta=beta), -log_z / beta, atol=1e-9)
        np.testing.assert_allclose(gibbs.probs(got, beta=beta), p, atol=1e-12)
        entropy = -np.sum(p[p > 0] * np.log(p[p > 0]))
        np.testing.assert_allclose(gibbs.entropy(got, beta=beta), entropy, atol=1e-9)
        mean = -(log_z - np.log(len(energies))) / beta
        np.testing.assert_allclose(gibbs.free_energy(got, beta=beta, mean=True), mean, atol=1e-9)
        np.testing.assert_allclose(gibbs.expectation(got, got, beta=beta), p @ energies, atol=1e-9)


@pytest.mark.parametrize("axis", [0, 1, -1, -3])
def test_axis_is_the_axis_that_goes(axis):
    energies = np.random.default_rng(0).normal(size=(3, 4, 5)).astype(np.float32)
    moved = np.moveaxis(energies, axis, -1)
    expected = np.array([oracles.log_partition(row) for row in moved.reshape(-1, moved.shape[-1])])
    got = gibbs.log_partition(energies, axis=axis)
    np.testing.assert_allclose(got, expected.reshape(moved.shape[:-1]), rtol=1e-5)
    np.testing.assert_allclose(gibbs.probs(energies, axis=axis).sum(axis), 1, rtol=1e-5)
    drawn = gibbs.sample(jax.random.key(0), energies, axis=axis, beta=INF)
    np.testing.assert_array_equal(drawn, energies.argmin(axis))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16])
def test_types_are_kept_and_accurate(dtype):
    energies = jnp.asarray(np.random.default_rng(0).normal(size=1000), dtype)
    expected = oracles.log_partition(np.asarray(energies, np.float64))
    got = gibbs.log_partition(energies)
    assert got.dtype == dtype
    np.testing.assert_allclose(float(got), expected, rtol=2 * float(jnp.finfo(dtype).eps))
    assert gibbs.probs(energies).dtype == dtype


def test_temperature_zero_and_infinite_are_the_limits(x64):
    cold, hot = 1e6, 1e-9
    for weights in (np.ones(4), np.array([0.2, 1.0, 3.0, 0.5])):
        kwargs = {"log_weights": jnp.log(weights)}
        for function in (gibbs.probs, gibbs.entropy):
            np.testing.assert_allclose(
                function(E, beta=INF, **kwargs), function(E, beta=cold, **kwargs), atol=1e-6
            )
            np.testing.assert_allclose(
                function(E, beta=0.0, **kwargs), function(E, beta=hot, **kwargs), atol=1e-6
            )
        np.testing.assert_allclose(gibbs.free_energy(E, beta=INF, **kwargs), E.min())
        mean = gibbs.free_energy(E, beta=0.0, mean=True, **kwargs)
        np.testing.assert_allclose(mean, (weights * E).sum() / weights.sum())
        np.testing.assert_allclose(
            gibbs.log_partition(E, beta=0.0, **kwargs), np.log(weights.sum())
        )
    assert gibbs.free_energy(E, beta=0.0) == -INF
    assert gibbs.free_energy(E, beta=0.0, log_weights=jnp.log(jnp.full(4, 0.1))) == INF
    np.testing.assert_allclose(
        gibbs.free_energy(E, beta=0.0, log_weights=jnp.full(4, -np.log(4))), E.mean()
    )


@pytest.mark.parametrize(("lowest", "limit"), [(1.0, -INF), (0.0, np.log(2)), (-1.0, INF)])
def test_log_partition_at_zero_temperature(lowest, limit):
    energies = jnp.array([lowest, lowest, lowest + 1])
    np.testing.assert_allclose(gibbs.log_partition(energies, beta=INF), limit, rtol=1e-6)
    np.testing.assert_allclose(gibbs.probs(energies, beta=INF), [0.5, 0.5, 0.0])


@pytest.mark.parametrize("beta", [0.0, 1e-6, 1e-3, 1e-2, 0.1, 1.0, 30.0, INF])
def test_gradients_of_the_free_energy(beta, x64):
    """dF/dE = P and dF/dbeta = (<E> - F)/beta, smooth through beta = 0."""
    with jax.enable_x64(False):
        energies = jnp.asarray(E, jnp.float32)
        slope = jax.grad(lambda e: gibbs.free_energy(e, beta=beta, mean=True))(energies)
        np.testing.assert_allclose(slope, gibbs.probs(energies, beta=beta), atol=2e-6)
        if beta < INF:
            by_beta = jax.grad(lambda b: gibbs.free_energy(energies, beta=b, mean=True))(beta)
    if beta < INF:

        def mean_form(b):
            if b == 0:
                return E.mean()
            return -(oracles.log_partition(E, b) - np.log(4)) / b

        step = 1e-4
        if beta < step:  # one-sided: beta is not negative
            expected = (mean_form(beta + step) - mean_form(beta)) / step
        else:
            expected = oracles.finite_difference(mean_form, beta, step * beta)
        np.testing.assert_allclose(by_beta, expected, rtol=2e-3)


SPECIAL = [
    ([INF, 1.0, 2.0], [False, True, True]),
    ([-INF, 1.0, -INF], [True, False, True]),
    ([INF, INF, INF], [False, False, False]),
]


@pytest.mark.parametrize("beta", [0.0, 0.5, INF])
@pytest.mark.parametrize(("energies", "possible"), SPECIAL)
def test_infinite_energies(energies, possible, beta):
    """+inf is forbidden, -inf takes all: the same as dropping the others."""
    energies, possible = np.array(energies, np.float32), np.array(possible)
    p = np.asarray(gibbs.probs(energies, beta=beta))
    assert np.all(p[~possible] == 0)
    assert gibbs.entropy(energies, beta=beta) >= 0
    rest = energies[possible]
    if not possible.any():
        assert gibbs.log_partition(energies, beta=beta) == -INF
        assert gibbs.free_energy(energies, beta=beta) == INF
        assert gibbs.sample(jax.random.key(0), energies, beta=beta) == -1
        assert gibbs.expectation(energies, energies, beta=beta) == 0
    elif np.isfinite(rest).all():
        for function in FUNCTIONS[:2] + FUNCTIONS[4:]:
            np.testing.assert_allclose(function(energies, beta=beta), function(rest, beta=beta))
        np.testing.assert_allclose(p[possible], gibbs.probs(rest, beta=beta))
    else:
        np.testing.assert_allclose(p[possible], 1 / possible.sum())
        assert gibbs.log_partition(energies, beta=beta) == INF
        assert gibbs.free_energy(energies, beta=beta) == -INF


@pytest.mark.parametrize("beta", [0.0, 0.5, INF])
@pytest.mark.parametrize("energies", [e for e, _ in SPECIAL] + [[1.0, 2.0, 3.0]])
@pytest.mark.parametrize("mask", [[True, True, True], [True, False, True], [False] * 3])
def test_no_gradient_is_nan(energies, mask, beta):
    """Masked and infinite entries get gradient exactly zero, under jit as well."""
    energies, mask = jnp.array(energies), jnp.array(mask)

    def everything(e):
        kwargs = {"beta": beta, "where": mask}
        finite = [
            gibbs.log_partition(e, **kwargs),
            gibbs.free_energy(e, **kwargs),
            gibbs.free_energy(e, mean=True, **kwargs),
            gibbs.entropy(e, **kwargs),
            *gibbs.log_probs(e, **kwargs),
        ]
        return jnp.stack(finite)

    jacobian = np.asarray(jax.jit(jax.jacobian(everything))(energies))
    assert np.isfinite(jacobian).all()
    ignored = np.asarray(~mask | jnp.isinf(energies))
    assert (jacobian[:, ignored] == 0).all()


def test_a_mask_is_the_same_as_dropping():
    where = np.array([True, False, True, True])
    for function in (gibbs.log_partition, gibbs.free_energy, gibbs.entropy):
        np.testing.assert_allclose(
            function(jnp.array(E), where=where), function(jnp.array(E[where])), rtol=1e-6
        )
    np.testing.assert_allclose(
        gibbs.probs(jnp.array(E), where=where)[where], oracles.probabilities(E[where]), rtol=1e-5
    )
    # NaN behind a mask is not an energy; in front of it, it is never hidden.
    dirty = jnp.array([1.0, jnp.nan])
    assert gibbs.log_partition(dirty, where=jnp.array([True, False])) == -1.0
    assert np.isnan(gibbs.log_partition(dirty))
    assert np.isnan(gibbs.probs(dirty)).all()


def test_weights_make_an_integral(x64):
    """The Gaussian of variance s^2/beta: log Z, entropy and variance in closed form."""
    points, volume = oracles.grid(-12.0, 12.0, 4000, 1)
    energies, beta = points[:, 0] ** 2 / 2, 0.5
    kwargs = {"beta": beta, "log_weights": jnp.log(volume)}
    log_z = 0.5 * np.log(2 * np.pi / beta)
    np.testing.assert_allclose(gibbs.log_partition(energies, **kwargs), log_z, atol=1e-9)
    np.testing.assert_allclose(gibbs.entropy(energies, **kwargs), log_z + 0.5, atol=1e-9)
    variance = gibbs.expectation(points[:, 0] ** 2, energies, **kwargs)
    np.testing.assert_allclose(variance, 1 / beta, atol=1e-9)


def test_samples_follow_the_probabilities():
    """Chi-square over 4 outcomes with a fixed key; false alarm below 1e-4."""
    n, p = 20_000, oracles.probabilities(E, 1.5)
    drawn = gibbs.sample(jax.random.key(1), jnp.array(E), beta=1.5, shape=(n,))
    counts = np.bincount(np.asarray(drawn), minlength=4)
    assert np.sum((counts - n * p) ** 2 / (n * p)) < 21.1


def test_beta_per_row():
    energies = jnp.array([[0.0, 1.0], [0.0, 1.0]])
    got = gibbs.free_energy(energies, beta=jnp.array([1.0, INF]))
    np.testing.assert_allclose(got, [-np.log(1 + np.exp(-1)), 0.0], rtol=1e-6)


def test_extreme_energies_do_not_overflow():
    energies = jnp.array([1e30, 1e30, -1e30])
    assert np.isfinite(gibbs.free_energy(energies))
    np.testing.assert_allclose(gibbs.probs(energies), [0, 0, 1])
    np.testing.assert_allclose(gibbs.log_partition(jnp.array([1e4, 1e4])), np.log(2) - 1e4)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_bad_input_is_refused(function):
    good = jnp.zeros(3)
    with pytest.raises(TypeError, match=r"floating point.*int32"):
        function(jnp.arange(3))
    with pytest.raises(ValueError, match="beta must be >= 0, got -1"):
        function(good, beta=-1.0)
    with pytest.raises(ValueError, match="beta must be >= 0, got nan"):
        function(good, beta=float("nan"))
    with pytest.raises(ValueError, match="axis 1"):
        function(good, axis=1)
    with pytest.raises(ValueError, match=r"do not broadcast.*where \(2,\)"):
        function(good, where=jnp.ones(2, bool))
    with pytest.raises(TypeError, match="where must be boolean"):
        function(good, where=jnp.ones(3))
    with pytest.raises(ValueError, match=r"beta \(3,\) must broadcast"):
        function(good, beta=jnp.ones(3))
    with pytest.raises(ValueError, match="candidates"):
        function(jnp.zeros((3, 0)))
