"""Reading a user's micrograph, from numpy arrays or images, into phases or grey values.

Files may come from anyone: pickled objects are rejected, and sizes are checked before memory is allocated.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError, one_line
from mcrpy_diffusion.io.npy_files import archive_members, check_type, read_npy
from mcrpy_diffusion.io.untrusted import open_regular

logger = logging.getLogger(__name__)

MAX_PIXELS = 2**27
"""Limit of an image (134 million pixels; Pillow's own limit is a little above)."""
MAX_PHASES = 10
"""Images with more levels than this are grey images."""
IMAGE_FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG"}
SUFFIXES = (".npy", ".npz", *IMAGE_FORMATS)

_BLOCK_PIXELS = 2**20
_N_BINS = 1024  # of Otsu's histogram, where there are more grey levels than that
_MAX_VALUE = {"b": 1.0, "i": 2.0**53, "u": 2.0**53, "f": 1e300}  # float64 counts to 2^53; differences stay finite
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's own conversion to grey


@dataclass(frozen=True, eq=False)
class Micrograph:
    """A micrograph that has been read and checked.

    Attributes
    ----------
    name : str
        The file's name without its suffix.
    phases : (I, J)
        uint8 phases 0 .. n_phases - 1, or float32 grey values in [0, 1].
    n_phases : int
        Number of phases, 0 for grey values.
    threshold : float or None
        Otsu's threshold in the file's own grey values (phase 1 is above it), where one was needed.
    sha256 : str
        Hash of the phases' shape, kind and values: equal for equal micrographs, whatever file they come from.
    path : str
        The file.
    """

    name: str
    phases: np.ndarray
    n_phases: int
    threshold: float | None
    sha256: str
    path: str


def read_micrograph(
    path: str | os.PathLike[str], *, grey_values: bool = False, use_multiphase: bool = False
) -> Micrograph:
    """Read one micrograph.

    Integers (or floats) with the levels 0 .. n - 1 and two-level masks are phases; in an image file, the lower of
    exactly two grey levels is phase 0. Colours become luminance, transparency is ignored. An image with more grey
    levels is thresholded by Otsu's method, unless `grey_values`, and the threshold is logged.

    Parameters
    ----------
    path : path of a .npy, .npz, .png, .tif, .tiff, .jpg or .jpeg file
        A .npz file holds one array, or one named `phases`.
    grey_values : bool
        Keep grey values, scaled to [0, 1].
    use_multiphase : bool
        Allow more than two phases.

    Returns
    -------
    Micrograph

    Raises
    ------
    InputError
        If the file cannot be used; the message is one line that says why and what is allowed.
    """
    file = Path(path)
    shown = repr(os.fspath(path))
    suffix = file.suffix.lower()
    is_image = suffix in IMAGE_FORMATS
    _check_file(file, shown, suffix)
    try:
        with open_regular(file) as stream:
            values = (_read_image if is_image else _read_numpy)(stream, shown, suffix)
    except InputError:
        raise
    except Exception as error:  # numpy's, zlib's and Pillow's readers raise many kinds on broken files
        problem = "cannot be read" if getattr(error, "errno", None) else f"is not a valid {suffix} file"
        raise InputError(f"{shown} {problem}: {one_line(error)}") from error
    return _micrograph(values, file.stem, os.fspath(path), shown, grey_values, use_multiphase, is_image)


def micrograph_from_array(
    values: np.ndarray, *, name: str = "micrograph", grey_values: bool = False, use_multiphase: bool = False
) -> Micrograph:
    """Take a micrograph that is in memory, as a .npy file of it would be read by `read_micrograph`.

    Parameters
    ----------
    values : (I, J)
        Phases, or grey values.
    name : str
        First part of the names of results.
    grey_values, use_multiphase : bool
        See `read_micrograph`.

    Raises
    ------
    InputError
        If the array cannot be used.
    """
    values = np.asarray(values)
    check_type(values.dtype, repr(name))
    _check_shape(values.shape, repr(name))
    return _micrograph(values, name, name, repr(name), grey_values, use_multiphase, is_image=False)


def _micrograph(
    values: np.ndarray, name: str, path: str, shown: str, grey_values: bool, use_multiphase: bool, is_image: bool
) -> Micrograph:
    if grey_values and use_multiphase:
        raise InputError("grey_values and use_multiphase cannot both be given")
    _check_values(values, shown)
    threshold = None
    if grey_values:
        phases, n_phases = _scale_grey(values, shown), 0
    else:
        phases, n_phases, threshold = _to_phases(values, shown, is_image=is_image)
        if threshold is not None and use_multiphase:
            raise InputError(
                f"{shown} is a grey image, but --use_multiphase needs phases 0 .. n - 1, {MAX_PHASES} at most; without "
                "it, the image is thresholded"
            )
        if n_phases > 2 and not use_multiphase:
            raise InputError(f"{shown} has {n_phases} phases; more than 2 need --use_multiphase")
    if threshold is not None:
        logger.info("%s is a grey image: Otsu's threshold is %.6g, phase 1 is above it", shown, threshold)
    return Micrograph(name, phases, n_phases, threshold, hash_phases(phases), path)


def hash_phases(phases: np.ndarray) -> str:
    """Return the SHA-256 of an array's shape, kind and values, independent of its memory layout and byte order."""
    native = np.ascontiguousarray(phases, dtype=phases.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{native.dtype.str} {native.shape}".encode())
    digest.update(native.data)
    return digest.hexdigest()


def otsu_threshold(values: np.ndarray) -> float:
    r"""Return the grey value that best separates an image in two classes; the upper class lies above it.

    Parameters
    ----------
    values : array of integers or floats
        Finite grey values, at least two different ones.

    Returns
    -------
    float
        In [min, max). Where a range of thresholds is equally good, its middle.

    Notes
    -----
    The threshold maximises the variance between the classes, :math:`w_0 w_1 (\mu_1 - \mu_0)^2`. Integers with fewer
    than 1024 levels between minimum and maximum are sorted exactly, others into 1024 bins.

    References
    ----------
    N. Otsu, "A threshold selection method from gray-level histograms", IEEE Trans. Syst. Man Cybern. 9 (1979) 62.
    """
    low, high = values.min().item(), values.max().item()
    exact = values.dtype.kind in "biu" and high - low < _N_BINS
    n_bins = high - low + 1 if exact else _N_BINS
    counts = np.zeros(n_bins)
    for rows in _row_blocks(values):
        position = (rows.astype(np.float64) - float(low)) / (float(high) - float(low))
        bins = np.rint(position * (n_bins - 1)) if exact else np.minimum(position * n_bins, n_bins - 1)
        counts += np.bincount(bins.astype(np.intp).ravel(), minlength=n_bins)
    weight = np.cumsum(counts)[:-1] / counts.sum()
    moment = np.cumsum(counts * np.arange(n_bins))
    mean_below = moment[:-1] / (weight * counts.sum())  # the lowest bin is never empty
    mean_above = (moment[-1] - moment[:-1]) / ((1 - weight) * counts.sum())  # nor is the highest
    between = weight * (1 - weight) * (mean_above - mean_below) ** 2
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))
    last_below = (best[0] + best[-1]) / 2  # the bin; its upper edge is the threshold
    threshold = low + last_below if exact else low + (high - low) * ((last_below + 1) / n_bins)
    return float(min(threshold, np.nextafter(float(high), float(low))))  # rounding must not empty the upper class


def _row_blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an image in blocks of rows, so that large ones need no second large array."""
    n_rows = max(_BLOCK_PIXELS // values[:1].size, 1)
    return (values[start : start + n_rows] for start in range(0, len(values), n_rows))


def _check_file(file: Path, shown: str, suffix: str) -> None:
    """Raise InputError unless this is a regular, non-empty file with a known suffix."""
    known = ", ".join(SUFFIXES)
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


def _check_values(values: np.ndarray, shown: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{shown} holds NaN or infinite values; all must be finite")
    low, high = values.min(), values.max()
    if low == high:
        raise InputError(f"{shown} holds only the value {low}; at least two phases or grey levels are needed")
    limit = _MAX_VALUE[values.dtype.kind]
    if max(-low.item(), high.item()) > limit:
        raise InputError(f"{shown} must hold values between -{limit:.3g} and {limit:.3g}, got {low} to {high}")


# --- from values to phases or grey ---------------------------------------------------------------------------------


def _to_phases(values: np.ndarray, shown: str, *, is_image: bool) -> tuple[np.ndarray, int, float | None]:
    """Return uint8 phases, their number, and Otsu's threshold if the values had to be thresholded."""
    levels = _few_levels(values)
    if levels is not None and np.array_equal(levels, np.arange(len(levels))):
        return values.astype(np.uint8), len(levels), None
    if levels is not None and len(levels) == 2 and (is_image or levels.tolist() in ([0, 255], [0, 65535])):
        return (values == levels[1]).astype(np.uint8), 2, None  # a black and white mask
    if levels is not None and np.array_equal(levels, np.rint(levels)):
        listed = ", ".join(f"{level:g}" for level in levels.tolist())
        raise InputError(
            f"{shown} must hold phases numbered 0 .. {len(levels) - 1}, got {listed}; renumber them, or use "
            "--grey_values for a grey image"
        )
    threshold = otsu_threshold(values)
    phases = np.empty(values.shape, dtype=np.uint8)
    for rows, out in zip(_row_blocks(values), _row_blocks(phases), strict=True):
        out[:] = rows.astype(np.float64) > threshold
    return phases, 2, threshold


def _few_levels(values: np.ndarray) -> np.ndarray | None:
    """Return the sorted levels, or None if there are more than `MAX_PHASES`; without sorting all pixels."""
    found: np.ndarray = np.unique(values[:1])
    for rows in _row_blocks(values):
        if len(found) <= MAX_PHASES and not np.isin(rows, found).all():
            found = np.union1d(found, rows)
        if len(found) > MAX_PHASES:
            return None
    return found


def _scale_grey(values: np.ndarray, shown: str) -> np.ndarray:
    """Scale to [0, 1]: 8 and 16 bits by their white, floats in [0, 1] as they are, phases and others by their range."""
    white = {"uint8": 255, "uint16": 65535}.get(values.dtype.name)
    low, high = values.min().item(), values.max().item()
    levels = _few_levels(values)
    if white is not None and (levels is None or high >= MAX_PHASES):
        low, high = 0, white
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    else:
        logger.info("%s: grey values %.6g .. %.6g become 0 .. 1", shown, low, high)
    grey = np.empty(values.shape, dtype=np.float32)
    for rows, out in zip(_row_blocks(values), _row_blocks(grey), strict=True):
        out[:] = ((rows.astype(np.float64) - low) / (high - low)).clip(0, 1)
    return grey


# --- files ---------------------------------------------------------------------------------------------------------


def _check_shape(shape: tuple[int, ...], shown: str) -> None:
    size = " x ".join(map(str, shape))[:100]
    if len(shape) == 3:
        raise InputError(f"{shown} has three axes ({size}), but 3D is not supported; give an image (I, J)")
    if len(shape) != 2 or min(shape) < 1:
        raise InputError(f"{shown} must have two axes of at least one pixel, got {len(shape)} ({size})")
    if prod(shape) > MAX_PIXELS:
        raise InputError(f"{shown} must have at most {MAX_PIXELS} pixels, got {size}; cut out a part")


def _read_numpy(stream: io.BufferedReader, shown: str, suffix: str) -> np.ndarray:
    """Read a .npy file, or the array of a .npz file."""

    def check(shape: tuple[int, ...], _: np.dtype) -> None:
        _check_shape(shape, shown)

    if suffix == ".npy":
        return read_npy(stream, shown, os.fstat(stream.fileno()).st_size, check=check)
    members = archive_members(stream, shown)
    name = next(iter(members)) if len(members) == 1 else "phases"
    if name not in members:
        listed = ", ".join(sorted(members)[:8]) or "none"
        raise InputError(f"{shown} must hold one array, or one named phases, got {listed}")
    return members[name](check)


def _read_image(stream: io.BufferedReader, shown: str, suffix: str) -> np.ndarray:
    """Read an image file with Pillow; colours become luminance."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's warnings of large images: ours is an error
        with Image.open(stream, formats=(IMAGE_FORMATS[suffix],)) as image:
            _check_shape((image.height, image.width), shown)
            n_frames = getattr(image, "n_frames", 1)
            if n_frames != 1 and image.format in ("TIFF", "PNG"):  # phones hide a preview in their JPEGs
                raise InputError(f"{shown} has {n_frames} pages, but 3D is not supported; give one image")
            image.load()
            return _luminance(image)


def _luminance(image: Any) -> np.ndarray:
    if image.mode in ("1", "L", "F", "I") or image.mode.startswith("I;16"):
        values = np.asarray(image)
        return np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("="))
    if image.mode in ("LA", "La"):
        return np.asarray(image.convert("LA"))[..., 0].copy()
    colours = np.asarray(image.convert("RGB"))
    if (colours[..., 0] == colours[..., 1]).all() and (colours[..., 0] == colours[..., 2]).all():
        return colours[..., 0].copy()  # grey already
    luminance = sum(weight * colours[..., k] for k, weight in enumerate(_LUMINANCE))
    return np.rint(luminance).astype(np.uint8)
