"""Volumes whose three-dimensional structure is known: closed forms to the statistical error, brute-force twins."""

from __future__ import annotations

import itertools
from math import pi

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.foam import BOUNDARY_AREA, voronoi_foam
from mcrpy_diffusion.materials.layers import exponential_layers_s2, layer_stack
from mcrpy_diffusion.materials.level_sets import level_set, level_set_s2, level_set_surface
from mcrpy_diffusion.materials.solids import (
    aligned_fibres,
    ball_overlap,
    draw_radii,
    number_density,
    overlapping_spheres,
    overlapping_spheres_matrix_lineal_path,
    overlapping_spheres_s2,
    overlapping_spheres_surface,
    place_apart,
    separate_balls_lineal_path,
    separate_spheres,
)
from mcrpy_diffusion.materials.volumes import VOLUMES
from mcrpy_diffusion.metrics.chords import _WEIGHTS_13, DIRECTIONS_13, specific_surface
from mcrpy_diffusion.metrics.directions import curves_along
from mcrpy_diffusion.metrics.spatial_statistics import lineal_path, two_point_correlation

EXTENT, COUNT, LAST = (28, 30, 32), 60, 12
LENGTHS = np.sqrt([sum(d * d for d in step) for step in DIRECTIONS_13])
DISTANCES = LENGTHS[:, None] * np.arange(LAST + 1)
SPHERES = {"radius": 3.6, "volume_fraction": 0.4}


def _assert_agree(values: np.ndarray, expected: np.ndarray | float, *, largest_error: float) -> None:
    """Means over the volumes, within 4 of their standard errors, which are small enough to see something."""
    error = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert error.max() < largest_error
    assert np.abs((values.mean(axis=0) - expected) / error).max() < 4


def _s2(volumes: np.ndarray, phase: int = 1) -> np.ndarray:
    map = two_point_correlation(volumes, phase=phase, periodic=True, n_dims=3)
    return curves_along(map, directions=DIRECTIONS_13, max_steps=LAST, n_dims=3)


def _surface_of_voxels(s2: np.ndarray) -> float:
    """Crofton's formula from S2 (13, 2) at no step and at one."""
    return float(2 * (2 * (s2[:, 0] - s2[:, 1]) / LENGTHS) @ (_WEIGHTS_13 / _WEIGHTS_13.sum()))


@pytest.fixture(scope="module")
def spheres() -> np.ndarray:
    return np.stack([overlapping_spheres(EXTENT, **SPHERES, seed=seed) for seed in range(COUNT)])


def test_s2_of_overlapping_spheres_in_all_directions(spheres: np.ndarray) -> None:
    _assert_agree(_s2(spheres), overlapping_spheres_s2(DISTANCES, **SPHERES), largest_error=0.006)
    assert overlapping_spheres_s2(0, **SPHERES) == pytest.approx(0.4)
    assert overlapping_spheres_s2(100, **SPHERES) == pytest.approx(0.16)


def test_lineal_path_between_overlapping_spheres(spheres: np.ndarray) -> None:
    """A path of voxels a step apart sees the chain of spheres around them, the closed form their whole cylinder."""
    path = lineal_path(spheres, phase=0, periodic=True, max_length=LAST, n_dims=3, directions=DIRECTIONS_13)
    ball = ball_overlap(0, SPHERES["radius"])
    chain = ball + np.arange(LAST + 1) * (ball - ball_overlap(LENGTHS, SPHERES["radius"]))[:, None]
    _assert_agree(path, np.exp(-number_density(**SPHERES) * chain), largest_error=0.006)
    continuous = overlapping_spheres_matrix_lineal_path(DISTANCES[:3], **SPHERES)
    np.testing.assert_allclose(np.exp(-number_density(**SPHERES) * chain[:3]), continuous, rtol=0.1)


def test_interface_of_overlapping_spheres(spheres: np.ndarray) -> None:
    """Of the voxels by S2 at the steps; voxels miss some of the area of small spheres."""
    surface = specific_surface(spheres, phase=1, periodic=True, n_dims=3)
    expected = _surface_of_voxels(overlapping_spheres_s2(DISTANCES[:, :2], **SPHERES))
    _assert_agree(surface, expected, largest_error=0.01 * expected)
    assert expected == pytest.approx(overlapping_spheres_surface(**SPHERES), rel=0.12)


@pytest.mark.parametrize("wavelength", [None, 9.0])
@pytest.mark.parametrize("volume_fraction", [0.5, 0.25])
def test_s2_and_interface_of_level_sets(wavelength: float | None, volume_fraction: float) -> None:
    given = {"correlation_length": 4.0, "wavelength": wavelength, "volume_fraction": volume_fraction}
    volumes = np.stack([level_set(EXTENT, **given, seed=seed) for seed in range(30)])
    _assert_agree(_s2(volumes), level_set_s2(DISTANCES, **given), largest_error=0.012)
    surface = specific_surface(volumes, phase=1, periodic=True, n_dims=3)
    expected = _surface_of_voxels(level_set_s2(DISTANCES[:, :2], **given))
    _assert_agree(surface, expected, largest_error=0.02 * expected)
    assert expected == pytest.approx(level_set_surface(**given), rel=0.08)


def test_s2_of_a_level_set_at_one_half_is_the_arcsine_law() -> None:
    r = np.linspace(0, 20, 50)
    found = level_set_s2(r, correlation_length=5.0, wavelength=None, volume_fraction=0.5)
    np.testing.assert_allclose(found, 0.25 + np.arcsin(np.exp(-((r / 5) ** 2))) / (2 * pi), atol=1e-12)
    found = level_set_s2(r, correlation_length=5.0, wavelength=8.0, volume_fraction=0.2)
    assert found[0] == pytest.approx(0.2, abs=1e-6)
    assert found[-1] == pytest.approx(0.04, abs=1e-6)


def test_foam_is_that_of_all_points_and_their_images() -> None:
    extent, thickness = (12, 13, 14), 2.0
    made = voronoi_foam(extent, cell_size=4.0, wall_thickness=thickness, seed=3)
    points = np.random.default_rng(3).random((round(12 * 13 * 14 / 64), 3)) * extent
    shifts = np.array(list(itertools.product((-1, 0, 1), repeat=3))) * extent
    images = (points + shifts[:, None]).reshape(-1, 3)
    voxels = np.indices(extent).reshape(3, -1).T
    squares = ((voxels[:, None] - images) ** 2).sum(axis=2)
    own = squares.argmin(axis=1)
    apart = np.linalg.norm(images - images[own][:, None], axis=2)
    apart[apart == 0] = np.inf
    to_boundary = (squares - squares.min(axis=1, keepdims=True)) / (2 * apart)
    to_boundary[np.arange(len(own)), own] = np.inf
    expected = to_boundary.min(axis=1) < thickness / 2
    np.testing.assert_array_equal(made, expected.reshape(extent))
    with pytest.raises(InputError, match="at least 3 cells"):
        voronoi_foam(extent, cell_size=5.0, wall_thickness=1.0, seed=0)


def test_thin_walls_have_the_area_of_a_poisson_voronoi_tessellation() -> None:
    volumes = [voronoi_foam((40, 40, 40), cell_size=10.0, wall_thickness=0.5, seed=seed) for seed in range(4)]
    assert np.mean(volumes) == pytest.approx(BOUNDARY_AREA * 0.5 / 10, rel=0.05)


def test_separate_spheres_have_the_lineal_path_of_their_radii() -> None:
    given = {"radius": 4.0, "variation": 0.3, "volume_fraction": 0.25}
    extent, found, expected = (44, 40, 48), [], []
    for seed in range(6):
        volume = separate_spheres(extent, **given, gap=2.0, seed=seed)
        radii = draw_radii(extent, **given, generator=np.random.default_rng(seed))
        assert ball_overlap(0, radii).sum() == pytest.approx(0.25 * volume.size)
        path = lineal_path(volume, phase=1, periodic=True, max_length=8, n_dims=3, directions=DIRECTIONS_13)
        found.append(path)
        expected.append(
            [separate_balls_lineal_path(step * np.arange(9), radii=radii, extent=extent) for step in LENGTHS]
        )
    np.testing.assert_allclose(np.mean(found, axis=0), np.mean(expected, axis=0), atol=0.003)


def test_particles_keep_their_distance() -> None:
    generator = np.random.default_rng(0)
    radii = np.array([5.0, 4.0, 3.0] * 8)
    centres = place_apart((40, 40, 40), radii, gap=1.5, generator=generator)
    offsets = centres[:, None] - centres
    offsets -= 40 * np.rint(offsets / 40)
    distance = np.linalg.norm(offsets, axis=2) + 100 * np.eye(len(radii))
    assert (distance >= radii[:, None] + radii + 1.5).all()
    with pytest.raises(InputError, match="find a place"):
        place_apart((10, 10, 10), [4.0, 4.0, 4.0], gap=1.0, generator=generator)
    with pytest.raises(InputError, match="below the extent"):
        overlapping_spheres((6, 20, 20), radius=3.0, volume_fraction=0.3, seed=0)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_fibres_are_discs_across_and_endless_along(axis: int) -> None:
    given = {"radius": 3.5, "variation": 0.2, "volume_fraction": 0.3}
    extent = tuple(np.insert([60, 64], axis, 20).tolist())
    fibres = aligned_fibres(extent, **given, gap=1.0, axis=axis, seed=1)
    across = np.take(fibres, 0, axis=axis)
    np.testing.assert_array_equal(fibres, np.expand_dims(across, axis).repeat(20, axis=axis))
    radii = draw_radii((60, 64), **given, generator=np.random.default_rng(1))
    path = lineal_path(across, phase=1, periodic=True, max_length=5)[:2]
    expected = separate_balls_lineal_path(np.arange(6), radii=radii, extent=(60, 64))
    np.testing.assert_allclose(path.mean(axis=0), expected, atol=0.008)
    with pytest.raises(InputError, match="axis must be"):
        aligned_fibres(extent, **given, gap=1.0, axis=3, seed=1)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_exponential_layers(axis: int) -> None:
    given = {"period": 20.0, "volume_fraction": 0.3}
    extent = tuple(np.insert([2, 3], axis, 6000).tolist())
    stacks = np.stack([layer_stack(extent, **given, variation=1.0, axis=axis, seed=seed) for seed in range(30)])
    line = np.moveaxis(stacks, axis + 1, 3)
    assert (line == line[:, :1, :1]).all()
    np.testing.assert_allclose(line.mean(axis=(1, 2, 3)), 0.3, atol=0.01)
    s2 = two_point_correlation(line[:, 0, 0][:, None], phase=1, periodic=True)[:, 0, :25]
    _assert_agree(s2[:, 1:], exponential_layers_s2(np.arange(1, 25), **given), largest_error=0.002)


def test_layers_are_as_thick_as_asked() -> None:
    line = layer_stack((2000, 1, 1), period=20.0, variation=0.1, volume_fraction=0.4, axis=0, seed=0)[:, 0, 0]
    starts = np.flatnonzero(line != np.roll(line, 1))
    thickness = np.diff(starts)
    assert len(starts) == 200
    of_phase = [thickness[line[starts[:-1]] == phase] for phase in (0, 1)]
    np.testing.assert_allclose([each.mean() for each in of_phase], [12, 8], rtol=0.02)
    np.testing.assert_allclose([each.std() / each.mean() for each in of_phase], 0.1, atol=0.03)
    with pytest.raises(InputError, match="at least one period"):
        layer_stack((10, 4, 4), period=20.0, variation=0.1, volume_fraction=0.4, axis=0, seed=0)


@pytest.mark.parametrize("name", VOLUMES)
def test_named_volumes(name: str) -> None:
    extent = (48, 50, 52)
    volume = VOLUMES[name].make(extent, 1)
    assert (volume.shape, volume.dtype) == (extent, np.uint8)
    assert set(np.unique(volume)) == {0, 1}
    np.testing.assert_array_equal(volume, VOLUMES[name].make(extent, 1))
    assert (volume != VOLUMES[name].make(extent, 2)).any()
