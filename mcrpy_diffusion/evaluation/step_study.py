"""Results of a study of the number of sampling steps as typed records; sampling_steps.json is their JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mcrpy_diffusion.evaluation.results import Evaluation, Percent
from mcrpy_diffusion.io.records import Count, Number, Record

HEADINGS = {
    "eps_s2_percent": "eps_S2 %",
    "eps_l_percent": "eps_L %",
    "volume_fraction_error": "vf error",
    "frechet_distance": "Frechet",
    "precision": "precision",
    "recall": "recall",
    "seconds_per_structure": "seconds per structure",
}


@dataclass(frozen=True, kw_only=True)
class StepRow(Record):
    """Measures of one sampler and number of steps; those by features are None without a network."""

    sampler: str
    n_steps: Count
    seconds_per_structure: Number | None
    eps_s2_percent: Percent | None
    eps_l_percent: Percent | None
    volume_fraction_error: Number
    frechet_distance: Number | None
    precision: Number | None
    recall: Number | None


@dataclass(frozen=True, kw_only=True)
class StepFloors(Record):
    """Sampling floors of all rows."""

    eps_s2_percent: Percent | None
    eps_l_percent: Percent | None

    @classmethod
    def of(cls, evaluation: Evaluation) -> StepFloors:
        """Return those of an evaluation."""
        s2, lineal = evaluation.two_point_correlation, evaluation.lineal_path
        return cls(eps_s2_percent=s2.floor_percent, eps_l_percent=lineal.floor_percent)


@dataclass(frozen=True, kw_only=True)
class StepStudy(Record):
    """A study of the number of sampling steps; each row compares `n_generated` with `n_original` structures."""

    skips_unknown: ClassVar[bool] = True  # stored studies may have further facts of the run

    n_original: Count
    n_generated: Count
    features: str | None
    floor: StepFloors
    rows: tuple[StepRow, ...]

    def measured(self, *, in_all: bool = False) -> list[str]:
        """Return the names in `HEADINGS` that any row has, or all rows have."""
        enough = all if in_all else any
        return [name for name in HEADINGS if enough(getattr(row, name) is not None for row in self.rows)]
