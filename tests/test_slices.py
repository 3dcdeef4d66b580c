"""Slices of volumes as sources of training structures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from mcrpy_diffusion import Dataset, make_dataset
from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.data.dataset_origin import read_origin
from mcrpy_diffusion.data.micrograph import read_images, read_micrograph
from mcrpy_diffusion.data.slices import VolumeSlice, recorded_slices, volume_records
from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.settings import GenerationSettings

VOLUME = (np.random.default_rng(0).random((20, 16, 12)) < 0.4).astype(np.uint8)


def write(path: Path) -> Path:
    np.save(path, VOLUME) if path.suffix == ".npy" else tifffile.imwrite(path, VOLUME * np.uint8(255))
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_slices_along_each_axis(tmp_path, name):
    """Axes x, y, z are the first, second and third one; pages follow each other along x."""
    found = read_images([write(tmp_path / name)], slices_along=("z", "x"))
    assert len(found) == 12 + 20
    np.testing.assert_array_equal(found[3].phases, VOLUME[:, :, 3])
    np.testing.assert_array_equal(found[12 + 7].phases, VOLUME[7])
    assert found[3].volume_slice == VolumeSlice(2, 3, (20, 16, 12))


def test_volumes_without_the_option_are_refused_or_stacks(tmp_path):
    file = write(tmp_path / "a.npy")
    with pytest.raises(InputError, match="slices_along"):
        read_micrograph(file)
    assert len(read_images([file])) == 20
    np.save(tmp_path / "flat.npy", VOLUME[0])
    with pytest.raises(InputError, match="must hold a volume"):
        read_images([tmp_path / "flat.npy"], slices_along=("x",))


def test_no_voxel_is_in_both_parts():
    """One plane divides the volume, normal to its longest axis, also where its slices are normal to other axes."""
    numbers = np.arange(VOLUME.size, dtype=np.int64).reshape(VOLUME.shape)
    slices = [VolumeSlice(axis, i, VOLUME.shape) for axis in range(3) for i in range(VOLUME.shape[axis])]
    images = [np.take(numbers, each.index, axis=each.axis) for each in slices]
    settings = GenerationSettings(extent_x=8, extent_y=8, training_data="crops", held_out_fraction=0.25)
    split = MicrographSplit.of(images, settings.replace(extent_x=8), slices)
    assert split.is_complete
    training, held_out = (
        np.unique(np.concatenate([part.ravel() for part in side])) for side in (split.training, split.held_out)
    )
    np.testing.assert_array_equal(training, numbers[:12].ravel())
    np.testing.assert_array_equal(held_out, numbers[12:].ravel())


def test_a_small_volume_is_not_divided():
    slices = [VolumeSlice(0, i, VOLUME.shape) for i in range(20)]
    settings = GenerationSettings(extent_x=12, extent_y=12, training_data="crops")
    split = MicrographSplit.of(list(VOLUME), settings, slices)
    assert not split.is_complete
    assert len(split.training) == 20


def test_a_data_set_of_slices_is_divided_alike_when_it_is_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.npy"))
    words = "generate --micrograph a.npy --slices_along x y z --out set --n_samples 30 --extent_x 8 --extent_y 8"
    assert stages.main([*words.split(), "--training_data", "crops"]) == 0
    split = read_origin("set").split
    assert split is not None
    read = read_images(["a.npy"], slices_along=("x", "y", "z"))
    expected = MicrographSplit.of([m.phases for m in read], split.settings, [m.volume_slice for m in read])
    np.testing.assert_array_equal(split.training_crops(), expected.training_crops())
    np.testing.assert_array_equal(Dataset.open("set").load(), expected.training_crops())
    assert {part.shape for part in expected.held_out} == {(16, 12), (8, 12), (8, 16)}


def test_volumes_from_python(tmp_path):
    settings = {"slices_along": ("y",), "extent_x": 8, "extent_y": 8, "training_data": "crops", "n_training_samples": 5}
    assert make_dataset(VOLUME, tmp_path / "set", **settings).load().shape == (5, 8, 8)


@pytest.mark.parametrize("along", [(0,), (2, 0), (0, 1, 2)])
def test_records_of_volumes(along):
    shapes = [(20, 16, 12), (5, 6, 7)]
    slices = [VolumeSlice(axis, i, shape) for shape in shapes for axis in along for i in range(shape[axis])]
    assert recorded_slices(volume_records(slices), len(slices)) == slices


@pytest.mark.parametrize(
    "records", [None, 5, [{}], [{"shape": [1, 2], "along": []}], [{"shape": [10**9] * 3, "along": "x"}]]
)
def test_damaged_records_of_volumes(records):
    with pytest.raises(InputError, match="record of the volumes"):
        recorded_slices(records, 3)
