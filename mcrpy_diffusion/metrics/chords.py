"""Chord-length distribution and specific surface: what straight lines see of the interfaces of a phase.

References
----------
S. Torquato, Random Heterogeneous Materials (2002), sections 2.2 (specific surface) and 2.5 (chords). The weights of
directions are from J. Ohser, F. Muecklich, Statistical Analysis of Microstructures in Materials Science (2000).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi, prod

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.arrays import blocks, check_directions, indicator_of, shifted
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D, DIRECTIONS_3D, FACE_DIAGONALS, SPACE_DIAGONALS

DIRECTIONS_13 = (*DIRECTIONS_3D, *FACE_DIAGONALS, *SPACE_DIAGONALS)
"""The steps to all neighbours of a voxel, one of each opposite pair: axes, diagonals of faces, diagonals of space."""
# The parts of the half sphere that are nearest to each of these directions.
_WEIGHTS_13 = np.repeat([0.0915555782, 0.0739612558, 0.0703912796], [3, 6, 4])


def chord_density(
    phases: np.ndarray,
    *,
    phase: int,
    periodic: bool,
    max_length: int | None = None,
    n_dims: int = 2,
    directions: Sequence[tuple[int, ...]] | None = None,
) -> np.ndarray:
    """Compute the number of chords of each length per pixel, per direction.

    A chord is a run of pixels of the phase along a line, ended on both sides by a pixel of another phase.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase that the chords lie in.
    periodic : bool
        Whether chords go across the edges. If not, only chords with both ends inside the image are seen, longer ones
        less often: each is counted in proportion to the positions that it could have been seen at (see Notes).
    max_length : int, optional
        The longest chord counted, in pixels; if None, the largest that has a place, the smallest extent minus 1
        (minus 2 if not periodic). At least 1.
    n_dims : {2, 3}
        Number of axes of space.
    directions : sequence of tuples of -1, 0, 1, optional
        The steps along a line; if None, `DIRECTIONS_2D` or `DIRECTIONS_3D` of `spatial_statistics`.

    Returns
    -------
    (..., n_directions, max_length + 1) float64
        Chords per pixel at index = length in steps; index 0 is 0. Lines that lie wholly in the phase hold no chord.

    Notes
    -----
    The value at length l estimates the probability that l + 2 pixels in a row are one of another phase, l of the
    phase, one of another phase: their number over the number of places of l + 2 pixels in a row. So for periodic
    images lineal path and chords hold L(r) = sum_{l > r} (l - r) c(l), unless a longer run exists.
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    extent = indicator.shape[1:]
    longest = min(extent) - (1 if periodic else 2)
    last = longest if max_length is None else max_length
    if not 1 <= last <= longest:
        raise InputError(f"max_length must be between 1 and {longest} for an extent of {extent}, got {last!r}")
    default = DIRECTIONS_2D if n_dims == 2 else DIRECTIONS_3D
    steps = check_directions(default if directions is None else directions, n_dims)
    result = np.zeros((len(indicator), len(steps), last + 1))
    length = np.arange(1, last + 1)
    for k, step in enumerate(steps):
        n_places = prod(n if periodic else n - abs(d) * (length + 1) for n, d in zip(extent, step, strict=True))
        for block in blocks(len(indicator), prod(extent)):
            result[block, k, 1:] = _count_chords(indicator[block], step, periodic, last) / n_places
    return result.reshape(*batch_shape, len(steps), last + 1)


def chord_length_distribution(density: np.ndarray) -> np.ndarray:
    """Turn chords per pixel into the probability of each length.

    Parameters
    ----------
    density : (..., n)
        Result of `chord_density`, or its mean over structures or directions: for an ensemble the mean comes first.

    Returns
    -------
    (..., n) float64 in [0, 1]
        Sums to 1 over the lengths; 0 where there is no chord. Noise of volume fraction phi gives
        (1 - phi) phi^(l - 1).
    """
    values = np.asarray(density, dtype=np.float64)
    total = values.sum(axis=-1, keepdims=True)
    return np.divide(values, total, out=np.zeros_like(values), where=total > 0)


def interface_density(
    phases: np.ndarray,
    *,
    phase: int,
    periodic: bool,
    n_dims: int = 2,
    directions: Sequence[tuple[int, ...]] | None = None,
) -> np.ndarray:
    """Compute how often straight lines cross the interface of a phase, per direction.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase whose interface with all others is meant.
    periodic : bool
        Whether neighbours across the edges count. If not, only pairs of pixels inside the image do.
    n_dims : {2, 3}
        Number of axes of space.
    directions : sequence of tuples of -1, 0, 1, optional
        If None, the 4 (2D) or 13 (3D) directions to the neighbours, `DIRECTIONS_2D` or `DIRECTIONS_13`.

    Returns
    -------
    (..., n_directions) float64
        Crossings per pixel of length: the part of the pairs of neighbours of which one lies in the phase, over the
        length of the step (1, sqrt(2), sqrt(3)). Periodic: 2 (S2(0) - S2(step)) / length.
    """
    indicator, batch_shape = indicator_of(phases, phase, n_dims)
    default = DIRECTIONS_2D if n_dims == 2 else DIRECTIONS_13
    steps = check_directions(default if directions is None else directions, n_dims)
    extent = indicator.shape[1:]
    if not periodic and any(d and n < 2 for step in steps for n, d in zip(extent, step, strict=True)):
        raise InputError(f"the extent must be at least 2 pixels along every direction, got {extent}")
    axes = tuple(range(1, n_dims + 1))
    result = np.empty((len(indicator), len(steps)))
    for k, step in enumerate(steps):
        if periodic:
            crossed = indicator != np.roll(indicator, step, axis=axes)
        else:
            start = tuple(slice(max(-d, 0), n + min(-d, 0)) for n, d in zip(extent, step, strict=True))
            end = tuple(slice(max(d, 0), n + min(d, 0)) for n, d in zip(extent, step, strict=True))
            crossed = indicator[(slice(None), *start)] != indicator[(slice(None), *end)]
        result[:, k] = crossed.mean(axis=axes) / np.sqrt(sum(d * d for d in step))
    return result.reshape(*batch_shape, len(steps))


def specific_surface(phases: np.ndarray, *, phase: int, periodic: bool, n_dims: int = 2) -> np.ndarray:
    """Estimate the interface of a phase per volume: its length per area in 2D, its area per volume in 3D.

    Parameters
    ----------
    phases : (..., I, J) integer or bool
        Phases; the last `n_dims` axes are space.
    phase : int
        The phase whose interface with all others is meant.
    periodic : bool
        Whether the interface across the edges counts. If not, only what is inside the image does.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    (...) float64
        Per pixel, of the smooth interface that the pixels show: not their staircase, which is longer by 4 / pi in 2D
        and 3 / 2 in 3D.

    Notes
    -----
    Crofton's formula: pi / 2 (2D) or 2 (3D) times the crossings per length, averaged over the 4 or 13 directions to
    the neighbours, each weighted by the angle (of the half circle or half sphere) that is nearest to it. For interfaces
    of all directions it is unbiased as the resolution grows; one along the axes comes out 5 % (2D) or 7 % (3D) too low.
    """
    crossings = interface_density(phases, phase=phase, periodic=periodic, n_dims=n_dims)
    if n_dims == 2:
        return pi / 2 * crossings.mean(axis=-1)
    return 2 * (crossings @ (_WEIGHTS_13 / _WEIGHTS_13.sum()))


def _count_chords(indicator: np.ndarray, step: tuple[int, ...], periodic: bool, last: int) -> np.ndarray:
    """Count the chords of 1 .. last pixels of each image (N, ...) in one direction, where they end.

    `last` + 1 stands for runs that are longer, or have begun at an edge: their length is not known.
    """
    run_axis = next(
        axis for axis, d in enumerate(step, start=1) if d != 0
    )  # the run-lengths are carried along this axis
    sideways = [d for axis, d in enumerate(step, start=1) if axis != run_axis]
    planes = np.moveaxis(indicator, run_axis, 0).astype(np.int32)
    n_images, n_planes = len(indicator), len(planes)
    offset = (np.arange(n_images, dtype=np.int32) * (last + 2)).reshape(-1, *[1] * (planes.ndim - 2))
    histogram = np.zeros(n_images * (last + 2), dtype=np.int64)
    run = np.full_like(planes[0], last + 1)
    for i in range(-last - 1 if periodic else 0, n_planes):  # a periodic run may have begun so many planes before
        plane = planes[i % n_planes]
        run = shifted(run, sideways, None if periodic else last + 1)
        if i >= 0:
            histogram += np.bincount((run * (1 - plane) + offset).ravel(), minlength=len(histogram))
        run = np.minimum((run + 1) * plane, last + 1)
    return histogram.reshape(n_images, -1)[:, 1 : last + 1]
