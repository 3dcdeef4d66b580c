"""Images as microscopes and programs write them: one set of rules for a file, a folder and a stack."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.data.micrograph import read_images, read_micrograph
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.workflow.compare import read_structures


def blob(seed: int, *, share: float = 0.3, size: int = 64) -> np.ndarray:
    """A smoothed random field cut at a quantile: phases (I, J) with this share of phase 1."""
    noise = np.random.default_rng(seed).standard_normal((size, size))
    k = np.fft.fftfreq(size)
    field = np.fft.ifft2(np.fft.fft2(noise) * np.exp(-300 * (k[:, None] ** 2 + k**2))).real
    return (field > np.quantile(field, 1 - share)).astype(np.uint8)


BLOBS = [blob(seed) for seed in range(4)]
SHARE = float(BLOBS[0].mean())


def grey(seed: int, low: float, high: float, noise: float) -> np.ndarray:
    values = np.where(BLOBS[seed], high, low)
    return values + noise * np.random.default_rng(seed).standard_normal(values.shape)


def fractions(paths: Any, **options: Any) -> list[float]:
    return [float(image.phases.mean()) for image in read_images(paths, **options)]


def both_refuse(folder: Path, file: Path, *words: str, **options: Any) -> None:
    """Check that a folder and a single file in it are refused with the same words, in one line."""
    for read in (lambda: read_images([folder], **options), lambda: read_micrograph(file, **options)):
        with pytest.raises(InputError) as caught:
            read()
        for word in words:
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)


def test_masks_of_several_levels_are_mapped_file_by_file(tmp_path):
    for seed, white in enumerate((255, 255, 1, 1)):
        Image.fromarray(BLOBS[seed] * np.uint8(white)).save(tmp_path / f"{seed}.png")
    read = read_images([tmp_path])
    for image, phases in zip(read, BLOBS, strict=True):
        np.testing.assert_array_equal(image.phases, phases)
    assert read[0].reading is not None
    assert read[0].reading.to_dict()["levels"] == {"0, 255": 2, "0, 1": 2}


def test_a_mask_without_one_phase_follows_the_others(tmp_path):
    empty, full = np.zeros((8, 8), np.uint8), np.full((8, 8), 200, np.uint8)
    Image.fromarray(BLOBS[0] * np.uint8(200)).save(tmp_path / "0.png")
    Image.fromarray(empty).save(tmp_path / "1.png")
    Image.fromarray(full).save(tmp_path / "2.png")
    assert fractions([tmp_path]) == pytest.approx([SHARE, 0, 1])
    Image.fromarray(full - 50).save(tmp_path / "3.png")
    with pytest.raises(InputError, match="0, 150, 200"):
        read_images([tmp_path])


def test_a_value_for_pixels_to_ignore_is_no_phase(tmp_path):
    for seed in range(2):
        labels = BLOBS[seed].copy()
        labels[:4] = 255
        np.save(tmp_path / f"{seed}.npy", labels)
    both_refuse(tmp_path, tmp_path / "0.npy", "0, 1, 255", "ignored")


@pytest.mark.parametrize("pairs", [[(0, 127), (127, 254)], [(0, 127), (0, 254)], [(0, 127, 254)]])
def test_phases_with_other_numbers_are_not_merged(tmp_path, pairs):
    """Three phases of which an image may have two alone."""
    for k, pair in enumerate(pairs):
        levels = np.array(pair, dtype=np.uint8)
        Image.fromarray(levels[np.arange(64).reshape(8, 8) % len(pair)]).save(tmp_path / f"{k}.png")
    with pytest.raises(InputError, match="0, 127, 254"):
        read_images([tmp_path])


def test_grey_images_of_two_depths_are_refused(tmp_path):
    for seed in range(4):
        values = grey(seed, 60, 180, 6)
        scaled = values.astype(np.uint8) if seed < 2 else (values * 257).astype(np.uint16)
        tifffile.imwrite(tmp_path / f"{seed}.tif", scaled)
    with pytest.raises(InputError, match=r"one depth.*uint8.*uint16"):
        read_images([tmp_path])
    with pytest.raises(InputError, match="one depth"):
        read_images([tmp_path], grey_values=True)
    assert fractions([tmp_path / "0.tif", tmp_path / "1.tif"]) == pytest.approx([SHARE] * 2, abs=0.01)
    assert fractions([tmp_path / "2.tif", tmp_path / "3.tif"]) == pytest.approx([SHARE] * 2, abs=0.01)


def test_a_folder_of_images_and_their_masks_is_refused(tmp_path):
    Image.fromarray(grey(0, 60, 180, 6).astype(np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(BLOBS[0] * np.uint8(255)).save(tmp_path / "mask.png")
    with pytest.raises(InputError, match="all phases or all grey"):
        read_images([tmp_path])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16", "uint32", "int16", "float32"])
def test_white_as_zero_is_inverted_whatever_the_depth(tmp_path, dtype, caplog):
    """The file stores phase 1, which is bright, as 0; what was done is said."""
    bright = 1 if dtype in ("bool", "float32") else 200
    stored = ((1 - BLOBS[0]) * bright).astype(dtype)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="miniswhite")
    with caplog.at_level(logging.INFO):
        for read in (read_micrograph(tmp_path / "a.tif"), *read_images([tmp_path])):
            np.testing.assert_array_equal(read.phases, BLOBS[0])
    assert "MINISWHITE" in caplog.text


def test_bool_images_of_tifffile_follow_the_specification(tmp_path):
    """tifffile writes bool with 0 as white: what is True there is black."""
    tifffile.imwrite(tmp_path / "a.tif", BLOBS[0].astype(bool))
    read = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(read.phases, 1 - BLOBS[0])
    assert read.reading is not None
    assert read.reading.n_inverted == 1


def imagej_stack(path: Path, planes: np.ndarray) -> None:
    """A stack as ImageJ writes large ones: a single directory, and the planes one after the other."""
    tifffile.imwrite(path, planes[0], imagej=True)
    raw = path.read_bytes()
    with tifffile.TiffFile(path) as file:
        page = file.pages[0]
        start, length = page.dataoffsets[0], page.databytecounts[0]
        assert start + length == len(raw)
        tag = page.tags["ImageDescription"]
        text = f"ImageJ=1.11a\nimages={len(planes)}\nslices={len(planes)}\n".encode()
        assert len(text) < tag.count
    changed = bytearray(raw[:start] + planes.tobytes())
    changed[tag.valueoffset : tag.valueoffset + tag.count] = text.ljust(tag.count, b"\0")
    path.write_bytes(bytes(changed))


def test_imagej_stack_in_a_single_directory(tmp_path):
    imagej_stack(tmp_path / "a.tif", np.stack(BLOBS) * np.uint8(255))
    read = read_images([tmp_path / "a.tif"])
    np.testing.assert_array_equal(np.stack([image.phases for image in read]), BLOBS)
    with pytest.raises(InputError, match=r"4 pages.*3D"):
        read_micrograph(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-100])
    with pytest.raises(InputError, match="4 images"):
        read_images([tmp_path / "a.tif"])


@pytest.mark.parametrize("n_defects", [1, 4])
def test_hot_pixels_are_left_out_of_the_histogram(tmp_path, caplog, n_defects):
    values = grey(0, 800, 1500, 60).astype(np.uint16)
    values.ravel()[:n_defects] = 65535
    tifffile.imwrite(tmp_path / "a.tif", values)
    with caplog.at_level(logging.INFO):
        read = read_micrograph(tmp_path / "a.tif")
    assert read.phases.mean() == pytest.approx(SHARE, abs=0.01)
    assert read.threshold == pytest.approx(1150, abs=100)
    assert read.reading is not None
    assert read.reading.to_dict()["outliers_left_out"] == n_defects
    assert "left out" in caplog.text
    filtered = read_micrograph(tmp_path / "a.tif", median_filter=3)
    assert filtered.reading is not None
    assert filtered.reading.thresholds is not None
    assert filtered.reading.thresholds.n_outliers == 0 if n_defects == 1 else True


def test_dead_pixels_of_floats(tmp_path):
    values = grey(0, 0.4, 0.7, 0.02)
    values[3, 3], values[5, 6] = -1e6, 1e9
    np.save(tmp_path / "a.npy", values)
    assert read_micrograph(tmp_path / "a.npy").phases.mean() == pytest.approx(SHARE, abs=0.01)


def test_a_phase_of_few_pixels_is_pointed_out(tmp_path, caplog):
    values = np.random.default_rng(0).normal(100, 5, (100, 100)).clip(50, 150).astype(np.uint8)
    values[:3, :3] = 255
    Image.fromarray(values).save(tmp_path / "a.png")
    read_micrograph(tmp_path / "a.png", segmentation=("200",))
    assert re.search(r"phase 1 has only 0\.09", caplog.text)


@pytest.mark.parametrize("dtype", ["float64", "float16", "float32", "uint64", "int64", "uint32", "int32", "int8"])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
def test_tiff_of_every_type(tmp_path, dtype, compression):
    tifffile.imwrite(tmp_path / "phases.tif", BLOBS[0].astype(dtype), compression=compression)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "phases.tif").phases, BLOBS[0])
    tifffile.imwrite(tmp_path / "grey.tif", grey(0, 20, 100, 4).astype(dtype), compression=compression)
    assert read_micrograph(tmp_path / "grey.tif").phases.mean() == pytest.approx(SHARE, abs=0.01)


def test_complex_tiff_is_named(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", BLOBS[0].astype(np.complex64))
    with pytest.raises(InputError, match="integers or floats"):
        read_micrograph(tmp_path / "a.tif")


@pytest.mark.parametrize("quality", [60, 95, 100])
def test_jpeg_of_two_phases(tmp_path, quality):
    Image.fromarray(BLOBS[0] * np.uint8(255)).save(tmp_path / "a.jpg", quality=quality)
    for read in (read_micrograph(tmp_path / "a.jpg"), *read_images([tmp_path])):
        np.testing.assert_array_equal(read.phases, BLOBS[0])


def test_float_labels_are_treated_as_integers_are(tmp_path):
    np.save(tmp_path / "a.npy", np.arange(64).reshape(8, 8) % 3 / 2)
    both_refuse(tmp_path, tmp_path / "a.npy", "0, 0.5, 1", "0 .. 2")
    np.save(tmp_path / "a.npy", BLOBS[0] / 2)
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.npy").phases, BLOBS[0])


def test_a_colour_array_is_called_so(tmp_path):
    np.save(tmp_path / "a.npy", np.stack([BLOBS[0]] * 3, axis=-1))
    both_refuse(tmp_path, tmp_path / "a.npy", "colours")


def test_evaluate_reads_images_and_archives(tmp_path):
    np.savez(tmp_path / "a.npz", BLOBS[0])
    np.testing.assert_array_equal(read_structures(tmp_path / "a.npz"), BLOBS[:1])
    (tmp_path / "folder").mkdir()
    for seed in range(4):
        Image.fromarray(BLOBS[seed] * np.uint8(255)).save(tmp_path / "folder" / f"{seed}.png")
    np.testing.assert_array_equal(read_structures(tmp_path / "folder"), BLOBS)
    np.save(tmp_path / "three.npy", np.arange(64).reshape(8, 8) % 3)
    assert read_structures(tmp_path / "three.npy")[0].max() == 2


def test_the_threshold_is_named_and_recorded(tmp_path, monkeypatch, capfd):
    from mcrpy_diffusion.io.untrusted import read_json

    monkeypatch.chdir(tmp_path)
    Image.fromarray(grey(0, 60, 180, 6).astype(np.uint8)).save("a.png")
    for source in ("--micrograph", "--images"):
        words = f"generate {source} a.png --out out{source} --n_samples 2 --extent_x 16 --extent_y 16".split()
        assert stages.main(words) == 0
        assert re.search(r"threshold 1\d\d.*otsu", capfd.readouterr().err)
        (record,) = read_json(f"out{source}/dataset.json")["images"]
        assert record["thresholds"] == [read_micrograph("a.png").threshold]
        assert record["volume_fractions"] == pytest.approx([1 - SHARE, SHARE], abs=0.01)
