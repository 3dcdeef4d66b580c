"""Reading a micrograph from numpy arrays or image files, as phases or grey values.

Files may be of unknown origin: pickled objects are rejected, and sizes are checked before memory is allocated.
"""

from __future__ import annotations

import hashlib
import io
import logging
import os
import stat
import warnings
from collections.abc import Iterator, Sequence
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
"""Limit of an image: 134 million pixels, slightly below Pillow's own limit."""
MAX_PHASES = 10
"""Images with more levels are grey images."""
IMAGE_FORMATS = {".png": "PNG", ".tif": "TIFF", ".tiff": "TIFF", ".jpg": "JPEG", ".jpeg": "JPEG"}
SUFFIXES = (".npy", ".npz", *IMAGE_FORMATS)

_BLOCK_PIXELS = 2**20
_N_BINS = 1024  # maximum of Otsu's histogram
_MAX_VALUE = {
    "b": 1.0,
    "i": 2.0**53,
    "u": 2.0**53,
    "f": 1e300,
}  # exact integers and finite differences in float64
_LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in Pillow's conversion to grey


@dataclass(frozen=True, eq=False)
class Micrograph:
    """A micrograph that has been read and checked.

    Attributes
    ----------
    name : str
        File name without suffix.
    phases : (I, J)
        uint8 phases 0 .. n_phases - 1, or float32 grey values in [0, 1].
    n_phases : int
        Number of phases, 0 for grey values.
    threshold : float or None
        Otsu's threshold in the file's grey values if it was needed; phase 1 is above it.
    sha256 : str
        `hash_phases`, equal for equal micrographs in different files.
    path : str
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
    """Read a micrograph.

    Integers (or floats) with the levels 0 .. n - 1 and two-level masks are phases. In an image file with exactly two
    grey levels, the lower level is phase 0. Colours are converted to luminance, transparency is ignored. An image with
    more grey levels is thresholded by Otsu's method, unless `grey_values`; the threshold is logged.

    Parameters
    ----------
    path : path of a .npy, .npz, .png, .tif, .tiff, .jpg or .jpeg file
        A .npz file contains one array, or one named `phases`.
    grey_values : bool
        Whether to keep grey values, scaled to [0, 1].
    use_multiphase : bool
        Whether to allow more than two phases.

    Raises
    ------
    InputError
        If the file cannot be used.
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
    """Return the micrograph of an array (I, J), as `read_micrograph` reads it from a .npy file; raises likewise."""
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
        (phases,), n_phases = scale_grey([values], shown), 0
    else:
        phases, n_phases, threshold = _to_phases(values, shown, is_image=is_image)
        if threshold is not None and use_multiphase:
            raise InputError(
                f"with --use_multiphase, {shown} must have up to {MAX_PHASES} phases 0 .. n - 1, got grey values; "
                "without it, the image is thresholded"
            )
        if n_phases > 2 and not use_multiphase:
            raise InputError(f"without --use_multiphase, {shown} must have 2 phases, got {n_phases}")
    if threshold is not None:
        logger.info("%s is a grey image with Otsu's threshold %.6g; phase 1 is above it", shown, threshold)
    return Micrograph(name, phases, n_phases, threshold, hash_phases(phases), path)


def hash_phases(phases: np.ndarray) -> str:
    """Return the SHA-256 of an array's shape, kind and values, independent of its memory layout and byte order."""
    native = np.ascontiguousarray(phases, dtype=phases.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{native.dtype.str} {native.shape}".encode())
    digest.update(native.data)
    return digest.hexdigest()


def otsu_threshold(values: np.ndarray) -> float:
    r"""Return the grey value that best separates an image into two classes; the upper class is above it.

    Parameters
    ----------
    values : array of integers or floats
        Finite grey values with at least two levels.

    Returns
    -------
    float
        In [min, max); the middle of the optimal thresholds if there are several.

    Notes
    -----
    The threshold maximises the variance between the classes, :math:`w_0 w_1 (\mu_1 - \mu_0)^2`. Integers with
    a range below 1024 have one bin per value, other values 1024 bins.

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
    last_below = (best[0] + best[-1]) / 2  # bin whose upper edge is the threshold
    threshold = low + last_below if exact else low + (high - low) * ((last_below + 1) / n_bins)
    return float(min(threshold, np.nextafter(float(high), float(low))))  # rounding must not leave the upper class empty


def _row_blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an image in blocks of rows, which limits the memory for temporary arrays."""
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
        raise InputError(f"{shown} must hold finite values, got NaN or infinite ones")
    low, high = values.min(), values.max()
    if low == high:
        raise InputError(f"{shown} must have at least two phases or grey levels, got only the value {low}")
    limit = _MAX_VALUE[values.dtype.kind]
    if max(-low.item(), high.item()) > limit:
        raise InputError(f"{shown} must hold values between -{limit:.3g} and {limit:.3g}, got {low} to {high}")


# --- from values to phases or grey values --------------------------------------------------------------------------


def _to_phases(values: np.ndarray, shown: str, *, is_image: bool) -> tuple[np.ndarray, int, float | None]:
    """Return uint8 phases, their number, and Otsu's threshold if it was needed."""
    levels = few_levels([values])
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


def few_levels(images: Sequence[np.ndarray]) -> np.ndarray | None:
    """Return the sorted levels of all images, or None if there are more than `MAX_PHASES`."""
    found: np.ndarray = np.unique(images[0][:1])
    for rows in (block for values in images for block in _row_blocks(values)):
        if len(found) <= MAX_PHASES and not np.isin(rows, found).all():
            found = np.union1d(found, rows)
        if len(found) > MAX_PHASES:
            return None
    return found


def scale_grey(images: Sequence[np.ndarray], shown: str) -> list[np.ndarray]:
    """Scale images by a common range to float32 in [0, 1].

    The range is 0 to white for 8 and 16 bits, 0 to 1 if it includes all values, else the range of the values.
    """
    low, high = min(v.min().item() for v in images), max(v.max().item() for v in images)
    whites = {{"uint8": 255, "uint16": 65535}.get(values.dtype.name) for values in images}
    white = whites.pop() if len(whites) == 1 else None
    if white is not None and high >= MAX_PHASES:
        low, high = 0, white
    elif low >= 0 and high <= 1:
        low, high = 0, 1
    else:
        logger.info("%s: grey values %.6g .. %.6g are scaled to 0 .. 1", shown, low, high)
    scaled = [np.empty(values.shape, dtype=np.float32) for values in images]
    for values, grey in zip(images, scaled, strict=True):
        for rows, out in zip(_row_blocks(values), _row_blocks(grey), strict=True):
            out[:] = ((rows.astype(np.float64) - low) / (high - low)).clip(0, 1)
    return scaled


# --- files ---------------------------------------------------------------------------------------------------------


def _check_shape(shape: tuple[int, ...], shown: str) -> None:
    size = " x ".join(map(str, shape))[:100]
    if len(shape) == 3:
        raise InputError(f"{shown} must have two axes, got three ({size}); 3D is not supported here")
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
    """Read an image file with Pillow; colours are converted to luminance."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images, which are an error here
        with Image.open(stream, formats=(IMAGE_FORMATS[suffix],)) as image:
            _check_shape((image.height, image.width), shown)
            n_frames = getattr(image, "n_frames", 1)
            if n_frames != 1 and image.format in ("TIFF", "PNG"):  # JPEGs of phones contain a preview
                raise InputError(f"{shown} must have one page, got {n_frames} pages; 3D is not supported here")
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
