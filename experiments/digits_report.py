"""What ``digits`` measures after training, and the page that shows it."""

import base64
import html
import string
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp
from sklearn.svm import SVC

from experiments import data, evaluation, plots, runs
from experiments.digits_model import Samples

MEASURES = {  # name in the summary: what it is, and the value to reach
    "accuracy": ("test accuracy of argmin_y F(x, y)", ">= 0.985"),
    "auroc_noise": ("AUROC of F(x), digits against uniform noise", ">= 0.999"),
    "auroc_shuffled": ("against digits with shuffled pixels", ">= 0.999"),
    "auroc_inverted": ("against inverted digits", ">= 0.999"),
    "auroc_held_out": ("against the digit never seen in training", ""),
    "label_agreement": (
        "samples that an independent classifier gives the intended class",
        ">= 0.95",
    ),
    "judge_accuracy": ("that classifier's accuracy on the test digits", ""),
    "one_nn": ("1-nearest-neighbour two-sample accuracy, 0.5 is perfect", "<= 0.60"),
    "one_nn_samples": ("the same, on the samples alone", ""),
    "one_nn_test": ("the same, on the test digits alone", ""),
    "nearest_samples_50": ("median distance of a sample to the nearest training image", ""),
    "nearest_test_50": ("median distance of a test digit to the nearest training image", ""),
    "nearest_samples_5": ("distance that 5 % of the samples are within", ""),
    "nearest_test_5": ("distance that 5 % of the test digits are within", ""),
    "ece": ("calibration error at beta = 1", ""),
    "ece_calibrated": ("calibration error at the fitted beta", ""),
    "calibration_beta": ("the fitted beta", ""),
    "effective_beta": ("inverse temperature of the chains in training", ""),
    "sample_beta": ("inverse temperature of the samples", ""),
    "nats": ("log-likelihood of F(x) at noisy test digits, nats an image", ""),
    "nats_interval": ("its interval, by annealing both ways", ""),
    "nats_effective_sample_size": ("chains that its log Z rests on", ">= 5, or trust it not"),
    "nats_given_class": ("the log-likelihood given the class", ""),
    "nats_reference": ("that of independent Gaussian pixels", ""),
    "skipped_updates": ("updates skipped because something was not finite", ""),
    "seconds": ("seconds, training to report", "< 180"),
}


class Results(NamedTuple):
    """A trained energy, as a function of images, with what it was trained on and generated."""

    classes: Callable  # images (n, 64) -> energies (n, classes)
    split: data.Split
    outliers: dict[str, np.ndarray]  # (n, 64) each
    digits: list[int]
    loss: str
    history: dict[str, np.ndarray]
    samples: Samples
    likelihood: dict


def free_energies(results: Results, x: np.ndarray) -> np.ndarray:
    """Return F(x) = -log sum_y exp(-F(x, y)), (n,)."""
    return -logsumexp(-np.asarray(results.classes(x), np.float64), axis=1)


def classification(results: Results) -> dict[str, float]:
    """Return the accuracy of argmin_y F(x, y) on the test set, and its calibration."""
    energies = np.asarray(results.classes(results.split.test_x), np.float64)
    accuracy = np.mean(energies.argmin(axis=1) == results.split.test_y)
    return {"accuracy": float(accuracy)} | evaluation.calibration(energies, results.split.test_y)


def sample_quality(results: Results) -> dict[str, float]:
    """Compare the samples with real digits, by measures that know nothing of the energy.

    Label agreement is that of a support vector machine trained on the real training digits;
    the 1-nearest-neighbour test is against the test digits; distances to the nearest training
    image are given for samples and for test images side by side.
    """
    split, samples = results.split, results.samples
    judge = SVC(gamma=0.25, C=10).fit(split.train_x, split.train_y)
    distances = {
        "samples": evaluation.nearest_distances(samples.images, split.train_x),
        "test": evaluation.nearest_distances(split.test_x, split.train_x),
    }
    on_samples, on_test = evaluation.one_nn_accuracy(samples.images, split.test_x)
    return {
        "label_agreement": float(np.mean(judge.predict(samples.images) == samples.labels)),
        "judge_accuracy": float(judge.score(split.test_x, split.test_y)),
        "one_nn": (on_samples + on_test) / 2,
        "one_nn_samples": on_samples,
        "one_nn_test": on_test,
    } | {
        f"nearest_{name}_{q}": float(np.quantile(values, q / 100))
        for name, values in distances.items()
        for q in (5, 50)
    }


def rows(x: np.ndarray, y: np.ndarray, classes: int, count: int) -> np.ndarray:
    """Return ``count`` images of every class, (classes, count, 8, 8)."""
    return np.stack([x[y == c][:count] for c in range(classes)]).reshape(classes, count, 8, 8)


def film(samples: Samples, classes: int, count: int) -> np.ndarray:
    """Return the frames of ``count`` chains of every class, (frames, classes, count, 8, 8)."""
    return np.stack([rows(frame, samples.labels, classes, count) for frame in samples.film])


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
                "proposals accepted": "generative/accepted",
                "restarted": "generative/chains_restarted",
                "non-finite": "generative/chains_nonfinite",
            },
        ),
    }
    files = {name: folder / f"training_{name}.png" for name in panels}
    for name, (title, lines) in panels.items():
        shown = {label: h[metric] for label, metric in lines.items()}
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


def number_rows(summary: dict[str, float]) -> str:
    """Return the rows of the table of numbers, in HTML."""
    return "\n".join(
        f"<tr><td>{html.escape(meaning)}</td><td>{number(summary[name])}</td>"
        f"<td>{html.escape(target)}</td></tr>"
        for name, (meaning, target) in MEASURES.items()
        if name in summary
    )


def report(results: Results, summary: dict[str, float], files: dict[str, Path], used: str) -> str:
    """Return the page, everything inside it; ``used`` are the flags."""
    count, samples, split = len(results.digits), results.samples, results.split
    pictures = {
        "samples": embedded("png", plots.png(rows(samples.images, samples.labels, count, 16))),
        "test": embedded("png", plots.png(rows(split.test_x, split.test_y, count, 16))),
        "film": embedded("gif", plots.gif(film(samples, count, 16), milliseconds=120, last=3000)),
    } | {name: embedded("png", path.read_bytes()) for name, path in files.items()}
    hardest = "held_out" if "held_out" in results.outliers else "shuffled"
    headlines = {
        "accuracy": "accuracy",
        "agreement": "label_agreement",
        "neighbours": "one_nn",
        "auroc": f"auroc_{hardest}",
    }
    text = {
        "hardest": hardest.replace("_", "-"),
        "digits": ", ".join(map(str, results.digits)),
        "outlier_names": ", ".join(results.outliers).replace("_", " "),
        "sample_steps": f"{samples.num_steps:,}",
        "numbers": number_rows(summary),
        "flags": html.escape(used),
    }
    template = string.Template(Path(__file__).with_suffix(".html").read_text())
    return template.substitute(
        pictures | text, **{name: f"{summary[of]:.3f}" for name, of in headlines.items()}
    )


def write(run: runs.Run, results: Results) -> None:
    """Measure everything, draw the figures, write the report and finish the run."""
    inside = free_energies(results, results.split.test_x)
    outside = {name: free_energies(results, x) for name, x in results.outliers.items()}
    summary = (
        classification(results)
        | {f"auroc_{n}": evaluation.auroc(inside, e) for n, e in outside.items()}
        | sample_quality(results)
        | results.likelihood
        | {
            "sample_beta": results.samples.beta,
            "effective_beta": float(results.history["generative/beta"][-1]),
            "skipped_updates": float(results.history["skipped_total"][-1]),
        }
    )
    count, samples, split = len(results.digits), results.samples, results.split
    plots.image_rows(
        run.workdir / "samples.png",
        {
            "samples, from noise": rows(samples.images, samples.labels, count, 16),
            "test digits": rows(split.test_x, split.test_y, count, 8),
        },
        [str(digit) for digit in results.digits],
    )
    files = charts(run.workdir, results, {"digits": inside} | outside)
    energies = {"digits": inside, "samples": free_energies(results, samples.images)} | outside
    run.show(
        int(results.history["step"][-1]),
        {"samples": rows(samples.images, samples.labels, count, 16).reshape(-1, 8, 8)},
        {f"free_energy/{name}": values for name, values in energies.items()},
    )
    shown = summary | {"seconds": run.seconds()}
    run.write("report.html", report(results, shown, files, run.flag_text))
    run.finish(summary | {"report": str(run.workdir / "report.html")})
