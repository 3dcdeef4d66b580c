"""Which images hold phases already, and which phase each of their levels is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from mcrpy_diffusion.data.raw_images import RawImage
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings.images import MAX_PHASES

_BLOCK_PIXELS = 2**20
_MASKS = ((0.0, 1.0), (0.0, 255.0), (0.0, 65535.0))
"""Levels of phase 0 and 1 in every kind of file; other pairs count in image formats and as fractions alone."""


def row_blocks(values: np.ndarray) -> Iterator[np.ndarray]:
    """Yield an image in blocks of rows, which limits the memory for temporary arrays."""
    n_rows = max(_BLOCK_PIXELS // values[:1].size, 1)
    return (values[start : start + n_rows] for start in range(0, len(values), n_rows))


def few_levels(values: np.ndarray) -> np.ndarray | None:
    """Return the sorted levels of an image as float64, or None if there are more than `MAX_PHASES`."""
    found: np.ndarray = np.unique(values[:1])
    for rows in row_blocks(values):
        if len(found) <= MAX_PHASES and not np.isin(rows, found).all():
            found = np.union1d(found, rows)
        if len(found) > MAX_PHASES:
            return None
    return found.astype(np.float64)


def phases_of(images: Sequence[RawImage], shown: str) -> tuple[list[np.ndarray], int] | None:
    """Return the phases of images that hold phases already, and their number; None if they are grey images.

    Phases are the levels 0 .. n - 1 of all images together. Where they are something else, each image may be a mask:
    0 and 1, 0 and white, or any two levels in an image format, the lower one phase 0.

    Parameters
    ----------
    images : sequence of RawImage
        At least one.
    shown : str
        What messages call them.

    Returns
    -------
    phases : list of (I, J) uint8
    n_phases : int

    Raises
    ------
    InputError
        If the levels are those of neither phases nor grey values, or some images have phases and others grey values.
    """
    levels = [few_levels(image.values) for image in images]
    found = [each for each in levels if each is not None]
    union = np.unique(np.concatenate(found)) if found else np.zeros(0)
    if len(found) == len(images):
        if len(union) == 1:
            raise InputError(f"{shown} must have at least two phases or grey levels, got only the value {union[0]:g}")
        if np.array_equal(union, np.arange(len(union))):
            return [image.values.astype(np.uint8) for image in images], len(union)
    is_grey = [each is None or (image.is_lossy and len(each) > 2) for image, each in zip(images, levels, strict=True)]
    if any(is_grey):
        for image, each in zip(images, levels, strict=True):
            if each is not None and len(each) > 1 and not image.is_lossy:
                grey = images[is_grey.index(True)].name
                raise InputError(
                    f"images must be all phases or all grey images, got few levels in {image.name!r}, many in {grey!r}"
                )
        return None
    pairs = _pairs(images, found, shown)
    return [_as_mask(image, each, pairs, shown) for image, each in zip(images, found, strict=True)], 2


def _pairs(images: Sequence[RawImage], levels: Sequence[np.ndarray], shown: str) -> set[tuple[float, float]]:
    """Return the pairs of levels of the masks; raise InputError if an image is no mask, or pairs do not agree."""
    pairs = set()
    for image, found in zip(images, levels, strict=True):
        if len(found) == 1:
            continue
        pair = (float(found[0]), float(found[-1]))
        fractions = not np.array_equal(found, np.rint(found))
        if len(found) > 2 or not (pair in _MASKS or image.is_picture or fractions):
            raise _wrong_levels(repr(image.name), found)
        pairs.add(pair)
    if len(pairs) > 1 and not all(pair in _MASKS for pair in pairs):
        raise _wrong_levels(shown, np.unique(np.concatenate(levels)))
    return pairs


def _as_mask(image: RawImage, levels: np.ndarray, pairs: set[tuple[float, float]], shown: str) -> np.ndarray:
    if len(levels) == 2:
        return (image.values == image.values.dtype.type(levels[1])).astype(np.uint8)
    phases = {k for pair in pairs for k, level in enumerate(pair) if level == levels[0]}
    if len(phases) != 1:
        raise _wrong_levels(shown, np.unique([*levels, *(level for pair in pairs for level in pair)]))
    return np.full(image.values.shape, phases.pop(), dtype=np.uint8)


def _wrong_levels(shown: str, levels: np.ndarray) -> InputError:
    listed = ", ".join(f"{level:g}" for level in levels.tolist()[: MAX_PHASES + 1])
    advice = "renumber them, or use --grey_values for a grey image, or thresholds with --segmentation"
    numbered = levels[:-1] if levels[-1] in (255, 65535) else levels[1:] if levels[0] == -1 else levels[:0]
    if len(numbered) > 1 and np.array_equal(numbered, np.arange(len(numbered))):
        advice = "pixels to be ignored are not supported: cut them off with --crop, or give them a phase"
    return InputError(f"{shown} must hold phases numbered 0 .. {len(levels) - 1}, got {listed}; {advice}")
