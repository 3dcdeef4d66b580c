"""`convert`: .npy files and folders of them into the files of viewers and solvers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_sample import make_model
from test_structure_files import phases, read_by_simpleitk, read_by_tifffile, read_by_vtk

import mcrpy_diffusion
from mcrpy_diffusion.commands.cli import main
from mcrpy_diffusion.data.dataset import Dataset
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.checkpoint import load_network, save_model
from mcrpy_diffusion.settings import PixelSize

NM = 1e-9


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "2.npy", phases(3, 4, 5))
    np.save(tmp_path / "10.npy", phases(4, 3).astype(float))
    return tmp_path


def test_folders_and_files_are_converted_and_equal_files_are_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = [
        "convert",
        str(folder),
        "--formats",
        "vti",
        "mhd",
        "--output",
        str(folder / "out"),
        "--pixel_size",
        "5nm",
    ]
    assert main(command) == 0
    assert "structures: 2; written: 2; unchanged: 0" in capsys.readouterr().out
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        f"{name}.{suffix}" for name in ("10", "2") for suffix in ("mhd", "raw", "vti")
    ]
    for read, suffix in ((read_by_vtk, "vti"), (read_by_simpleitk, "mhd")):
        found, size = read(folder / "out" / f"2.{suffix}")
        np.testing.assert_array_equal(found, phases(3, 4, 5))
        assert size == pytest.approx(5 * NM)
    before = {path: path.stat().st_mtime_ns for path in (folder / "out").iterdir()}
    (folder / "out" / "2.raw").unlink()
    assert main(command) == 0
    assert "structures: 2; written: 1; unchanged: 1" in capsys.readouterr().out
    kept = {path: time for path, time in before.items() if path.name != "2.raw"}
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_what_exists_with_another_content_is_not_overwritten(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "2.inp").write_text("with my boundary conditions")
    assert main(["convert", str(folder / "2.npy"), "--formats", "inp"]) == 2
    assert "2.inp' exists with another content" in capsys.readouterr().err
    assert (folder / "2.inp").read_text() == "with my boundary conditions"
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{}/nothing", "--formats", "vti"], "must be a .npy file or a folder"),
        (["{}/a.tif", "--formats", "vti"], "must be a .npy file or a folder"),
        (["{}/empty", "--formats", "vti"], "must hold structures"),
        (["{}/2.npy", "--formats", "png"], "2D"),
        (["{}/2.npy", "--formats", "vtk"], "invalid choice"),
        (["{}/2.npy"], "--formats"),
        (["{}/2.npy", "--formats", "vti", "--pixel_size", "12"], "pixel_size must be"),
        (["{}/bad.npy", "--formats", "vti"], "bad.npy"),
        (["{}/damaged", "--formats", "vti"], "sampling.json must be a record"),
        (["{}/sizes", "--formats", "vti"], "pixel_size must have"),
    ],
)
def test_wrong_input_is_one_line(words: list[str], said: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "empty").mkdir()
    (folder / "bad.npy").write_bytes(b"junk")
    for name, record in (("damaged", "{"), ("sizes", '{"pixel_size": 5}')):
        (folder / name).mkdir()
        np.save(folder / name / "0.npy", phases(3, 4))
        (folder / name / "sampling.json").write_text(record)
    assert main(["convert", *(word.format(folder) for word in words)]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_recorded_pixel_size_is_used(tmp_path: Path) -> None:
    with Dataset.create_or_resume(
        tmp_path / "data", {"n_phases": 3, "periodic": True}, source={"pixel_size": PixelSize(5 * NM).to_dict()}
    ) as dataset:
        dataset.append(0, phases(4, 3))
        dataset.finish()
    assert main(["convert", str(tmp_path / "data"), "--formats", "tiff", "--output", str(tmp_path)]) == 0
    (file,) = tmp_path.glob("*.tif")
    assert read_by_tifffile(file)[1] == pytest.approx(5 * NM)


@pytest.mark.parametrize("n_slices", [1, 8])
def test_sampled_structures_have_the_pixel_size_of_the_model(n_slices: int, tmp_path: Path) -> None:
    network, info = load_network(make_model(tmp_path / "m.safetensors", prediction="log_odds"))
    save_model(tmp_path / "m.safetensors", network.state_dict(), replace(info, pixel_size=PixelSize(5 * NM)))
    out, words = tmp_path / "out", ["--n_samples", "2", "--n_steps", "3", "--formats", "vti"]
    words += ["--extent_x", "16", "--extent_z", str(n_slices)]
    assert main(["sample", "--model", str(tmp_path / "m.safetensors"), "--out", str(out), *words]) == 0
    for seed in range(2):
        found, size = read_by_vtk(out / f"{seed}.vti")
        assert found.shape == (16, 8, n_slices)
        np.testing.assert_array_equal(found.reshape(np.load(out / f"{seed}.npy").shape), np.load(out / f"{seed}.npy"))
        assert size == pytest.approx(5 * NM)
    assert json.loads((out / "sampling.json").read_text())["pixel_size"] == {"value": 5e-9, "unit": "m"}
    assert "formats" not in json.loads((out / "sampling.json").read_text())
    assert main(["convert", str(out), "--formats", "tiff"]) == 0
    assert read_by_tifffile(out / "1.tif")[1] == pytest.approx(5 * NM)


@pytest.mark.parametrize("size", ["5 nm", 5e-9])
def test_the_python_function_takes_a_length_with_unit_or_in_metres(size: str | float, tmp_path: Path) -> None:
    mcrpy_diffusion.write_structure(tmp_path / "a.tiff", phases(3, 4, 5), pixel_size=size)
    found, read = read_by_tifffile(tmp_path / "a.tiff")
    np.testing.assert_array_equal(found, phases(3, 4, 5))
    assert read == pytest.approx(5 * NM)
    with pytest.raises(InputError, match="pixel size must be"):
        mcrpy_diffusion.write_structure(tmp_path / "a.tiff", phases(3, 4, 5), pixel_size=0.0)
