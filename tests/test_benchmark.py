"""The benchmark runs, tells what it measured, refuses what it does not know; no clock decides."""

import json
import pathlib
import subprocess
import sys

import pytest
from absl import app

from scripts.benchmark import alignment, efficiency, graphs, measure, report, suites
from scripts.benchmark.suite import Suite

ROOT = pathlib.Path(__file__).parents[1]
KEYS = {
    "langevin": {
        "sgld_default",
        "sgld_tuned_scan_vmap",
        "sgld_tuned_batch",
        "mala_tuned",
        "langevin_vs_floor",
        "two_devices",
    },
    "mlp": {"mlp_vs_gradient"},
    "conv": {"conv_vs_lax"},
    "train": {"train_vs_parts"},
    "scaling": {"exponent_chains", "exponent_steps"},
    "efficiency": {"ess_gaussian", "ess_funnel"},
    "discrete": {
        "ising_vs_thrml_default_flags",
        "ising_vs_noise_loop",
        "rbm_vs_thrml_default_flags",
        "rbm_vs_floor",
        "ais_vs_parts",
    },
    "graphs": {"graphs_vs_thrml", "graphs_vs_hamon", "graphs_vs_dwave", "graphs_vs_noise_loop"},
    "tempering": {
        "tempering_vs_hamon_glass_fixed_ladder",
        "tempering_vs_hamon_wells_fixed_ladder",
        "tempering_vs_hamon_glass_tuning_included",
    },
    "alignment": {"alignment_vs_adabmdca"},
    "verbs": {"sample_vs_composition", "fit_vs_update", "fit_vs_stack_and_update"},
    "keeping": {"run_vs_training"},
    "objectives": {"score_matching_vs_gradient", "flow_matching_vs_squared_score"},
    "images": {"images_vs_products"},
}


OTHERS = ("_thrml", "_hamon", "_dwave", "_adabmdca")  # peers that the tests do not install


def benchmark(*flags):
    return subprocess.run(
        [sys.executable, "-m", "scripts.benchmark", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.slow
def test_every_suite_reports(tmp_path):
    pytest.importorskip("blackjax")
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    file, page = tmp_path / "runs" / "all.json", tmp_path / "docs" / "page.md"
    found = benchmark(
        "--quick", "--repetitions=1", "--peers=blackjax", f"--json={file}", f"--docs={page}"
    )
    assert found.returncode == 0, found.stderr
    last = json.loads(found.stdout.splitlines()[-1])
    assert set(last) == set.union(*KEYS.values())
    assert all(isinstance(last[key], float) != any(peer in key for peer in OTHERS) for key in last)

    written = json.loads(file.read_text(encoding="utf-8"))
    assert set(written["suites"]) == set(KEYS)
    assert {"date", "processor", "cores", "python", "jax"} <= set(written["machine"])
    assert written["suites"]["langevin"]["facts"]["two_devices_identical"]
    text = page.read_text(encoding="utf-8")
    assert all(f"## {name}" in text for name in KEYS)
    assert page.with_suffix(".svg").exists()


def test_peers_that_are_not_installed_are_skipped_by_name(loaded, monkeypatch, capsys):
    # The interpreter of the tests has no PyTorch. A stand-in takes the place of the measurements.
    asked = ("--suite=mlp", "--peers=torchebm,ebmkit", f"--torch_python={sys.executable}")
    program = loaded("scripts.benchmark.__main__", *asked)
    suite = Suite("some work", None, {"a_vs_b": 0.5}, {}, TIMES, {}, {})
    monkeypatch.setitem(suites.SUITES, "mlp", lambda peers, repetitions, quick: suite)
    program.main(["benchmark"])
    printed = capsys.readouterr().out
    if "Skipping" not in printed:
        pytest.skip("the PyTorch peers are installed here")
    assert "Skipping torchebm: not installed" in printed
    assert "Skipping ebmkit: not installed" in printed
    assert json.loads(printed.splitlines()[-1]) == {"a_vs_b": 0.5}


@pytest.mark.parametrize(
    ("flag", "allowed"),
    [
        ("--suite=langevin,nope", "langevin, mlp, conv, train, scaling"),
        ("--suite=", "langevin, mlp, conv, train, scaling"),
        ("--peers=nope", "blackjax, torchebm, ebmkit"),
        ("--repetitions=0", "repetitions"),
        ("--nope=1", "Unknown command line flag 'nope'"),
    ],
)
def test_unknown_values_are_refused(flag, allowed):
    found = benchmark(flag)
    assert found.returncode == 1
    assert allowed in found.stderr
    assert "Traceback" not in found.stderr


TIMES = {
    "ours": [1.0, 1.0, 3.0],
    "peer": [2.0, 2.0, 9.0],
    "peer, default flags": [8.0, 8.0, 8.0],
    "slowed": [5.0, 5.0, 5.0],
    "slowed, default flags": [4.0, 4.0, 4.0],
    "floor": [0.25, 0.25, 0.25],
}


def test_every_ratio_is_the_other_time_over_ours():
    assert measure.ratio(TIMES, "peer", "ours") == 2.0
    assert measure.speed(TIMES, "ours", "floor", "floor") == 0.5
    assert measure.speed(TIMES, "ours", "not measured") is None


def test_a_peer_has_our_compiler_options_where_they_do_not_slow_it():
    """They make ``slowed`` 5 / 4 as slow: its time at default flags counts instead."""
    peers = [name for name in TIMES if name.startswith(("peer", "slowed"))]
    assert measure.fair(TIMES, peers) == ["peer", "slowed, default flags"]
    assert measure.fair(TIMES, ["slowed"]) == ["slowed, default flags"]
    assert measure.fair(TIMES, ["floor"]) == ["floor"]


def test_the_interval_of_a_ratio_of_effective_samples():
    """Constant sizes have no error; otherwise the medians of all resamples lie within the data."""
    assert efficiency.ratio_interval([4.0] * 5, [2.0] * 5, 3.0) == [6.0, 6.0]
    low, high = efficiency.ratio_interval([3.0, 4.0, 5.0], [1.0, 2.0, 2.5], 1.0)
    assert 3 / 2.5 <= low < 2.0 < high <= 5.0


def test_a_graph_of_a_peer_has_the_flags_that_suit_it():
    """Our options make hamon 5 / 4 as slow on the random graph, and thrml faster on the cube."""
    times = {
        "ours, 3-regular, signs": [2.0],
        "hamon, 3-regular, signs": [10.0],
        "hamon, 3-regular, signs, default flags": [8.0],
        "ours, cube, signs": [1.0],
        "thrml, cube, signs": [7.0],
        "thrml, cube, signs, default flags": [9.0],
        "ours, cube, signs, processor time": [2.0],
        "dwave-samplers, cube, signs, processor time": [12.0],
    }
    suite = graphs.compared(graphs.QUICK, {}, times)
    dwave = {"dwave-samplers, cube, signs, processor time": 6.0}
    expected = {"thrml, cube, signs": 7.0, "hamon, 3-regular, signs, default flags": 4.0} | dwave
    assert suite.peers == expected
    for case, ratio in expected.items():
        assert measure.spread(times, case, suite.baselines[case]) == (ratio, ratio)
    assert suite.ratios["graphs_vs_hamon"] == 4.0


def test_a_peer_of_the_same_moves_is_compared_by_time():
    """MALA's ratio is that of the times, 3; NUTS has that of effective samples per second, 4."""
    times = {"ours, funnel": [1.0], "blackjax.mala, funnel": [3.0], "blackjax.nuts, funnel": [8.0]}
    ess = {"ours, funnel": [4.0], "blackjax.mala, funnel": [2.0], "blackjax.nuts, funnel": [8.0]}
    suite = efficiency.compared(efficiency.QUICK, ess, {}, times, {})
    rated = "blackjax.nuts, funnel, effective samples per second"
    assert suite.peers == {"blackjax.mala, funnel": 3.0, rated: 4.0}
    assert suite.baselines == {"blackjax.mala, funnel": "ours, funnel"}
    assert suite.ratios == {"ess_gaussian": None, "ess_funnel": 6.0}
    assert suite.facts["95 % interval of ess_funnel"] == [6.0, 6.0]
    assert suite.facts[f"95 % interval of the ratio, {rated}"] == [4.0, 4.0]


def test_the_page_begins_with_the_ratios_and_names_its_limits(tmp_path):
    facts = {"95 % interval of the ratio, peer": [1.5, 2.5]}
    times = {"ours": [1.0, 2.0, 1.0], "peer": [2.0, 3.0, 2.5], "other": [9.0, 9.0, 9.0]}
    found = {"peer": 2.0, "other": 9.0, "absent": None}
    rest = {}, facts, {"peer": "ours"}
    suite = Suite("some work", None, {"a_vs_b": 0.5}, found, times, *rest)
    machine = {"backend": "cpu", "date": "2026-01-02", "processor": "Xeon"}
    page = tmp_path / "page.md"
    measured = {"langevin": suite._asdict()}
    report.write_docs(page, {"machine": machine, "peers": {"peer": "1.0"}, "suites": measured})
    text = page.read_text(encoding="utf-8")
    summary, limits, rest = text.partition("## Limits")[0], *text.partition("## Limits")[1:]
    assert "Above 1 ebm_jax is faster" in summary
    assert "| [langevin](#langevin) | peer | 2 [1.5, 2.5] | 1.5 to 2.5 |" in summary
    assert "| [langevin](#langevin) | other | 9 |  |" in summary
    assert "absent" not in summary
    for word in ("CPU", "SGLD", "explicit edges", "hamon", "GPU"):
        assert word in limits + rest
    assert "Not measured yet: graphs" in text


def suite_of(seconds: float) -> Suite:
    return Suite("some work", None, {}, {}, {"ours": [seconds]}, {}, {})


def test_a_second_run_keeps_the_suites_of_the_first(tmp_path):
    path = tmp_path / "benchmark.json"
    first = report.everything({"mlp": suite_of(1.0), "conv": suite_of(2.0)}, {"a": "1.0"}, {})
    first["machine"]["date"] = "2026-01-02"
    path.write_text(json.dumps(first), encoding="utf-8")
    before = report.read(path, {"a": "1.0", "b": "2.0"})
    found = report.everything({"conv": suite_of(3.0)}, {"b": "2.0"}, {}, before)
    assert {name: suite["times"]["ours"] for name, suite in found["suites"].items()} == {
        "mlp": [1.0],
        "conv": [3.0],
    }
    assert found["peers"] == {"a": "1.0", "b": "2.0"}
    assert found["machine"]["date"].startswith("2026-01-02 to ")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1, 2]", "not a file of this program"),
        ("{", "not a file of this program"),
        ('{"machine": {"python": "2.7"}, "peers": {}, "suites": {}}', "python 2.7"),
        ('{"machine": {}, "peers": {"b": "1.0"}, "suites": {}}', r"b 1.0 \(now 2.0\)"),
    ],
)
def test_measurements_of_other_conditions_are_not_mixed(tmp_path, text, what):
    path = tmp_path / "benchmark.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(app.UsageError, match=what):
        report.read(path, {"b": "2.0"})


def test_trainings_with_the_same_options_are_compared_per_update():
    """2 seconds per update against 1; other options make other updates."""
    ours = alignment.Reached(4.0, 4, 0.95)
    found = {alignment.SAME_OPTIONS: alignment.Reached(10.0, 5, 0.9)}
    found["adabmDCA, its defaults"] = alignment.Reached(9.0, 1, 0.5)
    assert alignment.per_update(ours, found) == {f"{alignment.SAME_OPTIONS}, time per update": 2.0}
    assert alignment.per_update(ours, {}) == {}
