"""The pages' claims against the tables that they rest on."""

import re
from pathlib import Path

from scripts.questions.page import parts

DOCS = Path(__file__).parents[2] / "docs"


def table(text):
    """Return the rows of the tables in a text, cell by cell."""
    lines = (line for line in text.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


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
                    # The table has four digits, which are rounded, too.
                    away = abs(float(word) - float(rows[f"{known}_accuracy_noisy"]))
                    assert away <= 0.00055 + 1e-9, (path, known)
                names = []
            elif f"{name}_accuracy_noisy" in rows:
                names.append(name)


def test_the_cells_of_the_homework_run():
    """Documentation without executed pages, as .ci/run builds it, does not run them."""
    text = (DOCS / "homework.md").read_text(encoding="utf-8")
    cells = re.findall(r"```\{code-cell\} python\n(.*?)```", text, re.DOTALL)
    assert len(cells) == text.count("{code-cell}")
    names = {}
    for cell in cells:
        exec(compile(cell, "docs/homework.md", "exec"), names)
