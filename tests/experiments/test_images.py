"""The main job: its energy and chains are what they say; it runs, refuses and reports."""

import base64
import io
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from PIL import Image

import ebm_jax
from experiments import losses_by_name
from experiments.data import image_sets, minibatches, splits
from experiments.images import (
    chains,
    flow,
    loading,
    measures,
    network,
    objective_terms,
    report,
    sampling,
    training,
)
from experiments.run.checkpoints import write_parameters

QUICK = (
    "--steps=3",
    "--flow_steps=4",
    "--generative=energy_matching",
    "--hidden=8",
    "--langevin_steps=2",
    "--sample_steps=10",
    "--chains=16",
    "--buffer_size=128",
    "--betas=3",
)


def test_chains_keep_the_proportions_of_the_classes():
    labels = chains.proportions(np.repeat([2, 0, 1], [10, 60, 30]), 200)
    assert np.bincount(labels).tolist() == [120, 60, 20]
    initial = chains.from_noise(labels, 64, None)
    start = initial(None, jax.random.key(0), jnp.arange(200))
    np.testing.assert_array_equal(start["y"], labels)
    assert start["x"].shape == (200, 64)
    again = initial(None, jax.random.key(1), jnp.array([0, 199]))
    assert again["y"].tolist() == [0, 2]


def test_chains_start_at_the_images_of_their_slots():
    x = np.arange(12.0).reshape(4, 3)
    start = chains.from_images(np.arange(4), x, None)(None, jax.random.key(0), jnp.array([2]))
    assert start["x"].tolist() == [[6, 7, 8]]
    assert start["y"].tolist() == [2]


SAMPLERS = [("mala", False), ("mala", True), ("baoab", False)]  # with a flow before, or not


def small(noise=0.1, **options):
    """A model of 3 classes of 64 pixels, and parameters of it."""
    grey = np.full((3, 64), 0.5, np.float32)
    model = network.make_model(grey, (8, 8), 3, 8, noise, **options)
    return model, jax.jit(model.init)(jax.random.key(0))


@pytest.mark.parametrize("shape", [(3, 3), (5, 4), (6, 5, 3)])
@pytest.mark.sweep(1)
def test_a_convolution_is_a_dense_layer_of_shared_weights(shape):
    """F by a loop over positions in NumPy, and its gradient in the weights that are trained."""
    rng = np.random.default_rng(0)
    x = rng.random((2, *shape)).astype(np.float32)
    flat = x.reshape(2, -1)
    model = network.make_model(flat, shape, 2, 7, 1.0, channels=[3])
    params = jax.jit(model.init)(jax.random.key(0))
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), params)
    layer, *rest = (params["params"][f"Dense_{i}"] for i in range(3))
    assert layer["kernel"].shape == (3, 3, x[0].size // (shape[0] * shape[1]), 3)

    def silu(h):
        return h / (1 + np.exp(-h))

    def energies(kernel, image):
        image = image.reshape(*shape[:2], -1).astype(np.float64)
        rows, columns = shape[0] - 2, shape[1] - 2
        taps = [
            np.einsum("abc,abcd->d", 4 * (image[i : i + 3, j : j + 3] - 0.5), kernel)
            for i in range(rows)
            for j in range(columns)
        ]
        h = silu(np.concatenate([t + layer["bias"] for t in taps]))
        for number, dense in enumerate(rest):
            h = h @ dense["kernel"].astype(np.float64) + dense["bias"]
            h = h if number else silu(h)
        spread = (image.ravel() - flat.mean(0)) ** 2 / (flat.var(0) + 1)
        return h + spread.sum() / 2

    @jax.jit
    def classes(params, x):
        return jax.vmap(model.classes, (None, 0))(model.dense(params), x)

    found = classes(params, flat)
    expected = [energies(layer["kernel"].astype(np.float64), image) for image in flat]
    np.testing.assert_allclose(found, expected, rtol=1e-5)

    slope = jax.jit(jax.grad(lambda params: classes(params, flat)[0, 1]))(params)["params"][
        "Dense_0"
    ]["kernel"]
    for at in [(0, 0, 0, 0), (2, 1, 0, 2), (1, 2, 0, 1)]:
        step = np.zeros(layer["kernel"].shape)
        step[at] = 1e-4
        sides = [energies(layer["kernel"] + sign * step, flat[0])[1] for sign in (1, -1)]
        np.testing.assert_allclose(slope[at], (sides[0] - sides[1]) / 2e-4, rtol=1e-3, atol=1e-5)


def test_the_weights_of_a_dense_layer_are_those_of_the_convolution_to_the_bit():
    """At its places; nothing else leads anywhere, and its bias is every place's."""
    model, params = small(channels=[5])
    layer = params["params"]["Dense_0"]
    layer["bias"] = np.arange(5, dtype=np.float32)
    dense = model.dense(params)["params"]["Dense_0"]
    expected = np.zeros((8, 8, 6, 6, 5), np.float32)
    for row, column in np.ndindex(6, 6):
        expected[row : row + 3, column : column + 3, row, column] = layer["kernel"][:, :, 0]
    np.testing.assert_array_equal(dense["kernel"], expected.reshape(64, -1))
    np.testing.assert_array_equal(dense["bias"], np.tile(layer["bias"], 36))


@pytest.mark.parametrize("channels", [(), (3,), (3, 4)])
@pytest.mark.parametrize("flows", [False, True])
@pytest.mark.sweep(2)
def test_the_energies_of_a_class_are_raised(channels, flows):
    """The derivatives agree everywhere, in the parameters and in the inputs of the energies."""
    model, params = small(channels=channels, flows=flows)
    x = jax.random.uniform(jax.random.key(1), (7, 64))
    levels = np.array([1.5, -3.0, 0.25], np.float32)

    @jax.jit
    def differences(params):
        raised = (
            model.dense(model.raised(params, levels)),
            model.raised(model.dense(params), levels),
        )
        before, *higher = (
            jax.vmap(model.classes, (None, 0))(p, x) for p in (model.dense(params), *raised)
        )
        return [each - before for each in higher]

    for found in differences(params):
        np.testing.assert_allclose(found, np.tile(levels, (7, 1)), atol=2e-4)


def test_what_is_trained_is_the_weighted_sum_of_the_terms():
    """Of the dense parameters, but its gradient is in those that are trained."""
    model, params = small(channels=[3])
    x = jax.random.uniform(jax.random.key(1), (6, 64))
    y = np.array([0, 1, 2, 2, 1, 0])
    terms = objective_terms.discriminative(model, ebm_jax.losses.nll) | objective_terms.matching(
        model, flow_weight=0.3, denoising_weight=0.0, data_noise=0.1
    )
    objective = objective_terms.trained(model, terms)
    batch = {"labelled": (x, y), "flow": {"z": 2 * x - 1, "y": y}}

    @jax.jit
    def value(params):
        state = objective.init(params, jax.random.key(2))
        loss, (_, metrics) = objective.loss(params, state, batch, jax.random.key(3))
        return loss, metrics

    @jax.jit
    def classes(params):
        return jax.vmap(model.classes, (None, 0))(model.dense(params), x)

    loss, metrics = value(params)
    total = metrics["discriminative/loss"] + 0.3 * metrics["matching/loss"]
    np.testing.assert_allclose(loss, total, rtol=1e-6)
    energies = np.asarray(classes(params), np.float64)
    right = np.logaddexp.reduce(-energies, axis=1) + energies[np.arange(6), y]
    np.testing.assert_allclose(metrics["discriminative/loss"], right.mean(), rtol=1e-5)
    slope = jax.jit(jax.grad(value, has_aux=True))(params)[0]["params"]["Dense_0"]["kernel"]
    kernel = params["params"]["Dense_0"]["kernel"]
    moved = [
        params
        | {"params": params["params"] | {"Dense_0": params["params"]["Dense_0"] | {"kernel": k}}}
        for k in (kernel.at[1, 2, 0, 1].add(0.02), kernel.at[1, 2, 0, 1].add(-0.02))
    ]
    np.testing.assert_allclose(
        slope[1, 2, 0, 1], (value(moved[0])[0] - value(moved[1])[0]) / 0.04, rtol=0.02
    )


def test_the_joint_energy_is_bounded_by_its_reference():
    """Far from the data the energy grows like the Gaussian's, for every network."""
    model, params = small()
    far = model.classes(params, jnp.full(64, 10.0))
    np.testing.assert_allclose(far, 0.5 * 64 * 9.5**2 / 0.1**2, rtol=0.01)
    joint = model.joint(params, {"x": jnp.zeros(64), "y": 2})
    np.testing.assert_allclose(joint, model.classes(params, jnp.zeros(64))[2])


@pytest.mark.parametrize("channels", [(), (3,), (3, 4)])
@pytest.mark.sweep(1)
def test_a_lower_precision_is_that_of_the_products_alone(channels):
    """The energy stays float32, near that of full precision and not the same."""
    model, params = small(channels=channels)
    rough, _ = small(channels=channels, precision="bfloat16")
    x = jax.random.uniform(jax.random.key(1), (64,))
    exact, found = jax.jit(lambda p: [m.classes(m.dense(p), x) for m in (model, rough)])(params)
    assert found.dtype == jnp.float32
    of_network = exact - ebm_jax.energies.gaussian(model.reference, x)
    assert 0 < np.abs(exact - found).max() < 2**-6 * np.abs(of_network).max()


def test_several_convolutions_are_those_of_xla():
    """(height, width, colours), the last two of three halving the resolution; times the scale."""
    shape, widths = (20, 18, 3), [2, 3, 4]
    x = np.asarray(jax.random.uniform(jax.random.key(1), (2, 1080)))
    model = network.make_model(x, shape, 5, 7, 0.5, channels=widths, flows=True)
    params = jax.jit(model.init)(jax.random.key(0))
    layers = params["params"]
    assert layers["Dense_0"]["kernel"].shape == (5 * 5 * 4, 7)
    assert model.dense(params) is params

    image = 4 * (x[:1].reshape(1, *shape) - 0.5)
    for number, stride in enumerate((1, 2, 2)):
        layer = layers[f"Conv_{number}"]
        image = jax.lax.conv_general_dilated(
            image,
            layer["kernel"],
            (stride, stride),
            "SAME",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )
        image = jax.nn.silu(image + layer["bias"])
    hidden = jax.nn.silu(image.ravel() @ layers["Dense_0"]["kernel"] + layers["Dense_0"]["bias"])
    of_network = hidden @ layers["Dense_1"]["kernel"] + layers["Dense_1"]["bias"]
    spread = ((x[0] - x.mean(0)) ** 2 / (x.var(0) + 0.25)).sum()
    expected = of_network / flow.SCALE + spread / 2
    np.testing.assert_allclose(model.classes(params, x[0]), expected, rtol=1e-5)


def test_the_flow_is_the_descent_of_its_potential():
    """A Gaussian alone: z <- z - h c z, in the coordinates of images; by hand in NumPy."""
    model, params = small(noise=0.5)
    params = jax.tree.map(jnp.zeros_like, params)
    labels = np.zeros(500, int)
    x = sampling.starts(jax.random.key(0), model, params, labels, 0.0)
    pull = flow.SCALE * flow.NOISE**2 / 0.5**2
    deviation = flow.NOISE * (1 - pull / flow.STEPS) ** 100
    # 32,000 numbers: four standard errors of mean and deviation.
    assert abs(x.mean() - 0.5) < 4 * deviation / 32_000**0.5
    assert x.std() == pytest.approx(deviation, rel=4 / 64_000**0.5)
    noisy = sampling.starts(jax.random.key(0), model, params, labels, 0.3)
    assert (noisy - x).std() == pytest.approx(0.3, rel=4 / 64_000**0.5)


def test_what_is_known_goes_straight_and_the_rest_follows_it():
    """V pulls a hidden pixel to the known one: z <- z - h k (z - known on its way); in NumPy."""

    def energy(x, strength):
        return strength * (x[1] - x[0]) ** 2 / 2

    known, strength = np.array([[0.9, 7.0], [0.2, 7.0]], np.float32), np.array([30.0, 60.0])
    hidden = np.array([False, True])
    x, frames = flow.carry(
        jax.random.key(0), energy, jnp.asarray(known), hidden, jnp.asarray(strength)
    )
    assert frames.shape == (flow.FRAMES + 1, 2, 2)
    np.testing.assert_array_equal(frames[-1], x)
    noise = np.asarray(frames[0], np.float64)
    assert noise.std() > 0.1
    pull = flow.SCALE * flow.NOISE**2 * strength / 100
    at, moved = noise[:, 0], noise[:, 1]
    for t in np.arange(1, 101) / 100:
        at, moved = (1 - t) * noise[:, 0] + t * known[:, 0], moved - pull * (moved - at)
        if round(100 * t) == 50:
            np.testing.assert_allclose(frames[10], np.stack([at, moved], 1), rtol=1e-5)
    np.testing.assert_allclose(x, np.stack([known[:, 0], moved], 1), rtol=1e-5)


def test_flow_and_images_have_one_scale():
    """What the flow sees of images is what its potential takes for them."""
    model, params = small()
    x = np.linspace(0, 1, 64, dtype=np.float32)[None]
    batch = flow.batch(x, np.array([1]))
    one = jax.tree.map(lambda leaf: leaf[0], batch)
    found = flow.energy(model.joint)(params, one)
    expected = flow.SCALE * model.joint(params, {"x": x[0], "y": 1})
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_guidance_is_a_power_of_the_class_given_the_image():
    """exp(-E) over p(x) P(y | x)^w is one number, for all images and classes; by NumPy."""
    model, params = small()
    x = np.asarray(jax.random.uniform(jax.random.key(2), (5, 64)))
    energies = np.asarray(jax.vmap(model.classes, (None, 0))(params, x), np.float64)
    shift = energies.min()
    joint = np.exp(shift - energies)
    marginal = joint.sum(axis=1, keepdims=True)
    for power in (0.0, 1.0, 2.5):
        at = sampling.guided(model, params, power)
        each = jax.vmap(jax.vmap(at, ({"x": None, "y": 0},)), ({"x": 0, "y": None},))
        found = jax.jit(each)({"x": x, "y": jnp.arange(3)})
        expected = shift - np.log(marginal * (joint / marginal) ** power)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("guidance", [0.0, 0.5, 1.0, 2.5])
def test_guided_energies_may_be_infinite(guidance):
    """-log p(x) P(y | x)^w by its limit: 10^7 in place of inf, -2,000 of -inf."""
    inf = np.inf
    rows = [[0.0, inf, 1.0], [inf, inf, 1.0], [inf] * 3, [-inf, 0.0, 1.0], [-inf, -inf, inf]]
    model = network.Model(*[None] * 6)._replace(classes=lambda params, x: x)
    guided = sampling.guided(model, None, guidance)
    for row in np.array(rows, np.float32):
        found = np.array([guided({"x": jnp.asarray(row), "y": y}) for y in range(3)])
        finite = np.where(row == inf, 1e7, np.where(row == -inf, -2e3, row)).astype(np.float64)
        total = np.logaddexp.reduce(-finite)
        expected = -total + guidance * (finite + total)
        far = np.abs(expected) > 500
        np.testing.assert_array_equal(found[far], np.sign(expected[far]) * inf)
        np.testing.assert_allclose(found[~far], expected[~far], rtol=1e-5)


@pytest.mark.parametrize(("sampler", "flows"), SAMPLERS)
@pytest.mark.sweep(1)
def test_images_of_a_class_are_drawn_from_its_energy_and_denoised(sampler, flows):
    """A Gaussian at a level of each class; a quarter of its deviation is taken for noise.

    Fixed key; 100 chains x 64 pixels a class: four standard errors.
    """
    noise, spread, levels = 0.05, 0.1, jnp.array([0.35, 0.6])

    def classes(params, x):
        return jnp.sum((x - levels[:, None]) ** 2, axis=1) / (2 * params**2)

    def joint(params, c):
        return classes(params, c["x"])[c["y"]]

    reference = ebm_jax.energies.Gaussian(jnp.zeros(64), jnp.ones(64))
    model = network.Model(reference, classes, joint, None, None, None, flows)
    labels = np.repeat([0, 1], 100)
    found = sampling.generate(
        jax.random.key(0),
        model,
        jnp.float32(spread),
        labels,
        make_sampler=chains.sampler_named(sampler, 0.002),
        sample_steps=400,
        sample_beta=1.0,
        guidance=1.0,
        data_noise=noise,
    )
    assert found.images.shape == (200, 64)
    assert found.film.shape == (40 + (flow.FRAMES if flows else 0) + 1, 200, 64)
    np.testing.assert_array_equal(found.film[-1], found.images)
    for label, level in enumerate(levels):
        drawn = found.images[labels == label]
        assert drawn.mean() == pytest.approx(float(level), abs=4 * 0.075 / 80)
        assert drawn.std() == pytest.approx(0.75 * spread, rel=4 / 12_800**0.5)
        first = found.film[0][labels == label]  # of no class, half black and white, or even
        assert first.mean() == pytest.approx(0.5, abs=4 * 0.4 / 80)
        assert first.std() > 0.28


@pytest.mark.parametrize(("sampler", "flows"), SAMPLERS)
@pytest.mark.sweep(1)
def test_inpainting_draws_the_hidden_pixels_given_those_of_its_own_image(sampler, flows):
    """Each hidden pixel is N(a known one, 0.1^2); half of that variance is left when denoised.

    What is known has noise too. Fixed key; 400 chains x 32 pixels: four standard errors.
    """
    noise, spread = 0.1 / 2**0.5, 0.1

    def classes(params, x):
        energy = jnp.sum((x[32:] - x[:32]) ** 2) / (2 * spread**2)
        return jnp.stack([energy, energy + 3])

    model = network.Model(None, classes, None, None, None, None, flows)
    x = np.repeat(np.repeat(np.array([[0.4], [0.6]], np.float32), 64, axis=1), 200, axis=0)
    make_sampler = chains.sampler_named(sampler, 0.005)
    options = {"make_sampler": make_sampler, "sample_steps": 200, "sample_beta": 1.0}
    options |= {"guidance": 2.0, "data_noise": noise}  # the classes are equally likely everywhere
    hidden, steps = np.arange(64) >= 32, []
    found, by_flow = sampling.inpaint(
        jax.random.key(0), model, None, x, hidden, **options, advance=steps.append
    )
    assert sum(steps) == 200
    assert (by_flow is None) is not flows
    for completed in (found, by_flow) if flows else (found,):
        assert completed.shape == (400, 64)
        np.testing.assert_allclose(completed[:, :32], x[:, :32], atol=1e-6)
    drawn = (found - x)[:, 32:]
    deviation = (noise**2 + (spread / 2) ** 2) ** 0.5
    np.testing.assert_allclose(drawn.mean(), 0, atol=4 * deviation / 12_800**0.5)
    np.testing.assert_allclose(drawn.std(), deviation, rtol=4 / 25_600**0.5)


def test_the_energies_of_the_flow_are_those_of_the_classes_at_beta():
    """Two Gaussian classes, in closed form: -grad V = E[z_1 - z_0 | z_t, y], and P(y | z_t)."""
    rng = np.random.default_rng(0)
    means, spread = rng.normal(size=(2, 3)), 0.4
    for t in (0.1, 0.4, 0.7):  # beyond 0.77, beta is 1
        z, variance = rng.normal(size=3), (1 - t) ** 2 + (t * spread) ** 2
        residual = z - t * means
        velocity = means + (t * spread**2 - (1 - t)) / variance * residual
        score = -residual / variance  # grad log p(z_t | y)
        slope = -velocity / flow.SCALE  # grad F in z
        found = -float(flow.beta(t)) * (slope[0] - slope[1])
        np.testing.assert_allclose(found, score[0] - score[1], rtol=1e-5)
    assert float(flow.beta(0.0)) == 0
    assert float(flow.beta(0.9)) == float(flow.beta(1.0)) == 1


def test_the_class_of_a_completion_is_drawn_given_the_known_pixels_alone():
    """F(x, y) = a_y . x and known pixels of the mean 1/4: P(y) in closed form.

    The a_y of hidden pixels have the sum 0, except that of the last class, which the mean 1/2 of
    the noise raises. Fixed key; 4,000 images: four standard errors, plus those of the noise.
    """
    a = np.zeros((3, 64), np.float32)
    a[0, :32], a[1, :32], a[2, 32:] = 0.2, 0.1, 0.02
    model = network.Model(*[None] * 6)._replace(classes=lambda params, x: jnp.asarray(a) @ x)
    x = np.full((4000, 64), 0.25, np.float32)
    hidden = np.arange(64) >= 32
    energies = np.array([32 * 0.2 / 4, 32 * 0.1 / 4, 32 * 0.02 / 2])
    expected = np.exp(-energies) / np.exp(-energies).sum()
    x[:, hidden] = np.nan  # must not be used
    found = sampling.classes_of_known(jax.random.key(0), model, None, jnp.asarray(x), hidden)
    rates = np.bincount(found, minlength=3) / 4000
    np.testing.assert_allclose(rates, expected, atol=4 * 0.5 / 4000**0.5)


def test_a_completion_is_an_image_of_its_class():
    """Classes are Gaussian at 0.3 and 0.7 in all pixels; known pixels tell which class."""
    levels = jnp.array([0.3, 0.7])

    def classes(params, x):
        return jnp.sum((x - levels[:, None]) ** 2, axis=1) / (2 * 0.1**2)

    model = network.Model(None, classes, None, None, None, None, True)
    x = np.repeat([[0.3], [0.7]], 64, axis=1).astype(np.float32)
    hidden = np.arange(64) >= 32
    given = np.where(hidden, np.nan, x)  # the hidden pixels must not be used
    found, by_flow = sampling.inpaint(
        *(jax.random.key(0), model, None, given, hidden),
        make_sampler=chains.sampler_named("mala", 0.005),
        **{"sample_steps": 100, "sample_beta": 1.0, "guidance": 2.0, "data_noise": 0.05},
    )
    for completed in (found, by_flow):
        means = completed[:, hidden].mean(axis=1)
        np.testing.assert_allclose(means, [0.3, 0.7], atol=4 * 0.1 / 32**0.5)


def test_the_classes_of_images_on_the_way_from_noise():
    """Images between noise and data, whose negative log-likelihood is at beta of their time.

    One image of eight has known pixels first and noise after them: images of 10^6 show which.
    """
    x, y = np.full((500, 64), 0.9, np.float32), np.arange(500) % 3
    bright, _ = flow.on_the_way(np.random.default_rng(0), np.full_like(x, 1e6), y)
    at, labels = flow.on_the_way(np.random.default_rng(0), x, y)
    np.testing.assert_array_equal(labels, y)
    t = at["t"].astype(np.float64)
    assert t.min() > 0
    assert t.mean() == pytest.approx(0.5, abs=4 * (1 / 12 / 500) ** 0.5)
    known = bright["x"] > 100
    count = known.sum(axis=1)
    np.testing.assert_array_equal(known, np.arange(64) < count[:, None])
    whole = count == 64  # seven of eight, and of the others one in 64 by rounding
    assert whole.mean() == pytest.approx(7 / 8, abs=4 * (7 / 64 / 500) ** 0.5)
    assert count[~whole].mean() / 64 == pytest.approx(0.5, abs=4 * (1 / 12 / (~whole).sum()) ** 0.5)
    early = known & (t < 0.8)[:, None]  # later, rounding errors are divided by little
    from_data = ((at["x"] - t[:, None] * x) / (1 - t[:, None]))[early]
    for noise in (from_data, at["x"][~known]):
        assert noise.mean() == pytest.approx(0.5, abs=4 * flow.NOISE / noise.size**0.5)
        assert noise.std() == pytest.approx(flow.NOISE, rel=4 / (2 * noise.size) ** 0.5)

    model, params = small(channels=[3])
    ((weight, term, of),) = objective_terms.discriminative_on_the_way(model).values()
    assert weight == 1

    @jax.jit
    def value(params):
        dense = model.dense(params)
        loss, _ = term.loss(dense, (), of({"on_the_way": (at, y)}), jax.random.key(0))
        return loss, jax.vmap(model.classes, (None, 0))(dense, at["x"])

    loss, energies = value(params)
    beta = np.minimum(1, flow.SCALE * t / (1 - t))[:, None]
    energies = beta * np.asarray(energies, np.float64)
    right = np.logaddexp.reduce(-energies, axis=1) + energies[np.arange(500), y]
    np.testing.assert_allclose(loss, right.mean(), rtol=1e-5)


def test_the_noise_of_a_batch_is_its_own():
    """Fresh at every number, the same when asked again, of the stated size, and not the order's."""
    split = splits.digits()
    batch = training.batches(split, data_noise=0.5, seed=3)
    first, second = batch(0), batch(1)
    again = training.batches(split, data_noise=0.5, seed=3)(1)
    assert jax.tree.all(jax.tree.map(np.array_equal, again, second))
    clean = minibatches.batches((split.train_x, split.train_y), batch_size=training.BATCH, seed=3)
    noise = []
    for number, found in enumerate((first, second)):
        x, y = clean(number)
        np.testing.assert_array_equal(found["configuration"]["y"], y)
        np.testing.assert_array_equal(found["labelled"][1], y)
        noise += [found["configuration"]["x"] - x, found["labelled"][0] - x]
    most = training.CLASSIFIER_NOISE
    for values, size in zip(noise, (0.5, most / 3**0.5) * 2, strict=True):
        assert values.std() == pytest.approx(size, rel=0.1)
    amounts = noise[1].std(axis=1)  # an image's own
    assert amounts.min() < 0.1 * most
    assert 0.9 * most < amounts.max() < 1.4 * most
    correlations = np.corrcoef([values.ravel() for values in noise])
    assert np.abs(correlations - np.eye(4)).max() < 0.05  # 6 standard deviations


def test_flow_and_classifier_see_the_same_images():
    """Those of the flow are the first of the classifier's, without noise; all in new orders."""
    split = splits.digits()
    batch = training.flow_batches(split, seed=3)
    found, again = batch(2), training.flow_batches(split, seed=3)(2)
    assert jax.tree.all(jax.tree.map(np.array_equal, found, again))
    clean, (x, y) = found["clean"], found["labelled"]
    num = training.DENOISED_BATCH
    assert (len(clean["x"]), len(y)) == (num, training.BATCH_BESIDE_FLOW)
    np.testing.assert_array_equal(clean["y"], y[:num])
    assert len(found["flow"]["y"]) == training.FLOW_BATCH
    np.testing.assert_array_equal(found["flow"]["y"], y[: training.FLOW_BATCH])
    z = found["flow"]["z"]
    np.testing.assert_allclose(0.5 + flow.NOISE * z[:num], clean["x"], atol=1e-6)
    real = {image.tobytes() for image in split.train_x}
    assert all(image.tobytes() in real for image in clean["x"])
    assert 0 < np.abs(x[:num] - clean["x"]).max() < 6 * training.CLASSIFIER_NOISE


def test_chains_beside_the_flow_have_batches_of_both():
    """What only one takes is its own, and the classifier sees the larger one's images."""
    split = splits.digits()
    found = training.refining_batches(split, 0.5, seed=3)(2)
    flow = training.flow_batches(split, seed=3)(2)
    noisy = training.batches(split, 0.5, seed=3)(2)
    assert set(found) == {"flow", "clean", "labelled", "on_the_way", "configuration"}
    of_flow = ("flow", "clean", "on_the_way")
    for name, parts in (*((name, flow) for name in of_flow), ("labelled", noisy)):
        assert jax.tree.all(jax.tree.map(np.array_equal, found[name], parts[name]))
    assert jax.tree.all(
        jax.tree.map(np.array_equal, found["configuration"], noisy["configuration"])
    )


def pictures(page):
    """Return the pictures that a page holds, opened."""
    found = re.findall(r'src="data:image/(?:png|gif);base64,([^"]+)"', page)
    return [Image.open(io.BytesIO(base64.b64decode(text))) for text in found]


def finished(capsys, folder):
    """Return what a program printed last, which is what it wrote."""
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return summary


@pytest.mark.slow
def test_a_short_run_writes_everything(program, tmp_path, capsys):
    digits = program("digits", *QUICK, f"--workdir={tmp_path}", "--hold_out_class=4")
    digits.main()
    summary = finished(capsys, tmp_path)
    for name in ("accuracy", "auroc_noise", "auroc_shuffled", "auroc_inverted", "auroc_held_out"):
        assert 0 <= summary[name] <= 1
    assert set(summary) == {*measures.MEASURES, "alarms", "report", "seconds_by_phase"}
    phases = {"training", "likelihood", "samples", "judge", "measures", "figures"}
    assert set(summary["seconds_by_phase"]) == phases
    assert summary["completions"] == 9 * 33
    assert all(np.isfinite(summary[name]).all() for name in measures.MEASURES)
    low, high = summary["nats_interval"]
    assert low <= summary["nats"] <= high
    assert (tmp_path / "samples.png").stat().st_size > 5000
    assert (tmp_path / "overview.png").stat().st_size > 20_000
    lines = [
        json.loads(line)
        for line in (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert lines[-1]["step"] == 3
    assert {"generative/energy_gap", "matching/loss_field"} <= set(lines[-1])
    assert any(line["step"] == 4 and "flow/matching/loss_field" in line for line in lines)
    assert "--hold_out_class=4" in (tmp_path / "flags.txt").read_text(encoding="utf-8")
    (events,) = (tmp_path / "tensorboard").glob("events*")
    for name in (b"generative/energy_gap", b"samples", b"free_energy/held_out"):
        assert name in events.read_bytes()
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert summary["report"] == str(tmp_path / "report.html")
    assert not re.search(r'(src|href)="(?!data:)|url\(|@import|<script|\$[a-z]', page)  # all inside
    film, *_ = shown = pictures(page)
    assert [picture.size for picture in shown[:3]] == [(160, 90)] * 3
    assert len(shown) == page.count("<img") == 8
    assert film.format == "GIF"
    assert film.n_frames == 31  # noise, the flow, and each of ten steps
    assert f"<td>{summary['auroc_held_out']:.4g}</td>" in page
    assert "--hold_out_class=4" in page


@pytest.mark.slow
def test_without_chains_the_flow_leaves_the_weights_and_draws_more(program, tmp_path, capsys):
    given = ("--steps=0", "--denoising_weight=0.1", "--samples=20", "--betas=0")
    program("images", *QUICK, *given, f"--workdir={tmp_path / 'a'}").main()
    first = finished(capsys, tmp_path / "a")
    assert not {"effective_beta", "nats"} & set(first)
    lines = (tmp_path / "a" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    (row,) = map(json.loads, lines)
    assert row["step"] == 4
    assert row["denoising/loss"] > 0
    draws = (f"--sample_from={tmp_path / 'a'}", f"--workdir={tmp_path / 'b'}", "--samples=23")
    program("images", *draws, "--sample_beta=0.5", "--seed=7").main()
    assert finished(capsys, tmp_path / "b")["samples"] == 23
    drawn = np.load(tmp_path / "b" / "samples.npz")
    assert drawn["images"].shape == (23, 64)
    assert np.bincount(drawn["labels"]).tolist() == [3] * 3 + [2] * 7
    before, after = (
        set((tmp_path / f / "flags.txt").read_text(encoding="utf-8").split()) for f in "ab"
    )
    assert {flag.split("=")[0] for flag in after - before} == {
        "--sample_from",
        "--samples",
        "--sample_beta",
        "--seed",
    }
    energy, params, prepared, _ = loading.load(tmp_path / "a")
    assert np.isfinite(energy(params, {"x": jnp.zeros(64), "y": 0}))
    assert prepared.images.classes == [str(d) for d in range(10)]


@pytest.fixture
def finished_run(tmp_path):
    """The folder of a run that could have finished: its flags, its weights, its summary."""
    _, params = run_model()
    (tmp_path / "run").mkdir()
    write_parameters(tmp_path / "run" / "parameters.npz", params)
    (tmp_path / "run" / "summary.json").write_text("{}", encoding="utf-8")
    flags = {
        **{"data": "digits", "hold_out_class": -1, "hidden": 8, "channels": "", "steps": 5},
        **{"precision": "float32", "generative": "energy_matching", "data_noise": 0.2},
        **{"flow_steps": 7, "learning_rate": 0.25, "guidance": 3.0, "samples": 12, "seed": 5},
    }
    text = "".join(f"--{name}={value}\n" for name, value in flags.items())
    (tmp_path / "run" / "flags.txt").write_text(text, encoding="utf-8")
    return tmp_path / "run"


def run_model():
    images = image_sets.load("digits")
    options = {"channels": (), "precision": "float32", "generative": "energy_matching"}
    model = network.model_of(images, hidden=8, data_noise=0.2, **options)
    return model, model.init(jax.random.key(9))


def test_training_goes_on_from_a_finished_run(program, finished_run, tmp_path, monkeypatch):
    """At its weights, by its flags but for those given; the flow is left out where that is said."""
    begun = []

    def fit(run, name, objective, params, *rest, steps, learning_rate, **options):
        begun.append((name, params, steps, learning_rate))
        raise InterruptedError

    images = program("images", f"--init_from={finished_run}", f"--workdir={tmp_path / 'a'}")
    monkeypatch.setattr(images.pipeline.training, "fit", fit)
    with pytest.raises(InterruptedError):
        images.main()
    given = (f"--init_from={finished_run}", f"--workdir={tmp_path / 'b'}", "--steps=9")
    images = program("images", *given, "--flow_steps=0", "--learning_rate=0.125")
    monkeypatch.setattr(images.pipeline.training, "fit", fit)
    with pytest.raises(InterruptedError):
        images.main()
    _, weights = run_model()
    assert [(name, steps) for name, _, steps, _ in begun] == [("flow", 7), ("", 9)]
    assert [rate for *_, rate in begun] == [3e-3, 0.125]
    for _, params, *_ in begun:
        assert jax.tree.all(jax.tree.map(np.array_equal, params, weights))
    written = (tmp_path / "b" / "flags.txt").read_text(encoding="utf-8").splitlines()
    assert {"--guidance=3.0", "--samples=12", "--seed=0", "--steps=9"} <= set(written)
    assert f"--init_from={finished_run}" in written


def test_more_steps_in_the_same_folder_are_another_run(program, finished_run):
    images = program("images", f"--workdir={finished_run}", "--steps=9")
    with pytest.raises(image_sets.UsageError, match=f"--init_from={finished_run} trains on from"):
        images.main()


@pytest.mark.parametrize("way", ["init_from", "sample_from"])
def test_runs_that_nothing_goes_on_from(program, finished_run, tmp_path, way):
    def refuses(message, *given):
        images = program("images", f"--{way}={finished_run}", f"--workdir={tmp_path / 'a'}", *given)
        with pytest.raises(image_sets.UsageError, match=message):
            images.main()

    refuses("--hidden=9, but the weights of .*run were trained with 8: leave", "--hidden=9")
    refuses("--data_noise=0.1, but .*run were trained with 0.2", "--data_noise=0.1")
    refuses("--channels=3, but .*run were trained with : leave", "--channels=3")
    refuses("--data=mine, but .*run were trained with digits", "--data=mine")
    (finished_run / "summary.json").unlink()
    refuses("run holds an unfinished run: run its command again until it ends")
    (finished_run / "flags.txt").unlink()
    refuses("run holds no run")


def test_pictures_are_of_the_weights_that_are_saved(program, tmp_path, monkeypatch):
    """The classes' levels are set before anything is drawn: with guidance, they change samples."""
    images = program("digits", *QUICK, "--guidance=4", f"--workdir={tmp_path}").images
    pipeline = images.pipeline

    def untrained(run, settings, split, model, network_key, fit_key):
        return model.init(network_key), {}, []

    def noted(key, model, params, *_, **__):
        drawn.append(params["params"]["Dense_2"]["bias"])
        return None, None

    monkeypatch.setattr(pipeline.training, "train", untrained)
    levels = np.linspace(-3, 3, 10, dtype=np.float32)
    monkeypatch.setattr(pipeline.log_likelihood, "measure", lambda *_, **__: ({}, levels))
    monkeypatch.setattr(pipeline.evaluation, "judge", lambda x, y: (None, None))
    drawn, results = [], []
    monkeypatch.setattr(pipeline.sampling, "generate", noted)
    monkeypatch.setattr(pipeline.sampling, "inpaint", noted)
    monkeypatch.setattr(pipeline.report, "write", lambda run, *found: results.append(found))
    images.main()
    saved = np.load(tmp_path / "parameters.npz")
    assert np.ptp(saved["params/Dense_2/bias"]) > 1
    assert len(drawn) == 2
    for bias in drawn:
        np.testing.assert_array_equal(bias, saved["params/Dense_2/bias"])
    x, ((result, *_),) = np.full((1, 64), 0.5, np.float32), results
    energy, params, *_ = loading.load(tmp_path)
    expected = [energy(params, {"x": x[0], "y": y}) for y in range(10)]
    np.testing.assert_allclose(result.classes(x)[0], expected, rtol=1e-5)


def test_the_last_of_more_than_ten_layers_is_raised():
    model, _ = small()
    layers = {f"Dense_{i}": {"bias": np.zeros(3, np.float32)} for i in range(12)}
    raised = model.raised({"params": layers}, np.array([1.0, 2.0, 3.0]))["params"]
    changed = [name for name, layer in raised.items() if np.any(layer["bias"])]
    assert changed == ["Dense_11"]


def npz(path, x, **others):
    np.savez(path, x=x, **others)
    return path


@pytest.mark.slow
def test_colours_without_classes_in_a_file(program, tmp_path, capsys):
    """The user's own: 30 images of 5x4 in colour, others to tell from them, none labelled."""
    rng = np.random.default_rng(0)
    own = npz(tmp_path / "own.npz", rng.integers(0, 99, (30, 5, 4, 3)).astype(np.uint8))
    other = npz(tmp_path / "bright.npz", rng.uniform(0.6, 1, (9, 5, 4, 3)))
    given = (f"--data={own}", f"--outliers={other}", "--samples=8", f"--workdir={tmp_path / 'a'}")
    program("images", *QUICK, "--generative=none", "--betas=0", *given).main()
    summary = finished(capsys, tmp_path / "a")
    assert summary["auroc_bright"] == 1.0
    assert not {"accuracy", "label_agreement", "ece"} & set(summary)
    assert summary["frechet"] > 0
    film, *_ = pictures((tmp_path / "a" / "report.html").read_text(encoding="utf-8"))
    assert film.size == (16 * 6, 7)


def test_the_pictures_show_the_ink():
    ink = np.zeros((2, 9))
    ink[1, 4] = 1
    shown = image_sets.Images(None, (3, 3), ["0"], ink=True).pictures(ink)[None]
    (picture,) = pictures(f'src="{report.plots.embedded("png", report.plots.png(shown))}"')
    pixels = np.asarray(picture)
    assert pixels.shape == (5, 10)
    assert pixels[2, 7] == 0
    assert (np.delete(pixels.ravel(), 2 * 10 + 7) == 255).all()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--restart=1.5"], "--restart=1.5: must be a finite number from 0 to 1"),
        (["--sample_steps=11"], "must be a multiple of 10"),
        (["--data_noise=0"], "--data_noise=0.0: must be a finite number from 0.001"),
        (["--learning_rate=nan"], "--learning_rate=nan: must be a finite number"),
        (["--generative_weight=inf"], "--generative_weight=inf: must be a finite number"),
        (["--margin=nan"], "--margin=nan: must be a number >= 0"),
        (["--seed=12345678901234567890"], "not an integer in the range"),
        (["--betas=2"], "must be 0, or at least 3"),
        (["--generative=gan"], "gan.*<energy_matching.pcd.none>"),
        (["--channels=8,-1"], "must be integers >= 1, as in 32,64, or an empty list"),
        (["--loss=hing"], f"hing.*<{'.'.join(losses_by_name.NAMES)}>"),
    ],
)
def test_bad_flags_are_refused_before_any_work(program, given, message):
    with pytest.raises(flags.IllegalFlagValueError, match=message):
        program("digits", "--workdir=/proc/none", *given)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--hold_out_class=10"], "--hold_out_class=10: the data have the classes 0 to 9"),
        (["--chains=99", "--buffer_size=9"], "--chains=99 cannot exceed the --buffer_size=9"),
        (["--chains=99", "--buffer_size=300", "--groups=2"], "--groups=2 must divide --chains=99"),
        (["--generative=pcd", "--steps=0"], "--generative=pcd needs --steps >= 1, got 0"),
        (["--outliers=digits,digits"], "--outliers=digits: the name digits is already used"),
        (["--data=mnits"], "'mnits' is not a data set: allowed are digits, mnist, notmnist, a"),
    ],
)
def test_what_the_data_do_not_allow_is_refused(program, tmp_path, given, message):
    with pytest.raises(image_sets.UsageError, match=message):
        program("images", f"--workdir={tmp_path}", *given).main()


@pytest.mark.slow
def test_images_narrower_than_a_convolution(program, tmp_path, capsys):
    """They get none, and who asks for one is told."""
    own = npz(tmp_path / "own.npz", np.random.default_rng(0).random((30, 9, 2)))
    given = (*QUICK, "--generative=pcd", f"--data={own}", f"--workdir={tmp_path / 'a'}")
    with pytest.raises(image_sets.UsageError, match=r"--channels=2 needs .* have shape \(9, 2\)"):
        program("images", *given, "--channels=2").main()
    program("images", *given, "--samples=8", "--betas=0").main()
    assert finished(capsys, tmp_path / "a")["frechet"] > 0
    assert "--channels=\n" in (tmp_path / "a" / "flags.txt").read_text(encoding="utf-8")


def test_an_infinite_margin_learns_nothing_and_says_so(program, tmp_path):
    given = (*QUICK, f"--workdir={tmp_path}", "--loss=hinge", "--margin=inf", "--generative=none")
    with pytest.raises(FloatingPointError, match="Nothing was learnt"):
        program("digits", *given).main()
    assert not (tmp_path / "summary.json").exists()
