"""Results of an evaluation of volumes as typed records; the key `volume` of metrics.json, see docs/evaluation.md."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mcrpy_diffusion.evaluation.results import Percent, Phase
from mcrpy_diffusion.io.records import Count, Index, Number, Record

Axis = Annotated[str, "x|y|z"]
"""The first, second or third axis of a volume; a plane is named by the axis that it is across."""
Direction = Annotated[str, "x|y|z|face_diagonals|space_diagonals"]
PlaneDirection = Annotated[str, "down|across|diagonal|antidiagonal"]


@dataclass(frozen=True, kw_only=True)
class CurveFit(Record):
    """Discrepancy of the mean curves of two sets, eq. (23) of the paper, and its sampling floor, percent.

    Attributes
    ----------
    discrepancy_percent : float or None
        Generated volumes against the original structures, or against the true volumes; None without these, or where
        they lack the phase.
    floor_percent : float or None
        What two sets of these sizes differ by if their expected curves are equal; None without two structures in any.
    """

    discrepancy_percent: Percent | None
    floor_percent: Percent | None


@dataclass(frozen=True, kw_only=True)
class ScalarFit(Record):
    """One number per structure: mean and standard deviation of each set, difference of the means, and its floor.

    `reference` are the original structures, or the true volumes; None without these.
    """

    reference: Number | None
    reference_std: Number | None
    generated: Number
    generated_std: Number
    difference: Number | None
    floor: Number | None


@dataclass(frozen=True, kw_only=True)
class PlaneDirectionFit(Record):
    """One direction in the slices across an axis; chords on diagonals are not measured."""

    two_point_correlation: CurveFit
    lineal_path: CurveFit
    interface_density: ScalarFit
    chord_length: CurveFit | None = None


@dataclass(frozen=True, kw_only=True)
class PlaneFit(Record):
    """The slices across an axis against original structures in two dimensions.

    Attributes
    ----------
    two_point_correlation, lineal_path : CurveFit
        Averaged over directions, as for structures in two dimensions.
    directions : dict of PlaneDirectionFit
    number_of_clusters, euler_number, isolated_pixels : ScalarFit
        Per 10,000 pixels.
    slice_fraction_std : ScalarFit
        Standard deviation of the volume fractions of slices within a volume, and of original structures.
    """

    two_point_correlation: CurveFit
    lineal_path: CurveFit
    directions: dict[PlaneDirection, PlaneDirectionFit]
    number_of_clusters: ScalarFit
    euler_number: ScalarFit
    isolated_pixels: ScalarFit
    slice_fraction_std: ScalarFit


@dataclass(frozen=True, kw_only=True)
class DirectionFit(Record):
    """S2 and L along one class of directions of the volume."""

    two_point_correlation: CurveFit
    lineal_path: CurveFit


@dataclass(frozen=True, kw_only=True)
class SpaceFit(Record):
    """Measures in three dimensions, against true volumes where these are given.

    Attributes
    ----------
    volume_fraction : ScalarFit
    two_point_correlation : CurveFit
        S2 averaged over all directions of space.
    directions : dict of DirectionFit
    specific_surface : ScalarFit
        Area of the interface per volume, 1 / voxel.
    number_of_clusters, euler_number, isolated_voxels : ScalarFit
        Per 1,000,000 voxels.
    percolating_share, slice_fraction_std : dict of ScalarFit
        Share of the phase in clusters that connect both faces, and spread of the slices' volume fractions, by axis.
    diagonal_clusters, diagonal_isolated_pixels : ScalarFit
        In sections at 45 degrees to two axes, per 10,000 pixels.
    conductivity : dict of ScalarFit or None
        By axis, if the phase conducts and others insulate; None if it was not asked for.
    """

    volume_fraction: ScalarFit
    two_point_correlation: CurveFit
    directions: dict[Direction, DirectionFit]
    specific_surface: ScalarFit
    number_of_clusters: ScalarFit
    euler_number: ScalarFit
    isolated_voxels: ScalarFit
    percolating_share: dict[Axis, ScalarFit]
    slice_fraction_std: dict[Axis, ScalarFit]
    diagonal_clusters: ScalarFit
    diagonal_isolated_pixels: ScalarFit
    conductivity: dict[Axis, ScalarFit] | None = None


@dataclass(frozen=True, kw_only=True)
class DirectionCurves(Record):
    """Mean curves (n,) over 0, 1, ... steps of `spacing` voxels, of each set that has any."""

    spacing: Number
    generated: tuple[Number, ...]
    true: tuple[Number, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class PhaseVolumeCurves(Record):
    """S2 and L of one phase by direction of the volume, and those of the originals along the two axes of each plane."""

    two_point_correlation: dict[Direction, DirectionCurves]
    lineal_path: dict[Direction, DirectionCurves]
    original_two_point_correlation: dict[Axis, tuple[Number, ...]]
    original_lineal_path: dict[Axis, tuple[Number, ...]]


@dataclass(frozen=True, kw_only=True)
class PhaseVolumeFit(Record):
    """All measures of one phase; `volume_fraction` is against the original structures."""

    volume_fraction: ScalarFit
    planes: dict[Axis, PlaneFit]
    space: SpaceFit
    curves: PhaseVolumeCurves


@dataclass(frozen=True, kw_only=True)
class VolumeCounts(Record):
    """Numbers of generated and true volumes, and of original structures of each plane."""

    generated: Count
    true: Index
    original: dict[Axis, Count]


@dataclass(frozen=True, kw_only=True)
class VolumeEvaluation(Record):
    """All results of `evaluate_volumes`; metrics.json has them as `volume`.

    Attributes
    ----------
    scatter_of : str
        Whose scatter between volumes is in the floors: "true volumes", "generated volumes" or "none".
    """

    n_volumes: VolumeCounts
    n_floor_draws: Index
    n_phases: Index
    extent: tuple[Count, Count, Count]
    periodic: bool
    grey_threshold: Number | None = None
    scatter_of: str
    phases: dict[Phase, PhaseVolumeFit]
    warnings: tuple[str, ...]
