"""Where in a micrograph the nearest crop to an image lies; `copying.nearest_crop_distance` says only how near it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import scipy.signal

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.copying import channels, energies


@dataclass(frozen=True)
class CropPlace:
    """A crop of a micrograph.

    Attributes
    ----------
    micrograph : int
        Index of the micrograph.
    row, column : int
        Its first row and column.
    rotated : bool
        Whether it is turned by 180 degrees.
    distance : float
        Mean squared pixel difference to the image; for phases the fraction of pixels that differ.
    """

    micrograph: int
    row: int
    column: int
    rotated: bool
    distance: float

    def cut(self, micrographs: Sequence[np.ndarray], extent: tuple[int, int]) -> np.ndarray:
        """Cut the crop (I, J) of this extent out of its micrograph, turned as it is to lie on the image."""
        rows, columns = slice(self.row, self.row + extent[0]), slice(self.column, self.column + extent[1])
        crop = np.asarray(micrographs[self.micrograph])[rows, columns]
        return crop[::-1, ::-1] if self.rotated else crop


def nearest_crop(image: np.ndarray, micrographs: Sequence[np.ndarray]) -> CropPlace:
    """Find the crop that is nearest to an image, at any position, also turned by 180 degrees.

    Parameters
    ----------
    image : (I, J)
        Integer phases, or float grey values.
    micrographs : sequence of (A, B)
        Of the same kind, each at least as large as the image; at least one.

    Returns
    -------
    CropPlace
        The first of the nearest ones: by micrograph, as it is before turned, then row by row.

    Notes
    -----
    sum (x - y)^2 = sum x^2 + sum y^2 - 2 sum x y at every position, the last two as correlations by FFT, block by
    block. For phases the sums are integers, and rounded to them.
    """
    sizes = [np.shape(m) for m in micrographs]
    if not sizes or any(len(s) != 2 or s[0] < np.shape(image)[0] or s[1] < np.shape(image)[1] for s in sizes):
        raise InputError(f"micrographs must be at least as large as the image, {np.shape(image)}, got {sizes}")
    x, references, scale = channels(np.asarray(image)[None], [np.asarray(m)[None] for m in micrographs])
    own, best = x[0].astype(np.float64), (np.inf, 0, False, 0, 0)
    for k, (reference,) in enumerate(references):
        y = reference.astype(np.float64)
        energy = energies(x)[0] + _correlations(y**2, np.ones_like(own))
        for rotated in (False, True):
            squares = energy - 2 * _correlations(y, own[:, ::-1, ::-1] if rotated else own)
            squares = np.rint(squares) if scale is not None else np.maximum(squares, 0)
            row, column = np.unravel_index(squares.argmin(), squares.shape)
            if squares[row, column] < best[0]:
                best = (float(squares[row, column]), k, rotated, int(row), int(column))
    square, k, rotated, row, column = best
    return CropPlace(k, row, column, rotated, square * (scale or 1) / prod(own.shape[1:]))


def _correlations(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the sums of x y at every position of x (C, I, J) in y (C, A, B)."""
    found: np.ndarray = sum(scipy.signal.oaconvolve(b, a[::-1, ::-1], mode="valid") for a, b in zip(x, y))
    return found
