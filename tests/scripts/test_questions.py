import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def questions(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "scripts.questions", f"--workdir={folder}", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )


def test_the_page_is_written_from_finished_runs(tmp_path):
    (tmp_path / "words").mkdir()
    summary = {"three_fonts_4": 0.98765, "table": {"hinge/hard": 1.0}, "seconds": 12.5}
    (tmp_path / "words" / "summary.json").write_text(json.dumps(summary))
    (tmp_path / "words" / "words.png").write_bytes(b"a figure")
    answer = questions(tmp_path, "--programs=words")
    assert answer.returncode == 0, answer.stderr
    last = json.loads(answer.stdout.strip().splitlines()[-1])
    assert last == {"finished": 1, "failed": []}
    page = (tmp_path / "docs" / "questions.md").read_text()
    assert "| three_fonts_4 | 0.9877 |" in page
    assert "| table/hinge/hard | 1 |" in page
    assert "seed 0, 12.5 s" in page
    assert "![words](figures/words.png)" in page
    assert (tmp_path / "docs" / "figures" / "words.png").read_bytes() == b"a figure"


def test_an_unknown_program_is_refused_in_a_sentence(tmp_path):
    answer = questions(tmp_path, "--programs=sentences")
    assert answer.returncode == 1
    assert "--programs has 'sentences'; choose from" in answer.stderr
    assert not (tmp_path / "docs").exists()
