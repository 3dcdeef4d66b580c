"""Pixel sizes: as given, as files state them, and on their way to data sets, models and reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from mcrpy_diffusion.commands import stages
from mcrpy_diffusion.data.micrograph import read_images, read_micrograph
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.models.checkpoint import ModelInfo
from mcrpy_diffusion.settings import PixelSize, TrainingSettings
from mcrpy_diffusion.training.data import read_dataset

PHASES = (np.arange(400).reshape(20, 20) % 3 == 0).astype(np.uint8)
ZEISS = b"AP_WIDTH\r\nWidth = 12.80 um\r\nAP_PIXEL_SIZE\r\nPixel Size = 50.0 nm\r\nAP_IMAGE_PIXEL_SIZE\r\n"
ZEISS += b"Image Pixel Size = 12.50 nm\r\n"
FEI = b"[User]\r\nDate=1\r\n[Scan]\r\nPixelWidth=1.25e-008\r\nPixelHeight=1.25e-008\r\n"


def write(path: Path, **options: Any) -> Path:
    tifffile.imwrite(path, PHASES, **options)
    return path


@pytest.mark.parametrize(
    ("text", "metres"),
    [("12.5nm", 1.25e-8), ("0.0125 um", 1.25e-8), ("2µm", 2e-6), ("2 μm", 2e-6), ("1e-6m", 1e-6), ("300pm", 3e-10)],
)
def test_lengths_are_parsed(text, metres):
    size = PixelSize.parse(text)
    assert size.metres == pytest.approx(metres)
    assert PixelSize.from_dict(size.to_dict()) == size
    assert PixelSize.parse(str(size)).is_close(size)


@pytest.mark.parametrize("text", ["12.5", "nm", "12.5 parsec", "-1nm", "0nm", "1e9m", "1.2.3nm", "nan nm", ""])
def test_what_is_no_length_is_refused(text):
    with pytest.raises(InputError, match="pixel.size"):
        PixelSize.parse(text)


@pytest.mark.parametrize("value", [None, [], {}, {"value": "1", "unit": "m"}, {"value": 1e-9, "unit": []}])
def test_damaged_records_are_refused(value):
    with pytest.raises(InputError, match="pixel_size"):
        PixelSize.from_dict(value)


def test_units_suit_the_length():
    assert PixelSize(1.25e-8).unit_for(10) == ("nm", pytest.approx(12.5))
    assert PixelSize(1.25e-8).unit_for(100) == ("µm", pytest.approx(0.0125))


@pytest.mark.parametrize(
    ("options", "metres"),
    [
        ({"imagej": True, "resolution": (80, 80), "metadata": {"unit": "um"}}, 1.25e-8),
        ({"imagej": True, "resolution": (80, 80), "metadata": {"unit": "micron"}}, 1.25e-8),
        ({"imagej": True, "resolution": (0.08, 0.08), "metadata": {"unit": "nm"}}, 1.25e-8),
        ({"imagej": True, "resolution": (80, 80), "metadata": {"unit": "pixel"}}, None),
        ({"imagej": True}, None),
        ({"ome": True, "metadata": {"axes": "YX", "PhysicalSizeX": 0.0125, "PhysicalSizeY": 0.0125}}, 1.25e-8),
        (
            {
                "ome": True,
                "metadata": {
                    "axes": "YX",
                    **{f"PhysicalSize{a}": 12.5 for a in "XY"},
                    **{f"PhysicalSize{a}Unit": "nm" for a in "XY"},
                },
            },
            1.25e-8,
        ),
        ({"resolution": (800_000, 800_000), "resolutionunit": "CENTIMETER"}, 1.25e-8),
        ({"resolution": (2_032_000, 2_032_000), "resolutionunit": "INCH"}, 1.25e-8),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),  # how large to print
        ({"resolution": (72, 72), "resolutionunit": "NONE"}, None),
        ({"extratags": [(34682, 2, len(FEI), FEI, True)]}, 1.25e-8),
        ({"extratags": [(34680, 2, len(FEI), FEI, True)]}, 1.25e-8),
        ({"extratags": [(34118, 2, len(ZEISS), ZEISS, True)]}, 1.25e-8),
        ({"extratags": [(34118, 2, 5, b"AP_X\n", True)]}, None),
        ({}, None),
    ],
)
def test_pixel_sizes_in_files(tmp_path, options, metres):
    size = read_micrograph(write(tmp_path / "a.tif", **options)).pixel_size
    assert (size is None) == (metres is None)
    if size is not None:
        assert size.metres == pytest.approx(metres, rel=1e-6)


def test_a_given_pixel_size_counts_more(tmp_path):
    file = write(tmp_path / "a.tif", resolution=(800_000, 800_000), resolutionunit="CENTIMETER")
    assert str(read_micrograph(file, pixel_size="3 nm").pixel_size) == "3 nm"


@pytest.mark.parametrize("resolution", [(800_000, 400_000), (400_000, 400_000)])
def test_pixels_that_are_not_square_or_differ_are_pointed_out(tmp_path, caplog, resolution):
    write(tmp_path / "a.tif", resolution=resolution, resolutionunit="CENTIMETER")
    write(tmp_path / "b.tif", resolution=(800_000, 800_000), resolutionunit="CENTIMETER")
    assert read_images([tmp_path])[0].pixel_size is None
    assert "square" in caplog.text or "different" in caplog.text


def test_the_pixel_size_goes_with_the_data_set(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a.tif"))
    words = "generate --images a.tif --out set --extent_x 8 --extent_y 8 --n_samples 4".split()
    assert stages.main(words) == 0
    assert read_dataset("set").pixel_size is None
    assert stages.main([*words, "--pixel_size", "12.5nm"]) == 0  # a complete data set, too
    assert read_dataset("set").pixel_size == PixelSize.parse("12.5nm")


def test_the_pixel_size_goes_with_the_model():
    info = ModelInfo(TrainingSettings(condition_on_volume_fraction=False), 2, (8, 8), True)
    assert "pixel_size" not in info.to_dict()  # which earlier versions read too
    sized = ModelInfo(info.settings, 2, (8, 8), True, pixel_size=PixelSize(1.25e-8))
    assert sized.to_dict()["pixel_size"] == {"value": 1.25e-8, "unit": "m"}
    assert ModelInfo.from_dict(sized.to_dict()).pixel_size == PixelSize(1.25e-8)
