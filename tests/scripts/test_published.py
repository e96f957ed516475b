"""The rows of published numbers, on made-up weights that NumPy can enumerate; their page."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from absl import flags

from ebm_jax.energies.boltzmann import RBM
from experiments.data import datasets
from experiments.data.splits import Split
from experiments.run import errors
from scripts.results import ising_tables, published, rows, weights

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
    found = weights.exact_rbm(None, 0, tmp_path)
    assert found["log_z"] == pytest.approx(log_z(rbm), rel=1e-13)
    test = log_weight(rbm, split.test_x >= 0.5).mean() - log_z(rbm)
    assert found["log_likelihoods_at_threshold_0.5"]["test"] == pytest.approx(test, rel=1e-12)


def test_the_annealed_row(made_up, tmp_path, monkeypatch):
    """Its interval misses in 0.3 %; grey values enter as they are, and samples of them do."""
    monkeypatch.setattr(weights, "schedule", lambda: np.linspace(0, 1, 50))
    rbm, split = made_up
    found = weights.annealed_rbm(None, 0, tmp_path)
    low, high = found["log_z_interval"]
    assert low < log_z(rbm) < high
    assert high - low < 0.2
    others = found["of_other_binarisations"]
    grey = log_weight(rbm, split.test_x).mean() - found["log_z"]
    assert others["grey"] == pytest.approx(grey, abs=1e-4)
    assert set(others) == {"stochastic_2", "threshold_0.5", "grey"}
    assert next(iter(found)) == "test_log_likelihood"
    assert found["test_log_likelihood"] != others["stochastic_2"]
    likelihood = found["test_log_likelihood"]
    assert found["interval"] == pytest.approx(
        [likelihood + found["log_z"] - z for z in (high, low)]
    )


def test_the_schedule_is_the_published_one():
    betas = weights.schedule()
    assert len(betas) == 14_501
    steps = np.diff(betas)
    for first, last, step in ((0, 500, 1e-3), (500, 4500, 1e-4), (4500, 14_500, 1e-5)):
        np.testing.assert_allclose(steps[first:last], step, rtol=1e-6)


@pytest.mark.slow
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
    measure = rows.program("rbm", "--dataset=mnist", keep=("test_log_likelihood",))
    (tmp_path / "summary.json").write_text(
        '{"test_log_likelihood": -2.5, "seconds": 3, "a": 1}', encoding="utf-8"
    )
    assert measure(None, 0, tmp_path) == {"test_log_likelihood": -2.5, "seconds": 3}


def rows_of(page):
    """Return the cells of every row of the page's table, the header first."""
    table = [row for row in page.splitlines() if row.startswith("| ")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in table]


def test_the_page_keeps_what_was_measured_before_in_another_workdir(tmp_path, monkeypatch):
    found = {"log_z": 1 / 3, "interval": [0.25, 0.5], "seconds": 2.0, "test": {"a_b": -1.5}}
    known = rows.Row("it", "0.3 ([source](x))", "0.31", "the data", lambda *_: found)
    exact = known._replace(measure=lambda *_: found | {"interval": [1 / 3, 1 / 3]})
    monkeypatch.setattr(published, "ROWS", {"one": known, "other": exact, "not_run": known})
    docs = tmp_path / "docs"
    for name in ("other", "one"):
        published.measure(name, tmp_path / name, None, seed=3)
        published.write(tmp_path / name, docs)
    page = (docs / "results.md").read_text(encoding="utf-8")
    head, one, other, commands, how_one, how_other = rows_of(page)
    assert one[:3] == ["it<br>*Comparison*: the data", "0.3 ([source](x))", "0.31"]
    assert one[3:] == ["0.333333 [0.25, 0.5] (test: a b -1.5)"]
    assert other[3] == "0.33333333333333 (test: a b -1.5)"  # what is exact in full
    assert how_one[:2] == ["`python -m scripts.results --only=one --seed=3`", "2.0"]
    assert how_other[2] == how_one[2]
    assert "not measured yet: `python -m scripts.results --only=not_run`." in page
    kept = (tmp_path / "one" / "one_seed3.json").read_text(encoding="utf-8")
    assert json.loads(kept)["found"] == found
    # One of them with the same seed and with another, from a third folder; the page was lost.
    (docs / "results.md").unlink()
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(published.os, "cpu_count", lambda: 99)
        for seed in (3, 4):
            published.measure("other", tmp_path / "b", None, seed=seed)
    published.write(tmp_path / "b", docs)
    again = rows_of((docs / "results.md").read_text(encoding="utf-8"))
    assert again[:2] == [head, one]
    assert again[2][3] == f"seed 3: {other[3]}<br>seed 4: {other[3]}"
    assert again[3:5] == [commands, how_one]
    assert [row[0][-8:] for row in again[5:]] == ["-seed=3`", "-seed=4`"]
    assert all(row[2].endswith(", 99 cores") for row in again[5:])


@pytest.mark.parametrize(
    ("number", "verdict"), [(6.1, "reached: at least 6.1"), (6.09, "**missed**: below 6.1")]
)
def test_a_published_value_that_is_not_reached_is_marked(number, verdict):
    row = {"name": "ising_couplings_2000", "found": {"it": number}, "seed": 0, "where": ""}
    assert published.value(row) == f"{number:.6g}, {verdict}"


@pytest.mark.parametrize(
    ("sizes", "word"), [([100.0, 35.0], ""), ([100.0, 21.0], "Barely "), ([19.0, 40.0], "Unrel")]
)
def test_few_effective_samples_are_marked(sizes, word):
    for found in ({"effective_sample_sizes": sizes}, {"effective_sample_size": min(sizes)}):
        row = {"name": "rbm_500", "found": {"it": 1.0} | found, "seed": 0, "where": ""}
        shown = published.value(row)
        assert ("reliable" in shown) == bool(word)
        assert word in shown


def test_the_warnings_of_a_run_are_shown():
    found = {"it": 1.0, "interval": [0.5, 1.5], "warnings": ["One trip.", "Too few."]}
    row = {"name": "rbm_500", "found": found, "seed": 0, "where": ""}
    assert published.value(row) == "1 [0.5, 1.5]. **Unreliable**: One trip. Too few"
    row["found"] = found | {"warnings": []}
    assert published.value(row) == "1 [0.5, 1.5]"


@pytest.mark.parametrize(("agreement", "missed"), [(0.969, True), (0.97, False)])
def test_missed_targets_of_images_are_marked(agreement, missed):
    found = {"accuracy": 0.99, "label_agreement": agreement, "seconds": 3000.0}
    row = {"name": "mnist_quick", "found": found, "seed": 0, "where": ""}
    assert ("**Missed**: label agreement (target >= 0.97)" in published.value(row)) == missed


def test_the_committed_page_is_written_from_the_committed_numbers():
    docs = Path(__file__).parents[2] / "docs"
    runs = json.loads((docs / "results.json").read_text(encoding="utf-8"))
    assert (docs / "results.md").read_text(encoding="utf-8") == published.page(runs)
    assert set(runs) <= set(published.ROWS)


def test_every_published_number_has_a_link():
    for name, row in published.ROWS.items():
        if re.search(r"\d+\.\d", re.sub(r"\[.*?\]\(.*?\)", "", row.published)):
            assert re.search(r"\[[^\]]+\]\(https://", row.published), name
        assert row.comparison, name


def test_named_rows_are_printed_under_their_names(program, tmp_path, capsys):
    (tmp_path / "rbm_16" / "seed0").mkdir(parents=True)
    summary = {"test_log_likelihood": -140.0, "training_seconds": 2.0, "seconds": 3.0}
    (tmp_path / "rbm_16" / "seed0" / "summary.json").write_text(
        json.dumps(summary), encoding="utf-8"
    )
    docs = f"--docs={tmp_path / 'docs'}"
    program("results", f"--workdir={tmp_path}", docs, "--only=rbm_16").main()
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"rbm_16": summary}
    assert "| -140 (training seconds 2) |" in (tmp_path / "docs" / "results.md").read_text(
        encoding="utf-8"
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--only=rbm_cd26"], "allowed are digits, levels, rbm_15_exact, .*got 'rbm_cd26'"),
        (["--only=rbm_15_exact", "--data_dir=/proc/none"], "mnistvh_15.mat is missing"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(program, tmp_path, given, message):
    with pytest.raises((flags.IllegalFlagValueError, errors.UsageError), match=message):
        program("results", f"--workdir={tmp_path}", *given).main()
