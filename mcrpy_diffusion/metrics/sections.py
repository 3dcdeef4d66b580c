"""Plane sections of volumes (..., I, J, K): across the axes, and at 45 degrees to two of them."""

from __future__ import annotations

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.arrays import check_dims

DIAGONAL_PLANES = tuple((first, second, sign) for first, second in ((0, 1), (0, 2), (1, 2)) for sign in (1, -1))
"""The six planes at 45 degrees to two axes and parallel to the third: two axes, and the sense of their diagonal."""


def slices(volumes: np.ndarray, *, axis: int) -> np.ndarray:
    """Return the sections (..., n, A, B) across axis 0, 1 or 2; their rows and columns are the other axes in order."""
    check_dims(np.asarray(volumes), 3)
    if axis not in (0, 1, 2):
        raise InputError(f"axis must be 0, 1 or 2, got {axis!r}")
    return np.moveaxis(volumes, axis - 3, -3)


def slice_fractions(volumes: np.ndarray, *, phase: int, axis: int) -> np.ndarray:
    """Return the share (..., n) of a phase in each section across an axis."""
    return (slices(volumes, axis=axis) == phase).mean(axis=(-2, -1), dtype=np.float64)


def is_whole(extent: tuple[int, ...], *, axes: tuple[int, int], periodic: bool) -> bool:
    """Return whether diagonal sections close on themselves: in periodic volumes with equal extents along both axes."""
    return periodic and extent[axes[0]] == extent[axes[1]]


def diagonal_sections(volumes: np.ndarray, *, axes: tuple[int, int], sign: int, periodic: bool) -> np.ndarray:
    """Return parallel sections at 45 degrees to two axes.

    Parameters
    ----------
    volumes : (..., I, J, K)
    axes : (int, int)
        Two of 0, 1, 2.
    sign : {1, -1}
        Whether the second coordinate rises or falls along the diagonal.
    periodic : bool
        Whether the sections go across the edges.

    Returns
    -------
    (..., n, A, B)
        The rows of a section lie along the third axis, one voxel apart; its columns along the diagonal, sqrt(2) voxels
        apart. If `is_whole`, the sections are periodic, as long as the extents, and contain each voxel once. Otherwise
        they are half as long as the smaller extent.
    """
    values = np.asarray(volumes)
    check_dims(values, 3)
    if sorted(axes) not in ([0, 1], [0, 2], [1, 2]) or sign not in (1, -1):
        raise InputError(f"axes must be two of 0, 1, 2 and sign 1 or -1, got {axes} and {sign!r}")
    first, second = axes
    (third,) = {0, 1, 2} - {first, second}
    ordered = np.moveaxis(values, [third - 3, first - 3, second - 3], [-3, -2, -1])
    extent = values.shape[-3:]
    if is_whole(extent, axes=axes, periodic=periodic):
        length = n = extent[first]
    else:
        length = max(min(extent[first], extent[second]) // 2, 1)
        n = extent[second] - length + 1
    step, start = np.arange(length), np.arange(n)[:, None] + (0 if sign > 0 else length - 1)
    found = ordered[..., step, (start + sign * step) % extent[second]]  # (..., A, n, B)
    return np.moveaxis(found, -2, -3)
