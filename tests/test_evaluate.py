"""Evaluation: closed forms for sets of uniform images, the floor's distribution, copies, phases, bad input."""

from __future__ import annotations

import json
from math import comb

import numpy as np
import pytest

from mcrpy_diffusion.data.crops import random_crops
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.evaluation import features as evaluate_features
from mcrpy_diffusion.evaluation import statistics
from mcrpy_diffusion.evaluation.evaluate import evaluate
from mcrpy_diffusion.evaluation.features import GENERATIVE, compare_features
from mcrpy_diffusion.evaluation.results import Counts, Evaluation, SearchCounts
from mcrpy_diffusion.evaluation.sets import sampling_floor
from mcrpy_diffusion.evaluation.statistics import set_statistics
from mcrpy_diffusion.metrics.frechet_distance import frechet_distance, frechet_interval
from mcrpy_diffusion.metrics.image_features import FeatureNetwork
from mcrpy_diffusion.metrics.precision_recall import precision_recall

EXTENT = (8, 12)


def uniform(*values: int) -> np.ndarray:
    """Images of one phase each: S2(r) and L(r) of phase p are 1 for all r where the value is p, else 0."""
    return np.stack([np.full(EXTENT, value, dtype=np.uint8) for value in values])


def noise(n: int, *, seed: int, fraction: float = 0.4, extent: tuple[int, int] = EXTENT) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, *extent)) < fraction).astype(np.uint8)


@pytest.mark.parametrize("periodic", [True, False])
def test_a_set_against_itself_differs_in_nothing(periodic: bool) -> None:
    images = noise(5, seed=0)
    metrics = evaluate(images, images.copy(), n_phases=2, periodic=periodic, training=images, held_out=images.copy())
    assert metrics.volume_fraction.difference == 0
    assert metrics.volume_fraction.held_out_difference == 0
    for measure in ("two_point_correlation", "lineal_path"):
        assert getattr(metrics, measure).discrepancy_percent == 0
        assert getattr(metrics, measure).held_out_discrepancy_percent == 0
        assert getattr(metrics, measure).original_to_held_out_percent == 0
    assert metrics.nearest_training_image.minimum_mse == 0


@pytest.mark.parametrize("periodic", [True, False])
def test_closed_form_of_uniform_images(periodic: bool) -> None:
    """Curves are flat at 1/2 (original), 3/4 (generated), 1 (held out), 1/4 (training): eq. (23) by hand."""
    metrics = evaluate(
        uniform(0, 1),
        uniform(1, 1, 1, 0),
        n_phases=2,
        periodic=periodic,
        held_out=uniform(1, 1, 1),
        training=uniform(0, 0, 0, 1),
    )
    fraction = metrics.volume_fraction
    assert (fraction.original, fraction.generated, fraction.held_out) == (0.5, 0.75, 1.0)
    assert (fraction.original_std, fraction.held_out_std) == (0.5, 0.0)
    assert (fraction.difference, fraction.held_out_difference) == (0.25, -0.25)
    for measure in ("two_point_correlation", "lineal_path"):
        assert getattr(metrics, measure).discrepancy_percent == pytest.approx(50)
        assert getattr(metrics, measure).held_out_discrepancy_percent == pytest.approx(25)
        assert getattr(metrics, measure).original_to_held_out_percent == pytest.approx(100)
        assert getattr(metrics, measure).original_to_training_percent == pytest.approx(50)
    assert metrics.n_images == Counts(original=2, generated=4, training=4, held_out=3)
    assert metrics.nearest_training_image.independent_mse == 0.5


def test_lineal_path_is_the_mean_of_rows_and_columns_and_reaches_half_the_extent() -> None:
    rows = np.zeros(EXTENT, dtype=np.uint8)
    rows[:4] = 1  # a band of 4 of 8 rows: along the rows' direction always inside, across it 4 pixels long
    statistics = set_statistics(rows[None], phase=1, periodic=True)
    across = np.array([4, 3, 2, 1]) / 8
    assert statistics.lineal_path.shape == statistics.two_point_correlation.shape == (1, 4)
    np.testing.assert_allclose(statistics.lineal_path[0], (across + 0.5) / 2)
    assert statistics.volume_fraction == [0.5]


def test_statistics_do_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    images = noise(7, seed=1)
    whole = set_statistics(images, phase=1, periodic=False)
    monkeypatch.setattr(statistics, "_BLOCK_IMAGES", 3)
    blocks = set_statistics(images, phase=1, periodic=False)
    np.testing.assert_array_equal(whole.two_point_correlation, blocks.two_point_correlation)
    np.testing.assert_array_equal(whole.lineal_path, blocks.lineal_path)


def binomial(n: int) -> np.ndarray:
    """Probabilities of k = 0 .. n of n, each as likely as not."""
    return np.array([comb(n, k) / 2**n for k in range(n + 1)])


def between_two_sets(n: int, m: int) -> np.ndarray:
    """Differences (n + 1, m + 1) of k / m and i / n."""
    return np.abs(np.arange(m + 1) / m - (np.arange(n + 1) / n)[:, None])


def floor_of_halves(n: int, m: int) -> float:
    """The mean of 100 abs(k / m - i / n) / (i / n), without i = 0, where the phase is absent."""
    likely = binomial(n)[1:, None] * binomial(m) / (1 - binomial(n)[0])
    shares = (np.arange(1, n + 1) / n)[:, None]
    return float((likely * 100 * between_two_sets(n, m)[1:] / shares).sum())


@pytest.mark.parametrize(("n", "n_images"), [(100, 1), (100, 16), (40, 40), (12, 1000)])
def test_floor_has_the_mean_of_the_binomial_distribution(n: int, n_images: int) -> None:
    """Half of the curves are 0, half are 1: a draw's discrepancy is 100 abs(k / m - i / n) / (i / n), both binomial."""
    curves = np.repeat([[0.0] * 5, [1.0] * 5], n // 2, axis=0)
    found = sampling_floor(curves, n_images, n_draws=4000, seed=3)
    assert 3990 <= len(found) <= 4000
    assert abs(found.mean() - floor_of_halves(n, n_images)) <= 4 * found.std() / 4000**0.5 + 1e-9


def test_floor_belongs_to_both_numbers_of_images() -> None:
    for n, m in ((100, 4), (100, 64), (20, 64)):
        metrics = evaluate(uniform(*[0, 1] * (n // 2)), uniform(*[0, 1] * (m // 2)), n_phases=2, periodic=True)
        expected = float((binomial(n)[:, None] * binomial(m) * between_two_sets(n, m)).sum())
        assert metrics.volume_fraction.floor == pytest.approx(expected, rel=0.2)
        for measure in ("two_point_correlation", "lineal_path"):
            assert getattr(metrics, measure).floor_percent == pytest.approx(floor_of_halves(n, m), rel=0.2)


def test_what_was_not_given_is_none_and_json_keeps_all() -> None:
    metrics = evaluate(uniform(1), uniform(1, 0), n_phases=2, periodic=True)
    assert metrics.volume_fraction.floor is None
    assert metrics.volume_fraction.held_out_difference is None
    assert metrics.two_point_correlation.floor_percent is None
    assert metrics.lineal_path.held_out_discrepancy_percent is None
    assert metrics.nearest_training_image.minimum_mse is None
    assert Evaluation.from_dict(json.loads(json.dumps(metrics.to_dict(), allow_nan=False))) == metrics


def test_a_phase_that_the_held_out_part_lacks_has_no_discrepancy_to_it() -> None:
    metrics = evaluate(uniform(0, 1), uniform(1), n_phases=2, periodic=True, held_out=uniform(0))
    assert metrics.two_point_correlation.held_out_discrepancy_percent is None
    assert metrics.two_point_correlation.discrepancy_percent == pytest.approx(100)


def test_a_phase_that_the_generated_structures_alone_have_fits_worst() -> None:
    original, generated = noise(6, seed=0), noise(6, seed=1)
    generated[:, 0, 0] = 2
    metrics = evaluate(original, generated, n_phases=3, periodic=True)
    assert metrics.two_point_correlation.phase == metrics.lineal_path.phase == 2
    assert metrics.two_point_correlation.discrepancy_percent is None
    assert any("phase 2" in text and "generated" in text for text in metrics.warnings)
    without = evaluate(generated, original, n_phases=3, periodic=True)
    assert without.two_point_correlation.phase == 2
    assert without.two_point_correlation.discrepancy_percent == pytest.approx(100)
    assert any("phase 2" in text and "original" in text for text in without.warnings)


def test_masks_of_0_and_255_end_at_once_with_the_limit() -> None:
    with pytest.raises(InputError, match="at most 10 phases.*256"):
        evaluate(255 * noise(3, seed=0), noise(3, seed=1), n_phases=256, periodic=True)


def test_three_phases_show_the_one_that_fits_worst() -> None:
    original, generated = uniform(0, 1, 2, 2), uniform(0, 1, 1, 2)
    metrics = evaluate(original, generated, n_phases=3, periodic=True)
    percent = {p: values.two_point_correlation.discrepancy_percent for p, values in (metrics.phases or {}).items()}
    assert percent == {"0": 0, "1": pytest.approx(100), "2": pytest.approx(50)}
    assert metrics.two_point_correlation.phase == metrics.lineal_path.phase == 1
    assert metrics.two_point_correlation.discrepancy_percent == pytest.approx(100)
    assert abs(metrics.volume_fraction.difference) == 0.25
    assert metrics.nearest_training_image.independent_mse == pytest.approx(1 - 1 / 16 - 1 / 16 - 1 / 4)
    assert set(metrics.curves.phases) == {"0", "1", "2"}


def test_grey_values_are_cut_at_the_threshold_of_the_originals() -> None:
    original, generated = noise(6, seed=2), noise(5, seed=3, fraction=0.5)
    phases = evaluate(original, generated, n_phases=2, periodic=True)
    as_grey = [(0.2 + 0.3 * images).astype(np.float32) for images in (original, generated)]
    grey = evaluate(*as_grey, n_phases=0, periodic=True)
    assert 0.2 < grey.grey_threshold < 0.5
    for measure in ("volume_fraction", "two_point_correlation", "lineal_path"):
        assert getattr(grey, measure) == getattr(phases, measure)
    assert grey.nearest_training_image.independent_mse == pytest.approx(2 * as_grey[0].var(dtype=float))


def test_curves_hold_mean_and_percentiles() -> None:
    original = noise(11, seed=4)
    metrics = evaluate(original, noise(3, seed=5), n_phases=2, periodic=True, held_out=noise(4, seed=6))
    curve = metrics.curves.phases["1"].lineal_path.original
    of_each = set_statistics(original, phase=1, periodic=True).lineal_path
    assert metrics.curves.distance == (0, 1, 2, 3)
    np.testing.assert_allclose(curve.mean, of_each.mean(axis=0))
    np.testing.assert_allclose(curve.low, np.sort(of_each, axis=0)[1])  # of 11 values, the 10th percentile
    np.testing.assert_allclose(curve.high, np.sort(of_each, axis=0)[-2])


def test_a_copied_crop_is_found_and_named_even_if_turned() -> None:
    micrograph = noise(1, seed=7, extent=(20, 30))[0]
    generated = noise(6, seed=8)
    generated[4] = micrograph[5:13, 9:21][::-1, ::-1]
    held_out = noise(9, seed=9)
    held_out[7] = micrograph[:8, :12]  # beyond the number of generated ones: does not count
    metrics = evaluate(
        random_crops([micrograph], 20, extent=EXTENT, seed=0),
        generated,
        n_phases=2,
        periodic=False,
        held_out=held_out,
        micrographs=[micrograph],
    )
    nearest = metrics.nearest_training_image
    assert (nearest.minimum_mse, nearest.generated_index) == (0, 4)
    assert nearest.n_images == SearchCounts(generated=6, training=13 * 19)
    crops = np.stack([micrograph[i : i + 8, j : j + 12] for i in range(13) for j in range(19)])
    both = np.concatenate([crops, crops[:, ::-1, ::-1]])
    real = min((image != both).mean(axis=(1, 2)).min() for image in held_out[:6])  # as many as were generated
    assert nearest.held_out_minimum_mse == pytest.approx(real)


def test_a_shifted_training_image_is_a_copy_only_if_periodic() -> None:
    training = noise(3, seed=10)
    generated = np.concatenate([noise(2, seed=11), np.roll(training[1:2], (3, 5), axis=(1, 2))])
    found = {
        periodic: evaluate(training, generated, n_phases=2, periodic=periodic, training=training).nearest_training_image
        for periodic in (True, False)
    }
    assert (found[True].minimum_mse, found[True].generated_index, found[True].training_index) == (0, 2, 1)
    assert found[False].minimum_mse > 0.1


def test_an_original_of_another_extent_is_compared_up_to_the_smaller_one() -> None:
    larger = np.repeat(uniform(0, 1), 2, axis=1)
    assert larger.shape[1:] == (16, 12)
    for original in (larger, uniform(0, 1)[:, :6]):
        metrics = evaluate(original, uniform(1), n_phases=2, periodic=True)
        assert metrics.extent == (8, 12)
        assert metrics.curves.distance == tuple(range(min(8, *original.shape[1:]) // 2))
        assert metrics.lineal_path.discrepancy_percent == pytest.approx(100)


def test_training_images_that_are_the_originals_are_measured_once() -> None:
    images = noise(4, seed=12)
    metrics = evaluate(images, noise(2, seed=13), n_phases=2, periodic=True, training=images)
    assert metrics.n_images.training is None
    assert metrics.nearest_training_image.n_images == SearchCounts(generated=2, training=4)


def normal(n: int, *, seed: int, shift: float = 0.0) -> np.ndarray:
    return shift + np.random.default_rng(seed).normal(size=(n, 6))


def expected_measures(first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    found = precision_recall(first, second)
    return {"frechet_distance": frechet_distance(first, second)} | {n: getattr(found, n) for n in GENERATIVE[1:]}


def test_measures_by_features_are_those_of_all_images_with_their_intervals() -> None:
    original, generated, held_out = normal(40, seed=0), normal(25, seed=1, shift=0.5), normal(9, seed=2)
    measures = compare_features(original, generated, held_out=held_out)
    assert {name: m.value for name, m in vars(measures).items()} == expected_measures(original, generated)
    assert {name: m.held_out_value for name, m in vars(measures).items()} == expected_measures(held_out, generated)
    assert measures.frechet_distance.interval == frechet_interval(original, generated, seed=0)
    intervals = precision_recall(original, generated, n_resamples=200, seed=0).intervals
    for name, measure in vars(measures).items():
        assert measure.n_images == Counts(original=40, generated=25)
        assert measure.reason is None
        if name in intervals:
            assert measure.interval == intervals[name]


def test_floor_by_features_is_that_of_the_sets_given_for_it() -> None:
    original, generated, first, second = normal(40, seed=0), normal(25, seed=1), normal(40, seed=2), normal(25, seed=3)
    measures = compare_features(original, generated, floor_sets=(first, second))
    assert {name: m.floor for name, m in vars(measures).items()} == expected_measures(first, second)
    for measure in vars(measures).values():
        assert measure.floor_n_images == (40, 25)
        assert measure.value_at_floor_counts == measure.value


def test_overlapping_crops_are_not_divided_for_a_floor() -> None:
    measures = compare_features(normal(40, seed=0), normal(25, seed=1), divide=False)
    for measure in vars(measures).values():
        assert measure.floor is measure.value_at_floor_counts is None
        assert measure.value is not None
        assert "a floor needs two disjoint sets" in measure.reason


@pytest.mark.parametrize(("n", "m", "numbers"), [(40, 15, (25, 15)), (40, 20, (20, 20)), (41, 60, (21, 20))])
def test_floor_by_features_divides_the_originals(
    monkeypatch: pytest.MonkeyPatch, n: int, m: int, numbers: tuple[int, int]
) -> None:
    seen: list[tuple[np.ndarray, np.ndarray]] = []
    monkeypatch.setattr(evaluate_features, "frechet_distance", lambda *sets: seen.append(sets) or float(len(seen)))
    original, generated = normal(n, seed=0), normal(m, seed=1)
    measures = compare_features(original, generated)
    (_, all_generated), (first, second), (same, fewer) = seen  # value, floor, value in the floor's numbers
    assert (len(first), len(second)) == (len(same), len(fewer)) == measures.recall.floor_n_images == numbers
    assert {tuple(row) for row in (*first, *second)} == {tuple(row) for row in original}  # disjoint
    np.testing.assert_array_equal(same, first)
    assert {tuple(row) for row in fewer} <= {tuple(row) for row in all_generated}
    assert (measures.frechet_distance.floor, measures.frechet_distance.value_at_floor_counts) == (2, 3)


@pytest.mark.parametrize(
    ("n", "m", "distance", "precision"),
    [
        (9, 1, "needs at least 2 images of each set, there are 9 and 1", "needs at least 4 images"),
        (1, 9, "needs at least 2 images", "needs at least 4 images"),
        (3, 3, "interval needs at least 4 images", "needs at least 4 images"),
        (4, 4, None, "interval needs at least 8 images of each set, there are 4 and 4"),
        (9, 8, None, None),
        (30, 3, "interval needs at least 4", "needs at least 4 images"),
    ],
)
def test_too_few_images_for_a_measure_are_named(n: int, m: int, distance: str | None, precision: str | None) -> None:
    measures = compare_features(normal(n, seed=0), normal(m, seed=1))
    for name, said in (("frechet_distance", distance), ("precision", precision)):
        measure = getattr(measures, name)
        assert (measure.reason is None) == (said is None)
        assert said is None or said in measure.reason
        assert (measure.value is None) == (said is not None and said.startswith("needs"))
        assert (measure.interval is None) == (said is not None)
    assert json.loads(json.dumps(measures.to_dict(), allow_nan=False)) == measures.to_dict()


def coarse_network() -> FeatureNetwork:
    """Features that can be computed by hand: the means of the four quarters of an image."""
    import torch
    import torch.nn.functional as F

    def compute(batch: torch.Tensor) -> torch.Tensor:
        return F.adaptive_avg_pool2d(batch.double(), 2).flatten(1)

    return FeatureNetwork("coarse", "Coarse", "distance of means", 2, compute, torch.device("cpu"))


def quarters(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), 2, 4, 2, 6).mean(axis=(2, 4)).reshape(len(images), 4)


def test_features_of_the_images_are_compared() -> None:
    sets = {"original": noise(30, seed=0), "generated": noise(12, seed=1), "held_out": noise(11, seed=2)}
    floor_sets = noise(13, seed=3), noise(14, seed=4)
    metrics = evaluate(**sets, n_phases=2, periodic=True, features=coarse_network(), floor_sets=floor_sets)
    found = {name: quarters(images) for name, images in sets.items()}
    for name in GENERATIVE:
        measure = getattr(metrics, name)
        assert measure.features == "coarse"
        assert measure.value == pytest.approx(expected_measures(found["original"], found["generated"])[name])
        assert measure.held_out_value == pytest.approx(expected_measures(found["held_out"], found["generated"])[name])
        assert measure.floor == pytest.approx(expected_measures(*map(quarters, floor_sets))[name])
    assert metrics.frechet_distance.name == "distance of means"
    assert metrics.precision.name == "precision (Coarse)"
    assert Evaluation.from_dict(json.loads(json.dumps(metrics.to_dict(), allow_nan=False))) == metrics


def test_crops_of_a_micrograph_are_warned_of_and_not_divided() -> None:
    given = {"n_phases": 2, "periodic": False, "features": coarse_network()}
    micrograph = noise(1, seed=5, extent=(20, 30))[0]
    for more in ({"micrographs": [micrograph]}, {"overlapping": True}):
        metrics = evaluate(noise(30, seed=0), noise(12, seed=1), **given, **more)
        assert metrics.recall.floor is None
        assert "overlap" in metrics.warnings[0]
    assert evaluate(noise(30, seed=0), noise(12, seed=1), **given).recall.floor_n_images == (18, 12)


def test_few_images_are_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"n_phases": 2, "periodic": True, "features": coarse_network()}
    metrics = evaluate(noise(20, seed=0), noise(10, seed=1), **given)
    assert len(metrics.warnings) == 1
    assert "fewer than 2048 images" in metrics.warnings[0]
    monkeypatch.setattr(evaluate_features, "ENOUGH_IMAGES", 10)
    assert evaluate(noise(20, seed=0), noise(10, seed=1), **given).warnings == ()
    assert evaluate(noise(20, seed=0), noise(9, seed=1), **given).warnings != ()


def test_without_features_their_measures_are_none() -> None:
    metrics = evaluate(noise(20, seed=0), noise(10, seed=1), n_phases=2, periodic=True)
    for name in GENERATIVE:
        assert getattr(metrics, name).value is getattr(metrics, name).floor is getattr(metrics, name).features is None
        assert getattr(metrics, name).reason == "no features were asked for"
    assert metrics.warnings == ()
    other = noise(20, seed=0, extent=(16, 12))
    metrics = evaluate(other, noise(10, seed=1), n_phases=2, periodic=True, features=coarse_network())
    assert metrics.recall.value is None
    assert "another extent" in metrics.recall.reason


@pytest.mark.parametrize(
    ("original", "generated", "held_out", "words"),
    [
        (noise(0, seed=0), noise(2, seed=0), None, "at least one original structure"),
        (noise(2, seed=0), noise(0, seed=0), None, "at least one generated structure"),
        (noise(2, seed=0)[0], noise(2, seed=0), None, "original structures must have shape"),
        (noise(2, seed=0), noise(2, seed=0), noise(2, seed=0, extent=(12, 8)), "held_out structures must have shape"),
        (noise(2, seed=0, extent=(3, 9)), noise(2, seed=0, extent=(3, 9)), None, "4 x 4"),
    ],
)
def test_sets_that_cannot_be_compared(
    original: np.ndarray, generated: np.ndarray, held_out: np.ndarray | None, words: str
) -> None:
    with pytest.raises(InputError, match=words):
        evaluate(original, generated, n_phases=2, periodic=True, held_out=held_out)
