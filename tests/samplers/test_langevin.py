import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import energies
from ebm_jax.samplers import chains, langevin

PRECISION = np.array([1.0, 4.0])
GAUSSIAN = energies.Gaussian(np.array([0.5, -1.0]), PRECISION)
gaussian = functools.partial(energies.gaussian, GAUSSIAN)
BOTH = pytest.mark.parametrize("make", [langevin.ula, langevin.mala])


def moments(key, sampler, start, num_steps, burn_in, thin=10):
    """Mean and variance over chains and kept steps, and how many chains there are."""
    key, burn_key = jax.random.split(key)

    @jax.jit
    def go():
        state, _ = chains.run(burn_key, sampler, sampler.init(start), burn_in)
        return chains.run(
            key, sampler, state, num_steps, collect=lambda s, i: s.position, thin=thin
        )[1]

    history = np.asarray(go(), np.float64)
    return history.mean((0, 1)), history.var((0, 1)), history


@pytest.mark.parametrize("beta", [0.5, 2.0])
def test_ula_has_the_variance_that_theory_says(beta, key):
    """1 / (beta k (1 - h k / 2)): biased, by a known amount. 5 standard errors, chains alone."""
    h, n = 0.1, 4000
    sampler = langevin.ula(gaussian, step_size=h, beta=beta)
    mean, variance, _ = moments(key, sampler, jnp.zeros((n, 2)), 100, 200)
    expected = 1 / (beta * PRECISION * (1 - h * PRECISION / 2))
    np.testing.assert_allclose(variance, expected, rtol=5 * np.sqrt(2 / n))
    np.testing.assert_allclose(mean, GAUSSIAN.mean, atol=5 * np.sqrt(expected.max() / n))


@pytest.mark.parametrize("step_size", [0.15, np.array([0.6, 0.15]), lambda t: 0.1 + 0.1 * (t % 2)])
def test_mala_is_exact_for_any_step_size(step_size, key):
    """Scalar, diagonal preconditioner, schedule: the variance is 1 / (beta k), whatever h."""
    n, beta = 4000, 2.0
    sampler = langevin.mala(gaussian, step_size=step_size, beta=beta)
    mean, variance, _ = moments(key, sampler, jnp.zeros((n, 2)), 100, 200)
    np.testing.assert_allclose(variance, 1 / (beta * PRECISION), rtol=5 * np.sqrt(2 / n))
    np.testing.assert_allclose(mean, GAUSSIAN.mean, atol=5 * np.sqrt(0.5 / n))


def test_mala_acceptance_is_the_metropolis_ratio(x64):
    """min(1, pi(x') q(x|x') / pi(x) q(x'|x)), from the two Gaussian densities themselves."""
    h, beta, n = np.array([0.3, 0.1]), 1.7, 50
    energy = functools.partial(energies.rosenbrock, energies.Rosenbrock(1.0, 3.0))
    sampler = langevin.mala(energy, step_size=h, beta=beta)
    start = sampler.init(jax.random.normal(jax.random.key(3), (n, 2), jnp.float64))
    # At a huge beta' the noise is the same draw, so the proposal can be found from the key.
    end, info = sampler.step(jax.random.key(4), start)
    noise_key, _ = jax.random.split(jax.random.key(4))
    xi = np.asarray(jax.random.normal(noise_key, (n * 2,), jnp.float64)).reshape(n, 2)
    x = np.asarray(start.position)
    gradient = jax.vmap(jax.grad(energy))
    proposal = x - h * np.asarray(gradient(x)) + np.sqrt(2 * h / beta) * xi

    def log_q(to, origin):
        mean = origin - h * np.asarray(gradient(origin))
        return -(beta * (to - mean) ** 2 / (4 * h)).sum(1)

    def log_pi(at):
        return -beta * np.asarray(jax.vmap(energy)(at))

    ratio = log_pi(proposal) - log_pi(x) + log_q(x, proposal) - log_q(proposal, x)
    np.testing.assert_allclose(info.acceptance, np.exp(np.minimum(ratio, 0)), atol=1e-9)
    moved = np.asarray(info.accepted)
    assert 0 < moved.sum() < n
    np.testing.assert_allclose(end.position[moved], proposal[moved])
    np.testing.assert_array_equal(end.position[~moved], x[~moved])
    np.testing.assert_allclose(end.energy, jax.vmap(energy)(end.position))


@BOTH
@pytest.mark.parametrize("cold", [{"beta": jnp.inf}, {"noise_scale": 0.0}])
def test_without_noise_it_is_gradient_descent(make, cold, key):
    sampler = make(gaussian, step_size=0.1, **cold)
    state, info = sampler.step(key, sampler.init(jnp.ones((3, 2))))
    expected = 1 - 0.1 * PRECISION * (1 - GAUSSIAN.mean)
    np.testing.assert_allclose(state.position, np.tile(expected, (3, 1)), rtol=1e-6)
    assert float(info.beta) == np.inf
    many, _ = chains.run(key, sampler, state, 500)
    np.testing.assert_allclose(many.position, np.tile(GAUSSIAN.mean, (3, 1)), atol=1e-4)


def test_cold_mala_refuses_to_go_uphill(key):
    sampler = langevin.mala(gaussian, step_size=10.0, beta=jnp.inf)  # far beyond stability
    state, info = sampler.step(key, sampler.init(jnp.ones((3, 2))))
    np.testing.assert_array_equal(state.position, 1.0)
    assert not info.accepted.any()


def test_the_effective_beta_is_reported_and_true(key):
    """Step and noise chosen separately sample beta = 2 h / noise^2, up to ULA's bias."""
    h, noise, n = 0.01, 0.05, 4000
    sampler = langevin.ula(gaussian, step_size=h, noise_scale=noise)
    _mean, variance, _ = moments(key, sampler, jnp.zeros((n, 2)), 100, 1000)
    _, info = sampler.step(key, sampler.init(jnp.zeros((1, 2))))
    beta = float(info.beta)
    np.testing.assert_allclose(beta, 8.0, rtol=1e-6)
    expected = 1 / (beta * PRECISION * (1 - h * PRECISION / 2))
    np.testing.assert_allclose(variance, expected, rtol=5 * np.sqrt(2 / n))
    exact = langevin.mala(gaussian, step_size=h, noise_scale=noise)
    assert float(exact.step(key, exact.init(jnp.zeros((1, 2))))[1].beta) == beta


@BOTH
def test_clipping_leaves_small_gradients_untouched(make, key):
    """Only the chain above the limit is scaled, to the limit; the other keeps every bit."""
    positions = jnp.array([[0.6, -1.0], [100.0, -1.0]])  # gradient norms 0.1 and 99.5
    sampler = make(gaussian, step_size=0.1, beta=jnp.inf, max_gradient_norm=2.0)
    free = make(gaussian, step_size=0.1, beta=jnp.inf)
    state, info = sampler.step(key, sampler.init(positions))
    unclipped, _ = free.step(key, free.init(positions))
    np.testing.assert_array_equal(state.position[0], unclipped.position[0])
    np.testing.assert_allclose(state.position[1], [99.8, -1.0], rtol=1e-6)
    assert info.clipped.tolist() == [False, True]
    np.testing.assert_allclose(info.gradient_norm, [0.1, 99.5], rtol=1e-5)


def test_the_score_is_not_divided_by_the_number_of_chains(key):
    """Chain i makes the same path among 1, 3 or 100 chains."""
    sampler = langevin.ula(gaussian, step_size=0.1)
    paths = []
    for n in (3, 100):
        state, _ = chains.run(key, sampler, sampler.init(jnp.ones((n, 2))), 20)
        paths.append(state.position[:3])
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-6)


def test_the_box(key):
    """ULA is projected; MALA samples the restricted target exactly: a truncated Gaussian."""
    box = (-0.5, 1.0)

    def energy(x):
        return jnp.sum(x**2) / 2

    projected = langevin.ula(energy, step_size=0.5, box=box)
    state, info = projected.step(key, projected.init(jnp.zeros((2000, 1))))
    assert state.position.min() == -0.5
    assert state.position.max() == 1.0
    assert 0 < float(info.at_box.mean()) < 1
    refused = langevin.mala(energy, step_size=0.1, box=box)
    mean, _, history = moments(key, refused, jnp.zeros((4000, 1)), 100, 200)
    assert history.min() >= -0.5
    assert history.max() <= 1.0
    from scipy.stats import truncnorm

    exact = truncnorm(-0.5, 1.0)
    np.testing.assert_allclose(mean, exact.mean(), atol=5 * exact.std() / np.sqrt(4000))


@BOTH
def test_integer_leaves_ride_along(make, key):
    """A chain carries its class: the energy reads it and the sampler leaves it alone."""

    def energy(config):
        return jnp.sum((config["x"] - config["y"]) ** 2)

    start = {"x": jnp.zeros((4, 2)), "y": jnp.array([0, 1, 2, 3])}
    sampler = make(energy, step_size=0.1, beta=jnp.inf)
    state, _ = chains.run(key, sampler, sampler.init(start), 200)
    np.testing.assert_array_equal(state.position["y"], [0, 1, 2, 3])
    np.testing.assert_allclose(
        state.position["x"], np.array([[0], [1], [2], [3]]) + np.zeros(2), atol=1e-4
    )


@BOTH
def test_pytrees_and_several_leaves(make, key):
    def energy(x):
        return jnp.sum(x["a"] ** 2) / 2 + jnp.sum(x["b"] ** 2) * 2

    start = {"a": jnp.zeros((4000, 2)), "b": jnp.zeros((4000,))}
    sampler = make(energy, step_size=0.05)
    state, _info = jax.jit(lambda s: chains.run(key, sampler, s, 300))(sampler.init(start))
    a, b = state.position["a"], state.position["b"]
    bias = 0.05 if make is langevin.ula else 0.0
    np.testing.assert_allclose(a.var(), 1 / (1 - bias / 2), rtol=0.08)
    np.testing.assert_allclose(b.var(), 0.25 / (1 - bias * 2), rtol=0.12)
    assert abs(np.corrcoef(a[:, 0], b)[0, 1]) < 0.08  # the leaves have independent noise


@BOTH
def test_a_nan_chain_stays_alone(make, key):
    """A chain at NaN never touches another; MALA refuses proposals of NaN energy."""
    start = jnp.zeros((3, 2)).at[1].set(jnp.nan)
    sampler = make(gaussian, step_size=0.1)
    state, _ = chains.run(key, sampler, sampler.init(start), 10)
    assert chains.finite(state.position).tolist() == [True, False, True]

    def half_plane(x):  # NaN for x < 0
        return jnp.sum(jnp.sqrt(x))

    sampler = langevin.mala(half_plane, step_size=0.5)
    state, _info = chains.run(key, sampler, sampler.init(jnp.full((100, 1), 0.1)), 20)
    assert chains.finite(state.position).all()


def test_one_compilation_for_all_values():
    import chex

    @jax.jit
    @chex.assert_max_traces(n=1)
    def go(key, h, beta, mean):
        params = energies.Gaussian(mean, jnp.ones(2))
        sampler = langevin.ula(functools.partial(energies.gaussian, params), step_size=h, beta=beta)
        return chains.run(key, sampler, sampler.init(jnp.zeros((5, 2))), 10)[0].position

    for i in range(3):
        out = go(jax.random.key(i), 0.1 * (i + 1), 1.0 + i, jnp.full(2, float(i)))
        assert np.isfinite(out).all()


def test_bfloat16_noise_is_not_coarse(key):
    """Drawn in float32: far more than the 128 values of bfloat16's own normal."""
    sampler = langevin.ula(lambda x: 0.0 * jnp.sum(x), step_size=0.5)
    state, _ = sampler.step(key, sampler.init(jnp.zeros((20_000, 1), jnp.bfloat16)))
    assert state.position.dtype == jnp.bfloat16
    assert len(np.unique(np.asarray(state.position, np.float32))) > 500
    assert float(jnp.abs(state.position).max()) > 3.0


@BOTH
def test_bad_input(make):
    for bad in (0.0, -1.0, float("nan"), np.inf, np.array([0.1, 0.0])):
        with pytest.raises(ValueError, match="step_size must be finite and > 0"):
            make(gaussian, step_size=bad)
    for bad in (-1.0, 0.0, float("nan")):
        with pytest.raises(ValueError, match="beta must be > 0"):
            make(gaussian, step_size=0.1, beta=bad)
    with pytest.raises(ValueError, match="noise_scale must be >= 0, got -1"):
        make(gaussian, step_size=0.1, noise_scale=-1.0)
    with pytest.raises(ValueError, match="not both"):
        make(gaussian, step_size=0.1, beta=1.0, noise_scale=0.1)
    with pytest.raises(ValueError, match="max_gradient_norm must be finite and > 0"):
        make(gaussian, step_size=0.1, max_gradient_norm=0.0)
    with pytest.raises(ValueError, match="low < high"):
        make(gaussian, step_size=0.1, box=(1.0, 0.0))
    sampler = make(lambda x: x, step_size=0.1)
    with pytest.raises(ValueError, match=r"return a scalar.*\(2,\)"):
        sampler.step(jax.random.key(0), sampler.init(jnp.zeros((3, 2))))
    sampler = make(gaussian, step_size=0.1)
    with pytest.raises(ValueError, match="chains on the leading axis"):
        sampler.init(jnp.array(0.0))
    with pytest.raises(ValueError, match="chains on the leading axis"):
        sampler.init({"a": jnp.zeros((2, 1)), "b": jnp.zeros((3, 1))})
    with pytest.raises(TypeError, match="floating-point leaf"):
        sampler.step(jax.random.key(0), langevin.ULAState(jnp.zeros((2, 2), int), jnp.array(0)))


def test_mala_refuses_one_noise_for_several_steps():
    with pytest.raises(ValueError, match="needs a scalar step_size"):
        langevin.mala(gaussian, step_size=np.array([0.1, 0.2]), noise_scale=0.1)
