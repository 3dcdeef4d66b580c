"""The data-copying test: are generated images nearer to the training images than real unseen ones are?

References
----------
C. Meehan, K. Chaudhuri, S. Dasgupta, "A non-parametric test to detect data-copying in generative models", AISTATS 2020,
PMLR 108:3546-3556. The U test is that of H. B. Mann, D. R. Whitney (1947), doi:10.1214/aoms/1177730491.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcrpy_diffusion.errors import InputError

MIN_IN_CELL = 20
"""Images of each set below which a cell does not count: the scores are normal for about 20 and more."""


@dataclass(frozen=True)
class CopyingScores:
    """The data-copying test cell by cell. Below 0: copying; above 0: generated images lie far from the training ones.

    Attributes
    ----------
    z : float
        Score of all cells together, standard normal for generated images as good as real ones. NaN if no cell counts.
    average : float
        The statistic C_T of the paper: mean of the cells' scores, weighted by the share of the held-out images. Its
        standard deviation is below 1, the lower the more cells.
    cell_z : (n_cells,) float64
        Score of each cell; NaN where it does not count.
    n_generated, n_held_out : (n_cells,) int64
        Images in each cell.
    """

    z: float
    average: float
    cell_z: np.ndarray
    n_generated: np.ndarray
    n_held_out: np.ndarray


def copying_score(
    generated_distance: np.ndarray, held_out_distance: np.ndarray, *, n_windows: float | None = None
) -> float:
    """Compare distances to the nearest training image: the z-score Z_U of a Mann-Whitney U test.

    Parameters
    ----------
    generated_distance : (M,)
        Distance of each generated image to its nearest training image, e.g. `nearest_images(...).distance`.
    held_out_distance : (N,)
        The same of real images that took no part in training, found in the same way.
    n_windows : float, optional
        Number of independent windows w that the held-out images overlap in (`windows.independent_windows`); by
        default, they are independent.

    Returns
    -------
    float
        Below 0 where generated images are nearer to the training images than unseen ones: z << 0 means that the model
        copies. z >> 0 means that it makes images far from the real ones. Standard normal (abs(z) < 2 in 95 % of all
        cases) for independent images as real as the held-out ones. 0 where all distances are equal.

    Notes
    -----
    U is the number of pairs in which the generated image is farther away, ties counting half; z = (U - M N / 2) / s,
    s^2 = M N / 12 (n + 1 - sum_t (t^3 - t) / (n (n - 1))), n = M + N, with t the numbers of equal distances: those of
    phases are multiples of one pixel. The variance of U / (M N) is then about (1 / M + 1 / N) / 12. Images that overlap
    in w windows count as h of them, 1 / h = 1 / w + (1 - 1 / w) / N, and z is smaller by the factor
    sqrt((1 / M + 1 / N) / (1 / M + 1 / h)).
    """
    x, y = (_check_distances(each) for each in (generated_distance, held_out_distance))
    m, n = len(x), len(y)
    if m == 0 or n == 0:
        raise InputError(f"there must be at least one generated and one held-out distance, got {m} and {n}")
    _, place, count = np.unique(np.concatenate([x, y]), return_inverse=True, return_counts=True)
    rank = np.cumsum(count) - (count - 1) / 2  # the mean rank of equal distances, from 1
    u = rank[place[:m]].sum() - m * (m + 1) / 2
    ties = float(np.sum(count.astype(np.float64) ** 3 - count)) / ((m + n) * (m + n - 1))
    variance = m * n / 12 * (m + n + 1 - ties)
    if variance <= 1e-9 * m * n:
        return 0.0
    factor = 1.0 if n_windows is None else np.sqrt((1 / m + 1 / n) / (1 / m + 1 / effective_number(n, n_windows)))
    return float(factor * (u - m * n / 2) / np.sqrt(variance))


def effective_number(n: int, n_windows: float) -> float:
    """Return how many independent images n images are worth that overlap in some independent windows."""
    return 1 / (1 / n_windows + (1 - 1 / n_windows) / n)


def chance_of_nearer(n_nearer: int, n_generated: int, n_real: float) -> float:
    """Return the probability that at least so many generated images are nearer than any unseen real one.

    Parameters
    ----------
    n_nearer, n_generated : int
        Generated images that are nearer to the training images than all real ones, and all generated images M.
    n_real : float
        Independent real images N.

    Returns
    -------
    float
        If both are equally near, each order of the M + N distances is as likely: the k smallest are all of generated
        images with the probability M! / (M - k)! (M + N - k)! / (M + N)!.
    """
    i = np.arange(n_nearer)
    return float(np.prod((n_generated - i) / (n_generated + n_real - i)))


def copying_scores_by_cell(
    generated_distance: np.ndarray,
    held_out_distance: np.ndarray,
    *,
    generated_cell: np.ndarray,
    held_out_cell: np.ndarray,
    n_cells: int,
) -> CopyingScores:
    """Do the data-copying test in each cell of a partition: it sees copies of one kind of image among others.

    Parameters
    ----------
    generated_distance, held_out_distance : (M,), (N,)
        As for `copying_score`. Here they are those to the nearest of all training images, not of those in the same
        cell: a copy is found also if it was shifted into another cell.
    generated_cell, held_out_cell : (M,), (N,) integer
        The cell of each image, 0 .. n_cells - 1, e.g. of `partition`.
    n_cells : int
        Number of cells.

    Returns
    -------
    CopyingScores
        Cells with fewer than `MIN_IN_CELL` generated or held-out images do not count.

    Notes
    -----
    With w_i the share of the held-out images in cell i, of the cells that count: average = sum w_i z_i / sum w_i, and
    z = sum w_i z_i / sqrt(sum w_i^2), which has unit variance.
    """
    x, y = (_check_distances(each) for each in (generated_distance, held_out_distance))
    cells = [np.asarray(cell) for cell in (generated_cell, held_out_cell)]
    if n_cells < 1 or any(
        cell.shape != values.shape or cell.dtype.kind not in "iu" or np.any((cell < 0) | (cell >= n_cells))
        for cell, values in zip(cells, (x, y))
    ):
        raise InputError(f"cells must be one number between 0 and {n_cells - 1} for each distance")
    n_generated, n_held_out = (np.bincount(cell, minlength=n_cells) for cell in cells)
    z = np.full(n_cells, np.nan)
    for k in np.flatnonzero(np.minimum(n_generated, n_held_out) >= MIN_IN_CELL):
        z[k] = copying_score(x[cells[0] == k], y[cells[1] == k])
    counted = np.isfinite(z)
    weight = n_held_out[counted].astype(np.float64)
    total = float(weight @ z[counted]) if counted.any() else np.nan
    norm = float(np.sqrt(weight @ weight)) if counted.any() else np.nan
    return CopyingScores(total / norm, total / float(weight.sum() or np.nan), z, n_generated, n_held_out)


def partition(
    training: np.ndarray, *others: np.ndarray, n_cells: int, seed: int = 0, max_rounds: int = 100
) -> list[np.ndarray]:
    """Divide sets of images into the cells of a k-means partition of the training images.

    Parameters
    ----------
    training : (N, ...)
        Images or features; all values of one are a point. Phases count as numbers: for more than two give each phase
        an axis, or features.
    *others : (M, ...)
        Further sets, divided by the same cells.
    n_cells : int
        Number of cells, 1 .. N.
    seed : int
        Seed of the first centres, which are drawn one by one, far ones with higher probability (k-means++).
    max_rounds : int
        After so many rounds the centres are taken as they are.

    Returns
    -------
    list of (N,), (M,), ... int64
        The cell of each image: that of the nearest centre.

    References
    ----------
    S. P. Lloyd (1982), doi:10.1109/TIT.1982.1056489; D. Arthur, S. Vassilvitskii, k-means++ (2007).
    """
    points, *further = (np.reshape(each, (len(each), -1)).astype(np.float64) for each in (training, *others))
    if not 1 <= n_cells <= len(points):
        raise InputError(f"n_cells is {n_cells!r}; {len(points)} training images allow 1 to {len(points)}")
    if any(each.shape[1] != points.shape[1] for each in further):
        raise InputError(
            f"sets must have {points.shape[1]} values per point, got {[each.shape[1] for each in further]}"
        )
    centres = _first_centres(points, n_cells, np.random.default_rng(seed))
    cell = _nearest_centre(points, centres)
    for _ in range(max_rounds):
        for k in np.unique(cell):  # an empty cell keeps its centre
            centres[k] = points[cell == k].mean(axis=0)
        cell, before = _nearest_centre(points, centres), cell
        if np.array_equal(cell, before):
            break
    return [cell, *(_nearest_centre(each, centres) for each in further)]


def _first_centres(points: np.ndarray, n_cells: int, generator: np.random.Generator) -> np.ndarray:
    centres = points[[generator.integers(len(points))]]
    while len(centres) < n_cells:
        squares = _squares(points, centres).min(axis=1)
        share = squares / squares.sum() if squares.any() else None
        centres = np.concatenate([centres, points[[generator.choice(len(points), p=share)]]])
    return centres


def _nearest_centre(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return _squares(points, centres).argmin(axis=1)


def _squares(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Return the squared distances (N, K)."""
    squares = np.einsum("nd,nd->n", points, points)[:, None] + np.einsum("kd,kd->k", centres, centres)
    return np.maximum(squares - 2 * points @ centres.T, 0)


def _check_distances(distance: np.ndarray) -> np.ndarray:
    values = np.asarray(distance, dtype=np.float64)
    if values.ndim != 1 or not np.isfinite(values).all():
        raise InputError(f"distances must be finite and of shape (n,), got shape {values.shape}")
    return values
