"""The search for copies: planted ones are found and laid on what they copy; real against real gives z near 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mcrpy_diffusion.evaluation.copies import MIN_SCORED, N_PAIRS, find_copies
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.pairs import find_pairs
from mcrpy_diffusion.evaluation.results import DistanceCounts, Evaluation
from mcrpy_diffusion.metrics.copying import nearest_crop_distance
from mcrpy_diffusion.metrics.copying_score import copying_score
from mcrpy_diffusion.metrics.nearest_images import TRANSFORMATIONS, nearest_images

EXTENT = (8, 8)


def noise(n: int, *, seed: int, extent: tuple[int, int] = EXTENT) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, *extent)) < 0.4).astype(np.uint8)


def found(generated: np.ndarray, *, periodic: bool = True, **more: Any) -> Evaluation:
    original = noise(30, seed=100)
    return evaluate(original, generated, n_phases=2, periodic=periodic, **more)


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("isotropic", [False, True])
def test_a_moved_copy_of_a_training_structure_is_found_and_laid_on_it(name: str, isotropic: bool) -> None:
    training, generated = noise(20, seed=0), noise(9, seed=1)
    generated[4] = np.roll(TRANSFORMATIONS[name](training[11]), (3, 6), axis=(0, 1))
    metrics = found(generated, training=training, isotropic=isotropic)
    nearest = metrics.nearest_training_image
    if not isotropic and name not in ("identity", "rotate_180"):
        assert nearest.minimum_mse > 0
        assert nearest.n_exact_copies == 0
        return
    assert (nearest.minimum_mse, nearest.n_exact_copies) == (0, 1)
    assert (nearest.generated_index, nearest.training_index) == (4, 11)
    pairs = find_pairs(metrics.nearest_training_image.closest_pairs, generated, training=training)
    assert len(pairs) == N_PAIRS
    assert [pair.distance for pair in pairs] == sorted(pair.distance for pair in pairs)
    for pair in pairs:  # each is laid on its structure exactly as it was compared
        assert pair.local_error.mean() == pytest.approx(pair.distance, abs=1e-12)
        np.testing.assert_array_equal(pair.generated, generated[pair.generated_index])
    np.testing.assert_array_equal(pairs[0].training, generated[4])


@pytest.mark.parametrize("name", TRANSFORMATIONS)
@pytest.mark.parametrize("isotropic", [False, True])
def test_a_moved_copy_of_any_crop_is_found_and_laid_on_it(name: str, isotropic: bool) -> None:
    micrographs = [noise(1, seed=2, extent=(11, 30))[0], noise(1, seed=3, extent=(24, 13))[0]]
    generated = noise(9, seed=4)
    generated[7] = TRANSFORMATIONS[name](micrographs[1][13:21, 2:10])
    metrics = found(generated, periodic=False, micrographs=micrographs, isotropic=isotropic)
    nearest = metrics.nearest_training_image
    if not isotropic and name not in ("identity", "rotate_180"):
        assert nearest.minimum_mse > 0
        return
    assert (nearest.minimum_mse, nearest.n_exact_copies, nearest.generated_index) == (0, 1, 7)
    assert nearest.closest_pairs[0].micrograph == 1
    pairs = find_pairs(metrics.nearest_training_image.closest_pairs, generated, micrographs=micrographs)
    np.testing.assert_array_equal(pairs[0].training, generated[7])
    for pair in pairs:
        assert pair.local_error.mean() == pytest.approx(pair.distance, abs=1e-12)


def test_pairs_of_grey_values_have_squared_errors() -> None:
    rng = np.random.default_rng(5)
    training, generated = rng.random((20, *EXTENT)), rng.random((9, *EXTENT))
    metrics = evaluate(training, generated, n_phases=0, periodic=True, training=training)
    for pair in find_pairs(metrics.nearest_training_image.closest_pairs, generated, training=training):
        np.testing.assert_allclose(pair.local_error, (pair.generated - pair.training) ** 2)
        assert pair.local_error.mean() == pytest.approx(pair.distance)


def test_score_of_held_out_structures_is_that_of_the_distances() -> None:
    training, generated, held_out = noise(20, seed=0), noise(15, seed=1), noise(12, seed=2)
    copying = found(generated, periodic=False, training=training, held_out=held_out).data_copying

    def distance(images: np.ndarray) -> np.ndarray:
        both = np.concatenate([training, training[:, ::-1, ::-1]])
        return (images[:, None] != both).mean(axis=(2, 3)).min(axis=1)

    real, made = distance(held_out), distance(generated)
    assert copying.z == pytest.approx(copying_score(made, real))
    assert copying.n_images == DistanceCounts(generated=15, real=12)
    assert copying.n_nearer_than_any_real == (made < real.min()).sum()
    assert copying.expected_nearer == 15 / 13
    assert (copying.median_mse, copying.real_median_mse) == (np.median(made), np.median(real))
    assert sum(copying.histogram.real) == pytest.approx(1)
    assert copying.overlapping is False


def test_real_structures_score_near_0_and_copies_far_below() -> None:
    """Scores of independent structures are standard normal: all of 20 within 4, their mean within 4 / sqrt(20)."""
    of_pixels: dict[str, Any] = {"n_phases": 2, "periodic": False, "micrographs": None}
    of_pixels |= {"held_out_windows": None, "overlapping": False, "isotropic": False}

    def score(k: int) -> float:
        given = {"original": noise(30, seed=100), "generated": noise(40, seed=10 + k)}
        return find_copies(given, training=noise(60, seed=200 + k), **of_pixels)[1].z

    scores = [score(k) for k in range(20)]
    assert max(map(abs, scores)) < 4
    assert abs(np.mean(scores)) < 4 / 20**0.5
    assert np.std(scores) > 0.5
    training = noise(160, seed=200)
    copies = training[:120].copy()
    copies[:, 0, 0] ^= 1
    copying = found(copies, periodic=False, training=training).data_copying
    assert copying.z < -4
    assert copying.compared_with == "one half of the training data"
    unlike = np.ones((40, *EXTENT), dtype=np.uint8)
    assert found(unlike, periodic=False, training=training).data_copying.z > 4


def test_crops_are_tested_against_the_other_half_of_their_micrograph() -> None:
    micrograph = noise(1, seed=6, extent=(60, 40))[0]
    real = found(noise(30, seed=7), periodic=False, micrographs=[micrograph]).data_copying
    assert abs(real.z) < 4
    assert real.overlapping is True
    assert real.n_images == DistanceCounts(generated=30, real=64)
    copies = np.stack([micrograph[i : i + 8, 3 : 3 + 8] for i in range(22)])  # of the first half
    assert found(copies, periodic=False, micrographs=[micrograph]).data_copying.z < -4


def test_held_out_crops_are_compared_with_every_position() -> None:
    micrograph, held_out = noise(1, seed=6, extent=(60, 40))[0], noise(90, seed=8)
    metrics = found(noise(9, seed=7), periodic=False, micrographs=[micrograph], held_out=held_out)
    real = nearest_crop_distance(held_out[:64], [micrograph])
    assert metrics.data_copying.real_median_mse == np.median(real)
    assert metrics.nearest_training_image.held_out_minimum_mse == real[:9].min()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, "no training structures were given"),
        ({"training": noise(40, seed=0), "overlapping": True}, "crops that overlap"),
        ({"training": noise(2 * MIN_SCORED - 1, seed=0)}, "15 training structures are too few"),
        ({"micrographs": [noise(1, seed=0, extent=(15, 15))[0]]}, "too small to hold a half"),
        ({"training": noise(40, seed=0), "held_out": noise(7, seed=1)}, "there are 12 and 7"),
    ],
)
def test_why_there_is_no_score(more: dict[str, Any], reason: str) -> None:
    copying = found(noise(12, seed=3), periodic=False, **more).data_copying
    assert copying.z is copying.histogram is None
    assert reason in copying.reason


@pytest.mark.parametrize("periodic", [True, False])
def test_pairs_found_in_halves_are_those_of_all_training_structures(periodic: bool) -> None:
    training, generated = noise(30, seed=0, extent=(4, 6)), noise(40, seed=1, extent=(4, 6))  # small: many are as near
    nearest = evaluate(training, generated, n_phases=2, periodic=periodic, training=training).nearest_training_image
    found = nearest_images(generated, training, shifts=periodic, transformations=("identity", "rotate_180"))
    assert nearest.median_mse == np.median(found.distance)
    for row, k in zip(nearest.closest_pairs, np.argsort(found.distance, kind="stable")):
        assert (row.generated_index, row.training_index) == (k, found.reference[k])
        assert (row.mse, row.transformation) == (found.distance[k], found.transformation[k])
        assert row.shift == tuple(found.shift[k])
