"""What a data set says of its structures: periodic or not, and the micrographs of its crops."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mcrpy_diffusion.api import make_dataset
from mcrpy_diffusion.data.crops import random_crops
from mcrpy_diffusion.data.dataset_check import verify
from mcrpy_diffusion.data.dataset_files import MICROGRAPHS_NAME
from mcrpy_diffusion.data.dataset_origin import DatasetOrigin, read_origin
from mcrpy_diffusion.data.split import MicrographSplit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.workflow.compare import compare_folders


def noise(n: int, extent: tuple[int, int], *, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random((n, *extent)) < 0.4).astype(np.uint8)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A data set of 40 crops of 8 x 8 pixels."""
    micrograph = noise(1, (48, 40), seed=0)[0]
    make_dataset(micrograph, tmp_path / "set", extent_x=8, extent_y=8, n_training_samples=40)
    return tmp_path / "set"


def structures(folder: Path, images: np.ndarray) -> Path:
    folder.mkdir()
    for i, image in enumerate(images):
        np.save(folder / f"{i}.npy", image)
    return folder


def metrics_of(tmp_path: Path, original: Path, generated: np.ndarray, **options) -> dict:
    compare_folders(original, structures(tmp_path / "made", generated), tmp_path / "out", **options)
    return json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_a_data_set_of_crops_holds_its_micrograph(crops: Path) -> None:
    origin = read_origin(crops)
    assert (origin.periodic, origin.is_of_crops) == (False, True)
    np.testing.assert_array_equal(origin.split.training[0], noise(1, (48, 40), seed=0)[0, :36])
    np.testing.assert_array_equal(origin.split.training_crops(), verify(crops).load())
    assert read_origin(crops / "samples") == DatasetOrigin()


def test_every_copy_is_found_wherever_it_was_cut(crops: Path, tmp_path: Path) -> None:
    training = read_origin(crops).split.training
    copies = random_crops(training, 20, extent=(8, 8), seed=99)
    metrics = metrics_of(tmp_path, crops, copies)
    assert metrics["nearest_training_image"]["n_exact_copies"] == 20
    assert metrics["nearest_training_image"]["n_images"]["training"] == 29 * 33  # positions
    assert not any("copies" in text for text in metrics["warnings"])


def test_without_the_micrograph_the_report_says_what_was_searched(crops: Path, tmp_path: Path) -> None:
    (crops / MICROGRAPHS_NAME).unlink()
    assert read_origin(crops).split is None
    metrics = metrics_of(tmp_path, crops, noise(9, (8, 8), seed=1))
    assert metrics["nearest_training_image"]["n_images"]["training"] == 40
    assert "40 crops alone" in metrics["warnings"][0]
    assert verify(crops).n_accepted == 40


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "not a valid .npz"), (b"other", "not hold the micrographs"), (b"array", "must hold images")],
)
def test_other_files_in_place_of_the_micrographs(crops: Path, data: bytes, message: str) -> None:
    path = crops / MICROGRAPHS_NAME
    if data:
        np.savez(path, noise(1, (48, 40), seed=7)[0] if data == b"other" else np.zeros((3, 4, 5)))
    else:
        path.write_bytes(b"PK")
    for read in (read_origin, verify):
        with pytest.raises(InputError, match=message):
            read(crops)


def test_what_the_data_set_says_of_its_edges_is_the_default(crops: Path, tmp_path: Path) -> None:
    generated = noise(9, (8, 8), seed=1)
    for name in "abc":
        (tmp_path / name).mkdir()
    assert metrics_of(tmp_path / "a", crops, generated)["periodic"] is False
    asked = metrics_of(tmp_path / "b", crops, generated, periodic=True)
    assert asked["periodic"] is True
    assert "not periodic" in asked["warnings"][0]
    folder = structures(tmp_path / "real", noise(9, (8, 8), seed=2))
    assert metrics_of(tmp_path / "c", folder, generated)["periodic"] is True


def test_a_split_that_was_moved_is_in_the_recipe(tmp_path: Path) -> None:
    micrograph = noise(1, (48, 40), seed=0)[0]
    micrograph[20:22, 20:30] = micrograph[2, 2:5] = 2
    made = make_dataset(micrograph, tmp_path / "s", extent_x=8, extent_y=8, n_training_samples=4, use_multiphase=True)
    assert made.info["recipe"]["held_out_part"] == ["start of the longer axis"]
    split = read_origin(tmp_path / "s").split
    assert isinstance(split, MicrographSplit)
    np.testing.assert_array_equal(split.held_out[0], micrograph[:12])
