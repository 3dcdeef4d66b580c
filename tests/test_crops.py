"""Cutting micrographs into training crops and a held-out part."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.data.crops import all_crops, grid_crops, n_positions, random_crops, split
from mcrpy_diffusion.errors import InputError


def _numbered(rows: int, columns: int, start: int = 0) -> np.ndarray:
    return np.arange(start, start + rows * columns).reshape(rows, columns)


@pytest.mark.parametrize(
    ("shape", "extent", "fraction", "training", "held_out"),
    [
        ((256, 256), (64, 64), 0.25, (192, 256), (64, 256)),
        ((100, 300), (64, 64), 0.4, (100, 180), (100, 120)),
        ((200, 100), (64, 64), 0.1, (136, 100), (64, 100)),  # at least one extent
        ((128, 128), (64, 64), 0.25, (64, 128), (64, 128)),  # both parts have exactly the extent
        ((127, 127), (64, 64), 0.25, (127, 127), None),  # the training part would be too small
        ((128, 100), (64, 64), 0.6, (128, 100), None),
        ((64, 64), (64, 64), 0.25, (64, 64), None),
        ((256, 256), (64, 64), 0.0, (256, 256), None),
        ((90, 100), (20, 60), 0.25, (90, 100), None),  # the extent along the longer axis is the limit
    ],
)
def test_split(shape, extent, fraction, training, held_out):
    phases = _numbered(*shape)
    first, second = split(phases, extent=extent, held_out_fraction=fraction)
    assert first.shape == training
    assert (None if second is None else second.shape) == held_out
    axis = 0 if shape[0] >= shape[1] else 1
    whole = first if second is None else np.concatenate([first, second], axis=axis)
    np.testing.assert_array_equal(whole, phases)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_split_fraction_out_of_range(fraction):
    with pytest.raises(InputError, match="held_out_fraction"):
        split(_numbered(20, 20), extent=(8, 8), held_out_fraction=fraction)


def test_every_crop_is_a_window():
    micrograph = _numbered(9, 11)
    for crop in random_crops([micrograph], 50, extent=(4, 3), seed=0):
        row, column = divmod(int(crop[0, 0]), 11)
        np.testing.assert_array_equal(crop, micrograph[row : row + 4, column : column + 3])


def test_crop_depends_on_seed_and_index_alone():
    micrograph = _numbered(50, 50)
    many = random_crops([micrograph], 20, extent=(8, 8), seed=3)
    few = random_crops([micrograph], 5, extent=(8, 8), seed=3)
    other = random_crops([micrograph], 20, extent=(8, 8), seed=4)
    np.testing.assert_array_equal(many[:5], few)
    assert (many != other).any(axis=(1, 2)).sum() > 15
    assert len({int(crop[0, 0]) for crop in many}) > 15


def test_crop_positions_are_uniform_over_all_micrographs():
    micrographs = [_numbered(5, 4), _numbered(3, 7, start=1000)]  # 3 x 3 and 1 x 6 positions of 3 x 2
    corners = random_crops(micrographs, 15 * 200, extent=(3, 2), seed=0)[:, 0, 0]
    expected = {4 * i + j for i in range(3) for j in range(3)} | {1000 + j for j in range(6)}
    values, counts = np.unique(corners, return_counts=True)
    assert set(values) == expected
    assert np.abs(counts - 200).max() < 6 * 200**0.5


def test_crop_of_the_whole_micrograph():
    micrograph = _numbered(4, 4)
    np.testing.assert_array_equal(random_crops([micrograph], 2, extent=(4, 4), seed=0), [micrograph, micrograph])
    assert random_crops([micrograph], 0, extent=(4, 4), seed=0).shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("micrographs", "extent", "words"),
    [
        ([], (4, 4), "got none"),
        ([_numbered(3, 9)], (4, 4), "at least of the extent 4 x 4, got 3 x 9"),
        ([_numbered(9, 3)], (4, 4), "9 x 3"),
        ([np.zeros((2, 9, 9))], (4, 4), "2 x 9 x 9"),
        ([_numbered(9, 9)], (0, 4), "extent must be"),
        ([np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.float32)], (4, 4), "of one type"),
    ],
)
def test_invalid_micrographs(micrographs, extent, words):
    with pytest.raises(InputError, match=words):
        random_crops(micrographs, 1, extent=extent, seed=0)


def test_negative_seed():
    with pytest.raises(InputError, match="seed"):
        random_crops([_numbered(9, 9)], 1, extent=(4, 4), seed=-1)


def test_all_crops_cover_each_position_once():
    images = [_numbered(4, 5), _numbered(3, 3, start=100)]
    crops = all_crops(images, extent=(3, 2))
    expected = [m[i : i + 3, j : j + 2] for m in images for i in range(m.shape[0] - 2) for j in range(m.shape[1] - 1)]
    np.testing.assert_array_equal(crops, np.stack(expected))
    assert n_positions(images, extent=(3, 2)) == len(expected) == 10


def test_grid_crops_have_the_given_spacing():
    phases = np.arange(7 * 9).reshape(7, 9)
    crops = grid_crops(phases, extent=(3, 4), step=(2, 5))
    assert [crop[0, 0] for crop in crops] == [0, 5, 18, 23, 36, 41]
    np.testing.assert_array_equal(crops[3], phases[2:5, 5:9])
    assert len(grid_crops(phases, extent=(3, 4), step=(3, 4))) == 2 * 2  # no overlap
    with pytest.raises(InputError, match="step"):
        grid_crops(phases, extent=(3, 4), step=(0, 1))
