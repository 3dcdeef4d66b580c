"""What every plan shares: a reference, and the model that is trained on it or given."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.reference import Reference
from mcrpy_diffusion.materials.resolve import recipe
from mcrpy_diffusion.models.checkpoint import ModelInfo
from mcrpy_diffusion.models.model_card import ModelCard
from mcrpy_diffusion.runtime.console import say_error
from mcrpy_diffusion.settings import GenerationSettings, PixelSize, Settings, TrainingSettings

P = TypeVar("P", bound="ModelPlan")

MAX_LINES = 8
"""Micrographs that are listed on the console, such as the slices of a volume."""

TRAINING_DATA = {"crops": "random crops of the micrograph, not periodic", "descriptors": "MCRpy reconstructions"}


@dataclass(frozen=True, kw_only=True)
class ModelPlan(abc.ABC):
    """A reference and a model, resolved and checked before anything is written.

    Parameters
    ----------
    reference : Reference
    generation, training : settings
        Of the model that is trained; of a given one what is known.
    folder : Path
        Gets all results.
    model : Path or None
        The model that was given.
    card : ModelCard or None
        Its card.
    pixel_size : PixelSize or None
        Of the reference, else of the given model.
    n_jobs : int
    ignored : str
        Options that were given and have no effect, in one line.
    """

    reference: Reference
    generation: GenerationSettings
    training: TrainingSettings
    folder: Path
    model: Path | None = None
    card: ModelCard | None = None
    pixel_size: PixelSize | None = None
    n_jobs: int = -1
    ignored: str = ""

    @cached_property
    def split(self) -> MicrographSplit:
        """Training parts and held-out parts of the micrographs."""
        return self.reference.split(self.generation)

    def with_model(self: P, model: Path, info: ModelInfo) -> P:
        """The plan with a given model: its settings instead of those to train with.

        Raises
        ------
        InputError
            If it makes another number of phases than the reference has.
        """
        wanted = self.reference.n_phases
        if info.n_phases != wanted:
            raise InputError(f"{model} must make as many phases as the reference, {wanted}, got {info.n_phases}")
        size = self.pixel_size or info.pixel_size
        if size is not None and info.pixel_size is not None and not size.is_close(info.pixel_size):
            say_error(f"warning: the model is of pixels of {info.pixel_size}, the reference of {size}")
        generation = self.generation.replace(periodic=info.periodic)
        return replace(
            self, model=model, training=info.settings, generation=generation, card=info.card, pixel_size=size
        )

    def check_sampling_steps(self, n_steps: int) -> None:
        """Raise InputError where the model has fewer time steps."""
        most = self.training.n_timesteps
        if n_steps > most:
            raise InputError(f"the number of sampling steps must be between 1 and {most}, got {n_steps}")

    def reference_lines(self) -> list[str]:
        """The reference, for the console."""
        lines = []
        for m in self.reference.micrographs:
            phases = f"{m.n_phases} phases" if m.n_phases else "grey values"
            cut = "" if m.reading is None or m.reading.thresholds is None else f", {m.reading.segmentation}"
            size = "" if m.pixel_size is None else f", pixels of {m.pixel_size}"
            lines.append(f"  reference      {m.path}: {m.phases.shape[0]} x {m.phases.shape[1]}, {phases}{cut}{size}")
        if len(lines) > MAX_LINES:
            lines[MAX_LINES - 1 :] = [f"  reference      and {len(lines) - MAX_LINES + 1} more"]
        if self.reference.characterization is not None:
            lines.append(f"  reference      {self.reference.name}: an MCRpy characterization")
        return lines

    def model_lines(self) -> list[str]:
        """The model, or its training, for the console."""
        if self.model is not None:
            licence = [] if self.card is None else [f"  licence        {self.card.licence}; {self.card.source}"]
            return [f"  model          {self.model}", *licence]
        data, training = TRAINING_DATA[self.generation.training_data], self.training
        return [
            f"  training data  {self.generation.n_training_samples} {data}",
            f"  training       {training.n_training_steps} steps of {training.batch_size} images",
        ]

    @abc.abstractmethod
    def describe(self) -> str:
        """The resolved settings, for the console."""

    def announce(self) -> None:
        """Print the resolved settings, after a warning of options without effect."""
        if self.ignored:
            say_error(f"warning: {self.ignored}")
        print(self.describe(), flush=True)

    def to_dict(self) -> dict[str, Any]:
        """Return the resolved settings as JSON values, for the log and the report."""
        return {
            "reference": [m.path for m in self.reference.micrographs] or self.reference.name,
            "model": None if self.model is None else str(self.model),
            "pixel_size": None if self.pixel_size is None else str(self.pixel_size),
            **{f"images{k}": reading.to_dict() for k, reading in zip(("", *range(2, 10)), self.reference.readings)},
            "generation": recipe(self.generation, self.reference),
            "training": self.training.to_dict(),
        }


def given_fields(options: Mapping[str, Any], settings: type[Settings]) -> dict[str, Any]:
    """The options that are fields of these settings."""
    return {f.name: options[f.name] for f in fields(settings) if f.name in options}


def ignored_line(groups: Mapping[str, Sequence[str]]) -> str:
    """Name the flags without effect by the reason, in one line; empty where there are none."""
    reasons = [f"{', '.join(flags)}: {reason}" for reason, flags in groups.items() if flags]
    return f"{'; '.join(reasons)}; ignored" if reasons else ""
