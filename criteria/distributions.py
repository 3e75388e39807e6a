"""How far two sets of images are apart, from one feature vector per image: Fréchet distance, KID, precision and recall.

All in float64 on the CPU and over the whole sets at once, so that the order and the batches in which the features were
computed do not matter. Which features they are decides what the numbers mean: see `criteria.extractors`.
"""

from __future__ import annotations

import math

import numpy as np

Array = np.ndarray
SUBSETS, SUBSET_SIZE, SEED = 100, 1000, 0  # of the KID


def frechet_distance(mean_a: Array, cov_a: Array, mean_b: Array, cov_b: Array) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians (Dowson and Landau 1982; FID: Heusel et al. 2017).

    |mean_a - mean_b|^2 + trace(cov_a + cov_b - 2 (cov_a cov_b)^(1/2)), means [D], covariances [D,D], positive
    semi-definite. The trace of the root is the sum of the roots of the eigenvalues of cov_a^(1/2) cov_b cov_a^(1/2),
    which is symmetric: no complex numbers, and singular covariances need no care.
    """
    difference = np.asarray(mean_a, np.float64) - np.asarray(mean_b, np.float64)
    cov_a, cov_b = np.atleast_2d(np.asarray(cov_a, np.float64)), np.atleast_2d(np.asarray(cov_b, np.float64))
    values, vectors = np.linalg.eigh((cov_a + cov_a.T) / 2)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    product = root @ cov_b @ root
    shared = np.sqrt(np.clip(np.linalg.eigvalsh((product + product.T) / 2), 0, None)).sum()
    return max(0.0, float(difference @ difference + np.trace(cov_a) + np.trace(cov_b) - 2 * shared))


def frechet_of_features(a: Array, b: Array) -> float:
    """`frechet_distance` of the Gaussians fitted to features [N,D] and [M,D] (covariances divided by N - 1).

    With fewer images than dimensions the same number comes from the [N,M] products of the centred features, whose
    singular values add up to the trace of the root: faster, and free of eigenvalues that are zero up to rounding.
    ValueError: fewer than two images.
    """
    a, b = _checked(a, 2), _checked(b, 2)
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = (a - mean_a) / math.sqrt(len(a) - 1), (b - mean_b) / math.sqrt(len(b) - 1)
    if max(len(a), len(b)) > a.shape[1]:
        return frechet_distance(mean_a, a.T @ a, mean_b, b.T @ b)
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    difference = mean_a - mean_b
    return max(0.0, float(difference @ difference + np.square(a).sum() + np.square(b).sum() - 2 * shared))


def kid(a: Array, b: Array) -> tuple[float, float]:
    """Kernel Inception distance (Binkowski et al. 2018): mean and deviation of the unbiased squared MMD over subsets.

    a: [N,D], b: [M,D]. Kernel (x.y / D + 1)^3. Each of SUBSETS draws, from SEED on, takes SUBSET_SIZE vectors of each
    side without repetition, or as many as the smaller side has. Unbiased: 0 on average for equal distributions, so it
    can be negative. ValueError: fewer than two images.
    """
    a, b = _checked(a, 2), _checked(b, 2)
    size = min(SUBSET_SIZE, len(a), len(b))
    random = np.random.Generator(np.random.PCG64(SEED))
    distances = [
        mmd(a[random.permutation(len(a))[:size]], b[random.permutation(len(b))[:size]]) for _ in range(SUBSETS)
    ]
    return float(np.mean(distances)), float(np.std(distances))


def mmd(a: Array, b: Array) -> float:
    """Unbiased squared maximum mean discrepancy of [N,D] and [M,D] under the kernel (x.y / D + 1)^3."""
    a, b = _checked(a, 2), _checked(b, 2)

    def kernel(x: Array, y: Array) -> Array:
        return np.asarray((x @ y.T / x.shape[1] + 1) ** 3)

    within_a, within_b, across = kernel(a, a), kernel(b, b), kernel(a, b)
    n, m = len(a), len(b)
    return float(
        (within_a.sum() - np.trace(within_a)) / (n * (n - 1))
        + (within_b.sum() - np.trace(within_b)) / (m * (m - 1))
        - 2 * across.mean()
    )


def covered(points: Array, manifold: Array, *, k: int = 3) -> float:
    """Share of `points` inside the union of balls around `manifold`, each as wide as to its k-th neighbour.

    Improved precision (Kynkaanniemi et al. 2019) of results [N,D] against real images [M,D]; with the sides exchanged,
    recall. ValueError: k or fewer images on a side.
    """
    points, manifold = _checked(points, k + 1), _checked(manifold, k + 1)
    radii = np.concatenate(
        [np.partition(_squared_distances(block, manifold), k, axis=1)[:, k] for block in _blocks(manifold)]
    )  # the nearest of all is the point itself, so index k is the k-th other one
    inside = [(_squared_distances(block, manifold) <= radii).any(axis=1) for block in _blocks(points)]
    return float(np.concatenate(inside).mean())


def _squared_distances(a: Array, b: Array) -> Array:
    """[N,M], never below zero, and zero for equal vectors up to rounding."""
    return np.asarray(np.maximum(np.square(a).sum(1)[:, None] + np.square(b).sum(1) - 2 * a @ b.T, 0.0))


def _blocks(x: Array, rows: int = 1000) -> list[Array]:
    return [x[i : i + rows] for i in range(0, len(x), rows)]


def _checked(features: Array, least: int) -> Array:
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"features [N,D] with at least {least} rows are needed, got {features.shape}")
    return features
