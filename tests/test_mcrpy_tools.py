"""MCRpy's view, merge, smooth and interpolate on the files that we write: each is run for real."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from test_results import blobs

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.io.structure_files import write_structure
from mcrpy_diffusion.materials.descriptor_based import job_of_characterization
from mcrpy_diffusion.mcrpy_bridge import results
from mcrpy_diffusion.mcrpy_bridge.characterization import read_characterization
from mcrpy_diffusion.mcrpy_bridge.plugin_options import plugin_options
from mcrpy_diffusion.models.structure_folder import save_structure
from mcrpy_diffusion.settings import GenerationSettings

SIZE, LIMIT = 16, 4
DESCRIPTORS = ("FFTCorrelations", "VolumeFractions", "LinealPathFunction", "PixelMSE")
SETTINGS = GenerationSettings(extent_x=SIZE, extent_y=SIZE, limit_to=LIMIT, descriptor_types=DESCRIPTORS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Structures as `sample` writes them and characterizations as the pipeline does, of two and of three phases."""
    made = tmp_path_factory.mktemp("ours")
    for n_phases in (2, 3):
        for seed in (0, 1):
            phases = blobs(SIZE, n_phases, seed)
            save_structure(made / f"{n_phases}_{seed}.npy", phases)
            settings = SETTINGS.replace(use_multiphase=n_phases > 2)
            with plugin_options(references=[str(made / f"{n_phases}_0.npy")]):
                results.save_characterization(phases, settings, made / f"{n_phases}_{seed}_characterization.pickle")
    grey = gaussian_filter(np.random.default_rng(0).random((SIZE, SIZE)), 1).astype(np.float32)
    save_structure(made / "grey.npy", grey)
    return made


@pytest.fixture(autouse=True)
def _no_window(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is shown; figures of a test are closed after it."""
    import matplotlib.pyplot as plt

    monkeypatch.setattr(plt, "show", lambda *_, **__: None)
    yield
    plt.close("all")


def share(path: Path, level: float) -> float:
    """Part of a picture that has the viewer's colour (cividis) for a level in [0, 1]."""
    import matplotlib

    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    colour = matplotlib.colormaps["cividis"](level, bytes=True)[:3]
    return float((np.abs(pixels - np.array(colour, dtype=int)).max(axis=-1) <= 1).mean())


@pytest.mark.parametrize("n_phases", [2, 3])
def test_view_shows_structures(folder: Path, n_phases: int) -> None:
    """Each phase has a colour of its own, on the area that it takes."""
    assert commands.view([str(folder / f"{n_phases}_0.npy"), "--savefig"]) == 0
    shares = [share(folder / f"{n_phases}_0_MS.png", p / (n_phases - 1)) for p in range(n_phases)]
    fractions = np.bincount(blobs(SIZE, n_phases).ravel()) / SIZE**2
    np.testing.assert_allclose(np.array(shares) / sum(shares), fractions, atol=0.02)
    assert sum(shares) > 0.3


def test_view_opens_grey_values(folder: Path) -> None:
    """How it shows them is MCRpy's: its viewer knows phases."""
    assert commands.view([str(folder / "grey.npy"), "--savefig"]) == 0
    assert (folder / "grey_MS.png").stat().st_size > 1000


@pytest.mark.parametrize("n_phases", [2, 3])
def test_view_writes_volumes_with_the_axes_of_our_files(n_phases: int, tmp_path: Path) -> None:
    pytest.importorskip("vtk", reason="vtk reads .vtr and .vti")
    from vtkmodules.util.numpy_support import vtk_to_numpy
    from vtkmodules.vtkIOXML import vtkXMLGenericDataObjectReader

    volume = np.random.default_rng(0).integers(0, n_phases, (3, 4, 5)).astype(np.uint8)
    save_structure(tmp_path / "a.npy", volume)
    write_structure(tmp_path / "a.vti", volume)
    assert commands.view([str(tmp_path / "a.npy"), "--savefig"]) == 0
    for name, array in (("a_MS.vtr", "phase_ids"), ("a.vti", "material")):
        reader = vtkXMLGenericDataObjectReader()
        reader.SetFileName(str(tmp_path / name))
        reader.Update()
        grid = reader.GetOutput()
        assert grid.GetBounds() == (0, 3, 0, 4, 0, 5)
        found = vtk_to_numpy(grid.GetCellData().GetArray(array)).reshape(3, 4, 5, order="F")
        np.testing.assert_array_equal(found, volume, name)


@pytest.mark.parametrize("n_phases", [2, 3])
def test_view_shows_characterizations_with_our_descriptors(folder: Path, n_phases: int) -> None:
    assert commands.view([str(folder / f"{n_phases}_1_characterization.pickle"), "--savefig"]) == 0
    for descriptor in DESCRIPTORS:
        with Image.open(folder / f"{n_phases}_1_characterization_D_{descriptor}.png") as image:
            assert np.asarray(image.convert("L")).std() > 5, descriptor  # something is drawn


@pytest.mark.parametrize("n_phases", [2, 3])
def test_merge_takes_characterizations(folder: Path, n_phases: int, tmp_path: Path) -> None:
    import mcrpy

    files = [str(folder / f"{n_phases}_{seed}_characterization.pickle") for seed in (0, 1)]
    assert commands.merge([*files, str(tmp_path / "merged.pickle")]) == 0
    merged = mcrpy.load(str(tmp_path / "merged.pickle"))
    first, second = map(mcrpy.load, files)
    for descriptor in DESCRIPTORS:
        for found, expected in zip(merged[descriptor], (first, first, second), strict=True):
            np.testing.assert_array_equal(found, expected[descriptor])
    assert [each.limit_to for each in merged["settings"]] == [LIMIT] * 3


@pytest.mark.parametrize("n_phases", [2, 3])
def test_smooth_takes_structures(folder: Path, n_phases: int) -> None:
    """By scipy: the indicator functions smoothed and rounded, the most frequent phase takes what is left."""
    phases = blobs(SIZE, n_phases)
    assert commands.smooth([str(folder / f"{n_phases}_0.npy"), "--info", "soft"]) == 0
    smoothed = np.load(folder / f"{n_phases}_0_soft_smoothed.npy")
    indicators = np.eye(n_phases)[phases]
    most = int(indicators.mean(axis=(0, 1)).argmax())
    expected = np.stack([gaussian_filter(indicators[..., p], 1.0, mode="wrap").round() for p in range(n_phases)], -1)
    expected[..., most] = 1 - np.delete(expected, most, axis=-1).sum(axis=-1)
    np.testing.assert_array_equal(smoothed, expected.argmax(axis=-1))
    assert (smoothed != phases).any()


def test_interpolate_takes_characterizations(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function and the command; what comes out is a characterization that `reconstruct` takes again."""
    import mcrpy

    files = [str(folder / f"2_{seed}_characterization.pickle") for seed in (0, 1)]
    first, second = map(mcrpy.load, files)
    steps = mcrpy.interpolate(first, second, 3)
    for descriptor in DESCRIPTORS:
        for step, expected in zip(steps, (0.0, 0.5, 1.0), strict=True):
            mixed = (1 - expected) * first[descriptor] + expected * second[descriptor]
            np.testing.assert_allclose(step[descriptor], mixed, atol=1e-12)
    monkeypatch.chdir(tmp_path)
    assert commands._run_as_it_is("interpolate", [*files, "--n_steps", "3"]) == 0
    middle = read_characterization(tmp_path / "results" / "des_interpolated_1.pickle")
    np.testing.assert_array_equal(middle["LinealPathFunction"], steps[1]["LinealPathFunction"])
    job = job_of_characterization(middle, SETTINGS.replace(descriptor_types=["FFTCorrelations"]))
    assert job.target.volume_fraction == pytest.approx((blobs(SIZE).mean() + blobs(SIZE, seed=1).mean()) / 2)


def test_nothing_of_the_tests_is_left_in_the_root_logger(folder: Path) -> None:
    """The commands put it back, whatever MCRpy did to it."""
    handlers = logging.getLogger().handlers[:]
    assert commands.smooth([str(folder / "2_1.npy")]) == 0
    assert logging.getLogger().handlers == handlers


def test_characterize_takes_grey_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The phases of a PNG are those that the diffusion method reads, and are shown."""
    monkeypatch.chdir(tmp_path)
    stripes = np.tile(np.arange(16) // 4 % 2, (16, 1))
    noise = np.random.default_rng(0).integers(0, 20, stripes.shape)
    Image.fromarray((60 + 100 * stripes + noise).astype(np.uint8)).save("a.png")
    arguments = "--microstructure_filenames a.png --data_folder out --descriptor_types VolumeFractions --limit_to 4"
    assert commands.characterize([*arguments.split(), "--crop", "16", "12"]) == 0
    assert "otsu" in capfd.readouterr().err
    assert (tmp_path / "out" / "segmentation.png").is_file()
    found = read_characterization("out/a_characterization.pickle")["VolumeFractions"]
    assert sorted(found[:, 0].ravel()) == pytest.approx([1 / 3, 2 / 3])
