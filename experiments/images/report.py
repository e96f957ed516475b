"""What ``images`` measures after training, and the page that shows it."""

import base64
import functools
import html
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.console
import rich.table
import rich.text
from scipy.special import logsumexp

from experiments import evaluation, plots
from experiments.data import splits
from experiments.data.image_sets import Images
from experiments.images.sampling import Samples
from experiments.run import work_directory
from experiments.run.progress import stage

MEASURES = {  # name in the summary: what it is
    "accuracy": "test accuracy of argmin_y F(x, y)",
    "auroc_noise": "AUROC of F(x), test images against uniform noise",
    "auroc_shuffled": "AUROC of F(x), test images against test images with shuffled pixels",
    "auroc_inverted": "AUROC of F(x), test images against inverted test images",
    "auroc_held_out": "AUROC of F(x), test images against the class never seen in training",
    "samples": "number of samples that the measures of samples are of",
    "label_agreement": "fraction of samples whose class an independent classifier confirms",
    "judge_accuracy": "accuracy of that classifier on the test images",
    "frechet": "Fréchet distance of samples and test images, in that classifier's features",
    "frechet_floor": "Fréchet distance of as many training images and test images",
    "one_nn": "1-nearest-neighbour two-sample accuracy, samples and test images; 0.5 is perfect",
    "one_nn_samples": "1-nearest-neighbour accuracy on the samples alone",
    "one_nn_test": "1-nearest-neighbour accuracy on the test images alone",
    "nearest_samples_50": "median distance of a sample to the nearest training image",
    "nearest_test_50": "median distance of a test image to the nearest training image",
    "nearest_samples_5": "5 % quantile of the distance of a sample to the nearest training image",
    "nearest_test_5": "5 % quantile of the distance of a test image to the nearest training image",
    "ece": "expected calibration error at beta = 1",
    "ece_calibrated": "expected calibration error at the fitted beta",
    "calibration_beta": "the fitted beta",
    "effective_beta": "inverse temperature of the chains in training",
    "sample_beta": "inverse temperature of the samples",
    "guidance": "power of P(y given x) in what the samples follow",
    "nats": "log-likelihood of F(x) at noisy test images, nats an image",
    "nats_interval": "interval of that log-likelihood, by annealing both ways",
    "nats_effective_sample_size": "effective sample size of log Z; below 20 it is unreliable",
    "nats_given_class": "log-likelihood given the class, nats an image",
    "nats_reference": "log-likelihood of independent Gaussian pixels, nats an image",
    "skipped_updates": "updates skipped because something was not finite",
    "seconds": "seconds, training to report",
}
EVERY_TARGET = {"nats_effective_sample_size": ">= 20"}  # of every data set
TARGETS = {  # by data set: the value to reach
    "digits": {
        "accuracy": ">= 0.985",
        "auroc_noise": ">= 0.999",
        "auroc_shuffled": ">= 0.999",
        "auroc_inverted": ">= 0.999",
        "label_agreement": ">= 0.95",
        "one_nn": "<= 0.58",
        **EVERY_TARGET,
        "seconds": "<= 45",
    },
    "mnist": {
        "accuracy": ">= 0.985",
        "auroc_notmnist": ">= 0.995",
        "label_agreement": ">= 0.97",
        "ece": "<= 0.02",
        "seconds": "<= 600",
    },
}
DYNAMICS = {  # by --sampler
    "mala": "the Metropolis-adjusted Langevin algorithm",
    "baoab": "underdamped Langevin dynamics (BAOAB)",
}
SHOWN = ("test images", "samples")  # names in figures beside those of outliers
COMPLETIONS = 6  # of an inpainted image
CLASSES = 20  # rows of pictures at most
PART = 1000  # images whose energies are computed at once


class Inpainted(NamedTuple):
    """Images (n, pixels), which pixels were hidden, and completions (n, repeats, pixels)."""

    given: np.ndarray
    hidden: np.ndarray
    completed: np.ndarray


class Results(NamedTuple):
    """A trained energy, as a function of images, with what it was trained on and generated."""

    classes: Callable  # images (n, pixels) -> energies (n, classes)
    images: Images
    outliers: dict[str, np.ndarray]  # (n, pixels) each
    loss: str
    history: dict[str, np.ndarray]
    samples: Samples
    inpainted: Inpainted
    likelihood: dict
    sampler: str  # how chains moved
    flows: bool  # whether a flow carried noise to where they started
    judge: evaluation.Judge  # trained on the training images
    alarms: list[str]  # that training and annealing rang


def meets(value: float, target: str) -> bool:
    """Return whether a value reaches a target, ">= 0.9" or "<= 0.1"; NaN reaches none."""
    comparison, bound = target.split()
    return value >= float(bound) if comparison == ">=" else value <= float(bound)


def verdict(name: str, summary: dict[str, float], targets: dict[str, str]) -> str:
    """Return what a table says of a measure's target: nothing, the target, or that it is missed."""
    if name not in targets:
        return ""
    return targets[name] + ("" if meets(summary[name], targets[name]) else " missed")


def meaning(name: str) -> str:
    """Return what a number in the summary is."""
    return MEASURES.get(name, f"AUROC of F(x), test images against {name.removeprefix('auroc_')}")


def by_parts(classes: Callable, params: Any) -> Callable:
    """Return images (n, pixels) -> energies (n, classes), not all computed at once."""
    compiled = jax.jit(jax.vmap(functools.partial(classes, params)))

    def energies(x: np.ndarray) -> np.ndarray:
        parts = [compiled(x[i : i + PART]) for i in range(0, len(x), PART)]
        return np.concatenate(parts).astype(np.float64)

    return energies


def free_energies(results: Results, x: np.ndarray) -> np.ndarray:
    """Return F(x) = -log sum_y exp(-F(x, y)), (n,)."""
    return -logsumexp(-results.classes(x), axis=1)


def classification(results: Results) -> dict[str, float]:
    """Return the accuracy of argmin_y F(x, y) on the test set, and its calibration."""
    split = results.images.split
    if len(results.images.classes) == 1:
        return {}
    energies = results.classes(split.test_x)
    accuracy = np.mean(energies.argmin(axis=1) == split.test_y)
    return {"accuracy": float(accuracy)} | evaluation.calibration(energies, split.test_y)


def sample_quality(results: Results) -> dict[str, float]:
    """Compare the samples with real images, by measures that know nothing of the energy.

    The judge of labels and features was trained on real images; the 1-nearest-
    neighbour test is against as many test images as samples; distances to the nearest training
    image are given for samples and for test images side by side.
    """
    split, samples = results.images.split, results.samples
    predict, features = results.judge
    count = min(len(samples.images), len(split.test_x))
    some = split.test_x[np.linspace(0, len(split.test_x) - 1, count).astype(int)]
    distances = {
        "samples": evaluation.nearest_distances(samples.images, split.train_x),
        "test": evaluation.nearest_distances(some, split.train_x),
    }
    on_samples, on_test = evaluation.one_nn_accuracy(samples.images, some)
    quality: dict[str, float] = {"samples": len(samples.images)}
    if predict is not None:
        quality["label_agreement"] = float(np.mean(predict(samples.images) == samples.labels))
        quality["judge_accuracy"] = float(np.mean(predict(split.test_x) == split.test_y))
    real = split.train_x[np.linspace(0, len(split.train_x) - 1, len(samples.images)).astype(int)]
    tested = features(split.test_x)
    return (
        quality
        | {
            "frechet": evaluation.frechet_distance(features(samples.images), tested),
            "frechet_floor": evaluation.frechet_distance(features(real), tested),
            "one_nn": (on_samples + on_test) / 2,
            "one_nn_samples": on_samples,
            "one_nn_test": on_test,
        }
        | {
            f"nearest_{name}_{q}": float(np.quantile(values, q / 100))
            for name, values in distances.items()
            for q in (5, 50)
        }
    )


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
    """Return rows of pictures: an image, what was given of it, its completions."""
    images, (given, hidden, completed) = results.images, results.inpainted
    known = images.pictures(given).reshape(len(given), -1)
    known[:, hidden] = 0.7  # grey where nothing is known
    first = [images.pictures(given), known.reshape(-1, *images.shape)]
    pictures = np.concatenate([np.stack(first, 1), images.pictures(completed)], axis=1)
    return pictures[:CLASSES]


def overview(path: Path, results: Results, energies: dict[str, np.ndarray]) -> None:
    """Draw it all in one picture: chains from noise, samples, completions, outliers."""
    images, samples = results.images, results.samples
    frames = samples.film[np.linspace(0, len(samples.film) - 1, 7).astype(int)]
    way = np.concatenate([rows(images, x, samples.labels, 1) for x in frames], axis=1)
    panels = {
        "one chain per class, from noise": way,
        "samples": rows(images, samples.images, samples.labels, 10),
        "an image, its upper half, completions": completions(results),
    }
    widths = [panel.shape[1] for panel in panels.values()]
    names = images.classes[:CLASSES]
    figure, axes = plots.plt.subplots(
        1,
        4,
        figsize=(
            0.36 * (sum(widths) + 12),
            max(0.36 * len(names), 0.2 * len(energies)) + 0.8,
        ),
        width_ratios=[*widths, 9],
    )
    for axis, (title, pictures) in zip(axes, panels.items(), strict=False):
        plots.show_rows(axis, title, pictures, names)
    plots.show_histograms(axes[3], energies, "free energy F(x)")
    axes[3].set_title("free energy of outliers", fontsize=10)
    plots.save(figure, path)


def charts(folder: Path, results: Results, energies: dict[str, np.ndarray]) -> dict[str, Path]:
    """Draw what happened in training and the energies of outliers; return the files by name."""
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


def embedded(kind: str, content: bytes) -> str:
    """Return a picture as a URI that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def number(value: float | list[float]) -> str:
    """Return a number, or the two ends of an interval, to four digits."""
    return " to ".join(f"{v:.4g}" for v in np.atleast_1d(np.asarray(value, float)))


def ordered(summary: dict[str, Any]) -> list[str]:
    """Return the names of the measures in a summary, in the order of a table."""
    order = list(MEASURES)
    others = [name for name in summary if name.startswith("auroc_") and name not in MEASURES]
    after = order.index("auroc_held_out") + 1
    return [name for name in (*order[:after], *others, *order[after:]) if name in summary]


def number_rows(summary: dict[str, float], targets: dict[str, str]) -> str:
    """Return the rows of the table of numbers, in HTML."""
    cells = ((name, verdict(name, summary, targets)) for name in ordered(summary))
    return "\n".join(
        f"<tr{' class=missed' if said.endswith('missed') else ''}>"
        f"<td>{html.escape(meaning(name))}</td><td>{number(summary[name])}</td>"
        f"<td>{html.escape(said)}</td></tr>"
        for name, said in cells
    )


HEADLINES = {  # measure: in few words
    "accuracy": "test accuracy",
    "label_agreement": "of samples whose class an independent classifier confirms",
    "one_nn": "1-nearest-neighbour test of samples, 0.5 is perfect",
}


def headlines(results: Results, summary: dict[str, float], targets: dict[str, str]) -> str:
    """Return the few numbers at the top of the page, in HTML."""
    hardest = "held_out" if "held_out" in results.outliers else list(results.outliers)[-1]
    count = f"({len(results.samples.images)} samples)"
    shown = HEADLINES | {f"auroc_{hardest}": f"AUROC against {outlier_name(hardest)} images"}
    blocks = []
    for name, words in shown.items():
        if name not in summary:
            continue
        words += f" {count}" if name in ("label_agreement", "one_nn") else ""
        said = verdict(name, summary, targets)
        missed = f"<em>target {html.escape(said)}</em>" if said.endswith("missed") else ""
        blocks.append(
            f"<div><b>{summary[name]:.3f}</b><small>{html.escape(words)}</small>{missed}</div>"
        )
    return "\n".join(blocks)


def outlier_name(name: str) -> str:
    """Return an outlier's name in prose; the user's own as it is."""
    return name.replace("_", "-") if name in splits.OUTLIERS else name


def warnings(results: Results, summary: dict[str, float], targets: dict[str, str]) -> list[str]:
    """Return what a reader must know before any number: alarms, and targets that are missed."""
    return [f"Alarm: {text}" for text in results.alarms] + [
        f"Target missed: {meaning(name)}: {number(summary[name])}, target {targets[name]}."
        for name in ordered(summary)
        if verdict(name, summary, targets).endswith("missed")
    ]


def table(summary: dict[str, Any], targets: dict[str, str], alarms: list[str]) -> None:
    """Print the chief numbers, their targets and the alarms on standard error, for people."""
    chief = {*HEADLINES, *targets, "samples", "nats", "nats_interval", "seconds"}
    shown = rich.table.Table("measure", "value", "target")
    for name in ordered(summary):
        if name in chief or name.startswith("auroc_"):
            said = verdict(name, summary, targets)
            cells = name, number(summary[name]), said
            style = "red" if said.endswith("missed") else ""
            shown.add_row(*map(rich.text.Text, cells), style=style)
    console = rich.console.Console(stderr=True)
    console.print(shown)
    for text in alarms:
        console.print(rich.text.Text(f"alarm: {text}", style="red"))


def figure(uri: str, alt: str, caption: str = "", kind: str = "") -> str:
    """Return a picture of the page, in HTML."""
    below = f"<figcaption>{html.escape(caption)}</figcaption>" if caption else ""
    return f'<figure><img class="{kind}" src="{uri}" alt="{html.escape(alt)}">{below}</figure>'


def report(
    results: Results,
    summary: dict[str, float],
    files: dict[str, Path],
    which: str,
    targets: dict[str, str],
    flags: str,
) -> str:
    """Return the page, everything inside it, of the data set ``which``."""
    warned = warnings(results, summary, targets)
    images, samples, split = results.images, results.samples, results.images.split
    shown = {
        "film": ("gif", plots.gif(film(images, samples, 16), milliseconds=120, last=3000)),
        "samples": ("png", plots.png(rows(images, samples.images, samples.labels, 16))),
        "test": ("png", plots.png(rows(images, split.test_x, split.test_y, 16))),
        "completions": ("png", plots.png(completions(results))),
        "outliers": ("png", files["outliers"].read_bytes()),
    }
    curves = [
        figure(embedded("png", path.read_bytes()), f"{name}, by update")
        for name, path in files.items()
        if name != "outliers"
    ]
    text = {
        "headlines": headlines(results, summary, targets),
        "warnings": "\n".join(f"<li>{html.escape(text)}</li>" for text in warned),
        "warned": "" if warned else "hidden",
        "data": html.escape(which),
        "size": "×".join(map(str, images.shape)),
        "classes": html.escape(", ".join(images.classes[:CLASSES])),
        "outlier_names": html.escape(", ".join(map(outlier_name, results.outliers))),
        "sample_steps": f"{samples.num_steps:,}",
        "dynamics": DYNAMICS[results.sampler],
        "start": f"They start {'where a flow carried noise to' if results.flows else 'in noise'}.",
        "training": "\n".join(curves),
        "numbers": number_rows(summary, targets),
        "flags": html.escape(flags),
    }
    uris = {name: embedded(kind, content) for name, (kind, content) in shown.items()}
    template = string.Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    return template.substitute(uris | text)  # once: what is put in is text, dollars too


def write(run: work_directory.Run, results: Results, which: str, targets: dict[str, str]) -> None:
    """Measure everything, draw the figures, write the report and finish the run.

    Args:
        run: the run.
        results: what was trained and drawn.
        which: what the report calls the data set.
        targets: the values to reach, beside those of every data set.
    """
    targets = EVERY_TARGET | targets
    images, samples, history = results.images, results.samples, results.history
    with stage("measuring test images, outliers and samples"):
        inside = free_energies(results, images.split.test_x)
        outside = {name: free_energies(results, x) for name, x in results.outliers.items()}
        summary = (
            classification(results)
            | {f"auroc_{n}": evaluation.auroc(inside, e) for n, e in outside.items()}
            | sample_quality(results)
            | results.likelihood
            | {
                "sample_beta": samples.beta,
                "guidance": samples.guidance,
                "skipped_updates": float(history["skipped_total"][-1]),
            }
        )
    if "generative/beta" in history:
        summary["effective_beta"] = float(history["generative/beta"][-1])
    with stage("drawing the figures"):
        drawn = rows(images, samples.images, samples.labels, 16)
        plots.image_rows(
            run.workdir / "samples.png",
            {
                "samples, from noise": drawn,
                "test images": rows(images, images.split.test_x, images.split.test_y, 8),
            },
            images.classes[:CLASSES],
        )
        energies = {"test images": inside} | outside
        files = charts(run.workdir, results, energies)
        overview(run.workdir / "overview.png", results, energies)
        histograms = energies | {"samples": free_energies(results, samples.images)}
        run.show(
            int(history["step"][-1]),
            {"samples": drawn.reshape(-1, *images.shape)},
            {f"free_energy/{name}": values for name, values in histograms.items()},
        )
    shown = summary | {"seconds": run.seconds()}
    run.write("report.html", report(results, shown, files, which, targets, run.flag_text))
    if run.first:
        table(shown, targets, results.alarms)
    path = str(run.workdir / "report.html")
    run.finish(summary | {"alarms": results.alarms, "report": path})
