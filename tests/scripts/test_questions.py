import json
from pathlib import Path

from scripts.questions import page

ROOT = Path(__file__).parents[2]


def finished_run(folder, **claims):
    (folder / "words").mkdir()
    summary = {"three_fonts_4": 0.98765, "table": {"hinge/hard": 1.0}, "a|b": 2, "claims": claims}
    (folder / "words" / "summary.json").write_text(
        json.dumps(summary | {"seconds": 12.5}), encoding="utf-8"
    )
    (folder / "words" / "words.png").write_bytes(b"a figure")


def test_the_page_is_written_from_finished_runs(script, tmp_path):
    finished_run(tmp_path, words_are_read=True)
    answer = script("questions", tmp_path, "--programs=words")
    assert answer.returncode == 0, answer.stderr
    last = json.loads(answer.stdout.strip().splitlines()[-1])
    assert last == {"finished": 1, "failed": []}
    text = (tmp_path / "docs" / "questions.md").read_text(encoding="utf-8")
    assert "| three_fonts_4 | 0.9877 |" in text
    assert "| table/hinge/hard | 1 |" in text
    assert "| a\\|b | 2 |" in text
    assert "| words are read | True |" in text
    assert "claims" not in text
    assert "seed 0, 12.5 s" in text
    assert f"![{page.ALTERNATIVE_TEXTS['words']}](figures/words.png)" in text
    assert (tmp_path / "docs" / "figures" / "words.png").read_bytes() == b"a figure"


def test_a_false_claim_fails_and_stands_on_the_page(script, tmp_path):
    finished_run(tmp_path, words_are_read=True, fonts_do_not_matter=False)
    answer = script("questions", tmp_path, "--programs=words")
    assert answer.returncode == 1
    assert json.loads(answer.stdout.splitlines()[-1]) == {"finished": 0, "failed": ["words"]}
    assert "failed: words\nthese claims are false: fonts do not matter." in answer.stderr
    assert "| fonts do not matter | False |" in (tmp_path / "docs" / "questions.md").read_text(
        encoding="utf-8"
    )


def test_every_program_has_its_question():
    programs = {path.stem for path in (ROOT / "experiments" / "questions").glob("*.py")}
    assert set(page.parts()[1]) == programs - {"__init__", "lettering", "plane", "word_reader"}


def test_an_unknown_program_is_refused_in_a_sentence(script, tmp_path):
    answer = script("questions", tmp_path, "--programs=sentences")
    assert answer.returncode == 1
    assert "--programs has 'sentences'; choose from" in answer.stderr
    assert not (tmp_path / "docs").exists()
