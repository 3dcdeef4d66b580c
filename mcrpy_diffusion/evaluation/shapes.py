"""Measures of a phase besides S2 and L: interface, clusters, chords, single directions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mcrpy_diffusion.evaluation.results import Anisotropy, ChordComparison, Counts, CurveDiscrepancy, ScalarComparison
from mcrpy_diffusion.evaluation.sets import bootstrap_means, compare_curves, compare_scalars, has_floor
from mcrpy_diffusion.metrics.chords import chord_density, specific_surface
from mcrpy_diffusion.metrics.clusters import euler_number, number_of_clusters
from mcrpy_diffusion.metrics.directions import anisotropy
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D

DIRECTIONS = ("down", "across", "diagonal", "antidiagonal")  # names of DIRECTIONS_2D
AREA_OF_COUNTS = 10_000
"""Area in pixels that numbers of clusters and Euler numbers refer to."""

_AXES = DIRECTIONS_2D[:2]


def compare_interfaces(
    given: Mapping[str, np.ndarray],
    *,
    phase: int,
    periodic: bool,
    n_images: Counts | None = None,
    n_windows: float | None = None,
) -> dict[str, ScalarComparison]:
    """Compare interface and clusters of one phase between sets.

    Parameters
    ----------
    given : mapping
        `original` (N, A, B), `generated` (M, I, J) and, if available, `held_out` and `training`: phases.
    phase : int
        The phase that is measured.
    periodic : bool
        Whether the structures continue across their edges.
    n_images : Counts, optional
        By default, those of `given`.
    n_windows : float, optional
        As in `compare_scalars`.

    Returns
    -------
    dict of ScalarComparison
        `specific_surface` (length of the interface per area, 1 / pixel), `number_of_clusters` and `euler_number` (both
        per 10,000 pixels).

    Notes
    -----
    Edges of structures that are not periodic cut clusters, and more so in smaller extents. Larger originals are
    therefore cut into pieces of the extent of the generated structures for clusters and Euler numbers.
    """
    options: dict[str, Any] = {"phase": phase, "periodic": periodic}
    extent = given["generated"].shape[1:]
    cut = given if periodic else {name: pieces(images, extent) for name, images in given.items()}
    scale = {name: AREA_OF_COUNTS / np.prod(images.shape[1:]) for name, images in cut.items()}
    found = {
        "specific_surface": {name: specific_surface(images, **options) for name, images in given.items()},
        "number_of_clusters": {n: scale[n] * number_of_clusters(images, **options) for n, images in cut.items()},
        "euler_number": {name: scale[name] * euler_number(images, **options) for name, images in cut.items()},
    }
    counts = n_images or Counts(**{name: len(images) for name, images in given.items()})
    return {
        name: compare_scalars(values, phase=phase, n_images=counts, n_windows=n_windows)
        for name, values in found.items()
    }


def compare_chords(
    given: Mapping[str, np.ndarray], *, phase: int, periodic: bool, n_windows: float | None = None
) -> ChordComparison:
    """Compare the chords per pixel of each length along rows and columns; parameters as in `compare_interfaces`."""
    longest = min(min(images.shape[1:]) for images in given.values()) - 2
    chords = {
        name: chord_density(images, phase=phase, periodic=periodic, max_length=longest, directions=_AXES).mean(axis=1)
        for name, images in given.items()
    }
    lengths = {f"{name}_mean_length": _mean_length(curves.mean(axis=0)) for name, curves in chords.items()}
    counts = Counts(**{name: len(images) for name, images in given.items()})
    return ChordComparison(**vars(compare_curves(chords, n_windows=n_windows)) | lengths, phase=phase, n_images=counts)


def compare_directions(
    curves: Mapping[str, np.ndarray], *, n_windows: float | None = None
) -> tuple[dict[str, CurveDiscrepancy], Anisotropy]:
    """Compare the curves of each direction between sets, and the anisotropy of each set.

    Parameters
    ----------
    curves : mapping
        For each set (N, 4, r): curves of each structure along `DIRECTIONS_2D`.
    n_windows : float, optional
        As in `compare_curves`.

    Returns
    -------
    directions : dict of CurveDiscrepancy
        For each of `DIRECTIONS`.
    anisotropy : Anisotropy
        Its floor is the mean absolute difference between the anisotropies of two bootstrap sets of real structures.
    """
    directions = {
        name: compare_curves({key: values[:, k] for key, values in curves.items()}, n_windows=n_windows)
        for k, name in enumerate(DIRECTIONS)
    }
    percent = {name: _anisotropy(values.mean(axis=0)) for name, values in curves.items()}
    real, floor = curves["original"], None
    if has_floor(len(real), n_windows) and percent["original"] is not None:
        means = bootstrap_means(real, len(curves["generated"]), n_windows=n_windows)
        first, second = (anisotropy(each, directions=DIRECTIONS_2D) for each in means)
        differences = np.abs(second - first)
        differences = differences[np.isfinite(differences)]
        floor = float(differences.mean()) if len(differences) else None
    return directions, Anisotropy(**percent, floor=floor)


def pieces(images: np.ndarray, extent: tuple[int, ...]) -> np.ndarray:
    """Cut larger images (N, A, B) into pieces of an extent, side by side; smaller ones stay as they are."""
    rows, columns = (min(a, n) for a, n in zip(images.shape[1:], extent))
    n, a, b = len(images), images.shape[1] // rows, images.shape[2] // columns
    whole = images[:, : a * rows, : b * columns].reshape(n, a, rows, b, columns)
    return whole.swapaxes(2, 3).reshape(-1, rows, columns)


def _mean_length(chords: np.ndarray) -> float | None:
    """Return the mean length of chords from their numbers (n,) of length 0, 1, ...; None without any."""
    total = float(chords.sum())
    return float(chords @ np.arange(len(chords))) / total if total > 0 else None


def _anisotropy(mean: np.ndarray) -> float | None:
    value = float(anisotropy(mean, directions=DIRECTIONS_2D))
    return value if np.isfinite(value) else None
