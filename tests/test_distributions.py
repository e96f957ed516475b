"""Distributions against scipy.stats and NumPy in double precision.

Samples are tested by z-scores of 4,000 independent draws, refused beyond 5: each has a false-alarm
rate of 6e-7, and the keys are fixed. Frequencies are tested by a chi-square statistic, at 1e-6.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special, stats

import ebm_jax
from ebm_jax import Distribution
from ebm_jax import distributions as dist

N = 4000
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
MEAN, SD = np.array([0.3, -1.0]), np.array([0.5, 2.0])
COVARIANCE = np.array([[1.0, 0.4], [0.4, 0.5]])
SHAPES = [(), (0,), (1,), (5,), (2, 3)]
FLOATS = [jnp.bfloat16, jnp.float16, jnp.float32]


def assert_moments(x, mean, second):
    """Means and second moments of rows, by z-scores from their own spread."""
    x = np.asarray(x, np.float64).reshape(len(x), -1)
    products = (x[:, :, None] * x[:, None, :]).reshape(len(x), -1)
    for draws, expected in ((x, mean), (products, second)):
        error = draws.std(axis=0, ddof=1) / np.sqrt(len(x))
        z = (draws.mean(axis=0) - np.ravel(expected)) / np.where(error == 0, 1.0, error)
        assert np.all(np.abs(z) < 5)


def assert_frequencies(indices, probabilities):
    counts = np.bincount(np.ravel(indices), minlength=len(probabilities))
    expected = counts.sum() * np.asarray(probabilities)
    assert np.sum((counts - expected) ** 2 / expected) < stats.chi2(len(expected) - 1).isf(1e-6)


def log_sigmoid(a):
    return -np.logaddexp(0.0, -np.asarray(a, np.float64))


def parameters(shape):
    a, b = RNG.normal(size=shape), RNG.uniform(0.2, 3.0, size=shape)
    return a, b


def continuous(shape):
    a, b = parameters(shape)
    matrix = RNG.normal(size=(a.size, a.size))
    covariance = matrix @ matrix.T + 0.1 * np.eye(a.size)
    rows = {
        "sigma": (dist.gaussian(a, b), lambda x: stats.norm(a, b).logpdf(x).sum()),
        "one sigma": (dist.gaussian(a, 0.7), lambda x: stats.norm(a, 0.7).logpdf(x).sum()),
        "box": (dist.uniform(a, a + b), lambda x: stats.uniform(a, b).logpdf(x).sum()),
    }
    if len(shape) == 1 and shape[0]:
        exact = stats.multivariate_normal(a, covariance)
        rows["covariance"] = (dist.gaussian(a, covariance=covariance), exact.logpdf)
    parts = [rows["sigma"], rows["one sigma"]]
    rows["mixture"] = (
        dist.mixture([d for d, _ in parts], [3, 1]),
        lambda x: np.logaddexp(
            *(np.log(w) + f(x) for w, (_, f) in zip((0.75, 0.25), parts, strict=True))
        ),
    )
    return rows


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.sweep(2)
def test_continuous_log_probs_are_scipys(shape, x64):
    for name, (d, expected) in continuous(shape).items():
        points = np.concatenate([np.asarray(d.sample(KEY, 20)), 1e3 * RNG.normal(size=(5, *shape))])
        found = jax.jit(jax.vmap(d.log_prob))(points)
        assert found.dtype == jnp.float64
        np.testing.assert_allclose(
            found, [expected(x) for x in points], rtol=1e-10, atol=1e-14, err_msg=name
        )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.sweep(2)
def test_discrete_log_probs_sum_to_one_and_are_scipys(shape, x64):
    """Over all configurations, with logits in which one state has the probability 1e-130."""
    a, _ = parameters(shape)
    tail = 300.0 * (np.arange(a.size) == 0).reshape(shape)
    for logits in (a, a - tail, a + tail):
        bits = dist.bernoulli(logits)
        states = np.array(list(itertools.product((0, 1), repeat=a.size))).reshape(2**a.size, *shape)
        found = jax.vmap(bits.log_prob)(states)
        np.testing.assert_allclose(special.logsumexp(found), 0, atol=1e-12)
        exactly = [
            np.where(x == 1, log_sigmoid(logits), log_sigmoid(-logits)).sum() for x in states
        ]
        np.testing.assert_allclose(found, exactly, rtol=1e-12)
    logits, values = RNG.normal(size=(*shape, 3)) * 3, np.array([-1, 0, 7], np.int8)
    three = dist.categorical(logits, values)
    states = np.array(list(itertools.product(range(3), repeat=a.size)), int).reshape(
        3**a.size, *shape
    )
    found = jax.vmap(three.log_prob)(values[states])
    np.testing.assert_allclose(special.logsumexp(found), 0, atol=1e-12)
    log_p = special.log_softmax(logits, axis=-1)
    exactly = [np.take_along_axis(log_p, s[..., None], -1).sum() for s in states]
    np.testing.assert_allclose(found, exactly, rtol=1e-12)


def test_densities_integrate_to_one(x64):
    """By the midpoint rule in two dimensions; the box is wider than eight standard deviations."""
    narrow = dist.gaussian(MEAN + 1, 0.5)
    components = [dist.gaussian(MEAN, covariance=COVARIANCE), dist.gaussian(MEAN, SD), narrow]
    for d in (*components, dist.mixture(components), dist.uniform(-SD, jnp.array([0.5, 1.0]))):
        points, log_volumes = ebm_jax.gibbs.grid([-18.0, -18.0], [18.0, 18.0], 1152)
        total = jax.nn.logsumexp(jax.jit(jax.vmap(d.log_prob))(points) + log_volumes)
        np.testing.assert_allclose(total, 0, atol=1e-9)


@pytest.mark.parametrize("shape", [(0,), (1,), (5,), (2, 3)])
@pytest.mark.sweep(1)
def test_samples_have_the_moments_of_the_density(shape, x64):
    a, b = parameters(shape)
    matrix = RNG.normal(size=(a.size, a.size))
    covariance = matrix @ matrix.T + 0.1 * np.eye(a.size)
    outer = np.multiply.outer

    def second(mean, variance):
        return outer(mean.ravel(), mean.ravel()) + np.diag(np.ravel(variance))

    p, low, high = special.expit(a), a - b, a + 2 * b
    center, third = (low + high) / 2, (high - low) ** 2 / 12
    cases = [
        (dist.gaussian(a, b), a, second(a, b**2)),
        (dist.uniform(low, high), center, second(center, third)),
        (dist.bernoulli(a), p, second(p, p * (1 - p))),
        (
            dist.mixture([dist.gaussian(a, b), dist.gaussian(-a, 1.0)], [1.0, 3.0]),
            -a / 2,
            second(a, b**2) / 4 + 3 * second(-a, np.ones(shape)) / 4,
        ),
    ]
    if len(shape) == 1:
        cases.append((dist.gaussian(a, covariance=covariance), a, outer(a, a) + covariance))
    for d, mean, square in cases:
        x = jax.jit(d.sample, static_argnums=1)(KEY, N)
        assert x.shape == (N, *shape)
        assert_moments(x, mean, square)


def test_categorical_draws_each_value_at_its_rate():
    logits = jnp.array([[0.0, 1.0, -2.0], [3.0, 0.0, 0.0]])
    x = np.asarray(dist.categorical(logits, (-1, 0.5, 7)).sample(KEY, 20_000))
    assert x.dtype == np.float32
    for column, row in zip(x.T, logits, strict=True):
        indices = np.searchsorted([-1, 0.5, 7], column)
        assert_frequencies(indices, special.softmax(np.asarray(row, np.float64)))
    joint = np.searchsorted([-1, 0.5, 7], x) @ [3, 1]  # the variables are independent
    p, q = special.softmax(np.asarray(logits, np.float64), axis=1)
    assert_frequencies(joint, np.outer(p, q).ravel())


def test_samples_stay_in_the_support():
    for low, high in ((-1.0, 1e-8), (0.0, 1e-30), (1e7, 1e7 + 1), (-1e38, 1e38)):
        box = dist.uniform(np.full(3, low, np.float32), np.float32(high))
        x = box.sample(KEY, 10_000)
        assert np.isfinite(jax.vmap(box.log_prob)(x)).all()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.sweep(1)
def test_narrow_parameters_are_computed_in_float32(dtype):
    """Right to float32's rounding, for the numbers that the narrow parameters hold."""
    a = jnp.array([0.3, -1.7, 2.9], dtype)
    b = jnp.array([0.4, 1.1, 3.3], dtype)
    exact_a, exact_b = (np.asarray(p.astype(jnp.float32), np.float64) for p in (a, b))
    x = np.asarray(dist.gaussian(exact_a, exact_b).sample(KEY, 1)[0], np.float64)
    bits = np.array([True, False, True])
    table = dist.categorical(jnp.stack([a, b], axis=-1))
    rows = special.log_softmax(np.stack([exact_a, exact_b], axis=-1), axis=-1)
    matrix = np.diag(exact_b**2)
    for d, at, expected in (
        (dist.gaussian(a, b), x, stats.norm(exact_a, exact_b).logpdf(x).sum()),
        (dist.uniform(a, a + b), exact_a, -np.log(np.float32(a + b) - exact_a).sum()),
        (
            dist.bernoulli(a),
            bits,
            np.where(bits, log_sigmoid(exact_a), log_sigmoid(-exact_a)).sum(),
        ),
        (table, bits.astype(int), rows[np.arange(3), bits.astype(int)].sum()),
        (
            dist.gaussian(a, covariance=jnp.diag(b.astype(jnp.float32) ** 2)),
            x,
            stats.multivariate_normal(exact_a, matrix).logpdf(x),
        ),
        (dist.mixture([dist.gaussian(a, b)]), x, stats.norm(exact_a, exact_b).logpdf(x).sum()),
    ):
        found = d.log_prob(at)
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        drawn = d.sample(KEY, 2)
        assert drawn.dtype in (jnp.float32, jnp.int32, bool)


EVERY = {
    "gaussian": lambda a: dist.gaussian(a, 1.5),
    "covariance": lambda a: dist.gaussian(a, covariance=jnp.eye(2)),
    "uniform": lambda a: dist.uniform(a - 1, a + 2),
    "bernoulli": dist.bernoulli,
    "categorical": lambda a: dist.categorical(jnp.stack([a, -a], -1)),
    "mixture": lambda a: dist.mixture([dist.gaussian(a, 1.5), dist.gaussian(-a, 1.0)]),
}


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", EVERY)
@pytest.mark.sweep(4)
def test_jit_vmap_and_grad_see_the_same_distribution(name, double):
    """Of parameters that are known only at run time, too; and no type is weak."""
    with jax.enable_x64(double):
        make, a = EVERY[name], jnp.array([[0.3, -1.0], [0.0, 2.0], [-0.5, 0.1]])
        rtol = 1e-12 if double else 2e-6

        def both(key, a):
            x = make(a).sample(key, 3)
            return x, jax.vmap(make(a).log_prob)(x)

        keys = jax.random.split(KEY, 3)
        x, log_p = jax.jit(jax.vmap(both))(keys, a)
        assert not x.weak_type
        assert log_p.dtype == a.dtype
        for i in range(3):
            alone, log_alone = both(keys[i], a[i])
            np.testing.assert_allclose(x[i], alone, rtol=rtol, atol=rtol)
            np.testing.assert_allclose(log_p[i], log_alone, rtol=rtol)
        slope = jax.jit(jax.grad(lambda a: make(a).log_prob(x[0, 0])))(a[0])
        h, atol = (1e-6, 1e-8) if double else (1e-2, 1e-3)
        for i, step in enumerate(h * np.eye(2)):
            up, down = (float(make(a[0] + s).log_prob(x[0, 0])) for s in (step, -step))
            np.testing.assert_allclose(slope[i], (up - down) / (2 * h), atol=atol)


@pytest.mark.parametrize("kind", [bool, "int8", "uint8", "int32", "uint32", "float16", "float32"])
def test_bits_may_be_of_any_type(kind):
    bits = dist.bernoulli(jnp.array([0.3, -2.0]))
    binary = dist.categorical(jnp.array([[0.0, 0.3], [0.0, -2.0]]))
    for x in itertools.product((0, 1), repeat=2):
        found = [d.log_prob(jnp.asarray(x, kind)) for d in (bits, binary)]
        exactly = np.where(x, log_sigmoid([0.3, -2.0]), log_sigmoid([-0.3, 2.0])).sum()
        np.testing.assert_allclose(found, exactly, rtol=1e-6)


def test_the_tails_of_bits_keep_their_digits():
    """sigmoid(90) is 1 in float32: the rare side has a log-probability all the same."""
    logits = np.array([90.0, -90.0, 17.5, 1e-8], np.float32)
    bits = dist.bernoulli(logits)
    for x in itertools.product((0, 1), repeat=4):
        exactly = np.where(x, log_sigmoid(logits), log_sigmoid(-logits)).sum()
        np.testing.assert_allclose(bits.log_prob(np.array(x)), exactly, rtol=1e-6)
    common = dist.bernoulli(np.float32(30.0))
    np.testing.assert_allclose(common.log_prob(1), log_sigmoid(30.0), rtol=1e-6)  # -9e-14
    # Samplers with informed proposals ask for the gradient at bits: the difference of the states.
    slope = jax.grad(bits.log_prob)(jnp.array([1.0, 0.0, 0.0, 1.0]))
    np.testing.assert_allclose(slope, logits, rtol=1e-6, atol=1e-7)


OUTSIDE = [
    (dist.uniform(jnp.zeros(2), 1.0), [(0.5, 1.1), (-0.1, 0.5), (np.inf, 0.5)]),
    (dist.bernoulli(jnp.zeros(2)), [(0.5, 1.0), (2, 0), (-1, 0), (np.inf, 0.0)]),
    (dist.categorical(jnp.zeros((2, 2)), (-1, 1)), [(0, 1), (0.99, 1), (255, 1), (np.inf, 1)]),
    (dist.gaussian(jnp.zeros(2), 1.0), [(np.inf, 0.0), (1e30, 0.0)]),
]


@pytest.mark.parametrize(("d", "points"), OUTSIDE)
def test_outside_of_the_support_and_at_nan(d, points):
    """-inf outside, with a gradient of 0 in a mixture too; NaN is not hidden."""
    both = dist.mixture([d, d], [2.0, 1.0])
    for x in points:
        assert d.log_prob(jnp.array(x)) == -jnp.inf
        assert both.log_prob(jnp.array(x)) == -jnp.inf
    assert np.isnan(d.log_prob(jnp.array([np.nan, 1.0])))
    assert np.isnan(both.log_prob(jnp.array([np.nan, 1.0])))


def test_a_gradient_outside_of_every_component_is_no_nan():
    both = dist.mixture([dist.uniform(0.0, 1.0), dist.uniform(2.0, 3.0)])
    assert float(jax.grad(both.log_prob)(5.0)) == 0
    np.testing.assert_allclose(both.log_prob(2.5), np.log(0.5), rtol=1e-6)


def test_a_covariance_of_real_data_keeps_its_digits():
    """Condition 1e8: in float32 its Cholesky factor would have no digit."""
    basis, _ = np.linalg.qr(RNG.normal(size=(6, 6)))
    covariance = (basis * np.logspace(0, -8, 6)) @ basis.T
    d = dist.gaussian(jnp.zeros(6), covariance=covariance)
    root = np.linalg.cholesky(covariance)
    points = RNG.normal(size=(50, 6)).astype(np.float32) @ root.T.astype(np.float32)
    exactly = stats.multivariate_normal(np.zeros(6), covariance).logpdf(points.astype(np.float64))
    np.testing.assert_allclose(jax.vmap(d.log_prob)(points), exactly, atol=1e-3)


@pytest.mark.parametrize(
    "values", [(-1, 1), (0.1, 0.7), (False, True), np.array([0, 255], np.uint8), jnp.arange(2.0)]
)
def test_positions_have_the_type_of_the_values(values):
    d = dist.categorical(jnp.zeros((3, 2)), values)
    x = d.sample(KEY, 40)
    assert x.dtype == jnp.asarray(values).dtype
    assert not x.weak_type
    assert set(np.unique(x)) == set(np.asarray(jnp.asarray(values)).tolist())
    np.testing.assert_allclose(jax.vmap(d.log_prob)(x), -3 * np.log(2), rtol=1e-6)


def test_what_rounds_away_is_refused():
    """Parameters are checked in the type that they are computed in."""
    for make, message in (
        (lambda: dist.gaussian(0.0, 1e-50), "sigma, in float32, must be finite and > 0, got 0"),
        (lambda: dist.gaussian(1e300, 1.0), "mean, in float32, must be finite, got inf"),
        (lambda: dist.uniform(2**24, 2**24 + 1), "low must be below high"),
        (lambda: dist.uniform(-3e38, 3e38), "high - low finite in float32"),
        (lambda: dist.categorical(jnp.zeros(2), (0.1, 0.1 + 1e-12)), "must differ in float32"),
        (lambda: dist.categorical(jnp.zeros(2), (0, 2**32)), "integers that fit int32"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
    with jax.enable_x64(True):
        assert float(dist.uniform(2**24, np.float64(2**24 + 1)).log_prob(2.0**24)) == 0
        x = dist.categorical(jnp.zeros(2), (0, 2**32)).sample(KEY, 9)
        assert set(x.tolist()) == {0, 2**32}


def test_mixtures_draw_pytrees_and_only_of_one_kind():
    def tree(value):
        return Distribution(
            lambda key, num: {"u": jnp.full((num, 2), value), "c": jnp.full(num, int(value))},
            lambda x: jnp.where(jnp.all(x["u"] == value), 0.0, -jnp.inf),
        )

    both = dist.mixture([tree(1.0), tree(2.0)], [3.0, 1.0])
    x = both.sample(KEY, N)
    assert_frequencies(np.asarray(x["c"]) - 1, [0.75, 0.25])
    np.testing.assert_array_equal(x["u"], np.repeat(np.asarray(x["c"])[:, None], 2, axis=1))
    one = jax.tree.map(lambda leaf: leaf[0], tree(2.0).sample(KEY, 1))
    np.testing.assert_allclose(both.log_prob(one), np.log(0.25), rtol=1e-6)
    mixed = dist.mixture([dist.bernoulli(jnp.zeros(2)), dist.gaussian(jnp.zeros(2), 1.0)])
    with pytest.raises(ValueError, match=r"one structure, shape and type, got bool\(2,\), float32"):
        mixed.sample(KEY, 3)


def test_a_distribution_of_numpyro_in_one_line():
    numpyro = pytest.importorskip("numpyro")
    d = numpyro.distributions.MultivariateNormal(MEAN, COVARIANCE)
    theirs = Distribution(lambda key, num: d.sample(key, (num,)), d.log_prob)
    assert_same(theirs, dist.gaussian(MEAN, covariance=COVARIANCE))


def test_a_distribution_of_distrax_in_one_line():
    distrax = pytest.importorskip("distrax")
    d = distrax.MultivariateNormalFullCovariance(jnp.asarray(MEAN), jnp.asarray(COVARIANCE))
    theirs = Distribution(lambda key, num: d.sample(seed=key, sample_shape=(num,)), d.log_prob)
    assert_same(theirs, dist.gaussian(MEAN, covariance=COVARIANCE))


def assert_same(theirs, ours):
    """And theirs is a component like ours."""
    x = theirs.sample(KEY, N)
    assert_moments(x, MEAN, np.outer(MEAN, MEAN) + COVARIANCE)
    exactly = jax.vmap(ours.log_prob)(x)
    np.testing.assert_allclose(jax.vmap(theirs.log_prob)(x), exactly, rtol=1e-4, atol=1e-5)
    both = dist.mixture([theirs, ours])
    np.testing.assert_allclose(jax.vmap(both.log_prob)(x), exactly, rtol=1e-4, atol=1e-5)
    assert both.sample(KEY, 3).shape == (3, 2)


ORIGIN, NOT_A_NUMBER = jnp.zeros(2), jnp.nan * jnp.eye(2)
NOT_SYMMETRIC, NOT_DEFINITE = jnp.array([[1.0, 2.0], [-2.0, 1.0]]), (jnp.ones((2, 2)), -jnp.eye(2))


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (None, "sigma and covariance must be given, got nei"),
        *((bad, r"\bcovariance\b") for bad in ("three", object(), 1j, [[1.0], []])),
        *((bad, "covariance must be sym") for bad in (*NOT_DEFINITE, NOT_SYMMETRIC, NOT_A_NUMBER)),
        *((bad, r"be \(d, d\)") for bad in (1.0, jnp.ones(2), jnp.eye(3))),
    ],
)
def test_a_bad_covariance_is_refused(covariance, message):
    with pytest.raises((TypeError, ValueError), match=message):
        dist.gaussian(ORIGIN, covariance=covariance)


def test_a_covariance_needs_a_vector_as_mean():
    with pytest.raises(ValueError, match=r"covariance must be \(d, d\)"):
        dist.gaussian(ORIGIN[None], covariance=jnp.eye(2))
