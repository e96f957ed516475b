"""What ``digits`` measures after training, and the page that shows it."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from absl import flags
from scipy.special import logsumexp
from sklearn.svm import SVC

from experiments import data, evaluation, plots, runs

FLAGS = flags.FLAGS


class Results(NamedTuple):
    """A trained energy, as a function of images, with what it was trained on and generated."""

    classes: Callable  # images (n, 64) -> energies (n, classes)
    split: data.Split
    held_out: np.ndarray | None
    digits: list[int]
    history: dict[str, np.ndarray]
    samples: np.ndarray  # (n, 64)
    labels: np.ndarray  # (n,)
    film: np.ndarray  # (frames, n, 64)


def free_energies(results: Results, x: np.ndarray) -> np.ndarray:
    """Return F(x) = -log sum_y exp(-F(x, y)), (n,)."""
    return -logsumexp(-np.asarray(results.classes(x), np.float64), axis=1)


def classification(results: Results) -> dict[str, float]:
    """Return the accuracy of argmin_y F(x, y) on the test set, and its calibration."""
    energies = np.asarray(results.classes(results.split.test_x), np.float64)
    accuracy = np.mean(energies.argmin(axis=1) == results.split.test_y)
    return {"accuracy": float(accuracy)} | evaluation.calibration(energies, results.split.test_y)


def outlier_energies(results: Results) -> dict[str, np.ndarray]:
    """Return F(x) of the test digits and of everything that is no digit (or an unseen one)."""
    sets = {"digits": results.split.test_x} | data.outliers(results.split.test_x, FLAGS.seed)
    if results.held_out is not None:
        sets["held_out"] = results.held_out
    return {name: free_energies(results, x) for name, x in sets.items()}


def sample_quality(results: Results) -> dict[str, float]:
    """Compare the samples with real digits, by measures that know nothing of the energy.

    Label agreement is that of a support vector machine trained on the real training digits;
    the 1-nearest-neighbour test is against the test digits; distances to the nearest training
    image are given for samples and for test images side by side.
    """
    split, samples = results.split, results.samples
    judge = SVC(gamma=0.25, C=10).fit(split.train_x, split.train_y)
    distances = {
        "samples": evaluation.nearest_distances(samples, split.train_x),
        "test": evaluation.nearest_distances(split.test_x, split.train_x),
    }
    on_samples, on_test = evaluation.one_nn_accuracy(samples, split.test_x)
    return {
        "label_agreement": float(np.mean(judge.predict(samples) == results.labels)),
        "judge_accuracy": float(judge.score(split.test_x, split.test_y)),
        "one_nn": (on_samples + on_test) / 2,
        "one_nn_samples": on_samples,
        "one_nn_test": on_test,
    } | {
        f"nearest_{name}_{q}": float(np.quantile(values, q / 100))
        for name, values in distances.items()
        for q in (5, 50)
    }


def _rows(x: np.ndarray, y: np.ndarray, classes: int, count: int) -> np.ndarray:
    """Return ``count`` images of every class, (classes, count, 8, 8)."""
    return np.stack([x[y == c][:count] for c in range(classes)]).reshape(classes, count, 8, 8)


def figures(run: runs.Run, results: Results, energies: dict[str, np.ndarray]) -> None:
    """Write samples.png, chains.png, training.png and outliers.png."""
    n, names = len(results.digits), [str(d) for d in results.digits]
    plots.image_rows(
        run.workdir / "samples.png",
        {
            "samples, from noise": _rows(results.samples, results.labels, n, 16),
            "test digits": _rows(results.split.test_x, results.split.test_y, n, 8),
        },
        names,
    )
    first = [int(np.argmax(results.labels == c)) for c in range(n)]
    film = results.film[:, first].transpose(1, 0, 2).reshape(n, -1, 8, 8)
    steps = f"{FLAGS.sample_steps} MALA steps, a frame every {FLAGS.sample_steps // 10}"
    plots.image_rows(run.workdir / "chains.png", {"from noise to digit": film}, names, steps)
    h = results.history
    plots.curves(
        run.workdir / "training.png",
        h["step"],
        {
            f"{FLAGS.loss} loss over classes": {"loss": h["discriminative/loss"]},
            "energy": {
                "data": h["generative/energy_positive"],
                "chains": h["generative/energy_negative"],
            },
            "fraction of chains": {
                "proposals accepted": h["generative/accepted"],
                "restarted": h["generative/chains_restarted"],
                "non-finite": h["generative/chains_nonfinite"],
            },
        },
    )
    plots.histograms(run.workdir / "outliers.png", energies, "free energy F(x)")


def report(summary: dict[str, float]) -> str:
    """Return the one-page report, in Markdown."""
    table = "\n".join(f"| {name} | {value:.4g} |" for name, value in summary.items())
    return f"""# One energy on handwritten digits

`python -m experiments.digits --loss={FLAGS.loss} --steps={FLAGS.steps} --seed={FLAGS.seed}`
(all flags in [flags.txt](flags.txt))

## Samples
Langevin dynamics on F(., y) from uniform noise, one row a class, beside real test digits.

![samples](samples.png)

The path of ten of these chains:

![chains](chains.png)

## Outliers
The free energy of test digits, and of what is no digit.

![outliers](outliers.png)

## Training
![training](training.png)

## Numbers
| measure | value |
|---|---|
{table}

`one_nn`: accuracy of telling samples from test digits by the nearest neighbour, 0.5 is perfect.
`nearest_*`: quantiles of the distance to the nearest training image, for samples and test images.
Inverse temperature: {summary["effective_beta"]:.4g} of the chains in training,
{summary["sample_beta"]:.4g} of the samples.
"""


def write(run: runs.Run, results: Results) -> None:
    """Measure everything, draw the figures, write the report and finish the run."""
    energies = outlier_energies(results)
    outliers = {n: e for n, e in energies.items() if n != "digits"}
    summary = (
        classification(results)
        | {f"auroc_{n}": evaluation.auroc(energies["digits"], e) for n, e in outliers.items()}
        | sample_quality(results)
        | {
            "sample_beta": FLAGS.sample_beta,
            "effective_beta": float(results.history["generative/beta"][-1]),
            "skipped_updates": float(results.history["skipped_total"][-1]),
        }
    )
    figures(run, results, energies)
    run.write("report.md", report(summary))
    run.finish(summary | {"report": str(run.workdir / "report.md")})
