"""What the spatial statistics share: indicators of a phase, blocks of images, autocorrelation by FFT, directions.

Arrays are (..., I, J), or (..., I, J, K) with three dimensions; leading axes are independent structures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import scipy.fft

from mcrpy_diffusion.errors import InputError

BLOCK_PIXELS = 2**19  # images are worked on in blocks of about this many pixels, which stay in the cache


def indicator_of(phases: np.ndarray, phase: int, n_dims: int) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return where the phase is, (N, I, J) bool, and the shape of the leading axes."""
    values = np.asarray(phases)
    check_dims(values, n_dims)
    if values.dtype.kind not in "biu":
        raise InputError(f"phases must be integers or bool, got {values.dtype}")
    return (values == phase).reshape(-1, *values.shape[-n_dims:]), values.shape[:-n_dims]


def check_dims(values: np.ndarray, n_dims: int) -> None:
    """Refuse an array that has not `n_dims` axes of space, or no pixels."""
    if n_dims not in (2, 3):
        raise InputError(f"n_dims must be 2 or 3, got {n_dims!r}")
    if values.ndim < n_dims or 0 in values.shape[-n_dims:]:
        raise InputError(
            f"the array must have the shape (..., {'I, J' if n_dims == 2 else 'I, J, K'}), got {values.shape}"
        )


def check_directions(directions: Sequence[tuple[int, ...]], n_dims: int) -> tuple[tuple[int, ...], ...]:
    """Return the steps with their first component above zero; refuse steps other than to one of the neighbours."""
    steps = tuple(tuple(step) for step in directions)
    for step in steps:
        if len(step) != n_dims or not any(step) or any(d not in (-1, 0, 1) for d in step):
            raise InputError(f"a direction must be {n_dims} numbers out of -1, 0, 1, not all of them 0, got {step}")
    if not steps:
        raise InputError("directions must be at least one, got none")
    return tuple(step if next(d for d in step if d) > 0 else tuple(-d for d in step) for step in steps)


def shifted(planes: np.ndarray, sideways: Sequence[int], outside: int | None) -> np.ndarray:
    """Move every value of the planes (N, ...) by one step; what comes from outside is a value, None for periodic."""
    for axis, d in enumerate(sideways, start=1):
        if d == 0:
            continue
        planes = np.roll(planes, d, axis=axis)
        if outside is not None:
            np.moveaxis(planes, axis, 0)[0 if d > 0 else -1] = outside
    return planes


def signed_shifts(n: int) -> np.ndarray:
    """Return the shift at each index of a map's axis: 0, 1, ..., then the negative ones up to -1."""
    return np.arange(n) - n * (np.arange(n) > (n - 1) // 2)


def blocks(n: int, n_pixels: int) -> Iterator[slice]:
    """Cut n images of so many pixels into blocks."""
    length = max(BLOCK_PIXELS // n_pixels, 1)
    return (slice(start, start + length) for start in range(0, n, length))


def areas(curves: np.ndarray) -> np.ndarray:
    """Return the areas (...) under curves (..., r) by the trapezoidal rule."""
    return np.sum(curves[..., 1:] + curves[..., :-1], axis=-1) / 2


class Autocorrelation:
    """Pairs of pixels of images of one extent: counts per shift by (if not periodic, zero-padded) FFT.

    Attributes
    ----------
    size : tuple of int
        Shape of a map: the extent if periodic, else 2 n - 1 per axis. Shift zero first, negative ones at the end.
    n_pairs : (size) int64
        Number of pairs of pixels of each shift.
    n_pixels : int
        Number of pixels of a transform.
    """

    def __init__(self, extent: tuple[int, ...], *, periodic: bool) -> None:
        self._axes = tuple(range(1, len(extent) + 1))
        self._padded = extent if periodic else tuple(scipy.fft.next_fast_len(2 * n - 1, real=True) for n in extent)
        self._periodic = periodic
        self.n_pixels = prod(self._padded)
        self.size = extent if periodic else tuple(2 * n - 1 for n in extent)
        self._shifts = [signed_shifts(n) for n in self.size]
        self.n_pairs = np.ones(self.size, dtype=np.int64)
        for n, d in zip(extent, np.ix_(*self._shifts), strict=True):
            self.n_pairs *= n if periodic else n - np.abs(d)

    def power(self, indicator: np.ndarray) -> np.ndarray:
        """Return the squared absolute spectra of images (N, I, J)."""
        spectrum = scipy.fft.rfftn(indicator.astype(np.float64), self._padded, axes=self._axes)
        return spectrum.real**2 + spectrum.imag**2

    def counts(self, power: np.ndarray) -> np.ndarray:
        """Return the maps (N, size) of the numbers of pairs, rounded to the integers that they are."""
        counts = scipy.fft.irfftn(power, self._padded, axes=self._axes)
        for axis, d in enumerate(self._shifts, start=1):
            counts = counts if self._periodic else counts.take(d, axis=axis, mode="wrap")
        return np.rint(counts)
