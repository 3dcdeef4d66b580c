"""Comparing two folders: what is read, cut and refused."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.workflow import compare
from mcrpy_diffusion.workflow.compare import FEATURES, compare_folders, disjoint_crops, feature_network, read_structures

pytestmark = pytest.mark.usefixtures("blank_figures")


def folder(path: Path, images: dict[str, Any]) -> Path:
    path.mkdir(parents=True)
    for name, image in images.items():
        np.save(path / name, image)
    return path


def noise(shape: tuple[int, ...], *, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(2, size=shape).astype(np.uint8)


def test_structures_of_one_extent_are_compared_as_they_are(tmp_path: Path) -> None:
    images = noise((12, 8, 8), seed=0)
    images[7, 0] = 2  # a phase that no original has
    original = folder(tmp_path / "original" / "samples", {f"{i:06d}": x for i, x in enumerate(images[:3])})
    generated = folder(tmp_path / "generated", {str(i): x for i, x in enumerate(images)})
    text = compare_folders(original.parent, generated, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n_images"] == {"original": 3, "generated": 12}
    assert metrics["phases"]["2"]["volume_fraction"]["difference"] == pytest.approx((images == 2).mean())
    assert (metrics["periodic"], metrics["n_phases"]) == (True, 3)
    assert metrics["nearest_training_image"]["minimum_mse"] == 0
    assert str(tmp_path / "out" / "report.html") in text


def test_larger_originals_are_cut_to_crops_and_copies_found_anywhere(tmp_path: Path) -> None:
    micrograph = noise((20, 30), seed=1)
    original = folder(tmp_path / "original", {"micrograph": micrograph})
    generated = folder(tmp_path / "generated", {"0": noise((8, 8), seed=2), "1": micrograph[7:15, 11:19]})
    compare_folders(original, generated, tmp_path / "out")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n_images"]["original"] == 1000
    assert metrics["periodic"] is False
    assert metrics["nearest_training_image"]["generated_index"] == 1
    assert metrics["nearest_training_image"]["minimum_mse"] == 0


def test_vgg19_tells_real_crops_from_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Crops of one striped micrograph; generated are other crops of it, or noise of the same volume fraction."""
    monkeypatch.setattr(compare, "N_CROPS", 100)
    rows = np.arange(80)[:, None] + np.arange(90)
    micrograph = ((rows + 3 * noise((80, 90), seed=0)) % 9 < 4).astype(np.uint8)
    original = folder(tmp_path / "original", {"micrograph": micrograph})
    real = {str(i): micrograph[3 * i : 3 * i + 16, 5 * i : 5 * i + 16] for i in range(12)}
    wrong = {str(i): (np.random.default_rng(i).random((16, 16)) < micrograph.mean()).astype(int) for i in range(12)}
    metrics = {}
    for name, images in (("real", real), ("wrong", wrong)):
        made = folder(tmp_path / name, images)
        text = compare_folders(original, made, tmp_path / f"{name}_out", features="vgg19")
        metrics[name] = json.loads((tmp_path / f"{name}_out" / "metrics.json").read_text())
        page = re.sub('"data:[^"]*"', "", (tmp_path / f"{name}_out" / "report.html").read_text())
        for shown in (text, page):
            assert "Frechet distance (VGG-19)" in shown
            assert "FID" not in shown
            assert "fewer than 2048" in " ".join(shown.split())
    assert metrics["real"]["precision"]["value"] > 0.7
    assert metrics["wrong"]["precision"]["value"] == metrics["wrong"]["coverage"]["value"] == 0
    distance, worse = (metrics[name]["frechet_distance"] for name in ("real", "wrong"))
    assert distance["floor"] == worse["floor"]
    assert distance["floor_n_images"] == [100, 12]
    assert worse["value"] > 3 * worse["floor"]
    assert distance["value"] < 2 * distance["floor"]
    assert distance["interval"][0] < distance["value"] < distance["interval"][1]


def test_floor_crops_have_no_pixel_in_common() -> None:
    """Pixels are numbered, so that each crop tells where it comes from."""
    numbered = [1000 * k + np.arange(20 * 9).reshape(20, 9) for k in range(2)]
    sets = disjoint_crops(numbered, (50, 40), extent=(8, 8), seed=0)
    assert sets is not None
    assert [s.shape for s in sets] == [(50, 8, 8), (40, 8, 8)]
    first, second = map(set, (s.ravel().tolist() for s in sets))
    assert not first & second
    for pixels in (first, second):
        assert {p // 1000 for p in pixels} == {0, 1}
    assert disjoint_crops([numbered[0][:15]], (5, 5), extent=(8, 8), seed=0) is None
    small = disjoint_crops([n[:15] for n in numbered], (5, 5), extent=(8, 8), seed=0)
    assert small is not None
    assert {tuple(np.unique(s // 1000)) for s in small} == {(0,), (1,)}


@pytest.mark.parametrize("kind", ["crops", "descriptors", None])
def test_a_data_set_of_crops_is_not_divided_for_a_floor(tmp_path: Path, kind: str | None) -> None:
    original = folder(tmp_path / "original" / "samples", {str(i): noise((16, 16), seed=i) for i in range(9)}).parent
    generated = folder(tmp_path / "generated", {str(i): noise((16, 16), seed=10 + i) for i in range(4)})
    if kind is not None:
        (original / "dataset.json").write_text(json.dumps({"recipe": {"training_data": kind}}))
    compare_folders(original, generated, tmp_path / "out", features="vgg19")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert (metrics["frechet_distance"]["floor"] is None) == (kind == "crops")
    assert any("overlap" in warning for warning in metrics["warnings"]) == (kind == "crops")


def test_features_that_there_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert feature_network("none", periodic=True) is None
    with pytest.raises(InputError, match="must be one of none, vgg19, inception"):
        compare_folders(tmp_path, tmp_path, tmp_path / "out", features="resnet")
    assert FEATURES[0] == "none"
    images = folder(tmp_path / "images", {str(i): noise((16, 16), seed=i) for i in range(3)})
    monkeypatch.setenv("MCRPY_DIFFUSION_INCEPTION_WEIGHTS", str(tmp_path / "missing.pth"))
    with pytest.raises(InputError, match="missing.pth' cannot be read"):
        compare_folders(images, images, tmp_path / "out", features="inception")
    assert not (tmp_path / "out").exists()


def test_structures_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    given = folder(tmp_path / "x", {str(i): np.full((4, 4), i, dtype=np.int64) for i in (10, 2, 1)})
    assert [int(s[0, 0]) for s in read_structures(given)] == [1, 2, 10]
    assert {s.dtype for s in read_structures(given)} == {np.dtype("uint8")}


@pytest.mark.parametrize(
    ("original", "generated", "words"),
    [
        (None, {"0": noise((4, 4), seed=0)}, "does not exist"),
        ({}, {"0": noise((4, 4), seed=0)}, "must hold images"),
        ({"0": noise((4, 4), seed=0)}, {"0": noise((4, 4), seed=0), "1": noise((5, 4), seed=0)}, "one extent"),
        ({"0": noise((4, 4), seed=0)}, {"0": noise((5, 5), seed=0)}, "at least of the extent"),
        ({"0": np.ones((4, 4), dtype=np.float32)}, {"0": noise((4, 4), seed=0)}, "grey values"),
        ({"0": np.full((4, 4), np.nan)}, {"0": noise((4, 4), seed=0)}, "must be grey values 0 to 1"),
        ({"0": np.full((4, 4), -1)}, {"0": noise((4, 4), seed=0)}, "must be phases"),
        ({"0": noise((4, 4, 4), seed=0)}, {"0": noise((4, 4), seed=0)}, "shape"),
        ({"0": np.array([None])}, {"0": noise((4, 4), seed=0)}, "holds Python objects"),
    ],
)
def test_folders_that_cannot_be_compared(
    tmp_path: Path, original: dict[str, Any] | None, generated: dict[str, Any], words: str
) -> None:
    if original is not None:
        folder(tmp_path / "original", original)
    folder(tmp_path / "generated", generated)
    with pytest.raises(InputError, match=words):
        compare_folders(tmp_path / "original", tmp_path / "generated", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_held_out_structures_boundaries_and_mirrored_copies(tmp_path: Path) -> None:
    real, made = noise((20, 8, 8), seed=0), noise((12, 8, 8), seed=1)
    made[3] = real[5, ::-1]
    original = folder(tmp_path / "original", {str(i): x for i, x in enumerate(real)})
    generated = folder(tmp_path / "generated", {str(i): x for i, x in enumerate(made)})
    apart = folder(tmp_path / "apart", {str(i): x for i, x in enumerate(noise((9, 8, 8), seed=2))})
    found = []
    for k, isotropic in enumerate((False, True)):
        out = tmp_path / f"out_{k}"
        text = compare_folders(original, generated, out, held_out=apart, boundary_phase=0, isotropic=isotropic)
        found.append(json.loads((out / "metrics.json").read_text()))
        assert "grain diameter, Wasserstein" in text
        assert "data copying, z" in text
    assert found[0]["nearest_training_image"]["minimum_mse"] > 0
    assert found[1]["nearest_training_image"]["minimum_mse"] == 0
    for metrics in found:
        assert metrics["n_images"]["held_out"] == 9
        assert metrics["data_copying"]["compared_with"] == "held-out real structures"
        assert metrics["grains"]["boundary_phase"] == 0
    page = (tmp_path / "out_1" / "report.html").read_text()
    assert "nearest: training structure 5, rows mirrored" in page


def test_larger_held_out_structures_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare, "N_CROPS", 70)
    original = folder(tmp_path / "original", {"a": noise((30, 20), seed=0)})
    generated = folder(tmp_path / "generated", {str(i): noise((8, 8), seed=9 + i) for i in range(8)})
    apart = folder(tmp_path / "apart", {"b": noise((20, 9), seed=1)})
    compare_folders(original, generated, tmp_path / "out", held_out=apart)
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["n_images"] == {"original": 70, "generated": 8, "held_out": 70}
    assert metrics["data_copying"]["n_images"] == {"generated": 8, "real": 64}
    grey = folder(tmp_path / "grey", {"c": np.ones((20, 9), dtype=np.float32)})
    with pytest.raises(InputError, match="all phases or all grey values"):
        compare_folders(original, generated, tmp_path / "out", held_out=grey)
