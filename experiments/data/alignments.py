"""Aligned sequences of RNA, DNA or protein: from a FASTA file, or a published family.

A sequence becomes numbers: the place of each letter in its alphabet, the gap last. Lower-case
letters and dots are insertions relative to the alignment and are removed. Letters that stand for
several residues (N in RNA, X in proteins) become gaps. Positions are numbered from 0.
"""

import gzip
import zlib
from collections import Counter
from pathlib import Path
from reprlib import repr as short
from typing import NamedTuple

import numpy as np

from experiments.data import datasets
from experiments.run.errors import UsageError

ALPHABETS = {"rna": "ACGU-", "dna": "ACGT-", "protein": "ACDEFGHIKLMNPQRSTVWY-"}
AMBIGUOUS = {"rna": "BDHKMNRSVWY", "dna": "BDHKMNRSVWY", "protein": "BJOUXZ"}


class Alignment(NamedTuple):
    """Sequences of one length.

    Attributes:
        names: the headers of the records.
        letters: (sequences, columns), int8.
        kind: "rna", "dna" or "protein".
        columns: which columns of the file these are, (columns,).
        file_columns: how many columns the file has, insertions removed.
        ambiguous: how many ambiguous letters were read as gaps.
    """

    names: list[str]
    letters: np.ndarray
    kind: str
    columns: np.ndarray
    file_columns: int
    ambiguous: int


class Published(NamedTuple):
    """A published family: its file, the record whose columns are kept, the known structure."""

    file: str
    columns_of: str | None
    structure: str | None


PUBLISHED = {
    # Purine riboswitch. The structure is that of PDB 1Y26: Serganov et al. (2004), Structural
    # basis for discriminative regulation of gene expression by adenine- and guanine-sensing mRNAs.
    "rf00167": Published(
        "rna/RF00167.fasta.gz",
        "0000|REFERENCE",
        "(((((((((...((((((......[[.))))))........((((((]].....))))))..)))))))))",
    ),
    "rf00379": Published("rna/RF00379.fasta.gz", None, None),  # ydaO riboswitch
}


def read_file(path: str | Path, flag: str) -> bytes:
    """Return the content of a file, unpacked where it is gzipped."""
    try:
        content = Path(path).read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"--{flag}={path} cannot be read: {error}.") from error


def load(
    data: str,
    data_dir: str | None = None,
    *,
    kind: str | None = None,
    columns_of: str | None = None,
) -> Alignment:
    """Return the alignment of a file or of a published name, with the columns of one record.

    Args:
        data: the path of a FASTA file, gzipped or not, or a name of ``PUBLISHED``.
        data_dir: the folder of published data.
        kind: the alphabet; None finds it from the letters.
        columns_of: the header of a record, or its first word: only the columns in which it has
            no gap are kept. None keeps all.
    """
    where = f"--data={data}"
    if data in PUBLISHED:
        content = datasets.read(PUBLISHED[data].file, data_dir)
    else:
        content = read_file(data, "data")
    alignment = parse(content, where, kind)
    return keep_columns(alignment, columns_of, where) if columns_of else alignment


def records(content: bytes, where: str) -> list[tuple[str, str]]:
    """Return the (header, sequence) of every record of a FASTA file, spaces removed."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UsageError(f"{where} is not a FASTA file: it is not text ({error}).") from error
    found: list[tuple[str, list[str]]] = []
    for number, line in enumerate(lines, 1):
        if line.startswith(">"):
            found.append((line[1:].strip(), []))
        elif line.strip() and not found:
            raise UsageError(
                f"{where} is not a FASTA file: line {number} is {line[:20]!r}, where a header "
                "that begins with '>' must be; convert Stockholm and other formats to FASTA."
            )
        elif found:
            found[-1][1].append("".join(line.split()))
    if not found:
        raise UsageError(f"{where} is empty: a FASTA file has a header and a sequence per record.")
    return [(name, "".join(parts)) for name, parts in found]


def without_insertions(sequence: str) -> str:
    """Return a sequence without lower-case letters and dots."""
    return "".join(letter for letter in sequence if not (letter.islower() or letter == "."))


def parse(content: bytes, where: str, kind: str | None = None) -> Alignment:
    """Return the alignment that a FASTA file holds; raise UsageError where it is not one."""
    named = [(name, without_insertions(text)) for name, text in records(content, where)]
    first, length = named[0][0], len(named[0][1])
    for name, sequence in named:
        if not sequence:
            raise UsageError(
                f"{where}: record {short(name)} has no aligned letters. Lower-case letters and "
                "dots are insertions and are removed; write aligned letters in upper case."
            )
        if len(sequence) != length:
            raise UsageError(
                f"{where} is not aligned: record {short(name)} has {len(sequence)} columns, "
                f"{short(first)} has {length} (lower-case letters and dots are insertions and not "
                "counted)."
            )
    kind = kind or find_kind(named, where)
    names, sequences = map(list, zip(*named, strict=True))
    letters = encode(named, kind, where)
    ambiguous = sum(Counter(text)[letter] for text in sequences for letter in AMBIGUOUS[kind])
    return Alignment(names, letters, kind, np.arange(length), length, ambiguous)


def find_kind(named: list[tuple[str, str]], where: str) -> str:
    """Return the first alphabet that has all letters of the sequences.

    Many amino acids have letters that are also codes for several nucleotides: in RNA and DNA at
    least half of the letters must be nucleotides.
    """
    counts = Counter()
    for _, text in named:
        counts.update(text)
    used, letters = set(counts), counts.total() - counts["-"]
    if {"T", "U"} <= used <= set("ACGTU-" + AMBIGUOUS["rna"]):
        raise UsageError(
            f"{where} has both T and U, which no alphabet has: write all sequences as RNA (U) or "
            "all as DNA (T)."
        )
    for kind, alphabet in ALPHABETS.items():
        ambiguous = sum(counts[letter] for letter in AMBIGUOUS[kind])
        few = kind == "protein" or 2 * ambiguous <= letters
        if few and used <= set(alphabet + AMBIGUOUS[kind]):
            return kind
    unknown = used - set(ALPHABETS["protein"] + AMBIGUOUS["protein"])
    letter = min(unknown)
    name = next(name for name, text in named if letter in text)
    raise UsageError(
        f"{where}: record {short(name)} has the letter {letter!r}, which is in none of the "
        "alphabets of RNA, DNA and proteins."
    )


def encode(named: list[tuple[str, str]], kind: str, where: str) -> np.ndarray:
    """Return sequences as numbers; raise UsageError for a letter outside the alphabet."""
    alphabet = ALPHABETS[kind]
    table = np.full(256, -1, np.int8)
    for number, letter in enumerate(alphabet):
        table[ord(letter)] = number
    for letter in AMBIGUOUS[kind]:
        table[ord(letter)] = len(alphabet) - 1
    rows = []
    for name, text in named:
        row = table[np.frombuffer(text.encode("latin-1", "replace"), np.uint8)]
        if (row < 0).any():
            letter = text[int(np.argmax(row < 0))]
            likely = [k for k in ALPHABETS if set(text) <= set(ALPHABETS[k] + AMBIGUOUS[k])]
            advice = f"; it may be {likely[0]}: set --alphabet={likely[0]}" if likely else ""
            raise UsageError(
                f"{where}: record {short(name)} has the letter {letter!r}, which the alphabet of "
                f"{kind} ({alphabet}) does not have{advice}."
            )
        rows.append(row)
    return np.stack(rows)


def decode(letters: np.ndarray, kind: str) -> list[str]:
    """Return rows of numbers as sequences."""
    alphabet = np.array(list(ALPHABETS[kind]))
    return ["".join(row) for row in alphabet[letters]]


def record_number(names: list[str], record: str, where: str = "the alignment") -> int:
    """Return the number of the record with a header, or with a header of this first word."""
    found = [i for i, name in enumerate(names) if record in (name, *name.split()[:1])]
    if len(found) != 1:
        some = ", ".join(map(short, names[:3]))
        raise UsageError(
            f"--columns_of={record} must be the name of one record of {where}, but {len(found)} "
            f"records have it; the first records are {some}."
        )
    return found[0]


def keep_columns(alignment: Alignment, record: str, where: str) -> Alignment:
    """Return the columns in which one record has no gap."""
    number = record_number(alignment.names, record, where)
    gap = len(ALPHABETS[alignment.kind]) - 1
    kept = np.flatnonzero(alignment.letters[number] != gap)
    if not kept.size:
        raise UsageError(f"--columns_of={record} has gaps in every column of {where}.")
    return alignment._replace(letters=alignment.letters[:, kept], columns=alignment.columns[kept])
