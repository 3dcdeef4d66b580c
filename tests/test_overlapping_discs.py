"""S2 and L of overlapping discs with Poisson centres against their closed forms, to the statistical error.

Between discs of radius R, rho centres per area: S2(r) = exp(-rho V2(r)), V2 the area of two discs at distance r, and
L(r) = exp(-rho (pi R^2 + 2 R r)); S. Torquato, Random Heterogeneous Materials (2002), chapter 5. The path of pixels a
step apart sees the area of a chain of discs, which is exact here.
"""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.metrics.chords import specific_surface
from mcrpy_diffusion.metrics.directions import curves_along
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D, lineal_path, two_point_correlation

RADIUS, DENSITY, N, COUNT = 5.3, 0.008, 64, 600
LAST = 20
LENGTHS = np.sqrt([sum(d * d for d in step) for step in DIRECTIONS_2D])


@pytest.fixture(scope="module")
def matrix() -> np.ndarray:
    """Where no disc is, periodic."""
    rng = np.random.default_rng(7)
    images = np.ones((COUNT, N, N), dtype=bool)
    x = np.arange(N)
    for image in images:
        for centre in rng.random((rng.poisson(DENSITY * N * N), 2)) * N:
            i, j = ((x - c + N / 2) % N - N / 2 for c in centre)
            image &= i[:, None] ** 2 + j[None] ** 2 >= RADIUS**2
    return images


def _lens(r: np.ndarray) -> np.ndarray:
    """Area that two discs at distance r share."""
    half = np.clip(r / (2 * RADIUS), 0, 1)
    return 2 * RADIUS**2 * (np.arccos(half) - half * np.sqrt(1 - half**2))


def _assert_agree(curves: np.ndarray, expected: np.ndarray) -> None:
    """Means over the images, within 4 of their standard errors; these are small enough to see something."""
    error = curves.std(axis=0, ddof=1) / np.sqrt(len(curves))
    assert error.max() < 0.006
    assert np.abs((curves.mean(axis=0) - expected) / error).max() < 4


@pytest.mark.parametrize("periodic", [True, False])
def test_two_point_correlation(matrix, periodic):
    map = two_point_correlation(matrix, phase=1, periodic=periodic)
    curves = curves_along(map, directions=DIRECTIONS_2D, max_steps=LAST)
    r = LENGTHS[:, None] * np.arange(LAST + 1)
    _assert_agree(curves, np.exp(-DENSITY * (2 * np.pi * RADIUS**2 - _lens(r))))


@pytest.mark.parametrize("periodic", [True, False])
def test_lineal_path(matrix, periodic):
    path = lineal_path(matrix, phase=1, periodic=periodic, max_length=LAST)
    disc = np.pi * RADIUS**2
    chain = disc + np.arange(LAST + 1) * (disc - _lens(LENGTHS))[:, None]
    _assert_agree(path, np.exp(-DENSITY * chain))
    continuous = np.exp(-DENSITY * (disc + 2 * RADIUS * LENGTHS[:, None] * np.arange(LAST + 1)))
    np.testing.assert_allclose(np.exp(-DENSITY * chain), continuous, rtol=0.03)  # the gaps between pixels count little


@pytest.mark.parametrize("periodic", [True, False])
def test_specific_surface(matrix, periodic):
    """Of the pixels by S2 at the steps; 2 pi R rho exp(-rho pi R^2), the circumference that is free, within 6 %."""
    surface = specific_surface(matrix, phase=1, periodic=periodic)
    disc = np.pi * RADIUS**2
    alone, pair = np.exp(-DENSITY * disc), np.exp(-DENSITY * (2 * disc - _lens(LENGTHS)))
    expected = np.pi / 2 * np.mean(2 * (alone - pair) / LENGTHS)
    error = surface.std(ddof=1) / np.sqrt(COUNT)
    assert error < 0.01 * expected
    assert abs(surface.mean() - expected) < 4 * error
    assert expected == pytest.approx(2 * np.pi * RADIUS * DENSITY * alone, rel=0.06)
