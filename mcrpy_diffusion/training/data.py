"""What a model is trained on: the images of a data set and what is known of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.data.phase_encoding import n_channels, volume_fractions
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import PixelSize

CHUNK = 4096  # images read at once, where all are needed


@dataclass(frozen=True)
class TrainingData:
    """Images to train on and what is known of them.

    `phases` (N, I, J) is an array, or anything with `shape` that gives arrays for arrays of indices.
    """

    phases: Any
    n_phases: int
    periodic: bool
    isotropic: bool
    provenance: dict[str, Any]
    pixel_size: PixelSize | None = None


def read_dataset(folder: str | os.PathLike[str]) -> TrainingData:
    """Load a complete data set.

    Raises
    ------
    InputError
        If the folder is no data set, or its generation has not finished.
    """
    dataset = Dataset.open(folder)
    if not dataset.is_complete:
        raise InputError(f"{folder}: {dataset.n_accepted} samples, not complete; run its generation again to go on")
    recipe = dataset.info["recipe"]
    n_phases = recipe.get("n_phases", 2)
    if not isinstance(n_phases, int):
        raise InputError(f"{folder}: n_phases in dataset.json must be a whole number, got {n_phases!r}")
    n_channels(n_phases)  # raises InputError where it is out of range
    flags = {k: bool(recipe.get(k, False)) for k in ("periodic", "isotropic")}
    size = dataset.info.get("pixel_size")
    pixel_size = None if size is None else PixelSize.from_dict(size)
    return TrainingData(dataset.images(), n_phases, **flags, provenance=recipe, pixel_size=pixel_size)


def all_volume_fractions(data: TrainingData) -> np.ndarray:
    """Volume fractions (N, C) of all images, looked at in chunks."""
    n = int(data.phases.shape[0])
    chunks = (data.phases[np.arange(i, min(i + CHUNK, n))] for i in range(0, n, CHUNK))
    return np.concatenate([volume_fractions(chunk, data.n_phases) for chunk in chunks])
