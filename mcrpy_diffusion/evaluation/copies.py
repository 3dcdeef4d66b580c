"""Part of stage 4: are generated structures copies of the training data, section 3.1.3 of the paper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mcrpy_diffusion.data.crops import random_crops, split
from mcrpy_diffusion.metrics.copying import nearest_crop_distance
from mcrpy_diffusion.metrics.copying_score import copying_score
from mcrpy_diffusion.metrics.grains import compare_distributions
from mcrpy_diffusion.metrics.nearest_crops import CropPlace, nearest_crop
from mcrpy_diffusion.metrics.nearest_images import TRANSFORMATIONS, ImagePairs, closest_pairs, nearest_images
from mcrpy_diffusion.runtime import frameworks

NEAREST = ("minimum_mse", "median_mse", "n_exact_copies", "generated_index", "training_index")
N_PAIRS = 6  # as in figure 6
N_REAL_CROPS = 64  # unseen crops at least, where there are so many: each is compared with every position
MIN_SCORED = 8  # distances of each kind below which there is no z-score
HALVES_SEED = 0
_WORDS = {
    "rotate_180": "turned by 180 degrees",
    "rotate_90": "turned by 90 degrees",
    "rotate_270": "turned by 270 degrees",
    "flip_rows": "rows mirrored",
    "flip_columns": "columns mirrored",
    "transpose": "mirrored at the diagonal",
    "anti_transpose": "mirrored at the other diagonal",
}
KEPT_STATISTICS = ("identity", "rotate_180")
"""What keeps all statistics, so that a copy may have gone through it; the others are for isotropic materials."""


@dataclass(frozen=True)
class Pair:
    """A generated structure and the training structure that is nearest to it, laid on it: (I, J) each."""

    generated_index: int
    distance: float
    generated: np.ndarray
    training: np.ndarray
    found: str

    @property
    def local_error(self) -> np.ndarray:
        """Squared difference of each pixel (I, J), figure 7 of the paper; for phases 1 where they differ, else 0."""
        if self.generated.dtype.kind == "f":
            return (self.generated.astype(np.float64) - self.training) ** 2
        return (self.generated != self.training).astype(np.float64)


def find_copies(
    given: Mapping[str, np.ndarray],
    *,
    n_phases: int,
    periodic: bool,
    training: np.ndarray | None,
    micrographs: Sequence[np.ndarray] | None,
    overlapping: bool,
    isotropic: bool,
) -> dict[str, dict[str, Any]]:
    """Measure how near generated structures come to what was trained on, and how near real unseen ones come.

    Parameters
    ----------
    given : mapping
        `original` (N, A, B), `generated` (M, I, J) and, where there are any, `held_out`.
    n_phases : int
        Number of phases, 0 for grey values.
    periodic : bool
        Whether a copy may be shifted across the edges.
    training : (K, I, J), optional
        Training structures; not used where there are micrographs.
    micrographs : sequence of (C, D), optional
        What training crops were cut from.
    overlapping : bool
        Whether training structures overlap, so that a half of them is no set of unseen ones for the other.
    isotropic : bool
        Whether copies are looked for in mirror images and, of square structures, quarter turns too.

    Returns
    -------
    dict
        `nearest_training_image` and `data_copying`, as docs/evaluation.md says.
    """
    generated = given["generated"]
    not_found = not_looked_for(len(generated), _independent_mse(given["original"], n_phases))
    nearest = not_found["nearest_training_image"]
    if micrographs:
        parts = _turned(micrographs, generated.shape[1:], isotropic)
        return _crops(nearest, given, parts, turned=isotropic)
    if training is not None and len(training):
        return _structures(nearest, given, training, periodic, overlapping, isotropic)
    return not_found


def not_looked_for(n_generated: int, independent_mse: float) -> dict[str, dict[str, Any]]:
    """Return what `find_copies` does without training structures.

    Parameters
    ----------
    n_generated : int
        Number of generated structures.
    independent_mse : float
        Pixel MSE of independent structures.
    """
    nearest: dict[str, Any] = dict.fromkeys(
        ("minimum_mse", "median_mse", "n_exact_copies", "generated_index", "training_index")
    )
    nearest |= {"independent_mse": independent_mse, "held_out_minimum_mse": None}
    nearest |= {"n_images": {"generated": n_generated, "training": 0}, "compared_with": None, "closest_pairs": []}
    return {"nearest_training_image": nearest, "data_copying": _no_test("no training structures were given")}


def pairs_of(
    metrics: Mapping[str, Any],
    generated: np.ndarray,
    *,
    training: np.ndarray | None = None,
    micrographs: Sequence[np.ndarray] | None = None,
) -> list[Pair]:
    """Return the closest pairs that were found, the closest first, as in figure 6 of the paper.

    Parameters
    ----------
    metrics : mapping
        What `evaluate` returned.
    generated, training, micrographs
        What it was given.

    Returns
    -------
    list of Pair
        Empty where neither training structures nor micrographs are given.
    """
    pairs = []
    for row in metrics["nearest_training_image"]["closest_pairs"]:
        image = generated[row["generated_index"]]
        if "micrograph" in row and micrographs:
            part = TRANSFORMATIONS[row["transformation"]](np.asarray(micrographs[row["micrograph"]]))
            place = CropPlace(0, row["row"], row["column"], row["rotated_180"], row["mse"])
            reference = place.cut([part], (image.shape[0], image.shape[1]))
            found = f"micrograph {row['micrograph']}"
        elif "training_index" in row and training is not None:
            turned = TRANSFORMATIONS[row["transformation"]](training[row["training_index"]])
            reference, found = np.roll(turned, row["shift"], axis=(0, 1)), f"training structure {row['training_index']}"
        else:
            continue
        pairs.append(Pair(row["generated_index"], row["mse"], image, reference, found + _moved(row)))
    return pairs


def _moved(row: Mapping[str, Any]) -> str:
    """Say in words how a training structure was moved to lie on the generated one."""
    words = [] if row["transformation"] == "identity" else [_WORDS[row["transformation"]]]
    if "micrograph" in row:
        at = f" at row {row['row']}, column {row['column']}"
        return at + "".join(f", {word}" for word in [*words, *([_WORDS["rotate_180"]] if row["rotated_180"] else [])])
    if any(row["shift"]):
        words.append(f"shifted by {row['shift'][0]}, {row['shift'][1]}")
    return "".join(f", {word}" for word in words)


def _structures(
    nearest: dict[str, Any],
    given: Mapping[str, np.ndarray],
    training: np.ndarray,
    periodic: bool,
    overlapping: bool,
    isotropic: bool,
) -> dict[str, dict[str, Any]]:
    """Look for copies of whole training structures."""
    generated, held_out = given["generated"], given.get("held_out")
    square = generated.shape[1] == generated.shape[2]
    allowed = [*TRANSFORMATIONS] if square else [*TRANSFORMATIONS][:4]
    names = allowed if isotropic else KEPT_STATISTICS

    def search(images: np.ndarray, references: np.ndarray) -> ImagePairs:
        frameworks.before_torch()
        return nearest_images(images, references, shifts=periodic, transformations=names)

    in_halves = held_out is None and not overlapping and len(training) >= 2 * MIN_SCORED
    if in_halves:  # nothing is compared twice
        order = np.random.default_rng(HALVES_SEED).permutation(len(training))
        one, other = np.sort(order[len(order) // 2 :]), np.sort(order[: len(order) // 2])
        to_one = search(generated, training[one])
        pairs = _nearer(to_one, one, search(generated, training[other]), other)
    else:
        pairs = search(generated, training)
    shifts = "under all shifts, " if periodic else ""
    turned = "turned by 180 degrees" if not isotropic else "turned or mirrored"
    nearest["compared_with"] = f"every training image, {shifts}also {turned}"
    nearest["training_index"] = int(pairs.reference[pairs.distance.argmin()])
    nearest["n_images"]["training"] = len(training)
    closest = closest_pairs(pairs, N_PAIRS)
    nearest["closest_pairs"] = [
        {
            "generated_index": int(closest.image[k]),
            "training_index": int(closest.reference[k]),
            "transformation": str(closest.transformation[k]),
            "shift": closest.shift[k].tolist(),
            "mse": float(closest.distance[k]),
        }
        for k in range(len(closest.image))
    ]
    if held_out is not None:
        real = search(held_out, training).distance
        nearest["held_out_minimum_mse"] = float(real[: len(generated)].min())
        tested = _test(pairs.distance, real, "held-out real structures")
    elif in_halves:
        real = search(training[other], training[one]).distance
        tested = _test(to_one.distance, real, "one half of the training data")
    elif overlapping:
        tested = _no_test("the training structures are crops that overlap, and none were held out")
    else:
        tested = _no_test(f"{len(training)} training structures are too few to hold a half of them out")
    return {"nearest_training_image": nearest | _smallest(pairs.distance), "data_copying": tested}


def _nearer(first: ImagePairs, first_index: np.ndarray, second: ImagePairs, second_index: np.ndarray) -> ImagePairs:
    """Return the nearer pair of each image; the indices of both sets of references among all are given."""
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
    nearest: dict[str, Any], given: Mapping[str, np.ndarray], parts: dict[str, list[np.ndarray]], *, turned: bool
) -> dict[str, dict[str, Any]]:
    """Look for copies of any crop of the micrographs; `parts` holds these by the transformation they went through."""
    generated, held_out = given["generated"], given.get("held_out")
    micrographs, everything = parts["identity"], [m for each in parts.values() for m in each]
    rows, columns = generated.shape[1:]
    n_positions = sum((m.shape[0] - rows + 1) * (m.shape[1] - columns + 1) for m in micrographs)
    nearest["n_images"]["training"] = n_positions
    ways = "turned or mirrored" if turned else "turned by 180 degrees"
    nearest["compared_with"] = f"every position of the training part, also {ways}"
    distance = nearest_crop_distance(generated, everything)
    owners = [(name, k) for name, each in parts.items() for k in range(len(each))]
    for i in np.argsort(distance, kind="stable")[:N_PAIRS]:
        place = nearest_crop(generated[i], everything)
        name, k = owners[place.micrograph]
        where = {"micrograph": k, "row": place.row, "column": place.column, "rotated_180": place.rotated}
        nearest["closest_pairs"].append(
            {"generated_index": int(i), "transformation": name, **where, "mse": place.distance}
        )
    n_real = max(len(generated), N_REAL_CROPS)
    if held_out is not None:
        real = nearest_crop_distance(held_out[:n_real], everything)
        nearest["held_out_minimum_mse"] = float(real[: len(generated)].min())
        tested = _test(distance, real, "held-out real crops", overlapping=True)
    else:
        tested = _test_halves(generated, micrographs, n_real, isotropic=turned)
    return {"nearest_training_image": nearest | _smallest(distance), "data_copying": tested}


def _test_halves(
    generated: np.ndarray, micrographs: Sequence[np.ndarray], n_real: int, *, isotropic: bool
) -> dict[str, Any]:
    """Do the data-copying test against one half of each micrograph, with crops of the other halves as unseen ones."""
    extent = (generated.shape[1], generated.shape[2])
    halves = [split(m, extent=extent, held_out_fraction=0.5) for m in micrographs]
    unseen = [other for _, other in halves if other is not None]
    if not unseen:
        return _no_test("the micrographs are too small to hold a half of them out")
    trained = _turned([one for one, other in halves if other is not None], extent, isotropic)
    references = [m for each in trained.values() for m in each]
    crops = random_crops(unseen, n_real, extent=extent, seed=HALVES_SEED)
    real = nearest_crop_distance(crops, references)
    text = "one half of each micrograph"
    return _test(nearest_crop_distance(generated, references), real, text, overlapping=True)


def _turned(micrographs: Sequence[np.ndarray], extent: tuple[int, ...], isotropic: bool) -> dict[str, list[np.ndarray]]:
    """Return the micrographs as they are and, if isotropic, all that half turns of crops do not make of them."""
    names = ["identity"]
    if isotropic:
        names += ["flip_columns", "rotate_90", "transpose"] if extent[0] == extent[1] else ["flip_columns"]
    return {name: [TRANSFORMATIONS[name](np.asarray(m)) for m in micrographs] for name in names}


def _test(
    generated: np.ndarray, real: np.ndarray, against: str, *, overlapping: bool = False
) -> dict[str, dict[str, Any] | Any]:
    """Test whether distances of generated structures (M,) are those of real unseen ones (H,)."""
    if min(len(generated), len(real)) < MIN_SCORED:
        return _no_test(
            f"needs at least {MIN_SCORED} generated and unseen real ones, there are {len(generated)} and {len(real)}"
        )
    compared = compare_distributions(generated, real)
    shares = {"generated": compared.first.tolist(), "real": compared.second.tolist()}
    return {
        "z": copying_score(generated, real),
        "compared_with": against,
        "overlapping": overlapping,
        "n_images": {"generated": len(generated), "real": len(real)},
        "median_mse": float(np.median(generated)),
        "real_median_mse": float(np.median(real)),
        "n_nearer_than_any_real": int(np.count_nonzero(generated < real.min())),
        "expected_nearer": len(generated) / (len(real) + 1),
        "histogram": {"edges": compared.edges.tolist(), **shares},
        "reason": None,
    }


def _no_test(reason: str) -> dict[str, Any]:
    keys = ("z", "compared_with", "overlapping", "n_images", "median_mse", "real_median_mse")
    return {**dict.fromkeys((*keys, "n_nearer_than_any_real", "expected_nearer", "histogram")), "reason": reason}


def _smallest(distance: np.ndarray) -> dict[str, Any]:
    nearest = {"minimum_mse": float(distance.min()), "median_mse": float(np.median(distance))}
    return nearest | {"generated_index": int(distance.argmin()), "n_exact_copies": int(np.count_nonzero(distance == 0))}


def _independent_mse(original: np.ndarray, n_phases: int) -> float:
    """Return the mean squared difference of two independent pixels with the original's frequencies.

    For phases the probability that they differ, 1 - sum phi_i^2 = 2 phi (1 - phi) for two; for grey values twice the
    variance.
    """
    if n_phases == 0:
        return float(2 * original.var(dtype=np.float64))
    return float(1 - sum((original == phase).mean(dtype=np.float64) ** 2 for phase in range(n_phases)))
