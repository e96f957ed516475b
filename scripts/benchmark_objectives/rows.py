"""Results of the benchmark as rows: JSON lines in one file per problem, appended as work ends.

    python -m scripts.benchmark_objectives.rows --csv > runs.csv
    python -m scripts.benchmark_objectives.rows --csv --kind=trial --rows=runs/bo/rows

prints the rows of one kind as CSV. This file needs no package except Python itself.
"""

import argparse
import csv
import json
import os
import sys
from pathlib import Path
from typing import Any, TextIO

Row = dict[str, Any]

FOLDER = Path(__file__).parents[2] / "docs" / "data" / "objectives"

# kind -> (fields that identify a row, the other fields)
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "problem": (
        ("problem",),
        ("problem_class", "title", "dimension", "entropy", "best_gap", "how", "date"),
    ),
    "cost": (
        ("problem", "objective"),
        ("passes_per_update", "energy_multiplications", "seconds_per_update"),
    ),
    "trial": (
        ("problem", "objective", "trial"),
        (
            *("learning_rate", "options", "updates", "passes", "validation_gap", "status"),
            *("seconds", "date"),
        ),
    ),
    "run": (
        ("problem", "objective", "entry", "seed", "budget"),
        (
            *("passes", "updates", "seconds", "processor_seconds", "learning_rate", "options"),
            *("trial", "gap"),
            *("validation_gap", "total_variation", "mode_weight_error", "log_z_disagreement"),
            *("curve", "status", "date"),
        ),
    ),
    "samples": (
        ("problem", "objective", "seed", "budget"),
        (
            *("passes", "updates", "processor_seconds", "sliced_wasserstein"),
            *("sliced_wasserstein_floor", "classifier_accuracy", "status", "date"),
        ),
    ),
}


def identity(row: Row) -> tuple:
    """Return the values that identify a row: a later row with the same values replaces it."""
    return (row["kind"], *(row[field] for field in KINDS[row["kind"]][0]))


def check(row: Row) -> None:
    """Raise ValueError if a row has not exactly the fields of its kind."""
    if row.get("kind") not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {row.get('kind')!r}.")
    fields = {"kind", *KINDS[row["kind"]][0], *KINDS[row["kind"]][1]}
    if wrong := fields ^ set(row):
        raise ValueError(
            f"A row of kind {row['kind']!r} has the fields {sorted(fields)}; "
            f"{sorted(wrong)} are missing or not allowed."
        )


def append(folder: Path | str, row: Row) -> None:
    """Append a row to the file of its problem, in one write."""
    check(row)
    fields = ("kind", *KINDS[row["kind"]][0], *KINDS[row["kind"]][1])
    line = json.dumps({field: row[field] for field in fields}, allow_nan=False) + "\n"
    path = Path(folder) / f"{row['problem']}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size:
        line = "\n" + line  # a killed process left part of a line
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read(folder: Path | str) -> list[Row]:
    """Return all rows of a folder, the latest of each identity.

    A line that is not complete, which a killed process can leave, is skipped.
    """
    latest: dict[tuple, Row] = {}
    for path in sorted(Path(folder).glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            latest[identity(row)] = row
    return list(latest.values())


def write_csv(rows: list[Row], kind: str, file: TextIO) -> None:
    """Write the rows of one kind as CSV; options and curves are JSON in their cells."""
    fields = (*KINDS[kind][0], *KINDS[kind][1])
    table = csv.writer(file, lineterminator="\n")
    table.writerow(fields)
    for row in rows:
        if row["kind"] == kind:
            cells = (row[field] for field in fields)
            table.writerow(json.dumps(c) if isinstance(c, dict | list) else c for c in cells)


def main() -> None:
    """Print the rows of one kind as CSV."""
    parser = argparse.ArgumentParser(description="Print the rows of the benchmark as CSV.")
    parser.add_argument("--csv", action="store_true", required=True, help="print CSV")
    parser.add_argument("--kind", choices=list(KINDS), default="run")
    parser.add_argument("--rows", default=FOLDER, help="folder of the rows")
    arguments = parser.parse_args()
    write_csv(read(arguments.rows), arguments.kind, sys.stdout)


if __name__ == "__main__":
    main()
