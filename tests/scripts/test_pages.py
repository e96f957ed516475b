"""The pages' claims against the tables that they rest on."""

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def table(text):
    """Return the rows of the tables in a text, cell by cell."""
    lines = (line for line in text.splitlines() if line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def places():
    """Return problem -> objective -> place on the committed leaderboard."""
    found = {}
    for part in (DOCS / "leaderboard.md").read_text().split("\n## ")[1:]:
        problem, _, text = part.partition("\n")
        rows = [row for row in table(text) if row[0].isdigit()]
        found[problem] = {row[1].replace(" ", "_"): row[0] for row in rows}
    return found


def test_the_tutorial_has_the_places_of_the_leaderboard():
    """Every objective that is ranked, and is not another one's variant, has its own places."""
    page, ranked = (DOCS / "tutorials" / "6_which_objective.md").read_text(), places()
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
    page = (DOCS / "tutorials" / "6_which_objective.md").read_text().replace(",", "")
    for part in (DOCS / "leaderboard.md").read_text().split("\n## ")[1:]:
        updates = [int(row[5]) for row in table(part) if row[0].isdigit()]
        assert f"between {min(updates)} and {max(updates)}" in page
