"""The rows of the benchmark of objectives: they round-trip, and a killed write loses one line."""

import io
import json

import pytest

from scripts.benchmark_objectives import rows


def trial(**changes):
    return {
        "kind": "trial",
        "problem": "rings",
        "objective": "cd",
        "trial": 3,
        "learning_rate": 0.01,
        "options": {"steps": 5},
        "updates": 10,
        "passes": 1e4,
        "validation_gap": None,
        "status": "diverged",
        "seconds": 0.5,
        "date": "2026-11-29",
    } | changes


def test_rows_round_trip_and_later_ones_replace_earlier_ones(tmp_path):
    other = trial(trial=4, validation_gap=0.25, status="ok")
    for row in (trial(), other, trial(seconds=0.75)):
        rows.append(tmp_path, row)
    assert rows.read(tmp_path) == [trial(seconds=0.75), other]
    assert len((tmp_path / "rings.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_part_of_a_line_is_skipped_and_does_not_spoil_the_next(tmp_path):
    rows.append(tmp_path, trial())
    with (tmp_path / "rings.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(trial(trial=7))[:40])
    rows.append(tmp_path, trial(trial=8))
    assert [row["trial"] for row in rows.read(tmp_path)] == [3, 8]


def test_a_row_with_other_fields_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"\['gap'\] are missing or not allowed"):
        rows.append(tmp_path, trial(gap=1.0))
    with pytest.raises(ValueError, match="kind must be one of problem, cost, trial"):
        rows.append(tmp_path, trial(kind="result"))
    with pytest.raises(ValueError, match="JSON"):
        rows.append(tmp_path, trial(validation_gap=float("nan")))
    assert not list(tmp_path.iterdir())


def test_the_table_has_options_as_json():
    file = io.StringIO()
    rows.write_csv([trial(), trial(kind="cost")], "trial", file)
    header, row = file.getvalue().splitlines()
    assert header.startswith("problem,objective,trial,learning_rate,options")
    assert row.startswith('rings,cd,3,0.01,"{""steps"": 5}",10,10000.0,,diverged')
