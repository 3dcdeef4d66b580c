"""The part of an evaluation that a model carries with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.results import (
    Counts,
    Evaluation,
    PairCounts,
    Percent,
    Phase,
    Spread,
    with_phases_apart,
)
from mcrpy_diffusion.io.records import Count, Index, Interval, Number, Record


@dataclass(frozen=True, kw_only=True)
class FractionFigures(Record):
    """Volume fraction of `phase`, as `ScalarComparison`."""

    original: Number
    original_std: Number | None
    generated: Number
    difference: Number
    floor: Number | None
    held_out: Number | None
    held_out_difference: Number | None
    phase: Index


@dataclass(frozen=True, kw_only=True)
class CurveFigures(Record):
    """S2 or L of `phase`, as `CurveDiscrepancy`."""

    discrepancy_percent: Percent | None
    interval_percent: Interval | None
    floor_percent: Percent | None
    held_out_discrepancy_percent: Percent | None
    phase: Index


@dataclass(frozen=True, kw_only=True)
class NearestFigures(Record):
    """Distance to the training data, as `NearestTraining`."""

    minimum_mse: Number | None
    held_out_minimum_mse: Number | None
    independent_mse: Number | None
    n_exact_copies: Index | None


@dataclass(frozen=True, kw_only=True)
class CopyingFigures(Record):
    """Data-copying test, as `DataCopying`."""

    z: Number | None
    compared_with: str | None


@dataclass(frozen=True, kw_only=True)
class FeatureFigures(Record):
    """Measure by features, as `FeatureMeasure`."""

    name: str | None
    features: str | None
    value: Number | None
    interval: Interval | None
    floor: Number | None
    n_images: PairCounts | None


@dataclass(frozen=True, kw_only=True)
class GrainFigures(Record):
    """Mean equivalent diameter of the grains, pixels."""

    original: Number
    generated: Number


@dataclass(frozen=True, kw_only=True)
class Figures(Record):
    """The measures of an evaluation that a model carries."""

    n_images: Counts
    extent: tuple[Count, Count]
    periodic: bool
    volume_fraction: FractionFigures
    two_point_correlation: CurveFigures
    lineal_path: CurveFigures
    nearest_training_image: NearestFigures
    data_copying: CopyingFigures
    frechet_distance: FeatureFigures
    precision: FeatureFigures
    recall: FeatureFigures
    density: FeatureFigures
    coverage: FeatureFigures
    grain_diameter: GrainFigures | None = None


@dataclass(frozen=True, kw_only=True)
class RealSpread(Record):
    """The curves of the original structures."""

    original: Spread


@dataclass(frozen=True, kw_only=True)
class RealPhaseCurves(Record):
    """S2(r) and L(r) of one phase of the original structures."""

    two_point_correlation: RealSpread
    lineal_path: RealSpread


@dataclass(frozen=True, kw_only=True)
class RealCurves(Record):
    """S2(r) and L(r) of the original structures, r = 0, 1, 2, ... pixels; values are probabilities."""

    distance: tuple[Index, ...]
    phases: dict[Phase, RealPhaseCurves]

    def __post_init__(self) -> None:
        n = len(self.distance)
        if n < 2 or self.distance != tuple(range(n)):
            raise InputError(f"the distance of curves must be 0, 1, 2, ..., got {self.distance!r:.100}")
        if not self.phases:
            raise InputError("curves must have at least one phase")
        for phase, curves in self.phases.items():
            for spread in (curves.two_point_correlation.original, curves.lineal_path.original):
                for values in (spread.mean, spread.low, spread.high):
                    if len(values) != n or not all(0 <= value <= 1 for value in values):
                        raise InputError(f"curves of phase {phase} must have {n} values between 0 and 1")

    def to_dict(self) -> dict[str, Any]:
        """Return the distance and the phases in one dictionary."""
        values = super().to_dict()
        return {"distance": values["distance"], **values["phases"]}

    @classmethod
    def from_dict(cls, values: Any, *, name: str | None = None) -> RealCurves:
        """Rebuild from one dictionary; raises as `Record.from_dict`."""
        return super().from_dict(with_phases_apart(values), name=name)


@dataclass(frozen=True, kw_only=True)
class Statistics(Record):
    """The statistics of original structures, with which generated ones are compared if the structures are missing."""

    curves: RealCurves


def summarise(evaluation: Evaluation) -> tuple[Figures, Statistics | None]:
    """Return the figures that a model carries, and the statistics of the original structures if they have phases."""
    grains = evaluation.grains.diameter if evaluation.grains else None
    figures = evaluation.subset(Figures, grain_diameter=grains.subset(GrainFigures) if grains else None)
    if not evaluation.n_phases:
        return figures, None
    phases = {}
    for phase, found in evaluation.curves.phases.items():
        s2, lineal = (
            RealSpread(original=_rounded(m.original)) for m in (found.two_point_correlation, found.lineal_path)
        )
        phases[phase] = RealPhaseCurves(two_point_correlation=s2, lineal_path=lineal)
    return figures, Statistics(curves=RealCurves(distance=evaluation.curves.distance, phases=phases))


def _rounded(spread: Spread) -> Spread:
    return Spread(**{name: tuple(round(value, 7) for value in values) for name, values in vars(spread).items()})
