"""The statistics of each volume of a set: of its slices across one axis, and in three dimensions."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mcrpy_diffusion.evaluation.shapes import AREA_OF_COUNTS, pieces
from mcrpy_diffusion.evaluation.statistics import CURVES, set_statistics
from mcrpy_diffusion.metrics.chords import DIRECTIONS_13, chord_density, interface_density, specific_surface
from mcrpy_diffusion.metrics.clusters import euler_number, isolated_share, number_of_clusters
from mcrpy_diffusion.metrics.conductivity import effective_conductivity
from mcrpy_diffusion.metrics.directions import curves_along, step_lengths
from mcrpy_diffusion.metrics.percolation import percolating_share
from mcrpy_diffusion.metrics.sections import DIAGONAL_PLANES, diagonal_sections, is_whole, slice_fractions
from mcrpy_diffusion.metrics.spatial_statistics import (
    DIRECTIONS_2D,
    default_max_distance,
    lineal_path,
    radial_average,
    two_point_correlation,
)

VOLUME_OF_COUNTS = 1_000_000
"""Volume in voxels that numbers of clusters, Euler numbers and isolated voxels refer to."""
DIRECTION_CLASSES = {
    "x": slice(0, 1),
    "y": slice(1, 2),
    "z": slice(2, 3),
    "face_diagonals": slice(3, 9),
    "space_diagonals": slice(9, 13),
}
"""Name -> which of `DIRECTIONS_13` are averaged."""


@dataclass(frozen=True)
class SliceStatistics:
    """Statistics of N structures in two dimensions, or means over the slices of N volumes; for one phase.

    Attributes
    ----------
    curves : dict of (N, r) float64
        S2 averaged over directions, L over rows and columns.
    along : dict of (N, 4, r) float64
        S2 and L along each of `DIRECTIONS_2D`.
    chords : (N, 2, c) float64
        Chords of each length per pixel, along rows and columns.
    interface : (N, 4) float64
        Crossings of the interface per pixel.
    counts : dict of (N,) float64
        `number_of_clusters`, `euler_number` and `isolated_pixels` per 10,000 pixels.
    fractions : (N, n) float64
        Volume fraction of each slice.
    """

    curves: dict[str, np.ndarray]
    along: dict[str, np.ndarray]
    chords: np.ndarray
    interface: np.ndarray
    counts: dict[str, np.ndarray]
    fractions: np.ndarray

    def isotropic(self) -> SliceStatistics:
        """Return the same with rows and columns averaged, and both diagonals."""

        def averaged(values: np.ndarray) -> np.ndarray:
            pairs = [values[:, k : k + 2].mean(axis=1, keepdims=True) for k in range(0, values.shape[1], 2)]
            return np.repeat(np.concatenate(pairs, axis=1), 2, axis=1)

        along = {measure: averaged(values) for measure, values in self.along.items()}
        return replace(self, along=along, chords=averaged(self.chords), interface=averaged(self.interface))


def slice_statistics(
    images: np.ndarray, *, phase: int, periodic: bool, max_distance: int, longest_chord: int, extent: tuple[int, int]
) -> SliceStatistics:
    """Measure the slices of volumes, or structures in two dimensions.

    Parameters
    ----------
    images : (N, n, A, B) integer
        n slices of each of N volumes; n = 1 for structures in two dimensions.
    phase : int
        The phase that is measured.
    periodic : bool
        Whether the slices continue across their edges.
    max_distance, longest_chord : int
        Largest distance of S2 and L, and longest chord, in pixels.
    extent : (int, int)
        Slices that are not periodic are cut into pieces of this extent for what depends on it: numbers of clusters,
        the Euler number, and the scatter of volume fractions.
    """
    n_volumes, n_slices = images.shape[:2]
    flat = images.reshape(-1, *images.shape[2:])

    def per_volume(values: np.ndarray) -> np.ndarray:
        return values.reshape(n_volumes, -1, *values.shape[1:]).mean(axis=1)

    found = set_statistics(flat, phase=phase, periodic=periodic, max_distance=max_distance)
    chords = chord_density(flat, phase=phase, periodic=periodic, max_length=longest_chord, directions=DIRECTIONS_2D[:2])
    cut = pieces(flat, extent)
    whole = flat if periodic else cut
    scale = AREA_OF_COUNTS / np.prod(whole.shape[1:])
    return SliceStatistics(
        curves={measure: per_volume(getattr(found, measure)) for measure in CURVES},
        along={measure: per_volume(values) for measure, values in found.along.items()},
        chords=per_volume(chords),
        interface=per_volume(interface_density(flat, phase=phase, periodic=periodic)),
        counts={
            "number_of_clusters": scale * per_volume(number_of_clusters(whole, phase=phase, periodic=periodic)),
            "euler_number": scale * per_volume(euler_number(whole, phase=phase, periodic=periodic)),
            "isolated_pixels": AREA_OF_COUNTS * per_volume(isolated_share(flat, phase=phase, periodic=periodic)),
        },
        fractions=(cut == phase).mean(axis=(1, 2), dtype=np.float64).reshape(n_volumes, -1),
    )


@dataclass(frozen=True)
class SpaceStatistics:
    """Statistics in three dimensions of N volumes, for one phase.

    Attributes
    ----------
    radial : (N, r) float64
        S2 averaged over all directions.
    curves : dict of dict of (N, r) float64
        S2 and L by measure and class of directions, over the number of steps; all reach about equally far.
    scalars : dict of (N,) float64
        Those of `SpaceFit`, under its names.
    by_axis : dict of (N, 3) float64
        `percolating_share`, `slice_fraction_std` and, if asked for, `conductivity`.
    """

    radial: np.ndarray
    curves: dict[str, dict[str, np.ndarray]]
    scalars: dict[str, np.ndarray]
    by_axis: dict[str, np.ndarray]


def space_statistics(volumes: np.ndarray, *, phase: int, periodic: bool, properties: bool = False) -> SpaceStatistics:
    """Measure volumes (N, I, J, K) in three dimensions, one after the other; with `properties` their conductivity."""
    measured = [_one_volume(volume, phase, periodic) for volume in volumes]
    conductivity = {"conductivity": effective_conductivity(volumes, phase=phase)} if properties else {}
    return SpaceStatistics(
        radial=np.stack([each.radial for each in measured]),
        curves={
            measure: {name: np.stack([each.curves[measure][name] for each in measured]) for name in DIRECTION_CLASSES}
            for measure in CURVES
        },
        scalars={name: np.array([each.scalars[name] for each in measured]) for name in measured[0].scalars},
        by_axis={name: np.stack([each.by_axis[name] for each in measured]) for name in measured[0].by_axis}
        | conductivity,
    )


def spacings() -> dict[str, float]:
    """Return the length of a step in voxels of each class of directions: 1, sqrt(2) or sqrt(3)."""
    lengths = step_lengths(DIRECTIONS_13)
    return {name: float(lengths[chosen][0]) for name, chosen in DIRECTION_CLASSES.items()}


def _one_volume(volume: np.ndarray, phase: int, periodic: bool) -> SpaceStatistics:
    options: dict[str, Any] = {"phase": phase, "periodic": periodic, "n_dims": 3}
    last = default_max_distance(volume.shape)
    map = two_point_correlation(volume, **options)
    of_directions = {
        CURVES[0]: curves_along(map, directions=DIRECTIONS_13, max_steps=last, n_dims=3),
        CURVES[1]: lineal_path(volume, **options, max_length=last, directions=DIRECTIONS_13),
    }
    near = np.r_[: last + 1, -last:0]  # shifts farther than `last` along an axis are in no average
    reach = {name: int(last / spacing) + 1 for name, spacing in spacings().items()}
    per_count = VOLUME_OF_COUNTS / volume.size
    diagonal_clusters, diagonal_isolated = _diagonal_counts(volume, phase, periodic)
    return SpaceStatistics(
        radial=radial_average(map[np.ix_(near, near, near)], n_dims=3, max_distance=last),
        curves={
            measure: {name: values[chosen, : reach[name]].mean(axis=0) for name, chosen in DIRECTION_CLASSES.items()}
            for measure, values in of_directions.items()
        },
        scalars={
            "volume_fraction": np.asarray((volume == phase).mean()),
            "specific_surface": specific_surface(volume, **options),
            "number_of_clusters": per_count * number_of_clusters(volume, **options),
            "euler_number": per_count * euler_number(volume, **options),
            "isolated_voxels": VOLUME_OF_COUNTS * isolated_share(volume, **options),
            "diagonal_clusters": diagonal_clusters,
            "diagonal_isolated_pixels": diagonal_isolated,
        },
        by_axis={
            "percolating_share": percolating_share(volume, phase=phase, periodic=periodic),
            "slice_fraction_std": np.array([slice_fractions(volume, phase=phase, axis=k).std() for k in range(3)]),
        },
    )


def _diagonal_counts(volume: np.ndarray, phase: int, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return clusters and isolated pixels per 10,000 pixels of all sections at 45 degrees."""
    clusters, isolated = [], []
    for first, second, sign in DIAGONAL_PLANES:
        axes = (first, second)
        sections = diagonal_sections(volume, axes=axes, sign=sign, periodic=periodic)
        whole = is_whole(volume.shape, axes=axes, periodic=periodic)
        number = number_of_clusters(sections, phase=phase, periodic=whole).mean()
        clusters.append(AREA_OF_COUNTS * number / np.prod(sections.shape[1:]))
        isolated.append(AREA_OF_COUNTS * isolated_share(sections, phase=phase, periodic=whole).mean())
    return np.asarray(np.mean(clusters)), np.asarray(np.mean(isolated))
