"""A user's own table of binary or categorical variables, from a file, checked and split."""

import csv
import reprlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from experiments.data import alignments
from experiments.run import errors

FEWEST_ROWS = 10
MOST_CATEGORIES = 32
KINDS = "a file .csv, .npy, .npz or .fasta (.fa; .csv.gz, .fasta.gz)"
ALLOWED = (
    f"allowed are 0 and 1, or at most {MOST_CATEGORIES} different integers of at most 15 digits: "
    "binarise real columns (x > median, say), and delete missing values or make them a category"
)
SEPARATORS = ",;\t"
BEYOND = 10**15  # of at most 15 digits, every integer is a float64
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
        rows, values = _categories(path, _csv(path, _text(path)))
    elif suffix in (".npy", ".npz") and not path.lower().endswith(".gz"):
        rows, values = _categories(path, _Columns(_numpy(path)))
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


class _Columns(NamedTuple):
    """The numbers of a table, the line of each row, and the names of the columns."""

    numbers: np.ndarray
    lines: list[int] | None = None
    names: list[str] | None = None

    def place(self, row: int, column: int) -> str:
        """Name a cell as a user finds it in the file."""
        line = f"line {self.lines[row]}" if self.lines else f"row {row + 1}"
        return f"{line}, {_column(column, self.names)}"


def _column(column: int, names: list[str] | None) -> str:
    name = reprlib.repr(names[column])[1:-1] if names else ""
    return f"column {column + 1}" + (f" ({name})" if name else "")


def _csv(path: str, text: str) -> _Columns:
    """Return the numbers of a file of columns separated by commas, semicolons or tabs.

    A first line without any number is the names, and so is one that counts the columns.
    """
    rows, names = _cells(path, text), None
    if rows and _are_names([row for _, row in rows]):
        (_, names), *rows = rows
    if not rows:
        raise errors.UsageError(f"--data={path} has no rows.")
    lines, width = [line for line, _ in rows], len(names or rows[0][1])
    table = np.empty((len(rows), width))
    for number, (line, row) in enumerate(rows):
        if len(row) != width:
            raise errors.UsageError(
                f"--data={path}, line {line}: it has {len(row)} columns instead of {width}; "
                "columns are separated by commas, semicolons or tabs, and every row has all of "
                "them."
            )
        for column, cell in enumerate(row):
            value = _number(cell)
            if value is None:
                what = reprlib.repr(cell) if cell else "an empty cell"
                raise errors.UsageError(
                    f"--data={path}, line {line}, {_column(column, names)}: {what}; {ALLOWED}."
                )
            table[number, column] = value
    return _Columns(table, lines, names)


def _cells(path: str, text: str) -> list[tuple[int, list[str]]]:
    """Return the lines that are not blank, with their numbers, as cells without spaces around."""
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = next((sign for sign in SEPARATORS if sign in first), ",")
    reader = csv.reader(lines, delimiter=separator)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader]
    except csv.Error as error:
        raise errors.UsageError(
            f"--data={path}, line {reader.line_num}: {error}; a row is one line, and a quotation "
            "mark that opens closes in the same cell."
        ) from error
    return [(line, row) for line, row in rows if any(row)]


def _are_names(rows: list[list[str]]) -> bool:
    """Whether the first row has no number, or counts the columns as no other row does.

    Programs that write tables number columns without names: 0, 1, 2 and so on.
    """
    numbers = [_number(cell) for cell in rows[0] if cell]
    if not any(number is not None for number in numbers):
        return True
    counted = len(numbers) >= 3 and numbers in (
        list(range(len(numbers))),
        list(range(1, len(numbers) + 1)),
    )
    return counted and not any(row[-1] == rows[0][-1] for row in rows[1:])


def _numpy(path: str) -> np.ndarray:
    """Return the array in a file: the only one, or the one named x."""
    wanted = "must have an array of numbers or booleans (rows, columns)"
    try:
        with open(path, "rb") as file:
            found = np.load(file, allow_pickle=False)
            if isinstance(found, np.lib.npyio.NpzFile):
                names = found.files
                if "x" not in names and len(names) != 1:
                    raise errors.UsageError(
                        f"--data={path} must have one array, or one named x; it has "
                        f"{reprlib.repr(sorted(names))}."
                    )
                found = found["x" if "x" in names else names[0]]
    except errors.UsageError:
        raise
    except Exception as error:  # a damaged file raises what its parts raise
        if "pickle" in str(error):
            raise errors.UsageError(f"--data={path} {wanted}, it has Python objects.") from error
        raise errors.UsageError(f"--data={path} cannot be read: {error}.") from error
    if found.ndim != 2 or found.dtype.kind not in "biuf":
        raise errors.UsageError(f"--data={path} {wanted}, got {found.dtype} {found.shape}.")
    return found.astype(float)


def _categories(path: str, table: _Columns) -> tuple[np.ndarray, tuple]:
    """Return the numbers of the values of a table, and the values."""
    numbers = table.numbers
    if not numbers.shape[1]:
        raise errors.UsageError(f"--data={path} has no columns.")
    whole = np.isfinite(numbers) & (numbers == np.round(numbers)) & (np.abs(numbers) < BEYOND)
    if not whole.all():
        row, column = np.argwhere(~whole)[0]
        raise errors.UsageError(
            f"--data={path}, {table.place(row, column)}: {numbers[row, column]}; {ALLOWED}."
        )
    _refuse_index(path, table)
    values = np.unique(numbers)
    if len(values) > MOST_CATEGORIES:
        raise errors.UsageError(f"--data={path} has {len(values)} different integers; {ALLOWED}.")
    if set(values) <= {0.0, 1.0}:
        return numbers == 1, (0, 1)
    return _numbered(numbers, values), tuple(values.astype(int).tolist())


def _refuse_index(path: str, table: _Columns) -> None:
    """Refuse a first column that numbers the rows, which would be read as categories."""
    first = table.numbers[:, 0]
    if table.numbers.shape[1] > 1 and len(first) >= FEWEST_ROWS and (np.diff(first) == 1).all():
        raise errors.UsageError(
            f"--data={path}, {_column(0, table.names)}: {first[0]:g}, {first[1]:g}, "
            f"{first[2]:g}, ... number the rows; delete this column."
        )


def _numbered(table: np.ndarray, values: np.ndarray) -> np.ndarray:
    numbers = np.searchsorted(values, table)
    return numbers.astype(bool if len(values) == 2 else np.int8)


def _fasta(path: str) -> tuple[np.ndarray, tuple]:
    """Return aligned sequences as numbers of letters, and the letters."""
    alignment = alignments.load(path)
    return alignment.letters, tuple(alignments.ALPHABETS[alignment.kind])
