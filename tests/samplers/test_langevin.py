import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax import energies, samplers

PRECISION = np.array([1.0, 4.0])
GAUSSIAN = energies.Gaussian(np.array([0.5, -1.0]), PRECISION)
gaussian = functools.partial(energies.gaussian, GAUSSIAN)
BAOAB = functools.partial(samplers.baoab, friction=1.0)
BOTH = pytest.mark.parametrize("make", [samplers.ula, samplers.mala])


def step(sampler, key, x):
    """Return the state at x, and the state and info one step later, all compiled at once."""

    @jax.jit
    def go(key, x):
        start = sampler.init(x)
        return start, *sampler.step(key, start)

    return go(key, x)


def run(sampler, key, x, num_steps, collect=None):
    @jax.jit
    def go(key, x):
        return samplers.run(key, sampler, sampler.init(x), num_steps, collect=collect)

    return go(key, x)


def test_cold_mala_refuses_to_go_uphill(key):
    sampler = samplers.mala(gaussian, step_size=10.0, beta=jnp.inf)  # far beyond stability
    _, state, info = step(sampler, key, jnp.ones((3, 2)))
    np.testing.assert_array_equal(state.position, 1.0)
    assert not info.accepted.any()


def test_the_effective_beta_is_reported_and_true(key):
    """2 h / noise^2, by ULA and by MALA; that it is what is sampled, test_stationarity asks."""
    for make in (samplers.ula, samplers.mala):
        sampler = make(gaussian, step_size=0.01, noise_sigma=0.05)
        _, _, info = step(sampler, key, jnp.zeros((1, 2)))
        np.testing.assert_allclose(info.beta, 8.0, rtol=1e-6)
    silent = samplers.ula(gaussian, step_size=0.01, noise_sigma=0.0)
    assert float(step(silent, key, jnp.zeros((1, 2)))[2].beta) == np.inf


@BOTH
def test_clipping_leaves_small_gradients_untouched(make, key):
    """Only the chain above the limit is scaled, to the limit; the other keeps every bit."""
    positions = jnp.array([[0.6, -1.0], [100.0, -1.0]])  # gradient norms 0.1 and 99.5
    sampler = make(gaussian, step_size=0.1, beta=jnp.inf, max_gradient_norm=2.0)
    free = make(gaussian, step_size=0.1, beta=jnp.inf)
    start, state, info = step(sampler, key, positions)
    np.testing.assert_allclose(start.gradient_norm, [0.1, 99.5], rtol=1e-5)
    _, unclipped, _ = step(free, key, positions)
    np.testing.assert_array_equal(state.position[0], unclipped.position[0])
    np.testing.assert_allclose(state.position[1], [99.8, -1.0], rtol=1e-6)
    assert info.clipped.tolist() == [False, True]
    np.testing.assert_allclose(info.gradient_norm, [0.09, 99.3], rtol=1e-5)


@pytest.mark.parametrize("size", [1e30, 1e-30])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@BOTH
@pytest.mark.sweep(3)
def test_a_gradient_whose_squares_overflow_or_vanish_is_clipped_to_the_limit(
    make, dtype, size, key
):
    """3-4-5: the clipped gradient is (0.6, 0.8) of the limit."""
    slope = jnp.array([3.0, 4.0], dtype) * jnp.asarray(size, dtype)
    limit = size / 2 if size < 1 else 2.0
    options = {"step_size": 1.0 / limit, "beta": jnp.inf, "max_gradient_norm": limit}

    @jax.jit
    def go(slope):  # no constant, which the XLA of jax 0.10 would square before it is divided
        sampler = make(lambda x: jnp.sum(slope * x), **options)
        start = sampler.init(jnp.zeros((1, 2), dtype))
        return start, *sampler.step(key, start)

    start, state, info = go(slope)
    found = np.asarray(state.position[0], np.float64)
    np.testing.assert_allclose(found, [-0.6, -0.8], rtol=2e-2 if dtype == jnp.bfloat16 else 1e-5)
    np.testing.assert_allclose(float(start.gradient_norm[0]) / size, 5.0, rtol=2e-2)
    assert info.clipped.tolist() == [True]


def test_the_score_is_not_divided_by_the_number_of_chains(key):
    """Chain i makes the same path among 1, 3 or 100 chains."""
    sampler = samplers.ula(gaussian, step_size=0.1)
    paths = [np.asarray(run(sampler, key, jnp.ones((n, 2)), 20)[0].position)[:3] for n in (3, 100)]
    np.testing.assert_allclose(paths[0], paths[1], rtol=1e-6)


def test_the_box(key):
    """ULA is projected; MALA refuses, as test_stationarity shows."""
    bounds = (-0.5, 1.0)

    def energy(x):
        return jnp.sum(x**2) / 2

    projected = samplers.ula(energy, step_size=0.5, bounds=bounds)
    _, state, info = jax.tree.map(np.asarray, step(projected, key, jnp.zeros((2000, 1))))
    assert state.position.min() == -0.5
    assert state.position.max() == 1.0
    assert 0 < info.at_bounds.mean() < 1


@BOTH
def test_integer_leaves_ride_along(make, key):
    """A chain carries its class: the energy reads it and the sampler leaves it alone."""

    def energy(config):
        return jnp.sum((config["x"] - config["y"]) ** 2)

    start = {"x": jnp.zeros((4, 2)), "y": jnp.array([0, 1, 2, 3])}
    sampler = make(energy, step_size=0.1, beta=jnp.inf)
    state, _ = run(sampler, key, start, 200)
    np.testing.assert_array_equal(state.position["y"], [0, 1, 2, 3])
    np.testing.assert_allclose(
        state.position["x"], np.array([[0], [1], [2], [3]]) + np.zeros(2), atol=1e-4
    )


@BOTH
@pytest.mark.sweep(1)
def test_pytrees_and_several_leaves(make, key):
    def energy(x):
        return jnp.sum(x["a"] ** 2) / 2 + jnp.sum(x["b"] ** 2) * 2

    start = {"a": jnp.zeros((4000, 2)), "b": jnp.zeros((4000,))}
    sampler = make(energy, step_size=0.05)
    state, _info = run(sampler, key, start, 300)
    a, b = (np.asarray(state.position[name]) for name in "ab")
    bias = 0.05 if make is samplers.ula else 0.0
    np.testing.assert_allclose(a.var(), 1 / (1 - bias / 2), rtol=0.08)
    np.testing.assert_allclose(b.var(), 0.25 / (1 - bias * 2), rtol=0.12)
    assert abs(np.corrcoef(a[:, 0], b)[0, 1]) < 0.08  # the leaves have independent noise


@BOTH
def test_a_nan_chain_stays_alone(make, key):
    start = jnp.zeros((3, 2)).at[1].set(jnp.nan)
    sampler = make(gaussian, step_size=0.1)
    state, _ = run(sampler, key, start, 10)
    assert np.isfinite(state.position).all(1).tolist() == [True, False, True]


def test_mala_refuses_proposals_of_nan_energy(key):
    def half_plane(x):  # NaN for x < 0
        return jnp.sum(jnp.sqrt(x))

    sampler = samplers.mala(half_plane, step_size=0.5)
    state, _info = run(sampler, key, jnp.full((100, 1), 0.1), 20)
    assert np.isfinite(state.position).all()


def test_bfloat16_noise_is_not_coarse(key):
    """Drawn in float32: far more than the 128 values of bfloat16's own normal."""
    sampler = samplers.ula(lambda x: 0.0 * jnp.sum(x), step_size=0.5)
    _, state, _ = step(sampler, key, jnp.zeros((20_000, 1), jnp.bfloat16))
    assert state.position.dtype == jnp.bfloat16
    found = np.asarray(state.position, np.float32)
    assert len(np.unique(found)) > 500
    assert np.abs(found).max() > 3.0


@pytest.mark.parametrize("make", [samplers.ula, samplers.mala, BAOAB])
def test_every_field_of_the_info_describes_the_new_position(make, key):
    """The energies and gradients of where the chains are, by another evaluation."""
    sampler = make(gaussian, step_size=0.3, max_gradient_norm=1.0)
    start, state, info = step(sampler, key, jax.random.normal(key, (50, 2)))
    x = np.asarray(state.position, np.float64)
    gradient = PRECISION * (x - GAUSSIAN.mean)
    norm = np.linalg.norm(gradient, axis=1)
    assert (np.asarray(start.position) != x).any(1).sum() > 10
    for found in (state, info):
        np.testing.assert_allclose(found.energy, 0.5 * (gradient**2 / PRECISION).sum(1), rtol=1e-4)
        np.testing.assert_allclose(found.gradient_norm, norm, rtol=1e-4)
    np.testing.assert_allclose(state.gradient[0], gradient, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(info.clipped, norm > 1)


@pytest.mark.parametrize("make", [samplers.ula, samplers.mala, BAOAB])
@pytest.mark.sweep(1)
def test_beta_per_chain_is_that_of_each_chain_alone(make, key):
    """A chain among chains of other temperatures makes the path it makes among its equals."""
    betas, x = np.array([0.3, 1.0, 5.0], np.float32), jax.random.normal(key, (3, 2))
    mixed = make(gaussian, step_size=0.2, beta=betas)
    state, info = run(mixed, key, x, 20, collect=lambda s, i: i.beta)
    np.testing.assert_array_equal(info, np.tile(betas, (20, 1)))

    @jax.jit
    def alone(beta):
        sampler = make(gaussian, step_size=0.2, beta=beta)
        return samplers.run(key, sampler, sampler.init(x), 20)[0].position

    same = [np.asarray(alone(beta))[i] for i, beta in enumerate(betas)]
    np.testing.assert_allclose(state.position, same, rtol=1e-5, atol=1e-6)


SCHEDULES = {
    "step_size": lambda t: 0.1 - 0.04 * t,
    "beta": lambda t: 1.0 - 0.4 * t,
    "max_gradient_norm": lambda t: 1.0 - 0.4 * t,
    "noise_sigma": lambda t: 0.1 - 0.04 * t,
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("make", [samplers.ula, samplers.mala, BAOAB])
@pytest.mark.sweep(4)
def test_a_schedule_that_leaves_its_range_later_turns_the_chains_nan(make, name, key):
    """Not in silence: MALA would refuse every proposal and stand where it is."""
    if make is BAOAB and name == "noise_sigma":
        return
    sampler = make(gaussian, **{"step_size": 0.1} | {name: SCHEDULES[name]})
    _, history = run(sampler, key, jnp.zeros((4, 2)), 5, collect=lambda s, i: s.position)
    finite = np.isfinite(history).all((1, 2))
    assert finite.tolist() == [True, True, True, False, False]


@pytest.mark.parametrize("make", [samplers.ula, samplers.mala, BAOAB])
def test_refresh_takes_the_new_energy_and_keeps_the_rest(make, key):
    old, new = (make(lambda x, k=k: k * jnp.sum(x**2) / 2, step_size=0.1) for k in (1.0, 3.0))
    state, _ = run(old, key, jnp.ones((4, 2)), 3)
    after = jax.jit(lambda state: samplers.refresh(new, state))(state)
    np.testing.assert_array_equal(after.position, state.position)
    np.testing.assert_allclose(after.energy, 3 * state.energy, rtol=1e-6)
    np.testing.assert_allclose(after.gradient[0], 3 * state.gradient[0], rtol=1e-6)
    assert int(after.step) == 3
    if make is BAOAB:
        np.testing.assert_array_equal(after.velocity[0], state.velocity[0])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
@pytest.mark.sweep(1)
def test_every_sampler_keeps_the_type_of_the_positions(dtype, key, x64):
    """Schedules, arrays and clips included; what is carried keeps its own type."""
    options = {
        "beta": lambda t: 1.0 + t,
        "max_gradient_norm": 3.0,
        "bounds": (-2.0, np.full(2, 2.0)),
    }
    position = {"x": jnp.zeros((5, 2), dtype), "n": jnp.arange(5, dtype=jnp.int8)}

    def energy(c):
        return jnp.sum(c["x"] ** 2)

    def gradient(key, c):
        return {"x": 2 * c["x"], "n": c["n"]}

    each = [
        samplers.ula(energy, step_size=np.full(2, 0.1), **options),
        samplers.mala(energy, step_size=np.full(2, 0.1), **options),
        samplers.sgld(gradient, step_size=0.1, **options),
        BAOAB(energy, step_size=0.1, mass=np.full(2, 2.0), **options),
    ]

    @jax.jit
    def run_all(key):
        return [samplers.run(key, s, s.init(position), 4)[0] for s in each]

    for state in run_all(key):
        assert state.position["x"].dtype == dtype
        assert state.position["n"].dtype == jnp.int8
        assert np.isfinite(np.asarray(state.position["x"], np.float64)).all()
        assert (np.asarray(state.position["x"]) != 0).all()
        for name in ("energy", "gradient", "velocity"):
            for leaf in jax.tree.leaves(getattr(state, name, [])):
                assert leaf.dtype == dtype


def test_double_precision_is_double_throughout(key, x64):
    """ULA at beta = inf is 50 steps of gradient descent, to the last bits of float64."""
    for make in (samplers.ula, samplers.mala):
        sampler = make(lambda x: jnp.sum(x**2) / 2, step_size=0.1, beta=jnp.inf)
        state, _ = run(sampler, key, jnp.full((1, 1), 1 / 3), 50)
        np.testing.assert_allclose(state.position, 0.9**50 / 3, rtol=1e-14)


@pytest.mark.parametrize("make", [samplers.ula, samplers.mala, samplers.sgld])
def test_beta_and_noise_sigma_exclude_each_other(make):
    with pytest.raises(ValueError, match="not both"):
        make(lambda *args: args[-1], step_size=1.0, beta=1.0, noise_sigma=1.0)


@pytest.mark.parametrize("scheduled", [False, True])
@pytest.mark.parametrize("option", ["step_size", "noise_sigma"])
def test_mala_needs_one_beta_for_all_dimensions(option, scheduled):
    """beta = 2 step_size / noise_sigma^2 is a vector if one of the two is."""
    wide = (lambda step: jnp.ones(2)) if scheduled else jnp.ones(2)
    options = {"step_size": jnp.ones(2), "noise_sigma": 1.0, option: wide}

    def make_and_step():  # values are refused when the sampler is made, schedules in a step
        sampler = samplers.mala(lambda x: jnp.sum(x**2) / 2, **options)
        return sampler.step(jax.random.key(0), sampler.init(jnp.ones((4, 2))))

    with pytest.raises(ValueError, match="one beta for all dim"):
        make_and_step()


def test_a_long_gradient_in_half_precision_is_clipped_to_its_norm():
    """The norm of 70,000 ones is 265, below the limit; their number is not a float16."""
    sampler = samplers.ula(
        lambda x: jnp.sum(x.astype(jnp.float32)), step_size=1.0, beta=np.inf, max_gradient_norm=1e3
    )
    state = sampler.init(jnp.zeros((1, 70_000), jnp.float16))
    state, info = sampler.step(jax.random.key(0), state)
    assert not info.clipped[0]
    np.testing.assert_array_equal(state.position, -1)
