"""Independent windows of overlapping crops: the variance of means, and how often real sets seem to differ."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.data.crops import all_crops, random_crops
from mcrpy_diffusion.evaluation.sets import bootstrap_means, compare_curves, compare_scalars
from mcrpy_diffusion.metrics.windows import independent_windows


@pytest.mark.parametrize(("size", "extent"), [((12, 20), (4, 5)), ((8, 8), (8, 8)), ((9, 30), (8, 4))])
def test_the_mean_of_all_crops_has_the_variance_of_so_many_crops(
    size: tuple[int, int], extent: tuple[int, int]
) -> None:
    """For uncorrelated pixels of variance 1: a pixel's weight is the number of crops that cover it."""
    numbers = np.arange(np.prod(size)).reshape(size)
    weight = np.bincount(all_crops([numbers], extent=extent).ravel(), minlength=numbers.size).astype(float)
    variance_of_all = (weight @ weight) / weight.sum() ** 2
    assert independent_windows([size], extent) == pytest.approx(1 / np.prod(extent) / variance_of_all)


def test_micrographs_add_up() -> None:
    one = independent_windows([(40, 40)], (8, 8))
    assert independent_windows([(40, 40)] * 3, (8, 8)) == pytest.approx(3 * one)
    assert independent_windows([(8, 8)] * 7, (8, 8)) == pytest.approx(7)
    assert one < 25 < independent_windows([(4000, 40)], (8, 8))


def test_bootstrap_sets_of_crops_scatter_as_means_of_micrographs_do() -> None:
    """White noise: the mean of a micrograph's crops against that of as many independent structures."""
    rng, extent, size, m = np.random.default_rng(0), (8, 8), (40, 48), 30
    windows = independent_windows([size], extent)
    drawn, true = [], []
    for k in range(30):
        micrograph = rng.normal(size=size)
        means = random_crops([micrograph], 200, extent=extent, seed=k).mean(axis=(1, 2))
        first, second = bootstrap_means(means, m, n_windows=windows)
        drawn.append((second - first).var())
        true.append(means.mean() - rng.normal(size=(m, *extent)).mean())
    assert np.mean(drawn) == pytest.approx(np.var(true), rel=0.5)
    assert np.mean(drawn) == pytest.approx((1 / windows + 1 / m) / 64, rel=0.15)


@pytest.mark.parametrize("counts_windows", [True, False])
def test_real_crops_seldom_differ_from_real_structures(counts_windows: bool) -> None:
    """Crops counted as independent differ in a third of the runs; as windows, in about 5 %."""
    rng, extent, size, m = np.random.default_rng(1), (8, 8), (24, 32), 30
    windows = independent_windows([size], extent) if counts_windows else None
    n_beyond = n_outside = n_zero = 0
    for k in range(60):
        crops = random_crops([rng.normal(size=size)], 100, extent=extent, seed=k).mean(axis=(1, 2))
        made = rng.normal(size=(m, *extent)).mean(axis=(1, 2))
        found = compare_scalars({"original": crops, "generated": made}, phase=1, n_windows=windows)
        n_beyond += abs(found.difference) > found.floor_95
        n_outside += not found.interval[0] < 0 < found.interval[1]
        curves = {"original": 1 + crops[:, None] * np.ones(4), "generated": 1 + made[:, None] * np.ones(4)}
        n_zero += compare_curves(curves, n_windows=windows).interval_percent[0] > 0
    if counts_windows:
        assert max(n_beyond, n_outside, n_zero) <= 10
    else:
        assert min(n_beyond, n_outside, n_zero) > 12


def test_too_few_windows_have_no_floor() -> None:
    values = {"original": np.arange(50.0), "generated": np.arange(20.0)}
    found = compare_scalars(values, phase=1, n_windows=3.4)
    assert found.floor is found.floor_95 is found.p_value is found.interval is None
    curves = {name: np.ones((len(v), 4)) * v[:, None] for name, v in values.items()}
    assert compare_curves(curves, n_windows=3.4).interval_percent is None


@pytest.mark.parametrize("m", [20, 100])
def test_equal_sets_are_beyond_the_floor_in_a_twentieth_of_the_runs(m: int) -> None:
    rng, n_beyond = np.random.default_rng(2), 0
    for _ in range(60):
        real, made = (1 + 0.2 * rng.normal(size=(n, 1)) * np.ones(5) for n in (60, m))
        found = compare_curves({"original": real, "generated": made})
        assert (found.p_value < 0.05) == (found.discrepancy_percent > found.floor_95_percent) or found.p_value < 0.06
        n_beyond += found.interval_percent[0] > 0
        assert found.difference_interval_percent[0] < found.difference_percent < found.difference_interval_percent[1]
    assert n_beyond <= 9
