"""Two-point correlation and lineal path: closed forms, brute-force twins, identities."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics import arrays
from mcrpy_diffusion.metrics.spatial_statistics import (
    DIRECTIONS_2D,
    DIRECTIONS_3D,
    default_max_distance,
    discrepancy,
    farthest_distance,
    lineal_path,
    radial_average,
    two_point_correlation,
)

SHAPES = [(5, 7), (6, 4), (1, 6), (8, 8), (3, 4, 5)]


def _random_phases(shape: tuple[int, ...], n_phases: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(n_phases, p=[0.3, 0.7] if n_phases == 2 else None, size=shape)


def _pixel(indicator: np.ndarray, position: tuple[int, ...], periodic: bool) -> int | None:
    """The value at a position; None outside, if not periodic."""
    if periodic:
        return int(indicator[tuple(p % n for p, n in zip(position, indicator.shape, strict=True))])
    if any(not 0 <= p < n for p, n in zip(position, indicator.shape, strict=True)):
        return None
    return int(indicator[position])


def _brute_two_point(phases: np.ndarray, phase: int, periodic: bool) -> np.ndarray:
    """S2 pixel pair by pixel pair."""
    indicator = phases == phase
    result = np.zeros(phases.shape if periodic else tuple(2 * n - 1 for n in phases.shape))
    ranges = [range(n) if periodic else range(-n + 1, n) for n in phases.shape]
    for shift in itertools.product(*ranges):
        values = [
            _pixel(indicator, (*(x + d for x, d in zip(start, shift, strict=True)),), periodic)
            for start in np.ndindex(phases.shape)
        ]
        pairs = [
            int(indicator[start]) * v
            for start, v in zip(np.ndindex(phases.shape), values, strict=True)
            if v is not None
        ]
        result[shift] = sum(pairs) / len(pairs)
    return result


def _brute_lineal_path(
    phases: np.ndarray, phase: int, periodic: bool, max_length: int, directions: tuple[tuple[int, ...], ...] = ()
) -> np.ndarray:
    """L segment by segment."""
    indicator = phases == phase
    directions = directions or (DIRECTIONS_2D if phases.ndim == 2 else DIRECTIONS_3D)
    result = np.zeros((len(directions), max_length + 1))
    for k, step in enumerate(directions):
        for r in range(max_length + 1):
            segments = [
                [
                    _pixel(indicator, (*(x + i * d for x, d in zip(start, step, strict=True)),), periodic)
                    for i in range(r + 1)
                ]
                for start in np.ndindex(phases.shape)
            ]
            inside = [all(segment) for segment in segments if None not in segment]
            result[k, r] = sum(inside) / len(inside)
    return result


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_phases", [2, 3])
def test_two_point_correlation_is_the_brute_force_one(shape, n_phases, periodic):
    phases = _random_phases(shape, n_phases)
    fast = two_point_correlation(phases, phase=1, periodic=periodic, n_dims=len(shape))
    assert fast.dtype == np.float64
    np.testing.assert_array_equal(fast, _brute_two_point(phases, 1, periodic))


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_phases", [2, 3])
def test_lineal_path_is_the_brute_force_one(shape, n_phases, periodic):
    phases = _random_phases(shape, n_phases)
    last = min(shape) - 1
    fast = lineal_path(phases, phase=1, periodic=periodic, max_length=last, n_dims=len(shape))
    assert fast.dtype == np.float64
    np.testing.assert_array_equal(fast, _brute_lineal_path(phases, 1, periodic, last))


@pytest.mark.parametrize("periodic", [True, False])
def test_lineal_path_in_chosen_directions(periodic):
    """Space diagonals too; a direction and its opposite are the same."""
    phases, steps = _random_phases((4, 5, 6)), ((1, 1, -1), (0, 1, 1), (0, 0, 1), (1, -1, 0))
    options = {"phase": 1, "periodic": periodic, "max_length": 3, "n_dims": 3}
    path = lineal_path(phases, directions=steps, **options)
    np.testing.assert_array_equal(path, _brute_lineal_path(phases, 1, periodic, 3, steps))
    opposite = lineal_path(phases, directions=[tuple(-d for d in step) for step in steps], **options)
    np.testing.assert_array_equal(opposite, path)


def test_lineal_path_of_one_phase_only():
    """All runs go across the edges."""
    for periodic in (True, False):
        assert (lineal_path(np.ones((6, 9), int), phase=1, periodic=periodic, max_length=5) == 1).all()
        assert (lineal_path(np.ones((6, 9), int), phase=0, periodic=periodic, max_length=5) == 0).all()


def test_stripes_of_width_3_and_period_5():
    stripes = np.tile(np.arange(20) % 5 < 3, (15, 1))
    down, along, diagonal, other = lineal_path(stripes, phase=1, periodic=True, max_length=4)
    np.testing.assert_allclose(down, 0.6, rtol=1e-15)
    for direction in (along, diagonal, other):
        np.testing.assert_allclose(direction, [0.6, 0.4, 0.2, 0, 0], rtol=1e-15)
    two_point = two_point_correlation(stripes, phase=1, periodic=True)
    np.testing.assert_allclose(two_point, np.tile([0.6, 0.4, 0.2, 0.2, 0.4], (15, 4)), rtol=1e-15)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("phase", [0, 1, 2])
def test_identities(phase, periodic):
    phases = _random_phases((4, 12, 10), 3)
    fraction = (phases == phase).mean(axis=(1, 2))
    two_point = two_point_correlation(phases, phase=phase, periodic=periodic)
    path = lineal_path(phases, phase=phase, periodic=periodic, max_length=9)
    np.testing.assert_allclose(two_point[:, 0, 0], fraction, rtol=1e-15)
    np.testing.assert_allclose(path[:, :, 0], np.tile(fraction[:, None], 4), rtol=1e-15)
    mirrored = two_point[:, -np.arange(two_point.shape[1])][:, :, -np.arange(two_point.shape[2])]
    np.testing.assert_array_equal(two_point, mirrored)  # S2(d) = S2(-d)
    r = np.arange(10)
    for k, (i, j) in enumerate(DIRECTIONS_2D):
        along = two_point[:, i * r, j * r]
        assert (path[:, k] <= along + 1e-15).all()
        np.testing.assert_allclose(path[:, k, 1], along[:, 1], rtol=1e-15)  # a segment of two pixels is a pair
    if periodic:
        assert (np.diff(path, axis=-1) <= 0).all()
        np.testing.assert_allclose(two_point.mean(axis=(1, 2)), fraction**2, rtol=1e-13)
        np.testing.assert_allclose(
            sum(two_point_correlation(phases, phase=p, periodic=True)[:, 0, 0] for p in range(3)), 1, rtol=1e-15
        )


@pytest.mark.parametrize("periodic", [True, False])
def test_uncorrelated_noise(periodic):
    phi, n = 0.6, 400
    phases = np.random.default_rng(0).random((n, 32, 32)) < phi
    path = lineal_path(phases, phase=1, periodic=periodic, max_length=6).mean(axis=0)
    np.testing.assert_allclose(path, np.tile(phi ** np.arange(1, 8), (4, 1)), atol=0.003)
    two_point = radial_average(two_point_correlation(phases, phase=1, periodic=periodic), max_distance=8).mean(axis=0)
    np.testing.assert_allclose(two_point, [phi, *[phi**2] * 8], atol=0.003)


def test_leading_axes_are_independent(monkeypatch):
    phases = _random_phases((2, 3, 6, 5))
    monkeypatch.setattr(arrays, "BLOCK_PIXELS", 4 * 30)  # two images in the last block, four before
    for periodic in (True, False):
        two_point = two_point_correlation(phases, phase=1, periodic=periodic)
        path = lineal_path(phases, phase=1, periodic=periodic)
        average = radial_average(two_point)
        for index in np.ndindex(2, 3):
            alone = two_point_correlation(phases[index], phase=1, periodic=periodic)
            np.testing.assert_array_equal(two_point[index], alone)
            np.testing.assert_array_equal(path[index], lineal_path(phases[index], phase=1, periodic=periodic))
            np.testing.assert_allclose(average[index], radial_average(alone), rtol=1e-14)
    assert two_point_correlation(phases[:0, 0], phase=1, periodic=True).shape == (0, 6, 5)
    assert lineal_path(phases[:0, 0], phase=1, periodic=True).shape == (0, 4, 2)


def test_three_dimensions_agree_with_two():
    """A stack of one plane has the plane's statistics."""
    plane = _random_phases((6, 5))
    stack = np.repeat(plane[:, :, None], 4, axis=2)
    two_point = two_point_correlation(stack, phase=1, periodic=True, n_dims=3)
    np.testing.assert_array_equal(two_point[:, :, 3], two_point_correlation(plane, phase=1, periodic=True))
    path = lineal_path(stack, phase=1, periodic=True, max_length=3, n_dims=3)
    np.testing.assert_array_equal(path[:2], lineal_path(plane, phase=1, periodic=True, max_length=3)[:2])
    np.testing.assert_allclose(path[2], plane.mean(), rtol=1e-15)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (15, 11), (4, 6, 5)])
def test_radial_average_is_the_brute_force_one(size):
    values = np.random.default_rng(0).random(size)
    last = default_max_distance(size)
    bins: list[list[float]] = [[] for _ in range(100)]
    for index in np.ndindex(size):
        shift = [min(k, n - k) for k, n in zip(index, size, strict=True)]
        bins[int(np.floor(np.sqrt(sum(d * d for d in shift)) + 0.5))].append(values[index])
    average = radial_average(values, n_dims=len(size))
    np.testing.assert_allclose(average, [np.mean(b) for b in bins[: last + 1]], rtol=1e-14)
    far = radial_average(values, n_dims=len(size), max_distance=last + 2)
    np.testing.assert_allclose(far, [np.mean(b) for b in bins[: last + 3]], rtol=1e-14)


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (127, 127), (4, 6, 5), (1, 30)])
def test_radial_average_over_all_lags(size):
    """Every shift of the map counts once."""
    values = np.random.default_rng(0).random(size)
    average = radial_average(values, n_dims=len(size), max_distance=farthest_distance(size))
    distance = np.sqrt(sum(np.ix_(*((np.fft.fftfreq(n) * n) ** 2 for n in size))))
    n_shifts = np.bincount(np.rint(distance).astype(int).ravel())
    assert len(average) == len(n_shifts)
    assert average @ n_shifts == pytest.approx(values.sum(), rel=1e-13)


def test_default_distances_of_64_pixels():
    phases = _random_phases((64, 64))
    assert radial_average(two_point_correlation(phases, phase=1, periodic=True)).shape == (32,)
    assert lineal_path(phases, phase=1, periodic=True).shape == (4, 32)
    assert lineal_path(phases[:, :48], phase=1, periodic=False).shape == (4, 24)


def test_radial_average_of_a_linear_map():
    """The mean over a whole ring of any odd function of the shift is zero."""
    i, j = np.meshgrid(*[np.fft.fftfreq(21) * 21] * 2, indexing="ij")
    np.testing.assert_allclose(radial_average(3 * i - j + 0.5), 0.5, atol=1e-12)


def test_discrepancy_by_hand():
    # areas: |0, 1, 1| -> 1.5 between the curves, |4, 2, 2| -> 5 under the original
    assert discrepancy(np.array([4.0, 2, 2]), np.array([4.0, 1, 3])) == pytest.approx(30, rel=1e-15)
    assert discrepancy([4, 2, 2], [4, 2, 2]) == 0
    assert discrepancy([1, 1, 1], [1.1, 1.1, 1.1]) == pytest.approx(10, rel=1e-12)
    assert discrepancy([2, 2], [0, 0]) == 100  # the original is what it is measured by
    assert discrepancy([1, 1], [3, 3]) == 200


@pytest.mark.parametrize(
    ("original", "generated", "words"),
    [
        ([1, 1], [1, 1, 1], "one shape"),
        ([1], [1], "one shape"),
        ([[1, 1]], [[1, 1]], "one shape"),
        ([0, 0], [1, 1], "phase is absent"),
        ([1, np.nan], [1, 1], "finite"),
        ([1, 1], [1, np.inf], "finite"),
    ],
)
def test_discrepancy_of_impossible_curves(original, generated, words):
    with pytest.raises(InputError, match=words):
        discrepancy(np.array(original, dtype=float), np.array(generated, dtype=float))


def test_errors():
    phases = _random_phases((6, 5))
    with pytest.raises(InputError, match="must be integers"):
        two_point_correlation(phases * 0.5, phase=1, periodic=True)
    with pytest.raises(InputError, match="max_length must be .* got 5"):
        lineal_path(phases, phase=1, periodic=True, max_length=5)
    for step in ((0, 0), (2, 1), (1, 1, 0)):
        with pytest.raises(InputError, match="a direction must be"):
            lineal_path(phases, phase=1, periodic=True, directions=[step])
    with pytest.raises(InputError, match="directions must be"):
        lineal_path(phases, phase=1, periodic=True, directions=[])
    with pytest.raises(InputError, match="n_dims must be .* got 4"):
        lineal_path(phases, phase=1, periodic=True, n_dims=4)
    with pytest.raises(InputError, match="shape"):
        two_point_correlation(phases[0], phase=1, periodic=True)
    with pytest.raises(InputError, match="max_distance must be between 0 and 4 .* got 5"):
        radial_average(phases, max_distance=5)


def test_large_image_is_exact():
    """The rounding of a float64 transform stays far below one pair."""
    phases = np.random.default_rng(0).random((1024, 1024)) < 0.99
    two_point = two_point_correlation(phases, phase=1, periodic=False)
    for i, j in ((0, 0), (1, 0), (3, 5), (500, 2)):
        pairs = phases[: 1024 - i, : 1024 - j] & phases[i:, j:]
        assert two_point[i, j] == two_point[-i, -j] == pairs.mean()
