"""The question about thinking runs for a few steps; its problems and its descent are exact."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.run import errors


@pytest.mark.slow
def test_few_steps(program, tmp_path, capsys, monkeypatch):
    module = program("questions.thinking", f"--workdir={tmp_path}", "--steps=1")
    monkeypatch.setattr(module, "TASKS", {"inverse": module.inverse})
    monkeypatch.setattr(module, "TESTS", 32)
    try:
        module.main()
        said = None
    except errors.FalseClaimError as error:
        said = str(error)
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    claims = summary["claims"]
    assert claims
    for claim, holds in claims.items():
        assert isinstance(holds, bool)
        assert (claim.replace("_", " ") in (said or "")) == (not holds)
    assert all(np.isfinite(v) for v in summary["inverse"]["error"]["harder"].values())
    figure = (tmp_path / "thinking.png").read_bytes()
    assert figure.startswith(b"\x89PNG")
    assert len(figure) > 20_000


def test_answers_are_exact_and_harder_problems_harder(program, tmp_path):
    module = program("questions.thinking", f"--workdir={tmp_path}")
    for name, task in module.TASKS.items():
        alike, harder, other = (
            module.problems(task, 500, 0, number, harder=harder)
            for number, harder in ((0, False), (0, True), (1, False))
        )
        assert not np.isclose(alike[0], other[0]).all(axis=1).any()
        for x, y in (alike, harder):
            assert x.dtype == y.dtype == np.float32
            if name == "addition":
                np.testing.assert_allclose(x[:, :16] + x[:, 16:], y, atol=1e-6)
            else:
                products = x.reshape(-1, 4, 4) @ y.reshape(-1, 4, 4)
                np.testing.assert_allclose(products, np.tile(np.eye(4), (500, 1, 1)), atol=1e-4)
        if name == "addition":
            assert abs(alike[0]).max() < 1 < 2.4 < abs(harder[0]).max() < 2.5
        else:
            conditions = [
                np.median(np.linalg.cond(x.reshape(-1, 4, 4))) for x, _ in (alike, harder)
            ]
            assert conditions[1] > 2 * conditions[0]


def test_a_network_of_zeros_descends_to_zero(program, tmp_path):
    """Then E = |y|^2 / 2, and y_k = (1 - a)^k y_0."""
    module = program("questions.thinking", f"--workdir={tmp_path}")
    x, y = module.problems(module.inverse, 40, 0, 0)
    network = module.NETWORK.init(jax.random.key(0), jnp.zeros(2 * module.SIZE))
    params = jax.tree.map(jnp.zeros_like, network), jnp.log(0.25)
    key, steps = jax.random.key(1), 6
    errors, energies, right = module.thought(params, x, y, key, steps)
    starts = np.asarray(jax.vmap(module.start)(jax.random.split(key, 40)))
    path = 0.75 ** np.arange(1, steps + 1)[:, None, None] * starts
    np.testing.assert_allclose(energies, (path**2).sum(2).mean(1) / 2, rtol=1e-5)
    np.testing.assert_allclose(right, (y**2).sum(1).mean() / 2, rtol=1e-5)
    wanted = np.sqrt(((path - y) ** 2).mean((1, 2)) / np.mean(y**2))
    np.testing.assert_allclose(errors, wanted, rtol=1e-5)
