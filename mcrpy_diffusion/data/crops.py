"""Crops of micrographs, and the split of a micrograph into a training part and a held-out part."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mcrpy_diffusion.errors import InputError


def split(
    phases: np.ndarray,
    *,
    extent: tuple[int, int],
    held_out_fraction: float,
    across: bool = False,
    first: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Split a micrograph into a training part and a part that no training crop overlaps.

    The cut is normal to the longer axis (the first axis if both are equal), and the last part is held out. Its length
    is `held_out_fraction` of the axis, rounded, but at least the extent.

    Parameters
    ----------
    phases : (I, J)
        Micrograph, at least as large as `extent`.
    extent : (int, int)
        Rows and columns of a crop.
    held_out_fraction : float
        In [0, 1); with 0 nothing is held out.
    across : bool
        Whether the cut is normal to the shorter axis instead.
    first : bool
        Whether the first part is held out instead.

    Returns
    -------
    training, held_out : (I, J) views of `phases`
        `held_out` is None, and `training` the whole micrograph, if the training part would be smaller than the extent.

    Raises
    ------
    InputError
        If the micrograph is smaller than the extent, or the fraction is out of range.
    """
    _check_extent([phases], extent)
    if not 0 <= held_out_fraction < 1:
        raise InputError(f"held_out_fraction must be at least 0 and below 1, got {held_out_fraction!r}")
    axis = (0 if phases.shape[0] >= phases.shape[1] else 1) ^ across
    length = phases.shape[axis]
    cut = length - max(extent[axis], round(held_out_fraction * length))
    if held_out_fraction == 0 or cut < extent[axis]:
        return phases, None
    along = phases if axis == 0 else phases.T
    training, held_out = (along[length - cut :], along[: length - cut]) if first else (along[:cut], along[cut:])
    return (training, held_out) if axis == 0 else (training.T, held_out.T)


def random_crops(phases_list: Sequence[np.ndarray], n: int, *, extent: tuple[int, int], seed: int) -> np.ndarray:
    """Draw crops (n, *extent) uniformly from all positions of all micrographs; crop i depends on (`seed`, i) alone.

    Raises
    ------
    InputError
        If there is no micrograph, one is smaller than the extent or of another dtype, or `n` or `seed` is negative.
    """
    _check_extent(phases_list, extent)
    if n < 0 or seed < 0:
        raise InputError(f"n and seed must be at least 0, got {n!r} and {seed!r}")
    n_columns = [phases.shape[1] - extent[1] + 1 for phases in phases_list]
    n_positions = [(phases.shape[0] - extent[0] + 1) * k for phases, k in zip(phases_list, n_columns, strict=True)]
    starts = np.concatenate([[0], np.cumsum(n_positions)])
    crops = np.empty((n, *extent), dtype=phases_list[0].dtype)
    for i in range(n):
        position = int(np.random.default_rng([seed, i]).integers(starts[-1]))
        k = int(np.searchsorted(starts, position, side="right")) - 1
        row, column = divmod(position - int(starts[k]), n_columns[k])
        crops[i] = phases_list[k][row : row + extent[0], column : column + extent[1]]
    return crops


def _check_extent(phases_list: Sequence[np.ndarray], extent: tuple[int, int]) -> None:
    if len(phases_list) == 0:
        raise InputError("at least one micrograph must be given, got none")
    if len(extent) != 2 or min(extent) < 1:
        raise InputError(f"extent must be two integers of at least 1, got {extent!r}")
    for phases in phases_list:
        if phases.ndim != 2 or phases.shape[0] < extent[0] or phases.shape[1] < extent[1]:
            size = " x ".join(map(str, phases.shape))
            raise InputError(f"a micrograph must be at least of the extent {extent[0]} x {extent[1]}, got {size}")
        if phases.dtype != phases_list[0].dtype:
            raise InputError(f"micrographs must be of one type, got {phases_list[0].dtype} and {phases.dtype}")


def n_positions(phases_list: Sequence[np.ndarray], *, extent: tuple[int, int]) -> int:
    """Return the number of crop positions in all micrographs."""
    _check_extent(phases_list, extent)
    return sum((m.shape[0] - extent[0] + 1) * (m.shape[1] - extent[1] + 1) for m in phases_list)


def all_crops(phases_list: Sequence[np.ndarray], *, extent: tuple[int, int]) -> np.ndarray:
    """Return the crops (N, *extent) at all positions, in the order of micrographs and rows."""
    _check_extent(phases_list, extent)
    windows = [np.lib.stride_tricks.sliding_window_view(m, extent).reshape(-1, *extent) for m in phases_list]
    return np.concatenate(windows)


def grid_crops(phases: np.ndarray, *, extent: tuple[int, int], step: tuple[int, int]) -> np.ndarray:
    """Return the crops (N, *extent) of a regular grid with a spacing of `step` rows and columns, row by row."""
    _check_extent([phases], extent)
    if min(step) < 1:
        raise InputError(f"step must be two integers of at least 1, got {step!r}")
    windows = np.lib.stride_tricks.sliding_window_view(phases, extent)[:: step[0], :: step[1]]
    return windows.reshape(-1, *extent)
