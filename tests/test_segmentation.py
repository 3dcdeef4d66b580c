"""Thresholds of grey images, crops and information bars."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from test_image_rules import BLOBS, blob, grey

from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.data.information_bar import bar_rows
from mcrpy_diffusion.data.micrograph import read_micrograph
from mcrpy_diffusion.data.segmentation import find_thresholds, outlier_limit
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.materials.reference import reference_from_micrographs


def three_phases() -> tuple[np.ndarray, np.ndarray]:
    """A noisy image of three grey levels, and its phases."""
    phases = BLOBS[0] + BLOBS[0] * BLOBS[1]
    noise = 5 * np.random.default_rng(0).standard_normal(phases.shape)
    return (np.array([40, 110, 200])[phases] + noise).clip(0, 255).astype(np.uint8), phases


def sem_image(path: Path, *, quality: int | None = None) -> int:
    """A grey image above a black bar with text and a white frame; returns the rows of the bar."""
    values = np.full((220, 256), 0, dtype=np.uint8)
    values[:192] = np.tile(grey(0, 60, 180, 12), (3, 4)).clip(0, 255)
    values[192:194] = 255
    image = Image.fromarray(values)
    draw = ImageDraw.Draw(image)
    draw.text((5, 198), "EHT = 5.00 kV   WD = 4.1 mm   Mag = 10.00 K X", fill=255)
    image.save(path, **({} if quality is None else {"quality": quality}))
    return 28


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_multiotsu_finds_three_phases(tmp_path, dtype):
    values, phases = three_phases()
    np.save(tmp_path / "a.npy", values.astype(dtype) * (1 if dtype == "uint8" else 200))
    read = read_micrograph(tmp_path / "a.npy", segmentation=("multiotsu", "3"))
    np.testing.assert_array_equal(read.phases, phases)
    assert (read.n_phases, read.threshold) == (3, None)
    assert read.reading is not None
    assert len(read.reading.to_dict()["thresholds"]) == 2


def test_given_thresholds_count_for_labels_too(tmp_path):
    values, phases = three_phases()
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.png", segmentation=("75", "150.5")).phases, phases)
    np.save(tmp_path / "labels.npy", np.arange(64).reshape(8, 8) % 3 * 127)
    read = read_micrograph(tmp_path / "labels.npy", segmentation=("100", "200"))
    np.testing.assert_array_equal(read.phases, np.arange(64).reshape(8, 8) % 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nonsense",), "otsu, multiotsu N, or"),
        ((), "otsu, multiotsu N, or"),
        (("multiotsu", "9"), "between 2 and 5"),
        (("multiotsu", "2", "3"), "between 2 and 5"),
        (("100", "50"), "increasing"),
        (("nan",), "thresholds"),
        (("300",), "grey values"),
        (("otsu", "3"), "otsu, multiotsu N, or"),
    ],
)
def test_wrong_segmentations_are_refused(tmp_path, words, said):
    Image.fromarray(three_phases()[0]).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=said):
        read_micrograph(tmp_path / "a.png", segmentation=words)


def test_multiotsu_needs_enough_levels(tmp_path):
    np.save(tmp_path / "a.npy", BLOBS[0])
    with pytest.raises(InputError, match="grey levels"):
        read_micrograph(tmp_path / "a.npy", segmentation=("multiotsu", "3"))


def test_thresholds_of_two_classes_agree_with_multiotsu():
    values = grey(0, 60, 180, 6).astype(np.uint8)
    one, other = find_thresholds([values]), find_thresholds([values], n_classes=2)
    assert one.values == pytest.approx(other.values, abs=1)


def test_outliers_are_few_of_many():
    assert [outlier_limit(n) for n in (100, 4096, 65_536, 10**6)] == [0, 4, 6, 100]


def test_median_filter_removes_single_pixels(tmp_path):
    values = grey(0, 60, 180, 6)
    values[::9, ::9] = 255
    np.save(tmp_path / "a.npy", values.astype(np.float16))
    noisy, filtered = (read_micrograph(tmp_path / "a.npy", median_filter=size).phases for size in (None, 3))
    assert (noisy != BLOBS[0]).sum() > 20
    assert (filtered != BLOBS[0]).sum() < (noisy != BLOBS[0]).sum()


def test_crop(tmp_path):
    np.save(tmp_path / "a.npy", BLOBS[0])
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.npy", crop=(20, 30)).phases, BLOBS[0][:20, :30])
    for crop, said in (((65, 20), "at most 64 x 64"), ((3,), "rows and columns"), ((0, 5), "at least 1")):
        with pytest.raises(InputError, match=said):
            read_micrograph(tmp_path / "a.npy", crop=crop)


@pytest.mark.parametrize("quality", [None, 75, 100])
def test_an_information_bar_is_pointed_out_and_not_cut(tmp_path, caplog, quality):
    file = tmp_path / ("a.png" if quality is None else "a.jpg")
    n_rows = sem_image(file, quality=quality)
    with caplog.at_level(logging.WARNING):
        read = read_micrograph(file)
    assert read.phases.shape == (220, 256)
    assert "information bar" in caplog.text
    (words,) = [line.split("--crop ")[1].split()[0] for line in caplog.text.splitlines() if "--crop" in line]
    assert int(words) == pytest.approx(220 - n_rows, abs=3)
    caplog.clear()
    read_micrograph(file, crop=(192, 256))
    assert "bar" not in caplog.text


def test_a_bar_in_a_mask(tmp_path):
    mask = np.vstack([blob(3, size=128), np.zeros((20, 128), np.uint8)])
    assert 20 <= bar_rows(mask) <= 26


@pytest.mark.parametrize("seed", range(20))
def test_materials_have_no_bar(seed):
    """Blobs, noise, few particles, and a saturated image."""
    rng = np.random.default_rng(seed)
    assert bar_rows(blob(seed)) == 0
    assert bar_rows(rng.integers(0, 256, (64, 64), dtype=np.uint8)) == 0
    assert bar_rows((rng.random((64, 64)) < 0.002).astype(np.uint8)) == 0
    assert bar_rows(grey(seed % 4, 0, 255, 20).clip(0, 255).astype(np.uint8)) == 0


def test_real_micrographs_have_no_bar(microstructures):
    for file in microstructures.glob("*.npy"):
        values = np.load(file)
        if values.ndim == 2:
            assert bar_rows(values) == 0, file.name


def test_every_segmentation_is_shown(tmp_path, monkeypatch, capfd):
    """`segmentation.png` beside the data set; in the folder and the page of an evaluation."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(three_phases()[0]).save("a.png")
    words = "generate --micrograph a.png --out set --n_samples 3 --extent_x 16 --extent_y 16 --segmentation multiotsu 3"
    assert stages.main(words.split()) == 0
    with Image.open("set/segmentation.png") as picture:
        assert picture.width > 1000
    words = "evaluate --original a.png --generated set --out page --segmentation multiotsu 3"
    words += " --pixel_size 12.5nm --crop 16 16"
    assert stages.main(words.split()) == 0
    assert Path("page/segmentation.png").is_file()
    page = Path("page/report.html").read_text()
    assert "Segmentation" in page
    assert "12.5 nm" in page


def test_match_reads_with_the_same_options(tmp_path):
    """Several phases need no further option."""
    Image.fromarray(three_phases()[0]).save(tmp_path / "a.png")
    options = {"segmentation": ("multiotsu", "3"), "crop": (40, 50), "use_multiphase": None}
    reference = reference_from_micrographs([str(tmp_path / "a.png")], options)
    assert (reference.n_phases, reference.images[0].shape) == (3, (40, 50))
