"""Frechet distance between the features of two sets of images, with a bootstrap interval.

Eq. (18) of K.-H. Lee, G. J. Yun, "Microstructure reconstruction using diffusion-based generative models" (2023), after
M. Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium" (2017),
arXiv:1706.08500. With the features of the Inception network it is the FID; with any others it is not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from mcrpy_diffusion.errors import InputError

N_RESAMPLES = 200
INTERVAL_PERCENTILES = (2.5, 97.5)
MIN_RESAMPLED = 4  # images of a set whose halves still have a covariance

_MAX_PRODUCTS = 2**26  # of pairs of images, that are in memory at once


@dataclass(frozen=True)
class Gaussian:
    """A Gaussian in feature space, fitted to a set.

    Attributes
    ----------
    mean : (D,) float64
    factor : (min(N, D), D) float64
        F with covariance matrix A = F^T F (normalised by N - 1).
    """

    mean: np.ndarray
    factor: np.ndarray


def frechet_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the squared Frechet distance of the Gaussians that fit two sets of features.

    Parameters
    ----------
    first, second : (N, D), (M, D)
        One row of finite features per image, at least 2 rows each.

    Returns
    -------
    float
        |m_1 - m_2|^2 + tr(A + B - 2 (A^1/2 B A^1/2)^1/2), at least 0, in the square of the features' unit. It grows
        as the number of images falls, so figures from different numbers cannot be compared.

    Raises
    ------
    InputError
        If the sets have fewer than two rows, differ in their number of features, or hold NaN or infinite values.

    Notes
    -----
    With A = F^T F and B = G^T G, the eigenvalues of the symmetric A^1/2 B A^1/2 are those of (F G^T)(F G^T)^T: the
    squares of the singular values of F G^T. So the trace of its root is the sum of these singular values, for which
    neither covariance matrix has to be inverted, of full rank or even formed, and in which rounding errors are not
    blown up by a root near 0: a set has distance 0 to itself to 1e-12 of its variance, also where N < D.
    """
    _check(first, second)
    return gaussian_distance(fit_gaussian(first), fit_gaussian(second))


def fit_gaussian(features: np.ndarray) -> Gaussian:
    """Fit mean and covariance matrix to features (N, D), N at least 2."""
    features = np.asarray(features, dtype=np.float64)
    mean = features.mean(axis=0)
    factor = (features - mean) / np.sqrt(len(features) - 1)
    if factor.shape[0] > factor.shape[1]:  # R of F = Q R: the same F^T F from D rows
        factor = scipy.linalg.qr(factor, mode="r", overwrite_a=True, check_finite=False)[0][: factor.shape[1]]
    return Gaussian(mean, factor)


def gaussian_distance(first: Gaussian, second: Gaussian) -> float:
    """Return the squared Frechet distance of two Gaussians, at least 0."""
    root_trace = _nuclear_norm(first.factor @ second.factor.T)
    return _combine(first.mean, second.mean, (first.factor**2).sum(), (second.factor**2).sum(), root_trace)


def frechet_interval(
    first: np.ndarray, second: np.ndarray, *, n_resamples: int = N_RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of the Frechet distance, by bootstrapping the images of both sets.

    Parameters
    ----------
    first, second : (N, D), (M, D)
        Features as in `frechet_distance`, at least `MIN_RESAMPLED` rows each.
    n_resamples : int
        Number of times that half of each set is drawn.
    seed : int
        Seed of the resampling.

    Returns
    -------
    low, high : float
        How far the distance scatters from one pair of sets of these sizes to the next, laid around the distance that
        was measured. It does not say where the distance of infinitely many images would lie: see `frechet_distance`.

    Notes
    -----
    Halves are drawn without replacement (`random_halves`). Each needs the singular values of a matrix of N/2 x M/2; of
    D x D, and two QR decompositions of N/2 x D, where both sets have more than 2 D images or there are too many for
    the former. Of sets that hardly differ the interval is too wide, by up to 1.8 times (Gaussian sets of 60 to 300
    images).
    """
    _check(first, second)
    if min(len(first), len(second)) < MIN_RESAMPLED:
        raise InputError(
            f"an interval needs at least {MIN_RESAMPLED} images of each set, got {len(first)} and {len(second)}"
        )
    x, y = (np.asarray(f, dtype=np.float64) for f in (first, second))
    x, y = x - x.mean(axis=0), y - x.mean(axis=0)  # small numbers: nothing is lost in the sums below
    halves = zip(random_halves(len(x), n_resamples, seed), random_halves(len(y), n_resamples, seed + 1))
    if min(len(x), len(y)) > 2 * x.shape[1] or len(x) * len(y) > _MAX_PRODUCTS:
        distances = [gaussian_distance(fit_gaussian(x[rows]), fit_gaussian(y[columns])) for rows, columns in halves]
    else:
        products = x @ y.T  # of all images, once
        distances = [
            _distance_by_products(x[rows], y[columns], products[np.ix_(rows, columns)]) for rows, columns in halves
        ]
    return centred_interval(np.array(distances), frechet_distance(x, y), low=0.0)


def random_halves(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """Draw halves of n images without replacement, for a bootstrap of measures that copies among the images upset.

    Parameters
    ----------
    n : int
        Number of images.
    n_resamples : int
        Number of halves.
    seed : int
        Seed of the resampling.

    Returns
    -------
    (n_resamples, n // 2) int64
        Rising indices.

    Notes
    -----
    The mean of m of n values, drawn without replacement, has the variance sigma^2 / m (1 - m/n): with m = n/2 that of
    the mean of n values, sigma^2 / n. A set drawn with replacement would hold images twice, whose nearest neighbours
    lie at distance 0. See D. N. Politis, J. P. Romano, Annals of Statistics 22 (1994), 2031,
    doi:10.1214/aos/1176325770.
    """
    rng = np.random.default_rng(seed)
    halves = np.empty((n_resamples, n // 2), dtype=np.int64)
    for half in halves:
        half[:] = np.sort(rng.permutation(n)[: n // 2])
    return halves


def centred_interval(
    resampled: np.ndarray, value: float, *, low: float = -np.inf, high: float = np.inf
) -> tuple[float, float]:
    """Lay the percentiles of resampled values (B,), relative to their mean, around a value, within [low, high]."""
    edges = value + np.percentile(resampled, INTERVAL_PERCENTILES) - resampled.mean()
    first, last = np.clip(edges, low, high)
    return float(first), float(last)


def _distance_by_products(x: np.ndarray, y: np.ndarray, products: np.ndarray) -> float:
    """Return the Frechet distance of two sets from the products x y^T (N, M) of their features."""
    inner = products - products.mean(axis=0)  # x less its mean, times y
    inner -= inner.mean(axis=1, keepdims=True)
    root_trace = _nuclear_norm(inner) / np.sqrt((len(x) - 1) * (len(y) - 1))
    variance_x, variance_y = (f.var(axis=0, ddof=1).sum() for f in (x, y))
    return _combine(x.mean(axis=0), y.mean(axis=0), variance_x, variance_y, root_trace)


def _nuclear_norm(matrix: np.ndarray) -> float:
    return float(scipy.linalg.svdvals(matrix, overwrite_a=True, check_finite=False).sum())


def _combine(mean_1: np.ndarray, mean_2: np.ndarray, variance_1: float, variance_2: float, root_trace: float) -> float:
    """Eq. (18); rounding can bring it below 0, which it never is."""
    return max(float(((mean_1 - mean_2) ** 2).sum() + variance_1 + variance_2 - 2 * root_trace), 0.0)


def _check(first: np.ndarray, second: np.ndarray) -> None:
    shapes = [np.shape(first), np.shape(second)]
    if any(len(s) != 2 or s[0] < 2 for s in shapes) or shapes[0][1] != shapes[1][1]:
        raise InputError(f"features must have shapes (N, D) and (M, D) of at least 2 images each, got {shapes}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("features must be finite, got NaN or infinite values")
