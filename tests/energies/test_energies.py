import functools

import jax
import jax.numpy as jnp
import numpy as np
import oracles
import pytest

from ebm_jax import energies, gibbs
from ebm_jax.energies import combinators
from ebm_jax.partition import exact

GAUSSIAN = energies.Gaussian(np.array([0.5, -0.3]), np.array([[2.0, 0.6], [0.6, 1.0]]))
DIAGONAL = energies.Gaussian(np.array([0.5, -0.3]), np.array([2.0, 0.5]))
MIXTURE = energies.GaussianMixture(
    np.array([[-2.0, 0.0], [1.5, 1.0]]), np.log([0.2, 1.3]), np.array(0.7)
)
ROSENBROCK = energies.Rosenbrock(0.5, 2.0)
FUNNEL = energies.Funnel(1.2)
RING = energies.Ring(radius=1.5, width=0.6)

CLOSED_FORMS = [
    (energies.gaussian, GAUSSIAN, exact.log_partition, (0.5, 1.0, 3.0)),
    (energies.gaussian, DIAGONAL, exact.log_partition, (0.5, 1.0, 3.0)),
    (energies.gaussian_mixture, MIXTURE, exact.log_partition, (1.0,)),
    (energies.rosenbrock, ROSENBROCK, exact.log_partition, (1.0, 3.0)),
    (
        energies.funnel,
        FUNNEL,
        lambda p, beta: exact.log_partition(p, 2, beta=beta),
        (1.0, 1.5),
    ),
    (energies.ring, RING, exact.log_partition, (0.5, 1.0, 3.0)),
    (energies.ring, energies.Ring(0.0, 1.0), exact.log_partition, (1.0,)),
]


@pytest.mark.parametrize(("energy", "params", "log_partition", "betas"), CLOSED_FORMS)
@pytest.mark.sweep(2)
def test_closed_form_log_partition_is_the_integral(energy, params, log_partition, betas, x64):
    points, volume = oracles.grid(-40.0, 40.0, 2000, 2)
    values = jax.jit(jax.vmap(functools.partial(energy, params)))(points)

    @jax.jit
    def both(values, beta):
        by_quadrature = gibbs.log_partition(values, beta=beta, log_weights=np.log(volume))
        return log_partition(params, beta=beta), by_quadrature

    for beta in betas:
        np.testing.assert_allclose(*both(values, beta), atol=1e-4)


def test_funnel_log_partition_in_more_dimensions(x64):
    """Quadrature over x_1 alone: the others are Gaussian given it."""
    v, d, beta = np.linspace(-60, 60, 200_001), 5, 1.3
    inner = 0.5 * (d - 1) * (np.log(2 * np.pi / beta) + v) - beta * (d - 1) * v / 2
    exponent = -beta * v**2 / (2 * 1.2**2) + inner
    by_quadrature = np.log(np.trapezoid(np.exp(exponent - exponent.max()), v)) + exponent.max()
    got = exact.log_partition(FUNNEL, d, beta=beta)
    np.testing.assert_allclose(got, by_quadrature, atol=1e-6)


def test_unknown_partition_functions_under_jit_are_nan():
    """A mixture at another beta, an Ising model with a field: NaN instead of a wrong number."""
    ising = energies.lattice.Ising(0.4, 0.1)
    assert np.isnan(jax.jit(exact.log_partition, static_argnums=1)(ising, (4, 4)))
    log_z = jax.jit(lambda beta: exact.log_partition(MIXTURE, beta=beta))
    np.testing.assert_array_equal(np.isnan(log_z(jnp.array([0.5, 1.0]))), [True, False])


def test_values():
    x = np.array([0.2, 1.1])
    d = x - GAUSSIAN.mean
    np.testing.assert_allclose(
        energies.gaussian(GAUSSIAN, x), d @ GAUSSIAN.precision @ d / 2, rtol=1e-6
    )
    np.testing.assert_allclose(
        energies.double_well(energies.DoubleWell(3.0, 0.2), jnp.array([2.0, 1.0])), 27 + 0.4 + 0.5
    )
    np.testing.assert_allclose(energies.rosenbrock(ROSENBROCK, x), 0.09 + 2 * 1.06**2, rtol=1e-6)


@pytest.mark.parametrize(
    ("energy", "params"),
    [(e, p) for e, p, _, _ in CLOSED_FORMS]
    + [(energies.double_well, energies.DoubleWell(2.0, 0.1))],
)
def test_gradients_are_finite_everywhere_and_right(energy, params, x64):
    bound = jax.jit(functools.partial(energy, params))
    gradient = jax.jit(jax.grad(bound))
    for x in (np.array([0.3, -0.7]), np.array([2.0, 1.0])):
        np.testing.assert_allclose(
            gradient(x), oracles.finite_difference(bound, x), rtol=1e-5, atol=1e-5
        )
    assert np.isfinite(gradient(np.zeros(2))).all()


def test_combinators():
    def a(x):
        return x**2

    def b(x):
        return 3 * x

    x = 0.7
    np.testing.assert_allclose(energies.product(a, b)(x), x**2 + 3 * x, rtol=1e-6)
    np.testing.assert_allclose(energies.temper(a, 0.3)(x), 0.3 * x**2, rtol=1e-6)
    weights = np.array([0.25, 0.75])
    expected = -np.log(weights @ np.exp([-(x**2), -3 * x]))
    got = energies.mixture(a, b, log_weights=np.log(weights))(x)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    np.testing.assert_allclose(energies.condition(lambda u, v: u - v, 5.0)(2.0), 3.0)


def test_product_multiplies_and_mixture_adds_densities(x64):
    points, _volume = oracles.grid(-9, 9, 600, 1)

    def density(energy):
        return np.exp(-np.asarray(jax.jit(jax.vmap(energy))(points[:, 0])))

    a, b = (lambda x: (x - 1) ** 2), (lambda x: (x + 1) ** 2 / 3)
    np.testing.assert_allclose(density(energies.product(a, b)), density(a) * density(b))
    np.testing.assert_allclose(density(energies.mixture(a, b)), density(a) + density(b))
    negated = energies.product(a, b, weights=np.array([1.0, -0.5]))
    np.testing.assert_allclose(density(negated), density(a) / np.sqrt(density(b)))


@pytest.mark.parametrize("combine", [combinators.product, combinators.mixture])
def test_what_cannot_be_combined_is_refused(combine):
    with pytest.raises(ValueError, match="at least one of the energies"):
        combine()
    for bad in (3, None):
        with pytest.raises(TypeError, match=r"energies of .* must be a function"):
            combine(jnp.sum, bad)
    with pytest.raises(ValueError, match=r"a scalar \(\), it returned the shape \(2,\)"):
        combine(jnp.cos)(jnp.ones(2))


def test_a_product_needs_floating_point_energies():
    with pytest.raises(TypeError, match="floating"):
        combinators.product(jnp.sum)(1)
