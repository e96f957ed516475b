"""The pages' claims against the tables that they rest on."""

import re
from pathlib import Path

from scripts.questions.page import parts

DOCS = Path(__file__).parents[2] / "docs"


def table(text):
    """Return the rows of the tables in a text, cell by cell."""
    lines = (line for line in text.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def places():
    """Return problem -> objective -> place on the committed leaderboard."""
    found = {}
    for part in (DOCS / "leaderboard.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        problem, _, text = part.partition("\n")
        rows = [row for row in table(text) if row[0].isdigit()]
        found[problem] = {row[1].replace(" ", "_"): row[0] for row in rows}
    return found


def test_the_tutorial_has_the_places_of_the_leaderboard():
    """Every objective that is ranked, and is not another one's variant, has its own places."""
    page, ranked = (
        (DOCS / "tutorials" / "6_which_objective.md").read_text(encoding="utf-8"),
        places(),
    )
    head, _, *rows = table(page)
    assert head[2:] == [f"{name}, of {len(rows_)}" for name, rows_ in ranked.items()]
    for _, objective, *shown in rows:
        named = re.search(r"row ([\w ]+)\)", objective)
        name = named[1].replace(" ", "_") if named else re.findall(r"`(\w+)`", objective)[0]
        assert shown == [ranked[problem].get(name, "—") for problem in ranked], name
    for problem, column in zip(ranked, zip(*(row[2:] for row in rows), strict=True), strict=True):
        best = {row for row in column if row != "—" and int(row) <= 5}
        assert best == {str(k) for k in range(1, 6)}, problem  # none of the best is left out


def test_the_tutorial_has_the_updates_of_the_leaderboard():
    page = (
        (DOCS / "tutorials" / "6_which_objective.md").read_text(encoding="utf-8").replace(",", "")
    )
    for part in (DOCS / "leaderboard.md").read_text(encoding="utf-8").split("\n## ")[1:]:
        updates = [int(row[5]) for row in table(part) if row[0].isdigit()]
        assert f"between {min(updates)} and {max(updates)}" in page


def test_the_committed_answers_are_those_of_the_program():
    page = (DOCS / "questions.md").read_text(encoding="utf-8")
    head, questions = parts()
    assert page.startswith(head)
    for name, part in questions.items():
        text, _ = part.split(f"${name}\n")
        assert text in page
        assert len(text) > 200


def test_accuracies_with_noisy_labels_are_those_of_the_figure():
    """The README and the homework's page give the means of docs/questions.md, to three digits."""
    rows = dict(
        row[:2]
        for row in table((DOCS / "questions.md").read_text(encoding="utf-8"))
        if len(row) == 2
    )
    for path in (DOCS.parent / "README.md", DOCS / "homework.md"):
        text = " ".join(path.read_text(encoding="utf-8").split())
        sentence = re.search(r"With one wrong label in ten.*?seeds", text)[0]
        names = []
        for word in re.findall(
            r"[a-z][a-z0-9_-]*|0\.\d{3}", sentence.replace("square-square", "sqsq")
        ):
            name = word.replace("sqsq", "square_square")
            if word.startswith("0."):
                assert names, path
                for known in names:
                    assert word == f"{float(rows[f'{known}_accuracy_noisy']):.3f}", (path, known)
                names = []
            elif f"{name}_accuracy_noisy" in rows:
                names.append(name)
