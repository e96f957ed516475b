"""The benchmark of objectives: truths against independent answers, tuning, resuming, entries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from ebm_jax import distributions
from ebm_jax.partition import exact
from ebm_jax.types import Objective
from experiments.objectives_by_name import Problem
from experiments.run import errors
from scripts.benchmark_objectives import (
    competitors,
    cost,
    entries,
    mixtures,
    problems,
    reference,
    rows,
    runs,
    samples,
    tuning,
    work,
)

STATES = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], bool)


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


def test_the_entropy_of_a_plane_is_that_of_finer_quadrature():
    axis = (np.arange(900) + 0.5) / 100 - 4.5
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    angles = np.arange(8) * np.pi / 4
    centres = np.sqrt(8) * np.stack([np.cos(angles), np.sin(angles)], 1)
    p = sum(np.exp(-((points - c) ** 2).sum(1) / 0.25) for c in centres) / (8 * np.pi * 0.25)
    entropy = -(p * np.log(p)).sum() / 1e4
    assert problems.plane("8gaussians").entropy == pytest.approx(entropy, abs=1e-4)
    assert problems.plane("checkerboard").entropy == pytest.approx(np.log(32), abs=1e-6)


def test_the_teachers_have_the_probabilities_of_their_definitions():
    states = np.asarray(exact.states(16), float)
    log_p = problems.rbm_log_probs(states)
    assert np.exp(log_p).sum() == pytest.approx(1)
    rng = np.random.default_rng(16)
    weights, visible, hidden = (rng.normal(0, s, n) for s, n in ((2, (16, 8)), (1, 16), (0.5, 8)))
    units = np.asarray(exact.states(8), float)
    x = states[[5, 4321]] - 0.5
    biases = visible - weights.sum(1) / 2
    joint = np.exp((x @ biases)[:, None] + (x @ weights + hidden) @ units.T).sum(1)
    assert log_p[5] - log_p[4321] == pytest.approx(np.log(joint[0] / joint[1]))

    log_p = problems.ising_log_probs(states)
    assert np.exp(log_p).sum() == pytest.approx(1)
    corner = states[1]  # one spin up, at a corner: 2 of the 24 bonds are broken
    assert corner.sum() == 1
    assert log_p[1] - log_p[0] == pytest.approx(-2 * 0.4 * 2 + 2 * 0.05)


def test_the_density_of_a_mixture_is_that_of_scipy_and_its_samples_have_its_moments():
    truth = mixtures.make(3, seed=1)
    x = truth.sample(20_000, 0)
    p = 0
    for weight, mean, sigma in zip(mixtures.WEIGHTS, truth.means, truth.sigmas, strict=True):
        covariance = truth.rotation @ np.diag(sigma**2) @ truth.rotation.T
        p += weight * multivariate_normal(truth.rotation @ mean, covariance).pdf(x[:50])
    np.testing.assert_allclose(truth.log_prob(x[:50]), np.log(p), rtol=1e-9)
    np.testing.assert_allclose(x.mean(0), 0, atol=0.06)  # 4 standard errors


def test_annealing_gives_log_z_of_a_gaussian(key):
    base = distributions.gaussian(jnp.zeros(3), 1.5)
    log_z, error = mixtures.annealed_log_z(key, base, lambda x: jnp.sum(x**2) / 2 + 1.0)
    assert float(log_z) == pytest.approx(1.5 * np.log(2 * np.pi) - 1, abs=4 * float(error) + 1e-3)
    assert 0 < float(error) < 0.1


def test_the_error_of_the_weights_of_modes_is_that_of_sums():
    """One of four modes has no point."""
    rng = np.random.default_rng(0)
    p, q, nearest = rng.random(50), rng.random(50), rng.integers(0, 3, 50)
    sums = [np.bincount(nearest, mass, 4) for mass in (p, q)]
    found = problems._mode_error(nearest, jnp.asarray(p), jnp.asarray(q), 4)
    assert float(found) == pytest.approx(np.abs(sums[0] - sums[1]).sum() / 2, rel=1e-5)


def test_a_mixtures_measures_vanish_at_the_truth_and_are_those_of_quadrature_elsewhere(key):
    truth = mixtures.make(2, seed=2)
    valid, test = truth.sample(4000, 1), truth.sample(20_000, 2)

    def energy(weights, x):
        """The energy of the same Gaussians with other weights, plus a constant."""
        straight = x @ truth.rotation
        away = (straight - truth.means) / truth.sigmas
        each = -0.5 * (away**2).sum(-1) - jnp.log(2 * jnp.pi * truth.sigmas.prod(-1))
        return 1.0 - jax.nn.logsumexp(each + jnp.log(weights))

    measure = jax.jit(mixtures.measurer(truth, energy, valid, test))
    exactly = measure(jnp.asarray(mixtures.WEIGHTS), key)
    assert abs(exactly["gap"]) < 1e-4
    assert exactly["total_variation"] < 1e-4
    assert exactly["mode_weight_error"] < 1e-4

    axis = np.linspace(-10, 10, 1001)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    joint, others = np.exp(truth.log_joint(points)) * 4e-4, np.array([0.1, 0.1, 0.1, 0.2, 0.5])
    p, q = joint.sum(1), (joint / mixtures.WEIGHTS * others).sum(1)
    inside, modes = p > 0, joint.argmax(1)
    gap = (p[inside] * np.log(p[inside] / q[inside])).sum()
    weights = [np.bincount(modes, mass, len(mixtures.WEIGHTS)) for mass in (p, q)]
    found = measure(jnp.asarray(others), key)
    assert gap > 0.1
    assert found["gap"] == pytest.approx(gap, abs=0.02)  # 4 standard errors of 20,000 samples
    assert found["validation_gap"] == pytest.approx(gap, abs=0.05)
    assert found["total_variation"] == pytest.approx(np.abs(p - q).sum() / 2, abs=0.02)
    expected = np.abs(weights[0] - weights[1]).sum() / 2
    assert found["mode_weight_error"] == pytest.approx(expected, abs=0.02)


class Tiny:
    """Two independent bits, on which everything is exact, as a task."""

    def __init__(self):
        self.rows = np.random.default_rng(0).random((400, 2)) < [0.3, 0.6]

    @staticmethod
    def energy(params, x):
        return params @ x.astype(jnp.float32)

    def make(self, validation_sign=1):
        p = self.rows.mean(0)

        def measure(params, key):
            q = jax.nn.sigmoid(-params)
            gap = jnp.sum(p * jnp.log(p / q) + (1 - p) * jnp.log((1 - p) / (1 - q)))
            unknown = jnp.float32(jnp.nan)
            return {
                "gap": gap,
                "validation_gap": validation_sign * gap,
                "total_variation": unknown,
                "mode_weight_error": unknown,
                "log_z_disagreement": unknown,
            }

        problem = Problem(self.energy, self.rows, jnp.asarray(STATES), num_chains=8)
        parts = (self.rows, self.rows, self.rows)
        init = lambda key: jnp.zeros(2)  # noqa: E731
        return problems.Task(
            "rbm16", "bits", problem, *parts, init, 1.0, "By hand.", jax.jit(measure)
        )


@pytest.fixture
def tiny(monkeypatch):
    task = Tiny().make()
    monkeypatch.setattr(problems, "task", lambda name, data_dir=None, reference=None: task)
    monkeypatch.setitem(problems.PASSES, "bits", 2000)
    return task


def test_the_gap_of_bits_is_the_divergence_in_double_precision():
    task = problems.bits("ising4x4", None, None)
    params = task.init(jax.random.key(1))
    found = task.measure(params, jax.random.key(0))
    states = exact.states(16)
    energies = np.asarray(jax.vmap(task.problem.energy, (None, 0))(params, states), np.float64)
    log_q = -energies - np.logaddexp.reduce(-energies)
    log_p = problems.ising_log_probs(np.asarray(states, float))
    p = np.exp(log_p)
    assert float(found["gap"]) == pytest.approx(p @ (log_p - log_q), abs=2e-5)
    variation = np.abs(p - np.exp(log_q)).sum() / 2
    assert float(found["total_variation"]) == pytest.approx(variation, abs=1e-5)


def test_trials_are_balanced_and_within_their_ranges():
    search = {"steps": [5, 20], "sigma": (0.1, 10.0)}
    listed = tuning.trials(search)
    assert listed == tuning.trials(search)
    assert [options["steps"] for _, options in listed].count(5) == 8
    low, high = competitors.LEARNING_RATES
    assert all(low <= rate <= high and 0.1 <= o["sigma"] <= 10 for rate, o in listed)
    assert sum(o["sigma"] < 1 for _, o in listed) == 8


def test_validation_data_choose_not_test_data(tiny):
    reversed_task = Tiny().make(validation_sign=-1)
    competitor = competitors.competitor("pseudo_likelihood", tiny)
    for task, pick in ((tiny, max), (reversed_task, min)):
        listed = tuning.tune(task, "pseudo_likelihood", competitor, 20_000, 4)
        # The best trial has the largest learning rate, as these steps are few.
        assert tuning.best(listed)["learning_rate"] == pick(row["learning_rate"] for row in listed)


def test_a_resumed_benchmark_makes_the_same_rows(tiny, tmp_path):
    plan = work.Plan(tmp_path, seeds=2, trials=2, budgets=(0, 1))

    def everything():
        kept = work.Rows(tmp_path)
        done = [
            work.do(plan, kept, job)
            for job in work.jobs(["rbm16"], ["pseudo_likelihood"], (0, 1))[:1]
        ]
        timed = ("seconds", "processor_seconds", "seconds_per_update")
        return done, [
            {k: v for k, v in row.items() if k not in timed} for row in rows.read(tmp_path)
        ]

    done, first = everything()
    assert done == [True]
    assert [row["kind"] for row in first].count("run") == 4
    assert everything() == ([False], first)
    path = tmp_path / "rbm16.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:30], encoding="utf-8")  # it was killed
    assert everything() == ([True], first)


def test_divergence_is_a_status_and_counts_as_infinitely_bad(tiny):
    def make(problem, *, scale):
        def loss(params, state, batch, key):
            value = jnp.sum(params * jnp.log(scale - 1.0)) + problem.energy(params, batch[0])
            return value, (state, {})

        return Objective(lambda params, key: (), loss)

    competitor = competitors.Competitor(make, {"scale": (0.5, 2.0)})
    listed = tuning.tune(tiny, "mine", competitor, 200, 8)
    bad = [row for row in listed if row["options"]["scale"] < 1]
    assert {row["status"] for row in bad} == {"diverged"}
    assert {row["validation_gap"] for row in bad} == {None}
    assert tuning.best(listed)["options"]["scale"] > 1


@pytest.mark.parametrize(
    ("gap", "status"), [(999.0, "ok"), (1001.0, "diverged"), (np.nan, "diverged")]
)
def test_a_gap_above_a_thousand_nats_is_divergence(tiny, gap, status):
    task = dataclasses.replace(
        tiny, measure=lambda params, key: {"gap": 0.5, "validation_gap": gap}
    )
    competitor = competitors.competitor("pseudo_likelihood", task)
    program = runs.program(task, competitor, {}, {})
    members = runs.members([1], [0.01], [{}])
    (result,) = program.train(task, members, 100.0, curve=False)
    assert result.status == status


def test_an_objective_that_cannot_be_stacked_is_trained_alone(tiny):
    def make(problem, *, scale):
        number = float(scale)  # a traced number has no value
        return Objective(
            lambda params, key: (),
            lambda params, state, batch, key: (
                number * jnp.mean(jax.vmap(problem.energy, (None, 0))(params, batch)),
                (state, {}),
            ),
        )

    competitor = competitors.Competitor(make, {"scale": (0.5, 2.0)})
    program = runs.program(tiny, competitor, {}, {"scale": 1.0})
    assert not program.stacked
    listed = tuning.tune(tiny, "mine", competitor, 5000, 2)
    assert [row["status"] for row in listed] == ["ok", "ok"]


def test_an_entry_runs_and_is_ranked(tiny, tmp_path):
    name = "tests.scripts.entry:make"
    plan = work.Plan(tmp_path, seeds=2, trials=2, budgets=(0,))
    (job,) = [j for j in work.jobs(["rbm16"], [name], (0,)) if j.objective]
    kept = work.Rows(tmp_path)
    assert work.do(plan, kept, job)
    own = rows.read(tmp_path)
    assert {row["entry"] for row in own if row["kind"] == "run"} == {name}
    (place,) = entries.standing(own, own, name)
    gap = place["gap"]
    rivals = [
        {"kind": "run", "problem": "rbm16", "objective": str(i), "budget": 0, "gap": g}
        for i, g in enumerate((gap / 2, gap * 2, None))
    ]
    (place,) = entries.standing(own, rivals, name)
    assert (place["place"], place["of"]) == (2, 4)
    assert entries.lines([place])[0].endswith("nats, place 2 of 4")


def test_entries_that_cannot_be_used_are_refused():
    with pytest.raises(errors.UsageError, match="Name a function that can be imported"):
        competitors.entry("no_such_module:make")
    with pytest.raises(errors.UsageError, match="no_such"):
        competitors.entry("tests.scripts.entry:no_such")
    with pytest.raises(errors.UsageError, match="it must be a function"):
        competitors.entry("math:pi")
    with pytest.raises(errors.UsageError, match=r"called as getcwd\(problem\)"):
        competitors.entry("os:getcwd")
    with pytest.raises(errors.UsageError, match="must return an ebm_jax Objective"):
        competitors.entry("builtins:repr").make(None)


def test_the_sliced_distance_of_a_shift_is_its_mean_projection():
    x = np.random.default_rng(3).standard_normal((500, 2))
    assert samples.sliced_wasserstein(x, x[::-1]) == 0
    shift = samples.sliced_wasserstein(x, x + np.array([3.0, 4.0]))
    assert shift == pytest.approx(5 * 2 / np.pi, rel=0.1)  # mean |cos| is 2 / pi


def test_the_reference_reaches_the_optimum_of_a_convex_problem(tiny):
    assert 0 <= reference.train(tiny, 3.0) < 1e-3  # 0.1 at the start


def test_jobs_begin_with_the_small_budgets_of_the_important_objectives():
    listed = work.jobs(["rings", "nltcs"], None, (0, 1, 2))
    assert listed[0].objective == "exact"
    assert listed[0].budgets == (0, 1)
    trained = [(j.problem, j.objective, b) for j in listed if j.objective for b in j.budgets]
    assert len(trained) == len(set(trained))
    assert {n for p, n, _ in trained if p == "nltcs"} == set(competitors.names("bits"))
    first_large = next(i for i, j in enumerate(listed) if 2 in j.budgets)
    assert {j.objective for j in listed[:first_large]} == {
        j.objective for j in listed[first_large : 2 * first_large]
    }


@pytest.mark.parametrize("flag", ["--problems=3spirals", "--objectives=maximum", "--budgets=3"])
def test_names_that_are_none_are_refused(program, tmp_path, flag):
    main = program("benchmark_objectives", f"--workdir={tmp_path}", f"--rows={tmp_path}", flag).main
    with pytest.raises(errors.UsageError, match=f"{flag}: allowed are "):
        main()
