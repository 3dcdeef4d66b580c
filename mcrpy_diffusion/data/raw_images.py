"""Images as they are in their files: .npy and .npz arrays, and what Pillow and tifffile read.

Files may be of unknown origin: pickled objects are rejected, and sizes are checked before memory is allocated.
"""

from __future__ import annotations

import io
import math
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.grey import grey_of, luminance
from mcrpy_diffusion.data.tiff_pages import read_tiff
from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.npy_files import Budget, archive_members, check_type, read_npy
from mcrpy_diffusion.io.untrusted import open_regular
from mcrpy_diffusion.settings import PixelSize

MAX_PIXELS = 2**27
"""Limit of an image: 134 million pixels, slightly below Pillow's own limit."""
IMAGE_FORMATS = {
    ".png": "PNG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".bmp": "BMP",
    ".gif": "GIF",
}
SUFFIXES = (".npy", ".npz", *IMAGE_FORMATS)

_BYTES_PER_PIXEL = {"F": 4, "I": 4, "I;16": 2}  # of Pillow's modes; others: 1 to 4
_WHITES = {"bool": 1.0, "uint8": 255.0, "uint16": 65535.0}


@dataclass(frozen=True, eq=False)
class RawImage:
    """An image before its values are interpreted.

    Attributes
    ----------
    name : str
        Path of the file; with the number of the image in brackets if the file has several.
    values : (I, J) bool, integers or floats of up to 64 bits
        Larger values are brighter. Colours have been converted to luminance.
    white : float or None
        The value of white of unsigned integers of up to 16 bits, else None.
    is_picture : bool
        Whether it is from an image format, where two grey levels are a mask, and not an array.
    is_lossy : bool
        Whether the compression changes values, as JPEG does.
    is_inverted : bool
        Whether the file has 0 for white (TIFF's MINISWHITE), and the values were inverted.
    pixel_size : PixelSize or None
        That in the file.
    """

    name: str
    values: np.ndarray
    white: float | None = None
    is_picture: bool = False
    is_lossy: bool = False
    is_inverted: bool = False
    pixel_size: PixelSize | None = None

    def with_values(self, values: np.ndarray, name: str | None = None) -> RawImage:
        """Return a part of this image, or of its stack, under another name if one is given."""
        return replace(self, values=values, name=name or self.name)


def image_from_array(values: np.ndarray, name: str) -> RawImage:
    """Return an array (I, J) as an image; raise InputError if it is none."""
    values = np.asarray(values)
    check_type(values.dtype, repr(name))
    check_shape(values.shape, repr(name))
    return RawImage(name, values.reshape(values.shape[-2:]), white=_WHITES.get(values.dtype.name))


def read_file(file: Path, budget: Budget, *, several: bool) -> list[RawImage]:
    """Read all images of a file.

    Parameters
    ----------
    file : path
    budget : Budget
        Of the memory of all images.
    several : bool
        Whether the file may have more than one image: pages of a TIFF file, planes of an array, arrays of a .npz file.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    shown = repr(str(file))
    suffix = _check_file(file, shown)
    try:
        with open_regular(file) as stream:
            images = list(_images(stream, str(file), suffix, budget, several))
    except InputError:
        raise
    except Exception as error:  # numpy's, zlib's, Pillow's and tifffile's readers raise many kinds on broken files
        problem = "cannot be read" if getattr(error, "errno", None) else f"is not a valid {suffix} file"
        raise InputError(f"{shown} {problem}: {one_line(error)}") from error
    if not images:
        raise InputError(f"{shown} must hold images, got none")
    return images


def check_shape(shape: tuple[int, ...], shown: str, *, several: bool = False) -> None:
    """Raise InputError unless an array of this shape is an image, or with `several` a stack of images (N, I, J)."""
    size = " x ".join(map(str, shape))[:100]
    if len(shape) == 3 and shape[2] in (3, 4) and min(shape[:2]) > 4:
        raise InputError(f"{shown} must have one value for each pixel, got {size}, as of colours; convert it to grey")
    if len(shape) == 3 and not several and shape[0] != 1:
        raise InputError(
            f"{shown} must have two axes, got three ({size}); 3D is not supported here: give the images of a stack by "
            "--images, or the slices of a volume by --slices_along"
        )
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise InputError(f"{shown} must have two axes of at least one pixel, got {len(shape)} ({size})")
    if math.prod(shape[-2:]) > MAX_PIXELS:
        raise InputError(f"{shown} must have at most {MAX_PIXELS} pixels, got {size}; cut out a part")


def _check_file(file: Path, shown: str) -> str:
    """Return the suffix; raise InputError unless this is a regular, non-empty file with a known one."""
    known, suffix = ", ".join(SUFFIXES), file.suffix.lower()
    try:
        info = file.stat()
    except FileNotFoundError:
        raise InputError(f"{shown} does not exist; give an existing file ({known})") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{shown} cannot be read: {one_line(error)}") from error
    if stat.S_ISDIR(info.st_mode):
        raise InputError(f"{shown} is a folder; give one file ({known})")
    if suffix not in SUFFIXES:
        raise InputError(f"{shown} must have one of the suffixes {known}, got {suffix!r}")
    if info.st_size == 0 and stat.S_ISREG(info.st_mode):
        raise InputError(f"{shown} is empty; give a file with an image in it")
    return suffix


def _images(stream: io.BufferedReader, name: str, suffix: str, budget: Budget, several: bool) -> Iterator[RawImage]:
    shown = repr(name)

    def take(shape: tuple[int, ...], n_bytes: int) -> None:
        check_shape(shape, shown, several=several)
        budget.take(name, n_bytes)

    if suffix in (".npy", ".npz"):
        arrays = list(_arrays(stream, shown, suffix, take, several))
        planes = [plane for array in arrays for plane in (array if array.ndim == 3 else [array])]
        for k, plane in enumerate(planes):
            yield RawImage(_numbered(name, k, len(planes)), plane, white=_WHITES.get(plane.dtype.name))
    elif IMAGE_FORMATS[suffix] == "TIFF":
        pages = read_tiff(stream, shown, take, several=several)
        for k, page in enumerate(pages):
            yield RawImage(
                _numbered(name, k, len(pages)),
                page.values,
                white=page.white,
                is_picture=True,
                is_lossy=page.is_lossy,
                is_inverted=page.is_inverted,
                pixel_size=page.pixel_size,
            )
    else:
        yield _picture(stream, name, IMAGE_FORMATS[suffix], take)


def _numbered(name: str, k: int, n: int) -> str:
    return name if n == 1 else f"{name}[{k}]"


def _arrays(stream: io.BufferedReader, shown: str, suffix: str, take: Any, several: bool) -> Iterator[np.ndarray]:
    """Read a .npy file, or the arrays of a .npz file."""

    def check(shape: tuple[int, ...], dtype: np.dtype) -> None:
        take(shape, math.prod(shape) * dtype.itemsize)

    if suffix == ".npy":
        yield read_npy(stream, shown, os.fstat(stream.fileno()).st_size, check=check)
        return
    members = archive_members(stream, shown)
    if not several and len(members) != 1:
        if "phases" not in members:
            listed = ", ".join(sorted(members)[:8]) or "none"
            raise InputError(f"{shown} must hold one array, or one named phases, got {listed}")
        members = {"phases": members["phases"]}
    yield from (read(check) for read in members.values())


def _picture(stream: io.BufferedReader, name: str, kind: str, take: Any) -> RawImage:
    """Read a PNG, JPEG, BMP or GIF file with Pillow; colours are converted to luminance."""
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images, which are an error here
        with Image.open(stream, formats=(kind,)) as image:
            take((image.height, image.width), image.height * image.width * _BYTES_PER_PIXEL.get(image.mode, 1))
            n_frames = getattr(image, "n_frames", 1)
            if n_frames != 1 and kind != "JPEG":  # JPEGs of phones contain a preview
                raise InputError(f"{name!r} must have one frame, got {n_frames} frames")
            deep_colours = kind == "PNG" and image.mode not in ("I", "I;16") and ";16" in str(image.tile[:1])
            image.load()
            if deep_colours:  # Pillow keeps 8 bits of them
                import imagecodecs

                stream.seek(0)
                values = grey_of(np.asarray(imagecodecs.png_decode(stream.read())))
            else:
                values = luminance(ImageOps.exif_transpose(image))
    white = _WHITES.get("uint16" if values.dtype == np.int32 else values.dtype.name)
    return RawImage(name, values, white=white, is_picture=True, is_lossy=kind == "JPEG")
