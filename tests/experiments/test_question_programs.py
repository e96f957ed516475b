"""The questions' programs run for a few steps; what they build on is right.

What they claim is true of full runs: ``python -m scripts.questions`` fails where it is not. Here
a program only has to report its false claims.
"""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from ebm_jax import energies
from ebm_jax.types import Objective
from experiments.questions import plane
from experiments.run import errors, work_directory

FEWER = {  # a part of the cases of a program, where each costs a compilation or a large sum
    "one_to_many": {"BETAS": (0.01, np.inf), "FINE": slice(None, None, 8), "REPETITIONS": 2},
    "collapse": {
        "CONTRASTS": ("energy", "perceptron", "lvq2", "hinge", "log", "likelihood"),
        "CENTRES": (1, 64),
        "SPARSITIES": (0.001, 0.1, 1.0),
    },
    "sharp_edges": {"BETAS": (1.0,), "MARGINS": ("hinge",), "PENALTIES": (0.1,)},
    "composition": {
        "COMPOSITIONS": {"product": energies.product},
        "CHAINS": 200,
        "NUM_LEVELS": 2,
        "REVERSE_STEPS": 2,
    },
    "direct_coupling": {"FRACTIONS": (10, 1)},
    "loss_gallery": {
        "losses_by_name.NAMES": ("energy", "hinge", "log", "simple", "square_square", "nll")
    },
}
FEW = {
    "one_to_many": ["--steps=2", "--few=8"],
    "collapse": ["--steps=1", "--code_steps=1"],
    "three_ways": ["--steps=1", "--code_steps=1"],
    "sharp_edges": ["--steps=4"],
    "nll_gradient": ["--steps=2", "--samples=200", "--chain_steps=2", "--max_bits=4"],
    "words": ["--steps=1", "--table_steps=1", "--test_words=12"],
    "loss_gallery": ["--steps=2", "--seeds=2", "--losses=energy", "--losses=nll"],
    "gibbs": ["--steps=2", "--langevin_steps=2"],
    "composition": ["--steps=2", "--samples=1000", "--repeats=1"],
    "direct_coupling": ["--steps=2", "--most=1000"],
    "composed_digits": ["--steps=2", "--samples=1", "--num_levels=2", "--chain_steps=1"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FEW)
def test_few_steps(name, program, tmp_path, capsys, monkeypatch):
    module = program(f"questions.{name}", f"--workdir={tmp_path}", *FEW[name])
    for constant, fewer in FEWER.get(name, {}).items():
        *rooms, constant = constant.split(".")
        room = functools.reduce(getattr, rooms, module)
        every = getattr(room, constant)
        if isinstance(fewer, slice):
            fewer = every[fewer]
        assert fewer < every if isinstance(fewer, int) else set(fewer) < set(every)
        monkeypatch.setattr(room, constant, fewer)
    try:
        module.main()
        said = None
    except errors.FalseClaimError as error:
        said = str(error)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert summary == json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
    claims = summary["claims"]
    assert claims
    assert all(isinstance(holds, bool) for holds in claims.values())
    assert (said is None) == all(claims.values())
    for claim, holds in claims.items():
        assert (claim.replace("_", " ") in (said or "")) == (not holds)
    with Image.open(tmp_path / f"{name}.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB"))
    drawn = (pixels != pixels[0, 0]).any(-1)  # the corner is background
    assert drawn.mean() > 0.02


def test_the_plane_is_drawn_as_it_lies():
    """A point's cell is found by its x along the columns, its y along the rows from below."""
    points, _ = plane.grid(half_width=2.0, cells=8)
    drawn = []

    class Axis:
        def imshow(self, values, **options):
            drawn.append((values, options))

        def __getattr__(self, name):
            return lambda *args, **kwargs: None

    plane.surface(Axis(), points[:, 0] + 10 * points[:, 1], "", half_width=2.0)
    values, options = drawn[0]
    assert options["origin"] == "lower"
    centres = np.linspace(-1.75, 1.75, 8)
    np.testing.assert_allclose(values, centres[None] + 10 * centres[:, None], atol=1e-5)


def test_wrong_answers_keep_their_distance():
    points, _ = plane.grid(cells=20)
    wrong = plane.far_from(points, np.zeros((1, 2), np.float32), 1.0)
    np.testing.assert_array_equal(wrong, points[np.hypot(*points.T) > 1.0])
    candidates, labels = plane.against(points[:7], wrong, 5, seed=0)
    assert candidates.shape == (7, 6, 2)
    np.testing.assert_array_equal(candidates[:, 0], points[:7])
    assert not labels.any()
    assert np.isin(candidates[:, 1:].reshape(-1, 2), wrong).all()


def test_least_volume_of_an_even_square_is_its_area():
    sample = np.random.default_rng(0).uniform(-1, 1, (400_000, 2))
    assert plane.least_volume(sample, cells=64) == pytest.approx(0.95 * 4 / 64, rel=0.05)


def test_the_bumps_are_a_unit_vector_that_tells_places_apart():
    a, b, near = (plane.bumps(np.array(y, np.float32)) for y in ((0, 0), (2, 0), (0.05, 0)))
    assert float(a @ a) == pytest.approx(1, rel=1e-5)
    assert float(a @ near) > 0.99
    assert float(a @ b) < 0.1


def test_trainings_together_are_the_trainings_apart(program, tmp_path):
    """Rows of one training end where each ends that is trained alone."""
    gallery = program("questions.loss_gallery", f"--workdir={tmp_path}")

    def square(params, state, batch, key):
        return jnp.mean((params - batch) ** 2), (state, {"loss": jnp.zeros(())})

    objective = Objective(lambda params, key: (), square)
    targets, starts = jnp.array([[1.0, 2.0], [300.0, 5.0]]), jnp.array([0.0, 0.5])
    options = {"steps": 5, "learning_rate": 0.1, "decay": False}

    def fit(name, objective, params, batch):
        run, key = work_directory.Run(tmp_path / name), jax.random.key(0)
        return gallery.loop.fit(run, name, objective, params, lambda t: batch, key, **options)[0]

    both = fit("both", gallery.together(objective), starts, targets)
    alone = [fit(str(k), objective, starts[k], targets[k]) for k in (0, 1)]
    np.testing.assert_allclose(both, alone, rtol=1e-5)


def test_samples_of_the_exact_distribution_are_at_no_distance(program, tmp_path):
    """Total variation over 36 cells: about 0.025 for 20,000 exact samples, 1 for a wrong half."""
    gibbs = program("questions.gibbs", f"--workdir={tmp_path}")
    states, _ = plane.grid(gibbs.EXTENT, gibbs.CELLS)
    surface = np.where(states[:, 0] < 0, states[:, 1] ** 2 / 2, np.inf)
    rng = np.random.default_rng(0)
    x, y = rng.uniform(-3, 0, 20_000), rng.normal(size=20_000)
    points = np.stack([x, y], 1)[np.abs(y) < 3]
    assert gibbs.distance(surface, points) < 0.03
    assert gibbs.distance(surface, -points) > 0.95


def test_composed_densities_are_exact_where_a_closed_form_is(program, tmp_path):
    """The product of Gaussian mixtures is a mixture: its mass right of 0, from closed forms."""
    composition = program("questions.composition", f"--workdir={tmp_path}")
    side = np.linspace(-8, 8, 321)
    points = np.stack(np.meshgrid(side, side, indexing="ij"), -1).reshape(-1, 2)
    found = composition.exact(points)
    first, second = composition.DENSITY_PAIR
    narrow, broad = 1 / 8, 1.0  # variances of a coordinate
    apart = ((first.centres[:, None] - second.centres) ** 2).sum(-1)
    shares = np.exp(-apart / (2 * (narrow + broad)))
    means = (first.centres[:, None] * broad + second.centres * narrow) / (narrow + broad)
    expected = (shares[..., None] * means).sum((0, 1)) / shares.sum()
    np.testing.assert_allclose(found["product"] @ points, expected, atol=1e-6)
    halves = (first.centres.mean(0) + second.centres.mean(0)) / 2
    np.testing.assert_allclose(found["mixture"] @ points, halves, atol=1e-6)
    np.testing.assert_allclose(
        found["negation"] ** 2 * np.exp(second.log_density(points)),
        np.exp(2 * first.log_density(points))
        * (found["negation"] ** 2).max()
        / (np.exp(2 * first.log_density(points) - second.log_density(points))).max(),
        atol=1e-12,
    )


def test_total_variation_of_samples(program, tmp_path):
    composition = program("questions.composition", f"--workdir={tmp_path}")
    samples = np.array([[0.01, 0.01], [0.01, 0.02], [-4.4, -4.4], [9.0, 0.0]])
    masses = np.zeros((50, 50))
    masses[25, 25] = 1.0
    assert composition.total_variation(samples, masses) == 0.5
    assert composition.total_variation(samples[:2], masses) == 0.0
