"""Measures of a trained energy of images, and their targets."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import logsumexp

from experiments import evaluation
from experiments.data.image_sets import Images
from experiments.data.splits import Split
from experiments.images.sampling import Samples

MEASURES = {  # name in the summary: what it is
    "accuracy": "test accuracy of argmin_y F(x, y)",
    "auroc_noise": "AUROC of F(x), test images against uniform noise",
    "auroc_shuffled": "AUROC of F(x), test images against test images with shuffled pixels",
    "auroc_inverted": "AUROC of F(x), test images against inverted test images",
    "auroc_held_out": "AUROC of F(x), test images against the class never seen in training",
    "samples": "number of samples used by the measures of samples",
    "label_agreement": "fraction of samples whose class an independent classifier confirms",
    "judge_accuracy": "accuracy of that classifier on the test images",
    "frechet": "Fréchet distance of samples and test images, in that classifier's features",
    "frechet_floor": "Fréchet distance of the same number of training images and test images",
    "one_nn": "1-nearest-neighbour accuracy, samples against test images (0.5 is perfect)",
    "one_nn_samples": "1-nearest-neighbour accuracy, counting only the samples",
    "one_nn_test": "1-nearest-neighbour accuracy, counting only the test images",
    "nearest_samples_50": "median distance of a sample to the nearest training image",
    "nearest_test_50": "median distance of a test image to the nearest training image",
    "nearest_samples_5": "5 % quantile of the distance of a sample to the nearest training image",
    "nearest_test_5": "5 % quantile of the distance of a test image to the nearest training image",
    "completions": "number of test images whose lower half was completed",
    "completion_agreement": "fraction of completions whose class that classifier confirms",
    "completion_error": "mean squared error of the completed pixels against the test image",
    "completion_agreement_flow": "the fraction for the completions of the flow, without chains",
    "completion_error_flow": "the error for the completions of the flow, without chains",
    "ece": "expected calibration error at beta = 1",
    "ece_calibrated": "expected calibration error at the fitted beta",
    "calibration_beta": "the fitted beta, mean of five fits",
    "effective_beta": "inverse temperature of the chains in training",
    "sample_beta": "inverse temperature of the samples",
    "guidance": "exponent g of the sampled density, p(x) P(y given x)^g up to a constant",
    "nats": "log-likelihood of noisy test images under F(x), nats per image",
    "nats_interval": "interval of that log-likelihood, from annealing in both directions",
    "nats_effective_sample_size": "effective sample size of log Z; below 20 it is unreliable",
    "nats_given_class": "log-likelihood given the class, nats per image",
    "nats_reference": "log-likelihood under independent Gaussian pixels, nats per image",
    "updates": "number of updates, in the last part of training",
    "skipped_updates": "updates skipped because a value was not finite",
    "seconds": "seconds from the start of training to the report",
}
EVERY_TARGET = {"nats_effective_sample_size": ">= 20"}  # for every data set
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
        "completion_agreement": ">= 0.8",
        "ece": "<= 0.02",
        "seconds": "<= 600",
    },
}
PART = 1000  # images whose energies are computed at once


class Inpainted(NamedTuple):
    """Completions of test images: one per row, and several rows may be of the same image."""

    images: np.ndarray  # (n,), row of each image in the test images
    hidden: np.ndarray  # (pixels,), true where a pixel was hidden
    completed: np.ndarray  # (n, pixels)
    by_flow: np.ndarray | None  # (n, pixels), those of the flow without chains


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
    alarms: list[str]  # raised in training and annealing


def meets(value: float, target: str) -> bool:
    """Return whether a value meets a target, ">= 0.9" or "<= 0.1"; NaN meets none."""
    comparison, bound = target.replace(",", "").split()[:2]
    return value >= float(bound) if comparison == ">=" else value <= float(bound)


def verdict(name: str, summary: dict[str, float], targets: dict[str, str]) -> str:
    """Return the target of a measure for a table, with "missed" if it was; "" without a target."""
    if name not in targets:
        return ""
    return targets[name] + ("" if meets(summary[name], targets[name]) else " missed")


def meaning(name: str) -> str:
    """Return the description of a number in the summary."""
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
    """Compare the samples with real images, by measures that do not use the energy.

    The judge of labels and features was trained on real images.
    """
    split, samples = results.images.split, results.samples
    predict, features = results.judge
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
        }
        | realism(samples.images, split)
    )


def completion_quality(results: Results) -> dict[str, float]:
    """Compare completed pixels with those of the test images; every image has the same weight."""
    split, inpainted, predict = results.images.split, results.inpainted, results.judge[0]
    of, hidden = inpainted.images, inpainted.hidden
    shares = 1 / np.bincount(of)[of]
    x, y = split.test_x[of], split.test_y[of]
    quality: dict[str, float] = {"completions": len(np.unique(of))}
    for name, completed in (("", inpainted.completed), ("_flow", inpainted.by_flow)):
        if completed is None:
            continue
        if predict is not None:
            agrees = predict(completed) == y
            quality[f"completion_agreement{name}"] = float(np.average(agrees, weights=shares))
        errors = ((completed - x)[:, hidden] ** 2).mean(axis=1)
        quality[f"completion_error{name}"] = float(np.average(errors, weights=shares))
    return quality


def realism(images: np.ndarray, split: Split) -> dict[str, float]:
    """Return the 1-nearest-neighbour test and the distances to the nearest training image.

    The test compares as many samples as test images: more samples are compared in several parts,
    each with samples of all classes if ``images`` are in the order of their classes, and the means
    over the parts are returned. The distances are those of samples and of test images.
    """
    parts = max(1, len(images) // len(split.test_x))
    count = min(len(images), len(split.test_x))
    some = split.test_x[np.linspace(0, len(split.test_x) - 1, count).astype(int)]
    distances = {
        "samples": evaluation.nearest_distances(images, split.train_x),
        "test": evaluation.nearest_distances(some, split.train_x),
    }
    accuracies = [evaluation.one_nn_accuracy(images[i::parts], some) for i in range(parts)]
    on_samples, on_test = (float(mean) for mean in np.mean(accuracies, axis=0))
    return {
        "one_nn": (on_samples + on_test) / 2,
        "one_nn_samples": on_samples,
        "one_nn_test": on_test,
    } | {
        f"nearest_{name}_{q}": float(np.quantile(values, q / 100))
        for name, values in distances.items()
        for q in (5, 50)
    }


def all_of(results: Results, inside: np.ndarray, outside: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the summary of results.

    ``inside`` are the free energies of the test images, ``outside`` those of outliers, by name.
    """
    samples, history = results.samples, results.history
    summary = (
        classification(results)
        | {f"auroc_{n}": evaluation.auroc(inside, e) for n, e in outside.items()}
        | sample_quality(results)
        | completion_quality(results)
        | results.likelihood
        | {
            "sample_beta": samples.sample_beta,
            "guidance": samples.guidance,
            "updates": int(history["step"][-1]),
            "skipped_updates": float(history["skipped_total"][-1]),
        }
    )
    if "generative/beta" in history:
        summary["effective_beta"] = float(history["generative/beta"][-1])
    return summary


def number(value: float | list[float]) -> str:
    """Return a number, or the two ends of an interval, to four digits."""
    return " to ".join(f"{v:.4g}" for v in np.atleast_1d(np.asarray(value, float)))


def ordered(summary: dict[str, Any]) -> list[str]:
    """Return the names of the measures in a summary, in the order of a table."""
    order = list(MEASURES)
    others = [name for name in summary if name.startswith("auroc_") and name not in MEASURES]
    after = order.index("auroc_held_out") + 1
    return [name for name in (*order[:after], *others, *order[after:]) if name in summary]
