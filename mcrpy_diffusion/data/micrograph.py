"""Reading micrographs: image files and arrays become phases or grey values, by one set of rules for one or many.

The images of a source are read together: the levels of phases are those of all images, and grey images have a common
threshold, so that an image without particles remains empty instead of being cut within its noise.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mcrpy_diffusion.data import segmentation
from mcrpy_diffusion.data.information_bar import bar_rows
from mcrpy_diffusion.data.levels import phases_of, row_blocks
from mcrpy_diffusion.data.raw_images import SUFFIXES, RawImage, image_from_array, read_file
from mcrpy_diffusion.data.reading import Example, Reading, mask_levels
from mcrpy_diffusion.data.slices import VolumeSlice, slices_of
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.io.npy_files import Budget
from mcrpy_diffusion.settings import ImageSettings, PixelSize
from mcrpy_diffusion.settings.images import MAX_PHASES, READING_FIELDS

logger = logging.getLogger(__name__)

MAX_TOTAL_BYTES = 2**32
"""Limit of all images together, checked before an image is unpacked."""
_MAX_VALUE = {"b": 1.0, "i": 2.0**53, "u": 2.0**53, "f": 1e300}  # exact integers and finite differences in float64


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
        The threshold in the file's grey values where a single one was needed; phase 1 is above it.
    sha256 : str
        `hash_phases`, equal for equal micrographs in different files.
    path : str
    pixel_size : PixelSize or None
        As given, or as stated in the file.
    reading : Reading or None
        What was done, the same for all images that were read together.
    volume_slice : VolumeSlice or None
        Position in the volume that it is a slice of.
    """

    name: str
    phases: np.ndarray
    n_phases: int
    threshold: float | None
    sha256: str
    path: str
    pixel_size: PixelSize | None = None
    reading: Reading | None = None
    volume_slice: VolumeSlice | None = None


def read_micrograph(
    path: str | os.PathLike[str], *, grey_values: bool = False, use_multiphase: bool = False, **settings: Any
) -> Micrograph:
    """Read a micrograph.

    Integers (or floats) with the levels 0 .. n - 1 and two-level masks are phases. In an image file with exactly two
    grey levels, the lower level is phase 0. Colours are converted to luminance, transparency is ignored. An image with
    more grey levels is thresholded by Otsu's method, unless `grey_values`; the threshold is logged.

    Parameters
    ----------
    path : path of a .npy, .npz, .png, .tif, .tiff, .jpg, .jpeg, .bmp or .gif file
        A .npz file contains one array, or one named `phases`.
    grey_values : bool
        Whether to keep grey values, scaled to [0, 1].
    use_multiphase : bool
        Whether to allow more than two phases.
    **settings
        Further fields of `settings.ImageSettings`: `segmentation`, `median_filter`, `crop`, `pixel_size`.

    Raises
    ------
    InputError
        If the file cannot be used.
    """
    chosen = ImageSettings(grey_values=grey_values, use_multiphase=use_multiphase).replace(**settings)
    if chosen.slices_along:
        raise InputError("slices_along must be empty for a single micrograph; read_images reads the slices of a volume")
    (micrograph,) = read_source([path], chosen, several=False)
    return micrograph


def read_images(
    paths: Sequence[str | os.PathLike[str]],
    *,
    grey_values: bool = False,
    use_multiphase: bool = False,
    **settings: Any,
) -> list[Micrograph]:
    """Read all images of files and folders.

    Parameters
    ----------
    paths : sequence of paths
        Files as in `read_micrograph`, or folders that are searched recursively in the order of file names. Each page of
        a TIFF file, array of an .npz file, and plane of a stack (N, I, J) is one image.
    grey_values, use_multiphase, **settings
        As in `read_micrograph`, and `slices_along`; grey values are scaled by a common range.

    Returns
    -------
    list of Micrograph
        All with the same number of phases.

    Raises
    ------
    InputError
        If there is no image, one cannot be read, or they are inconsistent.
    """
    chosen = ImageSettings(grey_values=grey_values, use_multiphase=use_multiphase).replace(**settings)
    return read_source(paths, chosen, several=True)


def micrograph_from_array(
    values: np.ndarray,
    *,
    name: str = "micrograph",
    grey_values: bool = False,
    use_multiphase: bool = False,
    **settings: Any,
) -> Micrograph:
    """Return the micrograph of an array (I, J), as `read_micrograph` reads it from a .npy file; raises likewise."""
    chosen = ImageSettings(grey_values=grey_values, use_multiphase=use_multiphase).replace(**settings)
    (micrograph,) = micrographs_from_array(values, chosen, name=name)
    return micrograph


def micrographs_from_array(values: np.ndarray, settings: ImageSettings, *, name: str) -> list[Micrograph]:
    """Return the micrograph of an array (I, J), or with `slices_along` the slices of an array (I, J, K)."""
    values = np.asarray(values)
    if not settings.slices_along:
        return _micrographs([(image_from_array(values, name), None)], settings, repr(name))
    planes = [image_from_array(plane, name) for plane in values] if values.ndim == 3 else []
    if not planes:
        raise InputError(f"with slices_along, {name!r} must have three axes, got {values.ndim}")
    return _micrographs(slices_of(planes, settings.slices_along), settings, repr(name))


def read_source(
    paths: Sequence[str | os.PathLike[str]], settings: ImageSettings, *, several: bool, any_phases: bool = False
) -> list[Micrograph]:
    """Read files as one source; see `read_images`.

    Parameters
    ----------
    paths : sequence of paths
    settings : ImageSettings
    several : bool
        Whether folders, and files of several images, are allowed.
    any_phases : bool
        Whether there may be any number of phases, whatever `use_multiphase` says.
    """
    budget = Budget("images", MAX_TOTAL_BYTES)
    along = settings.slices_along
    images: list[tuple[RawImage, VolumeSlice | None]] = []
    files = list(_files(paths) if several else map(Path, paths))
    for file in files:
        found = read_file(file, budget, several=several)
        images += slices_of(found, along) if along else [(image, None) for image in found]
    shown = repr(os.fspath(files[0])) if len(files) == 1 else f"{len(images)} images"
    return _micrographs(images, settings, shown, any_phases)


def _files(paths: Sequence[str | os.PathLike[str]]) -> Iterator[Path]:
    for path in map(Path, paths):
        if not path.exists():
            raise InputError(f"{str(path)!r} does not exist; give a file or a folder with images")
        found = sorted(f for f in path.rglob("*") if f.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
        if not found:
            raise InputError(f"{str(path)!r} must hold images ({', '.join(SUFFIXES)}), got none")
        yield from found


def _micrographs(
    images: Sequence[tuple[RawImage, VolumeSlice | None]], settings: ImageSettings, shown: str, any_phases: bool = False
) -> list[Micrograph]:
    """Return the images of a source as micrographs, and log what was done."""
    raw = [_cropped(image, settings) for image, _ in images]
    for image in raw:
        _check_values(image.values, repr(image.name))
    if settings.crop is None:
        _point_out_bars(raw)
    arrays, n_phases, reading = _read(raw, settings, shown, any_phases)
    for note in reading.notes():
        logger.info("%s", note)
    for line in reading.warnings():
        logger.warning("warning: %s", line)
    pixel_size = settings.given_pixel_size or common_pixel_size([image.pixel_size for image in raw], shown)
    if pixel_size is not None:
        logger.info("%s: pixel size %s", shown, pixel_size)
    threshold = reading.thresholds.values[0] if reading.thresholds and len(reading.thresholds.values) == 1 else None
    return [
        Micrograph(
            Path(image.name).stem,
            array,
            n_phases,
            threshold,
            hash_phases(array),
            image.name,
            pixel_size,
            reading,
            volume_slice,
        )
        for image, array, (_, volume_slice) in zip(raw, arrays, images, strict=True)
    ]


def _read(
    images: Sequence[RawImage], settings: ImageSettings, shown: str, any_phases: bool
) -> tuple[list[np.ndarray], int, Reading]:
    """Return phases or grey values, the number of phases (0 for grey values), and what was done."""
    n_inverted = sum(image.is_inverted for image in images)
    given = {name: getattr(settings, name) for name in READING_FIELDS}
    options = {name: value for name, value in given.items() if value != getattr(ImageSettings(), name)}
    options = {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}
    if settings.grey_values:
        _check_depths(images)
        reading = Reading(shown, "grey values", n_inverted=n_inverted, options=options)
        return scale_grey(_filtered(images, settings), [image.white for image in images], shown), 0, reading
    labelled = None if settings.has_own_segmentation else phases_of(images, shown)
    thresholds = example = None
    levels: dict[str, int] = {}
    if labelled is None:
        if settings.use_multiphase and not (settings.has_own_segmentation or any_phases):
            raise InputError(
                f"with --use_multiphase, {shown} must have up to {MAX_PHASES} phases 0 .. n - 1, got grey values; give "
                "--segmentation multiotsu N or thresholds, or leave --use_multiphase out for two phases"
            )
        _check_depths(images)
        grey = _filtered(images, settings)
        thresholds = _thresholds(grey, settings)
        phases, n_phases = [segmentation.apply_thresholds(v, thresholds.values) for v in grey], settings.n_classes
        method = settings.segmentation[0] if not settings.thresholds else "thresholds"
        example = Example(images[0].name, grey[0], phases[0])
    else:
        phases, n_phases = labelled
        is_numbered = all(np.array_equal(p, i.values) for p, i in zip(phases, images, strict=True))
        method, levels = ("phases", {}) if is_numbered else ("masks", mask_levels(images))
        if n_phases > 2 and not (settings.use_multiphase or any_phases):
            raise InputError(f"without --use_multiphase, {shown} must have 2 phases, got {n_phases}")
    counts = np.sum([np.bincount(array.ravel(), minlength=n_phases) for array in phases], axis=0)
    fractions = tuple((counts / counts.sum()).tolist())
    reading = Reading(shown, method, fractions, levels, thresholds, n_inverted, options, example)
    return phases, n_phases, reading


def _thresholds(images: Sequence[np.ndarray], settings: ImageSettings) -> segmentation.Thresholds:
    given = settings.thresholds
    if not given:
        multi = settings.segmentation[0] == "multiotsu"
        return segmentation.find_thresholds(images, n_classes=settings.n_classes if multi else None)
    low, high = min(v.min().item() for v in images), max(v.max().item() for v in images)
    if not low <= given[0] or not given[-1] < high:
        raise InputError(
            f"segmentation must have thresholds from {low:g} to below {high:g}, the grey values, got {given}"
        )
    return segmentation.Thresholds(given, segmentation.histogram(images, float(low), float(high)))


def _filtered(images: Sequence[RawImage], settings: ImageSettings) -> list[np.ndarray]:
    size = settings.median_filter
    return [i.values if size is None else segmentation.median_filtered(i.values, size) for i in images]


def _cropped(image: RawImage, settings: ImageSettings) -> RawImage:
    if settings.crop is None:
        return image
    rows, columns = settings.crop
    height, width = image.values.shape
    if rows > height or columns > width:
        raise InputError(f"crop must be at most {height} x {width}, the size of {image.name!r}, got {rows} x {columns}")
    return image.with_values(image.values[:rows, :columns])


def _point_out_bars(images: Sequence[RawImage]) -> None:
    """Warn of information bars, which would become part of the material."""
    found = [(image, rows) for image in images if (rows := bar_rows(image.values))]
    if found:
        image, rows = found[0]
        height, width = image.values.shape
        more = f" (and {len(found) - 1} more images)" if len(found) > 1 else ""
        logger.warning(
            "warning: the last %d rows of %r look like an information bar%s; --crop %d %d leaves them out",
            rows,
            image.name,
            more,
            height - rows,
            width,
        )


def common_pixel_size(sizes: Sequence[PixelSize | None], shown: str) -> PixelSize | None:
    """Return the pixel size that all images have; None, with a warning, if they differ."""
    first = sizes[0] if sizes else None
    if all(size is None for size in sizes):
        return None
    if first is None or not all(size is not None and size.is_close(first) for size in sizes):
        known = sorted({str(size) if size else "none" for size in sizes})
        logger.warning("warning: %s have different pixel sizes (%s), so none is used", shown, ", ".join(known[:5]))
        return None
    return first


def _check_values(values: np.ndarray, shown: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise InputError(f"{shown} must hold finite values, got NaN or infinite ones")
    low, high, limit = values.min(), values.max(), _MAX_VALUE[values.dtype.kind]
    if max(-low.item(), high.item()) > limit:
        raise InputError(f"{shown} must hold values between -{limit:.3g} and {limit:.3g}, got {low} to {high}")


def _check_depths(images: Sequence[RawImage]) -> None:
    """Raise InputError if grey images have several depths, or all pixels one value."""
    depths = {(f"{i.white:g}" if i.white else "f" if i.values.dtype.kind == "f" else "i"): i for i in images}
    if len(depths) > 1:
        found = ", ".join(f"{image.values.dtype} ({image.name})" for image in depths.values())
        raise InputError(f"grey images must have one depth, got {found}; convert them to one")
    low, high = min(i.values.min().item() for i in images), max(i.values.max().item() for i in images)
    if low == high:
        raise InputError(f"{images[0].name!r} must have at least two phases or grey levels, got only the value {low}")


def scale_grey(images: Sequence[np.ndarray], whites: Sequence[float | None], shown: str) -> list[np.ndarray]:
    """Scale images by a common range to float32 in [0, 1].

    The range is 0 to white for 8 and 16 bits, 0 to 1 if it includes all values, else the range of the values.
    """
    low, high = min(v.min().item() for v in images), max(v.max().item() for v in images)
    if whites[0] is not None and high >= MAX_PHASES:
        low, high = 0, whites[0]
    elif low >= 0 and high <= 1:
        low, high = 0, 1
    else:
        logger.info("%s: grey values %.6g .. %.6g are scaled to 0 .. 1", shown, low, high)
    scaled = [np.empty(values.shape, dtype=np.float32) for values in images]
    for values, grey in zip(images, scaled, strict=True):
        for rows, out in zip(row_blocks(values), row_blocks(grey), strict=True):
            out[:] = ((rows.astype(np.float64) - low) / (high - low)).clip(0, 1)
    return scaled


def hash_phases(phases: np.ndarray) -> str:
    """Return the SHA-256 of an array's shape, kind and values, independent of its memory layout and byte order."""
    native = np.ascontiguousarray(phases, dtype=phases.dtype.newbyteorder("<"))
    digest = hashlib.sha256(f"{native.dtype.str} {native.shape}".encode())
    digest.update(native.data)
    return digest.hexdigest()
