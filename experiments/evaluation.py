"""Measures of a trained energy: calibration, outlier detection, two-sample tests."""

import warnings
from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits


def auroc(inlier_energies: np.ndarray, outlier_energies: np.ndarray) -> float:
    """Return the probability that an outlier has the higher energy: 0.5 is chance, 1 perfect."""
    labels = np.repeat([0, 1], [len(inlier_energies), len(outlier_energies)])
    return float(roc_auc_score(labels, np.concatenate([inlier_energies, outlier_energies])))


def calibration_error(log_probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: |confidence - accuracy|, averaged over equal bins.

    Source: Guo et al. (2017), On calibration of modern neural networks, eq. 3.
    """
    confidence = np.exp(log_probs.max(axis=1))
    correct = log_probs.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((confidence - correct)[which == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(labels))


def best_beta(energies: np.ndarray, labels: np.ndarray) -> float:
    """Return the inverse temperature in [0.01, 100] of highest likelihood, P ~ exp(-beta F)."""

    def nll(log_beta: float) -> float:
        log_p = log_softmax(-np.exp(log_beta) * energies, axis=1)
        return -log_p[np.arange(len(labels)), labels].mean()

    found = minimize_scalar(nll, bounds=(np.log(0.01), np.log(100.0)), method="bounded")
    return float(np.exp(found.x))


def calibration(energies: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the calibration error at beta = 1 and at the best beta.

    The beta for one fifth of the examples is fitted on the others: none tunes itself.
    """
    energies = np.asarray(energies, np.float64)
    fold = np.arange(len(labels)) % 5
    betas = [best_beta(energies[fold != f], labels[fold != f]) for f in range(5)]
    scaled = energies * np.asarray(betas)[fold][:, None]
    return {
        "ece": calibration_error(log_softmax(-energies, axis=1), labels),
        "ece_calibrated": calibration_error(log_softmax(-scaled, axis=1), labels),
        "calibration_beta": float(np.mean(betas)),
    }


def one_nn_accuracy(samples: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return the leave-one-out accuracy of telling samples from data by the nearest neighbour.

    On the samples and on the data; their mean is the statistic. 0.5 is perfect; 1 means the two
    can be told apart; below 0.5 the samples are copies. High on the samples and low on the data:
    the samples lie too near the centre.
    Source: Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests.
    """
    both = np.concatenate([samples, reference])
    label = np.repeat([0, 1], [len(samples), len(reference)])
    neighbours = NearestNeighbors(n_neighbors=2).fit(both)
    # The first neighbour of a point is the point itself, unless it has an exact double.
    indices = neighbours.kneighbors(both, return_distance=False)
    itself = indices[:, 0] == np.arange(len(both))
    nearest = np.where(itself, indices[:, 1], indices[:, 0])
    correct = label[nearest] == label
    return float(correct[label == 0].mean()), float(correct[label == 1].mean())


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Wasserstein distance of the Gaussians with the moments of two samples.

        |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    Of features (n, d) and (m, d). It is biased upwards, by less for more of them: compare it with
    that of two samples of real data. Source: Heusel et al. (2017), GANs trained by a two
    time-scale update rule, eq. 6.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    between = a.mean(0) - b.mean(0)
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    values, vectors = eigh(covariances[0])
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(eigh(root @ covariances[1] @ root, eigvals_only=True), 0)).sum()
    return float(between @ between + sum(map(np.trace, covariances)) - 2 * shared)


Judge = tuple[Callable | None, Callable]  # images -> classes, images -> features


def judge(x: np.ndarray, y: np.ndarray) -> Judge:
    """Return a classifier of images that knows no energy, and the features it goes by.

    Features are the units of its one hidden layer; where there is one class alone there is no
    classifier, and the features are principal components.
    """
    if len(np.unique(y)) == 1:
        return None, PCA(min(64, *x.shape), random_state=0).fit(x).transform
    epochs = int(np.clip(1_000_000 // len(x), 10, 300))
    network = MLPClassifier((256,), max_iter=epochs, random_state=0)
    # Its products are small: threads would mostly wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops after so many epochs
        network.fit(x, y)

    def features(x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ network.coefs_[0] + network.intercepts_[0], 0)

    return network.predict, features


def nearest_distances(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the distance of every x to its nearest neighbour in the reference, (n,)."""
    return NearestNeighbors(n_neighbors=1).fit(reference).kneighbors(x)[0][:, 0]


def bias_and_variance(estimates: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return squared bias, variance and noise of an estimator, from repetitions (n, d) of it.

        bias^2 = |mean - truth|^2 - variance / n,    variance = trace of the covariance

    The last term is what chance adds, so that an absent bias gives 0 on average, with either
    sign; ``noise`` is two standard errors of that.
    """
    estimates = np.asarray(estimates, np.float64)
    covariance = np.cov(estimates.T) / len(estimates)
    bias = ((estimates.mean(0) - truth) ** 2).sum() - np.trace(covariance)
    noise = 2 * np.sqrt(2 * (covariance**2).sum())
    return float(bias), float(np.trace(covariance) * len(estimates)), float(noise)
