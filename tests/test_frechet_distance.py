"""Frechet distance: closed forms, the definition by eigen-decomposition, pytorch-fid's own, scatter as measured."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics import frechet_distance as module
from mcrpy_diffusion.metrics.frechet_distance import centred_interval, frechet_distance, frechet_interval, random_halves


def features(n: int, d: int, *, seed: int, scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + rng.normal(size=d)


def by_definition(first: np.ndarray, second: np.ndarray) -> float:
    """Eq. (18) with the root of the symmetric A^1/2 B A^1/2 by two eigen-decompositions."""
    a, b = (np.cov(f, rowvar=False) for f in (first, second))
    values, vectors = np.linalg.eigh(a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T
    trace = np.sqrt(np.linalg.eigvalsh(root @ b @ root).clip(0)).sum()
    return float(((first.mean(0) - second.mean(0)) ** 2).sum() + np.trace(a) + np.trace(b) - 2 * trace)


@pytest.mark.parametrize(("n", "m", "d"), [(50, 40, 7), (9, 30, 20), (30, 9, 20), (12, 11, 20), (2, 2, 3)])
def test_it_is_the_definition_for_few_and_for_many_images(n: int, m: int, d: int) -> None:
    first, second = features(n, d, seed=0), features(m, d, seed=1, scale=1.5)
    assert frechet_distance(first, second) == pytest.approx(by_definition(first, second), rel=1e-6)
    assert frechet_distance(second, first) == pytest.approx(frechet_distance(first, second), rel=1e-12)


def test_it_is_pytorch_fids() -> None:
    score = pytest.importorskip("pytorch_fid.fid_score")
    first, second = features(60, 8, seed=2), features(70, 8, seed=3, scale=0.5)
    statistics = [part for f in (first, second) for part in (f.mean(0), np.cov(f, rowvar=False))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # scipy.linalg.sqrtm(disp=False)
        expected = score.calculate_frechet_distance(*statistics)
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "d"), [(50, 5), (6, 40)])
def test_equal_covariance_leaves_the_squared_distance_of_the_means(n: int, d: int) -> None:
    first, shift = features(n, d, seed=4), np.random.default_rng(5).normal(size=d)
    order = np.random.default_rng(6).permutation(n)
    assert frechet_distance(first, (first + shift)[order]) == pytest.approx(shift @ shift, rel=1e-11)


def test_commuting_covariances_have_a_closed_form() -> None:
    """Of diagonal covariances, the squared difference of the standard deviations."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=float)
    a, b = np.array([1.0, 2.0, 0.0]), np.array([3.0, 0.5, 1.0])
    expected = ((a - b) ** 2).sum() * 8 / 7  # corners have the variance 8 / 7
    assert frechet_distance(corners * a, corners * b) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("d", [5, 200])
def test_a_set_has_no_distance_to_itself(d: int) -> None:
    first = features(60, d, seed=7)
    assert frechet_distance(first, first[::-1]) <= 1e-12 * first.var(axis=0).sum()


def test_features_in_float32_are_worked_on_in_float64() -> None:
    first, second = (1000 + features(40, 6, seed=seed).astype(np.float32) for seed in (8, 9))
    assert first.dtype == np.float32
    expected = frechet_distance(first.astype(np.float64), second.astype(np.float64))
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize(("d", "max_products"), [(4, 2**26), (60, 2**26), (60, 30 * 25 - 1)])
def test_resampled_distances_are_those_of_the_drawn_images(
    monkeypatch: pytest.MonkeyPatch, d: int, max_products: int
) -> None:
    monkeypatch.setattr(module, "_MAX_PRODUCTS", max_products)
    first, second = features(30, d, seed=9), features(25, d, seed=10)
    kept: list[np.ndarray] = []
    monkeypatch.setattr(module, "centred_interval", lambda resampled, *_, **__: kept.append(resampled))
    frechet_interval(first, second, n_resamples=5, seed=3)
    drawn = zip(random_halves(30, 5, 3), random_halves(25, 5, 4))
    expected = [frechet_distance(first[rows], second[columns]) for rows, columns in drawn]
    np.testing.assert_allclose(kept[0], expected, rtol=1e-9)


def test_random_halves_are_sets_of_equally_likely_images() -> None:
    halves = random_halves(9, 3000, 0)
    assert halves.shape == (3000, 4)
    assert (np.diff(halves, axis=1) > 0).all()
    counts = np.bincount(halves.ravel(), minlength=9)
    assert abs(counts - 3000 * 4 / 9).max() < 5 * (3000 * 4 / 9 * 5 / 9) ** 0.5


def test_the_mean_of_a_random_half_scatters_as_that_of_all_images() -> None:
    values = np.random.default_rng(1).normal(size=400)
    means = values[random_halves(400, 2000, 2)].mean(axis=1)
    assert means.std() == pytest.approx(values.std() / 400**0.5, rel=0.05)


@pytest.mark.parametrize(("shift", "ratio"), [(1.0, (0.8, 1.25)), (0.3, (1.0, 1.7)), (0.0, (1.0, 1.9))])
def test_interval_is_as_wide_as_new_sets_scatter(shift: float, ratio: tuple[float, float]) -> None:
    """Of different sets just as wide; of sets that hardly differ too wide, as the docstring says."""
    rng = np.random.default_rng(11)
    pairs = [(rng.normal(size=(100, 5)), shift + rng.normal(size=(100, 5))) for _ in range(300)]
    distances = [frechet_distance(*pair) for pair in pairs]
    intervals = [frechet_interval(*pair, n_resamples=100, seed=i) for i, pair in enumerate(pairs[:20])]
    width = np.mean([high - low for low, high in intervals])
    assert ratio[0] < width / np.subtract(*np.percentile(distances, (97.5, 2.5))) < ratio[1]
    for (low, high), value in zip(intervals, distances):
        assert 0 <= low < value < high


def test_interval_depends_on_the_seed_alone() -> None:
    first, second = features(20, 3, seed=12), features(20, 3, seed=13)
    assert frechet_interval(first, second, seed=1) == frechet_interval(first, second, seed=1)
    assert frechet_interval(first, second, seed=1) != frechet_interval(first, second, seed=2)


def test_centred_interval_moves_percentiles_to_the_value() -> None:
    resampled = np.linspace(4, 6, 101)
    assert centred_interval(resampled, 1.0) == pytest.approx((1 - 0.95, 1 + 0.95))
    assert centred_interval(resampled, 0.5, low=0.0, high=1.0) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        (np.ones((1, 3)), np.ones((4, 3)), "at least 2 images"),
        (np.ones((4, 3)), np.ones((4, 2)), "(4, 2)"),
        (np.ones(4), np.ones((4, 2)), "features must have"),
        (np.full((4, 2), np.nan), np.ones((4, 2)), "finite"),
    ],
)
def test_features_that_cannot_be_compared(first: np.ndarray, second: np.ndarray, words: str) -> None:
    for function in (frechet_distance, frechet_interval):
        with pytest.raises(InputError) as caught:
            function(first, second)  # type: ignore[operator]
        assert words in str(caught.value)


def test_too_few_images_have_no_interval() -> None:
    with pytest.raises(InputError, match="got 3 and 9"):
        frechet_interval(features(3, 2, seed=0), features(9, 2, seed=0))
