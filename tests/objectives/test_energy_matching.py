"""Energy and equilibrium matching against quadrature; the second phase against known chains."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from ebm_jax import objectives
from ebm_jax.samplers import schedules

# -V'(x) by quadrature, from the conditional expectation of the field given x_t = x.
POINTS = np.array([-1.0, 0, 1, 2, 3])
MATCHING = {
    (2.0, 0.5): [-3.3969888258, -2.5674644245, -1.8060129043, -1.6618820468, -2.2210072748],
    (0.0, 0.5): [-0.8932844279, 0, 0.8932844279, 2.1960899797, 3.1817323243],
}
EQUILIBRIUM = [-13.5879553031, -10.2692077148, -7.0166295940, -4.3604086686, -2.3182341622]


def slope(mean, scale, factor, points):
    """V'(x) = -E_t[c(t) (E[x1 | x, t] - E[x0 | x, t]) | x], t on a fine grid."""
    t = (np.arange(20_000) + 0.5) / 20_000
    variance = (1 - t) ** 2 + t**2 * scale**2
    x = np.asarray(points)[:, None]
    weight = np.exp(-((x - t * mean) ** 2) / (2 * variance)) / np.sqrt(variance)
    field = mean + (t * scale**2 - (1 - t)) * (x - t * mean) / variance
    return -np.sum(weight * factor(t) * field, 1) / np.sum(weight, 1)


def ones(t):
    return np.ones_like(t)


def falling(t):
    return 4 * np.minimum(1, (1 - t) / 0.2)


CENTERS = np.linspace(-4, 5, 13)


def bumps(params, x):
    """An energy that is linear in its parameters: the objective is a square of them."""
    return params @ jnp.exp(-((x - CENTERS) ** 2) / 2)


@pytest.mark.parametrize(("mean", "scale"), MATCHING)
def test_the_quadrature_is_that_of_the_reference(mean, scale):
    found = slope(mean, scale, ones, POINTS)
    np.testing.assert_allclose(found, MATCHING[mean, scale], atol=1e-6)
    if mean:
        np.testing.assert_allclose(slope(mean, scale, falling, POINTS), EQUILIBRIUM, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "factor", "mean"),
    [
        (objectives.flow_matching, ones, 2.0),
        (objectives.flow_matching, ones, 0.0),
        (objectives.equilibrium_matching, falling, 2.0),
    ],
)
def test_the_optimal_slope_is_that_of_the_quadrature(make, factor, mean):
    """Solved as the least squares that it is, over 20 batches of 20,000 pairs.

    Wanted: 0.02, RMS over the data's range, where the field has size 1 to 4.
    """
    objective = make(bumps)
    rng = np.random.default_rng(0)
    batches = jnp.asarray(mean + 0.5 * rng.normal(size=(20, 20_000)), jnp.float32)
    zeros = jnp.zeros(len(CENTERS))

    @jax.jit
    def normal_equations(batches, keys):
        def one(batch, key):
            def value(p):
                return objective.loss(p, (), batch, key)[0]

            return jax.grad(value)(zeros), jax.hessian(value)(zeros)

        found = jax.lax.map(lambda pair: one(*pair), (batches, keys))
        return jax.tree.map(lambda leaf: leaf.mean(0), found)

    gradient, hessian = normal_equations(batches, jax.random.split(jax.random.key(0), 20))
    ridge = 1e-5 * np.eye(len(CENTERS))
    weights = -np.linalg.solve(np.asarray(hessian, np.float64) + ridge, gradient)
    x = np.linspace(mean - 1, mean + 1, 41)
    bump = np.exp(-((x[:, None] - CENTERS) ** 2) / 2) * (CENTERS - x[:, None])
    error = bump @ weights - slope(mean, 0.5, factor, x)
    assert np.sqrt(np.mean(error**2)) < 0.02 * (4 if factor is falling else 1)


def bowl(k, x):
    return k * jnp.sum(x**2) / 2


SECOND = {"temperature": 0.3, "step_size": 0.1, "num_steps": 20, "onset": 0.5}


def test_the_negatives_are_those_chains():
    """Half start at the data, heated at once, half at noise: variances of AR(1), step by step."""
    k, h, temperature, num = 1.7, 0.1, 0.3, 40_000
    data = 0.5 * jax.random.normal(jax.random.key(5), (num, 1))
    objective = objectives.energy_matching(bowl, weight=1.0, **SECOND)
    loss = jax.jit(objective.loss)
    _, (_, metrics) = loss(k, (), data, jax.random.key(0))
    hot, warming = 0.25, 1.0
    for s in range(20):
        heat = temperature * np.clip((round(s * h, 6) - 0.5) / 0.5, 0, 1)
        hot = (1 - h * k) ** 2 * hot + 2 * h * temperature
        warming = (1 - h * k) ** 2 * warming + 2 * h * heat
    # The mean square of n normal numbers has a relative standard error of sqrt(2 / n).
    wanted = k * (hot + warming) / 4
    assert abs(float(metrics["energy_negative"]) / wanted - 1) < 4 * np.sqrt(2 / num)
    # E is linear in k: if nothing flows through the chains, so is the contrast.
    gradient = jax.jit(jax.grad(lambda k: loss(k, (), data, jax.random.key(0))[0]))(k)
    field = objectives.flow_matching(bowl).loss
    field_key = jax.random.split(jax.random.key(0))[0]
    of_field = jax.grad(lambda k: field(k, (), data, field_key)[0])(k)
    np.testing.assert_allclose(gradient - of_field, -metrics["energy_gap"] / k, rtol=1e-4)


def test_the_contrast_pushes_no_lower_than_it_may():
    """Data at rest in a bowl, chains heated: the gap grows with k until the bound."""
    data = jnp.zeros((64, 2))

    def value(k, lowest):
        made = objectives.energy_matching(bowl, weight=1.0, lowest=lowest, **SECOND)
        value, (_, metrics) = jax.jit(made.loss)(k, (), data, jax.random.key(0))
        return value - metrics["loss_field"], metrics["energy_gap"]

    free, gap = value(1.0, None)
    np.testing.assert_allclose(free, -gap, atol=1e-6)
    assert gap > 0.1
    np.testing.assert_allclose(value(1.0, -0.02)[0], -0.02, atol=1e-6)
    np.testing.assert_allclose(value(1.0, -1e3)[0], free, atol=1e-6)


def test_what_is_no_float_is_given():
    """A class belongs to its example: the field is taken at it, and it reaches the chains."""

    def energy(params, pair):
        return params[pair[1]] @ pair[0]

    num = 30_000
    label = jnp.arange(num) % 3
    params = jnp.array([[1.0, 0.0], [0.0, 2.0], [-3.0, 1.0]])
    objective = objectives.energy_matching(energy, weight=0.0, **SECOND)

    @jax.jit
    def value_and_gradient(params):
        batch = jnp.zeros((num, 2)), label
        return jax.value_and_grad(lambda p: objective.loss(p, (), batch, jax.random.key(0))[0])(
            params
        )

    value, gradient = value_and_gradient(params)
    # |p_y - x0|^2, a third of the examples each: 4 standard errors of 30,000 and 10,000 of them.
    assert abs(value - (np.mean(np.sum(np.asarray(params) ** 2, 1)) + 2)) < 0.1
    np.testing.assert_allclose(gradient, 2 * params / 3, atol=4 * 2 / 3 / 100)


@pytest.mark.parametrize("shape", [(2,), (3, 2)])
def test_the_coupling_is_the_shortest(shape):
    rng = np.random.default_rng(1)
    noise, data = rng.normal(size=(2, 12, *shape))
    costs = np.sum((noise[None] - data[:, None]) ** 2, axis=tuple(range(2, 2 + len(shape))))
    order = linear_sum_assignment(costs)[1]
    found = jax.jit(objectives.optimal_coupling)(noise, data)
    np.testing.assert_allclose(found, noise[order], rtol=1e-6)


def test_coupled_ways_are_shorter_and_the_marginals_stay():
    rng = np.random.default_rng(2)
    data = jnp.asarray(rng.normal(size=(64, 2)), jnp.float32)
    flat = [
        objectives.flow_matching(lambda p, x: p * x[0], couple=couple).loss
        for couple in (None, objectives.optimal_coupling)
    ]
    lengths = [float(jax.jit(loss)(0.0, (), data, jax.random.key(0))[0]) for loss in flat]
    assert lengths[1] < 0.3 * lengths[0]  # |x1 - x0|^2 of independent ones is about 4


@pytest.mark.parametrize("onset", [0.0, 0.5, 1.0])
def test_warming_is_the_formula(onset):
    beta = schedules.warming(0.125, 0.02, onset=onset)
    for step in range(20):
        t = step * 0.125
        risen = float(t >= 1) if onset == 1 else min(1.0, max(0.0, (t - onset) / (1 - onset)))
        wanted = np.inf if risen == 0 else 1 / (0.02 * risen)
        np.testing.assert_allclose(float(beta(step)), wanted, rtol=1e-5)


def test_coupling_within_a_class_leaves_its_noise_normal():
    """Classes at -3 and 3: of N(0, 1) noise, 100 a class, a mean of 0 within 4.5 standard errors.

    Across classes it would be the half that is nearer, of mean 0.80.
    """
    num = 200
    label = jnp.arange(num) % 2
    data_key, noise_key = jax.random.split(jax.random.key(0))
    data = 6.0 * label[:, None] - 3 + 0.1 * jax.random.normal(data_key, (num, 1))
    noise = jax.random.normal(noise_key, (num, 1))
    found, kept = jax.jit(objectives.optimal_coupling)((noise, label), (data, label))
    np.testing.assert_array_equal(kept, label)
    for one in range(2):
        own = np.asarray(label) == one
        np.testing.assert_array_equal(np.sort(found[own, 0]), np.sort(noise[own, 0]))
        assert abs(found[own].mean()) < 4.5 / np.sqrt(num / 2)
        # In one dimension the shortest paths keep the order, up to the rounding of their lengths.
        shortest = np.sort(data[own, 0]) - np.sort(noise[own, 0])
        lengths = np.sum((data[own] - found[own]) ** 2)
        np.testing.assert_allclose(lengths, np.sum(shortest**2), rtol=1e-6)


@pytest.mark.parametrize("kind", [bool, np.int8, np.int32, np.uint8])
@pytest.mark.parametrize("shape", [(), (2,), (2, 0)])
@pytest.mark.sweep(4)
def test_the_coupling_is_the_shortest_within_classes(shape, kind):
    """Labels of any integer type and shape, the noise's in another order; by SciPy."""
    rng = np.random.default_rng(3)
    noise, data = rng.normal(size=(2, 24, 3)).astype(np.float32)
    label = rng.integers(0, 2, (24, *shape)).astype(kind)
    mixed = rng.permutation(24)
    unlike = (label[:, None] != label[mixed]).reshape(24, 24, -1).any(-1) if label.size else 0
    costs = ((data[:, None] - noise) ** 2).sum(-1) + 1e3 * unlike
    order = linear_sum_assignment(costs)[1]
    pairs = {"x": noise, "y": label[mixed]}, {"x": data, "y": label}
    found = jax.jit(objectives.optimal_coupling)(*pairs)
    np.testing.assert_array_equal(found["x"], noise[order])
    np.testing.assert_array_equal(found["y"], label)
    assert found["y"].dtype == kind


def test_labels_that_do_not_match_are_refused_and_traced_they_are_nan():
    noise, data = (
        (jnp.zeros((4, 1)), jnp.array([0, 0, 0, 1])),
        (jnp.ones((4, 1)), jnp.arange(4) % 2),
    )
    with pytest.raises(ValueError, match="noise must have the leaves of data"):
        objectives.optimal_coupling(noise, data)
    found, _ = jax.jit(objectives.optimal_coupling)(noise, data)
    assert np.isnan(found).sum() == 1


def test_matching_with_classes_starts_from_normal_noise():
    """E = p_y x has the optimum p_y = E[x_0 - x_1 | y]: -+3, from noise of mean 0."""
    num = 200
    label = jnp.arange(num) % 2
    data = 6.0 * label[:, None] - 3

    def energy(params, pair):
        return params[pair[1]] * pair[0][0]

    objective = objectives.flow_matching(energy, couple=objectives.optimal_coupling)

    def loss(params):
        return objective.loss(params, (), (data, label), jax.random.key(0))[0]

    gradient, hessian = jax.jit(lambda p: (jax.grad(loss)(p), jax.hessian(loss)(p)))(jnp.zeros(2))
    optimum = -np.linalg.solve(hessian, gradient)
    np.testing.assert_allclose(optimum, [3, -3], atol=4.5 / np.sqrt(num / 2))
