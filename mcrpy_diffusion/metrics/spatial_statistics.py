"""Two-point correlation S2, lineal path L and their discrepancy: exact, in float64, for 2D and 3D, for many images.

Arrays are (..., I, J), or (..., I, J, K) with `n_dims=3`; leading axes are independent structures. A structure's
curves are functions of the distance r in pixels.

References
----------
S. Torquato, Random Heterogeneous Materials (2002), chapter 2. The discrepancy is eq. (23) of K.-H. Lee, G. J. Yun,
"Microstructure reconstruction using diffusion-based generative models" (2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.arrays import (
    Autocorrelation,
    areas,
    blocks,
    check_dims,
    check_directions,
    indicator_of,
    shifted,
    signed_shifts,
)

DIRECTIONS_2D = ((1, 0), (0, 1), (1, 1), (1, -1))
"""The steps of the lineal path in 2D: down the rows, along the columns, and the two diagonals."""
DIRECTIONS_3D = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
"""The steps of the lineal path in 3D: along the three axes."""
FACE_DIAGONALS = ((1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))
"""The steps along the diagonals of the faces of a voxel, sqrt(2) long."""
SPACE_DIAGONALS = ((1, 1, 1), (1, 1, -1), (1, -1, 1), (1, -1, -1))
"""The steps along the diagonals of a voxel, sqrt(3) long."""


def default_max_distance(extent: tuple[int, ...]) -> int:
    """Return the largest distance r of a curve: half of the smallest extent, minus 1 (64 -> r = 0 .. 31)."""
    return max(min(extent) // 2 - 1, 0)


def farthest_distance(size: tuple[int, ...]) -> int:
    """Return the largest distance r that a map of this size holds a shift of, rounded: that of its corner."""
    return round(sum((n // 2) ** 2 for n in size) ** 0.5)


def two_point_correlation(phases: np.ndarray, *, phase: int, periodic: bool, n_dims: int = 2) -> np.ndarray:
    r"""Compute S2, the probability that two pixels a shift apart both lie in a phase, for every shift.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase whose correlation is wanted.
    periodic : bool
        Whether shifts go across the edges. If not, only pairs inside the image count.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    (..., I, J) if periodic, else (..., 2 I - 1, 2 J - 1), float64 in [0, 1]
        Shift (0, 0) has index (0, 0) and is the volume fraction; negative shifts are at the end, index -1 is shift -1
        (the order of `numpy.fft`).

    Notes
    -----
    With the indicator :math:`1(x)` of the phase, eq. (21) of the paper: :math:`S_2(d) = \frac{1}{n(d)} \sum_x 1(x)
    1(x + d)`, where n(d) is the number of pairs, I J if periodic, else (I - abs(d_i)) (J - abs(d_j)). The sum is a
    correlation, taken by (if not periodic, zero-padded) FFT; being a count, it is rounded to an integer, so the
    result is exact.
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    pairs = Autocorrelation(indicator.shape[1:], periodic=periodic)
    correlation = np.empty((len(indicator), *pairs.size))
    for block in blocks(len(indicator), pairs.n_pixels):
        np.divide(pairs.counts(pairs.power(indicator[block])), pairs.n_pairs, out=correlation[block])
    return correlation.reshape(*batch_shape, *pairs.size)


def radial_average(map: np.ndarray, *, n_dims: int = 2, max_distance: int | None = None) -> np.ndarray:
    """Average a map over all shifts whose distance rounds to r.

    Parameters
    ----------
    map : (..., I, J)
        A map of `two_point_correlation`: shift zero first, negative shifts at the end.
    n_dims : {2, 3}
        Number of axes of space.
    max_distance : int, optional
        The largest r. If None, half of the map's smallest size, minus 1: a 64 x 64 map gives r = 0 .. 31. For a map
        that is not periodic, and nearly twice as large as its image, give `default_max_distance(extent of the image)`:
        far shifts have few pairs. `farthest_distance(size of the map)` gives all.

    Returns
    -------
    (..., max_distance + 1) float64
        Mean over the shifts d with r - 1/2 < abs(d) < r + 1/2, each with the same weight, for r = 0 .. max_distance.

    Raises
    ------
    InputError
        If no shift of the map is `max_distance` long.
    """
    values = np.asarray(map, dtype=np.float64)
    check_dims(values, n_dims)
    size = values.shape[-n_dims:]
    last = default_max_distance(size) if max_distance is None else max_distance
    squares = sum(np.ix_(*(signed_shifts(n) ** 2 for n in size)))
    rounded = np.rint(np.sqrt(squares)).astype(np.int64).ravel()
    if not 0 <= last <= rounded.max():
        raise InputError(f"max_distance must be between 0 and {rounded.max()} for a map of {size}, got {last!r}")
    order = np.argsort(rounded, kind="stable")
    n_shifts = np.bincount(rounded)[: last + 1]
    order = order[: n_shifts.sum()]
    starts = np.concatenate([[0], np.cumsum(n_shifts)[:-1]])
    flat = values.reshape(-1, prod(size))
    average = np.empty((len(flat), last + 1))
    for block in blocks(len(flat), prod(size)):
        average[block] = np.add.reduceat(flat[block][:, order], starts, axis=1) / n_shifts
    return average.reshape(*values.shape[:-n_dims], last + 1)


def lineal_path(
    phases: np.ndarray,
    *,
    phase: int,
    periodic: bool,
    max_length: int | None = None,
    n_dims: int = 2,
    directions: Sequence[tuple[int, ...]] | None = None,
) -> np.ndarray:
    """Compute L(r), the probability that a straight segment of r + 1 pixels lies wholly in a phase, per direction.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase that the segment shall lie in.
    periodic : bool
        Whether segments go across the edges. If not, only segments inside the image count.
    max_length : int, optional
        The largest r, below the smallest extent; if None, half of the smallest extent, minus 1 (64 -> 31).
    n_dims : {2, 3}
        Number of axes of space.
    directions : sequence of tuples of -1, 0, 1, optional
        The steps from one pixel of a segment to the next; if None, `DIRECTIONS_2D` (along the first axis, along the
        second, the two diagonals) or `DIRECTIONS_3D`.

    Returns
    -------
    (..., n_directions, max_length + 1) float64 in [0, 1]
        r = 0 .. max_length, in steps: the segment of a diagonal is sqrt(2) r long. L(0) is the volume fraction.
        `mcrpy_diffusion.metrics.directions` averages and compares the directions at equal lengths.

    Notes
    -----
    Eq. (22) of the paper, by run-lengths: the run that ends at pixel x is c(x) = 1(x) (c(x - d) + 1), and each pixel
    with c(x) > r ends one segment of r + 1 pixels in the phase. The counts are integers, so the result is exact.
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    extent = indicator.shape[1:]
    last = default_max_distance(extent) if max_length is None else max_length
    if not 0 <= last < min(extent):
        raise InputError(f"max_length must be between 0 and {min(extent) - 1} for an extent of {extent}, got {last!r}")
    default = DIRECTIONS_2D if n_dims == 2 else DIRECTIONS_3D
    steps = check_directions(default if directions is None else directions, n_dims)
    result = np.empty((len(indicator), len(steps), last + 1))
    for k, step in enumerate(steps):
        r = np.arange(last + 1)
        n_segments = prod(n if periodic else n - abs(d) * r for n, d in zip(extent, step, strict=True))
        for block in blocks(len(indicator), prod(extent)):
            result[block, k] = _segments_in_phase(indicator[block], step, periodic, last) / n_segments
    return result.reshape(*batch_shape, len(steps), last + 1)


def discrepancy(original: np.ndarray, generated: np.ndarray) -> float:
    """Return the area between two curves in percent of the area under the original one, eq. (23) of the paper.

    Parameters
    ----------
    original, generated : (r,)
        The curves at the same, equally spaced distances.

    Returns
    -------
    float
        100 * integral abs(generated - original) dr / integral original dr by the trapezoidal rule; 0 for equal curves.

    Raises
    ------
    InputError
        If the shapes differ, there are fewer than two values, one is not finite, or the original has no area.
    """
    first, second = np.asarray(original, dtype=np.float64), np.asarray(generated, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or first.size < 2:
        raise InputError(f"curves must have one shape (r,) with r >= 2, got {first.shape} and {second.shape}")
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        raise InputError("curves must be finite, got NaN or infinite values")
    area = float(areas(first))
    if area <= 0:
        raise InputError(f"the area under the original curve must be above 0, got {area}: the phase is absent")
    return float(100 * areas(np.abs(second - first)) / area)


def _segments_in_phase(indicator: np.ndarray, step: tuple[int, ...], periodic: bool, last: int) -> np.ndarray:
    """Count the segments of r + 1 pixels in the phase, r = 0 .. last, of each image (N, ...) in one direction."""
    run_axis = next(
        axis for axis, d in enumerate(step, start=1) if d != 0
    )  # the run-lengths are carried along this axis
    sideways = [d for axis, d in enumerate(step, start=1) if axis != run_axis]
    planes = np.moveaxis(indicator, run_axis, 0).astype(np.int32)
    n_images, n_planes = len(indicator), len(planes)
    offset = (np.arange(n_images, dtype=np.int32) * (last + 2)).reshape(-1, *[1] * (planes.ndim - 2))
    histogram = np.zeros(n_images * (last + 2), dtype=np.int64)
    run = np.zeros_like(planes[0])
    for i in range(-last if periodic else 0, n_planes):  # a periodic run has begun up to `last` planes before
        run = (shifted(run, sideways, None if periodic else 0) + 1) * planes[i % n_planes]
        np.minimum(run, last + 1, out=run)
        if i >= 0:
            histogram += np.bincount((run + offset).ravel(), minlength=len(histogram))
    at_least = np.cumsum(histogram.reshape(n_images, -1)[:, ::-1], axis=1)[:, ::-1]
    return at_least[:, 1:]
