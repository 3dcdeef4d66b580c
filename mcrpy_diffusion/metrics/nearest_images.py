"""The nearest real image of each generated one, under shifts, turns and mirror images, in blocks on PyTorch.

Figures 6 (closest pairs) and 7 (map of the local error) of K.-H. Lee, G. J. Yun, "Microstructure reconstruction using
diffusion-based generative models" (2023), with the pixel mean squared error of its eq. (24); for phases that is the
fraction of pixels that differ. `copying_score` tests whether the distances are those of new images.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from math import prod
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.copying import EXACT_IN_FLOAT32, channels, energies

if TYPE_CHECKING:
    import torch

TRANSFORMATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "rotate_180": lambda x: x[..., ::-1, ::-1],
    "flip_rows": lambda x: x[..., ::-1, :],
    "flip_columns": lambda x: x[..., ::-1],
    "rotate_90": lambda x: np.rot90(x, 1, axes=(-2, -1)),
    "rotate_270": lambda x: np.rot90(x, -1, axes=(-2, -1)),
    "transpose": lambda x: x.swapaxes(-2, -1),
    "anti_transpose": lambda x: x[..., ::-1, ::-1].swapaxes(-2, -1),
}
"""The symmetries of the square, as functions of images (..., I, J). Turns are counter-clockwise, in degrees; flip_rows
puts the last row first. The first two keep all statistics of the project, the first four also every extent."""

_BLOCK_IMAGES = 1024  # images of each set that are compared at a time
_BLOCK_PIXELS = 2**17  # of correlations at a time: they stay in the cache


@dataclass(frozen=True)
class ImagePairs:
    """Images and their nearest references, one row per pair.

    Attributes
    ----------
    image : (K,) int64
        Index of the image.
    reference : (K,) int64
        Index of its nearest reference, the first if several are.
    distance : (K,) float64
        Mean squared pixel difference; for phases the fraction of pixels that differ, 0 (a copy) to 1.
    transformation : (K,) str
        The name of what was done to the reference, out of `TRANSFORMATIONS`, before the shift.
    shift : (K, 2) int64
        By how many rows and columns the transformed reference was then rolled, 0 or more.
    """

    image: np.ndarray
    reference: np.ndarray
    distance: np.ndarray
    transformation: np.ndarray
    shift: np.ndarray


def nearest_images(
    images: np.ndarray,
    references: np.ndarray,
    *,
    shifts: bool,
    transformations: Sequence[str] = ("identity",),
    device: str | torch.device = "cpu",
) -> ImagePairs:
    """Find the nearest reference of each image.

    Parameters
    ----------
    images : (N, I, J)
        Integer phases, or float grey values.
    references : (M, I, J)
        Images of the same kind, M at least 1.
    shifts : bool
        Whether references count under all shifts across the edges, for periodic images.
    transformations : sequence of str
        Under which turns and mirror images references count too, names out of `TRANSFORMATIONS`. Those that swap rows
        and columns need square images.
    device : str or torch.device
        Where the work is done.

    Returns
    -------
    ImagePairs
        One pair per image, in the order of the images. The distance is the minimum over references, transformations
        and shifts.

    Notes
    -----
    mean (x - y)^2 = mean x^2 + mean y^2 - 2 mean x y. The last term is a product of matrices or, for all shifts, a
    correlation by FFT per pair. In single precision for phases, where sums are integers and come out exact, in double
    precision for grey values. The memory does not grow with N M.
    """
    x, (y,), scale = channels(images, [references])
    _check(x, y, transformations)
    squares = np.full(len(x), np.inf)
    index = np.zeros(len(x), dtype=np.int64)
    for of_x, of_y, found in _squares(x, y, scale, shifts, transformations, device):
        nearest = found.argmin(axis=1)
        value = found[np.arange(len(nearest)), nearest]
        better = value < squares[of_x]
        squares[of_x] = np.where(better, value, squares[of_x])
        index[of_x] = np.where(better, nearest + of_y.start, index[of_x])
    transformation, shift = _alignments(x, y, index, scale, shifts, transformations)
    distance = squares * (scale or 1) / prod(x.shape[2:])
    return ImagePairs(np.arange(len(x)), index, distance, transformation, shift)


def closest_pairs(pairs: ImagePairs, n_pairs: int) -> ImagePairs:
    """Return the pairs with the smallest distances, the closest first, as in figure 6 of the paper.

    Each image appears once, with its nearest reference, so that one copy does not fill the figure.

    Parameters
    ----------
    pairs : ImagePairs
        Result of `nearest_images`.
    n_pairs : int
        How many pairs at most.

    Returns
    -------
    ImagePairs
    """
    if n_pairs < 1:
        raise InputError(f"n_pairs must be at least 1, got {n_pairs!r}")
    order = np.argsort(pairs.distance, kind="stable")[:n_pairs]
    return ImagePairs(*(getattr(pairs, field.name)[order] for field in fields(pairs)))


def aligned_references(pairs: ImagePairs, references: np.ndarray) -> np.ndarray:
    """Return the reference of each pair (K, I, J), transformed and shifted so that it lies on the image."""
    references = np.asarray(references)
    aligned = np.empty((len(pairs.image), *references.shape[1:]), dtype=references.dtype)
    for k, (index, name, shift) in enumerate(zip(pairs.reference, pairs.transformation, pairs.shift)):
        aligned[k] = np.roll(TRANSFORMATIONS[name](references[index]), shift, axis=(0, 1))
    return aligned


def local_error(pairs: ImagePairs, images: np.ndarray, references: np.ndarray) -> np.ndarray:
    """Return where the images of pairs differ from their references, as in figure 7 of the paper.

    Parameters
    ----------
    pairs : ImagePairs
        Of these images and references.
    images : (N, I, J)
        Integer phases, or float grey values.
    references : (M, I, J)
        Images of the same kind.

    Returns
    -------
    (K, I, J) float64
        The squared difference of each pixel; for phases 1 where they differ, else 0. The mean of a map is the distance
        of its pair.
    """
    own, aligned = np.asarray(images)[pairs.image], aligned_references(pairs, references)
    if own.dtype.kind == "f":
        return (own.astype(np.float64) - aligned) ** 2
    return (own != aligned).astype(np.float64)


def _check(x: np.ndarray, y: np.ndarray, transformations: Sequence[str]) -> None:
    extent = x.shape[2:]
    if len(y) == 0 or extent != y.shape[2:]:
        raise InputError(f"there are {len(y)} references of {y.shape[2:]}; images of {extent} need 1 or more of these")
    unknown = [name for name in transformations if name not in TRANSFORMATIONS]
    if unknown or not transformations:
        raise InputError(f"transformations must be out of {', '.join(TRANSFORMATIONS)}, got {list(transformations)}")
    swapping = [name for name in transformations if TRANSFORMATIONS[name](x[:0]).shape[2:] != extent]
    if swapping:
        raise InputError(f"images must be square for {', '.join(swapping)}, got {extent[0]} x {extent[1]}")


def _blocks(n: int) -> Iterator[slice]:
    return (slice(start, min(start + _BLOCK_IMAGES, n)) for start in range(0, n, _BLOCK_IMAGES))


def _squares(
    x: np.ndarray,
    y: np.ndarray,
    scale: float | None,
    shifts: bool,
    transformations: Sequence[str],
    device: str | torch.device,
) -> Iterator[tuple[slice, slice, np.ndarray]]:
    """Yield the smallest sums of squared differences (n, m) of each block of images and references."""
    import torch

    dtype = torch.float32 if scale is not None and prod(x.shape[1:]) <= EXACT_IN_FLOAT32 else torch.float64
    overlap_of = _shifted_overlap if shifts else _plain_overlap
    for of_y in _blocks(len(y)):
        moved = [torch.tensor(np.ascontiguousarray(TRANSFORMATIONS[t](y[of_y]))) for t in transformations]
        moved = [each.to(device, dtype) for each in moved]
        for of_x in _blocks(len(x)):
            own = torch.tensor(x[of_x]).to(device, dtype)
            overlap = torch.stack([overlap_of(own, each) for each in moved]).amax(dim=0).cpu().numpy()
            found = energies(x[of_x])[:, None] + energies(y[of_y]) - 2 * overlap.astype(np.float64)
            yield of_x, of_y, np.rint(found) if scale is not None else np.maximum(found, 0)


def _plain_overlap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the sums of x y (n, m)."""
    return x.flatten(1) @ y.flatten(1).T


def _shifted_overlap(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return the largest sums of x y (n, m) over all periodic shifts of y.

    Each of PyTorch's threads has images of its own: threads that share one small transform mostly wait for each other.
    """
    import torch

    extent = x.shape[2:]
    x_spectrum, y_spectrum = torch.fft.rfft2(x), torch.fft.rfft2(y).conj().resolve_conj()
    overlap = x.new_empty((len(x), len(y)))
    block = max(_BLOCK_PIXELS // prod(extent), 1)

    def search(i: int) -> None:
        for start in range(0, len(y), block):
            product = (x_spectrum[i] * y_spectrum[start : start + block]).sum(dim=1)
            overlap[i, start : start + block] = torch.fft.irfft2(product, s=extent).flatten(1).amax(dim=1)

    n_threads = torch.get_num_threads() if x.device.type == "cpu" else 1
    if n_threads == 1:
        for i in range(len(x)):
            search(i)
        return overlap
    try:
        with ThreadPoolExecutor(n_threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            list(pool.map(search, range(len(x))))
    finally:
        torch.set_num_threads(n_threads)  # MKL's, which all threads share
    return overlap


def _alignments(
    x: np.ndarray,
    y: np.ndarray,
    index: np.ndarray,
    scale: float | None,
    shifts: bool,
    transformations: Sequence[str],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the first transformation (N,) and shift (N, 2) that bring each reference nearest to its image."""
    names = np.full(len(x), max(transformations, key=len))
    shift = np.zeros((len(x), 2), dtype=np.int64)
    for i in range(len(x)):
        own, best = x[i].astype(np.float64), -np.inf
        for name in transformations:
            other = TRANSFORMATIONS[name](y[index[i]]).astype(np.float64)
            overlap = np.einsum("cij,cij->", own, other).reshape(1, 1)
            if shifts:
                product = scipy.fft.rfft2(own) * scipy.fft.rfft2(other).conj()
                overlap = scipy.fft.irfft2(product.sum(axis=0), own.shape[1:])
            overlap = np.rint(overlap) if scale is not None else overlap
            if overlap.max() > best:
                best, names[i] = overlap.max(), name
                shift[i] = np.unravel_index(overlap.argmax(), overlap.shape)
    return names, shift
