"""Part of stage 4: what S2 and L do not say of a phase: interfaces, clusters, chords, directions; and grains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.sets import compare_curves, compare_scalars, draws, means_of_draws
from mcrpy_diffusion.metrics.chords import chord_density, specific_surface
from mcrpy_diffusion.metrics.clusters import euler_number, number_of_clusters
from mcrpy_diffusion.metrics.directions import anisotropy
from mcrpy_diffusion.metrics.grains import Grains, compare_distributions, mean_and_std, measure_grains
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D

SCALARS = ("specific_surface", "number_of_clusters", "euler_number")
DIRECTIONS = ("down", "across", "diagonal", "antidiagonal")  # names of DIRECTIONS_2D
GRAIN_MEASURES = ("diameter", "aspect_ratio")
PIXELS_OF_COUNTS = 10_000  # clusters and Euler numbers are given per so many pixels

_AXES = DIRECTIONS_2D[:2]


def compare_shapes(given: Mapping[str, np.ndarray], *, phase: int, periodic: bool) -> dict[str, dict[str, Any]]:
    """Compare interface, clusters and chords of one phase between sets.

    Parameters
    ----------
    given : mapping
        `original` (N, A, B), `generated` (M, I, J) and, where there are any, `held_out` and `training`: phases.
    phase : int
        The phase that is measured.
    periodic : bool
        Whether the structures continue across their edges.

    Returns
    -------
    dict
        `specific_surface` (length of the interface per area, 1 / pixel), `number_of_clusters` and `euler_number` (both
        per 10,000 pixels), see `compare_scalars`; `chord_length`, see `compare_curves`: of the chords per pixel of each
        length along rows and columns, with their mean length in each set, pixels (None where there is no chord).

    Notes
    -----
    Where structures are not periodic, edges cut clusters, the more the smaller the extent. So clusters and Euler
    numbers of originals of another extent are those of pieces of them of the generated ones' extent, side by side.
    """
    options: dict[str, Any] = {"phase": phase, "periodic": periodic}
    extent = given["generated"].shape[1:]
    pieces = given if periodic else {name: _pieces(images, extent) for name, images in given.items()}
    per_pixel = {name: PIXELS_OF_COUNTS / np.prod(images.shape[1:]) for name, images in pieces.items()}
    found = {
        "specific_surface": {name: specific_surface(images, **options) for name, images in given.items()},
        "number_of_clusters": {n: per_pixel[n] * number_of_clusters(images, **options) for n, images in pieces.items()},
        "euler_number": {name: per_pixel[name] * euler_number(images, **options) for name, images in pieces.items()},
    }
    measures: dict[str, dict[str, Any]] = {name: compare_scalars(values) for name, values in found.items()}
    longest = min(min(images.shape[1:]) for images in given.values()) - 2
    chords = {
        name: chord_density(images, **options, max_length=longest, directions=_AXES).mean(axis=1)
        for name, images in given.items()
    }
    lengths = {f"{name}_mean_length": _mean_length(curves.mean(axis=0)) for name, curves in chords.items()}
    measures["chord_length"] = compare_curves(chords) | lengths
    return measures


def compare_directions(curves: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Compare the curves of each direction between sets, and how much the directions of each set differ.

    Parameters
    ----------
    curves : mapping
        For each set (N, 4, r): curves of each structure along `DIRECTIONS_2D`.

    Returns
    -------
    dict
        `directions`: for each of `DIRECTIONS` what `compare_curves` returns. `anisotropy_percent`: for each set the
        largest difference between two directions of its mean curves, and `floor`, the mean absolute difference
        between the anisotropies of two sets of real structures in the numbers of both. None where the phase is absent.
    """
    directions = {
        name: compare_curves({key: values[:, k] for key, values in curves.items()}) for k, name in enumerate(DIRECTIONS)
    }
    percent = {name: _anisotropy(values.mean(axis=0)) for name, values in curves.items()}
    real, floor = curves["original"], None
    if len(real) > 1 and percent["original"] is not None:
        drawn = means_of_draws(real, len(curves["generated"]))
        first, second = (anisotropy(means, directions=DIRECTIONS_2D) for means in drawn)
        differences = np.abs(second - first)
        differences = differences[np.isfinite(differences)]
        floor = float(differences.mean()) if len(differences) else None
    return {"directions": directions, "anisotropy_percent": {**percent, "floor": floor}}


def compare_grains(given: Mapping[str, np.ndarray], *, boundary_phase: int, periodic: bool) -> dict[str, Any]:
    """Compare the grains between boundaries, section 3.1.2 of the paper.

    Parameters
    ----------
    given : mapping
        `original` (N, A, B), `generated` (M, I, J) and, where there are any, `held_out`: phases.
    boundary_phase : int
        The phase that boundaries are drawn in.
    periodic : bool
        Whether grains continue across the edges. If not, grains that an edge cuts are left out, and the others are
        weighted for it (`measure_grains`).

    Returns
    -------
    dict
        `n_grains` of each set; `diameter` (equivalent, pixels) and `aspect_ratio`, each with mean and standard
        deviation of each set, the Kolmogorov-Smirnov and Wasserstein distance of original and generated, of the
        held-out part and generated, the floors (mean distance between two sets of real structures in the
        numbers of both) and a histogram on common bins. `reason` where a set has no grain.

    Raises
    ------
    InputError
        If no structure has the boundary phase, so that each would be one grain.
    """
    names = [name for name in ("original", "generated", "held_out") if name in given]
    if not any((given[name] == boundary_phase).any() for name in names):
        present = ", ".join(map(str, np.unique(given["original"])))
        raise InputError(f"boundary_phase is {boundary_phase}; allowed is a phase of the structures: {present}")
    grains = {name: measure_grains(given[name], boundary_phase=boundary_phase, periodic=periodic) for name in names}
    counts = {name: each.n_grains for name, each in grains.items()}
    result: dict[str, Any] = {"boundary_phase": boundary_phase, "n_grains": counts, "reason": None}
    result |= dict.fromkeys(GRAIN_MEASURES)
    empty = [name for name in ("original", "generated") if counts[name] == 0]
    if empty:
        return result | {"reason": f"no whole grain lies in the {' and the '.join(empty)} structures"}
    drawn = [*zip(*draws(len(given["original"]), len(given["generated"])))] if len(given["original"]) > 1 else []
    for measure in GRAIN_MEASURES:
        result[measure] = _compare_grain_values(grains, measure, drawn)
    return result


def _compare_grain_values(
    grains: Mapping[str, Grains], measure: str, drawn: Sequence[tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any] | None:
    """Compare one property of the grains; `drawn` says how often each original structure (N,) is in either set."""
    values = {name: _values(each, measure) for name, each in grains.items()}
    values = {name: each for name, each in values.items() if len(each[0])}
    if "original" not in values or "generated" not in values:
        return None
    found: dict[str, Any] = {}
    for name, (x, weights, _) in values.items():
        found[name], found[f"{name}_std"] = mean_and_std(x, weights)
    found["difference"] = found["generated"] - found["original"]
    x, weights, structure = values["original"]
    y, y_weights, _ = values["generated"]
    compared = compare_distributions(x, y, first_weights=weights, second_weights=y_weights)
    floors = []
    for pair in drawn:
        first, second = (weights * times[structure] for times in pair)
        if first.any() and second.any():
            a, b = first > 0, second > 0
            floors.append(compare_distributions(x[a], x[b], first_weights=first[a], second_weights=second[b]))
    for distance in ("kolmogorov_smirnov", "wasserstein"):
        found[distance] = getattr(compared, distance)
        found[f"{distance}_floor"] = float(np.mean([getattr(each, distance) for each in floors])) if floors else None
    if "held_out" in values:
        h, h_weights, _ = values["held_out"]
        unseen = compare_distributions(h, y, first_weights=h_weights, second_weights=y_weights)
        found |= {f"held_out_{d}": getattr(unseen, d) for d in ("kolmogorov_smirnov", "wasserstein")}
    shares = {"original": compared.first.tolist(), "generated": compared.second.tolist()}
    return found | {"histogram": {"edges": compared.edges.tolist(), **shares}}


def _values(grains: Grains, measure: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return value, weight and structure of the grains that have this property: a winding one has no aspect ratio."""
    value = getattr(grains, measure)
    has = np.isfinite(value)
    return value[has], grains.weight[has], grains.structure[has]


def _pieces(images: np.ndarray, extent: tuple[int, ...]) -> np.ndarray:
    """Cut larger images (N, A, B) into pieces of an extent, side by side; smaller ones stay as they are."""
    rows, columns = (min(a, n) for a, n in zip(images.shape[1:], extent))
    n, a, b = len(images), images.shape[1] // rows, images.shape[2] // columns
    whole = images[:, : a * rows, : b * columns].reshape(n, a, rows, b, columns)
    return whole.swapaxes(2, 3).reshape(-1, rows, columns)


def _mean_length(chords: np.ndarray) -> float | None:
    """Return the mean length of chords (n,), of which there are so many of length 0, 1, ..."""
    total = float(chords.sum())
    return float(chords @ np.arange(len(chords))) / total if total > 0 else None


def _anisotropy(mean: np.ndarray) -> float | None:
    value = float(anisotropy(mean, directions=DIRECTIONS_2D))
    return value if np.isfinite(value) else None
