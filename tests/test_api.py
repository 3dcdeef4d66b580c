"""The Python functions: data sets of all kinds of source, resumed training, invalid input."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_pipeline import blobs

import mcrpy_diffusion
from mcrpy_diffusion.commands import cli
from mcrpy_diffusion.errors import InputError

SMALL = {"extent_x": 16, "extent_y": 16, "n_training_samples": 12}
TINY = {"channels": 8, "channel_multipliers": (1, 2), "n_timesteps": 50, "n_training_steps": 2, "batch_size": 4}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    np.save(tmp_path / "blobs.npy", blobs())
    return tmp_path / "blobs.npy"


def test_all_kinds_of_source_make_the_data_set_of_the_command(file: Path, tmp_path: Path) -> None:
    options = [word for key, value in SMALL.items() for word in (f"--{key}", str(value))]
    assert cli.main(["generate", "--micrograph", str(file), "--out", str(tmp_path / "command"), *options]) == 0
    expected = mcrpy_diffusion.Dataset.open(tmp_path / "command").load()
    read = mcrpy_diffusion.read_micrograph(file)
    for i, source in enumerate([file, str(file), [file], read, blobs()]):
        dataset = mcrpy_diffusion.make_dataset(source, tmp_path / str(i), **SMALL)
        assert dataset.is_complete
        np.testing.assert_array_equal(dataset.load(), expected)
        # all sources have the same recipe, so the folder is accepted for each of them
        mcrpy_diffusion.make_dataset(source, tmp_path / "command", **SMALL)


def test_held_out_structures_do_not_overlap_training_structures(tmp_path: Path) -> None:
    columns = np.tile(np.arange(64) % 2, (64, 1)).astype(np.uint8)
    held = mcrpy_diffusion.held_out_structures(columns, 5, **SMALL)
    assert held.shape == (5, 16, 16)
    position = np.arange(64 * 64).reshape(64, 64) / 4095  # grey values that encode the position of a crop
    grey = {**SMALL, "grey_values": True}
    trained = mcrpy_diffusion.make_dataset(position, tmp_path / "grey", **grey).load()
    apart = mcrpy_diffusion.held_out_structures(position, 50, **grey)
    assert not np.isin(apart.round(5), trained.round(5)).any()


def test_a_small_micrograph_has_nothing_held_out() -> None:
    with pytest.raises(InputError, match="no held-out part"):
        mcrpy_diffusion.held_out_structures(blobs()[:20, :20], **SMALL)


def test_training_uses_preset_and_settings_and_is_resumed(file: Path, tmp_path: Path) -> None:
    dataset = mcrpy_diffusion.make_dataset(file, tmp_path / "data", **SMALL)
    steps: list[int] = []
    model = mcrpy_diffusion.train_model(dataset, tmp_path / "run", on_step=lambda i, _: steps.append(i), **TINY)
    assert steps == [1, 2]
    assert model.info.settings.channels == 8
    assert model.info.settings.prediction == mcrpy_diffusion.preset("quick").training.prediction
    again = mcrpy_diffusion.train_model(
        tmp_path / "data", tmp_path / "run", on_step=lambda i, _: steps.append(i), **TINY
    )
    assert steps == [1, 2]  # the training is complete
    np.testing.assert_array_equal(model.sample(1, n_steps=2), again.sample(1, n_steps=2))
    with pytest.raises(InputError, match="unknown TrainingSettings n_steps"):
        mcrpy_diffusion.train_model(dataset, tmp_path / "run", n_steps=3)


def test_a_material_needs_no_file(tmp_path: Path) -> None:
    settings = {"extent_x": 32, "extent_y": 32, "n_training_samples": 3, "radius": 3.0}
    dataset = mcrpy_diffusion.make_material("fibre", tmp_path, n_jobs=1, **settings)
    assert dataset.load().shape == (3, 32, 32)
    assert dataset.info["recipe"]["radius"] == 3.0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ([], "got no file"),
        (np.zeros((4, 4, 4)), "'micrograph' must have two axes, got three"),
        (np.full((64, 64), np.nan), "'micrograph'"),
        (np.array([["a"]]), "'micrograph' must hold integers"),
        ({}, "'characterization' holds no 'settings'"),
        ({"settings": SimpleNamespace(n_phases=2, limit_to=8)}, "'characterization' holds no descriptors"),
        ("missing.npy", "missing.npy"),
    ],
)
def test_invalid_sources(source: object, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        mcrpy_diffusion.make_dataset(source, tmp_path / "data", **SMALL)  # type: ignore[arg-type]
    assert not (tmp_path / "data").exists()
