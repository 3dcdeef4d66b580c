"""Curves per direction: out of a map, averaged at equal distances, and how far they differ (anisotropy)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.arrays import areas, check_dims, check_directions


def curves_along(
    map: np.ndarray, *, directions: Sequence[tuple[int, ...]], max_steps: int | None = None, n_dims: int = 2
) -> np.ndarray:
    """Read the curves along straight lines out of a map of S2 or of the two-point cluster function.

    Parameters
    ----------
    map : (..., I, J)
        Shift zero first, negative shifts at the end.
    directions : sequence of tuples of -1, 0, 1
        The steps, e.g. `spatial_statistics.DIRECTIONS_2D`.
    max_steps : int, optional
        Number of steps of the longest shift; if None, half of the map's smallest size, minus 1.
    n_dims : {2, 3}
        Number of axes of space.

    Returns
    -------
    (..., n_directions, max_steps + 1)
        The map at 0, 1, ... steps, laid out like the curves of `lineal_path`.
    """
    values = np.asarray(map)
    check_dims(values, n_dims)
    steps = check_directions(directions, n_dims)
    size = values.shape[-n_dims:]
    last = max(min(size) // 2 - 1, 0) if max_steps is None else max_steps
    largest = min(n // 2 for step in steps for n, d in zip(size, step) if d)
    if not 0 <= last <= largest:
        raise InputError(f"max_steps must be between 0 and {largest} for a map of {size}, got {last!r}")
    r = np.arange(last + 1)
    space_first = np.moveaxis(values, range(-n_dims, 0), range(n_dims))
    curves = np.stack([space_first[tuple(d * r for d in step)] for step in steps])
    return np.moveaxis(curves, (0, 1), (-2, -1))


def step_lengths(directions: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Return the length of each step in pixels (n_directions,): 1, sqrt(2) or sqrt(3)."""
    return np.sqrt([sum(d * d for d in step) for step in directions])


def at_equal_distances(curves: np.ndarray, *, directions: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Bring curves over the number of steps to the distances r = 0, 1, ... pixels.

    Parameters
    ----------
    curves : (..., n_directions, n)
        One curve per direction, over 0 .. n - 1 steps.
    directions : sequence of tuples of -1, 0, 1
        The steps of the curves.

    Returns
    -------
    (..., n_directions, m) float64
        At r = 0, 1, ... as far as all directions reach; m = n if there is one along an axis. Those along axes are
        unchanged; on diagonals, whose steps are sqrt(2) or sqrt(3) long, the values are interpolated linearly.
    """
    values = np.asarray(curves, dtype=np.float64)
    steps = check_directions(directions, len(directions[0]) if directions else 0)
    if values.ndim < 2 or values.shape[-2] != len(steps) or values.shape[-1] == 0:
        raise InputError(
            f"curves of {len(steps)} directions must have the shape (..., {len(steps)}, r), got {values.shape}"
        )
    n = values.shape[-1]
    lengths = step_lengths(steps)
    r = np.arange(int((n - 1) * lengths.min() + 1e-9) + 1)
    position = np.minimum(r / lengths[:, None], n - 1)
    before = position.astype(np.int64)
    after = np.minimum(before + 1, n - 1)
    row = np.arange(len(steps))[:, None]
    return values[..., row, before] + (position - before) * (values[..., row, after] - values[..., row, before])


def average_over_directions(curves: np.ndarray, *, directions: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Average the curves (..., n_directions, n) of several directions at equal distances: (..., m) float64.

    Each direction has the same weight. See `at_equal_distances` for the shapes and for diagonals.
    """
    return at_equal_distances(curves, directions=directions).mean(axis=-2)


def anisotropy(curves: np.ndarray, *, directions: Sequence[tuple[int, ...]]) -> np.ndarray:
    """Return the largest difference between the curves of two directions.

    Parameters
    ----------
    curves : (..., n_directions, n)
        Curves of S2, lineal path or another function over the number of steps. For an ensemble the mean over its
        structures: a single structure differs between directions by chance too.
    directions : sequence of tuples of -1, 0, 1
        The steps of the curves; at least two.

    Returns
    -------
    (...) float64
        Percent, 0 for equal curves: 100 * max over pairs of directions of the area between their curves, over the
        area under the mean of all, at equal distances. It is eq. (23) of the paper between directions instead of
        between sets. NaN where the phase is absent.
    """
    values = at_equal_distances(curves, directions=directions)
    if len(directions) < 2 or values.shape[-1] < 2:
        raise InputError(f"curves must have at least 2 directions and 2 distances, got shape {np.shape(curves)}")
    pairs = combinations(range(len(directions)), 2)
    largest = np.max([areas(np.abs(values[..., a, :] - values[..., b, :])) for a, b in pairs], axis=0)
    area = areas(values.mean(axis=-2))
    return np.divide(100 * largest, area, out=np.full(np.shape(area), np.nan), where=area > 0)
