"""The statistics of each image of a set, and the curves of a set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mcrpy_diffusion.evaluation.results import Spread
from mcrpy_diffusion.metrics.directions import curves_along
from mcrpy_diffusion.metrics.spatial_statistics import (
    DIRECTIONS_2D,
    default_max_distance,
    lineal_path,
    radial_average,
    two_point_correlation,
)

CURVES = ("two_point_correlation", "lineal_path")
SPREAD_PERCENTILES = (10, 90)

_BLOCK_IMAGES = 128  # images whose correlation maps are in memory at once


@dataclass(frozen=True)
class SetStatistics:
    """The statistics of each image of a set, for one phase.

    Attributes
    ----------
    volume_fraction : (N,) float64
    two_point_correlation : (N, r) float64
        S2, averaged over directions.
    lineal_path : (N, r) float64
        L, mean of the one along the rows and the one along the columns.
    along : dict of (N, 4, r) float64
        S2 and L along each of `DIRECTIONS_2D`, by measure, over the number of steps; those on diagonals are longer.
    """

    volume_fraction: np.ndarray
    two_point_correlation: np.ndarray
    lineal_path: np.ndarray
    along: dict[str, np.ndarray]

    @property
    def n_images(self) -> int:
        """Number of images behind the statistics."""
        return len(self.volume_fraction)


def set_statistics(phases: np.ndarray, *, phase: int, periodic: bool, max_distance: int | None = None) -> SetStatistics:
    """Measure each image of a set: volume fraction, S2(r) and L(r) of one phase.

    Parameters
    ----------
    phases : (N, I, J) integer
        Phases.
    phase : int
        The phase that is measured.
    periodic : bool
        Whether the structures continue across their edges.
    max_distance : int, optional
        The largest r; if None, half of the smallest extent, minus 1.

    Returns
    -------
    SetStatistics
        With r = 0 .. max_distance.
    """
    last = default_max_distance(phases.shape[1:]) if max_distance is None else max_distance
    radial: list[np.ndarray] = []
    along: dict[str, list[np.ndarray]] = {measure: [] for measure in CURVES}
    for start in range(0, len(phases), _BLOCK_IMAGES):
        block = phases[start : start + _BLOCK_IMAGES]
        maps = two_point_correlation(block, phase=phase, periodic=periodic)
        radial.append(radial_average(maps, max_distance=last))
        along[CURVES[0]].append(curves_along(maps, directions=DIRECTIONS_2D, max_steps=last))
        along[CURVES[1]].append(lineal_path(block, phase=phase, periodic=periodic, max_length=last))
    fraction = (phases == phase).mean(axis=(1, 2), dtype=np.float64)
    by_direction = {measure: np.concatenate(blocks) for measure, blocks in along.items()}
    lineal = by_direction[CURVES[1]][:, :2].mean(axis=1)  # diagonal segments are longer than their number of pixels
    return SetStatistics(fraction, np.concatenate(radial), lineal, by_direction)


def spread(curves: np.ndarray) -> Spread:
    """Return the mean of a set's curves (N, r), and the percentiles that hold 80 % of them."""
    low, high = np.percentile(curves, SPREAD_PERCENTILES, axis=0)
    return Spread(mean=tuple(curves.mean(axis=0).tolist()), low=tuple(low.tolist()), high=tuple(high.tolist()))
