"""Grains between boundaries: sizes, shapes, and how far the distributions of two sets differ.

Section 3.1.2 of K.-H. Lee, G. J. Yun, "Microstructure reconstruction using diffusion-based generative models" (2023)
compares grain sizes. A grain is a set of pixels outside the boundary phase that share edges (3D: faces), so boundaries
one pixel wide separate grains also where they run diagonally. Its area is that of its pixels: the boundary, drawn as a
phase of its own, belongs to none.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.arrays import indicator_of
from mcrpy_diffusion.metrics.clusters import edge_pairs, join_pieces, label_clusters, label_pieces

BORDERS = ("weight", "exclude", "include")
"""What becomes of grains at the border of a structure that is not periodic, see `measure_grains`."""


@dataclass(frozen=True)
class Grains:
    """The grains of a set of structures, one row per grain, in the order of `label_grains`.

    Attributes
    ----------
    structure : (G,) int64
        The structure that the grain lies in, counted through all leading axes.
    area : (G,) float64
        Pixels; in 3D the volume in voxels.
    diameter : (G,) float64
        Equivalent diameter in pixels: of the disc or ball with this area or volume.
    aspect_ratio : (G,) float64
        Longest over shortest axis of the ellipse or ellipsoid with the grain's second moments; 1 or more. NaN for a
        grain that winds around a periodic structure and so has no end.
    weight : (G,) float64
        What the grain counts in means and histograms.
    winds : (G,) bool
        Whether the grain is connected with its own periodic image. Its area is that in one period.
    """

    structure: np.ndarray
    area: np.ndarray
    diameter: np.ndarray
    aspect_ratio: np.ndarray
    weight: np.ndarray
    winds: np.ndarray

    @property
    def n_grains(self) -> int:
        """Number of grains."""
        return len(self.area)


@dataclass(frozen=True)
class DistributionComparison:
    """Two distributions on common bins, and their distances.

    Attributes
    ----------
    edges : (n_bins + 1,) float64
        Edges of the bins, from the smallest to the largest value of both sets.
    first, second : (n_bins,) float64
        Share of each set in each bin; sums to 1.
    first_mean, first_std, second_mean, second_std : float
        Mean and standard deviation.
    kolmogorov_smirnov : float
        Largest difference of the cumulative distributions, 0 to 1.
    wasserstein : float
        Area between the cumulative distributions, in units of the values.
    """

    edges: np.ndarray
    first: np.ndarray
    second: np.ndarray
    first_mean: float
    first_std: float
    second_mean: float
    second_std: float
    kolmogorov_smirnov: float
    wasserstein: float


def label_grains(
    phases: np.ndarray, *, boundary_phase: int, periodic: bool, n_dims: int = 2
) -> tuple[np.ndarray, np.ndarray]:
    """Number the grains (..., I, J) from 1 in each structure, 0 on boundaries; and return how many (...) there are."""
    indicator, batch_shape = indicator_of(phases, boundary_phase, n_dims)
    inside = ~indicator.reshape(np.shape(phases))
    return label_clusters(inside, phase=1, periodic=periodic, n_dims=n_dims)


def measure_grains(
    phases: np.ndarray,
    *,
    boundary_phase: int,
    periodic: bool,
    border: str = "weight",
    min_area: int = 1,
    n_dims: int = 2,
) -> Grains:
    """Measure all grains of a set of structures.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    boundary_phase : int
        The phase that boundaries are drawn in; all others are grains.
    periodic : bool
        Whether grains continue across the edges. One that does is one grain, and has the aspect ratio of the whole.
    border : {"weight", "exclude", "include"}
        What becomes of grains with a pixel in the outermost rows or columns, if not periodic: their size is unknown.
        "include" takes them as they are cut, which makes sizes too small. "exclude" leaves them out, which makes them
        too small as well, because large grains are cut more often. "weight" leaves them out and weights the others by
        the inverse of the number of places at which a window of this extent would hold them whole
        (Miles-Lantuejoul): unbiased for grains that fit into it.
    min_area : int
        Grains of fewer pixels are left out, e.g. specks between boundaries.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    Grains

    Notes
    -----
    With n_i the extent and w_i the extent of the grain, the weight is prod_i n_i / (n_i - w_i - 1): of
    the n_i rows, 2 are at the border. The aspect ratio is sqrt(largest / smallest eigenvalue) of the covariance of all
    points of the grain, each pixel being a square of side 1 (1/12 on the diagonal). Its pixels are placed side by side
    across the edges first, exactly, whatever the grain's form.
    """
    if border not in BORDERS:
        raise InputError(f"border must be one of {', '.join(BORDERS)}, got {border!r}")
    boundary, _ = indicator_of(phases, boundary_phase, n_dims)
    extent = np.array(boundary.shape[1:])
    pieces, n_pieces = label_pieces(~boundary, full=False)
    number, offset, winds = np.arange(n_pieces + 1), np.zeros((n_pieces + 1, n_dims)), np.zeros(n_pieces + 1, bool)
    if periodic:
        number, offset, winds = _unwrap(pieces, n_pieces)
    at = np.stack(np.nonzero(pieces), axis=1)
    piece = pieces[tuple(at.T)]
    grain, position = number[piece] - 1, at[:, 1:] + offset[piece] * extent
    structure = np.zeros(len(winds) - 1, dtype=np.int64)
    structure[grain] = at[:, 0]
    area, aspect_ratio, low, high = _moments(grain, position, len(structure))
    keep, weight = area >= min_area, np.ones(len(area))
    if not periodic and border != "include":
        keep &= (low > 0).all(axis=1) & (high < extent - 1).all(axis=1)
    if not periodic and border == "weight":
        weight[keep] = np.prod(extent / (extent - (high - low + 1) - 1)[keep], axis=1)
    diameter = 2 * np.sqrt(area / pi) if n_dims == 2 else np.cbrt(6 * area / pi)
    columns = (structure, area, diameter, np.where(winds[1:], np.nan, aspect_ratio), weight, winds[1:])
    return Grains(*(column[keep] for column in columns))


def mean_and_std(values: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """Return the mean and standard deviation of values (G,), each counted with its weight (G,); if None, with 1.

    Raises
    ------
    InputError
        If there is no value, one is not finite, or the weights are not positive or of another number.
    """
    values, weights = _check_values(values, weights)
    mean = float(weights @ values)
    return mean, float(np.sqrt(weights @ (values - mean) ** 2))


def compare_distributions(
    first: np.ndarray,
    second: np.ndarray,
    *,
    first_weights: np.ndarray | None = None,
    second_weights: np.ndarray | None = None,
    n_bins: int = 20,
) -> DistributionComparison:
    """Compare two sets of values, e.g. the grains' diameters.

    Parameters
    ----------
    first : (G,)
        Values of the first set, finite.
    second : (H,)
        Values of the second set, finite.
    first_weights, second_weights : (G,), (H,), optional
        What each value counts, above 0; if None, all the same.
    n_bins : int
        Number of bins of the histograms, at least 1.

    Returns
    -------
    DistributionComparison

    Raises
    ------
    InputError
        If a set is empty, a value is not finite, or weights do not fit.
    """
    x, p = _check_values(first, first_weights)
    y, q = _check_values(second, second_weights)
    if n_bins < 1:
        raise InputError(f"n_bins must be at least 1, got {n_bins!r}")
    edges = np.histogram_bin_edges(np.concatenate([x, y]), bins=n_bins)
    (first_mean, first_std), (second_mean, second_std) = mean_and_std(x, p), mean_and_std(y, q)
    values, place = np.unique(np.concatenate([x, y]), return_inverse=True)
    difference = np.abs(np.cumsum(np.bincount(place, weights=np.concatenate([p, -q]))))
    return DistributionComparison(
        edges=edges,
        first=np.histogram(x, bins=edges, weights=p)[0],
        second=np.histogram(y, bins=edges, weights=q)[0],
        first_mean=first_mean,
        first_std=first_std,
        second_mean=second_mean,
        second_std=second_std,
        kolmogorov_smirnov=float(difference.max()),
        wasserstein=float(difference[:-1] @ np.diff(values)),
    )


def _check_values(values: np.ndarray, weights: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return values and weights as float64, the weights with sum 1."""
    values = np.asarray(values, dtype=np.float64)
    weights = np.ones(values.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or values.shape != weights.shape or len(values) == 0:
        raise InputError(f"values and weights must both have the shape (n,), got {values.shape} and {weights.shape}")
    if not (np.isfinite(values).all() and np.isfinite(weights).all() and (weights > 0).all()):
        raise InputError("values must be finite and weights above 0")
    return values, weights / weights.sum()


def _unwrap(pieces: np.ndarray, n_pieces: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place the pieces of periodic grains side by side.

    Returns the grain of each piece (n_pieces + 1,), by how many extents each is moved (n_pieces + 1, n_dims), and for
    each grain, 0 being none, whether it meets itself after a turn around the structure (n_grains + 1,).
    """
    a, b, winding = edge_pairs(pieces, full=False)
    number = join_pieces(n_pieces, a, b)
    offset = np.zeros((n_pieces + 1, pieces.ndim - 1))
    placed = np.zeros(n_pieces + 1, dtype=bool)
    placed[np.unique(number, return_index=True)[1]] = True  # the first piece of each grain stays
    a, b, winding = np.concatenate([a, b]), np.concatenate([b, a]), np.concatenate([winding, -winding])
    while (new := placed[a] & ~placed[b]).any():
        offset[b[new]] = offset[a[new]] + winding[new]
        placed[b[new]] = True
    winds = np.zeros(number.max() + 1, dtype=bool)
    winds[number[a[(offset[b] - offset[a] != winding).any(axis=1)]]] = True
    return number, offset, winds


def _moments(
    grain: np.ndarray, position: np.ndarray, n_grains: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return area (G,), aspect ratio (G,), smallest and largest position (G, n_dims) of the pixels of each grain."""
    n_dims = position.shape[1]
    area = np.bincount(grain, minlength=n_grains).astype(np.float64)
    mean = np.stack([np.bincount(grain, x, n_grains) for x in position.T], axis=1) / area[:, None]
    centred = position - mean[grain]
    covariance = np.empty((n_grains, n_dims, n_dims))
    for i, j in np.ndindex(n_dims, n_dims):
        covariance[:, i, j] = np.bincount(grain, centred[:, i] * centred[:, j], n_grains) / area
    axes = np.linalg.eigvalsh(covariance + np.eye(n_dims) / 12)
    low, high = np.full((n_grains, n_dims), np.inf), np.full((n_grains, n_dims), -np.inf)
    np.minimum.at(low, grain, position)
    np.maximum.at(high, grain, position)
    return area, np.sqrt(axes[:, -1] / axes[:, 0]), low, high
