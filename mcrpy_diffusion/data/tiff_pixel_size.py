"""The pixel size that a TIFF file states: ImageJ, OME, FEI and Zeiss microscopes, or the resolution tags.

References
----------
TIFF 6.0 Specification (1992), tags 282, 283 and 296. https://docs.openmicroscopy.org/ome-model: PhysicalSizeX.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.pixel_size import METRES, PixelSize

logger = logging.getLogger(__name__)

LARGEST_FROM_RESOLUTION = 1e-5
"""Pixels of 10 micrometres and more in the resolution tags say how large to print: 2540 dpi and less."""
_WORDS = {"micron": 1e-6, "microns": 1e-6, "micrometer": 1e-6, "nanometer": 1e-9, "inch": 0.0254, r"\u00b5m": 1e-6}
_OME_SIZE = re.compile(r'PhysicalSize([XY])(Unit)?="([^"]*)"')
_OME_DEFAULT_UNIT = "µm"


def pixel_size_of(file: Any, shown: str) -> PixelSize | None:
    """Return the pixel size that an open `tifffile.TiffFile` states; None if there is none that can be used."""
    for read in (_fei, _zeiss, _ome, _imagej, _resolution):
        try:
            found = [value for value in read(file) if value is not None]
            if found:
                return _square(found, shown)
        except (InputError, ValueError, TypeError, KeyError, AttributeError, IndexError, ZeroDivisionError):
            continue  # damaged metadata state nothing
    return None


def _square(lengths: list[float], shown: str) -> PixelSize | None:
    """Return the pixel size of width and height in metres; None, with a warning, if they differ."""
    if not all(math.isclose(length, lengths[0], rel_tol=1e-2) for length in lengths):
        sizes = " x ".join(str(PixelSize(length)) for length in lengths)
        logger.warning("%s has pixels of %s, which are not square; no pixel size is used", shown, sizes)
        return None
    return PixelSize(lengths[0])


def _fei(file: Any) -> Iterator[float | None]:
    """Tags 34680 and 34682: width and height in metres."""
    sections = file.fei_metadata or {}
    for name in ("Scan", "EScan"):
        if "PixelWidth" in sections.get(name, {}):
            yield float(sections[name]["PixelWidth"])
            yield float(sections[name]["PixelHeight"])
            return


def _zeiss(file: Any) -> Iterator[float | None]:
    """Tag 34118: "Image Pixel Size" is that of the stored image; "Pixel Size" is that of the scan, which may differ."""
    found = (file.sem_metadata or {}).get("ap_image_pixel_size")
    if found:
        _, value, unit = found
        yield float(value) * _metres(unit)


def _ome(file: Any) -> Iterator[float | None]:
    description = str(file.pages[0].description)
    if "<OME" not in description[:2000]:
        return
    found = {(axis, bool(unit)): value for axis, unit, value in reversed(_OME_SIZE.findall(description))}
    for axis in ("X", "Y"):
        if (axis, False) in found:
            yield float(found[axis, False]) * _metres(found.get((axis, True), _OME_DEFAULT_UNIT))


def _imagej(file: Any) -> Iterator[float | None]:
    """Pixels per unit in the resolution tags, the unit in the description."""
    unit = (file.imagej_metadata or {}).get("unit") if file.is_imagej else None
    if unit:
        metres = _metres(str(unit))
        yield from _lengths(file, lambda _: metres)


def _resolution(file: Any) -> Iterator[float | None]:
    if file.is_imagej:
        return
    for length in _lengths(file, {2: 0.0254, 3: 0.01}.get):
        if length is None or length >= LARGEST_FROM_RESOLUTION:
            return
        yield length


def _lengths(file: Any, metres_of: Callable[[int], float | None]) -> Iterator[float | None]:
    """Yield width and height of a pixel from the tags XResolution, YResolution and ResolutionUnit."""
    tags = file.pages[0].tags
    unit = tags["ResolutionUnit"].value if "ResolutionUnit" in tags else 2
    metres = metres_of(int(unit))
    for name in ("XResolution", "YResolution"):
        if name in tags and metres is not None:
            numerator, denominator = tags[name].value
            yield metres * denominator / numerator


def _metres(unit: str) -> float:
    """Return metres per unit; raise KeyError for an unknown one, such as pixel."""
    unit = unit.strip()
    return METRES[unit] if unit in METRES else _WORDS[unit.lower()]
