"""Curves per direction: read out of maps, averaged at equal distances, and their anisotropy."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics.directions import anisotropy, at_equal_distances, average_over_directions, curves_along
from mcrpy_diffusion.metrics.spatial_statistics import (
    DIRECTIONS_2D,
    DIRECTIONS_3D,
    discrepancy,
    lineal_path,
    two_point_correlation,
)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", [(7, 9), (8, 6), (4, 5, 6)])
def test_curves_along_are_those_of_the_map(shape, periodic):
    """Pixel by pixel, of shifted images."""
    phases = np.random.default_rng(0).random((2, *shape)) < 0.6
    steps = DIRECTIONS_2D if len(shape) == 2 else DIRECTIONS_3D
    map = two_point_correlation(phases, phase=1, periodic=periodic, n_dims=len(shape))
    last = min(n // 2 for n in shape)
    curves = curves_along(map, directions=steps, max_steps=last, n_dims=len(shape))
    assert curves.shape == (2, len(steps), last + 1)
    for index in np.ndindex(curves.shape):
        image, step = phases[index[0]], np.array(steps[index[1]])
        pairs = []
        for x in np.ndindex(shape):
            y = np.array(x) + index[2] * step
            if periodic or ((y >= 0) & (y < shape)).all():
                pairs.append(image[x] and image[tuple(y % shape)])
        assert curves[index] == pytest.approx(np.mean(pairs), rel=1e-14)


def test_curves_do_not_pass_the_middle_of_a_map():
    map = np.arange(48.0).reshape(6, 8)
    assert curves_along(map, directions=[(1, 0)]).shape == (1, 3)
    np.testing.assert_array_equal(curves_along(map, directions=[(0, 1)], max_steps=4), [[0, 1, 2, 3, 4]])
    np.testing.assert_array_equal(curves_along(map, directions=[(-1, 1)], max_steps=2), [[0, 15, 22]])  # (1, -1)
    with pytest.raises(InputError, match="max_steps must be between 0 and 3 .* got 4"):
        curves_along(map, directions=[(0, 1), (1, 1)], max_steps=4)


def test_linear_curves_at_equal_distances():
    """A linear function of the distance, over steps of 1, sqrt(2) and sqrt(3)."""
    steps = ((1, 0, 0), (0, 1, 1), (1, -1, 1))
    lengths = np.sqrt([1, 2, 3])
    curves = 5 - 0.3 * lengths[:, None] * np.arange(9)
    equal = at_equal_distances(curves[None], directions=steps)
    np.testing.assert_allclose(equal, np.tile(5 - 0.3 * np.arange(9), (1, 3, 1)), rtol=1e-14)
    far = at_equal_distances(curves[1:], directions=steps[1:])
    np.testing.assert_allclose(far, np.tile(5 - 0.3 * np.arange(12), (2, 1)), rtol=1e-14)  # 8 sqrt(2) = 11.3
    np.testing.assert_allclose(average_over_directions(curves, directions=steps), 5 - 0.3 * np.arange(9), rtol=1e-14)


def test_axes_keep_their_values():
    curves = np.random.default_rng(0).random((3, 4, 7))
    equal = at_equal_distances(curves, directions=DIRECTIONS_2D)
    np.testing.assert_array_equal(equal[:, :2], curves[:, :2])
    np.testing.assert_array_equal(equal[:, :, 0], curves[:, :, 0])
    average = average_over_directions(curves[:, :2], directions=DIRECTIONS_2D[:2])
    np.testing.assert_array_equal(average, curves[:, :2].mean(axis=1))


def test_anisotropy_by_hand():
    # areas 4, 2 and 3 of the curves, 3 of their mean; the largest distance is between the first two
    curves = np.array([[2.0, 2, 2], [1, 1, 1], [2, 1.5, 1]])
    steps = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
    assert anisotropy(curves, directions=steps) == pytest.approx(100 * 2 / 3, rel=1e-14)
    assert anisotropy(np.ones((3, 5)), directions=steps) == 0
    assert np.isnan(anisotropy(np.zeros((2, 3, 5)), directions=steps)).all()
    two = curves[[0, 1]]  # of two directions: eq. (23) with their mean as original
    by_mean = discrepancy(two.mean(axis=0), two.mean(axis=0) + two[0] - two[1])
    assert anisotropy(two, directions=steps[:2]) == pytest.approx(by_mean, rel=1e-14)


def test_anisotropy_tells_stripes_from_discs():
    i, j = np.ogrid[:48, :48]
    stripes = np.broadcast_to(j % 12 < 6, (48, 48))
    disc = (i - 23.6) ** 2 + (j - 23.4) ** 2 < 15**2
    for periodic in (True, False):
        values = []
        for phases in (stripes, disc):
            path = lineal_path(phases, phase=1, periodic=periodic)
            map = two_point_correlation(phases, phase=1, periodic=periodic)
            along = curves_along(map, directions=DIRECTIONS_2D, max_steps=15)
            values.append([anisotropy(curves, directions=DIRECTIONS_2D) for curves in (path, along)])
        assert np.min(values[0]) > 50
        assert np.max(values[1]) < 8 if periodic else np.max(values[1]) < 50


def test_errors():
    with pytest.raises(InputError, match="curves of 3 directions"):
        at_equal_distances(np.ones((4, 7)), directions=DIRECTIONS_3D)
    with pytest.raises(InputError, match="at least 2 directions"):
        anisotropy(np.ones((1, 7)), directions=[(0, 1)])
    with pytest.raises(InputError, match="directions must be"):
        at_equal_distances(np.ones((0, 7)), directions=[])
    for step in [(0, 0), (2, 1), (1, 0, 0)]:
        with pytest.raises(InputError, match="a direction must be"):
            curves_along(np.ones((4, 4)), directions=[step])
