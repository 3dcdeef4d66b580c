"""Split of micrographs into training parts and held-out parts for the comparison."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcrpy_diffusion.data.crops import all_crops, n_positions, random_crops, split
from mcrpy_diffusion.data.slices import VolumeSlice
from mcrpy_diffusion.settings import N_CROPS, GenerationSettings

HELD_OUT_SEED = 7919  # offset of the seed of held-out crops
USUAL_CUT = "end of the longer axis"
CUTS = {
    USUAL_CUT: {},
    "start of the longer axis": {"first": True},
    "end of the shorter axis": {"across": True},
    "start of the shorter axis": {"across": True, "first": True},
}
"""Side that is held out -> arguments of `crops.split`."""


@dataclass(frozen=True)
class MicrographSplit:
    """The training part and the held-out part of each micrograph.

    Attributes
    ----------
    training : tuple of (I, J) arrays
        Views of the micrographs.
    held_out : tuple of (I, J) arrays
        Views that do not overlap `training`. They are missing for micrographs that are too small for both parts, and
        for descriptor-based training data. Slices of a volume are divided by one plane through the volume, so that no
        voxel is in both parts.
    settings : GenerationSettings
        Extent, number and seed of the crops.
    cuts : tuple of str
        The side of each micrograph that is held out, one of `CUTS`.
    is_complete : bool
        Whether each micrograph, or the volumes, have a held-out part.
    """

    training: tuple[np.ndarray, ...]
    held_out: tuple[np.ndarray, ...]
    settings: GenerationSettings
    cuts: tuple[str, ...]
    is_complete: bool = True

    @classmethod
    def of(
        cls,
        micrographs: Sequence[np.ndarray],
        settings: GenerationSettings,
        slices: Sequence[VolumeSlice | None] = (),
    ) -> MicrographSplit:
        """Split micrographs (I, J) by `crops.split`, each so that both parts have all of its phases if possible.

        `slices` are the positions of micrographs in volumes; by default they are in none.
        """
        fraction = 0.0 if settings.training_data == "descriptors" else settings.held_out_fraction
        parts: list[tuple[np.ndarray | None, np.ndarray | None, str]] = [
            _split(m, settings.extent, fraction) if where is None else _split_slice(m, where, settings.extent, fraction)
            for m, where in zip(micrographs, slices or [None] * len(micrographs), strict=True)
        ]
        training = tuple(part for part, _, _ in parts if part is not None)
        held_out = tuple(part for _, part, _ in parts if part is not None)
        is_complete = bool(held_out) if any(slices) else len(held_out) == len(parts)
        return cls(training, held_out, settings, tuple(cut for _, _, cut in parts), is_complete)

    @property
    def is_moved(self) -> bool:
        """Whether a cut was moved so that both parts have all phases."""
        return any(cut != USUAL_CUT for cut in self.cuts)

    def missing_phases(self) -> list[str]:
        """Describe the phases that only the training parts or only the held-out parts have; empty for grey values."""
        if not self.held_out:
            return []
        training, held_out = (set().union(*map(_phases, parts)) for parts in (self.training, self.held_out))
        sides = (("held-out", held_out - training, "the model cannot learn it"), ("training", training - held_out, ""))
        return [
            f"phase {phase} is in the {side} part alone{f', {result}' if result else ''}"
            for side, missing, result in sides
            for phase in sorted(missing)
        ]

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


def _split(
    micrograph: np.ndarray, extent: tuple[int, int], fraction: float
) -> tuple[np.ndarray, np.ndarray | None, str]:
    """Split a micrograph; the cut is moved if a part would lack a phase, and stays if no other cut is better."""

    def cut(name: str) -> tuple[np.ndarray, np.ndarray | None, str]:
        return (*split(micrograph, extent=extent, held_out_fraction=fraction, **CUTS[name]), name)

    usual = cut(USUAL_CUT)
    if usual[1] is None or not _lacks(usual):
        return usual
    return min([usual, *(parts for parts in map(cut, CUTS) if parts[1] is not None)], key=_lacks)


def _split_slice(
    image: np.ndarray, where: VolumeSlice, extent: tuple[int, int], fraction: float
) -> tuple[np.ndarray | None, np.ndarray | None, str]:
    """Split a slice by the plane that divides its volume, normal to the longest axis of the volume."""
    across = int(np.argmax(where.shape))
    cut = where.shape[across] - max(*extent, round(fraction * where.shape[across]))
    if fraction == 0 or cut < max(extent):
        return image, None, USUAL_CUT
    if where.axis == across:
        return (image, None, USUAL_CUT) if where.index < cut else (None, image, USUAL_CUT)
    axis = across - (across > where.axis)
    training, held_out = np.split(image, [cut], axis=axis)
    return training, held_out, USUAL_CUT


def _lacks(parts: tuple[np.ndarray, np.ndarray | None, str]) -> int:
    """Return the number of phases that one of two parts lacks; those that the training part lacks count twice."""
    training, held_out = (set() if part is None else _phases(part) for part in parts[:2])
    return 2 * len(held_out - training) + len(training - held_out)


def _phases(part: np.ndarray) -> set[int]:
    """Return the phases of an image; none for grey values."""
    return set() if part.dtype.kind == "f" else set(np.unique(part).tolist())
