"""Chords and specific surface: chord by chord, closed forms, discs and balls."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.metrics import arrays
from mcrpy_diffusion.metrics.chords import (
    DIRECTIONS_13,
    chord_density,
    chord_length_distribution,
    interface_density,
    specific_surface,
)
from mcrpy_diffusion.metrics.spatial_statistics import DIRECTIONS_2D, DIRECTIONS_3D, lineal_path

SHAPES = [(5, 7), (6, 4), (8, 8), (3, 4, 5)]


def _random_phases(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(3, size=shape, p=[0.2, 0.6, 0.2])


def _line(indicator: np.ndarray, start: tuple[int, ...], step: tuple[int, ...], n: int, periodic: bool) -> list | None:
    """n values in a row; None if they leave the image, if it is not periodic."""
    places = [tuple(x + i * d for x, d in zip(start, step)) for i in range(n)]
    if periodic:
        places = [tuple(p % m for p, m in zip(place, indicator.shape)) for place in places]
    elif any(not 0 <= p < m for place in places for p, m in zip(place, indicator.shape)):
        return None
    return [bool(indicator[place]) for place in places]


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_chords_are_the_brute_force_ones(shape, periodic):
    phases = _random_phases((3, *shape))
    steps = DIRECTIONS_2D if len(shape) == 2 else DIRECTIONS_13
    fast = chord_density(phases, phase=1, periodic=periodic, n_dims=len(shape), directions=steps)
    last = min(shape) - (1 if periodic else 2)
    assert fast.shape == (3, len(steps), last + 1)
    assert (fast[..., 0] == 0).all()
    for image, own in zip(phases == 1, fast, strict=True):
        for k, step in enumerate(steps):
            for length in range(1, last + 1):
                lines = [_line(image, start, step, length + 2, periodic) for start in np.ndindex(shape)]
                lines = [line for line in lines if line is not None]
                found = [line == [False, *[True] * length, False] for line in lines]
                np.testing.assert_allclose(own[k, length], np.mean(found), rtol=1e-14)


def test_chords_of_stripes():
    stripes = np.tile(np.arange(20) % 5 < 3, (15, 1))
    for periodic in (True, False):
        density = chord_density(stripes, phase=1, periodic=periodic)
        assert (density[0] == 0).all()  # along the stripes there is no end
        np.testing.assert_allclose(density[1:, 1:], np.tile(np.arange(1, density.shape[1]) == 3, (3, 1)) / 5, rtol=0.25)
        assert (chord_length_distribution(density)[1:, 3] == 1).all()
    np.testing.assert_allclose(chord_density(stripes, phase=1, periodic=True)[1:, 3], 1 / 5, rtol=1e-15)


def test_chords_make_the_lineal_path():
    phases = _random_phases((4, 12, 9))
    density = chord_density(phases, phase=1, periodic=True, max_length=8)
    path = lineal_path(phases, phase=1, periodic=True, max_length=8)
    r, length = np.ogrid[:9, :9]
    keep = path[:, :, 8] == 0  # no longer run
    assert keep.sum() > 8
    np.testing.assert_allclose(density[keep] @ np.maximum(length - r, 0).T, path[keep], atol=1e-15)


@pytest.mark.parametrize("periodic", [True, False])
def test_chords_of_noise(periodic):
    """Lengths up to 10 of 12 possible: seeing only chords inside the image does not favour the short ones."""
    phi = 0.7
    phases = np.random.default_rng(0).random((10000, 12, 12)) < phi
    density = chord_density(phases, phase=1, periodic=periodic, max_length=10)
    error = density.std(axis=0, ddof=1)[:, 1:] / 100
    length = np.arange(1, 11)
    expected = (1 - phi) ** 2 * phi**length
    assert np.abs((density.mean(axis=0)[:, 1:] - expected) / error).max() < 4
    assert (error[:2] < 0.07 * expected).all()  # along the axes it is small enough to see something
    distribution = chord_length_distribution(density.mean(axis=0)[0])
    assert distribution.sum() == pytest.approx(1, rel=1e-14)
    np.testing.assert_allclose(distribution[1:6], expected[:5] / expected.sum(), rtol=0.03)


def test_distribution_of_nothing():
    assert (chord_length_distribution(np.zeros((2, 4))) == 0).all()
    np.testing.assert_allclose(chord_length_distribution(np.array([0, 1, 3])), [0, 0.25, 0.75])


def test_leading_axes(monkeypatch):
    phases = _random_phases((2, 3, 6, 5))
    monkeypatch.setattr(arrays, "BLOCK_PIXELS", 4 * 30)
    for periodic in (True, False):
        density = chord_density(phases, phase=1, periodic=periodic)
        surface = specific_surface(phases, phase=1, periodic=periodic)
        for index in np.ndindex(2, 3):
            np.testing.assert_array_equal(density[index], chord_density(phases[index], phase=1, periodic=periodic))
            assert surface[index] == specific_surface(phases[index], phase=1, periodic=periodic)


@pytest.mark.parametrize("periodic", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_interface_density_is_the_brute_force_one(shape, periodic):
    phases = _random_phases((3, *shape))
    steps = DIRECTIONS_2D if len(shape) == 2 else DIRECTIONS_13
    fast = interface_density(phases, phase=1, periodic=periodic, n_dims=len(shape))
    assert fast.shape == (3, len(steps))
    for image, own in zip(phases == 1, fast, strict=True):
        for value, step in zip(own, steps, strict=True):
            pairs = [_line(image, start, step, 2, periodic) for start in np.ndindex(shape)]
            crossed = [pair[0] != pair[1] for pair in pairs if pair is not None]
            np.testing.assert_allclose(value, np.mean(crossed) / np.linalg.norm(step), rtol=1e-14)


@pytest.mark.parametrize("periodic", [True, False])
def test_perimeter_of_discs_and_surface_of_balls(periodic):
    rng = np.random.default_rng(0)
    radius, n = 20.3, 64
    i, j = np.ogrid[:n, :n]
    centres = 31.5 + rng.random((20, 2))
    discs = np.array([(i - a) ** 2 + (j - b) ** 2 < radius**2 for a, b in centres])
    perimeter = specific_surface(discs, phase=1, periodic=periodic).mean() * n**2
    edge = 1 if periodic else (n - 1) * (2 * n - 1) / (2 * n * (n - 1))  # the disc is away from the edges: fewer pairs
    assert perimeter == pytest.approx(2 * np.pi * radius / edge, rel=0.03)
    i, j, k = np.ogrid[:n, :n, :n]
    ball = (i - 31.2) ** 2 + (j - 31.9) ** 2 + (k - 31.5) ** 2 < radius**2
    surface = specific_surface(ball, phase=1, periodic=True, n_dims=3) * n**3
    assert surface == pytest.approx(4 * np.pi * radius**2, rel=0.01)
    staircase = interface_density(ball, phase=1, periodic=True, n_dims=3, directions=DIRECTIONS_3D).sum() * n**3
    assert staircase == pytest.approx(6 * np.pi * radius**2, rel=0.01)


def test_surface_of_a_straight_interface():
    """Along an axis: pi / 2 times the mean of 1, 0, 1 / sqrt(2), 1 / sqrt(2) is 5 % short, as the docstring says."""
    stripes = np.tile(np.arange(20) % 10 < 5, (16, 1))
    surface = specific_surface(stripes, phase=1, periodic=True)
    assert surface == pytest.approx(0.2 * np.pi / 2 * (1 + np.sqrt(2)) / 4, rel=1e-12)
    assert surface == pytest.approx(0.2, rel=0.053)
    assert specific_surface(stripes, phase=0, periodic=True) == surface


def test_weights_are_the_parts_of_the_half_sphere():
    """Points on the sphere, each to the nearest direction; the surface comes out the same."""
    points = np.random.default_rng(0).standard_normal((200_000, 3))
    unit = np.array(DIRECTIONS_13) / np.linalg.norm(DIRECTIONS_13, axis=1, keepdims=True)
    share = np.bincount(np.abs(points @ unit.T).argmax(axis=1)) / len(points)
    phases = np.random.default_rng(1).random((6, 5, 7)) < 0.5
    crossings = interface_density(phases, phase=1, periodic=True, n_dims=3)
    surface = specific_surface(phases, phase=1, periodic=True, n_dims=3)
    assert surface == pytest.approx(2 * crossings @ share, rel=2e-3)
    half = np.zeros((8, 8, 8), int)
    half[:4] = 1  # a plane along the axes: only some directions cross, so each kind's weight shows
    crossings = interface_density(half, phase=1, periodic=True, n_dims=3)
    surface = specific_surface(half, phase=1, periodic=True, n_dims=3)
    assert surface == pytest.approx(2 * crossings @ share, rel=5e-3)
    assert surface == pytest.approx(2 / 8 * 0.93, rel=5e-3)  # 7 % short, as the docstring says


def test_errors():
    phases = _random_phases((6, 5))
    with pytest.raises(InputError, match="max_length must be between 1 and 4 .* got 5"):
        chord_density(phases, phase=1, periodic=True, max_length=5)
    with pytest.raises(InputError, match="between 1 and 3"):
        chord_density(phases, phase=1, periodic=False, max_length=4)
    with pytest.raises(InputError, match="a direction must be"):
        chord_density(phases, phase=1, periodic=False, directions=[(0, 0)])
    with pytest.raises(InputError, match="at least 2 pixels"):
        interface_density(phases[:1], phase=1, periodic=False)
