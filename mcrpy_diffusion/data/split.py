"""Split of micrographs into training parts and held-out parts for the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcrpy_diffusion.data.crops import all_crops, n_positions, random_crops, split
from mcrpy_diffusion.settings import N_CROPS, GenerationSettings

HELD_OUT_SEED = 7919  # offset of the seed of held-out crops


@dataclass(frozen=True)
class MicrographSplit:
    """The training part and the held-out part of each micrograph.

    Attributes
    ----------
    training : tuple of (I, J) arrays
        Views of the micrographs.
    held_out : tuple of (I, J) arrays
        Views that do not overlap `training`. They are missing for micrographs that are too small for both parts, and
        for descriptor-based training data.
    settings : GenerationSettings
        Extent, number and seed of the crops.
    """

    training: tuple[np.ndarray, ...]
    held_out: tuple[np.ndarray, ...]
    settings: GenerationSettings

    @classmethod
    def of(cls, micrographs: Sequence[np.ndarray], settings: GenerationSettings) -> MicrographSplit:
        """Split micrographs (I, J) by `crops.split`."""
        fraction = 0.0 if settings.training_data == "descriptors" else settings.held_out_fraction
        parts = [split(m, extent=settings.extent, held_out_fraction=fraction) for m in micrographs]
        return cls(tuple(one for one, _ in parts), tuple(other for _, other in parts if other is not None), settings)

    @property
    def is_complete(self) -> bool:
        """Whether each micrograph has a held-out part."""
        return len(self.held_out) == len(self.training)

    @property
    def n_positions(self) -> int:
        """Number of crop positions in the training parts."""
        return n_positions(self.training, extent=self.settings.extent)

    def training_crops(self) -> np.ndarray:
        """Return crops (n_training_samples, I, J) of the training parts."""
        extent, n = self.settings.extent, self.settings.n_training_samples
        if n == self.n_positions:
            return all_crops(self.training, extent=extent)
        return random_crops(self.training, n or N_CROPS, extent=extent, seed=self.settings.seed)

    def held_out_crops(self, n: int) -> np.ndarray | None:
        """Return crops (n, I, J) of the held-out parts; None if nothing is held out."""
        if not self.held_out:
            return None
        return random_crops(self.held_out, n, extent=self.settings.extent, seed=self.settings.seed + HELD_OUT_SEED)
