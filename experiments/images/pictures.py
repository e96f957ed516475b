"""The pictures of a trained energy of images: samples, chains from noise, completions, charts."""

from pathlib import Path

import numpy as np

from experiments import plots
from experiments.data.image_sets import Images
from experiments.images.measures import Results
from experiments.images.sampling import Samples

CLASSES = 20  # rows of pictures at most
COMPLETIONS = 6  # of one image in a row


def rows(images: Images, x: np.ndarray, y: np.ndarray, count: int) -> np.ndarray:
    """Return ``count`` pictures of every class, (classes, count, height, width); white for none."""
    pictures = images.pictures(x)
    found = np.ones((min(len(images.classes), CLASSES), count, *images.shape), pictures.dtype)
    for c, row in enumerate(found):
        some = pictures[y == c][:count]
        row[: len(some)] = some
    return found


def film(images: Images, samples: Samples, count: int) -> np.ndarray:
    """Return the frames of ``count`` chains of every class, (frames, classes, count, ...)."""
    return np.stack([rows(images, frame, samples.labels, count) for frame in samples.film])


def completions(results: Results) -> np.ndarray:
    """Return rows of pictures: an image, its known pixels, its completions."""
    images, (of, hidden, completed, _) = results.images, results.inpainted
    given, labels = images.split.test_x[of], images.split.test_y[of]
    known = images.pictures(given).reshape(len(given), -1)
    known[:, hidden] = 0.7  # grey where nothing is known
    shown = rows(images, given, labels, 1), rows(images, completed, labels, COMPLETIONS)
    first = known[np.unique(labels, return_index=True)[1]][:CLASSES]
    return np.concatenate([shown[0], first.reshape(-1, 1, *images.shape), shown[1]], axis=1)


def overview(path: Path, results: Results, energies: dict[str, np.ndarray]) -> None:
    """Draw chains from noise, samples, completions and the energies of outliers in one figure."""
    images, samples = results.images, results.samples
    frames = samples.film[np.linspace(0, len(samples.film) - 1, 7).astype(int)]
    way = np.concatenate([rows(images, x, samples.labels, 1) for x in frames], axis=1)
    panels = {
        "one chain per class, from noise": way,
        "samples": rows(images, samples.images, samples.labels, 10),
        "test image, its upper half, completions": completions(results),
    }
    names = images.classes[:CLASSES]
    height = plots.WIDTH / 18 * len(names)  # the upper row has 7 + 10 pictures, and labels
    heights = height + 0.5, max(height, 1.5) + 1.1
    figure = plots.plt.figure(figsize=(plots.WIDTH, sum(heights)))
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
    axes = [*upper.subplots(1, 2, width_ratios=(7, 10)), *lower.subplots(1, 2, width_ratios=(8, 9))]
    for axis, (title, pictures) in zip(axes, panels.items(), strict=False):
        plots.show_rows(axis, title, pictures, names)
    last = axes[-1]
    plots.show_histograms(last, energies, "free energy F(x)")
    last.set_title("test images and outliers: free energy")
    last.get_legend().remove()
    handles = [patches[0] for patches in last.containers]
    plots.legend(lower, handles, list(energies), loc="outside lower center", ncols=5)
    plots.save(figure, path)


def charts(folder: Path, results: Results, energies: dict[str, np.ndarray]) -> dict[str, Path]:
    """Draw the metrics of training and the energies of outliers; return the files by name."""
    h = results.history
    panels = {
        "loss": (f"{results.loss} loss over classes", {"loss": "discriminative/loss"}),
        "energy": (
            "energy",
            {"data": "generative/energy_positive", "chains": "generative/energy_negative"},
        ),
        "chains": (
            "fraction of chains",
            {
                "proposals accepted": "generative/acceptance_rate",
                "restarted": "generative/chains_restarted",
                "non-finite": "generative/chains_nonfinite",
            },
        ),
    }
    files = {}
    for name, (title, lines) in panels.items():
        shown = {label: h[metric] for label, metric in lines.items() if metric in h}
        if shown:
            files[name] = folder / f"training_{name}.png"
            plots.curves(files[name], title, h["step"], shown)
    files["outliers"] = folder / "outliers.png"
    plots.histograms(files["outliers"], energies, "free energy F(x)")
    return files
