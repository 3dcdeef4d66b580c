"""TIFF files: pages of any integer or float type, photometric interpretation, compression and orientation.

tifffile reads them, with imagecodecs for the compressions. Fax compressions, and colours that need a conversion, are
Pillow's.
"""

from __future__ import annotations

import contextlib
import io
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.grey import grey_of, luminance
from mcrpy_diffusion.data.tiff_pixel_size import pixel_size_of
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import PixelSize

Take = Callable[[tuple[int, ...], int], None]
"""Called with the shape and the bytes of an image before it is decoded; raises InputError if it cannot be used."""

MAX_PAGES = 2**16
_MINISWHITE, _MINISBLACK, _RGB, _PALETTE = range(4)
_FAX = (2, 3, 4)  # compressions of 1-bit images
_LOSSY = (6, 7, 33003, 33004, 33005, 33007, 34712, 34892, 34933, 34934, 50001, 50002)  # JPEG, JPEG 2000, WebP, JPEG XL
_TRANSPARENT = (1, 2)  # associated and unassociated alpha
_REDUCED, _MASK = 1, 4  # of the tag NewSubfileType
_MAX_SAMPLES = 4
_UNCOMPRESSED, _SEPARATE, _ORIENTATION = 1, 2, 274
_ORIENTED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    2: np.fliplr,
    3: lambda values: np.rot90(values, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda values: np.rot90(values, -1),
    7: lambda values: np.rot90(values, 2).T,
    8: np.rot90,
}
"""Value of the tag Orientation -> what turns the stored rows into those that are shown; 1: nothing."""


@dataclass(frozen=True, eq=False)
class TiffPage:
    """The grey values (I, J) of a page, larger ones brighter, and what is known of them; see `RawImage`."""

    values: np.ndarray
    white: float | None
    is_lossy: bool
    is_inverted: bool
    pixel_size: PixelSize | None


def read_tiff(stream: io.BufferedReader, shown: str, take: Take, *, several: bool) -> list[TiffPage]:
    """Read all pages; thumbnails and masks of transparency are left out.

    Parameters
    ----------
    stream : binary file
    shown : str
        Name of the file in messages.
    take : callable
    several : bool
        Whether there may be more than one image.

    Raises
    ------
    InputError
        If there are several images and only one may be, the images have several channels, or data are missing. The
        errors of tifffile pass through.
    """
    import tifffile

    with _quiet(), tifffile.TiffFile(stream, is_ome=False) as file:
        size = os.fstat(stream.fileno()).st_size
        numbered = list(enumerate(_directories(file)))
        pages = [(k, page) for k, page in numbered if not int(page.subfiletype) & (_REDUCED | _MASK)]
        n_images = _number_of_images(file, len(pages), shown)
        if n_images > 1 and not several:
            raise InputError(
                f"{shown} must have one image, got {n_images} pages; 3D is not supported here: give the images of a "
                "stack by --images, or the slices of a volume by --slices_along"
            )
        pixel_size = pixel_size_of(file, shown)
        images = []
        for number, page in pages:
            _check_page(page, shown, size)
            n_planes = n_images if len(pages) == 1 else 1
            _take(page, n_planes, shown, take)
            if page.compression in _FAX or page.photometric > _PALETTE:
                images.append(TiffPage(_by_pillow(stream, number), None, _is_lossy(page), False, pixel_size))
                continue
            for values in _planes(file, page, n_planes, shown, size):
                images.append(_interpreted(page, values, pixel_size))
        return images


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence tifffile's messages of damaged files, which end in an error here."""
    logger = logging.getLogger("tifffile")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _directories(file: Any) -> Iterator[Any]:
    """Yield the pages; raise ValueError where the chain of directories comes back to one of them, or has none."""
    seen: set[int] = set()
    for page in file.pages:
        if page.offset in seen or len(seen) >= MAX_PAGES:
            raise ValueError(f"its directories are circular, or more than {MAX_PAGES}")
        seen.add(page.offset)
        yield page
    if not seen:
        raise ValueError("it has no page")


def _number_of_images(file: Any, n_pages: int, shown: str) -> int:
    """Return the number of images, which ImageJ's description states where a single page stands for a stack."""
    stack = (file.imagej_metadata or {}) if file.is_imagej else {}
    n_channels = stack.get("channels", 1)
    if isinstance(n_channels, int) and n_channels > 1:
        raise InputError(f"{shown} must have one channel, got {n_channels}; save one of them")
    n = stack.get("images", 1)
    return n if n_pages == 1 and isinstance(n, int) and n > 1 else n_pages


def _check_page(page: Any, shown: str, file_size: int) -> None:
    """Raise InputError if data of a page are missing, or have a form that is not supported."""
    counts, offsets = page.databytecounts, page.dataoffsets
    if len(counts) != len(offsets) or not counts or not all(counts) or not all(offsets):
        raise InputError(f"{shown} lacks a part of its data; write the file again")
    if any(offset + count > file_size for offset, count in zip(offsets, counts, strict=True)):
        raise InputError(f"{shown} is truncated; write the file again")
    if page.dtype is None or page.dtype.kind not in "biuf" or page.dtype.itemsize > 8:
        raise InputError(f"{shown} must hold integers or floats of up to 64 bits, got samples that are neither")
    alpha = all(int(kind) in _TRANSPARENT for kind in page.extrasamples[:1]) and len(page.extrasamples) <= 1
    n_colours = page.samplesperpixel - len(page.extrasamples)
    if page.photometric in (_MINISWHITE, _MINISBLACK) and (n_colours != 1 or not alpha):
        raise InputError(f"{shown} must have one channel, got {page.samplesperpixel}; save one of them")


def _take(page: Any, n_planes: int, shown: str, take: Take) -> None:
    """Count the memory of a page; raise InputError if it is too large."""
    if page.samplesperpixel > _MAX_SAMPLES:
        raise InputError(f"{shown} must have at most {_MAX_SAMPLES} samples for each pixel, got {page.samplesperpixel}")
    n_planes *= page.imagedepth
    shape = (page.imagelength, page.imagewidth) if n_planes == 1 else (n_planes, page.imagelength, page.imagewidth)
    take(shape, math.prod(shape) * page.dtype.itemsize)


def _planes(file: Any, page: Any, n_planes: int, shown: str, file_size: int) -> list[np.ndarray]:
    """Decode a page: its samples (I, J) or (I, J, S), or those of each plane where the page stands for a stack."""
    rows, columns, samples = page.imagelength, page.imagewidth, page.samplesperpixel
    if n_planes > 1:
        n_bytes = n_planes * rows * columns * samples * page.dtype.itemsize
        if page.compression != _UNCOMPRESSED or page.dataoffsets[0] + n_bytes > file_size:
            raise InputError(f"{shown} claims {n_planes} images, but holds fewer; write the file again")
    n_planes *= page.imagedepth
    if n_planes > 1 and samples > 1:
        raise InputError(f"{shown} must have one channel, got a stack of {samples} channels; convert it to grey")
    values = np.asarray(page.asarray() if n_planes == page.imagedepth else file.series[0].asarray())
    if values.size != n_planes * rows * columns * samples:
        raise InputError(f"{shown} has {values.size} values, which do not fill its images; write the file again")
    if samples == 1:
        return list(values.reshape(n_planes, rows, columns))
    if page.planarconfig == _SEPARATE:
        return [np.moveaxis(values.reshape(samples, rows, columns), 0, -1)]
    return [values.reshape(rows, columns, samples)]


def _interpreted(page: Any, values: np.ndarray, pixel_size: PixelSize | None) -> TiffPage:
    """Return the grey values of samples, larger ones brighter, in the orientation in which the page is shown."""
    n_bits = page.bitspersample if values.dtype.kind in "bu" else 0
    white = 2.0**n_bits - 1 if 0 < n_bits <= 16 else None
    is_inverted = page.photometric == _MINISWHITE
    if page.photometric == _PALETTE:
        colours = np.moveaxis(np.asarray(page.colormap), 0, -1)
        values, white = (colours >> 8).astype(np.uint8)[values], 255.0
    if values.ndim == 3:
        values = grey_of(values)
    if is_inverted:
        values = _inverted(values, n_bits)
    tag = page.tags.get(_ORIENTATION)
    values = _ORIENTED.get(1 if tag is None else tag.value, np.asarray)(values)
    return TiffPage(np.ascontiguousarray(values), white, _is_lossy(page), is_inverted, pixel_size)


def _inverted(values: np.ndarray, n_bits: int) -> np.ndarray:
    """Exchange white and black: of 0 and 1 for floats, of the smallest and the largest value for integers."""
    if values.dtype.kind == "f":
        return np.asarray(1 - values, dtype=values.dtype)
    if values.dtype.kind == "u" and n_bits < 8 * values.dtype.itemsize:  # packed samples
        return np.asarray(2**n_bits - 1 - values, dtype=values.dtype)
    return np.invert(values)


def _is_lossy(page: Any) -> bool:
    return int(page.compression) in _LOSSY


def _by_pillow(stream: io.BufferedReader, number: int) -> np.ndarray:
    """Decode a page with Pillow, which converts colours, exchanges black and white where 0 is white, and orients."""
    from PIL import Image

    stream.seek(0)
    with Image.open(io.BytesIO(stream.read()), formats=("TIFF",)) as image:
        image.seek(number)
        image.load()
        return luminance(image)
