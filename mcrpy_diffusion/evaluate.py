"""Stage 4: generated against original structures -> the figures of metrics.json."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.micrograph import otsu_threshold
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.copying import nearest_crop_distance, nearest_distance
from mcrpy_diffusion.metrics.frechet_distance import MIN_RESAMPLED, N_RESAMPLES, frechet_distance, frechet_interval
from mcrpy_diffusion.metrics.image_features import FeatureNetwork, image_features
from mcrpy_diffusion.metrics.precision_recall import MEASURES, N_NEIGHBOURS, min_resampled, precision_recall
from mcrpy_diffusion.metrics.spatial_statistics import (
    default_max_distance,
    discrepancy,
    lineal_path,
    radial_average,
    two_point_correlation,
)
from mcrpy_diffusion.progress import Progress

N_FLOOR_DRAWS = 200
FLOOR_SEED = 0
SPREAD_PERCENTILES = (10, 90)
CURVES = ("two_point_correlation", "lineal_path")
GENERATIVE = ("frechet_distance", *MEASURES)
ENOUGH_IMAGES = 2048  # of each set; pytorch-fid asks for as many

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
    """

    volume_fraction: np.ndarray
    two_point_correlation: np.ndarray
    lineal_path: np.ndarray

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

    Returns
    -------
    dict
        The content of metrics.json, see `README.md`. Numbers are plain Python ones; what could not be measured is
        None. Where there are more than two phases the figures are those of the phase that fits worst, and `phases`
        holds each.

    Raises
    ------
    InputError
        If there are no original or generated structures, or other sets differ in extent from the generated one.

    Notes
    -----
    S2(r) and L(r) are means over the images of a set, r = 0 .. half of the smallest extent, minus 1; the discrepancy
    is eq. (23) of the paper. The floor is the same measure between as many real structures as were generated, drawn
    from the original ones with replacement, and all of the original ones; mean over `N_FLOOR_DRAWS` draws with a
    fixed seed. It is what a perfect generator would get.

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
    for measure in ("volume_fraction", *CURVES):
        metrics[measure] = _worst_phase(by_phase, measure)
    if n_phases > 2:
        metrics["phases"] = {p: {m: v for m, v in found.items() if m != "curves"} for p, found in by_phase.items()}
    if not n_phases:
        metrics["grey_threshold"] = otsu_threshold(given["original"])
    metrics |= _generative_measures(given, n_phases, features, floor_sets, divide=not overlapping)
    metrics["warnings"] = _warnings(metrics, overlapping=overlapping)
    metrics["nearest_training_image"] = _find_copies(given, n_phases, periodic, training, micrographs)
    metrics["curves"] = {"distance": list(range(last + 1))} | {p: found["curves"] for p, found in by_phase.items()}
    return metrics


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
    s2, lineal = [], []
    for start in range(0, len(phases), _BLOCK_IMAGES):
        block = phases[start : start + _BLOCK_IMAGES]
        s2.append(radial_average(two_point_correlation(block, phase=phase, periodic=periodic), max_distance=last))
        directions = lineal_path(block, phase=phase, periodic=periodic, max_length=last)
        lineal.append(directions[:, :2].mean(axis=1))  # diagonal segments are longer than their number of pixels
    fraction = (phases == phase).mean(axis=(1, 2), dtype=np.float64)
    return SetStatistics(fraction, np.concatenate(s2), np.concatenate(lineal))


def floor(curves: np.ndarray, n_images: int, *, n_draws: int = N_FLOOR_DRAWS, seed: int = FLOOR_SEED) -> np.ndarray:
    """Measure the discrepancy that comes from the number of images alone.

    Parameters
    ----------
    curves : (N, r)
        One curve per real image.
    n_images : int
        Number of images of a draw: as many as were generated.
    n_draws : int
        Number of draws, each with replacement.
    seed : int
        Seed of the draws.

    Returns
    -------
    (n_draws,) float64
        Discrepancy between the mean curve of each draw and that of all images, percent, eq. (23).
    """
    mean = curves.mean(axis=0)
    chosen = _draws(len(curves), n_images, n_draws, seed)
    return np.array([discrepancy(mean, curves[indices].mean(axis=0)) for indices in chosen])


def _draws(n: int, n_images: int, n_draws: int, seed: int) -> np.ndarray:
    """Draw indices (n_draws, n_images) below n: the same ones for every measure of one evaluation."""
    return np.random.default_rng(seed).integers(n, size=(n_draws, n_images))


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
    measures: dict[str, Any] = {"volume_fraction": _compare_fractions(found) | {"phase": phase, "n_images": counts}}
    for measure in CURVES:
        curves = {name: getattr(statistics, measure) for name, statistics in found.items()}
        measures[measure] = _compare_curves(curves) | {"phase": phase, "n_images": counts}
    spread_of = ("original", "generated", "held_out")
    measures["curves"] = {
        measure: {name: _spread(getattr(found[name], measure)) for name in spread_of if name in found}
        for measure in CURVES
    }
    return measures


def _compare_fractions(found: dict[str, SetStatistics]) -> dict[str, float | None]:
    """Return mean and standard deviation over each set, the differences to the generated one, and the floor."""
    values: dict[str, float | None] = {}
    for name, statistics in found.items():
        values[name] = float(statistics.volume_fraction.mean())
        values[f"{name}_std"] = float(statistics.volume_fraction.std())
    real, made = found["original"].volume_fraction, found["generated"].volume_fraction
    values["difference"] = float(made.mean() - real.mean())
    values["held_out_difference"] = None
    if "held_out" in found:
        values["held_out_difference"] = float(made.mean() - found["held_out"].volume_fraction.mean())
    values["floor"] = None
    if len(real) > 1:
        drawn = real[_draws(len(real), len(made), N_FLOOR_DRAWS, FLOOR_SEED)].mean(axis=1)
        values["floor"] = float(np.abs(drawn - real.mean()).mean())
    return values


def _compare_curves(curves: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Return the discrepancies between the mean curves, and the floor, in percent."""
    mean = {name: values.mean(axis=0) for name, values in curves.items()}
    floors = None
    if len(curves["original"]) > 1 and mean["original"].any():
        floors = floor(curves["original"], len(curves["generated"]))
    return {
        "discrepancy_percent": _discrepancy(mean, "original", "generated"),
        "held_out_discrepancy_percent": _discrepancy(mean, "held_out", "generated"),
        "floor_percent": None if floors is None else float(floors.mean()),
        "floor_std_percent": None if floors is None else float(floors.std()),
        "original_to_held_out_percent": _discrepancy(mean, "original", "held_out"),
        "original_to_training_percent": _discrepancy(mean, "original", "training"),
    }


def _discrepancy(mean: dict[str, np.ndarray], first: str, second: str) -> float | None:
    """Return the discrepancy of two sets; None where one is not there, or the first lacks the phase."""
    if first not in mean or second not in mean or not mean[first].any():
        return None
    return discrepancy(mean[first], mean[second])


def _spread(curves: np.ndarray) -> dict[str, list[float]]:
    """Return the mean of a set's curves and the percentiles that hold most of them."""
    low, high = np.percentile(curves, SPREAD_PERCENTILES, axis=0)
    return {"mean": curves.mean(axis=0).tolist(), "low": low.tolist(), "high": high.tolist()}


def _generative_measures(
    given: dict[str, np.ndarray],
    n_phases: int,
    network: FeatureNetwork | None,
    floor_sets: tuple[np.ndarray, np.ndarray] | None,
    *,
    divide: bool,
) -> dict[str, dict[str, Any]]:
    """Return the measures by features, each with its interval and its floor."""
    original, generated = given["original"], given["generated"]
    if network is None:
        return _not_measured("no features were asked for")
    if original.shape[1:] != generated.shape[1:]:
        return _not_measured("the original structures are of another extent than the generated ones")
    sets = {"original": original, "generated": generated, "held_out": given.get("held_out")}
    sets["first"], sets["second"] = (None, None) if floor_sets is None else floor_sets
    images = {name: value for name, value in sets.items() if value is not None}
    with Progress(sum(map(len, images.values())), f"features {network.name}", unit="image") as bar:
        found = {
            name: image_features(network, value, n_phases=n_phases, progress=bar.update)
            for name, value in images.items()
        }
    floor_features = (found.pop("first"), found.pop("second")) if floor_sets is not None else None
    measures = compare_features(**found, floor_sets=floor_features, divide=divide)
    for measure, values in measures.items():
        values["features"] = network.name
        values["name"] = network.distance_name if measure == GENERATIVE[0] else f"{measure} ({network.title})"
    return measures


def compare_features(
    original: np.ndarray,
    generated: np.ndarray,
    *,
    held_out: np.ndarray | None = None,
    floor_sets: tuple[np.ndarray, np.ndarray] | None = None,
    divide: bool = True,
) -> dict[str, dict[str, Any]]:
    """Compare sets of features: Frechet distance, precision, recall, density and coverage.

    Parameters
    ----------
    original, generated : (N, D), (M, D)
        One row per image.
    held_out : (H, D), optional
        Of real images that took no part in training.
    floor_sets : (F, D) and (G, D), optional
        Of two disjoint sets of real images, for the floor.
    divide : bool
        Whether the original ones are divided for the floor where these are not given.

    Returns
    -------
    dict
        For each measure `value`, its 95 % `interval`, `held_out_value`, `n_images`; `floor`, that of two disjoint sets
        of `floor_n_images` real images, and `value_at_floor_counts`, that of as many original and generated ones.
        What there are too few images for is None, and `reason` says so.
    """
    values, intervals = _feature_values(original, generated, N_RESAMPLES)
    held_out_values = _feature_values(original[:0] if held_out is None else held_out, generated)[0]
    first, second = _divided(original, len(generated)) if floor_sets is None else floor_sets
    if floor_sets is None and not divide:
        first = second = original[:0]
    floors, _ = _feature_values(first, second)
    as_many = values
    if (len(first), len(second)) != (len(original), len(generated)):
        as_many, _ = _feature_values(first, generated[_shuffled(len(generated))[: len(second)]])
    measures: dict[str, dict[str, Any]] = {}
    for name in GENERATIVE:
        measures[name] = {
            "value": values[name],
            "interval": intervals[name],
            "held_out_value": held_out_values[name],
            "n_images": {"original": len(original), "generated": len(generated)},
            "floor": floors[name],
            "floor_n_images": [len(first), len(second)],
            "value_at_floor_counts": as_many[name] if floors[name] is not None else None,
            "reason": _too_few(name, len(original), len(generated), min(len(first), len(second))),
        }
    return measures


def _feature_values(
    first: np.ndarray, second: np.ndarray, n_resamples: int = 0
) -> tuple[dict[str, float | None], dict[str, list[float] | None]]:
    """Return the measures and their intervals; None where there are too few images."""
    values: dict[str, float | None] = dict.fromkeys(GENERATIVE)
    intervals: dict[str, list[float] | None] = dict.fromkeys(GENERATIVE)
    n = min(len(first), len(second))
    if n >= 2:
        values["frechet_distance"] = frechet_distance(first, second)
    if n_resamples and n >= MIN_RESAMPLED:
        intervals["frechet_distance"] = list(frechet_interval(first, second, n_resamples=n_resamples, seed=FLOOR_SEED))
    if n > N_NEIGHBOURS:
        enough = n >= min_resampled(N_NEIGHBOURS)
        found = precision_recall(first, second, n_resamples=n_resamples if enough else 0, seed=FLOOR_SEED)
        values |= {name: getattr(found, name) for name in MEASURES}
        intervals |= {name: list(interval) for name, interval in found.intervals.items()}
    return values, intervals


def _divided(original: np.ndarray, n_generated: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide real images at random, the second set in the number of the generated ones where there are enough."""
    order, n_second = _shuffled(len(original)), min(n_generated, len(original) // 2)
    return original[order[n_second:]], original[order[:n_second]]


def _shuffled(n: int) -> np.ndarray:
    return np.random.default_rng(FLOOR_SEED).permutation(n)


def _too_few(measure: str, n_original: int, n_generated: int, n_floor: int) -> str | None:
    """Say what there are too few images for, if so."""
    least, halved = (2, MIN_RESAMPLED) if measure == GENERATIVE[0] else (N_NEIGHBOURS + 1, min_resampled(N_NEIGHBOURS))
    n = min(n_original, n_generated)
    if n < least:
        return f"needs at least {least} images of each set, there are {n_original} and {n_generated}"
    if n < halved:
        return f"an interval needs at least {halved} images of each set, there are {n_original} and {n_generated}"
    if n_floor < least:
        return f"a floor needs two disjoint sets of at least {least} real images, the smaller one has {n_floor}"
    return None


def _not_measured(reason: str) -> dict[str, dict[str, Any]]:
    keys = ("value", "interval", "held_out_value", "n_images", "floor", "floor_n_images", "value_at_floor_counts")
    empty: dict[str, Any] = dict.fromkeys((*keys, "features", "name"))
    return {measure: {**empty, "reason": reason} for measure in GENERATIVE}


def _warnings(metrics: dict[str, Any], *, overlapping: bool) -> list[str]:
    """Say what a reader has to know before believing a figure."""
    distance = metrics["frechet_distance"]
    found: list[str] = []
    if distance["value"] is None:
        return found
    if overlapping:
        found.append(
            "the original images are crops of the same micrographs and overlap, so that the nearest neighbours of each "
            "are itself, shifted: precision, recall, density and coverage come out too small, also between real images"
        )
    n = distance["n_images"]
    if min(n.values()) < ENOUGH_IMAGES:
        found.append(
            f"{distance['name']} of {n['original']} original and {n['generated']} generated images: below "
            f"{ENOUGH_IMAGES} of each it comes out too large; compare it with its floor, not with figures from other "
            "numbers of images"
        )
    return found


def _worst_phase(by_phase: dict[str, dict[str, Any]], measure: str) -> dict[str, Any]:
    """Return the measure of the phase that is farthest off; with two phases that of phase 1."""
    key = "difference" if measure == "volume_fraction" else "discrepancy_percent"
    return max((found[measure] for found in by_phase.values()), key=lambda values: abs(values[key] or 0.0))


def _find_copies(
    given: dict[str, np.ndarray],
    n_phases: int,
    periodic: bool,
    training: np.ndarray | None,
    micrographs: Sequence[np.ndarray] | None,
) -> dict[str, Any]:
    """Return how near the generated images come to what was trained on, and how near real unseen ones come."""
    generated, held_out = given["generated"], given.get("held_out")
    result: dict[str, Any] = dict.fromkeys(("minimum_mse", "median_mse", "generated_index", "training_index"))
    result |= {"independent_mse": _independent_mse(given["original"], n_phases), "held_out_minimum_mse": None}
    result["n_images"] = {"generated": len(generated), "training": 0 if training is None else len(training)}
    if micrographs:
        rows, columns = generated.shape[1:]
        n_positions = sum((m.shape[0] - rows + 1) * (m.shape[1] - columns + 1) for m in micrographs)
        result["n_images"]["training"] = n_positions
        distance = nearest_crop_distance(generated, micrographs)
        result["compared_with"] = "every position of the training part, also turned by 180 degrees"
        if held_out is not None:
            result["held_out_minimum_mse"] = float(nearest_crop_distance(held_out[: len(generated)], micrographs).min())
    elif training is not None and len(training):
        distance, index = nearest_distance(generated, training, periodic=periodic)
        shifts = "under all shifts, " if periodic else ""
        result["compared_with"] = f"every training image, {shifts}also turned by 180 degrees"
        result["training_index"] = int(index[distance.argmin()])
    else:
        return result | {"compared_with": None}
    nearest = {"minimum_mse": float(distance.min()), "median_mse": float(np.median(distance))}
    return result | nearest | {"generated_index": int(distance.argmin())}


def _independent_mse(original: np.ndarray, n_phases: int) -> float:
    """Return the mean squared difference of two independent pixels with the original's frequencies.

    For phases the probability that they differ, 1 - sum phi_i^2 = 2 phi (1 - phi) for two; for grey values twice the
    variance.
    """
    if n_phases == 0:
        return float(2 * original.var(dtype=np.float64))
    return float(1 - sum((original == phase).mean(dtype=np.float64) ** 2 for phase in range(n_phases)))
