"""The figures of the alignment program."""

from pathlib import Path

import numpy as np
from matplotlib.lines import Line2D

from experiments import plots
from experiments.alignment import structure
from experiments.alignment.structure import BEST, Pairs
from experiments.data.alignments import ALPHABETS

plt = plots.plt
RIGHT, NEAR, WRONG, KNOWN = "#2b6cb0", "#63b3ed", "#dd6b20", "#718096"


def _colour(pair: tuple[int, int], pairs: Pairs | None) -> str:
    if pairs is None or pair in pairs:
        return RIGHT
    return NEAR if structure.near(pair, pairs) else WRONG


def _legend(axis, pairs: Pairs | None, **options) -> None:
    if pairs is None:
        return
    colours = {"in the structure": RIGHT, "next to a pair of it": NEAR, "neither": WRONG}
    handles = [Line2D([], [], color=c, marker="o", linestyle="") for c in colours.values()]
    axis.legend(handles, list(colours), **options)


def contact_map(path: Path, scores: np.ndarray, pairs: Pairs | None) -> None:
    """Write the scores of all pairs above the diagonal, the known pairs below it."""
    figure, axis = plt.subplots(figsize=(5.4, 5.0))
    far = np.abs(np.subtract.outer(*[np.arange(len(scores))] * 2)) > structure.SEPARATION
    shown = np.where(np.triu(far), scores, np.nan)
    top = np.nanmax(shown) if np.isfinite(shown).any() else 1.0
    image = axis.imshow(shown, cmap="Greys", vmin=0, vmax=top, origin="upper")
    for pair in structure.ranked(scores)[:BEST]:
        axis.plot(pair[1], pair[0], "o", ms=6, mfc="none", color=_colour(pair, pairs))
    for i, j in pairs or []:
        axis.plot(i, j, "s", markersize=4, color=KNOWN)
    axis.axline((0, 0), slope=1, color="0.8", linewidth=0.8)
    axis.set(xlabel="position", ylabel="position")
    below = ", the known structure below" if pairs is not None else ""
    axis.set_title(f"contact scores above the diagonal{below}")
    figure.colorbar(image, ax=axis, shrink=0.7, label="score")
    _legend(axis, pairs, loc="lower center")
    plots.save(figure, path)


def arcs(path: Path, scores: np.ndarray, pairs: Pairs | None, sequence: str) -> None:
    """Write the best pairs as arcs above a sequence, the known pairs as arcs below."""
    length = len(sequence)
    figure, axis = plt.subplots(figsize=(max(5.0, min(14.0, 0.13 * length)), 4.0))
    angle = np.linspace(0, np.pi, 60)
    drawn = [(p, 1, _colour(p, pairs), 1.6) for p in structure.ranked(scores)[:BEST]]
    drawn += [(p, -1, KNOWN, 1.0) for p in pairs or []]
    for (i, j), side, colour, width in drawn:
        x = (i + j) / 2 + (j - i) / 2 * np.cos(angle)
        axis.plot(x, side * (1.2 + (j - i) / 2 * np.sin(angle)), color=colour, linewidth=width)
    if length <= 150:
        for place, letter in enumerate(sequence):
            axis.text(place, 0, letter, ha="center", va="center", fontsize=8, family="monospace")
    axis.set(yticks=[], xlabel="position", xlim=(-1, length))
    axis.spines["left"].set_visible(False)
    below = ", the known pairs below" if pairs is not None else ""
    axis.set_title(f"the {BEST} best pairs above the sequence{below}")
    _legend(axis, pairs, loc="upper left")
    plots.save(figure, path)


def correlations(path: Path, data: np.ndarray, samples: np.ndarray, value: float) -> None:
    """Write the connected two-site frequencies of samples against those of the data."""
    figure, axis = plt.subplots(figsize=(4.2, 3.6))
    first, second = np.triu_indices(data.shape[0], 1)
    x, y = (c[first, :, second].ravel() for c in (data, samples))
    image = axis.hist2d(x, y, bins=80, norm="log", cmap="viridis")[3]
    axis.axline((0, 0), slope=1, color="0.4", linewidth=0.8)
    axis.set(xlabel="data", ylabel="samples of the model")
    axis.set_title(f"connected two-site frequencies, Pearson {value:.3f}")
    figure.colorbar(image, ax=axis, label="pairs of letters")
    plots.save(figure, path)


def mutations(path: Path, changes: np.ndarray, sequence: str, kind: str, name: str) -> None:
    """Write the change of energy by every single mutation of a sequence."""
    figure, axis = plt.subplots(figsize=(max(5.0, min(14.0, 0.13 * len(sequence))), 2.6))
    top = max(float(np.abs(changes).max()), 1e-9)
    image = axis.imshow(changes.T, cmap="RdBu_r", vmin=-top, vmax=top, aspect="auto")
    letters = ALPHABETS[kind]
    axis.set_yticks(range(len(letters)), list(letters), fontsize=7)
    places = [letters.index(letter) for letter in sequence]
    axis.plot(range(len(sequence)), places, ".", color="black", markersize=2)
    axis.set(xlabel="position", title=f"change of energy by one mutation of {plots.text(name)}")
    figure.colorbar(image, ax=axis, label="nats")
    plots.save(figure, path)
