"""What was done to the images of a source when they were read: recorded in the data set, and shown to the user."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mcrpy_diffusion.data.raw_images import RawImage
from mcrpy_diffusion.data.segmentation import Thresholds

FEW_PIXELS_SHARE = 1e-3
"""Phases with a smaller volume fraction are pointed out."""


@dataclass(frozen=True, eq=False)
class Example:
    """One of the images, for a picture of the segmentation: its grey values and phases, both (I, J)."""

    name: str
    grey: np.ndarray
    phases: np.ndarray


@dataclass(frozen=True, eq=False)
class Reading:
    """How images that were read together became phases or grey values.

    Attributes
    ----------
    source : str
        The file, or the number of images.
    method : str
        "phases" (levels 0 .. n - 1), "masks" (two levels in each image), "grey values", or the segmentation: "otsu",
        "multiotsu", "thresholds".
    fractions : tuple of float
        Volume fraction of each phase in all images together; empty for grey values.
    levels : mapping
        The levels of masks -> number of images.
    thresholds : Thresholds or None
        Those of a segmentation.
    n_inverted : int
        Images whose file has 0 for white.
    options : mapping
        The options of reading that were given.
    example : Example or None
        The first image, where there was a segmentation.
    """

    source: str
    method: str
    fractions: tuple[float, ...] = ()
    levels: dict[str, int] = field(default_factory=dict)
    thresholds: Thresholds | None = None
    n_inverted: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    example: Example | None = None

    @property
    def segmentation(self) -> str:
        """The thresholds and their method in words; empty if there was no segmentation."""
        if self.thresholds is None:
            return ""
        values = ", ".join(f"{value:.6g}" for value in self.thresholds.values)
        several = "s" if len(self.thresholds.values) > 1 else ""
        method = "" if self.method == "thresholds" else f" ({self.method})"
        return f"threshold{several} {values}{method}"

    def to_dict(self) -> dict[str, Any]:
        """Return the record for JSON, without empty entries."""
        found = self.thresholds
        values = {
            "source": self.source,
            "method": self.method,
            "thresholds": [] if found is None else list(found.values),
            "volume_fractions": [round(value, 6) for value in self.fractions],
            "levels": self.levels,
            "outliers_left_out": 0 if found is None else found.n_outliers,
            "inverted": self.n_inverted,
            **self.options,
        }
        return {key: value for key, value in values.items() if value not in (0, [], {}, None)}

    def notes(self) -> list[str]:
        """Return what a user should know, in a line each."""
        notes = []
        if self.thresholds is not None:
            shares = ", ".join(f"{k}: {100 * value:.3g} %" for k, value in enumerate(self.fractions))
            notes.append(f"{self.source}: grey values, {self.segmentation}; phase {shares}")
        if self.n_inverted:
            notes.append(f"{self.source}: {self.n_inverted} stored with 0 as white (MINISWHITE), inverted")
        return notes

    def warnings(self) -> list[str]:
        """Return what may be wrong, in a line each."""
        found, lines = self.thresholds, list[str]()
        if found is None:
            return lines
        if found.n_outliers:
            lines.append(
                f"{self.source}: {found.n_outliers} pixels are far darker or brighter than all others; they were left "
                "out of the histogram (--median_filter 3 removes such pixels)"
            )
        for phase, share in enumerate(self.fractions):
            if share < FEW_PIXELS_SHARE:
                lines.append(
                    f"{self.source}: phase {phase} has only {100 * share:.2g} % of the pixels; check the segmentation"
                )
        return lines


def mask_levels(images: Sequence[RawImage]) -> dict[str, int]:
    """Return the levels of masks, as text -> number of images."""
    return dict(Counter(", ".join(f"{level:g}" for level in np.unique(image.values)) for image in images))
