"""Truth tests: true volumes in place of made ones, a JSON per case that is not made twice, and the tables."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from mcrpy_diffusion.materials.volumes import VOLUMES

FOLDER = Path(__file__).parents[1] / "benchmarks" / "three_dimensions"
SMALL = ["--floor", "--extent", "24", "--slice_extent", "24", "--n_samples", "1", "--n_true", "2"]


@pytest.fixture
def truth(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    import truth

    return truth


def test_a_case_is_compared_once_and_tabled(truth: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(truth, "has_taufactor", lambda: False)
    arguments = ["layers", *SMALL, "--out", str(tmp_path)]
    assert truth.main(arguments) == 0
    path = tmp_path / "layers_floor.json"
    result, written = json.loads(path.read_text()), path.stat().st_mtime_ns
    along = result["evaluation"]["phases"]["1"]["space"]["percolating_share"]
    assert [along[axis]["generated"] for axis in "xyz"] == [0, 1, 1]
    assert "conductivity" not in result["evaluation"]["phases"]["1"]["space"]
    table = (tmp_path / "table.md").read_text()
    assert "| layers | 1 true / 2 | 1 |" in table
    assert truth.main(arguments) == 0
    assert path.stat().st_mtime_ns == written
    assert truth.main([*arguments, "--n_true", "3"]) == 0
    assert json.loads(path.read_text())["key"]["n_true"] == 3


def test_cases_that_there_are_not(truth: ModuleType, tmp_path: Path) -> None:
    assert truth.main(["granite", "--out", str(tmp_path)]) == 2


@pytest.mark.parametrize("name", ["spheres", "fibres"])
def test_slices_are_of_the_planes_that_the_material_needs(truth: ModuleType, name: str) -> None:
    images = truth.make_slices(VOLUMES[name], 20, 36)
    assert [image.shape for image in images] == [(36, 36)] * (1 if name == "spheres" else 3)
    if name == "fibres":  # endless along z, the second axis of the planes across x and y
        assert all((image == image[:, :1]).all() for image in images[:2])
        assert (images[2] != images[2][:, :1]).any()
