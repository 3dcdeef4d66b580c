"""The files that MCRpy opens, opened by MCRpy itself."""

from __future__ import annotations

import contextlib
import logging
import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from mcrpy_diffusion.commands import mcrpy_commands as commands
from mcrpy_diffusion.errors import InputError
from mcrpy_diffusion.mcrpy_bridge import environment, results
from mcrpy_diffusion.mcrpy_bridge.characterization import read_characterization
from mcrpy_diffusion.mcrpy_bridge.reconstruction import Reconstructor
from mcrpy_diffusion.settings import GenerationSettings


def blobs(size: int, n_phases: int = 2, seed: int = 0) -> np.ndarray:
    """Smooth periodic random phases (size, size)."""
    field = gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 2, mode="wrap")
    levels = np.quantile(field, np.arange(1, n_phases) / n_phases)
    return np.digitize(field, levels).astype(np.uint8)


SMALL = GenerationSettings(extent_x=32, extent_y=32)


@pytest.mark.parametrize("n_phases", [2, 3])
def test_characterization_is_mcrpys(tmp_path: Path, n_phases: int) -> None:
    phases = blobs(32, n_phases)
    settings = SMALL.replace(use_multiphase=n_phases > 2, descriptor_types=["FFTCorrelations", "VolumeFractions"])
    path = tmp_path / "blobs_characterization.pickle"
    before = phases.copy()
    results.save_characterization(phases, settings, path)
    np.testing.assert_array_equal(phases, before)

    import mcrpy

    loaded = mcrpy.load(str(path))
    expected = [np.mean(phases == phase) for phase in (range(n_phases) if n_phases > 2 else [1])]
    np.testing.assert_allclose(loaded["FFTCorrelations"][:, 0, 15, 15], expected)  # S2(0) is the volume fraction
    np.testing.assert_allclose(loaded["VolumeFractions"].ravel(), expected)
    assert loaded["FFTCorrelations"].shape == (len(expected), 1, 31, 31)
    assert type(loaded["settings"]) is mcrpy.CharacterizationSettings
    assert loaded["settings"].limit_to == 16
    assert [p.name for p in tmp_path.iterdir()] == [path.name]  # no temporary file is left
    read = read_characterization(path)
    np.testing.assert_array_equal(read["FFTCorrelations"], loaded["FFTCorrelations"])
    assert read["settings"].n_phases == loaded["settings"].n_phases


@pytest.mark.slow
def test_gram_matrices_work(tmp_path: Path) -> None:
    """MCRpy 0.2.0 needs Keras 2 for them with today's TensorFlow."""
    settings = SMALL.replace(descriptor_types=["GramMatrices"], limit_to=16)
    path = tmp_path / "blobs_characterization.pickle"
    results.save_characterization(blobs(32), settings, path)
    characterization = read_characterization(path)
    assert characterization["GramMatrices"].shape[:2] == (1, 1)
    reconstruct = Reconstructor(
        characterization,
        n_phases=characterization["settings"].n_phases,
        shape=(32, 32),
        settings={
            "descriptor_types": ["GramMatrices"],
            "limit_to": 16,
            "optimizer_type": "LBFGSB",
            "loss_type": "MSE",
            "max_iter": 2,
            "use_multigrid_descriptor": False,
        },
    )
    made = reconstruct(0)
    assert made.phases.shape == (32, 32)
    assert np.isfinite(made.loss)
    assert made.loss > 0


def test_unknown_descriptors_and_refused_settings_are_named() -> None:
    with pytest.raises(InputError, match="FFTCorrelations.*, got 'Nonsense'"):
        results.characterize(blobs(16), GenerationSettings(extent_x=16, extent_y=16, descriptor_types=("Nonsense",)))
    with pytest.raises(InputError, match="limit_to must be between 1 and 8.*, got 100"):
        results.characterize(blobs(16), GenerationSettings(extent_x=16, extent_y=16, limit_to=100))


@contextlib.contextmanager
def bare_root_logger() -> Iterator[logging.Logger]:
    """The root logger without handlers (pytest's included), as a host has it that never configured logging."""
    logger = logging.getLogger()
    handlers, level = logger.handlers[:], logger.level
    logger.handlers[:] = []
    try:
        yield logger
    finally:
        logger.handlers[:] = handlers
        logger.setLevel(level)


def test_the_hosts_logging_is_left_alone(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """MCRpy 0.2.0 configures the root logger if nobody has; nothing of it stays, and nothing is printed."""
    with bare_root_logger() as root:
        small = GenerationSettings(extent_x=16, extent_y=16)
        level = root.level
        results.characterize(blobs(16), small)
        assert root.handlers == []
        assert root.level == level
        mine = logging.FileHandler(tmp_path / "host.log", mode="w")
        root.addHandler(mine)
        results.characterize(blobs(16), small)
        assert root.handlers == [mine]
        assert (tmp_path / "host.log").read_text() == ""
        assert capfd.readouterr() == ("", "")
        mine.close()


def test_handlers_survive_a_reset_of_the_root_logger(tmp_path: Path) -> None:
    """MCRpy's repository removes the root logger's handlers and sets its own; `force` closes them too."""
    with bare_root_logger() as root:
        mine = logging.FileHandler(tmp_path / "host.log", mode="w")
        root.addHandler(mine)
        with environment.own_logging():
            for handler in root.handlers[:]:
                root.removeHandler(handler)
            logging.basicConfig(filename=tmp_path / "mcrpy.log", level=logging.DEBUG)
            logging.info("MCRpy's")
            logging.basicConfig(force=True, filename=tmp_path / "mcrpy.log", level=logging.DEBUG)
            theirs = root.handlers[0]
        assert root.handlers == [mine]
        assert theirs.stream is None  # type: ignore[attr-defined]  # closed
        root.error("still here")
        assert (tmp_path / "host.log").read_text() == "still here\n"
        mine.close()


def frames(n_phases: int) -> list[tuple[int, float, np.ndarray]]:
    """Soft structures (16, 16, C) on the way from noise to phases; the last value is 0, as the pipeline's is."""
    phases = blobs(16, n_phases)
    one_hot = (phases[..., None] == np.arange(n_phases)) if n_phases > 2 else phases[..., None]
    noise = np.random.default_rng(1).normal(size=one_hot.shape)
    return [(100 + 5 * i, 0.3 * (4 - i), one_hot + 0.4 * (4 - i) * noise) for i in range(5)]


LOSSES = [(0, 1.0), (50, 0.1), (100, 0.02)]


@pytest.mark.parametrize("n_phases", [2, 3])
def test_the_viewer_shows_convergence_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_phases: int) -> None:
    """mcrpy_view builds its browser; each point is picked, and each key pressed."""
    path = tmp_path / "blobs_convergence_data.pickle"
    results.save_convergence_data(path, LOSSES, frames(n_phases), SMALL.replace(use_multiphase=n_phases > 2))
    from mcrpy.src import point_browser

    seen = []
    show = point_browser.PointBrowser

    def remember(*args: object, **kwargs: object) -> object:
        seen.append(kwargs)
        browser = show(*args, **kwargs)
        check_browser(browser, n_phases)
        return browser

    monkeypatch.setattr(point_browser, "PointBrowser", remember)
    np.save(tmp_path / "original.npy", blobs(16, n_phases))
    assert commands.view([str(path), "--original_ms", str(tmp_path / "original.npy")]) == 0
    assert len(seen) == 1
    point_browser.plt.close("all")


def check_browser(browser: SimpleNamespace, n_phases: int) -> None:
    assert browser.ax.get_yscale() == "log"
    low, high = browser.ax.get_ylim()
    assert 0 < low < high
    np.testing.assert_allclose(browser.xs, [100, 105, 110, 115, 120])
    assert (browser.ys > 0).all()
    assert browser.ys[-1] < 0.3
    for n in range(5):
        mouse = SimpleNamespace(xdata=browser.xs[n], ydata=browser.ys[n])
        browser.onpick(SimpleNamespace(artist=browser.line, ind=np.array([n]), mouseevent=mouse))
        assert browser.lastind == n
        shown = np.asarray(browser.ims[0].get_array())
        expected = frames(n_phases)[n][2].clip(0, 1)
        expected = expected.argmax(-1) if n_phases > 2 else np.rint(expected[..., 0])
        np.testing.assert_array_equal(shown, expected)
    assert browser.ims[0].get_clim() == (0, n_phases - 1)  # colours tell the phases apart
    for key in "bneprc" + "c" * n_phases:
        browser.onpress(SimpleNamespace(key=key))
    browser.fig.canvas.draw()


def test_convergence_data_without_losses_or_with_phases(tmp_path: Path) -> None:
    """Integer phases are taken too; frames that lack a phase of the last one do not spoil the viewer's colours."""
    phases = blobs(16, 3)
    path = tmp_path / "c.pickle"
    results.save_convergence_data(
        path, [], [(0, 1.0, np.zeros((16, 16), np.uint8)), (1, 0.0, phases % 2), (2, -1.0, phases)], SMALL
    )
    import mcrpy

    data = mcrpy.load(str(path))
    assert [ms.n_phases for ms in data["raw_data"]] == [3]
    np.testing.assert_array_equal(data["raw_data"][0].decode_phases(), phases)
    assert data["scatter_data"].shape == (1, 2)
    assert (data["line_data"][:, 1] > 0).all()
    assert type(data["settings"]) is mcrpy.ReconstructionSettings
    soft = np.linspace(0, 1, 256).reshape(16, 16)  # of two phases, without an axis for the channel
    results.save_convergence_data(path, LOSSES, [(0, 1.0, soft)], SMALL)
    np.testing.assert_array_equal(mcrpy.load(str(path))["raw_data"][0].decode_phases(raw=True), soft)
    with pytest.raises(ValueError, match="frames"):
        results.save_convergence_data(path, LOSSES, [], SMALL)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "blobs_characterization.pickle"
    path.write_bytes(b"old")

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pickle, "dump", fail)
    with pytest.raises(OSError, match="disk full"):
        results.save_characterization(blobs(16), GenerationSettings(extent_x=16, extent_y=16), path)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
