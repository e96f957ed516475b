"""Rows of results as JSON lines, one file for each target."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Row = dict[str, Any]
KINDS = ("sampler", "log_z", "seconds")


def path(folder: Path, target: str) -> Path:
    """Return the file of a target."""
    return folder / f"{target}.jsonl"


def read(folder: Path) -> list[Row]:
    """Return all rows of a folder, target by target; none if the folder does not exist."""
    return list(_lines(folder))


def _lines(folder: Path) -> Iterator[Row]:
    for file in sorted(folder.glob("*.jsonl")):
        for line in file.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def append(folder: Path, row: Row) -> None:
    """Add a row to the file of its target."""
    folder.mkdir(parents=True, exist_ok=True)
    with path(folder, row["target"]).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row, allow_nan=False) + "\n")


def finished(rows: list[Row], kind: str, target: str, method: str, protocol: Row) -> bool:
    """Return whether a row of this kind exists, made under the same protocol."""
    return any(
        row["kind"] == kind
        and row["target"] == target
        and row["method"] == method
        and row["protocol"] == protocol
        for row in rows
    )
