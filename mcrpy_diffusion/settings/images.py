"""Settings of reading: how image files become phases or grey values."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.base import Settings, option
from mcrpy_diffusion.settings.pixel_size import PixelSize

MAX_PHASES = 10
"""Images with more levels are grey images."""
AXES = ("x", "y", "z")
DEFAULT_SEGMENTATION = ("otsu",)
_MATERIAL, _IMAGES = "material", "images"


@dataclass(frozen=True)
class ImageSettings(Settings):
    """How the images of a source are read."""

    use_multiphase: bool = option(False, "the material has more than two phases", group=_MATERIAL)
    grey_values: bool = option(False, "keep grey values instead of phases", group=_MATERIAL)
    segmentation: tuple[str, ...] = option(
        DEFAULT_SEGMENTATION,
        "how grey images become phases: otsu (two phases), multiotsu N (N phases), or thresholds between the phases",
        group=_IMAGES,
    )
    median_filter: int | None = option(
        None,
        "edge length of a median filter on grey images, an odd number",
        unit="pixels",
        low=3,
        high=99,
        if_none="no filter",
        group=_IMAGES,
    )
    crop: tuple[int, ...] | None = option(
        None,
        "use only so many rows and columns, counted from the upper left corner",
        unit="pixels",
        low=1,
        if_none="the whole image",
        group=_IMAGES,
    )
    pixel_size: str | None = option(
        None, "edge length of a pixel, such as 12.5nm", if_none="that in the file, if any", group=_IMAGES
    )
    slices_along: tuple[str, ...] = option(
        (),
        "files hold volumes, and these are the axes normal to which their slices are used",
        choices=AXES,
        group=_IMAGES,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grey_values and self.use_multiphase:
            raise InputError("only one of grey_values and use_multiphase can be used, got both")
        if self.median_filter is not None and self.median_filter % 2 == 0:
            raise InputError(f"median_filter must be an odd number, got {self.median_filter}")
        if self.crop is not None and len(self.crop) != 2:
            raise InputError(f"crop must be the numbers of rows and columns, got {len(self.crop)} numbers")
        if len(set(self.slices_along)) < len(self.slices_along):
            raise InputError(f"slices_along must name each axis once, got {' '.join(self.slices_along)}")
        if self.pixel_size is not None:
            PixelSize.parse(self.pixel_size)
        self._check_segmentation()

    def _check_segmentation(self) -> None:
        words = self.segmentation
        if self.grey_values and self.has_own_segmentation:
            raise InputError("only one of grey_values and segmentation can be used, got both")
        if words == ("otsu",):
            return
        if words[:1] == ("multiotsu",):
            n = words[1] if len(words) == 2 else "3" if len(words) == 1 else ""
            if not n.isdecimal() or not 2 <= int(n) <= 5:
                raise InputError(f"multiotsu must have a number of phases between 2 and 5, got {' '.join(words[1:])!r}")
        elif (
            words[:1] == ("otsu",)
            or not 1 <= len(words) < MAX_PHASES
            or sorted(set(self.thresholds)) != list(self.thresholds)
        ):
            raise InputError(
                f"segmentation must be otsu, multiotsu N, or 1 to 9 increasing thresholds, got {' '.join(words)!r:.100}"
            )

    @property
    def has_own_segmentation(self) -> bool:
        """Whether another segmentation than the default was asked for."""
        return self.segmentation != DEFAULT_SEGMENTATION

    @property
    def n_classes(self) -> int:
        """Number of phases that the segmentation of a grey image makes."""
        if self.segmentation[0] == "multiotsu":
            return int(self.segmentation[1]) if len(self.segmentation) > 1 else 3
        return 2 if self.segmentation == ("otsu",) else len(self.segmentation) + 1

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The thresholds given as numbers; empty for otsu and multiotsu."""
        if self.segmentation[:1] in (("otsu",), ("multiotsu",)):
            return ()
        try:
            values = tuple(float(word) for word in self.segmentation)
        except ValueError:
            values = (math.nan,)
        if not values or not all(math.isfinite(value) for value in values):
            given = " ".join(self.segmentation)
            raise InputError(
                f"segmentation must be otsu, multiotsu N, or 1 to 9 increasing thresholds, got {given!r:.100}"
            )
        return values

    @property
    def given_pixel_size(self) -> PixelSize | None:
        """The pixel size that was given."""
        return None if self.pixel_size is None else PixelSize.parse(self.pixel_size)


READING_FIELDS = tuple(f.name for f in fields(ImageSettings) if f.name not in ("use_multiphase", "grey_values"))
"""Settings that count only while files are read: data sets are compared by what came of them."""
