"""A user's own table of binary or categorical variables, from a file, checked and split."""

import csv
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import alignments
from experiments.run import errors

FEWEST_ROWS = 10
MOST_CATEGORIES = 32
KINDS = "a file .csv, .npy, .npz or .fasta (.fa; .csv.gz, .fasta.gz)"
ALLOWED = (
    f"allowed are 0 and 1, or at most {MOST_CATEGORIES} different integers: binarise real columns "
    "(x > median, say), and delete missing values or make them a category"
)
WORDS = {"true": 1.0, "false": 0.0}


class Table(NamedTuple):
    """Rows to train on, to validate and to test, (n, columns) each, and the values of a variable.

    With two values rows are booleans, False the lower; otherwise they are int8 numbers of the
    values, 0 to q - 1.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    values: tuple


def read(path: str, seed: int) -> Table:
    """Read a table and split its rows: 7 tenths to train on, 1 to validate and 2 to test.

    The rows of an aligned FASTA file are its sequences, read as ``alignments`` reads them.
    """
    name = Path(path).name.lower().removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix in (".fasta", ".fa"):
        rows, values = _fasta(path)
    elif suffix == ".csv":
        rows, values = _categories(path, *_csv(path, _text(path)))
    elif suffix in (".npy", ".npz") and not path.lower().endswith(".gz"):
        rows, values = _categories(path, _numpy(path), None)
    else:
        raise errors.UsageError(f"--data={path} must be {KINDS}.")
    if len(rows) < FEWEST_ROWS:
        raise errors.UsageError(
            f"--data={path} has {len(rows)} rows; at least {FEWEST_ROWS} are needed."
        )
    rows = np.random.default_rng(seed).permutation(rows)
    train, valid, test = np.split(rows, [len(rows) * 7 // 10, len(rows) * 8 // 10])
    return Table(train, valid, test, values)


def _text(path: str) -> str:
    try:
        return alignments.read_file(path, "data").decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise errors.UsageError(f"--data={path} cannot be read: {error}.") from error


def _number(cell: str) -> float | None:
    try:
        return WORDS[cell.lower()] if cell.lower() in WORDS else float(cell)
    except ValueError:
        return None


def _csv(path: str, text: str) -> tuple[np.ndarray, list[str] | None]:
    """Return the numbers of a file of comma-separated columns, and their names where it has any.

    A first line without any number is the names.
    """
    rows = [[cell.strip() for cell in row] for row in csv.reader(text.splitlines())]
    rows = [row for row in rows if any(row)]
    names, first = None, 1
    if rows and not any(_number(cell) is not None for cell in rows[0]):
        names, rows, first = rows[0], rows[1:], 2
    if not rows:
        raise errors.UsageError(f"--data={path} has no rows.")
    table = np.empty((len(rows), len(rows[0])))
    for number, row in enumerate(rows, first):
        if len(row) != table.shape[1] or (names and len(row) != len(names)):
            wanted = len(names) if names else table.shape[1]
            raise errors.UsageError(
                f"--data={path}, line {number}: it has {len(row)} columns instead of {wanted}; "
                "columns are separated by commas, and every row has all of them."
            )
        cells = [_number(cell) for cell in row]
        for column, (cell, value) in enumerate(zip(row, cells, strict=True)):
            if value is None:
                what = repr(cell) if cell else "an empty cell"
                raise errors.UsageError(
                    f"--data={path}, line {number}, {_column(column, names)}: {what}; {ALLOWED}."
                )
        table[number - first] = cells
    return table, names


def _column(column: int, names: list[str] | None) -> str:
    return f"column {column + 1}" + (f" ({names[column]})" if names else "")


def _numpy(path: str) -> np.ndarray:
    """Return the array in a file: the only one, or the one named x."""
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                arrays = {name: found[name] for name in found.files}
            else:
                arrays = {"x": found}
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise errors.UsageError(f"--data={path} cannot be read: {error}.") from error
    except Exception as error:  # a damaged archive
        raise errors.UsageError(f"--data={path} cannot be read: {error}.") from error
    if "x" not in arrays and len(arrays) != 1:
        raise errors.UsageError(
            f"--data={path} must have one array, or one named x; it has {sorted(arrays)}."
        )
    array = arrays.get("x", next(iter(arrays.values()), None))
    if array is None or array.ndim != 2 or array.dtype.kind not in "biuf":
        has = "none" if array is None else f"{array.dtype} {array.shape}"
        raise errors.UsageError(
            f"--data={path} must have an array of numbers or booleans (rows, columns), got {has}."
        )
    return array.astype(float)


def _categories(path: str, table: np.ndarray, names: list[str] | None) -> tuple[np.ndarray, tuple]:
    """Return the numbers of the values of a table, and the values."""
    if not table.shape[1]:
        raise errors.UsageError(f"--data={path} has no columns.")
    wrong = np.argwhere(~np.isfinite(table) | (table != np.round(table)))
    if len(wrong):
        row, column = wrong[0]
        raise errors.UsageError(
            f"--data={path}, row {row + 1}, {_column(column, names)}: {table[row, column]:g}; "
            f"{ALLOWED}."
        )
    values = np.unique(table)
    if len(values) > MOST_CATEGORIES:
        raise errors.UsageError(f"--data={path} has {len(values)} different integers; {ALLOWED}.")
    if set(values) <= {0.0, 1.0}:
        return table == 1, (0, 1)
    return _numbered(table, values), tuple(values.astype(int).tolist())


def _numbered(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    numbers = np.searchsorted(values, table)
    return numbers.astype(bool if len(values) == 2 else np.int8)


def _fasta(path: str) -> tuple[np.ndarray, tuple]:
    """Return aligned sequences as numbers of letters, and the letters."""
    alignment = alignments.load(path)
    return alignment.letters, tuple(alignments.ALPHABETS[alignment.kind])
