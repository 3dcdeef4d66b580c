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
