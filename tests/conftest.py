"""Settings that hold for all tests: few threads, no display, no graphics card, nothing printed by TensorFlow."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

# Set before torch or TensorFlow is imported. One thread each: sums then come out the same on every machine.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")  # whichever test imports TensorFlow first


@pytest.fixture(scope="session")
def microstructures() -> Path:
    """Folder with real micrographs, which are no part of the project; tests that need them skip where it is absent."""
    given = os.environ.get("MCRPY_DIFFUSION_MICROSTRUCTURES")
    folder = Path(given) if given else Path(__file__).parents[2] / "shared" / "microstructures"
    if not folder.is_dir():
        pytest.skip(f"no real micrographs in {folder}; set MCRPY_DIFFUSION_MICROSTRUCTURES to their folder")
    return folder


@pytest.fixture
def blank_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports with a blank picture for each figure, which takes most of a report's time; test_report.py draws them."""
    from PIL import Image

    from mcrpy_diffusion.reports import diagrams, figures

    stream = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stream, "PNG")
    for module in (diagrams, figures):
        monkeypatch.setattr(module, "png", lambda figure: stream.getvalue())


@pytest.fixture
def samples_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples are made in this process: a worker process imports MCRpy, which takes longer than a few samples."""
    from mcrpy_diffusion.materials import engine
    from mcrpy_diffusion.materials.samples import Draw, Sample, Source, timed_samples

    class Here:
        n_tasks = 1

        def __init__(self, source: Source) -> None:
            self.maker = source.start()

        def __enter__(self) -> Here:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def submit(self, draws: Sequence[Draw]) -> Future[Any]:
            future: Future[Any] = Future()
            future.set_result(timed_samples(self.maker, draws))
            return future

        def result(self, future: Future[Any]) -> tuple[list[Sample], float]:
            return future.result()

    monkeypatch.setattr(engine, "open_workers", lambda source, **_: Here(source))
