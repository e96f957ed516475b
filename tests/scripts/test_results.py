import json


def test_the_page_is_written_from_finished_runs(script, tmp_path):
    for number in range(2):
        summary = {"accuracy": 0.5 + number / 4, "effective_beta": 1.0, "sample_beta": 0.8}
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
    medians = {"accuracy": 0.625, "effective_beta": 1.0, "sample_beta": 0.8}
    assert json.loads(answer.stdout.splitlines()[-1]) == medians
    page = (tmp_path / "docs" / "digits.md").read_text(encoding="utf-8")
    assert "| test accuracy of argmin_y F(x, y) | 0.5 | 0.75 | 0.625 | >= 0.985 |" in page
    rows = page[page.index("| held out |") :].splitlines()
    assert rows[2] == "| 9 | 0.45 | 0.99 |"  # the most difficult first
    assert rows[11] == "| 0 | 0.9 | 0.99 |"
    assert rows[12] == "| median | 0.675 | 0.99 |"
    assert (tmp_path / "docs" / "figures" / "digits_samples.png").read_bytes() == b"a picture"
