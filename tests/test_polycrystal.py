"""Polycrystals: the rasterised power diagram against MicroStructPy's mesh and brute force, sizes, seeds."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials import polycrystal
from mcrpy_diffusion.materials.polycrystal import Seeds, make, make_polycrystal, place_seeds, rasterise, sizes
from mcrpy_diffusion.settings import AlloySettings


def all_cells(seeds, points, n_images):
    """The cell (image of a seed) of each point by brute force over all images, and the seeds' numbers."""
    shifts = np.array(list(itertools.product(range(-n_images, n_images + 1), repeat=2))) * seeds.field
    centres = (seeds.centres + shifts[:, None]).reshape(-1, 2)
    radii = np.tile(seeds.radii, len(shifts))
    power = np.empty((len(centres), *points.shape[:-1]))
    for k, (centre, radius) in enumerate(zip(centres, radii)):
        offset = points - centre
        power[k] = np.einsum("...k,kl,...l->...", offset, seeds.metric, offset) - radius**2
    return power.argmin(axis=0), np.tile(np.arange(len(seeds.radii)), len(shifts))


@pytest.mark.parametrize(
    "settings",
    [
        AlloySettings(extent_x=26, extent_y=34, grain_size=5.0),
        AlloySettings(extent_x=33, extent_y=26, aspect_ratio=3.0, orientation=30.0, grain_size=3.5),
        AlloySettings(extent_x=22, extent_y=20, grain_size=4.0, periodic=False),
    ],
)
def test_raster_agrees_with_brute_force_on_a_fine_grid(settings):
    fine, pad, width = 6, 2, 4.0
    seeds = place_seeds(2, settings)
    ids, distance = rasterise(seeds, settings.extent, max_distance=width / 2)
    axes = [np.arange(-pad * fine, (n - 1 + pad) * fine + 1) / fine for n in settings.extent]
    cells, numbers = all_cells(seeds, np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1), 2)
    pixels = tuple(slice(pad * fine, pad * fine + (n - 1) * fine + 1, fine) for n in settings.extent)
    np.testing.assert_array_equal(ids, numbers[cells][pixels])
    # from a pixel to the nearest point of another cell, on the fine grid
    expected = np.empty(settings.extent)
    for cell in np.unique(cells[pixels]):
        here = cells[pixels] == cell
        expected[here] = ndimage.distance_transform_edt(cells == cell)[pixels][here] / fine
    near = distance < width / 2
    assert 0.2 < near.mean() < 0.95
    assert abs(distance - expected)[near].max() < 1.5 / fine
    assert (expected[~near] > width / 2 - 1e-9).all()


def test_boundaries_are_the_facets_of_microstructpys_mesh(tmp_path, monkeypatch):
    from microstructpy import geometry
    from microstructpy.meshing import PolyMesh
    from microstructpy.seeding import Seed, SeedList

    settings = AlloySettings(extent_x=48, extent_y=64, grain_size=8.0)
    seeds = place_seeds(4, settings)
    circles = [
        Seed.factory("circle", diameter=2 * r, position=c.tolist()) for c, r in zip(seeds.centres, seeds.radii.tolist())
    ]
    mesh = PolyMesh.from_seeds(SeedList(circles), geometry.Rectangle(limits=[(0, 48), (0, 64)]), periodic=True)
    on_face = {f for pairs in mesh.periodic_facets.values() for pair in pairs for f in pair}
    points = np.array(mesh.points)
    segments = np.array([points[list(f)] for k, f in enumerate(mesh.facets) if k not in on_face])
    shifts = np.array(list(itertools.product((-48, 0, 48), (-64, 0, 64))))
    segments = (segments + shifts[:, None, None]).reshape(-1, 2, 2)
    start, along = segments[:, 0], segments[:, 1] - segments[:, 0]
    pixels = np.moveaxis(np.indices(settings.extent), 0, -1)[:, :, None]
    t = (((pixels - start) * along).sum(-1) / (along**2).sum(-1)).clip(0, 1)
    expected = np.linalg.norm(pixels - start - t[..., None] * along, axis=-1).min(axis=-1)
    ids, distance = rasterise(seeds, settings.extent, max_distance=4.0)
    assert (np.minimum(distance, 4.0) < 4.0).mean() > 0.3
    np.testing.assert_allclose(np.minimum(distance, 4.0), np.minimum(expected, 4.0), atol=1e-5)
    areas = np.bincount(mesh.seed_numbers, mesh.volumes)
    pixel_counts = np.bincount(ids.ravel(), minlength=len(areas))
    assert abs(pixel_counts - areas).max() < 0.25 * math.sqrt(areas.max()) * 4  # of the order of the perimeter


def two_grains(radii=(5.0, 5.0)):
    """Two seeds on one row: between columns 10 and 30 the boundary is a straight line, computed by hand."""
    centres = np.array([[10.0, 10.0], [10.0, 30.0]])
    return Seeds(centres, np.array(radii), np.array([0, 0]), np.eye(2), (40.0, 40.0))


def test_boundary_between_two_seeds_by_hand():
    """Powers are equal at the column 10 + d / 2 + (r_1^2 - r_2^2) / (2 d)."""
    _, distance = rasterise(two_grains((7.0, 3.0)), (20, 30), max_distance=3.0)
    assert distance[10, 19] == pytest.approx(2.0)
    assert distance[10, 22] == pytest.approx(1.0)
    ids, distance = rasterise(two_grains(), (20, 30), max_distance=3.0)
    assert (ids[:, 10:20] == 0).all()
    assert (ids[:, 21:] == 1).all()
    np.testing.assert_allclose(distance[10, 17:24], [3, 2, 1, 0, 1, 2, 3])
    np.testing.assert_allclose(distance[10, :4], [0, 1, 2, 3])  # across the edge of the field


@pytest.mark.parametrize(("width", "n_pixels"), [(1.0, 1), (2.0, 1), (2.5, 3), (3.0, 3), (5.0, 5)])
def test_a_straight_boundary_has_the_given_width(width, n_pixels):
    """A line on pixel centres covers the pixels nearer than half the width."""
    _, distance = rasterise(two_grains(), (20, 30), max_distance=width / 2)
    assert (distance < width / 2)[:, 10:].sum() == 20 * n_pixels


def test_boundary_fraction_is_the_facets_length_times_the_width():
    settings = AlloySettings(grain_size=12.0, extent_x=96, extent_y=96)
    fractions = [
        np.mean([make(seed, settings.replace(boundary_width=width)).mean() for seed in range(4)])
        for width in (0.5, 1.0, 2.0)
    ]
    assert fractions[1] / fractions[0] == pytest.approx(2.0, rel=0.05)
    assert fractions[2] / fractions[0] == pytest.approx(4.0, rel=0.1)
    assert make(0, settings.replace(boundary_width=0.0)).sum() == 0


def test_grain_ids_agree_with_phases():
    """With a width of at least one pixel, adjacent pixels off the boundary belong to one grain."""
    settings = AlloySettings(boundary_width=1.0)
    for seed in range(5):
        made = make_polycrystal(seed, settings)
        assert made.phases.dtype == np.uint8
        assert made.grain_ids.shape == made.phases.shape == (64, 64)
        for axis in (0, 1):
            inside = (made.phases == 0) & (np.roll(made.phases, 1, axis) == 0)
            assert (made.grain_ids == np.roll(made.grain_ids, 1, axis))[inside].all()
        assert set(np.unique(made.grain_ids)) == set(range(len(made.seeds.radii)))
        np.testing.assert_array_equal(made.phases, made.boundary_distance < 0.5)


def test_a_periodic_structure_tiles():
    """A shift of the seeds by whole pixels shifts the structure."""
    seeds = place_seeds(1, AlloySettings(extent_x=48, extent_y=64))
    ids, distance = rasterise(seeds, (48, 64), max_distance=3.0)
    moved = replace(seeds, centres=(seeds.centres + [20, 50]) % seeds.field)
    moved_ids, moved_distance = rasterise(moved, (48, 64), max_distance=3.0)
    np.testing.assert_array_equal(moved_ids, np.roll(ids, (20, 50), (0, 1)))
    np.testing.assert_allclose(moved_distance.clip(max=3), np.roll(distance, (20, 50), (0, 1)).clip(max=3), atol=1e-9)
    assert not np.array_equal(make(1, AlloySettings(periodic=False)), make(1, AlloySettings()))


def test_grains_have_the_given_sizes_and_volume_fractions():
    """Ratios 1 : 2 : 2.5 : 3 : 4 and fractions .15 : .2 : .3 : .2 : .15 over a large structure."""
    settings = AlloySettings(extent_x=256, extent_y=256)
    area, count = np.zeros(5), np.zeros(5)
    for seed in range(3):
        made = make_polycrystal(seed, settings)
        pixels = np.bincount(made.grain_ids.ravel(), minlength=len(made.seeds.radii))
        area += np.bincount(made.seeds.size_classes, pixels, 5)
        count += np.bincount(made.seeds.size_classes, minlength=5)
    diameters = np.sqrt(4 / np.pi * area / count)
    np.testing.assert_allclose(diameters / settings.grain_size, [1, 2, 2.5, 3, 4], rtol=0.08)
    np.testing.assert_allclose(area / area.sum(), [0.15, 0.2, 0.3, 0.2, 0.15], atol=0.06)


def test_drawn_areas_keep_the_fractions_on_average(monkeypatch):
    monkeypatch.setattr(polycrystal, "_N_ATTEMPTS", 1)  # positions do not matter here
    settings = AlloySettings(grain_size=5.0)
    drawn = np.zeros(5)
    for seed in range(40):
        seeds = place_seeds(seed, settings)
        drawn += np.bincount(seeds.size_classes, seeds.radii**2, 5)
    np.testing.assert_allclose(drawn / drawn.sum(), [0.15, 0.2, 0.3, 0.2, 0.15], atol=0.03)


def test_seeds_without_a_position_are_added():
    settings = AlloySettings(grain_size=6.0, aspect_ratio=3.0)
    made = make_polycrystal(0, settings)
    area = np.pi * (made.seeds.radii**2).sum()
    assert 1.0 <= area / 64**2 < 1.0 + np.pi * 12**2 / 64**2  # the last one crosses the field's area
    assert len(np.unique(made.grain_ids)) == len(made.seeds.radii)


@pytest.mark.parametrize("orientation", [60.0])
def test_columnar_grains_have_aspect_ratio_and_orientation(orientation):
    """The second moments of a grain's pixels: the long axis is 3 times the short one, along the orientation."""
    settings = AlloySettings(
        extent_x=96, extent_y=96, grain_size=14.0, size_ratios=(1.0,), volume_fractions=(1.0,), aspect_ratio=3.0
    ).replace(orientation=orientation)
    moments = np.zeros((2, 2))
    for seed in range(2):
        ids = make_polycrystal(seed, settings).grain_ids
        inner = set(np.unique(ids)) - {*ids[0], *ids[-1], *ids[:, 0], *ids[:, -1]}
        for grain in inner:
            moments += np.cov(np.argwhere(ids == grain).T)
    values, vectors = np.linalg.eigh(moments)
    assert math.sqrt(values[1] / values[0]) == pytest.approx(3.0, rel=0.2)
    angle = math.degrees(math.atan2(vectors[1, 1], vectors[0, 1])) % 180
    assert abs((angle - orientation + 90) % 180 - 90) < 8


def test_abnormal_grains_are_a_class_of_their_own(monkeypatch):
    monkeypatch.setattr(polycrystal, "_N_ATTEMPTS", 1)
    settings = AlloySettings(size_ratios=(1.0, 2.0), volume_fractions=(0.5, 0.5), grain_size=5.0)
    settings = settings.replace(abnormal_fraction=0.4, abnormal_ratio=8.0)
    diameters, fractions = sizes(settings)
    np.testing.assert_allclose(diameters, [5, 10, 40])
    np.testing.assert_allclose(fractions, [0.3, 0.3, 0.4])
    drawn = np.zeros(3)
    for seed in range(40):
        seeds = place_seeds(seed, settings)
        drawn += np.bincount(seeds.size_classes, seeds.radii**2, 3)
    assert drawn[2] / drawn.sum() == pytest.approx(0.4, abs=0.08)


def test_a_structure_depends_on_its_seed_alone_and_nothing_else_changes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.random.seed(5)  # noqa: NPY002 - MicroStructPy seeds the global generator
    before = np.random.get_state()  # noqa: NPY002
    first = make(7, AlloySettings())
    after = np.random.get_state()  # noqa: NPY002
    np.testing.assert_array_equal(before[1], after[1])
    assert before[2] == after[2]
    np.random.seed(6)  # noqa: NPY002
    np.testing.assert_array_equal(make(7, AlloySettings()), first)
    assert (make(8, AlloySettings()) != first).mean() > 0.1
    monkeypatch.setattr(polycrystal, "_N_ATTEMPTS", 1)  # many seeds are without a position
    make(7, AlloySettings())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size_ratios": (1.0, 2.0)}, "size_ratios and volume_fractions must have the same number"),
        (
            {"size_ratios": (1.0, -2.0), "volume_fractions": (0.5, 0.5)},
            "each of size_ratios must be between 0.01 and 1000, got -2.0",
        ),
        ({"size_ratios": (1.0, "2"), "volume_fractions": (0.5, 0.5)}, "each of size_ratios must be a number, got '2'"),
        ({"size_ratios": (1.0, 2.0), "volume_fractions": (0.5, 0.6)}, "volume_fractions must add up to 1"),
        ({"boundary_width": -1.0}, "boundary_width must be between"),
        ({"aspect_ratio": 0.5}, "aspect_ratio must be between 1 and 20, got 0.5"),
    ],
)
def test_invalid_settings_are_rejected(values, message):
    with pytest.raises(InputError, match=message):
        AlloySettings.from_dict(values)


def test_grains_longer_than_the_extent_are_rejected():
    with pytest.raises(InputError, match="largest grains .* extent 64 x 64, got 80 pixels"):
        make(0, AlloySettings(grain_size=20.0))
