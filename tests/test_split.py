"""Split of micrographs into training parts and held-out parts."""

from __future__ import annotations

import numpy as np
import pytest

from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.settings import GenerationSettings

SETTINGS = GenerationSettings(extent_x=8, extent_y=8, training_data="crops", n_training_samples=30, seed=3)


def numbered(rows, columns, first=0):
    """An image with different values in all pixels."""
    return first + np.arange(rows * columns).reshape(rows, columns)


def test_held_out_crops_do_not_overlap_training_crops():
    images = [numbered(32, 20), numbered(20, 40, first=10_000)]
    split = MicrographSplit.of(images, SETTINGS)
    assert split.is_complete
    training, held_out = split.training_crops(), split.held_out_crops(50)
    assert training.shape == (30, 8, 8)
    assert held_out.shape == (50, 8, 8)
    assert not set(training.ravel()) & set(held_out.ravel())
    for parts in (split.training, split.held_out):
        assert {int(part.min()) >= 10_000 for part in parts} == {False, True}  # of both micrographs


def test_every_position_once_if_as_many_crops_are_requested():
    split = MicrographSplit.of([numbered(16, 9)], SETTINGS.replace(n_training_samples=2))
    assert split.n_positions == 2  # one row of the training part, two columns
    assert len({crop.tobytes() for crop in split.training_crops()}) == 2


@pytest.mark.parametrize(
    ("change", "size"), [({"training_data": "descriptors"}, 32), ({"held_out_fraction": 0.0}, 32), ({}, 15)]
)
def test_nothing_is_held_out(change, size):
    image = numbered(size, 15)
    split = MicrographSplit.of([image], SETTINGS.replace(**change))
    assert not split.is_complete
    assert split.held_out_crops(5) is None
    np.testing.assert_array_equal(split.training[0], image)


def with_phase(*places: tuple[slice, slice], shape=(40, 32)):
    """Two phases in stripes, and a third one at the places."""
    image = np.tile(np.arange(shape[1]) // 2 % 2, (shape[0], 1)).astype(np.uint8)
    for place in places:
        image[place] = 2
    return image


def crosses(rows, columns):
    return slice(rows, rows + 4), slice(columns, columns + 4)


@pytest.mark.parametrize(
    ("places", "held_out"),
    [
        ([crosses(0, 0), crosses(36, 0)], (slice(30, None), slice(None))),  # the usual cut has it on both sides
        ([crosses(20, 0), crosses(2, 0)], (slice(None, 10), slice(None))),  # the first part is held out
        ([crosses(20, 2), crosses(20, 28)], (slice(None), slice(24, None))),  # the last columns
        ([crosses(20, 2), crosses(20, 16)], (slice(None), slice(None, 8))),  # the first columns
    ],
)
def test_each_phase_is_on_both_sides_where_a_cut_allows_it(places, held_out):
    image = with_phase(*places)
    split = MicrographSplit.of([image], SETTINGS)
    np.testing.assert_array_equal(split.held_out[0], image[held_out])
    assert split.training[0].size + split.held_out[0].size == image.size
    assert split.missing_phases() == []
    assert split.is_moved == (held_out[0].start != 30)


def test_a_phase_that_one_side_lacks_is_named():
    split = MicrographSplit.of([with_phase(crosses(36, 28))], SETTINGS)  # in the corner: no cut divides it
    assert 2 in split.training[0]
    (text,) = split.missing_phases()
    assert "phase 2" in text
    assert "training part" in text
    assert split.is_moved  # the training part rather has it
    both = MicrographSplit.of([with_phase(crosses(36, 28)), with_phase(crosses(0, 0))], SETTINGS)
    assert len(both.missing_phases()) == 1
