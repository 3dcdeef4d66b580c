"""The part of an evaluation that a model carries with it."""

from __future__ import annotations

from dataclasses import dataclass

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.results import (
    CopyingFigures,
    Counts,
    CurveFigures,
    Curves,
    Evaluation,
    FeatureFigures,
    GrainFigures,
    NearestFigures,
    PhaseCurves,
    ScalarFigures,
    SetSpreads,
    Spread,
)
from mcrpy_diffusion.evaluation.statistics import CURVES
from mcrpy_diffusion.io.records import Count, Index, Record


@dataclass(frozen=True, kw_only=True)
class PhaseCurveFigures(CurveFigures):
    """S2 or L of one phase."""

    phase: Index


@dataclass(frozen=True, kw_only=True)
class Figures(Record):
    """The measures of an evaluation that a model carries."""

    n_images: Counts
    extent: tuple[Count, Count]
    periodic: bool
    volume_fraction: ScalarFigures
    two_point_correlation: PhaseCurveFigures
    lineal_path: PhaseCurveFigures
    nearest_training_image: NearestFigures
    data_copying: CopyingFigures
    frechet_distance: FeatureFigures
    precision: FeatureFigures
    recall: FeatureFigures
    density: FeatureFigures
    coverage: FeatureFigures
    grain_diameter: GrainFigures | None = None


@dataclass(frozen=True, kw_only=True)
class Statistics(Record):
    """The curves of original structures, with which generated ones are compared if the structures are missing.

    Distances are 0, 1, 2, ... pixels; values are probabilities.
    """

    curves: Curves

    def __post_init__(self) -> None:
        n = len(self.curves.distance)
        if n < 2 or self.curves.distance != tuple(range(n)):
            raise InputError(f"the distance of curves must be 0, 1, 2, ..., got {self.curves.distance!r:.100}")
        if not self.curves.phases:
            raise InputError("curves must have at least one phase")
        for phase, curves in self.curves.phases.items():
            for values in (values for measure in CURVES for values in vars(getattr(curves, measure).original).values()):
                if len(values) != n or not all(0 <= value <= 1 for value in values):
                    raise InputError(f"curves of phase {phase} must have {n} values between 0 and 1")


def summarise(evaluation: Evaluation) -> tuple[Figures, Statistics | None]:
    """Return the figures that a model carries, and the statistics of the original structures if they have phases."""
    grains = evaluation.grains.diameter if evaluation.grains else None
    figures = evaluation.subset(Figures, grain_diameter=grains.subset(GrainFigures) if grains else None)
    if not evaluation.n_phases:
        return figures, None
    phases = {
        phase: PhaseCurves(**{m: SetSpreads(original=_rounded(getattr(found, m).original)) for m in CURVES})
        for phase, found in evaluation.curves.phases.items()
    }
    return figures, Statistics(curves=Curves(distance=evaluation.curves.distance, phases=phases))


def _rounded(spread: Spread) -> Spread:
    return Spread(**{name: tuple(round(value, 7) for value in values) for name, values in vars(spread).items()})
