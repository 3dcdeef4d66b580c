"""Card of a model: provenance, measured quality and recommended sampling."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.summary import Figures, Statistics
from mcrpy_diffusion.io.records import Count, Index, Record, Share

NAME = "the model's card"


@dataclass(frozen=True)
class RecommendedSampling(Record):
    """The default sampler of a model and its number of steps."""

    sampler: str
    n_sampling_steps: Count


@dataclass(frozen=True)
class DatasetFacts(Record):
    """Facts of the training data: the rule of the seeds, versions of packages, number of structures."""

    seeds: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    n_samples: Index = 0


@dataclass(frozen=True)
class HalfPrecision(Record):
    """Share of the pixels of `n_images` structures that differ with 16-bit weights."""

    n_images: Count
    differing_pixels: Share


@dataclass(frozen=True)
class ModelCard(Record):
    """Metadata of a shared model besides its settings.

    Attributes
    ----------
    name, description : str
    source, licence : str
        Origin of the training data, and the terms of use of the model.
    commands : list of str
        The commands that made it.
    sampling : RecommendedSampling, optional
    dataset : DatasetFacts, optional
    figures : Figures, optional
        Measures of the evaluation.
    statistics : Statistics, optional
        Curves of the original structures, for comparisons with new structures.
    half_precision : HalfPrecision, optional
    limits : list of str
    """

    name: str
    description: str = ""
    source: str = ""
    licence: str = ""
    commands: list[str] = field(default_factory=list)
    sampling: RecommendedSampling | None = None
    dataset: DatasetFacts | None = None
    figures: Figures | None = None
    statistics: Statistics | None = None
    half_precision: HalfPrecision | None = None
    limits: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.statistics is not None and self.figures is None:
            raise InputError(f"{NAME} must have figures beside its statistics")

    @classmethod
    def from_dict(cls, values: Any, *, name: str | None = None) -> ModelCard:
        """Rebuild from the metadata.

        Raises
        ------
        InputError
            If it has other content than `export` writes.
        """
        if isinstance(values, Mapping):  # earlier versions wrote {} for missing entries
            values = {key: value for key, value in values.items() if value != {}}
        card = super().from_dict(values, name=name or NAME)
        card.check_name()
        return card

    def check_name(self) -> None:
        """Raise InputError if the name cannot be part of file names."""
        if not re.fullmatch(r"\w[\w .-]{0,99}", self.name):
            raise InputError(f"the name must be of letters, digits, blanks, '.', '-', '_', got {self.name[:100]!r}")
