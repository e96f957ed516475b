"""Images of words: matplotlib's own fonts, on a straight line or with jitter."""

from typing import NamedTuple

import numpy as np
from matplotlib import get_data_path
from matplotlib.ft2font import FT2Font

ALPHABET = "abcdefghijklmnopqrstuvwxyz"
FONTS = ("DejaVuSans", "DejaVuSansMono", "DejaVuSerif")
HEIGHT, BASELINE = 18, 12
WINDOW, STRIDE = 14, 2


class Images(NamedTuple):
    """Images (n, HEIGHT, width), how many windows each has, and the words on them.

    Letters are (n, longest), -1 after the last one.
    """

    pixels: np.ndarray
    num_windows: np.ndarray
    letters: np.ndarray
    length: np.ndarray


def num_windows(width: int) -> int:
    """Return how many windows of an image there are."""
    return (width - WINDOW) // STRIDE + 1


def glyphs(font: str, size: int) -> list[tuple[np.ndarray, int]]:
    """Return every letter's ink in [0, 1], and how far it reaches below the baseline."""
    face = FT2Font(f"{get_data_path()}/fonts/ttf/{font}.ttf")
    face.set_size(size, 72)
    drawn = []
    for letter in ALPHABET:
        face.set_text(letter, 0.0)
        face.draw_glyphs_to_bitmap(antialiased=True)
        ink = np.asarray(face.get_image(), np.float32) / 255
        rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
        ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        drawn.append((ink, round(face.get_descent() / 64)))
    return drawn


def render(rng, lengths: np.ndarray, *, longest: int, jitter: bool) -> Images:
    """Draw random words: one font on a straight line, or three fonts, sizes, shifts and noise.

    ``longest`` letters have room, even if no word has as many.
    """
    width = 12 + 17 * longest
    sizes = (11, 12, 13) if jitter else (12,)
    bank = [glyphs(font, size) for font in (FONTS if jitter else FONTS[:1]) for size in sizes]
    letters = rng.integers(len(ALPHABET), size=(len(lengths), longest))
    letters[np.arange(longest) >= lengths[:, None]] = -1
    pixels, ends = np.zeros((len(lengths), HEIGHT, width + 8), np.float32), []
    for image, word in zip(pixels, letters, strict=True):
        chosen, x = bank[rng.integers(len(bank))], 4 + jitter * rng.integers(-1, 2)
        for letter in word[word >= 0]:
            ink, below = chosen[letter]
            bottom = BASELINE + below + 1 + jitter * rng.integers(-1, 2)
            top = max(bottom - len(ink), 0)
            target = image[top:bottom, x : x + ink.shape[1]]
            target[:] = np.maximum(target, ink[-len(target) :])
            x += ink.shape[1] + 3 + jitter * rng.integers(-1, 2)
        ends.append(min((x + 8 - WINDOW) // STRIDE + 1, num_windows(width)))
    pixels = pixels[:, :, :width]
    if jitter:
        pixels = pixels * rng.uniform(0.7, 1, (len(pixels), 1, 1))
        pixels = pixels + rng.normal(0, 0.05, pixels.shape)
    return Images(pixels.astype(np.float32), np.maximum(ends, 2 * lengths), letters, lengths)
