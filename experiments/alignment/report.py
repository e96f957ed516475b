"""The files that the alignment program writes: tables, sequences, and one page with everything."""

import csv
import html
import io
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from experiments import plots
from experiments.alignment import structure
from experiments.alignment.structure import BEST, Pairs
from experiments.data.alignments import ALPHABETS, Alignment, decode

KINDS = {"rna": "RNA", "dna": "DNA", "protein": "proteins"}
LISTED = 10  # sequences and scored records on the page
NAMES = {  # of the entries of the summary, on the page
    "pairs_in_structure": "best pairs that are in the structure or next to one of its pairs",
    "pairs_exactly_in_structure": "best pairs that are in the structure",
    "pairs_compared": "best pairs that were compared",
    "effective_sequences": "effective number of sequences: the sum of their weights",
    "loss": "training loss after the last update",
    "pearson": "Pearson correlation of samples and data, connected two-site frequencies",
    "log_z": "log Z, nats",
    "interval": "95 % interval of log Z",
    "effective_sample_size": "effective sample size of log Z; below 20 it is unreliable",
    "mean_energy": "mean energy of the samples",
    "entropy_per_site": "entropy per site, nats",
    "entropy_interval": "interval of the entropy per site",
    "seconds": "seconds from the start to this page",
}


class Scored(NamedTuple):
    """Sequences of the user's, their energies, and the changes of energy by single mutations."""

    names: list[str]
    letters: np.ndarray
    energies: np.ndarray
    changes: np.ndarray  # (sequences, columns, q)


def table(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return rows as comma-separated text."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return file.getvalue()


def contacts(scores: np.ndarray, columns: np.ndarray, pairs: Pairs | None) -> str:
    """Return all pairs with their scores, the highest first, as comma-separated text."""
    rows = (
        [i, j, columns[i], columns[j], f"{scores[i, j]:.6f}"]
        + ([] if pairs is None else [int((i, j) in pairs), int(structure.near((i, j), pairs))])
        for i, j in structure.ranked(scores, 0)
    )
    known = [] if pairs is None else ["in_structure", "in_or_next_to_structure"]
    return table(["i", "j", "column_i", "column_j", "score", *known], rows)


def fasta(names: Iterable[str], sequences: Iterable[str]) -> str:
    """Return sequences as FASTA."""
    return "".join(f">{name}\n{text}\n" for name, text in zip(names, sequences, strict=True))


def sampled(letters: np.ndarray, energies: np.ndarray, kind: str) -> str:
    """Return samples of the model as FASTA, their energies in the headers."""
    names = (f"sample_{i} energy={energy:.4f}" for i, energy in enumerate(energies))
    return fasta(names, decode(letters, kind))


def energies(scored: Scored, log_z: float) -> str:
    """Return the energy and the log-probability of every scored sequence."""
    rows = (
        [name, f"{energy:.6f}", f"{-energy - log_z:.6f}"]
        for name, energy in zip(scored.names, scored.energies, strict=True)
    )
    return table(["record", "energy", "log_probability"], rows)


def mutations(scored: Scored, kind: str) -> str:
    """Return the change of energy by every single mutation of every scored sequence."""
    alphabet = ALPHABETS[kind]
    rows = (
        [name, position, alphabet[own], letter, f"{changes[position, number]:.6f}"]
        for name, sequence, changes in zip(
            scored.names, scored.letters, scored.changes, strict=True
        )
        for position, own in enumerate(sequence)
        for number, letter in enumerate(alphabet)
        if number != own
    )
    return table(["record", "position", "from", "to", "energy_change"], rows)


def _cells(values: Iterable[Any], tag: str = "td") -> str:
    return "".join(f"<{tag}>{html.escape(str(value))}</{tag}>" for value in values)


def _rows(rows: Iterable[Iterable[Any]]) -> str:
    return "\n".join(f"<tr>{_cells(row)}</tr>" for row in rows)


def _number(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " to ".join(map(_number, value))
    return f"{value:.7g}" if isinstance(value, float) else "not known" if value is None else value


def _scored(workdir: Path, scored: Scored | None, log_z: float) -> str:
    if scored is None:
        return ""
    rows = [
        (name, f"{energy:.3f}", f"{-energy - log_z:.3f}")
        for name, energy in zip(scored.names[:LISTED], scored.energies, strict=False)
    ]
    picture = plots.embedded("png", (workdir / "mutations.png").read_bytes())
    return (
        "<h2>Scored sequences</h2>\n<p>Energies and single-mutation effects of all "
        f"{len(scored.names)} sequences are in scores.csv and mutations.csv. A positive change "
        "makes the sequence less likely. Black dots are the sequence itself.</p>\n"
        f"<table><thead><tr>{_cells(('record', 'energy', 'log-probability'), 'th')}</tr></thead>\n"
        f'<tbody>{_rows(rows)}</tbody></table>\n<img src="{picture}" alt="Mutations">'
    )


def page(
    workdir: Path,
    *,
    data: str,
    alignment: Alignment,
    scores: np.ndarray,
    pairs: Pairs | None,
    samples: np.ndarray,
    sweeps: int,
    scored: Scored | None,
    summary: dict[str, Any],
    warnings: list[str],
    flags: str,
) -> str:
    """Return the page, everything inside it; its pictures are read from the work directory."""
    known = [] if pairs is None else ["in the structure"]
    rows = []
    for rank, (i, j) in enumerate(structure.ranked(scores)[:BEST], 1):
        said = []
        if pairs is not None:
            beside = "next to a pair" if structure.near((i, j), pairs) else "no"
            said = ["yes" if (i, j) in pairs else beside]
        rows.append([rank, i, j, f"{scores[i, j]:.3f}", *said])
    gap = "The gap letter is included in the norm."
    text = {
        "data": html.escape(data),
        "about": html.escape(
            f"{len(alignment.letters):,} sequences of {KINDS[alignment.kind]}, "
            f"{alignment.letters.shape[1]} of {alignment.file_columns} columns. "
            f"{alignment.ambiguous} ambiguous letters were read as gaps. Positions are numbered "
            "from 0 among the columns kept."
        ),
        "warned": "" if warnings else "hidden",
        "warnings": "\n".join(f"<li>{html.escape(text)}</li>" for text in warnings),
        "numbers": _rows(
            (NAMES.get(name, name.replace("_", " ")), _number(value))
            for name, value in summary.items()
        ),
        "contacts_text": html.escape(
            "The score of a pair is the Frobenius norm of its couplings in the zero-sum gauge, "
            f"minus the average product correction. {gap} Only pairs whose positions differ by "
            f"more than {structure.SEPARATION} are ranked. A pair is next to another one if both "
            "of its ends are at most one position away. All pairs are in contacts.csv."
        ),
        "known_head": _cells(known, "th"),
        "pairs": _rows(rows),
        "samples_text": html.escape(
            f"{len(samples):,} chains from independent columns, {sweeps} sweeps of Gibbs sampling "
            f"each. All are in samples.fasta; the first {min(LISTED, len(samples))}:"
        ),
        "samples": "\n".join(decode(samples[:LISTED], alignment.kind)),
        "scored": _scored(workdir, scored, summary["log_z"]),
        "flags": html.escape(flags),
    }
    pictures = ("contact_map", "arcs", "correlations", "training")
    uris = {
        name: plots.embedded("png", (workdir / f"{name}.png").read_bytes()) for name in pictures
    }
    template = string.Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return template.substitute(text | uris)
