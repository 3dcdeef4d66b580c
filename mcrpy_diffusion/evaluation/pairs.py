"""Generated structures beside the training structures that are nearest to them, figures 6 and 7 of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mcrpy_diffusion.evaluation.results import CropMatch, StructureMatch
from mcrpy_diffusion.metrics.nearest_crops import CropPlace
from mcrpy_diffusion.metrics.nearest_images import TRANSFORMATIONS

_WORDS = {
    "rotate_180": "turned by 180 degrees",
    "rotate_90": "turned by 90 degrees",
    "rotate_270": "turned by 270 degrees",
    "flip_rows": "rows mirrored",
    "flip_columns": "columns mirrored",
    "transpose": "mirrored at the diagonal",
    "anti_transpose": "mirrored at the other diagonal",
}


@dataclass(frozen=True)
class Pair:
    """A generated structure and the nearest training structure, aligned with it: (I, J) each."""

    generated_index: int
    distance: float
    generated: np.ndarray
    training: np.ndarray
    found: str

    @property
    def local_error(self) -> np.ndarray:
        """Squared difference of each pixel (I, J), figure 7 of the paper; of phases 1 if they differ, else 0."""
        if self.generated.dtype.kind == "f":
            return (self.generated.astype(np.float64) - self.training) ** 2
        return (self.generated != self.training).astype(np.float64)


def find_pairs(
    matches: Sequence[StructureMatch | CropMatch],
    generated: np.ndarray,
    *,
    training: np.ndarray | None = None,
    micrographs: Sequence[np.ndarray] | None = None,
) -> list[Pair]:
    """Return the closest pairs of an evaluation, the closest first, as in figure 6 of the paper.

    Parameters
    ----------
    matches : sequence of StructureMatch or CropMatch
        `Evaluation.nearest_training_image.closest_pairs`.
    generated, training, micrographs
        What `evaluate` was given.

    Returns
    -------
    list of Pair
        Empty without training structures and micrographs.
    """
    pairs = []
    for match in matches:
        image = generated[match.generated_index]
        if isinstance(match, CropMatch) and micrographs:
            part = TRANSFORMATIONS[match.transformation](np.asarray(micrographs[match.micrograph]))
            place = CropPlace(0, match.row, match.column, match.rotated_180, match.mse)
            reference = place.cut([part], (image.shape[0], image.shape[1]))
        elif isinstance(match, StructureMatch) and training is not None:
            transformed = TRANSFORMATIONS[match.transformation](training[match.training_index])
            reference = np.roll(transformed, match.shift, axis=(0, 1))
        else:
            continue
        pairs.append(Pair(match.generated_index, match.mse, image, reference, describe(match)))
    return pairs


def describe(match: StructureMatch | CropMatch) -> str:
    """Return which training structure was found, and how it was transformed to match the generated one."""
    words = [] if match.transformation == "identity" else [_WORDS[match.transformation]]
    if isinstance(match, CropMatch):
        words += [_WORDS["rotate_180"]] if match.rotated_180 else []
        start = f"micrograph {match.micrograph} at row {match.row}, column {match.column}"
    else:
        words += ["shifted by {}, {}".format(*match.shift)] if any(match.shift) else []
        start = f"training structure {match.training_index}"
    return ", ".join([start, *words])
