"""Distances between images and the nearest real ones, to rule out that a network copies its training data.

The distance is the pixel mean squared error, eq. (24) of K.-H. Lee, G. J. Yun, "Microstructure reconstruction using
diffusion-based generative models" (2023); for phases that is the fraction of pixels that differ. Here a copy is found
also if it is shifted (periodic images, or crops of a micrograph) or turned by 180 degrees.

These functions need NumPy and SciPy alone, for the processes that make training data. `nearest_images` does the same on
PyTorch, for many images, and says how an image was moved.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import numpy as np
import scipy.fft

from mcrpy_diffusion.errors import InputError

_BLOCK_PIXELS = 2**18  # pairs of images are worked on in blocks of about this many pixels, which stay in the cache
EXACT_IN_FLOAT32 = 2**18  # sums of so many 0s and 1s come out of a float32 FFT to better than 1/4: exact when rounded


def nearest_distance(
    images: np.ndarray, references: np.ndarray, *, periodic: bool, point_reflection: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return for each image the distance to the nearest reference, and which one it is.

    Parameters
    ----------
    images : (N, I, J)
        Integer phases, or float grey values.
    references : (M, I, J)
        Images of the same kind, M at least 1.
    periodic : bool
        Whether the minimum is taken over all shifts across the edges too.
    point_reflection : bool
        Whether the references turned by 180 degrees count too.

    Returns
    -------
    distance : (N,) float64
        Minimum over references, shifts and reflections of the mean squared pixel difference; for phases the fraction
        of pixels that differ, 0 (a copy) to 1.
    index : (N,) int64
        The nearest reference, the first if several are.

    Notes
    -----
    mean (x - y)^2 = mean x^2 + mean y^2 - 2 mean x y, and the last term, for all shifts, is a correlation by FFT.
    """
    distances = distance_matrix(images, references, periodic=periodic, point_reflection=point_reflection)
    return distances.min(axis=1), distances.argmin(axis=1)


def distance_matrix(
    images: np.ndarray, references: np.ndarray, *, periodic: bool, point_reflection: bool = True
) -> np.ndarray:
    """Return the distance (N, M) of each image to each reference; all else is as in `nearest_distance`."""
    x, (references_x,), scale = channels(images, [references])
    if len(references_x) == 0 or x.shape[2:] != references_x.shape[2:]:
        raise InputError(
            f"references have shape {references.shape}; images of shape {images.shape} need the same extent"
        )
    n_pixels = prod(x.shape[2:])
    energy = energies(x)[:, None] + energies(references_x)[None]
    single = scale is not None and prod(x.shape[1:]) <= EXACT_IN_FLOAT32
    overlap = (_shifted_overlap if periodic else _plain_overlap)(
        x, references_x, point_reflection, np.float32 if single else np.float64
    )
    squares = energy - 2 * overlap
    squares = np.rint(squares) if scale is not None else np.maximum(squares, 0)
    return squares * (scale or 1) / n_pixels


def nearest_crop_distance(
    images: np.ndarray, micrographs: Sequence[np.ndarray], *, point_reflection: bool = True
) -> np.ndarray:
    """Return for each image the distance to the nearest crop at any position of any micrograph.

    Parameters
    ----------
    images : (N, I, J)
        Integer phases, or float grey values.
    micrographs : sequence of (A, B)
        Images of the same kind, each at least I x J.
    point_reflection : bool
        Whether crops turned by 180 degrees count too.

    Returns
    -------
    (N,) float64
        Minimum over micrographs, positions and reflections of the mean squared pixel difference; for phases the
        fraction of pixels that differ, 0 (a copy) to 1.
    """
    x, y, scale = channels(images, [micrograph[None] for micrograph in micrographs])
    extent = x.shape[2:]
    if any(m.shape[2] < extent[0] or m.shape[3] < extent[1] for m in y):
        raise InputError(f"micrographs must be at least as large as the images, {extent}")
    dtype = np.float64 if scale is None else np.float32
    squares = np.full(len(x), np.inf)
    for micrograph in y:
        size = _tile_size(micrograph.shape[2:], extent)
        n_images = max(_BLOCK_PIXELS // (prod(size) * x.shape[1]), 1)
        for start in range(0, len(x), n_images):
            block = x[start : start + n_images]
            for tile in _tiles(micrograph[0], size, extent):
                nearest = _nearest_in_tile(block, tile.astype(dtype), size, point_reflection)
                squares[start : start + n_images] = np.minimum(squares[start : start + n_images], nearest)
    squares = np.rint(squares) if scale is not None else np.maximum(squares, 0)
    return squares * (scale or 1) / prod(extent)


def _nearest_in_tile(x: np.ndarray, tile: np.ndarray, size: tuple[int, int], point_reflection: bool) -> np.ndarray:
    """Return the smallest sum of squared differences (N,) of images (N, C, I, J) to any crop of a tile (C, A, B)."""
    extent = x.shape[2:]
    energy = energies(x)[:, None, None] + _window_sums((tile.astype(np.float64) ** 2).sum(axis=0), extent)
    spectrum = scipy.fft.rfft2(tile, size)
    overlap = np.full(energy.shape, -np.inf)
    for images in (x, x[:, :, ::-1, ::-1]) if point_reflection else (x,):
        product = (scipy.fft.rfft2(images.astype(tile.dtype), size).conj() * spectrum).sum(axis=1)
        correlation = scipy.fft.irfft2(product, size)
        np.maximum(overlap, correlation[:, : energy.shape[1], : energy.shape[2]], out=overlap)
    return (energy - 2 * overlap).min(axis=(1, 2))


def _tile_size(micrograph: tuple[int, ...], extent: tuple[int, ...]) -> tuple[int, int]:
    """Return the size of the transforms: tiles stay in the cache, however large the micrograph is."""
    rows, columns = (
        scipy.fft.next_fast_len(min(a, max(2 * n, 256)), real=True) for a, n in zip(micrograph, extent, strict=True)
    )
    return rows, columns


def _tiles(micrograph: np.ndarray, size: tuple[int, int], extent: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Cut a micrograph (C, A, B) into tiles of at most `size` that hold every crop of `extent` once."""
    _, n_rows, n_columns = micrograph.shape
    for row in range(0, n_rows - extent[0] + 1, size[0] - extent[0] + 1):
        for column in range(0, n_columns - extent[1] + 1, size[1] - extent[1] + 1):
            yield micrograph[:, row : row + size[0], column : column + size[1]]


def channels(images: np.ndarray, others: Sequence[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray], float | None]:
    """Return the images as channels (N, C, I, J) whose squared differences, times the scale, are wanted.

    Grey values are one float64 channel, two phases one of bool. More phases are one channel of bool each: a differing
    pixel then counts twice, hence the scale 1/2. The scale is None for grey values, whose squares are no integers.
    """
    arrays = [np.asarray(images), *map(np.asarray, others)]
    if len(arrays) < 2 or any(a.ndim != 3 or 0 in a.shape[1:] for a in arrays):
        raise InputError(f"images must be sets of one shape (N, I, J), got {[a.shape for a in arrays]}")
    grey = [a.dtype.kind == "f" for a in arrays]
    if any(grey):
        if not all(grey):
            raise InputError("images must be all phases or all grey values, got both")
        encoded = [a[:, None].astype(np.float64) for a in arrays]
        return encoded[0], encoded[1:], None
    levels = np.unique(np.concatenate([np.unique(a) for a in arrays]))
    one_hot = levels[1:] if len(levels) == 2 else levels
    encoded = [a[:, None] == one_hot[:, None, None] for a in arrays]
    return encoded[0], encoded[1:], 1.0 if len(levels) <= 2 else 0.5


def energies(x: np.ndarray) -> np.ndarray:
    """Return the sums of squares (N,) float64 of channels (N, C, I, J)."""
    if x.dtype == bool:
        return np.count_nonzero(x, axis=(1, 2, 3)).astype(np.float64)
    return np.einsum("ncij,ncij->n", x, x)


def _plain_overlap(x: np.ndarray, y: np.ndarray, point_reflection: bool, dtype: type) -> np.ndarray:
    """Return the largest sum of x y (N, M), each pair as it is and with y reflected."""
    flat: np.ndarray = x.reshape(len(x), -1).astype(dtype)
    overlap = flat @ y.reshape(len(y), -1).T.astype(dtype)
    if point_reflection:
        overlap = np.maximum(overlap, flat @ y[:, :, ::-1, ::-1].reshape(len(y), -1).T.astype(dtype))
    return overlap


def _shifted_overlap(x: np.ndarray, y: np.ndarray, point_reflection: bool, dtype: type) -> np.ndarray:
    """Return the largest sum of x y (N, M) over all periodic shifts, and with y reflected."""
    extent = x.shape[2:]
    x_spectrum, y_spectrum = scipy.fft.rfft2(x.astype(dtype)), scipy.fft.rfft2(y.astype(dtype))
    overlap = np.empty((len(x), len(y)))
    block = max(_BLOCK_PIXELS // prod(x.shape[1:]), 1)
    for i, spectrum in enumerate(x_spectrum):
        for start in range(0, len(y), block):
            others = y_spectrum[start : start + block]
            part = scipy.fft.irfft2((spectrum.conj() * others).sum(axis=1), extent).max(axis=(1, 2))
            if point_reflection:  # the reflected image has the conjugate spectrum, up to a shift
                reflected = scipy.fft.irfft2((spectrum * others).sum(axis=1), extent).max(axis=(1, 2))
                part = np.maximum(part, reflected)
            overlap[i, start : start + block] = part
    return overlap


def _window_sums(values: np.ndarray, extent: tuple[int, ...]) -> np.ndarray:
    """Return the sum of the values in the window at every position, by the summed-area table."""
    table = np.pad(values, ((1, 0), (1, 0))).cumsum(axis=0).cumsum(axis=1)
    rows, columns = extent
    return table[rows:, columns:] - table[:-rows, columns:] - table[rows:, :-columns] + table[:-rows, :-columns]
