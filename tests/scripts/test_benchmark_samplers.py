"""The benchmark of samplers: exact moments, counted gradients, measures, resuming, and the page."""

import itertools
import re
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ebm_jax.energies import lattice, pairwise
from ebm_jax.energies.boltzmann import RBM
from ebm_jax.partition import exact
from experiments.run import errors
from scripts.benchmark_samplers import (
    discrete_targets,
    log_z,
    measures,
    methods,
    network,
    page,
    results,
    rows,
    run,
    running,
    targets,
)
from scripts.benchmark_samplers.measures import Trace

DOCS = Path(__file__).parents[2] / "docs"


def check_moments(target, samples):
    """Compare with independent float64 samples; the largest of m z-scores is above 5 in 4e-5."""
    values = np.asarray(jax.vmap(target.functions)(jnp.asarray(samples, jnp.float32)), float)
    z = (values.mean(0) - target.mean) / np.sqrt(target.variance / len(values))
    assert np.abs(z).max() < 5
    np.testing.assert_allclose(values.var(0), target.variance, rtol=0.05)


def test_moments_of_the_gaussian():
    target = targets.gaussian()
    params = target.energy.args[0]
    covariance = np.linalg.inv(np.asarray(params.precision, float))
    rng = np.random.default_rng(0)
    check_moments(target, rng.multivariate_normal(np.zeros(10), covariance, size=200_000))
    log_z = 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]
    assert abs(target.log_z - log_z) < 1e-3


def test_moments_of_the_funnel():
    target, rng = targets.funnel(), np.random.default_rng(1)
    v = 3 * rng.standard_normal(200_000)
    x = np.exp(v / 2)[:, None] * rng.standard_normal((len(v), 9))
    check_moments(target, np.concatenate([v[:, None], x], axis=1))
    at = jnp.concatenate([jnp.array([1.5]), jnp.linspace(-1, 2, 9)])
    log_density = -(1.5**2) / 18 - np.log(3) - 0.5 * np.log(2 * np.pi)
    for value in np.linspace(-1, 2, 9):
        log_density += -(value**2) * np.exp(-1.5) / 2 - 0.75 - 0.5 * np.log(2 * np.pi)
    assert abs(-float(target.energy(at)) - target.log_z - log_density) < 1e-4


def test_moments_of_the_banana_by_quadrature():
    target = targets.banana()
    x = np.linspace(-4, 6, 2001)[:, None]
    offset = np.linspace(-2, 2, 801)[None]  # y = x^2 + offset
    density = np.exp(-((1 - x) ** 2) - 10 * offset**2)
    y, cell = x**2 + offset, (x[1, 0] - x[0, 0]) * (offset[0, 1] - offset[0, 0])
    assert abs(np.log(density.sum() * cell) - target.log_z) < 1e-6
    weights = density / density.sum()
    functions = [x + 0 * y, y, x**2 + 0 * y, y**2]
    mean = np.array([np.sum(weights * f) for f in functions])
    np.testing.assert_allclose(target.mean, mean, rtol=1e-6)
    second = np.array([np.sum(weights * f**2) for f in functions])
    np.testing.assert_allclose(target.variance, second - mean**2, rtol=1e-5)
    assert abs(float(target.energy(jnp.array([0.5, 1.0]))) - (0.25 + 10 * 0.75**2)) < 1e-5


@pytest.mark.parametrize("name", ["mixture_2d", "mixture_8d", "mixture_32d"])
def test_moments_of_a_mixture(name):
    target, rng = targets.CONTINUOUS[name](), np.random.default_rng(2)
    params = target.energy.args[0]
    means, sigma = np.asarray(params.means, float), float(params.sigma)
    weights = np.exp(np.asarray(params.log_weights, float))
    which = rng.choice(len(means), 200_000, p=weights / weights.sum())
    check_moments(target, means[which] + sigma * rng.standard_normal((len(which), len(means[0]))))


def test_quadrature_of_the_network():
    """Two grids agree to the rounding, and NumPy's energies are those that are sampled."""
    params = network.train(20, 24)
    (points, fine, p), (coarse_points, coarse, q) = (
        network.quadrature(params, num) for num in (301, 240)
    )
    assert abs(fine - coarse) < 1e-6
    np.testing.assert_allclose(p @ points**2, q @ coarse_points**2, rtol=1e-6)
    some = np.random.default_rng(0).choice(len(points), 50, p=p)
    energies = jax.vmap(network.energy, (None, 0))(params, jnp.asarray(points[some], jnp.float32))
    cell = (2 * network.HALF_WIDTH / 301) ** 2
    np.testing.assert_allclose(energies, -np.log(p[some] / cell) - fine, atol=1e-3)


def test_moments_of_the_ising_model():
    target = discrete_targets.ising()
    coupling = np.log(1 + np.sqrt(2)) / 2
    exactly = exact.log_partition(lattice.Ising(coupling), shape=(4, 4))
    assert abs(target.log_z - float(exactly)) < 1e-3
    np.testing.assert_allclose(target.mean[:16], 0, atol=1e-6)
    np.testing.assert_allclose(target.variance[:16], 1, atol=1e-6)
    assert np.ptp(target.mean[16:]) < 1e-5  # the bonds of a torus are alike


def test_moments_of_the_random_graph():
    target = discrete_targets.random_graph()
    params, edges = target.energy.args[0], target.energy.keywords["edges"]
    exactly = exact.log_partition(params, edges=edges, values=(-1, 1))
    assert abs(target.log_z - float(exactly)) < 1e-3
    states = np.array(list(itertools.product((-1, 1), repeat=14)), float)
    couplings, fields = (np.asarray(leaf, float) for leaf in params)
    products = states[:, edges[:, 0]] * states[:, edges[:, 1]]
    weights = np.exp(products @ couplings + states @ fields)
    mean = weights / weights.sum() @ np.concatenate([states, products], axis=1)
    np.testing.assert_allclose(target.mean, mean, atol=1e-5)
    assert isinstance(params, pairwise.Pairwise)


def test_moments_of_the_rbm():
    target = discrete_targets.rbm()
    params = target.energy.args[0]
    assert isinstance(params, RBM)
    assert abs(target.log_z - float(exact.log_partition(params))) < 1e-3
    states = np.array(list(itertools.product((0, 1), repeat=12)), float)
    weights, visible, hidden = (np.asarray(leaf, float) for leaf in params)
    log_p = states @ visible + np.logaddexp(0, states @ weights + hidden).sum(1)
    p = np.exp(log_p - log_p.max())
    np.testing.assert_allclose(target.mean[:12], p / p.sum() @ states, atol=1e-5)


@pytest.fixture
def counted():
    """Return an energy of the plane that counts its evaluations, and the counts."""
    counts = {"energies": 0, "gradients": 0}

    def count(kind):
        def add(_):
            counts[kind] += 1

        return lambda x: jax.debug.callback(add, x)

    @jax.custom_jvp
    def energy(x):
        count("energies")(x[0])
        return jnp.sum(x**2) / 2

    @energy.defjvp
    def rule(primals, tangents):
        (x,), (t,) = primals, tangents
        count("gradients")(x[0])
        return jnp.sum(x**2) / 2, jnp.sum(x * t)

    return energy, counts


SETTINGS = {
    "ula": {"step_size": 0.1},
    "mala": {"step_size": 0.1},
    "baoab": {"step_size": 0.3, "friction": 1.0},
    "tempering": {"step_size": 0.1, "hottest_beta": 0.1},
    "blackjax_mala": {"step_size": 0.1},
    "blackjax_hmc": {"step_size": 0.3, "num_integration_steps": 5},
    "blackjax_mclmc": {"step_size": 0.3, "L": 1.0},
    "blackjax_nuts": {"step_size": jnp.full(1, 0.1), "inverse_mass_matrix": jnp.ones((1, 2))},
}


@pytest.mark.parametrize("name", list(SETTINGS))
def test_evaluations_are_counted(name, counted):
    """One chain makes as many evaluations as its steps report, after those of its start."""
    energy, counts = counted
    target = targets.banana()._replace(energy=energy)
    method, settings = methods.CONTINUOUS[name], SETTINGS[name]
    sampler = method.make(target, settings, jax.random.key(0))
    state = sampler.init(jnp.ones((1, 2)))
    step, reported = jax.jit(sampler.step), np.zeros(2)
    state, _ = step(jax.random.key(1), state)
    jax.effects_barrier()
    before = np.array([counts["gradients"], counts["energies"]])
    for number in range(3):
        state, info = step(jax.random.key(2 + number), state)
        cost = method.cost(settings, info)
        reported += [float(np.sum(cost.gradients)), float(np.sum(cost.energies))]
    jax.block_until_ready(state)
    jax.effects_barrier()
    after = np.array([counts["gradients"], counts["energies"]])
    assert (after - before).tolist() == reported.tolist()


def trace(values, cost=1.0, warm_up=0.0):
    """Return a trace of blocks of one step, values (blocks, chains, m)."""
    values = np.asarray(values, float)
    total = warm_up + cost * np.arange(1, len(values) + 1)
    chains = values.shape[1]
    return Trace(values, values, np.tile(total[:, None], chains), np.full(chains, warm_up))


def test_estimates_leave_out_the_warm_up_and_what_is_over_budget():
    """Ten blocks of cost 1: at a budget of 5 the blocks 2 to 5 count, after a fifth of it."""
    values = np.arange(1.0, 11)[:, None, None] * np.array([1.0, 10])[None, :, None]
    one = trace(values)
    assert measures.estimates(one, 5, 2).tolist() == [[3.5], [35.0]]
    assert measures.estimates(one, 5, 1).tolist() == [[19.25]]
    late = trace(values, warm_up=3.0)  # block 1 ends at 4; those at 4 and 5 count
    assert measures.estimates(late, 5, 1).tolist() == [[(1.5 + 15) / 2]]
    assert np.isnan(measures.estimates(trace(values, warm_up=6.0), 5, 1)).all()


def test_squared_error_and_bias_by_hand():
    estimated = np.array([[1.0, 4.0], [3.0, 4.0]])
    mean, variance = np.array([0.0, 4.0]), np.array([4.0, 1.0])
    assert measures.squared_errors(estimated, mean, variance).tolist() == [0.125, 1.125]
    # Errors in standard deviations: 0.5 and 1.5, whose mean 1 has the variance 0.5 / 2.
    share, t = measures.bias(estimated, mean, variance)
    assert share == pytest.approx((1 - 0.25) / 2 / 0.625)
    assert t == pytest.approx(2.0)


def test_effective_samples_of_independent_draws_and_of_an_autoregression():
    """An autoregression with coefficient a has (1 - a) / (1 + a) effective samples per draw."""
    rng = np.random.default_rng(0)
    independent = trace(rng.standard_normal((5000, 4, 1)))
    size = measures.effective_samples(independent, 5000, 1)[0]
    assert size == pytest.approx(0.8 * 20_000, rel=0.1)
    steps = np.zeros((20_000, 4))
    for i in range(1, len(steps)):
        steps[i] = 0.8 * steps[i - 1] + rng.standard_normal(4)
    blocks = steps.reshape(-1, 10, 4)  # blocks of ten steps, whose means and last steps are kept
    kept = trace(blocks.mean(axis=1)[..., None])._replace(last=blocks[:, -1, :, None])
    size = measures.effective_samples(kept, 2000, 1)[0]
    assert size == pytest.approx(0.8 * 80_000 / 9, rel=0.15)


def test_methods_whose_intervals_overlap_are_tied():
    intervals = {"a": (1.0, 0.8, 1.2), "b": (1.5, 1.1, 2.0), "c": (2.0, 1.3, 3.0)}
    assert measures.tied(intervals) == ["a", "b"]
    constant = {"x": np.full((2, 5), 0.01), "y": np.full((2, 5), 0.1)}
    assert measures.scores(constant)["x"] == (-2.0, -2.0, -2.0)
    assert measures.tied(measures.scores(constant)) == ["x"]


def test_candidates_cover_the_ranges():
    options = (methods.Option("a", 0.01, 1.0), methods.Option("n", 2, 32, whole=True))
    tried = methods.candidates(options, 8)
    assert tried[0]["a"] == pytest.approx(0.01 * 100 ** (0.5 / 8))
    assert tried[1]["n"] == round(2 * 16 ** (0.5 + 1 / 32))
    assert len({s["n"] for s in tried}) >= 6
    assert methods.candidates((), 8) == [{}]


TINY = running.Protocol(budget=256, chains=2, seeds=2, pilots=2, blocks=64)


class FakeParticles:
    label, unbiased = "annealed SMC", True

    def __init__(self, target):
        self.choose = lambda tried, protocol, seed: (tried[0], [])
        self.final = lambda options, protocol, seed: {"errors": [[0.1]]}


def test_finished_rows_are_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "DISCRETE", {"dmala": methods.DISCRETE["dmala"]})
    monkeypatch.setattr(run, "choose", lambda runner, protocol, seed: ({"step_size": 2.0}, []))
    monkeypatch.setattr(run, "final", lambda *arguments: {"errors": [[0.2]]})
    monkeypatch.setattr(run.annealing, "Particles", FakeParticles)
    job = run.Job("rbm", TINY, 0, tmp_path, {"seed": 0})
    first = run.results(job)
    rows.append(tmp_path, next(first))  # and then the run is stopped
    first.close()
    assert [row["method"] for row in run.results(job)] == ["annealed_smc"]
    for row in run.results(job):
        rows.append(tmp_path, row)
    assert [row["method"] for row in rows.read(tmp_path)] == ["dmala", "annealed_smc"]
    assert job.settings("dmala") == {"step_size": 2.0}
    assert list(run.results(job)) == []
    assert len(list(run.results(job._replace(protocol=TINY._replace(seeds=3))))) == 2


def test_seconds_are_measured_for_rows_that_exist(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(methods, "DISCRETE", {"dmala": methods.DISCRETE["dmala"], "gibbs": None})
    monkeypatch.setattr(run.annealing, "Particles", lambda target: None)
    monkeypatch.setattr(
        run, "Runner", lambda method, target: SimpleNamespace(run=lambda *given: calls.append(1))
    )
    job = run.Job("rbm", TINY, 0, tmp_path, {"seed": 0, "date": "2026-01-02"})
    rows.append(tmp_path, job.row("sampler", "dmala", options={}))
    (row,) = run.seconds(job)  # "gibbs" and annealed SMC have no options yet
    assert len(calls) == 1 + 5
    assert (row["method"], len(row["seconds"])) == ("dmala", 5)
    assert " cores of " in row["machine"]
    rows.append(tmp_path, row)
    assert list(run.seconds(job)) == []


def test_independent_samples_per_second():
    """Of 2 seeds, 100 independent samples each, in 4 seconds."""
    row = {"protocol": {"seeds": 2}, "errors": [[0.5, 0.5], [0.01, 0.01]]}
    assert page.per_second(row, {"seconds": [4.0, 3.0, 100.0]}) == "50"
    assert page.per_second(row, None) == "—"


def test_existing_rows_need_the_flag(program, tmp_path):
    rows.append(tmp_path / "data" / "samplers", {"target": "rbm"})
    with pytest.raises(errors.UsageError, match="pass --resume"):
        program("benchmark_samplers", f"--workdir={tmp_path}").main()
    with pytest.raises(errors.UsageError, match="--targets=potts: allowed are all, gaussian"):
        program("benchmark_samplers", f"--workdir={tmp_path}", "--targets=potts").main()


@pytest.mark.slow
def test_pilots_choose_the_options_of_the_final_run(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "DISCRETE", {"dmala": methods.DISCRETE["dmala"]})
    found = list(run.results(run.Job("rbm", TINY, 0, tmp_path, {"seed": 0})))
    assert [len(row["pilots"]) for row in found] == [2, 0]
    best = min(found[0]["pilots"], key=lambda pilot: pilot["error"])
    assert found[0]["options"] == best["options"]
    assert np.shape(found[0]["errors"]) == (3, 2)


@pytest.mark.slow
def test_log_z_on_the_rbm():
    """Bennett's ratio from exact samples is near log Z; importance sampling is not far either."""
    target = discrete_targets.rbm()
    protocol = running.Protocol(budget=4096, chains=4, seeds=2)
    found = log_z.rows(target, {}, protocol, 0)
    assert len(found) == 3 * len(log_z.ESTIMATORS)
    last = {row["method"]: row["errors"] for row in found if row["budget"] == 4096}
    assert set(last) == set(log_z.ESTIMATORS) == set(page.LOG_Z_LABELS)
    for method in ("ais", "reverse_ais", "smc", "bennett", "tempering_bridge"):
        assert np.abs(last[method]).max() < 0.5


def test_the_page_is_that_of_the_rows():
    found = results.collect(rows.read(DOCS / "data" / "samplers"))
    text = (DOCS / "samplers_benchmark.md").read_text(encoding="utf-8")
    assert text == page.text(found)


def test_the_answer_names_only_the_tied_best():
    """Recompute each group of the answer from the numbers in the rows."""
    found = results.collect(rows.read(DOCS / "data" / "samplers"))
    sentences = page.answer(found)
    assert 1 <= len(sentences) <= 5
    for sentence, members in zip(sentences, results.CLASSES.values(), strict=False):
        scores, present = {}, [name for name in members if name in found.samplers]
        assert f"({', '.join(present)})" in sentence
        tables = [found.samplers[name] for name in present]
        for method in tables[0]:
            of_seeds = [results.final_errors(table[method]) for table in tables]
            if np.isfinite(of_seeds).all():
                scores[tables[0][method]["label"]] = np.array(of_seeds)
        intervals = measures.scores(scores)
        best = min(intervals, key=lambda name: intervals[name][0])
        for name in re.findall(r"\*\*(.+?)\*\*", sentence):
            assert intervals[name][1] <= intervals[best][2]


def rows_of(**errors):
    """Return a table of samplers: method -> row with the errors of its seeds."""
    return {m: {"label": m.upper(), "unbiased": True, "errors": [e]} for m, e in errors.items()}


def test_samplers_without_a_value_on_a_target_are_not_ranked_but_named():
    """On ising, b has no value for one seed and gibbs is absent; on rbm, c is absent."""
    low, high = [0.1, 0.11, 0.12, 0.1], [5.0, 5.1, 5.2, 5.3]
    tables = {
        "ising": rows_of(a=high, b=[0.1, None, 0.1, 0.1], c=low),
        "rbm": rows_of(a=high, b=low, gibbs=low),
    }
    found = results.Results(tables, {}, {})
    tied, unranked = results.best_of_class(found, ("ising", "random_graph", "rbm"))
    assert tied == ["a"]
    assert unranked == {"b": ["ising"], "c": ["rbm"], "gibbs": ["ising"]}
    (sentence, *_) = page.answer(found)
    assert "**A** has the lowest squared error" in sentence
    ends = "B (no value on ising), C (no value on rbm), GIBBS (no value on ising)."
    assert sentence.endswith(f"; not ranked: {ends}")
    assert page.otherwise(["gibbs", "a"], ["rbm"]) == " (on rbm: block Gibbs)"


def test_the_cost_share_is_that_of_the_largest_budget():
    row = {"budget": 100, "cost": 800, "protocol": {"chains": 4}}
    assert page.cost_share([row, row | {"budget": 200}]) == ""
    assert page.cost_share([row | {"budget": 200}, row]) == ""
    assert page.cost_share([row | {"budget": 400}]) == " at 0.50 of the budget"
    assert page.cost_share([row]) == " at 2.00 of the budget"
    assert page.cost_share([]) == ""


def test_single_targets_are_counted_and_their_other_winners_named():
    single = {"x": ["a", "b"], "y": ["b"], "z": ["c"]}
    names = {"a": "A", "b": "B", "c": "C"}
    said = "counted target by target, A is best or tied on 1 of 3"
    assert page.counts(["a", "b"], names, single) == f"{said}, B on 2; on z, C is best"
    assert page.counts(["a"], names, single) == f"{said}; on y, B is best; on z, C is best"
    assert page.alone(single | {"w": ["b"]}, names) == "; best without a tie: B on y, w; C on z"
