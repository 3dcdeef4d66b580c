"""Results of an evaluation as typed records; metrics.json is their JSON, see docs/evaluation.md."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from mcrpy_diffusion.io.records import LARGEST, Count, Index, Interval, Number, Record, Share

Percent = Annotated[float, 0, LARGEST]
Signed = Annotated[int, -LARGEST, LARGEST]
Phase = Annotated[str, "0|[1-9][0-9]{0,2}"]
"""Number of a phase as a key of JSON."""


@dataclass(frozen=True, kw_only=True)
class Counts(Record):
    """Number of structures in each set."""

    original: Count
    generated: Count
    training: Count | None = None
    held_out: Count | None = None


@dataclass(frozen=True, kw_only=True)
class WindowCounts(Record):
    """Number of independent windows that crops overlap in; None for structures that do not overlap, 0 if unknown."""

    original: Number | None = None
    held_out: Number | None = None


@dataclass(frozen=True, kw_only=True)
class Verdict(Record):
    """The result of an evaluation in a sentence.

    Attributes
    ----------
    outcome : str
        `equivalent`, `different` or `not comparable`.
    measures : tuple of str
        Names of the measures that differ.
    copies : bool
        Whether structures are copies of the training data.
    text : str
    """

    outcome: str
    measures: tuple[str, ...]
    copies: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class ScalarFigures(Record):
    """The part of a `ScalarComparison` that a model carries.

    Attributes
    ----------
    difference, held_out_difference : float
        Mean of the generated structures minus that of the original or the held-out ones.
    floor : float or None
        Sampling floor: the mean absolute difference between two sets of real structures of the same sizes.
    phase : int
    """

    original: Number
    original_std: Number | None
    generated: Number
    held_out: Number | None = None
    difference: Number
    held_out_difference: Number | None
    floor: Number | None
    phase: Index


@dataclass(frozen=True, kw_only=True)
class ScalarComparison(ScalarFigures):
    """One number per structure: mean and standard deviation of each set.

    Attributes
    ----------
    interval : (float, float) or None
        95 % interval of `difference`.
    floor_95 : float or None
        95 % of equal sets differ by less.
    p_value : float or None
        Probability that equal sets differ by as much.
    """

    generated_std: Number
    training: Number | None = None
    training_std: Number | None = None
    held_out_std: Number | None = None
    interval: Interval | None
    floor_95: Number | None = None
    p_value: Share | None = None
    n_images: Counts

    @property
    def deviation(self) -> tuple[float | None, float | None]:
        """Difference between generated and original structures, and its sampling floor."""
        return self.difference, self.floor

    @property
    def upper_floor(self) -> float | None:
        """What 95 % of equal sets differ by less than."""
        return self.floor_95


@dataclass(frozen=True, kw_only=True)
class CurveFigures(Record):
    """The part of a `CurveDiscrepancy` that a model carries.

    Attributes
    ----------
    discrepancy_percent, held_out_discrepancy_percent : float or None
        Generated against original or held-out structures; None if these are missing or do not have the phase.
    interval_percent : (float, float) or None
        95 % interval of `discrepancy_percent`; it begins at 0 where equal sets differ by as much.
    floor_percent : float or None
        Sampling floor: mean between two sets of real structures of the same sizes.
    """

    discrepancy_percent: Percent | None
    interval_percent: Interval | None
    held_out_discrepancy_percent: Percent | None
    floor_percent: Percent | None


@dataclass(frozen=True, kw_only=True)
class CurveDiscrepancy(CurveFigures):
    """One curve per structure: discrepancies of the mean curves of two sets, eq. (23) of the paper, in percent.

    Attributes
    ----------
    floor_std_percent : float or None
        Standard deviation of the sampling floor.
    floor_95_percent, p_value : float or None
        95 % of equal sets differ by less; the probability that they differ by as much.
    difference_percent : float or None
        Area under the generated curve minus that under the original one, percent of the latter.
    difference_interval_percent : (float, float) or None
        Its 95 % interval.
    original_to_held_out_percent, original_to_training_percent : float or None
        Between sets of real structures.
    """

    floor_std_percent: Percent | None
    floor_95_percent: Percent | None = None
    p_value: Share | None = None
    difference_percent: Number | None = None
    difference_interval_percent: Interval | None = None
    original_to_held_out_percent: Percent | None
    original_to_training_percent: Percent | None

    @property
    def deviation(self) -> tuple[float | None, float | None]:
        """Discrepancy between generated and original structures, and its sampling floor, percent."""
        return self.discrepancy_percent, self.floor_percent

    @property
    def upper_floor(self) -> float | None:
        """What 95 % of equal sets differ by less than, percent."""
        return self.floor_95_percent


@dataclass(frozen=True, kw_only=True)
class Anisotropy(Record):
    """Largest difference between two directions of the mean curves of each set, and its sampling floor, percent."""

    original: Percent | None
    generated: Percent | None
    training: Percent | None = None
    held_out: Percent | None = None
    floor: Percent | None


@dataclass(frozen=True, kw_only=True)
class CurveComparison(CurveDiscrepancy):
    """S2 or L of one phase; with the original structures also of each direction."""

    directions: dict[str, CurveDiscrepancy] | None = None
    anisotropy_percent: Anisotropy | None = None
    phase: Index
    n_images: Counts


@dataclass(frozen=True, kw_only=True)
class ChordComparison(CurveDiscrepancy):
    """Chords of each length per pixel, and the mean chord length of each set, pixels; None without any chord."""

    original_mean_length: Number | None
    generated_mean_length: Number | None
    training_mean_length: Number | None = None
    held_out_mean_length: Number | None = None
    phase: Index
    n_images: Counts


@dataclass(frozen=True, kw_only=True)
class PhaseComparison(Record):
    """Measures of one phase; those after `lineal_path` need the original structures."""

    volume_fraction: ScalarComparison
    two_point_correlation: CurveComparison
    lineal_path: CurveComparison
    specific_surface: ScalarComparison | None = None
    number_of_clusters: ScalarComparison | None = None
    euler_number: ScalarComparison | None = None
    chord_length: ChordComparison | None = None


@dataclass(frozen=True, kw_only=True)
class FeatureFigures(Record):
    """The part of a `FeatureMeasure` that a model carries.

    Attributes
    ----------
    name, features : str or None
        Names of the measure and of the network.
    value : float or None
        Generated against original structures.
    interval : (float, float) or None
        95 % interval of `value`, by bootstrap.
    n_images : Counts or None
    floor : float or None
        The measure between two disjoint sets of real structures.
    """

    name: str | None
    features: str | None
    value: Number | None
    interval: Interval | None
    n_images: Counts | None
    floor: Number | None


@dataclass(frozen=True, kw_only=True)
class FeatureMeasure(FeatureFigures):
    """A measure by the features of a trained network, such as the Frechet distance.

    Attributes
    ----------
    held_out_value : float or None
        Generated against held-out structures.
    floor_n_images : (int, int) or None
        Numbers of structures behind `floor`.
    value_at_floor_counts : float or None
        Original against generated structures in these numbers.
    reason : str or None
        Why a value is None.
    """

    held_out_value: Number | None
    floor_n_images: tuple[Index, Index] | None
    value_at_floor_counts: Number | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class FeatureMeasures(Record):
    """All measures by features; without a network, each is empty."""

    frechet_distance: FeatureMeasure
    precision: FeatureMeasure
    recall: FeatureMeasure
    density: FeatureMeasure
    coverage: FeatureMeasure


@dataclass(frozen=True, kw_only=True)
class StructureMatch(Record):
    """The nearest training structure of a generated one: transformed, then shifted by (rows, columns)."""

    generated_index: Index
    training_index: Index
    transformation: str
    shift: tuple[Signed, Signed]
    mse: Number


@dataclass(frozen=True, kw_only=True)
class CropMatch(Record):
    """The nearest crop of a generated structure, by its place in the transformed micrograph."""

    generated_index: Index
    transformation: str
    micrograph: Index
    row: Index
    column: Index
    rotated_180: bool
    mse: Number


@dataclass(frozen=True, kw_only=True)
class SearchCounts(Record):
    """Number of generated structures, and of training structures or positions of crops."""

    generated: Index
    training: Index


@dataclass(frozen=True, kw_only=True)
class NearestFigures(Record):
    """The part of `NearestTraining` that a model carries."""

    minimum_mse: Number | None
    n_exact_copies: Index | None
    independent_mse: Number
    held_out_minimum_mse: Number | None


@dataclass(frozen=True, kw_only=True)
class NearestTraining(NearestFigures):
    """Distances of generated structures to the training data, pixel MSE."""

    median_mse: Number | None
    generated_index: Index | None
    training_index: Index | None
    n_images: SearchCounts
    compared_with: str | None
    closest_pairs: tuple[StructureMatch | CropMatch, ...]


@dataclass(frozen=True, kw_only=True)
class DistanceCounts(Record):
    """Number of distances of generated and of unseen real structures."""

    generated: Count
    real: Count


@dataclass(frozen=True, kw_only=True)
class DistanceHistogram(Record):
    """Shares (n,) of each set between bin edges (n + 1,)."""

    edges: tuple[Number, ...]
    generated: tuple[Share, ...]
    real: tuple[Share, ...]


@dataclass(frozen=True, kw_only=True)
class CopyingFigures(Record):
    """The part of `DataCopying` that a model carries."""

    z: Number | None
    compared_with: str | None


@dataclass(frozen=True, kw_only=True)
class DataCopying(CopyingFigures):
    """Data-copying test of Meehan et al.: z, its distances, and the reason if it is missing.

    Attributes
    ----------
    overlapping : bool or None
        Whether the unseen real structures are crops that overlap.
    n_windows : float or None
        Number of independent windows that these crops overlap in; None if they do not overlap, or it is unknown.
    n_nearer_than_any_real : int or None
        Generated structures that are nearer to the training data than any unseen real one.
    expected_nearer : float or None
        Their expected number without copies.
    nearer_p_value : float or None
        Probability that as many are nearer without copies.
    n_near_copies : int or None
        Generated structures at less than half the distance of the nearest unseen real one.
    """

    overlapping: bool | None
    n_windows: Number | None = None
    n_images: DistanceCounts | None
    median_mse: Number | None
    real_median_mse: Number | None
    n_nearer_than_any_real: Index | None
    expected_nearer: Number | None
    nearer_p_value: Share | None = None
    n_near_copies: Index | None = None
    histogram: DistanceHistogram | None
    reason: str | None


@dataclass(frozen=True, kw_only=True)
class GrainHistogram(Record):
    """Shares (n,) of each set between bin edges (n + 1,)."""

    edges: tuple[Number, ...]
    original: tuple[Share, ...]
    generated: tuple[Share, ...]


@dataclass(frozen=True, kw_only=True)
class GrainFigures(Record):
    """The part of a `GrainProperty` that a model carries: means over grains."""

    original: Number
    generated: Number


@dataclass(frozen=True, kw_only=True)
class GrainProperty(GrainFigures):
    """Distribution of a property of grains: mean, standard deviation, distances of the sets, sampling floors."""

    original_std: Number
    generated_std: Number
    held_out: Number | None = None
    held_out_std: Number | None = None
    difference: Number
    kolmogorov_smirnov: Number
    kolmogorov_smirnov_floor: Number | None
    wasserstein: Number
    wasserstein_floor: Number | None
    held_out_kolmogorov_smirnov: Number | None = None
    held_out_wasserstein: Number | None = None
    histogram: GrainHistogram


@dataclass(frozen=True, kw_only=True)
class GrainCounts(Record):
    """Number of whole grains in each set."""

    original: Index
    generated: Index
    held_out: Index | None = None


@dataclass(frozen=True, kw_only=True)
class Grains(Record):
    """Grains between boundaries of one phase: equivalent diameter, pixels, and aspect ratio."""

    boundary_phase: Index
    n_grains: GrainCounts
    reason: str | None
    diameter: GrainProperty | None
    aspect_ratio: GrainProperty | None


@dataclass(frozen=True, kw_only=True)
class PropertyHistogram(Record):
    """Shares (n,) of each set between bin edges (n + 1,)."""

    edges: tuple[Number, ...]
    original: tuple[Share, ...]
    generated: tuple[Share, ...]


@dataclass(frozen=True, kw_only=True)
class PropertyComparison(ScalarComparison):
    """A property of structures: the means as in `ScalarComparison`, and the distributions.

    Attributes
    ----------
    wasserstein : float
        Distance of the distributions of original and generated structures.
    wasserstein_floor, wasserstein_floor_95 : float or None
        The same between sets of real structures: mean, and what 95 % are below.
    n_for_1_percent : dict of int
        For `original` and `generated`, the structures whose mean has a 95 % interval of +-1 %.
    """

    wasserstein: Number
    wasserstein_floor: Number | None
    wasserstein_floor_95: Number | None
    n_for_1_percent: dict[str, Index | None]
    histogram: PropertyHistogram


@dataclass(frozen=True, kw_only=True)
class PhaseProperties(Record):
    """Properties of structures in which one phase conducts and the others insulate.

    Attributes
    ----------
    conductivity : PropertyComparison
        Mean over the axes, in units of that of the phase.
    tortuosity_factor : PropertyComparison or None
        Volume fraction divided by conductivity, of structures that conduct along any axis; None if there are too few.
    percolating : dict of float
        For each set, the share of structures and axes along which the phase connects both faces.
    """

    conductivity: PropertyComparison
    tortuosity_factor: PropertyComparison | None
    percolating: dict[str, Share]


@dataclass(frozen=True, kw_only=True)
class Spread(Record):
    """Curves of a set over r: mean, 10th and 90th percentile, each (n,)."""

    mean: tuple[Number, ...]
    low: tuple[Number, ...]
    high: tuple[Number, ...]


@dataclass(frozen=True, kw_only=True)
class SetSpreads(Record):
    """The curves of each set; a model carries those of the original structures alone."""

    original: Spread
    generated: Spread | None = None
    held_out: Spread | None = None


@dataclass(frozen=True, kw_only=True)
class PhaseCurves(Record):
    """S2(r) and L(r) of one phase."""

    two_point_correlation: SetSpreads
    lineal_path: SetSpreads


@dataclass(frozen=True, kw_only=True)
class Curves(Record):
    """The curves of each phase over `distance` 0, 1, 2, ..., pixels; in JSON, the phases are keys beside `distance`."""

    distance: tuple[Index, ...]
    phases: dict[Phase, PhaseCurves]

    def to_dict(self) -> dict[str, Any]:
        """Return the distance and the phases in one dictionary."""
        values = super().to_dict()
        return {"distance": values["distance"], **values["phases"]}

    @classmethod
    def from_dict(cls, values: Any, *, name: str | None = None) -> Curves:
        """Rebuild from one dictionary; raises as `Record.from_dict`."""
        if isinstance(values, Mapping):
            distance: dict[str, Any] = {k: v for k, v in values.items() if k == "distance"}
            values = distance | {"phases": {k: v for k, v in values.items() if k != "distance"}}
        return super().from_dict(values, name=name)


@dataclass(frozen=True, kw_only=True)
class RequestedFigure(Record):
    """What was asked for, beside what the structures have; medians of single structures.

    Attributes
    ----------
    name : str
    asked : float
        A volume fraction; 0 for the distance from a descriptor, in percent.
    reached, unsteered : float or None
        Of the structures, and of some with the same seeds that were not steered.
    """

    name: str
    asked: Number
    reached: Number
    unsteered: Number | None = None


@dataclass(frozen=True, kw_only=True)
class Evaluation(PhaseComparison, FeatureMeasures, Mapping[str, Any]):
    """All results of `evaluate`; the names are those of metrics.json, which docs/evaluation.md explains.

    With more than two phases, each measure is that of the phase that fits worst, and `phases` has all. Access like to
    the dictionary of earlier versions is deprecated.
    """

    skips_unknown: ClassVar[bool] = True  # stored evaluations may have further facts of the run

    n_images: Counts
    n_floor_draws: Index
    n_phases: Index
    extent: tuple[Count, Count]
    periodic: bool
    verdict: Verdict | None = None
    n_windows: WindowCounts | None = None
    phases: dict[Phase, PhaseComparison] | None = None
    grey_threshold: Number | None = None
    warnings: tuple[str, ...]
    nearest_training_image: NearestTraining
    data_copying: DataCopying
    grains: Grains | None
    properties: dict[Phase, PhaseProperties] | None = None
    curves: Curves
    requested: tuple[RequestedFigure, ...] | None = None
    seconds: dict[str, Number] | None = None

    def __getitem__(self, key: str) -> Any:
        warnings.warn(
            f"evaluation[{key!r}] is deprecated; use evaluation.{key}, or evaluation.to_dict() for the dictionary",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.to_dict()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def __len__(self) -> int:
        return len(self.to_dict())
