"""Shared drawing code: charts are written as PNG files, grids of images are returned."""

import base64
import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.rcsetup import cycler
from PIL import Image

plt.rcParams.update(
    {
        "figure.dpi": 200,
        "font.size": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "figure.constrained_layout.use": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "figure.titlesize": 9,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "axes.prop_cycle": cycler(
            color=["#2b6cb0", "#dd6b20", "#2f855a", "#b83280", "#6b46c1", "#718096"]
        ),
    }
)


# The pages show a figure 735 px wide. A figure this many inches wide then has 1.39 px per point, so
# that text of 8 points is 11 px high.
WIDTH = 7.35


def save(figure, path: Path) -> None:
    """Write a figure with a palette of 256 colours, a third of the size, and free its memory."""
    file = io.BytesIO()
    figure.savefig(file)
    plt.close(figure)
    Image.open(file).convert("RGB").quantize(256).save(path, optimize=True)


LONGEST = 24  # characters of a name in a figure


def text(name: str) -> str:
    """Escape a name so that matplotlib does not read formulas in it; shorten a long one."""
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
    return short.replace("$", r"\$")


def legend(axis, handles: list, names: list[str], **options) -> None:
    """Draw a legend of names; by itself matplotlib leaves out those that begin with "_"."""
    drawn = axis.legend(handles, list(map(str, range(len(names)))), **options)
    for label, name in zip(drawn.get_texts(), names, strict=True):
        label.set_text(text(name))


def label_ends(axis, lines: list, names: list[str], *, size: float = 8) -> None:
    """Write the name of each line to the right of its last point, without overlaps.

    Call it after the scales and the limits of the axis are set.
    """
    figure = axis.get_figure(root=True)
    figure.draw_without_rendering()  # the layout decides how far apart the ends are
    pixels_per_point = figure.get_dpi() / 72
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in lines]
    bottom = axis.get_window_extent().y0
    heights = [max(axis.transData.transform(end)[1], bottom) for end in ends]
    next_free = -np.inf
    for number in np.argsort(heights):
        place = max(heights[number], next_free)
        next_free = place + 1.25 * size * pixels_per_point
        axis.annotate(
            text(names[number]),
            ends[number],
            xytext=(4, (place - axis.transData.transform(ends[number])[1]) / pixels_per_point),
            textcoords="offset points",
            annotation_clip=False,
            color=lines[number].get_color(),
            fontsize=size,
            va="center",
        )


def tile(images: np.ndarray, *, gap: int = 1) -> np.ndarray:
    """Return (rows, columns, height, width) of light in [0, 1] as one picture with white gaps.

    Three colours may be the last axis, of the images and of the picture.
    """
    around = ((0, 0), (0, 0), (gap, gap), (gap, gap)) + ((0, 0),) * (images.ndim - 4)
    padded = np.pad(images, around, constant_values=1)
    rows, columns, height, width, *colours = padded.shape
    return np.moveaxis(padded, 1, 2).reshape(rows * height, columns * width, *colours)


def _paper(images: np.ndarray) -> Image.Image:
    return Image.fromarray(np.uint8(np.round(255 * tile(images))))


def embedded(kind: str, content: bytes) -> str:
    """Return a picture as a URI that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def png(images: np.ndarray) -> bytes:
    """Return (rows, columns, height, width) of light in [0, 1] as a PNG, one pixel per value."""
    file = io.BytesIO()
    _paper(images).save(file, "png")
    return file.getvalue()


def gif(frames: np.ndarray, *, milliseconds: int, last: int) -> bytes:
    """Return (frames, rows, columns, height, width) of light as a GIF in an endless loop."""
    first, *rest = map(_paper, frames)
    file = io.BytesIO()
    durations = [milliseconds] * len(rest) + [last]
    first.save(file, "gif", save_all=True, append_images=rest, duration=durations, loop=0)
    return file.getvalue()


def show_rows(axis, title: str, images: np.ndarray, labels: list[str]) -> None:
    """Draw (rows, columns, height, width) of light in [0, 1] on an axis, the rows labelled."""
    height = images.shape[2] + 2
    axis.imshow(tile(images), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axis.set_title(title)
    axis.set_xticks([])
    middle = [height * (i + 0.5) for i in range(len(labels))]
    axis.set_yticks(middle, list(map(text, labels)), fontsize=9)
    axis.tick_params(length=0)
    for side in axis.spines.values():
        side.set_visible(False)


def image_rows(path: Path, panels: dict[str, np.ndarray], labels: list[str]) -> None:
    """Write panels of (rows, columns, height, width) of light in [0, 1], the rows labelled."""
    counts = [p.shape[1] for p in panels.values()]
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(0.42 * sum(counts) + 0.6, 0.42 * len(labels) + 0.8),
        squeeze=False,
        width_ratios=counts,
    )
    for axis, (title, images) in zip(axes[0], panels.items(), strict=True):
        show_rows(axis, title, images, labels)
    save(figure, path)


def curves(path: Path, title: str, step: np.ndarray, lines: dict[str, np.ndarray]) -> None:
    """Write curves over training steps."""
    figure, axis = plt.subplots(figsize=(4, 2.8))
    drawn = [axis.plot(step, values, linewidth=1.2)[0] for values in lines.values()]
    axis.set(title=title, xlabel="update")
    if len(lines) > 1:
        legend(axis, drawn, list(lines))
    save(figure, path)


def show_histograms(axis, values: dict[str, np.ndarray], xlabel: str) -> None:
    """Draw the distributions of several samples on one axis."""
    every = np.concatenate(list(values.values()))
    low, high = np.quantile(every, [0.001, 0.999])
    edges = np.linspace(low, high, 60)
    clipped = [np.clip(sample, edges[0], edges[-1]) for sample in values.values()]
    drawn = [axis.hist(sample, edges, density=True, alpha=0.6)[2] for sample in clipped]
    axis.set_xlabel(xlabel)
    axis.set_yticks([])
    legend(axis, drawn, list(values), loc="upper left", bbox_to_anchor=(1, 1))


def histograms(path: Path, values: dict[str, np.ndarray], xlabel: str) -> None:
    """Write the distributions of several samples on one axis."""
    figure, axis = plt.subplots(figsize=(5.6, max(2.8, 0.6 + 0.2 * len(values))))
    show_histograms(axis, values, xlabel)
    save(figure, path)
