"""Known pairs of positions: read from dot-bracket notation or a list, and compared with scores."""

import os
from typing import NamedTuple

import numpy as np

from experiments.data import alignments
from experiments.run.errors import UsageError

BRACKETS = {"(": ")", "[": "]", "{": "}", "<": ">"} | {a: a.lower() for a in "ABCD"}
UNPAIRED = set(".,-_:~")
SEPARATION = 4  # pairs have more positions than this between their ends' numbers
BEST = 20  # pairs that are compared with a structure

Pairs = list[tuple[int, int]]


class Agreement(NamedTuple):
    """How many of the best pairs are in a structure, and in it or next to one of its pairs."""

    exact: int
    near: int
    of: int


def read(given: str, columns: np.ndarray, file_columns: int) -> Pairs:
    """Return the pairs (i, j), i < j, of --structure: dot-bracket notation or a file.

    Args:
        given: dot-bracket notation, or the path of a file that holds it, or of a file with two
            numbers a line, positions from 0 among the columns that are kept.
        columns: the columns that are kept, among those of the file.
        file_columns: how many columns the alignment had; dot-bracket notation may be of that
            length too.
    """
    text, where = given, f"--structure={given}"
    if os.path.exists(given):
        text = alignments.read_file(given, "structure").decode("utf-8", "replace")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and line[0] not in ">#"]
    if lines and all(word.isdigit() for line in lines for word in line.split()):
        return _listed(lines, len(columns), where)
    known = set(BRACKETS) | set(BRACKETS.values()) | UNPAIRED
    notation = [line for line in lines if set(line) <= known and set(line) & set("([{<.")]
    if len(notation) != 1:
        raise UsageError(
            f"{where} must be a file, or one line of dot-bracket notation: brackets ()[]{{}}<> or "
            f"letters Aa to Dd for pairs, dots for the rest; it has {len(notation)} such lines."
        )
    return _matched(notation[0], columns, file_columns, where)


def _listed(lines: list[str], length: int, where: str) -> Pairs:
    found = set()
    for line in lines:
        words = line.split()
        if len(words) != 2 or len({int(w) for w in words} & set(range(length))) != 2:
            raise UsageError(
                f"{where} must have two different positions from 0 to {length - 1} per line, got "
                f"{line!r}."
            )
        found.add((min(map(int, words)), max(map(int, words))))
    return sorted(found)


def _matched(notation: str, columns: np.ndarray, file_columns: int, where: str) -> Pairs:
    if len(notation) not in (len(columns), file_columns):
        raise UsageError(
            f"{where} has {len(notation)} positions; the alignment has {len(columns)} columns"
            + (f", of {file_columns} in the file." if file_columns != len(columns) else ".")
        )
    opened: dict[str, list[int]] = {end: [] for end in BRACKETS.values()}
    found = []
    for place, sign in enumerate(notation):
        if sign in BRACKETS:
            opened[BRACKETS[sign]].append(place)
        elif sign in opened:
            if not opened[sign]:
                raise UsageError(f"{where}: {sign!r} at position {place} closes nothing.")
            found.append((opened[sign].pop(), place))
    left = [place for places in opened.values() for place in places]
    if left:
        raise UsageError(f"{where}: {notation[min(left)]!r} at position {min(left)} is not closed.")
    if len(notation) != len(columns):  # of the whole file
        number = {int(column): i for i, column in enumerate(columns)}
        found = [(number[i], number[j]) for i, j in found if i in number and j in number]
    return sorted(found)


def ranked(scores: np.ndarray, separation: int = SEPARATION) -> Pairs:
    """Return the pairs (i, j) with j - i > separation, the highest score first."""
    i, j = np.triu_indices(len(scores), separation + 1)
    order = np.argsort(-scores[i, j], kind="stable")
    return list(zip(i[order].tolist(), j[order].tolist(), strict=True))


def near(pair: tuple[int, int], pairs: Pairs) -> bool:
    """Whether a pair is in a structure, or both of its ends are at most one position away."""
    return any(abs(pair[0] - i) <= 1 and abs(pair[1] - j) <= 1 for i, j in pairs)


def agreement(scores: np.ndarray, pairs: Pairs, best: int = BEST) -> Agreement:
    """Compare the best pairs by score with a structure."""
    chosen = ranked(scores)[:best]
    exact = sum(pair in pairs for pair in chosen)
    return Agreement(exact, sum(near(pair, pairs) for pair in chosen), len(chosen))
