"""The verdict: right for equal sets, wrong models, copies, and sets that tell nothing."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mcrpy_diffusion.data.crops import random_crops
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.results import Evaluation
from mcrpy_diffusion.evaluation.verdict import DIFFERENT, EQUIVALENT, NOT_COMPARABLE, judge
from mcrpy_diffusion.reports.sentences import summary


def noise(n: int, *, seed: int, fraction: float = 0.4, extent: tuple[int, int] = (12, 12)) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, *extent)) < fraction).astype(np.uint8)


def compared(original: np.ndarray, generated: np.ndarray, **more) -> Evaluation:
    return evaluate(original, generated, n_phases=2, periodic=False, **more)


def test_equal_sets_are_equivalent_and_the_limit_is_told() -> None:
    found = compared(noise(60, seed=0), noise(40, seed=1))
    assert found.verdict.outcome == EQUIVALENT
    assert found.verdict.measures == ()
    assert "40 structures" in found.verdict.text
    assert f"S2 {found.two_point_correlation.floor_95_percent:.2g} %" in found.verdict.text


def test_a_few_percent_of_real_sets_differ() -> None:
    """Holm's method: of all measures together, at most 5 % of equal sets."""
    found = [compared(noise(60, seed=k), noise(40, seed=1000 + k)).verdict.outcome for k in range(12)]
    assert found.count(DIFFERENT) <= 3


def test_a_wrong_model_differs_and_the_measures_are_named() -> None:
    found = compared(noise(60, seed=0), noise(40, seed=1, fraction=0.5))
    assert found.verdict.outcome == DIFFERENT
    assert {"volume fraction", "two-point correlation", "lineal path"} <= set(found.verdict.measures)
    assert f"{found.two_point_correlation.discrepancy_percent:.2g} %" in found.verdict.text


@pytest.mark.parametrize(
    ("original", "more", "reason"),
    [
        (noise(1, seed=0), {}, "one original"),
        (noise(50, seed=0), {"overlapping": True}, "without their micrographs"),
        (noise(50, seed=0), {"micrographs": [noise(1, seed=3, extent=(16, 16))[0]]}, "windows"),
    ],
)
def test_what_tells_nothing_is_not_comparable(original: np.ndarray, more: dict, reason: str) -> None:
    verdict = compared(original, noise(40, seed=1, fraction=0.9), **more).verdict
    assert verdict.outcome == NOT_COMPARABLE
    assert reason in verdict.text
    assert "S2 differs by" in verdict.text


def test_near_copies_are_named_though_the_score_is_not_low() -> None:
    """12 of 64 structures are training structures but for one pixel in a thousand."""
    training, held_out = noise(200, seed=0, extent=(32, 32)), noise(200, seed=1, extent=(32, 32))
    generated = noise(64, seed=2, extent=(32, 32))
    generated[:12] = training[:12]
    generated[:12, 5, 5] ^= 1
    found = compared(training, generated, training=training, held_out=held_out)
    copying = found.data_copying
    assert copying.z > -3
    assert found.nearest_training_image.n_exact_copies == 0
    assert copying.n_nearer_than_any_real >= 12
    assert copying.nearer_p_value < 1e-6
    assert found.verdict.copies
    assert "12 of 64 nearly" in found.verdict.text
    assert "12 of the generated structures are nearer" in summary(found)
    real = compared(training, noise(64, seed=3, extent=(32, 32)), training=training, held_out=held_out)
    assert not real.verdict.copies


def test_copies_of_crops_are_named() -> None:
    micrograph = noise(1, seed=4, extent=(60, 60))[0]
    original, copies = (random_crops([micrograph], n, extent=(12, 12), seed=n) for n in (100, 30))
    verdict = compared(original, copies, micrographs=[micrograph]).verdict
    assert verdict.copies
    assert "30 of 30 exactly" in verdict.text


def test_near_copies_of_crops_are_named_though_their_windows_are_few() -> None:
    micrograph, held_out = noise(1, seed=4, extent=(60, 60))[0], noise(1, seed=5, extent=(14, 60))[0]
    original, generated = random_crops([micrograph], 100, extent=(12, 12), seed=0), noise(30, seed=6)
    generated[:10] = random_crops([micrograph], 10, extent=(12, 12), seed=1)
    generated[:10, 3, 5] ^= 1
    unseen = random_crops([held_out], 64, extent=(12, 12), seed=2)
    more = {"micrographs": [micrograph], "held_out": unseen, "held_out_micrographs": [held_out]}
    found = compared(original, generated, **more)
    assert found.data_copying.n_near_copies == 10
    assert found.verdict.copies
    assert not compared(original, noise(30, seed=7), **more).verdict.copies


def test_a_difference_of_less_than_a_pixel_does_not_count() -> None:
    found = compared(noise(60, seed=0), noise(40, seed=1))
    tiny = replace(found.volume_fraction, difference=0.9 / 144, floor=1e-6, p_value=1e-3)
    assert judge(replace(found, volume_fraction=tiny)).outcome == EQUIVALENT
    large = replace(tiny, difference=1.1 / 144)
    assert judge(replace(found, volume_fraction=large)).measures == ("volume fraction",)
