import json
from pathlib import Path

from scripts.questions import page

ROOT = Path(__file__).parents[2]


def finished_run(folder, **claims):
    (folder / "words").mkdir()
    summary = {"three_fonts_4": 0.98765, "table": {"hinge/hard": 1.0}, "a|b": 2, "claims": claims}
    value = {"what": "share", "value": 0.98654, "bound": "> 0.95"}
    summary["claim_values"] = {"words_are_read": value}
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
    assert "| words are read | share | 0.987 | > 0.95 | yes |" in text
    assert "claim_values" not in text
    assert "seed 0, 12.5 s:" in text
    assert f"![{page.ALTERNATIVE_TEXTS['words']}](figures/words.png)" in text
    assert (tmp_path / "docs" / "figures" / "words.png").read_bytes() == b"a figure"


def test_a_summary_without_a_duration_is_shown_without_one(tmp_path):
    finished_run(tmp_path, words_are_read=True)
    path = tmp_path / "words" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    del summary["seconds"]
    path.write_text(json.dumps(summary), encoding="utf-8")
    page.write({"words": {0: tmp_path / "words"}}, tmp_path / "docs")
    assert ", seed 0:" in (tmp_path / "docs" / "questions.md").read_text(encoding="utf-8")


def test_a_false_claim_fails_and_stands_on_the_page(script, tmp_path):
    finished_run(tmp_path, words_are_read=True, fonts_do_not_matter=False)
    answer = script("questions", tmp_path, "--programs=words")
    assert answer.returncode == 1
    assert json.loads(answer.stdout.splitlines()[-1]) == {"finished": 0, "failed": ["words"]}
    assert "failed: words, seed 0\nthese claims are false: fonts do not matter." in answer.stderr
    text = (tmp_path / "docs" / "questions.md").read_text(encoding="utf-8")
    assert "| fonts do not matter |  |  | true | **no** |" in text


def test_claims_of_several_seeds_stand_side_by_side_and_all_must_hold(script, tmp_path):
    finished_run(tmp_path, words_are_read=True)
    (tmp_path / "words").rename(tmp_path / "words_seed1")
    finished_run(tmp_path, words_are_read=True)
    for folder, value, holds in (("words", 0.9, True), ("words_seed1", 0.5, False)):
        path = tmp_path / folder / "summary.json"
        summary = json.loads(path.read_text(encoding="utf-8"))
        summary["claims"] = {"words_are_read": holds}
        summary["claim_values"]["words_are_read"]["value"] = value
        path.write_text(json.dumps(summary), encoding="utf-8")
    answer = script("questions", tmp_path, "--programs=words", "--seeds=2")
    last = json.loads(answer.stdout.strip().splitlines()[-1])
    assert last == {"finished": 1, "failed": ["words_seed1"]}
    text = (tmp_path / "docs" / "questions.md").read_text(encoding="utf-8")
    assert "| words are read | share | 0.9, 0.5 | > 0.95 | **no**, 1 of 2 seeds |" in text
    assert "seed 0, 12.5 s; claims also with seeds 1:" in text


def test_the_page_keeps_what_it_has_of_programs_that_do_not_run(tmp_path):
    finished_run(tmp_path, words_are_read=True)
    docs = tmp_path / "docs"
    docs.mkdir()
    committed = (ROOT / "docs" / "questions.md").read_text(encoding="utf-8")
    (docs / "questions.md").write_text(committed, encoding="utf-8")
    page.write({}, docs)
    assert (docs / "questions.md").read_text(encoding="utf-8") == committed
    page.write({"words": {0: tmp_path / "words"}}, docs)
    kept = page.measured_before(docs / "questions.md")
    before = page.measured_before(ROOT / "docs" / "questions.md")
    assert set(kept) == set(before) == set(page.parts()[1])
    assert {name for name in kept if kept[name] != before[name]} == {"words"}


def test_every_program_has_its_question():
    programs = {path.stem for path in (ROOT / "experiments" / "questions").glob("*.py")}
    assert set(page.parts()[1]) == programs - {"__init__", "lettering", "plane", "word_reader"}


def test_an_unknown_program_is_refused_in_a_sentence(script, tmp_path):
    answer = script("questions", tmp_path, "--programs=sentences")
    assert answer.returncode == 1
    assert "--programs has 'sentences'; choose from" in answer.stderr
    assert not (tmp_path / "docs").exists()
