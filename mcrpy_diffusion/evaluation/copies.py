"""Search for copies of the training data, section 3.1.3 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mcrpy_diffusion.data.crops import random_crops, split
from mcrpy_diffusion.evaluation.results import (
    CropMatch,
    DataCopying,
    DistanceCounts,
    DistanceHistogram,
    NearestTraining,
    SearchCounts,
    StructureMatch,
)
from mcrpy_diffusion.evaluation.sets import MIN_WINDOWS
from mcrpy_diffusion.metrics.copying import nearest_crop_distance
from mcrpy_diffusion.metrics.copying_score import chance_of_nearer, copying_score, effective_number
from mcrpy_diffusion.metrics.grains import compare_distributions
from mcrpy_diffusion.metrics.nearest_crops import nearest_crop
from mcrpy_diffusion.metrics.nearest_images import TRANSFORMATIONS, ImagePairs, closest_pairs, nearest_images
from mcrpy_diffusion.metrics.windows import independent_windows
from mcrpy_diffusion.runtime import frameworks

N_PAIRS = 6  # as in figure 6
N_REAL_CROPS = 64  # minimum number of unseen crops; each is compared with every position
MIN_SCORED = 8  # minimum number of distances of each kind for a z-score
HALVES_SEED = 0
INVARIANT = ("identity", "rotate_180")
"""Transformations that keep all statistics. Those of isotropic materials are kept by the others, too."""


def find_copies(
    given: Mapping[str, np.ndarray],
    *,
    n_phases: int,
    periodic: bool,
    training: np.ndarray | None,
    micrographs: Sequence[np.ndarray] | None,
    overlapping: bool,
    held_out_windows: float | None,
    isotropic: bool,
) -> tuple[NearestTraining, DataCopying]:
    """Measure the distances of generated and of unseen real structures to the training data.

    Parameters
    ----------
    given : mapping
        `original` (N, A, B), `generated` (M, I, J) and, if available, `held_out`.
    n_phases : int
        Number of phases, 0 for grey values.
    periodic : bool
        Whether a copy may be shifted across the edges.
    training : (K, I, J), optional
        Training structures; not used if micrographs are given.
    micrographs : sequence of (C, D), optional
        Micrographs that training crops were cut from.
    overlapping : bool
        Whether training structures overlap. Then one half of them is not unseen for the other half.
    held_out_windows : float, optional
        Number of independent windows that the held-out structures overlap in, 0 if it is unknown; None if they do not
        overlap.
    isotropic : bool
        Whether mirror images and, of square structures, quarter turns are searched for copies too.

    Returns
    -------
    NearestTraining, DataCopying
    """
    generated = given["generated"]
    nearest, untested = not_searched(len(generated), _independent_mse(given["original"], n_phases))
    if micrographs:
        parts = _transformed(micrographs, generated.shape[1:], isotropic)
        return _crops(nearest, given, parts, held_out_windows=held_out_windows, isotropic=isotropic)
    if training is not None and len(training):
        return _structures(nearest, given, training, periodic, overlapping, held_out_windows, isotropic)
    return nearest, untested


def not_searched(n_generated: int, independent_mse: float) -> tuple[NearestTraining, DataCopying]:
    """Return the result of `find_copies` without training structures.

    Parameters
    ----------
    n_generated : int
        Number of generated structures.
    independent_mse : float
        Pixel MSE of independent structures.
    """
    counts = SearchCounts(generated=n_generated, training=0)
    nearest = NearestTraining.empty(independent_mse=independent_mse, n_images=counts, closest_pairs=())
    return nearest, DataCopying.empty(reason="no training structures were given")


def _structures(
    nearest: NearestTraining,
    given: Mapping[str, np.ndarray],
    training: np.ndarray,
    periodic: bool,
    overlapping: bool,
    held_out_windows: float | None,
    isotropic: bool,
) -> tuple[NearestTraining, DataCopying]:
    """Search for copies of whole training structures."""
    generated, held_out = given["generated"], given.get("held_out")
    square = generated.shape[1] == generated.shape[2]
    allowed = [*TRANSFORMATIONS] if square else [*TRANSFORMATIONS][:4]
    names = allowed if isotropic else INVARIANT

    def search(images: np.ndarray, references: np.ndarray) -> ImagePairs:
        frameworks.before_torch()
        return nearest_images(images, references, shifts=periodic, transformations=names)

    in_halves = held_out is None and not overlapping and len(training) >= 2 * MIN_SCORED
    if in_halves:  # each pair is compared once
        order = np.random.default_rng(HALVES_SEED).permutation(len(training))
        one, other = np.sort(order[len(order) // 2 :]), np.sort(order[: len(order) // 2])
        to_one = search(generated, training[one])
        pairs = _nearer(to_one, one, search(generated, training[other]), other)
    else:
        pairs = search(generated, training)
    shifts = "under all shifts, " if periodic else ""
    closest = closest_pairs(pairs, N_PAIRS)
    held_out_minimum = None
    if held_out is not None:
        real = search(held_out, training).distance
        held_out_minimum = float(real[: len(generated)].min())
        tested = _test(pairs.distance, real, "held-out real structures", n_windows=held_out_windows)
    elif in_halves:
        real = search(training[other], training[one]).distance
        tested = _test(to_one.distance, real, "one half of the training data")
    elif overlapping:
        tested = DataCopying.empty(reason="the training structures are crops that overlap, and none were held out")
    else:
        tested = DataCopying.empty(reason=f"{len(training)} training structures are too few to hold a half of them out")
    nearest = replace(
        _with_distances(nearest, pairs.distance),
        compared_with=f"every training image, {shifts}also {_transformations(isotropic)}",
        training_index=int(pairs.reference[pairs.distance.argmin()]),
        held_out_minimum_mse=held_out_minimum,
        n_images=SearchCounts(generated=len(generated), training=len(training)),
        closest_pairs=tuple(
            StructureMatch(
                generated_index=int(closest.image[k]),
                training_index=int(closest.reference[k]),
                transformation=str(closest.transformation[k]),
                shift=(int(closest.shift[k, 0]), int(closest.shift[k, 1])),
                mse=float(closest.distance[k]),
            )
            for k in range(len(closest.image))
        ),
    )
    return nearest, tested


def _nearer(first: ImagePairs, first_index: np.ndarray, second: ImagePairs, second_index: np.ndarray) -> ImagePairs:
    """Return the nearer pair of each image; the indices are places of both sets of references among all."""
    references = first_index[first.reference], second_index[second.reference]
    nearer = second.distance < first.distance
    nearer |= (second.distance == first.distance) & (references[1] < references[0])
    return ImagePairs(
        first.image,
        np.where(nearer, references[1], references[0]),
        np.where(nearer, second.distance, first.distance),
        np.where(nearer, second.transformation, first.transformation),
        np.where(nearer[:, None], second.shift, first.shift),
    )


def _crops(
    nearest: NearestTraining,
    given: Mapping[str, np.ndarray],
    parts: dict[str, list[np.ndarray]],
    *,
    held_out_windows: float | None,
    isotropic: bool,
) -> tuple[NearestTraining, DataCopying]:
    """Search for copies of any crop of the micrographs; `parts` holds the transformed ones by transformation."""
    generated, held_out = given["generated"], given.get("held_out")
    micrographs, everything = parts["identity"], [m for each in parts.values() for m in each]
    rows, columns = generated.shape[1:]
    distance = nearest_crop_distance(generated, everything)
    owners = [(name, k) for name, each in parts.items() for k in range(len(each))]
    matches = []
    for i in np.argsort(distance, kind="stable")[:N_PAIRS]:
        place = nearest_crop(generated[i], everything)
        name, k = owners[place.micrograph]
        matches.append(
            CropMatch(
                generated_index=int(i),
                transformation=name,
                micrograph=k,
                row=place.row,
                column=place.column,
                rotated_180=place.rotated,
                mse=place.distance,
            )
        )
    n_real = max(len(generated), N_REAL_CROPS)
    held_out_minimum = None
    if held_out is not None:
        real = nearest_crop_distance(held_out[:n_real], everything)
        held_out_minimum = float(real[: len(generated)].min())
        tested = _test(distance, real, "held-out real crops", n_windows=held_out_windows)
    else:
        tested = _test_halves(generated, micrographs, n_real, isotropic=isotropic)
    n_positions = sum((m.shape[0] - rows + 1) * (m.shape[1] - columns + 1) for m in micrographs)
    nearest = replace(
        _with_distances(nearest, distance),
        compared_with=f"every position of the training part, also {_transformations(isotropic)}",
        held_out_minimum_mse=held_out_minimum,
        n_images=SearchCounts(generated=len(generated), training=n_positions),
        closest_pairs=tuple(matches),
    )
    return nearest, tested


def _test_halves(
    generated: np.ndarray, micrographs: Sequence[np.ndarray], n_real: int, *, isotropic: bool
) -> DataCopying:
    """Test for copies of one half of each micrograph; crops of the other halves are the unseen structures."""
    extent = (generated.shape[1], generated.shape[2])
    halves = [split(m, extent=extent, held_out_fraction=0.5) for m in micrographs]
    unseen = [other for _, other in halves if other is not None]
    if not unseen:
        return DataCopying.empty(reason="the micrographs are too small to hold a half of them out")
    trained = _transformed([one for one, other in halves if other is not None], extent, isotropic)
    references = [m for each in trained.values() for m in each]
    crops = random_crops(unseen, n_real, extent=extent, seed=HALVES_SEED)
    real = nearest_crop_distance(crops, references)
    windows = independent_windows([m.shape for m in unseen], extent)
    text = "one half of each micrograph"
    return _test(nearest_crop_distance(generated, references), real, text, n_windows=windows)


def _transformed(
    micrographs: Sequence[np.ndarray], extent: tuple[int, ...], isotropic: bool
) -> dict[str, list[np.ndarray]]:
    """Return the micrographs, if isotropic also transformed; the half turns of crops are searched elsewhere."""
    names = ["identity"]
    if isotropic:
        names += ["flip_columns", "rotate_90", "transpose"] if extent[0] == extent[1] else ["flip_columns"]
    return {name: [TRANSFORMATIONS[name](np.asarray(m)) for m in micrographs] for name in names}


def _test(generated: np.ndarray, real: np.ndarray, against: str, *, n_windows: float | None = None) -> DataCopying:
    """Compare distances of generated structures (M,) with those of unseen real ones (H,); z where it is calibrated."""
    if min(len(generated), len(real)) < MIN_SCORED:
        return DataCopying.empty(
            reason=f"needs at least {MIN_SCORED} generated and unseen real structures, there are {len(generated)} and "
            f"{len(real)}"
        )
    z = reason = None
    n_real = float(len(real))
    if n_windows is not None:
        n_real = effective_number(len(real), n_windows) if n_windows else 0.0
    if n_windows is None or n_windows >= MIN_WINDOWS:
        z = copying_score(generated, real, n_windows=n_windows)
    elif n_windows:
        reason = f"the unseen crops overlap in {n_windows:.1f} independent windows, a test needs {MIN_WINDOWS:.0f}"
    else:
        reason = "the unseen crops may overlap, and the micrographs that they were cut from are unknown"
    compared = compare_distributions(generated, real)
    n_nearer = int(np.count_nonzero(generated < real.min()))
    return DataCopying(
        z=z,
        compared_with=against,
        overlapping=n_windows is not None,
        n_windows=n_windows or None,
        n_images=DistanceCounts(generated=len(generated), real=len(real)),
        median_mse=float(np.median(generated)),
        real_median_mse=float(np.median(real)),
        n_nearer_than_any_real=n_nearer,
        expected_nearer=len(generated) / (n_real + 1) if n_real else None,
        nearer_p_value=chance_of_nearer(n_nearer, len(generated), n_real) if n_real else None,
        n_near_copies=int(np.count_nonzero(generated < 0.5 * real.min())),
        histogram=DistanceHistogram(
            edges=tuple(compared.edges.tolist()),
            generated=tuple(compared.first.tolist()),
            real=tuple(compared.second.tolist()),
        ),
        reason=reason,
    )


def _with_distances(nearest: NearestTraining, distance: np.ndarray) -> NearestTraining:
    """Fill in the measures that follow from the distances (M,) to the training data."""
    return replace(
        nearest,
        minimum_mse=float(distance.min()),
        median_mse=float(np.median(distance)),
        n_exact_copies=int(np.count_nonzero(distance == 0)),
        generated_index=int(distance.argmin()),
    )


def _transformations(isotropic: bool) -> str:
    return "turned or mirrored" if isotropic else "turned by 180 degrees"


def _independent_mse(original: np.ndarray, n_phases: int) -> float:
    """Return the mean squared difference of two independent pixels with the original's frequencies.

    For phases the probability that they differ, 1 - sum phi_i^2 = 2 phi (1 - phi) for two; for grey values twice the
    variance.
    """
    if n_phases == 0:
        return float(2 * original.var(dtype=np.float64))
    return float(1 - sum((original == phase).mean(dtype=np.float64) ** 2 for phase in range(n_phases)))
