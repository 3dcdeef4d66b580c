"""Precision, recall, density and coverage of generated images by nearest neighbours in feature space.

Precision and recall, eqs. (19) and (20) of K.-H. Lee, G. J. Yun, "Microstructure reconstruction using diffusion-based
generative models" (2023), are those of T. Kynkaanniemi et al., "Improved precision and recall metric for assessing
generative models" (2019), arXiv:1904.06991; density and coverage those of M. F. Naeem et al., "Reliable fidelity and
diversity metrics for generative models" (2020), arXiv:2002.09797.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.frechet_distance import centred_interval, random_halves

if TYPE_CHECKING:
    import torch

N_NEIGHBOURS = 3
MEASURES = ("precision", "recall", "density", "coverage")

_BLOCK_PAIRS = 2**22  # distances that are in memory at once
_LIST_LENGTH = 10  # neighbours kept per image, times k: a random half lacks 3 of 30 once in 2 million
_SLACK = 1e-12  # of the largest squared length: rounding decides no tie and separates no image from its copy


@dataclass(frozen=True)
class PrecisionRecall:
    """The four measures, and their 95 % intervals where they were asked for.

    Attributes
    ----------
    precision : float
        Share of the generated images within reach of a real one, 0 to 1.
    recall : float
        Share of the real images within reach of a generated one, 0 to 1.
    density : float
        Mean number of real images that have a generated one within their reach, over k; 1 is expected of equal
        distributions, and more where generated images crowd in the middle of the real ones.
    coverage : float
        Share of the real images that have a generated one within their reach, 0 to 1; for equal distributions and
        numbers, 1 - 2^-k is expected.
    intervals : dict of str to (float, float)
        By the names above.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    intervals: dict[str, tuple[float, float]]


def precision_recall(
    real: np.ndarray,
    generated: np.ndarray,
    *,
    k: int = N_NEIGHBOURS,
    n_resamples: int = 0,
    seed: int = 0,
    device: str | None = None,
) -> PrecisionRecall:
    """Measure how far the generated images lie among the real ones, and how far they reach all of them.

    Parameters
    ----------
    real, generated : (N, D), (M, D)
        One row of finite features per image, more than k rows each.
    k : int
        The reach of an image is its distance to the k-th nearest other image of its own set.
    n_resamples : int
        Number of times that half of each set is drawn for the intervals; 0 makes none.
    seed : int
        Seed of the resampling.
    device : str, optional
        Where distances are measured; if None, the graphics card where there is one.

    Returns
    -------
    PrecisionRecall

    Raises
    ------
    InputError
        If a set has no more than k rows, or less than `min_resampled(k)` where intervals are asked for, or they differ
        in their number of features, or hold NaN or infinite values.

    Notes
    -----
    precision = 1/M sum_j 1[y_j in union_i B(x_i, r_i)]; recall is that with the sets exchanged; density =
    1/(k M) sum_ij 1[y_j in B(x_i, r_i)]; coverage = 1/N sum_i 1[B(x_i, r_i) holds any y_j]. Neighbours are exact, in
    float64. Distances are worked on in blocks: memory is proportional to N + M.

    Intervals: both sets are halved at random (`random_halves`), and the percentiles of the measures of such halves,
    relative to their mean, laid around the measured value. They are 0.9 to 1.4 times as wide as the measures of new
    sets of images scatter (Gaussian sets of 150 and 400 images).
    """
    x, y = _features(real, generated, k)
    if n_resamples and min(len(x), len(y)) < min_resampled(k):
        raise InputError(f"intervals need at least {min_resampled(k)} images of each set, got {len(x)} and {len(y)}")
    in_x, in_y = (_chosen(len(f), n_resamples, seed + i) for i, f in enumerate((x, y)))
    values = _measure(x, y, in_x, in_y, k, device or _default_device())
    intervals = {
        name: centred_interval(values[name][1:], values[name][0], low=0.0, high=np.inf if name == "density" else 1.0)
        for name in (MEASURES if n_resamples else ())
    }
    return PrecisionRecall(**{name: float(values[name][0]) for name in MEASURES}, intervals=intervals)


def min_resampled(k: int) -> int:
    """Return the number of images of the smallest set of which a half has k neighbours for each image."""
    return 2 * (k + 1)


def nearest_neighbours(features: torch.Tensor, n_neighbours: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the squared distances to the nearest other rows (N, K), rising, and which rows they are (N, K)."""
    import torch

    squares = np.empty((len(features), n_neighbours))
    indices = np.empty((len(features), n_neighbours), dtype=np.int64)
    for start, block in _squared_distances(features, features):
        rows = torch.arange(len(block), device=block.device)
        block[rows, start + rows] = torch.inf  # not its own neighbour
        nearest = block.topk(n_neighbours, dim=1, largest=False)
        squares[start : start + len(block)] = nearest.values.cpu().numpy()
        indices[start : start + len(block)] = nearest.indices.cpu().numpy()
    return squares, indices


def _measure(
    x: np.ndarray, y: np.ndarray, in_x: np.ndarray, in_y: np.ndarray, k: int, device: str
) -> dict[str, np.ndarray]:
    """Return each measure (1 + B,) for the images chosen by in_x (1 + B, N) and in_y, in one pass over all pairs."""
    import torch

    real, generated = (torch.from_numpy(f).to(device) for f in (x, y))
    slack = _SLACK * max(float((f**2).sum(axis=1).max()) for f in (x, y))
    reach_x, reach_y = _reach(real, in_x, k, slack), _reach(generated, in_y, k, slack)
    inside, pairs = np.zeros(len(in_y)), np.zeros(len(in_y))
    covered, recalled = np.zeros_like(in_x), np.zeros_like(in_x)
    for start, squares in _squared_distances(generated, real):
        here = slice(start, start + len(squares))
        for b, j, i in _within(squares, reach_x[:, None, :]):
            both = in_y[b, here][j]
            pairs[b] += both.sum()
            inside[b] += len(np.unique(j[both]))
            covered[b, i[both]] = True
        for b, _, i in _within(squares, reach_y[:, here, None]):
            recalled[b, i] = True
    n_x, n_y = in_x.sum(axis=1), in_y.sum(axis=1)
    return {
        "precision": inside / n_y,
        "recall": (in_x & recalled).sum(axis=1) / n_x,
        "density": pairs / (k * n_y),
        "coverage": covered.sum(axis=1) / n_x,
    }


def _reach(features: torch.Tensor, chosen: np.ndarray, k: int, slack: float) -> np.ndarray:
    """Return the squared reach (1 + B, N) of the chosen images among each other; of the others -1: nothing is near."""
    n_listed = k if len(chosen) == 1 else _LIST_LENGTH * k
    squares, indices = nearest_neighbours(features, min(n_listed, len(features) - 1))
    reach = np.full(chosen.shape, -1.0)
    for b, of in enumerate(chosen):
        enough = of[indices].cumsum(axis=1) >= k
        last = np.where(enough[:, -1], enough.argmax(axis=1), squares.shape[1] - 1)
        reach[b, of] = (squares[np.arange(len(squares)), last] + slack)[of]
    return reach


def _within(squares: torch.Tensor, reach: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Give for each b the pairs (b, rows, columns) of `squares` (m, n) within reach[b], which is (m, 1) or (1, n)."""
    import torch

    near = squares <= torch.from_numpy(reach.max(axis=0)).to(squares.device)
    rows, columns = (indices.cpu().numpy() for indices in near.nonzero(as_tuple=True))
    values = squares[near].cpu().numpy()
    for b, limits in enumerate(reach):
        chosen = values <= np.broadcast_to(limits, squares.shape)[rows, columns]
        yield b, rows[chosen], columns[chosen]


def _chosen(n: int, n_resamples: int, seed: int) -> np.ndarray:
    """Return which of n images are in which set (1 + B, n): first all of them, then random halves."""
    chosen = np.zeros((1 + n_resamples, n), dtype=bool)
    chosen[0] = True
    np.put_along_axis(chosen[1:], random_halves(n, n_resamples, seed), True, axis=1)
    return chosen


def _default_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _squared_distances(first: torch.Tensor, second: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    """Give (start, squared distances (rows, N)) for blocks of rows of the first set to all of the second.

    All blocks lie in the same memory: each holds until the next one is asked for.
    """
    import torch

    n_rows = min(max(_BLOCK_PAIRS // len(second), 1), len(first))
    lengths = (second**2).sum(dim=1)
    buffer = torch.empty((n_rows, len(second)), dtype=second.dtype, device=second.device)
    for start in range(0, len(first), n_rows):
        rows = first[start : start + n_rows]
        squares = torch.mm(rows, second.T, out=buffer[: len(rows)])
        squares.mul_(-2).add_((rows**2).sum(dim=1, keepdim=True)).add_(lengths)
        yield start, squares.clamp_(min=0)


def _features(real: np.ndarray, generated: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the features in float64, less the mean of the real ones: no digits are lost in squares of large sums."""
    shapes = [np.shape(real), np.shape(generated)]
    if k < 1:
        raise InputError(f"k must be at least 1, got {k!r}")
    if any(len(s) != 2 or s[0] <= k for s in shapes) or shapes[0][1] != shapes[1][1]:
        raise InputError(f"features must have shapes (N, D) and (M, D) of at least {k + 1} images each, got {shapes}")
    x, y = (np.asarray(f, dtype=np.float64) for f in (real, generated))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("features must be finite, got NaN or infinite values")
    return x - x.mean(axis=0), y - x.mean(axis=0)
