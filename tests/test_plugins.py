"""Plugins outside MCRpy's folders become visible to it, and nothing of MCRpy's changes on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import mcrpy_diffusion
from mcrpy_diffusion.mcrpy_bridge import registration, results
from mcrpy_diffusion.settings import GenerationSettings

DESCRIPTOR = """
import tensorflow as tf

from mcrpy.descriptors.PhaseDescriptor import PhaseDescriptor
from mcrpy.src import descriptor_factory


class SumOfRows(PhaseDescriptor):
    is_differentiable = True

    @staticmethod
    def make_singlephase_descriptor(desired_shape_2d=None, **kwargs):
        return lambda phases: tf.reduce_sum(tf.reshape(phases, desired_shape_2d), axis=1)


def register():
    descriptor_factory.register("SumOfRows", SumOfRows)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with one descriptor plugin and an optimizer plugin that is never loaded; forgotten afterwards."""
    registration.register()
    from mcrpy import descriptors, optimizers
    from mcrpy.src.descriptor_factory import descriptor_choices
    from mcrpy.src.optimizer_factory import optimizer_choices

    (tmp_path / "descriptors").mkdir()
    (tmp_path / "optimizers").mkdir()
    (tmp_path / "descriptors" / "SumOfRows.py").write_text(DESCRIPTOR)
    (tmp_path / "descriptors" / "__init__.py").write_text("")
    (tmp_path / "descriptors" / "FFTCorrelations.py").write_text("raise RuntimeError('MCRpy has its own')")
    (tmp_path / "optimizers" / "Own.py").write_text("raise RuntimeError('never loaded')")
    monkeypatch.setattr(registration, "plugin_folders", lambda: [tmp_path])
    lists = (descriptor_choices, optimizer_choices, descriptors.__path__, optimizers.__path__)
    before = [list(each) for each in lists]
    yield tmp_path
    for each, content in zip(lists, before):
        each[:] = content
    sys.modules.pop("mcrpy.descriptors.SumOfRows", None)


def test_a_plugin_is_offered_and_works(folder: Path) -> None:
    import mcrpy

    home = Path(mcrpy.__file__).parent
    files = {p: p.stat().st_mtime_ns for p in home.rglob("*") if "__pycache__" not in p.parts}
    mcrpy_diffusion.register()
    from mcrpy.src.descriptor_factory import descriptor_choices
    from mcrpy.src.optimizer_factory import optimizer_choices

    assert descriptor_choices.count("SumOfRows") == 1
    assert optimizer_choices.count("Own") == 1
    assert "__init__" not in descriptor_choices
    phases = np.arange(64).reshape(8, 8) % 3 == 0
    settings = GenerationSettings(extent_x=8, extent_y=8, descriptor_types=("SumOfRows", "FFTCorrelations"))
    characterization = results.characterize(phases, settings)
    np.testing.assert_allclose(characterization["SumOfRows"][0, 0], phases.sum(axis=1))
    np.testing.assert_allclose(characterization["FFTCorrelations"][0, 0, 3, 3], phases.mean())  # MCRpy's, not ours
    assert files == {p: p.stat().st_mtime_ns for p in home.rglob("*") if "__pycache__" not in p.parts}


def test_registering_again_changes_nothing(folder: Path) -> None:
    from mcrpy import descriptors, optimizers
    from mcrpy.src.descriptor_factory import descriptor_choices
    from mcrpy.src.optimizer_factory import optimizer_choices

    registration.register()
    lists = (descriptor_choices, optimizer_choices, descriptors.__path__, optimizers.__path__)
    before = [list(each) for each in lists]
    assert str(folder / "descriptors") in descriptors.__path__
    for _ in range(3):
        registration.register()
    assert [list(each) for each in lists] == before


def test_folders_without_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mcrpy.src.descriptor_factory import descriptor_choices

    before = list(descriptor_choices)
    (tmp_path / "descriptors").mkdir()
    for folders in ([], [tmp_path], [tmp_path / "missing"]):
        monkeypatch.setattr(registration, "plugin_folders", lambda folders=folders: folders)
        registration.register()
    assert descriptor_choices == before
    from mcrpy import descriptors

    descriptors.__path__.remove(str(tmp_path / "descriptors"))


def test_our_own_folder_is_found() -> None:
    """Installed, or beside the package in a source tree."""
    (folder,) = registration.plugin_folders()
    assert (folder / "descriptors").is_dir()
    assert (folder / "optimizers").is_dir()
    registration.register()
    from mcrpy.src.descriptor_factory import descriptor_choices

    names = {file.stem for file in (folder / "descriptors").glob("[!_]*.py")}
    assert names <= set(descriptor_choices)
