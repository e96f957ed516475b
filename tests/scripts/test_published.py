"""The rows of published numbers, on made-up weights that NumPy can enumerate; their page."""

import itertools
import json

import numpy as np
import pytest
from absl import flags

from ebm_jax.energies.boltzmann import RBM
from experiments import datasets, runs
from experiments.data import Split
from scripts.results import ising_tables, published

VISIBLE, HIDDEN = 6, 4


@pytest.fixture
def made_up(monkeypatch):
    """Put a small RBM and grey images in the place of the published ones; return both."""
    rng = np.random.default_rng(0)
    rbm = RBM(*(rng.normal(size=s) for s in ((VISIBLE, HIDDEN), VISIBLE, HIDDEN)))
    x = rng.random((30, VISIBLE)).astype(np.float32)
    split = Split(x[:20], np.zeros(20, int), x[20:], np.zeros(10, int))
    monkeypatch.setattr(datasets, "rbm_weights", lambda which, data_dir: rbm)
    monkeypatch.setattr(datasets, "mnist", lambda data_dir: split)
    return rbm, split


def log_weight(rbm, v):
    """Return log sum_h exp(-E(v, h)), by the sum."""
    h = np.array(list(itertools.product((0, 1), repeat=HIDDEN)))
    return np.log(
        np.exp(v @ rbm.weights @ h.T + (v @ rbm.visible_bias)[:, None] + h @ rbm[2]).sum(1)
    )


def log_z(rbm):
    v = np.array(list(itertools.product((0, 1), repeat=VISIBLE)))
    return np.log(np.exp(log_weight(rbm, v)).sum())


def test_the_exact_row(made_up, tmp_path):
    rbm, split = made_up
    found = published.exact_rbm(None, 0, tmp_path)
    assert found["log_z"] == pytest.approx(log_z(rbm), rel=1e-13)
    test = log_weight(rbm, split.test_x >= 0.5).mean() - log_z(rbm)
    assert found["log_likelihoods_at_threshold_0.5"]["test"] == pytest.approx(test, rel=1e-12)


def test_the_annealed_row(made_up, tmp_path, monkeypatch):
    """Its interval misses in 0.3 %; grey values enter as they are, and samples of them do."""
    monkeypatch.setattr(published, "schedule", lambda: np.linspace(0, 1, 50))
    rbm, split = made_up
    found = published.annealed_rbm(None, 0, tmp_path)
    low, high = found["interval"]
    assert low < log_z(rbm) < high
    assert high - low < 0.2
    likelihoods = found["test_log_likelihoods"]
    grey = log_weight(rbm, split.test_x).mean() - found["log_z"]
    assert likelihoods["grey"] == pytest.approx(grey, abs=1e-4)
    assert set(likelihoods) == {"stochastic_1", "stochastic_2", "threshold_0.5", "grey"}
    assert likelihoods["stochastic_1"] != likelihoods["stochastic_2"]


def test_the_schedule_is_the_published_one():
    betas = published.schedule()
    assert len(betas) == 14_501
    steps = np.diff(betas)
    for first, last, step in ((0, 500, 1e-3), (500, 4500, 1e-4), (4500, 14_500, 1e-5)):
        np.testing.assert_allclose(steps[first:last], step, rtol=1e-6)


def test_the_lattices(monkeypatch, tmp_path):
    """Five errors of a standard normal each: one beyond 4 in 3e-4 of seeds."""
    for name, tables in (("LOG_Z", ising_tables.LOG_Z), ("ENERGY", ising_tables.ENERGY)):
        monkeypatch.setattr(ising_tables, name, {4: tables[4]})
    monkeypatch.setattr(ising_tables, "SIDE", 4)
    monkeypatch.setattr(ising_tables, "BETAS", 50)
    found = ising_tables.measure(None, 0, tmp_path)
    assert found["max_abs_error"] < 1e-10
    assert found["max_abs_error_energy"] < 1e-7
    z = found["annealing_z_at_4"]
    assert len(z) == 5
    assert np.abs(z).max() < 4
    assert np.std(z) > 0.05


def test_a_row_of_a_program_is_its_summary(tmp_path):
    measure = published.program("rbm", "--dataset=mnist", keep=("test_log_likelihood",))
    (tmp_path / "summary.json").write_text(
        '{"test_log_likelihood": -2.5, "seconds": 3, "a": 1}', encoding="utf-8"
    )
    assert measure(None, 0, tmp_path) == {"test_log_likelihood": -2.5, "seconds": 3}


def test_the_page_keeps_what_was_measured_before(tmp_path, monkeypatch):
    found = {"log_z": 1 / 3, "interval": [0.25, 0.5], "seconds": 2.0, "test": {"a_b": -1.5}}
    known = published.ROWS["ising"]._replace(what="it", published="0.3", measure=lambda *_: found)
    exact = known._replace(measure=lambda *_: found | {"interval": [1 / 3, 1 / 3]})
    monkeypatch.setattr(published, "ROWS", {"one": known, "other": exact, "not_run": known})
    for name in ("other", "one"):
        published.measure(name, tmp_path, None, seed=3)
        published.write(tmp_path, tmp_path / "docs")
    page = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| it |")]
    assert rows[0] == (
        "| it | 0.3 | 0.333333 (test a b -1.5) | 0.25, 0.5 | 3 | 2.0 | "
        "`python -m scripts.results --only=one --seed=3` |"
    )
    assert len(rows) == 2
    assert "| 0.33333333333333 (test" in rows[1]  # what is exact in full
    assert json.loads((tmp_path / "one.json").read_text(encoding="utf-8"))["found"] == found
    assert page.count("Measured on") == 1
    # From another folder too, where one of them is measured again.
    with monkeypatch.context() as other:
        other.setattr(published.os, "cpu_count", lambda: 99)
        published.measure("other", tmp_path / "b", None, seed=4)
    published.write(tmp_path / "b", tmp_path / "docs")
    again = (tmp_path / "docs" / "results.md").read_text(encoding="utf-8")
    assert [line for line in again.splitlines() if line.startswith("| it |")] == [
        rows[0],
        rows[1].replace("--seed=3", "--seed=4").replace("| 3 |", "| 4 |"),
    ]
    assert again.count("Measured on") == 2


def test_named_rows_are_printed_under_their_names(program, tmp_path, capsys):
    (tmp_path / "rbm_16").mkdir()
    summary = {"test_log_likelihood": -140.0, "training_seconds": 2.0, "seconds": 3.0}
    (tmp_path / "rbm_16" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    docs = f"--docs={tmp_path / 'docs'}"
    program("results", f"--workdir={tmp_path}", docs, "--only=rbm_16").main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"rbm_16": summary}
    assert "| -140 (training seconds 2) |" in (tmp_path / "docs" / "results.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--only=rbm_cd26"], "allowed are digits, rbm_15_exact, .*got 'rbm_cd26'"),
        (["--only=rbm_15_exact", "--data_dir=/proc/none"], "mnistvh_15.mat is missing"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(program, tmp_path, given, message):
    with pytest.raises((flags.IllegalFlagValueError, runs.UsageError), match=message):
        program("results", f"--workdir={tmp_path}", *given).main()
