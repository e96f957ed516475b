"""The energies of the plane are loaded as they were trained."""

import jax
import numpy as np
import pytest

from ebm_jax import objectives
from experiments.questions import plane
from experiments.run import errors, loop, work_directory


def test_an_energy_of_the_plane_is_the_trained_one(tmp_path):
    params = plane.init(plane.NETWORK, jax.random.key(0))
    y = np.array([[0.5, -1.0], [2.0, 1.5]], np.float32)
    trained, _ = loop.fit(
        work_directory.Run(tmp_path),
        "push down",
        objectives.push_down(plane.positive_energy),
        params,
        lambda t: y,
        jax.random.key(1),
        steps=1,
    )
    energy, loaded = plane.load(tmp_path, "push_down")
    x, layers = y[0].astype(np.float64), loaded["params"]["body"]
    for name in ("Dense_0", "Dense_1"):
        x = np.sin(x @ layers[name]["kernel"] + layers[name]["bias"])
    last = float((x @ layers["Dense_2"]["kernel"] + layers["Dense_2"]["bias"])[0])
    np.testing.assert_allclose(energy(loaded, y[0]), np.logaddexp(0, last), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, loaded, trained)
    (tmp_path / "push_down.npz").rename(tmp_path / "sparse_0.1.npz")
    with pytest.raises(errors.UsageError, match=r"has the arrays .* where this program has"):
        plane.load(tmp_path, "sparse_0.1")


def test_a_sparse_code_of_the_plane_is_the_trained_one(tmp_path):
    """With no room in z the energy is half the squared length of the bumps: 1/2."""
    y = np.array([[0.5, -1.0], [2.0, 1.5]], np.float32)
    run, options = work_directory.Run(tmp_path), {"steps": 1, "seed": 0}
    trained = plane.fit_code(
        run, "sparse 9", np.tile(y, (64, 1)), 9.0, jax.random.key(0), **options
    )
    energy, loaded = plane.load(tmp_path, "sparse_9")
    jax.tree.map(np.testing.assert_array_equal, loaded, trained)
    np.testing.assert_allclose(energy(loaded, y[0]), 0.5, rtol=1e-5)
