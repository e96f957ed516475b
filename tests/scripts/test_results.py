import json
import math
from pathlib import Path

import pytest

from scripts.results import levels


def test_the_page_is_written_from_finished_runs(script, tmp_path):
    for number in range(2):
        summary = {"accuracy": 0.97 + number / 50, "effective_beta": 1.0, "sample_beta": 0.8}
        summary |= {"one_nn": 0.58 + number / 100}
        (tmp_path / f"seed{number}").mkdir()
        (tmp_path / f"seed{number}" / "summary.json").write_text(
            json.dumps(summary), encoding="utf-8"
        )
    (tmp_path / "seed0" / "samples.png").write_bytes(b"a picture")
    for digit in range(10):
        summary = {"auroc_held_out": 0.9 - digit / 20, "accuracy": 0.99}
        (tmp_path / f"held_out{digit}").mkdir()
        (tmp_path / f"held_out{digit}" / "summary.json").write_text(
            json.dumps(summary), encoding="utf-8"
        )
    answer = script("results", tmp_path, "--seeds=2")
    assert answer.returncode == 0, answer.stderr
    medians = {"accuracy": 0.98, "one_nn": 0.585, "effective_beta": 1.0, "sample_beta": 0.8}
    assert json.loads(answer.stdout.splitlines()[-1]) == pytest.approx(medians)
    page = (tmp_path / "docs" / "digits.md").read_text(encoding="utf-8")
    accuracy, one_nn = (
        next(row for row in page.splitlines() if f"| {target} |" in row)
        for target in (">= 0.985", "<= 0.58")
    )
    assert accuracy.endswith("| 0.97 | 0.99 | 0.98 | >= 0.985 | **missed** (met by 1 of 2 seeds) |")
    assert one_nn.endswith("| 0.58 | 0.59 | 0.585 | <= 0.58 | **missed** (met by 1 of 2 seeds) |")
    rows = page[page.index("| held out |") :].splitlines()
    assert rows[2] == "| 9 | 0.45 | 0.99 |"  # the most difficult first
    assert rows[11] == "| 0 | 0.9 | 0.99 |"
    assert rows[12] == "| median | 0.675 | 0.99 |"
    assert (tmp_path / "docs" / "figures" / "digits_samples.png").read_bytes() == b"a picture"


@pytest.fixture
def digits(loaded):
    return loaded("scripts.results.digits")


@pytest.mark.parametrize("bound", [0.0, 0.58, 20.0])
def test_a_target_is_met_on_its_side_and_on_the_bound(digits, bound):
    for value in (bound - 1e-9, bound, math.nextafter(bound, -1e9), bound + 1e-9, 1e9, -1e9):
        assert digits.meets(value, f">= {bound}") == (value >= bound)
        assert digits.meets(value, f"<= {bound}, or what follows") == (value <= bound)
    for sign in (">=", "<="):
        assert not digits.meets(math.nan, f"{sign} {bound}")


def test_the_committed_page_marks_what_it_missed(digits):
    """Every row with a target has the verdict that its median has."""
    page = (Path(__file__).parents[2] / "docs" / "digits.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in page.splitlines()]
    judged = [row for row in rows if len(row) == 7 and row[5][:1] in "<>" and row[5]]
    assert len(judged) >= 7
    for *_, median, target, verdict in judged:
        sign, bound = target.split()
        met = float(median) >= float(bound) if sign == ">=" else float(median) <= float(bound)
        assert verdict.startswith("met" if met else "**missed**"), verdict


@pytest.mark.parametrize(
    ("dense", "said"),
    [
        (0.50, "better than the digits example:"),
        (0.62, "as good as the digits example within two standard errors:"),
        (0.65, "worse than the digits example:"),
    ],
)
def test_the_sentence_on_noise_levels_follows_from_the_errors(dense, said):
    """Two seeds 0.02 apart: the difference has the standard error 0.014."""
    pairs = {levels.DIGITS: 0.6, "levels, dense": dense, "levels, residual": 0.9}
    found = {k: [{"one_nn": v - 0.01}, {"one_nn": v + 0.01}] for k, v in pairs.items()}
    first, second, *_ = levels.verdict(found)
    assert first.endswith("the best noise-indexed energy (levels, dense) is")
    assert second == said


def test_the_section_on_noise_levels_is_written_and_kept(program, tmp_path):
    """Two seeds of each run, 0.02 apart; when the page is written again, the section stays."""
    names = {"example": 0.6, "dense": 0.65, "residual": 0.66, "spectral": 0.67}
    for name, one_nn in names.items():
        for seed, apart in enumerate((-0.01, 0.01)):
            summary = {"one_nn": one_nn + apart, "nearest_test_5": 0.7}
            (tmp_path / "levels" / f"{name}{seed}").mkdir(parents=True)
            (tmp_path / "levels" / f"{name}{seed}" / "summary.json").write_text(
                json.dumps(summary), encoding="utf-8"
            )
    (tmp_path / "docs").mkdir()
    page = tmp_path / "docs" / "digits.md"
    page.write_text("# Measured\n\nrows\n", encoding="utf-8")
    work = f"--workdir={tmp_path}", f"--docs={page.parent}", "--seeds=2"
    program("results", *work, "--only=levels").main()
    text = page.read_text(encoding="utf-8")
    assert text.startswith("# Measured\n\nrows\n\n## An energy")
    rows = [row for row in text.splitlines() if row.startswith("| ")]
    assert rows[1].endswith("| 0.600 ± 0.010 | 0.650 ± 0.010 | 0.660 ± 0.010 | 0.670 ± 0.010 |")
    assert any(row.endswith("| 0.7 | 0.7 | 0.7 | 0.7 |") for row in rows)
    assert "(levels, dense) is\nworse than the digits example" in text
    assert "a difference\nof +0.050 ± 0.014" in text
    for name in ("seed0", "seed1"):
        (tmp_path / name).mkdir()
        summary = {"accuracy": 0.97, "effective_beta": 1.0, "sample_beta": 0.8}
        (tmp_path / name / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    (tmp_path / "seed0" / "samples.png").write_bytes(b"a picture")
    program("results", *work, "--noheld_out").main()
    rewritten = page.read_text(encoding="utf-8")
    assert rewritten.startswith("# The digits example")
    assert rewritten.endswith(text[text.index("## An energy") :])
