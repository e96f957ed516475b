"""Measures of a trained energy: calibration, outlier detection, two-sample tests.

An infinite energy is one like others: +inf is above all, -inf below. What cannot be computed is
NaN, never an error (it comes after hours of training) and never a number: of NaN, of positions
that are not finite, of too few rows.
"""

import math
import warnings
from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from scipy.stats import rankdata
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits


def auroc(inlier_energies: np.ndarray, outlier_energies: np.ndarray) -> float:
    """Return the probability that an outlier has the higher energy: 0.5 is chance, 1 perfect.

    Equal energies count half, two of the same infinity too.
    """
    n, m = len(inlier_energies), len(outlier_energies)
    ranks = rankdata(np.concatenate([outlier_energies, inlier_energies]))
    return float((ranks[:m].sum() - m * (m + 1) / 2) / (n * m)) if n and m else math.nan


def _log_probs(energies: np.ndarray) -> np.ndarray:
    """Return log P(y | x) of energies (n, classes), in float64.

    Classes at -inf share all probability; a row without an allowed class, all +inf, is NaN.
    """
    energies = np.asarray(energies, np.float64)
    lowest = energies.min(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):  # inf - inf
        relative = np.where(lowest == -np.inf, np.where(energies == lowest, 0, np.inf), energies)
        return log_softmax(np.min(relative, axis=1, keepdims=True) - relative, axis=1)


def calibration_error(log_probs: np.ndarray, labels: np.ndarray, bins: int = 15) -> float:
    """Return the expected calibration error: |confidence - accuracy|, averaged over equal bins.

    Of equal probabilities the first class is the answer, as in the accuracy.
    Source: Guo et al. (2017), On calibration of modern neural networks, eq. 3.
    """
    if not len(labels) or np.isnan(log_probs).any():
        return math.nan
    confidence = np.exp(log_probs.max(axis=1))
    correct = log_probs.argmax(axis=1) == labels
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs((confidence - correct)[which == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(labels))


def best_beta(energies: np.ndarray, labels: np.ndarray) -> float:
    """Return the inverse temperature in [0.01, 100] of highest likelihood, P ~ exp(-beta F).

    It is 1 where the likelihood is the same at every beta, and NaN where it is 0 at every beta.
    """
    energies = np.asarray(energies, np.float64)

    def nll(log_beta: float) -> float:
        log_p = _log_probs(np.exp(log_beta) * energies)
        return -log_p[np.arange(len(labels)), labels].mean()

    low, high = np.log(0.01), np.log(100.0)
    if not len(labels) or not np.isfinite(nll(0.0)):
        return math.nan
    if nll(low) == nll(0.0) == nll(high):
        return 1.0
    return float(np.exp(minimize_scalar(nll, bounds=(low, high), method="bounded").x))


def calibration(energies: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Return the calibration error at beta = 1 and at the best beta.

    The beta for one fifth of the examples is fitted on the others: none tunes itself.
    """
    energies = np.asarray(energies, np.float64)
    folds = min(5, len(labels))
    fold = np.arange(len(labels)) % 5
    betas = np.array([best_beta(energies[fold != f], labels[fold != f]) for f in range(folds)])
    scaled = energies * betas[fold][:, None]
    return {
        "ece": calibration_error(_log_probs(energies), labels),
        "ece_calibrated": calibration_error(_log_probs(scaled), labels),
        "calibration_beta": float(betas.mean()) if folds else math.nan,
    }


def one_nn_accuracy(samples: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return the leave-one-out accuracy of telling samples from data by the nearest neighbour.

    On the samples and on the data; their mean is the statistic. 0.5 is perfect; 1 means the two
    can be told apart; below 0.5 the samples are copies. High on the samples and low on the data:
    the samples lie too near the centre. A sample as near to the data as to the samples counts
    half. It takes two rows of each.
    Source: Lopez-Paz and Oquab (2017), Revisiting classifier two-sample tests.
    """
    if min(len(samples), len(reference)) < 2 or not _finite(samples, reference):
        return math.nan, math.nan

    def accuracy(own: np.ndarray, others: np.ndarray) -> float:
        to_own, to_others = _nearest(own), _nearest(others, own)
        return float(np.mean((to_own < to_others) + 0.5 * (to_own == to_others)))

    return accuracy(samples, reference), accuracy(reference, samples)


def _finite(*arrays: np.ndarray) -> bool:
    return all(np.isfinite(x).all() for x in arrays)


def _nearest(reference: np.ndarray, x: np.ndarray | None = None) -> np.ndarray:
    """Return the distance of every x, by default of every other point, to its nearest in (n, d).

    scikit-learn finds the neighbour by |a|^2 - 2ab + |b|^2 in many dimensions: about a centre
    least cancels, and the distance is then computed from the difference.
    """
    reference = np.asarray(reference, np.float64)
    centre = reference.mean(axis=0)
    search = NearestNeighbors(n_neighbors=1).fit(reference - centre)
    queries = None if x is None else x - centre
    (indices,) = search.kneighbors(queries, return_distance=False).T
    return np.linalg.norm((reference if x is None else x) - reference[indices], axis=1)


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the squared Wasserstein distance of the Gaussians with the moments of two samples.

        |mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))

    Of features (n, d) and (m, d), two rows of each or more. It is biased upwards, by less for
    more of them: compare it with that of two samples of real data. Source: Heusel et al. (2017),
    GANs trained by a two time-scale update rule, eq. 6.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if min(len(a), len(b)) < 2 or not _finite(a, b):
        return math.nan
    between = a.mean(0) - b.mean(0)
    covariances = [np.atleast_2d(np.cov(x, rowvar=False)) for x in (a, b)]
    values, vectors = eigh(covariances[0])
    root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
    shared = np.sqrt(np.maximum(eigh(root @ covariances[1] @ root, eigvals_only=True), 0)).sum()
    return float(between @ between + sum(map(np.trace, covariances)) - 2 * shared)


Judge = tuple[Callable | None, Callable]  # images -> classes, images -> features


def judge(x: np.ndarray, y: np.ndarray) -> Judge:
    """Return a classifier of images that was trained without the energy, and its features.

    The features are the units of its one hidden layer. If all images have the same class, the
    classifier is None, and the features are principal components.
    """
    if len(np.unique(y)) == 1:
        return None, PCA(min(64, *x.shape), random_state=0).fit(x).transform
    epochs = int(np.clip(1_000_000 // len(x), 10, 300))
    network = MLPClassifier((256,), max_iter=epochs, random_state=0)
    # Its products are small: threads would mostly wait for each other.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # it stops at the limit of epochs
        network.fit(x, y)

    def features(x: np.ndarray) -> np.ndarray:
        return np.maximum(x @ network.coefs_[0] + network.intercepts_[0], 0)

    return network.predict, features


def nearest_distances(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the distance of every x to its nearest neighbour in the reference, (n,)."""
    distances = np.full(len(x), math.nan)
    finite = np.isfinite(x).all(axis=1)
    if len(reference) and finite.any() and _finite(reference):
        distances[finite] = _nearest(reference, x[finite])
    return distances


def bias_and_variance(estimates: np.ndarray, truth: np.ndarray) -> tuple[float, float, float]:
    """Return squared bias, variance and noise of an estimator, from repetitions (n, d) of it.

        bias^2 = |mean - truth|^2 - variance / n,    variance = trace of the covariance

    The last term is what chance adds, so that an absent bias gives 0 on average, with either
    sign; ``noise`` is two standard errors of that. It takes two repetitions or more.
    """
    estimates = np.asarray(estimates, np.float64)
    if len(estimates) < 2 or not _finite(estimates):
        return math.nan, math.nan, math.nan
    covariance = np.atleast_2d(np.cov(estimates, rowvar=False)) / len(estimates)
    bias = ((estimates.mean(0) - truth) ** 2).sum() - np.trace(covariance)
    noise = 2 * np.sqrt(2 * (covariance**2).sum())
    return float(bias), float(np.trace(covariance) * len(estimates)), float(noise)
