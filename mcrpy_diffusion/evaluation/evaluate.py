"""Stage 4: generated against original structures -> the figures of metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.micrograph import otsu_threshold
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation.copies import find_copies, not_looked_for
from mcrpy_diffusion.evaluation.features import feature_warnings, generative_measures, not_measured
from mcrpy_diffusion.evaluation.sets import N_FLOOR_DRAWS, compare_curves, compare_scalars
from mcrpy_diffusion.evaluation.shapes import SCALARS, compare_directions, compare_grains, compare_shapes
from mcrpy_diffusion.metrics.directions import curves_along
from mcrpy_diffusion.metrics.image_features import FeatureNetwork
from mcrpy_diffusion.metrics.spatial_statistics import (
    DIRECTIONS_2D,
    default_max_distance,
    lineal_path,
    radial_average,
    two_point_correlation,
)

SPREAD_PERCENTILES = (10, 90)
CURVES = ("two_point_correlation", "lineal_path")

_BLOCK_IMAGES = 128  # images whose correlation maps are in memory at once


@dataclass(frozen=True)
class SetStatistics:
    """The statistics of each image of a set, for one phase.

    Attributes
    ----------
    volume_fraction : (N,) float64
    two_point_correlation : (N, r) float64
        S2, averaged over directions.
    lineal_path : (N, r) float64
        L, mean of the one along the rows and the one along the columns.
    along : dict of (N, 4, r) float64
        S2 and L along each of `DIRECTIONS_2D`, by measure, over the number of steps; those on diagonals are longer.
    """

    volume_fraction: np.ndarray
    two_point_correlation: np.ndarray
    lineal_path: np.ndarray
    along: dict[str, np.ndarray]

    @property
    def n_images(self) -> int:
        """Number of images behind the statistics."""
        return len(self.volume_fraction)


def evaluate(
    original: np.ndarray,
    generated: np.ndarray,
    *,
    n_phases: int,
    periodic: bool,
    training: np.ndarray | None = None,
    held_out: np.ndarray | None = None,
    micrographs: Sequence[np.ndarray] | None = None,
    features: FeatureNetwork | None = None,
    floor_sets: tuple[np.ndarray, np.ndarray] | None = None,
    overlapping: bool = False,
    boundary_phase: int | None = None,
    isotropic: bool = False,
) -> dict[str, Any]:
    """Compare generated structures with original ones.

    Parameters
    ----------
    original : (N, A, B)
        Real structures: crops of the part of the micrographs that was trained on, or the reference itself, of any
        extent.
    generated : (M, I, J)
        Structures of the model.
    n_phases : int
        Number of phases, 0 for grey values. Grey values are cut at Otsu's threshold of the original ones.
    periodic : bool
        Whether the structures continue across their edges.
    training : (K, I, J), optional
        The training images. Used where `micrographs` is not given to look for copies, and to state how far the
        training data themselves are from the original.
    held_out : (H, I, J), optional
        Real structures that took no part in training.
    micrographs : sequence of (C, D), optional
        What training crops were cut from; copies are looked for at every position.
    features : FeatureNetwork, optional
        For the Frechet distance, precision, recall, density and coverage, which are not measured without it.
    floor_sets : (F, I, J) and (G, I, J), optional
        Two sets of real structures that have no pixel in common, for the floor of these measures. Without them the
        original ones are divided, unless they overlap.
    overlapping : bool
        Whether the original structures are crops that overlap; where `micrographs` is given, they are.
    boundary_phase : int, optional
        The phase that boundaries between grains are drawn in; grains are measured where it is given.
    isotropic : bool
        Whether copies are looked for in mirror images and, of square structures, quarter turns too.

    Returns
    -------
    dict
        The content of metrics.json, see docs/evaluation.md. Numbers are plain Python ones; what could not be measured
        is None. Where there are more than two phases the figures are those of the phase that fits worst, and `phases`
        holds each.

    Raises
    ------
    InputError
        If there are no original or generated structures, or other sets differ in extent from the generated one.

    Notes
    -----
    S2(r) and L(r) are means over the images of a set, r = 0 .. half of the smallest extent, minus 1; the discrepancy
    is eq. (23) of the paper. S2 is averaged over all directions, L over rows and columns: over diagonals, whose steps
    are longer, it would have to be interpolated. The floor is the same measure between two sets of real structures,
    one of as many as there are originals, one of as many as were generated, both drawn from the original ones with
    replacement; mean over `N_FLOOR_DRAWS` draws with a fixed seed. It is what a perfect generator would get.

    The Frechet distance depends on the numbers of images, and resampled images would be one another's neighbours. So
    the floor of the measures by features is that of two disjoint sets of real images; where they are not in the
    numbers of the value, the generated images are measured in theirs too.
    """
    training_set = None if training is original else training  # measured once
    sets = {"original": original, "generated": generated, "training": training_set, "held_out": held_out}
    given = {name: np.asarray(images) for name, images in sets.items() if images is not None and len(images) > 0}
    _check_sets(given)
    overlapping = overlapping or bool(micrographs)
    shown = given if n_phases else _threshold(given)
    phases = range(n_phases) if n_phases > 2 else [1]
    last = min(default_max_distance(images.shape[1:]) for images in given.values())
    by_phase = {str(phase): _compare_phase(shown, phase=phase, periodic=periodic, last=last) for phase in phases}
    counts = {name: len(images) for name, images in given.items()}
    metrics: dict[str, Any] = {"n_images": counts, "n_floor_draws": N_FLOOR_DRAWS, "n_phases": n_phases}
    metrics |= {"extent": list(given["generated"].shape[1:]), "periodic": bool(periodic)}
    for measure in ("volume_fraction", *CURVES, *SCALARS, "chord_length"):
        metrics[measure] = _worst_phase(by_phase, measure)
    if n_phases > 2:
        metrics["phases"] = {p: {m: v for m, v in found.items() if m != "curves"} for p, found in by_phase.items()}
    if not n_phases:
        metrics["grey_threshold"] = otsu_threshold(given["original"])
    metrics |= generative_measures(given, n_phases, features, floor_sets, divide=not overlapping)
    metrics["warnings"] = feature_warnings(metrics, overlapping=overlapping)
    metrics |= find_copies(
        given,
        n_phases=n_phases,
        periodic=periodic,
        training=training,
        micrographs=micrographs,
        overlapping=overlapping,
        isotropic=isotropic,
    )
    metrics["grains"] = None
    if boundary_phase is not None:
        metrics["grains"] = compare_grains(shown, boundary_phase=boundary_phase, periodic=periodic)
    metrics["curves"] = {"distance": list(range(last + 1))} | {p: found["curves"] for p, found in by_phase.items()}
    return metrics


def evaluate_against_statistics(
    generated: np.ndarray, figures: Mapping[str, Any], statistics: Mapping[str, Any], *, n_phases: int
) -> dict[str, Any]:
    """Compare generated structures with the statistics of real ones, where the real ones themselves are not there.

    Parameters
    ----------
    generated : (M, I, J)
        Phases.
    figures, statistics : mapping
        Those of a `ModelCard`, which come from an earlier evaluation of the same model.
    n_phases : int
        Number of phases.

    Returns
    -------
    dict
        As `evaluate` returns it, with volume fraction, S2 and L alone. A floor is that of the earlier evaluation times
        the ratio by which sqrt(1 / M + 1 / N) grows, the scatter between the means of M generated and N real ones.
    """
    curves, counts = statistics["curves"], {"original": figures["n_images"]["original"], "generated": len(generated)}
    last = min(curves["distance"][-1], default_max_distance(generated.shape[1:]))
    area = float(np.prod(figures["extent"]) / np.prod(generated.shape[1:]))
    real_share, earlier_share = 1 / counts["original"], 1 / figures["n_images"]["generated"]
    scale = ((area / len(generated) + real_share) / (earlier_share + real_share)) ** 0.5
    by_phase: dict[str, dict[str, Any]] = {}
    for name in sorted(curves.keys() - {"distance"}):
        found = set_statistics(generated, phase=int(name), periodic=figures["periodic"], max_distance=last)
        real = {m: {k: v[: last + 1] for k, v in curves[name][m]["original"].items()} for m in CURVES}
        fractions = np.array([real[CURVES[0]]["mean"][0]]), found.volume_fraction  # S2(0) is the volume fraction
        measures: dict[str, Any] = {"volume_fraction": compare_scalars(dict(zip(("original", "generated"), fractions)))}
        for measure in CURVES:
            both = {"original": np.array([real[measure]["mean"]]), "generated": getattr(found, measure)}
            measures[measure] = compare_curves(both)
        for measure, floor in (("volume_fraction", "floor"), *((m, "floor_percent") for m in CURVES)):
            earlier = figures[measure][floor] if figures[measure]["phase"] == int(name) else None
            of_phase = {floor: None if earlier is None else earlier * scale, "phase": int(name), "n_images": counts}
            measures[measure] = {**measures[measure], **of_phase}
        measures["volume_fraction"]["original_std"] = None  # a mean is known alone
        drawn = {m: {"original": real[m], "generated": _spread(getattr(found, m))} for m in CURVES}
        by_phase[name] = {**measures, "curves": drawn}
    metrics: dict[str, Any] = {"n_images": counts, "n_floor_draws": N_FLOOR_DRAWS, "n_phases": n_phases}
    metrics |= {"extent": list(generated.shape[1:]), "periodic": bool(figures["periodic"])}
    for measure in ("volume_fraction", *CURVES):
        metrics[measure] = _worst_phase(by_phase, measure)
    if n_phases > 2:
        metrics["phases"] = {p: {m: v for m, v in found.items() if m != "curves"} for p, found in by_phase.items()}
    real_fractions = [found["volume_fraction"]["original"] for found in by_phase.values()]
    if n_phases == 2:
        real_fractions.append(1 - real_fractions[0])
    metrics |= not_measured("the original structures are not there")
    metrics |= not_looked_for(len(generated), 1 - sum(fraction**2 for fraction in real_fractions))
    metrics["warnings"] = [
        "the original structures are not there: compared with their statistics, which the model carries; floors are "
        "scaled from those of its evaluation"
    ]
    metrics["grains"] = None
    return metrics | {"curves": {"distance": list(range(last + 1))} | {p: f["curves"] for p, f in by_phase.items()}}


def set_statistics(phases: np.ndarray, *, phase: int, periodic: bool, max_distance: int | None = None) -> SetStatistics:
    """Measure each image of a set: volume fraction, S2(r) and L(r) of one phase.

    Parameters
    ----------
    phases : (N, I, J) integer
        Phases.
    phase : int
        The phase that is measured.
    periodic : bool
        Whether the structures continue across their edges.
    max_distance : int, optional
        The largest r; if None, half of the smallest extent, minus 1.

    Returns
    -------
    SetStatistics
        With r = 0 .. max_distance.
    """
    last = default_max_distance(phases.shape[1:]) if max_distance is None else max_distance
    radial: list[np.ndarray] = []
    along: dict[str, list[np.ndarray]] = {measure: [] for measure in CURVES}
    for start in range(0, len(phases), _BLOCK_IMAGES):
        block = phases[start : start + _BLOCK_IMAGES]
        maps = two_point_correlation(block, phase=phase, periodic=periodic)
        radial.append(radial_average(maps, max_distance=last))
        along[CURVES[0]].append(curves_along(maps, directions=DIRECTIONS_2D, max_steps=last))
        along[CURVES[1]].append(lineal_path(block, phase=phase, periodic=periodic, max_length=last))
    fraction = (phases == phase).mean(axis=(1, 2), dtype=np.float64)
    by_direction = {measure: np.concatenate(blocks) for measure, blocks in along.items()}
    lineal = by_direction[CURVES[1]][:, :2].mean(axis=1)  # diagonal segments are longer than their number of pixels
    return SetStatistics(fraction, np.concatenate(radial), lineal, by_direction)


def _check_sets(given: dict[str, np.ndarray]) -> None:
    for name in ("original", "generated"):
        if name not in given:
            raise InputError(f"there are no {name} structures; at least one is needed for an evaluation")
    extent = given["generated"].shape[1:]
    for name, images in given.items():
        if images.ndim != 3 or (images.shape[1:] != extent and name != "original"):
            raise InputError(
                f"the {name} structures have shape {images.shape}; "
                f"allowed is the extent of the generated ones, (n, {', '.join(map(str, extent))})"
            )
        if min(images.shape[1:]) < 4:
            raise InputError(f"the {name} structures have shape {images.shape}; allowed are 4 x 4 pixels and more")


def _threshold(given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Cut grey values to phases 0 and 1, all sets at the threshold of the original one."""
    threshold = otsu_threshold(given["original"])
    return {name: (images > threshold).astype(np.uint8) for name, images in given.items()}


def _compare_phase(given: dict[str, np.ndarray], *, phase: int, periodic: bool, last: int) -> dict[str, Any]:
    """Return all measures of one phase, and its curves."""
    found = {
        name: set_statistics(images, phase=phase, periodic=periodic, max_distance=last)
        for name, images in given.items()
    }
    counts = {name: statistics.n_images for name, statistics in found.items()}
    fractions = {name: statistics.volume_fraction for name, statistics in found.items()}
    measures: dict[str, Any] = {"volume_fraction": compare_scalars(fractions) | {"phase": phase, "n_images": counts}}
    for measure in CURVES:
        curves = {name: getattr(statistics, measure) for name, statistics in found.items()}
        by_direction = compare_directions({name: statistics.along[measure] for name, statistics in found.items()})
        measures[measure] = compare_curves(curves) | by_direction | {"phase": phase, "n_images": counts}
    for measure, values in compare_shapes(given, phase=phase, periodic=periodic).items():
        measures[measure] = values | {"phase": phase, "n_images": counts}
    spread_of = ("original", "generated", "held_out")
    measures["curves"] = {
        measure: {name: _spread(getattr(found[name], measure)) for name in spread_of if name in found}
        for measure in CURVES
    }
    return measures


def _spread(curves: np.ndarray) -> dict[str, list[float]]:
    """Return the mean of a set's curves and the percentiles that hold most of them."""
    low, high = np.percentile(curves, SPREAD_PERCENTILES, axis=0)
    return {"mean": curves.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}


def _worst_phase(by_phase: dict[str, dict[str, Any]], measure: str) -> dict[str, Any]:
    """Return the measure of the phase that is farthest off; with two phases that of phase 1."""
    key = "discrepancy_percent" if measure in (*CURVES, "chord_length") else "difference"
    return max((found[measure] for found in by_phase.values()), key=lambda values: abs(values[key] or 0.0))
