"""Grains: a flood fill as twin, closed forms, the weights of border grains, distances of distributions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.stats
from scipy.ndimage import label

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.grains import (
    Grains,
    compare_distributions,
    label_grains,
    mean_and_std,
    measure_grains,
)


def _random_phases(shape: tuple[int, ...]) -> np.ndarray:
    """Structures (N, ...) with boundary phase 2, so thin that some grains wind around."""
    boundary = 0.5 if len(shape) == 3 else 0.7
    return np.random.default_rng(0).choice(3, size=shape, p=[0.8 - boundary, 0.2, boundary])


def _brute_grains(image: np.ndarray, boundary_phase: int, periodic: bool) -> list[tuple[np.ndarray, bool]]:
    """Flood fill in unwrapped coordinates: positions (G, n_dims), and whether a pixel is reached with two of them."""
    steps = [s for s in itertools.product((-1, 0, 1), repeat=image.ndim) if sum(map(abs, s)) == 1]
    seen, grains = set(), []
    for start in np.ndindex(image.shape):
        if image[start] == boundary_phase or start in seen:
            continue
        places, front, winds = {start: start}, [start], False
        while front:
            x = front.pop()
            for step in steps:
                y = tuple(p + d for p, d in zip(x, step))
                pixel = tuple(p % n for p, n in zip(y, image.shape))
                if (not periodic and pixel != y) or image[pixel] == boundary_phase:
                    continue
                if pixel not in places:
                    places[pixel] = y
                    front.append(y)
                winds |= places[pixel] != y
        seen |= set(places)
        grains.append((np.array(list(places.values())), winds))
    return grains


def _brute_aspect_ratio(positions: np.ndarray) -> float:
    """From the points of each pixel on a fine grid."""
    n = 40
    fine = np.array(list(itertools.product((np.arange(n) + 0.5) / n - 0.5, repeat=positions.shape[1])))
    points = (positions[:, None] + fine).reshape(-1, positions.shape[1])
    axes = np.linalg.eigvalsh(np.cov(points.T, bias=True))
    return float(np.sqrt(axes[-1] / axes[0]))


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(12, 9), (7, 20), (2, 9), (5, 4, 6)])
def test_grains_are_those_of_a_flood_fill(shape, periodic):
    phases = _random_phases((20, *shape))
    options = {"boundary_phase": 2, "periodic": periodic, "n_dims": len(shape)}
    grains = measure_grains(phases, border="include", **options)
    brute = [(i, *grain) for i, image in enumerate(phases) for grain in _brute_grains(image, 2, periodic)]
    assert grains.n_grains == len(brute)
    np.testing.assert_array_equal(grains.structure, [i for i, _, _ in brute])
    np.testing.assert_array_equal(grains.area, [len(positions) for _, positions, _ in brute])
    np.testing.assert_array_equal(grains.winds, [winds for _, _, winds in brute])
    assert grains.winds.any() == periodic
    assert (~grains.winds & (grains.area > 3)).any()
    for (_, positions, winds), own in zip(brute, grains.aspect_ratio):
        if winds:
            assert np.isnan(own)
        elif len(shape) == 2:
            assert own == pytest.approx(_brute_aspect_ratio(positions), rel=1e-3)
    content = np.pi / 4 * grains.diameter**2 if len(shape) == 2 else np.pi / 6 * grains.diameter**3
    np.testing.assert_allclose(content, grains.area, rtol=1e-14)
    labels, counts = label_grains(phases, **options)
    np.testing.assert_array_equal(counts, np.bincount(grains.structure, minlength=20))
    areas = [np.bincount(own.ravel())[1:] for own in labels]
    np.testing.assert_array_equal(np.concatenate(areas), grains.area)
    assert ((labels == 0) == (phases == 2)).all()


def test_shifts_keep_periodic_grains():
    """Grains that wrap are one grain with the aspect ratio of the whole, wherever the edges are."""
    phases = np.random.default_rng(3).choice(2, size=(40, 30), p=[0.55, 0.45])
    expected = measure_grains(phases, boundary_phase=1, periodic=True)
    for shift in [(1, 0), (0, 7), (20, 15), (33, 29)]:
        moved = measure_grains(np.roll(phases, shift, (0, 1)), boundary_phase=1, periodic=True)
        for name in ("area", "aspect_ratio", "diameter"):
            np.testing.assert_allclose(np.sort(getattr(moved, name)), np.sort(getattr(expected, name)), rtol=1e-9)


@pytest.mark.parametrize("shift", [(0, 0), (3, 17), (11, 5)])
def test_a_grain_longer_than_the_period(shift):
    """Down 18 rows, 8 columns aside, down 16 rows: it passes itself, but does not meet itself."""
    path = [(i, 0) for i in range(18)] + [(17, j) for j in range(1, 9)] + [(i, 8) for i in range(18, 34)]
    positions = np.array(path) + shift
    phases = np.ones((20, 20), int)
    phases[tuple(positions.T % 20)] = 0
    grains = measure_grains(phases, boundary_phase=1, periodic=True)
    assert (grains.n_grains, grains.winds[0], grains.area[0]) == (1, False, len(path))
    assert grains.aspect_ratio == pytest.approx(_brute_aspect_ratio(positions), rel=1e-3)
    phases[tuple((np.array([[34, 8], [35, 8], [36, 8], [37, 8]]) + shift).T % 20)] = 0  # meets its second part
    grains = measure_grains(phases, boundary_phase=1, periodic=True)
    assert (grains.n_grains, grains.winds[0]) == (1, True)
    assert np.isnan(grains.aspect_ratio[0])


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (3, 12), (10, 2)])
def test_rectangles(height, width):
    """Second moments of a rectangle: the ratio of its sides, also across the corner of a periodic structure."""
    phases = np.ones((16, 20), int)
    phases[:height, :width] = 0
    moved = np.roll(phases, (-height // 2, -width // 2), (0, 1))
    for image, periodic in ((moved, True), (np.roll(phases, (2, 2), (0, 1)), False)):
        grains = measure_grains(image, boundary_phase=1, periodic=periodic)
        assert grains.area == height * width
        assert grains.aspect_ratio == pytest.approx(max(height, width) / min(height, width), rel=1e-12)
        assert grains.diameter == pytest.approx(2 * np.sqrt(height * width / np.pi), rel=1e-14)


def test_ellipsoid():
    i, j, k = np.ogrid[:40, :40, :40]
    inside = ((i - 20) / 15) ** 2 + ((j - 19.5) / 10) ** 2 + ((k - 20.2) / 6) ** 2 < 1
    grains = measure_grains(~inside, boundary_phase=1, periodic=False, n_dims=3)
    assert grains.aspect_ratio == pytest.approx(2.5, rel=0.01)
    assert grains.diameter == pytest.approx(2 * np.cbrt(15 * 10 * 6), rel=0.01)


def test_diagonal_boundaries_separate():
    phases = np.eye(8, dtype=int)
    assert measure_grains(phases, boundary_phase=1, periodic=False, border="include").n_grains == 2
    assert label(phases == 0)[1] == 2
    mixed = np.where(phases == 1, 3, np.arange(8) % 3)  # all other phases are grains
    assert measure_grains(mixed, boundary_phase=3, periodic=False, border="include").n_grains == 2


def _periodic_grains(seed: int = 0) -> np.ndarray:
    """One structure of 48 x 40 with small and large separate grains, none above 12 pixels long."""
    rng = np.random.default_rng(seed)
    phases = np.ones((48, 40), int)
    for _ in range(300):
        i, j, height, width = (*rng.integers((48, 40)), *rng.integers(1, 13, size=2))
        around = np.ix_((i + np.arange(-1, height + 1)) % 48, (j + np.arange(-1, width + 1)) % 40)
        if (phases[around] == 1).all():
            phases[np.ix_((i + np.arange(height)) % 48, (j + np.arange(width)) % 40)] = 0
    return phases


def test_weighted_border_grains_are_unbiased():
    """All windows of one periodic structure: each grain's weights sum to the same, so all means are the true ones."""
    phases = _periodic_grains()
    true = measure_grains(phases, boundary_phase=1, periodic=True)
    extent = (17, 20)
    wide = np.pad(phases, [(0, n) for n in extent], mode="wrap")
    windows = np.lib.stride_tricks.sliding_window_view(wide, extent)[:48, :40]
    means = {}
    for border in ("weight", "exclude", "include"):
        grains = measure_grains(windows, boundary_phase=1, periodic=False, border=border)
        means[border] = mean_and_std(grains.area, grains.weight)
        if border == "weight":
            per_window = grains.weight.sum() / windows[..., 0, 0].size
            assert per_window / np.prod(extent) == pytest.approx(true.n_grains / phases.size, rel=1e-12)
            ratio = mean_and_std(grains.aspect_ratio, grains.weight)
    np.testing.assert_allclose(means["weight"], mean_and_std(true.area), rtol=1e-12)
    np.testing.assert_allclose(ratio, mean_and_std(true.aspect_ratio), rtol=1e-12)
    assert means["exclude"][0] < 0.9 * means["weight"][0]
    assert means["include"][0] < 0.9 * means["weight"][0]


def test_border_by_hand():
    phases = np.ones((8, 10), int)
    phases[0, 3:5] = 0  # at the border
    phases[1, 7:9] = 0  # not at the border, one row and one column away
    phases[4:7, 2:6] = 0
    phases[4, 0] = 0
    grains = measure_grains(phases, boundary_phase=1, periodic=False)
    np.testing.assert_array_equal(grains.area, [2, 12])
    np.testing.assert_allclose(grains.weight, [8 / 6 * 10 / 7, 8 / 4 * 10 / 5], rtol=1e-15)
    grains = measure_grains(phases, boundary_phase=1, periodic=False, border="exclude")
    np.testing.assert_array_equal(grains.area, [2, 12])
    np.testing.assert_array_equal(grains.weight, [1, 1])
    grains = measure_grains(phases, boundary_phase=1, periodic=False, border="include")
    np.testing.assert_array_equal(grains.area, [2, 2, 1, 12])
    grains = measure_grains(phases, boundary_phase=1, periodic=False, border="include", min_area=2)
    np.testing.assert_array_equal(grains.area, [2, 2, 12])
    grains = measure_grains(phases, boundary_phase=1, periodic=True)
    np.testing.assert_array_equal(grains.area, [2, 2, 1, 12])
    assert (grains.weight == 1).all()


def test_no_grain():
    for periodic in (True, False):
        grains = measure_grains(np.ones((2, 5, 6), int), boundary_phase=1, periodic=periodic)
        assert isinstance(grains, Grains)
        assert grains.n_grains == 0
        one = measure_grains(np.zeros((5, 6), int), boundary_phase=1, periodic=periodic, border="include")
        assert one.area == 30
        assert bool(one.winds[0]) == periodic


@pytest.mark.parametrize("weighted", [True, False])
def test_distances_are_those_of_scipy(weighted):
    rng = np.random.default_rng(0)
    x, y = rng.integers(1, 60, 83) / 4, rng.integers(1, 70, 41) / 4  # with ties
    p, q = (rng.integers(1, 4, n) if weighted else None for n in (83, 41))
    found = compare_distributions(x, y, first_weights=p, second_weights=q, n_bins=7)
    expected = scipy.stats.wasserstein_distance(x, y, p, q)
    assert found.wasserstein == pytest.approx(expected, rel=1e-12)
    repeated = (np.repeat(x, p), np.repeat(y, q)) if weighted else (x, y)
    assert found.kolmogorov_smirnov == pytest.approx(scipy.stats.ks_2samp(*repeated).statistic, rel=1e-12)
    assert found.edges[[0, -1]] == pytest.approx([min(x.min(), y.min()), max(x.max(), y.max())])
    for share, values in ((found.first, repeated[0]), (found.second, repeated[1])):
        counts = [((values >= a) & (values < b)).sum() for a, b in itertools.pairwise(found.edges)]
        counts[-1] += (values == found.edges[-1]).sum()
        np.testing.assert_allclose(share, np.array(counts) / len(values), rtol=1e-12)
    means = (found.first_mean, found.first_std, found.second_mean, found.second_std)
    np.testing.assert_allclose(means, [f(v) for v in repeated for f in (np.mean, np.std)], rtol=1e-12)


def test_distances_by_hand():
    same = compare_distributions([1, 2, 3], [1, 2, 3])
    assert (same.kolmogorov_smirnov, same.wasserstein) == (0, 0)
    shifted = compare_distributions([1, 2, 3], [6, 7, 8])
    assert (shifted.kolmogorov_smirnov, shifted.wasserstein) == pytest.approx((1, 5))
    alone = compare_distributions([2, 2], [2.0], n_bins=3)
    assert (alone.kolmogorov_smirnov, alone.wasserstein, alone.first.sum(), alone.second.sum()) == (0, 0, 1, 1)


def test_errors():
    phases = np.zeros((4, 4), int)
    with pytest.raises(InputError, match="border must be one of .* got 'drop'"):
        measure_grains(phases, boundary_phase=1, periodic=False, border="drop")
    with pytest.raises(InputError, match="must be integers"):
        measure_grains(phases * 0.5, boundary_phase=1, periodic=False)
    for values, weights in (([], None), ([1, 2], [1]), ([np.nan], None), ([1, 2], [1, 0]), ([[1]], None)):
        with pytest.raises(InputError, match="must"):
            mean_and_std(np.array(values), None if weights is None else np.array(weights))
    with pytest.raises(InputError, match="n_bins must be .* got 0"):
        compare_distributions([1], [2], n_bins=0)
