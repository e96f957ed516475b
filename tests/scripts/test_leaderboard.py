"""The leaderboard: what an update costs, and that what is done is not done again."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import objectives_by_name
from experiments.objectives_by_name import Problem
from experiments.run import errors
from scripts.leaderboard import cost, page, problems, trials


def test_products_are_counted_by_hand():
    """A loop counts as often as it runs, a choice as its dearest branch."""
    a, b, x = jnp.ones((3, 4)), jnp.ones((4, 5)), jnp.ones((4, 4))

    def product(a, b):
        return a @ b

    def loop(x):
        return jax.lax.scan(lambda c, _: (c @ x, None), x, length=7)[0]

    def choice(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x, x)

    assert cost.multiplications(product, a, b) == 3 * 4 * 5
    assert cost.multiplications(jax.vmap(product, (0, None)), jnp.ones((6, 3, 4)), b) == 6 * 60
    assert cost.multiplications(jax.jit(loop), x) == 7 * 64
    assert cost.multiplications(choice, x) == 2 * 64
    assert cost.multiplications(jax.grad(lambda a: product(a, b).sum()), a) == 2 * 60
    with pytest.raises(ValueError, match="unknown length"):
        cost.multiplications(
            lambda x: jax.lax.while_loop(lambda c: c[0, 0] < 9, lambda c: c @ x, x), x
        )


def linear(params, x):
    return params @ x.astype(params.dtype)


@pytest.fixture
def bits():
    """Two bits, whose exact optimum is known: independent ones."""
    states = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    rows = np.random.default_rng(0).random((400, 2)) < [0.3, 0.6]
    problem = Problem(linear, rows, states, num_chains=16)

    def measure(params):
        p, q = rows.mean(0), jax.nn.sigmoid(-objectives_by_name.energy_params(params))
        divergence = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
        return {"gap": float(divergence.sum())}

    import optax

    return problems.Trial(
        problem,
        lambda key: jnp.zeros(2),
        lambda seed: lambda t: rows,
        lambda rate, steps: optax.adam(0.2),
        measure,
    )


def test_an_objective_is_searched_trained_and_kept(bits, tmp_path, monkeypatch):
    monkeypatch.setattr(trials, "trial", lambda name, data_dir: bits)
    monkeypatch.setattr(trials, "updates", lambda budget, speed: 60)
    budget = trials.Budget(seconds=1.0, seeds=2, search=True)
    compete = functools.partial(trials.compete, "nltcs", "pcd", budget, tmp_path, None)
    rows = compete()
    assert [row["seed"] for row in rows] == [1, 2]
    assert all(row["gap"] < 0.05 and row["updates"] == 60 for row in rows)  # 0.1 at the start
    # 16 chains of a sweep: each bit at 2 values, and data and chains with their gradients.
    assert rows[0]["energies_per_update"] > 400
    searched = {path.parents[2].name for path in tmp_path.rglob("seed_0/row.json")}
    assert searched == {"sweeps=1", "sweeps=4"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")}
    assert compete() == rows
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.json")} == before
    monkeypatch.setattr(trials, "updates", lambda budget, speed: 3)  # another budget
    assert [row["updates"] for row in compete()] == [3, 3]


def test_the_page_ranks_by_the_median_and_tells_what_diverged(tmp_path):
    def row(**found):
        return {
            "options": {"steps": 5},
            "updates": 10,
            "seconds": 1.0,
            "energies_per_update": 1e5,
        } | found

    rows = {
        "2spirals": {
            "cd": [row(gap=0.3), row(gap=0.1), row(gap=0.2)],
            "pcd": [row(gap=0.15), row(diverged="yes"), row(gap=0.1)],
            "exact": [row(diverged="yes")] * 3,
        }
    }
    assert [name for name, _ in page.ranked(rows["2spirals"])] == ["pcd", "cd", "exact"]
    page.write(rows, tmp_path, "command", seeds=3, seconds=20.0, search=True)
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "| 1 | pcd | 0.1500 | 0.1000 to 0.1500, 1 diverged | steps 5 | 10 | 1 | 1.0 |" in text
    assert "| 3 | exact | diverged |" in text
    assert (tmp_path / "figures" / "leaderboard.png").stat().st_size > 10_000


@pytest.mark.parametrize("flag", ["--problems=3spirals", "--objectives=maximum"])
def test_names_that_are_none_are_refused(program, tmp_path, flag):
    main = program("leaderboard", f"--workdir={tmp_path}", flag).main
    with pytest.raises(errors.UsageError, match=f"{flag}: allowed are "):
        main()
    assert not list(tmp_path.iterdir())
