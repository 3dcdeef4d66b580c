"""Measures by the features of a trained network, each with its interval and its floor."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mcrpy_diffusion.evaluation.results import Counts, FeatureMeasure, FeatureMeasures
from mcrpy_diffusion.metrics.frechet_distance import MIN_RESAMPLED, N_RESAMPLES, frechet_distance, frechet_interval
from mcrpy_diffusion.metrics.image_features import FeatureNetwork, image_features
from mcrpy_diffusion.metrics.precision_recall import MEASURES, N_NEIGHBOURS, min_resampled, precision_recall
from mcrpy_diffusion.runtime.progress import Progress

SEED = 0
GENERATIVE = ("frechet_distance", *MEASURES)
ENOUGH_IMAGES = 2048  # of each set; pytorch-fid asks for as many


def generative_measures(
    given: dict[str, np.ndarray],
    n_phases: int,
    network: FeatureNetwork | None,
    floor_sets: tuple[np.ndarray, np.ndarray] | None,
    *,
    divide: bool,
) -> FeatureMeasures:
    """Measure the features of each set and compare them.

    Parameters
    ----------
    given : dict
        `original` (N, I, J), `generated` (M, I, J) and, if available, `held_out`: phases or grey values.
    n_phases : int
        Number of phases, 0 for grey values.
    network : FeatureNetwork or None
        None: nothing is measured.
    floor_sets : (F, I, J) and (G, I, J), or None
        Two sets of real structures that have no pixel in common.
    divide : bool
        Whether the original structures are divided for the floor if `floor_sets` is None.

    Returns
    -------
    FeatureMeasures
        As `compare_features`, with the name of each measure and the network.
    """
    original, generated = given["original"], given["generated"]
    if network is None:
        return not_measured("no features were asked for")
    if original.shape[1:] != generated.shape[1:]:
        return not_measured("the original structures are of another extent than the generated ones")
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
    names = {m: f"{m} ({network.title})" for m in GENERATIVE} | {"frechet_distance": network.distance_name}
    named = {m: replace(getattr(measures, m), name=name, features=network.name) for m, name in names.items()}
    return FeatureMeasures(**named)


def compare_features(
    original: np.ndarray,
    generated: np.ndarray,
    *,
    held_out: np.ndarray | None = None,
    floor_sets: tuple[np.ndarray, np.ndarray] | None = None,
    divide: bool = True,
) -> FeatureMeasures:
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
        Whether the original structures are divided for the floor if `floor_sets` is None.

    Returns
    -------
    FeatureMeasures
        Without `name` and `features`. Values are None, with a `reason`, for too few images.
    """
    values, intervals = feature_values(original, generated, N_RESAMPLES)
    held_out_values = feature_values(original[:0] if held_out is None else held_out, generated)[0]
    first, second = _divided(original, len(generated)) if floor_sets is None else floor_sets
    if floor_sets is None and not divide:
        first = second = original[:0]
    floors, _ = feature_values(first, second)
    as_many = values
    if (len(first), len(second)) != (len(original), len(generated)):
        as_many, _ = feature_values(first, generated[_shuffled(len(generated))[: len(second)]])
    measures = {
        name: FeatureMeasure(
            name=None,
            features=None,
            value=values[name],
            interval=intervals[name],
            held_out_value=held_out_values[name],
            n_images=Counts(original=len(original), generated=len(generated)),
            floor=floors[name],
            floor_n_images=(len(first), len(second)),
            value_at_floor_counts=as_many[name] if floors[name] is not None else None,
            reason=_too_few(name, len(original), len(generated), min(len(first), len(second))),
        )
        for name in GENERATIVE
    }
    return FeatureMeasures(**measures)


def feature_values(
    first: np.ndarray, second: np.ndarray, n_resamples: int = 0
) -> tuple[dict[str, float | None], dict[str, tuple[float, float] | None]]:
    """Return the measures and their intervals between sets of features (N, D) and (M, D); None for too few images."""
    values: dict[str, float | None] = dict.fromkeys(GENERATIVE)
    intervals: dict[str, tuple[float, float] | None] = dict.fromkeys(GENERATIVE)
    n = min(len(first), len(second))
    if n >= 2:
        values["frechet_distance"] = frechet_distance(first, second)
    if n_resamples and n >= MIN_RESAMPLED:
        intervals["frechet_distance"] = frechet_interval(first, second, n_resamples=n_resamples, seed=SEED)
    if n > N_NEIGHBOURS:
        enough = n >= min_resampled(N_NEIGHBOURS)
        found = precision_recall(first, second, n_resamples=n_resamples if enough else 0, seed=SEED)
        values |= {name: getattr(found, name) for name in MEASURES}
        intervals |= found.intervals
    return values, intervals


def _divided(original: np.ndarray, n_generated: int) -> tuple[np.ndarray, np.ndarray]:
    """Divide real images at random; the second set has at most the number of the generated ones."""
    order, n_second = _shuffled(len(original)), min(n_generated, len(original) // 2)
    return original[order[n_second:]], original[order[:n_second]]


def _shuffled(n: int) -> np.ndarray:
    return np.random.default_rng(SEED).permutation(n)


def _too_few(measure: str, n_original: int, n_generated: int, n_floor: int) -> str | None:
    """Return why a value, an interval or a floor is missing; None if nothing is."""
    least, halved = (2, MIN_RESAMPLED) if measure == GENERATIVE[0] else (N_NEIGHBOURS + 1, min_resampled(N_NEIGHBOURS))
    n = min(n_original, n_generated)
    if n < least:
        return f"needs at least {least} images of each set, there are {n_original} and {n_generated}"
    if n < halved:
        return f"an interval needs at least {halved} images of each set, there are {n_original} and {n_generated}"
    if n_floor < least:
        return f"a floor needs two disjoint sets of at least {least} real images, the smaller one has {n_floor}"
    return None


def not_measured(reason: str) -> FeatureMeasures:
    """Return the measures without values."""
    return FeatureMeasures(**dict.fromkeys(GENERATIVE, FeatureMeasure.empty(reason=reason)))


def feature_warnings(distance: FeatureMeasure, *, overlapping: bool) -> tuple[str, ...]:
    """Return warnings on the measures by features; `distance` is the Frechet distance."""
    found: list[str] = []
    if distance.value is None or distance.n_images is None:
        return ()
    if overlapping:
        found.append(
            "the original images are overlapping crops of the same micrographs, and the nearest neighbours of each "
            "are its own shifted copies: precision, recall, density and coverage are underestimated, also between real "
            "images"
        )
    n = distance.n_images
    if min(n.original, n.generated) < ENOUGH_IMAGES:
        found.append(
            f"{distance.name} of {n.original} original and {n.generated} generated images: it is overestimated with "
            f"fewer than {ENOUGH_IMAGES} images in each set; compare it with its floor, not with values from other "
            "numbers of images"
        )
    return tuple(found)
