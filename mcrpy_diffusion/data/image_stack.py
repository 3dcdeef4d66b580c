"""Reading many images as micrographs of one material: folders, multi-page TIFF, .npy and .npz stacks.

Phases and Otsu's threshold are determined from all images together. An image without particles then remains empty,
instead of being thresholded within its noise.
"""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data.micrograph import (
    IMAGE_FORMATS,
    MAX_PHASES,
    MAX_PIXELS,
    SUFFIXES,
    Micrograph,
    few_levels,
    hash_phases,
    otsu_threshold,
    scale_grey,
)
from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.npy_files import Budget, archive_members, read_npy
from mcrpy_diffusion.io.untrusted import open_regular

logger = logging.getLogger(__name__)

MAX_TOTAL_BYTES = 2**32
"""Limit of all images together, checked before an image is unpacked."""

_BYTES_PER_PIXEL = {"F": 4, "I": 4, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}  # of Pillow's modes; others: 1


def read_images(
    paths: Sequence[str | os.PathLike[str]], *, grey_values: bool = False, use_multiphase: bool = False
) -> list[Micrograph]:
    """Read all images of files and folders.

    Parameters
    ----------
    paths : sequence of paths
        Files (.npy, .npz, .png, .tif, .tiff, .jpg, .jpeg), or folders that are searched recursively in the order of
        file names. Each page of a TIFF file, array of an .npz file, and plane of a stack (N, I, J) is one image.
    grey_values, use_multiphase : bool
        As in `read_micrograph`; grey values are scaled by a common range.

    Returns
    -------
    list of Micrograph
        All with the same number of phases.

    Raises
    ------
    InputError
        If there is no image, one cannot be read, or they are inconsistent.
    """
    if grey_values and use_multiphase:
        raise InputError("grey_values and use_multiphase cannot both be given")
    budget = Budget("images", MAX_TOTAL_BYTES)
    named = [each for file in _files(paths) for each in _read(file, budget)]
    for name, values in named:
        _check(name, values)
    images = [values for _, values in named]
    threshold = None
    levels = few_levels(images)
    if levels is not None and len(levels) < 2:
        raise InputError(
            f"images must have at least two phases or grey levels, got only the value {float(levels[0]):g}"
        )
    if grey_values:
        arrays, n_phases = scale_grey(images, "images"), 0
    elif levels is not None and np.array_equal(levels, np.arange(len(levels))):
        arrays, n_phases = [values.astype(np.uint8) for values in images], len(levels)
    elif levels is not None and len(levels) == 2:
        arrays, n_phases = [(values == levels[1]).astype(np.uint8) for values in images], 2
    elif use_multiphase:
        raise InputError(
            f"with --use_multiphase, images must have up to {MAX_PHASES} phases 0 .. n - 1, got grey values"
        )
    else:
        threshold = otsu_threshold(np.concatenate([values.ravel() for values in images]))
        logger.info("%d grey images with the common Otsu threshold %.6g; phase 1 is above it", len(images), threshold)
        arrays, n_phases = [(values > threshold).astype(np.uint8) for values in images], 2
    if n_phases > 2 and not use_multiphase:
        raise InputError(f"without --use_multiphase, images must have 2 phases, got {n_phases}")
    return [
        Micrograph(Path(name).stem, array, n_phases, threshold, hash_phases(array), name)
        for (name, _), array in zip(named, arrays, strict=True)
    ]


def _files(paths: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{str(path)!r} does not exist; give a file or a folder with images")
        found = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{str(path)!r} must hold images ({', '.join(SUFFIXES)}), got none")
        yield from found


def _read(file: Path, budget: Budget) -> Iterator[tuple[str, np.ndarray]]:
    """Yield name and values of each image of a file."""
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{str(file)!r} must have one of the suffixes {', '.join(SUFFIXES)}, got {suffix!r}")
    try:
        arrays = list(_pages(file, suffix, budget) if suffix in IMAGE_FORMATS else _arrays(file, suffix, budget))
    except InputError:
        raise
    except Exception as error:  # broken files raise many kinds
        raise InputError(f"{str(file)!r} is not a valid {suffix} file: {one_line(error)}") from error
    planes = [plane for array in arrays for plane in (array if array.ndim == 3 else [array])]
    if not planes:
        raise InputError(f"{str(file)!r} must hold images, got none")
    for k, plane in enumerate(planes):
        yield (f"{file}" if len(planes) == 1 else f"{file}[{k}]"), plane


def _pages(file: Path, suffix: str, budget: Budget) -> Iterator[np.ndarray]:
    from PIL import Image, ImageSequence

    with warnings.catch_warnings(), open_regular(file) as stream:
        warnings.simplefilter("ignore")  # Pillow warns of large images, which are an error here
        with Image.open(stream, formats=(IMAGE_FORMATS[suffix],)) as image:
            for page in ImageSequence.Iterator(image):
                shape = (page.height, page.width)
                _check_size(str(file), shape)
                budget.take(str(file), math.prod(shape) * _BYTES_PER_PIXEL.get(page.mode, 1))
                yield _values(page)


def _values(page: Any) -> np.ndarray:
    """Return grey values, or the luminance (ITU-R BT.601) of colours."""
    if page.mode in ("1", "L", "F", "I") or page.mode.startswith("I;16"):
        values = np.array(page)
        return values.astype(values.dtype.newbyteorder("="))
    return np.array(page.convert("L"))


def _arrays(file: Path, suffix: str, budget: Budget) -> Iterator[np.ndarray]:
    def check(shape: tuple[int, ...], dtype: np.dtype) -> None:
        _check_size(str(file), shape)
        budget.take(str(file), math.prod(shape) * dtype.itemsize)

    with open_regular(file) as stream:
        if suffix == ".npy":
            yield read_npy(stream, repr(str(file)), os.fstat(stream.fileno()).st_size, check=check)
        else:
            yield from (read(check) for read in archive_members(stream, repr(str(file))).values())


def _check_size(name: str, shape: tuple[int, ...]) -> None:
    if len(shape) not in (2, 3) or 0 in shape:
        raise InputError(f"{name!r} must be an image (I, J) or a stack of images (N, I, J), got the shape {shape}")
    if shape[-1] * shape[-2] > MAX_PIXELS:
        raise InputError(f"{name!r} must have at most {MAX_PIXELS} pixels, got {shape[-2]} x {shape[-1]}")


def _check(name: str, values: np.ndarray) -> None:
    if values.dtype.kind not in "biuf":
        raise InputError(f"{name!r} must hold integers, bool or floats, got {values.dtype}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{name!r} must hold finite values, got NaN or infinite ones")
